"""AnySat's projectors, one a sensor: rasters and series to sub-patch tokens (Astruc et al., CVPR
2025, section 3.1), with the official weights' names.

A patch is a square of `scale` x `scale` cells of 10 m. Shapes: B windows, T dates, C bands, H x W
pixels, P patches, S sub-patches of a patch, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CELL_M = 10.0  # a scale counts cells of this side


@dataclass(frozen=True)
class SeriesSensor:
    """A sensor with dates; a sub-patch is one pixel.

    Attributes:
        bands: C.
        ground_m: side of a sub-patch as the position code takes it.
        period: days of the date code's slowest turn.
        input_norm: whether features are normed over the dates of a pixel.
        reduce: cells of 10 m under the side of a pixel, as the cutting into patches takes it.
        heads, key_width: of the attention over dates.
        widths: of the pixel MLP's five layers; empty for D/8, D/2, D, 2D, D.
        dropout: of the pixel MLP and of the result.
    """

    bands: int
    ground_m: float = 10.0
    period: int = 367
    input_norm: bool = False
    reduce: int = 1
    heads: int = 16
    key_width: int = 8
    widths: tuple[int, ...] = ()
    dropout: float = 0.2


@dataclass(frozen=True)
class ImageSensor:
    """A very-high-resolution sensor of one date; a sub-patch is kernel x kernel pixels.

    Attributes:
        bands: C.
        ground_m: side of a sub-patch as the position code takes it.
        pixel_m: side of a pixel.
        kernel: side of a sub-patch in pixels.
        widths: of the MLP behind the convolution; empty for D, 2D, D.
    """

    bands: int
    ground_m: float
    pixel_m: float
    kernel: int
    widths: tuple[int, ...] = ()

    @property
    def parts(self) -> int:
        """Sub-patches along the side of a cell of 10 m."""
        return int(CELL_M / self.pixel_m) // self.kernel


Sensor = SeriesSensor | ImageSensor

SENSORS: dict[str, Sensor] = {
    "aerial": ImageSensor(4, 2.0, pixel_m=0.2, kernel=10),
    "aerial-flair": ImageSensor(5, 2.0, pixel_m=0.2, kernel=10),
    "spot": ImageSensor(3, 10.0, pixel_m=1.0, kernel=10),
    "naip": ImageSensor(4, 10.0, pixel_m=1.25, kernel=8),
    "s2": SeriesSensor(10, input_norm=True, dropout=0.0),
    "s1-asc": SeriesSensor(2),
    "s1": SeriesSensor(3),
    "alos": SeriesSensor(3, ground_m=30.0, reduce=3),
    "l7": SeriesSensor(6, ground_m=30.0, reduce=3),
    "l8": SeriesSensor(11, period=366, dropout=0.0),
    "modis": SeriesSensor(7, ground_m=250.0, reduce=12),
}
"""The eleven official sensors, with the constants of the pretraining."""


class GroupNorm(nn.Module):
    """Group norm of the last axis alone: every pixel and date by itself."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.split = (groups, width // groups)
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        x = functional.layer_norm(x.unflatten(-1, self.split), self.split[1:])
        return x.flatten(-2) * self.weight + self.bias


class SeriesNorm(GroupNorm):
    """Group norm whose statistics also run over the dates of a pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) to (N, T, D)."""
        x = x.unflatten(-1, self.split)
        x = x - x.mean(dim=(1, 3), keepdim=True)
        x = x * (x.square().mean(dim=(1, 3), keepdim=True) + 1e-5).rsqrt()
        return x.flatten(-2) * self.weight + self.bias


