"""What the small encoders are worth: `./run pretrain probe`.

Each encoder and its random start (exported alike by `./run pretrain SYSTEM --random FILE`) goes
through the engine's own `encode`, then a logistic regression on the embeddings is judged on blocks
of ground held back, beside the band series and `fast`. Scores are macro-F1 in %. Writes a table and
a picture of all embeddings.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image, ImageDraw
from rasterio.warp import transform

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pretrain import REPOSITORY, data  # noqa: E402

from earthprint.engine import jobs  # noqa: E402
from earthprint.engine.context import JobContext  # noqa: E402
from earthprint.engine.errors import UserError  # noqa: E402
from earthprint.engine.rasters.embeddings import EmbeddingsFile  # noqa: E402
from earthprint.engine.rasters.grid import Window  # noqa: E402
from earthprint.engine.stacks.reading import StackReader  # noqa: E402
from earthprint.engine.stacks.season import one_season  # noqa: E402
from earthprint.engine.stacks.stack import Stack, build_stack, with_weather  # noqa: E402
from earthprint.models import catalogue  # noqa: E402
from earthprint.models.training import pretrain  # noqa: E402

LOG = logging.getLogger(__name__)
PANEL, COLUMNS, CAPTION = 224, 4, 22  # of the picture, in pixels
SERIES = "band series"
MOST = 600  # labelled pixels of a task
SEEDS = 3  # draws of them and of the blocks, whose mean is given
FULL_YEAR = ("2017-12-01", "2018-11-30")


@dataclass(frozen=True)
class Task:
    """Labelled pixels of a real scene.

    Attributes:
        name: of the table's column.
        stack: what is encoded.
        labels: (rows, cols) int64 on the stack's grid, -1 where unlabelled.
        block_m: side of the blocks that are held back.
    """

    name: str
    stack: Stack
    labels: np.ndarray
    block_m: float

    def extent(self) -> list:
        """Around the labelled pixels: [left, bottom, right, top, CRS]."""
        rows, cols = np.nonzero(self.labels >= 0)
        left, top = self.stack.grid.affine * (int(cols.min()), int(rows.min()))
        right, bottom = self.stack.grid.affine * (int(cols.max()) + 1, int(rows.max()) + 1)
        return [left, bottom, right, top, self.stack.grid.crs.to_wkt()]


def tasks() -> Iterator[Task]:
    """Crops (seen in training, without labels), land cover (columns not seen), water (not seen)."""
    polders = data() / "crop-worldcereal-patches" / "belgium-2018-polders"
    cover, crop = _bands(polders / "labels_LC_CT_10m.tif")
    labels = np.select([cover == 0, crop == 1200, crop == 9120, cover == 11], [-1, 0, 1, 2], 3)
    yield Task("crops, Belgium 4", season(polders), labels, 160)
    slovenia = data() / "landcover-slovenia-s2-patch"
    (cover,) = _bands(slovenia / "landcover.tif")
    cover[:, :80] = 0  # the others are seen in training or held back by the data's own split
    stack = build_stack(sorted(slovenia.glob("S2_L1C_*.tif")))
    yield Task("land cover, Slovenia 4", stack,
               np.select([cover == c for c in (2, 3, 4, 8)], range(4), -1), 100)
    spain = data() / "flood-sen1floods11-spain"
    (water,) = _bands(next(spain.glob("*LabelHand.tif")))
    water[:, 256:] = -1  # half of it says as much
    scenes = [next(spain.glob(f"*{sensor}Hand.tif")) for sensor in ("S1", "S2")]
    stack = build_stack(scenes, dates=("2019-09-17", "2019-09-18"))
    yield Task("water, Spain 2", stack, water, 400)


def season(polders: Path) -> Stack:
    """The Belgian patch from December 2017 to November 2018, with its weather."""
    stack = with_weather(build_stack([polders]), polders / "agera5_daily.csv", None, JobContext())
    return one_season(stack, *FULL_YEAR, JobContext())


def _bands(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read().astype(np.int64)


def write_points(task: Task, path: Path, seed: int) -> None:
    """Some labelled pixels, evenly of each class, as points with the field `class`."""
    rng, features = np.random.default_rng(seed), []
    known = np.unique(task.labels[task.labels >= 0])
    for value in known:
        rows, cols = np.nonzero(task.labels == value)
        chosen = rng.permutation(len(rows))[: MOST // len(known)]
        x, y = task.stack.grid.affine * (cols[chosen] + 0.5, rows[chosen] + 0.5)
        for point in zip(*transform(task.stack.grid.crs, "EPSG:4326", x, y), strict=True):
            features.append({"type": "Feature", "properties": {"class": f"class {value}"},
                             "geometry": {"type": "Point", "coordinates": point}})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def score(task: Task, encoder: Path | None, folder: Path) -> float | None:
    """Macro-F1 of held-back blocks, of an encoder or (None) of the band series; None if refused."""
    context = JobContext(memory_mb=1500, threads=1, device="cpu")
    stack, points, head = folder / "in.stack.json", folder / "points.geojson", folder / "of.onnx"
    task.stack.save(stack)
    given, kind = str(stack), "bands"
    try:
        if encoder is not None:
            given, kind = str(folder / "embeddings.tif"), "embeddings"
            jobs.run("encode", {"input": [str(stack)], "output": given, "encoder": str(encoder),
                                "extent": task.extent(), "upsample": True}, context)
        found = []
        for seed in range(SEEDS):
            write_points(task, points, seed)
            result = jobs.run("train_head", {
                "input": [given], "labels": str(points), "field": "class", "output": str(head),
                "features": kind, "model": "logistic", "block_m": task.block_m, "seed": seed},
                context)
            found.append(100 * result["scores"]["macro_f1"])
    except UserError as failure:
        LOG.info("%s, %s: %s", task.name, encoder.name if encoder else "series", failure)
        return None
    return float(np.mean(found))


def encoders() -> dict[str, tuple[Path, Path | None]]:
    """Name to the encoder's file and that of its random start."""
    bundled = catalogue.bundled()
    found = {name: (bundled[name], None) for name in ("fast", "tessera-student")}
    for system in pretrain.systems():
        name = pretrain.small(system).card().name
        start = REPOSITORY / "build" / "training" / system / "random" / f"{system}-random.onnx"
        if name in bundled:
            found[name] = bundled[name], start if start.is_file() else None
    return found


