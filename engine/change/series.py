"""A long series of one sensor: the index in which a loss shows, its breaks, and their dates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import UserError
from ..rasters.grid import Window
from ..rasters.legend import Legend
from ..rasters.overlap import within
from ..rasters.styles import INFERNO, Ramp
from ..stacks.reading import StackReader
from ..stacks.sensors import TITLES
from ..stacks.stack import Stack
from .breaks import LEAST_CLEAR, SEASONAL_DAYS, SURE, Breaks, find_breaks
from .decision import NOTHING, UNKNOWN, Found, as_they_are
from .deforestation import FOREST, LOST, OPEN, window_side
from .deforestation import LEGEND as FOREST_LEGEND
from .forest import NEEDED, ForestHead, index_series, season_features
from .indices import NIR, RADAR, index_of, needed, offered
from .indices import TITLES as INDEX_TITLES
from .vectors import LEGEND

LEAST_STEP = {"index": 0.1, "db": 1.5}
"""Smallest step of the level that is a change: of an index, and of backscatter in dB."""

STANDS_OUT = 2.5
"""How many times the swing of its own series a step must be where the years are too few.

Chosen on three series of fields in which nothing is known to have changed (`docs/evaluation.md`).
"""

_DB = 10.0  # what a whole range of backscatter is
_YEARS_DAYS = 1095  # that show how much one year differs from the next


@dataclass(frozen=True)
class Dates:
    """When pixels changed, (rows, cols) each; NaN where no date can be told.

    Attributes:
        year: middle of the interval as a decimal year.
        last, first: days since 1970-01-01 of the last clear observation before the change and of
            the first one after it.
        confidence: percent, that there is a break and that it lies there.
    """

    year: np.ndarray
    last: np.ndarray
    first: np.ndarray
    confidence: np.ndarray


class Dater:
    """Dates of breaks in the index series of the best sensor of a stack.

    Args:
        stack: all scenes, before and after.
        area: the part of the grid to work on.
        falls: whether only a fall of the index counts.
        least_clear: clear observations that are needed on both sides.

    Raises:
        UserError: no dated sensor with an index.
    """

    def __init__(self, stack: Stack, area: Window, falls: bool = False,
                 least_clear: int = LEAST_CLEAR) -> None:
        self._area, self.grid = area, stack.grid.part(area)
        self.sensor, self.index = _choice(stack)
        radar = self.index in RADAR
        self.least_clear, self.least_step = least_clear, LEAST_STEP["db" if radar else "index"]
        self._unit, self._direction = _DB if radar else 1.0, -1 if falls else 0
        bands = needed(self.index, stack.sensors()[self.sensor])
        scenes = tuple(s for s in stack.scenes if s.sensor == self.sensor and s.date)
        self._stack = replace(stack, scenes=scenes)
        selection = (self.sensor,), {self.sensor: bands}
        self._reader = StackReader(self._stack, sensors=selection[0], bands=selection[1])
        self._per_pixel = 3 * StackReader.bytes_per_pixel(self._stack, *selection)
        days = sorted({s.date for s in scenes})
        self.days, self.dates = (days[0], days[-1]), len(days)

    @property
    def title(self) -> str:
        """In words."""
        return (f"{INDEX_TITLES[self.index]} of {TITLES[self.sensor]}, {self.dates} dates "
                f"{self.days[0]} to {self.days[1]}")

    @property
    def long_enough(self) -> bool:
        """Whether any pixel could have a date."""
        return self.dates >= 2 * self.least_clear

    @property
    def seasonal(self) -> bool:
        """Whether the series is long enough to tell a season from a change."""
        first, last = (np.datetime64(day) for day in self.days)
        return (last - first).astype(int) >= SEASONAL_DAYS

    @property
    def years_known(self) -> bool:
        """Whether the series is long enough to tell a change from how years differ."""
        first, last = (np.datetime64(day) for day in self.days)
        return (last - first).astype(int) >= _YEARS_DAYS

    def close(self) -> None:
        """Close all files."""
        self._reader.close()

    def side(self, memory_mb: float) -> int:
        """Side of windows within a budget."""
        return window_side(self._per_pixel, memory_mb)

    def breaks(self, window: Window) -> tuple[Breaks, np.ndarray]:
        """Breaks of the window's pixels, in their order, and the dates (T,) of the series."""
        series = self._reader.read(within(window, self._area)).series[self.sensor]
        values = index_of(series, self.index).reshape(len(series.dates), -1)
        return find_breaks(series.dates, values, self.least_clear, self._direction,
                           self.least_step, self._unit), series.dates

    def date(self, window: Window) -> Dates:
        """Dates of the pixels whose break is sure."""
        found, days = self.breaks(window)
        shape = (window.rows, window.cols)
        sure = ((found.after > 0) & (found.probability >= SURE)).reshape(shape)
        numbers = days.astype("datetime64[D]").astype(np.int64)
        last, first = (np.where(sure, numbers[np.maximum(at, 0)].reshape(shape), np.nan)
                       for at in (found.before, found.after))
        with np.errstate(invalid="ignore"):
            percent = 100 * (found.probability * found.placed).reshape(shape)
        return Dates(decimal_year((last + first) / 2), last.astype(np.float32),
                     first.astype(np.float32),
                     np.where(sure, percent, np.nan).astype(np.float32))


