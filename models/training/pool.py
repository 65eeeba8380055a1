"""The pool of unlabelled pixel years that `fast` learns from, and its distorted views.

Only the training sides of the data's fixed splits go in, and only sets under MIT, Apache, CDLA or
the Copernicus terms; the shipped card names each of them. A row is (24, 13), NaN where a group of
bands was not observed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import rasterio

from ..cards import TrainingSet
from ..fast.adapter import BANDS, COLUMNS, GROUPS, MEAN, SLOTS, STD, ndvi_of
from ..timegrid import STEPS, fill, half_months
from . import datasets

_SENTINEL = "contains modified Copernicus Sentinel data"
_WORLDCEREAL = "GitHub WorldCereal/worldcereal-classification"

# Source to its share of the draws, and what the card says about it.
SOURCES = {
    "polders": (0.24, TrainingSet(
        "WorldCereal patch belgium-2018-polders: S2, S1, Landsat 8, 2017-2018",
        f"MIT; {_SENTINEL}", _WORLDCEREAL)),
    "tanzania": (0.12, TrainingSet(
        "WorldCereal patch tanzania-2021: S2 at 20 m, S1, 2019-2021",
        f"MIT; {_SENTINEL}", _WORLDCEREAL)),
    "cube": (0.20, TrainingSet(
        "WorldCereal monthly cube, eastern Belgium, 2020-2021",
        f"MIT; {_SENTINEL}", _WORLDCEREAL)),
    "uganda": (0.07, TrainingSet(
        "WorldCereal points Uganda 2017, training cell",
        f"MIT; {_SENTINEL}", _WORLDCEREAL)),
    "flanders": (0.04, TrainingSet(
        "WorldCereal points Flanders 2020-2021", f"MIT; {_SENTINEL}", _WORLDCEREAL)),
    "fuel": (0.06, TrainingSet(
        "Live fuel moisture series, western USA, training sites",
        f"MIT; {_SENTINEL}", "GitHub nasaharvest/presto")),
    "algae": (0.05, TrainingSet(
        "Lakes of the Tick Tick Bloom series, USA, training part",
        f"MIT; {_SENTINEL}", "GitHub nasaharvest/presto")),
    "honduras": (0.07, TrainingSet(
        "Export stack Honduras 2017-2018", f"Apache-2.0; {_SENTINEL}",
        "GitHub nasaharvest/crop-mask")),
    "bigearthnet": (0.06, TrainingSet(
        "BigEarthNet v1, 14 sample patches", f"CDLA-Permissive-1.0; {_SENTINEL}",
        "GitHub kai-tub/bigearthnet_common and bigearthnet_gdf_builder")),
    "slovenia": (0.05, TrainingSet(
        "eo-learn example patch, Slovenia 2015, columns 0-59", f"MIT; {_SENTINEL}",
        "GitHub sentinel-hub/eo-learn")),
    "africa": (0.04, TrainingSet(
        "Digital Earth Africa cropland samples: eastern, western, southern Africa",
        f"Apache-2.0; {_SENTINEL}", "GitHub digitalearthafrica/crop-mask")),
}  # fmt: skip
_BRIGHTEST = 2.0  # a reflectance above is an error of the source


def on_grid(values: np.ndarray, month: np.ndarray, half: np.ndarray | int = 0) -> np.ndarray:
    """Monthly series (n, T, 13) with months (n, T) on the half-months (n, 24, 13)."""
    out = np.full((len(values), STEPS, len(BANDS)), np.nan, np.float32)
    rows = np.arange(len(values))
    for t in range(values.shape[1]):
        steps = 2 * month[:, t] + half
        out[rows, steps] = np.where(np.isnan(values[:, t]), out[rows, steps], values[:, t])
    return out


def _dense(name: str, fine: bool, windows: list[tuple[str, str]], copies: int,
           rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Years of a dense patch, each from another random share of its scenes."""
    sensors = datasets.read_patch(name, fine)
    for copy in range(copies):
        start, end = windows[copy % len(windows)]
        parts = [
            sensors[key].between(start, end).some(rng.uniform(0.3, 1.0), rng)
            for key in ("sentinel-2", "sentinel-1")
        ]
        if "landsat" in sensors and copy == copies - 1:
            parts[0] = sensors["landsat"].between(start, end)
        yield datasets.means(parts, [half_months(p.dates) for p in parts], STEPS)


