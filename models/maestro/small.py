"""A small MAESTRO for Sentinel-2 and Sentinel-1, in the layout of S2-NAIP without its pictures."""

from __future__ import annotations

from dataclasses import replace

from ..cards import Card
from ..training.export import Exportable
from ..training.pretrain import Recipe
from . import export
from .checkpoint import card_of
from .layout import S2_NAIP
from .network import Config, Encoder, build
from .objective import MaskedAutoencoder

INPUTS = ("s2", "s1")
CONFIG = Config(
    width=96, depth=3, heads=3, head_width=32, mlp_ratio=2, decoder_width=64, decoder_depth=1,
    decoder_heads=2, decoder_head_width=32, decoder_mlp_ratio=2, shared_depth=1,
    layout=S2_NAIP.only(INPUTS),
)  # fmt: skip
RECIPE = Recipe(windows=16, rate=1e-3, dates=(6, 16))


def objective() -> MaskedAutoencoder:
    """Masked autoencoding with targets normalised by patch and group of bands."""
    return MaskedAutoencoder(build(CONFIG))


def card() -> Card:
    """What the encoder is; training data, hash and code scale come at export."""
    own = card_of(replace(CONFIG, layout=S2_NAIP), INPUTS)
    return replace(
        own,
        name="maestro-small",
        licence_weights="GPL-3.0-or-later",
        training_data=(), results=(),
        limits=(
            "Not the authors' weights: their architecture and objective at a small size. What "
            "it has seen is little, see the training data.",
            "Windows of 120 m; each is normed as a whole, so an embedding depends on all of it.",
        ),
    )  # fmt: skip


def exportable(encoder: Encoder) -> Exportable:
    """The encoder for windows of the card's size."""
    return export.exportable(encoder, CONFIG, INPUTS)
