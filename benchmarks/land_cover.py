"""How right land cover maps are, on ground that was held back, beside simple baselines.

    PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python \
        benchmarks/land_cover.py [--write] [--quick]

The ready-made head on places that it has not seen, then heads that are learned from labels. With
--write the tables replace the section between the markers in docs/evaluation.md; --quick leaves
out the baselines on points, which take some minutes. Everything goes through the engine's jobs.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from land_cover_sets import CLASSES, INPUTS, training_sets
from rasterio.warp import transform

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from train_land_cover import ROUNDS, judged  # noqa: E402

from earthprint.engine import jobs  # noqa: E402
from earthprint.engine.context import JobContext  # noqa: E402
from earthprint.engine.errors import UserError  # noqa: E402
from earthprint.engine.heads import accuracy, classifiers  # noqa: E402
from earthprint.engine.heads.head import Head  # noqa: E402
from earthprint.engine.rasters.grid import Grid  # noqa: E402
from earthprint.engine.rasters.legend import NODATA  # noqa: E402
from earthprint.engine.tasks.apply_head import head_file  # noqa: E402
from earthprint.models.training import datasets, pool  # noqa: E402

LOG = logging.getLogger("land_cover")
PAGE = ROOT / "docs" / "evaluation.md"
START, END = "<!-- land cover: begin -->", "<!-- land cover: end -->"
JOB = "land_cover_segmentation"
SEEDS = (0, 1, 2)
EACH = 150  # labelled pixels of a class to learn from
Rows = list[Sequence[str]]


@dataclass(frozen=True)
class Place:
    """Rasters with known classes.

    Attributes:
        name: for the table.
        rasters: input of the jobs.
        truth: (rows, cols) values of the legend on `grid`, 0 where unknown.
        grid: of the truth.
    """

    name: str
    rasters: tuple[Path, ...]
    truth: np.ndarray
    grid: Grid

    def of(self, chosen: np.ndarray) -> Place:
        """With the truth of some pixels alone."""
        return Place(self.name, self.rasters, np.where(chosen, self.truth, 0), self.grid)

    def judge(self, output: Path) -> accuracy.Scores:
        """Scores of a map by the pixels of known class, nearest pixel of the map."""
        rows, cols = np.nonzero(self.truth)
        with rasterio.open(output) as file:
            if self.grid.crs is None or self.grid.crs == file.crs:
                xy = self.grid.affine @ (cols + 0.5, rows + 0.5)
            else:
                xy = transform(self.grid.crs, file.crs, *self.grid.affine @ (cols + 0.5,
                                                                            rows + 0.5))
            c, r = (np.floor(v).astype(int) for v in ~file.transform @ tuple(map(np.asarray, xy)))
            inside = (r >= 0) & (c >= 0) & (r < file.height) & (c < file.width)
            mapped = np.full(len(rows), NODATA)
            mapped[inside] = file.read(1)[r[inside], c[inside]]
        truth = self.truth[rows, cols]
        values = np.unique(np.concatenate([truth, mapped]))
        return accuracy.scores(accuracy.confusion(
            np.searchsorted(values, mapped), np.searchsorted(values, truth), len(values)))


def _truth(path: Path, names: dict[int, int]) -> tuple[np.ndarray, Grid]:
    with rasterio.open(path) as file:
        codes, grid = file.read(1), Grid.of(file)
    truth = np.zeros(codes.shape, int)
    for code, value in names.items():
        truth[codes == code] = value
    return truth, grid


def slovenia() -> Place:
    """The three clear dates of the Slovenian patch."""
    folder = datasets.shared() / "data" / "landcover-slovenia-s2-patch"
    scenes = tuple(folder / f"S2_L1C_2015{day}.tif" for day in ("0711", "0830", "0909"))
    return Place("Slovenia, 4 classes", scenes,
                 *_truth(folder / "landcover.tif", {2: 10, 3: 30, 4: 20, 8: 50}))


def columns(place: Place, first: int, last: int) -> Place:
    """The truth of some columns alone."""
    here = np.arange(place.truth.shape[1])
    return place.of(((here >= first) & (here < last))[None])


def belgium(name: str) -> Place:
    """A Belgian patch at 20 m: grassland, cropland, built-up."""
    folder = datasets.shared() / "data" / "crop-worldcereal-patches" / name
    ends = ("s2_20m", "s1_vv_vh_20m") if name.endswith("polders") else (
        "s2_20m_stack.tif", "s1_vv_vh_20m_stack.tif")
    return Place(name, tuple(folder / end for end in ends),
                 *_truth(folder / "labels_LC_CT_10m.tif", {11: 40, 13: 30, 60: 50}))


def water(name: str) -> Place:
    """A scene with water and land; land is any other class, so only water is judged."""
    folder = datasets.shared() / "data" / "cloud-water-masks"
    return Place(name, (folder / f"{name}_image.tif",),
                 *_truth(folder / f"{name}_mask.tif", {1: 80, 3: 1}))


def run(job: str, **params: object) -> dict:
    """A job of the engine."""
    return jobs.run(job, params, JobContext(threads=1, device="cpu"))


def text(values: Sequence[float]) -> str:
    """Mean and spread of values in 0..1, in %."""
    found = 100 * np.array(values)
    spread = f" ± {found.std(ddof=1):.0f}" if len(found) > 1 else ""
    return f"{found.mean():.0f}{spread}"


def cell(found: Sequence[accuracy.Scores]) -> str:
    """Macro-F1 and overall accuracy."""
    return f"{text([s.macro_f1 for s in found])} / {text([s.overall for s in found])}"


def table(head: Sequence[str], rows: Rows) -> str:
    """Markdown."""
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "-|" * len(head),
                      *("| " + " | ".join(row) + " |" for row in rows)])


# --- the ready-made head --------------------------------------------------------------------------


def on_points(quick: bool) -> str:
    """Held-back squares worldwide: the head's card beside a random forest on the same squares."""
    held = Head.open(head_file("land_cover")).card.validation["inputs"]
    rows = []
    forests: dict[str, Callable | None] = {} if quick else {
        "forest on band series, seasons only": lambda rows, rng: iter([rows]),
        "forest on band series, same poorer views": None}
    found = {name: [judged(training_sets(), _series, turn, _forest, views)
                    for turn in range(ROUNDS if views else 1)] for name, views in forests.items()}
    for name in INPUTS:
        cells = [f"{100 * held[name]['macro_f1']:.0f} ± {100 * held[name]['spread']:.0f} / "
                 f"{100 * held[name]['overall']:.0f}"]
        for rounds in found.values():
            cells.append(cell([_scored(one[name]) for one in rounds]))
        rows.append((name, *cells))
        LOG.info(rows[-1])
    return table(("input", "ready-made head", *found), rows)


