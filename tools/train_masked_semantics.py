"""SkySense++'s objective on real data: `python tools/train_masked_semantics.py [--steps N]`.

Masked semantic learning needs labelled pictures, which the windows of the other small encoders are
not, so it has a loop of its own. Pictures are the visible bands of labelled Sentinel-2 and Landsat
scenes at their own pixels (no labelled aerial picture is at hand); where a scene has Sentinel
bands, their means over 32 pixels stand for the Sentinel branches. Prints the loss, and what a
linear probe finds in the picture branch before and after, on ground that was not trained on.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pretrain import data  # noqa: E402

from earthprint.models.skysense.adapter import LAYOUTS, PIXELS  # noqa: E402
from earthprint.models.skysense.completion import CompletionConfig  # noqa: E402
from earthprint.models.skysense.decoder import DecoderConfig  # noqa: E402
from earthprint.models.skysense.fusion import FusionConfig  # noqa: E402
from earthprint.models.skysense.labels import LabelConfig  # noqa: E402
from earthprint.models.skysense.masked_semantics import MaskedSemantics  # noqa: E402
from earthprint.models.skysense.plusplus import PlusConfig, SkySensePlusPlus  # noqa: E402
from earthprint.models.skysense.sentinel import ViTConfig  # noqa: E402
from earthprint.models.skysense.swin import SwinConfig  # noqa: E402

LOG = logging.getLogger(__name__)
SIDE = 4 * PIXELS  # of a window
BATCH = 4  # windows of a step, of one scene: two canvases
STRIDE = 8  # picture pixels of what is probed
EVERY = 25  # steps of a printed line
_PICTURE = 0.3  # reflectance that is white
CONFIG = PlusConfig(
    "hr+s2+s1", SwinConfig(3, 24, (1, 1, 2, 1), (2, 4, 8, 8), extra_norm=0, pad_small_map=True),
    ViTConfig(10, 64, 4, 4, 2, rows=16, eps=1e-6, outputs=(3,)),
    ViTConfig(2, 64, 4, 4, 2, rows=16, eps=1e-6, outputs=(3,)),
    FusionConfig(192, 96, 1, 4, 2), hr_labels=LabelConfig(16, 2), vit_labels=LabelConfig(16, 4),
    completion=CompletionConfig(192, 16, 16, 32),
    decoder=DecoderConfig((48, 48, 96, 192, 96), 17, 32),
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A labelled scene.

    Attributes:
        image: (3, rows, cols) red, green, blue, normalised.
        labels: (rows, cols) int, 0 for none.
        coarse: "s2", "s1" to (bands, rows / 32, cols / 32), normalised; may be empty.
    """

    image: Tensor
    labels: Tensor
    coarse: dict[str, Tensor]

    def part(self, rows: slice, cols: slice) -> Picture:
        """Some of it, by whole blocks of 32 pixels."""
        small = [slice(s.start // PIXELS, s.stop // PIXELS) for s in (rows, cols)]
        return Picture(self.image[:, rows, cols], self.labels[rows, cols],
                       {k: x[:, small[0], small[1]] for k, x in self.coarse.items()})


def _normalised(values: np.ndarray, sensor: str) -> Tensor:
    layout = LAYOUTS[sensor]
    mean, spread = np.array([layout.statistics[b] for b in layout.bands]).T[:, :, None, None]
    return torch.from_numpy(((values * layout.scale - mean) / spread).astype(np.float32))


def _picture(visible: np.ndarray) -> Tensor:
    return _normalised(np.clip(visible / _PICTURE, 0, 1), "hr")


def _coarse(values: np.ndarray) -> np.ndarray:
    """Means of blocks of 32 x 32 pixels."""
    bands, rows, cols = values.shape
    return values.reshape(bands, rows // PIXELS, PIXELS, cols // PIXELS, PIXELS).mean(axis=(2, 4))


def clouds(name: str) -> Picture:
    """A scene with shadow, water, land and cloud, `sentinel2` or `landsat7`, 512 x 512."""
    folder = data() / "cloud-water-masks"
    with rasterio.open(folder / f"{name}_image.tif") as file:
        image = file.read([3, 2, 1]).astype(np.float32) / 10000
    with rasterio.open(folder / f"{name}_mask.tif") as file:
        labels = file.read(1).astype(np.int64) + 1
    return Picture(_picture(image), torch.from_numpy(labels), {})


def water() -> Picture:
    """The Spanish chip: water and land, with both Sentinels, 512 x 512."""
    folder = data() / "flood-sen1floods11-spain"
    with rasterio.open(next(folder.glob("*S2Hand.tif"))) as file:
        s2 = file.read([2, 3, 4, 5, 6, 7, 8, 9, 12, 13]).astype(np.float32) / 10000
    with rasterio.open(next(folder.glob("*S1Hand.tif"))) as file:
        s1 = np.nan_to_num(file.read().astype(np.float32), nan=-15.0)
    with rasterio.open(next(folder.glob("*LabelHand.tif"))) as file:
        labels = file.read(1).astype(np.int64) + 1
    coarse = {"s2": _normalised(_coarse(s2), "s2"), "s1": _normalised(_coarse(s1), "s1")}
    return Picture(_picture(s2[[2, 1, 0]]), torch.from_numpy(labels), coarse)


def batch(picture: Picture, rng: np.random.Generator) -> dict[str, Tensor]:
    """Windows of one scene, any place on the grid of blocks, mirrored at random."""
    given = []
    for _ in range(BATCH):
        row, col = (PIXELS * int(rng.integers((n - SIDE) // PIXELS + 1))
                    for n in picture.labels.shape)
        given.append(picture.part(slice(row, row + SIDE), slice(col, col + SIDE)))
    mirrored = [-1] if rng.integers(2) else []

    def joined(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts).flip(mirrored)

    inputs = {"hr": joined([p.image for p in given]), "labels": joined([p.labels for p in given])}
    for sensor, bands in (("s2", 10), ("s1", 2)):
        nothing = torch.zeros(bands, SIDE // PIXELS, SIDE // PIXELS)
        inputs[sensor] = joined([p.coarse.get(sensor, nothing) for p in given])[:, :, None]
    there = [True, *(sensor in picture.coarse for sensor in ("s2", "s1"))]
    return {**inputs, "present": torch.tensor([there] * BATCH)}


def probe(encoder: SkySensePlusPlus, picture: Picture, draws: int = 5) -> float:
    """Macro-F1 in % of cross-validation over blocks, from the maps of all stages, labels hidden."""
    side = tuple(n // STRIDE for n in picture.labels.shape)
    with torch.no_grad():
        stages = encoder.eval().high_resolution(picture.image[None])
        # of the first stage the left half is the picture, the right one the hidden labels
        maps = [m[..., : m.shape[2] * side[1] // side[0]] for m in stages.values()]
        maps = torch.cat([functional.adaptive_avg_pool2d(m, side) if m.shape[2] > side[0] else
                          functional.interpolate(m, side, mode="bilinear") for m in maps], dim=1)
    features = functional.normalize(maps[0].flatten(1).T, dim=1).numpy()
    features = (features - features.mean(axis=0)) / features.std(axis=0).mean()
    labels = picture.labels[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].numpy()
    rows, cols = np.indices(labels.shape)
    blocks = (rows // 4 * 1000 + cols // 4).ravel()
    labels, scores = labels.ravel(), []
    known = (labels > 0) & np.isin(labels, [c for c in np.unique(labels) if
                                            (labels == c).sum() >= 50])
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        kept = np.flatnonzero(known & (rng.random(len(labels)) < 0.5))
        guessed = np.zeros_like(labels)
        for part in np.array_split(rng.permutation(np.unique(blocks)), 4):
            test = np.isin(blocks[kept], part)
            model = LogisticRegression(C=0.1, max_iter=300, class_weight="balanced")
            model.fit(features[kept[~test]], labels[kept[~test]])
            guessed[kept[test]] = model.predict(features[kept[test]])
        scores.append(100 * f1_score(labels[kept], guessed[kept], average="macro"))
    return float(np.mean(scores))


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1e-3)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(given.seed)
    objective = MaskedSemantics(SkySensePlusPlus(CONFIG))
    learnt = [clouds("sentinel2").part(slice(0, 256), slice(0, 512)), clouds("landsat7"),
              water().part(slice(0, 512), slice(0, 256))]
    kept_back = {"clouds, Sentinel-2, lower half": clouds("sentinel2").part(
        slice(256, 512), slice(0, 512)),
        "water, Spain, right half": water().part(slice(0, 512), slice(256, 512))}
    before = {name: probe(objective.encoder, picture) for name, picture in kept_back.items()}
    optimiser = torch.optim.AdamW(objective.parameters(), lr=given.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, given.rate, given.steps)
    totals: list[dict[str, float]] = []
    for step in range(given.steps):
        rng = np.random.default_rng([given.seed, step])
        inputs = batch(learnt[int(rng.integers(len(learnt)))], rng)
        optimiser.zero_grad()
        parts = objective.train()(inputs, torch.Generator().manual_seed(int(rng.integers(2**62))))
        parts["loss"].backward()
        nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        totals.append({name: float(value.detach()) for name, value in parts.items()})
        if (step + 1) % EVERY == 0:
            last = {n: np.mean([t[n] for t in totals[-EVERY:]]) for n in totals[-1]}
            LOG.info("step %d %s", step + 1, " ".join(f"{n} {v:.3f}" for n, v in last.items()))
    for name, picture in kept_back.items():
        LOG.info("%s: random %.1f, trained %.1f", name, before[name],
                 probe(objective.encoder, picture))
    return 0


if __name__ == "__main__":
    sys.exit(main())
