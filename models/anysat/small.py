"""A small AnySat for Sentinel-2 and Sentinel-1 at 10 m: a row for every pixel."""

from __future__ import annotations

from dataclasses import replace

from ..cards import Card
from ..training.export import Exportable
from ..training.pretrain import Recipe
from . import export
from .checkpoint import card_of
from .network import AnySat, Config
from .objective import CrossSensorJepa
from .projectors import SeriesSensor

CONFIG = Config(
    width=64, depth=2, heads=4, spatial_depth=2, spatial_heads=4, mlp_ratio=2.0,
    sensors={
        "s2": SeriesSensor(10, input_norm=True, dropout=0.0, heads=8, widths=(32, 64, 64, 64, 64)),
        "s1-asc": SeriesSensor(2, heads=8, widths=(32, 64, 64, 64, 64)),
    },
)  # fmt: skip
WINDOW = 16
RECIPE = Recipe(windows=4, rate=1e-3, dates=(6, 6), pool=1200, together=True)


def objective() -> CrossSensorJepa:
    """JEPA with cross-sensor contrast, in patches of 20 and 40 m.

    With the paper's targets and momentum the teacher gave the same everywhere at this size.
    """
    return CrossSensorJepa(
        AnySat(CONFIG), scales=(2, 4), standardise=True, momentum=(0.99, 1.0))


def card() -> Card:
    """What the encoder is; training data, hash and code scale come at export."""
    return replace(
        card_of(CONFIG),
        name="anysat-small",
        licence_weights="GPL-3.0-or-later",
        window=WINDOW, margin=2,
        training_data=(), results=(),
        limits=(
            "Not the authors' weights: their architecture and objective at a small size. What "
            "it has seen is little, see the training data.",
            "Sentinel-2 with ten bands, or Sentinel-1 (ascending), at 10 m.",
        ),
    )  # fmt: skip


def exportable(encoder: AnySat) -> Exportable:
    """The encoder for windows of the card's size."""
    return export.exportable(encoder, CONFIG, window=WINDOW)
