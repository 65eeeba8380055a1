"""What a map canvas shows of an archive: at most two million embeddings and a way to paint them.

Codes and inverse lengths of the embeddings that are in view are held, and an index from each
pixel of the picture to its embedding, so that a query is a scan and a gather.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace

import numba
import numpy as np
from rasterio.crs import CRS

from ..rasters.cog import TILE
from ..rasters.grid import Grid, Window
from .archive import Archive, ground
from .kernel import BLOCK, Coding, inverse_lengths, nearest
from .picture import PATCH, Whole, fill_bytes, gather
from .placement import Placement, moved, place
from .pyramid import Pyramid, level_grid

#: Embeddings that a view reads at most, about; it takes the overview that holds no more.
MOST = 2_000_000
_FINEST = 2.0  # embeddings a picture pixel at most: more are not seen
_PARTS = 4  # of the work of each thread, so that a thread that waits for a processor delays little


@dataclass(frozen=True)
class Piece:
    """The embeddings of one tile that are in view.

    Attributes:
        tile: index into the archive's tiles.
        coding: of the tile.
        codes: (n, d) uint8, no nodata among them.
        inverse: (n,) float32 inverse lengths.
        pixels: (n,) int32, row * window.cols + col within `window`.
        window: of the tile at the view's level.
        first: number of the first of them in the view.
    """

    tile: int
    coding: Coding
    codes: np.ndarray
    inverse: np.ndarray
    pixels: np.ndarray
    window: Window
    first: int


class View:
    """A picture's grid with the embeddings under it.

    Args:
        archive: from which is read; where tiles overlap, the first with data counts.
        picture: grid of the picture, any CRS, rotated or not.
        pool: threads to share work among.
        threads: how many they are.

    Attributes:
        level: of the files' overviews, 0 for full resolution.
        size: embeddings that are held.
        valid: share (0..1) of the picture that has embeddings.

    Raises:
        UserError: a file is damaged or gone.
    """

    def __init__(self, archive: Archive, picture: Grid, pool: Executor, threads: int) -> None:
        self._archive, self.picture, self._pool, self._threads = archive, picture, pool, threads
        places = [(i, found) for i, tile in enumerate(archive.tiles)
                  if (found := place(picture, tile.grid)) is not None]
        self.level, wanted = 0, min(MOST, _FINEST * picture.full.size)
        touched = sum(found.touched for _, found in places)
        while touched / 4**self.level > wanted:
            self.level += 1
        self._index = np.zeros(picture.shape, np.int32)
        self._pieces: list[Piece] = []
        self.size = 0
        for tile, found in places:
            self._add(tile, found)
        self._bytes = np.zeros(self.size + 1, np.uint8)
        self.valid = float(np.count_nonzero(self._index)) / max(self._index.size, 1)
        self._areas = _patch_areas(picture)

    def paint(self, directions: np.ndarray, low: float, high: float, out: np.ndarray
              ) -> np.ndarray:
        """Paint the similarity to the nearest of (p, d) unit directions.

        Args:
            low, high: cosines of the bytes 1 and 255.
            out: (rows, cols) uint8, filled: 0 where there is no embedding, else 1..255.

        Returns:
            (256,) hectares on the ground of the picture's pixels with this byte or more.
        """
        work = [(piece, whole, rows) for piece in self._pieces
                for whole in (Whole.of(directions, piece.coding),)
                for rows in self._shares(len(piece.codes), BLOCK)]

        def scan(job: tuple[Piece, Whole, slice]) -> None:
            piece, whole, rows = job
            first = piece.first + rows.start
            fill_bytes(piece.codes[rows], whole, piece.inverse[rows], low, high,
                       self._bytes[first : first + rows.stop - rows.start])

        counts = np.zeros((*self._areas.shape, 256), np.uint32)

        def show(rows: slice) -> None:
            gather(self._index[rows], self._bytes, out[rows],
                   counts[rows.start // PATCH[0] : -(-rows.stop // PATCH[0])])

        list(self._pool.map(scan, work))
        list(self._pool.map(show, self._shares(self._index.shape[0], PATCH[0])))
        hectares = self._areas.ravel() @ counts.reshape(-1, 256) / 1e4
        return np.cumsum(hectares[::-1])[::-1]

    def vector(self, x: float, y: float) -> np.ndarray | None:
        """(d,) unit vector at a place in the picture's CRS; None where there is no embedding."""
        col, row = ~self.picture.affine @ (x, y)
        rows, cols = self.picture.shape
        if not (0 <= col < cols and 0 <= row < rows):
            return None
        number = int(self._index[int(row), int(col)])
        for piece in self._pieces:
            if piece.first <= number < piece.first + len(piece.codes):
                unit = piece.coding.units(piece.codes[number - piece.first][None])[0]
                return unit if unit.any() else None
        return None

    def best(self, directions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k embeddings most alike, best first: (x, y) in the archive's CRS and similarity."""
        found = []
        for piece in self._pieces:
            rows, similar = nearest(piece.codes, directions, piece.coding, k, self._threads,
                                    piece.inverse)
            row, col = np.divmod(piece.pixels[rows], piece.window.cols)
            found.append((np.full(len(rows), piece.tile), row + piece.window.row,
                          col + piece.window.col, similar))
        if not found:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        tile, row, col, similar = (np.concatenate(v) for v in zip(*found, strict=True))
        order = np.lexsort((col, row, tile, -similar))[:k]
        levels = replace(self._archive, tiles=tuple(
            replace(t, grid=level_grid(t.grid, self.level)) for t in self._archive.tiles))
        return *levels.position(tile[order], row[order], col[order]), similar[order]

    def _shares(self, count: int, unit: int) -> Iterator[slice]:
        """Parts of a range, some for each thread, that start on multiples of a unit."""
        each = max(-(-count // (self._threads * _PARTS) // unit), 1) * unit
        for first in range(0, count, each):
            yield slice(first, min(first + each, count))

    def _add(self, tile: int, found: Placement) -> None:
        """Read what a tile has where no earlier one has anything."""
        pixels = found.pixels(self.level)
        target = np.empty((found.window.rows, found.window.cols), np.int32)
        used = np.zeros((pixels.rows, pixels.cols), bool)
        found.locate(self.level, pixels, self._index, target, used)
        count = int(np.count_nonzero(used))
        if not count:
            return
        codes = np.empty((count, self._archive.dims), np.uint8)
        places, numbers = np.empty(count, np.int32), np.zeros(used.shape, np.int32)
        held, first = 0, self.size + 1
        for square, block in self._blocks(tile, pixels, used):
            held = _take(block, used[square.slices], codes, places, numbers[square.slices], held,
                         first, square.row * pixels.cols + square.col, pixels.cols)
        if not held:
            return
        _point(target, numbers, self._index[found.window.slices])
        coding, codes = self._archive.tiles[tile].coding, codes[:held]
        inverse = np.empty(held, np.float32)

        def measure(rows: slice) -> None:
            inverse[rows] = inverse_lengths(codes[rows], coding)

        list(self._pool.map(measure, self._shares(held, BLOCK)))
        self._pieces.append(Piece(tile, coding, codes, inverse, places[:held], pixels, first))
        self.size += held

    def _blocks(self, tile: int, pixels: Window, used: np.ndarray
                ) -> Iterator[tuple[Window, np.ndarray]]:
        """Windows within `pixels` that hold used pixels, with their codes."""
        squares = [(row, col) for row in range(pixels.row // TILE, _end(pixels.row, pixels.rows))
                   for col in range(pixels.col // TILE, _end(pixels.col, pixels.cols))]
        windows = []
        for row, col in squares:
            r0, c0 = max(row * TILE, pixels.row), max(col * TILE, pixels.col)
            r1 = min((row + 1) * TILE, pixels.row + pixels.rows)
            c1 = min((col + 1) * TILE, pixels.col + pixels.cols)
            window = Window(r0 - pixels.row, c0 - pixels.col, r1 - r0, c1 - c0)
            if used[window.slices].any():
                windows.append((row, col, window))
        waiting: deque = deque()
        with Pyramid(self._archive.tiles[tile]) as pyramid:
            try:
                for row, col, window in windows:
                    waiting.append((row, col, window, self._pool.submit(
                        pyramid.square, self.level, row, col)))
                    if len(waiting) > self._threads:
                        yield from _cut(*waiting.popleft(), pixels)
                while waiting:
                    yield from _cut(*waiting.popleft(), pixels)
            finally:  # nobody reads a file that is closed
                wait([entry[-1] for entry in waiting])


def _end(first: int, count: int) -> int:
    """The square behind the last that a range of pixels touches."""
    return -(-(first + count) // TILE)


def _cut(row: int, col: int, window: Window, future: Future, pixels: Window
         ) -> Iterator[tuple[Window, np.ndarray]]:
    """A window of `pixels` with its part of the square at row, col, if there is any."""
    block = future.result()
    if block is not None:
        r0, c0 = window.row + pixels.row - row * TILE, window.col + pixels.col - col * TILE
        yield window, block[r0 : r0 + window.rows, c0 : c0 + window.cols]


@numba.njit(cache=True, nogil=True)
def _take(block: np.ndarray, used: np.ndarray, codes: np.ndarray, places: np.ndarray,
          numbers: np.ndarray, held: int, first: int, corner: int, width: int) -> int:
    """Append the used embeddings of a block; how many are held then."""
    for r in range(used.shape[0]):
        for c in range(used.shape[1]):
            if used[r, c] and block[r, c, 0] != 0:
                codes[held] = block[r, c]
                places[held] = corner + r * width + c
                numbers[r, c] = first + held
                held += 1
    return held


@numba.njit(cache=True, nogil=True)
def _point(target: np.ndarray, numbers: np.ndarray, index: np.ndarray) -> None:
    """Fill the index with the numbers of the targets."""
    flat = numbers.reshape(-1)
    for r in range(target.shape[0]):
        for c in range(target.shape[1]):
            if target[r, c] >= 0:
                index[r, c] = flat[target[r, c]]


def _patch_areas(picture: Grid) -> np.ndarray:
    """Ground area (m²) of a pixel of each `PATCH` of a picture; 0 where it is not on earth."""
    edges = [np.append(np.arange(0, n, step), n)
             for n, step in zip(picture.shape, PATCH, strict=True)]
    across, down = np.meshgrid(edges[1], edges[0])
    x, y = picture.affine @ (across, down)
    at = _on_ground(picture, x, y)
    diagonals = at[1:, 1:] - at[:-1, :-1], at[1:, :-1] - at[:-1, 1:]
    areas = np.linalg.norm(np.cross(*diagonals), axis=-1) / 2
    areas /= np.diff(edges[0])[:, None] * np.diff(edges[1])[None]
    return np.nan_to_num(areas, nan=0.0, posinf=0.0)


def _on_ground(picture: Grid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(..., 3) geocentric positions; NaN for places that are not on earth."""
    if picture.crs is None:
        return ground(None, x.ravel(), y.ravel()).reshape(*x.shape, 3)
    degrees = CRS.from_epsg(4326)
    lon, lat = moved(picture.crs, degrees, x, y)
    bad = ~(np.isfinite(lon) & np.isfinite(lat))
    at = ground(degrees, np.where(bad, 0, lon).ravel(), np.where(bad, 0, lat).ravel())
    at[bad.ravel()] = np.nan
    return at.reshape(*x.shape, 3)
