"""Precision at 100 of single clicks on labelled patches, beside the same search on raw bands.

    PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python \
        benchmarks/search_precision.py [--ridge]

A click is a labelled pixel, chosen by a fixed seed. The 100 pixels most alike count, among the
labelled ones that lie far enough away to be another field or stand; the precision is the share of
the click's class. Bands are compared in the same way: cosine of the vectors of all dates,
standardised by the mean and spread of each over the patch, or as they are. `--ridge` tells how
much regularisation suits clicks with counterexamples, on a patch that the table leaves out.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.rasters.embeddings import EmbeddingsFile
from earthprint.engine.search.kernel import Coding
from earthprint.engine.search.query import linear_head
from earthprint.engine.stacks.reading import StackReader
from earthprint.engine.stacks.stack import open_input

CLICKS, WANTED = 40, 100
WANTED_OF_HELD_OUT = 40  # the smallest class of its 1024 pixels has little more


@dataclass(frozen=True)
class Patch:
    """A labelled patch.

    Attributes:
        folder: below the shared data.
        rasters: glob patterns of what is encoded.
        labels, band: where the labels are.
        classes: value to name.
        ignored: values that are no label.
        apart: pixels that a match must lie from its click.
    """

    folder: str
    rasters: tuple[str, ...]
    labels: str
    band: int
    classes: dict[int, str]
    ignored: tuple[int, ...] = (0, 255)
    apart: int = 15

    @property
    def name(self) -> str:
        """For the table."""
        single = self.rasters[0] if len(self.rasters) == 1 and "*" not in self.rasters[0] else ""
        return f"{Path(self.folder).name}{', ' if single else ''}{Path(single).stem}"


_CROPS = "crop-worldcereal-patches/"
_LAND = {1: "water", 3: "land"}
TABLE = (
    Patch(_CROPS + "belgium-2018-polders", ("s2_10m", "s2_20m", "s1_vv_vh_20m"),
          "labels_LC_CT_10m.tif", 2, {1200: "maize", 9120: "grassland"}),
    Patch("landcover-slovenia-s2-patch", ("S2_L1C_*.tif",), "landcover.tif", 1,
          {2: "forest", 3: "grassland", 4: "shrubland", 8: "artificial"}),
    Patch("cloud-water-masks", ("sentinel2_image.tif",), "sentinel2_mask.tif", 1, _LAND, (255,)),
    Patch("cloud-water-masks", ("landsat7_image.tif",), "landsat7_mask.tif", 1, _LAND, (255,)),
)
#: Not in the table, so that what is chosen on it says nothing of the table.
HELD_OUT = Patch(_CROPS + "belgium-2019-north", ("s2_20m_stack.tif", "s1_vv_vh_20m_stack.tif"),
                 "labels_LC_CT_10m.tif", 2,
                 {1200: "maize", 9120: "grassland", 5100: "potato"}, apart=3)
RIDGES = (0.01, 0.03, 0.1, 0.2, 0.3, 1.0, 3.0, 10.0)
SHOWN = (1, 3, 6)  # examples, and as many counterexamples


class Scene:
    """A patch, encoded.

    Args:
        patch: which.
        shared: folder of the shared data.
    """

    def __init__(self, patch: Patch, shared: Path) -> None:
        self.patch, folder = patch, shared / "data" / patch.folder
        rasters = [str(p) for pattern in patch.rasters for p in sorted(folder.glob(pattern))]
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "e.tif"
            jobs.run("encode", {"input": rasters, "output": str(path)}, JobContext())
            with EmbeddingsFile(path) as file:
                self.codes = file.codes(file.grid.full)
                coding, grid = Coding(file.scale, np.zeros(file.dims)), file.grid
        self.known = self.codes[..., 0] != 0
        embeddings = coding.units(self.codes.reshape(-1, self.codes.shape[2]))
        self.vectors = {"embeddings": embeddings, **_bands(rasters)}
        self.labels = np.full(grid.shape, patch.ignored[0], np.int32)
        with rasterio.open(folder / patch.labels) as dataset:
            labels = dataset.read(patch.band).astype(np.int32)
            if dataset.crs is None:
                self.labels = labels
            else:
                reproject(labels, self.labels, src_transform=dataset.transform,
                          src_crs=dataset.crs, dst_transform=grid.affine,
                          dst_crs=CRS.from_wkt(grid.crs_wkt), resampling=Resampling.nearest,
                          init_dest_nodata=False)
        self.known &= ~np.isin(self.labels, patch.ignored)
        self.rows, self.cols = np.nonzero(self.known)
        self.flat = self.rows * grid.shape[1] + self.cols
        self.classes = self.labels[self.known]

    def places(self, rng: np.random.Generator, wanted: np.ndarray, count: int) -> np.ndarray:
        """Indices of some known pixels."""
        return rng.choice(np.flatnonzero(wanted), count, replace=False)

    def precision(self, direction: np.ndarray, kind: str, shown: np.ndarray, value: int,
                  wanted: int = WANTED) -> float:
        """Share of a class among the best pixels that lie apart from those that were shown."""
        free = np.ones(len(self.flat), bool)
        for k in shown:
            free &= np.hypot(self.rows - self.rows[k], self.cols - self.cols[k]) > self.patch.apart
        order = np.argsort(-(self.vectors[kind][self.flat[free]] @ direction), kind="stable")
        return float((self.classes[free][order[:wanted]] == value).mean())


def _bands(rasters: list[str]) -> dict[str, np.ndarray]:
    """Unit vectors of monthly means of all bands: standardised, and as they are.

    A month without a valid value takes the mean over the patch.
    """
    stack = open_input(rasters)
    with StackReader(stack) as reader:
        cube = reader.read(stack.grid.full)
    columns = []
    for series in cube.series.values():
        months = series.dates.astype("datetime64[M]")
        for month in np.unique(months):
            own = (months == month) if not np.isnat(month) else np.isnat(months)
            values = np.where(series.valid[own][:, None], series.values[own], np.nan)
            count = np.isfinite(values).sum(0)
            mean = np.where(count > 0, np.nansum(values, 0) / np.maximum(count, 1), np.nan)
            columns += [band.ravel() for band in mean if np.isfinite(band).any()]
    table = np.array(columns, float).T
    middle, spread = np.nanmean(table, 0), np.nanstd(table, 0)
    table = np.where(np.isnan(table), middle, table)
    kinds = {"standardised bands": (table - middle) / np.maximum(spread, 1e-9), "bands": table}
    return {name: rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
            for name, rows in kinds.items()}


def single_clicks(scene: Scene) -> Iterator[str]:
    """A row of the table for each class."""
    rng = np.random.default_rng(0)
    for value, name in scene.patch.classes.items():
        clicks = scene.places(rng, scene.classes == value, CLICKS)
        cells = []
        for kind, vectors in scene.vectors.items():
            shares = [scene.precision(vectors[scene.flat[k]], kind, [k], value) for k in clicks]
            cells.append(f"{np.mean(shares):.2f} ± {np.std(shares):.2f}")
        share = (scene.classes == value).mean()
        yield f"| {scene.patch.name} | {name} | {share:.2f} | {' | '.join(cells)} |"


def with_counterexamples(scene: Scene, ridge: float, shown: int) -> list[float]:
    """Precision of linear heads on as many examples as counterexamples, over all classes."""
    rng, found = np.random.default_rng(1), []
    vectors = scene.vectors["embeddings"]
    background = vectors[scene.flat[:: max(len(scene.flat) // 4000, 1)]]
    for value in scene.patch.classes:
        for _ in range(CLICKS):
            yes = scene.places(rng, scene.classes == value, shown)
            no = scene.places(rng, scene.classes != value, shown)
            head = linear_head(vectors[scene.flat[yes]], vectors[scene.flat[no]], background, ridge)
            found.append(scene.precision(head, "embeddings", [*yes, *no], value,
                                         WANTED_OF_HELD_OUT))
    return found


def main() -> None:
    """Print what was asked for as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ridge", action="store_true", help="choose the regularisation instead")
    chosen = parser.parse_args().ridge
    shared = Path(os.environ.get("EARTHPRINT_SHARED",
                                 Path(__file__).resolve().parents[2] / "shared"))
    if chosen:
        scene = Scene(HELD_OUT, shared)
        print(f"{scene.patch.name}, mean precision at {WANTED_OF_HELD_OUT}, "
              f"{CLICKS} draws a class\n")
        print("| ridge | " + " | ".join(f"{n} + {n} shown" for n in SHOWN) + " |")
        print("|-" * (len(SHOWN) + 1) + "|")
        for ridge in RIDGES:
            cells = (f"{np.mean(with_counterexamples(scene, ridge, n)):.3f}" for n in SHOWN)
            print(f"| {ridge:g} | {' | '.join(cells)} |", flush=True)
        return
    print(f"| patch | class | share of labels | embeddings | standardised bands | bands |\n"
          f"{'|-' * 6}|")
    for patch in TABLE:
        for row in single_clicks(Scene(patch, shared)):
            print(row, flush=True)


if __name__ == "__main__":
    main()
