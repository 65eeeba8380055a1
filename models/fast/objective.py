"""What `fast` learns: its teachers' features, the whole year behind a gap, and steadiness."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import DIMENSIONS


def imitation(prediction: Tensor, target: Tensor) -> Tensor:
    """Relative squared error plus one minus cosine; targets are centred. (n, d), (n, d) to ()."""
    error = (prediction - target).square().sum(dim=1).mean()
    relative = error / target.square().sum(dim=1).mean()
    return relative + 1 - functional.cosine_similarity(prediction, target, dim=1).mean()


def barlow_twins(a: Tensor, b: Tensor, off_diagonal: float = 0.005) -> Tensor:
    """Redundancy reduction (Zbontar et al. 2021, equation 1) of two views (n, d) of n pixels.

    Each dimension should agree between the views and be uncorrelated with the others.
    """
    a = (a - a.mean(dim=0)) / a.std(dim=0).clamp_min(1e-4)
    b = (b - b.mean(dim=0)) / b.std(dim=0).clamp_min(1e-4)
    correlation = a.T @ b / len(a)
    on = (correlation.diagonal() - 1).square().sum()
    off = correlation.square().sum() - correlation.diagonal().square().sum()
    return (on + off_diagonal * off) / len(correlation)


class Objective(nn.Module):
    """One linear head for each target, and a projector for the two views."""

    def __init__(self, targets: dict[str, int], weights: dict[str, float], twins: float) -> None:
        """`targets`: name to length; `weights`: their shares; `twins`: share of Barlow Twins."""
        super().__init__()
        self.heads = nn.ModuleDict({k: nn.Linear(DIMENSIONS, d) for k, d in targets.items()})
        self.projector = nn.Sequential(
            nn.Linear(DIMENSIONS, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 512)
        )
        self._weights, self._twins = weights, twins

    def forward(
        self, first: Tensor, second: Tensor, targets: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The parts of the loss and their weighted `total`.

        Args:
            first, second: features (n, 128) of two views of the same pixels.
            targets: name to (2 n, d), those of the first views, then those of the second.
        """
        both = torch.cat([first, second])
        parts = {name: imitation(head(both), targets[name]) for name, head in self.heads.items()}
        total = sum(self._weights[name] * part for name, part in parts.items())
        if self._twins:
            parts["twins"] = barlow_twins(self.projector(first), self.projector(second))
            total = total + self._twins * parts["twins"]
        return {**parts, "total": total}
