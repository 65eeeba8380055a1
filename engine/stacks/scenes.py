"""What a stack is made of: `Asset` (one band of one file) and `Scene` (a sensor on a day)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from ..rasters.grid import Grid
from .sensors import in_order

_PART = re.compile(r'^(?P<driver>[A-Za-z0-9_]+):"(?P<file>.+)":(?P<part>.+)$')
_ZIP = re.compile(r"^/vsizip/\{(?P<file>.+?)\}/(?P<part>.+)$")


@dataclass(frozen=True)
class Asset:
    """One band of one file, and how its stored numbers become physical ones.

    Attributes:
        path: file, or GDAL's name of a part of one (`NETCDF:"cube.nc":B02`).
        band: number of the band, from 1.
        name: common name of a data band; kind of a mask.
        scale, offset: value = stored * scale + offset.
        nodata: stored value of missing pixels; None where nothing but NaN is missing.
        role: "data" or "mask".
        mask: kind of mask, a key of `earthprint.engine.stacks.masks.RULES`; empty for data.
        unit: of the value: "reflectance", "kelvin", "db", or "power" and "amplitude", which
            become dB when read (10 log10 and 20 log10).
        grid: pixels of the file.
    """

    path: str
    band: int
    name: str
    scale: float
    offset: float
    nodata: float | None
    role: str
    mask: str
    unit: str
    grid: Grid


@dataclass(frozen=True)
class Scene:
    """Everything that one sensor saw of one place on one day.

    Attributes:
        sensor: see `earthprint.engine.stacks.sensors`.
        date: ISO day, None where unknown.
        orbit: "ascending", "descending" or "".
        track: relative orbit number, 0 where unknown.
        tile: tile or path and row, where the name tells.
        assets: data bands first, in wavelength order, then masks.
        note: what was decided or is doubtful, in words.
    """

    sensor: str
    date: str | None
    orbit: str
    assets: tuple[Asset, ...]
    note: str = ""
    track: int = 0
    tile: str = ""

    @property
    def grid(self) -> Grid:
        """The grid of the finest data band."""
        return min((a.grid for a in self.data), key=metres)

    @property
    def data(self) -> tuple[Asset, ...]:
        """The data bands."""
        return tuple(a for a in self.assets if a.role == "data")

    @property
    def masks(self) -> tuple[Asset, ...]:
        """The masks."""
        return tuple(a for a in self.assets if a.role == "mask")

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the data bands, in wavelength order."""
        return in_order({a.name for a in self.data})


def metres(grid: Grid) -> float:
    """Side of a pixel in metres, near enough to tell fine from coarse."""
    crs = grid.crs
    if crs is not None and crs.is_geographic:
        bottom, top = grid.bounds[1], grid.bounds[3]
        return grid.pixel_size * 111_320 * float(np.sqrt(np.cos(np.radians((bottom + top) / 2))))
    unit = crs.linear_units_factor[1] if crs is not None and crs.is_projected else 1.0
    return grid.pixel_size * unit


def lonlat_bounds(grid: Grid) -> tuple[float, float, float, float] | None:
    """(west, south, east, north) in degrees; None without a CRS."""
    if grid.crs is None:
        return None
    return transform_bounds(grid.crs, CRS.from_epsg(4326), *grid.bounds, densify_pts=5)



def split_path(path: str) -> tuple[str, str, str]:
    """(driver, file, part) of GDAL's name of a part of a file; ("", path, "") of a file itself."""
    match = _PART.match(path)
    if match:
        return match["driver"], match["file"], match["part"]
    match = _ZIP.match(path)
    return ("zip", match["file"], match["part"]) if match else ("", path, "")


def join_path(driver: str, file: str, part: str) -> str:
    """GDAL's name of a part of a file; the inverse of `split_path`."""
    if driver == "zip":
        return f"/vsizip/{{{Path(file).as_posix()}}}/{part}"
    return f'{driver}:"{file}":{part}' if driver else file


def file_behind(path: str) -> str:
    """The file on disk that holds what a GDAL path names."""
    return split_path(path)[1]
