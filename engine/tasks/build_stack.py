"""Job `build_stack`: from rasters and folders to a stack file and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid, Window
from ..rasters.raster import check_writable
from ..stacks.reading import StackReader
from ..stacks.stack import Stack, build_stack

_LOOK = 128  # pixels a side of the five places where valid pixels are counted


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Build a stack and write it.

    Args:
        params: sources (paths) or folder; sensor, dates, mask, grid, bands, weather, weather_units
            as in `stack.build_stack`; output, a path that by custom ends in .stack.json.
        context: progress and log.

    Returns:
        output (path), table (rows as `Stack.table`, with "valid %" of a sample), warnings
        (sentences).
    """
    sources = list(params.get("sources") or ())
    if params.get("folder"):
        sources.append(params["folder"])
    if not sources:
        raise UserError("No rasters were given. Choose rasters or a folder.")
    output = Path(params["output"])
    check_writable(output)
    stack = build_stack(
        sources, sensor=params.get("sensor", "auto"), dates=params.get("dates") or (),
        mask=params.get("mask", "auto"), grid=params.get("grid") or "finest",
        bands=params.get("bands") or (), weather=params.get("weather"),
        weather_units=params.get("weather_units"), context=context.part(0, 0.5),
    )
    warnings = [f"`{name}` left out: {why}" for name, why in stack.left_out]
    shares = _valid_shares(stack, context.part(0.5, 0.98))
    stack.save(output)
    rows = stack.table()
    for row, scene in zip(rows, stack.scenes, strict=False):
        row["valid %"] = f"{100 * shares[scene.sensor, scene.date or 'NaT', scene.orbit]:.0f}"
    empty = sorted({day for (_, day, _), share in shares.items() if share == 0})
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        warnings.append(f"{empty[0]}{more}: no valid pixel where the stack was looked at")
    for row in rows[: len(stack.scenes)]:
        share = row["valid %"]
        context.log("  ".join([v for k, v in row.items() if v and k != "valid %"]
                              + [f"{share} % valid"]))
    for warning in warnings:
        context.warn(f"{warning}.")
    context.progress(1.0, "Stack written")
    return {"output": str(output), "table": rows, "warnings": warnings}


def _valid_shares(stack: Stack, context: JobContext) -> dict[tuple[str, str, str], float]:
    """Share of valid pixels of each (sensor, day, orbit), in the middle and towards the corners.

    One band a sensor and the masks are read, which is enough for clouds and empty borders.
    """
    sensors = {sensor: bands for sensor, bands in stack.sensors().items() if bands}
    first = {sensor: bands[:1] for sensor, bands in sensors.items()}
    partial = {sensor: bands for sensor, bands in sensors.items()
               if any(first[sensor][0] not in s.bands for s in stack.scenes if s.sensor == sensor)}
    counts: dict[tuple[str, str, str], float] = {}
    places = _places(stack.grid)
    with StackReader(stack, bands={**first, **partial}) as reader:
        for i, window in enumerate(places):
            context.progress(i / len(places), "Counting valid pixels")
            for sensor, series in reader.read(window).series.items():
                for t, day in enumerate(series.dates.astype(str)):
                    key = sensor, day, series.orbits[t]
                    counts[key] = counts.get(key, 0) + int(series.valid[t].sum())
    total = sum(w.size for w in places)
    return {key: count / total for key, count in counts.items()}


def _places(grid: Grid) -> list[Window]:
    """Five windows: the middle and half-way to each corner; the whole of a small grid."""
    rows, cols = grid.shape
    if max(rows, cols) <= 2 * _LOOK:
        return [grid.full]
    height, width = min(_LOOK, rows), min(_LOOK, cols)
    at = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
    return [Window(int((rows - height) * y), int((cols - width) * x), height, width)
            for y, x in at]
