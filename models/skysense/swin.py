"""The high-resolution branch: Swin Transformer V2 "huge" (CVPR 2024, section 3.1).

Kept because the weights depend on it: merging gathers its 2 x 2 neighbours channel by channel and
norms after the linear layer; tokens of different regions get -100, not -inf; padded tokens are
attended to; windows do not shift on a map as small as a window. Stochastic depth is left out.

Shapes: N images, h x w tokens of a map, L = h w, C channels, W window side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .transformer import FeedForward

Size = tuple[int, int]  # (h, w)
_APART = -100.0  # added to the logits of tokens that only the roll made neighbours
_STAGES = 4


@dataclass(frozen=True)
class SwinConfig:
    """Sizes of a Swin V2."""

    channels: int  # of the image
    width: int  # of stage 0; doubles with every stage
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    windows: tuple[int, ...] = (8,) * _STAGES
    pretrained_windows: tuple[int, ...] = (0,) * _STAGES  # 0: the position bias is not rescaled
    extra_norm: int = 6  # a norm after every so many blocks of a stage; 0 for none
    outputs: tuple[int, ...] = (0, 1, 2, 3)  # stages whose maps are given, each with its norm
    pad_small_map: bool = False  # also take maps smaller than a window, and shift on equal ones
    patch: int = 4

    def __post_init__(self) -> None:
        """Refuse lists of different lengths and heads that do not fit."""
        lists = (self.depths, self.heads, self.windows, self.pretrained_windows)
        if {len(x) for x in lists} != {_STAGES}:
            raise ValueError(f"a Swin V2 has {_STAGES} stages: {lists} do not all list as many")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ValueError(f"{heads} heads do not divide a Swin V2 stage of width {width}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the four stages."""
        return tuple(self.width * 2**stage for stage in range(_STAGES))


HUGE = SwinConfig(3, 352, (2, 2, 18, 2), (8, 16, 32, 64))


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """(N, C, H, W) with zeros at the right and bottom, so that both sides divide."""
    return functional.pad(x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple))


class PatchEmbedding(nn.Module):
    """Patches of an image to tokens, normed."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.projection = nn.Conv2d(channels, width, patch, patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> tuple[Tensor, Size]:
        """(N, channels, H, W) to (N, L, C) and (h, w)."""
        x = self.projection(pad_to(image, self.patch))
        return self.norm(x.flatten(2).transpose(1, 2)), (int(x.shape[2]), int(x.shape[3]))


class PatchMerging(nn.Module):
    """2 x 2 tokens to one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(2 * width)

    def forward(self, x: Tensor, size: Size) -> tuple[Tensor, Size]:
        """(N, L, C) to (N, L / 4, 2C); odd sides get a row or column of zeros."""
        channels = x.shape[-1]
        x = x.view(-1, *size, channels)
        x = functional.pad(x, (0, 0, 0, size[1] % 2, 0, size[0] % 2))
        h, w = (size[0] + 1) // 2, (size[1] + 1) // 2
        x = x.view(-1, h, 2, w, 2, channels).permute(0, 1, 3, 5, 2, 4)
        return self.norm(self.reduction(x.reshape(-1, h * w, 4 * channels))), (h, w)


