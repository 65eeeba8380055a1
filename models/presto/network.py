"""The encoder of Presto (Tseng et al., arXiv 2304.14065), with the official weights' names.

A token is one (month, channel group) of one pixel; location and terrain have one token each, and a
month's Dynamic World class has one. Masked tokens are taken out of the sequence.
"""

from __future__ import annotations

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
DYNAMIC_WORLD_GROUP = 9
DYNAMIC_WORLD_MISSING = 9


def position_table(length: int, width: int) -> Tensor:
    """(1, length, width): sine in even columns, cosine in odd ones, base 1000."""
    column = torch.arange(width)
    angle = torch.arange(length)[:, None] / 1000 ** (2 * (column // 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())[None]


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
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None])
        return self.proj(x.transpose(1, 2).reshape(b, n, d))


def visible_first(x: Tensor, masked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take masked tokens out: those that stay move to the front, in their order.

    Args:
        x: (B, N, D).
        masked: (B, N) bool.

    Returns:
        Tokens (B, n, D) with n the longest row, visible (B, n) bool, order (B, N): where each came
        from.
    """
    order = masked.int().argsort(dim=1, stable=True)
    longest = int((~masked).sum(dim=1).max())
    kept = order[:, :longest]
    tokens = x.gather(1, kept[:, :, None].expand(-1, -1, x.shape[2]))
    return tokens, ~masked.gather(1, kept), order


class Encoder(nn.Module):
    """Section 3 of the paper: tokens, encodings, blocks, mean of the visible tokens, norm."""

    def __init__(
        self,
        encoder_embedding_size: int = 128,
        channel_embed_ratio: float = 0.25,
        month_embed_ratio: float = 0.25,
        encoder_depth: int = 2,
        mlp_ratio: float = 4,
        encoder_num_heads: int = 8,
        max_sequence_length: int = 24,
    ) -> None:
        super().__init__()
        width = encoder_embedding_size
        channel, month = int(width * channel_embed_ratio), int(width * month_embed_ratio)
        position = width - channel - month
        self.eo_patch_embed = nn.ModuleDict(
            {name: nn.Linear(len(columns), width) for name, columns in GROUPS.items()}
        )
        self.dw_embed = nn.Embedding(DYNAMIC_WORLD_MISSING + 1, width)
        self.latlon_embed = nn.Linear(3, width)
        self.blocks = nn.ModuleList(
            Block(width, Attention(width, encoder_num_heads), mlp_ratio)
            for _ in range(encoder_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.pos_embed = nn.Parameter(position_table(max_sequence_length, position), False)
        self.month_embed = nn.Embedding.from_pretrained(month_table(month), freeze=True)
        self.channel_embed = nn.Embedding(len(GROUPS) + 1, channel)

    def tokens(
        self, x: Tensor, dynamic_world: Tensor, latlons: Tensor, mask: Tensor, month: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All 9 T + 2 tokens with their encodings (B, N, D), and which are masked (B, N)."""
        b, steps, _ = x.shape
        time = torch.cat(
            [self.month_embed(month), self.pos_embed[:, :steps].expand(b, -1, -1)], dim=2
        )  # month, position

        def encoding(group: int, when: Tensor) -> Tensor:
            """Month, channel, position, in this order."""
            channel = self.channel_embed.weight[group].expand(*when.shape[:2], -1)
            width = self.month_embed.embedding_dim
            return torch.cat([when[:, :, :width], channel, when[:, :, width:]], dim=2)

        lat, lon = torch.deg2rad(latlons).unbind(dim=1)
        place = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)
        tokens = [self.latlon_embed(place)[:, None]]
        masked = [torch.zeros(b, 1, dtype=torch.bool)]
        for group, (name, columns) in enumerate(GROUPS.items()):
            here = slice(0, 1) if name == "SRTM" else slice(None)
            when = torch.zeros_like(time[:, :1]) if name == "SRTM" else time
            values = x[:, here, columns[0] : columns[-1] + 1]
            tokens.append(self.eo_patch_embed[name](values) + encoding(group, when))
            masked.append((mask[:, here, columns[0] : columns[-1] + 1] > 0).any(dim=2))
        tokens.append(self.dw_embed(dynamic_world) + encoding(DYNAMIC_WORLD_GROUP, time))
        masked.append(dynamic_world == DYNAMIC_WORLD_MISSING)
        return torch.cat(tokens, dim=1), torch.cat(masked, dim=1)

    def forward(
        self,
        x: Tensor,
        dynamic_world: Tensor,
        latlons: Tensor,
        mask: Tensor | None = None,
        month: Tensor | int = 0,
        pool: bool = True,
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Features of pixels.

        Args:
            x: (B, T, 17) normalised.
            dynamic_world: (B, T) int64, 9 = missing.
            latlons: (B, 2) degrees.
            mask: (B, T, 17), 1 = masked; None = nothing is.
            month: (B, T) of each step, or the first step's (B,) or int; January = 0.
            pool: give one vector a pixel.

        Returns:
            (B, D); or without `pool` the normed visible tokens (B, n, D), which of them are real
            (B, n), and their order (B, N).
        """
        if mask is None:
            mask = torch.zeros_like(x)
        month = torch.as_tensor(month)
        if month.dim() < 2:
            month = (month.reshape(-1, 1) + torch.arange(x.shape[1])) % 12
        month = month.expand(len(x), -1)
        tokens, visible, order = visible_first(
            *self.tokens(x, dynamic_world, latlons, mask, month)
        )
        for block in self.blocks:
            tokens = block(tokens, visible)
        if not pool:
            return self.norm(tokens), visible, order
        share = visible / visible.sum(dim=1, keepdim=True)
        return self.norm((tokens * share[:, :, None]).sum(dim=1))  # mean first, norm after


def load(path: str | Path, **sizes: int) -> Encoder:
    """The encoder with an official checkpoint's weights, strictly, in evaluation mode."""
    weights = torch.load(path, map_location="cpu", weights_only=True)
    encoder = Encoder(**sizes)
    prefix = "encoder."
    encoder.load_state_dict(
        {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}, strict=True
    )
    return encoder.eval()
