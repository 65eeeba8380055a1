"""Weather as files hold it: CSV of stations and services, NetCDF of AgERA5 and ERA5.

NetCDF goes through GDAL, as rasters do.
"""

from __future__ import annotations

import csv
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow

from ..errors import UserError
from .weather_units import Column, understood

#: West, south, east, north in degrees.
Bounds = tuple[float, float, float, float]

_DATE = re.compile(r"(date|time|day|datum|valid_time|timestamp)([ _(].*)?", re.IGNORECASE)
#: A date in several columns: what each may be called.
_YEAR, _MONTH, _DAY, _DOY, _HOUR = (
    re.compile(names, re.IGNORECASE) for names in (
        "year|yyyy|yr", "month|mo|mm|mon", "day|dy|dd|day_of_month",
        "doy|yday|day[ _]?of[ _]?year|julian[ _]?day", "hour|hr|hh",
    )
)  # fmt: skip
_EMPTY = ("", "nan", "na", "n/a", "null", "none", "-")
_NO_VALUE = (-9999.0, -999.0)
_PREAMBLE = 60  # lines that may stand above the header
_STEP = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}
_REACH = 1.5  # cells around the rasters that count as their own place


@dataclass(frozen=True)
class Table:
    """Series of a place with their times, ascending.

    Attributes:
        times: (T,) datetime64[s].
        columns: of `len(times)` values each.
    """

    times: np.ndarray
    columns: list[Column]


def read_csv(path: Path) -> Table:
    """A table with a header and dates; text above the header is passed over.

    Dates are one column, or columns of year, month and day or of year and day of the year.

    Raises:
        UserError: no dates, a value that is no number, a time that occurs twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        lines = path.read_text(encoding="latin-1").splitlines()
    start, mark = _header(lines, path)
    rows = [row for row in csv.reader(lines[start:], delimiter=mark) if any(row)]
    labels = [label.strip() for label in rows[0]]
    when = _date_columns(labels)
    rows = [row + [""] * (len(labels) - len(row)) for row in rows[1:]]
    dates = [_joined([row[i] for i in when], labels[when[-1]]) for row in rows]
    try:
        times = np.array([_time(date) for date in dates], "datetime64[s]")
    except ValueError as failure:
        raise UserError(f"`{path.name}`: {failure}. Write dates as 2024-06-15.") from failure
    columns = []
    for i, label in enumerate(labels):
        known = understood(label) if i not in when else None
        if known:
            values = [_number(row[i], mark, label, date, path)
                      for row, date in zip(rows, dates, strict=True)]
            columns.append(Column(label, *known, np.array(values, float)))
    return _sorted(times, columns, path)


def _header(lines: list[str], path: Path) -> tuple[int, str]:
    """Number and separator of the line with the names of the columns."""
    for number, line in enumerate(lines[:_PREAMBLE]):
        for mark in ",;\t":
            cells = next(csv.reader([line], delimiter=mark), [])
            if len(cells) > 1 and _date_columns([cell.strip() for cell in cells]):
                return number, mark
    raise UserError(f"`{path.name}` has no column of dates. Name it `date`, or give `year`, "
                    "`month` and `day`.")


def _date_columns(labels: list[str]) -> list[int]:
    """The columns that make a date: one, or year, month, day or year, day of the year [, hour]."""

    def place(pattern: re.Pattern[str]) -> list[int]:
        return [i for i, label in enumerate(labels) if pattern.fullmatch(label)][:1]

    year, month, day, doy, hour = map(place, (_YEAR, _MONTH, _DAY, _DOY, _HOUR))
    if year and doy:
        return year + doy
    if year and month and day:
        return year + month + day + hour
    return place(_DATE)


def _joined(parts: list[str], last: str) -> str:
    """The text of a date of which the parts stand in columns."""
    parts = [part.strip() for part in parts]
    if len(parts) == 1 or not all(re.fullmatch(r"\d+", part) for part in parts):
        return " ".join(parts)
    if _DOY.fullmatch(last):
        return str(np.datetime64(parts[0], "D") + np.timedelta64(int(parts[1]) - 1, "D"))
    date = "-".join([parts[0], *(part.zfill(2) for part in parts[1:3])])
    return date + (f"T{parts[3].zfill(2)}" if len(parts) > 3 else "")


def _time(text: str) -> np.datetime64:
    """A time in ISO 8601, or a day as 20240615."""
    text = text.strip().rstrip("Z").replace("/", "-")
    if re.fullmatch(r"\d{8}", text):
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    try:
        return np.datetime64(text.replace(" ", "T"), "s")
    except ValueError:
        raise ValueError(f"{text!r} is not a date") from None


def _number(text: str, mark: str, label: str, when: str, path: Path) -> float:
    text = text.strip()
    if text.lower() in _EMPTY:
        return np.nan
    try:
        value = float(text.replace(",", ".") if mark != "," else text)
        return np.nan if value in _NO_VALUE else value
    except ValueError:
        raise UserError(f"`{path.name}`: {label} of {when} is {text!r}, not a number. "
                        "Correct it or leave it empty.") from None


def _sorted(times: np.ndarray, columns: list[Column], path: Path) -> Table:
    """Ascending in time."""
    order = np.argsort(times, kind="stable")
    times = times[order]
    twice = np.flatnonzero(times[1:] == times[:-1])
    if len(twice):
        when = str(times[twice[0]]).replace("T00:00:00", "")
        raise UserError(f"`{path.name}` has {when} twice. Leave one place and one row a day.")
    return Table(times, [Column(c.name, c.role, c.unit, c.values[order]) for c in columns])


# --- NetCDF ---------------------------------------------------------------------------------------


def read_netcdf(path: Path, bounds: Bounds | None) -> Table:
    """The weather over a place, of one NetCDF file or all of a folder.

    Args:
        path: file, or folder of files with other variables or other days.
        bounds: of the place: the mean of the cells whose middle lies inside, else the nearest one.

    Raises:
        UserError: not readable, no time, or the place lies outside.
    """
    files = sorted(path.glob("*.nc")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"Folder {path} holds no NetCDF file. Choose another one.")
    series: dict[tuple[str, str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for file in files:
        for variable in _variables(file):
            found = _series(file, variable, bounds)
            if found:
                name, role, unit, times, values = found
                series.setdefault((name, role, unit), []).append((times, values))
    moments = [times for parts in series.values() for times, _ in parts]
    times = np.unique(np.concatenate(moments)) if moments else np.array([], "datetime64[s]")
    columns = []
    for (name, role, unit), parts in series.items():
        values = np.full(len(times), np.nan)
        for part_times, part_values in parts:
            values[np.searchsorted(times, part_times)] = part_values
        columns.append(Column(name, role, unit, values))
    return Table(times, columns)


def _variables(file: Path) -> list[str]:
    """GDAL's names of the gridded variables of a file."""
    with _opened(str(file), file) as dataset:
        return dataset.subdatasets or [str(file)]


