"""What the detectors look at: channels of two dates in which water is dark or bright.

A channel is radar backscatter in dB or a water index; its array is (2, rows, cols) float32, before
and during the flood, NaN where there is no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from scipy.ndimage import median_filter, uniform_filter

from ..rasters.grid import Grid, Window

RADAR, OPTICAL = ("vv", "vh"), ("mndwi", "ndwi")
"""Channels that are cut by thresholds, by kind of sensor; the better one first."""

#: Range and step of the histograms of a channel.
_RANGES = {"db": (-50.0, 20.0, 0.1), "index": (-1.0, 1.0, 0.01)}


class Scene(Protocol):
    """Two dates of one place."""

    grid: Grid
    channels: tuple[str, ...]

    def read(self, window: Window) -> dict[str, np.ndarray]:
        """Channel to (2, rows, cols) float32 of a window, NaN where missing."""


def edges_of(channel: str) -> np.ndarray:
    """Edges of the histogram of a channel."""
    low, high, step = _RANGES["db" if channel in RADAR else "index"]
    return np.linspace(low, high, round((high - low) / step) + 1)


def box(values: np.ndarray, size: int) -> np.ndarray:
    """Mean over size x size pixels that have a value; edges are mirrored.

    Args:
        values: (rows, cols) float32, NaN where missing.
        size: odd.

    Returns:
        (rows, cols) float32, NaN where the middle pixel is missing.
    """
    if size == 1:
        return values
    missing = np.isnan(values)
    if not missing.any():
        return uniform_filter(values, size, mode="reflect")
    total = uniform_filter(np.where(missing, 0, values), size, mode="reflect")
    share = uniform_filter((~missing).astype(np.float32), size, mode="reflect")
    return np.where(missing, np.nan, total / np.maximum(share, 1e-6)).astype(np.float32)


def calm(values: np.ndarray) -> np.ndarray:
    """The median of 3 x 3 pixels, against speckle.

    Radar must not be averaged in dB, and averaged in power a shore moves into the water, since
    land outshines it. The median is the same in dB and in power and leaves shores where they are.
    """
    missing = np.isnan(values)
    if not missing.any():
        return median_filter(values, 3, mode="reflect")
    if missing.all():
        return values
    filled = np.where(missing, _mean_around(values), values)
    return np.where(missing, np.nan, median_filter(filled, 3, mode="reflect"))


def _mean_around(values: np.ndarray) -> np.ndarray:
    """Mean of the 3 x 3 neighbours that have a value; 0 where none has."""
    known = np.isfinite(values)
    total = uniform_filter(np.where(known, values, 0), 3, mode="reflect")
    share = uniform_filter(known.astype(np.float32), 3, mode="reflect")
    # far from any value it does not matter: the result is missing there
    return np.where(share > 0.05, total / np.maximum(share, 0.05), 0).astype(np.float32)


def index(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(first - second) / (first + second); NaN where the sum is not above 0."""
    total = first + second
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, (first - second) / total, np.nan).astype(np.float32)


def optical_channels(bands: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Water indices from reflectances of any shape.

    MNDWI (Xu 2006) needs green and short-wave infrared, NDWI (McFeeters 1996) green and near
    infrared.
    """
    found: dict[str, np.ndarray] = {}
    if "swir16" in bands:
        found["mndwi"] = index(bands["green"], bands["swir16"])
    if "nir" in bands:
        found["ndwi"] = index(bands["green"], bands["nir"])
    return found


def around(inner: tuple[slice, slice], margin: int, shape: tuple[int, ...]
           ) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """A part of an array grown by a margin within its last two axes, and where the part lies in
    it."""
    spans = [part.indices(size) for part, size in zip(inner, shape[-2:], strict=True)]
    wide = [slice(max(start - margin, 0), min(stop + margin, size))
            for (start, stop, _), size in zip(spans, shape[-2:], strict=True)]
    within = [slice(start - w.start, stop - w.start)
              for (start, stop, _), w in zip(spans, wide, strict=True)]
    return (wide[0], wide[1]), (within[0], within[1])


def sample_windows(grid: Grid, side: int, most: int) -> Iterator[Window]:
    """At most about `most` windows evenly over a grid; all of it where it is small."""
    rows, cols = (-(-n // side) for n in grid.shape)
    step = max(1, int(np.ceil(np.sqrt(rows * cols / most))))
    for r in range(step // 2 if rows > step else 0, rows, step):
        for c in range(step // 2 if cols > step else 0, cols, step):
            yield Window(r * side, c * side, min(side, grid.shape[0] - r * side),
                         min(side, grid.shape[1] - c * side))
