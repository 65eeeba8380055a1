"""Heads of numbers on live fuel moisture beside the random forest of the data's catalogue.

``PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python benchmarks/regression.py``
prints the table that `heads.py` puts into `docs/evaluation.md`. Training sites and validation sites
are apart; the penalty and the interval are chosen on folds of whole training sites.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from earthprint.engine.context import JobContext
from earthprint.engine.heads import regressors
from earthprint.engine.heads.crossval import Folds
from earthprint.engine.heads.layout import FeatureLayout
from earthprint.engine.heads.regression import LEVEL, NumberScores, held_back, interval_of

SEEDS = (0, 1, 2)
FOLDS = 5


def site_folds(sites: np.ndarray, seed: int) -> Folds:
    """Folds of whole sites."""
    names, site = np.unique(sites, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names)) % FOLDS
    return Folds(fold[site], FOLDS, site, np.zeros((0, 2)), 0.0)


def random_sample_folds(count: int, seed: int) -> Folds:
    """Folds that cut sites, for comparison."""
    fold = np.random.default_rng(seed).permutation(count) % FOLDS
    return Folds(fold, FOLDS, np.arange(count), np.zeros((0, 2)), 0.0)


def lines() -> Iterator[str]:
    """The table: a line a model."""
    folder = Path(os.environ.get("EARTHPRINT_SHARED", "../shared"))
    data = np.load(folder / "data/regression-fuel-moisture-algae/fuel_moisture.npz")
    x = np.concatenate([data["X"].reshape(len(data["X"]), -1), data["month"][:, :1]], 1)
    x, y, train = x.astype(np.float32), data["target"], data["split"] == "train"
    layout, context = FeatureLayout("bands"), JobContext(threads=1)
    yield ("| model | R² | RMSE | MAE | bias | R², held-back training sites | R², random split of "
           "them | interval ± | of validation sites it held |")
    yield "|-" * 9 + "|"
    for model in regressors.MODELS:
        rows = []
        for seed in SEEDS:
            folds = site_folds(data["site"][train], seed)
            trial = held_back(x[train], y[train], folds, layout, model, seed, context)
            flattering = held_back(x[train], y[train], random_sample_folds(train.sum(), seed),
                                   layout, model, seed, context)
            interval = interval_of(trial.predicted, y[train], folds)
            fitted = regressors.fit(model, x[train], y[train], seed=seed, threads=1,
                                    penalties=(trial.penalty,))[0]
            predicted = fitted.values(x[~train])
            s = NumberScores.of(predicted, y[~train])
            held = float((np.abs(predicted - y[~train]) <= interval.half_width).mean())
            rows.append((s.r2, s.rmse, s.mae, s.bias, trial.scores.r2, flattering.scores.r2,
                         interval.half_width, held))
        mean, spread = np.mean(rows, 0), np.std(rows, 0, ddof=1)
        digits = (3, 1, 1, 1, 3, 3, 1, 3)
        yield f"| {model} | " + " | ".join(f"{m:.{d}f} ± {s:.{d}f}" for m, s, d in
                                           zip(mean, spread, digits, strict=True)) + " |"
    error = y[~train] - y[train].mean()
    yield ""
    yield f"Constant: RMSE {np.sqrt((error**2).mean()):.1f}. The interval is meant for {LEVEL:.0%}."


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
