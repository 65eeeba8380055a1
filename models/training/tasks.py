"""The labelled sets that encoders are probed on, with spatial splits only.

Fixed splits are those of the data's READMEs ("val", "a to b"); "blocks" puts 65 % of the squares of
a grid on the training side, drawn five times until every class is on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import rasterio
from scipy import ndimage

from ..cube import Cube, Series
from ..fast.adapter import BANDS
from ..timegrid import STEPS, UNDATED_STEP
from . import datasets
from .pool import network_input, on_grid

DRAWS = 5
_TRAIN_SHARE = 0.65
_MOST_PIXELS = 6000  # of one scene


@dataclass(frozen=True)
class Task:
    """One set under one kind of split.

    Attributes:
        name: set and split.
        rows: (n, 24, 13) half-monthly means, NaN where missing: what encoders get.
        raw: (n, f) gap-filled series: what classifiers on bands get.
        labels: (n,) class numbers.
        blocks: (n,) number of the square each sample lies in.
        splits: (training rows, test rows) for each draw; one where the split is fixed.
        cube: the same samples as a window of 1 x n pixels, as the engine reads them.
        places: (n, 2) east and north, in metres (to a few percent where the set has degrees).
        parcels: (n,) number of the field a sample lies in; its own where fields are unknown.
    """

    name: str
    rows: np.ndarray
    raw: np.ndarray
    labels: np.ndarray
    blocks: np.ndarray
    splits: tuple[tuple[np.ndarray, np.ndarray], ...]
    cube: Cube = field(repr=False)
    places: np.ndarray
    parcels: np.ndarray


def cube_of(rows: np.ndarray) -> Cube:
    """Half-monthly rows (n, 24, 13) as a window of 1 x n pixels with a scene each half-month.

    An NDVI that can be worked out from bands is left to whoever reads the cube.
    """
    months = np.arange(24) // 2
    dates = np.array([f"2021-{m + 1:02d}-{1 + 15 * (i % 2):02d}" for i, m in enumerate(months)])
    dates = dates.astype("datetime64[D]")
    there = [b for b in BANDS if np.isfinite(rows[:, :, BANDS.index(b)]).any()]
    if {"red", "nir"} <= set(there):
        there.remove("ndvi")
    series = {}
    for sensor, radar in (("sentinel-1", True), ("sentinel-2", False)):
        bands = tuple(b for b in there if (b in ("vv", "vh")) == radar)
        if bands:
            values = rows[:, :, [BANDS.index(b) for b in bands]]
            series[sensor] = _scenes(sensor, bands, values, dates)
    return Cube((1, len(rows)), series)


def _scenes(sensor: str, bands: tuple[str, ...], values: np.ndarray, dates: np.ndarray) -> Series:
    """Values (n, T, B), NaN where missing, of shared dates (T,) as a series of 1 x n pixels."""
    values = values.transpose(1, 2, 0)[:, :, None]
    valid = np.isfinite(values).all(axis=1)
    seen = valid.any(axis=(1, 2))
    return Series(sensor, bands, dates[seen], np.nan_to_num(values[seen]), valid[seen],
                  ("",) * int(seen.sum()))


def _season(sensor: str, bands: tuple[str, ...], values: np.ndarray, dates: np.ndarray) -> Cube:
    """Series (n, T, B) on days (T,), the same for all samples.

    When exactly a series starts gives some classes away, so samples do not get days of their own.
    """
    scenes = _scenes(sensor, bands, values.astype(np.float32), dates)
    return Cube((1, len(values)), {sensor: scenes})


def metres(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """(n, 2) metres of places in degrees, scaled at the middle latitude."""
    middle = np.radians((lat.min() + lat.max()) / 2)
    return np.column_stack([lon * 111320 * np.cos(middle), lat * 110574])


def squares(x: np.ndarray, y: np.ndarray, side: float) -> np.ndarray:
    """The number of the square of a grid that each place lies in."""
    cells = np.stack([np.floor(x / side), np.floor(y / side)], axis=1)
    return np.unique(cells, axis=0, return_inverse=True)[1].ravel()


def block_splits(
    labels: np.ndarray, blocks: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Five draws of whole blocks, each with every class on both sides."""
    every, names = set(labels.tolist()), np.unique(blocks)
    splits = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        for _ in range(10_000):
            chosen = rng.choice(names, round(_TRAIN_SHARE * len(names)), replace=False)
            train = np.isin(blocks, chosen)
            if set(labels[train].tolist()) == set(labels[~train].tolist()) == every:
                splits.append((np.flatnonzero(train), np.flatnonzero(~train)))
                break
        else:
            raise ValueError("No draw of blocks has every class on both sides: use smaller blocks.")
    return tuple(splits)


