"""A window of a stack and the weather of its season to MM-VSF's inputs. NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube, Weather
from ..fast import adapter as fast

SENSOR = "sentinel-2"
BANDS = fast.BANDS[2:12]
PATCH = 4
MOST = 12  # dates of one window
SPAN = np.timedelta64(240, "D")  # how far a forecast looks back
#: The network that forecasts; a folder deeper than encoders, since it gives no embeddings.
FORECASTING = Path(__file__).resolve().parent / "forecast" / "mmvsf-forecast.onnx"
_YEAR = np.timedelta64(366, "D")  # of weather, at most
_CLEAR = 0.05  # share of a window that a date must show to be taken

MEAN = fast.MEAN[2:12, None, None].astype(np.float32)
STD = fast.STD[2:12, None, None].astype(np.float32)
WEATHER_MEAN = np.array([12, 3, 15, 0.9, 3], np.float32)
WEATHER_STD = np.array([9, 6, 6, 0.8, 1.5], np.float32)


def missing(sensors: dict[str, tuple[str, ...]], card: Card | None = None) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does."""
    lines = []
    lacking = [band for band in BANDS if band not in sensors.get(SENSOR, ())]
    if lacking:
        lines.append(f"Sentinel-2 {', '.join(lacking)}, needed by mmvsf, not there. Add them.")
    if "weather" not in sensors:
        lines.append("Daily weather, needed by mmvsf, not there. Give a weather table.")
    return lines


def inputs(cube: Cube, most: int = MOST) -> dict[str, np.ndarray] | None:
    """The network's inputs for a window; None where no date shows anything.

    Returns:
        images (1, T, 10, H, W), seen (1, T, H, W), weather (1, days, 5), days (1, T), start (1,).

    Raises:
        ValueError: the weather does not reach from the first to the last date.
    """
    dates, values, seen = observations(cube)
    chosen = clearest(dates, seen.mean(axis=(1, 2)), most)
    if not len(chosen):
        return None
    weather = _since(cube.weather, dates[-1] - _YEAR)
    return _given(dates[chosen], values[chosen], seen[chosen], weather, dates[chosen][-1])


def forecast_inputs(cube: Cube, target: np.datetime64, most: int = MOST
                    ) -> dict[str, np.ndarray] | None:
    """The inputs that forecast the day `target` from the dates before it; None without any.

    Of the dates within `SPAN` days the latest are taken, and weather of the same time.

    Returns:
        As `inputs`, and target (1,), the day's index in the weather.

    Raises:
        ValueError: the weather does not reach from the first date to the target.
    """
    dates, values, seen = observations(cube)
    chosen = latest(dates, seen.mean(axis=(1, 2)), target, most)
    if not len(chosen):
        return None
    weather = _since(cube.weather, target - SPAN)
    given = _given(dates[chosen], values[chosen], seen[chosen], weather, target)
    day = (target - weather.dates[0]).astype(np.int64)
    return {**given, "target": np.array([day], np.int64)}


def starts(length: int, side: int) -> list[int]:
    """Where windows of `side` pixels begin along an axis; those that forecast overlap.

    The step is no multiple of a patch, so that the patches of one window never end where those of
    the next one do, and their blend shows neither.
    """
    last = max(length - side, 0)
    return [*range(0, last, side // 2 - PATCH + 1), last]


def weights(side: int) -> np.ndarray:
    """(side, side) weights of a window's pixels in a blend, falling from the middle to the edges.
    """
    fall = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5) / (side / 2)
    return np.outer(fall, fall).astype(np.float32)


def observations(cube: Cube) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dates (T,), reflectance (T, 10, H, W) in the order of `BANDS`, and what is seen (T, H, W)."""
    series = cube.series[SENSOR]
    values = series.values[:, [series.bands.index(band) for band in BANDS]]
    return series.dates, values, series.valid & np.isfinite(values).all(axis=1)


def reflectance(standardised: np.ndarray) -> np.ndarray:
    """Images (..., 10, H, W) of the network as reflectance, 0 at least."""
    return np.maximum(standardised * STD + MEAN, 0)


def _since(weather: Weather, day: np.datetime64) -> Weather:
    """The weather after a day."""
    kept = weather.dates > day
    return Weather(weather.dates[kept], weather.values[kept])


def _given(dates: np.ndarray, values: np.ndarray, seen: np.ndarray, weather: Weather,
           until: np.datetime64) -> dict[str, np.ndarray]:
    """The inputs that all uses share; the weather must reach `until`."""
    if not len(weather.dates) or dates[0] < weather.dates[0] or until > weather.dates[-1]:
        reach = (f"from {weather.dates[0]} to {weather.dates[-1]}" if len(weather.dates)
                 else "nowhere near it")
        raise ValueError(f"Weather is needed from {dates[0]} to {until}, it reaches {reach}. "
                         "Give a longer table.")
    first = weather.dates[0]
    start = int((first - first.astype("datetime64[Y]")).astype(np.int64))
    return {
        "images": np.where(seen[:, None], (values - MEAN) / STD, 0)[None].astype(np.float32),
        "seen": seen[None].astype(np.float32),
        "weather": ((weather.values - WEATHER_MEAN) / WEATHER_STD)[None].astype(np.float32),
        "days": (dates - first).astype(np.int64)[None],
        "start": np.array([start], np.int64),
    }


def latest(dates: np.ndarray, share: np.ndarray, target: np.datetime64, most: int) -> np.ndarray:
    """Indices, ascending, of the last `most` dates before a day that show something.

    Args:
        dates, share: as of `clearest`.
        target: dates from `SPAN` days before it on are taken, and none from it on.
    """
    usable = (share >= _CLEAR) & (dates < target) & (dates > target - SPAN)
    return np.flatnonzero(usable)[-most:]


def clearest(dates: np.ndarray, share: np.ndarray, most: int) -> np.ndarray:
    """Indices, ascending, of at most `most` dates: the clearest of each part of the season.

    Args:
        dates: (T,) datetime64[D].
        share: (T,) of the window that each shows.
    """
    usable = np.flatnonzero(share >= _CLEAR)
    if len(usable) <= most:
        return usable
    when = (dates[usable] - dates[usable[0]]).astype(np.float64)
    part = np.minimum(when / when[-1] * most, most - 1).astype(int)
    best = [max(usable[part == p], key=lambda t: share[t]) for p in np.unique(part)]
    return np.array(best)


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """One window of patches; those that no date shows are left out."""
    most = next((s.most for s in card.sensors if s.most), MOST) if card else MOST
    given = inputs(cube, most)
    if given is None:
        return
    height, width = cube.shape
    shown = given["seen"][0].any(axis=0).reshape(
        height // PATCH, PATCH, width // PATCH, PATCH).any(axis=(1, 3)).ravel()
    yield Batch(np.where(shown, np.arange(shown.size), -1), given)

