"""A small SatDINO for pictures in red, green and blue: patches of 4 pixels."""

from __future__ import annotations

from dataclasses import replace

from ..cards import Card
from ..training.export import Exportable
from ..training.pretrain import Recipe
from . import export
from .checkpoint import card_of
from .network import Config, SatDino, build
from .objective import SelfDistillation
from .views import Crops

CONFIG = Config(patch=4, width=96, depth=4, heads=6, image=64, mlp_ratio=2.0)
RECIPE = Recipe(windows=16, rate=5e-4, dates=(1, 4), weight_decay=0.04, clip=3.0, pool=4000)


def objective() -> SelfDistillation:
    """Self-distillation over two global and four local crops of a window.

    A sharper and steadier teacher than the paper's: with its temperatures so few and so plain
    pictures end in answers that are the same for all. Colours change less than in DINO: with few
    pixels to a window they are most of what tells one land cover from another.
    """
    crops = Crops(locals=4, global_size=48, local_size=24, solarise=0.0,
                  jitter=(0.2, 0.2, 0.2, 0.03), gray=0.1)
    # distances count in pixels of the window: pixels of 5 to 30 m are learnt from alike
    return SelfDistillation(build(CONFIG), ground_size_m=1.0, prototypes=128, hidden=256,
                            bottleneck=64, crops=crops, momentum=0.99,
                            temperatures=(0.01, 0.02))


def card() -> Card:
    """What the encoder is; training data, hash and code scale come at export."""
    return replace(
        card_of(CONFIG),
        name="satdino-small",
        ground_size_m=10.0,
        licence_weights="GPL-3.0-or-later",
        training_data=(), results=(),
        limits=(
            "Not the authors' weights: their architecture and objective at a small size. What "
            "it has seen is little, see the training data.",
            "One date, three visible bands: no time, no infrared, no radar.",
            "How reflectance becomes a picture is this program's choice.",
        ),
    )  # fmt: skip


def exportable(encoder: SatDino) -> Exportable:
    """The encoder for windows of the card's size."""
    return export.exportable(encoder, CONFIG)
