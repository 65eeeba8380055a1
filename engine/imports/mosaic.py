"""Many sources as one grid of unit vectors, and how well they agree where they overlap.

Pixels are taken, never mixed: a mean of vectors of two places is a vector of neither. Where
sources overlap the first one stays, and the cosine distance to the others is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import calculate_default_transform, transform

from ..errors import UserError
from ..rasters.grid import Grid, Window
from .source import Source

_COARSER = 16  # source pixels in a pixel, or pixels in a source pixel: more is another product


@dataclass(frozen=True)
class Seam:
    """Where two sources overlap.

    Attributes:
        first, second: names of the sources; pixels of the first are kept.
        pixels: that both have.
        distance: mean of 1 - cosine over them.
    """

    first: str
    second: str
    pixels: int
    distance: float


class Mosaic:
    """Sources of one encoder on one grid, read by windows.

    Args:
        sources: in the order in which they are preferred; see `chosen`.
        grid: of the mosaic.

    Raises:
        UserError: pixels of very different sizes.
    """

    def __init__(self, sources: Sequence[Source], grid: Grid) -> None:
        self.grid, self.dims = grid, sources[0].dims
        self._sources: list[tuple[Source, Window]] = []
        for source in sources:
            window = grid.window_of(source.grid.bounds_in(grid.crs))
            if window is None:
                continue
            _check_size(source, grid)
            self._sources.append((source, _wider(window, grid)))
        self._seams: dict[tuple[int, int], list[float]] = {}

    @property
    def pixels(self) -> int:
        """How many pixels of the grid can have a vector at most."""
        return min(self.grid.full.size, sum(window.size for _, window in self._sources))

    def touched(self, window: Window) -> bool:
        """Whether any source reaches into a window."""
        return any(_overlap(window, where) for _, where in self._sources)

    def read(self, window: Window, seams: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(rows, cols, dims) float32 unit vectors, and (rows, cols) bool where there is one.

        Args:
            window: of the grid.
            seams: count the window's overlaps for `seams`.
        """
        out = np.zeros((window.rows, window.cols, self.dims), np.float32)
        owner = np.full((window.rows, window.cols), -1, np.int32)
        for k, (source, where) in enumerate(self._sources):
            if not _overlap(window, where) or (not seams and (owner >= 0).all()):
                continue
            vectors, valid = _nearest(source, self.grid.part(window))
            if not valid.any():
                continue
            with np.errstate(over="ignore", invalid="ignore"):  # in pixels that are not valid
                norms = np.sqrt(np.einsum("rcd,rcd->rc", vectors, vectors))
            valid &= np.isfinite(norms) & (norms > 0)  # a zero vector has no direction
            vectors /= np.where(valid, norms, 1)[..., None]
            if seams:
                self._compare(out, owner, vectors, valid, k)
            new = valid & (owner < 0)
            out[new] = vectors[new]
            owner[new] = k
        return out, owner >= 0

    def release(self, row: int) -> None:
        """Close the sources that have no pixel from a row of the grid on."""
        for source, where in self._sources:
            if where.row + where.rows <= row:
                source.close()

    def seams(self) -> list[Seam]:
        """All overlaps counted so far, the worst first."""
        found = [Seam(self._sources[i][0].name, self._sources[k][0].name, int(n), total / n)
                 for (i, k), (n, total) in self._seams.items()]
        return sorted(found, key=lambda seam: -seam.distance)

    def _compare(self, out: np.ndarray, owner: np.ndarray, vectors: np.ndarray,
                 valid: np.ndarray, k: int) -> None:
        both = valid & (owner >= 0)
        if not both.any():
            return
        distances = 1 - np.einsum("nd,nd->n", out[both], vectors[both])
        for i in np.unique(owner[both]).tolist():
            part = distances[owner[both] == i]
            total = self._seams.setdefault((i, k), [0, 0.0])
            total[0] += len(part)
            total[1] += float(part.sum(dtype=np.float64))


def chosen(sources: Sequence[Source], crs: str | None, extent: list | None
           ) -> tuple[list[Source], Grid]:
    """Sources within an extent, those in the CRS of the mosaic first, and its grid, north-up.

    Args:
        sources: of one encoder.
        crs: of the mosaic; None takes the CRS of most pixels.
        extent: [left, bottom, right, top, CRS], or None for all.

    Returns:
        Sources, and a grid on whole pixels of the first source that is in its CRS.

    Raises:
        UserError: mixed encoders, an unknown CRS, nothing within the extent.
    """
    _check_alike(sources)
    reach = {id(s): _reach(s, extent) for s in sources}
    inside = [s for s in sources if reach[id(s)]]
    if not inside:
        raise UserError("The area to process and the embeddings have no common area. Choose "
                        "another area.")
    systems: dict[str, int] = {}
    for source in inside:
        key = source.grid.crs_wkt
        systems[key] = systems.get(key, 0) + reach[id(source)].size
    try:
        system = CRS.from_user_input(crs) if crs else CRS.from_wkt(max(systems, key=systems.get))
    except CRSError as failure:
        raise UserError(f"The CRS {crs} is not understood ({failure}). Choose another."
                        ) from failure
    inside.sort(key=lambda s: s.grid.crs != system)  # stable: else as they came
    bounds = [s.grid.part(reach[id(s)]).bounds_in(system) for s in inside]
    left, bottom = (min(b[k] for b in bounds) for k in (0, 1))
    right, top = (max(b[k] for b in bounds) for k in (2, 3))
    wide, high, x0, y0 = _pixels(inside[0].grid, system)
    c0, c1 = math.floor((left - x0) / wide + 1e-6), math.ceil((right - x0) / wide - 1e-6)
    r0, r1 = math.floor((y0 - top) / high + 1e-6), math.ceil((y0 - bottom) / high - 1e-6)
    grid = Grid(system.to_wkt(), (wide, 0.0, x0 + c0 * wide, 0.0, -high, y0 - r0 * high),
                (r1 - r0, c1 - c0))
    return inside, grid


