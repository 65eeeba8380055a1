"""A window of a stack to Galileo's inputs, pixel by pixel: twelve months of S1, S2, NDVI. NumPy.

Weather, maps, terrain and location are masked, and a pixel is a window and patch of its own.
"""

from __future__ import annotations

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube
from ..fast import adapter as fast

# Mean and standard deviation of the pretraining data, in dB and reflectance x 10000; the network
# sees mean - 2 std .. mean + 2 std as 0..1. NDVI stays as it is.
_MEAN = np.array([
    -11.728724389184965, -18.85558188024017, 1395.3408730676722, 1338.4026921784578,
    1343.09883810357, 1543.8607982512297, 2186.2022069512263, 2525.0932853316694,
    2410.3377187373408, 2750.2854646886753, 2234.911100061487, 1474.5311266077113,
])  # fmt: skip
_STD = np.array([
    4.887145774840316, 5.730270320384293, 917.7041440370853, 913.2988423581528,
    1092.678723527555, 1047.2206083460424, 1048.0101611156767, 1143.6903026819996,
    1098.979177731649, 1204.472755085893, 1145.9774063078878, 980.2429840007796,
])  # fmt: skip


def missing(sensors: dict[str, tuple[str, ...]]) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does."""
    return [line.replace("'fast'", "'galileo'") for line in fast.missing(sensors)]


def inputs(values: np.ndarray, month: np.ndarray) -> dict[str, np.ndarray]:
    """Network inputs of monthly means of single pixels.

    Args:
        values: (n, T, 13) in the order and units of `fast.adapter.BANDS`, NaN where missing.
        month: (n, T) int, January = 0.
    """
    n, steps, bands = values.shape
    scaled = values.astype(np.float64)
    scaled[:, :, 2 : bands - 1] *= 10000
    scaled[:, :, : bands - 1] = (scaled[:, :, : bands - 1] - (_MEAN - 2 * _STD)) / (4 * _STD)
    masked = np.isnan(values[:, :, [slots[0] for slots in fast.SLOTS]])
    return {
        "s_t": np.nan_to_num(scaled).astype(np.float32)[:, None, None],
        "sp": np.zeros((n, 1, 1, 16), np.float32),
        "t": np.zeros((n, steps, 6), np.float32),
        "st": np.zeros((n, 18), np.float32),
        "s_t_mask": masked.astype(np.float32)[:, None, None],
        "sp_mask": np.ones((n, 1, 1, 3), np.float32),
        "t_mask": np.ones((n, steps, 3), np.float32),
        "st_mask": np.ones((n, 4), np.float32),
        "months": month.astype(np.int64),
    }


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """The pixels of a window that have any observation, at most `size` in a batch."""
    for pixels, values in fast.month_means(cube, size):
        yield Batch(pixels, inputs(values, np.tile(np.arange(12), (len(pixels), 1))))
