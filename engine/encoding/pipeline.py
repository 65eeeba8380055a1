"""The loop over windows: a stack becomes embeddings, every processor busy, memory bounded.

Every worker reads, prepares, encodes and compresses a block of its own, so that reading and
network overlap and no processor waits; the blocks are written in their order. What is held at
one time is bounded by the memory budget, whatever the raster's size.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from ...models.cards import Card
from ..context import JobContext, Pace
from ..errors import UserError
from ..rasters.cog import TILE
from ..rasters.embeddings import (
    DATES_TAG,
    ENCODER_TAG,
    SENSORS_TAG,
    EmbeddingsWriter,
    quantise,
)
from ..rasters.grid import Grid, Window
from ..rasters.raster import check_space, check_writable
from ..stacks.reading import StackReader
from ..stacks.sensors import TITLES
from ..stacks.stack import Stack
from .encoder import Encoder
from .patches import Lattice, PatchWork
from .upsampling import upsample

#: Pixels of one network call: activations stay in the cache, calls are not too many.
BATCH = 512

_MUCH = 1.6  # ratio of ground sizes from which an encoder sees another world


@dataclass(frozen=True)
class Encoded:
    """What `encode_stack` made: file, pixels (or patches) with an embedding, seconds."""

    path: Path
    pixels: int
    seconds: float


def encode_stack(stack: Stack, encoder_name: str, output: Path, context: JobContext,
                 extent: list | None = None, upsampled: bool = False) -> Encoded:
    """Encode a stack into an embeddings file.

    Args:
        extent: [left, bottom, right, top, CRS as WKT or "EPSG:..."]; snapped outwards to pixels,
            or to patches for a patch encoder.
        upsampled: bring the embeddings of a patch encoder to the stack's pixels.

    Raises:
        UserError: the stack lacks what the encoder needs, nothing valid, no room on the disk.
    """
    encoder = Encoder.open(encoder_name, context.device, context.threads)
    card = encoder.card
    name = stack.path.name if stack.path else "the input"
    if lacking := encoder.missing(stack.sensors()):
        raise UserError(f"{name}: {' '.join(lacking)}")
    lattice = Lattice.of(stack.grid, card.patch)
    area = window_in(lattice.grid, extent)
    grid = lattice.grid.part(area)
    check_writable(output)
    # full resolution, overviews (a third) and the copy that puts the tiles in order
    check_space(output, 2.4 * card.dimensions * grid.full.size
                * (card.patch**2 if upsampled else 1))
    context.log(f"Encoder {card.identity}, per {card.unit}, {card.dimensions} d; "
                f"{grid.shape[0]} x {grid.shape[1]} {_units(card)}")
    _compare_sizes(card, stack, context)
    _say_what_lacks(encoder, stack, context)
    dates = sorted({scene.date for scene in stack.scenes if scene.date})
    read = bands_read(card, stack.sensors())
    tags = {ENCODER_TAG: card.identity, DATES_TAG: ",".join(dates), SENSORS_TAG: ";".join(
        f"{sensor}:{' '.join(bands)}" for sensor, bands in sorted(read.items()))}
    finer = upsampled and card.patch > 1
    coarse = context.folder / f"{output.stem}.patches.tif" if finer else output
    pixels = stack.grid.part(lattice.pixels(area))
    if finer:  # with the patches around, so that the edges are those of a larger area
        area = _grown(area, lattice.grid)
        grid = lattice.grid.part(area)
    start, count = time.monotonic(), 0
    pace = Pace(context.part(0, 0.8) if finer else context, grid.full.size, _units(card),
                "Encoding")
    work = (_Work(stack, encoder, area, context) if card.unit == "pixel"
            else PatchWork(stack, encoder, lattice, area, context))
    with EmbeddingsWriter(coarse, grid, card.dimensions, card.code_scale, tags,
                          context.check) as out:
        for block, tiles, valid in work.blocks(grid, out.compress):
            for (row, col), data in tiles.items():
                out.put(block.row // TILE + row, block.col // TILE + col, data)
            count += valid
            pace.add(block.size, valid)
        if not count:
            which = f"All {len(dates)} dates of" if len(dates) > 1 else "The only date of"
            raise UserError(f"{which} {name} {'are' if len(dates) > 1 else 'is'} masked or "
                            "without data. Check Cloud mask.")
    seconds = time.monotonic() - start
    context.log(f"Embeddings of {count} {_units(card)} ({100 * count / grid.full.size:.1f} %) in "
                f"{seconds:.0f} s, {count / seconds:.0f} {_units(card)}/s")
    if finer:
        count = upsample(coarse, pixels, card.patch, output, tags, context.part(0.8, 1))
        coarse.unlink()
    return Encoded(Path(output), count, seconds)


def bands_read(card: Card, offered: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Of the sensors and bands of a stack those that an encoder reads."""
    read = {s.sensor: tuple(b for b in offered.get(s.sensor, ()) if b in s.bands)
            for s in card.sensors}
    return {sensor: bands for sensor, bands in read.items() if bands}


def _units(card: Card) -> str:
    return "pixels" if card.unit == "pixel" else "patches"


