"""Train head: labels and rasters become a classifier in a file."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingParameterString

from ..base import EarthprintAlgorithm
from ..learning import labels, training, unmet_labels
from ..parameters import (
    HEAD_FILTER,
    TARGETS,
    Parameter,
    choice,
    cutoff,
    encoder,
    file_output,
    input_rasters,
    report,
    seed,
    with_help,
)
from ..translation import tr


class TrainHead(EarthprintAlgorithm):
    """Form of the job `train_head`."""

    ID, JOB, NAME, GROUP = "trainhead", "train_head", "Train head", "models"
    SUMMARY = "Learns classes or numbers from labelled places and keeps them as a small file."
    HELP = (
        "<p><b>Needs</b> rasters, a stack or embeddings, and points or polygons of known class "
        "within them, at least two samples a class; or a raster of classes; or points or polygons "
        "with a measured number, at least 20.</p>"
        "<p><b>Gives</b> a .head.onnx file that knows its encoder, classes, colours and accuracy, "
        "and a report. Use it with Apply head or Crop classification, elsewhere and later.</p>"
        "<p><b>Limits</b> Accuracy is measured on blocks of ground that were held back; few "
        "labels make it uncertain, and the report says so. The convolutional decoder looks at the "
        "ground around each pixel: it can learn textures and edges, takes longer to train and "
        "needs more labels.</p>"
    )
    TAGS = (
        "head, train, classifier, labels, samples, supervised, random forest, boosting, "
        "logistic regression, neural network, convolutional, decoder, machine learning, "
        "cross-validation, accuracy, regression, moisture, biomass, yield"
    )

    def parameters(self) -> list[Parameter]:
        """Input, labels, how to learn and to test."""
        return [
            input_rasters(),
            *labels(),
            encoder(),
            cutoff(),
            *training(),
            choice(
                "TARGET",
                tr("The field holds"),
                TARGETS,
                tr(
                    "Classes, or measured numbers such as moisture or yield. Automatic takes a "
                    "field for numbers if it has fractions or more than 50 different values."
                ),
                advanced=True,
            ),
            with_help(
                QgsProcessingParameterString("UNIT", tr("Unit of the numbers"), optional=True),
                tr("Such as % or t/ha; written into map and report. Not used for classes."),
                advanced=True,
            ),
            seed(),
            file_output(
                "OUTPUT",
                tr("Head"),
                HEAD_FILTER,
                tr("The trained head, one file that says what it belongs to."),
            ),
            report(),
        ]

    def unmet(self, parameters: dict[str, Any]) -> str:
        """Labels with their field, or a raster of them."""
        return unmet_labels(parameters, needed=True)