def _points() -> Iterator[tuple[str, np.ndarray]]:
    """The small point sets."""
    values, month, fields = datasets.read_points("uganda2017")
    train = fields["h3_l3_cell"] == "836a5afffffffff"
    yield "uganda", on_grid(values[train], month[train])
    values, month, _ = datasets.read_points("flanders2021")
    for first in (0, 4):
        yield "flanders", on_grid(values[:, first : first + 12], month[:, first : first + 12])
    for name, key in (("fuel_moisture", "fuel"), ("algae_blooms", "algae")):
        values, month, fields = datasets.read_regression(name)
        train = fields["split"] == "train"
        yield key, on_grid(values[train], month[train])


def _cube() -> np.ndarray:
    """The 10,000 pixels of the NetCDF cube, November 2020 to October 2021."""
    import netCDF4

    path = datasets.shared() / "data/worldcereal-cube-netcdf/worldcereal_preprocessed_inputs.nc"
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        names = [n for n in file.variables if n.startswith(("S1-", "S2-"))]
        raw = np.stack([file[n][:].astype(np.uint16).astype(np.float32) for n in names], axis=-1)
    raw[raw == 65535] = np.nan
    radar = np.array([n.startswith("S1") for n in names])
    with np.errstate(divide="ignore", invalid="ignore"):
        raw[..., radar] = 20 * np.log10(raw[..., radar]) - 83
    raw[..., ~radar] /= 10000
    raw[~np.isfinite(raw)] = np.nan
    series = np.moveaxis(raw.reshape(len(raw), -1, len(names)), 0, 1)
    values = datasets.in_slots(series, [datasets.common_name(n.split("-")[-1]) for n in names])
    return on_grid(values, np.tile((10 + np.arange(12)) % 12, (len(values), 1)))


def _honduras() -> Iterator[np.ndarray]:
    """Two years of the Honduras stack."""
    folder = datasets.shared() / "data/gee-export-stacks"
    (path,) = folder.glob("honduras*.tif")
    with rasterio.open(path) as file:
        raw = file.read().astype(np.float32).reshape(file.count, -1)
        names = [d.split("_")[0] if d else "" for d in file.descriptions]
    width = (len(names) - 2) // STEPS
    months = raw[: width * STEPS].reshape(STEPS, width, -1)
    months = np.moveaxis(months, 2, 0)
    commons = [datasets.common_name(n) for n in names[:width]]
    optical = [i for i, n in enumerate(commons) if n not in ("vv", "vh", None)]
    months[..., optical] /= 10000
    values = datasets.in_slots(months, commons)
    values = values[np.isfinite(values[:, 0, 0])]
    for first in (0, 12):
        yield on_grid(values[:, first : first + 12], np.tile(np.arange(12), (len(values), 1)))


