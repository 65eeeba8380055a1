"""Rain, soil moisture and wind of the year, the same for the whole landscape."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np


@dataclass(frozen=True)
class Weather:
    """Daily values; index d - 1 belongs to day of year d.

    Attributes:
        rain_index: (366,) mm, past rain that fades by a fixed share a day.
        moisture: (366,) volumetric soil moisture (%).
        wetness: (366,) the same from 0, dry, to 1.
        wind: (366,) m/s at the time of the radar's pass.
    """

    rain_index: np.ndarray
    moisture: np.ndarray
    wetness: np.ndarray
    wind: np.ndarray


def draw_weather(recipe: SimpleNamespace, rng: np.random.Generator) -> Weather:
    """Draw 366 days, with thirty days of rain before them."""
    w = recipe.weather
    days = 396
    rain = rng.gamma(w.rain_shape, w.rain_scale_mm, days) * (rng.random(days) < w.wet_day_share)
    index = np.zeros(days)
    for day in range(1, days):
        index[day] = w.rain_memory * index[day - 1] + rain[day]
    index = index[30:]
    doy = np.arange(1, 367)
    winter = (doy < w.winter_end_doy) | (doy > w.winter_start_doy)
    moisture = (w.moisture_dry_vol_pct + winter * w.moisture_winter_vol_pct
                + w.moisture_range_vol_pct * (1 - np.exp(-index / w.moisture_rain_mm)))
    moisture = np.minimum(moisture, w.moisture_most_vol_pct)
    wetness = np.clip((moisture - w.moisture_dry_vol_pct) / w.moisture_range_vol_pct, 0, 1)
    wind = w.wind_scale_m_s * rng.weibull(w.wind_shape, 366)
    return Weather(index, moisture, wetness, wind)
