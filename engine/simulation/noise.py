"""Random surfaces: fractal noise with a given spectrum, and blurred white noise."""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter


def fractal(shape: tuple[int, int], slope: float, rng: np.random.Generator) -> np.ndarray:
    """Periodic noise with radial power f^-slope, mean 0 and sd 1, float32 (rows, cols)."""
    fy = fft.fftfreq(shape[0])[:, None]
    fx = fft.rfftfreq(shape[1])[None, :]
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    white = fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    return standardised(fft.irfft2(white * radius ** (-slope / 2), s=shape).astype(np.float32))


def blurred(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """White noise behind a Gaussian of `sigma` pixels, mean 0 and sd 1, float32."""
    return standardised(gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma,
                                        mode="wrap"))


def standardised(values: np.ndarray) -> np.ndarray:
    """The same values shifted and scaled to mean 0 and sd 1."""
    return (values - values.mean()) / values.std()
