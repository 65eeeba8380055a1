"""Trains a head and says honestly how good it is.

Every candidate (embeddings, band series, both) is judged on the same blocks of ground that are
held back in turn. The one with the highest macro-F1 of all held-back samples together is taken;
on a tie the first of embeddings, bands, both. The penalty of a logistic regression is chosen for
each held-back fold on the other folds, so that the figures do not profit from the choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid
from . import accuracy, classifiers, crossval
from .accuracy import Scores
from .applicability import Gate
from .classifiers import Classifier
from .crossval import Folds
from .head import HeadCard
from .labels import Labels
from .layout import FeatureLayout

MOST_SAMPLES = 20_000
"""Samples used at most; more are drawn from evenly over the classes."""

AUTOMATIC = "auto"
"""In place of a classifier: logistic regression or the forest on bands, whichever is better."""


@dataclass(frozen=True)
class Trial:
    """One candidate under cross-validation.

    Attributes:
        kind: features.
        model: classifier.
        probabilities: (n, c) of each sample when it was held back.
        scores: of all held-back samples together.
        fold_f1: (folds,) macro-F1 of each fold over the classes that it holds.
        strength: C that is best over all folds; NaN for other models.
    """

    kind: str
    model: str
    probabilities: np.ndarray
    scores: Scores
    fold_f1: np.ndarray
    strength: float

    @property
    def spread(self) -> float:
        """Standard deviation of the folds' macro-F1."""
        known = self.fold_f1[~np.isnan(self.fold_f1)]
        return float(known.std(ddof=1)) if len(known) > 1 else 0.0

    @property
    def text(self) -> str:
        """Score and spread for people: "0.81 +- 0.03"."""
        return f"{self.scores.macro_f1:.2f} +- {self.spread:.2f}"


@dataclass(frozen=True)
class Training:
    """A trained head and everything that the report says about it.

    Attributes:
        classifier: fitted on all samples.
        layout: its features.
        offered: all features that were compared.
        labels: the samples that were used.
        features: (n, k) features of the samples, columns of `layout`.
        gate: tells unlike pixels.
        folds: the blocks.
        chosen: the trial of the head.
        trials: all candidates, the chosen among them.
        random: the same model with a random split, which flatters.
        baseline: a random forest on band series on the same folds; None where there are none.
        temperature: of the head's probabilities.
        calibrated: (n, c) held-back probabilities; each fold with the temperature of the others.
        ece: expected calibration error before and after.
        seed: of everything random.
    """

    classifier: Classifier
    layout: FeatureLayout
    offered: FeatureLayout
    labels: Labels
    features: np.ndarray
    gate: Gate
    folds: Folds
    chosen: Trial
    trials: tuple[Trial, ...]
    random: Trial
    baseline: Trial | None
    temperature: float
    calibrated: np.ndarray
    ece: tuple[float, float]
    seed: int

    def card(self, source: dict, cutoff: str) -> HeadCard:
        """The card of the head."""
        s = self.chosen.scores
        validation = {
            "folds": self.folds.count, "block_m": self.folds.side_m,
            "blocks": len(self.folds.places), "macro_f1": _plain(s.macro_f1),
            "macro_f1_spread": _plain(self.chosen.spread), "overall": _plain(s.overall),
            "macro_f1_random_split": _plain(self.random.scores.macro_f1),
            "classes": [
                {"value": c.value, "precision": _plain(s.precision[k]),
                 "recall": _plain(s.recall[k]), "f1": _plain(s.f1[k]), "iou": _plain(s.iou[k])}
                for k, c in enumerate(self.labels.legend.classes)],
            "features": {t.kind: {"macro_f1": _plain(t.scores.macro_f1),
                                  "spread": _plain(t.spread)} for t in self.trials},
            "forest_on_bands": _plain(self.baseline.scores.macro_f1) if self.baseline else None,
            "ece_before": _plain(self.ece[0]), "ece_after": _plain(self.ece[1]),
            "strength": _plain(self.chosen.strength)}
        return HeadCard(self.layout, self.labels.legend, self.chosen.model,
                        tuple(self.labels.counts()), validation, self.temperature, self.seed,
                        source, cutoff)


