"""Embeddings as GeoTIFF: AlphaEarth's 8-bit codes, GeoTessera's exports, any numbers of n bands."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from ..errors import UserError
from ..rasters.embeddings import ENCODER_TAG
from ..rasters.grid import Grid, Window
from .source import Origin, Source, year_in
from .tessera import snapped, tessera_origin

ALPHAEARTH, TESSERA, NUMBERS = "alphaearth", "tessera-geotiff", "geotiff"

_ALPHAEARTH_ORIGIN = (
    "alphaearth@1#annual",
    "The AlphaEarth Foundations Satellite Embedding dataset is produced by Google and Google "
    "DeepMind.",
)
_NO_CODE = -128

Decode = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class RasterSource(Source):
    """A raster with a band a dimension; south-up and rotated ones are read as they lie.

    Args:
        path: of the raster.
        grid, dims, origin: see `Source`.
        decode: (bands, rows, cols) as stored to (bands, rows, cols) float32 and (rows, cols) bool.
    """

    def __init__(self, path: Path, grid: Grid, dims: int, origin: Origin, decode: Decode) -> None:
        super().__init__(path.name, grid, dims, origin)
        self._path, self._decode = path, decode
        self._dataset: rasterio.DatasetReader | None = None

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """See `Source.read`."""
        try:
            if self._dataset is None:
                self._dataset = rasterio.open(self._path)
            stored = self._dataset.read(window=RasterioWindow(
                window.col, window.row, window.cols, window.rows))
        except RasterioError as failure:
            raise UserError(f"{self._path} is damaged or incomplete ({failure}). Get it again."
                            ) from failure
        vectors, valid = self._decode(stored)
        return np.ascontiguousarray(np.moveaxis(vectors, 0, -1)), valid

    def close(self) -> None:
        """Close the file; its blocks leave the cache."""
        if self._dataset is not None:
            self._dataset.close()
            self._dataset = None


def decode_alphaearth(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AlphaEarth's signed squares: sign(v) (v / 127.5)², -128 is nodata.

    Source: read-me of the published bucket; the coding is not linear, so codes are never compared.
    """
    table = np.arange(-128, 128, dtype=np.float32)
    table = np.sign(table) * np.square(table / np.float32(127.5))
    return table[codes.astype(np.int16) + 128], (codes != _NO_CODE).all(0)


def decode_numbers(nodata: float | None) -> Decode:
    """Floats as they are; no vector where a band is not finite or all bands are nodata."""
    def decode(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        valid = np.isfinite(stored).all(0)
        if nodata is not None and np.isfinite(nodata):
            valid &= (stored != nodata).any(0)
        return stored.astype(np.float32, copy=False), valid
    return decode


def open_raster(path: Path) -> tuple[str, Source] | None:
    """The kind of embeddings that a raster holds, and its source; None where it holds none.

    Raises:
        UserError: not a raster, or one without a CRS.
    """
    try:
        dataset = rasterio.open(path)
    except RasterioError as failure:
        raise UserError(f"{path} cannot be opened as a raster ({failure}). Get it again or choose "
                        "another.") from failure
    with dataset:
        tags, names, kind = dataset.tags(), dataset.descriptions, dataset.dtypes[0]
        floats = kind.startswith("float") and dataset.count > 1
        codes = kind == "int8" and dataset.count == 64
        if ENCODER_TAG in tags or not (floats or codes):
            return None
        if dataset.crs is None:
            raise UserError(f"{path.name} has no coordinate reference system. Assign one with "
                            "Assign projection.")
        grid, dims, nodata = Grid.of(dataset), dataset.count, dataset.nodata
    numbers = decode_numbers(nodata)
    if codes or (dims == 64 and tuple(names) == tuple(f"A{i:02d}" for i in range(64))):
        encoder, sentence = _ALPHAEARTH_ORIGIN
        return ALPHAEARTH, RasterSource(path, grid, dims, Origin(encoder, year_in(path), sentence),
                                        decode_alphaearth if codes else numbers)
    bands = str(names[0]).startswith("Tessera_Band_")
    if bands or any(key.startswith("TESSERA_") for key in tags):
        return TESSERA, RasterSource(path, snapped(grid), dims, _tessera(path, tags, names),
                                     numbers)
    mark = zlib.crc32(repr((dims, names)).encode())
    return NUMBERS, RasterSource(path, grid, dims, Origin(f"unknown@1#{mark:08x}", year_in(path)),
                                 numbers)


def _tessera(path: Path, tags: dict[str, str], names: tuple[str | None, ...]) -> Origin:
    """Origin of an exported tile or region; a choice of its dimensions is another encoder."""
    bands = [int(name.rsplit("_", 1)[-1]) for name in names
             if name and name.startswith("Tessera_Band_")]
    if not bands and tags.get("TESSERA_BANDS"):
        bands = [int(word) for word in tags["TESSERA_BANDS"].split(",")]
    year = tags.get("TESSERA_YEAR", "")
    return tessera_origin(
        tags.get("TESSERA_DATASET_VERSION") or tags.get("TESSERA_MODEL", ""),
        tags.get("TESSERA_DATASET_VARIANT", ""), path,
        int(year) if year.isdigit() else year_in(path), bands)
