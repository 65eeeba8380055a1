"""Several embeddings files of one encoder (tiles, years) as one place to search in."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform, transform_bounds

from ..errors import UserError
from ..rasters.cog import TILE
from ..rasters.embeddings import CENTER_TAG, EmbeddingsFile
from ..rasters.grid import Grid, Window
from .kernel import Coding

_A, _E2 = 6378137.0, (1 / 298.257223563) * (2 - 1 / 298.257223563)  # WGS 84


@dataclass(frozen=True)
class Tile:
    """One file of an archive.

    Attributes:
        path, grid, coding: of the file.
        area: what is searched.
    """

    path: Path
    grid: Grid
    coding: Coding
    area: Window


@dataclass(frozen=True)
class Part:
    """A window of one tile and where it lies in a block.

    Attributes:
        tile: index into `Archive.tiles`.
        window: in the tile's file.
        row, col: of its first pixel, in the block.
    """

    tile: int
    window: Window
    row: int
    col: int


@dataclass(frozen=True)
class Archive:
    """Embeddings files that are searched together.

    Attributes:
        tiles: in the order given, without those outside the area to search.
        everything: all files, in which examples may lie.
        encoder: name@version#hash of the one encoder.
        dims: dimensions of a vector.
        dates: ISO days that were read, ascending.
        mosaic: one grid that holds the areas of all tiles; None where they do not align.
    """

    tiles: tuple[Tile, ...]
    everything: tuple[Tile, ...]
    encoder: str
    dims: int
    dates: tuple[str, ...]
    mosaic: Grid | None

    @classmethod
    def open(cls, paths: Sequence[str], extent: list | None) -> Archive:
        """Read what the files say of themselves.

        Args:
            paths: of embeddings files.
            extent: [left, bottom, right, top, CRS] of the part to search; None: all.

        Raises:
            UserError: no embeddings, another encoder, no common area with the extent.
        """
        files, dates = [], set()
        encoder, dims, centre = "", 0, None
        for path in dict.fromkeys(Path(p) for p in paths):
            with EmbeddingsFile(path) as file:
                if encoder and (file.encoder, file.dims) != (encoder, dims):
                    raise UserError(f"{path.name} was encoded with {file.encoder}, "
                                    f"{files[0][0].name} with {encoder}. Search them one by one.")
                encoder, dims = file.encoder, file.dims
                dates.update(file.dates)
                # one centre for all, so that the same vector is equally alike everywhere
                centre = _centre(path, dims) if centre is None else centre
                files.append((path, file.grid, file.scale))
        centre = np.zeros(dims) if centre is None else centre
        tiles = [Tile(path, grid, Coding(scale, centre), grid.full) for path, grid, scale in files]
        searched = [Tile(t.path, t.grid, t.coding, area) for t in tiles
                    if (area := _area(t.grid, extent)) is not None]
        if not searched:
            raise UserError("The area to process and the embeddings have no common area. Choose "
                            "another area.")
        return cls(tuple(searched), tuple(tiles), encoder, dims, tuple(sorted(dates)),
                   _mosaic(searched))

    @property
    def pixels(self) -> int:
        """Pixels that are searched, overlaps counted as often as they occur."""
        return sum(tile.area.size for tile in self.tiles)

    def blocks(self, pixels: int) -> Iterator[tuple[Window, tuple[Part, ...]]]:
        """Windows of about `pixels` pixels with what each tile has in them.

        On the mosaic's grid where there is one, else tile by tile. They start on the tiles of a
        file, so that few are decompressed twice.
        """
        groups = ([(self.mosaic, list(enumerate(self.tiles)))] if self.mosaic is not None else
                  [(t.grid.part(t.area), [(i, t)]) for i, t in enumerate(self.tiles)])
        wide = max(pixels // TILE // TILE, 1) * TILE
        for grid, tiles in groups:
            places = [(i, tile, *_offset(grid, tile)) for i, tile in tiles]
            _, tile, row0, col0 = places[0]
            row0, col0 = (row0 - tile.area.row) % TILE, (col0 - tile.area.col) % TILE
            for row, rows in _cuts(grid.shape[0], TILE, row0):
                for col, cols in _cuts(grid.shape[1], wide, col0):
                    block = Window(row, col, rows, cols)
                    yield block, tuple(_parts(block, places))

    def position(self, tiles: np.ndarray, rows: np.ndarray, cols: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (x, y) of pixel centres, in the CRS of the first tile."""
        x, y = np.empty(len(tiles)), np.empty(len(tiles))
        target = self.tiles[0].grid.crs
        for index in np.unique(tiles):
            own, grid = tiles == index, self.tiles[index].grid
            xs, ys = grid.affine @ (cols[own] + 0.5, rows[own] + 0.5)
            if grid.crs is not None and target is not None and grid.crs != target:
                xs, ys = transform(grid.crs, target, xs, ys)
            x[own], y[own] = xs, ys
        return x, y


