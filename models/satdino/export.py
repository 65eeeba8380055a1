"""SatDINO for ONNX: patch tokens of windows of one size.

The bicubic resize of the position table has no counterpart in ONNX, so the table of the window's
size goes into the graph as a constant.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..training.export import Exportable
from .adapter import INPUT
from .network import Config, SatDino


class PatchFeatures(nn.Module):
    """Windows of one size to the normed tokens of their patches."""

    def __init__(self, network: SatDino, window: int) -> None:
        """`window`: side in pixels."""
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        self.register_buffer("positions", network.positions(window, window).detach().clone())

    def forward(self, image: Tensor) -> Tensor:
        """(n, 3, window, window) to (n P, D), windows one after the other, patches row by row."""
        return self.network(image, self.positions)[:, 1:-1].flatten(0, 1)


def exportable(network: SatDino, config: Config) -> Exportable:
    """The network for windows of the size that its position table is made for."""
    generator = torch.Generator().manual_seed(0)
    shape = (config.bands, config.image, config.image)
    examples = tuple((torch.randn(n, *shape, generator=generator),) for n in (1, 2))
    module = PatchFeatures(network, config.image).eval()
    return Exportable(module, {INPUT: {0: "windows"}}, examples)
