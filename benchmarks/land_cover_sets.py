"""Points and pixels of known land cover in the reference material, on the grid of `fast`.

Classes are the values of ESA WorldCover's legend. Rows are (24, 13) as in
`models/training/pool.py`; a place is a square of 2.5 degrees, which is held back as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import rasterio
from rasterio.warp import transform

from earthprint.models.fast.adapter import BANDS, GROUPS, SLOTS
from earthprint.models.timegrid import STEPS, half_months
from earthprint.models.training import datasets, pool

CLASSES = (10, 20, 30, 40, 50, 60, 80)
"""Classes that the sets carry; snow, wetlands, mangroves and moss have too few samples."""

_REFERENCE = {10: 40, 11: 40, 13: 30, 20: 30, 30: 20, 40: 10, 41: 10, 42: 10, 50: 60, 60: 50,
              70: 80}
_NO_CROPLAND = (98, 99)  # the reference says no more, so WorldCover's class counts
_DYNAMIC_WORLD = {0: 80, 1: 10, 2: 30, 4: 40, 5: 20, 6: 50, 7: 60}
_PATCH = {11: 40, 13: 30, 60: 50}
_SLOVENIA = {2: 10, 3: 30, 4: 20, 8: 50}
_DEGREES = 2.5
_SENTINEL = "contains modified Copernicus Sentinel data"
_WORLDCOVER = "ESA WorldCover CC BY 4.0"
_UNSTATED = "no licence stated"


@dataclass(frozen=True)
class Samples:
    """Samples of one set.

    Attributes:
        name: of the set.
        licence: of its files and of what was taken from them.
        rows: (n, 24, 13) float32, NaN where a group of bands was not observed.
        classes: (n,) values of the legend.
        places: (n, 2) float64, longitude and latitude; NaN where they are unknown.
        most: samples of a class that are used to train.
    """

    name: str
    licence: str
    rows: np.ndarray
    classes: np.ndarray
    places: np.ndarray
    most: int = 100

    def __len__(self) -> int:
        return len(self.classes)

    def keep(self, chosen: np.ndarray) -> Samples:
        """The samples of a mask or of indices."""
        return Samples(self.name, self.licence, self.rows[chosen], self.classes[chosen],
                       self.places[chosen], self.most)

    def squares(self) -> np.ndarray:
        """(n,) names of the squares that are held back together."""
        cells = np.floor(np.nan_to_num(self.places, nan=999) / _DEGREES).astype(int)
        return np.array([f"{x} {y}" for x, y in cells])


def training_sets() -> list[Samples]:
    """The training sides of all sets."""
    return [
        points("global500"), _canada(west=True), _uganda(), _flanders(),
        _regression("fuel_moisture", 250), _regression("algae_blooms", 60), _africa(),
        patch("belgium-2018-polders"), patch("tanzania-2021"), slovenia(0, 60)]


def points(name: str) -> Samples:
    """`global500` or `canada2017` where reference and WorldCover agree on the class."""
    values, month, fields = datasets.read_points(name)
    cover = fields["worldcover" if name == "global500" else "worldcover2021"]
    reference = fields["landcover_code"]
    agreed = np.array([_REFERENCE.get(int(r)) == w or (r in _NO_CROPLAND and w != 40)
                       for r, w in zip(reference, cover, strict=True)])
    title, most = {"global500": ("WorldCereal points, worldwide", 10**6),
                   "canada2017": ("WorldCereal points Canada 2017", 60)}[name]
    return _samples(title, f"{_UNSTATED}; {_WORLDCOVER}; {_SENTINEL}",
                    pool.on_grid(values[:, :12], month[:, :12]), np.where(agreed, cover, 0),
                    _degrees(fields), most)


def canada_east() -> Samples:
    """The Canadian points east of 79 degrees west, which are for tests."""
    return _canada(west=False)


def patch(name: str) -> Samples:
    """A WorldCereal patch from December to November; the polders at 10 m, others at 20 m."""
    fine, year = name.endswith("polders"), int(name.split("-")[1])
    with rasterio.open(datasets.shared() / "data" / "crop-worldcereal-patches" / name
                       / "labels_LC_CT_10m.tif") as file:
        cover = file.read(1)
        middle = transform(file.crs, "EPSG:4326", *[[v] for v in file.xy(32, 32)])
    if not fine:
        fours = cover.reshape(32, 2, 32, 2).transpose(0, 2, 1, 3).reshape(32, 32, 4)
        cover = np.where((fours == fours[..., :1]).all(2), fours[..., 0], 0)
    start = f"{year - 1}-09-23" if name.startswith("tanzania") else f"{year - 1}-12-01"
    end = f"{year}-09-23" if name.startswith("tanzania") else f"{year}-12-01"
    parts = [part.between(start, end) for key, part in datasets.read_patch(name, fine).items()
             if key != "landsat"]
    rows = datasets.means(parts, [half_months(p.dates) for p in parts], STEPS)
    return _samples(f"WorldCereal patch {name}", f"MIT; {_SENTINEL}", rows,
                    _mapped(cover.ravel(), _PATCH),
                    np.tile([v[0] for v in middle], (cover.size, 1)), 60)


def slovenia(first: int, last: int) -> Samples:
    """Columns of the Slovenian patch: five dates of 2015 without clouds."""
    scenes, _, cover = datasets.read_slovenia()
    rows = datasets.means([scenes], [half_months(scenes.dates)], STEPS)
    inside = (np.arange(cover.shape[1]) >= first) & (np.arange(cover.shape[1]) < last)
    return _samples(f"eo-learn patch Slovenia 2015, columns {first}-{last - 1}",
                    f"MIT; labels MKGP; {_SENTINEL}", rows,
                    np.where(inside, _mapped(cover, _SLOVENIA), 0).ravel(),
                    np.tile([14.55, 45.86], (cover.size, 1)), 250)


def _canada(west: bool) -> Samples:
    found = points("canada2017")
    part = found.keep((found.places[:, 0] < -79) == west)
    return replace(part, name=f"{part.name}, {'west' if west else 'east'} of 79 W")


def _uganda() -> Samples:
    values, month, fields = datasets.read_points("uganda2017")
    classes = np.where(fields["h3_l3_cell"] == "836a5afffffffff", 40, 0)
    return _samples("WorldCereal points Uganda 2017, training cell", f"MIT; {_SENTINEL}",
                    pool.on_grid(values, month), classes, _degrees(fields), 60)


def _flanders() -> Samples:
    values, month, fields = datasets.read_points("flanders2021")
    names = {"2001": 30, "110": 40, "1600": 40, "4": 10, "3": 20, "7": 80}
    classes = np.array([next((c for start, c in names.items() if code.startswith(start)), 0)
                        for code in fields["ewoc_code"]])
    return _samples("WorldCereal points Flanders 2021", f"MIT; {_SENTINEL}",
                    pool.on_grid(values[:, :12], month[:, :12]), classes, _degrees(fields), 40)


def _regression(name: str, most: int) -> Samples:
    """Training sites whose Dynamic World class hardly changes over their months."""
    values, month, fields = datasets.read_regression(name)
    cover = fields["dynamic_world"]
    usual = np.array([np.bincount(row).argmax() for row in cover])
    steady = (cover == usual[:, None]).mean(1) > (0.99 if cover.shape[1] < 12 else 0.7)
    title = {"fuel_moisture": "Live fuel moisture sites, western USA, training sites",
             "algae_blooms": "Tick Tick Bloom lakes, USA, training part"}[name]
    classes = np.where(steady & (fields["split"] == "train"), _mapped(usual, _DYNAMIC_WORLD), 0)
    return _samples(title, f"MIT; Dynamic World CC BY 4.0; {_SENTINEL}",
                    pool.on_grid(values, month), classes, _degrees(fields), most)


def _africa() -> Samples:
    """Crops of three regions as two half-year composites; their places are not given."""
    path = datasets.shared() / "data/cropland-africa-s2-features/training_samples.npz"
    with np.load(path, allow_pickle=False) as file:
        chosen = np.isin(file["region"], ("eastern", "western", "southern")) & (file["y"] == 1)
        table, columns = file["X"][chosen], [str(name) for name in file["features"]]
    rows = np.full((len(table), STEPS, len(BANDS)), np.nan, np.float32)
    for step, half in ((6, "_S1"), (18, "_S2")):
        known = [(i, datasets.common_name(name.removesuffix(half)))
                 for i, name in enumerate(columns) if name.endswith(half) and name != f"NDVI{half}"]
        known = [(i, name) for i, name in known if name]
        rows[:, step] = datasets.in_slots(table[:, [i for i, _ in known]], [n for _, n in known])
    return _samples("Digital Earth Africa cropland samples: eastern, western, southern",
                    f"Apache-2.0; {_SENTINEL}", rows, np.full(len(rows), 40),
                    np.full((len(rows), 2), np.nan), 120)


_GROUPS = dict(zip((name for name, _ in GROUPS), SLOTS, strict=True))
OPTICAL = tuple(name for name in _GROUPS if name != "s1")
COLOUR = ("rgb", "nir", "ndvi")


def only(rows: np.ndarray, groups: tuple[str, ...]) -> np.ndarray:
    """Rows with the bands of some groups alone."""
    out = np.full_like(rows, np.nan)
    for name in groups:
        out[:, :, list(_GROUPS[name])] = rows[:, :, list(_GROUPS[name])]
    return out


def as_landsat(rows: np.ndarray) -> np.ndarray:
    """Rows with the bands that Landsat has; its narrow near infrared stands for both."""
    out = only(rows, ("rgb", "nir", "nir08", "swir", "ndvi"))
    wide, narrow = _GROUPS["nir"][0], _GROUPS["nir08"][0]
    out[:, :, wide] = np.where(np.isnan(out[:, :, narrow]), out[:, :, wide], out[:, :, narrow])
    out[:, :, narrow] = out[:, :, wide]
    return out


def dates(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows with `count` of their half-months, drawn at random."""
    seen = np.isfinite(rows).any(2)
    return _chosen(rows, rng.random(seen.shape) * seen, count)


