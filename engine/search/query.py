"""Examples and counterexamples to directions: a place is as alike as the nearest of them.

Every query is a few unit vectors, so one kernel serves all of them, and a similarity is always a
cosine: to the example, to a prototype, or to the normal of the plane that a linear head draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MOST_PROTOTYPES = 4
_FOLDS = 10
_GAIN = 0.005  # by which more prototypes must separate better (area under the curve)
_SAMPLE = 4_000  # background vectors that a fit looks at
_BACKGROUND_WEIGHT = 0.5  # of the background as counterexamples, beside 1 of the true ones
_RIDGE = 0.2  # strong, as is right for a handful of examples: near to Rocchio's rule


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


def linear_head(examples: np.ndarray, counterexamples: np.ndarray, background: np.ndarray
                ) -> np.ndarray:
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
    slope = np.linalg.solve(weighted.T @ centred + _RIDGE * np.eye(vectors.shape[1]),
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
