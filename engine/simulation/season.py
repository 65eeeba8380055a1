"""One season: a landscape, its fields, its weather, its dates, and the scenes seen on them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from scipy.ndimage import gaussian_filter

from .atmosphere import Sky, classify_scene, draw_cover, draw_sky, halved, through
from .fields import Fields, draw_fields
from .landscape import Landscape, draw_landscape
from .optics import surface
from .phenology import canopy_on
from .radar import POLARISATIONS, clean_backscatter, observe
from .recipe import Classes, classes_of, stream
from .weather import Weather, draw_weather


@dataclass(frozen=True)
class Acquisition:
    """One pass of a satellite.

    Attributes:
        sensor: "sentinel-2" or "sentinel-1".
        day: day of year.
        cover: drawn share of the sky under cloud; 0 for radar.
        name: file name without ending, in the manner of the Copernicus products.
    """

    sensor: str
    day: int
    cover: float
    name: str


@dataclass(frozen=True)
class OpticalScene:
    """A Sentinel-2 date.

    Attributes:
        digital: (bands, rows, cols) uint16 in the order of the recipe, SCL last.
        sky: the true sky.
    """

    digital: np.ndarray
    sky: Sky


@dataclass(frozen=True)
class Season:
    """Everything but the scenes, which are computed when asked for, one at a time.

    Attributes:
        recipe: the numbers.
        classes: the class table.
        seed: of all random draws.
        land: the landscape.
        fields: what was drawn for each unit.
        weather: the year's rain and wind.
        sky_dates: every Sentinel-2 pass of the year, kept or not.
        optical: Sentinel-2 passes to write.
        radar: Sentinel-1 passes to write.
    """

    recipe: SimpleNamespace
    classes: Classes
    seed: int
    land: Landscape
    fields: Fields
    weather: Weather
    sky_dates: tuple[Acquisition, ...]
    optical: tuple[Acquisition, ...]
    radar: tuple[Acquisition, ...]

    @property
    def truth(self) -> np.ndarray:
        """Class of every pixel as a value of the truth legend (1 = first), (rows, cols) uint8."""
        return self.classes.truth[self.fields.kind][self.land.unit]

    def see(self, acquisition: Acquisition) -> OpticalScene:
        """The Sentinel-2 scene of a date."""
        r, day = self.recipe, acquisition.day
        rng = stream(self.seed, "optical", day)
        sky = draw_sky(r, self.land.unit.shape, day, acquisition.cover, rng)
        half = sky.halved
        canopy = canopy_on(day, r, self.classes, self.fields)
        gain = 1 + r.sentinel2.gain_sd * rng.standard_normal()
        wetness = float(self.weather.wetness[day - 1])
        rain = float(self.weather.rain_index[day - 1])
        seen = {}
        for b, (band, clean) in enumerate(surface(
                r, self.classes, self.land, self.fields, canopy, wetness, rain)):
            coarse = band in r.optics.coarse_bands
            # A blur of one coarse cell's share after the mean equals twice the blur before it.
            clean = halved(clean) if coarse else clean
            image = gaussian_filter(clean, r.sentinel2.psf_px, truncate=3, mode="nearest")
            image = through(half if coarse else sky, b, image, r.clouds)
            seen[band] = _camera(image, b, gain, r.sentinel2, rng)
        scl = classify_scene(half, *(halved(seen[b]) for b in ("B02", "B03", "B04", "B08")),
                             r.clouds, rng)
        return OpticalScene(_digital(seen, scl, r.sentinel2), sky)

    def sound(self, acquisition: Acquisition) -> np.ndarray:
        """The Sentinel-1 scene of a date: sigma0 in dB of VV and VH, (2, rows, cols) float32."""
        r, day = self.recipe, acquisition.day
        rng = stream(self.seed, "radar", day)
        canopy = canopy_on(day, r, self.classes, self.fields)
        return np.stack([observe(
            clean_backscatter(polarisation, r, self.classes, self.land, self.fields, canopy,
                              self.weather.moisture[day - 1], self.weather.wind[day - 1]),
            r.radar, rng) for polarisation in POLARISATIONS])


def draw_season(recipe: SimpleNamespace, size: int, seed: int) -> Season:
    """Draw a season of size x size pixels (size even); the same seed gives the same season."""
    classes = classes_of(recipe)
    land = draw_landscape(recipe, size, stream(seed, "landscape"))
    fields = draw_fields(recipe, classes, land, stream(seed, "fields"))
    weather = draw_weather(recipe, stream(seed, "weather"))
    passes = _optical_passes(recipe, stream(seed, "calendar"))
    usable = [a for a in passes if a.cover <= recipe.sentinel2.most_cloud]
    keep = np.linspace(0, len(usable) - 1, min(recipe.sentinel2.scenes, len(usable)))
    optical = tuple(usable[i] for i in np.unique(keep.round().astype(int)))
    return Season(recipe, classes, seed, land, fields, weather, passes, optical,
                  _radar_passes(recipe))


def date_of(recipe: SimpleNamespace, day: int) -> datetime.date:
    """The date of a day of year."""
    return datetime.date(recipe.year, 1, 1) + datetime.timedelta(days=day - 1)


def _optical_passes(recipe: SimpleNamespace, rng: np.random.Generator) -> tuple[Acquisition, ...]:
    """All Sentinel-2 passes of the year with the cloud drawn for them."""
    s2, passes = recipe.sentinel2, []
    for number, day in enumerate(range(s2.first_doy, 366, s2.revisit_d)):
        date = date_of(recipe, day)
        name = (f"{s2.platforms[number % len(s2.platforms)]}_MSIL2A_{date:%Y%m%d}{s2.time}_"
                f"{s2.baseline}_{s2.orbit}_{recipe.place.tile}")
        passes.append(Acquisition("sentinel-2", day, draw_cover(recipe.clouds, date.month, rng),
                                  name))
    return tuple(passes)


def _radar_passes(recipe: SimpleNamespace) -> tuple[Acquisition, ...]:
    """The Sentinel-1 passes of the season."""
    s1 = recipe.sentinel1
    days = (s1.first_doy + s1.revisit_d * i for i in range(s1.scenes))
    return tuple(
        Acquisition("sentinel-1", day, 0.0,
                    f"{s1.platform}_IW_GRDH_1SDV_{date_of(recipe, day):%Y%m%d}{s1.time}_"
                    f"{s1.orbit}_{recipe.place.tile}")
        for day in days if day <= 366)


def _camera(image: np.ndarray, band: int, gain: float, s2: SimpleNamespace,
            rng: np.random.Generator) -> np.ndarray:
    """Gain, offset and noise of a date on a band of reflectance."""
    own = gain * (1 + s2.band_gain_sd * rng.standard_normal())
    offset = s2.offset_sd[band] * rng.standard_normal()
    noise = s2.noise + s2.noise_of_reflectance * image
    return own * image + offset + noise * rng.standard_normal(image.shape, dtype=np.float32)


def _digital(seen: dict[str, np.ndarray], scl: np.ndarray, s2: SimpleNamespace) -> np.ndarray:
    """Digital numbers of all bands on the fine cells, SCL last, (bands, rows, cols) uint16."""
    rows, cols = seen["B02"].shape
    digital = np.empty((len(seen) + 1, rows, cols), np.uint16)
    for b, image in enumerate(seen.values()):
        number = np.rint(np.clip(image * s2.digital_scale + s2.digital_offset, 1, 65535))
        repeat = rows // len(number)
        digital[b] = number.astype(np.uint16).repeat(repeat, axis=0).repeat(repeat, axis=1)
    digital[-1] = scl.repeat(2, axis=0).repeat(2, axis=1)
    return digital
