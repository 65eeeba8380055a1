"""How right a map is: confusion matrix, scores per class, calibration of probabilities.

Matrices count n_ij with rows = map and columns = reference. A ratio 0/0 is NaN, shown as
"n/a" and left out of means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

_SMALLEST = 1e-7  # probabilities below this count as this, so that a logarithm exists


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    Attributes:
        matrix: (c, c) int64, rows = map, columns = reference.
        precision: (c,) user's accuracy, n_ii / row sum.
        recall: (c,) producer's accuracy, n_jj / column sum.
        f1: (c,) 2 UA PA / (UA + PA) = 2 n_ii / (row + column); 0 for a class that is missed.
        iou: (c,) n_ii / (row + column - n_ii).
        overall: share of samples on the diagonal.
        macro_f1: mean F1 of the classes that the reference has.
        samples: (c,) reference samples per class.
    """

    matrix: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    iou: np.ndarray
    overall: float
    macro_f1: float
    samples: np.ndarray


def confusion(mapped: np.ndarray, reference: np.ndarray, classes: int) -> np.ndarray:
    """(c, c) counts from (n,) class indices of map and reference, each 0..c-1."""
    flat = np.asarray(mapped, np.int64) * classes + np.asarray(reference, np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def scores(matrix: np.ndarray) -> Scores:
    """Scores of a confusion matrix (plain counts, no weights)."""
    matrix = np.asarray(matrix, np.int64)
    hits, rows, cols = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    precision, recall = _ratio(hits, rows), _ratio(hits, cols)
    f1 = _ratio(2 * hits, rows + cols)
    return Scores(matrix, precision, recall, f1, _ratio(hits, rows + cols - hits),
                  float(_ratio(hits.sum(), matrix.sum())), mean_known(f1[cols > 0]), cols)


def mean_known(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN where none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def calibration_bins(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, mean confidence and accuracy in equal bins (lo, hi] of 0..1; (bins,) each."""
    confidence = np.asarray(confidence, float)
    index = np.clip(np.ceil(np.round(confidence * bins, 9)).astype(int) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    return (count, _ratio(np.bincount(index, confidence, bins), count),
            _ratio(np.bincount(index, np.asarray(correct, float), bins), count))


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 15
) -> float:
    """ECE = sum of n_b/n |accuracy_b - confidence_b| (Guo et al. 2017, eq. 3)."""
    count, mean, accuracy = calibration_bins(confidence, correct, bins)
    filled = count > 0
    return float(np.sum(count[filled] * np.abs(accuracy - mean)[filled]) / max(count.sum(), 1))


def temperature(probabilities: np.ndarray, reference: np.ndarray) -> float:
    """The T whose softmax(log p / T) has the least log loss (Guo et al. 2017, section 4.2).

    Args:
        probabilities: (n, c) of samples that the model has not seen.
        reference: (n,) class indices.
    """
    logs = np.log(np.maximum(np.asarray(probabilities, float), _SMALLEST))
    rows = np.arange(len(logs))

    def loss(log_t: float) -> float:
        z = logs / np.exp(log_t)
        z -= z.max(1, keepdims=True)
        return float(np.mean(np.log(np.exp(z).sum(1)) - z[rows, reference]))

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded",
                           options={"xatol": 1e-7})
    return float(np.exp(best.x))


def tempered(probabilities: np.ndarray, t: float) -> np.ndarray:
    """softmax(log p / T) of (n, c) probabilities; rows sum to 1."""
    z = np.log(np.maximum(np.asarray(probabilities, float), _SMALLEST)) / t
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    top, bottom = np.asarray(top, float), np.asarray(bottom, float)
    return np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 0)