def series(rows: np.ndarray) -> np.ndarray:
    """Gap-filled months of the bands that are there, flat: the plain baseline's features."""
    filled = network_input(rows)[:, ::2, : len(BANDS)]
    return filled[:, :, np.isfinite(rows).any(axis=(0, 1))].reshape(len(rows), -1)


def _tasks(
    name: str,
    rows: np.ndarray,
    labels: np.ndarray,
    blocks: np.ndarray,
    sides: dict[str, tuple[np.ndarray, np.ndarray]],
    raw: np.ndarray | None = None,
    by_blocks: bool = True,
    *,
    places: np.ndarray,
    cube: Cube | None = None,
    parcels: np.ndarray | None = None,
) -> Iterator[Task]:
    """A task for each fixed pair of (training, test) masks, and one by blocks."""
    raw = series(rows) if raw is None else raw
    shared = {"cube": cube or cube_of(rows), "places": places,
              "parcels": np.arange(len(rows)) if parcels is None else parcels}
    for side, (train, test) in sides.items():
        split = ((np.flatnonzero(train), np.flatnonzero(test)),)
        yield Task(f"{name}, {side}", rows, raw, labels, blocks, split, **shared)
    if by_blocks:
        splits = block_splits(labels, blocks)
        yield Task(f"{name}, blocks", rows, raw, labels, blocks, splits, **shared)


def _fields(classes: np.ndarray) -> np.ndarray:
    """The number of the connected patch of one class that each pixel of (rows, cols) is in."""
    number, last = np.zeros(classes.shape, np.int64), 0
    for value in np.unique(classes):
        patches, count = ndimage.label(classes == value)
        number[patches > 0] = patches[patches > 0] + last
        last += count
    return number.ravel()


def canada() -> Iterator[Task]:
    """Seven crops of eastern Canada, 2017."""
    values, month, fields = datasets.read_points("canada2017")
    code = fields["croptype_code"]
    classes = [(1110,), (1120,), (1200,), (4100,), (9120,), (5100,), (1500, 1510, 1520, 1700)]
    labels = sum((i + 1) * np.isin(code, c) for i, c in enumerate(classes))
    kept = labels > 0
    side, rows = fields["split"][kept], on_grid(values[kept, :12], month[kept, :12])
    blocks = squares(fields["lon"][kept], fields["lat"][kept], 0.5)
    train = side == "train"
    sides = {"val": (train, side == "val"), "New Brunswick": (train, side == "val_newbrunswick")}
    yield from _tasks("Canada 7", rows, labels[kept], blocks, sides,
                      places=metres(fields["lon"][kept], fields["lat"][kept]))


def uganda() -> Iterator[Task]:
    """Sorghum, maize, other in Uganda, 2017."""
    values, month, fields = datasets.read_points("uganda2017")
    labels = np.where(fields["crop"] == "sorghum", 0, np.where(fields["crop"] == "maize", 1, 2))
    train = fields["h3_l3_cell"] == "836a5afffffffff"
    blocks = squares(fields["lon"], fields["lat"], 0.1)
    yield from _tasks("Uganda 3", on_grid(values, month), labels, blocks,
                      {"val": (train, ~train)}, places=metres(fields["lon"], fields["lat"]))


