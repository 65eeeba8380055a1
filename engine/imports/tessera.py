"""GeoTessera tiles of 0.1 degree as NumPy files: int8 vectors, a scale a pixel, a landmask.

Grids and names follow the published package `geotessera`. The stated corners of tiles are not on
the 10 m grid that the pixels were made on; `snapped` puts them back on it.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform
from rasterio.windows import Window as RasterioWindow

from ..errors import UserError
from ..rasters.grid import Grid, Window
from .source import Origin, Source, year_in

FORMAT = "tessera-npy"
ATTRIBUTION = "TESSERA embeddings of the University of Cambridge."
#: Name of a tile by the longitude and latitude of its centre.
TILE_NAME = re.compile(r"grid_(-?\d+\.\d+)_(-?\d+\.\d+)")

_DIMS, _PIXEL, _HALF = 128, 10.0, 0.05
_LANDMASKS = "global_0.1_degree_tiff_all"
_LEVELS = 5  # folders above a tile in which landmasks and metadata are looked for
_DATASET = re.compile(r"v(\d+(?:\.\d+)?)(?:-(.+))?")
_VARIANTS = {"cam": "cambridge", "": "unknown"}


def tile_grid(lon: float, lat: float) -> Grid:
    """The grid of a tile as stated: the UTM box around its corners, 10 m, north-up.

    Args:
        lon, lat: of the centre, degrees.
    """
    zone = min(max(math.floor((lon + 180) / 6) + 1, 1), 60)
    crs = CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)
    west, east, south, north = lon - _HALF, lon + _HALF, lat - _HALF, lat + _HALF
    (ul, ur, ll, lr) = zip(*transform(CRS.from_epsg(4326), crs, [west, east, west, east],
                                      [north, north, south, south]), strict=True)
    left, top = min(ul[0], ll[0]), max(ul[1], ur[1])
    rows = round((top - min(ll[1], lr[1])) / _PIXEL)
    cols = round((max(ur[0], lr[0]) - left) / _PIXEL)
    return Grid(crs.to_wkt(), (_PIXEL, 0.0, left, 0.0, -_PIXEL, top), (rows, cols))


def snapped(grid: Grid) -> Grid:
    """A north-up grid of 10 m moved west and north to whole pixels; any other one as it is."""
    a, b, left, d, e, top = grid.transform
    if (a, b, d, e) != (_PIXEL, 0.0, 0.0, -_PIXEL):
        return grid
    left = math.floor(round(left / _PIXEL, 6)) * _PIXEL
    top = math.ceil(round(top / _PIXEL, 6)) * _PIXEL
    return Grid(grid.crs_wkt, (a, b, left, d, e, top), grid.shape)


def tessera_origin(version: str, variant: str, path: Path | str, year: int | None,
                   bands: list[int] | None = None) -> Origin:
    """Origin of TESSERA vectors; what is not stated is looked for in the names of the folders.

    Args:
        version: "1.1", "v1", "tessera 2.0" or "".
        variant: "cambridge", "dclimate", ... or "".
        path: where the vectors lie.
        year: that they describe.
        bands: which of the 128 dimensions there are, if not all.
    """
    number = _number(version)
    if not number or not variant:
        for part in reversed(re.split(r"[/\\]", str(path))):
            named = _DATASET.fullmatch(part)
            if named and number in ("", _number(named[1])):
                number, short = _number(named[1]), named[2] or ""
                variant = variant or _VARIANTS.get(short, short)
                break
    number = number or "unknown"
    if number == "1.0" and variant in ("", "unknown"):
        variant = "vultr"  # the only data set of the first version
    variant = variant or "unknown"
    if bands and bands != list(range(_DIMS)):
        variant += f"-{zlib.crc32(repr(bands).encode()):08x}"
    return Origin(f"tessera@{number}#{variant}", year, ATTRIBUTION)


def _number(version: str) -> str:
    """"v1", "1.0" and "tessera 1.0" are one version, "1.0"; "" where there is no number."""
    found = re.search(r"\d+(?:\.\d+)?", version)
    return f"{float(found[0]):.1f}" if found else ""


def usable(scales: np.ndarray) -> np.ndarray:
    """Which scales are scales: those between 0 and 1.

    Some published pixels have scales up to the largest float; 0 is a pixel that was skipped.
    """
    return np.isfinite(scales) & (scales > 0) & (scales < 1)


def dequantise(codes: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, cols, d) int8 and (rows, cols) float32 scales to vectors and where they are."""
    valid = usable(scales)
    return codes.astype(np.float32) * np.where(valid, scales, np.float32(0))[..., None], valid


