"""The loop over windows of a patch encoder: one lattice on the ground, overlaps blended.

Patches and windows are counted from the origin of the coordinate system, never from a raster's
first pixel, nor do they depend on memory, extent or threads. So a piece of ground has one embedding
in all rasters that share their pixels, and tiles of a mosaic fit, but for what lies near an edge.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from ...models.cards import Card
from ...models.cube import Cube, Series
from ..context import JobContext
from ..rasters.cog import TILE
from ..rasters.embeddings import quantise
from ..rasters.grid import Grid, Window
from ..stacks.reading import StackReader
from ..stacks.stack import Stack
from .encoder import Encoder

_AHEAD = 2  # groups that are read while the network works
_SAME = 1e-3  # pixels by which the same place may differ between rasters


@dataclass(frozen=True)
class Lattice:
    """The patches of a raster, on the ground as in every raster of the same pixels.

    Attributes:
        grid: of patches; the first and the last ones may reach beyond the raster.
        first: (row, column) of its first patch, counted from the CRS's origin.
        before: rows and columns of pixels by which its first patch begins before the raster.
        patch: side of a patch in pixels.
        shape: (rows, columns) of the raster.
    """

    grid: Grid
    first: tuple[int, int]
    before: tuple[int, int]
    patch: int
    shape: tuple[int, int]

    @classmethod
    def of(cls, grid: Grid, patch: int) -> Lattice:
        """The patches that cover a grid; one without georeference starts at the origin itself."""
        col, row = ~grid.affine @ (0, 0)
        # pixels of many rasters lie half a pixel from the origin: those of all must go one way
        starts = [-math.floor(n + 0.5 + _SAME) for n in (row, col)]
        before = tuple(n % patch for n in starts)
        whole = Window(-before[0], -before[1], before[0] + grid.shape[0], before[1] + grid.shape[1])
        return cls(grid.part(whole).coarser(patch), tuple(n // patch for n in starts), before,
                   patch, grid.shape)

    def pixels(self, area: Window) -> Window:
        """The raster's pixels in a window of patches."""
        row, rows = self._along(0, area.row, area.rows)
        col, cols = self._along(1, area.col, area.cols)
        return Window(row, col, rows, cols)

    def _along(self, axis: int, start: int, count: int) -> tuple[int, int]:
        """First pixel and number of pixels of so many patches along an axis."""
        first = start * self.patch - self.before[axis]
        stop = min(first + count * self.patch, self.shape[axis])
        return max(first, 0), stop - max(first, 0)


@dataclass(frozen=True)
class Span:
    """One window along an axis, in patches.

    Attributes:
        start: its first patch.
        first, stop: the cuts to the windows before and after, around which they are blended.
    """

    start: int
    first: int
    stop: int

    def weights(self, count: int, size: int, margin: int) -> np.ndarray:
        """(size,) whole numbers: how much each of its patches counts.

        They rise over the margins on both sides of every cut, so that one window goes over into
        the next; whole numbers make sums the same in any order.
        """
        place, full = self.start + np.arange(size), 2 * margin + 1
        weights = np.full(size, full)
        if self.first > 0:
            weights = np.minimum(weights, place - (self.first - margin) + 1)
        if self.stop < count:
            weights = np.minimum(weights, self.stop + margin - place)
        return np.maximum(weights, 0)


