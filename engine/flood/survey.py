"""One look over the whole scene before it is mapped: histograms, thresholds, statistics.

Everything that depends on more than a pixel's neighbourhood is decided here once, so that the map
does not depend on the windows in which it is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..context import JobContext
from ..rasters.margins import grown
from .scene import RADAR, Scene, calm, edges_of, sample_windows
from .thresholds import Cut, otsu, two_classes

_SIDE, _MOST = 256, 144  # sample windows: pixels a side, how many of a large scene
_TILE = 128  # pixels of a side of the tiles that are looked at for two classes
_LEAST = 0.5  # share of a tile that must have values
#: Caps of backscatter in dB where no tile shows two classes (HydroSAR); indices divide at 0.
CAPS = {"vv": -15.5, "vh": -23.0, "mndwi": 0.0, "ndwi": 0.0}

#: Where an index may part water from land. A cut elsewhere parts fields from woods; without this
#: limit the IoU on OMBRIA's training events fell from 0.39 to 0.28.
_INDEX_LIMITS = (-0.1, 0.3)


@dataclass(frozen=True)
class Stats:
    """A channel of one date over the whole scene, from the histogram of its 3 x 3 medians.

    Attributes:
        counts, edges: of the histogram.
        median, spread: middle, and half the distance of the percentiles 16 and 84.
        cut: Otsu's cut of the whole histogram; None where all values are equal.
        tiles: (threshold, Ashman's D) of the tiles with two classes.
        clearest: the largest D of all tiles.
        threshold: that divides water from land: the median of the tiles' thresholds, else that
            of the whole histogram, else the cap.
        source: where the threshold comes from, "tiles", "scene" or "cap".
    """

    counts: np.ndarray
    edges: np.ndarray
    median: float
    spread: float
    cut: Cut | None
    tiles: tuple[tuple[float, float], ...]
    clearest: float
    threshold: float
    source: str

    @property
    def gap(self) -> float:
        """Distance of the two classes' means; never 0."""
        return max(abs(self.cut.high - self.cut.low), 1e-6) if self.cut else 1.0

    def rank(self, values: np.ndarray) -> np.ndarray:
        """Share of the scene that is below (n-dimensional) values, -1..1."""
        shares = np.concatenate(([0.0], np.cumsum(self.counts))) / max(self.counts.sum(), 1)
        return (np.interp(values, self.edges, shares) * 2 - 1).astype(np.float32)

    def shape(self) -> list[float]:
        """Six numbers on the histogram's form that no scale or offset changes."""
        if self.cut is None:
            return [0.0] * 6
        centres = (self.edges[:-1] + self.edges[1:]) / 2
        mass = self.counts / self.counts.sum()
        mean = float(mass @ centres)
        deviation = max(float(mass @ (centres - mean) ** 2), 1e-12) ** 0.5
        skew = float(mass @ (centres - mean) ** 3) / deviation**3
        return [self.cut.quality, min(self.cut.distance, 10.0) / 5, self.cut.low_share,
                float(np.clip(skew, -5, 5)),
                float(np.clip((self.cut.threshold - self.median) / self.spread, -6, 6)),
                float(np.clip(self.gap / self.spread, 0, 12))]


@dataclass(frozen=True)
class Survey:
    """Statistics of all channels: channel to those before and during, and their correlation."""

    stats: dict[str, tuple[Stats, Stats]]
    correlation: dict[str, float]


class _Tally:
    """Counts a channel over the sample windows."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self.edges = edges_of(channel)
        self.counts = np.zeros((2, len(self.edges) - 1))
        self.tiles: list[list[tuple[float, float]]] = [[], []]
        self.clearest = [0.0, 0.0]
        self.moments = np.zeros(6)

    def _plausible(self, threshold: float) -> bool:
        return self._channel in RADAR or _INDEX_LIMITS[0] <= threshold <= _INDEX_LIMITS[1]

    def add(self, values: np.ndarray) -> None:
        """Take (2, rows, cols) smoothed values."""
        for date in range(2):
            self.counts[date] += self._histogram(values[date])
            for row in range(0, values.shape[1], _TILE):
                for col in range(0, values.shape[2], _TILE):
                    self._tile(date, values[date, row:row + _TILE, col:col + _TILE])
        both = np.isfinite(values).all(0)
        b, a = values[0][both].astype(np.float64), values[1][both].astype(np.float64)
        self.moments += [len(a), b.sum(), a.sum(), b @ b, a @ a, a @ b]

    def _histogram(self, values: np.ndarray) -> np.ndarray:
        kept = values[np.isfinite(values)]
        return np.histogram(np.clip(kept, self.edges[0], self.edges[-1]), self.edges)[0]

    def _tile(self, date: int, values: np.ndarray) -> None:
        counts = self._histogram(values)
        if counts.sum() < _LEAST * _TILE**2:
            return
        distance, two = two_classes(counts, self.edges)
        if two:
            threshold = otsu(counts, self.edges).threshold
            if self._plausible(threshold):
                self.tiles[date].append((threshold, distance))
        self.clearest[date] = max(self.clearest[date], distance)

    def stats(self, date: int) -> Stats:
        """Statistics of a date."""
        counts = self.counts[date]
        cut = otsu(counts, self.edges) if counts.sum() else None
        shares = np.concatenate(([0.0], np.cumsum(counts))) / max(counts.sum(), 1)
        low, median, high = np.interp((0.16, 0.5, 0.84), shares, self.edges)
        tiles = tuple(self.tiles[date])
        distance, two = two_classes(counts, self.edges) if cut else (0.0, False)
        if tiles:
            threshold, source = float(np.median([t for t, _ in tiles])), "tiles"
        elif two and self._plausible(cut.threshold):
            threshold, source = cut.threshold, "scene"
        else:
            threshold, source = CAPS[self._channel], "cap"
        step = float(self.edges[1] - self.edges[0])
        return Stats(counts, self.edges, float(median), max(float(high - low) / 2, step), cut,
                     tiles, max(self.clearest[date], distance), threshold, source)

    def correlation(self) -> float:
        """Of the two dates."""
        n, b, a, bb, aa, ab = self.moments
        if n < 2:
            return 0.0
        spread = (bb / n - (b / n) ** 2) * (aa / n - (a / n) ** 2)
        return float(np.clip((ab / n - a * b / n**2) / spread**0.5, -1, 1)) if spread > 0 else 0.0


def survey(scene: Scene, context: JobContext) -> Survey:
    """Look at a sample of windows, all of a small scene."""
    tallies = {channel: _Tally(channel) for channel in scene.channels}
    windows = list(sample_windows(scene.grid, _SIDE, _MOST))
    for k, window in enumerate(windows):
        context.progress(k / len(windows), "Looking for water")
        wide, inner = grown(window, 1, scene.grid.full)
        for channel, values in scene.read(wide).items():
            smooth = np.stack([calm(date)[inner] for date in values])
            tallies[channel].add(smooth)
    return Survey(
        {c: (t.stats(0), t.stats(1)) for c, t in tallies.items()},
        {c: t.correlation() for c, t in tallies.items()})
