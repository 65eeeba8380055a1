"""The vote of the nearest neighbours by which the paper judges frozen features. NumPy only."""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 20
TEMPERATURE = 0.07


def vote(
    train: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    classes: int,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> np.ndarray:
    """Weighted votes for each class: exp(cosine / temperature) summed over the nearest vectors.

    Args:
        train: (n, D) features of any length, and
        labels: (n,) their classes 0 .. classes - 1.
        queries: (m, D).
        classes: number of classes.
        neighbours: how many vote; fewer where there are not so many.
        temperature: of the weights.

    Returns:
        (m, classes) float64.
    """
    cosine = _unit(queries) @ _unit(train).T
    neighbours = min(neighbours, len(train))
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :neighbours]
    weights = np.exp(np.take_along_axis(cosine, nearest, axis=1).astype(np.float64) / temperature)
    votes = np.zeros((len(queries), classes))
    np.add.at(votes, (np.arange(len(queries))[:, None], labels[nearest]), weights)
    return votes


def top_percent(votes: np.ndarray, labels: np.ndarray, count: int) -> float:
    """Percent of the queries whose class is among the `count` with the most votes."""
    best = np.argsort(-votes, axis=1, kind="stable")[:, :count]
    return 100 * float((best == labels[:, None]).any(axis=1).mean())


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