def _opened(name: str, file: Path) -> rasterio.DatasetReader:
    """A dataset with its rows as they are stored; grids of one cell have no geotransform."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(name)
    except RasterioError as failure:
        raise UserError(f"`{file.name}` cannot be read as NetCDF. Copy it again, or give a CSV "
                        "table.") from failure


def _series(file: Path, name: str, bounds: Bounds | None
            ) -> tuple[str, str, str, np.ndarray, np.ndarray] | None:
    """Name, role, unit, times and values of a variable; None where it is no weather."""
    with rasterio.Env(GDAL_NETCDF_BOTTOMUP="NO"), _opened(name, file) as dataset:
        tags = dataset.tags()
        variable = dataset.tags(1).get("NETCDF_VARNAME", "")
        known = understood(variable, tags.get(f"{variable}#units", ""))
        if known is None:
            return None
        axes = [a for a in tags.get("NETCDF_DIM_EXTRA", "").strip("{}").split(",") if a]
        time = next((a for a in axes if " since " in tags.get(f"{a}#units", "")), None)
        if time is None:
            raise UserError(f"`{file.name}`: {variable} has no axis of time. Give daily or hourly "
                            "weather.")
        inner = [key.split("#")[0] for key, value in tags.items()
                 if key.endswith("#units") and value.startswith("degree")]
        lat = next((a for a in inner if a.lower().startswith("lat")), None)
        lon = next((a for a in inner if a.lower().startswith("lon")), None)
        if lat is None or lon is None:
            raise UserError(f"`{file.name}`: {variable} has no latitude and longitude. Give "
                            "weather on a grid of degrees.")
        places = _axis(file, lat), _axis(file, lon)
        rows, cols = _around(*places, bounds, file)
        # without GDAL's masks, which cost more than the values where hours are bands
        stored = dataset.read(window=RasterWindow.from_slices(rows, cols)).astype(float)
        stored[stored == dataset.nodata] = np.nan
        scale, offset = dataset.scales[0], dataset.offsets[0]
    places = places[0][rows], places[1][cols]
    values = stored * scale + offset
    sizes = [int(re.findall(r"\d+", tags[f"NETCDF_DIM_{a}_DEF"])[0]) if len(values) > 1 else 1
             for a in axes]
    values = np.moveaxis(values.reshape(*sizes, *values.shape[1:]), axes.index(time), 0)
    found = values.reshape(len(values), -1, *values.shape[-2:])[..., _cells(
        *places, np.isfinite(values).any(axis=tuple(range(values.ndim - 2))), bounds, file)]
    with warnings.catch_warnings():  # an hour without any value stays NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(found.reshape(len(found), -1), axis=1)
    return variable, *known, _times(_axis(file, time), tags[f"{time}#units"], file), mean


def _axis(file: Path, name: str) -> np.ndarray:
    """The values of a coordinate variable."""
    with _opened(f'NETCDF:"{file}":{name}', file) as dataset:
        return dataset.read(1).ravel()


def _times(values: np.ndarray, units: str, file: Path) -> np.ndarray:
    """Times of a CF axis such as `hours since 1900-01-01`."""
    step, _, origin = units.partition(" since ")
    step = step.strip().lower().rstrip("s") + "s"
    match = re.match(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2}:\d{2}(?::\d{2})?))?", origin)
    if step not in _STEP or match is None:
        raise UserError(f"`{file.name}` counts time in `{units}`, which is not understood. Give "
                        "hours or days since a date.")
    year, month, day, clock = match.groups()
    start = np.datetime64(f"{year}-{int(month):02}-{int(day):02}", "s")
    if clock:
        hours, *rest = (int(n) for n in clock.split(":"))
        start = start + np.timedelta64(3600 * hours + 60 * rest[0] + sum(rest[1:]), "s")
    return start + np.rint(values * _STEP[step]).astype("timedelta64[s]")


def _around(lat: np.ndarray, lon: np.ndarray, bounds: Bounds | None, file: Path
            ) -> tuple[slice, slice]:
    """The rows and columns of a grid, of which some cover the globe, that lie near the bounds."""
    if bounds is None:
        if len(lat) * len(lon) > 1:
            raise UserError(f"`{file.name}` covers more than one place, and the rasters have no "
                            "coordinate system that tells which. Give a CSV table.")
        return slice(0, 1), slice(0, 1)
    west, south, east, north = bounds
    near = _REACH * _step(lat, lon)
    rows = np.flatnonzero((lat >= south - near) & (lat <= north + near))
    cols = np.flatnonzero((_wrapped(lon, bounds) >= west - near) & (
        _wrapped(lon, bounds) <= east + near))
    if not len(rows) or not len(cols):
        raise _outside(bounds, file)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def _cells(lat: np.ndarray, lon: np.ndarray, there: np.ndarray, bounds: Bounds | None, file: Path
           ) -> np.ndarray:
    """(rows, cols) bool of the cells to take the mean of: within the bounds, else the nearest.

    Args:
        lat, lon: of the cells' middles.
        there: (rows, cols) cells that have values; those of ERA5-Land over the sea have none.
        bounds: of the place.
        file: for the message.
    """
    if bounds is None:
        return there
    west, south, east, north = bounds
    lon = _wrapped(lon, bounds)
    inside = ((lat >= south) & (lat <= north))[:, None] & ((lon >= west) & (lon <= east)) & there
    if inside.any():
        return inside
    if not there.any():
        raise _outside(bounds, file)
    middle = (south + north) / 2
    away = np.hypot((lat - middle)[:, None],
                    ((lon - (west + east) / 2) * np.cos(np.radians(middle)))[None])
    away = np.where(there, away, np.inf)
    return away == away.min()


def _step(lat: np.ndarray, lon: np.ndarray) -> float:
    """Degrees from cell to cell; that of ERA5 where there is but one."""
    return max((float(np.abs(np.diff(a)).min()) for a in (lat, lon) if len(a) > 1), default=0.25)


def _wrapped(lon: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Longitudes of 0..360 or -180..180 as near to the bounds as they come."""
    middle = (bounds[0] + bounds[2]) / 2
    return middle + (lon - middle + 180) % 360 - 180


def _outside(bounds: Bounds, file: Path) -> UserError:
    west, south, east, north = bounds
    x, y = (west + east) / 2, (south + north) / 2
    return UserError(f"`{file.name}` does not cover the rasters, {abs(x):.2f}° "
                     f"{'E' if x >= 0 else 'W'}, {abs(y):.2f}° {'N' if y >= 0 else 'S'}. Download "
                     "the weather of that place.")
