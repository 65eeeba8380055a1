"""Classifiers on feature tables, fitted with scikit-learn and written as ONNX nodes.

Every classifier keeps what it needs as arrays, gives probabilities in Python (to validate) and
the nodes of a graph (to ship). Features that are NaN count as the mean of the training samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

MODELS = ("logistic", "forest", "neighbours")
STRENGTHS = (0.01, 0.1, 1.0)
"""Values of C, the inverse weight of the penalty, from which cross-validation chooses."""

TREES = 200
NEIGHBOURS = 20
SHARPNESS = 0.07
"""A neighbour of cosine s votes with exp(s / SHARPNESS)."""

_LEAVES_IN_ALL = 160_000  # 200 trees of at most 800 leaves: a file under about 20 MB
_LEAST_DRAW = 600  # samples that a tree draws at least, where there are as many
_MOST_REFERENCES = 4000  # samples that the nearest neighbours are looked for in
_ABSENT = -30.0  # logit of a class that the training samples of a fold lack


@dataclass(frozen=True)
class Graph:
    """A part of an ONNX graph from input "features" to output "raw" (n, c) probabilities."""

    nodes: tuple[onnx.NodeProto, ...]
    constants: dict[str, np.ndarray]


class Classifier(Protocol):
    """What every fitted classifier can do."""

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, c) probabilities of (n, k) features."""

    def graph(self) -> Graph:
        """The same as ONNX nodes."""


@dataclass(frozen=True)
class Standard:
    """Mean and spread of the training features; NaN becomes the mean.

    Attributes:
        mean: (k,) float32.
        scale: (k,) float32, one over the standard deviation; one number for the axes of an
            embedding, whose different spreads say how much each matters.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, embedded: int = 0) -> Standard:
        """Statistics of (n, k) features, the first `embedded` of which are an embedding."""
        seen = ~np.isnan(x)
        count = np.maximum(seen.sum(0), 1)
        mean = np.where(seen, x, 0).sum(0, dtype=np.float64) / count
        spread = np.sqrt((np.where(seen, x - mean, 0) ** 2).sum(0) / count)
        if embedded:
            spread[:embedded] = np.sqrt((spread[:embedded] ** 2).mean())
        scale = 1 / np.where(spread > 1e-9, spread, 1.0)
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, k) float32 standardised features."""
        return np.where(np.isnan(x), 0, (x - self.mean) * self.scale).astype(np.float32)

    def graph(self) -> Graph:
        """Nodes from "features" to "standard"."""
        nodes = (
            helper.make_node("IsNaN", ["features"], ["absent"]),
            helper.make_node("Where", ["absent", "mean", "features"], ["filled"]),
            helper.make_node("Sub", ["filled", "mean"], ["centred"]),
            helper.make_node("Mul", ["centred", "scale"], ["standard"]),
        )
        return Graph(nodes, {"mean": self.mean, "scale": self.scale})


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression: weights (k, c), bias (c,)."""

    standard: Standard
    weights: np.ndarray
    bias: np.ndarray

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, c) probabilities of (n, k) features."""
        z = self.standard(x) @ self.weights + self.bias
        p = np.exp(z - z.max(1, keepdims=True))
        return p / p.sum(1, keepdims=True)

    def graph(self) -> Graph:
        """The same as ONNX nodes."""
        first = self.standard.graph()
        nodes = (helper.make_node("Gemm", ["standard", "weights", "bias"], ["logits"]),
                 helper.make_node("Softmax", ["logits"], ["raw"], axis=1))
        return Graph(first.nodes + nodes,
                     {**first.constants, "weights": self.weights, "bias": self.bias})


@dataclass(frozen=True)
class Forest:
    """A random forest; `columns` are the classes that it knows, `size` how many there are."""

    standard: Standard
    model: RandomForestClassifier
    size: int

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, c) probabilities of (n, k) features."""
        p = np.zeros((len(x), self.size))
        p[:, self.model.classes_] = self.model.predict_proba(self._filled(x))
        return p

    def _filled(self, x: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(x), self.standard.mean, x).astype(np.float32)

    def graph(self) -> Graph:
        """The same as ONNX nodes: mean of the leaves' class shares."""
        parts: dict[str, list] = {name: [] for name in (
            "treeids", "nodeids", "featureids", "modes", "values", "truenodeids",
            "falsenodeids", "t_treeids", "t_nodeids", "t_ids", "t_weights")}
        for number, tree in enumerate(e.tree_ for e in self.model.estimators_):
            leaf = tree.children_left < 0
            parts["treeids"] += [number] * tree.node_count
            parts["nodeids"] += range(tree.node_count)
            parts["featureids"] += np.where(leaf, 0, tree.feature).tolist()
            parts["modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
            parts["values"] += np.where(leaf, 0, _float32_below(tree.threshold)).tolist()
            parts["truenodeids"] += np.where(leaf, 0, tree.children_left).tolist()
            parts["falsenodeids"] += np.where(leaf, 0, tree.children_right).tolist()
            share = tree.value[:, 0] / tree.value[:, 0].sum(1, keepdims=True)
            nodes, column = np.nonzero(leaf[:, None] & (share > 0))
            parts["t_treeids"] += [number] * len(nodes)
            parts["t_nodeids"] += nodes.tolist()
            parts["t_ids"] += self.model.classes_[column].tolist()
            parts["t_weights"] += (share[nodes, column] / len(self.model.estimators_)).tolist()
        attributes = {("target_" + name[2:] if name.startswith("t_") else f"nodes_{name}"): value
                      for name, value in parts.items()}
        nodes = (
            helper.make_node("IsNaN", ["features"], ["absent"]),
            helper.make_node("Where", ["absent", "mean", "features"], ["filled"]),
            helper.make_node("TreeEnsembleRegressor", ["filled"], ["raw"], domain="ai.onnx.ml",
                             n_targets=self.size, aggregate_function="SUM",
                             post_transform="NONE", **attributes),
        )
        return Graph(nodes, {"mean": self.standard.mean})


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
        known = model.classes_
        weights = np.zeros((x.shape[1], size), np.float32)
        bias = np.full(size, _ABSENT, np.float32)
        if len(known) == 2:  # scikit-learn keeps the second class's logit only
            weights[:, known[1]], bias[known] = model.coef_[0], (0, model.intercept_[0])
        else:
            weights[:, known], bias[known] = model.coef_.T, model.intercept_
        fitted.append(Logistic(standard, weights, bias))
    return fitted


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
        max_leaf_nodes=_LEAVES_IN_ALL // TREES if len(x) > _LEAVES_IN_ALL // TREES else None)
    model.fit(np.where(np.isnan(x), standard.mean, x).astype(np.float32), y)
    return Forest(standard, model, size)


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


def constant(name: str, value: np.ndarray) -> TensorProto:
    """A named constant of a graph."""
    return numpy_helper.from_array(np.asarray(value), name)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _float32_below(threshold: np.ndarray) -> np.ndarray:
    """The largest float32 not above a float64, so that x <= t says the same of float32 x."""
    single = threshold.astype(np.float32)
    over = single.astype(np.float64) > threshold
    return np.where(over, np.nextafter(single, np.float32(-np.inf)), single)
