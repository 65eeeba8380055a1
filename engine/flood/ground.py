"""Other layers on the grid of a flood map: elevation, known water, zones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_geom
from rasterio.windows import Window as RasterioWindow
from scipy.ndimage import minimum_filter

from ..errors import UserError
from ..rasters.grid import Grid, Window
from ..rasters.margins import grown

REACH_M = 1000.0
"""Distance within which the lowest ground stands for the nearest drainage."""

_MOST_REACH = 150  # pixels; on finer grids the reach is shorter


class Warped:
    """A raster on another grid, read by windows; close it, or use it in a with-block."""

    def __init__(self, path: Path, grid: Grid, resampling: Resampling) -> None:
        """Open a raster.

        Raises:
            UserError: it cannot be read, or raster and grid are not both placed on the ground.
        """
        self.path, self._grid = Path(path), grid
        try:
            self._file = rasterio.open(path)
        except RasterioError as failure:
            raise UserError(f"`{self.path.name}` cannot be read as a raster. Choose another file."
                            ) from failure
        if self._file.crs is None or grid.crs is None:
            self._file.close()
            raise UserError(f"`{self.path.name}` and the images need coordinate systems to be laid "
                            "over each other. Give them one.")
        self._dataset = WarpedVRT(
            self._file, crs=grid.crs, transform=grid.affine, height=grid.shape[0],
            width=grid.shape[1], resampling=resampling, dtype="float32", nodata=np.nan)

    def __enter__(self) -> Warped:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()
        self._file.close()

    def read(self, window: Window) -> np.ndarray:
        """(rows, cols) float32 of band 1; NaN where missing."""
        place = RasterioWindow(window.col, window.row, window.cols, window.rows)
        return self._dataset.read(1, window=place)


class Terrain:
    """Ground that cannot be flooded: steep, or high above the lowest ground nearby.

    The height above the nearest drainage (HAND, Rennó et al. 2008) needs the drainage network of a
    whole catchment; here the lowest ground within `REACH_M` stands for it, which a window with a
    margin can tell. On slopes without a valley in reach this says less than HAND.
    """

    def __init__(self, dem: Path, grid: Grid, steepest: float, highest: float) -> None:
        self._dem = Warped(dem, grid, Resampling.bilinear)
        self._grid, self._steepest, self._highest = grid, steepest, highest
        self._metres = pixel_metres(grid)
        side = min(self._metres[0].min(), self._metres[1].min())
        self._reach = int(min(max(round(REACH_M / side), 1), _MOST_REACH))

    def close(self) -> None:
        """Close the file."""
        self._dem.close()

    def unfit(self, window: Window) -> np.ndarray:
        """(rows, cols) bool: too steep or too high; False where the elevation is unknown."""
        wide, inner = grown(window, self._reach, self._grid.full)
        height = self._dem.read(wide)
        known = np.isfinite(height)
        if not known.any():
            return np.zeros((window.rows, window.cols), bool)
        rows = slice(wide.row, wide.row + wide.rows)
        steep = slope(height, self._metres[0][rows], self._metres[1][rows]) > self._steepest
        low = minimum_filter(np.where(known, height, np.inf), 2 * self._reach + 1, mode="nearest")
        high = height - low > self._highest
        return ((steep | high) & known)[inner]


def slope(height: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Steepness in degrees by central differences; NaN where a neighbour is missing.

    Args:
        height: (rows, cols) in metres.
        across, down: (rows,) width and height of a pixel in metres.
    """
    padded = np.pad(height, 1, mode="reflect", reflect_type="odd") if min(height.shape) > 1 \
        else np.pad(height, 1, mode="edge")
    east = (padded[1:-1, 2:] - padded[1:-1, :-2]) / (2 * across[:, None])
    south = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / (2 * down[:, None])
    return np.degrees(np.arctan(np.hypot(east, south)))


