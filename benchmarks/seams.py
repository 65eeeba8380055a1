"""Does tiling show? The same raster mapped by other windows, threads and extents.

``PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python benchmarks/seams.py``
writes the section `seams` of `docs/evaluation.md`. Every bundled encoder encodes a real raster, a
head maps it with smoothing, and the share of pixels is counted whose class is another one when

- memory budget and threads, so the windows, are others;
- the extent starts at an odd place (11 rows, 17 columns) and ends at one: all pixels of it, and
  those at least one pixel from its edge, where smoothing still has all neighbours;
- the raster itself is cut (by 5 rows, 3 columns, no multiple of a patch): windows and patches lie
  elsewhere on the ground. Nothing in a program can hide this for an encoder that looks at a whole
  window; it is what two neighbouring deliveries of one scene would show.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio

from earthprint.engine.context import JobContext
from earthprint.engine.encoding.pipeline import encode_stack
from earthprint.engine.heads.decoder import MODEL as CONVOLUTIONAL
from earthprint.engine.heads.decoder_validation import train as train_decoder
from earthprint.engine.heads.features import FeatureSource
from earthprint.engine.heads.head import Head
from earthprint.engine.heads.inputs import Inputs
from earthprint.engine.heads.labels import Labels
from earthprint.engine.heads.mapping import Options, map_head
from earthprint.engine.heads.training import train
from earthprint.engine.rasters.grid import Window
from earthprint.engine.rasters.legend import Legend
from earthprint.engine.stacks.season import one_season
from earthprint.engine.stacks.stack import Stack, build_stack, with_weather
from earthprint.engine.tasks.train_head import Learned, save

ENCODERS = ("fast", "tessera-student", "maestro-small", "satdino-small", "timo-small",
            "mmvsf-small")
SAMPLES = 800
CUT = 5, 3  # rows, columns
EXTENT = 11, 17, 3, 6  # rows and columns left out at top, left, bottom, right
EVALUATION = Path(__file__).resolve().parent.parent / "docs" / "evaluation.md"
BEGIN, END = "<!-- seams: begin -->", "<!-- seams: end -->"


@dataclass(frozen=True)
class Shares:
    """Share (%) of pixels whose class differs, see the text above."""

    windows: float
    extent: float
    within: float
    cut: float


def slovenia(folder: Path) -> tuple[Stack, np.ndarray]:
    """Five scenes and four classes of land cover; -1 where unlabelled."""
    folder = folder / "landcover-slovenia-s2-patch"
    with rasterio.open(folder / "landcover.tif") as file:
        cover = file.read(1)
    return (build_stack(sorted(folder.glob("S2_L1C_*.tif"))),
            np.select([cover == c for c in (2, 3, 4, 8)], range(4), -1))


def belgium(folder: Path) -> tuple[Stack, np.ndarray]:
    """A season with weather and four crops; -1 where unlabelled."""
    folder = folder / "crop-worldcereal-patches" / "belgium-2018-polders"
    with rasterio.open(folder / "labels_LC_CT_10m.tif") as file:
        cover, crop = file.read()
    stack = with_weather(build_stack([folder]), folder / "agera5_daily.csv", None, JobContext())
    return (one_season(stack, "2018-03-01", "2018-09-30", JobContext()),
            np.select([cover == 0, crop == 1200, crop == 9120, cover == 11], [-1, 0, 1, 2], 3))


class Study:
    """One raster and one encoder: a head of its first map, and further maps to compare."""

    def __init__(self, stack: Stack, labels: np.ndarray, encoder: str, folder: Path,
                 model: str = "logistic", kind: str = "embeddings") -> None:
        self._stack, self._encoder, self._folder, self._kind = stack, encoder, folder, kind
        embeddings = self._encoded(stack, JobContext(memory_mb=2000, threads=1))
        context = JobContext(memory_mb=1000, threads=2, folder=folder)
        with self._source(stack, embeddings) as source:
            rows, cols = np.nonzero(labels >= 0)
            drawn = np.random.default_rng(0).permutation(len(rows))[:SAMPLES]
            layout = source.layout(kind)
            table, known = source.at(rows[drawn], cols[drawn], layout, context)
            drawn = drawn[known]
            chosen = Labels(rows[drawn], cols[drawn], labels[rows[drawn], cols[drawn]],
                            np.arange(len(drawn)), Legend.of_names(["a", "b", "c", "d"]), 0, False,
                            "labels")
            options = {"kinds": (kind,), "count": 2}
            training = (
                train_decoder(source, table[known], layout, chosen, context, **options)
                if model == CONVOLUTIONAL else
                train(table[known], layout, chosen, source.grid, context, model=model, **options))
        path = folder / "study.head.onnx"
        save(Learned(training, Inputs(stack, embeddings, None, None, "")), path, None)
        self._head = Head.open(path)
        self.margin = self._head.card.margin
        self.first = self._map(stack, embeddings, JobContext(memory_mb=2000, threads=1))

    def _encoded(self, stack: Stack, context: JobContext, extent: list | None = None) -> Path:
        path = self._folder / "embeddings.tif"
        encode_stack(stack, self._encoder, path,
                     replace(context, folder=self._folder, device="cpu"), extent, upsampled=True)
        return path

    def _source(self, stack: Stack, embeddings: Path) -> FeatureSource:
        return FeatureSource(None if self._kind == "embeddings" else stack, embeddings)

    def _map(self, stack: Stack, embeddings: Path, context: JobContext) -> np.ndarray:
        path = self._folder / "map.tif"
        map_head(self._head, lambda: self._source(stack, embeddings), Options(path),
                 replace(context, folder=self._folder))
        with rasterio.open(path) as file:
            return file.read(1)

    def other_windows(self) -> float:
        """With little memory and three threads."""
        little = JobContext(memory_mb=20, threads=3)
        again = self._map(self._stack, self._encoded(self._stack, little), little)
        return 100 * float((again != self.first).mean())

    def other_extent(self, edge: int = 1) -> tuple[float, float]:
        """Of an odd part: all pixels, and those `edge` pixels from where it ends."""
        top, left, bottom, right = EXTENT
        grid = self._stack.grid
        rows, cols = grid.shape
        x0, y1 = grid.affine @ (left + 0.1, top + 0.1)
        x1, y0 = grid.affine @ (cols - right - 0.1, rows - bottom - 0.1)
        context = JobContext(memory_mb=200, threads=2)
        path = self._encoded(self._stack, context, [x0, y0, x1, y1, grid.crs.to_wkt()])
        again = self._map(self._stack, path, context)
        with rasterio.open(path) as file:
            col, row = (round(n) for n in ~grid.affine @ (file.transform.c, file.transform.f))
        own = self.first[row:row + again.shape[0], col:col + again.shape[1]]
        differs = own != again
        return tuple(100 * float(d.mean())
                     for d in (differs, differs[edge:-edge, edge:-edge]))

    def cut(self) -> float:
        """Of the raster without its first rows and columns."""
        (down, right), (rows, cols) = CUT, self._stack.grid.shape
        grid = self._stack.grid.part(Window(down, right, rows - down, cols - right))
        stack, context = replace(self._stack, grid=grid), JobContext(threads=2)
        again = self._map(stack, self._encoded(stack, context), context)
        differs = self.first[down:, right:] != again
        return 100 * float(differs[1:-1, 1:-1].mean())

    def shares(self) -> Shares:
        """All of them."""
        extent, within = self.other_extent(1 + self.margin)
        return Shares(self.other_windows(), extent, within, self.cut())


def rows(folder: Path) -> Iterator[str]:
    """The lines of the table."""
    cases = [(e, "logistic", "embeddings") for e in ENCODERS]
    cases += [("fast", CONVOLUTIONAL, "both"), ("maestro-small", CONVOLUTIONAL, "embeddings")]
    for encoder, model, kind in cases:
        place, (stack, labels) = (("Belgium", belgium(folder)) if encoder == "mmvsf-small"
                                  else ("Slovenia", slovenia(folder)))
        with tempfile.TemporaryDirectory() as temporary:
            found = Study(stack, labels, encoder, Path(temporary), model, kind).shares()
        name = f"{encoder} and bands" if kind == "both" else encoder
        line = (f"| {name} | {model} | {place} | {found.windows:.2f} | {found.extent:.2f} | "
                f"{found.within:.2f} | {found.cut:.2f} |")
        sys.stderr.write(line + "\n")
        yield line


def main() -> None:
    """Measure and write the section."""
    folder = Path(os.environ.get("EARTHPRINT_SHARED", "../shared")) / "data"
    rows_out, columns_out = CUT
    text = "\n".join([
        BEGIN, "## Seams", "",
        "Share of pixels (%) whose class is another one, maps with smoothing, real rasters. "
        "`benchmarks/seams.py`.", "",
        "| encoder | head | raster | other memory and threads | odd extent | the same, away from "
        f"its edge | raster cut by {rows_out} rows, {columns_out} columns |",
        "| --- | --- | --- | --- | --- | --- | --- |", *rows(folder), "",
        "Windows and patches lie on one lattice that belongs to the raster, so neither memory nor "
        "extent moves them, and an extent is encoded with the patches around it. At the very edge "
        "of an extent smoothing and decoder miss their neighbours (second figure). In the last "
        "column the raster itself starts elsewhere, and the lattice with it: 0 for encoders of "
        "pixels (what the decoder changes lies in its margin at the cut); encoders of patches see "
        "other ground in each patch and window. That is far above 0.5 % for every one of them: "
        "give them the whole scene, not pieces of it.", END])
    page = EVALUATION.read_text(encoding="utf-8")
    if BEGIN in page:
        page = page[:page.index(BEGIN)] + text + page[page.index(END) + len(END):]
    else:
        page = page.rstrip("\n") + "\n\n" + text + "\n"
    EVALUATION.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