def table(path: Path, only: list[str]) -> None:
    """Write scores as Markdown, a row as soon as it is there."""
    every = list(tasks())
    head = ["encoder", *(f"{t.name}: {kind}" for t in every for kind in ("random", "trained"))]
    lines = [f"| {' | '.join(head)} |", "|" + "-|" * len(head)]
    rows = [(SERIES, None, None), *((name, *files) for name, files in encoders().items())]
    for name, trained, start in rows:
        if only and name not in only:
            continue
        cells = [name]
        for task in every:
            for encoder in (start, trained):
                found = None
                if encoder is not None or (name == SERIES and len(cells) % 2 == 0):
                    with tempfile.TemporaryDirectory() as folder:
                        found = score(task, encoder, Path(folder))
                cells.append("" if found is None else f"{found:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
        LOG.info(lines[-1])
        path.write_text("\n".join(lines) + "\n", "utf-8")


# --- the picture ----------------------------------------------------------------------------------


def picture(path: Path) -> None:
    """Embeddings of the Belgian patch, three principal components as colours, beside the scene."""
    stack = season(data() / "crop-worldcereal-patches" / "belgium-2018-polders")
    panels = [("Sentinel-2, true colour", true_colour(stack))]
    for name, (file, _) in encoders().items():
        with tempfile.TemporaryDirectory() as folder:
            given, output = Path(folder) / "in.stack.json", Path(folder) / "out.tif"
            stack.save(given)
            try:
                jobs.run("encode", {"input": [str(given)], "output": str(output),
                                    "encoder": str(file), "upsample": True},
                         JobContext(threads=1, device="cpu"))
            except UserError as failure:
                LOG.info("%s: %s", name, failure)
                continue
            panels.append((name, colours(output)))
    rows = -(-len(panels) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (PANEL + 8) + 8, rows * (PANEL + CAPTION + 8) + 8), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (name, image) in enumerate(panels):
        x, y = 8 + i % COLUMNS * (PANEL + 8), 8 + i // COLUMNS * (PANEL + CAPTION + 8)
        shown = Image.fromarray(image).resize((PANEL, PANEL), Image.Resampling.NEAREST)
        sheet.paste(shown, (x, y + CAPTION - 4))
        pen.text((x, y), name, "black", font_size=14)
    sheet.save(path, optimize=True)


def true_colour(stack: Stack) -> np.ndarray:
    """The clearest scene, (rows, cols, 3) uint8."""
    bands = ("blue", "green", "red")
    with StackReader(stack, sensors=("sentinel-2",), bands={"sentinel-2": bands}) as reader:
        series = reader.read(stack.grid.full).series["sentinel-2"]
    best = int(series.valid.mean(axis=(1, 2)).argmax())
    rgb = series.values[best][[series.bands.index(b) for b in ("red", "green", "blue")]]
    return stretched(rgb.transpose(1, 2, 0))


def colours(embeddings: Path) -> np.ndarray:
    """The first three principal components, (rows, cols, 3) uint8, black without data."""
    with EmbeddingsFile(embeddings) as file:
        rows, cols = file.grid.shape
        vectors, valid = file.vectors(Window(0, 0, rows, cols))
    seen = vectors[valid] - vectors[valid].mean(axis=0)
    axes = np.linalg.svd(seen, full_matrices=False)[2][:3]
    axes *= np.sign(axes.sum(axis=1, keepdims=True))
    image = np.full((rows, cols, 3), np.nan)
    image[valid] = seen @ axes.T
    return stretched(image)


def stretched(image: np.ndarray) -> np.ndarray:
    """From the 2nd to the 98th percentile of each channel, as 8-bit."""
    low, high = np.nanpercentile(image, (2, 98), axis=(0, 1))
    scaled = np.clip((image - low) / np.maximum(high - low, 1e-9), 0, 1)
    return np.nan_to_num(255 * scaled).astype(np.uint8)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="./run pretrain probe", description=__doc__)
    parser.add_argument("encoders", nargs="*", help="only these, or 'band series'; by default all")
    parser.add_argument("--table", type=Path, help="Markdown to write")
    parser.add_argument("--picture", type=Path, help="PNG to write")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("earthprint.engine").setLevel(logging.WARNING)
    if given.table:
        table(given.table, given.encoders)
    if given.picture:
        picture(given.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