def _bigearthnet(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """600 pixels of each patch at their one date."""
    folder = datasets.shared() / "data/landcover-bigearthnet-sample"
    for path in sorted(folder.glob("*_10m.tif")):
        stem = path.name.removesuffix("_10m.tif")
        layers, names = [], []
        for end, factor in (("10m", 1), ("20m", 2), ("s1", 1)):
            if not (folder / f"{stem}_{end}.tif").is_file():
                continue
            with rasterio.open(folder / f"{stem}_{end}.tif") as file:
                raw = file.read().astype(np.float32).repeat(factor, 1).repeat(factor, 2)
                names += [datasets.common_name(d.split("_")[-1]) for d in file.descriptions]
            layers.append(raw if end == "s1" else raw / 10000)
        table = np.concatenate(layers).reshape(len(names), -1).T
        table = table[rng.choice(len(table), 600, replace=False)]
        day = next(p for p in stem.split("_") if p[:2] == "20" and len(p) >= 8)
        out = np.full((len(table), STEPS, len(BANDS)), np.nan, np.float32)
        step = half_months(np.array([f"{day[:4]}-{day[4:6]}-{day[6:8]}"], "datetime64[D]"))[0]
        out[:, step] = datasets.in_slots(table, names)
        yield out


def _africa() -> np.ndarray:
    """Two half-year geomedians as two observations of a year."""
    path = datasets.shared() / "data/cropland-africa-s2-features/training_samples.npz"
    with np.load(path, allow_pickle=False) as file:
        x, region, features = file["X"], file["region"], [str(f) for f in file["features"]]
    x = x[np.isin(region, ("eastern", "western", "southern"))]
    out = np.full((len(x), STEPS, len(BANDS)), np.nan, np.float32)
    for step, half in ((6, "S1"), (18, "S2")):
        columns = [i for i, f in enumerate(features) if half in f.split("_")]
        names = ["_".join(p for p in features[i].split("_") if p != half) for i in columns]
        known = [(i, datasets.common_name(n)) for i, n in zip(columns, names, strict=True)]
        out[:, step] = datasets.in_slots(
            x[:, [i for i, n in known if n]], [n for _, n in known if n]
        )
    return out


def _slovenia() -> np.ndarray:
    """Five dates of the training columns, clouds left out."""
    scenes, _, _ = datasets.read_slovenia()
    part = scenes.values.reshape(len(scenes.dates), len(BANDS), 101, 100)[..., :60]
    scenes = datasets.Observations(
        np.ascontiguousarray(part.reshape(len(scenes.dates), len(BANDS), -1)), scenes.dates)
    return datasets.means([scenes], [half_months(scenes.dates)], STEPS)


def build(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The pool: rows (M, 24, 13), and the index (M,) of each row's source in `SOURCES`."""
    rng = np.random.default_rng(seed)
    years = [("2017-08-01", "2018-08-01"), ("2017-12-01", "2018-12-01")]
    parts = [("polders", p) for p in _dense("belgium-2018-polders", True, years, 5, rng)]
    years = [("2019-10-01", "2020-10-01"), ("2020-09-23", "2021-09-23")]
    parts += [("tanzania", p) for p in _dense("tanzania-2021", False, years, 6, rng)]
    parts += [("cube", _cube()), *_points()]
    parts += [("honduras", p) for p in _honduras()]
    parts += [("bigearthnet", p) for p in _bigearthnet(rng)]
    parts += [("slovenia", _slovenia()), ("africa", _africa())]
    names = tuple(SOURCES)
    rows = np.concatenate([p for _, p in parts])
    source = np.concatenate([np.full(len(p), names.index(name)) for name, p in parts])
    rows[(rows[:, :, 2:12] > _BRIGHTEST).any(axis=2), 2:] = np.nan
    kept = np.isfinite(rows).any(axis=(1, 2))
    return rows[kept], source[kept]


def draw(source: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` rows of the pool, each source as often as its share says."""
    sizes = np.bincount(source, minlength=len(SOURCES))
    chosen = rng.choice(len(sizes), count, p=[share for share, _ in SOURCES.values()])
    order = np.argsort(source, kind="stable")
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return order[first[chosen] + (rng.random(count) * sizes[chosen]).astype(np.int64)]


def network_input(rows: np.ndarray) -> np.ndarray:
    """Rows (n, 24, 13) as the adapter would give them: (n, 24, 20) with gaps filled, and flags."""
    out = np.zeros((len(rows), STEPS, COLUMNS), np.float32)
    for g, slots in enumerate(SLOTS):
        here = slice(slots[0], slots[-1] + 1)
        counts = np.ascontiguousarray(np.isfinite(rows[:, :, slots[0]]).T, np.float32)
        sums = np.ascontiguousarray(np.nan_to_num(rows[:, :, here]).transpose(2, 1, 0))
        fill(sums, counts, MEAN[here], 1 / STD[here], 0.0, out, slots[0])
        out[:, :, len(BANDS) + g] = counts.T
    return out


def vary(rows: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """New pixels from old: half of them mixed with another, shifted in the year, with new gains."""
    n = len(rows)
    share = np.where(rng.random(n) < 0.5, rng.beta(1, 1, n), 0.0).astype(np.float32)[:, None, None]
    mixed = (1 - share) * rows + share * others
    rows = np.where(np.isnan(mixed), rows, mixed)
    shift = np.where(rng.random(n) < 0.5, rng.integers(0, STEPS, n), 0)
    steps = (np.arange(STEPS) + shift[:, None]) % STEPS
    rows = np.take_along_axis(rows, steps[:, :, None], axis=1)
    rows[:, :, :2] += rng.normal(0, 1.0, (n, 1, 2)).astype(np.float32)
    optical = slice(SLOTS[1][0], SLOTS[5][-1] + 1)
    bands = optical.stop - optical.start
    gain = np.exp(rng.normal(0, 0.12, (n, 1, 1)) + rng.normal(0, 0.06, (n, 1, bands)))
    rows[:, :, optical] *= gain.astype(np.float32)
    return _with_ndvi(rows)


def _with_ndvi(rows: np.ndarray) -> np.ndarray:
    """NDVI worked out again where its bands are there."""
    red, nir = rows[:, :, BANDS.index("red")], rows[:, :, BANDS.index("nir")]
    both = np.isfinite(red) & np.isfinite(nir)
    rows[both, BANDS.index("ndvi")] = ndvi_of(red[both], nir[both])
    return rows


def _clouded(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clouds and snow that no mask found: some optical dates of 40 % of the pixels turn white."""
    n = len(rows)
    often = rng.uniform(0, 0.4, (n, 1)) * (rng.random((n, 1)) < 0.4)
    cover = np.where(rng.random((n, STEPS)) < often, rng.uniform(0.2, 1.0, (n, STEPS)), 0.0)
    white = np.repeat(rng.uniform(0.3, 1.0, (n, STEPS, 1)), len(BANDS), axis=2)
    swir = list(SLOTS[5])
    white[:, :, swir] *= rng.uniform(0.1, 0.8, (n, STEPS, 1))  # snow is dark there, cloud less so
    cover = np.repeat(cover[:, :, None], len(BANDS), axis=2)
    cover[:, :, [*SLOTS[0], *SLOTS[6]]] = 0
    return ((1 - cover) * rows + cover * white).astype(np.float32)


# Groups that are kept (s1 rgb rededge nir nir08 swir ndvi), and how often: sensors as users have.
_PATTERNS = (
    (0.34, "1111111"), (0.14, "1111011"), (0.08, "1000000"), (0.12, "0111111"), (0.07, "0101001"),
    (0.04, "1101001"), (0.06, "0101111"), (0.06, "1010110"), (0.03, "0001001"), (0.06, ""),
)  # fmt: skip


def degrade(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A view: noise, groups, dates and parts of the year gone; at least one observation is left."""
    n = len(rows)
    patterns = np.array([[c == "1" for c in p] for _, p in _PATTERNS if p] + [[True] * 7])
    kind = rng.choice(len(patterns), n, p=[p for p, _ in _PATTERNS])
    groups = patterns[kind]
    free = kind == len(patterns) - 1
    groups[free] = rng.random((free.sum(), len(GROUPS))) < 0.6
    keep = np.repeat(groups[:, None], STEPS, axis=1)
    for sensor in (slice(0, 1), slice(1, len(GROUPS))):  # radar and optical lose their own dates
        gone = rng.uniform(0, 0.6, (n, 1)) * (rng.random((n, 1)) < 0.7)
        few = rng.random((n, 1)) < 0.1
        keep[:, :, sensor] &= (rng.random((n, STEPS)) >= np.where(few, 0.9, gone))[:, :, None]
    cut = np.where(rng.random(n) < 0.15, rng.integers(4, STEPS, n), STEPS)
    begin = rng.integers(0, STEPS, n)
    keep &= ((np.arange(STEPS) - begin[:, None]) % STEPS < cut[:, None])[:, :, None]
    keep = np.repeat(keep, [len(s) for s in SLOTS], axis=2)
    noise = rng.normal(0, 1, rows.shape).astype(np.float32)
    view = rows + np.where(np.arange(len(BANDS)) < 2, 0.5, 0.006).astype(np.float32) * noise
    view = _with_ndvi(np.where(keep, _clouded(view, rng), np.nan))
    view[:, :, -1][~keep[:, :, -1]] = np.nan
    lost = ~np.isfinite(view).any(axis=(1, 2))
    view[lost] = rows[lost]
    return view
