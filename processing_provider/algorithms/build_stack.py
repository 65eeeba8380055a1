"""Build stack: rasters of several dates and sensors become one text file that describes them."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingParameterFile,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from ..base import EarthprintAlgorithm
from ..parameters import (
    MASKS,
    SENSORS,
    STACK_FILTER,
    Parameter,
    choice,
    file_output,
    rasters,
    with_help,
)
from ..translation import tr
from ..weather import weather


class BuildStack(EarthprintAlgorithm):
    """Form of the job `build_stack`."""

    ID, JOB, NAME, GROUP = "buildstack", "build_stack", "Build stack", "preparation"
    SUMMARY = "Reads dates, sensors, bands and scales of rasters and writes them as one stack."
    HELP = (
        "<p><b>Needs</b> rasters of one place: GeoTIFF, COG, NetCDF, SAFE folders or ZIP files of "
        "Sentinel-1, Sentinel-2, Landsat, MODIS or CBERS, or aerial images.</p>"
        "<p><b>Gives</b> a .stack.json file (STAC) and a table in the log: date, sensor, bands, "
        "scale and offset, mask. Look at it before you compute.</p>"
        "<p><b>Limits</b> Rasters are not copied: keep them where they are. Any algorithm builds "
        "the stack itself when it is given rasters.</p>"
    )
    TAGS = (
        "stack, time series, STAC, sentinel, landsat, modis, cbers, SAR, radar, SAFE, NetCDF, "
        "cloud mask, import, dates, scenes, mosaic"
    )

    def parameters(self) -> list[Parameter]:
        """Layers or a folder, and what their names don't tell."""
        return [
            rasters(
                "LAYERS",
                tr("Rasters"),
                tr("Raster layers, files or product folders. Give these or a folder."),
                optional=True,
            ),
            with_help(
                QgsProcessingParameterFile(
                    "FOLDER",
                    tr("Folder"),
                    QgsProcessingParameterFile.Behavior.Folder,
                    optional=True,
                ),
                tr("A folder with rasters; its subfolders are read too. Instead of rasters."),
            ),
            choice(
                "SENSOR",
                tr("Sensor"),
                SENSORS,
                tr("Only where names and metadata don't tell."),
            ),
            with_help(
                QgsProcessingParameterString("DATES", tr("Dates"), optional=True),
                tr(
                    "Only where names and metadata don't tell: one day for each raster in their "
                    "order, such as 2024-05-01, 2024-05-11. Empty: automatic."
                ),
            ),
            choice(
                "MASK",
                tr("Cloud mask"),
                MASKS,
                tr(
                    "Automatic hides what the product's own mask calls cloud, shadow or snow; "
                    "none uses every pixel; the other words name the kind of mask where files "
                    "don't tell."
                ),
                advanced=True,
            ),
            with_help(
                QgsProcessingParameterRasterLayer("GRID", tr("Reference grid"), optional=True),
                tr(
                    "The raster whose pixels all others are fitted to. Empty: the finest of the "
                    "rasters."
                ),
                advanced=True,
            ),
            *weather(
                tr(
                    "A CSV table with a column of dates, or NetCDF of AgERA5 or ERA5, for encoders "
                    "and forecasts that need it. Empty: none."
                )
            ),
            file_output(
                "OUTPUT",
                tr("Stack"),
                STACK_FILTER,
                tr("A text file that refers to the rasters; they are not copied."),
            ),
        ]

    def unmet(self, parameters: dict[str, Any]) -> str:
        """Layers or a folder, one of both."""
        if bool(parameters.get("LAYERS")) == bool(parameters.get("FOLDER")):
            return tr("Give either Rasters or Folder.")
        return ""
