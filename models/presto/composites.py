"""Monthly composites of Sentinel-1 and -2, as Presto and its successor Galileo take them. NumPy.

A step is a calendar month, in the order of time; a channel group that a pixel was not observed in
is missing in that step. Of Sentinel-1 one orbit direction is used, as in both papers' data.
"""

from __future__ import annotations

import numpy as np

from ..cube import Cube, Series
from ..timegrid import accumulate
from .scaling import vegetation_index

BANDS = ("vv", "vh", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir",
         "nir08", "swir16", "swir22", "ndvi")  # fmt: skip
# Channel groups: their columns of BANDS.
GROUPS = {
    "S1": (0, 1), "S2_RGB": (2, 3, 4), "S2_Red_Edge": (5, 6, 7), "S2_NIR_10m": (8,),
    "S2_NIR_20m": (9,), "S2_SWIR": (10, 11), "NDVI": (12,),
}  # fmt: skip
UNDATED_MONTH = 6  # July: the authors' own choice for an image without a date
_RED, _NIR, _NDVI = BANDS.index("red"), BANDS.index("nir"), BANDS.index("ndvi")
_TILE = 256  # pixels composited at a time: their sums stay in the processor's cache


def given_groups(sensors: dict[str, tuple[str, ...]]) -> list[str]:
    """The channel groups that a stack with these bands has, without NDVI."""
    return [
        name
        for name, columns in GROUPS.items()
        if name != "NDVI" and {BANDS[c] for c in columns} <= set(sensors.get(_sensor(name), ()))
    ]


def missing(encoder: str, sensors: dict[str, tuple[str, ...]]) -> list[str]:
    """A sentence if a stack with these bands has none of the channel groups.

    Other optical sensors are refused: no weights have seen them.
    """
    if given_groups(sensors):
        return []
    found = "; ".join(f"{name}: {', '.join(bands)}" for name, bands in sensors.items()) or "nothing"
    groups = "; ".join(
        ", ".join(BANDS[c] for c in columns)
        for name, columns in GROUPS.items()
        if name not in ("S1", "NDVI")
    )
    return [
        f"{encoder} knows Sentinel-1 (vv and vh) and Sentinel-2 (at least one of the groups: "
        f"{groups}) only; the stack has {found}. Add such scenes, or use the encoder 'fast'."
    ]


def _sensor(group: str) -> str:
    return "sentinel-1" if group == "S1" else "sentinel-2"


class Composites:
    """The monthly means of a cube, pixels by pixels.

    Attributes:
        months: (T,) int64, January = 0, one for each step; empty without any usable scene.

    Args:
        cube: reflectance 0..1 and dB.
        most: steps at most; of a longer stack those consecutive months that hold most scenes.
    """

    def __init__(self, cube: Cube, most: int) -> None:
        series = {
            sensor: given
            for sensor in ("sentinel-1", "sentinel-2")
            if (given := cube.series.get(sensor)) and len(given.dates)
        }
        if "sentinel-1" in series:
            series["sentinel-1"] = _one_direction(series["sentinel-1"])
        number = {sensor: _month_numbers(given.dates) for sensor, given in series.items()}
        first, self.months = _period(list(number.values()), most)
        self._parts = {
            sensor: (
                given.bands,
                np.ascontiguousarray(given.values, np.float32).reshape(*given.values.shape[:2], -1),
                np.ascontiguousarray(given.valid, np.bool_).reshape(len(given.dates), -1),
                _steps(number[sensor], first, len(self.months)),
            )
            for sensor, given in series.items()
        }

    def of(self, start: int, count: int) -> np.ndarray:
        """The pixels start .. start + count as (count, T, 13), NaN where a group is missing."""
        out = np.full((count, len(self.months), len(BANDS)), np.nan, np.float32)
        for first in range(0, count, _TILE):
            self._fill(start + first, out[first : first + _TILE])
        out[:, :, _NDVI] = vegetation_index(out[:, :, _RED], out[:, :, _NIR])
        return out

    def _fill(self, start: int, out: np.ndarray) -> None:
        n, steps, _ = out.shape
        for name, columns in GROUPS.items():
            wanted = [BANDS[c] for c in columns]
            bands, values, valid, step = self._parts.get(_sensor(name), ((), None, None, None))
            if name == "NDVI" or not set(wanted) <= set(bands):
                continue
            sums = np.zeros((len(wanted), steps, n), np.float32)
            counts = np.zeros((steps, n), np.float32)
            which = np.array([bands.index(b) for b in wanted])
            accumulate(values, valid, step, which, start, sums, counts)
            with np.errstate(invalid="ignore"):
                means = np.where(counts > 0, sums / counts, np.nan)
            out[:, :, columns[0] : columns[-1] + 1] = means.transpose(2, 1, 0)


def _one_direction(series: Series) -> Series:
    """The scenes of the orbit direction that has more, and those of unknown direction."""
    ascending, descending = (series.orbits.count(o) for o in ("ascending", "descending"))
    if not ascending or not descending:
        return series
    other = "descending" if ascending >= descending else "ascending"
    kept = np.array([orbit != other for orbit in series.orbits])
    return Series(
        series.sensor, series.bands, series.dates[kept], series.values[kept], series.valid[kept],
        tuple(orbit for orbit in series.orbits if orbit != other),
    )  # fmt: skip


def _month_numbers(dates: np.ndarray) -> np.ndarray:
    """Months since January 1970 as float; NaN for a scene without a date."""
    months = np.asarray(dates, "datetime64[D]").astype("datetime64[M]")
    return np.where(np.isnat(months), np.nan, months.astype(np.int64).astype(float))


def _period(numbers: list[np.ndarray], most: int) -> tuple[int, np.ndarray]:
    """The first month's number, and the calendar months of all steps."""
    if not numbers:
        return 0, np.zeros(0, np.int64)
    dated = np.concatenate(numbers)
    dated = dated[np.isfinite(dated)].astype(np.int64)
    if not len(dated):
        return UNDATED_MONTH, np.array([UNDATED_MONTH])
    first, last = int(dated.min()), int(dated.max())
    if last - first >= most:
        scenes = np.bincount(dated - first)
        held = np.convolve(scenes, np.ones(most, int), "valid")
        first += len(held) - 1 - int(held[::-1].argmax())  # the latest of equals
        last = first + most - 1
    return first, np.arange(first, last + 1) % 12


def _steps(numbers: np.ndarray, first: int, count: int) -> np.ndarray:
    """The step of each scene; -1 outside the period, or undated beside dated ones."""
    undated = np.isnan(numbers)
    if undated.all():
        july = (UNDATED_MONTH - first) % 12
        return np.full(len(numbers), july if july < count else count // 2, np.int64)
    steps = np.where(undated, -1, numbers - first).astype(np.int64)
    return np.where((steps >= 0) & (steps < count), steps, -1)
