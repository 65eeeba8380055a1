"""MAESTRO's encoder (Labatie et al., "MAESTRO: Masked AutoEncoders for Multimodal, Multitemporal,
and Multispectral Earth Observation Data", WACV 2026, arXiv 2508.10894), with the official names.

Every image of every input becomes a grid of tokens with a position and a date; a fusion mode says
which tokens form a sequence and which transformer reads it; a last transformer may read them all.
The decoder of the pretraining stands in `objective.py`, heads in `heads.py`.

Shapes: B windows, T dates, G token groups, E = G T entries (group by group), L = g x g places, D
width, N tokens of a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layout import S2_NAIP, Input, Layout

FUSIONS = ("shared", "monotemp", "mod", "group")


@dataclass(frozen=True)
class Config:
    """Sizes of a MAESTRO and the layout it is built for.

    Attributes:
        width, depth, heads, head_width, mlp_ratio: of the encoder.
        decoder_width, decoder_depth, decoder_heads, decoder_head_width: of the decoder.
        decoder_mlp_ratio: hidden width of the decoder's MLP over the encoder's D, as in the
            release.
        layout: inputs and targets.
        fusion: "shared" (every image alone, one encoder), "monotemp" (every image alone, an
            encoder an input), "mod" (all dates of an input), "group" (all inputs of a group).
        shared_depth: last blocks of the encoder that read all sequences together; needs "mod" or
            "group".
        head: "attentive" or "linear", how heads sum up tokens.
        interpolation: how rasters are brought to their inputs' sizes.
        position_factor, date_factor: the codes are multiplied by.
        date_width: channels of the date code, at the end, where the position code is zero.
    """

    width: int
    depth: int
    heads: int
    mlp_ratio: int
    decoder_depth: int
    head_width: int = 64
    decoder_width: int = 512
    decoder_heads: int = 16
    decoder_head_width: int = 32
    decoder_mlp_ratio: int = 4
    layout: Layout = S2_NAIP
    fusion: str = "group"
    shared_depth: int = 3
    head: str = "attentive"
    interpolation: str = "nearest"
    position_factor: float = 1.0
    date_factor: float = 1.0
    date_width: int = 8

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.fusion not in FUSIONS:
            raise ValueError(f"MAESTRO has no fusion '{self.fusion}': use {', '.join(FUSIONS)}")
        if self.shared_depth and self.fusion in ("shared", "monotemp"):
            raise ValueError(f"Shared blocks need the fusion 'mod' or 'group', not '{self.fusion}'")


SIZES = {
    "tiny": Config(192, 12, 3, 2, 1),
    "small": Config(384, 12, 6, 2, 2),
    "medium": Config(768, 12, 12, 4, 3),
    "large": Config(1024, 24, 16, 4, 4),
}
"""The official sizes; medium is the published "base"."""


# --- which tokens form a sequence -----------------------------------------------------------------


@dataclass(frozen=True)
class Fusion:
    """Tokens of inputs to sequences and back, for one layout and mode."""

    layout: Layout
    mode: str

    def sequence(self, name: str) -> str:
        """The sequence that an input belongs to."""
        return self.layout.inputs[name].group if self.mode == "group" else name

    def reader(self, sequence: str) -> str:
        """The transformer that reads a sequence."""
        return "shared" if self.mode == "shared" else sequence

    @property
    def readers(self) -> list[str]:
        """All transformers, in the order in which their inputs come."""
        return list(dict.fromkeys(self.reader(self.sequence(n)) for n in self.layout.inputs))

    def join(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs' (B, E, L, ...) to sequences' (B, N, ...), or (B E, L, ...) without dates."""
        if self.mode in ("shared", "monotemp"):
            return {name: x.flatten(0, 1) for name, x in tokens.items()}
        parts: dict[str, list[Tensor]] = {}
        for name, x in tokens.items():
            parts.setdefault(self.sequence(name), []).append(x.flatten(1, 2))
        return {name: torch.cat(given, dim=1) for name, given in parts.items()}

    def split(self, sequences: Mapping[str, Tensor], entries: Mapping[str, int]
              ) -> dict[str, Tensor]:
        """Back to (B, E, L, ...); entries: E of each input, in the order of the layout."""
        if self.mode in ("shared", "monotemp"):
            return {name: sequences[name].unflatten(0, (-1, e)) for name, e in entries.items()}
        tokens: dict[str, Tensor] = {}
        for sequence, x in sequences.items():
            names = [name for name in entries if self.sequence(name) == sequence]
            sizes = [entries[name] * self.layout.inputs[name].grid ** 2 for name in names]
            for name, part in zip(names, x.split(sizes, dim=1), strict=True):
                tokens[name] = part.unflatten(1, (entries[name], -1))
        return {name: tokens[name] for name in entries}


