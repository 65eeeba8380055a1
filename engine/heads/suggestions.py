"""Which places to label next: those that would change a head most, unlike each other.

The gradient of the loss of a linear head at a pixel, were its likeliest class the true one, is the
outer product of (p - e) and the features x: long where the head is unsure, and of another
direction for another doubt or other ground. Places are chosen so that their gradients lie far
apart, as in BADGE (Ash et al. 2020, algorithm 1), but always the farthest instead of one drawn at
random, which was better on both sets of `benchmarks/suggestions.py`; and never closer on the
ground than a distance.
"""

from __future__ import annotations

import numpy as np


def uncertainty(probabilities: np.ndarray) -> np.ndarray:
    """(n,) 1 - (p1 - p2) of (n, c) probabilities: 0 where sure, 1 where two classes tie."""
    two = np.sort(probabilities, axis=1)[:, -2:]
    return 1 - (two[:, 1] - two[:, 0])


def choose(features: np.ndarray, probabilities: np.ndarray, places: np.ndarray, count: int,
           metres: float, taken: np.ndarray) -> np.ndarray:
    """Indices of the candidates to label, the most telling first; fewer where room runs out.

    Args:
        features: (n, k) prepared features.
        probabilities: (n, c) of the head.
        places: (n, 2) metres.
        count: how many to choose at most.
        metres: least distance between chosen places, and to those that are taken.
        taken: (m, 2) metres of places that have a label.
    """
    doubt = np.array(probabilities, np.float64)
    doubt[np.arange(len(doubt)), doubt.argmax(1)] -= 1
    x = np.asarray(features, np.float32)
    length = (doubt**2).sum(1) * (x.astype(np.float64) ** 2).sum(1)
    apart = length.copy()  # squared distance of each gradient to the nearest chosen, first to 0
    free = np.ones(len(x), bool)
    for place in taken:
        free &= _far(places, place, metres)
    chosen: list[int] = []
    while len(chosen) < count and free.any():
        best = int(np.where(free, apart, -1).argmax())
        chosen.append(best)
        product = (doubt @ doubt[best]) * (x @ x[best])
        apart = np.minimum(apart, np.maximum(length + length[best] - 2 * product, 0))
        free &= _far(places, places[best], metres)
        free[best] = False
    return np.array(chosen, np.int64)


def usual_distance(square_metres: float, count: int) -> float:
    """A fifth of the distance that places evenly spread over an area would have."""
    return 0.2 * float(np.sqrt(square_metres / max(count, 1)))


def _far(places: np.ndarray, place: np.ndarray, metres: float) -> np.ndarray:
    return ((places - place) ** 2).sum(1) >= metres**2
