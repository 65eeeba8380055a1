"""Assess accuracy: a map against places of known class, with intervals, or against a raster."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterRasterLayer,
)

from ..base import EarthprintAlgorithm
from ..learning import band_of_classes
from ..parameters import Parameter, file_output, report, with_help
from ..translation import tr

_POINTS_OR_POLYGONS = [
    QgsProcessing.SourceType.TypeVectorPoint,
    QgsProcessing.SourceType.TypeVectorPolygon,
]


class AssessAccuracy(EarthprintAlgorithm):
    """Form of the job `assess_accuracy`."""

    ID, JOB, NAME, GROUP = "assessaccuracy", "assess_accuracy", "Assess accuracy", "accuracy"
    SUMMARY = (
        "Says how right a map is and how large each class truly is: with 95 % intervals from "
        "visited points, or by count from a raster of classes."
    )
    HELP = (
        "<p><b>Needs</b> a map and places of known class, best those of Sampling design once they "
        "are visited; or a raster of classes that is taken for true, such as a national crop map "
        "or a hand-drawn mask. Classes are spelled as in the map's legend, or as its values.</p>"
        "<p><b>Gives</b> a report and a table: error matrix (rows map, columns reference) in "
        "places and in area; overall, user's and producer's accuracy, F1 and the area of each "
        "class in hectares, corrected for what the map confuses, with 95 % intervals (Olofsson et "
        "al. 2014). If the places were drawn in something else than this map's classes, an older "
        "map for instance, give it as Strata (Stehman 2014). A raster is compared pixel by pixel "
        "where both have a class: the same figures by area, counted in hectares, without "
        "intervals, since nothing was drawn.</p>"
        "<p><b>Limits</b> The intervals hold for places drawn at random in each stratum. Places "
        "picked by hand, or used for training, flatter the map and no formula can mend it. A "
        "raster's own errors count as the map's, and its figures speak of the ground that it "
        "covers.</p>"
    )
    TAGS = (
        "accuracy, assessment, validation, error matrix, confusion matrix, area estimation, "
        "confidence interval, Olofsson, Stehman, user's accuracy, producer's accuracy, F1, "
        "reference raster, ground truth, compare maps, agreement, IoU"
    )

    def parameters(self) -> list[Parameter]:
        """The map, the places or the raster, how the places were drawn."""
        return [
            with_help(
                QgsProcessingParameterRasterLayer("MAP", tr("Map")),
                tr("A raster of classes in its first band, with or without names in its legend."),
            ),
            with_help(
                QgsProcessingParameterFeatureSource(
                    "REFERENCE", tr("Visited points"), _POINTS_OR_POLYGONS, optional=True
                ),
                tr(
                    "Points or polygons of known class, in any coordinate system. Those without a "
                    "class, outside the map or on its nodata are counted and left out. A polygon "
                    "is one place, mapped as its pixels are, by their share. A raster of classes "
                    "will do instead: Reference raster."
                ),
            ),
            with_help(
                QgsProcessingParameterField(
                    "FIELD",
                    tr("True class"),
                    parentLayerParameterName="REFERENCE",
                    optional=True,
                ),
                tr("The field with the class that was found there, as text or as a number."),
            ),
            with_help(
                QgsProcessingParameterRasterLayer(
                    "REFERENCE_RASTER", tr("Reference raster"), optional=True
                ),
                tr(
                    "In place of Visited points: a raster of classes, in any coordinate system and "
                    "pixel size. Each pixel of the map is compared with the one that its centre "
                    "lies in. Classes are matched by the names of both legends, or by value where "
                    "one has none. Nodata is no class; where a raster declares no nodata, 0 is "
                    "none either, unless its legend names it or only one other value is there."
                ),
            ),
            with_help(
                QgsProcessingParameterRasterLayer("STRATA", tr("Strata"), optional=True),
                tr(
                    "The raster whose classes the points were drawn in, if not this map's: an "
                    "older version of it, for instance. Empty: this map."
                ),
            ),
            with_help(
                QgsProcessingParameterField(
                    "STRATA_FIELD",
                    tr("Field with the stratum"),
                    parentLayerParameterName="REFERENCE",
                    optional=True,
                ),
                tr(
                    "Instead of a raster of strata: the field that names each point's stratum; "
                    "beside it, the field stratum_px of Sampling design holds the pixels of each."
                ),
                advanced=True,
            ),
            *band_of_classes(
                "REFERENCE",
                tr("Band of the reference raster"),
                tr("Values of the reference that are no class"),
            ),
            report(),
            file_output(
                "TABLE",
                tr("Table"),
                "CSV (*.csv)",
                tr("Matrix and figures, a row a class, for a spreadsheet."),
                optional=True,
                wanted=False,
            ),
        ]

    def unmet(self, parameters: dict[str, Any]) -> str:
        """What is true is given once and completely; strata come from one place, for points."""
        points, raster = parameters.get("REFERENCE"), parameters.get("REFERENCE_RASTER")
        strata = parameters.get("STRATA") or parameters.get("STRATA_FIELD")
        if points and raster:
            return tr("Give either Visited points with True class or a Reference raster, not both.")
        if not points and not raster:
            return tr("Give Visited points with True class, or a Reference raster.")
        if points and not parameters.get("FIELD"):
            return tr("Choose the field with the True class.")
        if raster and strata:
            return tr("Strata are for visited points. Leave them empty for a Reference raster.")
        if parameters.get("STRATA") and parameters.get("STRATA_FIELD"):
            return tr("Give Strata or Field with the stratum, not both.")
        return ""

    def extras(self) -> dict[str, Any]:
        """The command line, for the report."""
        return {"command": self.command()}
