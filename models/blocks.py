"""Parts that several encoders share: token transformers with keys that may be hidden, months.

Only what is really the same stands here; an encoder's own attention stays in its `network.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def month_table(width: int) -> Tensor:
    """(12, width): sine of the month's angle in the first half, cosine in the second."""
    angle = 2 * math.pi * torch.arange(12) / 12
    half = torch.ones(1, width // 2)
    return torch.cat([angle.sin()[:, None] * half, angle.cos()[:, None] * half], dim=1)


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, int(width * ratio))
        self.fc2 = nn.Linear(int(width * ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each on the normed input and added to it.

    Args:
        width: D.
        attention: takes (B, N, D) and visible (B, N), gives (B, N, D).
        ratio: hidden width of the MLP over D.
    """

    def __init__(self, width: int, attention: nn.Module, ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, ratio)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """x (B, N, D), visible (B, N) bool: which tokens are keys."""
        x = x + self.attn(self.norm1(x), visible)
        return x + self.mlp(self.norm2(x))