def _scored(pair: tuple[np.ndarray, np.ndarray]) -> accuracy.Scores:
    truth, probabilities = pair
    return accuracy.scores(accuracy.confusion(probabilities.argmax(1), truth, len(CLASSES)))


def _series(rows: np.ndarray) -> np.ndarray:
    return pool.network_input(rows).reshape(len(rows), -1)


def _forest(x: np.ndarray, y: np.ndarray) -> classifiers.Forest:
    return classifiers.fit_forest(x, y, len(CLASSES), 0, 1)


def ready_made() -> str:
    """Maps of the ready-made head through the job, judged by pixels that it has not seen."""
    rows = []
    one_scene = columns(slovenia(), 80, 100)
    cases = [("season", columns(slovenia(), 80, 100)),
             ("one date", Place(one_scene.name, one_scene.rasters[1:2], one_scene.truth,
                                one_scene.grid)),
             ("season", belgium("belgium-2019-north"))]
    for kind, place in cases:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "map.tif"
            run(JOB, input=[str(p) for p in place.rasters], output=str(output))
            scores = place.judge(output)
        rows.append((place.name, kind, cell([scores]), str(int(scores.samples.sum()))))
        LOG.info(rows[-1])
    return table(("place", "input", "macro F1 / OA", "pixels"), rows)


def water_scenes() -> str:
    """Water of single undated scenes of six bands, beside the water index."""
    rows = []
    for name in ("sentinel2", "landsat7"):
        place = water(name)
        with tempfile.TemporaryDirectory() as folder, rasterio.open(place.rasters[0]) as file:
            output = Path(folder) / "map.tif"
            run(JOB, input=[str(place.rasters[0])], output=str(output))
            with rasterio.open(output) as made:
                mapped = made.read(1)
            green, nir, swir = (file.read(b).astype(float) for b in (2, 4, 5))
        known, truth = place.truth > 0, place.truth == 80
        guesses = [mapped == 80, green > nir, green > swir]
        rows.append((name, *(text([(g & truth).sum() / ((g | truth) & known).sum()])
                             for g in (g & known for g in guesses))))
        LOG.info(rows[-1])
    return table(("scene", "ready-made head", "NDWI > 0", "MNDWI > 0"), rows)


# --- heads learned from labels --------------------------------------------------------------------


