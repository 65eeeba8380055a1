"""The pretraining loss of TESSERA: Barlow Twins with mix-up, on prefixes of the embedding.

Two random subsets of the clear observations of a pixel must give the same code, dimension by
dimension, and different dimensions must not repeat each other (arXiv 2506.20380 section 3; Zbontar
et al., "Barlow Twins", arXiv 2103.03230). Mix-up asks that a blend of two pixels gives the blend
of their correlations. With prefixes, each of them is a code of its own, so that an embedding may
later be cut (Kusupati et al., "Matryoshka Representation Learning", arXiv 2205.13147).

Shapes: B pixels, T observations, C bands, D dimensions of a projector's output z.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

REDUNDANCY = 5e-3  # lambda, the weight of the off-diagonal correlations
MIX = 1.0  # mu, the weight of mix-up relative to lambda


class Projector(nn.Module):
    """Six Linears, the first five with batch norm and ReLU; thrown away after the pretraining."""

    def __init__(self, dimensions: int, hidden: int, output: int):
        super().__init__()
        parts: list[nn.Module] = []
        for width in (dimensions, hidden, hidden, hidden, hidden):
            parts += [nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
        self.net = nn.Sequential(*parts, nn.Linear(hidden, output))

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, dimensions) to (B, D)."""
        return self.net(embedding)


# --- losses ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BarlowLoss:
    """Barlow Twins with its two sums."""

    total: Tensor
    on_diagonal: Tensor
    off_diagonal: Tensor  # without its weight lambda


def cross_correlation(za: Tensor, zb: Tensor) -> Tensor:
    """(D, D) correlations between the dimensions of two views (B, D), over the batch."""
    return _standardise(za).T @ _standardise(zb) / len(za)


def _standardise(z: Tensor) -> Tensor:
    return (z - z.mean(dim=0)) / z.std(dim=0).clamp_min(1e-9)  # the unbiased deviation


def barlow_twins(za: Tensor, zb: Tensor, redundancy: float = REDUNDANCY) -> BarlowLoss:
    """sum_i (C_ii - 1)^2 + lambda sum_{i != j} C_ij^2 for two views (B, D)."""
    correlation = cross_correlation(za, zb)
    diagonal = correlation.diagonal()
    on = (diagonal - 1).square().sum()
    off = correlation.square().sum() - diagonal.square().sum()
    return BarlowLoss(on + redundancy * off, on, off)


def mix(view_a: Tensor, view_b: Tensor, order: Tensor, alpha: Tensor | float) -> Tensor:
    """Each sequence (T, C + 1) of view a blended with another pixel's of view b, days too.

    Args:
        view_a, view_b: (B, T, C + 1) of one sensor, of equal T.
        order: (B,) permutation of the batch.
        alpha: share of view a, one for the batch.
    """
    return alpha * view_a + (1 - alpha) * view_b[order]


def mix_loss(
    za: Tensor,
    zb: Tensor,
    zm: Tensor,
    order: Tensor,
    alpha: Tensor | float,
    redundancy: float = REDUNDANCY,
    weight: float = MIX,
) -> Tensor:
    """The correlations of mixed inputs must be the mix of correlations.

    Args:
        za, zb: (B, D) of the two views.
        zm: (B, D) of `mix(view_a, view_b, order, alpha)` of both sensors.
        order, alpha: as in `mix`.
        redundancy, weight: lambda and mu.
    """
    zp = zb[order]
    target_a = alpha * cross_correlation(za, za) + (1 - alpha) * cross_correlation(zp, za)
    target_b = alpha * cross_correlation(za, zb) + (1 - alpha) * cross_correlation(zp, zb)
    error_a = (cross_correlation(zm, za) - target_a).square().sum()
    error_b = (cross_correlation(zm, zb) - target_b).square().sum()
    return weight * redundancy * (error_a + error_b)


# --- a step ---------------------------------------------------------------------------------------

View = tuple[Tensor, Tensor]  # s2 (B, T2, 11) and s1 (B, T1, 3)


@dataclass(frozen=True)
class StepLoss:
    """Loss of one batch, means over the prefixes."""

    total: Tensor
    barlow: Tensor
    mix: Tensor


class Objective(nn.Module):
    """Barlow Twins and mix-up on every prefix of an embedding.

    With the single prefix (dimensions,) it is the objective of v1.0.

    Args:
        prefixes: lengths that shall be usable alone, e.g. (16, 32, 64, 128).
        hidden, output: sizes of the projectors, one for each prefix.
        redundancy, mix_weight: lambda and mu.
    """

    def __init__(
        self,
        prefixes: tuple[int, ...],
        hidden: int,
        output: int,
        redundancy: float = REDUNDANCY,
        mix_weight: float = MIX,
    ):
        super().__init__()
        self.prefixes = prefixes
        self.projectors = nn.ModuleList([Projector(k, hidden, output) for k in prefixes])
        self.redundancy = redundancy
        self.mix_weight = mix_weight

    def forward(
        self,
        encoder: Callable[[Tensor, Tensor], Tensor],
        view_a: View,
        view_b: View,
        generator: torch.Generator | None = None,
    ) -> StepLoss:
        """Loss of two views of the same B pixels.

        Args:
            encoder: s2, s1 to the embedding (B, dimensions).
            view_a, view_b: independent draws; T of a sensor is the same in both.
            generator: of the permutation and of alpha ~ Beta(1, 1), on the views' device.
        """
        device = view_a[0].device
        order = torch.randperm(len(view_a[0]), generator=generator, device=device)
        alpha = torch.rand((), generator=generator, device=device)  # Beta(1, 1) is uniform
        mixed = [mix(a, b, order, alpha) for a, b in zip(view_a, view_b, strict=True)]
        ea, eb, em = encoder(*view_a), encoder(*view_b), encoder(*mixed)
        barlow, blend = [], []
        for k, projector in zip(self.prefixes, self.projectors, strict=True):
            za, zb, zm = (projector(e[:, :k]) for e in (ea, eb, em))
            barlow.append(barlow_twins(za, zb, self.redundancy).total)
            blend.append(mix_loss(za, zb, zm, order, alpha, self.redundancy, self.mix_weight))
        barlow, blend = torch.stack(barlow).mean(), torch.stack(blend).mean()
        return StepLoss(barlow + blend, barlow, blend)
