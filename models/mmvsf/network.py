"""MM-VSF: from a few images and the daily weather to the image of a chosen later day.

Stated by the paper's abstracts (v1, v2; "CI-VSF" and "KG-VSF" in v3, v4) and by notes on them: one
ViT shared over the dates; a unidirectional LSTM over daily weather, whose states at image days are
picked out; codes of the day of year and of the time passed; a transformer over the dates that only
looks back; a light forecaster that joins the last embedding with weather and time of the target
day; a light decoder. No code and no weights were ever published.

Our reading, where nothing is stated: every width and depth, the patch of 4 pixels, the sum of
image, weather and time embeddings, attention over dates for each patch by itself (crops differ from
field to field), five weather variables, ten Sentinel-2 bands, a channel that says where a pixel was
seen, that dates without any image are left out of the attention, and `residual`: the decoder gives
the change since each pixel was last seen, so that detail finer than a patch is not lost, and that
change grows from nothing with the days that have passed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Block

BANDS = (
    "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
    "swir22",
)  # fmt: skip
YEAR, MONTH = 365.25, 30.0  # days
_GROWTH = 20.0  # days in which a change comes to 63 % of what the decoder says


@dataclass(frozen=True)
class Config:
    """Sizes of the network.

    Attributes:
        bands, variables: of an image and of a day's weather.
        patch: side of a patch in pixels.
        side: of an image in patches, at most.
        width, heads, ratio: of all transformers.
        image_depth, sequence_depth: blocks within a date, and over the dates.
        residual: forecast the change and not the image itself.
    """

    bands: int = len(BANDS)
    variables: int = 5
    patch: int = 4
    side: int = 8
    width: int = 48
    heads: int = 4
    ratio: float = 2.0
    image_depth: int = 2
    sequence_depth: int = 2
    residual: bool = True


@dataclass(frozen=True)
class Sequence:
    """What the encoder makes of a series.

    Attributes:
        embeddings: (B, N, T, D) of each patch at each date.
        last: (B, N, D) of each patch at the last date that has an image.
        states: (B, days, D) of the weather.
        day: (B,) index of the last date's day.
        latest: (B, C, H, W) what each pixel was when it was last seen, else 0.
        when: (B, H, W) index of the day on which each pixel was last seen.
    """

    embeddings: Tensor
    last: Tensor
    states: Tensor
    day: Tensor
    latest: Tensor
    when: Tensor


class Attention(nn.Module):
    """Multi-head self-attention with a mask of who may look at whom."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """x (B, N, D); visible (B, N, N) bool, row looks at column."""
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None])
        return self.proj(x.transpose(1, 2).reshape(b, n, d))


class ImageEncoder(nn.Module):
    """The ViT that every date goes through."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(config.bands + 1, config.width, config.patch, config.patch)
        self.position = nn.Parameter(0.02 * torch.randn(config.width, config.side, config.side))
        self.mask_token = nn.Parameter(0.02 * torch.randn(config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, Attention(config.width, config.heads), config.ratio)
            for _ in range(config.image_depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, images: Tensor, seen: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), seen (B, H, W) in 0..1, hidden (B, N) bool, to (B, N, D)."""
        x = torch.cat([images * seen[:, None], seen[:, None]], dim=1)
        x = self.patch_embed(x)
        if hidden is not None:
            hidden = hidden.unflatten(1, x.shape[2:])[:, None]
            x = torch.where(hidden, self.mask_token[:, None, None], x)
        x = x + self.position[:, : x.shape[2], : x.shape[3]]
        x = x.flatten(2).transpose(1, 2)
        everybody = torch.ones(1, 1, 1, dtype=torch.bool, device=x.device).expand(
            x.shape[0], x.shape[1], x.shape[1])
        for block in self.blocks:
            x = block(x, everybody)
        return self.norm(x)


class TimeCode(nn.Module):
    """A day of the year and the days since the image before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.season, self.passed = nn.Linear(2, width), nn.Linear(1, width)

    def forward(self, day_of_year: Tensor, passed: Tensor) -> Tensor:
        """Both (...), in days, to (..., D)."""
        angle = 2 * math.pi * day_of_year / YEAR
        season = torch.stack([angle.sin(), angle.cos()], dim=-1)
        return self.season(season) + self.passed(passed[..., None] / MONTH)


class MMVSF(nn.Module):
    """The encoder with its forecaster and decoder."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.image_encoder = ImageEncoder(config)
        self.weather_encoder = nn.LSTM(config.variables, width, batch_first=True)
        self.time_code = TimeCode(width)
        self.sequence_encoder = nn.ModuleList(
            Block(width, Attention(width, config.heads), config.ratio)
            for _ in range(config.sequence_depth))
        self.sequence_norm = nn.LayerNorm(width)
        self.forecaster = nn.Sequential(nn.Linear(4 * width, 2 * width), nn.GELU(),
                                        nn.Linear(2 * width, width))
        self.image_decoder = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(
            2 * width, config.bands * config.patch**2))

    def encode(self, images: Tensor, seen: Tensor, weather: Tensor, days: Tensor, start: Tensor,
               hidden: Tensor | None = None) -> Sequence:
        """Embed a series.

        Args:
            images: (B, T, C, H, W) standardised; what is not seen counts as 0.
            seen: (B, T, H, W) 1 where there is a value; a date without any is as if absent.
            weather: (B, days, V) standardised, daily and without gaps.
            days: (B, T) index of each image's day in the weather, ascending.
            start: (B,) day of the year of the first day of weather, from 0.
            hidden: (B, T, N) patches that the image encoder may not see.
        """
        b, t = days.shape
        present = seen.flatten(2).amax(dim=2) > 0
        tokens = self.image_encoder(images.flatten(0, 1), seen.flatten(0, 1),
                                    None if hidden is None else hidden.flatten(0, 1))
        tokens = tokens.unflatten(0, (b, t))
        states, _ = self.weather_encoder(weather)
        at = states.gather(1, days[..., None].expand(-1, -1, states.shape[2]))
        code = self.time_code((start[:, None] + days).float(), _since_previous(days, present))
        x = tokens + (at + code)[:, :, None]
        x = x.transpose(1, 2).flatten(0, 1)  # dates of one patch are a sequence
        visible = _backwards(present).repeat_interleave(tokens.shape[2], dim=0)
        for block in self.sequence_encoder:
            x = block(x, visible)
        x = self.sequence_norm(x).unflatten(0, (b, -1))
        last = _last(present)
        own = last[:, None, None, None].expand(-1, x.shape[1], 1, x.shape[3])
        return Sequence(x, x.gather(2, own).squeeze(2), states,
                        days.gather(1, last[:, None]).squeeze(1), *_latest(images, seen, days))

    def forecast(self, sequence: Sequence, start: Tensor, target: Tensor) -> Tensor:
        """The image (B, C, H, W), standardised, of the days with index `target` (B,)."""
        width = sequence.states.shape[2]

        def state(day: Tensor) -> Tensor:
            return sequence.states.gather(1, day[:, None, None].expand(-1, 1, width))

        code = self.time_code((start + target).float(), (target - sequence.day).float())
        known = torch.cat([state(target), code[:, None], state(sequence.day)], dim=2)
        known = known.expand(-1, sequence.last.shape[1], -1)
        tokens = self.forecaster(torch.cat([sequence.last, known], dim=2))
        image = self.paint(tokens)
        if not self.config.residual:
            return image
        passed = (target[:, None, None] - sequence.when).float()
        return sequence.latest + (1 - torch.exp(-passed / _GROWTH))[:, None] * image

    def paint(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) of a square image to (B, C, H, W)."""
        side, patch = math.isqrt(tokens.shape[1]), self.config.patch
        pixels = self.image_decoder(tokens).reshape(-1, side, side, self.config.bands, patch, patch)
        return pixels.permute(0, 3, 1, 4, 2, 5).reshape(
            -1, self.config.bands, side * patch, side * patch)


def _backwards(present: Tensor) -> Tensor:
    """(B, T, T): each date looks at itself and at the dates before it that have an image."""
    t = present.shape[1]
    order = torch.arange(t, device=present.device)
    before = order[:, None] >= order
    itself = order[:, None] == order
    return (before & present[:, None]) | itself


def _last(present: Tensor) -> Tensor:
    """(B,) index of the last date with an image, the first one where there is none."""
    order = torch.arange(present.shape[1], device=present.device)
    return (present * (order + 1)).amax(dim=1).sub(1).clamp(min=0)


def _latest(images: Tensor, seen: Tensor, days: Tensor) -> tuple[Tensor, Tensor]:
    """The last value (B, C, H, W) of each pixel and its day (B, H, W).

    A pixel that was never seen has the value 0 and the first image's day.
    """
    order = torch.arange(1, images.shape[1] + 1, device=images.device)[:, None, None]
    rank = (seen > 0) * order
    at = rank.argmax(dim=1)
    value = images.gather(1, at[:, None, None].expand(-1, 1, images.shape[2], -1, -1)).squeeze(1)
    when = days.gather(1, at.flatten(1)).unflatten(1, at.shape[1:])
    return value * (rank.amax(dim=1) > 0)[:, None], when


def _since_previous(days: Tensor, present: Tensor) -> Tensor:
    """(B, T) days since the date before that has an image; 0 where there is none."""
    order = torch.arange(days.shape[1], device=days.device)
    before = (order[:, None] > order) & present[:, None]
    # the largest earlier day; a day is never negative
    previous = torch.where(before, days[:, None], torch.full_like(days[:, None], -1)).amax(dim=2)
    return torch.where(previous >= 0, days - previous, torch.zeros_like(days)).float()

