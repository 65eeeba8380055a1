"""A window of a stack and the weather of its season to MM-VSF's inputs. NumPy."""

from __future__ import annotations

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube
from ..fast import adapter as fast

SENSOR = "sentinel-2"
BANDS = fast.BANDS[2:12]
PATCH = 4
MOST = 24  # dates of one window
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
    series = cube.series[SENSOR]
    order = [series.bands.index(band) for band in BANDS]
    values = series.values[:, order]
    seen = series.valid & np.isfinite(values).all(axis=1)
    chosen = clearest(series.dates, seen.mean(axis=(1, 2)), most)
    if not len(chosen):
        return None
    seen = seen[chosen]
    images = np.where(seen[:, None], (values[chosen] - MEAN) / STD, 0)
    first, last = cube.weather.dates[[0, -1]]
    dates = series.dates[chosen]
    if dates[0] < first or dates[-1] > last:
        raise ValueError(f"The weather reaches from {first} to {last}, the rasters from {dates[0]} "
                         f"to {dates[-1]}. Give weather for all of it.")
    start = int((first - first.astype("datetime64[Y]")).astype(np.int64))
    return {
        "images": images[None].astype(np.float32),
        "seen": seen[None].astype(np.float32),
        "weather": ((cube.weather.values - WEATHER_MEAN) / WEATHER_STD)[None].astype(np.float32),
        "days": (dates - first).astype(np.int64)[None],
        "start": np.array([start], np.int64),
    }


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

