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
from .surroundings import with_margin

UNLIKE = Legend((LegendClass(1, "Unlike the training data", "#737373"),))
"""Legend of the layer that says where not to trust a map; 0 is like the training data."""

UNKNOWN = LegendClass(254, "Unknown", "#cc79a7")
"""The class of pixels that are unlike the training data, where `Options.unknown` asks for it."""

LEAST_SIDE = 16
"""Pixels a side of a window, whatever margin a head needs."""

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
        unknown: pixels unlike the training data become the class `UNKNOWN`; a number's map has
            no answer there.
    """

    output: Path
    confidence: Path | None = None
    unlike: Path | None = None
    smooth: bool = True
    min_area_ha: float = 0.0
    tags: tuple[tuple[str, str], ...] = ()
    unknown: bool = False


@dataclass(frozen=True)
class Mapped:
    """What came out.

    Attributes:
        areas: of the classes of the legend.
        unlike_share: share (0..1) of mapped pixels unlike the training data.
        legend: of the written map: the head's, and `UNKNOWN` where that was asked for.
    """

    areas: Areas
    unlike_share: float
    legend: Legend


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
        UserError: features missing, no pixel with data, or the head has a class 254 already
            where unknown pixels are to get that value.
    """
    legend = with_unknown(head.card.legend) if options.unknown else head.card.legend
    with source() as first:
        head.require(first)
        grid = first.grid
        side = first.side(head.card.layout, context.memory_mb / (2 * context.threads + 1),
                          len(legend))
        side = max(side - 2 * head.card.margin, LEAST_SIDE)
    size = patch_pixels(grid, options.min_area_ha) if options.min_area_ha > 0 else 0
    count = AreaCount(grid)
    compared = found = answered = 0
    pace = Pace(context.part(0, 0.95), grid.full.size, "pixels", "Mapping")
    with ExitStack() as files:
        def writer(path: Path | None, names: Legend | None) -> RasterWriter | None:
            return files.enter_context(RasterWriter(
                path, grid, "uint8", NODATA, legend=names, tags=dict(options.tags),
                overview="nearest" if names else "average",
                ramp=None if names else PERCENT, unit="" if names else "%")) if path else None

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
    return Mapped(count.areas(legend), found / compared if compared else 0.0, legend)


def with_unknown(legend: Legend) -> Legend:
    """A legend and the class of pixels unlike the training data."""
    for known in legend.classes:
        if known.value == UNKNOWN.value:
            raise UserError(f"Class {known.name} has the value {UNKNOWN.value}, which pixels "
                            "unlike the training data would get. Turn Unknown off.")
    return Legend((*legend.classes, UNKNOWN))


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
    halo, margin = HALO if options.smooth else 0, head.card.margin
    rows, cols = source.grid.shape
    top, left = max(window.row - halo, 0), max(window.col - halo, 0)
    wide = Window(top, left, min(window.row + window.rows + halo, rows) - top,
                  min(window.col + window.cols + halo, cols) - left)
    features, valid = with_margin(source, wide, margin, head.card.layout)
    probabilities = head.image(features, valid)
    features, valid = (a[margin:margin + wide.rows, margin:margin + wide.cols]
                       for a in (features, valid))
    inner = (slice(window.row - top, window.row - top + window.rows),
             slice(window.col - left, window.col - left + window.cols))
    strange = None
    if options.unknown:
        strange = np.zeros(valid.shape, bool)
        strange[valid] = head.gate.unlike(features[valid])
        # a pixel votes for "unknown" as others vote for their class, so that smoothing keeps
        # ground that is unlike and drops single pixels
        votes = np.where(strange[..., None], np.float32(0), probabilities)
        probabilities = np.concatenate([votes, strange[..., None].astype(np.float32)], 2)
        strange = strange[inner]
    if options.smooth:
        probabilities = smooth(probabilities, valid)
    probabilities, known, features = probabilities[inner], valid[inner], features[inner]
    values = np.array((*head.card.legend.values, UNKNOWN.value), np.uint8)[probabilities.argmax(2)]
    percent = np.rint(100 * probabilities.max(2)).astype(np.uint8)
    if options.unknown:
        percent[values == UNKNOWN.value] = NODATA  # no class to be sure of
    looked = known[::stride, ::stride]
    if strange is None and options.unlike:
        strange = np.zeros(known.shape, bool)
        strange[known] = head.gate.unlike(features[known])
    if strange is None:
        found = int(head.gate.unlike(features[::stride, ::stride][looked]).sum())
    else:
        found = int(strange[::stride, ::stride][looked].sum())
    unlike = np.where(known, strange, NODATA).astype(np.uint8) if options.unlike else None
    return _Block(window, np.where(known, values, NODATA).astype(np.uint8),
                  np.where(known, percent, NODATA).astype(np.uint8), unlike,
                  int(looked.sum()), found)
