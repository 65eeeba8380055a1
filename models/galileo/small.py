"""A small Galileo for Sentinel-1 and -2 at 10 m: patches of 4 pixels, two blocks."""

from __future__ import annotations

from dataclasses import replace

from ..cards import Card
from ..training.export import Exportable
from ..training.pretrain import Recipe
from .checkpoint import card_of
from .decoder import DecoderConfig
from .export import LevelFeatures, PatchFeatures, _example
from .network import Config, Encoder
from .objective import PatchDisc

PATCH, WINDOW, MONTHS = 4, 16, 12
CONFIG = Config(
    embedding_size=96, depth=2, num_heads=6, mlp_ratio=2, max_sequence_length=24,
    max_patch_size=PATCH, drop_path=0.0,
)  # fmt: skip
_DECODER = DecoderConfig(96, 96, depth=1, num_heads=6, mlp_ratio=2)
_SHAPES = ((2, 12), (3, 6), (4, 4), (6, 2))  # an eighth of the paper's tokens, for more steps
RECIPE = Recipe(windows=4, rate=1e-3, dates=(16, 60), pool=1200)


def objective() -> PatchDisc:
    """PatchDisc, global and local, over patches of 1, 2 and 4 pixels."""
    return PatchDisc(CONFIG, _DECODER, patches=(1, 2, PATCH), shapes=_SHAPES)


def card() -> Card:
    """What the encoder is; training data, hash and code scale come at export."""
    own = card_of(CONFIG, "patch")
    return replace(
        own,
        name="galileo-small",
        licence_weights="GPL-3.0-or-later",
        patch=PATCH, window=WINDOW, margin=1,
        training_data=(), results=(),
        observations=f"The mean of each calendar month, up to {MONTHS} in a row; one month works.",
        limits=(
            "Not the authors' weights: their architecture and objective at a small size. What "
            "it has seen is little, see the training data.",
            "Sentinel-1 and Sentinel-2 only. No weather, terrain, maps or location.",
            f"Patches of {10 * PATCH} m.",
        ),
    )  # fmt: skip


def exportable(encoder: Encoder) -> Exportable:
    """The encoder for windows of the card's size."""
    module = LevelFeatures(PatchFeatures(encoder, PATCH), WINDOW)
    return Exportable(
        module.eval(),
        {"s_t": {0: "windows", 3: "steps"}, "s_t_mask": {0: "windows", 3: "steps"},
         "months": {0: "windows", 1: "steps"}},
        tuple(_example(n, WINDOW, PATCH, steps) for n, steps in ((1, MONTHS), (1, 1), (2, 6))),
    )  # fmt: skip