def date_code(dates: Tensor, width: int, heads: int, period: int) -> Tensor:
    """(B, T) days to (B, T, D): sine and cosine by turns, the same code for every head."""
    index = torch.arange(width // heads, device=dates.device)
    angle = dates[..., None].float() / period ** (2 * (index // 2) / (width // heads))
    return torch.where(index % 2 == 0, angle.sin(), angle.cos()).repeat(1, 1, heads)


class DateQueries(nn.Module):
    """One learned query and one projection of keys for each head."""

    def __init__(self, width: int, heads: int, key_width: int) -> None:
        super().__init__()
        self.heads, self.key_width = heads, key_width
        self.Q = nn.Parameter(torch.empty(heads, key_width))
        self.fc1_k = nn.Linear(width, heads * key_width)
        for weight in (self.Q, self.fc1_k.weight):
            nn.init.normal_(weight, std=math.sqrt(2 / key_width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) to the weights of the dates (N, T, heads)."""
        keys = self.fc1_k(x).unflatten(-1, (self.heads, self.key_width))
        return ((keys * self.Q).sum(dim=-1) / math.sqrt(self.key_width)).softmax(dim=1)


class TemporalAttention(nn.Module):
    """L-TAE (Garnot and Landrieu 2020): the dates of each pixel collapse into one vector.

    Values are the features themselves: a head weighs its own share of the channels.
    """

    def __init__(self, sensor: SeriesSensor, width: int) -> None:
        super().__init__()
        self.sensor = sensor
        widths = sensor.widths or (width // 8, width // 2, width, 2 * width, width)
        layers: list[nn.Module] = []
        for before, after in zip((sensor.bands, *widths), widths, strict=False):
            layers += [nn.Linear(before, after), GroupNorm(4, after), nn.ReLU(),
                       nn.Dropout(sensor.dropout)]  # fmt: skip
        self.inconv = nn.Sequential(*layers)
        self.in_norm = SeriesNorm(sensor.heads, width) if sensor.input_norm else nn.Identity()
        self.attention_heads = DateQueries(width, sensor.heads, sensor.key_width)
        self.mlp = nn.Sequential(nn.Linear(width, width), GroupNorm(4, width), nn.ReLU())
        self.dropout = nn.Dropout(sensor.dropout)
        self.out_norm = GroupNorm(sensor.heads, width)

    def forward(self, x: Tensor, dates: Tensor) -> Tensor:
        """x (B, T, C, H, W) and dates (B, T) in days to (B, H, W, D)."""
        b, t, c, h, w = x.shape
        x = self.in_norm(self.inconv(x.permute(0, 3, 4, 1, 2).reshape(b * h * w, t, c)))
        code = date_code(dates, x.shape[-1], self.sensor.heads, self.sensor.period)
        x = (x.reshape(b, h * w, t, -1) + code[:, None]).reshape(b * h * w, t, -1)
        share = functional.dropout(self.attention_heads(x), 0.1, self.training)
        x = (share[..., None] * x.unflatten(-1, (self.sensor.heads, -1))).sum(dim=1).flatten(1)
        return self.out_norm(self.dropout(self.mlp(x))).reshape(b, h, w, -1)


class SeriesProjector(nn.Module):
    """A series to the tokens of its pixels, patch by patch."""

    def __init__(self, sensor: SeriesSensor, width: int) -> None:
        super().__init__()
        self.sensor = sensor
        self.patch_embed = TemporalAttention(sensor, width)
        self.pad_parameter = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, dates: Tensor, scale: int, valid: Tensor | None = None) -> Tensor:
        """Tokens (B P, S, D), patches and their pixels row by row; what fills no patch is dropped.

        Args:
            x: (B, T, C, H, W), standardised.
            dates: (B, T) days.
            scale: side of a patch in cells of 10 m.
            valid: (B, T, 1, H, W) bool; values elsewhere are replaced by a learned number.
        """
        if valid is not None:
            x = torch.where(valid, x, self.pad_parameter)
        x = self.patch_embed(x, dates)
        return patches(x, max(1, scale // self.sensor.reduce))


def patches(x: Tensor, side: int) -> Tensor:
    """(B, H, W, D) to (B P, side^2, D), patches and their parts row by row."""
    b, h, w, d = x.shape
    rows, columns = h // side, w // side
    x = x[:, : rows * side, : columns * side].reshape(b, rows, side, columns, side, d)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(b * rows * columns, side * side, d)


class ImageProjector(nn.Module):
    """An image to tokens of sub-patches.

    A patch's tokens go cell by cell and only then row by row, so with several cells and several
    sub-patches in each they are not row by row over the patch, though all that follows takes them
    so: trained weights depend on it.
    """

    def __init__(self, sensor: ImageSensor, width: int) -> None:
        super().__init__()
        self.sensor = sensor
        self.patch_embed = nn.Conv2d(sensor.bands, width, sensor.kernel, sensor.kernel, bias=False)
        widths = sensor.widths or (width, 2 * width, width)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor, scale: int) -> Tensor:
        """(B, C, H, W) to (B P, S, D)."""
        x = self.patch_embed(x).permute(0, 2, 3, 1)
        b, h, w, d = x.shape
        parts = self.sensor.parts
        rows, columns = h // (scale * parts), w // (scale * parts)
        x = x[:, : rows * scale * parts, : columns * scale * parts]
        x = x.reshape(b, rows, scale, parts, columns, scale, parts, d)
        x = x.permute(0, 1, 4, 2, 5, 3, 6, 7)  # patch, cell, sub-patch
        return self.mlp(x.reshape(b * rows * columns, (scale * parts) ** 2, d))


def row_by_row(tokens: Tensor, scale: int, parts: int) -> Tensor:
    """Put sub-patches (B, P, (scale parts)^2, D), which go cell by cell, where they lie."""
    _, p, s, d = tokens.shape
    x = tokens.reshape(-1, p, scale, scale, parts, parts, d).transpose(3, 4)
    return x.reshape(-1, p, s, d)
