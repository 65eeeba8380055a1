"""Where and when a head has learned, and what a map's place and season have to do with it.

The gate of `applicability.py` looks at features alone. A head can be wrong although features look
familiar: a crop of another climate, or half a season. This module compares the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import rasterio
from rasterio.warp import transform
from rasterio.windows import Window as RasterWindow

from ..context import JobContext
from ..rasters.grid import Grid, Window
from ..rasters.legend import NODATA, Legend, LegendClass
from ..rasters.raster import RasterWriter
from .mapping import UNLIKE

NEAR_KM = 250.0
"""A convention: farmers within this distance of a labelled place sow much the same."""

SEASON_DAYS = 30
"""A season may lack, or have more of, this many days of the year."""

KEY = "origin"
"""Under this key of a card's source the origin is kept."""

ELSEWHERE = LegendClass(2, "Outside the place or season of the training data", "#bdbdbd")

_CELL = 10  # labelled places are kept to a tenth of a degree
_STEP = 32  # pixels between two exact distances
_EARTH_KM = 6371.0
_BLUR_KM = 15.0  # places are rounded, so smaller distances mean nothing


@dataclass(frozen=True)
class Origin:
    """Where and when training data were gathered.

    Attributes:
        places: (longitude, latitude) in degrees, rounded to tenths, of labelled ground; empty
            where the input has no coordinate system.
        seasons: (first, last) ISO day of each input; empty where scenes have no date.
        core: ("MM-DD", "MM-DD") where the seasons were also shortened at random in training, but
            always held these days; empty where the head knows whole seasons only.
        region: in words, "" where nobody named it.
    """

    places: tuple[tuple[float, float], ...]
    seasons: tuple[tuple[str, str], ...]
    core: tuple[str, ...] = ()
    region: str = ""

    @classmethod
    def of(cls, grid: Grid, rows: np.ndarray, cols: np.ndarray, season: Sequence[str]) -> Origin:
        """The origin of labelled pixels of a grid, read over a season [first, last] or []."""
        places: tuple[tuple[float, float], ...] = ()
        if grid.crs is not None:
            lon, lat = _degrees(grid, rows + 0.5, cols + 0.5)
            cells = np.unique(np.rint(np.stack([lon, lat], 1) * _CELL), axis=0) / _CELL
            places = tuple((float(x), float(y)) for x, y in cells)
        return cls(places, ((season[0], season[-1]),) if season else ())

    def record(self) -> dict[str, object]:
        """The origin for a card (JSON)."""
        return {"places": [list(p) for p in self.places],
                "seasons": [list(s) for s in self.seasons], "core": list(self.core),
                "region": self.region}

    @classmethod
    def of_card(cls, source: dict) -> Origin | None:
        """The origin that a card's source holds; None where it does not say."""
        held = source.get(KEY)
        if held is None:
            return None
        return cls(tuple((float(x), float(y)) for x, y in held["places"]),
                   tuple((str(a), str(b)) for a, b in held["seasons"]),
                   tuple(held.get("core", ())), held.get("region", ""))

    def distances(self, grid: Grid, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Kilometres on a sphere from places of a grid (pixels) to the nearest labelled place."""
        lon, lat = (np.radians(v)[:, None] for v in _degrees(grid, rows, cols))
        x, y = np.radians(np.array(self.places)).T[:, None, :]
        half = np.sin((lat - y) / 2) ** 2 + np.cos(lat) * np.cos(y) * np.sin((lon - x) / 2) ** 2
        return 2 * _EARTH_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1))).min(1)

    def far(self, grid: Grid, window: Window) -> np.ndarray:
        """(rows, cols) bool of a window: too far from every labelled place."""
        tops = np.arange(0, window.rows, _STEP)
        lefts = np.arange(0, window.cols, _STEP)
        r, c = np.meshgrid(np.minimum(tops + _STEP / 2, window.rows),
                           np.minimum(lefts + _STEP / 2, window.cols), indexing="ij")
        coarse = self.distances(grid, window.row + r.ravel(), window.col + c.ravel()) > NEAR_KM
        fine = np.kron(coarse.reshape(r.shape), np.ones((_STEP, _STEP), bool))
        return fine[:window.rows, :window.cols]


@dataclass(frozen=True)
class Reach:
    """How a map lies to what its head has seen.

    Attributes:
        place, season: what to tell, one or two sentences each.
        far_share: share (0..1) of the raster that is too far from every labelled place.
        off_season: whether the days of the year differ too much.
    """

    place: str
    season: str
    far_share: float
    off_season: bool

    @property
    def outside(self) -> bool:
        """Whether any of the map lies outside the place or season."""
        return self.off_season or self.far_share > 0


def compare(origin: Origin | None, grid: Grid, season: Sequence[str]) -> Reach:
    """A map's place and season against a head's.

    Args:
        origin: of the head; None where its card does not say.
        grid: of the map.
        season: [first, last] ISO day that the map was made of; [] without dates.
    """
    if origin is None:
        return Reach("The head does not say where it was trained.",
                     "The head does not say on what dates it was trained.", 0.0, False)
    place, far = _place(origin, grid)
    text, off = _season(origin, season)
    return Reach(place, text, far, off)


def mark(path: Path, origin: Origin, grid: Grid, reach: Reach, context: JobContext) -> None:
    """Add to a layer of unlike pixels those outside the place or season, as `ELSEWHERE`."""
    with rasterio.open(path) as dataset:
        tags = {k: v for k, v in dataset.tags().items() if k.startswith("EARTHPRINT")}
        legend = Legend((*UNLIKE.classes, ELSEWHERE))
        with RasterWriter(path, grid, "uint8", NODATA, legend=legend, tags=tags) as out:
            for window in grid.blocks(512, 512):
                context.check()
                values = dataset.read(1, window=RasterWindow(
                    window.col, window.row, window.cols, window.rows))
                there = values == 0
                if not reach.off_season:
                    there &= origin.far(grid, window)
                values[there] = ELSEWHERE.value
                out.write(window, values)


def _place(origin: Origin, grid: Grid) -> tuple[str, float]:
    """Where the map lies, and the share of it that is too far."""
    named = f" ({origin.region})" if origin.region else ""
    if not origin.places or grid.crs is None:
        return "Without a coordinate system the distance to the training data is unknown.", 0.0
    rows, cols = grid.shape
    r, c = np.meshgrid(np.linspace(0, rows, 33), np.linspace(0, cols, 33))
    km = origin.distances(grid, r.ravel(), c.ravel())
    far = float((km > NEAR_KM).mean())
    near, farthest = (f"{np.round(v, -1):,.0f}".replace(",", " ") for v in (km.min(), km.max()))
    if km.max() < _BLUR_KM:
        text = f"The map lies among the labelled places{named}."
    else:
        span = f"up to {farthest} km" if km.min() < _BLUR_KM else f"{near} to {farthest} km"
        text = f"The map lies {span} from the nearest labelled place{named}."
    if far:
        text += (f" Beyond {NEAR_KM:g} km climate, soils and the days of sowing differ: what was "
                 "learned there may not hold.")
    return text, far


def _season(origin: Origin, season: Sequence[str]) -> tuple[str, bool]:
    """How the days of the year differ, and whether by too much."""
    if not origin.seasons:
        return ("The head is tied to no season: it was trained on any part of the year, or on "
                "scenes without dates."), False
    if not season:
        return "Scenes without dates: the season cannot be compared.", False
    ours = _days(season)
    missing, more = min(
        (_count(_needed(origin, s) & ~ours), _count(ours & ~_days(s))) for s in origin.seasons)
    learned = " and ".join(f"{a} to {b}" for a, b in origin.seasons)
    text = f"The head learned from {learned}; this map uses {season[0]} to {season[-1]}."
    off = missing > SEASON_DAYS or more > SEASON_DAYS
    if missing > SEASON_DAYS:
        text += (f" {missing} days of the year that it relies on are not there: it was not trained "
                 "on such a part of a season.")
    if more > SEASON_DAYS:
        text += f" {more} days of the year are new to it."
    if not off and origin.core:
        text += " It was also trained on parts of these seasons."
    years = {day[:4] for pair in origin.seasons for day in pair}
    if not years & {day[:4] for day in season}:
        text += " Another year: crops may be some weeks earlier or later."
    return text, off


def _days(season: Sequence[str]) -> np.ndarray:
    """(366,) bool: the days of the year from first to last ISO day."""
    first, last = (date.fromisoformat(day) for day in (season[0], season[-1]))
    found = np.zeros(366, bool)
    for n in range(min((last - first).days, 366) + 1):
        found[(first + timedelta(n)).timetuple().tm_yday - 1] = True
    return found


def _needed(origin: Origin, season: Sequence[str]) -> np.ndarray:
    """(366,) bool: the days of the year that a head relies on."""
    if not origin.core:
        return _days(season)
    first, last = (date.fromisoformat(f"2000-{day}") for day in origin.core)
    if last < first:
        last = last.replace(year=2001)
    return _days([first.isoformat(), last.isoformat()])


def _count(days: np.ndarray) -> int:
    """Days of the year; the 366th, which most years lack, does not count."""
    return int(days[:365].sum())


def _degrees(grid: Grid, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of places of a grid, in pixels."""
    xs, ys = grid.affine @ (np.asarray(cols, float), np.asarray(rows, float))
    lon, lat = transform(grid.crs, "EPSG:4326", xs, ys)
    return np.asarray(lon), np.asarray(lat)
