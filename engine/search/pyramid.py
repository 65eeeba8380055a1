"""An embeddings file at any zoom: full resolution, its overviews, and a selection beyond those."""

from __future__ import annotations

import threading
from typing import BinaryIO

import numpy as np
import rasterio
import zstandard
from rasterio.windows import Window as RasterioWindow

from ..errors import UserError
from ..rasters import cog
from ..rasters.cog import TILE
from ..rasters.grid import Grid
from .archive import Tile


def level_grid(grid: Grid, level: int) -> Grid:
    """The grid of a level: a pixel is 2**level by 2**level pixels of the file."""
    a, b, c, d, e, f = grid.transform
    k = 2**level
    return Grid(grid.crs_wkt, (a * k, b * k, c, d * k, e * k, f),
                (-(-grid.shape[0] // k), -(-grid.shape[1] // k)))


class Pyramid:
    """Reads squares of `TILE` pixels of one file at any level, in any thread; a with-block.

    Files of our own layout hold overviews whose pixels are embeddings, and each square is one
    block of the file. Of other files (copies by other tools) GDAL reads the nearest pixels.
    """

    def __init__(self, tile: Tile) -> None:
        self._path, self._grid, self._dims = tile.path, tile.grid, len(tile.coding.centre)
        self._lock = threading.Lock()

    def __enter__(self) -> Pyramid:
        try:
            self._raw = open(self._path, "rb")  # noqa: SIM115 (closed by __exit__)
        except OSError as failure:
            raise UserError(f"{self._path.name} cannot be opened ({failure.strerror}). Choose "
                            "the embeddings again.") from failure
        self._levels = _own_levels(self._raw, self._grid.shape)
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def square(self, level: int, row: int, col: int) -> np.ndarray | None:
        """(rows, cols, d) codes of the square in the given row and column of a level's squares.

        None where the file holds nothing there.

        Raises:
            UserError: the file is damaged there.
        """
        if not self._levels:
            return self._foreign(level, row, col)
        stored = min(level, len(self._levels) - 1)
        if stored == level:
            return self._block(level, row, col)
        whole = self._block(stored, 0, 0)  # the last overview is one square
        step = 2 ** (level - stored)
        return None if whole is None else np.ascontiguousarray(whole[::step, ::step])

    def _block(self, level: int, row: int, col: int) -> np.ndarray | None:
        offsets, lengths = self._levels[level]
        if lengths[row, col] == 0:
            return None
        with self._lock:
            self._raw.seek(int(offsets[row, col]))
            data = self._raw.read(int(lengths[row, col]))
        try:
            raw = zstandard.ZstdDecompressor().decompress(
                data, max_output_size=TILE * TILE * self._dims)
            return np.frombuffer(raw, np.uint8).reshape(TILE, TILE, self._dims)
        except (zstandard.ZstdError, ValueError) as failure:
            raise self._damaged(f"at tile {row * lengths.shape[1] + col + 1} of {lengths.size}, "
                                f"overview {level}") from failure

    def _foreign(self, level: int, row: int, col: int) -> np.ndarray:
        side, (height, width) = TILE * 2**level, self._grid.shape
        place = RasterioWindow(col * side, row * side, min(side, width - col * side),
                               min(side, height - row * side))
        shape = -(-place.height // 2**level), -(-place.width // 2**level)
        try:
            with rasterio.open(self._path) as dataset:
                bands = dataset.read(window=place, out_shape=(self._dims, *shape))
        except rasterio.RasterioIOError as failure:
            raise self._damaged(f"({failure})") from failure
        return np.ascontiguousarray(np.moveaxis(bands, 0, -1))

    def _damaged(self, where: str) -> UserError:
        return UserError(f"{self._path.name} is damaged {where}. Encode it again.")


def _own_levels(raw: BinaryIO, shape: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Offsets and lengths of the blocks of each level; empty where the layout is not ours."""
    def data(at: int, length: int) -> bytes:
        raw.seek(at)
        return raw.read(length)

    levels = []
    for tags in cog.read_ifds(data) or ():
        rows, cols = (-(-n // 2 ** len(levels)) for n in shape)
        if 324 not in tags or not _is_ours(tags) or (_one(tags, 257), _one(tags, 256)) != (
                rows, cols):
            break
        blocks = -(-rows // TILE), -(-cols // TILE)
        levels.append((cog.values(tags[324]).reshape(blocks),
                       cog.values(tags[325]).reshape(blocks)))
    complete = levels and levels[-1][0].size == 1
    return levels if complete else []


def _is_ours(tags: dict[int, cog.Tag]) -> bool:
    """Whether blocks are pixel-interleaved squares of `TILE`, ZSTD without a predictor."""
    return (_one(tags, 259) == cog.ZSTD and _one(tags, 284) == 1
            and (317 not in tags or _one(tags, 317) == 1)
            and _one(tags, 322) == TILE and _one(tags, 323) == TILE)


def _one(tags: dict[int, cog.Tag], tag: int) -> int:
    return int(cog.values(tags[tag])[0])
