"""Classifiers on feature tables, fitted with scikit-learn and written as ONNX nodes.

Every classifier keeps what it needs as arrays, gives probabilities in Python (to validate) and
the nodes of a graph (to ship). Features that are NaN count as the mean of the training samples.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from onnx import helper
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_limits

from .standard import Graph, Standard, boosting_threads
from .trees import MOST_LEAVES, Tree, ensemble

MODELS = ("logistic", "forest", "neighbours", "boosting", "mlp")
STRENGTHS = (0.01, 0.1, 1.0)
"""Values of C, the inverse weight of the penalty, from which cross-validation chooses."""

TREES = 200
RANDOM_TREES, RANDOM_LEAVES = 50, 200
ROUNDS = 50
HIDDEN = 128
NEIGHBOURS = 20
SHARPNESS = 0.07
"""A neighbour of cosine s votes with exp(s / SHARPNESS)."""

_LEAST_DRAW = 600  # samples that a tree draws at least, where there are as many
_MOST_REFERENCES = 4000  # samples that the nearest neighbours are looked for in
_SHARE_OF_FEATURES = 0.2  # that a split of a boosted tree may choose from
_BINS = 63  # of a feature's values: four times as fast as 255, and as good
_EPOCHS, _DECAY = 40, 0.1  # of the network; decay is the weight of the squared weights
_ABSENT = -30.0  # logit of a class that the training samples of a fold lack


class Classifier(Protocol):
    """What every fitted classifier can do."""

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, c) probabilities of (n, k) features."""

    def graph(self) -> Graph:
        """The same as ONNX nodes."""


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression, or what answers like one: weights (k, c), bias (c,)."""

    standard: Standard
    weights: np.ndarray
    bias: np.ndarray

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, c) probabilities of (n, k) features."""
        return _softmax(self.standard(x) @ self.weights + self.bias)

    def graph(self) -> Graph:
        """The same as ONNX nodes, standardising within the weights."""
        first = self.standard.filling()
        nodes = (helper.make_node("Gemm", ["filled", "weights", "bias"], ["logits"]),
                 helper.make_node("Softmax", ["logits"], ["raw"], axis=1))
        scaled = self.standard.scale[:, None].astype(np.float64) * self.weights
        bias = (self.bias - self.standard.mean @ scaled).astype(np.float32)
        return Graph(first.nodes + nodes, {**first.constants, "bias": bias,
                                           "weights": scaled.astype(np.float32)})


@dataclass(frozen=True)
class _OfTrees:
    """Trees of scikit-learn, which know some or all of `size` classes."""

    standard: Standard
    model: RandomForestClassifier | ExtraTreesClassifier | HistGradientBoostingClassifier
    size: int

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, c) probabilities of (n, k) features."""
        p = np.zeros((len(x), self.size))
        p[:, self.model.classes_] = self.model.predict_proba(self.standard.filled(x))
        return p


class Forest(_OfTrees):
    """A random forest or extremely randomised trees."""

    def graph(self) -> Graph:
        """The same as ONNX nodes: mean of the leaves' class shares."""
        first, trees = self.standard.filling(), []
        for tree in (e.tree_ for e in self.model.estimators_):
            share = np.zeros((tree.node_count, self.size))
            share[:, self.model.classes_] = tree.value[:, 0]
            whole = share.sum(1, keepdims=True) * len(self.model.estimators_)
            trees.append(Tree.of_forest(tree, share / whole))
        return Graph((*first.nodes, ensemble(trees, "filled", "raw")), first.constants)


class Boosting(_OfTrees):
    """Gradient boosted trees (Friedman 2001)."""

    def graph(self) -> Graph:
        """The same as ONNX nodes: the trees add up to logits."""
        first, known = self.standard.filling(), self.model.classes_
        start = np.full(self.size, _ABSENT, np.float32)
        if len(known) == 2:  # one logit, of the second class
            columns = known[1:]
            start[known] = 0, self.model._baseline_prediction[0, 0]
        else:
            columns = known
            start[known] = self.model._baseline_prediction[0]
        trees = [Tree.of_boosting(one.nodes, column, self.size)
                 for turn in self.model._predictors
                 for one, column in zip(turn, columns, strict=True)]
        nodes = (ensemble(trees, "filled", "sum"),
                 helper.make_node("Add", ["sum", "start"], ["logits"]),
                 helper.make_node("Softmax", ["logits"], ["raw"], axis=1))
        return Graph(first.nodes + nodes, {**first.constants, "start": start})


