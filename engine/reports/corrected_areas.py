"""Areas of a map corrected by what held-back labels say of its errors, with bootstrap intervals.

The estimator is that of Olofsson et al. (2014, eq. 9): the mapped share of class i goes to the
classes that were found where i was mapped. There the sample is random; labels that somebody chose
are not, so this is a hint at size and direction of the bias and no design-based estimate. Whole
blocks are drawn anew, because pixels of one block are no independent witnesses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..heads.training import Training
from ..rasters.areas import Areas

_DRAWS = 1000


@dataclass(frozen=True)
class CorrectedArea:
    """Hectares of a class, and the 2.5 and 97.5 % quantiles over draws of blocks."""

    hectares: float
    low: float
    high: float


def corrected_areas(areas: Areas, training: Training) -> dict[int, CorrectedArea]:
    """Value of each class of the training to its corrected area; deterministic by its seed.

    Classes of the map that the labels do not have, such as unknown ground, are left out.
    """
    values = training.labels.legend.values
    counted = {c.value: c.hectares for c in areas.classes}
    hectares = np.array([counted.get(v, 0.0) for v in values])
    size, blocks = len(values), int(training.folds.block.max()) + 1
    truth, mapped = training.labels.classes, training.chosen.probabilities.argmax(1)
    flat = (training.folds.block * size + mapped) * size + truth
    # samples of a raster were drawn evenly over classes, which do not cover the ground evenly
    matrices = np.bincount(flat, training.labels.weights,
                           blocks * size * size).reshape(blocks, size, size)
    held = np.unique(training.folds.block)
    draws = np.random.default_rng(training.seed).multinomial(
        len(held), np.full(len(held), 1 / len(held)), _DRAWS)
    drawn = np.tensordot(draws, matrices[held], 1)
    estimate = corrected(matrices.sum(0), hectares)
    low, high = np.quantile([corrected(m, hectares) for m in drawn], [0.025, 0.975], axis=0)
    return {v: CorrectedArea(float(e), float(a), float(b))
            for v, e, a, b in zip(values, estimate, low, high, strict=True)}


def corrected(matrix: np.ndarray, hectares: np.ndarray) -> np.ndarray:
    """(c,) areas of the true classes.

    Args:
        matrix: (c, c) weighted counts, rows = map, columns = truth; a row without counts is
            believed.
        hectares: (c,) mapped.
    """
    rows = matrix.sum(1, keepdims=True)
    share = np.where(rows > 0, matrix / np.maximum(rows, 1), np.eye(len(matrix)))
    return hectares @ share
