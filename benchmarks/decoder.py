"""Does looking at neighbours help? The convolutional decoder beside heads of single pixels.

``PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python benchmarks/decoder.py``
prints the section `decoder` of `docs/evaluation.md`, and with ``--write`` puts it there. Macro-F1
in %, mean and standard deviation over seeds (draws of 1000 training pixels, blocks, weights). The
decoder's steps are chosen on two folds of blocks within the training ground; the logistic
regression has C 0.1.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from sklearn.metrics import f1_score

from earthprint.engine.context import JobContext
from earthprint.engine.encoding.pipeline import encode_stack
from earthprint.engine.heads import classifiers, crossval
from earthprint.engine.heads.classifiers import balanced_draw
from earthprint.engine.heads.decoder import MODEL as CONVOLUTIONAL
from earthprint.engine.heads.decoder import Decoder, Projection
from earthprint.engine.heads.decoder_training import STEPS, fit, gather
from earthprint.engine.heads.decoder_validation import dilations_of
from earthprint.engine.heads.features import FeatureSource
from earthprint.engine.rasters.embeddings import EmbeddingsFile, EmbeddingsWriter
from earthprint.engine.stacks.season import one_season
from earthprint.engine.stacks.stack import Stack, build_stack

SEEDS, MOST, CLASSES = 3, 1000, 4
ENCODERS = ("fast", "maestro-small", "satdino-small")
NOTE = (
    "On embeddings of patches the decoder is ahead of the nearest token with a logistic "
    "regression in three of four cases, and in all four when it sees the bands too (which the "
    "nearest token does not); on the crops' embeddings of fast and maestro-small it is ahead of "
    "every head of single pixels, of satdino-small not. On band series, and on land cover, where "
    "two of four classes have under 400 pixels, it is not: an mlp, a forest or interpolation with "
    "a logistic regression are as good or better. So it is offered, and nothing chooses it by "
    "itself. The candidate steps (200, 400) were settled while looking at these sets, so its "
    "figures are a little optimistic."
)
EVALUATION = Path(__file__).resolve().parent.parent / "docs" / "evaluation.md"
BEGIN, END = "<!-- decoder: begin -->", "<!-- decoder: end -->"


@dataclass(frozen=True)
class Set:
    """A labelled raster: (rows, cols) int classes, -1 unlabelled, and how it is divided.

    `side` is (rows, cols) bool, True where the test lies, or None for blocks of `block_m` metres,
    one fold of which is held back for each seed.
    """

    name: str
    stack: Stack
    labels: np.ndarray
    side: np.ndarray | None
    block_m: float


def sets(folder: Path) -> Iterator[Set]:
    """Land cover in Slovenia by columns, crops in Belgium by blocks."""
    slovenia = folder / "landcover-slovenia-s2-patch"
    with rasterio.open(slovenia / "landcover.tif") as file:
        cover = file.read(1)
    labels = np.select([cover == c for c in (2, 3, 4, 8)], range(4), -1)
    labels[:, 60:80] = -1
    yield Set("land cover, Slovenia, columns 80 to 99",
              build_stack(sorted(slovenia.glob("S2_L1C_*.tif"))), labels,
              np.broadcast_to(np.arange(labels.shape[1]) >= 80, labels.shape), 100)
    polders = folder / "crop-worldcereal-patches" / "belgium-2018-polders"
    with rasterio.open(polders / "labels_LC_CT_10m.tif") as file:
        cover, crop = file.read()
    labels = np.select([cover == 0, crop == 1200, crop == 9120, cover == 11], [-1, 0, 1, 2], 3)
    yield Set("crops, Belgium, blocks of 160 m",
              one_season(build_stack([polders]), "2017-12-01", "2018-11-30", JobContext()),
              labels, None, 160)


def upsampled(stack: Stack, encoder: str, folder: Path, smooth: bool) -> Path:
    """Embeddings at pixels: interpolated, or each pixel its own token's."""
    path, context = folder / f"{encoder}-{smooth}.tif", JobContext(folder=folder, device="cpu")
    if path.is_file():
        return path
    if smooth:
        encode_stack(stack, encoder, path, context, upsampled=True)
        return path
    coarse = folder / f"{encoder}-tokens.tif"
    encode_stack(stack, encoder, coarse, context)
    with EmbeddingsFile(coarse) as file:
        patch = round(file.grid.transform[0] / stack.grid.transform[0])
        codes = file.codes(file.grid.full).repeat(patch, 0).repeat(patch, 1)
        rows, cols = stack.grid.shape
        tags = {"EARTHPRINT_ENCODER": file.encoder}
        with EmbeddingsWriter(path, stack.grid, file.dims, file.scale, tags) as out:
            out.write(0, 0, np.ascontiguousarray(codes[:rows, :cols]))
    return path


