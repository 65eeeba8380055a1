"""The encoder of Presto (Tseng et al., arXiv 2304.14065), with the official weights' names.

A token is one (month, channel group) of one pixel; location and terrain have one token each, and a
month's Dynamic World class has one. Masked tokens are taken out of the sequence.

Sizes in shapes: B pixels, T steps, N = 9 T + 2 tokens, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Block, month_table

# Channel groups in the order of their embeddings: name to columns of x (section 2 of the paper).
GROUPS = {
    "S1": (0, 1), "S2_RGB": (2, 3, 4), "S2_Red_Edge": (5, 6, 7), "S2_NIR_10m": (8,),
    "S2_NIR_20m": (9,), "S2_SWIR": (10, 11), "ERA5": (12, 13), "SRTM": (14, 15), "NDVI": (16,),
}  # fmt: skip
DYNAMIC_WORLD_CLASSES = 9
DYNAMIC_WORLD_MISSING = 9  # the table has a row for it, which is never seen


@dataclass(frozen=True)
class Config:
    """Sizes of encoder and decoder, named as in the official constructor."""

    encoder_embedding_size: int = 128
    channel_embed_ratio: float = 0.25
    month_embed_ratio: float = 0.25
    encoder_depth: int = 2
    mlp_ratio: float = 4
    encoder_num_heads: int = 8
    decoder_embedding_size: int = 128
    decoder_depth: int = 2
    decoder_num_heads: int = 8
    max_sequence_length: int = 24

    @property
    def channel_width(self) -> int:
        """Of the channel embeddings, which encoder and decoder share."""
        return int(self.encoder_embedding_size * self.channel_embed_ratio)

    @property
    def month_width(self) -> int:
        """Of the encoder's month table; the position takes the rest."""
        return int(self.encoder_embedding_size * self.month_embed_ratio)


OFFICIAL = {"presto": Config(), "presto-worldcereal": Config(max_sequence_length=72)}


