"""Models that answer with a number, fitted with scikit-learn and written as ONNX nodes.

Like the classifiers, each keeps what it needs as arrays, answers in Python (to validate) and gives
the nodes of a graph (to ship). Features that are NaN count as the mean of the training samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from onnx import helper
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from .standard import Graph, Standard, boosting_threads
from .trees import MOST_LEAVES, Tree, ensemble

MODELS = ("ridge", "forest", "boosting", "joined")
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
"""Weights of ridge regression's penalty, from which cross-validation chooses."""

TREES = 200
ROUNDS = 200


class Regressor(Protocol):
    """What every fitted regressor can do."""

    def values(self, x: np.ndarray) -> np.ndarray:
        """(n,) numbers of (n, k) features."""

    def graph(self) -> Graph:
        """The same as ONNX nodes, "raw" (n, 1)."""


@dataclass(frozen=True)
class Linear:
    """Ridge regression: weights (k, 1), bias (1,)."""

    standard: Standard
    weights: np.ndarray
    bias: np.ndarray

    def values(self, x: np.ndarray) -> np.ndarray:
        """(n,) numbers of (n, k) features."""
        return (self.standard(x) @ self.weights + self.bias)[:, 0]

    def graph(self) -> Graph:
        """The same as ONNX nodes."""
        first = self.standard.graph()
        node = helper.make_node("Gemm", ["standard", "weights", "bias"], ["raw"])
        return Graph((*first.nodes, node),
                     {**first.constants, "weights": self.weights, "bias": self.bias})


@dataclass(frozen=True)
class Trees:
    """A sum of trees over a constant: a random forest or gradient boosting.

    Attributes:
        model: scikit-learn's, for answers in Python.
        trees: the same trees for the graph, for one target.
        start: what the trees add to.
    """

    standard: Standard
    model: RandomForestRegressor | HistGradientBoostingRegressor
    trees: tuple[Tree, ...]
    start: float

    def values(self, x: np.ndarray) -> np.ndarray:
        """(n,) numbers of (n, k) features."""
        return self.model.predict(self.standard.filled(x))

    def graph(self) -> Graph:
        """The same as ONNX nodes."""
        first = self.standard.filling()
        nodes = (ensemble(self.trees, "filled", "sum"),
                 helper.make_node("Add", ["sum", "start"], ["raw"]))
        return Graph(first.nodes + nodes, {**first.constants, "start": np.float32([self.start])})


@dataclass(frozen=True)
class Joined:
    """The mean of several sums of trees, which err less together than each alone."""

    members: tuple[Trees, ...]

    def values(self, x: np.ndarray) -> np.ndarray:
        """(n,) numbers of (n, k) features."""
        return np.mean([m.values(x) for m in self.members], axis=0)

    def graph(self) -> Graph:
        """The same as ONNX nodes: one sum of all their trees."""
        count = len(self.members)
        trees = tuple(replace(t, values=t.values / count) for m in self.members for t in m.trees)
        start = sum(m.start for m in self.members) / count
        return replace(self.members[0], trees=trees, start=start).graph()


def fit(model: str, x: np.ndarray, y: np.ndarray, *, seed: int, threads: int, embedded: int = 0,
        penalties: tuple[float, ...] = PENALTIES) -> list[Regressor]:
    """Fit one of `MODELS`; ridge regression once for each penalty, the others once.

    "joined" is the mean of a forest and boosting.

    Args:
        model: which.
        x: (n, k) features.
        y: (n,) numbers.
        seed: of draws of samples and features.
        threads: to use.
        embedded: how many of the first features are an embedding.
        penalties: of ridge regression.
    """
    if model == "ridge":
        standard = Standard.of(x, embedded)
        return [_ridge(standard, x, y, penalty) for penalty in penalties]
    standard = Standard.of(x)
    if model == "joined":
        return [Joined(tuple(fitter(standard, x, y, seed, threads)
                             for fitter in (_forest, _boosting)))]
    fitter = _forest if model == "forest" else _boosting
    return [fitter(standard, x, y, seed, threads)]


def _ridge(standard: Standard, x: np.ndarray, y: np.ndarray, penalty: float) -> Linear:
    fitted = Ridge(alpha=penalty).fit(standard(x), y)
    return Linear(standard, fitted.coef_.astype(np.float32)[:, None],
                  np.float32([fitted.intercept_]))


def _forest(standard: Standard, x: np.ndarray, y: np.ndarray, seed: int, threads: int) -> Trees:
    """Trees on a third of the features a split, with leaves of two samples (Breiman 2001)."""
    model = RandomForestRegressor(
        TREES, max_features=1 / 3, min_samples_leaf=2, n_jobs=threads, random_state=seed,
        max_leaf_nodes=MOST_LEAVES // TREES if len(x) > 2 * MOST_LEAVES // TREES else None)
    model.fit(standard.splittable(x), y)
    trees = tuple(Tree.of_forest(e.tree_, e.tree_.value[:, :, 0] / TREES)
                  for e in model.estimators_)
    return Trees(standard, model, trees, 0.0)


def _boosting(standard: Standard, x: np.ndarray, y: np.ndarray, seed: int, threads: int) -> Trees:
    """A fixed number of rounds, see `classifiers.fit_boosting`."""
    model = HistGradientBoostingRegressor(
        max_iter=ROUNDS, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=10,
        l2_regularization=1.0, max_features=0.2, early_stopping=False, random_state=seed)
    with threadpool_limits(boosting_threads(x, threads), "openmp"):
        model.fit(standard.splittable(x), y)
    trees = tuple(Tree.of_boosting(one.nodes, 0, 1)
                  for turn in model._predictors for one in turn)
    return Trees(standard, model, trees, float(np.ravel(model._baseline_prediction)[0]))
