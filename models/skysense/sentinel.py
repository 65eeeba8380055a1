"""The Sentinel branches: a plain ViT-L for each of Sentinel-2 and Sentinel-1 (CVPR 2024, 3.1).

Kept because the weights depend on it: the position table is resized only where the number of
tokens differs from its own; there is no norm at the end; the class token gets its position before
it is dropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .swin import Size, pad_to
from .transformer import Layer


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a Sentinel branch."""

    channels: int
    width: int
    layers: int
    heads: int
    ratio: float = 4
    patch: int = 4
    rows: int = 257  # of the position table; one more than a square number: with a class row
    class_token: bool = False  # of v1's own default, SkySense++ and all assemblies run without
    patch_bias: bool = True  # the fine-tuning code of SkySense++ has none
    final_norm: bool = False
    eps: float = 1e-5  # SkySense++: 1e-6
    interpolation: str = "bicubic"  # of the position table
    outputs: tuple[int, ...] = (23,)  # layers whose maps are given

    def __post_init__(self) -> None:
        """Refuse a position table that is no square."""
        if math.isqrt(self.rows) ** 2 != self.rows and not self.class_row:
            raise ValueError(f"a position table of {self.rows} rows is no square, with or without "
                             "a row for the class token")
        if self.class_token and not self.class_row:
            raise ValueError("a class token needs its row in the position table")

    @property
    def class_row(self) -> bool:
        """Whether row 0 of the position table belongs to the class token."""
        return math.isqrt(self.rows - 1) ** 2 == self.rows - 1


LARGE_S2 = ViTConfig(10, 1024, 24, 16)
LARGE_S1 = ViTConfig(2, 1024, 24, 16)


class PatchProjection(nn.Module):
    """Patches to tokens, without a norm."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.projection = nn.Conv2d(
            config.channels, config.width, config.patch, config.patch, bias=config.patch_bias
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Size]:
        """(N, channels, H, W) to (N, L, D) and (h, w)."""
        x = self.projection(pad_to(image, self.projection.kernel_size[0]))
        return x.flatten(2).transpose(1, 2), (int(x.shape[2]), int(x.shape[3]))


class ViT(nn.Module):
    """Image of one date to maps of stride 4."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchProjection(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.empty(1, config.rows, config.width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.layers = nn.ModuleList(
            Layer(config.width, config.heads, config.ratio, config.eps)
            for _ in range(config.layers)
        )
        if config.final_norm:
            self.ln1 = nn.LayerNorm(config.width, eps=config.eps)

    def positions(self, size: Size) -> Tensor:
        """(1, h w, D) for a map of h x w tokens."""
        table = self.pos_embed[:, int(self.config.class_row) :]
        if table.shape[1] == size[0] * size[1]:
            return table
        side = math.isqrt(table.shape[1])
        grid = table.transpose(1, 2).reshape(1, -1, side, side)
        mode = self.config.interpolation
        corners = False if mode in ("bilinear", "bicubic") else None
        grid = functional.interpolate(grid, size, mode=mode, align_corners=corners)
        return grid.flatten(2).transpose(1, 2)

    def embed(self, image: Tensor) -> tuple[Tensor, Size]:
        """(N, channels, H, W) to the tokens that enter the first layer, class token first."""
        x, size = self.patch_embed(image)
        x = x + self.positions(size)
        if self.config.class_token:
            first = self.cls_token + self.pos_embed[:, :1]
            x = torch.cat((first.expand(x.shape[0], -1, -1), x), dim=1)
        return x, size

    def layer_outputs(self, image: Tensor) -> dict[int, tuple[Tensor, Size]]:
        """Tokens (N, L, D) after each layer of `config.outputs`, class token first."""
        x, size = self.embed(image)
        found = {}
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in self.config.outputs:
                found[i] = (self.finish(i, x), size)
        return found

    def finish(self, layer: int, x: Tensor) -> Tensor:
        """Tokens of an output layer, normed where it is the last one and the weights have that."""
        last = layer == self.config.layers - 1
        return self.ln1(x) if self.config.final_norm and last else x

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """(N, channels, H, W), normalised, to {layer: (N, D, h, w)}."""
        skip = int(self.config.class_token)
        return {
            i: x[:, skip:].transpose(1, 2).reshape(-1, x.shape[-1], *size)
            for i, (x, size) in self.layer_outputs(image).items()
        }
