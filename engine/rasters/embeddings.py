"""Embeddings on disk: unit vectors as 8-bit codes in a cloud-optimised GeoTIFF.

code = round(v / s) + 128, clipped to 1..255, with one scale s for the file (band Scale = s,
Offset = -128 s); 0 in all bands is nodata. Overviews hold means of vectors, normalised again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import rasterio
import zstandard
from rasterio.windows import Window as RasterioWindow

from ..errors import UserError
from . import cog
from .cog import TILE, CogWriter
from .grid import Grid, Window

#: Tag that makes a raster embeddings: name@version#hash of the encoder.
ENCODER_TAG = "EARTHPRINT_ENCODER"
#: Tag with the dates that were read: ISO days, comma-separated.
DATES_TAG = "EARTHPRINT_DATES"
#: Tag with the sensors that were read and their bands: "sentinel-1:vv vh;sentinel-2:red nir".
SENSORS_TAG = "EARTHPRINT_SENSORS"
#: Tag of imported embeddings: background mean of the unit vectors, numbers with commas, which is
#: subtracted before a cosine.
CENTER_TAG = "EARTHPRINT_CENTER"
#: Tag of imported embeddings: whom to name.
ATTRIBUTION_TAG = "EARTHPRINT_ATTRIBUTION"


@numba.njit(cache=True, nogil=True)
def quantise(vectors: np.ndarray, scale: float) -> np.ndarray:
    """(n, d) float32 unit vectors to (n, d) uint8 codes 1..255; round half to even."""
    n, d = vectors.shape
    codes = np.empty((n, d), np.uint8)
    for i in range(n):
        for j in range(d):
            code = np.rint(vectors[i, j] / scale) + 128.0
            codes[i, j] = np.uint8(min(max(code, 1.0), 255.0))
    return codes


def dequantise(codes: np.ndarray, scale: float) -> np.ndarray:
    """Codes of any shape to float32 vectors (norm 1 up to the rounding of the codes)."""
    return (codes.astype(np.float32) - np.float32(128)) * np.float32(scale)


@numba.njit(cache=True, nogil=True)
def _halve(block: np.ndarray, scale: float) -> np.ndarray:
    rows, cols, d = block.shape
    out = np.zeros((rows // 2, cols // 2, d), np.uint8)
    mean = np.empty(d, np.float64)
    for r in range(rows // 2):
        for c in range(cols // 2):
            mean[:] = 0.0
            for k in range(4):
                pixel = block[2 * r + k // 2, 2 * c + k % 2]
                if pixel[0] != 0:
                    for j in range(d):
                        mean[j] += pixel[j] - 128.0
            norm = math.sqrt((mean * mean).sum())
            if norm > 0.0:
                for j in range(d):
                    code = np.rint(mean[j] / (norm * scale)) + 128.0
                    out[r, c, j] = np.uint8(min(max(code, 1.0), 255.0))
    return out


class EmbeddingsWriter(CogWriter):
    """Writes an embeddings file by windows that start on tiles; a with-block.

    Leaving the block builds the overviews and renames the file; leaving it by an exception
    removes everything that was written.

    Args:
        path: of the finished file.
        grid: where the pixels lie.
        dims: dimensions of a vector.
        scale: s of the codes.
        tags: must hold `ENCODER_TAG`.
        check: called now and then while the file is put in order; may raise to stop.
    """

    def __init__(self, path: Path, grid: Grid, dims: int, scale: float, tags: dict[str, str],
                 check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        super().__init__(path, grid, dims, lambda block: _halve(block, scale), tags,
                         scale, -128 * scale)

    def __enter__(self) -> EmbeddingsWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close(self._check)
        else:
            self.discard()


class EmbeddingsFile:
    """An embeddings raster, read by windows; a with-block.

    Tiles of our own layout are decompressed straight into (rows, cols, dims); any other layout
    that GDAL reads (after a copy or an edit by another tool) is transposed.

    Attributes:
        path, grid, dims, scale: of the file.
        encoder: name@version#hash of the encoder.
        dates: ISO days that were read, ascending.
        sensors: each sensor that was read with its bands; empty where the file does not say.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self._dataset = rasterio.open(self.path)
        except rasterio.RasterioIOError as failure:
            raise UserError(f"{self.path.name} cannot be opened as a raster ({failure}). "
                            "Choose an embeddings file.") from failure
        tags = self._dataset.tags()
        if ENCODER_TAG not in tags or self._dataset.dtypes[0] != "uint8":
            self._dataset.close()
            raise UserError(f"{self.path.name} is not embeddings (no encoder tag). Encode or "
                            "import it.")
        self.grid, self.dims = Grid.of(self._dataset), self._dataset.count
        self.scale, self.encoder = float(self._dataset.scales[0]), tags[ENCODER_TAG]
        self.dates = tuple(filter(None, tags.get(DATES_TAG, "").split(",")))
        self.sensors = {sensor: tuple(bands.split()) for sensor, _, bands in (
            part.partition(":") for part in tags.get(SENSORS_TAG, "").split(";") if part)}
        self._raw = open(self.path, "rb")  # noqa: SIM115 (closed by __exit__)
        self._tiles = self._own_tiles()

    def __enter__(self) -> EmbeddingsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()
        self._raw.close()

    def codes(self, window: Window) -> np.ndarray:
        """(rows, cols, dims) uint8 codes of a window; 0 where there is no embedding."""
        if self._tiles is None:
            try:
                bands = self._dataset.read(window=RasterioWindow(
                    window.col, window.row, window.cols, window.rows))
            except rasterio.RasterioIOError as failure:
                raise self._damaged(str(failure)) from failure
            return np.ascontiguousarray(np.moveaxis(bands, 0, -1))
        out = np.empty((window.rows, window.cols, self.dims), np.uint8)
        bottom, right = window.row + window.rows, window.col + window.cols
        for row in range(window.row // TILE, -(-bottom // TILE)):
            for col in range(window.col // TILE, -(-right // TILE)):
                r0, r1 = max(row * TILE, window.row), min((row + 1) * TILE, bottom)
                c0, c1 = max(col * TILE, window.col), min((col + 1) * TILE, right)
                target = out[r0 - window.row : r1 - window.row, c0 - window.col : c1 - window.col]
                target[:] = self._tile(row, col)[
                    r0 - row * TILE : r1 - row * TILE, c0 - col * TILE : c1 - col * TILE]
        return out

    def vectors(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(rows, cols, dims) float32 vectors and (rows, cols) bool where there is one."""
        codes = self.codes(window)
        return dequantise(codes, self.scale), codes[..., 0] != 0

    def _own_tiles(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Offsets and lengths of the tiles, (tile rows, tile columns), if the layout is ours."""
        def data(at: int, length: int) -> bytes:
            self._raw.seek(at)
            return self._raw.read(length)

        ifds = cog.read_ifds(data)
        if not ifds or 324 not in ifds[0]:
            return None
        first = ifds[0]
        if (cog.values(first[259])[0] != cog.ZSTD or cog.values(first[284])[0] != 1
                or 317 in first and cog.values(first[317])[0] != 1
                or cog.values(first[322])[0] != TILE or cog.values(first[323])[0] != TILE):
            return None
        shape = tuple(-(-n // TILE) for n in self.grid.shape)
        return cog.values(first[324]).reshape(shape), cog.values(first[325]).reshape(shape)

    def _tile(self, row: int, col: int) -> np.ndarray:
        offset, length = int(self._tiles[0][row, col]), int(self._tiles[1][row, col])
        if length == 0:
            return np.zeros((TILE, TILE, self.dims), np.uint8)
        self._raw.seek(offset)
        try:
            raw = zstandard.ZstdDecompressor().decompress(
                self._raw.read(length), max_output_size=TILE * TILE * self.dims)
            return np.frombuffer(raw, np.uint8).reshape(TILE, TILE, self.dims)
        except (zstandard.ZstdError, ValueError) as failure:
            number = row * self._tiles[0].shape[1] + col + 1
            raise self._damaged(f"at tile {number} of {self._tiles[0].size}") from failure

    def _damaged(self, where: str) -> UserError:
        return UserError(f"{self.path.name} is damaged {where}. Encode it again.")
