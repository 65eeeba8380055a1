"""TiMo for ONNX: windows of one size, any number of dates up to the most that the card allows.

The codes of time and place are computed in double precision; they go into the graph as a constant
for the most dates, of which a call takes as many as it has.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..training.export import Exportable
from .adapter import INPUT, LAYOUTS
from .checkpoint import STAGE, WINDOW, layout_for
from .network import Config, Timo, dates_of


class PatchFeatures(nn.Module):
    """Series of windows of one size to the third stage's features, their mean over time."""

    def __init__(self, network: Timo, window: int, most: int) -> None:
        """`window`: side in pixels; `most` dates."""
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        side = window // 4
        self.register_buffer("positions", network.positions(most, side, side).clone())

    def forward(self, series: Tensor) -> Tensor:
        """(n, T, C, window, window) to (n P, D), windows in turn, patches of 16 row by row."""
        positions = self.positions.index_select(0, dates_of(series[0]))
        maps = self.network(series, positions)[STAGE - 1].flatten(2)  # (n T, D, P)
        dates = maps.reshape(series.shape[0], series.shape[1], *maps.shape[1:])
        return dates.mean(dim=1).transpose(1, 2).flatten(0, 1)


def exportable(network: Timo, config: Config) -> Exportable:
    """The network for windows of the size that its card states."""
    generator = torch.Generator().manual_seed(0)
    most = LAYOUTS[layout_for(config)].most
    examples = tuple(
        (torch.rand(n, dates, config.bands, WINDOW, WINDOW, generator=generator),)
        for n, dates in ((1, 2), (1, 1), (2, 3))
    )
    module = PatchFeatures(network, WINDOW, most).eval()
    return Exportable(module, {INPUT: {0: "windows", 1: "dates"}}, examples)