def _grown(area: Window, grid: Grid) -> Window:
    """A window and one cell on each side, as far as the grid goes."""
    top, left = max(area.row - 1, 0), max(area.col - 1, 0)
    return Window(top, left, min(area.row + area.rows + 1, grid.shape[0]) - top,
                  min(area.col + area.cols + 1, grid.shape[1]) - left)


def _compare_sizes(card: Card, stack: Stack, context: JobContext) -> None:
    """Say where the pixels are much larger or smaller than those that the encoder has learned."""
    row_areas = stack.grid.row_areas_m2()
    side = float(row_areas[len(row_areas) // 2]) ** 0.5
    if not 1 / _MUCH < side / card.ground_size_m < _MUCH:
        context.warn(f"{card.name} was made for pixels of {card.ground_size_m:g} m, these have "
                     f"{round(side, 2 if side < 10 else 0):g} m. Its embeddings may mean less "
                     "here.")


def _say_what_lacks(encoder: Encoder, stack: Stack, context: JobContext) -> None:
    """Name the bands that a sensor of the stack lacks, and what the encoder makes of that."""
    there = stack.sensors()
    for wanted in encoder.card.sensors:
        if wanted.sensor not in there or wanted.sensor not in TITLES:
            continue
        bands = there[wanted.sensor]
        if lacking := [band for band in wanted.bands if band not in bands]:
            alone = not encoder.missing({wanted.sensor: bands})
            (context.log if alone else context.warn)(
                f"{TITLES[wanted.sensor]} of the stack lacks {', '.join(lacking)}. {wanted.note}")


def window_in(grid: Grid, extent: list | None) -> Window:
    """The window of an extent [left, bottom, right, top, CRS], all of the grid when None."""
    if not extent:
        return grid.full
    *bounds, crs = extent
    if crs and grid.crs is not None:
        bounds = transform_bounds(CRS.from_user_input(crs), grid.crs, *bounds, densify_pts=21)
    window = grid.window_of(tuple(bounds))
    if window is None:
        raise UserError("The area to process and the rasters have no common area. "
                        "Choose another area.")
    return window


class _Work:
    """Encodes blocks of a stack in threads, each with a reader of its own."""

    def __init__(self, stack: Stack, encoder: Encoder, area: Window, context: JobContext) -> None:
        self._stack, self._encoder, self._area, self._context = stack, encoder, area, context
        self._bands = {s.sensor: s.bands for s in encoder.card.sensors}
        self._local = threading.local()
        self._readers: list[StackReader] = []
        dims = encoder.card.dimensions
        share = context.memory_mb * 1e6 / (context.threads + 1)
        # values as read and as prepared, masks, codes and their compressed copy
        per_pixel = 2 * StackReader.bytes_per_pixel(stack, bands=self._bands) + 3 * dims
        self._window_pixels = max(int(share / per_pixel), TILE)

    def blocks(self, grid: Grid, compress: object) -> Iterator[tuple[Window, dict, int]]:
        """(block, tile (row, col) to bytes, pixels with an embedding), in the order of blocks."""
        tiles = -(-grid.shape[0] // TILE) * -(-grid.shape[1] // TILE)
        # at least four blocks a processor: progress, an early cancel, and nobody waits at the end
        wide = min(self._window_pixels // TILE**2, tiles // (4 * self._context.threads), 16)
        cols = max(wide, 1) * TILE
        pending: deque = deque()
        pool = ThreadPoolExecutor(self._context.threads)
        try:
            for block in grid.blocks(TILE, cols):
                pending.append((block, pool.submit(self._encode, block, compress)))
                if len(pending) > self._context.threads:
                    yield self._take(pending)
            while pending:
                yield self._take(pending)
        finally:
            pool.shutdown(cancel_futures=True)
            for reader in self._readers:
                reader.close()

    def _take(self, pending: deque) -> tuple[Window, dict, int]:
        block, future = pending.popleft()
        while not future.done():
            self._context.check()
            threading.Event().wait(0.02)
        return block, *future.result()

    def _reader(self) -> StackReader:
        if not hasattr(self._local, "reader"):
            self._local.reader = StackReader(
                self._stack, bands=self._bands).__enter__()
            self._readers.append(self._local.reader)
        return self._local.reader

    def _encode(self, block: Window, compress: object) -> tuple[dict, int]:
        """The compressed tiles of a block and how many of its pixels have an embedding."""
        codes = np.zeros((block.rows, block.cols, self._encoder.card.dimensions), np.uint8)
        rows = max(self._window_pixels // block.cols, 1)
        for row in range(0, block.rows, rows):
            count = min(rows, block.rows - row)
            cube = self._reader().read(Window(
                self._area.row + block.row + row, self._area.col + block.col, count, block.cols))
            flat = codes[row : row + count].reshape(-1, codes.shape[2])
            for batch in self._encoder.adapter.batches(cube, BATCH, self._encoder.card):
                self._context.check()
                flat[batch.pixels] = quantise(self._encoder.run(batch.inputs),
                                              self._encoder.card.code_scale)
        tiles = {(r // TILE, c // TILE): compress(codes[r : r + TILE, c : c + TILE])
                 for r in range(0, block.rows, TILE) for c in range(0, block.cols, TILE)}
        return tiles, int((codes[..., 0] != 0).sum())
