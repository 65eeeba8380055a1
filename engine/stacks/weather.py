"""Daily weather of a stack's place, out of a table or a grid of reanalysis.

Hourly values become days (UTC): means, or sums of rain and radiation. Where the vapour-pressure
deficit is not given it is the saturation pressure at the mean temperature less the actual one, both
after Allen et al. 1998, FAO Irrigation and Drainage Paper 56, equations 11 and 14.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...models.cube import WEATHER, Weather
from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid
from .scenes import lonlat_bounds
from .weather_tables import Bounds, read_csv, read_netcdf
from .weather_units import (
    TITLES,
    UNITS,
    Column,
    best,
    check_plausible,
    guessed_unit,
    stated_unit,
)

_SHORT = 2  # days of a gap that are filled
_DAMP = 1.2  # times what the air can hold is no mean of any place
_ENOUGH = 0.9  # share of a day's hours that must be there
_DAY = np.timedelta64(1, "D")
_SUMS = ("precipitation", "radiation")
_EXAMPLES = {
    "temperature": "temperature (degC)", "precipitation": "precipitation (mm)",
    "radiation": "radiation (MJ/m2)", "wind": "wind_speed (m/s)",
    "vapour_pressure_deficit": "dewpoint (degC)",
}  # fmt: skip


def read_weather(path: Path, bounds: Bounds | None = None, units: Mapping[str, str] | None = None,
                 context: JobContext | None = None) -> Weather:
    """The daily weather in a file.

    Args:
        path: CSV; NetCDF; or a folder of NetCDF files.
        bounds: of the place in degrees, for NetCDF.
        units: variable (a key of `weather_units.TITLES`) or column to its unit, which wins over
            what the file says.
        context: for the log: what was taken for what, which units were guessed, which gaps filled.

    Raises:
        UserError: not readable, a variable or unit missing, or a gap of more than two days.
    """
    context, path = context or JobContext(), Path(path)
    if not path.exists():
        raise UserError(f"{path} cannot be opened: it is not there. Check the path.")
    grid = path.is_dir() or path.suffix.lower() in (".nc", ".nc4", ".cdf", ".netcdf")
    try:
        table = read_netcdf(path, bounds) if grid else read_csv(path)
    except OSError as failure:
        raise UserError(f"{path} cannot be opened: {failure.strerror}. Check the "
                        "path.") from failure
    units = units or {}
    unknown = set(units) - set(TITLES) - {column.name for column in table.columns}
    if unknown:
        raise UserError(f"Units are given for {', '.join(sorted(unknown))}, which is no variable. "
                        f"Choose from {', '.join(TITLES)}.")
    chosen = best([_given_unit(column, units) for column in table.columns])
    if not chosen or not len(table.times):
        raise UserError(f"`{path.name}` holds no weather that is understood. Name columns such as "
                        f"{', '.join(_EXAMPLES.values())}.")
    days, daily = _daily(table.times, chosen, path)
    found = _Variables(daily, path)
    values = np.stack([found.of(variable) for variable in WEATHER], axis=1)
    for line in found.said:
        context.log(f"Weather: {line}")
    if len(table.times) > len(days):
        context.log("Weather: hours became days (UTC): means, and sums of rain and radiation")
    weather = _without_gaps(days, values, path, context)
    context.log(f"Weather: {path.name}, {weather.dates[0]}..{weather.dates[-1]}, complete")
    return weather


def weather_at(path: Path, grid: Grid, units: tuple[tuple[str, str], ...] = (),
               context: JobContext | None = None) -> Weather:
    """The weather at the place of a grid; a file that did not change is read once.

    Raises:
        UserError: as `read_weather`.
    """
    changed = path.stat().st_mtime_ns if path.exists() else 0
    weather, said = _read(path, changed, lonlat_bounds(grid), units)
    for line in said if context else ():
        context.log(line)
    return weather


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int, bounds: Bounds | None, units: tuple[tuple[str, str], ...]
          ) -> tuple[Weather, tuple[str, ...]]:
    """The weather, and what there is to say of it."""
    said: list[str] = []
    context = JobContext(on_log=lambda _level, text: said.append(text))
    return read_weather(path, bounds, dict(units), context), tuple(said)


def check_reach(weather: Weather, name: str, first: str, last: str) -> None:
    """Refuse weather that does not cover the ISO days first..last.

    Raises:
        UserError: with the days that it lacks.
    """
    begins, ends = weather.dates[[0, -1]]
    late = (begins - np.datetime64(first, "D")).astype(int)
    early = (np.datetime64(last, "D") - ends).astype(int)
    if late > 0:
        raise UserError(f"`{name}` begins on {begins}, {_counted(late)} too late. Extend it.")
    if early > 0:
        raise UserError(f"`{name}` ends on {ends}, {_counted(early)} too early. Extend it.")


def _counted(days: int) -> str:
    return f"{days} day{'s' if days > 1 else ''}"


def units_in(given: Mapping[str, str] | str | None) -> tuple[tuple[str, str], ...]:
    """Units as a stack keeps them, of a mapping or of a text `temperature=K, precipitation=m`.

    Raises:
        UserError: the text is not of that form.
    """
    if isinstance(given, str):
        parts = [part.split("=") for part in given.replace(";", ",").split(",") if part.strip()]
        if any(len(part) != 2 for part in parts):
            raise UserError(f"{given!r} are no units. Write them as temperature=K, "
                            "precipitation=mm.")
        given = {name.strip(): unit.strip() for name, unit in parts}
    return tuple(sorted((given or {}).items()))


def saturation_pressure(celsius: np.ndarray) -> np.ndarray:
    """Saturation vapour pressure in kPa (FAO 56, equation 11)."""
    return 0.6108 * np.exp(17.27 * celsius / (celsius + 237.3))


def _given_unit(column: Column, units: Mapping[str, str]) -> Column:
    """The column with the unit that the user gives for it, if any."""
    given = units.get(column.name, units.get(column.role))
    return replace(column, unit=stated_unit(given, column.role)) if given else column


# --- days -----------------------------------------------------------------------------------------


def _daily(times: np.ndarray, columns: dict[str, Column], path: Path
           ) -> tuple[np.ndarray, dict[str, Column]]:
    """All days from the first to the last, and each column by the day, NaN where it has nothing."""
    if len(times) > 1 and np.median(np.diff(times)).astype(int) < 86400:
        return _from_hours(times, columns, path)
    stamps = times.astype("datetime64[D]")
    days = np.arange(stamps[0], stamps[-1] + _DAY)
    place = (stamps - stamps[0]).astype(int)

    def spread(column: Column) -> Column:
        values = np.full(len(days), np.nan)
        values[place] = column.values
        return replace(column, values=values)

    return days, {role: spread(column) for role, column in columns.items()}


def _from_hours(times: np.ndarray, columns: dict[str, Column], path: Path
                ) -> tuple[np.ndarray, dict[str, Column]]:
    """Means of the hours of a day, sums of rain and radiation; NaN where hours are missing."""
    step = int(np.median(np.diff(times)).astype(int))
    # a sum stands at the end of its hour: that of 00:00 belongs to the day before
    stamps = {False: times, True: times - np.timedelta64(1, "s")}
    first, last = (np.datetime64(t, "D") for t in (stamps[True][0], times[-1]))
    days = np.arange(first, last + _DAY)
    by_hour: dict[str, Column] = dict(columns)
    if {"wind_u", "wind_v"} <= set(columns):  # the mean of a speed is not that of its parts
        u, v = (_converted(columns[r], columns[r].unit or "m/s") for r in ("wind_u", "wind_v"))
        by_hour.setdefault("wind", Column("wind speed", "wind", "m/s", np.hypot(u, v)))
    result = {}
    place = (stamps[True].astype("datetime64[D]") - first).astype(int)
    sums = [c for r, c in columns.items() if r in _SUMS and not c.is_rate]
    running = bool(sums) and all(_runs_on(c.values, place) for c in sums)
    for role, column in by_hour.items():
        adds = role in _SUMS
        if role == "radiation" and not column.unit:
            raise UserError(f"`{path.name}`: the unit of the hourly {column.name} is not stated. "
                            "Write it into the column's name, such as radiation (W/m2).")
        place = (stamps[adds].astype("datetime64[D]") - first).astype(int)
        known = np.isfinite(column.values)
        count = np.bincount(place[known], minlength=len(days))
        if adds and not column.is_rate and running:
            values = np.full(len(days), -np.inf)
            np.maximum.at(values, place[known], column.values[known])
        else:
            total = np.bincount(place[known], column.values[known], minlength=len(days))
            values = total if adds and not column.is_rate else total / np.maximum(count, 1)
        enough = count * step >= _ENOUGH * 86400
        result[role] = replace(column, values=np.where(enough, values, np.nan))
    return days, result


def _runs_on(values: np.ndarray, day: np.ndarray) -> bool:
    """Whether sums run on from hour to hour until midnight, as those of ERA5-Land do."""
    same = (day[1:] == day[:-1]) & np.isfinite(values[1:]) & np.isfinite(values[:-1])
    change = np.diff(values)[same]
    return bool(len(change)) and (change > 0).any() and (change >= -1e-9).mean() > 0.99


# --- variables ------------------------------------------------------------------------------------


class _Variables:
    """Finds the five variables among the columns, and remembers what it did."""

    def __init__(self, columns: dict[str, Column], path: Path) -> None:
        self._columns, self._path = columns, path
        self.said: list[str] = []

    def of(self, variable: str) -> np.ndarray:
        """The daily values of a key of `WEATHER`, in its unit.

        Raises:
            UserError: there is no column for it.
        """
        if variable in self._columns:
            return self._read(variable)
        if variable == "temperature" and {"temperature_min", "temperature_max"} <= set(
                self._columns):
            self.said.append("mean temperature is the middle of the lowest and the highest")
            return (self._read("temperature_min") + self._read("temperature_max")) / 2
        if variable == "wind" and {"wind_u", "wind_v"} <= set(self._columns):
            return np.hypot(self._read("wind_u"), self._read("wind_v"))
        if variable == "vapour_pressure_deficit":
            actual = self._vapour_pressure()
            if actual is not None:
                return np.maximum(self._saturated() - actual, 0)
        also = ", or dew point, vapour pressure or relative humidity" * (
            variable == "vapour_pressure_deficit")
        raise UserError(f"`{self._path.name}` has no {TITLES[variable]}{also}. Add a column such "
                        f"as `{_EXAMPLES[variable]}`.")

    def _vapour_pressure(self) -> np.ndarray | None:
        """The actual one in kPa, from the first thing that tells it."""
        for role in ("vapour_pressure", "dewpoint", "humidity"):
            if role in self._columns:
                values = self._read(role)
                self.said.append("vapour-pressure deficit worked out from temperature and "
                                 f"{TITLES[role]} (FAO 56)")
                saturated = self._saturated()
                actual = {"dewpoint": saturation_pressure, "humidity": saturated.__mul__,
                          "vapour_pressure": np.asarray}[role](values)
                if np.nanmean(actual) > _DAMP * np.nanmean(saturated):
                    raise UserError(f"`{self._path.name}`: by its {TITLES[role]} the air would "
                                    "hold more water than it can at its temperature. Check the "
                                    "units of both.")
                return actual
        return None

    def _saturated(self) -> np.ndarray:
        said = len(self.said)
        saturated = saturation_pressure(self.of("temperature"))
        del self.said[said:]  # it was said before
        return saturated

    def _read(self, role: str) -> np.ndarray:
        column = self._columns[role]
        unit, guessed = column.unit, ""
        if unit:
            check_plausible(column, unit)
        else:
            saturated = self._saturated() if role.startswith("vapour") else None
            unit, guessed = guessed_unit(column, saturated), ", guessed from its range"
        self.said.append(f"{TITLES[role]} is `{column.name}` in {unit}{guessed}")
        return _converted(column, unit)


def _converted(column: Column, unit: str) -> np.ndarray:
    factor, offset = UNITS[column.role][unit]
    return column.values * factor + offset


# --- gaps -----------------------------------------------------------------------------------------


def _without_gaps(days: np.ndarray, values: np.ndarray, path: Path, context: JobContext) -> Weather:
    """The days on which everything begins to everything ends, short gaps filled."""
    there = np.isfinite(values).all(axis=1)
    if not there.any():
        raise UserError(f"`{path.name}` has no day with all of temperature, precipitation, "
                        "radiation, humidity and wind. Check its columns.")
    first, last = np.flatnonzero(there)[[0, -1]]
    days, values, there = (x[first : last + 1] for x in (days, values, there))
    gaps = _runs(~there)
    long = [(a, b) for a, b in gaps if b - a > _SHORT]
    if long:
        a, b = long[0]
        more = f" and {len(long) - 1} more gaps" if len(long) > 1 else ""
        lacks = [TITLES[v] for i, v in enumerate(WEATHER) if np.isnan(values[a:b, i]).any()]
        raise UserError(f"`{path.name}` lacks {', '.join(lacks)} from {days[a]} to {days[b - 1]}"
                        f"{more}. Fill them; only gaps of up to {_SHORT} days are filled here.")
    filled = values.copy()
    for i in range(values.shape[1]):
        known = np.isfinite(values[:, i])
        filled[:, i] = np.interp(np.arange(len(days)), np.flatnonzero(known), values[known, i])
    if gaps:
        named = ", ".join(str(days[a]) for a, _ in gaps[:5]) + (" ..." if len(gaps) > 5 else "")
        context.log(f"Weather: short gaps filled from the days around them: {named}")
    return Weather(days, filled.astype(np.float32))


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """(first, past the last) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
