"""Where pixels lie: `Grid` (CRS, affine transform, shape) and `Window` (a part of one).

Every function that places pixels takes a grid, never loose numbers. No files here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform, transform_bounds

_DEGREES = CRS.from_epsg(4326)
_NODES, _ACROSS = 256, 5  # rows and places in a row at which a projection's scale is measured
_A = 6378137.0  # WGS 84 semi-major axis (m)
_E2 = (1 / 298.257223563) * (2 - 1 / 298.257223563)


@dataclass(frozen=True)
class Window:
    """Rows row..row+rows and columns col..col+cols of a grid."""

    row: int
    col: int
    rows: int
    cols: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices into an array of the whole grid."""
        return slice(self.row, self.row + self.rows), slice(self.col, self.col + self.cols)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.rows * self.cols


@dataclass(frozen=True)
class Grid:
    """A regular grid of pixels; may be rotated, south-up or in degrees.

    Attributes:
        crs_wkt: coordinate reference system as WKT; empty where the file has none.
        transform: the six affine numbers (a, b, c, d, e, f): x = a col + b row + c,
            y = d col + e row + f, in units of the CRS, of pixel corners.
        shape: (rows, columns).
    """

    crs_wkt: str
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]

    @classmethod
    def of(cls, dataset: object) -> Grid:
        """The grid of an open rasterio dataset."""
        wkt = dataset.crs.to_wkt() if dataset.crs else ""
        return cls(wkt, tuple(dataset.transform)[:6], (dataset.height, dataset.width))

    @property
    def affine(self) -> Affine:
        """The transform as rasterio takes it."""
        return Affine(*self.transform)

    @property
    def crs(self) -> CRS | None:
        """The CRS as rasterio takes it; None where unknown."""
        return CRS.from_wkt(self.crs_wkt) if self.crs_wkt else None

    @property
    def full(self) -> Window:
        """The window of all pixels."""
        return Window(0, 0, *self.shape)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of the box around all pixels, in units of the CRS."""
        rows, cols = self.shape
        corners = [self.affine @ c for c in ((0, 0), (cols, 0), (0, rows), (cols, rows))]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def pixel_size(self) -> float:
        """Side of a square of a pixel's area, in units of the CRS."""
        a, b, _, d, e, _ = self.transform
        return math.sqrt(abs(a * e - b * d))

    def part(self, window: Window) -> Grid:
        """The grid of a window."""
        origin = self.affine @ Affine.translation(window.col, window.row)
        return Grid(self.crs_wkt, tuple(origin)[:6], (window.rows, window.cols))

    def coarser(self, factor: int) -> Grid:
        """The grid of squares of factor x factor pixels; the last ones may reach beyond it."""
        scaled = self.affine @ Affine.scale(factor)
        rows, cols = (-(-n // factor) for n in self.shape)
        return Grid(self.crs_wkt, tuple(scaled)[:6], (rows, cols))

    def blocks(self, rows: int, cols: int) -> Iterator[Window]:
        """Windows of at most rows x cols that cover the grid, row by row, from row 0, column 0."""
        for row in range(0, self.shape[0], rows):
            for col in range(0, self.shape[1], cols):
                yield Window(
                    row, col, min(rows, self.shape[0] - row), min(cols, self.shape[1] - col)
                )

    def window_of(self, bounds: tuple[float, float, float, float]) -> Window | None:
        """The window that covers a box (left, bottom, right, top), snapped outwards to pixels.

        None where they have no common area.
        """
        left, bottom, right, top = bounds
        inverse = ~self.affine
        corners = [inverse @ c for c in ((left, top), (right, top), (left, bottom),
                                         (right, bottom))]
        cols, rows = zip(*corners, strict=True)
        c0, c1 = math.floor(min(cols) + 1e-6), math.ceil(max(cols) - 1e-6)
        r0, r1 = math.floor(min(rows) + 1e-6), math.ceil(max(rows) - 1e-6)
        c0, c1 = max(c0, 0), min(c1, self.shape[1])
        r0, r1 = max(r0, 0), min(r1, self.shape[0])
        return Window(r0, c0, r1 - r0, c1 - c0) if r1 > r0 and c1 > c0 else None

    def bounds_in(self, crs: CRS) -> tuple[float, float, float, float]:
        """The bounds in another CRS (edges densified)."""
        if self.crs is None or self.crs == crs:
            return self.bounds
        return transform_bounds(self.crs, crs, *self.bounds, densify_pts=21)

    def matches(self, other: Grid) -> bool:
        """Whether pixels lie on the same places, to a hundredth of a pixel."""
        tolerance = self.pixel_size / 100
        ours, theirs = (np.array([g.affine @ c for c in ((0, 0), g.shape[::-1])])
                        for g in (self, other))
        return (self.shape == other.shape and bool(np.all(np.abs(ours - theirs) < tolerance))
                and (self.crs_wkt == other.crs_wkt or self.crs == other.crs))

    def row_areas_m2(self) -> np.ndarray:
        """(rows,) area of one pixel of each row, in square metres on the WGS 84 ellipsoid.

        Exact for degrees; of a projection the mean over a row, from its scale at some places.
        The plane area where there is no CRS or it has no place on Earth.
        """
        rows, cols = self.shape
        a, b, c, d, e, f = self.transform
        crs = self.crs
        if crs is not None and crs.is_geographic:
            lat = f + e * np.arange(rows + 1) + d * cols / 2
            s = np.sin(np.radians(lat))
            e1 = math.sqrt(_E2)
            q = (1 - _E2) * (
                s / (1 - _E2 * s**2) - np.log((1 - e1 * s) / (1 + e1 * s)) / (2 * e1)
            )
            return _A**2 / 2 * math.radians(abs(a)) * np.abs(np.diff(q))
        pixel = abs(a * e - b * d)
        if crs is not None and crs.is_projected:
            scale = self._true_scale(crs)
            if scale is not None:
                return pixel * scale
            pixel *= crs.linear_units_factor[1] ** 2
        return np.full(rows, pixel)

    def _true_scale(self, crs: CRS) -> np.ndarray | None:
        """(rows,) square metres on the ellipsoid of a square unit of a projection.

        From how longitude and latitude change around places of the grid: the area of the
        ellipsoid is M N cos(latitude), M and N its radii of curvature (Snyder 1987, eq. 4-18 to
        4-21). None where a place cannot be told.
        """
        rows, cols = self.shape
        row = np.linspace(0, rows, min(rows, _NODES) + 1)
        col = (np.arange(_ACROSS) + 0.5) / _ACROSS * cols
        x, y = self.affine @ np.meshgrid(col, row)
        step = self.pixel_size
        moves = ((step, 0), (-step, 0), (0, step), (0, -step))
        try:
            lon, lat = np.array(transform(
                crs, _DEGREES, np.concatenate([(x + dx).ravel() for dx, _ in moves]),
                np.concatenate([(y + dy).ravel() for _, dy in moves]))).reshape(2, 4, *x.shape)
        except RasterioError:
            return None
        east, north = lon[0::2] - lon[1::2], lat[0::2] - lat[1::2]
        east = np.radians((east + 180) % 360 - 180) / (2 * step)
        north = np.radians(north) / (2 * step)
        middle = np.radians(lat.mean(0))
        radii = _A**2 * (1 - _E2) / (1 - _E2 * np.sin(middle) ** 2) ** 2
        scale = np.abs(east[0] * north[1] - east[1] * north[0]) * radii * np.cos(middle)
        known = np.isfinite(scale)
        if not known.any(1).all():
            return None
        mean = np.where(known, scale, 0).sum(1) / known.sum(1)
        scale = np.interp(np.arange(rows) + 0.5, row, mean)
        typical = scale.mean()
        return typical * np.round(scale / typical, 8)  # what the differences can tell
