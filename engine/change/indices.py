"""Indices of reflectance in which vegetation and its loss show, and which one a sensor allows."""

from __future__ import annotations

import numpy as np

from ...models.cube import Series

RADAR = ("vh", "vv", "hv", "hh")
NIR = ("nir", "nir08")

TITLES = {"nbr": "NBR", "ndmi": "NDMI", "ndvi": "NDVI", "evi": "EVI", "vh": "VH (dB)",
          "vv": "VV (dB)", "hv": "HV (dB)", "hh": "HH (dB)"}
"""Index to its name for people."""

_MOISTURE = {"nbr": "swir22", "ndmi": "swir16"}


def normalised(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(first - second) / (first + second); NaN where the sum is not above 0."""
    total = first + second
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, (first - second) / total, np.nan).astype(np.float32)


def evi2(nir: np.ndarray, red: np.ndarray) -> np.ndarray:
    """2.5 (N - R) / (N + 2.4 R + 1), Jiang et al. 2008, equation 14; of reflectance 0..1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (2.5 * (nir - red) / (nir + 2.4 * red + 1)).astype(np.float32)


def offered(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Indices that some bands allow, the one that shows a loss of cover best first.

    NBR and NDMI fall most where a canopy goes; NDVI does without short-wave infrared, and radar's
    VH without the sun.
    """
    nir = any(b in bands for b in NIR)
    found = [i for i, band in _MOISTURE.items() if nir and band in bands]
    found += ["ndvi"] * (nir and "red" in bands)
    found += [i for i in ("ndvi", "evi") if i in bands and i not in found]
    return (*found, *(b for b in RADAR if b in bands))


def needed(index: str, bands: tuple[str, ...]) -> tuple[str, ...]:
    """The bands of an index among those that there are."""
    if index in bands:
        return (index,)
    nir = next(b for b in NIR if b in bands)
    return (nir, _MOISTURE[index]) if index in _MOISTURE else (nir, "red")


def index_of(series: Series, index: str) -> np.ndarray:
    """(T, rows, cols) float32 of an index; NaN where not seen."""
    first, *rest = (series.values[:, series.bands.index(b)] for b in needed(index, series.bands))
    values = normalised(first, rest[0]) if rest else first
    return np.where(series.valid, values, np.nan).astype(np.float32)
