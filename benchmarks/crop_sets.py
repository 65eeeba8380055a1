"""The labelled crop sets as rows of pixels, for `tools/train_crops.py` and `benchmarks/crops.py`.

Pixels of a set are laid into one row, so that the adapters read them as they read a raster.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from rasterio.warp import transform
from scipy import ndimage

from earthprint.engine.context import JobContext
from earthprint.engine.encoding.encoder import Encoder
from earthprint.engine.stacks.reading import StackReader
from earthprint.engine.stacks.season import one_season
from earthprint.engine.stacks.stack import Stack, build_stack
from earthprint.models.cube import Cube, Series

CANADA = ("winter wheat", "spring wheat", "maize", "soybean", "grassland", "potatoes",
          "barley and oats")
_CANADA_CODES = ((1110,), (1120,), (1200,), (4100,), (9120,), (5100,), (1500, 1510, 1520, 1700))
FLANDERS = ("maize", "grassland", "other land")
PATCHES = ("belgium-2018-polders", "belgium-2019-north")
_POINT_BANDS = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "swir16",
                "swir22")
_EMPTY = 65535


@dataclass(frozen=True)
class Pixels:
    """Labelled pixels.

    Attributes:
        cube: 1 x n pixels.
        classes: (n,) index into the set's legend.
        blocks: (n,) number of the block of ground that is held back whole.
        parcels: (n,) number of the field; its own where fields are unknown.
        places: (n, 2) longitude and latitude.
        season: first and last ISO day.
    """

    cube: Cube
    classes: np.ndarray
    blocks: np.ndarray
    parcels: np.ndarray
    places: np.ndarray
    season: tuple[str, str]

    def __len__(self) -> int:
        return len(self.classes)

    def keep(self, chosen: np.ndarray) -> Pixels:
        """The pixels of a boolean mask."""
        series = {name: replace(s, values=s.values[..., chosen], valid=s.valid[..., chosen])
                  for name, s in self.cube.series.items()}
        return Pixels(Cube((1, int(chosen.sum())), series), self.classes[chosen],
                      self.blocks[chosen], self.parcels[chosen], self.places[chosen], self.season)

    def part(self, first: str = "", last: str = "", sensors: tuple[str, ...] = (),
             without: tuple[str, ...] = ()) -> Cube:
        """Their cube from first to last ISO day, of some sensors, without some bands."""
        series = {}
        for name, s in self.cube.series.items():
            days = (s.dates >= np.datetime64(first or "1900-01-01")) & (
                s.dates <= np.datetime64(last or "2100-01-01"))
            bands = [i for i, band in enumerate(s.bands) if band not in without]
            if days.any() and (not sensors or name in sensors):
                series[name] = Series(
                    name, tuple(s.bands[i] for i in bands), s.dates[days],
                    s.values[days][:, bands], s.valid[days],
                    tuple(o for o, there in zip(s.orbits, days, strict=True) if there))
        return replace(self.cube, series=series)


def embedded(cube: Cube, encoder: Encoder) -> np.ndarray:
    """(n, d) embeddings of a row of pixels, NaN where there is none."""
    found = np.full((cube.shape[1], encoder.card.dimensions), np.nan, np.float32)
    if cube.series:
        for batch in encoder.adapter.batches(cube, 2048, encoder.card):
            found[batch.pixels] = encoder.run(batch.inputs)
    return found


def data() -> Path:
    """The folder of labelled sets."""
    return Path(os.environ.get("EARTHPRINT_SHARED", "../shared")) / "data"


def canada() -> dict[str, Pixels]:
    """Eastern Canada 2017, monthly: the set's own split by longitude, blocks of half a degree."""
    held = np.load(data() / "crop-worldcereal-points" / "canada2017.npz")
    code = held["croptype_code"]
    classes = np.select([np.isin(code, codes) for codes in _CANADA_CODES],
                        range(len(CANADA)), -1)
    places = np.column_stack([held["lon"], held["lat"]])
    blocks = np.unique(np.floor(places * 2), axis=0, return_inverse=True)[1].reshape(-1)
    cube = _monthly(held["X"][:, :12], held["months"][:12])
    whole = Pixels(cube, classes, blocks, np.arange(len(code)), places,
                   ("2017-01-01", "2017-12-31"))
    return {name: whole.keep((held["split"] == name) & (classes >= 0))
            for name in ("train", "val", "val_newbrunswick")}


