"""Cuts between water and land on a histogram, and whether there are two classes at all.

Otsu (1979), Kittler and Illingworth (1986), Ashman et al. (1994). Radar is cut in dB, where
speckle is nearly Gaussian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEAST_D = 2.0
"""Ashman's D from which a histogram counts as two classes."""

LEAST_SHARE = 0.1
"""Share that the smaller class needs."""

_STEPS = 150  # of the fit of two Gaussians
_RARE = 0.01  # classes below this share are not looked at by Kittler and Illingworth


@dataclass(frozen=True)
class Cut:
    """A histogram cut in two.

    Attributes:
        threshold: edge between the classes.
        low, high: means of the classes below and above.
        low_sd, high_sd: their standard deviations.
        low_share: share of values below, 0..1.
        quality: variance between the classes over the whole variance (eta), 0..1.
    """

    threshold: float
    low: float
    high: float
    low_sd: float
    high_sd: float
    low_share: float
    quality: float

    @property
    def distance(self) -> float:
        """Ashman's D of the two halves. Cutting one Gaussian in half gives 2.65 already, so ask
        `two_classes` whether there are two."""
        return ashman(self.low, self.low_sd, self.high, self.high_sd)


@dataclass(frozen=True)
class _Halves:
    """Shares, means and standard deviations below and above every inner edge of a histogram."""

    edges: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    low_sd: np.ndarray
    high_sd: np.ndarray
    variance: float

    @classmethod
    def of(cls, counts: np.ndarray, edges: np.ndarray) -> _Halves:
        mass = np.asarray(counts, np.float64) / np.sum(counts)
        centres = (edges[:-1] + edges[1:]) / 2
        share, first, second = (np.cumsum(mass * centres**k)[:-1] for k in range(3))
        whole, square = float(mass @ centres), float(mass @ centres**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = first / share, (whole - first) / (1 - share)
            low_var = second / share - low**2
            high_var = (square - second) / (1 - share) - high**2
        return cls(edges[1:-1], share, low, high, np.sqrt(np.maximum(low_var, 0)),
                   np.sqrt(np.maximum(high_var, 0)), square - whole**2)

    def cut(self, score: np.ndarray) -> Cut | None:
        """The cut of the best (highest) score; None where none is finite."""
        score = np.where(np.isfinite(score), score, -np.inf)
        if not len(score) or not np.isfinite(score.max()):
            return None
        # of equally good cuts across a gap the middle one
        best = np.flatnonzero(score >= score.max() - 1e-12)
        k = int(best[len(best) // 2])
        between = self.share[k] * (1 - self.share[k]) * (self.high[k] - self.low[k]) ** 2
        return Cut(float(self.edges[k]), float(self.low[k]), float(self.high[k]),
                   float(self.low_sd[k]), float(self.high_sd[k]), float(self.share[k]),
                   float(between / self.variance) if self.variance > 0 else 0.0)


def ashman(low: float, low_sd: float, high: float, high_sd: float) -> float:
    """Distance of two means in units of the spreads: sqrt 2 |m1 - m2| / sqrt(s1^2 + s2^2)."""
    spread = math.sqrt(low_sd**2 + high_sd**2)
    return math.sqrt(2) * abs(high - low) / spread if spread else math.inf


def two_classes(counts: np.ndarray, edges: np.ndarray) -> tuple[float, bool]:
    """Ashman's D of two Gaussians fitted to a histogram (EM from Otsu's halves), and whether they
    are two classes: D above 2, and the smaller one at least a tenth.
    """
    start = otsu(counts, edges)
    if start is None:
        return 0.0, False
    kept = np.asarray(counts) > 0
    mass = np.asarray(counts, np.float64)[kept] / np.sum(counts)
    centres = ((edges[:-1] + edges[1:]) / 2)[kept]
    narrow = edges[1] - edges[0]
    share = np.array([start.low_share, 1 - start.low_share])
    mean = np.array([start.low, start.high])
    spread = np.maximum([start.low_sd, start.high_sd], narrow)
    for _ in range(_STEPS):
        density = share / spread * np.exp(-((centres[:, None] - mean) / spread) ** 2 / 2)
        belongs = mass[:, None] * density / np.maximum(density.sum(1, keepdims=True), 1e-300)
        share = np.maximum(belongs.sum(0), 1e-9)
        moved = (belongs * centres[:, None]).sum(0) / share
        settled = np.abs(moved - mean).max() < 1e-4 * narrow
        mean = moved
        variance = (belongs * (centres[:, None] - mean) ** 2).sum(0) / share
        spread = np.maximum(np.sqrt(variance), narrow)
        if settled:
            break
    distance = ashman(mean[0], spread[0], mean[1], spread[1])
    return distance, bool(distance > LEAST_D and share.min() >= LEAST_SHARE)


def otsu(counts: np.ndarray, edges: np.ndarray) -> Cut | None:
    """The cut with the largest variance between the classes.

    Args:
        counts: (n,) of a histogram.
        edges: (n + 1,) its edges.

    Returns:
        None where all values lie in one bin.
    """
    halves = _Halves.of(counts, edges)
    with np.errstate(invalid="ignore"):
        between = halves.share * (1 - halves.share) * (halves.high - halves.low) ** 2
    inside = (halves.share > 1e-9) & (halves.share < 1 - 1e-9)
    return halves.cut(np.where(inside, between, -np.inf))


def kittler_illingworth(counts: np.ndarray, edges: np.ndarray) -> Cut | None:
    """The cut of least error between two Gaussians, the minimum of
    J = 1 + 2 (P1 ln s1 + P2 ln s2) - 2 (P1 ln P1 + P2 ln P2).

    Returns:
        None where no cut leaves two classes with a spread.
    """
    halves = _Halves.of(counts, edges)
    return halves.cut(-_error(halves, edges))


def least_error(counts: np.ndarray, edges: np.ndarray) -> float:
    """The smallest J of `kittler_illingworth`."""
    return float(np.nanmin(_error(_Halves.of(counts, edges), edges)))


def _error(halves: _Halves, edges: np.ndarray) -> np.ndarray:
    p, q = halves.share, 1 - halves.share
    narrow = (edges[1] - edges[0]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        j = (1 + 2 * (p * np.log(halves.low_sd) + q * np.log(halves.high_sd))
             - 2 * (p * np.log(p) + q * np.log(q)))
    usable = ((p >= _RARE) & (q >= _RARE) & (halves.low_sd > narrow)
              & (halves.high_sd > narrow))
    return np.where(usable, j, np.nan)
