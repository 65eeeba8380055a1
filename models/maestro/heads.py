"""MAESTRO's heads for fine-tuning: features of all inputs to labels of a window or to a map."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import Config


class AttentiveReduce(nn.Module):
    """One learned query sums up any number of tokens."""

    def __init__(self, width: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.norm_fc = nn.LayerNorm(width)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.query = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, D)."""
        k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.to_kv(self.norm(x)).chunk(2, dim=2)
        )
        q = self.query.reshape(1, self.heads, 1, -1).expand(len(x), -1, -1, -1)
        return self.norm_fc(functional.scaled_dot_product_attention(q, k, v).flatten(1))


class Mean(nn.Module):
    """The plain mean of the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, D)."""
        return x.mean(dim=1)


def _reduce(config: Config) -> nn.Module:
    return AttentiveReduce(config.width) if config.head == "attentive" else Mean()


class ClassificationHead(nn.Module):
    """All tokens of all inputs to one row of logits."""

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        self.reduce = _reduce(config)
        self.linear = nn.Linear(config.width, classes)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Inputs' (B, E, L, D) to (B, classes)."""
        return self.linear(self.reduce(torch.cat([x.flatten(1, 2) for x in features.values()], 1)))


class SegmentationHead(nn.Module):
    """At each token of the reference input, all inputs and dates to a block of pixels."""

    def __init__(self, config: Config, classes: int, patch: int) -> None:
        super().__init__()
        layout = config.layout
        self.grid = layout.inputs[layout.reference].grid
        self.patch = patch
        self.reduce = _reduce(config)
        self.conv = nn.Conv2d(config.width, classes * patch**2, 1)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Inputs' (B, E, L, D) to (B, 1, classes, H, W)."""
        maps = torch.cat([on_grid(x, self.grid) for x in features.values()], dim=1)
        b, e, places, d = maps.shape
        x = self.reduce(maps.transpose(1, 2).reshape(b * places, e, d))
        x = self.conv(x.reshape(b, self.grid, self.grid, d).permute(0, 3, 1, 2))
        return unfold(x, self.patch)[:, None]


def on_grid(x: Tensor, grid: int) -> Tensor:
    """Tokens (B, E, L, D) on another grid (B, E, g g, D), bilinear."""
    _, e, places, d = x.shape
    side = math.isqrt(places)
    if side == grid:
        return x
    maps = x.reshape(-1, side, side, d).permute(0, 3, 1, 2)
    maps = functional.interpolate(maps, (grid, grid), mode="bilinear")
    return maps.permute(0, 2, 3, 1).reshape(-1, e, grid * grid, d)


def unfold(x: Tensor, patch: int) -> Tensor:
    """(B, p p C, g, g), ordered by row and column in the patch and band, to (B, C, g p, g p)."""
    b, _, rows, columns = x.shape
    x = x.reshape(b, patch, patch, -1, rows, columns).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(b, -1, rows * patch, columns * patch)


def build_heads(config: Config) -> nn.ModuleDict:
    """A head for each target of the layout.

    Raises:
        ValueError: if a map does not fit the reference input's grid.
    """
    heads, layout = nn.ModuleDict(), config.layout
    for name, target in layout.targets.items():
        if target.pixel_m is None:
            heads[name] = ClassificationHead(config, target.classes)
            continue
        if layout.reference not in layout.inputs:
            raise ValueError(f"The target {name} is a map and needs a reference input")
        pixels, grid = round(layout.window_m / target.pixel_m), layout.inputs[layout.reference].grid
        if pixels % grid:
            raise ValueError(f"A map of {pixels} pixels does not fit the grid of {grid} tokens")
        heads[name] = SegmentationHead(config, target.classes, pixels // grid)
    return heads