def flanders_points() -> Pixels:
    """Points of the farmers' declarations in Flanders 2021, monthly, each a block of its own."""
    held = np.load(data() / "crop-worldcereal-points" / "flanders2021.npz")
    code = held["ewoc_code"]
    other = [c[0] in "457" or (c.startswith("110") and c[4:] != "000000") for c in code]
    classes = np.select([code == "1101060000", code == "2001020000", other], range(len(FLANDERS)),
                        -1)
    inside = [i for i, m in enumerate(held["months"]) if "2020-12" <= m <= "2021-11"]
    n = np.arange(len(code))
    places = np.column_stack([held["lon"], held["lat"]])
    cube = _monthly(held["X"][:, inside], held["months"][inside])
    return Pixels(cube, classes, n, n, places, ("2020-12-01", "2021-11-30")).keep(classes >= 0)


def patch(name: str, block_m: float = 160) -> Pixels:
    """A Belgian patch of 640 m, December to November, with its blocks and parcels."""
    folder = data() / "crop-worldcereal-patches" / name
    year = int(name.split("-")[1])
    season = f"{year - 1}-12-01", f"{year}-11-30"
    stack = one_season(build_stack([folder]), *season, JobContext())
    with rasterio.open(folder / "labels_LC_CT_10m.tif") as file:
        cover, crop = file.read().astype(int)
        into = ~file.transform
    x, y, flat = _whole(stack, season)
    c, r = (np.clip(np.floor(v).astype(int), 0, 63) for v in into @ (x, y))
    field = np.zeros_like(cover)
    for value in np.unique(crop * 1000 + cover):
        parts, _ = ndimage.label(crop * 1000 + cover == value)
        field = np.where(parts > 0, parts + field.max(), field)
    classes = np.select([cover == 0, crop == 1200, crop == 9120], [-1, 0, 1], 2)
    blocks = np.unique(np.stack([x // block_m, y // block_m], 1), axis=0,
                       return_inverse=True)[1].reshape(-1)
    flat = replace(flat, classes=classes[r, c], blocks=blocks, parcels=field[r, c])
    return flat.keep(flat.classes >= 0)


def slovenia() -> Pixels:
    """The Slovenian patch, five dates of Sentinel-2 in 2015, without regard to its classes."""
    folder = data() / "landcover-slovenia-s2-patch"
    stack = build_stack(sorted(folder.glob("S2_L1C_*.tif")))
    return _whole(stack, tuple(stack.season()))[2]


def _whole(stack: Stack, season: tuple[str, str]) -> tuple[np.ndarray, np.ndarray, Pixels]:
    """East and north of all pixels of a stack, and the pixels: class 0, no blocks or parcels."""
    with StackReader(stack) as reader:
        cube = reader.read(stack.grid.full)
    rows, cols = (v.ravel() for v in np.indices(cube.shape))
    x, y = stack.grid.affine @ (cols + 0.5, rows + 0.5)
    lon, lat = transform(stack.grid.crs, "EPSG:4326", x, y)
    series = {k: replace(s, values=s.values.reshape(*s.values.shape[:2], 1, -1),
                         valid=s.valid.reshape(len(s.valid), 1, -1))
              for k, s in cube.series.items()}
    none, one = np.zeros(len(x), np.int64), Cube((1, len(x)), series)
    return x, y, Pixels(one, none, none, none, np.column_stack([lon, lat]), season)


def _monthly(stored: np.ndarray, months: np.ndarray) -> Cube:
    """(n, months, 13) as stored (S1 digital numbers, S2 x 10000) as a cube on the 15th."""
    values = np.where(stored == _EMPTY, np.nan, stored).astype(np.float32)
    dates = np.array([f"{m}-15" for m in months], "datetime64[D]")
    radar = 20 * np.log10(np.maximum(values[..., :2], 1)) - 83
    series = {}
    for name, bands, part in (("sentinel-1", ("vv", "vh"), radar),
                              ("sentinel-2", _POINT_BANDS, values[..., 2:11] / 1e4)):
        part = part.transpose(1, 2, 0)[:, :, None]
        series[name] = Series(name, bands, dates, np.nan_to_num(part),
                              np.isfinite(part).all(1), ("",) * len(dates))
    return Cube((1, len(values)), series)
