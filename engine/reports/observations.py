"""Which days a stack holds, and how much of them can be used."""

from __future__ import annotations

from datetime import date

import numpy as np

from ..context import JobContext
from ..rasters.grid import Grid, Window
from ..stacks.reading import StackReader
from ..stacks.stack import Stack
from .charts import Day

_SIDE = 64  # pixels of a sample window
_WINDOWS = 4  # sample windows in each direction


def usable_days(stack: Stack, context: JobContext) -> list[Day]:
    """The share of valid pixels of every dated observation, from windows spread over the grid."""
    total: dict[tuple[str, date], list[int]] = {}
    one_band = {sensor: bands[:1] for sensor, bands in stack.sensors().items()}
    with StackReader(stack, bands=one_band) as reader:
        for window in _spread(stack.grid):
            context.check()
            for series in reader.read(window).series.values():
                for day, valid in zip(series.dates, series.valid, strict=True):
                    if not np.isnat(day):
                        seen = total.setdefault((series.sensor, day.item()), [0, 0])
                        seen[0] += int(valid.sum())
                        seen[1] += valid.size
    return [Day(sensor, day, good / whole)
            for (sensor, day), (good, whole) in sorted(total.items())]


def sensor_rows(stack: Stack) -> list[dict[str, str]]:
    """One line a sensor: its dates and bands."""
    rows = []
    for sensor, bands in stack.sensors().items():
        if not bands:  # the weather, which is no scene
            continue
        days = sorted({s.date for s in stack.scenes if s.sensor == sensor and s.date})
        dates = f"{len(days)}, {days[0]} to {days[-1]}" if days else "without a date"
        rows.append({"sensor": sensor, "dates": dates, "bands": ", ".join(bands)})
    return rows


def _spread(grid: Grid) -> list[Window]:
    """Windows evenly over a grid; the whole of a small one."""
    rows, cols = (min(_SIDE, n) for n in grid.shape)
    tops = np.unique(np.linspace(0, grid.shape[0] - rows, _WINDOWS).astype(int))
    lefts = np.unique(np.linspace(0, grid.shape[1] - cols, _WINDOWS).astype(int))
    return [Window(int(r), int(c), rows, cols) for r in tops for c in lefts]
