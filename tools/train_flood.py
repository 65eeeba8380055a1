"""Train the bundled flood head on OMBRIA's training events and on pairs without a flood, and choose
everything on them.

    PYTHONPATH=build/plugins .venv/engine/bin/python tools/train_flood.py [HEAD]

Pairs without a flood ("still") are OMBRIA's dates beside themselves with other speckle, other
moisture and a shift, and real Sentinel-1 dates of one series of fields; these are also shown with
water planted. Each group of events and of dates is held back once; on what is said there about
pairs that were not seen, log odds are calibrated and joined between sensors and with the
thresholds. Each cut is that of the best pooled IoU among all that call at most `STILL_SHARE` of
each kind of still pairs flood. Floods are known in VV alone: VH has VV's cut, and its log odds are
lowered until its still pairs stay dry too. Prints the pooled IoU of each group and writes
resources/heads/flood.head.onnx. About four minutes on one processor.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from flood_pairs import BESIDE, GROUPS, PLANTED, SEED, Chip, Pair, training_pairs
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from earthprint.engine.context import JobContext
from earthprint.engine.flood.classical import clearest, trust, waters
from earthprint.engine.flood.features import optical_features, radar_features
from earthprint.engine.flood.learned import (
    BUNDLED,
    SMOOTH,
    Fusion,
    Network,
    logit,
    write_head,
)
from earthprint.engine.flood.scene import OPTICAL, RADAR, box
from earthprint.engine.flood.survey import survey

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, MEMBERS = 12, 3
#: Random squares of each chip, which show the detector other mixtures of water and land.
CROPS, SIDES, PIXELS = 3, (112, 224), (500, 200)
CUTS = np.round(np.arange(0.1, 0.91, 0.02), 2)
STILL_SHARE = 0.01  # of a kind of still pairs that a cut may call flood
SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)  # of thresholds' log odds in a join, times the trust
SURE = 0.01  # thresholds are clipped to this before their log odds are taken
SHIFTS = np.arange(0, 4, 0.05)
SOME = 60_000  # pixels that a calibration is fitted on, half as many of still pairs

Table = Callable[[Chip], np.ndarray]


@dataclass(frozen=True)
class Kind:
    """A sensor's features and network: hidden units, and penalty of large weights."""

    name: str
    table: Table
    hidden: int
    penalty: float


@dataclass(frozen=True, eq=False)
class Pixels:
    """(n,) truth, group and kind of still pair of every second pixel of some pairs."""

    truth: np.ndarray
    group: np.ndarray
    still: np.ndarray

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Pixels:
        """Those of pairs, one after the other."""
        truth = [pair.chip.truth[::2, ::2].ravel() for pair in pairs]
        sizes = [t.size for t in truth]
        return cls(np.concatenate(truth), np.repeat([pair.group for pair in pairs], sizes),
                   np.repeat([pair.still for pair in pairs], sizes))

    @property
    def kinds(self) -> list[str]:
        """Names of the kinds of still pairs that calibrations and cuts heed."""
        return [kind for kind in ("VV", BESIDE) if (self.still == kind).any()]

    def __getitem__(self, part: np.ndarray) -> Pixels:
        return Pixels(self.truth[part], self.group[part], self.still[part])


def radar_table(chip: Chip) -> np.ndarray:
    """(rows, cols, k) features of the chip's one radar channel."""
    channel = next(c for c in RADAR if c in chip.values)
    part = chip.only(channel)
    everything = slice(None), slice(None)
    return radar_features(survey(part, JobContext()), channel, part.values[channel], everything)


def optical_table(chip: Chip) -> np.ndarray:
    """(rows, cols, k) features of the chip's optical images."""
    return optical_features(chip.values, (slice(None), slice(None)))


