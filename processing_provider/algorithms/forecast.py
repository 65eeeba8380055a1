"""Forecast scene: the image of a chosen day, from earlier images and daily weather."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingOutputNumber, QgsProcessingParameterDateTime

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import Parameter, extent, input_rasters, raster_output, report, with_help
from ..translation import tr
from ..weather import weather

#: Name of a returned number to its label and the engine's key.
ERRORS = {
    "ERROR": ("Error of the forecast", "forecast"),
    "ERROR_LAST_VALUE": ("Error of the last clear value", "persistence"),
    "ERROR_LINE": ("Error of a line to the next clear value", "interpolation"),
}


class Forecast(EarthprintAlgorithm):
    """Form of the job `forecast`."""

    ID, JOB, NAME, GROUP = "forecast", "forecast", "Forecast scene", "mapping"
    SUMMARY = "Predicts the Sentinel-2 scene of a day from earlier scenes and daily weather."
    HELP = (
        "<p><b>Needs</b> Sentinel-2 scenes with ten bands from the 240 days before the day, and "
        "daily weather from the first of them to the day: temperature, rain, radiation, humidity, "
        "wind.</p>"
        "<p><b>Gives</b> reflectance of ten bands on that day, without clouds, and in the log how "
        "wrong such forecasts were on dates of your own rasters that were held back, beside the "
        "last clear value and a straight line to the next one.</p>"
        "<p><b>Limits</b> A forecast, no observation. The bundled network has learned from one "
        "place and one year; look at the error before you use it.</p>"
    )
    TAGS = (
        "forecast, prediction, weather, ERA5, AgERA5, gap filling, cloud free, time series, "
        "phenology, reanalysis"
    )
    STYLES = {"OUTPUT": styling.Style(styling.COLOURS, "Forecast", "forecast")}

    def parameters(self) -> list[Parameter]:
        """Rasters, weather and the day."""
        table, units = weather(
            tr(
                "A CSV table with a column of dates, or NetCDF of AgERA5 or ERA5; it must reach "
                "the day. Empty: the weather that the stack holds."
            ),
            advanced=False,
        )
        return [
            input_rasters(embeddings=False),
            table,
            with_help(
                QgsProcessingParameterDateTime(
                    "DATE", tr("Date"), type=QgsProcessingParameterDateTime.Type.Date
                ),
                tr("The day to forecast. Only rasters of earlier days are looked at."),
            ),
            units,
            extent(),
            raster_output(
                "OUTPUT", tr("Forecast"), tr("Reflectance (0 to 1) of ten bands on that day.")
            ),
            report(),
        ]

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Declare the parameters, then the numbers that are returned."""
        super().initAlgorithm(configuration)
        for name, (label, _) in ERRORS.items():
            self.addOutput(QgsProcessingOutputNumber(name, tr(label)))

    def extras(self) -> dict[str, Any]:
        """The command line, for the report."""
        return {"command": self.command()}

    def results(self, result: dict[str, Any]) -> dict[str, Any]:
        """Errors on the dates held back, where there were any."""
        errors = result.get("errors") or {}
        return {name: errors[key] for name, (_, key) in ERRORS.items() if key in errors}