def pixel_metres(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(rows,) width and height of the pixels of each row, in metres."""
    a, b, _, d, e, f = grid.transform
    wide, tall = math.hypot(a, d), math.hypot(b, e)
    rows = grid.shape[0]
    crs = grid.crs
    if crs is not None and crs.is_geographic:
        middle = np.radians(f + e * (np.arange(rows) + 0.5))
        return wide * 111_320 * np.cos(middle), np.full(rows, tall * 110_570.0)
    unit = crs.linear_units_factor[1] if crs is not None and crs.is_projected else 1.0
    return np.full(rows, wide * unit), np.full(rows, tall * unit)


class Zones:
    """Polygons of an administrative layer, counted by pixels.

    Attributes:
        names: of the zones.
        geometry: (n,) shapely polygons in the layer's own CRS.
        crs: of them, as WKT.
    """

    def __init__(self, path: Path, layer: str | None, grid: Grid) -> None:
        """Read the polygons.

        Raises:
            UserError: no polygons, no CRS, or none over the grid.
        """
        self.geometry, self.crs, fields = polygons(path, layer)
        self.names = _names(fields, len(self.geometry))
        self._shapes = _on_grid(self.geometry, self.crs, grid, Path(path).name)
        self._grid, self._areas = grid, grid.row_areas_m2()
        self.square_metres = np.zeros((len(self.geometry) + 1, 256))

    def add(self, row: int, classes: np.ndarray) -> None:
        """Count a strip of (rows, cols) uint8 classes; a pixel belongs where its middle lies."""
        strip = self._grid.part(Window(row, 0, *classes.shape))
        number = rasterize(self._shapes, classes.shape, 0, transform=strip.affine, dtype="int32") \
            if self._shapes else np.zeros(classes.shape, np.int32)
        for offset in range(len(classes)):
            pairs = number[offset].astype(np.int64) * 256 + classes[offset]
            count = np.bincount(pairs, minlength=self.square_metres.size)
            self.square_metres += count.reshape(self.square_metres.shape) \
                * self._areas[row + offset]

    def hectares(self, values: Sequence[int]) -> np.ndarray:
        """(n,) hectares of some classes in each zone."""
        return self.square_metres[1:, list(values)].sum(1) / 1e4


class KnownWater:
    """Permanent water from a raster (above 0) or from polygons."""

    def __init__(self, path: Path, layer: str | None, grid: Grid) -> None:
        self._grid, self._raster, self._shapes = grid, None, []
        try:
            with rasterio.open(path) as file:
                is_raster = file.count > 0
        except RasterioError:
            is_raster = False
        if is_raster:
            self._raster = Warped(path, grid, Resampling.nearest)
        else:
            geometry, crs, _ = polygons(path, layer)
            self._shapes = _on_grid(geometry, crs, grid, Path(path).name)

    def close(self) -> None:
        """Close the file."""
        if self._raster is not None:
            self._raster.close()

    def read(self, window: Window) -> np.ndarray:
        """(rows, cols) bool."""
        if self._raster is not None:
            return np.nan_to_num(self._raster.read(window)) > 0
        place = self._grid.part(window)
        return rasterize(self._shapes, place.shape, 0, transform=place.affine,
                         dtype="uint8").astype(bool) \
            if self._shapes else np.zeros(place.shape, bool)


def polygons(path: Path, layer: str | None) -> tuple[np.ndarray, str, dict[str, np.ndarray]]:
    """Polygons of a vector file, their CRS as WKT, and the fields.

    Raises:
        UserError: the file cannot be read, or holds no polygons.
    """
    name = Path(path).name
    try:
        meta, _, raw, values = pyogrio.raw.read(path, layer=layer or None)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as failure:
        raise UserError(f"`{name}` cannot be read as polygons or as a raster. Choose another file."
                        ) from failure
    geometry = shapely.from_wkb(raw)
    kept = np.isin(shapely.get_type_id(geometry), (3, 6)) & ~shapely.is_empty(geometry)
    if not kept.any():
        raise UserError(f"`{name}` holds no polygons. Choose a polygon layer.")
    crs = CRS.from_user_input(meta["crs"]).to_wkt() if meta["crs"] else ""
    fields = {str(f): v[kept] for f, v in zip(meta["fields"], values, strict=True)}
    return shapely.force_2d(geometry[kept]), crs, fields


def _names(fields: dict[str, np.ndarray], count: int) -> list[str]:
    """Names of zones: the field called name, else the first text field, else numbers."""
    texts = [f for f, v in fields.items() if v.dtype.kind in "OU"]
    named = [f for f in texts if "name" in f.lower()] or texts
    if not named:
        return [str(i + 1) for i in range(count)]
    return [str(v) if v not in (None, "") else str(i + 1) for i, v in enumerate(fields[named[0]])]


def _on_grid(geometry: np.ndarray, crs: str, grid: Grid, name: str
             ) -> list[tuple[dict, int]]:
    """(GeoJSON on the grid, number from 1) of the polygons that touch it.

    Raises:
        UserError: no CRS, or all polygons lie beside the grid.
    """
    if not crs or grid.crs is None:
        raise UserError(f"`{name}` and the images need coordinate systems to be laid over each "
                        "other. Give them one.")
    shapes = [shapely.geometry.mapping(g) for g in geometry]
    if CRS.from_wkt(crs) != grid.crs:
        shapes = transform_geom(CRS.from_wkt(crs), grid.crs, shapes)
    frame = shapely.box(*grid.bounds)
    found = [(shape, k) for k, shape in enumerate(shapes, 1)
             if shapely.geometry.shape(shape).intersects(frame)]
    if not found:
        raise UserError(f"`{name}` lies outside the images. Check its CRS.")
    return found
