"""Pretrain encoder: the user's own rasters, without labels, become an encoder of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import QgsProcessingParameterString

from ...engine import environment
from ..base import EarthprintAlgorithm
from ..parameters import (
    MODEL_FILTER,
    Parameter,
    choice,
    file_output,
    number,
    overwrite,
    rasters,
    seed,
    systems,
    with_help,
)
from ..translation import tr

#: What is trained unless another is chosen: it gained most on the probes of docs/encoders.md.
SYSTEM = "maestro"


class Pretrain(EarthprintAlgorithm):
    """Form of the job `pretrain`."""

    ID, JOB, NAME, GROUP = "pretrain", "pretrain", "Pretrain encoder", "models"
    SUMMARY = "Lets a small encoder of your own learn from rasters without any labels."
    HELP = (
        "<p><b>Needs</b> rasters of the ground and sensors that you map, the more places and "
        "dates the better; and PyTorch: tick Import official weights in Set Up Environment.</p>"
        "<p><b>Gives</b> an encoder in your folder of models, which all forms list at once. Beside "
        "it a folder (.training) holds the state of the training and the curve of its loss. Stop "
        "when you like: the same run goes on where it stopped, and more minutes than before go on "
        "too.</p>"
        "<p><b>Limits</b> An hour on a processor gives a modest encoder; compare it with the "
        "bundled ones (Train head shows the accuracy of each) before you rely on it. Single "
        "rasters count as one season of one place; give a stack for each place.</p>"
    )
    TAGS = (
        "pretrain, pretraining, self-supervised, foundation model, own encoder, training, "
        "unlabelled, masked autoencoder, MAE, contrastive, DINO, maestro, galileo, timo, satdino"
    )

    def parameters(self) -> list[Parameter]:
        """What to learn from, how, how long, and what it is called."""
        return [
            rasters(
                "INPUT",
                tr("Rasters and stacks"),
                tr(
                    "What to learn from, no labels: stacks (.stack.json) or folders, one for each "
                    "place, or the rasters of one place."
                ),
            ),
            choice(
                "SYSTEM",
                tr("Kind of encoder"),
                systems(),
                tr(
                    "Whose network and way of learning: maestro and galileo hide parts of the "
                    "picture and guess them, satdino compares views, timo looks at long series. "
                    "What the rasters lack for one is said at once."
                ),
                default=SYSTEM,
            ),
            with_help(
                QgsProcessingParameterString("NAME", tr("Name of the encoder"), optional=True),
                tr("What forms will call it. Empty: my- and the kind, such as my-maestro."),
            ),
            number(
                "MINUTES",
                tr("Time for training (minutes)"),
                60,
                tr(
                    "Of all runs of this training together; it ends then, the encoder is written "
                    "in a minute or two."
                ),
                minimum=0.1,
                whole=False,
                advanced=False,
            ),
            number(
                "STEPS",
                tr("Steps at most"),
                None,
                tr("The training also ends after so many steps. Empty: as its recipe says."),
                minimum=1,
            ),
            seed(),
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
        """The file, wherever it went, and the curve of the loss."""
        return {"OUTPUT": result["output"], "CURVE": result["curve"]}

    def stopped(self, job: dict[str, Any], seconds: float) -> str:
        """What was learnt is kept, unless the training was stopped before it was first kept."""
        name = job.get("name") or "my-{}".format(job["system"])
        given = job.get("output") or environment.models_folder() / f"{name}.onnx"
        folder = Path(given).with_suffix(".training")
        if not (folder / "state.pt").is_file():
            return super().stopped(job, seconds)
        return tr(
            "Stopped after {:.0f} s. What was learnt is kept in {}; run again with the same "
            "rasters, kind, name and seed to go on. No encoder was written yet."
        ).format(seconds, folder)
