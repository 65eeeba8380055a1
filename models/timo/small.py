"""A small TiMo for Sentinel-2 with ten bands: embeddings of 8 pixels, of its second stage."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..cards import Card
from ..training.export import Exportable
from ..training.pretrain import Recipe
from .adapter import INPUT
from .checkpoint import card_of
from .network import Config, Timo, dates_of
from .objective import MaskedModelling, MaskedTimo

WINDOW, MOST, STAGE, PATCH = 64, 6, 2, 8
CONFIG = Config(
    (32, 64, 96, 128), (2, 4, 6, 8), (1, 2, 2, 1), attention=("full",) * 4, bands=10,
    mlp_ratios=(2, 2, 2, 2),
)  # fmt: skip
RECIPE = Recipe(windows=6, rate=1e-3, dates=(MOST, MOST), pool=300)


def objective() -> MaskedModelling:
    """Masked image modelling with targets as they are, the authors' default."""
    return MaskedModelling(MaskedTimo(CONFIG, width=96, depth=2, heads=4))


def card() -> Card:
    """What the encoder is; training data, hash and code scale come at export."""
    own = card_of(CONFIG)
    return replace(
        own,
        name="timo-small",
        licence_code="GPL-3.0-or-later",
        licence_weights="GPL-3.0-or-later",
        variant="multisenge",
        sensors=tuple(replace(s, most=MOST) for s in own.sensors),
        observations=f"1 to {MOST} dates; of more, the clearest of each part of the series.",
        normalisation=f"Reflectance as it is. Output: the map of stage {STAGE} after its norm, "
        "mean over the dates.",
        patch=PATCH, window=WINDOW, margin=1, dimensions=CONFIG.widths[STAGE - 1],
        training_data=(), results=(),
        limits=(
            "A small size of the authors' architecture and objective, who published no "
            "weights. What it has seen is little, see the training data.",
            "All stages attend fully, as in pretraining.",
            "The order of the dates counts, their distance does not.",
        ),
    )  # fmt: skip


class PatchFeatures(nn.Module):
    """Windows to the features of one stage, their mean over time."""

    def __init__(self, network: Timo) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        side = WINDOW // 4
        self.register_buffer("positions", network.positions(MOST, side, side).clone())

    def forward(self, series: Tensor) -> Tensor:
        """(n, T, 10, 64, 64) to (n P, D), windows in turn, patches row by row."""
        positions = self.positions.index_select(0, dates_of(series[0]))
        maps = self.network(series, positions)[STAGE - 1].flatten(2)  # (n T, D, P)
        dates = maps.reshape(series.shape[0], series.shape[1], *maps.shape[1:])
        return dates.mean(dim=1).transpose(1, 2).flatten(0, 1)


def exportable(encoder: MaskedTimo) -> Exportable:
    """The encoder for windows of the card's size, without the decoder of pretraining."""
    network = Timo(CONFIG)
    own = encoder.state_dict()
    network.load_state_dict({name: own[name] for name in network.state_dict()})
    draw = torch.Generator().manual_seed(0)
    examples = tuple((torch.rand(n, t, CONFIG.bands, WINDOW, WINDOW, generator=draw),)
                     for n, t in ((1, 2), (1, 1), (2, MOST)))
    return Exportable(PatchFeatures(network).eval(), {INPUT: {0: "windows", 1: "dates"}}, examples)