def position_table(length: int, width: int) -> Tensor:
    """(1, length, width): sine in even columns, cosine in odd ones, base 1000."""
    column = torch.arange(width)
    angle = torch.arange(length)[:, None] / 1000 ** (2 * (column // 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())[None]


def encodings(months: Tensor, channels: Tensor, positions: Tensor) -> Tensor:
    """What is added to all tokens: month, channel and position; zeros for the location.

    Args:
        months: (B, T, a), of each step.
        channels: (10, c), of each group and of Dynamic World.
        positions: (1, T, b).

    Returns:
        (B, N, a + c + b).
    """
    b, steps, _ = months.shape
    positions = positions.expand(b, -1, -1)

    def of_group(channel: Tensor, months: Tensor, positions: Tensor) -> Tensor:
        return torch.cat([months, channel.expand(*months.shape[:2], -1), positions], dim=2)

    parts = [torch.zeros_like(of_group(channels[0], months[:, :1], positions[:, :1]))]
    for group, name in enumerate((*GROUPS, "Dynamic World")):
        if name == "SRTM":  # terrain has no date
            none = torch.zeros_like(months[:, :1]), torch.zeros_like(positions[:, :1])
            parts.append(of_group(channels[group], *none))
        else:
            parts.append(of_group(channels[group], months, positions))
    return torch.cat(parts, dim=1)


class Attention(nn.Module):
    """Multi-head self-attention with one joint projection to queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """x (B, N, D); visible (B, N) bool: which tokens are keys."""
        b, n, d = x.shape
        parts = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind()
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None])
        return self.proj(x.transpose(1, 2).flatten(2))


@dataclass(frozen=True)
class Visible:
    """The tokens of a batch without the masked ones; n is the longest row.

    Attributes:
        tokens: (B, n, D), each row filled up behind its tokens.
        real: (B, n) bool: False where a row is filled up.
        order: (B, N) int64: where each token came from; masked ones stand behind.
    """

    tokens: Tensor
    real: Tensor
    order: Tensor

    @property
    def place(self) -> Tensor:
        """(B, n, 1): the position of each row in the full sequence."""
        return self.order[:, : self.tokens.shape[1], None]


def visible_first(x: Tensor, masked: Tensor) -> Visible:
    """Take masked tokens (B, N) bool out of x (B, N, D): those that stay keep their order."""
    n = x.shape[1]
    order = (masked.long() * n + torch.arange(n, device=x.device)).argsort(dim=1)
    kept = order[:, : (~masked).sum(dim=1).max()]  # a tensor, so that tracing keeps it free
    tokens = x.gather(1, kept[:, :, None].expand(-1, -1, x.shape[2]))
    return Visible(tokens, ~masked.gather(1, kept), order)


def initialise(module: nn.Module) -> None:
    """Linears start Xavier-uniform with bias 0; all else as torch has it (for `Module.apply`)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


class Encoder(nn.Module):
    """Section 3 of the paper: tokens, encodings, blocks, mean of the visible tokens, norm."""

    def __init__(self, config: Config = OFFICIAL["presto"]) -> None:
        super().__init__()
        self.config = config
        width, heads = config.encoder_embedding_size, config.encoder_num_heads
        position = width - config.channel_width - config.month_width
        self.eo_patch_embed = nn.ModuleDict(
            {name: nn.Linear(len(columns), width) for name, columns in GROUPS.items()}
        )
        self.dw_embed = nn.Embedding(DYNAMIC_WORLD_CLASSES + 1, width)
        self.latlon_embed = nn.Linear(3, width)
        self.blocks = nn.ModuleList(
            Block(width, Attention(width, heads), config.mlp_ratio)
            for _ in range(config.encoder_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.pos_embed = nn.Parameter(position_table(config.max_sequence_length, position), False)
        self.month_embed = nn.Embedding.from_pretrained(
            month_table(config.month_width), freeze=True
        )
        self.channel_embed = nn.Embedding(len(GROUPS) + 1, config.channel_width)
        self.apply(initialise)

    def tokens(
        self, x: Tensor, dynamic_world: Tensor, latlons: Tensor, mask: Tensor, month: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All tokens with their encodings (B, N, D), and which are masked (B, N)."""
        lat, lon = (latlons * (math.pi / 180)).unbind(dim=1)
        place = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)
        tokens = [self.latlon_embed(place)[:, None]]
        masked = [torch.zeros_like(dynamic_world[:, :1], dtype=torch.bool)]
        for name, columns in GROUPS.items():
            here = slice(0, 1) if name == "SRTM" else slice(None)
            of = slice(columns[0], columns[-1] + 1)
            tokens.append(self.eo_patch_embed[name](x[:, here, of]))
            masked.append((mask[:, here, of] > 0).any(dim=2))
        tokens.append(self.dw_embed(dynamic_world))
        masked.append(dynamic_world == DYNAMIC_WORLD_MISSING)
        added = encodings(
            self.month_embed(month), self.channel_embed.weight, self.pos_embed[:, : x.shape[1]]
        )
        return torch.cat(tokens, dim=1) + added, torch.cat(masked, dim=1)

    def visible(
        self,
        x: Tensor,
        dynamic_world: Tensor,
        latlons: Tensor,
        mask: Tensor | None = None,
        month: Tensor | int = 0,
    ) -> Visible:
        """The visible tokens behind the last block, not normed.

        Args:
            x: (B, T, 17) normalised.
            dynamic_world: (B, T) int64, 9 = missing.
            latlons: (B, 2) degrees.
            mask: (B, T, 17), 1 = masked, and so is the group's token; None = nothing is.
            month: (B, T) of each step, or the first step's (B,) or int; January = 0.
        """
        mask = torch.zeros_like(x) if mask is None else mask
        seen = visible_first(*self.tokens(x, dynamic_world, latlons, mask, each_month(month, x)))
        tokens = seen.tokens
        for block in self.blocks:
            tokens = block(tokens, seen.real)
        return Visible(tokens, seen.real, seen.order)

    def forward(
        self,
        x: Tensor,
        dynamic_world: Tensor,
        latlons: Tensor,
        mask: Tensor | None = None,
        month: Tensor | int = 0,
    ) -> Tensor:
        """Features of pixels (B, D): mean of the visible tokens first, norm after.

        The arguments are those of `visible`.
        """
        seen = self.visible(x, dynamic_world, latlons, mask, month)
        share = seen.real / seen.real.sum(dim=1, keepdim=True)
        return self.norm((seen.tokens * share[:, :, None]).sum(dim=1))

    def by_step(
        self,
        x: Tensor,
        dynamic_world: Tensor,
        latlons: Tensor,
        mask: Tensor | None = None,
        month: Tensor | int = 0,
    ) -> Tensor:
        """Features of each step (B, T, D) as WorldCereal pools them; 0 where nothing is visible.

        Location and Dynamic World take no part, terrain counts in every step. The arguments are
        those of `visible`.
        """
        seen = self.visible(x, dynamic_world, latlons, mask, month)
        b, steps, _ = x.shape
        width = seen.tokens.shape[2]
        tokens = seen.tokens.new_zeros(b, seen.order.shape[1], width)
        tokens = tokens.scatter(1, seen.place.expand(-1, -1, width), seen.tokens)
        there = torch.zeros_like(seen.order, dtype=torch.bool)
        there = there.scatter(1, seen.place[:, :, 0], seen.real)
        sums, count, first = 0, 0, 1  # the location stands at 0
        for name in GROUPS:
            length = 1 if name == "SRTM" else steps
            share = there[:, first : first + length, None].float()
            sums = sums + tokens[:, first : first + length] * share
            count = count + share
            first += length
        return torch.where(count > 0, self.norm(sums / count.clamp_min(1)), 0.0)


def each_month(month: Tensor | int, x: Tensor) -> Tensor:
    """(B, T): the month of each step of x (B, T, 17), from each or from that of the first step."""
    if not isinstance(month, Tensor) or month.dim() < 2:
        first = torch.as_tensor(month, device=x.device).reshape(-1, 1)
        month = (first + torch.arange(x.shape[1], device=x.device)) % 12
    return month.expand(x.shape[0], -1)


def load(path: str | Path, config: Config = OFFICIAL["presto"]) -> Encoder:
    """The encoder with an official checkpoint's weights, strictly, in evaluation mode."""
    weights = torch.load(path, map_location="cpu", weights_only=True)
    encoder = Encoder(config)
    prefix = "encoder."
    encoder.load_state_dict(
        {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}, strict=True
    )
    return encoder.eval()
