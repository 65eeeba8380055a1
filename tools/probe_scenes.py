"""Small encoders against their random starts: `python tools/probe_scenes.py SYSTEM... --table F`.

Reads the trainings in build/training/SYSTEM (and SYSTEM-1, ... of other seeds) and gives the scores
of both with the paired difference. Settings of trainings were chosen on the scenes `CHOOSING`,
those of the probe with a look at all. Points have no neighbours; near ones lie side by side, so
that blocks hold them together.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pretrain import MEMORY_MB, REPOSITORY, data, sources  # noqa: E402
from probe_encoders import season  # noqa: E402

from earthprint.engine.stacks.reading import StackReader  # noqa: E402
from earthprint.engine.stacks.stack import WEATHER, Stack, build_stack  # noqa: E402
from earthprint.engine.tasks.pretrain import Windows  # noqa: E402
from earthprint.models.catalogue import adapter_of  # noqa: E402
from earthprint.models.cube import WEATHER as DAILY  # noqa: E402
from earthprint.models.cube import Cube, Series  # noqa: E402
from earthprint.models.training import datasets, pretrain  # noqa: E402
from earthprint.models.training.scene_probe import (  # noqa: E402
    METHODS,
    Cut,
    Network,
    Scene,
    cut,
    gain,
    scores,
)

LOG = logging.getLogger(__name__)
STARTS = 2  # random ones
BANDS = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08",
         "swir16", "swir22")  # fmt: skip
POINTS = 154  # of a set at most
_CROPS = ((1110,), (1120,), (1200,), (4100,), (9120,), (5100,), (1500, 1510, 1520, 1700))


def _read(stack: Stack) -> Cube:
    wanted = {"sentinel-2": BANDS, "sentinel-1": ("vv", "vh")}
    own = stack.sensors()
    bands = {s: tuple(b for b in names if b in own[s]) for s, names in wanted.items() if s in own}
    bands |= {WEATHER: tuple(DAILY)} if WEATHER in own else {}
    with StackReader(stack, sensors=tuple(bands), bands=bands) as reader:
        return reader.read(stack.grid.full)


def _labels(path: Path, band: int = 1) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(band).astype(np.int64)


def _slovenia() -> tuple[Cube, np.ndarray]:
    folder = data() / "landcover-slovenia-s2-patch"
    cover = _labels(folder / "landcover.tif")
    labels = np.select([cover == c for c in (2, 3, 4, 8)], range(4), -1)
    return _read(build_stack(sorted(folder.glob("S2_L1C_*.tif")))), labels


def _columns(labels: np.ndarray, first: int, stop: int) -> np.ndarray:
    kept = np.full_like(labels, -1)
    kept[:, first:stop] = labels[:, first:stop]
    return kept


def _spain() -> tuple[Cube, np.ndarray]:
    spain = data() / "flood-sen1floods11-spain"
    scenes = [next(spain.glob(f"*{sensor}Hand.tif")) for sensor in ("S1", "S2")]
    stack = build_stack(scenes, dates=("2019-09-17", "2019-09-18"))
    return _read(stack), _labels(next(spain.glob("*LabelHand.tif")))


def points(name: str, values: np.ndarray, month: np.ndarray, labels: np.ndarray, x: np.ndarray,
           y: np.ndarray, held_back: np.ndarray | None = None) -> Scene:
    """Points as a raster: monthly values (n, T, 13) of months (n, T), labels (n,), places."""
    rng = np.random.default_rng(0)
    classes = np.unique(labels)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[: POINTS // len(classes)]
                             for c in classes])
    group = np.floor(x[chosen] / 2) * 1000 + np.floor(y[chosen] / 2)
    if held_back is not None:
        group = group + 1e6 * held_back[chosen]
    chosen = chosen[np.argsort(group, kind="stable")]
    side = int(np.ceil(np.sqrt(len(chosen))))
    place = np.arange(len(chosen))
    rows, cols = place // side, place % side
    grid = np.full((12, values.shape[2], side, side), np.nan, np.float32)
    for point, row, col in zip(chosen, rows, cols, strict=True):
        grid[month[point], :, row, col] = values[point]
    dates = np.array([f"2018-{m:02d}-15" for m in range(1, 13)], "datetime64[D]")
    names = datasets.BANDS

    def series(sensor: str, bands: tuple[str, ...], of: tuple[str, ...]) -> Series:
        picked = grid[:, [names.index(b) for b in of]]
        return Series(sensor, bands, dates, picked, np.isfinite(picked).all(axis=1),
                      ("ascending",) * len(dates))

    stood_in = tuple("nir" if b == "nir08" else b for b in BANDS)
    known, tested = np.full((side, side), -1), np.zeros((side, side), bool)
    known[rows, cols] = labels[chosen]
    if held_back is not None:
        tested[rows, cols] = held_back[chosen]
    cube = Cube((side, side), {"sentinel-2": series("sentinel-2", BANDS, stood_in),
                               "sentinel-1": series("sentinel-1", ("vv", "vh"), ("vv", "vh"))})
    return Scene(name, cube, known, 2, None if held_back is None else tested, points=True)


def _canada() -> tuple[np.ndarray, ...]:
    values, month, given = datasets.read_points("canada2017")
    labels = sum((i + 1) * np.isin(given["croptype_code"], c) for i, c in enumerate(_CROPS)) - 1
    kept = labels >= 0
    return (values[kept, :12], month[kept, :12], labels[kept], given["lon"][kept],
            given["lat"][kept], given["split"][kept])


def canada() -> Scene:
    """Seven crops west of 79 degrees west."""
    values, month, labels, lon, lat, split = _canada()
    west = split == "train"
    return points("crops, Ontario 7", values[west], month[west], labels[west], lon[west], lat[west])


def canada_east() -> Scene:
    """The same crops, learnt in Ontario and found in Quebec and New Brunswick."""
    values, month, labels, lon, lat, split = _canada()
    return points("crops, Ontario to Quebec", values, month, labels, lon, lat, split != "train")


def world() -> Scene:
    """Five kinds of land cover, anywhere on earth."""
    values, month, given = datasets.read_points("global500")
    cover = given["landcover_code"] if "landcover_code" in given else given["landcover"]
    groups = ((10, 11, 12), (13, 20), (30,), (40, 41, 42), (50, 60, 70, 80))
    labels = sum((i + 1) * np.isin(cover, g) for i, g in enumerate(groups)) - 1
    kept = labels >= 0
    return points("land cover, world 5", values[kept], month[kept], labels[kept],
                  given["lon"][kept], given["lat"][kept])


def slovenia_west() -> Scene:
    """Land cover of the columns whose pixels, never labels, are training data."""
    cube, labels = _slovenia()
    return Scene("land cover, Slovenia west 4", cube, _columns(labels, 0, 60), 12)


def slovenia_east() -> Scene:
    """Land cover of columns that were not seen."""
    cube, labels = _slovenia()
    return Scene("land cover, Slovenia east 3", cube, _columns(labels, 80, 100), 10)


def water_east() -> Scene:
    """Water of the chip's right half, one date."""
    cube, labels = _spain()
    kept = _columns(labels, 256, 512)
    kept[128:] = -1  # as much as says the same
    return Scene("water, Spain east 2", cube, kept, 40)


