"""Applies a head to a whole raster: classes, confidence, unlike ground, areas.

Workers read a window with its margin, compute probabilities and smooth them; the results are
written in order. Memory is bounded by the budget, whatever the size of the raster.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..context import JobContext, Pace
from ..errors import UserError
from ..rasters.areas import AreaCount, Areas
from ..rasters.grid import Grid, Window
from ..rasters.legend import NODATA, Legend, LegendClass
from ..rasters.raster import RasterWriter
from ..rasters.smoothing import HALO, patch_pixels, remove_patches, smooth
from ..rasters.styles import PERCENT
from .features import FeatureSource
from .head import Head

UNLIKE = Legend((LegendClass(1, "Unlike the training data", "#737373"),))
"""Legend of the layer that says where not to trust a map; 0 is like the training data."""

Result = TypeVar("Result")

_SAMPLE = 50_000  # pixels from which the share of unlike ground is told


@dataclass(frozen=True)
class Options:
    """What to write and how.

    Attributes:
        output: class raster.
        confidence: probability of the class in percent, or None.
        unlike: 1 where features are unlike the training data, or None.
        smooth: smooth probabilities before choosing the class.
        min_area_ha: smaller patches join their surroundings; 0 keeps all.
        tags: metadata of the files.
    """

    output: Path
    confidence: Path | None = None
    unlike: Path | None = None
    smooth: bool = True
    min_area_ha: float = 0.0
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Mapped:
    """What came out: areas, and the share (0..1) of mapped pixels unlike the training data."""

    areas: Areas
    unlike_share: float


@dataclass(frozen=True)
class _Block:
    """Results of a window; `compared` counts the pixels looked at for likeness."""

    window: Window
    classes: np.ndarray
    confidence: np.ndarray
    unlike: np.ndarray | None
    compared: int
    found: int


def map_head(head: Head, source: Callable[[], FeatureSource], options: Options,
             context: JobContext) -> Mapped:
    """Write the maps of a head.

    Args:
        head: whose features the source must have.
        source: opens the features; called once for each thread.
        options: files and treatment.
        context: budget, threads, progress, cancellation.

    Raises:
        UserError: features missing, or no pixel with data.
    """
    with source() as first:
        head.require(first)
        grid = first.grid
        side = first.side(head.card.layout, context.memory_mb / (2 * context.threads + 1),
                          len(head.card.legend))
    legend = head.card.legend
    size = patch_pixels(grid, options.min_area_ha) if options.min_area_ha > 0 else 0
    count = AreaCount(grid)
    compared = found = answered = 0
    pace = Pace(context.part(0, 0.95), grid.full.size, "pixels", "Mapping")
    with ExitStack() as files:
        def writer(path: Path | None, names: Legend | None) -> RasterWriter | None:
            return files.enter_context(RasterWriter(
                path, grid, "uint8", NODATA, legend=names, tags=dict(options.tags),
                overview="nearest" if names else "average",
                ramp=None if names else PERCENT)) if path else None

        classes = writer(options.output, legend)
        confidence = writer(options.confidence, None)
        unlike = writer(options.unlike, UNLIKE)
        draft = np.memmap(context.folder / "classes.draft", np.uint8, "w+", shape=grid.shape) \
            if size > 1 else None
        stride = sample_stride(grid)

        def work(mine: FeatureSource, window: Window) -> _Block:
            return _block(head, mine, options, window, stride)

        for block in each_window(work, source, grid, side, context):
            if draft is not None:
                draft[block.window.slices] = block.classes
            else:
                classes.write(block.window, block.classes)
                count.add(block.window.row, block.classes)
            if confidence:
                confidence.write(block.window, block.confidence)
            if unlike:
                unlike.write(block.window, block.unlike)
            compared, found = compared + block.compared, found + block.found
            answered += int((block.classes != NODATA).sum())
            pace.add(block.window.size)
        if not answered:
            raise UserError("No pixel of the area to process has data. Choose another area or "
                            "check Cloud mask.")
        if draft is not None:
            for rows, calm in remove_patches(draft, size, NODATA, context):
                classes.write(Window(rows.start, 0, len(calm), grid.shape[1]), calm)
                count.add(rows.start, calm)
        context.progress(0.97, "Writing overviews")
    return Mapped(count.areas(legend), found / compared if compared else 0.0)


def sample_stride(grid: Grid) -> int:
    """Every how many-th row and column is enough to tell the share of unlike ground."""
    return max(1, int(np.sqrt(grid.full.size / _SAMPLE)))


def each_window(work: Callable[[FeatureSource, Window], Result],
                source: Callable[[], FeatureSource], grid: Grid, side: int,
                context: JobContext) -> Iterator[Result]:
    """`work` of all windows in their order, by threads that each have their own files."""
    local, opened = threading.local(), []

    def one(window: Window) -> Result:
        context.check()
        if not hasattr(local, "source"):
            local.source = source()
            opened.append(local.source)
        return work(local.source, window)

    pending: deque = deque()
    pool = ThreadPoolExecutor(context.threads)
    try:
        for window in grid.blocks(side, side):
            pending.append(pool.submit(one, window))
            if len(pending) > context.threads:
                yield _take(pending, context)
        while pending:
            yield _take(pending, context)
    finally:
        pool.shutdown(cancel_futures=True)
        for files in opened:
            files.close()


def _take(pending: deque, context: JobContext) -> Result:
    future = pending.popleft()
    while not future.done():
        context.check()
        threading.Event().wait(0.02)
    return future.result()


def _block(head: Head, source: FeatureSource, options: Options, window: Window,
           stride: int) -> _Block:
    """Classes and confidence of a window."""
    halo = HALO if options.smooth else 0
    rows, cols = source.grid.shape
    top, left = max(window.row - halo, 0), max(window.col - halo, 0)
    wide = Window(top, left, min(window.row + window.rows + halo, rows) - top,
                  min(window.col + window.cols + halo, cols) - left)
    features, valid = source.window(wide, head.card.layout)
    flat = valid.reshape(-1)
    probabilities = np.zeros((wide.size, len(head.card.legend)), np.float32)
    probabilities[flat] = head.probabilities(features[flat])
    probabilities = probabilities.reshape(wide.rows, wide.cols, -1)
    if options.smooth:
        probabilities = smooth(probabilities, valid)
    inner = (slice(window.row - top, window.row - top + window.rows),
             slice(window.col - left, window.col - left + window.cols))
    probabilities, known = probabilities[inner], valid[inner]
    values = np.array(head.card.legend.values, np.uint8)[probabilities.argmax(2)]
    percent = np.rint(100 * probabilities.max(2)).astype(np.uint8)
    features = features.reshape(wide.rows, wide.cols, -1)[inner]
    unlike, looked = None, known[::stride, ::stride]
    if options.unlike:
        unlike = np.full(known.shape, NODATA, np.uint8)
        unlike[known] = head.gate.unlike(features[known])
        strange = unlike[::stride, ::stride][looked]
    else:
        strange = head.gate.unlike(features[::stride, ::stride][looked])
    return _Block(window, np.where(known, values, NODATA).astype(np.uint8),
                  np.where(known, percent, NODATA).astype(np.uint8), unlike,
                  int(looked.sum()), int(strange.sum()))
