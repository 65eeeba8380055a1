"""Where the pixels of a picture lie in a raster of another grid and CRS.

Coordinates are transformed at the nodes of a lattice and interpolated bilinearly between them.
The lattice is made finer until the middle of each cell is right to a tenth of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.warp import transform

from ..rasters.grid import Grid, Window

_COARSEST = 32  # picture pixels between nodes
_TOLERANCE = 0.1  # pixels of the coarser of the two grids
_PROBES = 17  # points along each side of a raster that tell where it lies in the picture


@dataclass(frozen=True)
class Placement:
    """Nodes of a lattice over a part of a picture.

    Attributes:
        window: the part of the picture.
        step: picture pixels between nodes; node (i, j) is the centre of the picture's pixel
            window.row + i step, window.col + j step.
        cols, rows: (m, n) float64 column and row in the raster (0 is the left or top edge of the
            first pixel); not finite where the transformation fails.
        shape: of the raster.
    """

    window: Window
    step: int
    cols: np.ndarray
    rows: np.ndarray
    shape: tuple[int, int]

    @property
    def touched(self) -> float:
        """About how many of the raster's pixels the picture shows."""
        across = np.diff(self.cols, axis=1)[:-1], np.diff(self.rows, axis=1)[:-1]
        down = np.diff(self.cols, axis=0)[:, :-1], np.diff(self.rows, axis=0)[:, :-1]
        area = np.abs(across[0] * down[1] - across[1] * down[0])
        # a cell at the rim counts by the share of its box that lies inside
        inside = np.ones(area.shape)
        for nodes, length in ((self.cols, self.shape[1]), (self.rows, self.shape[0])):
            corners = np.stack([nodes[:-1, :-1], nodes[1:, :-1], nodes[:-1, 1:], nodes[1:, 1:]])
            low, high = corners.min(0), corners.max(0)
            part = np.minimum(high, length) - np.maximum(low, 0)
            inside *= np.clip(part, 0, None) / np.maximum(high - low, 1e-9)
        # the last cells reach beyond the window
        return float(np.nansum(area * inside)) * self.window.size / (area.size * self.step**2)

    def pixels(self, level: int) -> Window:
        """The window of a level of the raster that holds all pixels that are shown."""
        spans = []
        for nodes, length in ((self.rows, self.shape[0]), (self.cols, self.shape[1])):
            known = nodes[np.isfinite(nodes)]
            # a pixel more on each side, for centres that lie on an edge to the last digit
            first = int(np.clip(np.floor(known.min(initial=0)) - 1, 0, length - 1)) >> level
            last = int(np.clip(np.floor(known.max(initial=0)) + 1, 0, length - 1)) >> level
            spans.append((first, last + 1 - first))
        (row, rows), (col, cols) = spans
        return Window(row, col, rows, cols)

    def locate(self, level: int, pixels: Window, index: np.ndarray, target: np.ndarray,
               used: np.ndarray) -> None:
        """Find the raster's pixel of each picture pixel of `window` that has none yet.

        Args:
            level: of the raster.
            pixels: window of that level, see `pixels`.
            index: (rows, cols) int32 of the whole picture, 0 where there is none yet.
            target: (window.rows, window.cols) int32, filled with row * pixels.cols + col within
                `pixels`, or -1.
            used: (pixels.rows, pixels.cols) bool, set where a picture pixel falls.
        """
        _locate(self.cols, self.rows, self.step, *self.shape, 2**level, pixels.row, pixels.col,
                index[self.window.slices], target, used)


