"""Change between two real dates, labelled: Landsat 7 over Taizhou, RADARSAT over Ottawa.

    PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python benchmarks/change_pair.py

The Taizhou files hold digital numbers, no reflectance, of 2000-03-17 and 2003-02-06; only the left
half has labels here. Ottawa is a pair of 8-bit amplitudes of a flood with a full map of change.
The job runs as an analyst would run it; beside it the simple baselines: change vectors of
standardised bands cut by Otsu, and the absolute log ratio of 3 x 3 means cut by Otsu. The spread
is the standard deviation over 500 draws of blocks of 20 x 20 pixels.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import Affine
from scipy.ndimage import uniform_filter
from sklearn.metrics import roc_auc_score

from earthprint.engine import jobs
from earthprint.engine.context import JobContext

LANDSAT = ("landsat7_t1_2000.tif", "landsat7_t2_2003.tif")
BLOCK, DRAWS = 20, 500
#: Plausible reflectance of blue green red nir swir1 swir2: mean and spread.
MEAN = np.array([0.09, 0.10, 0.11, 0.22, 0.20, 0.14])[:, None, None]
SPREAD = np.array([0.02, 0.025, 0.035, 0.06, 0.06, 0.05])[:, None, None]


@dataclass(frozen=True)
class Answer:
    """What a method says.

    Attributes:
        name: of the method.
        strength: (rows, cols) from which a ranking follows.
        changed: (rows, cols) bool.
    """

    name: str
    strength: np.ndarray
    changed: np.ndarray


def standardised(bands: np.ndarray) -> np.ndarray:
    """(bands, rows, cols) with mean 0 and spread 1 each."""
    return (bands - bands.mean((1, 2), keepdims=True)) / bands.std((1, 2), keepdims=True)


def otsu(values: np.ndarray) -> float:
    """Otsu's cut of a histogram of 512 bins."""
    counts, edges = np.histogram(values, 512)
    centres, below = (edges[:-1] + edges[1:]) / 2, np.cumsum(counts)
    mass, above = np.cumsum(counts * centres), counts.sum() - np.cumsum(counts)
    between = (mass[-1] * below / counts.sum() - mass) ** 2 / np.maximum(below * above, 1)
    return float(edges[1:][between.argmax()])


def run(before: Path, after: Path, name: str, **more: object) -> Answer:
    """The job."""
    with tempfile.TemporaryDirectory() as folder:
        map_, strength = Path(folder) / "map.tif", Path(folder) / "strength.tif"
        jobs.run("change_detection", {
            "before": [str(before)], "after": [str(after)], "output": str(map_),
            "distance": str(strength), "min_area_ha": 0, **more}, JobContext())
        with rasterio.open(map_) as one, rasterio.open(strength) as two:
            return Answer(name, two.read(1).astype(float), one.read(1) == 1)


def read(path: Path) -> np.ndarray:
    """All bands as numbers."""
    with rasterio.open(path) as dataset:
        return dataset.read().astype(float)


def as_reflectance(source: Path, target: Path) -> Path:
    """Write a file's bands with plausible means and spreads, times 10000."""
    with rasterio.open(source) as dataset:
        bands, profile, names = dataset.read().astype(float), dataset.profile, dataset.descriptions
    codes = np.clip(1e4 * (standardised(bands) * SPREAD + MEAN), 1, 1e4).astype(np.uint16)
    with rasterio.open(target, "w", **{**profile, "dtype": "uint16"}) as dataset:
        dataset.write(codes)
        dataset.descriptions = names
    return target


def taizhou(shared: Path) -> tuple[np.ndarray, Iterator[Answer]]:
    """Labels (0 none, 1 unchanged, 2 changed) of the left half, and the answers."""
    folder = shared / "data" / "change-landsat-china" / "taizhou"
    first, second = (folder / name for name in LANDSAT)
    labels = read(folder / "labels_left_half.tif")[0]

    def answers() -> Iterator[Answer]:
        length = np.linalg.norm(standardised(read(second)) - standardised(read(first)), axis=0)
        yield Answer("baseline: change vectors of standardised bands, Otsu", length,
                     length > otsu(length))
        yield run(first, second, "bands (automatic), digital numbers as they are")
        yield run(first, second, "embeddings, digital numbers as they are", method="embeddings")
        with tempfile.TemporaryDirectory() as scratch:
            made = [as_reflectance(p, Path(scratch) / f"LE07_{p.name[-8:-4]}0301.tif")
                    for p in (first, second)]
            yield run(*made, "embeddings, brought to plausible reflectance", method="embeddings")
            yield run(*made, "bands, brought to plausible reflectance")

    return labels, answers()


