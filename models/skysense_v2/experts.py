"""Mixture of experts of SkySense V2: each token goes to the experts that its gate prefers.

Stated (through summaries of the paper): MOE(x) = sum over i in T of G_i(x) E_i(x), G = softmax of a
linear gate, T its k = 1 largest; 8 experts in the last 6 blocks. That the gate has no bias follows
from the parameters stated. Our reading: G is not made to sum to 1 over T (switchable), and nothing
balances the load.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..skysense.transformer import FeedForward


class Experts(nn.Module):
    """Feed-forward networks of which every token uses k."""

    def __init__(self, width: int, hidden: int, experts: int, top: int = 1,
                 renormalise: bool = False) -> None:
        super().__init__()
        if not 0 < top <= experts:
            raise ValueError(f"of {experts} experts a token cannot use {top}")
        self.top, self.renormalise = top, renormalise
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(width, hidden) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        tokens = x.flatten(0, 1)
        weights, chosen = self.gate(tokens).softmax(dim=-1).topk(self.top, dim=-1)
        if self.renormalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        out = torch.zeros_like(tokens)
        for i, expert in enumerate(self.experts):
            share = torch.where(chosen == i, weights, torch.zeros_like(weights)).sum(dim=-1)
            rows = share.nonzero()[:, 0]
            out = out.index_add(0, rows, share[rows, None] * expert(tokens[rows]))
        return out.view_as(x)