def drawn(labels: Labels, seed: int, context: JobContext) -> Labels:
    """At most `MOST_SAMPLES` labels, so that their features fit in memory."""
    chosen = classifiers.balanced_draw(labels.classes, MOST_SAMPLES, seed)
    if len(chosen) == len(labels):
        return labels
    context.log(f"{len(chosen)} of {len(labels)} samples are used, drawn evenly over classes")
    mask = np.zeros(len(labels), bool)
    mask[chosen] = True
    return labels.keep(mask)


def train(
    table: np.ndarray,
    layout: FeatureLayout,
    labels: Labels,
    grid: Grid,
    context: JobContext,
    *,
    kinds: tuple[str, ...],
    model: str = "logistic",
    count: int = 5,
    block_m: float | None = None,
    seed: int = 0,
) -> Training:
    """Compare feature kinds on held-back blocks, fit the best on all samples, calibrate it.

    Args:
        table: (n, k) features of the samples, all columns of `layout`.
        layout: of the table.
        labels: n samples.
        grid: where they lie.
        context: progress, log, warnings.
        kinds: candidates in the order of preference on a tie.
        model: one of `classifiers.MODELS`, or `AUTOMATIC`.
        count: folds.
        block_m: side of blocks; None chooses it.
        seed: of folds, forests and draws.
    """
    if model not in (AUTOMATIC, *classifiers.MODELS):
        raise UserError(f"There is no classifier {model}. Choose {AUTOMATIC} or one of "
                        f"{', '.join(classifiers.MODELS)}.")
    y, size = labels.classes, len(labels.legend)
    folds = crossval.blocked_folds(grid, labels.rows, labels.cols, y, labels.groups, context,
                                   count=count, side_m=block_m, seed=seed)
    for k in crossval.lonely_classes(y, folds, size):
        context.warn(f"All {labels.legend.names[k]} lies in one fold, so how well it is mapped "
                     "elsewhere cannot be tested.")
    steps = len(kinds) + 3
    first = "logistic" if model == AUTOMATIC else model
    trials = tuple(
        _trial(table[:, layout.columns(kind)], y, size, folds, layout.only(kind), first, seed,
               context.part(i / steps, (i + 1) / steps))
        for i, kind in enumerate(kinds))
    baseline = _baseline(table, layout, y, size, folds, trials, seed,
                         context.part(len(kinds) / steps, (len(kinds) + 1) / steps))
    rivals = (baseline,) if model == AUTOMATIC and baseline is not None else ()
    best = max((*trials, *rivals), key=lambda t: t.scores.macro_f1)
    model = best.model
    x, used = table[:, layout.columns(best.kind)], layout.only(best.kind)
    strengths = (best.strength,) if model == "logistic" else classifiers.STRENGTHS
    flattering = _trial(x, y, size, crossval.random_folds(y, folds.count, seed), used, model, seed,
                        context.part((steps - 2) / steps, (steps - 1) / steps), strengths)
    context.progress((steps - 1) / steps, "Training on all samples")
    fitted = _fit(x, y, size, used, model, seed, context.threads, strengths)[0]
    temperature, calibrated = _calibrate(best.probabilities, y, folds)
    ece = tuple(accuracy.expected_calibration_error(p.max(1), p.argmax(1) == y)
                for p in (best.probabilities, calibrated))
    gate = Gate.of(x, y, folds.fold, best.kind == "embeddings", seed)
    result = Training(fitted, used, layout, labels, x, gate, folds, best, trials, flattering,
                      baseline, temperature, calibrated, ece, seed)
    _report(result, context)
    return result