@dataclass(frozen=True)
class Perceptron:
    """A network with one hidden layer: weights (k, h), (h, c) and biases (h,), (c,)."""

    standard: Standard
    weights: tuple[np.ndarray, np.ndarray]
    biases: tuple[np.ndarray, np.ndarray]

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, c) probabilities of (n, k) features."""
        hidden = np.maximum(self.standard(x) @ self.weights[0] + self.biases[0], 0)
        return _softmax(hidden @ self.weights[1] + self.biases[1])

    def graph(self) -> Graph:
        """The same as ONNX nodes."""
        first = self.standard.graph()
        nodes = (helper.make_node("Gemm", ["standard", "weights0", "bias0"], ["before"]),
                 helper.make_node("Relu", ["before"], ["hidden"]),
                 helper.make_node("Gemm", ["hidden", "weights1", "bias1"], ["logits"]),
                 helper.make_node("Softmax", ["logits"], ["raw"], axis=1))
        return Graph(first.nodes + nodes, {
            **first.constants, "weights0": self.weights[0], "weights1": self.weights[1],
            "bias0": self.biases[0], "bias1": self.biases[1]})


@dataclass(frozen=True)
class Neighbours:
    """Vote of the nearest training samples by cosine of the standardised features.

    Attributes:
        references: (m, k) float32 unit vectors.
        votes: (m, c) float32, one-hot classes.
    """

    standard: Standard
    references: np.ndarray
    votes: np.ndarray

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, c) probabilities of (n, k) features."""
        cosine = _unit(self.standard(x)) @ self.references.T
        k = min(NEIGHBOURS, len(self.references))
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        weight = np.exp((np.take_along_axis(cosine, near, 1) - 1) / SHARPNESS)
        p = np.einsum("nk,nkc->nc", weight, self.votes[near])
        return p / np.maximum(p.sum(1, keepdims=True), 1e-30)

    def graph(self) -> Graph:
        """The same as ONNX nodes."""
        first = self.standard.graph()
        k = min(NEIGHBOURS, len(self.references))
        nodes = (
            helper.make_node("LpNormalization", ["standard"], ["unit"], axis=1, p=2),
            helper.make_node("MatMul", ["unit", "references"], ["cosine"]),
            helper.make_node("TopK", ["cosine", "k"], ["nearest", "which"], axis=1),
            helper.make_node("Sub", ["nearest", "one"], ["below"]),
            helper.make_node("Mul", ["below", "sharpness"], ["power"]),
            helper.make_node("Exp", ["power"], ["weight"]),
            helper.make_node("Gather", ["votes", "which"], ["ballots"], axis=0),
            helper.make_node("Unsqueeze", ["weight", "axis"], ["weights"]),
            helper.make_node("MatMul", ["weights", "ballots"], ["counted"]),
            helper.make_node("Squeeze", ["counted", "axis"], ["sum"]),
            helper.make_node("ReduceSum", ["sum", "axis"], ["whole"], keepdims=1),
            helper.make_node("Div", ["sum", "whole"], ["raw"]),
        )
        constants = {
            "references": np.ascontiguousarray(self.references.T), "votes": self.votes,
            "k": np.array([k], np.int64), "axis": np.array([1], np.int64),
            "one": np.float32(1.0), "sharpness": np.float32(1 / SHARPNESS)}
        return Graph(first.nodes + nodes, {**first.constants, **constants})


def fit_logistic(
    x: np.ndarray, y: np.ndarray, size: int, strengths: tuple[float, ...], embedded: int = 0
) -> list[Logistic]:
    """Logistic regressions, standardised and class-balanced, one for each ascending strength.

    Args:
        x: (n, k) features.
        y: (n,) class index; classes may be missing.
        size: number of classes.
        strengths: values of C; each fit starts from the one before.
        embedded: how many of the first features are an embedding.
    """
    standard = Standard.of(x, embedded)
    table = standard(x)
    model = LogisticRegression(class_weight="balanced", max_iter=300, tol=1e-3, warm_start=True)
    fitted = []
    for c in strengths:
        model.set_params(C=c).fit(table, y)
        fitted.append(_linear(model, standard, size))
    return fitted