def spans(count: int, size: int, margin: int, origin: int = 0) -> list[Span]:
    """Windows of `size` patches over an axis of `count`, each but for its margins.

    They start at every (size - 2 margin)-th patch from the origin. Where such a window would reach
    beyond the axis, one that ends with the axis stands in for it, so that nothing has to be made
    up; only a raster smaller than a window leaves a part of it empty.

    Args:
        origin: the number of the axis's first patch, counted from the origin.
    """
    last, step = max(count - size, 0), size - 2 * margin
    regular = range(-origin % step, last + 1, step)
    starts = sorted({0, *regular, last})
    cuts = [a + size - margin if a in regular else b + margin if b in regular
            else (a + b + size) // 2 for a, b in zip(starts, starts[1:], strict=False)]
    edges = [0, *cuts, count]
    return [Span(*each) for each in zip(starts, edges, edges[1:], strict=False)]


class PatchWork:
    """Encodes blocks of a stack by windows of patches.

    Args:
        stack: what to encode.
        encoder: of unit "patch"; its calls use all processors, reading goes on beside them.
        lattice: the stack's patches.
        area: those to encode.
        context: budgets and cancellation.
    """

    def __init__(self, stack: Stack, encoder: Encoder, lattice: Lattice, area: Window,
                 context: JobContext) -> None:
        self._stack, self._encoder, self._context = stack, encoder, context
        self._lattice, self._area = lattice, area
        card = encoder.card
        self._bands = {s.sensor: s.bands for s in card.sensors}
        self._size = card.window // card.patch
        self._spans = [spans(n, self._size, card.margin, first)
                       for n, first in zip(lattice.grid.shape, lattice.first, strict=True)]
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
        margin = self._encoder.card.margin
        rows, cols = (
            [s for s in every if s.first - margin < start + length and s.stop + margin > start]
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
        blend = _Blend(block.rows, block.cols, self._encoder.card)
        top, left = self._area.row + block.row, self._area.col + block.col
        while futures:
            future = futures.popleft()
            while not future.done():
                self._context.check()
                threading.Event().wait(0.02)
            for row, col, part, weights in future.result():
                blend.add(row - top, col - left, part, weights)
        codes = blend.codes()
        return block, {(0, 0): compress(codes)}, int((codes[..., 0] != 0).sum())

    def _encode(self, rows: list[Span], cols: list[Span]
                ) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
        """Row, column, (size, size, d) codes and (size, size) weights of a group's windows."""
        card, size = self._encoder.card, self._size
        there = self._lattice.pixels(Window(
            rows[0].start, cols[0].start,
            rows[-1].start + size - rows[0].start, cols[-1].start + size - cols[0].start))
        cube = self._reader().read(there)
        above, left = self._lattice.before[0] + there.row, self._lattice.before[1] + there.col
        found = []
        for row in rows:
            for col in cols:
                place = row.start * card.patch - above, col.start * card.patch - left
                codes = self._window(window(cube, *place, card.window))
                weights = np.outer(*(
                    span.weights(count, size, card.margin) for span, count in zip(
                        (row, col), self._lattice.grid.shape, strict=True)))
                found.append((row.start, col.start, codes, weights))
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


class _Blend:
    """The weighted mean of the windows over a block, in codes."""

    def __init__(self, rows: int, cols: int, card: Card) -> None:
        most = 127 * (3 * (2 * card.margin + 1)) ** 2  # three windows at most along an axis
        kind = np.int16 if most < np.iinfo(np.int16).max else np.int32
        self._total = np.zeros((rows, cols, card.dimensions), kind)
        self._weight = np.zeros((rows, cols), np.int32)
        self._length = 1 / card.code_scale

    def add(self, row: int, col: int, codes: np.ndarray, weights: np.ndarray) -> None:
        """A window's (size, size, d) codes, 0 without embedding, whose first patch lies there."""
        (rows, cols), size = self._weight.shape, len(codes)
        there = (slice(max(row, 0), min(row + size, rows)),
                 slice(max(col, 0), min(col + size, cols)))
        here = tuple(slice(t.start - n, t.stop - n) for t, n in zip(there, (row, col), strict=True))
        codes = codes[here]
        weights = np.where(codes[..., 0] != 0, weights[here], 0)
        self._weight[there] += weights
        self._total[there] += (codes.astype(self._total.dtype) - 128) * weights.astype(
            self._total.dtype)[..., None]

    def codes(self) -> np.ndarray:
        """(rows, cols, d) codes of unit vectors, 0 where no window had an embedding."""
        found = np.zeros(self._total.shape, np.uint8)
        for row, (total, weight) in enumerate(zip(self._total, self._weight, strict=True)):
            mean = total.astype(np.float32)
            length = np.linalg.norm(mean, axis=1, keepdims=True)
            mean *= self._length / np.maximum(length, 1e-6)
            kept = weight > 0
            found[row, kept] = np.clip(np.rint(mean[kept]) + 128, 1, 255).astype(np.uint8)
        return found


def window(cube: Cube, row: int, col: int, side: int) -> Cube:
    """side x side pixels of a cube from (row, col) on, invalid where the cube has none."""
    return replace(cube, shape=(side, side), series={
        name: _cut(series, row, col, side) for name, series in cube.series.items()})


def _cut(series: Series, row: int, col: int, side: int) -> Series:
    place = ..., slice(max(row, 0), row + side), slice(max(col, 0), col + side)
    values, valid = series.values[place], series.valid[place]
    before = max(-row, 0), max(-col, 0)
    beyond = [(b, side - b - n) for b, n in zip(before, valid.shape[1:], strict=True)]
    if any(map(any, beyond)):
        values = np.pad(values, [(0, 0), (0, 0), *beyond], constant_values=np.nan)
        valid = np.pad(valid, [(0, 0), *beyond], constant_values=False)
    return replace(series, values=values, valid=valid)
