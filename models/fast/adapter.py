"""A window of a stack to the inputs of `fast`. NumPy and Numba, no torch.

The network sees 24 half-months x (13 bands + 7 flags) of one pixel. Bands lie in seven groups that
are observed or missing together (as in Presto and Galileo); optical sensors are merged.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube, Series
from ..timegrid import STEPS, accumulate, fill, half_months

# Group, its bands, and mean and standard deviation of each (dB, reflectance, index): round numbers
# near those of the training pool, fixed for good because the weights depend on them.
GROUPS = (
    ("s1", (("vv", -10.5, 4.0), ("vh", -17.5, 4.5))),
    ("rgb", (("blue", 0.08, 0.06), ("green", 0.10, 0.06), ("red", 0.11, 0.08))),
    (
        "rededge",
        (("rededge071", 0.15, 0.08), ("rededge075", 0.22, 0.09), ("rededge078", 0.25, 0.10)),
    ),
    ("nir", (("nir", 0.26, 0.11),)),
    ("nir08", (("nir08", 0.27, 0.11),)),
    ("swir", (("swir16", 0.22, 0.10), ("swir22", 0.15, 0.09))),
    ("ndvi", (("ndvi", 0.45, 0.28),)),
)
BANDS = tuple(band for _, bands in GROUPS for band, _, _ in bands)
MEAN = np.array([mean for _, bands in GROUPS for _, mean, _ in bands], np.float32)
STD = np.array([std for _, bands in GROUPS for _, _, std in bands], np.float32)
SLOTS = tuple(tuple(BANDS.index(b) for b, _, _ in bands) for _, bands in GROUPS)
COLUMNS = len(BANDS) + len(GROUPS)
INPUT = "grid"  # (n, 24, 20) float32: standardised bands, then a flag for each group
_TILE = 256  # pixels gridded at a time: their sums stay in the processor's cache
OPTICAL = ("sentinel-2", "landsat", "modis", "cbers", "aerial", "optical")

# What stands in for a band that a sensor lacks: the mean of one or two of its other bands.
STAND_INS = {"nir": ("nir08",), "green": ("blue", "red"), "swir16": ("nir", "swir22")}


def missing(sensors: dict[str, tuple[str, ...]], card: Card | None = None) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does."""
    if {"vv", "vh"} <= set(sensors.get("sentinel-1", ())):
        return []
    for sensor in OPTICAL:
        bands = set(sensors.get(sensor, ()))
        if ("red" in bands and bands & {"nir", "nir08"}) or "ndvi" in bands:
            return []
    found = "; ".join(f"{name}: {', '.join(bands)}" for name, bands in sensors.items()) or "nothing"
    return [
        "The encoder 'fast' needs red and near infrared (or NDVI) of one optical sensor, or VV "
        f"and VH of Sentinel-1; the stack has {found}. Add such bands to the stack."
    ]


def _sources(band: str, bands: tuple[str, ...]) -> tuple[int, ...]:
    """The indices in `bands` whose mean is `band`; empty if it cannot be had."""
    if band in bands:
        return (bands.index(band),)
    instead = [_sources(b, bands) for b in STAND_INS.get(band, ())]
    return tuple(i[0] for i in instead) if instead and all(instead) else ()


def ndvi_of(red: np.ndarray, nir: np.ndarray) -> np.ndarray:
    """The vegetation index of reflectances of any shape, -1..1; 0 where both are dark."""
    total = red + nir
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.where(total > 0, (nir - red) / total, 0.0 * total)  # NaN stays
    return np.clip(index, -1.0, 1.0).astype(np.float32)


