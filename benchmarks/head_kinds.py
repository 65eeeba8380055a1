"""The kinds of heads beside each other on two real sets, raw bands, with fixed splits.

``PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python benchmarks/head_kinds.py``
prints the table that `heads.py` puts into `docs/evaluation.md`: macro-F1 in %, and the expected
calibration error before and after the temperature, which is fitted on folds of the training side.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score
from suggestions import canada, slovenia

from earthprint.engine.heads import accuracy, classifiers
from earthprint.engine.heads.crossval import automatic_side

SEEDS, MOST, FOLDS = 3, 1500, 5


def fitted(model: str, x: np.ndarray, y: np.ndarray, size: int, seed: int
           ) -> classifiers.Classifier:
    """One classifier."""
    if model == "logistic":
        return classifiers.fit_logistic(x, y, size, (0.1,))[0]
    if model == "neighbours":
        return classifiers.fit_neighbours(x, y, size, seed)
    if model == "mlp":
        return classifiers.fit_perceptron(x, y, size, seed)
    fit = classifiers.fit_forest if model == "forest" else classifiers.fit_boosting
    return fit(x, y, size, seed, 1)


def lines() -> Iterator[str]:
    """The table: a line a set and kind of head."""
    folder = Path(os.environ.get("EARTHPRINT_SHARED", "../shared")) / "data"
    yield from ("| set | head | macro F1 | ECE before | ECE after |", "|-|-|-|-|-|")
    for make in (canada, slovenia):
        x, y, test, places, _ = make(folder)
        size, present = int(y.max()) + 1, np.unique(y[test])
        for model in classifiers.MODELS:
            rows = []
            for seed in range(SEEDS):
                rng = np.random.default_rng(seed)
                train = rng.permutation(np.flatnonzero(~test))[:MOST]
                side = automatic_side(places[train], np.arange(len(train)), FOLDS)
                blocks = np.unique(np.floor(places[train] / side), axis=0, return_inverse=True)[1]
                fold = rng.permutation(blocks.max() + 1)[blocks.reshape(-1)] % FOLDS
                held = np.zeros((len(train), size))
                for f in range(FOLDS):
                    away, back = train[fold != f], train[fold == f]
                    held[fold == f] = fitted(model, x[away], y[away], size, seed
                                             ).probabilities(x[back])
                t = accuracy.temperature(held, y[train])
                p = fitted(model, x[train], y[train], size, seed).probabilities(x[test])
                after = accuracy.tempered(p, t)
                right = p.argmax(1) == y[test]
                rows.append((100 * f1_score(y[test], p.argmax(1), average="macro",
                                            labels=present),
                             100 * accuracy.expected_calibration_error(p.max(1), right),
                             100 * accuracy.expected_calibration_error(after.max(1), right)))
            mean, spread = np.mean(rows, 0), np.std(rows, 0, ddof=1)
            yield f"| {make.__name__} | {model} | " + " | ".join(
                f"{m:.0f} ± {s:.0f}" for m, s in zip(mean, spread, strict=True)) + " |"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
