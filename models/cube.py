"""A window of a stack as encoders take it: values with their masks, dates and bands. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Series:
    """All observations of one sensor in a window.

    Attributes:
        sensor: "sentinel-2", "sentinel-1", "landsat", "modis", "cbers", "aerial" or "optical".
        bands: STAC common names, or "vv", "vh"; see `earthprint.engine.stacks.sensors`.
        dates: (T,) datetime64[D], ascending; NaT for a scene without a date.
        values: (T, B, H, W) float32 in physical units: reflectance 0..1, dB, K.
        valid: (T, H, W) bool; False for nodata, cloud, shadow.
        orbits: (T,) "ascending", "descending" or "" where it does not matter or is unknown.
    """

    sensor: str
    bands: tuple[str, ...]
    dates: np.ndarray
    values: np.ndarray
    valid: np.ndarray
    orbits: tuple[str, ...]


#: Daily weather as encoders take it, in this order: name and unit.
WEATHER = {
    "temperature": "degC", "precipitation": "mm/day", "radiation": "MJ/m2/day",
    "vapour_pressure_deficit": "kPa", "wind": "m/s",
}  # fmt: skip


@dataclass(frozen=True)
class Weather:
    """The weather of a place, day by day and without gaps.

    Attributes:
        dates: (D,) datetime64[D], consecutive.
        values: (D, 5) float32, in the order and units of `WEATHER`.
    """

    dates: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Cube:
    """One window of a stack: a series for each sensor, all on the same H x W pixels.

    Attributes:
        shape: (H, W).
        series: sensor to its observations.
        weather: of the place, None where nobody gave it.
    """

    shape: tuple[int, int]
    series: dict[str, Series]
    weather: Weather | None = None


@dataclass(frozen=True)
class Batch:
    """Network inputs for n pixels of a cube.

    Attributes:
        pixels: (n,) int64, flat indices row * W + column into the cube's window.
        inputs: graph input name to array; the first axis is n.
    """

    pixels: np.ndarray
    inputs: dict[str, np.ndarray]


Batches = Iterator[Batch]
