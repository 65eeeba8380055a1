"""Train the bundled flood head on OMBRIA's training events, and choose everything on them.

    PYTHONPATH=build/plugins .venv/engine/bin/python tools/train_flood.py [HEAD]

Each group of events is held back once; on what is said there about chips that were not seen, log
odds are calibrated, joined between sensors and with the thresholds, and the cut is chosen. Prints
the pooled IoU of each group and writes resources/heads/flood.head.onnx. About three minutes on one
processor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
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
from earthprint.engine.flood.classical import waters  # noqa: E402
from earthprint.engine.flood.features import optical_features, radar_features  # noqa: E402
from earthprint.engine.flood.learned import BUNDLED, Fusion, Network, write_head  # noqa: E402
from earthprint.engine.flood.survey import survey  # noqa: E402

#: Last ids of the runs of neighbouring chips that look like one event, and the group of each.
RUNS = ((20, 0), (107, 1), (132, 0), (257, 2), (268, 0), (330, 3))
GROUPS, SEED = 4, 0
ROUNDS, MEMBERS = 12, 3
#: Random squares of each chip, which show the detector other mixtures of water and land.
CROPS, SIDES, PIXELS = 3, (112, 224), (500, 200)
CUTS = np.round(np.arange(0.2, 0.61, 0.02), 2)
SURE = 0.01  # thresholds are clipped to this before their log odds are taken
SOME = 60_000  # pixels that a calibration is fitted on

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


def held_back(chips: list[Chip], group: np.ndarray, kind: Kind
              ) -> tuple[Network, np.ndarray, np.ndarray]:
    """A network of all chips, each chip's log odds (every second pixel) by one that has not seen
    its group, and features to check with."""
    rng = np.random.default_rng(SEED)
    drawn = [samples(chip, kind.table, rng) for chip in chips]
    held: list[np.ndarray] = [np.empty(0)] * len(chips)
    for k in range(GROUPS):
        seen = [drawn[i] for i in range(len(chips)) if group[i] != k]
        network = fit(np.concatenate([x for x, _ in seen]), np.concatenate([y for _, y in seen]),
                      kind)
        for i in np.flatnonzero(group == k):
            held[i] = odds(network, kind.table(chips[i])[::2, ::2])
    x = np.concatenate([x for x, _ in drawn])
    network = fit(x, np.concatenate([y for _, y in drawn]), kind)
    return network, np.stack(held), x[:2000]


def joining(odds: Sequence[np.ndarray], truth: np.ndarray) -> LogisticRegression:
    """The weights of log odds that give the probability of flood, fitted on some pixels."""
    table = np.stack([o.ravel() for o in odds], 1)
    known = np.flatnonzero(np.isfinite(table).all(1))
    some = np.random.default_rng(0).choice(known, min(SOME, len(known)), replace=False)
    return LogisticRegression().fit(table[some], truth.ravel()[some])


def crossed(odds: Sequence[np.ndarray], truth: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Probability of flood, each group's by the fit on the others; NaN where one is missing."""
    found = np.full(truth.shape, np.nan, np.float32)
    for k in np.unique(group):
        out, held = group != k, group == k
        model = joining([o[out] for o in odds], truth[out])
        sums = sum(w * o[held] for w, o in zip(model.coef_[0], odds, strict=True))
        found[held] = 1 / (1 + np.exp(-(sums + model.intercept_[0])))
    return found


def report(name: str, found: np.ndarray, truth: np.ndarray, group: np.ndarray
           ) -> tuple[float, float]:
    """Print the pooled IoU at its best cut, of each group, and the reliability; IoU and cut."""
    def iou(cut: float, part: np.ndarray) -> float:
        flood = found[part] > cut
        return (flood & truth[part]).sum() / max((flood | truth[part]).sum(), 1)

    everything = np.ones(len(truth), bool)
    best, cut = max((iou(cut, everything), cut) for cut in CUTS)
    groups = " ".join(f"{iou(cut, group == k):.3f}" for k in np.unique(group))
    _say(f"{name}: IoU {best:.3f} at {cut:.2f}; of the groups {groups}; "
         f"calibration error {calibration_error(found, truth):.3f}")
    return float(best), float(cut)


