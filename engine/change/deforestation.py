"""Deforestation: what was forest before and is none after, by a head on each side."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from ..errors import UserError
from ..rasters.grid import Grid, Window
from ..rasters.legend import Legend, LegendClass
from ..rasters.margins import grown
from ..rasters.overlap import within
from ..rasters.styles import INFERNO, Ramp
from ..stacks.reading import StackReader
from ..stacks.sensors import TITLES
from ..stacks.stack import Stack
from .classes import ClassProbabilities, forest_classes
from .decision import NOTHING, UNKNOWN, Found, as_they_are
from .forest import NEEDED, ForestHead, index_series, season_features
from .indices import NIR
from .vectors import OPTICAL, box_mean, window_side

OPEN, LOST, FOREST = range(3)
LEGEND = Legend((
    LegendClass(OPEN, "no forest before", "#ece7dc"),
    LegendClass(LOST, "deforested", "#d7191c"),
    LegendClass(FOREST, "forest", "#1b7837"),
))
LEAST_FALL = 0.05
"""By how much the median NDVI or NBR must have fallen: a canopy that stays as green was not cut."""

_UNLIKE_STRIDE = 8  # every which row and column is asked whether it is like the training data


class ForestPair(Protocol):
    """Probabilities of forest before and after."""

    grid: Grid

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows, cols) before and after, NaN where not seen, and whether the ground got barer."""

    def side(self, memory_mb: float) -> int:
        """Side of windows within a budget."""

    def close(self) -> None:
        """Close all files."""


class DeforestationDetector:
    """Forest before and not after; `threshold` is the probability that parts the two."""

    codes, unmoved, small = len(LEGEND), (OPEN, FOREST), FOREST
    strength = "Probability of deforestation"

    def __init__(self, pair: ForestPair, threshold: float | None, name: str) -> None:
        self._pair, self._cut, self.grid = pair, 0.5 if threshold is None else threshold, pair.grid
        self.pair = pair
        self.ramp = Ramp(INFERNO, 0.0, 1.0, "{:.1f}")
        self.tags = {"EARTHPRINT_METHOD": "deforestation", "EARTHPRINT_HEAD": name}

    def close(self) -> None:
        """Close all files."""
        self._pair.close()

    def side(self, memory_mb: float) -> int:
        """Side of windows within a budget."""
        return self._pair.side(memory_mb)

    def values(self, square_metres: np.ndarray) -> tuple[np.ndarray, Legend]:  # noqa: ARG002
        """The codes are the values."""
        return as_they_are(LEGEND)

    def block(self, window: Window) -> Found:
        """Lost forest, forest that stayed, and ground that was none."""
        before, after, barer = self._pair.read(window)
        return judged(before, after, barer, self._cut)


def judged(before: np.ndarray, after: np.ndarray, barer: np.ndarray, cut: float) -> Found:
    """From probabilities of forest on both sides to classes."""
    known = np.isfinite(before) & np.isfinite(after)
    with np.errstate(invalid="ignore"):
        was, lost = before > cut, (before > cut) & (after <= cut) & barer
    probability = np.where(known & barer, before * (1 - after), 0).astype(np.float32)
    codes = np.where(known, np.where(lost, LOST, np.where(was, FOREST, OPEN)), NOTHING)
    return Found(np.where(known, probability, UNKNOWN).astype(np.float32),
                 codes.astype(np.uint16), probability)