def _trial(
    x: np.ndarray, y: np.ndarray, size: int, folds: Folds, layout: FeatureLayout, model: str,
    seed: int, context: JobContext, strengths: tuple[float, ...] = classifiers.STRENGTHS,
) -> Trial:
    """Hold back every fold once."""
    strengths = strengths if model == "logistic" else (float("nan"),)
    held = np.zeros((len(strengths), len(y), size))
    for f in range(folds.count):
        context.progress(f / folds.count, f"Testing {layout.kind} on held-back ground, "
                                          f"fold {f + 1} of {folds.count}")
        test = folds.fold == f
        fitted = _fit(x[~test], y[~test], size, layout, model, seed, context.threads, strengths)
        for s, classifier in enumerate(fitted):
            held[s, test] = classifier.probabilities(x[test])
    mapped = held.argmax(2)
    chosen = np.empty((len(y), size))
    for f in range(folds.count):
        others, test = folds.fold != f, folds.fold == f
        chosen[test] = held[_best(mapped[:, others], y[others], size), test]
    overall = _best(mapped, y, size)
    answer = chosen.argmax(1)
    by_fold = np.array([_scores(answer, y, size, folds.fold == f).macro_f1
                        for f in range(folds.count)])
    return Trial(layout.kind, model, chosen, _scores(answer, y, size), by_fold, strengths[overall])


def _best(mapped: np.ndarray, y: np.ndarray, size: int) -> int:
    """Which of (s, n) class indices has the highest macro-F1; the first on a tie."""
    return int(np.argmax([_scores(m, y, size).macro_f1 for m in mapped]))


def _scores(mapped: np.ndarray, y: np.ndarray, size: int, mask: np.ndarray | None = None) -> Scores:
    if mask is not None:
        mapped, y = mapped[mask], y[mask]
    return accuracy.scores(accuracy.confusion(mapped, y, size))


def _fit(
    x: np.ndarray, y: np.ndarray, size: int, layout: FeatureLayout, model: str, seed: int,
    threads: int, strengths: tuple[float, ...],
) -> list[Classifier]:
    if model == "logistic":
        return classifiers.fit_logistic(x, y, size, strengths, layout.dims)
    if model == "forest":
        return [classifiers.fit_forest(x, y, size, seed, threads)]
    if model == "boosting":
        return [classifiers.fit_boosting(x, y, size, seed, threads)]
    if model == "mlp":
        return [classifiers.fit_perceptron(x, y, size, seed, layout.dims)]
    return [classifiers.fit_neighbours(x, y, size, seed, layout.dims)]


def _baseline(
    table: np.ndarray, layout: FeatureLayout, y: np.ndarray, size: int, folds: Folds,
    trials: tuple[Trial, ...], seed: int, context: JobContext,
) -> Trial | None:
    """A random forest on band series, the yardstick of the field."""
    if not layout.series:
        return None
    for trial in trials:
        if (trial.kind, trial.model) == ("bands", "forest"):
            return trial
    return _trial(table[:, layout.columns("bands")], y, size, folds, layout.only("bands"),
                  "forest", seed, context)


def _calibrate(
    probabilities: np.ndarray, y: np.ndarray, folds: Folds
) -> tuple[float, np.ndarray]:
    """Temperature of all held-back samples; and each fold with that of the others."""
    result = np.empty_like(probabilities)
    for f in range(folds.count):
        test = folds.fold == f
        others = accuracy.temperature(probabilities[~test], y[~test])
        result[test] = accuracy.tempered(probabilities[test], others)
    return accuracy.temperature(probabilities, y), result


def _report(training: Training, context: JobContext) -> None:
    best, folds = training.chosen, training.folds
    if len(training.trials) > 1:
        compared = ", ".join(f"{t.kind} {t.text}" for t in training.trials)
        context.log(f"Features: {compared}; {best.kind} chosen")
    if training.baseline is best and all(t is not best for t in training.trials):
        context.log(f"The random forest on band series is better than all of them: {best.text}")
    context.log(f"{folds.count} folds, blocks of {folds.side_m:g} m: macro F1 {best.text} "
                f"(random split {training.random.scores.macro_f1:.2f})")


def _plain(value: float) -> float | None:
    """A number for JSON: four digits, None for NaN."""
    return None if np.isnan(value) else round(float(value), 4)
