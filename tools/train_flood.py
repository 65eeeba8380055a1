"""Train the bundled flood head on OMBRIA's training events, and choose everything on them.

    PYTHONPATH=build/plugins .venv/engine/bin/python tools/train_flood.py [HEAD]

Folds are runs of neighbouring chips, which are events. Prints the pooled IoU of each fold and
writes resources/heads/flood.head.onnx. About two minutes on one processor.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from flood_sets import RADAR, Chip, ombria  # noqa: E402

from earthprint.engine.context import JobContext  # noqa: E402
from earthprint.engine.flood.features import optical_features, radar_features  # noqa: E402
from earthprint.engine.flood.learned import BUNDLED, Fusion, Network, write_head  # noqa: E402
from earthprint.engine.flood.survey import survey  # noqa: E402

FOLDS, SEED = 5, 0
ROUNDS, MEMBERS = 12, 3
#: Random squares of each chip, which show the detector other mixtures of water and land.
CROPS, SIDES, PIXELS = 3, (112, 224), (500, 200)
CUTS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)

Table = Callable[[Chip], np.ndarray]


@dataclass(frozen=True)
class Kind:
    """A sensor's features and network: hidden units, and penalty of large weights."""

    name: str
    table: Table
    hidden: int
    penalty: float


def radar_table(chip: Chip) -> np.ndarray:
    """(rows, cols, k) features of the chip's radar."""
    part = chip.only(*RADAR)
    everything = slice(None), slice(None)
    return radar_features(survey(part, JobContext()), "vv", part.values["vv"], everything)


def optical_table(chip: Chip) -> np.ndarray:
    """(rows, cols, k) features of the chip's optical images."""
    return optical_features(chip.values, (slice(None), slice(None)))