def greenest(rows: np.ndarray) -> np.ndarray:
    """Rows with the half-month of the highest vegetation index alone, as one picks a scene."""
    index = rows[:, :, _GROUPS["ndvi"][0]]
    return _chosen(rows, np.nan_to_num(index + 2, nan=0.0), 1)


def _chosen(rows: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
    keep = np.zeros(score.shape, bool)
    np.put_along_axis(keep, np.argsort(-score, 1)[:, :count], True, 1)
    return np.where((keep & (score > 0))[:, :, None], rows, np.nan)


INPUTS = {
    "season, all sensors": lambda rows: rows,
    "season, Landsat's bands": as_landsat,
    "one Sentinel-2 date": lambda rows: greenest(only(rows, OPTICAL)),
    "one Landsat date": lambda rows: greenest(as_landsat(rows)),
    "season, radar alone": lambda rows: only(rows, ("s1",)),
}
"""What an analyst may have of a place."""


def _samples(name: str, licence: str, rows: np.ndarray, classes: np.ndarray, places: np.ndarray,
             most: int) -> Samples:
    """What has a class and an observation; impossible reflectances count as missing."""
    rows = rows.copy()
    rows[(rows[:, :, 2:12] > 2.0).any(axis=2), 2:] = np.nan
    kept = np.isin(classes, CLASSES) & np.isfinite(rows).any(axis=(1, 2))
    return Samples(name, licence, rows[kept], classes[kept], places[kept], most)


def _mapped(codes: np.ndarray, names: dict[int, int]) -> np.ndarray:
    result = np.zeros(codes.shape, int)
    for code, value in names.items():
        result[codes == code] = value
    return result


def _degrees(fields: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([fields["lon"], fields["lat"]], 1).astype(float)