# --- codes ----------------------------------------------------------------------------------------


def position_code(width: int, side: int, grid: int, date_width: int) -> Tensor:
    """(g g, D): sines and cosines of column and row on a fine grid, averaged over each token.

    Args:
        width: D, of which the last `date_width` stay zero.
        side: of the fine grid; brought to a multiple of g first where it is none.
        grid: g.
    """
    count = (width - date_width) // 4
    frequency = 1.0 / 10000 ** (torch.arange(count) / (count - 1))
    angle = torch.arange(side)[:, None] * frequency
    code = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows, columns = code[:, None].expand(-1, side, -1), code.expand(side, -1, -1)
    fine = torch.cat([columns, rows, torch.zeros(side, side, date_width)], dim=2).permute(2, 0, 1)
    if side % grid:
        sides = (grid * round(side / grid),) * 2
        fine = functional.interpolate(fine[None], sides, mode="bilinear")[0]
    step = fine.shape[-1] // grid
    blocks = fine.reshape(width, grid, step, grid, step)
    return blocks.mean(dim=(2, 4)).flatten(1).T


def date_code(dates: Tensor, reference: Tensor, width: int, date_width: int) -> Tensor:
    """(B, T, D): years from the reference date, season and time of day in the last channels.

    Args:
        dates: (B, T, 3) year, day of the year from 1, hour.
        reference: (B, 1, 3).
    """
    dates, reference = dates.float(), reference.float()
    season = dates[..., 1:2] / 365.25
    away = (dates[..., :1] + season) - (reference[..., :1] + reference[..., 1:2] / 365.25)
    season, hour = 2 * math.pi * season, 2 * math.pi * (dates[..., 2:] / 24.0)
    away = away.expand(-1, -1, date_width - 4)
    code = torch.cat([away, season.sin(), season.cos(), hour.sin(), hour.cos()], dim=2)
    return functional.pad(code, (width - date_width, 0))


# --- patches --------------------------------------------------------------------------------------


class BandsToTokens(nn.Module):
    """Bands of one token group: a convolution of patches, normed over the whole image."""

    def __init__(self, bands: int, width: int, patch: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bands, width, patch, patch)
        self.norm = nn.GroupNorm(1, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C, H, W) to (B, T, L, D)."""
        y = self.norm(self.conv(x.flatten(0, 1)))
        return y.flatten(2).transpose(1, 2).reshape(*x.shape[:2], -1, y.shape[1])


class Patchify(nn.Module):
    """All bands of an input, a token for each group."""

    def __init__(self, given: Input, width: int) -> None:
        super().__init__()
        self.bands = given.bands
        self.patchify_bands = nn.ModuleList(
            BandsToTokens(bands, width, given.patch) for bands in given.bands
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C, H, W) to (B, G T, L, D)."""
        parts = zip(self.patchify_bands, x.split(self.bands, dim=2), strict=True)
        return torch.cat([patchify(part) for patchify, part in parts], dim=1)


