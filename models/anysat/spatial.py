"""AnySat's spatial encoder, shared by all sensors (Astruc et al., CVPR 2025, section 3.1): the
sub-patches of one patch of one sensor become the patch's vector. With the official weights' names.

Shapes: N patches of any windows, S = s x s sub-patches, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from ..blocks import Mlp
from .projectors import CELL_M

BUCKETS = 8  # of relative positions: distance + 3, and 7 for pairs with a leading token


# --- positions ------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def positions(width: int, side: int, step: float, leading: int = 1) -> Tensor:
    """(leading + side^2, D): sines and cosines of the column, then of the row; zeros that lead.

    Args:
        width: D.
        side: of the square grid.
        step: distance between neighbours.
        leading: tokens before the grid.
    """
    quarter = width // 4
    frequency = 1 / 10000 ** (torch.arange(quarter, dtype=torch.float32) / quarter)
    angle = torch.arange(side, dtype=torch.float32)[:, None] * step * frequency
    code = torch.cat([angle.sin(), angle.cos()], dim=1)
    across, down = code.expand(side, -1, -1), code[:, None].expand(-1, side, -1)
    grid = torch.cat([across, down], dim=2).flatten(0, 1)
    return torch.cat([torch.zeros(leading, width), grid])


@lru_cache(maxsize=64)
def buckets(side: int, leading: int = 1) -> Tensor:
    """(N, N) int64 with N = leading + side^2: which relative position a pair of tokens has.

    iRPE (Wu et al. 2021), Euclidean: distances 0, 1, 2 and 3, 4 and more; buckets 0 to 2 stay idle.
    """
    row, column = np.divmod(np.arange(side * side), side)
    apart = np.rint(np.hypot(row[:, None] - row, column[:, None] - column)).astype(np.int64)
    table = np.full((leading + side * side,) * 2, BUCKETS - 1)
    table[leading:, leading:] = 3 + np.array([0, 1, 2, 2, 3])[np.minimum(apart, 4)]
    return torch.from_numpy(table)


class RelativePosition(nn.Module):
    """A learned number for each query and distance.

    The release reads it from the query's first head and adds it to all heads; weights depend on it.
    """

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.lookup_table_weight = nn.Parameter(torch.empty(1, head_width, BUCKETS))
        nn.init.trunc_normal_(self.lookup_table_weight, std=0.02)

    def forward(self, queries: Tensor, pairs: Tensor) -> Tensor:
        """queries (B, heads, Q, d) and buckets (B or 1, Q, K) to logits (B, 1, Q, K)."""
        scores = queries[:, 0] @ self.lookup_table_weight[0]
        return scores.gather(2, pairs.expand(scores.shape[0], -1, -1))[:, None]


# --- spatial encoder ------------------------------------------------------------------------------


class RelativeAttention(nn.Module):
    """Self-attention with relative positions on the keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rpe_k = RelativePosition(width // heads)

    def forward(self, x: Tensor, pairs: Tensor) -> Tensor:
        """x (N, 1 + S, D), pairs (1, 1 + S, 1 + S)."""
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q = q * q.shape[-1] ** -0.5
        logits = q @ k.transpose(2, 3) + self.rpe_k(q, pairs)
        return self.proj((logits.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, n, d))


class SpatialBlock(nn.Module):
    """Attention and MLP, each on the normed input and added to it."""

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = RelativeAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, ratio)

    def forward(self, x: Tensor, pairs: Tensor) -> Tensor:
        """(N, 1 + S, D) to the same."""
        x = x + self.attn(self.norm1(x), pairs)
        return x + self.mlp(self.norm2(x))


class SpatialEncoder(nn.Module):
    """Sub-patches of one patch of one sensor to the patch's vector and their own."""

    def __init__(self, width: int, depth: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.predictor_blocks = nn.ModuleList(
            SpatialBlock(width, heads, ratio) for _ in range(depth)
        )
        self.predictor_norm = nn.LayerNorm(width)
        initialise(self, self.predictor_blocks)

    def forward(self, tokens: Tensor, scale: int, ground_m: float) -> tuple[Tensor, Tensor]:
        """Tokens (B P, S, D) to patch vectors (B P, D) and sub-patch vectors (B P, S, D)."""
        n, _, d = tokens.shape
        side = max(1, int(scale * CELL_M / ground_m))
        x = torch.cat([self.cls_token.expand(n, -1, -1), tokens], dim=1)
        x = x + positions(d, side, ground_m).to(x.device)
        pairs = buckets(side)[None].to(x.device)
        for block in self.predictor_blocks:
            x = block(x, pairs)
        x = self.predictor_norm(x)
        return x[:, 0], x[:, 1:]


def initialise(module: nn.Module, blocks: Iterable[nn.Module]) -> None:
    """Truncated normal of 0.02 for linear layers; a block's exits are divided by sqrt(2 layer)."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
    with torch.no_grad():
        for layer, block in enumerate(blocks, 1):
            block.attn.proj.weight /= math.sqrt(2 * layer)
            block.mlp.fc2.weight /= math.sqrt(2 * layer)
