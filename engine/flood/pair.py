"""The rasters before and during a flood as one scene on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...models.cube import Series
from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid, Window
from ..rasters.overlap import within
from ..stacks.reading import StackReader
from ..stacks.sensors import TITLES
from ..stacks.stack import Stack, open_input
from .scene import OPTICAL, RADAR, optical_channels

_OPTICAL_SENSORS = ("sentinel-2", "landsat", "cbers", "modis", "optical", "aerial")
_NIR = ("nir", "nir08")


@dataclass(frozen=True)
class Dates:
    """First and last ISO day of the rasters; empty where unknown."""

    first: str
    last: str

    @classmethod
    def of(cls, stack: Stack) -> Dates:
        """The days of a stack."""
        season = stack.season()
        return cls(*season) if season else cls("", "")

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


class FloodPair:
    """A `Scene` from two stacks; several scenes of a sensor and date are averaged, radar in power.

    Attributes:
        grid: of the rasters during the flood, or the part of it that was asked for.
        channels: what both dates have.
        before, during: the stacks, of the sensors that both have.
        sensors: "sentinel-1" and an optical one, or one of them.
        dates: days before and during.
    """

    def __init__(self, before: Stack, during: Stack, bands: dict[str, tuple[str, ...]],
                 area: Window | None = None) -> None:
        self._area = area or during.grid.full
        self._bands = bands
        self.before, self.during = replace(before, grid=during.grid), during
        self.sensors = tuple(bands)
        self.dates = Dates.of(before), Dates.of(during)
        self.grid: Grid = during.grid.part(self._area)
        names = {b for held in bands.values() for b in held}
        self.channels = tuple(c for c in RADAR if c in names)
        if "green" in names:
            empty = {_plain(b): np.zeros(1, np.float32) for b in names if b not in RADAR}
            self.channels += tuple(optical_channels(empty))
        self._readers = [StackReader(stack, sensors=self.sensors, bands=bands)
                         for stack in (self.before, self.during)]

    @classmethod
    def open(cls, before: Sequence[str], during: Sequence[str], context: JobContext) -> FloodPair:
        """Open both dates, and check that they can be compared.

        Raises:
            UserError: no common sensor or band, dates in the wrong order, radar of two orbits,
                nothing usable (see `open_input`).
        """
        stacks = [open_input(paths, context) for paths in (before, during)]
        _check_order(*(Dates.of(stack) for stack in stacks))
        bands = _common_bands(*stacks, context)
        kept = [replace(s, scenes=tuple(c for c in s.scenes if c.sensor in bands)) for s in stacks]
        if "sentinel-1" in bands:
            _check_orbits(kept, context)
        return cls(*kept, bands)

    def within(self, area: Window) -> FloodPair:
        """The same on a part of the grid."""
        self.close()
        return FloodPair(self.before, self.during, self._bands, area)

    def __enter__(self) -> FloodPair:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for reader in self._readers:
            reader.close()

    def read(self, window: Window) -> dict[str, np.ndarray]:
        """Channel to (2, rows, cols) float32, NaN where nothing was seen."""
        place = within(window, self._area)
        dates = [self._date(reader, place) for reader in self._readers]
        return {c: np.stack([date[c] for date in dates]) for c in self.channels}

    def _date(self, reader: StackReader, window: Window) -> dict[str, np.ndarray]:
        shape = (window.rows, window.cols)
        series = reader.read(window).series
        found: dict[str, np.ndarray] = {}
        for sensor, bands in self._bands.items():
            radar = sensor == "sentinel-1"
            seen = series.get(sensor)
            means = {_plain(b): _average(seen, b, radar, shape) for b in bands}
            found |= means if radar else optical_channels(means)
        return found


def _plain(band: str) -> str:
    """The near infrared by one name."""
    return "nir" if band in _NIR else band


def _average(series: Series | None, band: str, radar: bool, shape: tuple[int, int]
             ) -> np.ndarray:
    """The mean of a band over the dates on which it was seen; radar's in power."""
    if series is None or band not in series.bands:
        return np.full(shape, np.nan, np.float32)
    values = np.where(series.valid, series.values[:, series.bands.index(band)], np.nan)
    if len(values) == 1:
        return values[0].astype(np.float32)
    if radar:
        values = 10 ** (values / 10)
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)
        return (10 * np.log10(mean) if radar else mean).astype(np.float32)


def _common_bands(before: Stack, during: Stack, context: JobContext) -> dict[str, tuple[str, ...]]:
    """Sensor to the bands to read: radar, and the first optical sensor that shows water."""
    first, second = before.sensors(), during.sensors()
    found: dict[str, tuple[str, ...]] = {}
    radar = tuple(b for b in RADAR
                  if b in first.get("sentinel-1", ()) and b in second.get("sentinel-1", ()))
    if radar:
        found["sentinel-1"] = radar
    for sensor in _OPTICAL_SENSORS:
        common = [b for b in first.get(sensor, ()) if b in second.get(sensor, ())]
        bands = ["green"] * ("green" in common) + ["swir16"] * ("swir16" in common)
        bands += [b for b in _NIR if b in common][:1]
        if "green" in bands and len(bands) > 1:
            found[sensor] = tuple(bands)
            break
    for sensor in sorted({*first, *second} - set(found)):
        where = ("on both dates, with the same bands" if sensor in first and sensor in second
                 else "before the flood" if sensor in second else "during the flood")
        context.warn(f"{TITLES[sensor]} was not used: it has no bands that show water {where}.")
    if not found:
        raise UserError(
            f"Before ({_held(first)}) and During ({_held(second)}) have no sensor in common that "
            "shows water. Give Sentinel-1 VV or VH, or green with near or short-wave infrared, on "
            "both dates.")
    return found


def _held(sensors: dict[str, tuple[str, ...]]) -> str:
    return "; ".join(f"{TITLES[s]} {' '.join(b)}" for s, b in sensors.items()) or "nothing"


def _check_order(before: Dates, during: Dates) -> None:
    if before.last and during.first and before.last >= during.first:
        if before.last == during.first:
            raise UserError(f"Before and During are both of {before.last}. Choose an earlier "
                            "Before.")
        raise UserError(f"Before ({before.last}) is later than During ({during.first}). Swap "
                        "them.")


def _check_orbits(stacks: Sequence[Stack], context: JobContext) -> None:
    """Radar of two orbits sees the ground from two sides; that is no flood."""
    scenes = [s for stack in stacks for s in stack.scenes if s.sensor == "sentinel-1"]
    tracks = sorted({s.track for s in scenes} - {0})
    passes = sorted({s.orbit for s in scenes} - {""})
    if len(tracks) > 1:
        names = f"{', '.join(map(str, tracks[:-1]))} and {tracks[-1]}"
        raise UserError(f"The radar images come from orbits {names}. Choose one orbit.")
    if len(passes) > 1:
        raise UserError("The radar images come from ascending and descending orbits. Choose one "
                        "orbit.")
    if not all(s.track for s in scenes) and not all(s.orbit for s in scenes):
        context.log("The radar images' orbits are not told by names or metadata; both dates must "
                    "be of one orbit.")


def describe(channels: Sequence[str]) -> str:
    """Channels in words."""
    words = {"vv": "VV", "vh": "VH", "mndwi": "MNDWI", "ndwi": "NDWI"}
    return ", ".join(words[c] for c in (*RADAR, *OPTICAL) if c in channels)
