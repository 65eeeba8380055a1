"""What a detector says about a window, and how a strength becomes a yes with a certainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..rasters.grid import Grid, Window
from ..rasters.legend import Legend
from ..rasters.styles import Ramp

UNKNOWN = -1.0
"""Strength where there is no answer."""

NOTHING = 65535
"""Code where there is no answer."""

STEPS = 3.0
"""Robust deviations above the median of all strengths below which nothing is a change."""

_NORMAL = 1.4826  # MAD of a normal distribution to its standard deviation
_TAIL = 99.9  # percent; what lies above must not stretch the histogram
_BINS = 512
_SLOPE = 4.0  # of the certainty where a sample shows no second class
_GENTLE, _STEEP = 1.0, 12.0


@dataclass(frozen=True)
class Found:
    """Answers for a window, (rows, cols) each.

    Attributes:
        strength: float32, UNKNOWN without an answer.
        codes: uint16, 0 where nothing changed, NOTHING without an answer, else what changed.
        certainty: float32 0..1, of a change.
    """

    strength: np.ndarray
    codes: np.ndarray
    certainty: np.ndarray


class Detector(Protocol):
    """Finds change window by window.

    Attributes:
        grid: of all windows.
        codes: how many codes there are.
        unmoved: those that are no change.
        small: what a change below the smallest area becomes.
        strength: name of what is measured, for the raster of strengths.
        ramp: its colours.
        tags: metadata of the files.
    """

    grid: Grid
    codes: int
    unmoved: tuple[int, ...]
    small: int
    strength: str
    ramp: Ramp
    tags: dict[str, str]

    def block(self, window: Window) -> Found:
        """What it says about a window."""

    def side(self, memory_mb: float) -> int:
        """Side (pixels) of windows that stay within a memory budget."""

    def values(self, square_metres: np.ndarray) -> tuple[np.ndarray, Legend]:
        """(codes,) uint8 value in the map of each code, by the area that each has, and legend."""

    def close(self) -> None:
        """Close all files."""


@dataclass(frozen=True)
class Decision:
    """A cut of strengths.

    Attributes:
        cut: strengths above are change.
        slope: of the certainty's log odds over the logarithm of strength / cut.
    """

    cut: float
    slope: float

    @classmethod
    def of(cls, sample: np.ndarray, cut: float) -> Decision:
        """With the slope of two log-normal classes of one width on both sides of the cut.

        Args:
            sample: (n,) strengths, at least 0.
            cut: see the attribute.
        """
        logs = np.log(np.maximum(sample, 1e-6) / max(cut, 1e-6))
        low, high = logs[logs <= 0], logs[logs > 0]
        if len(low) < 2 or len(high) < 2:
            return cls(cut, _SLOPE)
        spread = (low.var() * len(low) + high.var() * len(high)) / len(logs)
        slope = float(high.mean() - low.mean()) / max(float(spread), 1e-3)
        return cls(cut, float(np.clip(slope, _GENTLE, _STEEP)))

    def certainty(self, strength: np.ndarray) -> np.ndarray:
        """Probability of change, 0..1; one half at the cut."""
        logs = np.log(np.maximum(strength, 1e-6) / max(self.cut, 1e-6))
        return (1 / (1 + np.exp(np.clip(-self.slope * logs, -50, 50)))).astype(np.float32)


def as_they_are(legend: Legend) -> tuple[np.ndarray, Legend]:
    """For `Detector.values`: each code is its own value."""
    return np.arange(len(legend), dtype=np.uint8), legend


def automatic_cut(sample: np.ndarray) -> float:
    """Otsu's cut of strengths (Otsu 1979), but never within the bulk of them.

    Where nothing has changed Otsu would cut the noise in two; the median and three robust
    deviations are the least.
    """
    median = float(np.median(sample))
    deviation = _NORMAL * float(np.median(np.abs(sample - median)))
    counts, edges = np.histogram(np.minimum(sample, np.percentile(sample, _TAIL)), _BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below, mass = np.cumsum(counts)[:-1], np.cumsum(counts * centres)
    above = counts.sum() - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mass[-1] * below / counts.sum() - mass[:-1]) ** 2 / (below * above)
    otsu = float(edges[1:-1][np.argmax(np.where(below * above > 0, between, -1))])
    return max(otsu, median + STEPS * deviation)