class WindowAttention(nn.Module):
    """Cosine attention inside a window, with a learnt function of the offset as bias."""

    def __init__(self, width: int, heads: int, window: int, pretrained: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))  # keys have none
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, heads, bias=False)
        )
        self.proj = nn.Linear(width, width)
        offset = torch.arange(1 - window, window, dtype=torch.float32)
        offset = 8 * offset / max((pretrained or window) - 1, 1)
        offset = offset.sign() * torch.log2(offset.abs() + 1) / math.log2(8)
        table = torch.stack(torch.meshgrid(offset, offset, indexing="ij"), dim=-1)[None]
        place = torch.arange(window)
        steps = place[:, None] - place + window - 1  # (W, W), 0 .. 2W - 2
        index = steps[:, None, :, None] * (2 * window - 1) + steps[None, :, None, :]
        self.register_buffer("relative_coords_table", table, persistent=False)
        self.register_buffer(
            "relative_position_index", index.reshape(window**2, window**2), persistent=False
        )

    def bias(self) -> Tensor:
        """(heads, W^2, W^2), between 0 and 16."""
        table = self.cpb_mlp(self.relative_coords_table).view(-1, self.heads)
        return 16 * torch.sigmoid(table[self.relative_position_index].permute(2, 0, 1))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N windows, W^2, C) to the same; `mask` (windows, W^2, W^2) is added to the logits."""
        tokens, width = self.window**2, self.qkv.in_features
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv = functional.linear(x, self.qkv.weight, bias)
        qkv = qkv.view(-1, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        scale = self.logit_scale.clamp(max=math.log(100)).exp()
        logits = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(2, 3)
        logits = logits * scale + self.bias()
        if mask is not None:
            logits = logits.view(-1, len(mask), self.heads, tokens, tokens) + mask[:, None]
            logits = logits.view(-1, self.heads, tokens, tokens)
        mixed = (logits.softmax(dim=-1) @ v).transpose(1, 2)
        return self.proj(mixed.reshape(-1, tokens, width))


def windows_of(x: Tensor, window: int) -> Tensor:
    """(N, h, w, C) to (N windows, W^2, C); both sides divide."""
    h, w, channels = x.shape[1:]
    x = x.view(-1, h // window, window, w // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window**2, channels)


def map_of(x: Tensor, size: Size, window: int) -> Tensor:
    """The inverse of `windows_of`."""
    rows, cols = size[0] // window, size[1] // window
    x = x.view(-1, rows, cols, window, window, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, *size, x.shape[-1])


def shift_mask(size: Size, window: int, shift: int) -> np.ndarray:
    """(windows, W^2, W^2) float32: 0 between tokens of one of nine regions, -100 between others."""
    region = np.zeros(size, np.int64)
    bounds = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for i, rows in enumerate(bounds):
        for j, cols in enumerate(bounds):
            region[rows, cols] = 3 * i + j
    region = region.reshape(size[0] // window, window, size[1] // window, window)
    region = region.transpose(0, 2, 1, 3).reshape(-1, window**2)
    return np.where(region[:, :, None] != region[:, None], _APART, 0).astype(np.float32)


class ShiftedWindows(nn.Module):
    """Attention in windows, which odd blocks lay half a window further."""

    def __init__(self, width: int, heads: int, window: int, pretrained: int, shift: int,
                 pad_small_map: bool) -> None:
        super().__init__()
        self.window, self.shift, self.pad_small_map = window, shift, pad_small_map
        self.w_msa = WindowAttention(width, heads, window, pretrained)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(N, L, C) to (N, L, C).

        Raises:
            ValueError: the map is smaller than a window.
        """
        shift, window, (h, w) = self.shift, self.window, size
        if not self.pad_small_map:
            if min(size) < window:
                raise ValueError(
                    f"a map of {h} x {w} tokens is smaller than SkySense's window of {window}: "
                    "give a larger image (256 pixels a side for the official sizes)"
                )
            shift = 0 if min(size) == window else shift
        channels = x.shape[-1]
        x = x.view(-1, h, w, channels)
        x = functional.pad(x, (0, 0, 0, -w % window, 0, -h % window))
        padded = (h + -h % window, w + -w % window)
        mask = None
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
            mask = torch.from_numpy(shift_mask(padded, window, shift)).to(x.device)
        x = map_of(self.w_msa(windows_of(x, window), mask), padded, window)
        if shift:
            x = torch.roll(x, (shift, shift), (1, 2))
        return x[:, :h, :w].reshape(-1, h * w, channels)


class Block(nn.Module):
    """Attention and feed-forward, each normed after its branch; some blocks norm their output."""

    def __init__(self, attention: ShiftedWindows, width: int, extra_norm: bool) -> None:
        super().__init__()
        self.attn = attention
        self.norm1 = nn.LayerNorm(width)
        self.ffn = FeedForward(width, 4 * width)
        self.norm2 = nn.LayerNorm(width)
        if extra_norm:
            self.norm3 = nn.LayerNorm(width)
        self.extra_norm = extra_norm

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(N, L, C) to (N, L, C)."""
        x = x + self.norm1(self.attn(x, size))
        x = x + self.norm2(self.ffn(x))
        return self.norm3(x) if self.extra_norm else x


class Stage(nn.Module):
    """Merging, if it is not the first stage, and blocks."""

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        width, window = config.widths[stage], config.windows[stage]
        self.downsample = PatchMerging(width // 2) if stage else None
        self.blocks = nn.ModuleList()
        for block in range(config.depths[stage]):
            attention = ShiftedWindows(
                width, config.heads[stage], window, config.pretrained_windows[stage],
                shift=window // 2 if block % 2 else 0, pad_small_map=config.pad_small_map,
            )  # fmt: skip
            extra = config.extra_norm > 0 and (block + 1) % config.extra_norm == 0
            self.blocks.append(Block(attention, width, extra))

    def forward(self, x: Tensor, size: Size) -> tuple[Tensor, Size]:
        """(N, L, C) of the stage before to this stage's tokens and size."""
        if self.downsample is not None:
            x, size = self.downsample(x, size)
        for block in self.blocks:
            x = block(x, size)
        return x, size


class SwinV2(nn.Module):
    """Image to maps of stride 4, 8, 16, 32 (those that the configuration asks for)."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config.channels, config.width, config.patch)
        self.stages = nn.ModuleList(Stage(config, stage) for stage in range(_STAGES))
        for stage in config.outputs:
            self.add_module(f"norm{stage}", nn.LayerNorm(config.widths[stage]))

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """(N, channels, H, W), normalised, to {stage: (N, C, h, w)}."""
        maps = {}
        x, size = self.patch_embed(image)
        for i, stage in enumerate(self.stages):
            x, size = stage(x, size)
            if i in self.config.outputs:
                maps[i] = self.output(i, x, size)
        return maps

    def output(self, stage: int, x: Tensor, size: Size) -> Tensor:
        """Tokens (N, L, C) of a stage as its normed map (N, C, h, w)."""
        x = getattr(self, f"norm{stage}")(x)
        return x.transpose(1, 2).reshape(-1, x.shape[-1], *size)
