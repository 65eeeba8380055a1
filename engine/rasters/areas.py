"""Hectares of each class of a map, counted by pixels with their true size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window as RasterWindow

from ..context import JobContext
from .grid import Grid
from .legend import Legend

_ROWS = 512  # rows read at a time


@dataclass(frozen=True)
class ClassArea:
    """One line of the table of areas."""

    value: int
    name: str
    color: str
    pixels: int
    hectares: float
    share: float


@dataclass(frozen=True)
class Areas:
    """Areas of all classes of a legend, largest first, and of pixels without an answer (ha)."""

    classes: tuple[ClassArea, ...]
    unanswered: float

    @property
    def total(self) -> float:
        """Hectares with an answer."""
        return sum(c.hectares for c in self.classes)

    @property
    def unanswered_share(self) -> float:
        """Share of the whole raster without an answer, 0..1."""
        whole = self.total + self.unanswered
        return self.unanswered / whole if whole else 0.0


class AreaCount:
    """Counts pixels and square metres of values 0..255 window by window."""

    def __init__(self, grid: Grid) -> None:
        self._row_areas = grid.row_areas_m2()
        self.pixels = np.zeros(256, np.int64)
        self.square_metres = np.zeros(256)

    def add(self, row: int, values: np.ndarray) -> None:
        """Count a block (rows, cols) uint8 whose first row is `row` of the grid."""
        for offset, line in enumerate(values):
            count = np.bincount(line, minlength=256)
            self.pixels += count
            self.square_metres += count * self._row_areas[row + offset]

    def areas(self, legend: Legend) -> Areas:
        """The table; what is not in the legend counts as unanswered."""
        hectares = self.square_metres / 1e4
        answered = np.isin(np.arange(256), legend.values)
        total = float(hectares[answered].sum())
        rows = [ClassArea(c.value, c.name, c.color, int(self.pixels[c.value]),
                          float(hectares[c.value]),
                          float(hectares[c.value] / total) if total else 0.0)
                for c in legend.classes]
        rows.sort(key=lambda r: -r.hectares)
        return Areas(tuple(rows), float(hectares[~answered].sum()))


def areas_of(path: Path, legend: Legend, context: JobContext) -> Areas:
    """Areas per class of a uint8 class raster, read by blocks of rows."""
    with rasterio.open(path) as dataset:
        grid = Grid.of(dataset)
        count = AreaCount(grid)
        for row in range(0, grid.shape[0], _ROWS):
            context.check()
            rows = min(_ROWS, grid.shape[0] - row)
            count.add(row, dataset.read(1, window=RasterWindow(0, row, grid.shape[1], rows)))
    return count.areas(legend)
