"""Candidates under cross-validation: what a classifier says of ground that was held back.

Whatever is chosen (a penalty, a number of steps, a temperature) is chosen for each held-back fold
on the other folds, so that the figures do not profit from the choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import accuracy, crossval
from .accuracy import Scores
from .crossval import Folds


@dataclass(frozen=True)
class Trial:
    """One candidate under cross-validation.

    Attributes:
        kind: features.
        model: classifier.
        probabilities: (n, c) of each sample when it was held back.
        scores: of all held-back samples together.
        fold_f1: (folds,) macro-F1 of each fold over the classes that it holds.
        strength: C that is best over all folds, or the steps of a decoder; NaN for other models.
    """

    kind: str
    model: str
    probabilities: np.ndarray
    scores: Scores
    fold_f1: np.ndarray
    strength: float

    @classmethod
    def judged(cls, kind: str, model: str, probabilities: np.ndarray, y: np.ndarray, size: int,
               folds: Folds, strength: float) -> Trial:
        """A trial with the scores of its held-back answers (n, c) to classes y (n,)."""
        answer = probabilities.argmax(1)
        by_fold = np.array([scores_of(answer[test], y[test], size).macro_f1
                            for _, test in folds.turns()])
        return cls(kind, model, probabilities, scores_of(answer, y, size), by_fold, strength)

    @property
    def spread(self) -> float:
        """Standard deviation of the folds' macro-F1."""
        known = self.fold_f1[~np.isnan(self.fold_f1)]
        return float(known.std(ddof=1)) if len(known) > 1 else 0.0

    @property
    def text(self) -> str:
        """Score and spread for people: "0.81 +- 0.03"."""
        return f"{self.scores.macro_f1:.2f} +- {self.spread:.2f}"


def scores_of(mapped: np.ndarray, y: np.ndarray, size: int) -> Scores:
    """Scores of mapped class indices (n,) against true ones."""
    return accuracy.scores(accuracy.confusion(mapped, y, size))


def settled(held: np.ndarray, y: np.ndarray, size: int, folds: Folds) -> tuple[np.ndarray, int]:
    """Of held-back answers (s, n, c): each fold's of the variant with the best macro-F1 elsewhere.

    Returns:
        (n, c), and which variant is best over all folds; the first on a tie.
    """
    mapped = held.argmax(2)

    def best(some: np.ndarray | slice) -> int:
        return int(np.argmax([scores_of(m[some], y[some], size).macro_f1 for m in mapped]))

    return crossval.settled(held, folds, best)


def calibrate(probabilities: np.ndarray, y: np.ndarray, folds: Folds) -> tuple[float, np.ndarray]:
    """Temperature of all held-back samples; and each fold with that of the others."""
    result = np.empty_like(probabilities)
    for _, test in folds.turns():
        others = accuracy.temperature(probabilities[~test], y[~test])
        result[test] = accuracy.tempered(probabilities[test], others)
    return accuracy.temperature(probabilities, y), result
