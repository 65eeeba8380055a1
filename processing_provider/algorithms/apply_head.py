"""Apply head: a trained head maps its classes."""

from __future__ import annotations

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import (
    Parameter,
    cutoff,
    encoder,
    extent,
    head,
    input_rasters,
    raster_output,
    smoothing,
)
from ..translation import tr
from ..trust import confidence, reason, unknown, unlike
from ..weather import weather


class ApplyHead(EarthprintAlgorithm):
    """Form of the job `apply_head`."""

    ID, JOB, NAME, GROUP = "applyhead", "apply_head", "Apply head", "mapping"
    SUMMARY = "Maps what a trained head has learnt, here or in another place or year."
    HELP = (
        "<p><b>Needs</b> a head made by Train head, and rasters, a stack or embeddings with the "
        "bands or the encoder that it was trained on.</p>"
        "<p><b>Gives</b> a map with the head's class names and colours, on request with "
        "confidence, with the places that are unlike the training data and with the reasons for "
        "empty pixels. A head of numbers gives a raster in their unit, without smoothing or "
        "confidence.</p>"
        "<p><b>Limits</b> A head knows its training area and year; look at Unlike the training "
        "data before you trust the map elsewhere.</p>"
    )
    TAGS = "head, predict, classify, map, land cover, crops, transfer, confidence, inference"
    STYLES = {  # what explains the map lies above it, where it can be seen when switched on
        "UNLIKE": styling.Style(styling.CLASSES, "Unlike the training data", "map", False, 0),
        "REASON": styling.Style(styling.CLASSES, "Why pixels are empty", "map", False, 1),
        "OUTPUT": styling.Style(styling.CLASSES, "Map", "map", True, 2),
        "CONFIDENCE": styling.Style(styling.PERCENT, "Confidence", "map", False, 3),
    }

    def parameters(self) -> list[Parameter]:
        """Input, head, place and season; the map and what tells how far to trust it."""
        return [
            input_rasters(),
            head(),
            encoder(),
            cutoff(),
            *weather(
                tr(
                    "A CSV table with a column of dates, or NetCDF of AgERA5 or ERA5, for heads on "
                    "an encoder that reads it. Empty: the weather that the stack holds."
                )
            ),
            *smoothing(),
            unknown(),
            extent(),
            raster_output("OUTPUT", tr("Map"), tr("Classes with names and colours.")),
            confidence(),
            unlike(),
            reason(),
        ]