class Reader:
    """Reads tiles, in any number of threads; a with-block. Each thread has a file of its own."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._opened: list[EmbeddingsFile] = []

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._opened:
            file.close()

    def codes(self, tile: Tile, window: Window) -> np.ndarray:
        """(rows, cols, d) uint8 codes of a window of a tile's file."""
        file = getattr(self._local, "file", None)
        if file is None or file.path != tile.path:
            if file is not None:
                file.close()
                self._opened.remove(file)
            self._local.file = file = EmbeddingsFile(tile.path)
            self._opened.append(file)
        return file.codes(window)

    def at(self, tile: Tile, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """(n, d) codes of single pixels of a tile's file."""
        out = np.empty((len(rows), len(tile.coding.centre)), np.uint8)
        squares = (rows // TILE) * (tile.grid.shape[1] // TILE + 1) + cols // TILE
        for square in np.unique(squares):
            own = np.flatnonzero(squares == square)
            row, col = rows[own].min(), cols[own].min()
            window = Window(int(row), int(col), int(rows[own].max() - row) + 1,
                            int(cols[own].max() - col) + 1)
            codes = self.codes(tile, window)
            out[own] = codes[rows[own] - row, cols[own] - col]
        return out


def ground(crs: CRS | None, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, 3) geocentric coordinates in metres, in which near places are as far as on the ground.

    So distances hold in degrees, in any projection and across tiles of several zones. Without
    a CRS coordinates are taken for metres.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if crs is None:
        return np.column_stack([x, y, np.zeros(len(x))])
    lon, lat = (np.radians(v) for v in transform(crs, CRS.from_epsg(4326), x, y))
    normal = _A / np.sqrt(1 - _E2 * np.sin(lat) ** 2)
    return np.column_stack([normal * np.cos(lat) * np.cos(lon), normal * np.cos(lat) * np.sin(lon),
                            normal * (1 - _E2) * np.sin(lat)])


def pixel_metres(grid: Grid) -> float:
    """Side of a square of a pixel's ground area at the middle of a grid, in metres."""
    row, col = grid.shape[0] / 2, grid.shape[1] / 2
    x, y = grid.affine @ (np.array([col, col + 1, col]), np.array([row, row, row + 1]))
    at = ground(grid.crs, x, y)
    return float(np.sqrt(np.linalg.norm(np.cross(at[1] - at[0], at[2] - at[0]))))


def _centre(path: Path, dims: int) -> np.ndarray | None:
    with rasterio.open(path) as dataset:
        text = dataset.tags().get(CENTER_TAG, "")
    try:
        centre = np.array([float(word) for word in text.split(",")]) if text else None
    except ValueError:
        centre = np.zeros(0)
    if centre is not None and (len(centre) != dims or not np.isfinite(centre).all()):
        raise UserError(f"The tag {CENTER_TAG} of {path.name} does not hold {dims} numbers. "
                        "Import the embeddings again.")
    return centre


def _area(grid: Grid, extent: list | None) -> Window | None:
    if not extent:
        return grid.full
    *bounds, crs = extent
    if crs and grid.crs is not None:
        bounds = transform_bounds(CRS.from_user_input(crs), grid.crs, *bounds, densify_pts=21)
    return grid.window_of(tuple(bounds))


def _mosaic(tiles: Sequence[Tile]) -> Grid | None:
    """The smallest grid that holds all areas, if their pixels lie on one lattice."""
    base = tiles[0].grid
    inverse, spots = ~base.affine, []
    for tile in tiles:
        grid, area = tile.grid, tile.area
        if grid.crs_wkt != base.crs_wkt and grid.crs != base.crs:
            return None
        corners = [inverse @ (grid.affine @ (c, r)) for c, r in (
            (area.col, area.row), (area.col + area.cols, area.row + area.rows))]
        (c0, r0), (c1, r1) = corners
        whole = [round(v) for v in (r0, c0, r1, c1)]
        if (max(abs(a - b) for a, b in zip((r0, c0, r1, c1), whole, strict=True)) > 0.01
                or whole[2] - whole[0] != area.rows or whole[3] - whole[1] != area.cols):
            return None
        spots.append(whole)
    r0, c0 = min(s[0] for s in spots), min(s[1] for s in spots)
    shape = max(s[2] for s in spots) - r0, max(s[3] for s in spots) - c0
    origin = base.affine @ Affine.translation(c0, r0)
    return Grid(base.crs_wkt, tuple(origin)[:6], shape)


def _offset(grid: Grid, tile: Tile) -> tuple[int, int]:
    """Row and column of a tile's first searched pixel in a grid that holds it."""
    col, row = ~grid.affine @ (tile.grid.affine @ (tile.area.col, tile.area.row))
    return round(row), round(col)


def _cuts(length: int, step: int, first: int) -> Iterator[tuple[int, int]]:
    """(start, length) of pieces; all but the first start at first + a multiple of step."""
    edges = [0, *range(first if first > 0 else step, length, step), length]
    for start, end in zip(edges, edges[1:], strict=False):
        yield start, end - start


def _parts(block: Window, places: list[tuple[int, Tile, int, int]]) -> Iterator[Part]:
    for index, tile, row, col in places:
        r0, c0 = max(block.row, row), max(block.col, col)
        r1 = min(block.row + block.rows, row + tile.area.rows)
        c1 = min(block.col + block.cols, col + tile.area.cols)
        if r1 > r0 and c1 > c0:
            yield Part(index, Window(r0 - row + tile.area.row, c0 - col + tile.area.col, r1 - r0,
                                     c1 - c0), r0 - block.row, c0 - block.col)


def discs(metres: float, tile: Tile) -> int:
    """About how many pixels have their centre within a distance of a pixel."""
    return math.ceil(math.pi * (metres / pixel_metres(tile.grid) + 1) ** 2)
