"""A window of a stack to Presto's inputs: monthly Sentinel-1, Sentinel-2 and NDVI. NumPy only.

Weather, terrain and Dynamic World are masked. The location token cannot be masked, so it is fixed
unless a place is given: official features with the true place gain only where places repeat.
"""

from __future__ import annotations

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube
from . import composites, scaling

NEUTRAL_PLACE = (30.0, 0.0)  # latitude, longitude
MOST_MONTHS = 24  # positions that the original weights know
_DYNAMIC_WORLD_MISSING = 9
_TOKENS = 16384  # of a batch: bounds the memory of attention


def missing(sensors: dict[str, tuple[str, ...]], card: Card | None = None) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does."""
    return composites.missing("Presto", sensors)


def inputs(
    values: np.ndarray, month: np.ndarray, latlon: tuple[float, float] = NEUTRAL_PLACE
) -> dict[str, np.ndarray]:
    """Network inputs of monthly means.

    Args:
        values: (n, T, 13) in the order of `composites.BANDS`: dB, reflectance 0..1, NDVI; NaN
            where missing.
        month: (n, T) int, January = 0.
        latlon: degrees, the same for all pixels.
    """
    n, steps, bands = values.shape
    columns = [*range(bands - 1), scaling.NDVI]
    physical = np.full((n, steps, len(scaling.BANDS)), np.nan, np.float32)
    physical[:, :, columns] = values
    physical[:, :, 2 : bands - 1] *= 10000
    return {
        "x": np.nan_to_num(scaling.normalise(physical)),
        "dynamic_world": np.full((n, steps), _DYNAMIC_WORLD_MISSING, np.int64),
        "latlons": np.tile(np.asarray(latlon, np.float32), (n, 1)),
        "mask": np.isnan(physical).astype(np.float32),
        "month": month.astype(np.int64),
    }


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """The pixels of a window that have any observation, at most `size` in a batch."""
    stated = max(sensor.most for sensor in card.sensors) if card else 0
    monthly = composites.Composites(cube, stated or MOST_MONTHS)
    steps, pixels = len(monthly.months), cube.shape[0] * cube.shape[1]
    size = max(1, min(size, _TOKENS // (len(composites.GROUPS) * max(steps, 1))))
    for start in range(0, pixels if steps else 0, size):
        values = monthly.of(start, min(size, pixels - start))
        seen = np.flatnonzero(np.isfinite(values).any(axis=(1, 2)))
        if len(seen):
            month = np.tile(monthly.months, (len(seen), 1))
            yield Batch(start + seen, inputs(values[seen], month))
