"""Backscatter of a day (sigma0) and the radar that sees it.

Bare soil: Baghdadi et al. 2016. Canopy: sigma = D (1 - exp(-c LAI)) + exp(-c LAI) soil, with a
level D a class that moves from green to ripe. Speckle: correlated multi-look intensities.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from scipy.ndimage import gaussian_filter

from .fields import Fields
from .landscape import BUILT, WATER, Landscape
from .phenology import Canopy
from .recipe import Classes

POLARISATIONS = ("VV", "VH")


def soil_backscatter(radar: SimpleNamespace, polarisation: str, incidence_deg: float,
                     moisture: float, roughness: np.ndarray) -> np.ndarray:
    """sigma0 (linear) of bare soil; moisture in vol. %, rms roughness in cm."""
    model = getattr(radar, f"soil_{polarisation.lower()}")
    theta = np.radians(incidence_deg)
    return (10**model.level * np.cos(theta) ** model.cos_power
            * 10 ** (model.moisture * moisture / np.tan(theta))
            * (radar.wavenumber_per_cm * roughness) ** (model.roughness * np.sin(theta)))


def clean_backscatter(polarisation: str, recipe: SimpleNamespace, classes: Classes,
                      land: Landscape, fields: Fields, canopy: Canopy, moisture: float,
                      wind: float) -> np.ndarray:
    """sigma0 (linear) without speckle, (rows, cols) float32.

    Args:
        moisture: of the soil, vol. %.
        wind: m/s, roughens the water.
    """
    radar, kind, key = recipe.radar, fields.kind, polarisation.lower()
    levels = 10 ** (classes.column(f"{key}_db")[kind] / 10)
    level = levels[:, 0] * (1 - canopy.brown) + levels[:, 1] * canopy.brown
    level[land.cover == WATER] = 10 ** (_water_db(radar, polarisation, wind) / 10)
    soil = soil_backscatter(radar, polarisation, recipe.sentinel1.incidence_deg, moisture,
                            canopy.roughness)
    offset = np.where(land.cover == WATER, 1, fields.backscatter[:, POLARISATIONS.index(
        polarisation)])
    lai = canopy.lai.astype(np.float32)[land.unit]
    lai *= np.exp(recipe.variability.lai_texture * land.growth)
    through = np.exp(-classes.column(f"{key}_extinction")[kind].astype(np.float32)[land.unit]
                     * lai)
    clean = ((level * offset).astype(np.float32)[land.unit] * (1 - through)
             + (soil * offset).astype(np.float32)[land.unit] * through)
    built = (land.cover == BUILT)[land.unit]
    spread = radar.built_sd_db * np.log(10) / 10
    clean[built] *= np.exp(spread * land.roofs[built] - spread**2 / 2)
    return clean


def observe(clean: np.ndarray, radar: SimpleNamespace, rng: np.random.Generator) -> np.ndarray:
    """The image of a clean sigma0: blur, speckle, gain and noise floor; dB, float32."""
    image = gaussian_filter(clean, radar.psf_px, truncate=3, mode="nearest")
    image *= speckle(clean.shape, radar, rng)
    image += 10 ** (radar.noise_floor_db / 10)
    gain = radar.calibration_sd_db * rng.standard_normal()
    return (10 * np.log10(np.maximum(image, 1e-5)) + gain).astype(np.float32)


def speckle(shape: tuple[int, int], radar: SimpleNamespace,
            rng: np.random.Generator) -> np.ndarray:
    """Speckle of intensity, mean 1, float32: a weighted mean of correlated single looks."""
    total = np.zeros(shape, np.float32)
    # A blurred white field keeps this share of its variance.
    kept = 1 / (4 * np.pi * radar.speckle_blur_px**2)
    for weight in radar.look_weights:
        for _ in range(2):  # real and imaginary part
            part = gaussian_filter(rng.standard_normal(shape, dtype=np.float32),
                                   radar.speckle_blur_px, truncate=3, mode="wrap")
            total += np.float32(weight) * part * part
    return total / np.float32(2 * kept * sum(radar.look_weights))


def _water_db(radar: SimpleNamespace, polarisation: str, wind: float) -> float:
    """sigma0 (dB) of open water under a wind (m/s)."""
    if polarisation == "VH":
        return radar.water_vh_db
    return radar.water_calm_vv_db + radar.water_wind_vv_db * min(wind, 8) / 3.2