def _check_alike(sources: Sequence[Source]) -> None:
    first = sources[0]
    for source in sources:
        if source.origin.encoder != first.origin.encoder:
            raise UserError(
                f"{first.name} is of the encoder {first.origin.encoder}, {source.name} of "
                f"{source.origin.encoder}; vectors of two encoders, or of two versions of one, "
                "cannot be compared. Import them one at a time.")
        if source.dims != first.dims:
            raise UserError(f"{first.name} has {first.dims} dimensions, {source.name} has "
                            f"{source.dims}. Import them one at a time.")


def _reach(source: Source, extent: list | None) -> Window | None:
    """The part of a source within an extent, None where there is none."""
    if not extent:
        return source.grid.full
    *bounds, crs = extent
    box = Grid(CRS.from_user_input(crs).to_wkt() if crs else source.grid.crs_wkt,
               (bounds[2] - bounds[0], 0, bounds[0], 0, bounds[1] - bounds[3], bounds[3]), (1, 1))
    return source.grid.window_of(box.bounds_in(source.grid.crs))


def _pixels(grid: Grid, system: CRS) -> tuple[float, float, float, float]:
    """Width and height of the mosaic's pixels, and a corner that they count from."""
    a, b, x0, d, e, y0 = grid.transform
    if grid.crs == system and not (b or d):
        return abs(a), abs(e), x0, y0
    if grid.crs == system:
        return grid.pixel_size, grid.pixel_size, x0, y0
    left, bottom, right, top = grid.bounds
    rows, cols = grid.shape
    to, _, _ = calculate_default_transform(grid.crs, system, cols, rows, left, bottom, right, top)
    return to.a, -to.e, 0.0, 0.0


def _check_size(source: Source, grid: Grid) -> None:
    """Refuse a source whose pixels, at its centre, are much larger or smaller than the grid's."""
    rows, cols = (n / 2 for n in source.grid.shape)
    corners = [source.grid.affine @ p for p in ((cols, rows), (cols + 1, rows), (cols, rows + 1))]
    xs, ys = transform(source.grid.crs, grid.crs, *zip(*corners, strict=True))
    area = abs((xs[1] - xs[0]) * (ys[2] - ys[0]) - (xs[2] - xs[0]) * (ys[1] - ys[0]))
    ratio = area / grid.pixel_size**2
    if not 1 / _COARSER <= ratio <= _COARSER:
        raise UserError(f"A pixel of {source.name} covers {ratio:.3g} pixels of the other "
                        "embeddings. Import sets of one pixel size at a time.")


def _wider(window: Window, grid: Grid) -> Window:
    """A window with a pixel more on each side, within the grid."""
    row, col = max(window.row - 1, 0), max(window.col - 1, 0)
    return Window(row, col, min(window.row + window.rows + 1, grid.shape[0]) - row,
                  min(window.col + window.cols + 1, grid.shape[1]) - col)


def _overlap(one: Window, other: Window) -> bool:
    return (one.row < other.row + other.rows and other.row < one.row + one.rows
            and one.col < other.col + other.cols and other.col < one.col + one.cols)


def _nearest(source: Source, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """A source's vectors at the centres of a grid's pixels: of the pixel that holds the centre."""
    cols, rows = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
    to_grid: Affine = ~source.grid.affine
    if grid.crs == source.grid.crs:
        cols, rows = (to_grid @ grid.affine) @ (cols, rows)
    else:
        xs, ys = grid.affine @ (cols, rows)
        flat = transform(grid.crs, source.grid.crs, xs.ravel(), ys.ravel())
        cols, rows = to_grid @ tuple(np.asarray(v).reshape(grid.shape) for v in flat)
    height, width = source.grid.shape
    # a centre that lies on an edge belongs to one side, whatever the rounding
    rows, cols = (np.floor(np.where(np.isfinite(v), v, -1) + 1e-6) for v in (rows, cols))
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    if not inside.any():
        return np.zeros((*grid.shape, source.dims), np.float32), inside
    rows, cols = (np.where(inside, v, v[inside].min()).astype(np.int64) for v in (rows, cols))
    r0, c0 = int(rows.min()), int(cols.min())
    window = Window(r0, c0, int(rows.max()) + 1 - r0, int(cols.max()) + 1 - c0)
    vectors, valid = source.read(window)
    place = rows - r0, cols - c0
    return vectors[place], valid[place] & inside
