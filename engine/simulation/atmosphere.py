"""Clouds, their shadows, cirrus and haze over a date, and the mask that a processor makes of them.

Opacity is a share: 0 clear sky, 1 nothing of the ground is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from scipy.ndimage import gaussian_filter

from .noise import fractal

SHADOW, VEGETATION, BARE, WATER, UNSURE, CLOUD, DENSE_CLOUD, CIRRUS = 3, 4, 5, 6, 7, 8, 9, 10


@dataclass(frozen=True)
class Sky:
    """What lies between the ground and the camera; rasters are (rows, cols) float32.

    Attributes:
        cover: drawn share of the sky under cloud, 0..1.
        cloud: opacity of clouds.
        shadow: opacity of the clouds that shade the place.
        cirrus: reflectance that thin high cloud adds, the same in all bands.
        haze: reflectance in the blue that the correction of the air left, or took too much; the
            canopy was fitted to corrected images, which hold the usual rest already.
        brightness: factor on the reflectance of clouds.
    """

    cover: float
    cloud: np.ndarray
    shadow: np.ndarray
    cirrus: np.ndarray
    haze: float
    brightness: float

    @property
    def halved(self) -> Sky:
        """The same sky on cells of 2 x 2 pixels."""
        return Sky(self.cover, halved(self.cloud), halved(self.shadow), halved(self.cirrus),
                   self.haze, self.brightness)


def halved(values: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, (rows / 2, cols / 2)."""
    rows, cols = values.shape
    return values.reshape(rows // 2, 2, cols // 2, 2).mean(axis=(1, 3))


def draw_cover(clouds: SimpleNamespace, month: int, rng: np.random.Generator) -> float:
    """Share of the sky under cloud on a date of a month 1..12: clear, covered or in between."""
    partial = clouds.partial_share
    clear = max(clouds.clear_share_by_month[month - 1] - partial / 2, 0)
    draw, beta = rng.random(), rng.beta(clouds.partial_beta, clouds.partial_beta)
    if draw < clear:
        return 0.0
    return beta if draw < clear + partial else 1.0


def sun_zenith(day: int, latitude_deg: float, hour_before_noon: float) -> float:
    """Angle of the sun from the zenith (radians)."""
    latitude = np.radians(latitude_deg)
    declination = np.radians(-23.44) * np.cos(2 * np.pi * (day + 10) / 365.25)
    hour = np.radians(15 * hour_before_noon)
    return float(np.arccos(np.sin(latitude) * np.sin(declination)
                           + np.cos(latitude) * np.cos(declination) * np.cos(hour)))


def draw_sky(recipe: SimpleNamespace, shape: tuple[int, int], day: int, cover: float,
             rng: np.random.Generator) -> Sky:
    """Draw the sky of a date for a given share of cloud."""
    c, s2 = recipe.clouds, recipe.sentinel2
    nothing = np.zeros(shape, np.float32)
    cloud = shadow = cirrus = nothing
    if cover > 0:
        field = fractal(shape, c.fractal_slope, rng)
        edge = np.quantile(field, 1 - cover) if cover < 1 else field.min() - c.opaque_after_sd
        ramp = np.clip((field - edge) / c.opaque_after_sd, 0, 1)
        cloud = ramp * rng.uniform(*c.opacity_by_date) * np.clip(
            c.opacity[1] + c.opacity_texture_sd * fractal(shape, 2.0, rng), *c.opacity)
        reach = (rng.uniform(*c.height_m) / recipe.place.pixel_m
                 * np.tan(sun_zenith(day, recipe.place.latitude_deg, s2.hour_before_noon)))
        azimuth = np.radians(s2.sun_azimuth_deg)
        # Away from the sun: rows grow to the south, columns to the east.
        shift = round(reach * np.cos(azimuth)), round(-reach * np.sin(azimuth))
        shadow = np.roll(cloud, shift, axis=(0, 1)) * (1 - cloud)
    if rng.random() < c.cirrus_share:
        veil = np.clip(fractal(shape, 4.0, rng) + 0.3, 0, 2) / 2
        cirrus = veil * np.float32(rng.uniform(*c.cirrus_reflectance))
    haze = rng.uniform(*c.haze_left_blue)
    brightness = max(1 + c.brightness_sd * rng.standard_normal(), 0.5)
    return Sky(cover, cloud.astype(np.float32), shadow.astype(np.float32), cirrus, haze,
               brightness)


def through(sky: Sky, band: int, reflectance: np.ndarray, clouds: SimpleNamespace) -> np.ndarray:
    """Reflectance of a band as seen through the sky."""
    light = 1 - sky.shadow * (1 - clouds.shadow_light[band])
    bright = clouds.spectrum[band] * sky.brightness
    seen = reflectance * light * (1 - sky.cloud) + bright * sky.cloud
    return seen + sky.cirrus + sky.haze * clouds.haze_by_band[band]


def classify_scene(sky: Sky, blue: np.ndarray, green: np.ndarray, red: np.ndarray,
                   nir: np.ndarray, clouds: SimpleNamespace,
                   rng: np.random.Generator) -> np.ndarray:
    """A scene classification (codes of Sen2Cor's SCL, uint8) with its usual errors.

    All rasters are on the same cells; the reflectances are those of the image.
    """
    shape = blue.shape
    ndvi = (nir - red) / np.maximum(nir + red, 1e-3)
    scl = np.where(ndvi > 0.3, VEGETATION, BARE).astype(np.uint8)
    scl[(green > nir) & (nir < 0.12)] = WATER
    scl[blue > clouds.false_cloud_blue] = CLOUD
    blur = clouds.mask_blur_px / 2
    offset = clouds.mask_offset_sd * fractal(shape, 2.0, rng)
    dark = gaussian_filter(sky.shadow, blur) + offset
    unseen = fractal(shape, 3.0, rng)
    missed = unseen < np.quantile(unseen, clouds.shadow_missed_share)
    scl[(sky.shadow > 0.1) & (dark > clouds.mask_thresholds[0]) & ~missed] = SHADOW
    scl[sky.cirrus + 0.02 * offset > clouds.cirrus_seen_reflectance] = CIRRUS
    opacity = gaussian_filter(sky.cloud, blur)
    opacity = np.where(opacity > 0.01, opacity + offset, 0)
    for code, limit in zip((UNSURE, CLOUD, DENSE_CLOUD), clouds.mask_thresholds, strict=True):
        scl[opacity > limit] = code
    return scl
