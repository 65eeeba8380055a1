"""Encode rasters: a stack becomes embeddings."""

from __future__ import annotations

from qgis.core import QgsProcessingParameterBoolean

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import (
    Parameter,
    day,
    encoder,
    extent,
    input_rasters,
    raster_output,
    with_help,
)
from ..translation import tr
from ..weather import weather


class Encode(EarthprintAlgorithm):
    """Form of the job `encode`."""

    ID, JOB, NAME, GROUP = "encode", "encode", "Encode rasters", "embeddings"
    SUMMARY = "Turns each pixel's season into an embedding, once, for every later map."
    HELP = (
        "<p><b>Needs</b> rasters of one place and several dates, or a stack; the bands that the "
        "encoder asks for.</p>"
        "<p><b>Gives</b> a GeoTIFF of 8-bit embeddings, one band a dimension, that remembers its "
        "encoder. Places that look alike through the season have alike embeddings.</p>"
        "<p><b>Limits</b> Embeddings of different encoders cannot be compared. Pixels without a "
        "clear observation stay empty.</p>"
    )
    TAGS = (
        "embeddings, encoder, foundation model, features, time series, representation, "
        "self-supervised, presto, tessera, galileo"
    )
    STYLES = {"OUTPUT": styling.Style(styling.EMBEDDINGS, "Embeddings", "embeddings")}

    def parameters(self) -> list[Parameter]:
        """Input, encoder, place and season."""
        return [
            input_rasters(embeddings=False),
            encoder(),
            extent(),
            day(
                "START",
                tr("First date to use"),
                tr("Earlier rasters are left out. Empty: all dates are used."),
                advanced=True,
            ),
            day(
                "END",
                tr("Last date to use"),
                tr("Later rasters are left out. Empty: all dates are used."),
                advanced=True,
            ),
            with_help(
                QgsProcessingParameterBoolean(
                    "UPSAMPLE",
                    tr("Bring embeddings of patches to the pixels of the rasters"),
                    defaultValue=False,
                ),
                tr(
                    "Some encoders give one embedding for a patch of several pixels. This "
                    "interpolates between patches: larger files, no new detail."
                ),
                advanced=True,
            ),
            *weather(
                tr(
                    "A CSV table with a column of dates, or NetCDF of AgERA5 or ERA5, for encoders "
                    "that need it. Empty: the weather that the stack holds."
                )
            ),
            raster_output(
                "OUTPUT",
                tr("Embeddings"),
                tr("Compute them once and use them for every map and group."),
            ),
        ]
