"""WEATHER and WEATHER_UNITS: daily weather, asked for alike in every form that takes it."""

from __future__ import annotations

from qgis.core import QgsProcessingParameterFile, QgsProcessingParameterString

from .parameters import Parameter, with_help
from .translation import tr

WEATHER_FILTER = "Weather (*.csv *.txt *.nc *.nc4)"


def weather(text: str, *, advanced: bool = True) -> list[Parameter]:
    """The file with daily weather, with a help of the form's own, and its units."""
    return [
        with_help(
            QgsProcessingParameterFile(
                "WEATHER", tr("Daily weather"), fileFilter=WEATHER_FILTER, optional=True
            ),
            text,
            advanced=advanced,
        ),
        with_help(
            QgsProcessingParameterString(
                "WEATHER_UNITS", tr("Units of the weather"), optional=True
            ),
            tr(
                "Only where the table does not say them and the log shows wrong ones, such as "
                "temperature=K, precipitation=m, radiation=J/m2, wind=m/s. Empty: automatic."
            ),
            advanced=True,
        ),
    ]
