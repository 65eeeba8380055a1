"""Job `forecast`: the scene of a day, from the scenes before it and daily weather."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ...models.cube import Cube, Series, Weather
from ...models.mmvsf import adapter
from ...models.mmvsf.baselines import persistence_and_line
from ..context import JobContext, Pace
from ..encoding.forecasting import Forecaster
from ..encoding.patches import window
from ..encoding.pipeline import window_in
from ..errors import UserError
from ..rasters.grid import Window
from ..rasters.raster import RasterWriter, check_writable
from ..rasters.truecolour import TrueColour
from ..reports.forecast_page import forecast_page
from ..stacks.reading import StackReader
from ..stacks.stack import Stack, open_input, with_weather
from ..stacks.weather import check_reach, weather_at
from .train_head import again

DATE_TAG = "EARTHPRINT_FORECAST"  # the day, so that nobody takes it for an observation
NETWORK_TAG = "EARTHPRINT_NETWORK"

_SPAN = int(adapter.SPAN.astype(int))
_FARTHEST = 100  # days ahead up to which errors were measured
_TESTS = 6  # dates that are held back
_LOOKS = 3  # test windows in each direction
_SHOWN = 0.3  # share of the test windows that must be clear
_RGB = tuple(adapter.BANDS.index(b) + 1 for b in ("red", "green", "blue"))
_KINDS = ("forecast", "persistence", "interpolation")


@dataclass(frozen=True)
class Errors:
    """Root mean squared errors of reflectance on a date that was held back.

    Attributes:
        date: ISO day; "" for all of them together.
        days: from the last scene that was shown to it; the fewest of all of them together.
        pixels: clear ones that were compared.
        forecast, persistence, interpolation: errors.
    """

    date: str
    days: int
    pixels: int
    forecast: float
    persistence: float
    interpolation: float


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Forecast a scene.

    Args:
        params: input (paths: one stack, or rasters and folders), date (ISO day), output; weather
            (a file as of `stack.with_weather`, instead of the stack's own), weather_units, extent,
            report (path), command.
        context: surroundings.

    Returns:
        output, report, season (twice the day), ahead (days since the last scene), held_back (rows
        as `Errors`), errors (one such row over all, or None).
    """
    output, day = Path(params["output"]), _day(params["date"])
    check_writable(output)
    stack = open_input([Path(p) for p in params["input"]], context)
    if params.get("weather"):
        stack = with_weather(stack, params["weather"], params.get("weather_units"), context)
    if lacking := adapter.missing(stack.sensors()):
        raise UserError(f"{stack.path.name if stack.path else 'The input'}: {' '.join(lacking)}")
    forecaster = Forecaster.open(adapter.FORECASTING, context.threads)
    scenes = replace(stack, scenes=tuple(
        s for s in stack.scenes if s.sensor == adapter.SENSOR and s.date))
    past = _before(scenes, day)
    first, last = past.season()
    weather = weather_at(stack.weather, stack.grid, stack.weather_units)
    check_reach(weather, stack.weather.name, first, str(day))
    ahead = int((day - np.datetime64(last, "D")).astype(int))
    dates = len({s.date for s in past.scenes})
    context.log(f"Forecast of {day}, {ahead} days after the last of {dates} dates "
                f"({first}..{last}), by {forecaster.card.identity}")
    warnings = [f"{day} lies {ahead} days after the last scene. Errors are known up to "
                f"{_FARTHEST} days."] if ahead > _FARTHEST else []
    rows, pixels = _held_back(forecaster, scenes, weather, day, ahead, context.part(0, 0.3))
    total = _together(rows)
    warnings += _say(rows, total, context)
    for warning in warnings:
        context.warn(warning)
    colours = TrueColour.of(_RGB, pixels)
    area = window_in(stack.grid, params.get("extent"))
    _write(forecaster, past, day, area, output, colours, context.part(0.3, 1))
    if params.get("report"):
        method = {"Network": forecaster.card.identity, "Input": ", ".join(params["input"]),
                  "Scenes": f"{dates} dates, {first} to {last}",
                  "Weather": f"{stack.weather.name}, {weather.dates[0]} to {weather.dates[-1]}"}
        forecast_page(output, colours, str(day), ahead, [asdict(r) for r in rows],
                      asdict(total) if total else None, warnings, method,
                      again("forecast", params)).write(Path(params["report"]))
    return {"output": str(output), "report": params.get("report"), "season": [str(day)] * 2,
            "ahead": ahead, "held_back": [asdict(r) for r in rows],
            "errors": asdict(total) if total else None}


