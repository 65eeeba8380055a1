"""Why a map has no answer somewhere: one class raster, judged on all bands and all dates.

Only windows of the map that have empty pixels are read again, and of these the part around the
empty pixels.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window as RasterWindow

from ..context import JobContext, Pace
from ..rasters.areas import AreaCount
from ..rasters.grid import Grid, Window
from ..rasters.legend import NODATA, Legend
from ..rasters.raster import RasterWriter
from ..stacks.assembly import lattice_shift
from ..stacks.reading import Sight, StackReader
from .inputs import Inputs
from .layout import FeatureLayout
from .mapping import UNKNOWN, each_window
from .sensors import bands_read

ANSWERED, OUTSIDE, NO_DATA, CLOUD, MISSING, NO_EMBEDDING, UNLIKE = range(7)
"""Values of the raster; names and colours stand in resources/legends/reasons.json."""

_LEGEND = Path(__file__).resolve().parents[2] / "resources" / "legends" / "reasons.json"
_MOST = 512  # pixels a side of a window


@cache
def reasons_legend() -> Legend:
    """Names and colours of the reasons; 0, a pixel with an answer, is not drawn."""
    return Legend.of_records(json.loads(_LEGEND.read_text(encoding="utf-8"))["classes"])


def write_reasons(path: Path, classes: Path, source: Inputs, layout: FeatureLayout,
                  context: JobContext, *, withheld: bool = True) -> dict[str, float]:
    """Write why pixels of a finished map are empty.

    Args:
        path: of the raster to write.
        classes: the map, of classes or numbers: its nodata is what has no answer.
        source: what the map was made of.
        layout: features of the map's head: only their sensors and bands count.
        context: budget, threads, progress, cancellation.
        withheld: whether the map withholds answers unlike the training data: as the class
            `UNKNOWN`, or in a map of numbers as nodata.

    Returns:
        Name of each reason that occurs to its share (0..1) of the raster's area, largest first.
    """
    with rasterio.open(classes) as dataset:
        grid = Grid.of(dataset)
    bands = _needed(source, layout)
    side = _MOST
    if bands:
        per_pixel = StackReader.bytes_per_pixel(source.stack, tuple(bands), bands)
        room = context.memory_mb * 1e6 / (context.threads + 1) / max(per_pixel, 1)
        side = max(16, min(math.isqrt(int(room)) // 16 * 16, _MOST))
    place = lattice_shift(grid, source.stack.grid) if bands else None
    count = AreaCount(grid)
    pace = Pace(context, grid.full.size, "pixels", "Looking at empty pixels")
    with RasterWriter(path, grid, "uint8", NODATA, legend=reasons_legend(),
                      tags={"EARTHPRINT_MAP": classes.name}) as out:
        def look() -> _Look:
            return _Look(classes, source, bands, place, withheld)

        def work(look: _Look, window: Window) -> tuple[Window, np.ndarray]:
            return window, look.reasons(window)

        for window, values in each_window(work, look, grid, side, context):
            out.write(window, values)
            count.add(window.row, values)
            pace.add(window.size)
    whole = count.square_metres.sum()
    shares = {c.name: float(count.square_metres[c.value] / whole)
              for c in reasons_legend().classes if count.pixels[c.value]}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def log_reasons(shares: dict[str, float], context: JobContext) -> None:
    """One line on why pixels are empty."""
    told = ", ".join(f"{name.lower()} {100 * share:.1f} %" for name, share in shares.items())
    context.log(f"Without answer: {told}" if told else "Every pixel has an answer")


class _Look:
    """The map and what it was made of, opened for one thread."""

    def __init__(self, classes: Path, source: Inputs, bands: dict[str, tuple[str, ...]],
                 place: tuple[int, int] | None, withheld: bool) -> None:
        self._map = rasterio.open(classes)
        self._place, self._withheld, self._reader = place, withheld, None
        if place is not None:
            self._reader = StackReader(source.stack, sensors=tuple(bands), bands=bands)
        self._numbers = self._map.dtypes[0] != "uint8"

    def close(self) -> None:
        """Close all files."""
        self._map.close()
        if self._reader is not None:
            self._reader.close()

    def reasons(self, window: Window) -> np.ndarray:
        """(rows, cols) uint8 of a window of the map."""
        there = RasterWindow(window.col, window.row, window.cols, window.rows)
        values = self._map.read(1, window=there)
        result = np.full(values.shape, ANSWERED, np.uint8)
        if self._withheld and not self._numbers:
            result[values == UNKNOWN.value] = UNLIKE
        empty = self._map.read_masks(1, window=there) == 0
        if not empty.any():
            return result
        if self._reader is None:
            result[empty] = NO_EMBEDDING
            return result
        rows, cols = (np.flatnonzero(empty.any(axis)) for axis in (1, 0))
        part = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
        sights = self._reader.sight(Window(
            self._place[0] + window.row + int(rows[0]), self._place[1] + window.col + int(cols[0]),
            int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1))
        why = judged(sights)
        if self._withheld and self._numbers:
            why[np.any([sight.clear for sight in sights.values()], axis=0)] = UNLIKE
        result[part] = np.where(empty[part], why, result[part])
        return result


def judged(sights: dict[str, Sight]) -> np.ndarray:
    """(H, W) uint8 reasons of pixels without an answer, from what each sensor holds there.

    A pixel that one sensor saw clearly and that still has no answer lacks another sensor.
    Otherwise the sensor that came closest to an answer tells the reason.
    """
    inside, some, whole, clear = (
        np.any([getattr(sight, name) for sight in sights.values()], axis=0)
        for name in ("inside", "some", "whole", "clear"))
    return np.select([clear, whole, some, inside], [MISSING, CLOUD, MISSING, NO_DATA],
                     OUTSIDE).astype(np.uint8)


def _needed(source: Inputs, layout: FeatureLayout) -> dict[str, tuple[str, ...]]:
    """Sensor to the bands that an answer depends on; empty where only embeddings are known."""
    if source.stack is None:
        return {}
    read = bands_read(source.stack, layout)
    if read is not None:
        return read
    return {sensor: bands for sensor, bands in source.stack.sensors().items() if bands}