class _Observations:
    """One sensor's series, laid out for the time grid, that knows which groups it can give."""

    def __init__(self, series: Series) -> None:
        dates = len(series.dates)
        self._values = np.ascontiguousarray(series.values, np.float32).reshape(
            dates, len(series.bands), -1
        )
        self._valid = np.ascontiguousarray(series.valid, np.bool_).reshape(dates, -1)
        self._steps = half_months(series.dates)
        self._recipes = {
            group: [_sources(band, series.bands) for band, _, _ in bands]
            for group, bands in GROUPS
            if (group == "s1") == (series.sensor == "sentinel-1")
        }
        index = [_sources("red", series.bands), _sources("nir", series.bands)]
        self._recipes["ndvi"] = index if all(index) else [_sources("ndvi", series.bands)]

    def add(self, group: str, start: int, sums: np.ndarray, counts: np.ndarray) -> bool:
        """Add the pixels start .. start + n of a group to its sums; False if a band is missing."""
        recipe = self._recipes.get(group)
        if not recipe or not all(recipe):
            return False
        stop = start + counts.shape[1]
        if len(recipe) == len(sums) and all(len(sources) == 1 for sources in recipe):
            bands = np.array([sources[0] for sources in recipe])
            accumulate(self._values, self._valid, self._steps, bands, start, sums, counts)
            return True
        means = [self._values[:, list(sources), start:stop].mean(axis=1) for sources in recipe]
        values = np.stack(means if len(means) == len(sums) else [ndvi_of(*means)], axis=1)
        valid = np.ascontiguousarray(self._valid[:, start:stop])
        accumulate(values, valid, self._steps, np.arange(values.shape[1]), 0, sums, counts)
        return True


def _sources_of(cube: Cube) -> list[_Observations]:
    """The series that this encoder can use."""
    return [
        _Observations(series)
        for sensor, series in cube.series.items()
        if sensor in (*OPTICAL, "sentinel-1") and len(series.dates)
    ]


def _sums(
    sources: list[_Observations], g: int, start: int, n: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Sums (K, 24, n) and counts (24, n) of a group, or None where no sensor has its bands."""
    sums = np.zeros((len(SLOTS[g]), STEPS, n), np.float32)
    counts = np.zeros((STEPS, n), np.float32)
    given = [source.add(GROUPS[g][0], start, sums, counts) for source in sources]
    return (sums, counts) if any(given) else None


def _write(sources: list[_Observations], start: int, grid: np.ndarray) -> None:
    """Fill `grid` (n, 24, 20), zeros so far, for the pixels start .. start + n."""
    for g, slots in enumerate(SLOTS):
        found = _sums(sources, g, start, len(grid))
        if found:
            here = slice(slots[0], slots[-1] + 1)
            fill(*found, MEAN[here], 1 / STD[here], 0.0, grid, slots[0])
            grid[:, :, len(BANDS) + g] = found[1].T > 0


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """The pixels of a window that have any observation, at most `size` in a batch.

    Args:
        cube: reflectance 0..1 and dB.
        size: pixels in a batch; 512 to 2048 suit the processor's cache.
        card: not used: all encoders of this system take the same input.

    Yields:
        Batches with the input `grid` (n, 24, 20) float32.
    """
    sources = _sources_of(cube)
    pixels = cube.shape[0] * cube.shape[1]
    for start in range(0, pixels, size):
        grid = np.zeros((min(size, pixels - start), STEPS, COLUMNS), np.float32)
        for first in range(0, len(grid), _TILE):
            _write(sources, start + first, grid[first : first + _TILE])
        seen = grid[:, :, len(BANDS) :].any(axis=(1, 2))
        if seen.all():
            yield Batch(np.arange(start, start + len(grid)), {INPUT: grid})
        elif seen.any():
            yield Batch(start + np.flatnonzero(seen), {INPUT: grid[seen]})


def month_means(cube: Cube, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same bands as means of the calendar months, as Presto and Galileo take them.

    Yields:
        Pixels (n,) with any observation, and (n, 12, 13) in the bands' units, NaN where a group of
        bands was not observed.
    """
    sources = _sources_of(cube)
    pixels = cube.shape[0] * cube.shape[1]
    for start in range(0, pixels, size):
        n = min(size, pixels - start)
        means = np.full((n, 12, len(BANDS)), np.nan, np.float32)
        for g, slots in enumerate(SLOTS):
            found = _sums(sources, g, start, n)
            if found:
                sums = found[0].reshape(len(slots), 12, 2, n).sum(axis=2)
                counts = found[1].reshape(12, 2, n).sum(axis=1)
                with np.errstate(invalid="ignore"):
                    month = np.where(counts > 0, sums / counts, np.nan)
                means[:, :, slots[0] : slots[-1] + 1] = month.transpose(2, 1, 0)
        seen = np.isfinite(means).any(axis=(1, 2))
        if seen.any():
            yield start + np.flatnonzero(seen), means[seen]
