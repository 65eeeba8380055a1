"""A small SkySense V2 for Sentinel-2 and Sentinel-1: one backbone for both, then their fusion."""

from __future__ import annotations

from dataclasses import replace

from ..cards import Card
from ..skysense.fusion import FusionConfig
from ..skysense.objective import Settings
from ..training.export import Exportable
from ..training.pretrain import Recipe
from . import export
from .checkpoint import card_of
from .network import Config, SkySenseV2
from .objective import QueryAggregation

WINDOW = 32
CONFIG = Config(
    "s2+s1", width=16, blocks=(1, 1, 2, 1), head_width=16, window=8, ratio=2, prompts=2,
    fusion=FusionConfig(128, 96, layers=2, heads=4, ratio=2), places=False,
)  # fmt: skip
RECIPE = Recipe(windows=4, rate=1e-3, dates=(3, 3), pool=1200, together=True)


def objective() -> QueryAggregation:
    """Query-based aggregation beside SkySense's contrast and alignment.

    Few windows can be told apart by their dates alone, without a look at the ground: so days are
    shifted and more dates are dropped. Places of a window would be told apart by their codes, which
    are therefore left out: student and teacher see a place under the same one.
    """
    settings = Settings(outputs=256, hidden=128, clusters=8, momentum=0.99, noise=0.05,
                        drop_dates=0.5, jitter_days=15)
    return QueryAggregation(SkySenseV2(CONFIG), settings)


def card() -> Card:
    """What the encoder is; training data, hash and code scale come at export."""
    own = card_of(CONFIG)
    return replace(
        own,
        name="skysense-v2-small",
        window=WINDOW, margin=1,
        sensors=tuple(replace(s, most=8) for s in own.sensors),
        observations="Up to 8 dates of each sensor; of more, the clearest of each eighth of the "
        "series. One date works.",
        limits=(
            "A small size of our reading of the paper. What it has seen is little, see the "
            "training data. No high-resolution pictures, no experts, no text.",
            *own.limits[:1],
        ),
    )  # fmt: skip


def exportable(encoder: SkySenseV2) -> Exportable:
    """The encoder for windows of the card's size."""
    return export.exportable(encoder, CONFIG, WINDOW)