def fit_discriminant(x: np.ndarray, y: np.ndarray, size: int, embedded: int = 0) -> Logistic:
    """Linear discriminant analysis, classes equally likely, with the covariance shrunk.

    How much it is shrunk follows from the samples (Ledoit and Wolf 2004), so that there is
    nothing to choose. Its probabilities are those of a logistic regression.
    """
    standard, known = Standard.of(x, embedded), np.unique(y)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto",
                                       priors=np.full(len(known), 1 / len(known)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of one sample has no covariance
        model.fit(standard(x), y)
    return _linear(model, standard, size)


def _linear(model: LogisticRegression | LinearDiscriminantAnalysis, standard: Standard,
            size: int) -> Logistic:
    """A fitted linear model as a logistic regression of all classes."""
    return Logistic(standard, *_of_all_classes(model.coef_.T, model.intercept_, model.classes_,
                                               size))


def _of_all_classes(coefficients: np.ndarray, intercepts: np.ndarray, known: np.ndarray,
                    size: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (k, size) and bias (size,) of scikit-learn's for the known of `size` classes."""
    weights = np.zeros((len(coefficients), size), np.float32)
    bias = np.full(size, _ABSENT, np.float32)
    if len(known) == 2:  # scikit-learn keeps the second class's logit only
        weights[:, known[1]], bias[known] = coefficients[:, 0], (0, intercepts[0])
    else:
        weights[:, known], bias[known] = coefficients, intercepts
    return weights, bias


def fit_forest(x: np.ndarray, y: np.ndarray, size: int, seed: int, threads: int) -> Forest:
    """A class-balanced random forest of `TREES` trees whose leaves are few enough to ship.

    A tree draws a quarter of the samples: pixels of a parcel are so alike that this scores as
    full draws do (0.69 and 0.69 on the demo season's blocks) in a third of the time.
    """
    standard = Standard.of(x)
    draw = max(_LEAST_DRAW, len(x) // 4)
    model = RandomForestClassifier(
        TREES, class_weight="balanced", n_jobs=threads, random_state=seed,
        max_samples=draw if draw < len(x) else None,
        max_leaf_nodes=MOST_LEAVES // TREES if len(x) > MOST_LEAVES // TREES else None)
    model.fit(standard.splittable(x), y)
    return Forest(standard, model, size)


def fit_trees(x: np.ndarray, y: np.ndarray, size: int, seed: int, threads: int) -> Forest:
    """Extremely randomised trees (Geurts et al. 2006) of leaves of two samples, class-balanced.

    Their thresholds are drawn by chance, which makes smoother answers than a forest's: on the
    training sides of the sets in docs/evaluation.md 4 points of macro-F1 better. More or larger
    trees score the same there and map slower.
    """
    standard = Standard.of(x)
    model = ExtraTreesClassifier(
        RANDOM_TREES, class_weight="balanced", min_samples_leaf=2, n_jobs=threads,
        random_state=seed, max_leaf_nodes=RANDOM_LEAVES if len(x) > 2 * RANDOM_LEAVES else None)
    model.fit(standard.splittable(x), y)
    return Forest(standard, model, size)


def fit_boosting(x: np.ndarray, y: np.ndarray, size: int, seed: int, threads: int) -> Boosting:
    """Class-balanced boosting of `ROUNDS` rounds of small trees, each on a part of the features.

    The number of rounds is fixed: stopping early would need samples that are held back by
    chance, which neighbouring pixels make meaningless.
    """
    standard = Standard.of(x)
    model = HistGradientBoostingClassifier(
        max_iter=ROUNDS, learning_rate=0.15, max_leaf_nodes=15, min_samples_leaf=10,
        l2_regularization=1.0, max_features=_SHARE_OF_FEATURES, max_bins=_BINS,
        class_weight="balanced", early_stopping=False, random_state=seed)
    with threadpool_limits(boosting_threads(x, threads), "openmp"):
        model.fit(standard.splittable(x), y)
    return Boosting(standard, model, size)


def fit_perceptron(
    x: np.ndarray, y: np.ndarray, size: int, seed: int, embedded: int = 0
) -> Perceptron:
    """A class-balanced network of `HIDDEN` units, trained by Adam for `_EPOCHS` epochs."""
    standard = Standard.of(x, embedded)
    model = MLPClassifier((HIDDEN,), alpha=_DECAY, batch_size=min(64, len(x)),
                          max_iter=_EPOCHS, n_iter_no_change=_EPOCHS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are meant to end it
        model.fit(standard(x), y, compute_sample_weight("balanced", y))
    weights, bias = _of_all_classes(model.coefs_[1], model.intercepts_[1], model.classes_, size)
    return Perceptron(standard, (model.coefs_[0].astype(np.float32), weights),
                      (model.intercepts_[0].astype(np.float32), bias))


def fit_neighbours(
    x: np.ndarray, y: np.ndarray, size: int, seed: int, embedded: int = 0
) -> Neighbours:
    """Weighted nearest neighbours of standardised features."""
    chosen = balanced_draw(y, _MOST_REFERENCES, seed)
    standard = Standard.of(x, embedded)
    votes = np.zeros((len(chosen), size), np.float32)
    votes[np.arange(len(chosen)), y[chosen]] = 1
    return Neighbours(standard, _unit(standard(x[chosen])), votes)


def balanced_draw(y: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Sorted indices of at most `most` samples, as evenly over the classes as they allow."""
    if len(y) <= most:
        return np.arange(len(y))
    order = np.random.default_rng(seed).permutation(len(y))
    rank = np.empty(len(y), np.int64)
    for k in np.unique(y):
        mine = order[y[order] == k]
        rank[mine] = np.arange(len(mine))
    return np.sort(np.lexsort((order, rank))[:most])


def _softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

