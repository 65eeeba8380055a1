"""What a patch's place in its window adds to its features, measured and taken off."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Level(nn.Module):
    """Features without what a patch's place in its window alone adds, whatever lies there.

    Codes of places leave a pattern in the features, in young networks a stronger one than the
    ground does; it would be a lattice in every raster.
    """

    def __init__(self, module: nn.Module, pattern: Tensor) -> None:
        """`module` gives windows (n P, d) one after the other; `pattern` is (P, d)."""
        super().__init__()
        self.module = module
        self.register_buffer("pattern", pattern)

    def forward(self, *inputs: Tensor) -> Tensor:
        """As the module."""
        return (self.module(*inputs).reshape(-1, *self.pattern.shape) - self.pattern).flatten(0, 1)


def place_pattern(features: Tensor, seen: Tensor) -> Tensor:
    """(P, d): how the mean at each place differs from the mean of all.

    Args:
        features: (windows, P, d), of windows anywhere and turned in any way.
        seen: (windows, P) bool.
    """
    weight = seen[..., None].float()
    count = weight.sum(dim=0)
    here = (features * weight).sum(dim=0) / count.clamp(min=1)
    return torch.where(count > 0, here - features[seen].mean(dim=0), 0.0)
