"""Change of classes: a head maps both dates; where they differ one class became another."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from ..heads.features import FeatureSource
from ..heads.head import Head
from ..heads.inputs import Inputs
from ..heads.mapping import LEAST_SIDE
from ..heads.surroundings import with_margin
from ..rasters.grid import Window
from ..rasters.legend import Legend, LegendClass
from ..rasters.margins import grown
from ..rasters.overlap import within
from ..rasters.smoothing import HALO, smooth
from ..rasters.styles import INFERNO, Ramp
from .decision import NOTHING, UNKNOWN, Found
from .embedded import common_area
from .vectors import UNCHANGED

MOST = 20
"""Transitions that a map names, the largest ones."""

_FOREST_WORDS = ("forest", "tree", "wood")


class ClassProbabilities:
    """Smoothed probabilities of a head on the common area of both dates.

    Args:
        head: whose features both dates have.
        before, after: encoded where the head needs it.
        extent: [left, bottom, right, top, CRS] or None.
    """

    def __init__(self, head: Head, before: Inputs, after: Inputs, extent: list | None) -> None:
        self.head, self.names = head, (before.name, after.name)
        self._sources: list[FeatureSource] = []
        try:
            for inputs in (before, after):
                source = inputs.source()
                self._sources.append(source)
                head.require(source)
            grids = [s.grid for s in self._sources]
            self._areas = common_area(*grids, before.name, after.name, extent)
        except UserError:
            self.close()
            raise
        self.grid = grids[0].part(self._areas[0])

    def close(self) -> None:
        """Close all files."""
        for source in self._sources:
            source.close()

    def side(self, memory_mb: float) -> int:
        """Side of windows within a budget."""
        card = self.head.card
        side = self._sources[0].side(card.layout, memory_mb / 2, len(card.legend))
        return max(side - 2 * card.margin, LEAST_SIDE)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows, cols, classes) of both dates, and (rows, cols) whether both have an answer."""
        dates, known = [], np.ones((window.rows, window.cols), bool)
        for source, area in zip(self._sources, self._areas, strict=True):
            probabilities, valid = self._date(source, within(window, area))
            dates.append(probabilities)
            known &= valid
        return dates[0], dates[1], known

    def _date(self, source: FeatureSource, window: Window) -> tuple[np.ndarray, np.ndarray]:
        wide, inner = grown(window, HALO, source.grid.full)
        margin = self.head.card.margin
        features, valid = with_margin(source, wide, margin, self.head.card.layout)
        found = self.head.image(features, valid)
        valid = valid[margin:margin + wide.rows, margin:margin + wide.cols]
        found = smooth(found, valid)
        return found[inner], valid[inner]


class ClassDetector:
    """Transitions between the classes of a head.

    Codes are 1 + from * classes + to. A map has room for the largest ones, the others are "other
    change": a legend of a hundred lines is none.
    """

    unmoved, small = (0,), 0

    strength = "Probability that the class changed"

    def __init__(self, classes: ClassProbabilities, threshold: float | None) -> None:
        self._classes, self._cut = classes, 0.5 if threshold is None else float(threshold)
        self.grid, self.card = classes.grid, classes.head.card
        self.codes = 1 + len(self.card.legend) ** 2
        self.ramp = Ramp(INFERNO, 0.0, 1.0, "{:.1f}")
        self.tags = {"EARTHPRINT_METHOD": "head", "EARTHPRINT_HEAD": classes.head.path.name}

    def close(self) -> None:
        """Close all files."""
        self._classes.close()

    def side(self, memory_mb: float) -> int:
        """Side of windows within a budget."""
        return self._classes.side(memory_mb)

    def values(self, square_metres: np.ndarray) -> tuple[np.ndarray, Legend]:
        """The largest transitions as values 1, 2, ... of the map."""
        codes = np.argsort(-square_metres[1:], kind="stable") + 1
        codes = codes[square_metres[codes] > 0]
        lookup = np.zeros(len(square_metres), np.uint8)
        entries = [UNCHANGED]
        for value, code in enumerate(codes[:MOST], 1):
            lookup[code] = value
            one, other = (self.card.legend.classes[k]
                          for k in divmod(int(code) - 1, len(self.card.legend)))
            entries.append(LegendClass(value, f"{one.name} → {other.name}",
                                       _mixed(other.color, one.color)))
        if len(codes) > MOST:
            lookup[codes[MOST:]] = MOST + 1
            entries.append(LegendClass(MOST + 1, "other change", "#000000"))
        return lookup, Legend(tuple(entries))

    def block(self, window: Window) -> Found:
        """Both dates' classes where they differ, and how sure it is that they do.

        The probability of a change is one less that of the same class on both dates.
        """
        first, second, known = self._classes.read(window)
        changed = 1 - np.einsum("rck,rck->rc", first, second)
        a, b = first.argmax(2), second.argmax(2)
        codes = np.where((a != b) & (changed > self._cut), 1 + a * first.shape[2] + b, 0)
        return Found(np.where(known, changed, UNKNOWN).astype(np.float32),
                     np.where(known, codes, NOTHING).astype(np.uint16),
                     changed.astype(np.float32))


def forest_classes(legend: Legend, name: str) -> np.ndarray:
    """(classes,) bool, those whose name says that they are forest.

    Raises:
        UserError: none, or all.
    """
    found = np.array([any(w in c.name.lower() for w in _FOREST_WORDS)
                      and not c.name.lower().startswith(("no ", "non", "not "))
                      for c in legend.classes])
    if not found.any() or found.all():
        raise UserError(f"{name} has no class called forest or trees beside others "
                        f"({', '.join(legend.names)}). Choose another head, or none.")
    return found


def _mixed(color: str, other: str, share: float = 0.7) -> str:
    parts = [round(share * int(color[k:k + 2], 16) + (1 - share) * int(other[k:k + 2], 16))
             for k in (1, 3, 5)]
    return "#" + "".join(f"{p:02x}" for p in parts)
