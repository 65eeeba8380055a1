"""Crop classification: rasters and a few labelled fields become a crop map with a report."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingParameterFile

from .. import class_map
from ..base import EarthprintAlgorithm
from ..learning import labels, training, unmet_labels
from ..parameters import (
    HEAD_FILTER,
    Parameter,
    day,
    encoder,
    extent,
    input_rasters,
    seed,
    smoothing,
    with_help,
)
from ..ready_heads import chosen, ready_head
from ..translation import tr
from ..trust import unknown
from ..weather import weather


class CropClassification(EarthprintAlgorithm):
    """Form of the job `crop_classification`."""

    ID, JOB, NAME = "cropclassification", "crop_classification", "Crop classification"
    GROUP = "mapping"
    SUMMARY = "Maps crops from rasters of a season and a few labelled fields, with accuracy."
    HELP = (
        "<p><b>Needs</b> rasters of a season, a stack or embeddings; and either labelled fields "
        "(points, polygons or a raster of classes) or a ready-made head.</p>"
        "<p><b>Gives</b> a crop map with names and colours, areas in hectares, an accuracy "
        "measured on ground that was held back, a report to hand over; on request confidence, "
        "what is unlike the labels, why pixels are empty, embeddings and the trained head.</p>"
        "<p><b>Within the season</b> set Last date to use: labels, series and embeddings are cut "
        "alike, and the report says how right such an early map is.</p>"
        "<p><b>Limits</b> Crops that are not in the labels are mapped as the one most alike, "
        "unless answers unlike the training data are withheld. A ready-made head knows its own "
        "region and season; the report says how far away yours is. With fewer than about ten "
        "fields a class the accuracy is uncertain.</p>"
    )
    TAGS = (
        "crop, crops, crop map, crop type, agriculture, farming, field, parcel, maize, corn, "
        "wheat, barley, rapeseed, soy, rice, beet, sunflower, land cover, classification, "
        "phenology, time series"
    )
    STYLES = class_map.styles("Crop map", "crop map")

    def parameters(self) -> list[Parameter]:
        """Input, labels or a head, season; then how to learn, to test and to tidy up."""
        return [
            input_rasters(),
            *labels(),
            ready_head(
                "crops",
                tr(
                    "A head that comes with Earthprint, instead of labels. Its name tells the "
                    "region; the report tells its seasons, training sets, how right it was there "
                    "and how far that is from here. Elsewhere label some fields of your own."
                ),
            ),
            with_help(
                QgsProcessingParameterFile(
                    "HEAD", tr("Head from a file"), fileFilter=HEAD_FILTER, optional=True
                ),
                tr(
                    "A head that you trained before (.head.onnx), instead of labels. It must "
                    "belong to the encoder of the embeddings."
                ),
                advanced=True,
            ),
            encoder(),
            day(
                "CUTOFF_DATE",
                tr("Last date to use"),
                tr(
                    "For maps within the season: later rasters are left out, in training and in "
                    "mapping alike, and the report gives the accuracy of such an early map. A "
                    "head that was trained on whole seasons is warned about. Empty: all dates."
                ),
            ),
            *weather(
                tr(
                    "A CSV table with a column of dates, or NetCDF of AgERA5 or ERA5, for encoders "
                    "that read it (mmvsf-small does; the log says so where the chosen one does "
                    "not). Empty: the weather that the stack holds."
                )
            ),
            *training(),
            *smoothing(),
            unknown(),
            extent(),
            seed(),
            *class_map.outputs(tr("Crop map")),
        ]

    def unmet(self, parameters: dict[str, Any]) -> str:
        """Labels with their field, a raster of them, or one head."""
        labelled = parameters.get("LABELS") or parameters.get("LABEL_RASTER")
        if bool(labelled) + chosen(parameters) + bool(parameters.get("HEAD")) != 1:
            return tr(
                "Give either Labels with their Class field, or a Raster of labels, or a Ready-made "
                "head, or a Head from a file."
            )
        return unmet_labels(parameters)

    def extras(self) -> dict[str, Any]:
        """The command line, for the report."""
        return {"command": self.command()}