def samples(chip: Chip, table: Table, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Features and truth of random pixels of a chip and of squares of it, if it is large."""
    large = min(chip.truth.shape) > SIDES[1]
    parts = [(chip, PIXELS[0] if large else PIXELS[1])]
    for _ in range(CROPS if large else 0):
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
    return found.reshape(table.shape[:2]).astype(np.float32)


def held_back(pairs: list[Pair], kind: Kind) -> tuple[Network, np.ndarray, np.ndarray]:
    """A network of all pairs, (n,) smoothed log odds of their `Pixels` by one that has not seen the
    group, and features to check with."""
    rng = np.random.default_rng(SEED)
    drawn = [samples(pair.chip, kind.table, rng) for pair in pairs]
    held: list[np.ndarray] = [np.empty(0)] * len(pairs)
    for k in range(GROUPS):
        seen = [d for d, pair in zip(drawn, pairs, strict=True) if pair.group != k]
        network = fit(np.concatenate([x for x, _ in seen]), np.concatenate([y for _, y in seen]),
                      kind)
        for i, pair in enumerate(pairs):
            if pair.group == k:
                held[i] = box(odds(network, kind.table(pair.chip)), SMOOTH)[::2, ::2].ravel()
    x = np.concatenate([x for x, _ in drawn])
    network = fit(x, np.concatenate([y for _, y in drawn]), kind)
    return network, np.concatenate(held), x[:2000]


def joining(odds: Sequence[np.ndarray], pixels: Pixels) -> LogisticRegression:
    """The weights of log odds that give the probability of flood, fitted on some pixels of pairs
    with a flood, and half as many of all kinds of still pairs together."""
    table = np.stack(odds, 1)
    known = np.isfinite(table).all(1)
    rng = np.random.default_rng(SEED)
    some = []
    for kind in ("", *pixels.kinds):
        there = np.flatnonzero(known & (pixels.still == kind))
        most = SOME if not kind else SOME // 2 // len(pixels.kinds)
        some.append(rng.choice(there, min(most, len(there)), replace=False))
    chosen = np.concatenate(some)
    return LogisticRegression().fit(table[chosen], pixels.truth[chosen])


def crossed(odds: Sequence[np.ndarray], pixels: Pixels) -> np.ndarray:
    """Probability of flood, each group's by the fit on the others; NaN where one is missing."""
    found = np.full(pixels.truth.shape, np.nan, np.float32)
    for k in np.unique(pixels.group):
        out, held = pixels.group != k, pixels.group == k
        model = joining([o[out] for o in odds], pixels[out])
        sums = sum(w * o[held] for w, o in zip(model.coef_[0], odds, strict=True))
        found[held] = 1 / (1 + np.exp(-(sums + model.intercept_[0])))
    return found


def report(name: str, found: np.ndarray, pixels: Pixels) -> tuple[float, float]:
    """Print the pooled IoU at its best cut that leaves still pairs dry, of each group, the still
    pairs' shares, and the reliability; IoU and cut.

    Args:
        name: of what is reported.
        found: probability of flood.
        pixels: their truth.
    """
    def above(part: np.ndarray) -> np.ndarray:
        """(cuts,) how many are above each cut."""
        counts = np.histogram(found[part], [-np.inf, *CUTS, np.inf])[0]
        return counts[::-1].cumsum()[::-1][1:]

    def ious(part: np.ndarray) -> np.ndarray:
        told, hit = above(part), above(part & pixels.truth)
        return hit / np.maximum(told + (part & pixels.truth).sum() - hit, 1)

    flooded = pixels.still == ""
    still = {kind: above(pixels.still == kind) / (pixels.still == kind).sum()
             for kind in pixels.kinds}
    every = ious(flooded)
    calm = np.max(list(still.values()), axis=0) <= STILL_SHARE
    k = int(np.argmax(np.where(calm, every, -1))) if calm.any() else len(CUTS) - 1
    free = int(every.argmax())
    groups = " ".join(f"{ious(flooded & (pixels.group == g))[k]:.3f}"
                      for g in np.unique(pixels.group))
    shares = ", ".join(f"{kind} {share[k]:.2%}" for kind, share in still.items())
    _say(f"{name}: IoU {every[k]:.3f} at {CUTS[k]:.2f} (without still pairs {every[free]:.3f} at "
         f"{CUTS[free]:.2f}); of the groups {groups}; still pairs called flood {shares}; "
         f"calibration error {calibration_error(found[flooded], pixels.truth[flooded]):.3f}")
    return float(every[k]), float(CUTS[k])


def join_with_thresholds(name: str, learned: np.ndarray, thresholds: np.ndarray, pixels: Pixels
                         ) -> tuple[float, dict[str, float]]:
    """The join of log odds of the best pooled IoU that leaves still pairs dry: IoU and weights."""
    tried = [(*report(f"{name}, thresholds {share}",
                      crossed([learned + share * thresholds], pixels), pixels), share)
             for share in SHARES]
    iou, cut, share = max(tried)
    weight, bias = _weights(joining([learned + share * thresholds], pixels))
    return iou, {"learned": weight, "thresholds": weight * share, "bias": bias, "cut": cut}


def highest(found: np.ndarray) -> float:
    """The least value that at most `STILL_SHARE` are above."""
    return float(np.quantile(found, 1 - STILL_SHARE))


def calibration_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of probability and frequency over tenths of the probability (ECE)."""
    known = np.isfinite(found)
    p, y = found[known], truth[known]
    tenth = np.minimum((p * 10).astype(int), 9)
    return float(sum(abs(p[tenth == k].sum() - y[tenth == k].sum()) for k in range(10)) / len(p))


def thresholds_odds(chips: Sequence[Chip]) -> tuple[np.ndarray, np.ndarray]:
    """Log odds of flood by the classical detector on all channels of chips, times the trust in it,
    and where an image during the flood shows two classes; for the chips' `Pixels`."""
    everything = slice(None), slice(None)
    found, clear = [], []
    for chip in chips:
        look = survey(chip, JobContext())
        flood = waters(look, chip.values, everything).flood[::2, ::2].ravel()
        found.append(trust(look) * logit(np.clip(flood, SURE, 1 - SURE)))
        clear.append(np.full(flood.size, clearest(look)[1].source != "cap"))
    return np.concatenate(found), np.concatenate(clear)


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def mean_odds(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Log odds of the mean of two probabilities."""
    return logit((1 / (1 + np.exp(-first)) + 1 / (1 + np.exp(-second))) / 2)


def least_shift(cut: float, *odds: np.ndarray) -> float:
    """What the log odds of still pairs must be lowered by, in all channels, so that their mean
    probability stays below a cut."""
    def lowered(by: float) -> np.ndarray:
        return mean_odds(odds[0] - by, odds[-1] - by)

    return float(next(by for by in SHIFTS if highest(lowered(by)) <= logit(np.float64(cut))))


def choose(radar: list[Pair], dates: list[list[Pair]], held: dict[str, np.ndarray]
           ) -> tuple[dict, dict[str, list[float]]]:
    """Calibration, weights and cuts from held-back log odds: the card, and gain and bias of each
    sensor.

    Args:
        radar: all pairs of radar, those of `dates` last.
        dates: still pairs in VV and in VH.
        held: log odds of the `Pixels` of all pairs with the sensor, "radar" and "optical".
    """
    paired = np.array(["mndwi" in pair.chip.values for pair in radar])
    pairs = [pair for pair, has in zip(radar, paired, strict=True) if has]
    pixels = {"radar": Pixels.of(radar), "optical": Pixels.of(pairs)}
    results, gains, odds, cuts = {}, {}, {}, {}
    sunk = pixels["radar"].still == PLANTED
    hit = (held["radar"] > 0)[sunk][pixels["radar"].truth[sunk]].mean()
    for name, own in pixels.items():
        results[f"{name} alone"], cuts[name] = report(
            f"{name} alone", crossed([held[name]], own), own)
        gains[name] = _weights(joining([held[name]], own))
        odds[name] = gains[name][0] * held[name] + gains[name][1]
    still = {name: odds["radar"][pixels["radar"].still == name] for name in ("VV", "VH")}
    shift = {"vv": 0.0, "vh": least_shift(cuts["radar"], still["VH"]),
             "vv vh": least_shift(cuts["radar"], still["VV"], still["VH"])}
    has = np.repeat(paired, [pair.chip.truth[::2, ::2].size for pair in radar])
    two = [odds["radar"][has], odds["optical"]]
    results["both"], cuts["both"] = report("both", crossed(two, pixels["optical"]),
                                           pixels["optical"])
    first, second, bias = _weights(joining(two, pixels["optical"]))
    joins = {}
    for name, channels, learned in (("vv", RADAR, odds["radar"]),
                                    ("optical", OPTICAL, odds["optical"]),
                                    ("both", (*RADAR, *OPTICAL),
                                     first * two[0] + second * two[1] + bias)):
        own = radar if name == "vv" else pairs
        other, clear = thresholds_odds([pair.chip.only(*channels) for pair in own])
        there = pixels["radar" if name == "vv" else "optical"][clear]
        iou, joins[name] = join_with_thresholds(name, learned[clear], other[clear], there)
        results[f"{'radar' if name == 'vv' else name} with thresholds"] = iou
    for name, parts in (("vh", [still["VH"]]), ("vv vh", [still["VV"], still["VH"]])):
        lowered = [part - shift[name] for part in parts]
        joins[name] = joins["vv"] | {"cut": still_cut(
            mean_odds(lowered[0], lowered[-1]), name.split(), dates, joins["vv"])}
    flooded = sum(not pair.still for pair in radar)
    return {
        "kind": "flood head", "version": "1.2.0", "cuts": cuts, "radar shift": shift,
        "joined": {"radar": first, "optical": second, "bias": bias}, "with thresholds": joins,
        "training": [{"set": "OMBRIA, training split (ids 1 to 330)", "chips": flooded,
                      "with optical": sum(not pair.still for pair in pairs),
                      "licence": "none stated",
                      "pixels": "contains modified Copernicus Sentinel data",
                      "masks": "Copernicus EMS Rapid Mapping"},
                     {"set": "pairs without a flood: OMBRIA's dates beside themselves",
                      "chips": sum(pair.still == BESIDE for pair in radar),
                      "licence": "none stated"},
                     {"set": "pairs without a flood: Sentinel-1 in dB, Belgian polders 2018",
                      "chips": sum(map(len, dates)), "licence": "MIT",
                      "pixels": "contains modified Copernicus Sentinel data"}],
        "results": {f"IoU of flood, {name}": round(iou, 3) for name, iou in results.items()}
        | {"Share of planted floods found, radar alone": round(float(hit), 3)},
        "features": "means of both dates at 3 to 63 pixels around; radar in the scene's own terms",
        "network": f"{MEMBERS} x 24 hidden units for radar, {MEMBERS} x 8 for optical; log odds "
                   f"averaged over {SMOOTH} x {SMOOTH} pixels, calibrated and joined on events "
                   f"that were held back; cuts that call at most {STILL_SHARE:.0%} of each kind of "
                   "pairs without a flood flood",
        "seed": SEED,
        "limits": "radar VV or VH at about 10 m, floods seen in VV only; flood under trees and "
                  "between houses is missed",
    }, gains


def still_cut(learned: np.ndarray, channels: list[str], dates: list[list[Pair]],
              weights: dict[str, float]) -> float:
    """The cut of a join from which still dates stay dry in some channels; VV's at least."""
    chips = [Chip("still", first.chip.values | second.chip.values, first.chip.truth,
                  first.chip.judged).only(*channels)
             for first, second in zip(*dates, strict=True)]
    other, clear = thresholds_odds(chips)
    odds = weights["learned"] * learned + weights["thresholds"] * other + weights["bias"]
    cut = 1 / (1 + np.exp(-highest(odds[clear])))
    _say(f"{' '.join(channels)} with thresholds: still pairs stay dry at {cut:.2f}")
    return round(max(float(cut), weights["cut"]), 2)


def _weights(model: LogisticRegression) -> list[float]:
    return [float(w) for w in (*model.coef_[0], model.intercept_[0])]


def main() -> int:
    """Train, choose, print, write."""
    shared = Path(os.environ.get("EARTHPRINT_SHARED", ROOT.parent / "shared"))
    radar, dates = training_pairs(shared)
    optical = [pair for pair in radar if "mndwi" in pair.chip.values]
    nets, held, checks = {}, {}, {}
    for own, kind in ((radar, Kind("radar", radar_table, 24, 3.0)),
                      (optical, Kind("optical", optical_table, 8, 10.0))):
        nets[kind.name], held[kind.name], checks[kind.name] = held_back(own, kind)
    card, gains = choose(radar, dates, held)
    networks = [replace(net, output=net.output * gains[name][0],
                        output_bias=net.output_bias * gains[name][0] + gains[name][1])
                for name, net in nets.items()]
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else BUNDLED
    path.parent.mkdir(parents=True, exist_ok=True)
    some = min(map(len, checks.values()))
    write_head(path, (networks[0], networks[1]), Fusion(**card["joined"]), card,
               (checks["radar"][:some], checks["optical"][:some]))
    _say(f"{path.name}: {path.stat().st_size} bytes\n{json.dumps(card, indent=1)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
