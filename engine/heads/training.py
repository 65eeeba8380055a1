"""Trains a head and says honestly how good it is.

Every candidate (embeddings, band series, both) is judged on the same blocks of ground that are
held back in turn. Of one kind of model the features with the highest macro-F1 of all held-back
samples together are taken; on a tie the first of embeddings, bands, both. The penalty of a
logistic regression and the temperature of a member are chosen for each held-back fold on the
other folds, so that the figures do not profit from the choice.

The automatic model joins classifiers (`joined.py`) on all features that there are. Something
simpler (fewer features, or the random forest on bands) takes its place only where it is better by
more than two standard errors of the folds: the folds scatter more than the candidates differ, and
the best of many by a little is the luckiest, not the best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid
from . import accuracy, classifiers, crossval, joined
from .accuracy import Scores
from .applicability import Gate
from .classifiers import Classifier
from .crossval import Folds
from .head import HeadCard
from .joined import Joined, Member, Part, Views
from .labels import Labels
from .layout import FeatureLayout
from .trials import Trial, calibrate, scores_of, settled

MOST_SAMPLES = 20_000
"""Samples used at most; more are drawn from evenly over the classes."""

AUTOMATIC = "auto"
"""In place of a classifier: several joined, or the forest on bands where that is clearly better."""

_CLEARLY = 2.0  # standard errors


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
        temperature: of the head's probabilities; 1 where one would not bring the held-back
            samples nearer to what they promise.
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
            "matrix": s.matrix.tolist(), "reliability": self._reliability(),
            "features": {t.kind: {"macro_f1": _plain(t.scores.macro_f1),
                                  "spread": _plain(t.spread)} for t in self.trials},
            "forest_on_bands": _plain(self.baseline.scores.macro_f1) if self.baseline else None,
            "ece_before": _plain(self.ece[0]), "ece_after": _plain(self.ece[1]),
            "strength": _plain(self.chosen.strength)}
        return HeadCard(self.layout, self.labels.legend, self.chosen.model,
                        tuple(self.labels.counts()), validation, self.temperature, self.seed,
                        source, cutoff)

    def _reliability(self) -> list[list[list[float | None]]]:
        """Bins of `accuracy.calibration_bins` of the held-back answers, before and after."""
        y = self.labels.classes
        return [[[_plain(v) for v in values.astype(float)]
                 for values in accuracy.calibration_bins(p.max(1), p.argmax(1) == y)]
                for p in (self.chosen.probabilities, self.calibrated)]


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
    if model == AUTOMATIC:
        wanted = dict.fromkeys(p for kind in kinds for p in joined.parts_of(kind))
        parts = _held_parts(table, y, size, folds, layout, [(p, p.strengths) for p in wanted],
                            seed, context.part(0, 0.55))
        trials = tuple(_joined_trial(kind, parts, y, size, folds) for kind in kinds)
        context.log("Members: " + ", ".join(f"{p.part.name} {p.scores.macro_f1:.2f}"
                                            for p in parts))
    else:
        parts = ()
        trials = tuple(
            _trial(table[:, layout.columns(kind)], y, size, folds, layout.only(kind), model, seed,
                   context.part(0.55 * i / len(kinds), 0.55 * (i + 1) / len(kinds)))
            for i, kind in enumerate(kinds))
    baseline = _baseline(table, layout, y, size, folds, trials, seed, context.part(0.55, 0.7))
    best = _preferred(trials, baseline) if model == AUTOMATIC else max(
        trials, key=lambda t: t.scores.macro_f1)
    x, used = table[:, layout.columns(best.kind)], layout.only(best.kind)
    random = crossval.random_folds(y, folds.count, seed)
    flattered, last = context.part(0.7, 0.93), context.part(0.93, 1)
    if best.model == joined.MODEL:
        mine = tuple(p for p in parts if p.part in joined.parts_of(best.kind))
        again = _held_parts(x, y, size, random, used, [(p.part, (p.strength,)) for p in mine],
                            seed, flattered)
        flattering = _joined_trial(best.kind, again, y, size, random)
        last.progress(0, "Training on all samples")
        fitted = _join(x, y, size, used, mine, seed, context.threads)
    else:
        strengths = (best.strength,) if best.model == "logistic" else classifiers.STRENGTHS
        flattering = _trial(x, y, size, random, used, best.model, seed, flattered, strengths)
        last.progress(0, "Training on all samples")
        fitted = _fit(x, y, size, used, best.model, seed, context.threads, strengths)[0]
    temperature, calibrated = calibrate(best.probabilities, y, folds)
    ece = tuple(accuracy.expected_calibration_error(p.max(1), p.argmax(1) == y)
                for p in (best.probabilities, calibrated))
    if ece[1] > ece[0]:  # what the other folds say of a fold misleads: leave well alone
        temperature, calibrated, ece = 1.0, best.probabilities, (ece[0], ece[0])
    gate = Gate.of(x, y, folds.fold, best.kind == "embeddings", seed)
    result = Training(fitted, used, layout, labels, x, gate, folds, best, trials, flattering,
                      baseline, temperature, calibrated, ece, seed)
    _report(result, context)
    return result


@dataclass(frozen=True)
class _HeldPart:
    """A member of a joined model under cross-validation.

    Attributes:
        part: what it is.
        probabilities: (n, c) of each sample when it was held back, calibrated by the other folds.
        scores: of all held-back samples together.
        strength: C that is best over all folds; NaN for trees.
        temperature: of all held-back samples.
    """

    part: Part
    probabilities: np.ndarray
    scores: Scores
    strength: float
    temperature: float


def _held_parts(
    x: np.ndarray, y: np.ndarray, size: int, folds: Folds, layout: FeatureLayout,
    parts: list[tuple[Part, tuple[float, ...]]], seed: int, context: JobContext,
) -> tuple[_HeldPart, ...]:
    """Hold back every fold once, for each member and each of its strengths."""
    held = [np.zeros((len(strengths), len(y), size)) for _, strengths in parts]
    for f, test in folds.turns():
        views = Views.of(x[~test], layout)
        known, new = views(x[~test]), views(x[test])
        for i, (part, strengths) in enumerate(parts):
            context.progress((f + i / len(parts)) / folds.count,
                             f"Testing {part.name} on held-back ground, fold {f + 1} of "
                             f"{folds.count}")
            fitted = joined.fit_part(part, known[part.source], y[~test], size, seed,
                                     context.threads, strengths)
            for s, classifier in enumerate(fitted):
                held[i][s, test] = classifier.probabilities(new[part.source])
    result = []
    for (part, strengths), answers in zip(parts, held, strict=True):
        chosen, overall = settled(answers, y, size, folds)
        temperature, calibrated = calibrate(chosen, y, folds)
        result.append(_HeldPart(part, calibrated, scores_of(chosen.argmax(1), y, size),
                                strengths[overall], temperature))
    return tuple(result)


def _joined_trial(kind: str, parts: tuple[_HeldPart, ...], y: np.ndarray, size: int,
                  folds: Folds) -> Trial:
    """The mean of the members for a kind of features."""
    members = joined.parts_of(kind)
    mean = np.mean([p.probabilities for p in parts if p.part in members], axis=0)
    return Trial.judged(kind, joined.MODEL, mean, y, size, folds, float("nan"))


def _join(x: np.ndarray, y: np.ndarray, size: int, layout: FeatureLayout,
          parts: tuple[_HeldPart, ...], seed: int, threads: int) -> Joined:
    """Fit all members on all samples, with the penalties and temperatures that were found."""
    views = Views.of(x, layout)
    tables = views(x)
    return Joined(views, tuple(
        Member(p.part, joined.fit_part(p.part, tables[p.part.source], y, size, seed, threads,
                                       (p.strength,))[0], p.temperature) for p in parts))


def _preferred(trials: tuple[Trial, ...], baseline: Trial | None) -> Trial:
    """The last trial, which has all features, unless another is clearly better."""
    richest = best = trials[-1]
    for rival in (*trials[:-1], *((baseline,) if baseline is not None else ())):
        ahead = rival.fold_f1 - richest.fold_f1
        ahead = ahead[~np.isnan(ahead)]
        error = ahead.std(ddof=1) / np.sqrt(len(ahead)) if len(ahead) > 1 else np.inf
        if (rival.scores.macro_f1 > best.scores.macro_f1
                and rival.scores.macro_f1 - richest.scores.macro_f1 > _CLEARLY * error):
            best = rival
    return best


def _trial(
    x: np.ndarray, y: np.ndarray, size: int, folds: Folds, layout: FeatureLayout, model: str,
    seed: int, context: JobContext, strengths: tuple[float, ...] = classifiers.STRENGTHS,
) -> Trial:
    """Hold back every fold once."""
    strengths = strengths if model == "logistic" else (float("nan"),)
    held = crossval.held_back(
        x, y, folds, (len(strengths), len(y), size),
        f"Testing {layout.kind} on held-back ground,", context,
        lambda known, truth: [c.probabilities for c in _fit(
            known, truth, size, layout, model, seed, context.threads, strengths)])
    chosen, overall = settled(held, y, size, folds)
    return Trial.judged(layout.kind, model, chosen, y, size, folds, strengths[overall])


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


def _report(training: Training, context: JobContext) -> None:
    best, folds = training.chosen, training.folds
    if len(training.trials) > 1:
        compared = ", ".join(f"{t.kind} {t.text}" for t in training.trials)
        context.log(f"Features: {compared}; {best.kind} chosen")
    if training.baseline is best and all(t is not best for t in training.trials):
        context.log(f"The random forest on band series is better by more than two standard errors: "
                    f"{best.text}")
    context.log(f"{folds.count} folds, blocks of {folds.side_m:g} m: macro F1 {best.text} "
                f"(random split {training.random.scores.macro_f1:.2f})")


def _plain(value: float) -> float | None:
    """A number for JSON: four digits, None for NaN."""
    return None if np.isnan(value) else round(float(value), 4)
