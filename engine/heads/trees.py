"""Decision trees as an ONNX node: of random forests and of gradient boosting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

MOST_LEAVES = 160_000
"""Of all trees of a forest together: 200 trees of 800 leaves make a file under about 20 MB."""


@dataclass(frozen=True)
class Tree:
    """One tree: x[feature] <= threshold goes left.

    Attributes:
        feature: (m,) int64.
        threshold: (m,) float64.
        left, right: (m,) int64 node numbers; unused at leaves.
        leaf: (m,) bool.
        values: (m, targets) what a leaf adds to each target; 0 adds nothing.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leaf: np.ndarray
    values: np.ndarray

    @classmethod
    def of_forest(cls, tree: object, values: np.ndarray) -> Tree:
        """A tree of scikit-learn's forests (`tree_`) with the (m, targets) values of its nodes."""
        return cls(tree.feature, tree.threshold, tree.children_left, tree.children_right,
                   tree.children_left < 0, values)

    @classmethod
    def of_boosting(cls, nodes: np.ndarray, target: int, targets: int) -> Tree:
        """A tree of scikit-learn's histogram boosting (its record array), for one target."""
        values = np.zeros((len(nodes), targets))
        values[:, target] = nodes["value"]
        return cls(nodes["feature_idx"].astype(np.int64), nodes["num_threshold"],
                   nodes["left"].astype(np.int64), nodes["right"].astype(np.int64),
                   nodes["is_leaf"].astype(bool), values)


def ensemble(trees: Sequence[Tree], source: str, output: str) -> onnx.NodeProto:
    """The node from a tensor of features (n, k) to the sums over all trees (n, targets)."""
    parts: dict[str, list] = {name: [] for name in (
        "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values",
        "nodes_truenodeids", "nodes_falsenodeids", "target_treeids", "target_nodeids",
        "target_ids", "target_weights")}
    for number, tree in enumerate(trees):
        leaf = tree.leaf
        parts["nodes_treeids"] += [number] * len(leaf)
        parts["nodes_nodeids"] += range(len(leaf))
        parts["nodes_featureids"] += np.where(leaf, 0, tree.feature).tolist()
        parts["nodes_modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        parts["nodes_values"] += np.where(leaf, 0, float32_below(tree.threshold)).tolist()
        parts["nodes_truenodeids"] += np.where(leaf, 0, tree.left).tolist()
        parts["nodes_falsenodeids"] += np.where(leaf, 0, tree.right).tolist()
        # a leaf that adds nothing to any target still needs an entry
        spoken = (tree.values != 0) | (np.arange(tree.values.shape[1]) == 0)
        nodes, column = np.nonzero(leaf[:, None] & spoken)
        parts["target_treeids"] += [number] * len(nodes)
        parts["target_nodeids"] += nodes.tolist()
        parts["target_ids"] += column.tolist()
        parts["target_weights"] += tree.values[nodes, column].tolist()
    return helper.make_node(
        "TreeEnsembleRegressor", [source], [output], domain="ai.onnx.ml",
        n_targets=trees[0].values.shape[1], aggregate_function="SUM", post_transform="NONE",
        **parts)


def float32_below(threshold: np.ndarray) -> np.ndarray:
    """The largest float32 not above a float64, so that x <= t says the same of float32 x."""
    threshold = np.asarray(threshold, np.float64)
    single = threshold.astype(np.float32)
    over = single.astype(np.float64) > threshold
    return np.where(over, np.nextafter(single, np.float32(-np.inf)), single)
