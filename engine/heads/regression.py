"""Trains a head of numbers and says honestly how good it is.

As with classes, every candidate is judged on blocks of ground that are held back in turn, and the
penalty of ridge regression is chosen for each held-back fold on the others. The prediction
interval is conformal: a half-width that held-back samples stayed within as often as stated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid
from . import crossval, regressors
from .applicability import Gate
from .crossval import Folds
from .layout import FeatureLayout
from .measurements import Measurements
from .number_head import NumberCard
from .regressors import Regressor

AUTOMATIC = "auto"
"""In place of a model: ridge regression on each kind of features, or trees on the simplest (a
forest, boosting, or the mean of both)."""

LEVEL = 0.9
"""Share of true values that the prediction interval shall hold."""

MOST_SAMPLES = 20_000
"""Samples used at most; more are drawn from evenly over the range of values."""

_PARTS = 5  # of the range of values, of which each fold gets its share


@dataclass(frozen=True)
class NumberScores:
    """How far predicted numbers are from true ones, in the unit of the numbers.

    Attributes:
        r2: 1 - sum of squared errors / sum of squares about the mean of the true values.
        rmse: root of the mean squared error.
        mae: mean absolute error.
        bias: mean of predicted minus true.
    """

    r2: float
    rmse: float
    mae: float
    bias: float

    @classmethod
    def of(cls, predicted: np.ndarray, true: np.ndarray) -> NumberScores:
        """Scores of (n,) numbers."""
        error = np.asarray(predicted, float) - true
        spread = float(((true - true.mean()) ** 2).sum())
        return cls(1 - float((error**2).sum()) / spread if spread > 0 else float("nan"),
                   math.sqrt(float((error**2).mean())), float(np.abs(error).mean()),
                   float(error.mean()))


@dataclass(frozen=True)
class NumberTrial:
    """One candidate under cross-validation.

    Attributes:
        kind: features.
        model: one of `regressors.MODELS`.
        predicted: (n,) of each sample when it was held back.
        scores: of all held-back samples together.
        fold_rmse: (folds,) RMSE of each fold.
        penalty: of ridge regression, best over all folds; NaN for other models.
    """

    kind: str
    model: str
    predicted: np.ndarray
    scores: NumberScores
    fold_rmse: np.ndarray
    penalty: float


@dataclass(frozen=True)
class Interval:
    """A prediction interval: predicted value plus or minus half of a width.

    Attributes:
        level: share of true values that it shall hold.
        half_width: in the unit of the numbers.
        coverage: share that it held, each fold with the half-width of the others.
        fold_coverage: (folds,) the same for each fold.
    """

    level: float
    half_width: float
    coverage: float
    fold_coverage: np.ndarray


@dataclass(frozen=True)
class NumberTraining:
    """A trained head of numbers and everything that the report says about it.

    Attributes:
        regressor: fitted on all samples.
        layout: its features.
        measured: the samples that were used.
        features: (n, k) features of the samples, columns of `layout`.
        gate: tells unlike pixels.
        folds: the blocks.
        chosen: the trial of the head.
        trials: all candidates, the chosen among them.
        random: the same model with a random split, which flatters.
        interval: of predictions.
        seed: of everything random.
    """

    regressor: Regressor
    layout: FeatureLayout
    measured: Measurements
    features: np.ndarray
    gate: Gate
    folds: Folds
    chosen: NumberTrial
    trials: tuple[NumberTrial, ...]
    random: NumberTrial
    interval: Interval
    seed: int

    def card(self, source: dict, cutoff: str) -> NumberCard:
        """The card of the head."""
        values, best = self.measured.values, self.chosen
        validation = {
            "folds": self.folds.count, "block_m": self.folds.side_m,
            "blocks": len(self.folds.places), **_plain(best.scores),
            "random_split": _plain(self.random.scores),
            "candidates": [{"features": t.kind, "model": t.model, **_plain(t.scores)}
                           for t in self.trials],
            "interval_level": self.interval.level,
            "interval_coverage": round(self.interval.coverage, 4)}
        low, high = np.quantile(values, [0.02, 0.98])
        return NumberCard(
            self.layout, self.measured.field, self.measured.unit, best.model, len(values),
            (float(values.min()), float(values.max())), (float(low), float(high)), validation,
            self.interval.half_width, self.seed, source, cutoff)


def drawn(measured: Measurements, seed: int, context: JobContext) -> Measurements:
    """At most `MOST_SAMPLES` measurements, so that their features fit in memory."""
    if len(measured) <= MOST_SAMPLES:
        return measured
    context.log(f"{MOST_SAMPLES} of {len(measured)} samples are used, drawn evenly")
    mask = np.zeros(len(measured), bool)
    mask[np.random.default_rng(seed).permutation(len(measured))[:MOST_SAMPLES]] = True
    return measured.keep(mask)


def train_numbers(
    table: np.ndarray,
    layout: FeatureLayout,
    measured: Measurements,
    grid: Grid,
    context: JobContext,
    *,
    kinds: tuple[str, ...],
    model: str = "ridge",
    count: int = 5,
    block_m: float | None = None,
    seed: int = 0,
) -> NumberTraining:
    """Compare candidates on held-back blocks and fit the best on all samples.

    Args:
        table: (n, k) features of the samples, all columns of `layout`.
        layout: of the table.
        measured: n samples.
        grid: where they lie.
        context: progress, log, warnings.
        kinds: of features to compare, in the order of preference on a tie.
        model: one of `regressors.MODELS` or `AUTOMATIC`; "logistic" means its counterpart, ridge.
        count: folds.
        block_m: side of blocks; None chooses it.
        seed: of folds and forests.
    """
    candidates = _candidates(model, kinds)
    y, samples = measured.values, measured.samples
    parts = _parts_of(y)
    folds = crossval.blocked_folds(grid, samples.rows, samples.cols, parts, samples.groups,
                                   context, count=count, side_m=block_m, seed=seed)
    steps = len(candidates) + 2
    trials = []
    for i, (kind, name) in enumerate(candidates):
        trials.append(held_back(table[:, layout.columns(kind)], y, folds, layout.only(kind), name,
                                seed, context.part(i / steps, (i + 1) / steps)))
    if model == AUTOMATIC:
        trials.append(_joined_trial(trials[-2:], y, folds))
    best = min(trials, key=lambda t: t.scores.rmse)
    x, used = table[:, layout.columns(best.kind)], layout.only(best.kind)
    flattering = held_back(x, y, crossval.random_folds(parts, folds.count, seed), used,
                           best.model, seed, context.part((steps - 2) / steps,
                                                          (steps - 1) / steps))
    context.progress((steps - 1) / steps, "Training on all samples")
    regressor = regressors.fit(best.model, x, y, seed=seed, threads=context.threads,
                               embedded=used.dims, penalties=(best.penalty,))[0]
    interval = interval_of(best.predicted, y, folds)
    gate = Gate.of(x, parts, folds.fold, best.kind == "embeddings", seed)
    s, other = best.scores, flattering.scores
    context.log(f"{folds.count} folds, blocks of {folds.side_m:g} m: {best.model} on {best.kind}, "
                f"R2 {s.r2:.2f}, RMSE {s.rmse:.4g} (random split {other.r2:.2f}, "
                f"{other.rmse:.4g}); {LEVEL:.0%} interval +- {interval.half_width:.4g} held "
                f"{interval.coverage:.1%}")
    if s.r2 <= 0:
        context.warn(f"On held-back blocks the head is no better than the mean of "
                     f"{measured.field}: do not use its map.")
    return NumberTraining(regressor, used, measured, x, gate, folds, best, tuple(trials),
                          flattering, interval, seed)


def held_back(
    x: np.ndarray, y: np.ndarray, folds: Folds, layout: FeatureLayout, model: str, seed: int,
    context: JobContext,
) -> NumberTrial:
    """Hold back every fold once."""
    penalties = regressors.PENALTIES if model == "ridge" else (float("nan"),)
    held = crossval.held_back(
        x, y, folds, (len(penalties), len(y)),
        f"Testing {model} on {layout.kind}, held-back", context,
        lambda known, truth: [r.values for r in regressors.fit(
            model, known, truth, seed=seed, threads=context.threads, embedded=layout.dims,
            penalties=penalties)])
    squares = (held - y) ** 2
    chosen, best = crossval.settled(
        held, folds, lambda some: int(np.argmin(squares[:, some].mean(1))))
    return _judged(layout.kind, model, chosen, y, folds, penalties[best])


def _joined_trial(trials: list[NumberTrial], y: np.ndarray, folds: Folds) -> NumberTrial:
    """The mean of trials on the same features, as the model "joined" answers."""
    mean = np.mean([t.predicted for t in trials], axis=0)
    return _judged(trials[0].kind, "joined", mean, y, folds, float("nan"))


def _judged(kind: str, model: str, predicted: np.ndarray, y: np.ndarray, folds: Folds,
            penalty: float) -> NumberTrial:
    """A trial with the scores of its held-back numbers (n,)."""
    by_fold = np.array([np.sqrt(np.mean((predicted - y)[test] ** 2))
                        for _, test in folds.turns()])
    return NumberTrial(kind, model, predicted, NumberScores.of(predicted, y), by_fold, penalty)


def interval_of(predicted: np.ndarray, true: np.ndarray, folds: Folds,
                level: float = LEVEL) -> Interval:
    """The conformal interval of held-back predictions, and what share of them it held."""
    error = np.abs(predicted - true)
    inside = np.empty(len(error), bool)
    for _, test in folds.turns():
        inside[test] = error[test] <= half_width(error[~test], level)
    by_fold = np.array([inside[test].mean() for _, test in folds.turns()])
    return Interval(level, half_width(error, level), float(inside.mean()), by_fold)


def half_width(error: np.ndarray, level: float) -> float:
    """The ceil((n + 1) level)-th smallest absolute error (Lei et al. 2018, section 2.2)."""
    rank = min(math.ceil((len(error) + 1) * level), len(error))
    return float(np.partition(error, rank - 1)[rank - 1])


def _candidates(model: str, kinds: tuple[str, ...]) -> list[tuple[str, str]]:
    """Pairs of features and model to compare."""
    if model == AUTOMATIC:
        simple = "bands" if "bands" in kinds else kinds[0]
        return [*((kind, "ridge") for kind in kinds), (simple, "forest"), (simple, "boosting")]
    name = "ridge" if model == "logistic" else model
    if name not in regressors.MODELS:
        raise UserError(f"{model} cannot learn numbers. Choose {AUTOMATIC}, logistic (ridge "
                        "regression, its counterpart), forest, boosting or joined.")
    return [(kind, name) for kind in kinds]


def _parts_of(y: np.ndarray) -> np.ndarray:
    """(n,) number of the fifth of the values that each belongs to."""
    return np.searchsorted(np.quantile(y, np.arange(1, _PARTS) / _PARTS), y, side="right")


def _plain(scores: NumberScores) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 4)
            for name, value in vars(scores).items()}