def write_points(place: Place, path: Path, seed: int) -> None:
    """Up to `EACH` pixels of each class as points with the field `cover`."""
    rng, features = np.random.default_rng(seed), []
    for value in np.unique(place.truth[place.truth > 0]):
        rows, cols = np.nonzero(place.truth == value)
        chosen = rng.permutation(len(rows))[:EACH]
        x, y = place.grid.affine @ (cols[chosen] + 0.5, rows[chosen] + 0.5)
        for point in zip(*transform(place.grid.crs, "EPSG:4326", x, y), strict=True):
            features.append({"type": "Feature", "properties": {"cover": int(value)},
                             "geometry": {"type": "Point", "coordinates": point}})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


class Encoded:
    """Places with embeddings that are made once, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def input(self, place: Place, features: str, encoder: str) -> list[str]:
        """What a job is given of a place."""
        given = [str(p) for p in place.rasters]
        if features == "bands":
            return given
        path = self.folder / f"{encoder}-{place.name.replace(' ', '')}.tif"
        if not path.exists():
            run("encode", input=given, output=str(path), encoder=encoder, upsample=True)
        return [str(path)] if features == "embeddings" else [*given, str(path)]


def learned(places: Encoded, train: Place, test: Place, seed: int, block_m: float, features: str,
            model: str, encoder: str = "fast") -> accuracy.Scores:
    """Scores of a head learned on one place and mapped on another."""
    points, output = places.folder / "points.geojson", places.folder / "map.tif"
    head = places.folder / "own.head.onnx"
    write_points(train, points, seed)
    run("train_head", input=places.input(train, features, encoder), labels=str(points),
        field="cover", output=str(head), features=features, model=model, block_m=block_m,
        seed=seed, target="classes")
    run(JOB, input=places.input(test, features, encoder), head=str(head), output=str(output))
    return test.judge(output)


WAYS: dict[str, tuple[str, ...]] = {
    "random forest on bands": ("bands", "forest"),
    "logistic on embeddings of fast": ("embeddings", "logistic"),
    "features auto, logistic": ("auto", "logistic"),
    "features auto, model automatic": ("auto", "auto"),
    "convolutional on fast": ("embeddings", "convolutional"),
    "maestro-small, tokens interpolated, logistic": ("embeddings", "logistic", "maestro-small"),
    "maestro-small, convolutional": ("embeddings", "convolutional", "maestro-small"),
}


def from_labels() -> str:
    """Heads from labels: to other columns of a scene, and to another patch and year."""
    pairs = [(columns(slovenia(), 0, 60), columns(slovenia(), 80, 100), 100.0),
             (belgium("belgium-2018-polders"), belgium("belgium-2019-north"), 160.0)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        places = Encoded(Path(folder))
        for name, way in WAYS.items():
            cells = []
            for train, test, block_m in pairs:
                try:
                    cells.append(cell([learned(places, train, test, seed, block_m, *way)
                                       for seed in SEEDS]))
                except UserError as refused:
                    LOG.info("%s: %s", name, refused)
                    cells.append("refused")
            rows.append((name, *cells))
            LOG.info(rows[-1])
    return table(("head", "Slovenia, columns 0-59 to 80-99", "polders 2018 to north 2019"), rows)


def section(quick: bool) -> str:
    """The section of docs/evaluation.md."""
    parts = [
        "**Land cover, the ready-made head.** Seven classes of ESA WorldCover on embeddings of "
        "`fast`. Worldwide points where a reference and WorldCover agree, in squares of 2.5 "
        f"degrees that were held back; macro F1 / overall accuracy in %, ± spread over {ROUNDS} "
        "draws of the squares. The forests learned from the same samples of the same squares on "
        "the band series (24 half-months, gaps filled); "
        "with poorer views on one draw only.",
        on_points(quick),
        "Maps made by the job on places that the head has not seen (Slovenia: columns 80-99 of a "
        "patch whose columns 0-59 it has seen), by all their labelled pixels, macro F1 / OA in %:",
        ready_made(),
        "Water in single undated scenes with cloud and shadow, IoU among pixels labelled water "
        "or land, in %; neither scene was used to train:",
        water_scenes(),
        f"**Land cover learned from labels.** {EACH} pixels of a class at most as labels, "
        "mapped where nothing was labelled; macro F1 / OA in %, ± spread over "
        f"{len(SEEDS)} draws of the labels. `benchmarks/land_cover.py --write` makes this section.",
        from_labels()]
    return "\n\n".join(parts)


def main() -> int:
    """Print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/evaluation.md")
    parser.add_argument("--quick", action="store_true", help="without baselines on points")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("earthprint").setLevel(logging.ERROR)
    made = section(given.quick)
    sys.stdout.write(made + "\n")
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        if START not in page:
            page += f"\n{START}\n{END}\n"
        before, rest = page.split(START)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{START}\n{made}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
