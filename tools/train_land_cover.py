"""Train the bundled land cover head: a small network on the embeddings of `fast`.

    PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python \
        tools/train_land_cover.py [HEAD]

Every sample is shown as a season and in poorer views: one date, Landsat's bands, radar alone.
Squares of 2.5 degrees are held back to judge it. About five minutes on one processor.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from land_cover_sets import (  # noqa: E402
    CLASSES,
    COLOUR,
    INPUTS,
    OPTICAL,
    Samples,
    as_landsat,
    canada_east,
    dates,
    greenest,
    only,
    patch,
    slovenia,
    training_sets,
)

from earthprint.engine.heads import accuracy  # noqa: E402
from earthprint.engine.heads.applicability import Gate  # noqa: E402
from earthprint.engine.heads.classifiers import (  # noqa: E402
    Classifier,
    Perceptron,
    balanced_draw,
    fit_perceptron,
)
from earthprint.engine.heads.head import HeadCard, write_head  # noqa: E402
from earthprint.engine.heads.layout import FeatureLayout  # noqa: E402
from earthprint.engine.heads.origin import KEY, Origin  # noqa: E402
from earthprint.engine.rasters.legend import Legend  # noqa: E402
from earthprint.models import catalogue  # noqa: E402
from earthprint.models.cards import read_card  # noqa: E402
from earthprint.models.timegrid import STEPS  # noqa: E402
from earthprint.models.training import pool  # noqa: E402

HEAD = ROOT / "resources" / "heads" / "land_cover.head.onnx"
LEGEND = ROOT / "resources" / "legends" / "worldcover.json"
ENCODER = catalogue.bundled()[catalogue.DEFAULT]
Features = Callable[[np.ndarray], np.ndarray]
Views = Callable[[np.ndarray, np.random.Generator], Iterator[np.ndarray]]
FOLDS, ROUNDS, SEED = 4, 3, 0
LIMITS = [
    "Snow, wetlands, mangroves, moss and lichen are missing: too few samples. They get another "
    "class.",
    "Shrubland and bare ground were learned from few places, mostly in the western USA.",
    "One date or Landsat's bands alone give a much worse map than a season, see the figures.",
    "Clouds and their shadows must be masked: in a single date shadow is taken for water.",
    "Pixels of 10 to 30 m. Aerial images were never seen."]
GATE = 800
"""Embeddings kept to tell what is unlike the training data; more would make the file large."""


def views(rows: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """What users may have of the same places, each (n, 24, 13)."""
    optical, landsat = only(rows, OPTICAL), as_landsat(rows)
    yield rows
    yield pool.degrade(rows, rng)
    yield pool.degrade(rows, rng)
    yield optical
    yield dates(optical, 4, rng)
    yield dates(optical, 1, rng)
    yield greenest(optical)
    yield landsat
    yield dates(landsat, 1, rng)
    yield greenest(landsat)
    yield dates(only(rows, COLOUR), 1, rng)
    yield dates(only(rows, (*COLOUR, "swir")), 1, rng)
    yield only(rows, ("s1",))


def turned(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the rows with another beginning of the year: seasons differ between places.

    Single dates are always moved, since a scene may have none.
    """
    single = np.isfinite(rows).any(axis=2).sum(axis=1) == 1
    moved = single | (rng.random(len(rows)) < 0.5)
    shift = np.where(moved, rng.integers(0, STEPS, len(rows)), 0)
    steps = (np.arange(STEPS) + shift[:, None]) % STEPS
    return np.take_along_axis(rows, steps[:, :, None], axis=1)


class Embedder:
    """The encoder on rows of the training grid."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(ENCODER), options, providers=["CPUExecutionProvider"])

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """(n, 128) float32."""
        return np.concatenate([
            self._session.run(["embedding"], {"grid": pool.network_input(part)})[0]
            for part in np.array_split(rows, max(len(rows) // 1024, 1))])


def drawn(sets: list[Samples], rng: np.random.Generator) -> Samples:
    """All sets as one, with no more of a class than each allows."""
    parts = []
    for one in sets:
        chosen = [rng.permutation(np.flatnonzero(one.classes == c))[:one.most]
                  for c in np.unique(one.classes)]
        parts.append(one.keep(np.concatenate(chosen)))
    return Samples("all", "", *(np.concatenate([getattr(p, name) for p in parts])
                                for name in ("rows", "classes", "places")))


def taught(samples: Samples, embed: Features, rng: np.random.Generator, of: Views = views
           ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of all views, and class index and sample of each."""
    x, owner = [], []
    for view in of(samples.rows, rng):
        view = turned(view, rng)
        seen = np.flatnonzero(np.isfinite(view).any(axis=(1, 2)))
        x.append(embed(view[seen]))
        owner.append(seen)
    owner = np.concatenate(owner)
    return np.concatenate(x), np.searchsorted(CLASSES, samples.classes)[owner], owner


def fit(x: np.ndarray, y: np.ndarray) -> Perceptron:
    """The head's network."""
    return fit_perceptron(x, y, len(CLASSES), SEED, x.shape[1])


