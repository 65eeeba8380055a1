"""A window of a stack to Presto's inputs: twelve calendar months of S1, S2 and NDVI. NumPy only.

Weather, terrain and Dynamic World are masked. The location token cannot be masked, so it is fixed
unless a place is given: official features with the true place gain only where places repeat.
"""

from __future__ import annotations

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube
from ..fast import adapter as fast

NEUTRAL_PLACE = (30.0, 0.0)  # latitude, longitude
_DYNAMIC_WORLD_MISSING = 9
_WIDTH, _NDVI = 17, 16  # columns of x


def missing(sensors: dict[str, tuple[str, ...]]) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does."""
    return [line.replace("'fast'", "'presto'") for line in fast.missing(sensors)]


def inputs(
    values: np.ndarray, month: np.ndarray, latlon: tuple[float, float] = NEUTRAL_PLACE
) -> dict[str, np.ndarray]:
    """Network inputs of monthly means.

    Args:
        values: (n, T, 13) in the order and units of `fast.adapter.BANDS`, NaN where missing.
        month: (n, T) int, January = 0.
        latlon: degrees, the same for all pixels.
    """
    n, steps, bands = values.shape
    columns = [*range(bands - 1), _NDVI]
    x = np.zeros((n, steps, _WIDTH), np.float32)
    mask = np.ones_like(x)
    mask[:, :, columns] = np.isnan(values)
    scaled = values.copy()
    scaled[:, :, :2] = (values[:, :, :2] + 25) / 25  # reflectance and NDVI stay as they are
    x[:, :, columns] = np.nan_to_num(scaled)
    return {
        "x": x,
        "dynamic_world": np.full((n, steps), _DYNAMIC_WORLD_MISSING, np.int64),
        "latlons": np.tile(np.asarray(latlon, np.float32), (n, 1)),
        "mask": mask,
        "month": month.astype(np.int64),
    }


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """The pixels of a window that have any observation, at most `size` in a batch."""
    for pixels, values in fast.month_means(cube, size):
        month = np.tile(np.arange(12), (len(pixels), 1))
        yield Batch(pixels, inputs(values, month))