def calibration_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of probability and frequency over tenths of the probability (ECE)."""
    known = np.isfinite(found)
    p, y = found[known], truth[known]
    tenth = np.minimum((p * 10).astype(int), 9)
    return float(sum(abs(p[tenth == k].sum() - y[tenth == k].sum()) for k in range(10)) / len(p))


def thresholds_odds(chip: Chip) -> np.ndarray:
    """Log odds of flood by the classical detector on all channels of a chip."""
    everything = slice(None), slice(None)
    flood = np.clip(waters(survey(chip, JobContext()), chip.values, everything).flood, SURE,
                    1 - SURE)
    return np.log(flood / (1 - flood))[::2, ::2]


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def _group(chip: Chip) -> int:
    return next(group for last, group in RUNS if int(chip.name) <= last)


def choose(chips: list[Chip], held: dict[str, np.ndarray]
           ) -> tuple[dict, dict[str, list[float]]]:
    """Calibration, weights and cuts from held-back log odds: the card, and gain and bias of each
    sensor."""
    truth = np.stack([chip.truth[::2, ::2] for chip in chips])
    group = np.array([_group(chip) for chip in chips])
    paired = np.array(["mndwi" in chip.values for chip in chips])
    results, gains, odds = {}, {}, {}
    for name, of in (("radar", np.ones(len(chips), bool)), ("optical", paired)):
        raw = held[name]
        results[f"{name} alone"], cut = report(
            f"{name} alone", crossed([raw], truth[of], group[of]), truth[of], group[of])
        gains[name] = _weights(joining([raw], truth[of]))
        odds[name] = gains[name][0] * raw + gains[name][1]
        if name == "radar":
            card_cut = cut
    two, alone = [odds["radar"][paired], odds["optical"]], truth[paired]
    report("radar alone, on the same chips", crossed(two[:1], alone, group[paired]), alone,
           group[paired])
    results["both"], _ = report("both", crossed(two, alone, group[paired]), alone, group[paired])
    first, second, shift = _weights(joining(two, alone))
    card: dict = {"kind": "flood head", "version": "1.1.0", "cut": card_cut,
                  "joined": {"radar": first, "optical": second, "bias": shift}}
    fused = first * two[0] + second * two[1] + shift
    card["with thresholds"] = {}
    for name, channels, own, of in (("radar", ("vv",), odds["radar"], np.ones(len(chips), bool)),
                                    ("optical", ("mndwi", "ndwi"), odds["optical"], paired),
                                    ("both", ("vv", "mndwi", "ndwi"), fused, paired)):
        there, groups = truth[of], group[of]
        other = np.stack([thresholds_odds(chip.only(*channels))
                          for chip, has in zip(chips, of, strict=True) if has])
        report(f"{name}, thresholds", crossed([other], there, groups), there, groups)
        results[f"{name} with thresholds"], cut = report(
            f"{name} with thresholds", crossed([own, other], there, groups), there, groups)
        learned, share, bias = _weights(joining([own, other], there))
        if learned < 0:  # what it adds is nothing; the thresholds decide
            learned, (share, bias) = 0.0, _weights(joining([other], there))
        card["with thresholds"][name] = {"learned": learned, "thresholds": share, "bias": bias,
                                         "cut": cut}
    return card | {
        "training": [{"set": "OMBRIA, training split (ids 1 to 330)", "chips": len(chips),
                      "with optical": int(paired.sum()), "licence": "none stated",
                      "pixels": "contains modified Copernicus Sentinel data",
                      "masks": "Copernicus EMS Rapid Mapping"}],
        "results": {name: round(iou, 3) for name, iou in results.items()},
        "features": "means of both dates at 3 to 63 pixels around; radar in the scene's own terms",
        "network": f"{MEMBERS} x 24 hidden units for radar, {MEMBERS} x 8 for optical; log odds "
                   "calibrated and joined on events that were held back", "seed": SEED,
        "limits": "radar VV or VH at about 10 m; flood under trees and between houses is missed",
    }, gains


def _weights(model: LogisticRegression) -> list[float]:
    return [float(w) for w in (*model.coef_[0], model.intercept_[0])]


def main() -> int:
    """Train, choose, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("head", nargs="?", type=Path, default=BUNDLED, help="file to write")
    path = parser.parse_args().head
    shared = Path(os.environ.get("EARTHPRINT_SHARED", ROOT.parent / "shared"))
    chips = ombria(shared, "train")
    pairs = [chip for chip in chips if "mndwi" in chip.values]
    nets, held, checks = {}, {}, {}
    for own, kind in ((chips, Kind("radar", radar_table, 24, 3.0)),
                      (pairs, Kind("optical", optical_table, 8, 10.0))):
        group = np.array([_group(chip) for chip in own])
        nets[kind.name], held[kind.name], checks[kind.name] = held_back(own, group, kind)
    card, gains = choose(chips, held)
    networks = [replace(net, output=net.output * gains[name][0],
                        output_bias=net.output_bias * gains[name][0] + gains[name][1])
                for name, net in nets.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    some = min(map(len, checks.values()))
    write_head(path, (networks[0], networks[1]), Fusion(**card["joined"]), card,
               (checks["radar"][:some], checks["optical"][:some]))
    _say(f"{path.name}: {path.stat().st_size} bytes\n{json.dumps(card, indent=1)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