# --- transformer ----------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head self-attention behind its norm."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        single = heads == 1 and head_width == width
        self.to_out = nn.Sequential(*[] if single else [nn.Linear(heads * head_width, width)])

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """x (B, N, D); visible (B, N) bool: which tokens are keys, None for all."""
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.to_qkv(self.norm(x)).chunk(3, dim=2)
        )
        keys = None if visible is None else visible[:, None, None]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers behind a norm."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(  # the release has a dropout, of 0, at place 3
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Identity(),
            nn.Linear(hidden, width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same."""
        return self.net(x)


class Transformer(nn.Module):
    """Pre-norm blocks and a last norm."""

    def __init__(self, width: int, depth: int, heads: int, head_width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([Attention(width, heads, head_width), FeedForward(width, hidden)])
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """x (B, N, D); visible (B, N) bool or None."""
        for attention, feedforward in self.layers:
            x = x + attention(x, visible)
            x = x + feedforward(x)
        return self.norm(x)


# --- encoder --------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """Rasters and dates to tokens, tokens to features."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.fusion = Fusion(config.layout, config.fusion)
        self.patch_embed = nn.ModuleDict()
        for given in config.layout.inputs.values():
            if given.embedding not in self.patch_embed:
                self.patch_embed[given.embedding] = Patchify(given, config.width)
        sizes = (config.heads, config.head_width, config.width * config.mlp_ratio)
        self.encoder = nn.ModuleDict({
            name: Transformer(config.width, config.depth - config.shared_depth, *sizes)
            for name in self.fusion.readers
        })  # fmt: skip
        self.encoder_inter = (
            Transformer(config.width, config.shared_depth, *sizes) if config.shared_depth else None
        )
        for name, given in config.layout.inputs.items():
            code = position_code(
                config.width, config.layout.position_grid, given.grid, config.date_width
            )
            self.register_buffer(f"position_{name}", code * config.position_factor,
                                 persistent=False)  # fmt: skip

    def rasters(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each input (B, T, C, image, image), resized, and elevation made relative."""
        found = {}
        for name, given in self.config.layout.inputs.items():
            x = inputs[name]
            if x.shape[-1] != given.image or x.shape[-2] != given.image:
                images = functional.interpolate(
                    x.flatten(0, 1), (given.image,) * 2, mode=self.config.interpolation
                )
                x = images.unflatten(0, x.shape[:2])
            if given.elevation:
                x = torch.cat([x[:, :, :1], 30 * (x[:, :, :1] - x[:, :, 1:])], dim=2)
            found[name] = x
        return found

    def embed(self, rasters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each input's tokens (B, E, L, D) without codes."""
        return {
            name: self.patch_embed[self.config.layout.inputs[name].embedding](x)
            for name, x in rasters.items()
        }

    def placed(self, tokens: Mapping[str, Tensor], inputs: Mapping[str, Tensor]
               ) -> dict[str, Tensor]:
        """The tokens with the codes of their places and dates."""
        found = {}
        for name, x in tokens.items():
            when = dates_of(inputs, name, self.config, self.config.width)
            found[name] = x + self.get_buffer(f"position_{name}") + when
        return found

    def encode(
        self, sequences: Mapping[str, Tensor], visible: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Sequences (B, N, D), whole or with tokens left out, to features of the same shapes.

        Args:
            visible: sequence to (B, N) bool, which tokens exist; None for all.
        """
        found = {}
        for name, x in sequences.items():
            keys = None
            if visible is not None:  # where nothing exists all is read, and left out later
                keys = visible[name] | ~visible[name].any(dim=1, keepdim=True)
            found[name] = self.encoder[self.fusion.reader(name)](x, keys)
        if self.encoder_inter is None:
            return found
        everyone = None if visible is None else torch.cat([visible[n] for n in found], dim=1)
        mixed = self.encoder_inter(torch.cat(list(found.values()), dim=1), everyone)
        parts = mixed.split([x.shape[1] for x in found.values()], dim=1)
        return dict(zip(found, parts, strict=True))

    def forward(
        self, inputs: Mapping[str, Tensor], visible: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Features of each input (B, E, L, D).

        Args:
            inputs: `<input>` (B, T, C, H, W), scaled; `<input>_dates` (B, T, 3) year, day of the
                year, hour; `ref_date` (B, 1, 3).
            visible: input to (B, E, L) bool, which tokens exist; None for all.
        """
        tokens = self.placed(self.embed(self.rasters(inputs)), inputs)
        known = self.fusion.join(visible) if visible is not None else None
        features = self.encode(self.fusion.join(tokens), known)
        return self.fusion.split(features, {name: x.shape[1] for name, x in tokens.items()})


def dates_of(inputs: Mapping[str, Tensor], name: str, config: Config, width: int) -> Tensor:
    """The date code (B, E, 1, width) of an input, repeated for its token groups."""
    code = date_code(inputs[f"{name}_dates"], inputs["ref_date"], width, config.date_width)
    groups = len(config.layout.inputs[name].bands)
    return code.repeat(1, groups, 1)[:, :, None] * config.date_factor


def build(config: Config) -> Encoder:
    """The network of a configuration."""
    return Encoder(config)


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of its tensors, without memory for them."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in build(config).state_dict().items()}
