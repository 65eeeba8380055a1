"""The loop over windows of a patch encoder: one lattice over the raster, margins dropped.

A window's place depends on the raster alone, never on memory, extent or threads, so that a patch
has one embedding whatever was asked. Each patch is taken from the window in which it lies deepest.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from ...models.cube import Cube, Series
from ..context import JobContext
from ..rasters.cog import TILE
from ..rasters.embeddings import quantise
from ..rasters.grid import Grid, Window
from ..stacks.reading import StackReader
from ..stacks.stack import Stack
from .encoder import Encoder

_AHEAD = 2  # groups that are read while the network works


@dataclass(frozen=True)
class Span:
    """One window along an axis, in patches.

    Attributes:
        start: its first patch.
        first, stop: the patches first..stop-1 are taken from it.
    """

    start: int
    first: int
    stop: int


def spans(count: int, size: int, margin: int) -> list[Span]:
    """Windows of `size` patches over an axis of `count`, their overlaps shared at the middle.

    The last window is moved back to end with the axis, so that nothing has to be made up beyond
    the raster; only a raster smaller than a window leaves a part of it empty.
    """
    last = max(count - size, 0)
    starts = [*range(0, last, size - 2 * margin), last]
    edges = [0, *((a + size + b) // 2 for a, b in zip(starts, starts[1:], strict=False)), count]
    return [Span(*each) for each in zip(starts, edges, edges[1:], strict=False)]


class PatchWork:
    """Encodes blocks of a stack by windows of patches.

    Args:
        stack: what to encode.
        encoder: of unit "patch"; its calls use all processors, reading goes on beside them.
        area: the patches to encode, a window of the stack's grid in patches.
        context: budgets and cancellation.
    """

    def __init__(self, stack: Stack, encoder: Encoder, area: Window, context: JobContext) -> None:
        self._stack, self._encoder, self._area, self._context = stack, encoder, area, context
        card = encoder.card
        self._bands = {s.sensor: s.bands for s in card.sensors}
        self._size = card.window // card.patch
        self._spans = [spans(n, self._size, card.margin)
                       for n in stack.grid.coarser(card.patch).shape]
        per_pixel = 2 * StackReader.bytes_per_pixel(stack, bands=self._bands)
        window = card.window**2 * per_pixel
        self._windows = int(max(context.memory_mb * 1e6 / 2 / (_AHEAD + 1) // window, 1))
        self._local, self._readers = threading.local(), []
        self._network = threading.Lock()

    def blocks(self, grid: Grid, compress: Callable[[np.ndarray], bytes]
               ) -> Iterator[tuple[Window, dict[tuple[int, int], bytes], int]]:
        """(block, tile (row, col) to bytes, patches with an embedding), in the order of blocks."""
        pool = ThreadPoolExecutor(_AHEAD)
        waiting: deque[tuple[Window, deque[Future]]] = deque()
        try:
            for block in grid.blocks(TILE, TILE):
                groups = self._groups(block)
                waiting.append((block, deque(pool.submit(self._encode, *g) for g in groups)))
                if len(waiting) > 1:
                    yield self._finish(*waiting.popleft(), compress)
            while waiting:
                yield self._finish(*waiting.popleft(), compress)
        finally:
            pool.shutdown(cancel_futures=True)
            for reader in self._readers:
                reader.close()

    def _groups(self, block: Window) -> Iterator[tuple[list[Span], list[Span]]]:
        """Windows that a block needs, in rectangles that are read at once."""
        rows, cols = (
            [s for s in every if s.first < start + length and s.stop > start]
            for every, start, length in (
                (self._spans[0], self._area.row + block.row, block.rows),
                (self._spans[1], self._area.col + block.col, block.cols)))
        wide = min(len(cols), self._windows)
        # several groups a block, so that the next is read while the network works on one
        high = max(min(self._windows // wide, -(-len(rows) // (_AHEAD + 1))), 1)
        for i in range(0, len(rows), high):
            for j in range(0, len(cols), wide):
                yield rows[i : i + high], cols[j : j + wide]

    def _finish(self, block: Window, futures: deque[Future], compress: Callable
                ) -> tuple[Window, dict[tuple[int, int], bytes], int]:
        codes = np.zeros((block.rows, block.cols, self._encoder.card.dimensions), np.uint8)
        top, left = self._area.row + block.row, self._area.col + block.col
        while futures:
            future = futures.popleft()
            while not future.done():
                self._context.check()
                threading.Event().wait(0.02)
            for row, col, part in future.result():
                r0, c0 = max(row, top), max(col, left)
                r1 = min(row + part.shape[0], top + block.rows)
                c1 = min(col + part.shape[1], left + block.cols)
                codes[r0 - top : r1 - top, c0 - left : c1 - left] = part[
                    r0 - row : r1 - row, c0 - col : c1 - col]
        return block, {(0, 0): compress(codes)}, int((codes[..., 0] != 0).sum())

    def _encode(self, rows: list[Span], cols: list[Span]) -> list[tuple[int, int, np.ndarray]]:
        """(first row, first column, (rows, cols, d) codes) of what each window of a group gives."""
        card = self._encoder.card
        top, left = rows[0].start * card.patch, cols[0].start * card.patch
        bottom, right = (
            min((spans[-1].start + self._size) * card.patch, length)
            for spans, length in zip((rows, cols), self._stack.grid.shape, strict=True))
        cube = self._reader().read(Window(top, left, bottom - top, right - left))
        found = []
        for row in rows:
            for col in cols:
                place = row.start * card.patch - top, col.start * card.patch - left
                codes = self._window(window(cube, *place, card.window))
                found.append((row.first, col.first, codes[
                    row.first - row.start : row.stop - row.start,
                    col.first - col.start : col.stop - col.start]))
        return found

    def _window(self, cube: Cube) -> np.ndarray:
        """(rows, cols, d) codes of a window's patches, 0 where there is no embedding."""
        card = self._encoder.card
        codes = np.zeros((self._size**2, card.dimensions), np.uint8)
        for batch in self._encoder.adapter.batches(cube, 1, card):
            self._context.check()
            with self._network:
                vectors = self._encoder.run(batch.inputs).reshape(-1, card.dimensions)
            kept = batch.pixels >= 0
            codes[batch.pixels[kept]] = quantise(vectors[kept], card.code_scale)
        return codes.reshape(self._size, self._size, -1)

    def _reader(self) -> StackReader:
        if not hasattr(self._local, "reader"):
            self._local.reader = StackReader(self._stack, bands=self._bands).__enter__()
            self._readers.append(self._local.reader)
        return self._local.reader


def window(cube: Cube, row: int, col: int, side: int) -> Cube:
    """side x side pixels of a cube from (row, col) on, invalid where the cube ends."""
    return replace(cube, shape=(side, side), series={
        name: _cut(series, row, col, side) for name, series in cube.series.items()})


def _cut(series: Series, row: int, col: int, side: int) -> Series:
    place = ..., slice(row, row + side), slice(col, col + side)
    values, valid = series.values[place], series.valid[place]
    short = [(0, side - n) for n in valid.shape[1:]]
    if any(after for _, after in short):
        values = np.pad(values, [(0, 0), (0, 0), *short], constant_values=np.nan)
        valid = np.pad(valid, [(0, 0), *short], constant_values=False)
    return replace(series, values=values, valid=valid)