def ottawa(shared: Path) -> tuple[np.ndarray, Iterator[Answer]]:
    """The same of the radar pair."""
    folder = shared / "data" / "change-sar-ottawa"
    first, second, truth = (np.array(Image.open(folder / f"ottawa_{k}.png").convert("L"), float)
                            for k in ("1", "2", "gt"))

    def answers() -> Iterator[Answer]:
        ratio = np.abs(np.log((uniform_filter(first, 3) + 1) / (uniform_filter(second, 3) + 1)))
        yield Answer("baseline: log ratio of 3 x 3 means, Otsu", ratio, ratio > otsu(ratio))
        with tempfile.TemporaryDirectory() as scratch:
            made = []
            for values, day in ((first, "19970501"), (second, "19970801")):
                made.append(Path(scratch) / f"S1_{day}.tif")
                with rasterio.open(made[-1], "w", driver="GTiff", width=values.shape[1],
                                   height=values.shape[0], count=1, dtype="float32",
                                   crs=CRS.from_epsg(32618),
                                   transform=Affine(10, 0, 4e5, 0, -10, 5e6)) as dataset:
                    dataset.write((20 * np.log10(values + 1) - 50)[None].astype(np.float32))
                    dataset.set_band_description(1, "VV")
            yield run(*made, "bands (automatic), amplitude in dB")

    return np.where(truth > 127, 2, 1), answers()


def row(answer: Answer, labels: np.ndarray) -> str:
    """A line of the table: figures ± their spread over draws of blocks."""
    rows, cols = labels.shape
    known = labels > 0
    block = (np.arange(rows)[:, None] // BLOCK) * (-(-cols // BLOCK)) + np.arange(cols) // BLOCK
    true, found = labels[known] == 2, answer.changed[:, :cols][known]
    counts = np.stack([np.bincount(block[known], (true == a) & (found == b), block.max() + 1)
                       for a in (False, True) for b in (False, True)], 1)
    rng = np.random.default_rng(0)
    draws = [counts[rng.integers(0, len(counts), len(counts))].sum(0) for _ in range(DRAWS)]
    spread = np.nanstd([scores(*d) for d in draws], 0)
    cells = " | ".join(f"{v:.3f} ± {s:.3f}" for v, s in zip(
        scores(*counts.sum(0)), spread, strict=True))
    return (f"| {answer.name} | {roc_auc_score(true, answer.strength[:, :cols][known]):.3f} | "
            f"{cells} |")


def scores(tn: float, fp: float, fn: float, tp: float) -> tuple[float, ...]:
    """OA, F1, kappa, precision, recall."""
    n = tn + fp + fn + tp
    chance = ((tp + fp) * (tp + fn) + (tn + fn) * (tn + fp)) / n**2
    right = (tp + tn) / n
    return (right, 2 * tp / max(2 * tp + fp + fn, 1), (right - chance) / max(1 - chance, 1e-9),
            tp / max(tp + fp, 1), tp / max(tp + fn, 1))


def tables(shared: Path) -> Iterator[str]:
    """Lines of both tables."""
    for title, place in (("Taizhou, Landsat 7, left half (9 456 labelled pixels)", taizhou),
                         ("Ottawa, RADARSAT, whole", ottawa)):
        labels, answers = place(shared)
        yield f"| {title} | area under the curve | OA | F1 | kappa | precision | recall |"
        yield "|-|-|-|-|-|-|-|"
        for answer in answers:
            yield row(answer, labels)
        yield ""


def main() -> None:
    """Print the tables."""
    shared = Path(os.environ.get("EARTHPRINT_SHARED",
                                 Path(__file__).resolve().parents[2] / "shared"))
    for line in tables(shared):
        print(line, flush=True)


if __name__ == "__main__":
    main()