def _day(text: str) -> np.datetime64:
    try:
        return np.datetime64(date.fromisoformat(text), "D")
    except ValueError as failure:
        raise UserError(f"{text} is not a date. Write it as 2024-06-15.") from failure


def _before(stack: Stack, day: np.datetime64) -> Stack:
    """The scenes that a forecast of a day may look at."""
    since = day - adapter.SPAN
    kept = tuple(s for s in stack.scenes if since < np.datetime64(s.date, "D") < day)
    if not kept:
        days = stack.season()
        reach = f"they reach from {days[0]} to {days[-1]}" if days else "they have no dates"
        raise UserError(f"No Sentinel-2 scene lies in the {_SPAN} days before {day}; {reach}. "
                        "Choose another date.")
    return replace(stack, scenes=kept)


def _write(forecaster: Forecaster, past: Stack, day: np.datetime64, area: Window, output: Path,
           colours: TrueColour, context: JobContext) -> None:
    """The forecast as a raster, block by block."""
    grid = past.grid.part(area)
    bands = {s.sensor: s.bands for s in forecaster.card.sensors}
    per_pixel = 3 * StackReader.bytes_per_pixel(past, bands=bands)
    side = 256
    while side > 32 and per_pixel * (side + 64) ** 2 > context.memory_mb * 1e6 / 2:
        side //= 2
    pace, known = Pace(context, grid.full.size, "pixels", "Forecasting"), 0
    tags = {DATE_TAG: str(day), NETWORK_TAG: forecaster.card.identity}
    with StackReader(past, bands=bands) as reader, RasterWriter(
            output, grid, "float32", np.nan, bands=len(adapter.BANDS), overview="average",
            tags=tags, descriptions=adapter.BANDS, ramp=colours) as out:
        for block in grid.blocks(side, side):
            place = Window(area.row + block.row, area.col + block.col, block.rows, block.cols)
            image = forecaster.block(reader, place, day, context)
            known += int(np.isfinite(image[0]).sum())
            out.write(block, image)
            pace.add(block.size)
        if not known:
            raise UserError(f"No pixel was clear in the {_SPAN} days before {day}. Check Cloud "
                            "mask.")
    context.log(f"Forecast of {known} pixels ({100 * known / grid.full.size:.1f} %); the others "
                "were not clear before")


# --- how wrong it is ------------------------------------------------------------------------------


def _held_back(forecaster: Forecaster, stack: Stack, weather: Weather, day: np.datetime64,
               ahead: int, context: JobContext) -> tuple[list[Errors], np.ndarray]:
    """Errors on the dates nearest to a day, each forecast from scenes at least `ahead` days older.

    Returns:
        A row a date, ascending; and clear (3, n) red, green and blue of all dates.
    """
    cubes = [replace(cube, weather=weather)
             for cube in _looks(stack, forecaster.card.window, context.part(0, 0.4))]
    series = [adapter.observations(cube) for cube in cubes]
    dates = series[0][0]
    inside = np.prod([min(cubes[0].shape[0], length) for length in stack.grid.shape])
    share = np.mean([seen.sum(axis=(1, 2)) for _, _, seen in series], axis=0) / inside
    rows: list[Errors] = []
    usable = np.flatnonzero(share >= _SHOWN)
    for t in usable[np.argsort(np.abs(dates[usable] - day), kind="stable")]:
        last = dates[t] - np.timedelta64(ahead, "D")
        shown = dates[(dates <= last) & (dates > dates[t] - adapter.SPAN) & (share > 0)]
        reached = len(shown) and shown[0] >= weather.dates[0] and dates[t] <= weather.dates[-1]
        if not reached or not (dates[share > 0] > dates[t]).any():
            continue
        context.progress(0.4 + 0.6 * len(rows) / _TESTS, f"Holding {dates[t]} back")
        row = _errors(forecaster, cubes, series, dates, t, shown[-1])
        rows += [row] if row else []
        if len(rows) == _TESTS:
            break
    rgb = [values[:, [b - 1 for b in _RGB]].transpose(1, 0, 2, 3)[:, seen]
           for _, values, seen in series]
    return sorted(rows, key=lambda r: r.date), np.concatenate(rgb, axis=1)