def water_west() -> Scene:
    """Water of the left half."""
    cube, labels = _spain()
    kept = _columns(labels, 0, 256)
    kept[128:] = -1  # as much as says the same
    return Scene("water, Spain west 2", cube, kept, 40)


def cropland() -> Scene:
    """Another system's map of cropland, which is no truth but a map of the same ground."""
    import netCDF4

    folder = data() / "worldcereal-cube-netcdf"
    cube = _read(build_stack([folder / "worldcereal_preprocessed_inputs.nc"]))
    s2 = cube.series["sentinel-2"]
    if "nir08" not in s2.bands:
        values = np.concatenate([s2.values, s2.values[:, [s2.bands.index("nir")]]], axis=1)
        s2 = Series(s2.sensor, (*s2.bands, "nir08"), s2.dates, values, s2.valid, s2.orbits)
    with netCDF4.Dataset(folder / "worldcereal_cropland_classification.nc") as file:
        layers = next(v for v in file.variables.values() if v.ndim == 3)
        labels = np.ma.filled(layers[0], 255).astype(np.int64)
    labels = np.where(np.isin(labels, (0, 1)), labels, -1)
    return Scene("cropland map, eastern Belgium 2", Cube(
        cube.shape, {**cube.series, "sentinel-2": s2}), labels, 16)


