"""A raster of known classes laid over a map: pixels counted by what both say, and measured.

A pixel of the map gets the class of the reference's pixel that its centre lies in, whatever
coordinate system and pixel size the reference has. Nothing is resampled and nothing is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from affine import Affine
from rasterio.warp import transform

from ..context import JobContext, Pace
from ..errors import UserError
from ..rasters.grid import Grid, Window
from .classmap import MOST_CLASSES, NONE, Census, ClassMap

OUTSIDE = -1
"""Stands for a pixel that lies beyond the edges of the reference."""

_ROWS, _COLS = 512, 2048  # of a block
_MOST_READ = 8_000_000  # pixels of the reference that are read at a time
_STEP = 32  # pixels between places whose coordinates are computed, a multiple of two
_SMOOTH = 0.05  # pixels that the coordinates between these may be off; more, and all are computed
_TIE = 1e-6  # pixels; a centre on the border of two goes to the later one, whatever the rounding
_SKETCH = 1400  # pixels of the longer side of the thinned-out copy


@dataclass(frozen=True)
class Overlay:
    """What map and reference say at the same pixels, those of the map.

    Attributes:
        values: (r,) of the reference, ascending.
        pixels, hectares: (c + 1, r + 2): the map's classes and what is none of them; the
            reference's values, no value, and beyond its edges.
        sketch: the thinned-out grid.
        mapped: (rows, cols) int16 place among the map's classes on the sketch, -1 for none.
        reference: (rows, cols) int32 value of the reference on the sketch, `NONE` or `OUTSIDE`.
    """

    values: np.ndarray
    pixels: np.ndarray
    hectares: np.ndarray
    sketch: Grid
    mapped: np.ndarray
    reference: np.ndarray


def lay_over(source: ClassMap, census: Census, reference: ClassMap, context: JobContext
             ) -> Overlay:
    """Count and measure in one pass over the map, block by block.

    Args:
        source: the map.
        census: of the map.
        reference: on its own grid.
        context: progress, warnings, cancellation.

    Raises:
        UserError: the reference holds no classes, or lies elsewhere.
    """
    count = _Count(source.grid, len(census.classes), reference.path.name)
    lookup = _Lookup(source.grid, reference, context)
    places = census.index
    pace = Pace(context, source.grid.full.size, "pixels", "Comparing")
    for window in source.grid.blocks(_ROWS, _COLS):
        count.add(window, places[source.values(window)], lookup.values(window))
        pace.add(window.size)
    found = count.overlay()
    if not found.pixels[:, :-1].any():
        raise UserError(
            f"{reference.path.name} ({reference.crs_name}) and {source.path.name} "
            f"({source.crs_name}) have no common area. Check their CRS, or choose another "
            "reference.")
    return found


class _Count:
    """Pixels and areas of the pairs of class and value, and a thinned-out copy of both."""

    def __init__(self, grid: Grid, classes: int, name: str) -> None:
        self._classes, self._name = classes, name
        self._areas = grid.row_areas_m2()
        self._width = MOST_CLASSES + 2
        self._codes = np.full(NONE + 2, -1, np.int32)  # of value + 1
        self._codes[[OUTSIDE + 1, NONE + 1]] = 0, 1
        self._values = [OUTSIDE, NONE]  # by code
        size = (classes + 1) * self._width
        self._pixels, self._metres = np.zeros(size, np.int64), np.zeros(size)
        step = max(1, math.ceil(max(grid.shape) / _SKETCH))
        self._picked = tuple(np.arange(min(step // 2, n - 1), n, step) for n in grid.shape)
        shape = tuple(len(p) for p in self._picked)
        scaled = grid.affine @ Affine.scale(grid.shape[1] / shape[1], grid.shape[0] / shape[0])
        self._sketch = Grid(grid.crs_wkt, tuple(scaled)[:6], shape)
        self._mapped = np.full(shape, -1, np.int16)
        self._reference = np.full(shape, OUTSIDE, np.int32)

    def add(self, window: Window, mapped: np.ndarray, reference: np.ndarray) -> None:
        """Count a block: (rows, cols) places among the classes, and values."""
        pairs = np.where(mapped < 0, self._classes, mapped).astype(np.int64) * self._width
        pairs += self._coded(reference)
        here = np.bincount(pairs.ravel(), minlength=len(self._pixels))
        found = np.flatnonzero(here)
        self._pixels += here
        order = np.zeros(len(here), np.int64)
        order[found] = np.arange(len(found))
        lines = np.bincount(
            (order[pairs] + np.arange(window.rows)[:, None] * len(found)).ravel(),
            minlength=window.rows * len(found)).reshape(window.rows, -1)
        self._metres[found] += self._areas[window.row : window.row + window.rows] @ lines
        own, sketch = zip(*(_picks(p, start, size) for p, start, size in zip(
            self._picked, (window.row, window.col), (window.rows, window.cols), strict=True)),
            strict=True)
        self._mapped[sketch] = mapped[np.ix_(*own)]
        self._reference[sketch] = reference[np.ix_(*own)]

    def overlay(self) -> Overlay:
        """All of it, the values in ascending order."""
        values = np.array(self._values[2:], np.int64)
        order = [*(np.argsort(values) + 2), 1, 0]
        shape = self._classes + 1, self._width
        return Overlay(np.sort(values), self._pixels.reshape(shape)[:, order],
                       self._metres.reshape(shape)[:, order] / 1e4, self._sketch, self._mapped,
                       self._reference)

    def _coded(self, reference: np.ndarray) -> np.ndarray:
        present = np.flatnonzero(np.bincount((reference + 1).ravel(), minlength=NONE + 2))
        new = present[self._codes[present] < 0]
        if len(self._values) + len(new) > self._width:
            raise UserError(f"{self._name} has more than {MOST_CLASSES} values on the map; that "
                            "is no raster of classes. Choose another.")
        self._codes[new] = np.arange(len(new)) + len(self._values)
        self._values += (new - 1).tolist()
        return self._codes[reference + 1]


def _picks(picked: np.ndarray, start: int, size: int) -> tuple[np.ndarray, slice]:
    """Which rows (or columns) of a block are picked, and where they go."""
    first, last = np.searchsorted(picked, (start, start + size))
    return picked[first:last] - start, slice(first, last)


class _Lookup:
    """Finds the reference's pixels under the centres of the map's pixels."""

    def __init__(self, grid: Grid, reference: ClassMap, context: JobContext) -> None:
        self._grid, self._reference = grid, reference
        ours, theirs = grid.crs, reference.grid.crs
        if bool(ours) != bool(theirs):
            lacking = "The map has" if theirs else f"{reference.path.name} has"
            context.warn(f"{lacking} no CRS; map and reference are taken to share it.")
        self._crs = (ours, theirs) if ours and theirs and ours != theirs else None
        self._inverse = ~reference.grid.affine

    def values(self, window: Window) -> np.ndarray:
        """(rows, cols) int32 values under the pixels of a window, `NONE` or `OUTSIDE`."""
        col, row = self._between(window) if self._crs else self._exact(*_centres(window))
        height, width = self._reference.grid.shape
        col, row = np.floor(col + _TIE), np.floor(row + _TIE)
        inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)  # infinite is not
        result = np.full((window.rows, window.cols), OUTSIDE, np.int32)
        self._read(np.where(inside, row, 0).astype(np.int64),
                   np.where(inside, col, 0).astype(np.int64), inside, result)
        return result

    def _read(self, rows: np.ndarray, cols: np.ndarray, inside: np.ndarray, result: np.ndarray
              ) -> None:
        """Fill in values; where the pixels are far apart, by quarters of the block."""
        if not inside.any():
            return
        (top, bottom), (left, right) = ((int(places[inside].min()), int(places[inside].max()) + 1)
                                        for places in (rows, cols))
        if (bottom - top) * (right - left) > _MOST_READ and rows.size > 1:
            half = tuple(-(-n // 2) for n in rows.shape)
            for quarter in Grid("", (1, 0, 0, 0, 1, 0), rows.shape).blocks(*half):
                self._read(*(a[quarter.slices] for a in (rows, cols, inside, result)))
            return
        block = self._reference.values(Window(top, left, bottom - top, right - left))
        result[inside] = block[rows[inside] - top, cols[inside] - left]

    def _exact(self, col: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows of the reference of places of the map's grid."""
        x, y = self._grid.affine @ (col, row)
        if self._crs is not None:
            x, y = (np.asarray(v).reshape(col.shape)
                    for v in transform(*self._crs, x.ravel(), y.ravel()))
        return self._inverse @ (x, y)

    def _between(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """As `_exact` for a window's centres, but most of them between computed places.

        How far that is off is measured halfway between these, where a smooth curve is farthest
        from its chord. Centres so close to the border of two pixels that it matters are computed.
        """
        across, down = (np.arange(-(-n // _STEP) * 2 + 1) * (_STEP / 2)
                        for n in (window.cols, window.rows))
        nodes = np.meshgrid(across + window.col, down + window.row)
        col, row = _centres(window)
        found = self._exact(*nodes)
        off = max(_chord_error(f) for f in found)
        if not off < _SMOOTH:
            return self._exact(col, row)
        result = tuple(_interpolated(f[::2, ::2], window) for f in found)
        margin = 4 * off + _TIE
        near = np.zeros(col.shape, bool)
        for places in result:
            near |= np.abs(places + _TIE - np.rint(places + _TIE)) < margin
        for places, right in zip(result, self._exact(col[near], row[near]), strict=True):
            places[near] = right
        return result


def _centres(window: Window) -> tuple[np.ndarray, np.ndarray]:
    """(rows, cols) columns and rows of the centres of a window's pixels."""
    col, row = np.meshgrid(np.arange(window.cols) + window.col + 0.5,
                           np.arange(window.rows) + window.row + 0.5)
    return col, row


def _chord_error(places: np.ndarray) -> float:
    """How far every second place is from the middle of its neighbours; NaN where unknown."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        middle = (places[:-2:2, ::2] + places[2::2, ::2]) / 2
        side = (places[::2, :-2:2] + places[::2, 2::2]) / 2
        inner = (middle[:, :-1] + middle[:, 1:]) / 2
        return float(max(np.abs(a - b).max() for a, b in (
            (places[1::2, ::2], middle), (places[::2, 1::2], side),
            (places[1::2, 1::2], inner))))


def _interpolated(nodes: np.ndarray, window: Window) -> np.ndarray:
    """(rows, cols) values at a window's centres between nodes that are `_STEP` apart."""
    (i, down), (j, across) = (divmod((np.arange(n) + 0.5) / _STEP, 1)
                              for n in (window.rows, window.cols))
    i, j = i.astype(int), j.astype(int)
    lines = nodes[i] + (nodes[i + 1] - nodes[i]) * down[:, None]
    return lines[:, j] + (lines[:, j + 1] - lines[:, j]) * across