def _errors(forecaster: Forecaster, cubes: list[Cube], series: list[tuple], dates: np.ndarray,
            t: int, last: np.datetime64) -> Errors | None:
    """Errors on date `t`, of what is known until `last`; None where nothing can be compared."""
    sums, pixels = dict.fromkeys(_KINDS, 0.0), 0
    for cube, (_, values, seen) in zip(cubes, series, strict=True):
        image = forecaster.image(_until(cube, last), dates[t])
        if image is None:
            continue
        guesses = {"forecast": image,
                   **persistence_and_line(dates, values, seen, last, dates[t])}
        compared = seen[t].copy()
        for guess in guesses.values():
            compared &= np.isfinite(guess).all(axis=0)
        pixels += int(compared.sum())
        for kind, guess in guesses.items():
            wrong = guess[:, compared] - values[t][:, compared]
            sums[kind] += float(np.square(wrong).mean(axis=0).sum())
    if not pixels:
        return None
    return Errors(str(dates[t]), int((dates[t] - last).astype(int)), pixels,
                  **{kind: float(np.sqrt(s / pixels)) for kind, s in sums.items()})


def _until(cube: Cube, last: np.datetime64) -> Cube:
    """The cube without what came after a day."""
    def cut(series: Series) -> Series:
        kept = series.dates <= last
        return replace(series, dates=series.dates[kept], values=series.values[kept],
                       valid=series.valid[kept],
                       orbits=tuple(np.array(series.orbits)[kept].tolist()))

    return replace(cube, series={name: cut(series) for name, series in cube.series.items()})


def _looks(stack: Stack, side: int, context: JobContext) -> list[Cube]:
    """Windows spread over a stack, with all dates; a small one is read at once."""
    rows, cols = (min(side, n) for n in stack.grid.shape)
    tops, lefts = (np.unique(np.linspace(0, length - size, _LOOKS).astype(int)).tolist()
                   for length, size in zip(stack.grid.shape, (rows, cols), strict=True))
    places = [(row, col) for row in tops for col in lefts]
    with StackReader(stack, bands={adapter.SENSOR: adapter.BANDS}) as reader:
        if stack.grid.full.size <= len(places) * rows * cols:
            context.progress(0, "Reading dates to hold back")
            whole = reader.read(stack.grid.full)
            return [window(whole, *place, side) for place in places]
        cubes = []
        for i, (row, col) in enumerate(places):
            context.progress(i / len(places), "Reading dates to hold back")
            cubes.append(window(reader.read(Window(row, col, rows, cols)), 0, 0, side))
    return cubes


def _together(rows: list[Errors]) -> Errors | None:
    """The errors over all dates; None without any."""
    if not rows:
        return None
    pixels = sum(r.pixels for r in rows)
    pooled = {kind: float(np.sqrt(sum(r.pixels * getattr(r, kind) ** 2 for r in rows) / pixels))
              for kind in _KINDS}
    return Errors("", min(r.days for r in rows), pixels, **pooled)


def _say(rows: list[Errors], total: Errors | None, context: JobContext) -> list[str]:
    """The table in the log; sentences to warn with."""
    if total is None:
        return ["Too few scenes to hold any back: how wrong this forecast is is not known."]
    context.log("Error on dates held back (reflectance, all bands)   forecast   last clear value   "
                "line to the next")
    for row in [*rows, total]:
        name = f"{row.date}, {row.days} days ahead" if row.date else "all together"
        context.log(f"  {name:46} {row.forecast:8.4f} {row.persistence:14.4f} "
                    f"{row.interpolation:18.4f}")
    if total.forecast >= total.persistence:
        return ["On the dates held back the last clear value was nearer to the truth "
                f"({total.persistence:.4f}) than the forecast ({total.forecast:.4f}). Do not rely "
                "on this forecast."]
    return []
