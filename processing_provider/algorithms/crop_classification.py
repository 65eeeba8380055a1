"""Crop classification: rasters and a few labelled fields become a crop map with a report."""

from __future__ import annotations

from typing import Any

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import (
    HEAD_FILTER,
    Parameter,
    cutoff,
    encoder,
    extent,
    file_output,
    head,
    input_rasters,
    labels,
    raster_output,
    report,
    seed,
    smoothing,
    training,
)
from ..translation import tr


class CropClassification(EarthprintAlgorithm):
    """Form of the job `crop_classification`."""

    ID, JOB, NAME = "cropclassification", "crop_classification", "Crop classification"
    GROUP = "mapping"
    SUMMARY = "Maps crops from rasters of a season and a few labelled fields, with accuracy."
    HELP = (
        "<p><b>Needs</b> rasters of a season, a stack or embeddings; and either labelled fields "
        "(points or polygons) or a ready-made head.</p>"
        "<p><b>Gives</b> a crop map with names and colours, areas in hectares, an accuracy "
        "measured on ground that was held back, a report to hand over; on request confidence, "
        "embeddings and the trained head.</p>"
        "<p><b>Limits</b> Crops that are not in the labels are mapped as the one most alike; look "
        "at the confidence. With fewer than about ten fields a class the accuracy is "
        "uncertain.</p>"
    )
    TAGS = (
        "crop, crops, crop map, crop type, agriculture, farming, field, parcel, maize, corn, "
        "wheat, barley, rapeseed, soy, rice, beet, sunflower, land cover, classification, "
        "phenology, time series"
    )
    STYLES = {
        "OUTPUT": styling.Style(styling.CLASSES, "Crop map", "crop map"),
        "CONFIDENCE": styling.Style(styling.PERCENT, "Confidence", "crop map", False, 1),
        "EMBEDDINGS": styling.Style(styling.EMBEDDINGS, "Embeddings", "crop map", False, 2),
    }

    def parameters(self) -> list[Parameter]:
        """Input, labels or a head, season; then how to learn, to test and to tidy up."""
        return [
            input_rasters(),
            *labels(optional=True),
            head(optional=True),
            encoder(),
            cutoff(),
            *training(),
            *smoothing(),
            extent(),
            seed(),
            raster_output("OUTPUT", tr("Crop map"), tr("Classes with names and colours.")),
            raster_output(
                "CONFIDENCE",
                tr("Confidence (%)"),
                tr("Probability of the mapped class."),
                optional=True,
            ),
            report(),
            raster_output(
                "EMBEDDINGS",
                tr("Embeddings"),
                tr("Kept for other maps; not written when the input is embeddings already."),
                optional=True,
            ),
            file_output(
                "HEAD_OUTPUT",
                tr("Trained head"),
                HEAD_FILTER,
                tr("Kept for other places and years, see Apply head."),
                optional=True,
                wanted=False,
            ),
        ]

    def unmet(self, parameters: dict[str, Any]) -> str:
        """Labels with their field, or a head."""
        if bool(parameters.get("LABELS")) == bool(parameters.get("HEAD")):
            return tr("Give either Labels with their Class field or a Ready-made head.")
        if parameters.get("LABELS") and not parameters.get("FIELD"):
            return tr("Choose the Class field of the labels.")
        return ""

    def extras(self) -> dict[str, Any]:
        """The command line, for the report."""
        return {"command": self.command()}
