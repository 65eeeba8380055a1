"""Cloud-optimised GeoTIFFs of many 8-bit bands, pixel by pixel, written as fast as they compress.

GDAL's COG driver takes such a file apart band by band: 128 bands go at 55 000 pixels a second,
slower than the network that made them (benchmarks/cog_speed.py). A tile here is one compressed
block of (256, 256, bands) bytes, written once and then only moved. Everything that a GIS needs
(CRS, transform, nodata, tags) is taken over from a header that GDAL itself writes.

Layout: BigTIFF, ZSTD, all IFDs first, then the tiles from the smallest overview to the full
resolution; tiles without data take no space. Spec: cogeo.org, GDAL's COG driver documentation.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import zstandard
from rasterio.io import MemoryFile

from .grid import Grid
from .raster import plain

TILE = 256
ZSTD = 50000
_GHOST = (b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
          b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n ")
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 11: 4, 12: 8, 16: 8}
#: Tags that say where the pixels lie and what they mean: scale, tie points, matrix, GeoKeys,
#: GDAL's metadata and nodata.
_GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)

Reduce = Callable[[np.ndarray], np.ndarray]
Tag = tuple[int, int, bytes]  # type, count, little-endian values


def read_ifds(data: Callable[[int, int], bytes]) -> list[dict[int, Tag]] | None:
    """All directories of a little-endian BigTIFF; None for any other file.

    Args:
        data: gives `length` bytes from `offset`.
    """
    head = data(0, 16)
    if len(head) < 16 or head[:4] != b"II\x2b\x00":
        return None
    offset, ifds = struct.unpack("<Q", head[8:])[0], []
    while offset:
        count = struct.unpack("<Q", data(offset, 8))[0]
        block = data(offset + 8, 20 * count + 8)
        tags = {}
        for i in range(count):
            tag, kind, n, value = struct.unpack("<HHQ8s", block[20 * i : 20 * i + 20])
            length = n * _SIZES.get(kind, 1)
            tags[tag] = (kind, n, value[:length] if length <= 8 else data(
                struct.unpack("<Q", value)[0], length))
        ifds.append(tags)
        offset = struct.unpack("<Q", block[-8:])[0]
    return ifds


def values(tag: Tag) -> np.ndarray:
    """The numbers of a tag as int64."""
    return np.frombuffer(tag[2], {1: "<u1", 3: "<u2", 4: "<u4", 16: "<u8"}[tag[0]]).astype(np.int64)


class CogWriter:
    """Writes one file tile by tile, in any order; complete and renamed only by `close`.

    Args:
        path: of the finished file; until then a hidden neighbour is written.
        grid: where the pixels lie.
        bands: uint8 bands; 0 in all of them is nodata.
        reduce: (2 h, 2 w, bands) -> (h, w, bands), makes an overview of a block.
        tags: metadata of the file.
        scale, offset: physical value = scale * code + offset, for all bands.
    """

    def __init__(self, path: Path, grid: Grid, bands: int, reduce: Reduce, tags: dict[str, str],
                 scale: float, offset: float) -> None:
        self.path, self.grid, self.bands = Path(path), grid, bands
        self._reduce = reduce
        self._header = _gdal_header(grid, bands, tags, scale, offset)
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._final = self._part.with_suffix(".final")
        self._file = open(self._part, "w+b")  # noqa: SIM115 (closed in close or discard)
        self._lock = threading.Lock()
        self._levels = [grid.shape]
        while max(self._levels[-1]) > TILE:
            rows, cols = self._levels[-1]
            self._levels.append(((rows + 1) // 2, (cols + 1) // 2))
        self._index: list[dict[tuple[int, int], tuple[int, int]]] = [{} for _ in self._levels]

    def compress(self, tile: np.ndarray) -> bytes:
        """A (<=256, <=256, bands) block as the bytes of a tile; empty where all is nodata.

        Any thread may call it, so that the work can be shared.
        """
        if not tile.any():
            return b""
        if tile.shape != (TILE, TILE, self.bands):
            full = np.zeros((TILE, TILE, self.bands), np.uint8)
            full[: tile.shape[0], : tile.shape[1]] = tile
            tile = full
        return zstandard.ZstdCompressor(level=1).compress(np.ascontiguousarray(tile))

    def put(self, row: int, col: int, data: bytes, level: int = 0) -> None:
        """Store the compressed tile of tile row and tile column."""
        if data:
            with self._lock:
                offset = self._file.seek(0, os.SEEK_END)
                self._file.write(data)
                self._index[level][row, col] = (offset, len(data))

    def write(self, row: int, col: int, block: np.ndarray) -> None:
        """Store a (rows, cols, bands) block whose first pixel (row, col) starts a tile."""
        if row % TILE or col % TILE:
            raise ValueError(f"blocks must start on a tile of {TILE}, not at {row}, {col}")
        for r in range(0, block.shape[0], TILE):
            for c in range(0, block.shape[1], TILE):
                tile = block[r : r + TILE, c : c + TILE]
                self.put((row + r) // TILE, (col + c) // TILE, self.compress(tile))

    def close(self, check: Callable[[], None] = lambda: None) -> None:
        """Build the overviews, arrange the file and rename it.

        Args:
            check: called now and then; may raise to stop, and nothing remains.
        """
        try:
            for level in range(1, len(self._levels)):
                self._overview(level, check)
            self._arrange(check)
            os.replace(self._final, self.path)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove whatever was written under temporary names."""
        self._file.close()
        for leftover in (self._part, self._final):
            leftover.unlink(missing_ok=True)

    def _tile(self, level: int, row: int, col: int) -> np.ndarray | None:
        place = self._index[level].get((row, col))
        if place is None:
            return None
        self._file.seek(place[0])
        raw = zstandard.ZstdDecompressor().decompress(self._file.read(place[1]))
        return np.frombuffer(raw, np.uint8).reshape(TILE, TILE, self.bands)

    def _overview(self, level: int, check: Callable[[], None]) -> None:
        half = TILE // 2
        parents = sorted({(row // 2, col // 2) for row, col in self._index[level - 1]})
        for row, col in parents:
            check()
            tile = np.zeros((TILE, TILE, self.bands), np.uint8)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                child = self._tile(level - 1, 2 * row + i, 2 * col + j)
                if child is not None:
                    tile[i * half : (i + 1) * half, j * half : (j + 1) * half] = self._reduce(child)
            self.put(row, col, self.compress(tile), level)

    def _arrange(self, check: Callable[[], None]) -> None:
        grids = [(-(-rows // TILE), -(-cols // TILE)) for rows, cols in self._levels]
        order = [[index.get((r, c)) for r in range(rows) for c in range(cols)]
                 for index, (rows, cols) in zip(self._index, grids, strict=True)]
        ghost = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_GHOST) + _GHOST
        ghost += b"\0" * (len(ghost) % 2)  # directories begin on even places
        start = 16 + len(ghost)
        lengths = [len(self._directory(k, order[k], [0] * len(order[k]), start, 0))
                   for k in range(len(grids))]
        position, places = start + sum(lengths), [[] for _ in grids]
        for k in reversed(range(len(grids))):
            for tile in order[k]:
                places[k].append(position + 4 if tile else 0)
                position += tile[1] + 8 if tile else 0
        with open(self._final, "wb") as out:
            out.write(b"II\x2b\x00\x08\x00\x00\x00" + struct.pack("<Q", start) + ghost)
            for k in range(len(grids)):
                end = out.tell() + lengths[k]
                out.write(self._directory(k, order[k], places[k], out.tell(),
                                          end if k + 1 < len(grids) else 0))
            for k in reversed(range(len(grids))):
                for tile in filter(None, order[k]):
                    check()
                    self._file.seek(tile[0])
                    data = self._file.read(tile[1])
                    out.write(struct.pack("<I", len(data)) + data + data[-4:])

    def _directory(self, level: int, tiles: list, places: list[int], at: int, after: int) -> bytes:
        """One IFD with its values, for offset `at`; the next IFD is at `after`."""
        rows, cols = self._levels[level]
        n = self.bands
        tags: dict[int, Tag] = {
            254: _tag(4, [1 if level else 0]), 256: _tag(4, [cols]), 257: _tag(4, [rows]),
            258: _tag(3, [8] * n), 259: _tag(3, [ZSTD]), 262: _tag(3, [1]), 277: _tag(3, [n]),
            284: _tag(3, [1]), 322: _tag(3, [TILE]), 323: _tag(3, [TILE]),
            324: _tag(16, places), 325: _tag(4, [t[1] if t else 0 for t in tiles]),
            338: _tag(3, [0] * (n - 1)), 339: _tag(3, [1] * n),
        }
        if n == 1:
            del tags[338]
        tags.update(self._header if level == 0 else {
            key: self._header[key] for key in (42113,) if key in self._header})
        entries, extra = b"", b""
        data_at = at + 8 + 20 * len(tags) + 8
        for tag, (kind, count, raw) in sorted(tags.items()):
            if len(raw) <= 8:
                value = raw.ljust(8, b"\0")
            else:
                value = struct.pack("<Q", data_at + len(extra))
                extra += raw + b"\0" * (-len(raw) % 8)
            entries += struct.pack("<HHQ", tag, kind, count) + value
        return struct.pack("<Q", len(tags)) + entries + struct.pack("<Q", after) + extra


def _tag(kind: int, numbers: list[int]) -> Tag:
    return kind, len(numbers), np.array(
        numbers, {3: "<u2", 4: "<u4", 16: "<u8"}[kind]).tobytes()


def _gdal_header(grid: Grid, bands: int, tags: dict[str, str], scale: float,
                 offset: float) -> dict[int, Tag]:
    """The georeferencing and metadata tags as GDAL writes them for such a file."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), MemoryFile() as memory:
        with memory.open(driver="GTiff", width=16, height=16, count=bands, dtype="uint8", nodata=0,
                         crs=grid.crs, transform=grid.affine, BIGTIFF="YES",
                         interleave="pixel") as header:
            header.scales, header.offsets = (scale,) * bands, (offset,) * bands
            header.update_tags(**plain(tags))
        raw = bytes(memory.getbuffer())
    first = read_ifds(lambda at, length: raw[at : at + length])[0]
    return {tag: first[tag] for tag in _GEO_TAGS if tag in first}
