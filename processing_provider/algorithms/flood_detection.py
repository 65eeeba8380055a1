"""Flood detection: images before and during a flood become a map, areas and a report."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterVectorDestination,
    QgsRasterLayer,
)

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import (
    Parameter,
    choice,
    extent,
    number,
    raster_output,
    rasters,
    report,
    with_help,
)
from ..translation import tr
from ..values import plain_file, raster_path

METHODS = ("both", "thresholds", "embeddings")
_POLYGONS = QgsProcessing.SourceType.TypeVectorPolygon


class FloodDetection(EarthprintAlgorithm):
    """Form of the job `flood_detection`."""

    ID, JOB, NAME = "flooddetection", "flood_detection", "Flood detection"
    GROUP = "mapping"
    SUMMARY = "Maps the water that came between two dates, from radar, optical images or both."
    HELP = (
        "<p><b>Needs</b> images before and during the flood on the same place: Sentinel-1 (VV, VH "
        "or both; dB or linear power; one orbit), optical images with green and near or short-wave "
        "infrared, or both. A sensor counts where both dates have it; a pixel that one sensor did "
        "not see is decided by the other.</p>"
        "<p><b>Gives</b> a map of flood, permanent water and dry ground, with a reason where there "
        "is no answer; flooded areas with hectares; hectares of each zone; a report with the "
        "thresholds on their histograms. Two detectors look: thresholds (Otsu on tiles that show "
        "two classes, fall of backscatter, water indices) and a learned one, a small network on "
        "what surrounds a pixel on both dates, trained on real floods (embeddings). By default "
        "their weighted mean decides, and Disagreement shows where they differ.</p>"
        "<p><b>Limits</b> Water under trees and between houses brightens radar and is missed; wind "
        "roughens open water. Clouds must be masked (SCL or another mask beside the images). The "
        "height mask is the height above the lowest ground within 1 km, which stands for the "
        "height above the nearest drainage.</p>"
    )
    TAGS = (
        "flood, flooding, inundation, water, SAR, radar, Sentinel-1, Sentinel-2, MNDWI, NDWI, "
        "Otsu, disaster, emergency, storm, dam break, hochwasser, inondation, inundación"
    )
    STYLES = {
        "OUTPUT": styling.Style(styling.CLASSES, "Flood map", "flood", order=1),
        "POLYGONS": styling.Style(styling.FLOODS, "Flood areas", "flood"),
        "CONFIDENCE": styling.Style(styling.PERCENT, "Confidence", "flood", False, 3),
        "DISAGREEMENT": styling.Style(styling.CLASSES, "Disagreement", "flood", False, 2),
        "ZONE_AREAS": styling.Style(styling.OUTLINES, "Flood by zone", "flood", False, 4),
    }

    def parameters(self) -> list[Parameter]:
        """Two dates, what decides, what is known of the ground; then the outputs."""
        return [
            rasters(
                "BEFORE",
                tr("Before the flood"),
                tr("Radar, optical images or both, or a stack; several dates are averaged."),
            ),
            rasters(
                "AFTER",
                tr("During the flood"),
                tr("The same sensors, radar of the same orbit. Its grid is that of the map."),
            ),
            choice(
                "METHOD",
                tr("Method"),
                METHODS,
                tr(
                    "both: thresholds and the learned detector, their weighted mean decides; "
                    "thresholds: only these; embeddings: only the learned detector."
                ),
                default="both",
            ),
            with_help(
                QgsProcessingParameterMapLayer(
                    "PERMANENT_WATER",
                    tr("Permanent water"),
                    optional=True,
                    types=[QgsProcessing.SourceType.TypeRaster, _POLYGONS],
                ),
                tr(
                    "Polygons, or a raster whose values above 0 are water. Empty: what is water on "
                    "both dates, in radar darker than -15.5 dB (VV) or -23 dB (VH)."
                ),
            ),
            with_help(
                QgsProcessingParameterRasterLayer("DEM", tr("Elevation (m)"), optional=True),
                tr("A terrain model; steep and high ground is then left out of the map."),
            ),
            with_help(
                QgsProcessingParameterFeatureSource(
                    "ZONES", tr("Zones"), [_POLYGONS], optional=True
                ),
                tr("Polygons, such as municipalities, for which hectares are told."),
            ),
            number(
                "MAX_SLOPE",
                tr("Steepest ground (degrees)"),
                5.0,
                tr("With an elevation: steeper ground is left out."),
                minimum=0,
                maximum=90,
                whole=False,
            ),
            number(
                "MAX_HEIGHT",
                tr("Highest ground (m)"),
                15.0,
                tr(
                    "With an elevation: ground higher than this above the lowest ground within "
                    "1 km is left out."
                ),
                minimum=0,
                whole=False,
            ),
            number(
                "MIN_AREA",
                tr("Smallest area (ha)"),
                0.1,
                tr("Smaller patches of flood become dry ground. 0 keeps everything."),
                minimum=0,
                whole=False,
            ),
            extent(),
            raster_output(
                "OUTPUT", tr("Flood map"), tr("Flood, permanent water, dry ground, no answer.")
            ),
            _vectors(
                "POLYGONS",
                tr("Flood areas"),
                tr("A polygon a flooded area, with hectares and mean confidence, largest first."),
                wanted=True,
            ),
            raster_output(
                "CONFIDENCE",
                tr("Confidence (%)"),
                tr("Probability of the mapped class, as the detectors see it."),
                optional=True,
            ),
            raster_output(
                "DISAGREEMENT",
                tr("Disagreement"),
                tr("Where only one of the two detectors sees a flood; needs the method both."),
                optional=True,
            ),
            _vectors(
                "ZONE_AREAS",
                tr("Flood by zone"),
                tr("The zones with hectares of flood, permanent water, dry and unseen ground."),
                wanted=False,
            ),
            report(),
        ]

    def unmet(self, parameters: dict[str, Any]) -> str:
        """Disagreement needs two detectors, areas of zones need zones."""
        if parameters.get("DISAGREEMENT") and parameters.get("METHOD", "both") not in ("both", 0):
            return tr("Disagreement needs the method both. Choose it, or skip Disagreement.")
        if parameters.get("ZONE_AREAS") and not parameters.get("ZONES"):
            return tr("Flood by zone needs Zones. Give them, or skip Flood by zone.")
        return ""

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Read the inputs; the images of the flood name the group of layers."""
        good = super().prepareAlgorithm(parameters, context, feedback)
        self._source = styling.source_name(self._job.get("after") or [])
        if parameters.get("PERMANENT_WATER"):
            self._job["permanent_water"] = self._water(parameters, context)
        return good

    def extras(self) -> dict[str, Any]:
        """The command line, for the report."""
        return {"command": self.command()}

    def _water(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """The file of the permanent water, with the layer's name where a file has several."""
        layer = self.parameterAsLayer(parameters, "PERMANENT_WATER", context)
        if isinstance(layer, QgsRasterLayer):
            return raster_path(layer)
        plain = plain_file(layer) if layer is not None else None
        if plain is None:
            raise QgsProcessingException(
                tr("Permanent water is no file on this computer. Save it as GeoPackage first.")
            )
        return f"{plain[0]}|layername={plain[1]}" if plain[1] else plain[0]


def _vectors(name: str, label: str, text: str, *, wanted: bool) -> Parameter:
    return with_help(
        QgsProcessingParameterVectorDestination(
            name, label, _POLYGONS, optional=True, createByDefault=wanted
        ),
        text,
    )
