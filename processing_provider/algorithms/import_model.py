"""Add ONNX model: any network of images becomes an encoder, or an encoder with a head."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingParameterFile, QgsProcessingParameterString

from ..base import EarthprintAlgorithm
from ..parameters import (
    AUTOMATIC,
    MODEL_FILTER,
    SENSORS,
    Parameter,
    choice,
    file_output,
    number,
    overwrite,
    with_help,
)
from ..translation import tr

KINDS = (AUTOMATIC, "encoder", "segmentation")


class ImportModel(EarthprintAlgorithm):
    """Form of the job `import_model`."""

    ID, JOB, NAME = "importmodel", "import_model", "Add ONNX model"
    GROUP = "models"
    SUMMARY = "Makes any ONNX network of images an encoder, or an encoder with a head for maps."
    HELP = (
        "<p><b>Needs</b> an ONNX file with one input (1, bands, rows, columns): an encoder, or a "
        "segmentation of pixels into classes. What its metadata say is read (the keys of the "
        "plugin Deepness: model_type, class_names, resolution, tile_size, standardization_mean and "
        "_std); the rest is given here.</p>"
        "<p><b>Gives</b> an encoder in your folder of models, which all forms list; of a "
        "segmentation also a head (.head.onnx) for Apply head.</p>"
        "<p><b>Limits</b> One image a call, float32. Detectors and networks of several inputs are "
        "refused. How good the network is, its authors must say.</p>"
    )
    TAGS = (
        "onnx, deepness, model zoo, segmentation, encoder, import, deep learning, neural network, "
        "aerial, orthophoto, buildings, roads"
    )

    def parameters(self) -> list[Parameter]:
        """File and its description."""
        return [
            with_help(
                QgsProcessingParameterFile("FILE", tr("ONNX file"), fileFilter=MODEL_FILTER),
                tr("A network, or an encoder or head of Earthprint that somebody gave you."),
            ),
            with_help(
                QgsProcessingParameterString("NAME", tr("Name of the encoder"), optional=True),
                tr("What forms will call it. Empty: the file's name."),
            ),
            choice(
                "KIND",
                tr("Kind of network"),
                KINDS,
                tr("Automatic: what the file's metadata say, else an encoder."),
            ),
            choice(
                "SENSOR",
                tr("Sensor"),
                SENSORS,
                tr("Which rasters it reads. Automatic: aerial and other pictures."),
            ),
            self._text(
                "BANDS",
                tr("Bands"),
                tr(
                    "Names in the network's order, such as red green blue nir. Empty: red green "
                    "blue, and nir where four go in."
                ),
            ),
            number(
                "GROUND_SIZE",
                tr("Pixel size (m)"),
                None,
                tr("Of the pixels that it was trained on. Empty: from the metadata, else 0.3."),
                minimum=0,
                whole=False,
                advanced=False,
            ),
            number(
                "SCALE",
                tr("Multiply values by"),
                None,
                tr(
                    "Pictures and reflectance come as 0..1; 255 or 10000 where the network wants "
                    "such numbers. Empty: 1."
                ),
                minimum=0,
                whole=False,
            ),
            self._text(
                "MEAN",
                tr("Then subtract"),
                tr("A number for each band, such as 0.485 0.456 0.406. Empty: nothing."),
                advanced=True,
            ),
            self._text(
                "STD",
                tr("Then divide by"),
                tr("A number for each band, such as 0.229 0.224 0.225. Empty: nothing."),
                advanced=True,
            ),
            number(
                "WINDOW",
                tr("Window (pixels)"),
                None,
                tr("Side of the image of one call, where the file leaves it open. Empty: 256."),
                minimum=1,
            ),
            self._text(
                "CLASSES",
                tr("Classes"),
                tr("Names in the order of a segmentation's output, with commas between them."),
                advanced=True,
            ),
            self._text(
                "LICENCE",
                tr("Licence"),
                tr("Of the weights, as their source states it; the card keeps it."),
                advanced=True,
            ),
            overwrite(),
            file_output(
                "OUTPUT",
                tr("Another place for the encoder"),
                MODEL_FILTER,
                tr("Skipped: it goes to your folder of models, whose encoders all forms list."),
                optional=True,
                wanted=False,
            ),
        ]

    @staticmethod
    def _text(name: str, label: str, text: str, *, advanced: bool = False) -> Parameter:
        """A line that may stay empty."""
        return with_help(
            QgsProcessingParameterString(name, label, optional=True), text, advanced=advanced
        )

    def results(self, result: dict[str, Any]) -> dict[str, Any]:
        """The files, wherever they went."""
        found = {"OUTPUT": result["output"]}
        return {**found, "HEAD": result["head"]} if result["head"] else found
