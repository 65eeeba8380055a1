"""Does tiling show? The same ground mapped by other windows, threads, extents and rasters.

``PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python benchmarks/seams.py``
prints the section `seams` of `docs/evaluation.md`, and with ``--write`` puts it there. Every
bundled encoder encodes a real raster, a head maps it with smoothing, and the share of pixels is
counted whose class is another one when

- memory budget and threads, so the windows, are others;
- the extent starts at an odd place (11 rows, 17 columns) and ends at one: all pixels of it, and
  those at least one pixel from its edge, where smoothing still has all neighbours;
- the raster itself is cut (by 5 rows, 3 columns, no multiple of a patch), as neighbouring tiles of
  a mosaic are: all pixels but the outermost, and those at least a window's side from its edge,
  where it moves no window. This needs a raster of several windows, so it is done on another one.

The contrast is the mean distance of neighbouring patches' vectors where one window ends and the
next begins, divided by that of all other neighbours: 1 where nothing shows.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio

from earthprint.engine.context import JobContext
from earthprint.engine.encoding.encoder import Encoder
from earthprint.engine.encoding.patches import Lattice, spans
from earthprint.engine.encoding.pipeline import encode_stack
from earthprint.engine.heads.decoder import MODEL as CONVOLUTIONAL
from earthprint.engine.heads.decoder_validation import train as train_decoder
from earthprint.engine.heads.features import FeatureSource
from earthprint.engine.heads.head import Head
from earthprint.engine.heads.inputs import Inputs
from earthprint.engine.heads.labels import Labels
from earthprint.engine.heads.mapping import Options, map_head
from earthprint.engine.heads.training import train
from earthprint.engine.rasters.embeddings import EmbeddingsFile
from earthprint.engine.rasters.grid import Window
from earthprint.engine.rasters.legend import Legend
from earthprint.engine.stacks.reading import StackReader
from earthprint.engine.stacks.season import one_season
from earthprint.engine.stacks.stack import Stack, build_stack, with_weather
from earthprint.engine.tasks.train_head import Learned, save

ENCODERS = ("fast", "tessera-student", "maestro-small", "satdino-small", "timo-small",
            "galileo-small", "anysat-small", "skysense-small", "skysense-v2-small", "mmvsf-small")
SAMPLES = 800
CUT = 5, 3  # rows, columns
EXTENT = 11, 17, 3, 6  # rows and columns left out at top, left, bottom, right
EVALUATION = Path(__file__).resolve().parent.parent / "docs" / "evaluation.md"
BEGIN, END = "<!-- seams: begin -->", "<!-- seams: end -->"


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


def bouconne(folder: Path, weather: bool) -> tuple[Stack, np.ndarray]:
    """Seven scenes and, for want of labels, quarters of the NDVI of July.

    Args:
        weather: with that of Belgium in the same year, for want of the place's own.
    """
    stack = build_stack(sorted((folder / "sentinel2-bouconne-2018-stack").glob("S2_L2A_*.tif")))
    with StackReader(stack, bands={"sentinel-2": ("red", "nir")}) as reader:
        series = reader.read(stack.grid.full).series["sentinel-2"]
    red, nir = series.values[list(series.dates).index(np.datetime64("2018-07-08"))]
    index = (nir - red) / np.maximum(nir + red, 1e-3)
    if weather:
        table = folder / "crop-worldcereal-patches" / "belgium-2018-polders" / "agera5_daily.csv"
        stack = with_weather(stack, table, None, JobContext())
    return stack, np.digitize(index, np.quantile(index, (0.25, 0.5, 0.75)))


class Study:
    """One raster and one encoder: a head of its first map, and further maps to compare."""

    def __init__(self, stack: Stack, labels: np.ndarray, encoder: str, folder: Path,
                 model: str = "logistic", kind: str = "embeddings") -> None:
        self._stack, self._encoder, self._folder, self._kind = stack, encoder, folder, kind
        self.card = Encoder.open(encoder).card
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

    def _encoded(self, stack: Stack, context: JobContext, extent: list | None = None,
                 upsampled: bool = True) -> Path:
        path = self._folder / "embeddings.tif"
        encode_stack(stack, self._encoder, path,
                     replace(context, folder=self._folder, device="cpu"), extent, upsampled)
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

    def cut(self) -> tuple[float, float]:
        """Of the raster without its first rows and columns: all but the outermost pixels, and
        those at least a window's side (and the head's margin) from its edge."""
        (down, right), (rows, cols) = CUT, self._stack.grid.shape
        grid = self._stack.grid.part(Window(down, right, rows - down, cols - right))
        stack, context = replace(self._stack, grid=grid), JobContext(threads=2)
        again = self._map(stack, self._encoded(stack, context), context)
        differs = self.first[down:, right:] != again
        edge = self.card.window + self.margin
        return tuple(100 * float(differs[e:-e, e:-e].mean()) for e in (1, edge))

    def contrast(self) -> float:
        """Distance of patches across the borders of windows over that of other neighbours."""
        path = self._encoded(self._stack, JobContext(threads=2), upsampled=False)
        card, lattice = self.card, Lattice.of(self._stack.grid, self.card.patch)
        with EmbeddingsFile(path) as file:
            vectors, _ = file.vectors(file.grid.full)
        across, within = [], []
        for axis, (count, first) in enumerate(zip(lattice.grid.shape, lattice.first, strict=True)):
            lines = np.moveaxis(vectors, axis, 0)
            steps = 1 - (lines[1:] * lines[:-1]).sum(-1).mean(-1)
            borders = [s.first - 1 for s in spans(count, card.window // card.patch, card.margin,
                                                  first)[1:]]
            across.extend(steps[borders])
            within.extend(np.delete(steps, borders))
        return float(np.mean(across) / np.mean(within))


def studies(folder: Path) -> Iterator[tuple[str, str]]:
    """The lines of both tables."""
    cases = [(e, "logistic", "embeddings") for e in ENCODERS]
    cases += [("fast", CONVOLUTIONAL, "both"), ("maestro-small", CONVOLUTIONAL, "embeddings")]
    for encoder, model, kind in cases:
        crops = encoder == "mmvsf-small"
        place, (stack, labels) = (("Belgium", belgium(folder)) if crops
                                  else ("Slovenia", slovenia(folder)))
        name = f"{encoder} and bands | {model}" if kind == "both" else f"{encoder} | {model}"
        with tempfile.TemporaryDirectory() as temporary:
            study = Study(stack, labels, encoder, Path(temporary), model, kind)
            extent, within = study.other_extent(1 + study.margin)
            windows = study.other_windows()
        one = f"| {name} | {place} | {windows:.2f} | {extent:.2f} | {within:.2f} |"
        with tempfile.TemporaryDirectory() as temporary:
            study = Study(*bouconne(folder, crops), encoder, Path(temporary), model, kind)
            whole, away = study.cut()
            contrast = f"{study.contrast():.2f}" if study.card.unit == "patch" else ""
            edge = study.card.window + study.margin
        other = f"| {name} | {whole:.2f} | {away:.2f} | {edge} | {contrast} |"
        sys.stderr.write(f"{one}\n{other}\n")
        yield one, other


def main() -> None:
    """Measure and print the section, or write it into docs/evaluation.md."""
    folder = Path(os.environ.get("EARTHPRINT_SHARED", "../shared")) / "data"
    (down, right), tables = CUT, list(zip(*studies(folder), strict=True))
    text = "\n".join([
        BEGIN, "## Seams", "",
        "Share of pixels (%) whose class is another one, maps with smoothing, real rasters. "
        "`benchmarks/seams.py --write` makes this section.", "",
        "| encoder | head | raster | other memory and threads | odd extent | the same, away from "
        "its edge |",
        "| --- | --- | --- | --- | --- | --- |", *tables[0], "",
        "Neither memory nor extent moves a window or a patch, and an extent is encoded with the "
        "patches around it. At the very edge of an extent smoothing and decoder miss their "
        "neighbours (second figure).", "",
        "A raster that starts elsewhere: Bouconne (246 x 227 pixels, four classes of NDVI; for "
        f"mmvsf with weather of Belgium) without its first {down} rows and {right} columns, "
        "against the whole.", "",
        "| encoder | head | all pixels | away from its edge | which is, in pixels | contrast at "
        "borders of windows |",
        "| --- | --- | --- | --- | --- | --- |", *tables[1], "",
        "Patches and windows are counted from the origin of the coordinate system, so rasters that "
        "share their pixels, as tiles of a mosaic do, get the same ones, and the same embeddings "
        "wherever no edge is near. At an edge the windows are moved inside, and an encoder that "
        "looks at a whole window sees other ground in them: that is all that the first figure "
        "holds. Where tiles overlap by twice the distance in the table, cut them in the middle of "
        "the overlap; better still, give them as one mosaic. The contrast is how far neighbouring "
        "patches are apart where windows meet, over how far they are elsewhere: above 1 a border "
        "shows in the embeddings.", END])
    if "--write" not in sys.argv:
        sys.stdout.write(text + "\n")
        return
    page = EVALUATION.read_text(encoding="utf-8")
    if BEGIN in page:
        page = page[:page.index(BEGIN)] + text + page[page.index(END) + len(END):]
    else:
        page = page.rstrip("\n") + "\n\n" + text + "\n"
    EVALUATION.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