class SeasonPair:
    """The bundled forest head on the clear dates of each side, of its last year.

    Args:
        head: the bundled one.
        before, after: stacks with the same grid.
        area: the part of the grid to work on.

    Attributes:
        looked, strange: pixels compared with the training data, and those unlike it.
        region: where the head was trained.
    """

    def __init__(self, head: ForestHead, before: Stack, after: Stack, area: Window) -> None:
        self._head, self._area, self.grid = head, area, after.grid.part(area)
        before, after = last_year(before), last_year(after)
        self.sensors = tuple(seeing(s, w) for s, w in ((before, "Before"), (after, "After")))
        bands = [_bands(stack, sensor)
                 for stack, sensor in zip((before, after), self.sensors, strict=True)]
        self._readers = [StackReader(stack, sensors=(sensor,), bands={sensor: names})
                         for stack, sensor, names in zip((before, after), self.sensors, bands,
                                                         strict=True)]
        self._per_pixel = sum(
            4 * StackReader.bytes_per_pixel(stack, (sensor,), {sensor: names})
            for stack, sensor, names in zip((before, after), self.sensors, bands, strict=True))
        self.looked = self.strange = 0
        self.region: str = head.card["region"]

    def close(self) -> None:
        """Close all files."""
        for reader in self._readers:
            reader.close()

    def side(self, memory_mb: float) -> int:
        """Side of windows within a budget."""
        return window_side(self._per_pixel, memory_mb)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities of forest, and where NDVI or NBR fell."""
        wide, inner = grown(within(window, self._area), 1, self._area)
        shape = (wide.rows, wide.cols)
        tables = [season_features(index_series(reader.read(wide).series[sensor]))
                  for reader, sensor in zip(self._readers, self.sensors, strict=True)]
        before, after = (self._head.forest(t).reshape(shape) for t in tables)
        self._compare(tables[1][np.isfinite(after).reshape(-1)])
        # a forest is larger than a pixel
        return (box_mean(before)[inner], box_mean(after)[inner],
                fell(*tables).reshape(shape)[inner])

    def _compare(self, table: np.ndarray) -> None:
        some = table[::_UNLIKE_STRIDE**2]
        if len(some):
            self.looked += len(some)
            self.strange += int(self._head.gate.unlike(some).sum())


class HeadPair:
    """A user's head with a class called forest, on the same features before and after."""

    def __init__(self, classes: ClassProbabilities) -> None:
        self._classes, self.grid = classes, classes.grid
        self._forest = forest_classes(classes.head.card.legend, classes.head.path.name)

    def close(self) -> None:
        """Close all files."""
        self._classes.close()

    def side(self, memory_mb: float) -> int:
        """Side of windows within a budget."""
        return self._classes.side(memory_mb)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Summed probabilities of the forest classes."""
        first, second, known = self._classes.read(window)
        before, after = (np.where(known, p[..., self._forest].sum(2), np.nan)
                         for p in (first, second))
        return before, after, np.ones(known.shape, bool)


def fell(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(n,) bool: the median NDVI or NBR of (n, SIZE) features fell by at least LEAST_FALL."""
    falls = np.stack([before[:, k] - after[:, k] for k in (2, 12)])  # medians of NDVI and NBR
    with np.errstate(invalid="ignore"):
        return (falls >= LEAST_FALL).any(0)


def last_year(stack: Stack) -> Stack:
    """The scenes of a stack's last 365 days, and those without a date: its state at its end."""
    season = stack.season()
    if not season:
        return stack
    first = str(np.datetime64(season[1]) - 365)
    return replace(stack, scenes=tuple(s for s in stack.scenes if not s.date or s.date > first))


def seeing(stack: Stack, when: str) -> str:
    """The optical sensor that shows forest, the one with most scenes.

    Raises:
        UserError: none has red and near infrared.
    """
    found = [s for s, bands in stack.sensors().items()
             if s in OPTICAL and "red" in bands and any(b in NIR for b in bands)]
    if not found:
        held = "; ".join(f"{TITLES.get(s, s)} {' '.join(b)}" for s, b in stack.sensors().items())
        raise UserError(f"{when} ({held}) has no {' and '.join(NEEDED)} band, in which forest "
                        "shows. Give optical rasters, or a head of your own.")
    return max(found, key=lambda s: sum(c.sensor == s for c in stack.scenes))


def _bands(stack: Stack, sensor: str) -> tuple[str, ...]:
    """Red, near infrared and the longer short-wave infrared of a sensor."""
    bands = stack.sensors()[sensor]
    nir = next(b for b in NIR if b in bands)
    return tuple(b for b in ("red", nir, "swir22") if b in bands)