def polders() -> Scene:
    """Crops of the Belgian patch, whose pixels, never labels, are training data."""
    folder = data() / "crop-worldcereal-patches" / "belgium-2018-polders"
    cover, crop = (_labels(folder / "labels_LC_CT_10m.tif", band) for band in (1, 2))
    labels = np.select([cover == 0, crop == 1200, crop == 9120, cover == 11], [-1, 0, 1, 2], 3)
    return Scene("crops, Belgium polders 4", _read(season(folder)), labels, 16)


CHOOSING: tuple[Callable[[], Scene], ...] = (canada, slovenia_west, water_east, cropland)
CONFIRMING: tuple[Callable[[], Scene], ...] = (
    canada_east, world, polders, slovenia_east, water_west)
SCENES = {"choosing": CHOOSING, "confirming": CONFIRMING, "all": CHOOSING + CONFIRMING}


def cuts(system: pretrain.Small, of: tuple[Callable[[], Scene], ...]) -> Iterator[Cut]:
    """The scenes that the system can read, in its windows."""
    card = system.card()
    for read in of:
        scene = read()
        bands = {name: series.bands for name, series in scene.cube.series.items()}
        if scene.cube.weather is not None:
            bands[WEATHER] = ()
        if lines := adapter_of(card).missing(bands, card):
            LOG.info("%s: %s", scene.name, lines[0])
            continue
        yield cut(scene, card)


def network(system: pretrain.Small, encoder: torch.nn.Module, windows: Windows | None) -> Network:
    """The encoder's own features, or with windows the vectors that its exported file would give."""
    if windows is None:
        module, mean = system.exportable(encoder.eval()).module, None
    else:
        given, mean, _ = pretrain.ready(system, encoder, windows)
        module = given.module

    def features(inputs: dict[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            found = module(*(torch.from_numpy(x) for x in inputs.values()))
        return (found if mean is None else torch.nn.functional.normalize(found - mean)).numpy()

    return features


def compared(name: str, of: tuple[Callable[[], Scene], ...], exported: bool) -> list[str]:
    """Rows of a Markdown table: a scene each, and the paired difference over all.

    `exported`: of the vectors that the file gives, not of the network's own features.
    """
    system, room = pretrain.small(name), REPOSITORY / "build" / "training"
    folders = [f for f in sorted([room / name, *room.glob(f"{name}-[0-9]*")])
               if (f / "state.pt").is_file()]
    given = list(cuts(system, of))
    encoders = [pretrain.start(system, seed).encoder for seed in range(STARTS)]
    encoders += [pretrain.load(system, folder).objective.encoder for folder in folders]
    if exported:
        with Windows(tuple(sources()), system.card(), MEMORY_MB) as windows:
            networks = [network(system, encoder, windows) for encoder in encoders]
    else:
        networks = [network(system, encoder, None) for encoder in encoders]
    found = [np.stack([scores(each, n, not exported) for each in given]) for n in networks]
    starts, trained = found[:STARTS], found[STARTS:]
    result, title = gain(starts, trained), system.card().name
    rows = []
    for i, each in enumerate(given):
        cells = [f"{a:.1f} → {b:.1f}" for a, b in zip(result.start[i], result.trained[i],
                                                      strict=True)]
        rows.append(f"| `{title}` | {each.scene.name} | {' | '.join(cells)} |")
    cells = [f"**{m:+.1f}{f' ± {e:.1f}' if len(given) > 1 else ''}**"
             for m, e in zip(result.mean, result.error, strict=True)]
    alone = [gain(starts, [one]).mean for one in trained] if len(trained) > 1 else []
    seeds = "; ".join(" and ".join(f"{v:+.1f}" for v in one) for one in alone)
    title = f"all{f', each training by itself: {seeds}' if seeds else ''}"
    return [*rows, f"| | {title} | {' | '.join(cells)} |"]


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("systems", nargs="+", choices=pretrain.systems())
    parser.add_argument("--table", type=Path, required=True, help="Markdown to write")
    parser.add_argument("--scenes", choices=SCENES, default="all")
    parser.add_argument("--exported", action="store_true",
                        help="the file's unit vectors instead of the network's own features")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("earthprint.engine").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    lines = [f"| encoder | scene | {' | '.join(METHODS)} |", "|-|-|" + "-|" * len(METHODS)]
    for name in given.systems:
        rows = compared(name, SCENES[given.scenes], given.exported)
        LOG.info("\n".join(rows))
        lines += rows
        given.table.write_text("\n".join(lines) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
