"""How values are scaled for Presto, and WorldCereal's conventions around it. NumPy only."""

from __future__ import annotations

import numpy as np

BANDS = ("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12",
         "temperature_2m", "total_precipitation", "elevation", "slope", "NDVI")  # fmt: skip
NO_DATA = 65535

# Added, then divided by: dB, reflectance x 10000, K (272.15 is the original's own), m a month, m,
# degrees. NDVI stays as it is.
ADD = np.array([25, 25, *[0] * 10, -272.15, 0, 0, 0, 0], np.float64)
DIVIDE = np.array([25, 25, *[10000] * 10, 35, 0.03, 2000, 50, 1], np.float64)
RED, NIR, NDVI = BANDS.index("B4"), BANDS.index("B8"), BANDS.index("NDVI")


def normalise(values: np.ndarray) -> np.ndarray:
    """Physical values (..., 17) to the network's, not clipped; NaN stays."""
    return ((np.asarray(values, np.float64) + ADD) / DIVIDE).astype(np.float32)


def vegetation_index(red: np.ndarray, nir: np.ndarray) -> np.ndarray:
    """NDVI of reflectances of any scale and shape; 0 where their sum is not positive."""
    total = nir + red
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total <= 0, 0.0 * total, (nir - red) / total)  # NaN stays


def of_worldcereal(values: np.ndarray, no_data: float = NO_DATA) -> tuple[np.ndarray, np.ndarray]:
    """WorldCereal's physical values without NDVI (B, T, 16) to x and mask (B, T, 17).

    As there, no-data is scaled like a value and only the mask hides it; the index is masked
    wherever red or near infrared is.
    """
    missing = values == no_data
    index = vegetation_index(
        values[..., RED].astype(np.float64), values[..., NIR].astype(np.float64)
    )
    x = normalise(np.concatenate([values, index[..., None]], axis=-1))
    no_index = missing[..., RED] | missing[..., NIR]
    return x, np.concatenate([missing, no_index[..., None]], axis=-1)


def quantise(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, D) as WorldCereal's rasters hold them: features = (codes - 128) * scale.

    Returns:
        codes (n, D) uint8 and scales (n,) float32.
    """
    level = np.percentile(np.abs(features), 99, axis=-1) / 127
    scale = np.maximum(level, 1e-6).astype(np.float32)
    codes = np.clip(np.rint(features / scale[..., None]), -128, 127) + 128
    return codes.astype(np.uint8), scale