class SeriesDetector:
    """Change inside one series: a sure break of a sensor's index.

    In a series of less than three years another crop, sowing or harvest is a sure break too. Unless
    forest or a threshold is asked for, a step counts there only where it stands out of the swing
    of its own series, season included.

    Args:
        dater: of the series.
        forest: with it only a fall from forest to what is none counts; a `Dater` of falls.
        stack: the same series, with red and near infrared where forest is asked for.
        area: the part of the grid to work on.
        threshold: probability of a break from which it counts; None for `SURE`.
    """

    strength = "Probability of a break"

    def __init__(self, dater: Dater, forest: ForestHead | None, stack: Stack, area: Window,
                 threshold: float | None) -> None:
        self.dater, self.grid = dater, dater.grid
        self._forest, self._area = forest, area
        self._cut = SURE if threshold is None else float(threshold)
        self.stands_out = forest is None and threshold is None and not dater.years_known
        self._legend = LEGEND if forest is None else FOREST_LEGEND
        self.codes, self.unmoved = len(self._legend), (0,) if forest is None else (OPEN, FOREST)
        self.small = 0 if forest is None else FOREST
        self.ramp = Ramp(INFERNO, 0.0, 1.0, "{:.1f}")
        self.tags = {"EARTHPRINT_METHOD": "series", "EARTHPRINT_INDEX": dater.index}
        self._reader = self._bands(stack) if forest is not None else None

    def _bands(self, stack: Stack) -> StackReader:
        sensor = self.dater.sensor
        bands = stack.sensors()[sensor]
        nir = next((b for b in NIR if b in bands), None)
        if nir is None or "red" not in bands:
            raise UserError(f"{TITLES[sensor]} has no {' and '.join(NEEDED)} band, in which "
                            "forest shows. Give optical rasters, or choose the preset any.")
        kept = tuple(b for b in ("red", nir, "swir22") if b in bands)
        scenes = tuple(s for s in stack.scenes if s.sensor == sensor and s.date)
        return StackReader(replace(stack, scenes=scenes), sensors=(sensor,), bands={sensor: kept})

    def close(self) -> None:
        """Close all files."""
        self.dater.close()
        if self._reader is not None:
            self._reader.close()

    def side(self, memory_mb: float) -> int:
        """Side of windows within a budget."""
        return self.dater.side(memory_mb / (1 if self._forest is None else 3))

    def values(self, square_metres: np.ndarray) -> tuple[np.ndarray, Legend]:  # noqa: ARG002
        """The codes are the values."""
        return as_they_are(self._legend)

    def block(self, window: Window) -> Found:
        """Sure breaks; of forest where it is asked for."""
        found, days = self.dater.breaks(window)
        shape = (window.rows, window.cols)
        chance = np.where(found.after > 0, found.probability, 0)
        known = np.isfinite(found.probability)
        broken = known & (chance >= self._cut)
        if self.stands_out:
            stands = np.abs(found.step) >= STANDS_OUT * found.swing
            # what does not stand out is told as less sure than any that does
            chance = np.where(stands, chance, np.minimum(chance, self._cut / 2))
            broken &= stands
        if self._forest is None:
            codes, certainty = broken.astype(np.uint16), chance
        else:
            codes, certainty = self._forest_codes(window, found, days, broken, chance)
        codes = np.where(known, codes, NOTHING).astype(np.uint16)
        strength = np.where(known, certainty, UNKNOWN).astype(np.float32)
        return Found(strength.reshape(shape), codes.reshape(shape),
                     np.nan_to_num(certainty).astype(np.float32).reshape(shape))

    def _forest_codes(self, window: Window, found: Breaks, days: np.ndarray, broken: np.ndarray,
                      chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes and certainty by the state of forest before and after each pixel's break."""
        cube = self._reader.read(within(window, self._area))
        indices = index_series(cube.series[self.dater.sensor])
        at = np.where(broken, found.after, len(days))
        early = np.arange(len(days))[:, None] < at
        before = self._forest.forest(season_features(np.where(early, indices, np.nan)))
        after = self._forest.forest(season_features(np.where(early & broken, np.nan, indices)))
        was = before > 0.5
        lost = broken & was & (after <= 0.5)
        certainty = np.where(broken, chance * before * (1 - after), 0)
        return np.where(lost, LOST, np.where(was, FOREST, OPEN)), certainty


def _choice(stack: Stack) -> tuple[str, str]:
    """The sensor with the most dated scenes that has an index, and the index."""
    counts: dict[str, int] = {}
    for scene in stack.scenes:
        if scene.date:
            counts[scene.sensor] = counts.get(scene.sensor, 0) + 1
    sensors = stack.sensors()
    usable = {s: offered(sensors[s]) for s in counts if offered(sensors[s])}
    if not usable:
        raise UserError("The date of a change needs dated rasters with red and near infrared, "
                        "with NDVI, or radar. Check Dates, or leave Date of change out.")
    # optical first: radar's many dates come from several orbits, whose angles look like breaks
    sensor = max(usable, key=lambda s: (s != "sentinel-1" or counts[s] > 4 * max(
        (n for k, n in counts.items() if k != s), default=0), counts[s]))
    return sensor, usable[sensor][0]


def decimal_year(days: np.ndarray) -> np.ndarray:
    """Days since 1970-01-01 (may be NaN) to years: 2020.5 is the middle of 2020."""
    known = np.isfinite(days)
    whole = np.where(known, days, 0)
    year = np.floor(whole).astype("datetime64[D]").astype("datetime64[Y]")
    start = year.astype("datetime64[D]").astype(np.int64)
    length = (year + 1).astype("datetime64[D]").astype(np.int64) - start
    value = year.astype(np.int64) + 1970 + (whole - start) / length
    return np.where(known, value, np.nan).astype(np.float32)