def place(picture: Grid, raster: Grid) -> Placement | None:
    """How a picture shows a raster; None where it does not."""
    theirs, ours = picture.crs, raster.crs
    if theirs is None or ours is None or theirs == ours:
        theirs = ours = None
    window = _part(picture, raster, theirs, ours)
    if window is None:
        return None
    step = _COARSEST
    while True:
        rows = window.row + step * np.arange(-(-window.rows // step) + 1)
        cols = window.col + step * np.arange(-(-window.cols // step) + 1)
        nodes = _to_raster(picture, raster, theirs, ours, rows, cols)
        found = Placement(window, step, *nodes, raster.shape)
        if step == 1 or theirs is None:
            return found
        middle = _to_raster(picture, raster, theirs, ours, rows[:-1] + step / 2,
                            cols[:-1] + step / 2)
        if _error(found, middle) <= _TOLERANCE:
            return found
        step //= 2


def moved(source: CRS | None, target: CRS | None, x: np.ndarray, y: np.ndarray
          ) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in another CRS; infinite where the transformation fails."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if source is None or target is None or source == target or not x.size:
        return x, y
    try:
        east, north = (np.array(v) for v in transform(source, target, x.ravel(), y.ravel()))
    except CPLE_BaseError:  # one point outside the projection's domain fails them all
        if x.size == 1:
            return np.full(x.shape, np.inf), np.full(x.shape, np.inf)
        half = x.size // 2
        parts = [moved(source, target, x.ravel()[s], y.ravel()[s])
                 for s in (slice(half), slice(half, None))]
        east, north = (np.concatenate(v) for v in zip(*parts, strict=True))
    return east.reshape(x.shape), north.reshape(x.shape)


def _to_raster(picture: Grid, raster: Grid, theirs: CRS | None, ours: CRS | None,
               rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows in the raster of the centres of picture pixels, (len(rows), len(cols))."""
    across, down = np.meshgrid(cols + 0.5, rows + 0.5)
    x, y = moved(theirs, ours, *(picture.affine @ (across, down)))
    with np.errstate(invalid="ignore"):
        return ~raster.affine @ (x, y)


def _part(picture: Grid, raster: Grid, theirs: CRS | None, ours: CRS | None) -> Window | None:
    """The part of a picture outside which the raster is not; None where there is none."""
    rows, cols = (np.linspace(0, n, _PROBES) for n in raster.shape)
    across, down = np.meshgrid(cols, rows)
    x, y = moved(ours, theirs, *(raster.affine @ (across, down)))
    if not (np.isfinite(x) & np.isfinite(y)).all():
        return picture.full
    spans = []
    for at, length in zip(reversed(~picture.affine @ (x, y)), picture.shape, strict=True):
        margin = (at.max() - at.min()) / (_PROBES - 1) + 2
        first = int(np.clip(np.floor(at.min() - margin), 0, length))
        spans.append((first, int(np.clip(np.ceil(at.max() + margin), 0, length)) - first))
    (row, rows), (col, cols) = spans
    return Window(row, col, rows, cols) if rows > 0 and cols > 0 else None


def _error(found: Placement, middle: tuple[np.ndarray, np.ndarray]) -> float:
    """Largest distance of the interpolated from the true middle of the cells on the raster.

    In pixels of the raster or of the picture, whichever are larger.
    """
    worst, near, finite = 0.0, True, np.isfinite(middle[0]) & np.isfinite(middle[1])
    size = np.ones(finite.shape)
    with np.errstate(invalid="ignore"):
        for nodes, true, length in ((found.cols, middle[0], found.shape[1]),
                                    (found.rows, middle[1], found.shape[0])):
            corners = np.stack([nodes[:-1, :-1], nodes[1:, :-1], nodes[:-1, 1:], nodes[1:, 1:]])
            worst = np.maximum(worst, np.abs(corners.mean(0) - true))
            near &= (corners.max(0) >= 0) & (corners.min(0) <= length)
            size = np.maximum(size, np.abs(corners.max(0) - corners.min(0)) / 2 / found.step)
            # a cell that is known in part only must be made smaller, unless it is far away
            near |= finite & (true >= 0) & (true <= length) & ~np.isfinite(corners).all(0)
        relative = np.where(np.isfinite(worst), worst / size, np.inf)
    return float(relative[near].max(initial=0.0))


@numba.njit(cache=True, nogil=True)
def _locate(cols: np.ndarray, rows: np.ndarray, step: int, height: int, width: int, factor: int,
            top: int, left: int, index: np.ndarray, target: np.ndarray, used: np.ndarray) -> None:
    nodes = cols.shape[1]
    line_c, line_r = np.empty(nodes), np.empty(nodes)
    for r in range(target.shape[0]):
        i, share = r // step, (r % step) / step
        for j in range(nodes):
            line_c[j], line_r[j] = cols[i, j], rows[i, j]
            if share > 0.0:
                line_c[j] += share * (cols[i + 1, j] - cols[i, j])
                line_r[j] += share * (rows[i + 1, j] - rows[i, j])
        for c in range(target.shape[1]):
            target[r, c] = -1
            if index[r, c] != 0:
                continue
            j, part = c // step, (c % step) / step
            x, y = line_c[j], line_r[j]
            if part > 0.0:
                x += part * (line_c[j + 1] - line_c[j])
                y += part * (line_r[j + 1] - line_r[j])
            if 0.0 <= x < width and 0.0 <= y < height:
                row, col = int(y) // factor - top, int(x) // factor - left
                target[r, c] = row * used.shape[1] + col
                used[row, col] = True
