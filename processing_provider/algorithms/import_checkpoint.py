"""Import checkpoint: official weights become an encoder that every form offers."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFile,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterString,
)

from ..base import EarthprintAlgorithm
from ..parameters import (
    MODEL_FILTER,
    WEIGHTS_FILTER,
    Parameter,
    file_output,
    overwrite,
    rasters,
    with_help,
)
from ..translation import tr


class ImportCheckpoint(EarthprintAlgorithm):
    """Form of the job `import_checkpoint`."""

    ID, JOB, NAME = "importcheckpoint", "import_checkpoint", "Import checkpoint"
    GROUP = "models"
    SUMMARY = "Turns a file of official weights into an encoder that every form then offers."
    HELP = (
        "<p><b>Needs</b> the file that the authors publish of TESSERA, Galileo, Presto, AnySat, "
        "MAESTRO, SatDINO, SkySense, SkySense++ or TiMo (.pt, .pth, .ckpt, .safetensors), and "
        "PyTorch: tick Import official weights in Set Up Environment. Which network it is shows in "
        "the names and shapes of its numbers.</p>"
        "<p><b>Gives</b> an encoder (.onnx) in your folder of models, compared with the original "
        "on random and on real input, with its licence and source in its card.</p>"
        "<p><b>Limits</b> Files that hold code besides weights are not opened. Large networks take "
        "minutes and gigabytes of memory. Whether you may use the weights their authors decide."
        "</p>"
    )
    TAGS = (
        "checkpoint, weights, foundation model, import, pytorch, safetensors, onnx, tessera, "
        "galileo, presto, anysat, maestro, satdino, skysense, timo, pretrained, encoder"
    )

    def parameters(self) -> list[Parameter]:
        """File, name, terms and what to measure on."""
        return [
            with_help(
                QgsProcessingParameterFile(
                    "FILE", tr("Official weights"), fileFilter=WEIGHTS_FILTER
                ),
                tr("The file as its authors publish it. It is read without running any code."),
            ),
            with_help(
                QgsProcessingParameterString("NAME", tr("Name of the encoder"), optional=True),
                tr("What forms will call it. Empty: its own name, such as galileo-nano."),
            ),
            with_help(
                QgsProcessingParameterBoolean(
                    "ACCEPT_LICENCE", tr("Accept the licence"), defaultValue=False
                ),
                tr(
                    "I have read the terms of the weights and will keep to them. Needed where they "
                    "forbid commercial use; the terms are shown when it is not ticked, and the "
                    "card keeps them with the date."
                ),
            ),
            rasters(
                "CALIBRATE",
                tr("Calibrate on"),
                tr(
                    "Rasters or a stack like those that will be encoded: the mean of their "
                    "features is subtracted, which makes searches sharper. Empty: a simulated "
                    "season, where the encoder reads Sentinel-1 or Sentinel-2."
                ),
                optional=True,
            ),
            with_help(
                QgsProcessingParameterString("VARIANT", tr("Use"), optional=True),
                tr(
                    "Some weights can be used in several ways, such as pixel or patch. The log "
                    "lists them. Empty: the usual one."
                ),
                advanced=True,
            ),
            with_help(
                QgsProcessingParameterMultipleLayers(
                    "PARTS",
                    tr("Further files of the same encoder"),
                    QgsProcessing.SourceType.TypeFile,
                    optional=True,
                ),
                tr("SkySense is published in parts; its fusion needs them all."),
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

    def results(self, result: dict[str, Any]) -> dict[str, Any]:
        """The file, wherever it went."""
        return {"OUTPUT": result["output"]}