class Pixels:
    """All labelled pixels of a set with one file of embeddings: features and surroundings."""

    def __init__(self, data: Set, path: Path) -> None:
        context = JobContext(memory_mb=1000, threads=1)
        self._data = data
        with FeatureSource(data.stack, path) as source:
            rows, cols = np.nonzero(data.labels >= 0)
            self._layout, self._grid = source.layout("both"), source.grid
            table, known = source.at(rows, cols, self._layout, context)
            self._rows, self._cols, self._x = rows[known], cols[known], table[known]
            self._y = data.labels[self._rows, self._cols]
            self._dilations = dilations_of(self._layout)
            self._projection = Projection.of(self._x, self._layout)
            self._around = gather(source, self._rows, self._cols, self._layout, self._projection,
                                  self._dilations, context)

    def score(self, kind: str, model: str, seed: int) -> float:
        """Macro-F1 (%) on the test's pixels of a head learnt on the other ones."""
        y = self._y
        if self._data.side is None:
            test = self._folds(np.arange(len(y)), 3, seed) == 0
        else:
            test = self._data.side[self._rows, self._cols]
        learn = np.flatnonzero(~test)
        learn = learn[balanced_draw(y[learn], MOST, seed)]
        if model == CONVOLUTIONAL:
            answer = self._decoded(kind, learn, test, seed)
        else:
            x, layout = self._x[:, self._layout.columns(kind)], self._layout.only(kind)
            if model == "logistic":
                head = classifiers.fit_logistic(x[learn], y[learn], CLASSES, (0.1,), layout.dims)[0]
            elif model == "forest":
                head = classifiers.fit_forest(x[learn], y[learn], CLASSES, seed, 1)
            else:
                head = classifiers.fit_perceptron(x[learn], y[learn], CLASSES, seed, layout.dims)
            answer = head.probabilities(x[test]).argmax(1)
        return 100 * f1_score(y[test], answer, average="macro", labels=np.unique(y[test]))

    def _folds(self, chosen: np.ndarray, count: int, seed: int) -> np.ndarray:
        return crossval.blocked_folds(
            self._grid, self._rows[chosen], self._cols[chosen], self._y[chosen],
            np.arange(len(chosen)), JobContext(), count=count, side_m=self._data.block_m,
            seed=seed).fold

    def _decoded(self, kind: str, learn: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        """Classes of the test's pixels; steps chosen on two folds of the training ground."""
        seen = np.r_[self._projection.columns(kind), self._around.shape[2] - 1]
        around = np.ascontiguousarray(self._around[:, :, seen])
        projection = self._projection.only(kind, self._layout)

        def fitted(mine: np.ndarray, steps: tuple[int, ...]) -> list[Decoder]:
            return fit(around[mine], self._y[mine], CLASSES, projection, self._dilations, seed,
                       steps)

        fold = self._folds(learn, 2, seed)
        held = np.zeros((len(STEPS), len(learn)), int)
        for f in (0, 1):
            for s, decoder in enumerate(fitted(learn[fold != f], STEPS)):
                held[s, fold == f] = decoder.around(around[learn[fold == f]]).argmax(1)
        found = [f1_score(self._y[learn], h, average="macro") for h in held]
        return fitted(learn, (STEPS[int(np.argmax(found))],))[0].around(around[test]).argmax(1)


def cases() -> Iterator[tuple[str, str, str, bool]]:
    """(encoder, kind, model, interpolated) of each row; bands once."""
    for model in ("logistic", "forest", "mlp", CONVOLUTIONAL):
        yield "fast", "bands", model, True
    for encoder in ENCODERS:
        if encoder != "fast":
            yield encoder, "embeddings", "logistic", False
        for kind in ("embeddings", "both"):
            for model in ("logistic", "mlp", CONVOLUTIONAL):
                yield encoder, kind, model, True


def measured(folder: Path) -> list[str]:
    """The lines of the table."""
    names = [data.name for data in sets(folder)]
    lines = ["| features | head | " + " | ".join(names) + " |",
             "| --- | --- |" + " --- |" * len(names)]
    found: dict[tuple[str, str, str, bool], list[str]] = {}
    for data in sets(folder):
        with tempfile.TemporaryDirectory() as temporary:
            pixels: dict[tuple[str, bool], Pixels] = {}
            for case in cases():
                encoder, kind, model, smooth = case
                if (encoder, smooth) not in pixels:
                    pixels[encoder, smooth] = Pixels(
                        data, upsampled(data.stack, encoder, Path(temporary), smooth))
                each = [pixels[encoder, smooth].score(kind, model, seed) for seed in range(SEEDS)]
                text = f"{np.mean(each):.1f} ± {np.std(each):.1f}"
                found.setdefault(case, []).append(text)
                sys.stderr.write(f"{data.name}: {case} {text}\n")
    for (encoder, kind, model, smooth), figures in found.items():
        features = "band series" if kind == "bands" else (
            encoder if kind == "embeddings" else f"{encoder} and bands")
        if kind != "bands" and encoder != "fast":
            features += ", interpolated" if smooth else ", nearest token"
        lines.append(f"| {features} | {model} | " + " | ".join(figures) + " |")
    return lines


def main() -> None:
    """Measure and print the section, or write it into docs/evaluation.md."""
    warnings.simplefilter("ignore")
    folder = Path(os.environ.get("EARTHPRINT_SHARED", "../shared")) / "data"
    text = "\n".join([
        BEGIN, "## Convolutional decoder", "",
        f"Macro-F1 in %, mean ± standard deviation over {SEEDS} seeds; at most {MOST} training "
        "pixels, drawn evenly over the classes. The decoder's training steps are chosen on blocks "
        "within the training ground, the logistic regression has C 0.1. "
        "`benchmarks/decoder.py --write` makes this section.", "",
        *measured(folder), "", NOTE, END])
    if "--write" not in sys.argv:
        sys.stdout.write(text + "\n")
        return
    page = EVALUATION.read_text(encoding="utf-8")
    if BEGIN in page:
        start, stop = page.index(BEGIN), page.index(END) + len(END)
        page = page[:start] + text + page[stop:]
    else:
        page = page.rstrip("\n") + "\n\n" + text + "\n"
    EVALUATION.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
