"""The label decoder of SkySense++: UPerNet over the HR branch's maps and the fused map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a UPerNet head."""

    inputs: tuple[int, ...]  # channels of the maps, finest first; the last one is pooled
    classes: int
    channels: int = 512
    pools: tuple[int, ...] = (1, 2, 3, 6)
    dropout: float = 0.1


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, outputs, h, w)."""
        return functional.relu(self.bn(self.conv(x)))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


class UPerNet(nn.Module):
    """Pyramid pooling of the coarsest map, then a feature pyramid down to the finest."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        *fine, coarse = config.inputs
        width = config.channels
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(pool), ConvNormReLU(coarse, width, 1))
            for pool in config.pools
        )
        self.bottleneck = ConvNormReLU(coarse + len(config.pools) * width, width, 3)
        self.lateral_convs = nn.ModuleList(ConvNormReLU(c, width, 1) for c in fine)
        self.fpn_convs = nn.ModuleList(ConvNormReLU(width, width, 3) for _ in fine)
        self.fpn_bottleneck = ConvNormReLU(len(config.inputs) * width, width, 3)
        self.dropout = nn.Dropout2d(config.dropout)
        self.conv_seg = nn.Conv2d(width, config.classes, 1)

    def pooled(self, x: Tensor, rounded: bool) -> Tensor:
        """The coarsest map with its context; `rounded`: pooled branches pass through bfloat16."""
        branches = [_resize(module(x), x) for module in self.psp_modules]
        if rounded:
            branches = [b.bfloat16().to(x.dtype) for b in branches]
        return self.bottleneck(torch.cat([x, *branches], dim=1))

    def forward(self, maps: list[Tensor], rounded: bool = False) -> Tensor:
        """Maps (N, C_i, h_i, w_i), finest first, to logits (N, classes, h_0, w_0).

        Args:
            maps: as many as `DecoderConfig.inputs`.
            rounded: as the published code does it, even where all else is float32.
        """
        *fine, coarse = maps
        levels = [lateral(x) for lateral, x in zip(self.lateral_convs, fine, strict=True)]
        levels.append(self.pooled(coarse, rounded))
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + _resize(levels[i], levels[i - 1])
        outs = [conv(x) for conv, x in zip(self.fpn_convs, levels[:-1], strict=True)]
        outs = [_resize(x, outs[0]) for x in (*outs, levels[-1])]
        return self.conv_seg(self.dropout(self.fpn_bottleneck(torch.cat(outs, dim=1))))