def judged(sets: list[Samples], embed: Features, turn: int, learn: Callable[..., Classifier] = fit,
           of: Views | None = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Input to (class index, probabilities) of the worldwide points on held-back squares.

    Args:
        sets: the worldwide points first.
        embed: rows to features.
        turn: number of the draw of squares.
        learn: features and class index to a classifier.
        of: views that are shown in training; None: all.
    """
    rng = np.random.default_rng(SEED + turn)
    samples, tests = drawn(sets, rng), sets[0]
    squares, of_test = samples.squares(), tests.squares()
    names = np.unique(of_test)
    fold_of = dict(zip(names, rng.permutation(len(names)) % FOLDS, strict=True))
    found: dict[str, list] = {name: [] for name in INPUTS}
    for fold in range(FOLDS):
        held = [name for name in names if fold_of[name] == fold]
        x, y, _ = taught(samples.keep(~np.isin(squares, held)), embed, rng, of or views)
        network, mine = learn(x, y), tests.keep(np.isin(of_test, held))
        truth = np.searchsorted(CLASSES, mine.classes)
        for name, made in INPUTS.items():
            rows = made(mine.rows)
            seen = np.isfinite(rows).any(axis=(1, 2))
            found[name].append((truth[seen], network.probabilities(embed(rows[seen]))))
    return {name: tuple(np.concatenate(part) for part in zip(*pairs, strict=True))
            for name, pairs in found.items()}


def figures(rounds: list[dict[str, tuple]], temperature: float) -> dict:
    """What the card says of the held-back squares."""
    season = next(iter(INPUTS))
    scores = {name: [accuracy.scores(accuracy.confusion(p.argmax(1), y, len(CLASSES)))
                     for y, p in (found[name] for found in rounds)] for name in INPUTS}
    first = scores[season]
    y, p = (np.concatenate(part) for part in zip(*(found[season] for found in rounds),
                                                 strict=True))
    before, after = (accuracy.expected_calibration_error(q.max(1), q.argmax(1) == y)
                     for q in (p, accuracy.tempered(p, temperature)))

    def mean(values: list) -> float:
        return round(float(np.nanmean(values)), 4)

    return {
        "folds": FOLDS, "block_m": 278_000, "rounds": ROUNDS,
        "macro_f1": mean([s.macro_f1 for s in first]),
        "macro_f1_spread": round(float(np.std([s.macro_f1 for s in first], ddof=1)), 4),
        "overall": mean([s.overall for s in first]),
        "classes": [{"value": c, **{name: mean([getattr(s, name)[k] for s in first])
                                    for name in ("precision", "recall", "f1", "iou")}}
                    for k, c in enumerate(CLASSES)],
        "inputs": {name: {"macro_f1": mean([s.macro_f1 for s in found]),
                          "spread": round(float(np.std([s.macro_f1 for s in found], ddof=1)), 4),
                          "overall": mean([s.overall for s in found])}
                   for name, found in scores.items()},
        "ece_before": round(float(before), 4), "ece_after": round(float(after), 4)}


def elsewhere(network: Perceptron, samples: Samples, embed: Embedder) -> dict:
    """Figures of a set that was not trained on."""
    truth = np.searchsorted(CLASSES, samples.classes)
    mapped = network.probabilities(embed(samples.rows)).argmax(1)
    found = accuracy.scores(accuracy.confusion(mapped, truth, len(CLASSES)))
    present = np.unique(truth)
    return {"where": samples.name, "samples": len(samples), "classes": len(present),
            "macro_f1": round(float(found.f1[present].mean()), 4),
            "overall": round(float(found.overall), 4)}


def main() -> int:
    """Train, judge, write."""
    sets, embed = training_sets(), Embedder()
    rounds = [judged(sets, embed, turn) for turn in range(ROUNDS)]
    y, p = (np.concatenate(part) for part in zip(
        *(pair for found in rounds for pair in found.values()), strict=True))
    temperature = accuracy.temperature(p, y)
    rng = np.random.default_rng(SEED)
    samples = drawn(sets, rng)
    x, classes, owner = taught(samples, embed, rng)
    network = fit(x, classes)
    validation = figures(rounds, temperature)
    validation["elsewhere"] = [
        *({"where": f"the same points, {name}", **found}
          for name, found in list(validation["inputs"].items())[1:]),
        *(elsewhere(network, one, embed)
          for one in (canada_east(), patch("belgium-2019-north"), slovenia(80, 100)))]
    squares = np.unique(samples.squares(), return_inverse=True)[1]
    kept = balanced_draw(classes, GATE, SEED)
    gate = Gate.of(x[kept], classes[kept], squares[owner][kept], True, SEED)
    records = {r["value"]: r for r in json.loads(LEGEND.read_text(encoding="utf-8"))["classes"]}
    legend = Legend.of_records(records[c] for c in CLASSES)
    counts = tuple({"value": c.value, "name": c.name,
                    "samples": int((samples.classes == c.value).sum()),
                    "groups": len(np.unique(squares[samples.classes == c.value]))}
                   for c in legend.classes)
    places = samples.places[~np.isnan(samples.places).any(1)]
    origin = Origin(tuple(map(tuple, np.unique(np.round(places, 1), axis=0).tolist())), (),
                    region="points worldwide, mostly Europe, North America and East Africa")
    source = {
        "labels": "ESA WorldCover where reference data agree, Dynamic World, parcels",
        "input": "Sentinel-1 and Sentinel-2 series, 2015 to 2021, whole and cut",
        "region": origin.region, "season": "any: whole years, parts of them, single dates",
        "sensors": ["sentinel-2", "landsat", "sentinel-1"],
        "sets": [{"name": s.name, "samples": len(s), "licence": s.licence} for s in sets],
        "limits": LIMITS, KEY: origin.record()}
    layout = FeatureLayout("embeddings", read_card(ENCODER).identity, x.shape[1])
    card = HeadCard(layout, legend, "mlp", counts, validation, temperature, SEED, source)
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else HEAD
    write_head(path, network, card, gate, x[:2000])
    sys.stdout.write(f"{json.dumps(validation, indent=1)}\ntemperature {temperature:.2f}, gate "
                     f"{gate.threshold:.2f}, {path.name}: {path.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
