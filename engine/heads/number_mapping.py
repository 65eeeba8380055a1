"""Applies a head of numbers to a whole raster: a float raster in the unit of the labels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from ..context import JobContext, Pace
from ..errors import UserError
from ..rasters.grid import Window
from ..rasters.legend import NODATA
from ..rasters.raster import RasterWriter
from ..rasters.styles import CIVIDIS, Ramp
from .features import FeatureSource
from .mapping import UNLIKE, Options, each_window, sample_stride
from .number_head import NumberCard, NumberHead

UNIT_TAG = "EARTHPRINT_UNIT"


@dataclass(frozen=True)
class MappedNumbers:
    """What came out, over the pixels with an answer.

    Attributes:
        pixels: how many.
        mean: of the map.
        low, high: smallest and largest value.
        beyond: share (0..1) outside the range of the training values.
        unlike_share: share (0..1) unlike the training data.
    """

    pixels: int
    mean: float
    low: float
    high: float
    beyond: float
    unlike_share: float


def map_numbers(head: NumberHead, source: Callable[[], FeatureSource], options: Options,
                context: JobContext) -> MappedNumbers:
    """Write the map of a head of numbers; pixels without an answer are NaN.

    Args:
        head: whose features the source must have.
        source: opens the features; called once for each thread.
        options: output, unlike, unknown and tags; numbers are neither smoothed nor cleaned of
            patches.
        context: budget, threads, progress, cancellation.

    Raises:
        UserError: features missing, or no pixel with data.
    """
    card = head.card
    with source() as first:
        head.require(first)
        grid = first.grid
        side = first.side(card.layout, context.memory_mb / (2 * context.threads + 1), 1)
    stride = sample_stride(grid)

    def work(mine: FeatureSource, window: Window) -> _Numbers:
        return _numbers(head, mine, options, window, stride)

    pixels = beyond = compared = found = 0
    total, low, high = 0.0, np.inf, -np.inf
    pace = Pace(context.part(0, 0.95), grid.full.size, "pixels", "Mapping")
    with ExitStack() as files:
        tags = {**dict(options.tags), UNIT_TAG: card.unit}
        values = files.enter_context(RasterWriter(
            options.output, grid, "float32", float("nan"), tags=tags, overview="average",
            ramp=ramp_of(card), descriptions=(card.title,), unit=card.unit))
        unlike = files.enter_context(RasterWriter(
            options.unlike, grid, "uint8", NODATA, legend=UNLIKE, tags=dict(options.tags)
        )) if options.unlike else None
        for block in each_window(work, source, grid, side, context):
            values.write(block.window, block.values)
            if unlike is not None:
                unlike.write(block.window, block.unlike)
            known = block.values[np.isfinite(block.values)]
            if len(known):
                pixels, total = pixels + len(known), total + float(known.sum(dtype=np.float64))
                low, high = min(low, float(known.min())), max(high, float(known.max()))
                beyond += int(((known < card.range[0]) | (known > card.range[1])).sum())
            compared, found = compared + block.compared, found + block.found
            pace.add(block.window.size)
        if not pixels:
            raise UserError("No pixel of the area to process has data. Choose another area or "
                            "check Cloud mask.")
        context.progress(0.97, "Writing overviews")
    return MappedNumbers(pixels, total / pixels, low, high, beyond / pixels,
                         found / compared if compared else 0.0)


def ramp_of(card: NumberCard) -> Ramp:
    """Colours over the middle of the training values, so that all maps of a head compare."""
    low, high = card.middle
    if high <= low:
        high = low + 1.0
    digits = max(0, 2 - int(np.floor(np.log10(high - low))))
    unit = f" {card.unit}".replace("{", "").replace("}", "") if card.unit else ""
    return Ramp(CIVIDIS, low, high, f"{{:.{min(digits, 9)}f}}{unit}")


@dataclass(frozen=True)
class _Numbers:
    """Results of a window; `compared` counts the pixels looked at for likeness."""

    window: Window
    values: np.ndarray
    unlike: np.ndarray | None
    compared: int
    found: int


def _numbers(head: NumberHead, source: FeatureSource, options: Options, window: Window,
             stride: int) -> _Numbers:
    features, valid = source.window(window, head.card.layout)
    values = np.full(valid.shape, np.nan, np.float32)
    features = features.reshape(*valid.shape, -1)
    values[valid] = head.values(features[valid])
    unlike, looked = None, valid[::stride, ::stride]
    if options.unlike or options.unknown:
        unlike = np.full(valid.shape, NODATA, np.uint8)
        unlike[valid] = head.gate.unlike(features[valid])
        strange = unlike[::stride, ::stride][looked]
        if options.unknown:
            values[unlike == 1] = np.nan
    else:
        strange = head.gate.unlike(features[::stride, ::stride][looked])
    return _Numbers(window, values, unlike, int(looked.sum()), int(strange.sum()))
