"""The labelled sets that encoders are probed on, with spatial splits only.

Fixed splits are those of the data's READMEs ("val", "a to b"); "blocks" puts 65 % of the squares of
a grid on the training side, drawn five times until every class is on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import rasterio

from ..fast.adapter import BANDS
from . import datasets
from .pool import network_input, on_grid

DRAWS = 5
_TRAIN_SHARE = 0.65


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
    """

    name: str
    rows: np.ndarray
    raw: np.ndarray
    labels: np.ndarray
    blocks: np.ndarray
    splits: tuple[tuple[np.ndarray, np.ndarray], ...]


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
) -> Iterator[Task]:
    """A task for each fixed pair of (training, test) masks, and one by blocks."""
    raw = series(rows) if raw is None else raw
    for side, (train, test) in sides.items():
        split = ((np.flatnonzero(train), np.flatnonzero(test)),)
        yield Task(f"{name}, {side}", rows, raw, labels, blocks, split)
    if by_blocks:
        yield Task(f"{name}, blocks", rows, raw, labels, blocks, block_splits(labels, blocks))


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
    yield from _tasks("Canada 7", rows, labels[kept], blocks, sides)


def uganda() -> Iterator[Task]:
    """Sorghum, maize, other in Uganda, 2017."""
    values, month, fields = datasets.read_points("uganda2017")
    labels = np.where(fields["crop"] == "sorghum", 0, np.where(fields["crop"] == "maize", 1, 2))
    train = fields["h3_l3_cell"] == "836a5afffffffff"
    blocks = squares(fields["lon"], fields["lat"], 0.1)
    yield from _tasks("Uganda 3", on_grid(values, month), labels, blocks,
                      {"val": (train, ~train)})


def worldwide() -> Iterator[Task]:
    """Land cover of points all over the world."""
    values, month, fields = datasets.read_points("global500")
    classes = [(10, 11), (12,), (13, 20, 30), (40, 41, 42), (50, 60, 70)]
    labels = sum((i + 1) * np.isin(fields["landcover_code"], c) for i, c in enumerate(classes))
    kept = labels > 0
    blocks = squares(fields["lon"][kept], fields["lat"][kept], 5.0)
    yield from _tasks("Global 5", on_grid(values[kept], month[kept]), labels[kept], blocks, {})


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
    sides = {"polders to north": (first, ~first), "north to polders": (~first, first)}
    yield from _tasks("Belgium 4", rows, labels, blocks, sides, by_blocks=False)


def tanzania() -> Iterator[Task]:
    """Maize, vegetables, sorghum in one patch."""
    rows, _, crop = _patch("tanzania-2021", "2020-10-01", "2021-10-01")
    classes = (1200, 2000, 1400)
    kept = np.isin(crop, classes)
    labels = np.searchsorted(np.sort(classes), crop[kept])
    place = np.flatnonzero(kept)
    blocks = squares(place % 32, place // 32, 4)
    yield from _tasks("Tanzania 3", rows[kept], labels, blocks, {})


def _monthly_rows(values: np.ndarray, dates: np.ndarray) -> np.ndarray:
    """Series (n, T, 13) with dates (n, T) of their own, as monthly means on the grid."""
    month = datasets.months(dates)
    means = np.full((len(values), 12, len(BANDS)), np.nan, np.float32)
    for m in range(12):
        here = np.where((month == m)[:, :, None], values, np.nan)
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
    rows = _monthly_rows(values, fields["dates"].astype("datetime64[D]"))
    labels = np.unique(fields["label"], return_inverse=True)[1]
    train = fields["split"] == "train"
    blocks = squares(fields["lon"], fields["lat"], 0.5)
    sides = {"val": (train, fields["split"] == "val")}
    # Some classes lie in too few blocks for both sides.
    yield from _tasks("Mato Grosso", rows, labels, blocks, sides, x.reshape(len(x), -1), False)


def _amazon(file_name: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Rows, raw features and fields of a deforestation set."""
    path = datasets.shared() / "data/deforestation-amazon-series" / file_name
    with np.load(path, allow_pickle=False) as file:
        fields = {key: file[key] for key in file.files}
    bands = [str(b) for b in fields["bands"]]
    names = [datasets.common_name(b.lower()) for b in bands]
    values = datasets.in_slots(fields["X"], names)
    rows = _monthly_rows(values, fields["dates"].astype("datetime64[D]"))
    return rows, np.nan_to_num(fields["X"]).reshape(len(rows), -1), fields


def para() -> Iterator[Task]:
    """Deforestation, forest, pasture in Para."""
    rows, raw, fields = _amazon("para_226_064_mixl8mod.npz")
    names = np.array([str(label).split("_")[0] for label in fields["label"]])
    labels = np.unique(names, return_inverse=True)[1]
    train = fields["split"] == "train"
    blocks = squares(fields["lon"], fields["lat"], 0.1)
    yield from _tasks("Para 3", rows, labels, blocks, {"val": (train, ~train)}, raw)


def rondonia() -> Iterator[Task]:
    """Deforestation, forest, natural non-forest, pasture in Rondonia."""
    rows, raw, fields = _amazon("rondonia_landsat8.npz")
    labels = np.unique(fields["label"], return_inverse=True)[1]
    blocks = squares(fields["lon"], fields["lat"], 0.1)
    yield from _tasks("Rondonia 4", rows, labels, blocks, {}, raw)


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
    yield from _tasks("Slovenia 4", rows, labels, blocks, {"val": (column < 60, column >= 80)})


def every_task() -> Iterator[Task]:
    """All of them, set by set."""
    for tasks in (canada, uganda, worldwide, belgium, tanzania, mato_grosso, para, rondonia,
                  slovenia):  # fmt: skip
        yield from tasks()
