"""Which column of a weather table is what, and in which unit: by name, by label, by range.

Names are those of AgERA5, ERA5 (short and long), Open-Meteo, NASA POWER and plain ones. A unit that
nobody states is taken from the range of the values, where only one unit makes sense.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import UserError

#: What a column can be, and how a person would call it.
TITLES = {
    "temperature": "mean temperature", "temperature_min": "lowest temperature",
    "temperature_max": "highest temperature", "dewpoint": "dew point",
    "vapour_pressure": "vapour pressure", "humidity": "relative humidity",
    "precipitation": "precipitation", "radiation": "short-wave radiation",
    "vapour_pressure_deficit": "vapour-pressure deficit", "wind": "wind speed",
    "wind_u": "eastward wind", "wind_v": "northward wind",
}  # fmt: skip

_NAMES = (
    ("vapour_pressure_deficit", r"vapou?r_pressure_deficit.*|vpd.*"),
    ("dewpoint", r"(2m_)?dew_?point.*|d2m|tdew.*|t2mdew"),
    ("vapour_pressure", r"(actual_)?vapou?r_pressure.*|vp|vap|ea"),
    ("humidity", r"(2m_)?relative_humidity.*|rh|rh_?2m|rh_?mean|hurs"),
    ("temperature_min", r"(2m_)?(air_)?temp(erature)?_.*min.*|min.*temp.*|t_?min|tn|tasmin"),
    ("temperature_max", r"(2m_)?(air_)?temp(erature)?_.*max.*|max.*temp.*|t_?max|tx|tasmax"),
    ("temperature", r"(mean_)?(2m_)?(air_)?temp(erature)?(_.*)?|t2m(_mean)?|t_?mean|t_?avg|tas|tg"),
    ("precipitation", r"(total_)?precip.*|tp|rain.*|prcp|prectot.*|ppt|pr|rr"),
    ("radiation", r"(surface_)?(solar|short_?wave|global)_rad.*|surface_solar.*|radiation.*|srad.*"
     r"|ssrd|rsds|rs|allsky_sfc_sw_dwn"),
    ("wind_u", r"10m_u_component_of_wind|u10m?"),
    ("wind_v", r"10m_v_component_of_wind|v10m?"),
    ("wind", r"(10m_)?wind(_?speed)?(_.*)?|si10|ws(10m)?|sfcwind"),
)
_OTHER = re.compile(  # of a kind that is not wanted: directions, gusts, parts of a day...
    r"direction|gust|std|flag|apparent|soil|clear_?sky|hours|prob|snow|net|day_?time|night|"
    r"_(0[69]|1[258])h$")
_EXTREME = re.compile(r"max|min")
_MEAN = re.compile(r"mean|avg|sum|24h|flux")

_K = {"K": (1.0, -273.15), "degC": (1.0, 0.0), "degF": (5 / 9, -160 / 9)}
_PRESSURE = {"kPa": (1.0, 0.0), "hPa": (0.1, 0.0), "Pa": (0.001, 0.0)}
_SPEED = {"m/s": (1.0, 0.0), "km/h": (1 / 3.6, 0.0), "kn": (0.514444, 0.0),
          "mph": (0.44704, 0.0)}  # fmt: skip
_STATED = ("kg/m2/s", "kn", "degF", "mph", "inch")  # never guessed
_RATE = ("kg/m2/s", "W/m2")  # means over the time since the last value, not sums

#: Role to its units: factor and offset to the units of `models.cube.WEATHER`.
UNITS: dict[str, dict[str, tuple[float, float]]] = {
    **dict.fromkeys(("temperature", "temperature_min", "temperature_max", "dewpoint"), _K),
    **dict.fromkeys(("vapour_pressure", "vapour_pressure_deficit"), _PRESSURE),
    **dict.fromkeys(("wind", "wind_u", "wind_v"), _SPEED),
    "humidity": {"%": (0.01, 0.0), "1": (1.0, 0.0)},
    "precipitation": {"mm": (1.0, 0.0), "m": (1000.0, 0.0), "inch": (25.4, 0.0),
                      "kg/m2/s": (86400.0, 0.0)},
    "radiation": {"MJ/m2": (1.0, 0.0), "kJ/m2": (1e-3, 0.0), "J/m2": (1e-6, 0.0),
                  "W/m2": (0.0864, 0.0), "kWh/m2": (3.6, 0.0)},
}  # fmt: skip
_SPELLINGS = {
    **{unit.lower(): unit for units in UNITS.values() for unit in units},
    "kelvin": "K", "degk": "K", "c": "degC", "celsius": "degC", "degreecelsius": "degC",
    "degreescelsius": "degC", "f": "degF", "fahrenheit": "degF", "degreesfahrenheit": "degF",
    "in": "inch", "inches": "inch", "mi/h": "mph", "mbar": "hPa", "mb": "hPa", "ms-1": "m/s",
    "mps": "m/s", "kmh-1": "km/h", "kmh": "km/h", "kph": "km/h", "knots": "kn", "percent": "%",
    "kgm-2": "mm",
    "kg/m2": "mm", "mofwaterequivalent": "m", "kgm-2s-1": "kg/m2/s", "mm/s": "kg/m2/s",
    "wm-2": "W/m2", "jm-2": "J/m2", "kjm-2": "kJ/m2", "mjm-2": "MJ/m2", "kwhm-2": "kWh/m2",
}  # fmt: skip

#: What a name stands for where the range leaves a choice: the variables of ERA5.
_USUAL = {"tp": "m", "ssrd": "J/m2", "u10": "m/s", "v10": "m/s", "si10": "m/s"}


@dataclass(frozen=True)
class Column:
    """One series of a weather table.

    Attributes:
        name: in the file.
        role: a key of `TITLES`.
        unit: a key of `UNITS[role]`; "" where the file does not say.
        values: (T,) float64, NaN where missing.
    """

    name: str
    role: str
    unit: str
    values: np.ndarray

    @property
    def is_rate(self) -> bool:
        """Whether a value is the mean over a time and not the sum."""
        return self.unit in _RATE or self.role not in ("precipitation", "radiation")


def understood(label: str, unit: str = "") -> tuple[str, str] | None:
    """(role, unit) of a column by its label, such as `temperature_2m (°C)`; None for others."""
    inside = re.search(r"[(\[]([^)\]]*)[)\]]", label)
    name = re.sub(r"[^a-z0-9]+", "_", re.sub(r"[(\[].*", "", label).lower()).strip("_")
    stated = unit or (inside[1] if inside else "")
    if _OTHER.search(name):
        return None
    head, _, ending = name.rpartition("_")
    role = _role(head)
    if role and _unit(ending, role):
        return role, _unit(stated, role) or _unit(ending, role)
    role = _role(name)
    return (role, _unit(stated, role)) if role else None


def _role(name: str) -> str | None:
    """The key of `TITLES` that a plain name means."""
    role = next((r for r, pattern in _NAMES if re.fullmatch(pattern, name)), None)
    if role and _EXTREME.search(name) and not role.startswith("temperature_"):
        return None  # the highest wind of a day is not its wind
    return role


def best(columns: list[Column]) -> dict[str, Column]:
    """One column for each role: a mean or sum by its name before others, then the first."""
    ordered = sorted(columns, key=lambda c: not _MEAN.search(c.name.lower()))
    return {column.role: column for column in reversed(ordered)}


def _unit(text: str, role: str) -> str:
    """The unit that a text means for a role; "" where it is none."""
    word = re.sub(r"[\s*^_·]+", "", text.lower().replace("²", "2").replace("°", "deg"))
    for spelling in (word, re.sub(r"(/day|/d|day-1|d-1|/h|h-1)$", "", word)):
        known = _SPELLINGS.get(spelling, "")
        if known in UNITS[role]:
            return known
    return ""


def stated_unit(text: str, role: str) -> str:
    """A unit that a user gives for a role.

    Raises:
        UserError: it is none of the known ones.
    """
    found = _unit(text, role)
    if not found:
        raise UserError(f"{text!r} is no unit of {TITLES[role]}. Choose one of "
                        f"{', '.join(UNITS[role])}.")
    return found


# --- by range -------------------------------------------------------------------------------------


def _within(low: float, high: float) -> Callable[[np.ndarray], bool]:
    return lambda x: bool(low <= x.min() and x.max() <= high)


def _rain(x: np.ndarray) -> bool:
    return bool(x.min() >= -0.1 and x.mean() <= 40 and x.max() <= 800)


def _sun(x: np.ndarray) -> bool:
    return bool(x.min() >= -0.1 and 0.3 <= x.mean() <= 35 and 5 <= x.max() <= 45)


_PLAUSIBLE: dict[str, Callable[[np.ndarray], bool]] = {
    **dict.fromkeys(("temperature", "temperature_min", "temperature_max", "dewpoint"),
                    _within(-70, 60)),
    "precipitation": _rain, "radiation": _sun, "humidity": _within(0, 1.1),
    "wind": _within(0, 60), "wind_u": _within(-60, 60), "wind_v": _within(-60, 60),
    "vapour_pressure": _within(0, 7), "vapour_pressure_deficit": _within(0, 12),
}  # fmt: skip
#: Lowest and highest daily value on Earth, generously, in the units of `models.cube.WEATHER`.
_RECORDS = {
    **dict.fromkeys(("temperature", "temperature_min", "temperature_max", "dewpoint"), (-95, 65)),
    "precipitation": (-0.5, 2500), "radiation": (-0.5, 50), "humidity": (0, 1.5),
    "wind": (0, 120), "wind_u": (-120, 120), "wind_v": (-120, 120),
    "vapour_pressure": (0, 8), "vapour_pressure_deficit": (-0.5, 20),
}  # fmt: skip
_CALM, _WINDY = 7.0, 12.0  # m/s: means below are no km/h that anyone measures, above no m/s


def check_plausible(column: Column, unit: str) -> None:
    """Refuse values that no weather has in a unit that was stated or given.

    Raises:
        UserError: with the unit in which they would make sense, where there is one.
    """
    x = column.values[np.isfinite(column.values)]
    factor, offset = UNITS[column.role][unit]
    low, high = _RECORDS[column.role]
    y = factor * x + offset
    faint = column.role == "radiation" and 0 < y.max(initial=0) < 0.01
    if not len(x) or (low <= y.min() and y.max() <= high and not faint):
        return
    fitting = [u for u, (f, o) in UNITS[column.role].items()
               if u != unit and u not in _STATED and _PLAUSIBLE[column.role](f * x + o)]
    hint = f"they look like {' or '.join(fitting)}" if fitting else "look for values that are wrong"
    raise UserError(
        f"`{column.name}` is said to be {TITLES[column.role]} in {unit}, but {x.min():.4g} to "
        f"{x.max():.4g} {unit} is no weather; {hint}. Correct the file, or give the unit as "
        f"{column.role}={fitting[0] if fitting else next(iter(UNITS[column.role]))}.")


def guessed_unit(column: Column, saturated: np.ndarray | None) -> str:
    """The only unit in which the values make sense.

    Args:
        column: daily values.
        saturated: (T,) saturation vapour pressure in kPa of the same days, for pressures.

    Raises:
        UserError: none does, or more than one.
    """
    x = column.values[np.isfinite(column.values)]
    units = UNITS[column.role]
    fitting = [u for u, (f, o) in units.items()
               if u not in _STATED and len(x) and _PLAUSIBLE[column.role](f * x + o)]
    if column.role.startswith("vapour") and saturated is not None:
        share = np.nanmean(column.values) / np.nanmean(saturated)  # of what the air can hold
        low, high = (0.15, 1.1) if column.role == "vapour_pressure" else (0.05, 0.98)
        fitting = [u for u in fitting if low <= share * units[u][0] <= high]
    elif column.role == "humidity" and len(fitting) > 1:
        fitting = ["1" if x.max() > 0.05 else "%"]
    elif column.role.startswith("wind") and len(x):
        mean = float(np.abs(x).mean())
        fitting = ["m/s"] if mean < _CALM else ["km/h"] if mean > _WINDY else ["m/s", "km/h"]
    elif column.role == "precipitation" and not x.any():
        fitting = ["mm"]
    if len(fitting) > 1 and _USUAL.get(column.name.lower()) in fitting:
        fitting = [_USUAL[column.name.lower()]]
    if len(fitting) == 1:
        return fitting[0]
    span = f"{x.min():.4g} to {x.max():.4g}" if len(x) else "empty"
    why = f"could be {' or '.join(fitting)}" if fitting else "fits no known unit"
    raise UserError(
        f"The unit of `{column.name}` ({TITLES[column.role]}, {span}) {why}. Write it into the "
        f"column's name, such as `{column.role} ({next(iter(units))})`, or give it as a unit.")
