"""Examples and counterexamples to directions: a place is as alike as the nearest of them.

Every query is a few unit vectors, so one kernel serves all of them, and a similarity is always a
cosine: to the example, to a prototype, or to the normal of the plane that a linear head draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

_MOST_PROTOTYPES = 4
_FOLDS = 10
_GAIN = 0.005  # by which more prototypes must separate better (area under the curve)
_SAMPLE = 4_000  # background vectors that a fit looks at
_BACKGROUND_WEIGHT = 0.5  # of the background as counterexamples, beside 1 of the true ones
#: Chosen by `benchmarks/search_precision.py --ridge`, on a patch that no table of ours shows.
_RIDGE = 0.1


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        directions: (p, d) float64 unit vectors.
        kind: "cosine", "prototypes" or "linear head".
    """

    directions: np.ndarray
    kind: str


def learn(examples: np.ndarray, counterexamples: np.ndarray, background: np.ndarray) -> Query:
    """The query of (n, d) examples, (m, d) counterexamples and a (b, d) background.

    All are unit vectors; m may be 0.
    """
    background = background[:: max(1, len(background) // _SAMPLE)]
    if len(counterexamples):
        normal = linear_head(examples, counterexamples, background)
        return Query(normal[None], "linear head")
    if len(examples) == 1:
        return Query(_normalised(examples), "cosine")
    return Query(_prototypes(examples, _how_many(examples, background)), "prototypes")


def linear_head(examples: np.ndarray, counterexamples: np.ndarray, background: np.ndarray,
                ridge: float = _RIDGE) -> np.ndarray:
    """(d,) unit normal of a ridge regression: 1 for examples, -1 for all others.

    Examples weigh 1 together, counterexamples 1, the background 0.5, since a part of it may well
    be what is looked for. Only the direction matters: a cosine to it ranks as the head does.
    """
    groups = ((examples, 1.0, 1.0), (counterexamples, -1.0, 1.0),
              (background, -1.0, _BACKGROUND_WEIGHT))
    vectors = np.concatenate([v for v, _, _ in groups])
    target = np.concatenate([np.full(len(v), y) for v, y, _ in groups])
    weight = np.concatenate([np.full(len(v), w / max(len(v), 1)) for v, _, w in groups])
    weight /= weight.sum()
    centred = vectors - weight @ vectors
    weighted = centred * weight[:, None]
    slope = np.linalg.solve(weighted.T @ centred + ridge * np.eye(vectors.shape[1]),
                            weighted.T @ (target - weight @ target))
    return _normalised(slope[None])[0]


def _how_many(examples: np.ndarray, background: np.ndarray) -> int:
    """The number of prototypes that tells held-back examples best from the background."""
    best, found = 1, -1.0
    folds = min(len(examples), _FOLDS)
    fold = np.arange(len(examples)) % folds
    for count in range(1, min(_MOST_PROTOTYPES, len(examples) // 2) + 1):
        area = 0.0
        for k in range(folds):
            directions = _prototypes(examples[fold != k], count)
            others = np.sort((background @ directions.T).max(1))
            held = (examples[fold == k] @ directions.T).max(1)
            area += np.searchsorted(others, held).sum() / len(others) / len(examples)
        if area > found + (_GAIN if count > 1 else 0):
            best, found = count, area
    return best


def _prototypes(vectors: np.ndarray, count: int) -> np.ndarray:
    """(count, d) unit means by spherical k-means; starts far apart, always the same."""
    start = [int(np.argmax(vectors @ vectors.mean(0)))]
    while len(start) < count:
        start.append(int(np.argmin((vectors @ vectors[start].T).max(1))))
    centres = vectors[start]
    for _ in range(20 if count > 1 else 1):
        nearest = np.argmax(vectors @ centres.T, axis=1)
        centres = _normalised(np.array([
            vectors[nearest == k].sum(0) if (nearest == k).any() else centres[k]
            for k in range(count)]))
    return centres


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)


class Learner:
    """`learn` many times a second beside one background, whose share of the work is done once.

    Args:
        background: (b, d) unit vectors.
    """

    def __init__(self, background: np.ndarray) -> None:
        self._background = background[:: max(1, len(background) // _SAMPLE)]
        self._mean = self._background.mean(0)
        self._products = self._background.T @ self._background / len(self._background)
        self._kept: tuple[bytes, int] = b"", 1

    def learn(self, examples: np.ndarray, counterexamples: np.ndarray,
              hover: np.ndarray | None) -> Query:
        """The query of (n, d) examples, (m, d) counterexamples and one more example, or None.

        As `learn`, but the number of prototypes is chosen without the hovered one: choosing takes
        tens of milliseconds, which a click has and a frame has not.
        """
        together = examples if hover is None else np.concatenate([examples, hover[None]])
        if len(counterexamples):
            return Query(self._linear_head(together, counterexamples)[None], "linear head")
        if len(together) == 1:
            return Query(_normalised(together), "cosine")
        return Query(_prototypes(together, self._count(examples)), "prototypes")

    def _count(self, examples: np.ndarray) -> int:
        """How many prototypes the examples want; remembered until they change."""
        key = examples.tobytes()
        if self._kept[0] != key:
            self._kept = key, _how_many(examples, self._background)
        return self._kept[1]

    def _linear_head(self, examples: np.ndarray, counterexamples: np.ndarray) -> np.ndarray:
        """`linear_head`, with the background as its mean and mean outer product."""
        groups = examples, counterexamples, self._background
        weight = np.array([1.0, 1.0, _BACKGROUND_WEIGHT]) / (2 + _BACKGROUND_WEIGHT)
        target = np.array([1.0, -1.0, -1.0])
        target -= weight @ target
        means = np.array([examples.mean(0), counterexamples.mean(0), self._mean])
        spread = weight[2] * self._products + _RIDGE * np.eye(len(self._mean))
        few = np.concatenate([np.sqrt(w / len(v)) * v
                              for w, v in zip(weight[:2], groups[:2], strict=True)])
        return _normalised(_solve(spread, few, weight @ means, (weight * target) @ means)[None])[0]


@numba.njit(cache=True, nogil=True)
def _solve(matrix: np.ndarray, few: np.ndarray, mean: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(matrix + few' few - mean mean') x = right by conjugate gradients.

    The ridge bounds the condition number to that of unit vectors, 1 / _RIDGE + 1, so some thirty
    steps give all digits. Not LAPACK: its threads wait for each other where processors are busy,
    and a frame must not.
    """
    x, product = np.zeros(right.size), np.zeros(right.size)
    rest, step = right.copy(), right.copy()
    square = start = (rest * rest).sum()
    while square > 1e-28 * start:
        for i in range(right.size):
            product[i] = (matrix[i] * step).sum()
        for k in range(few.shape[0]):
            product += few[k] * (few[k] * step).sum()
        product -= mean * (mean * step).sum()
        length = square / (step * product).sum()
        x += length * step
        rest -= length * product
        before, square = square, (rest * rest).sum()
        step = rest + step * (square / before)
    return x
