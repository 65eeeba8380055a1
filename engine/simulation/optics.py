"""Reflectance of the surface on a day, before the air and the camera.

Canopy over ground: rho = V + (S - V) exp(-k LAI) a band, with V the reflectance of a closed
canopy, S of the ground and k an extinction fitted to clear Sentinel-2 dates (see the recipe).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from .fields import Fields
from .landscape import BUILT, ROAD, Landscape
from .phenology import Canopy
from .recipe import Classes

VISIBLE = ("B02", "B03", "B04", "B05")
NEAR_INFRARED = ("B06", "B07", "B08", "B8A")


def surface(recipe: SimpleNamespace, classes: Classes, land: Landscape, fields: Fields,
            canopy: Canopy, wetness: float, rain_index: float,
            ) -> Iterator[tuple[str, np.ndarray]]:
    """The bands one by one: name and reflectance, (rows, cols) float32.

    Args:
        wetness: of the soil, 0 dry to 1 soaked.
        rain_index: mm of recent rain, which muddies the river.
    """
    o = recipe.optics
    closed, ground = _unit_spectra(o, classes, fields, canopy, rain_index)
    lai = canopy.lai.astype(np.float32)[land.unit]
    lai *= np.exp(recipe.variability.lai_texture * land.growth)
    soil = land.soil * (1 - o.wet_soil_darkening * wetness)
    built = np.isin(land.cover, (BUILT, ROAD))[land.unit]
    roofs = np.where(built, np.exp(o.built_sd * land.roofs - o.built_sd**2 / 2), 1)
    roofs = roofs.astype(np.float32)
    for b, name in enumerate(o.bands):
        under = ground[:, b][land.unit] * soil
        over = closed[:, b][land.unit]
        under -= over
        under *= np.exp(-o.extinction[b] * lai)
        under += over
        yield name, np.maximum(under * roofs, 0.001).astype(np.float32)


def _unit_spectra(o: SimpleNamespace, classes: Classes, fields: Fields, canopy: Canopy,
                  rain_index: float) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance of a closed canopy and of the ground for every unit, (n, bands) float32 each."""
    green, soil, straw = (np.array(x) for x in (o.green, o.soil, o.straw))
    is_nir = np.isin(o.bands, NEAR_INFRARED)
    group = np.where(np.isin(o.bands, VISIBLE), 0, np.where(is_nir, 1, 2))
    closed = green * np.where(is_nir, classes.column("nir")[fields.kind][:, None], 1)
    closed = _mix(closed, straw, canopy.brown)
    closed = _mix(closed, np.array(o.rape_flower), canopy.flower)
    mud = min(rain_index / o.turbid_rain_mm, 1)
    fixed = {
        "conifer": o.conifer, "built": o.built,
        "water": (1 - mud) * np.array(o.water) + mud * np.array(o.turbid_water),
    }
    for k, row in enumerate(classes.rows):
        if row.spectrum:
            closed[fields.kind == k] = fixed[row.spectrum]
    closed *= np.clip(fields.leaf[:, group], 0.5, 1.6)
    ground = _mix(np.broadcast_to(soil, closed.shape), straw, canopy.straw)
    ground = ground * (fields.soil * classes.column("ground")[fields.kind])[:, None]
    return closed.astype(np.float32), ground.astype(np.float32)


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """First and second spectra mixed by a share (n,) of the second."""
    return first * (1 - share[:, None]) + second * share[:, None]