def worldwide() -> Iterator[Task]:
    """Land cover of points all over the world."""
    values, month, fields = datasets.read_points("global500")
    classes = [(10, 11), (12,), (13, 20, 30), (40, 41, 42), (50, 60, 70)]
    labels = sum((i + 1) * np.isin(fields["landcover_code"], c) for i, c in enumerate(classes))
    kept = labels > 0
    blocks = squares(fields["lon"][kept], fields["lat"][kept], 5.0)
    yield from _tasks("Global 5", on_grid(values[kept], month[kept]), labels[kept], blocks, {},
                      places=metres(fields["lon"][kept], fields["lat"][kept]))


def _patch(name: str, start: str, end: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Months (1024, 24, 13) of a patch at 20 m, and land cover and crop of each pixel."""
    sensors = [part.between(start, end) for part in datasets.read_patch(name, False).values()]
    values = datasets.means(sensors, [datasets.months(part.dates) for part in sensors], 12)
    path = datasets.shared() / "data/crop-worldcereal-patches" / name / "labels_LC_CT_10m.tif"
    with rasterio.open(path) as file:
        cover, crop = file.read()[:, ::2, ::2].astype(np.int64)  # upper left of the four
    return on_grid(values, np.tile(np.arange(12), (1024, 1))), cover.ravel(), crop.ravel()


def belgium() -> Iterator[Task]:
    """Maize, grass, other crop, no crop: from one patch and year to another, both ways."""
    parts = []
    for name, year in (("belgium-2018-polders", 2018), ("belgium-2019-north", 2019)):
        rows, cover, crop = _patch(name, f"{year - 1}-12-01", f"{year}-12-01")
        labels = np.where(crop == 1200, 0, np.where(crop == 9120, 1, np.where(cover == 11, 2, 3)))
        parts.append((rows, labels))
    rows, labels = (np.concatenate(both) for both in zip(*parts, strict=True))
    first = np.arange(len(labels)) < 1024
    place = np.arange(1024)
    half = squares(place % 32, place // 32, 8)
    blocks = np.concatenate([half, half + 1000])
    places = 20.0 * np.tile(np.stack([place % 32, 31 - place // 32], 1), (2, 1))
    fields = [_fields(part.reshape(32, 32)) for part in np.split(labels, 2)]
    parcels = np.concatenate([fields[0], fields[1] + 1000])
    sides = {"polders to north": (first, ~first), "north to polders": (~first, first)}
    yield from _tasks("Belgium 4", rows, labels, blocks, sides, by_blocks=False, places=places,
                      parcels=parcels)


def tanzania() -> Iterator[Task]:
    """Maize, vegetables, sorghum in one patch."""
    rows, _, crop = _patch("tanzania-2021", "2020-10-01", "2021-10-01")
    classes = (1200, 2000, 1400)
    kept = np.isin(crop, classes)
    labels = np.searchsorted(np.sort(classes), crop[kept])
    place = np.flatnonzero(kept)
    blocks = squares(place % 32, place // 32, 4)
    places = 20.0 * np.stack([place % 32, 31 - place // 32], 1)
    yield from _tasks("Tanzania 3", rows[kept], labels, blocks, {}, places=places)


def _monthly_rows(values: np.ndarray, dates: np.ndarray) -> np.ndarray:
    """Series (n, T, 13) on days (T,) shared by all, as monthly means on the grid; see `_season`."""
    month = datasets.months(dates)
    means = np.full((len(values), 12, len(BANDS)), np.nan, np.float32)
    for m in np.unique(month):
        here = values[:, month == m]
        seen = np.isfinite(here).sum(axis=1)
        means[:, m] = np.where(seen > 0, np.nansum(here, axis=1) / np.maximum(seen, 1), np.nan)
    return on_grid(means, np.tile(np.arange(12), (len(values), 1)))


def mato_grosso() -> Iterator[Task]:
    """Nine crops and covers of Mato Grosso, MODIS; green and SWIR 1 stood in for."""
    path = datasets.shared() / "data/crop-matogrosso-modis/samples_mod13q1.npz"
    with np.load(path, allow_pickle=False) as file:
        fields = {key: file[key] for key in file.files}
    x = fields["X"].astype(np.float32) / 10000
    blue, red, nir, mir = (x[:, :, i] for i in range(4))
    table = np.stack([blue, (blue + red) / 2, red, nir, (nir + mir) / 2, mir], axis=-1)
    values = datasets.in_slots(table, ("blue", "green", "red", "nir", "swir16", "swir22"))
    dates = fields["dates"][0].astype("datetime64[D]")  # see `_season`
    rows = _monthly_rows(values, dates)
    labels = np.unique(fields["label"], return_inverse=True)[1]
    train = fields["split"] == "train"
    blocks = squares(fields["lon"], fields["lat"], 0.5)
    sides = {"val": (train, fields["split"] == "val")}
    cube = _season("modis", ("blue", "red", "nir", "swir22"), x[:, :, :4], dates)
    # Some classes lie in too few blocks for both sides.
    yield from _tasks("Mato Grosso", rows, labels, blocks, sides, x.reshape(len(x), -1), False,
                      places=metres(fields["lon"], fields["lat"]), cube=cube)


def _amazon(file_name: str) -> tuple[np.ndarray, np.ndarray, Cube, dict[str, np.ndarray]]:
    """Rows, raw features, the cube and the fields of a deforestation set."""
    path = datasets.shared() / "data/deforestation-amazon-series" / file_name
    with np.load(path, allow_pickle=False) as file:
        fields = {key: file[key] for key in file.files}
    bands = [str(b) for b in fields["bands"]]
    names = [datasets.common_name(b.lower()) for b in bands]
    values = datasets.in_slots(fields["X"], names)
    dates = fields["dates"][0].astype("datetime64[D]")  # see `_season`
    cube = _season("landsat", tuple(b.lower() for b in bands), fields["X"], dates)
    raw = np.nan_to_num(fields["X"]).reshape(len(values), -1)
    return _monthly_rows(values, dates), raw, cube, fields


def para() -> Iterator[Task]:
    """Deforestation, forest, pasture in Para."""
    rows, raw, cube, fields = _amazon("para_226_064_mixl8mod.npz")
    names = np.array([str(label).split("_")[0] for label in fields["label"]])
    labels = np.unique(names, return_inverse=True)[1]
    train = fields["split"] == "train"
    blocks = squares(fields["lon"], fields["lat"], 0.1)
    yield from _tasks("Para 3", rows, labels, blocks, {"val": (train, ~train)}, raw,
                      places=metres(fields["lon"], fields["lat"]), cube=cube)


def rondonia() -> Iterator[Task]:
    """Deforestation, forest, natural non-forest, pasture in Rondonia."""
    rows, raw, cube, fields = _amazon("rondonia_landsat8.npz")
    labels = np.unique(fields["label"], return_inverse=True)[1]
    blocks = squares(fields["lon"], fields["lat"], 0.1)
    yield from _tasks("Rondonia 4", rows, labels, blocks, {}, raw,
                      places=metres(fields["lon"], fields["lat"]), cube=cube)


def slovenia() -> Iterator[Task]:
    """Forest, grass, shrub, artificial: 3,000 pixels of one patch, five dates."""
    scenes, _, cover = datasets.read_slovenia()
    place = np.flatnonzero(np.isin(cover.ravel(), (2, 3, 4, 8)))
    place = np.sort(np.random.default_rng(0).permutation(place)[:3000])
    part = datasets.Observations(np.ascontiguousarray(scenes.values[:, :, place]), scenes.dates)
    values = datasets.means([part], [datasets.months(part.dates)], 12)
    rows = on_grid(values, np.tile(np.arange(12), (len(place), 1)))
    seen = np.isfinite(rows).any(axis=(1, 2))
    rows, place = rows[seen], place[seen]
    labels, column = cover.ravel()[place].astype(np.int64), place % 100
    blocks = squares(column, place // 100, 10)
    places = 10.0 * np.stack([column, 100 - place // 100], 1)
    yield from _tasks("Slovenia 4", rows, labels, blocks, {"val": (column < 60, column >= 80)},
                      places=places, parcels=_fields(cover)[place])


def _scene_rows(bands: list[str], values: np.ndarray) -> np.ndarray:
    """Pixels (n, B) of one undated scene as rows (n, 24, 13), in the first half of July."""
    rows = np.full((len(values), STEPS, len(BANDS)), np.nan, np.float32)
    rows[:, UNDATED_STEP] = datasets.in_slots(values.astype(np.float32), bands)
    return rows


def water() -> Iterator[Task]:
    """Water or not: 6,000 pixels of the Spanish chip, from its left to its right half."""
    folder = datasets.shared() / "data" / "flood-sen1floods11-spain"
    with rasterio.open(next(folder.glob("*LabelHand.tif"))) as file:
        label = file.read(1).astype(np.int64)
    with rasterio.open(next(folder.glob("*S1Hand.tif"))) as file:
        radar = file.read()
    with rasterio.open(next(folder.glob("*S2Hand.tif"))) as file:
        optical = file.read().astype(np.float32) / 10000
    seen = (label >= 0) & np.isfinite(radar).all(0) & (optical > 0).all(0)
    place = _some(seen, _MOST_PIXELS)
    names = ["vv", "vh", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir",
             "nir08", "swir16", "swir22"]
    table = np.concatenate([radar, optical[[1, 2, 3, 4, 5, 6, 7, 8, 11, 12]]])
    table = table.reshape(len(names), -1)[:, place].T
    left = place % label.shape[1] < label.shape[1] // 2
    yield from _scene("Water 2", names, table, label, place, {"left to right": (left, ~left)})


def clouds() -> Iterator[Task]:
    """Shadow, water, land, cloud: 6,000 pixels of a Sentinel-2 scene."""
    folder = datasets.shared() / "data" / "cloud-water-masks"
    with rasterio.open(folder / "sentinel2_image.tif") as file:
        image = file.read().astype(np.float32) / 10000
    with rasterio.open(folder / "sentinel2_mask.tif") as file:
        label = file.read(1).astype(np.int64)
    place = _some(np.ones(label.shape, bool), _MOST_PIXELS)
    names = ["blue", "green", "red", "nir", "swir16", "swir22"]
    table = image.reshape(len(names), -1)[:, place].T
    yield from _scene("Clouds 4", names, table, label, place, {})


def _some(there: np.ndarray, most: int) -> np.ndarray:
    """Flat indices of at most `most` pixels of a mask, drawn with a fixed seed."""
    return np.sort(np.random.default_rng(0).permutation(np.flatnonzero(there))[:most])


def _scene(name: str, bands: list[str], table: np.ndarray, label: np.ndarray, place: np.ndarray,
           sides: dict[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[Task]:
    """The tasks of one undated scene of 10 m pixels: by fixed sides, or by blocks of 64."""
    height, width = label.shape
    row, col = place // width, place % width
    rows, labels = _scene_rows(bands, table), label.ravel()[place]
    radar = [b for b in bands if b in ("vv", "vh")]
    optical = tuple(b for b in bands if b not in radar)
    undated = np.array(["NaT"], "datetime64[D]")
    parts = [("sentinel-1", tuple(radar)), ("sentinel-2", optical)]
    cube = Cube((1, len(place)), {
        sensor: _scenes(sensor, names, table[:, None, [bands.index(b) for b in names]], undated)
        for sensor, names in parts if names})
    places = 10.0 * np.stack([col, height - 1 - row], 1)
    yield from _tasks(name, rows, labels, squares(col, row, 64), sides, table, not sides,
                      places=places, cube=cube)


def every_task() -> Iterator[Task]:
    """All of them, set by set."""
    for tasks in (canada, uganda, worldwide, belgium, tanzania, mato_grosso, para, rondonia,
                  slovenia, water, clouds):  # fmt: skip
        yield from tasks()
