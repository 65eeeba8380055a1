"""Up-heads, dates and the fusion transformer (CVPR 2024, section 3.1, "multi-modal fusion").

At every ground position by itself, the tokens of all sensors and dates pass through a transformer;
its class token is the fused feature. No module has a mask, so a date or sensor that is missing at a
position is left out of that position's sequence: `seen` does this without changing lengths.

The published v1 code ends before this assembly; it follows the forward pass of SkySense++. There
the date table is added to Sentinel-2 only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .transformer import Layer

DAYS = 365


@dataclass(frozen=True)
class FusionConfig:
    """Sizes of the fusion transformer."""

    inputs: int  # width of the tokens that it takes, that of the HR branch's stage 3
    width: int
    layers: int
    heads: int
    ratio: float = 4
    eps: float = 1e-5


LARGE = FusionConfig(2816, 1024, 24, 16)


class UpHead(nn.Module):
    """A Sentinel branch's map to the HR branch's width at the Sentinel pixel."""

    def __init__(self, width: int, outputs: int, scale: int = 4) -> None:
        super().__init__()
        self.decoder = nn.Sequential(
            nn.Conv2d(width, scale**2 * outputs, 1), nn.PixelShuffle(scale)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, D, h, w) to (N, outputs, 4h, 4w)."""
        return self.decoder(x)


class Fusion(nn.Module):
    """Transformer over the tokens of one position."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.porj_linear = nn.Linear(config.inputs, config.width)  # so spelled in the weights
        self.layers = nn.ModuleList(
            Layer(config.width, config.heads, config.ratio, config.eps)
            for _ in range(config.layers)
        )
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, T, inputs) to (B, 1 + T, D), class token first.

        Args:
            tokens: of B positions.
            seen: (B, T) bool; a token that is not seen has no part in the others.
        """
        x = self.porj_linear(tokens)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        if seen is not None:
            seen = torch.cat((torch.ones_like(seen[:, :1]), seen), dim=1)
        for layer in self.layers:
            x = layer(x, seen)
        return x


def sequence(features: list[Tensor]) -> Tensor:
    """Features (N, T, C, h, w) of the sensors, on one grid, as (N h w, sum of T, C)."""
    tokens = torch.cat(features, dim=1)
    return tokens.permute(0, 3, 4, 1, 2).reshape(-1, tokens.shape[1], tokens.shape[2])
