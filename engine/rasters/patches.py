"""Connected patches of marked pixels: found strip by strip, and measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

from .grid import Grid


@dataclass(frozen=True)
class Patches:
    """Patches of at least some area, numbered 1, 2, ... from the largest.

    Attributes:
        hectares: (n,) area.
        mean: (n,) mean of the values that came with the pixels.
        number: lookup from the provisional numbers of `PatchFinder` to these; 0 for none.
    """

    hectares: np.ndarray
    mean: np.ndarray
    number: np.ndarray


class PatchFinder:
    """Joins marked pixels by their sides, strip by strip from the top of a grid.

    The provisional numbers of a strip are final only after `patches`, since what is apart in one
    strip may be joined by the next.
    """

    def __init__(self, grid: Grid) -> None:
        self._row_areas = grid.row_areas_m2()
        self._parent = [0]
        self._last: np.ndarray | None = None
        self._square_metres: list[np.ndarray] = [np.zeros(1)]
        self._sums: list[np.ndarray] = [np.zeros(1)]

    def add(self, row: int, marked: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Take the next strip.

        Args:
            row: its first row.
            marked: (rows, cols) bool.
            values: (rows, cols), of which the area-weighted mean of each patch is wanted.

        Returns:
            (rows, cols) int32 provisional numbers; 0 where not marked.
        """
        found, count = label(marked)
        numbers = np.where(marked, found + (len(self._parent) - 1), 0).astype(np.int32)
        self._parent.extend(range(len(self._parent), len(self._parent) + count))
        if self._last is not None:
            touching = (self._last > 0) & (numbers[0] > 0)
            for above, below in set(zip(self._last[touching].tolist(),
                                        numbers[0][touching].tolist(), strict=True)):
                self._join(above, below)
        self._last = numbers[-1]
        areas = np.broadcast_to(self._row_areas[row:row + len(marked), None], marked.shape)[marked]
        index = found[marked] - 1
        self._square_metres.append(np.bincount(index, areas, count))
        self._sums.append(np.bincount(index, areas * values[marked], count))
        return numbers

    def patches(self, least_ha: float) -> Patches:
        """All patches of at least `least_ha` hectares."""
        roots = np.array([self._root(i) for i in range(len(self._parent))])
        square_metres = np.bincount(roots, np.concatenate(self._square_metres), len(roots))
        sums = np.bincount(roots, np.concatenate(self._sums), len(roots))
        # a millionth of tolerance: ten pixels of 0.01 ha are 0.1 ha
        kept = np.flatnonzero(
            (square_metres > 0) & (square_metres >= least_ha * 1e4 * (1 - 1e-6)))
        kept = kept[np.argsort(-np.round(square_metres[kept], 6), kind="stable")]
        number = np.zeros(len(roots), np.int32)
        number[kept] = np.arange(1, len(kept) + 1)
        return Patches(square_metres[kept] / 1e4, sums[kept] / square_metres[kept], number[roots])

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def _join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._parent[second] = first