class TileSource(Source):
    """One tile: `grid_X_Y.npy`, `grid_X_Y_scales.npy`, and its landmask where there is one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scales_path = path.with_name(f"{path.stem}_scales.npy")
        if not self._scales_path.is_file():
            raise UserError(f"{path} has no {self._scales_path.name} beside it. Get that file too.")
        codes, scales = _mapped(path), _mapped(self._scales_path)
        if codes.ndim != 3 or codes.dtype != np.int8:
            raise UserError(f"{path} holds {codes.dtype} numbers in {codes.ndim} dimensions, not "
                            "the int8 vectors of a GeoTessera tile. Choose another file.")
        if scales.shape[:2] != codes.shape[:2] or scales.dtype.kind != "f":
            raise UserError(f"{self._scales_path.name} does not belong to {path.name}: shapes "
                            f"{scales.shape} and {codes.shape}. Get both again.")
        self._mask, grid = _landmask(path), None
        if self._mask is not None:
            grid = _grid_of(self._mask)
        elif TILE_NAME.fullmatch(path.stem):
            grid = tile_grid(*map(float, TILE_NAME.fullmatch(path.stem).groups()))
        if grid is None or grid.shape != codes.shape[:2]:
            known = f"{grid.shape[0]} x {grid.shape[1]}" if grid else "no place"
            raise UserError(f"{path.name} has {codes.shape[0]} x {codes.shape[1]} pixels, its "
                            f"landmask or name gives {known}. Get the tile and landmask again.")
        stated = _metadata(path)
        origin = tessera_origin(stated.get("dataset_version", ""),
                                stated.get("dataset_variant", ""), path, year_in(path.parent))
        super().__init__(path.name, snapped(grid), codes.shape[2], origin)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """See `Source.read`."""
        codes = np.asarray(_mapped(self._path)[window.slices])
        scales = np.asarray(_mapped(self._scales_path)[window.slices])
        if scales.ndim == 3:  # written by early releases: the same number for each dimension
            scales = scales[..., 0]
        vectors, valid = dequantise(codes, scales)
        if self._mask is not None:
            valid &= _land(self._mask, window)
        return vectors, valid


def is_tile(path: Path) -> bool:
    """Whether a file is called like a tile; a raster called so, without a year, is its landmask."""
    return TILE_NAME.fullmatch(path.stem) is not None


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as failure:
        raise UserError(f"{path} is incomplete or not a NumPy file ({failure}). Get it again."
                        ) from failure


def _landmask(path: Path) -> Path | None:
    folders = [path.parent, *(p / _LANDMASKS for p in path.parents[:_LEVELS])]
    places = (folder / f"{path.stem}{ending}" for folder in folders for ending in (".tiff", ".tif"))
    return next((place for place in places if place.is_file()), None)


def _grid_of(path: Path) -> Grid:
    try:
        with rasterio.open(path) as dataset:
            return Grid.of(dataset)
    except RasterioError as failure:
        raise UserError(f"Landmask {path} cannot be opened ({failure}). Get it again."
                        ) from failure


def _land(path: Path, window: Window) -> np.ndarray:
    try:
        with rasterio.open(path) as dataset:
            return dataset.read(1, window=RasterioWindow(
                window.col, window.row, window.cols, window.rows)) != 0
    except RasterioError as failure:
        raise UserError(f"Landmask {path} is damaged ({failure}). Get it again.") from failure


def _metadata(path: Path) -> dict[str, str]:
    """What the download tool wrote about the data set; empty where it did not."""
    for folder in path.parents[:_LEVELS]:
        place = folder / "tessera_metadata.json"
        if place.is_file():
            try:
                return json.loads(place.read_text(encoding="utf-8"))
            except ValueError as failure:
                raise UserError(f"{place} is not JSON ({failure}). Get it again or remove it."
                                ) from failure
    return {}
