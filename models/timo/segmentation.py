"""TiMo's framework for segmentation: the encoder, UPerNet (Xiao et al. 2018), a classifier.

Dates meet only here: each has its own features, and a pixel takes their maximum over time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import Config, Timo

POOLS = (1, 2, 3, 6)
DROP_PATH = 0.2
DROPOUT = 0.1


class ConvUnit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, given: int, wanted: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, wanted, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(wanted)

    def forward(self, x: Tensor) -> Tensor:
        """(n, given, h, w) to (n, wanted, h, w)."""
        return self.bn(self.conv(x)).relu()


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


class UPerNet(nn.Module):
    """Pyramid pooling of the coarsest map, then all four maps brought together at the finest."""

    def __init__(self, widths: tuple[int, ...], channels: int, pools: tuple[int, ...]) -> None:
        super().__init__()
        *fine, coarse = widths
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), ConvUnit(coarse, channels, 1))
            for size in pools
        )
        self.bottleneck = ConvUnit(coarse + len(pools) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(ConvUnit(width, channels, 1) for width in fine)
        self.fpn_convs = nn.ModuleList(ConvUnit(channels, channels, 3) for _ in fine)
        self.fpn_bottleneck = ConvUnit(len(widths) * channels, channels, 3)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps of the four stages to features (n, channels, 4 h, 4 w) of the first one's h x w."""
        *fine, coarse = maps
        pooled = [_resize(pool(coarse), coarse.shape[2:]) for pool in self.psp_modules]
        levels = [lateral(x) for lateral, x in zip(self.lateral_convs, fine, strict=True)]
        levels.append(self.bottleneck(torch.cat([coarse, *pooled], dim=1)))
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + _resize(levels[i], levels[i - 1].shape[2:])
        smooth = [conv(x) for conv, x in zip(self.fpn_convs, levels[:-1], strict=True)]
        same = [_resize(x, levels[0].shape[2:]) for x in (*smooth, levels[-1])]
        x = self.fpn_bottleneck(torch.cat(same, dim=1))
        return functional.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)


class TimoSegmentation(nn.Module):
    """Classes of pixels from a series."""

    def __init__(
        self,
        config: Config,
        classes: int,
        channels: int = 0,
        pools: tuple[int, ...] = POOLS,
        drop_path: float = DROP_PATH,
    ) -> None:
        """`channels` of the decoder: by default the width of the last stage."""
        super().__init__()
        channels = channels or config.widths[-1]
        self.encoder = Timo(config, drop_path)
        self.decoder = UPerNet(config.widths, channels, pools)
        self.semseghead = nn.Sequential(nn.Dropout2d(DROPOUT), nn.Conv2d(channels, classes, 1))

    def forward(self, series: Tensor) -> Tensor:
        """(B, T, C, H, W) to scores (B, classes, H, W)."""
        features = self.decoder(self.encoder(series))
        return self.semseghead(features.unflatten(0, (-1, series.shape[1])).amax(dim=1))

    def each_date(self, series: Tensor) -> Tensor:
        """Scores of every date by itself, as for deforestation: (B T, classes, H, W)."""
        return self.semseghead(self.decoder(self.encoder(series)))
