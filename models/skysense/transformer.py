"""Pre-norm transformer layers, shared by the Sentinel branches and the fusion (CVPR 2024, 3.1).

The nesting `attn.attn`, `ffn.layers.0.0` is that of the official weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Softmax attention over all tokens, with the parameters of `nn.MultiheadAttention`.

    Args:
        width: D.
        heads: must divide D.
        rows: queries that look at the keys at one time; 0 for all. Many tokens need it: the
            weights of 8192 tokens and 16 heads are 4 GB.
    """

    def __init__(self, width: int, heads: int, rows: int = 0) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"{heads} heads do not divide a SkySense width of {width}")
        self.heads, self.rows = heads, rows
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, N, D) to (B, N, D); `seen` (B, N) bool says which tokens are keys, all if None."""
        batch, tokens, width = x.shape[0], x.shape[1], self.out_proj.in_features
        qkv = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        qkv = qkv.view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mask = None if seen is None else seen[:, None, None, :]
        parts = [q]
        if self.rows:  # slices, since ONNX refuses a last part that is shorter
            parts = [q[:, :, i : i + self.rows] for i in range(0, int(tokens), self.rows)]
        out = [functional.scaled_dot_product_attention(part, k, v, mask) for part in parts]
        mixed = torch.cat(out, dim=2) if len(out) > 1 else out[0]
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(width, hidden), nn.GELU())
        self.layers = nn.Sequential(first, nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.layers(x)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, heads: int, ratio: float, eps: float) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width, eps=eps)
        self.attn = nn.ModuleDict({"attn": SelfAttention(width, heads)})
        self.ln2 = nn.LayerNorm(width, eps=eps)
        self.ffn = FeedForward(width, int(width * ratio))

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, N, D) to (B, N, D); `seen` as in `SelfAttention`."""
        x = x + self.attn["attn"](self.ln1(x), seen)
        return x + self.ffn(self.ln2(x))