def samples(chip: Chip, table: Table, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Features and truth of random pixels of a chip and of squares of it."""
    parts = [(chip, PIXELS[0])]
    for _ in range(CROPS):
        side = int(rng.integers(*SIDES))
        row, col = rng.integers(0, chip.truth.shape[0] - side, 2)
        parts.append((chip.crop(row, col, side), PIXELS[1]))
    x, y = [], []
    for part, count in parts:
        features = table(part)
        usable = np.flatnonzero(~np.isnan(features).any(2))
        chosen = rng.choice(usable, min(count, len(usable)), replace=False)
        x.append(features.reshape(-1, features.shape[2])[chosen])
        y.append(part.truth.reshape(-1)[chosen])
    return np.concatenate(x), np.concatenate(y)


def fit(x: np.ndarray, y: np.ndarray, kind: Kind) -> Network:
    """The mean of a few networks, which is one wider network."""
    mean, scale = x.mean(0), 1 / np.maximum(x.std(0), 1e-6)
    standard = np.clip((x - mean) * scale, -4, 4)
    members = []
    for seed in range(MEMBERS):
        net = MLPClassifier((kind.hidden,), alpha=kind.penalty, max_iter=ROUNDS, batch_size=512,
                            learning_rate_init=3e-3, random_state=SEED + seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early on purpose
            members.append(net.fit(standard, y))
    return Network(
        mean.astype(np.float32), scale.astype(np.float32),
        np.concatenate([m.coefs_[0] for m in members], 1),
        np.concatenate([m.intercepts_[0] for m in members]),
        np.concatenate([m.coefs_[1][:, 0] for m in members]) / MEMBERS,
        float(np.mean([m.intercepts_[1][0] for m in members])))


def odds(network: Network, table: np.ndarray) -> np.ndarray:
    """(rows, cols) log odds; NaN where a feature is missing."""
    flat = table.reshape(-1, table.shape[2])
    found = np.where(np.isnan(flat).any(1), np.nan, network.log_odds(flat))
    return found.reshape(table.shape[:2])


def crossed(chips: list[Chip], fold: np.ndarray, kind: Kind
            ) -> tuple[Network, list[np.ndarray], np.ndarray, float]:
    """A network of all chips, each chip's log odds by one that has not seen its fold, features to
    check with, and the pooled IoU of flood on the folds.

    The log odds are moved so that 0 is the cut of the best pooled IoU.
    """
    rng = np.random.default_rng(SEED)
    drawn = [samples(chip, kind.table, rng) for chip in chips]
    held: list[np.ndarray] = [np.empty(0)] * len(chips)
    for k in range(FOLDS):
        seen = [drawn[i] for i in range(len(chips)) if fold[i] != k]
        network = fit(np.concatenate([x for x, _ in seen]), np.concatenate([y for _, y in seen]),
                      kind)
        for i in np.flatnonzero(fold == k):
            held[i] = odds(network, kind.table(chips[i])[::2, ::2])
    iou, cut = report(kind.name, chips, held, fold)
    move = logit(cut)
    x = np.concatenate([x for x, _ in drawn])
    network = fit(x, np.concatenate([y for _, y in drawn]), kind)
    network = replace(network, output_bias=network.output_bias - move)
    return network, [o - move for o in held], x[:2000], iou


def logit(share: float) -> float:
    """Log odds of a probability."""
    return float(np.log(share / (1 - share)))


def report(name: str, chips: list[Chip], held: list[np.ndarray], fold: np.ndarray
           ) -> tuple[float, float]:
    """Print pooled IoU at several cuts; the best and its cut."""
    best = (0.0, 0.5)
    for cut in CUTS:
        both, either = np.zeros((2, len(chips)))
        for i, (chip, log_odds) in enumerate(zip(chips, held, strict=True)):
            found, truth = log_odds > logit(cut), chip.truth[::2, ::2]
            both[i], either[i] = (found & truth).sum(), (found | truth).sum()
        folds = [f"{both[fold == k].sum() / either[fold == k].sum():.3f}" for k in range(FOLDS)]
        iou = both.sum() / either.sum()
        sys.stdout.write(f"{name} cut {cut:.2f}: IoU {iou:.3f}, folds {' '.join(folds)}\n")
        sys.stdout.flush()
        best = max(best, (iou, cut))
    return best


def main() -> int:
    """Train, print, write."""
    shared = Path(os.environ.get("EARTHPRINT_SHARED", ROOT.parent / "shared"))
    chips = ombria(shared, "train")
    fold = np.arange(len(chips)) * FOLDS // len(chips)
    radar, radar_odds, radar_check, radar_iou = crossed(
        chips, fold, Kind("radar", radar_table, 24, 3.0))
    with_optical = [i for i, chip in enumerate(chips) if "mndwi" in chip.values]
    pairs, pair_fold = [chips[i] for i in with_optical], fold[with_optical]
    optical, optical_odds, optical_check, optical_iou = crossed(
        pairs, pair_fold, Kind("optical", optical_table, 8, 10.0))
    same = [radar_odds[i] for i in with_optical]
    report("radar on the same chips", pairs, same, pair_fold)
    r, o = (np.concatenate([p.ravel() for p in planes]) for planes in (same, optical_odds))
    truth = np.concatenate([chip.truth[::2, ::2].ravel() for chip in pairs])
    known = np.isfinite(r) & np.isfinite(o)
    joined = LogisticRegression().fit(np.stack([r, o], 1)[known], truth[known])
    fusion = Fusion(*map(float, joined.coef_[0]), float(joined.intercept_[0]))
    fused = [fusion.radar * a + fusion.optical * b + fusion.bias
             for a, b in zip(same, optical_odds, strict=True)]
    best = report("both", pairs, fused, pair_fold)
    fusion = replace(fusion, bias=fusion.bias - logit(best[1]))
    sys.stdout.write(f"{fusion}\n")
    card = {
        "kind": "flood head", "version": "1.0.0",
        "training": [{"set": "OMBRIA, training split (ids 1 to 330)", "chips": len(chips),
                      "with optical": len(pairs), "licence": "none stated",
                      "pixels": "contains modified Copernicus Sentinel data",
                      "masks": "Copernicus EMS Rapid Mapping"}],
        "results": {"radar alone": round(radar_iou, 3), "optical alone": round(optical_iou, 3),
                    "both": round(best[0], 3)},
        "features": "means of both dates at 3 to 63 pixels around; radar in the scene's own terms",
        "network": f"{MEMBERS} x 24 hidden units for radar, {MEMBERS} x 8 for optical; log odds "
                   "joined, and moved so that 0.5 gives the best IoU", "seed": SEED,
        "limits": "radar VV or VH at about 10 m; flood under trees and between houses is missed"}
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else BUNDLED
    path.parent.mkdir(parents=True, exist_ok=True)
    some = min(len(radar_check), len(optical_check))
    write_head(path, (radar, optical), fusion, card, (radar_check[:some], optical_check[:some]))
    sys.stdout.write(f"{path.name}: {path.stat().st_size} bytes\n{json.dumps(card, indent=1)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
