"""What all models on feature tables share: a graph in the making, and standardised features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_ROUNDING = 1e-5  # spread, of 1 or of a larger mean, below which a feature is constant
_SMALL = 10_000_000  # numbers in a table up to which boosting is as fast on one processor


def boosting_threads(x: np.ndarray, threads: int) -> int:
    """Processors for boosting on (n, k) features.

    Its threads meet after every node of every tree: on a small table that costs more than it
    brings, and minutes instead of seconds where other programs keep the processors busy.
    """
    return threads if x.size > _SMALL else 1


@dataclass(frozen=True)
class Graph:
    """A part of an ONNX graph from input "features" to output "raw" (n, targets)."""

    nodes: tuple[onnx.NodeProto, ...]
    constants: dict[str, np.ndarray]

    def of_filled(self) -> Graph:
        """The same from "filled", for tables in which nothing is absent."""
        nodes = tuple(n for n in self.nodes if n.output[0] not in ("absent", "filled"))
        used = {name for node in nodes for name in node.input}
        return Graph(nodes, {k: v for k, v in self.constants.items() if k in used})


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
        scale = 1 / np.where(spread > _ROUNDING * np.maximum(1, np.abs(mean)), spread, 1.0)
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, k) float32 standardised features."""
        return np.where(np.isnan(x), 0, (x - self.mean) * self.scale).astype(np.float32)

    def filled(self, x: np.ndarray) -> np.ndarray:
        """(n, k) float32 features as they are, NaN as the mean."""
        return np.where(np.isnan(x), self.mean, x).astype(np.float32)

    def splittable(self, x: np.ndarray) -> np.ndarray:
        """`filled` for trees to learn from: a column that varies by rounding only is constant.

        Trees would split on it where they find nothing better, and ONNX rounds otherwise.
        """
        table = self.filled(x)
        flat = table.std(0) <= _ROUNDING * np.maximum(1, np.abs(self.mean))
        table[:, flat] = self.mean[flat]
        return table

    def graph(self) -> Graph:
        """Nodes from "features" over "filled" to "standard"."""
        nodes = (
            *self.filling().nodes,
            helper.make_node("Sub", ["filled", "mean"], ["centred"]),
            helper.make_node("Mul", ["centred", "scale"], ["standard"]),
        )
        return Graph(nodes, {"mean": self.mean, "scale": self.scale})

    def filling(self) -> Graph:
        """Nodes from "features" to "filled"."""
        nodes = (
            helper.make_node("IsNaN", ["features"], ["absent"]),
            helper.make_node("Where", ["absent", "mean", "features"], ["filled"]),
        )
        return Graph(nodes, {"mean": self.mean})


def constant(name: str, value: np.ndarray) -> TensorProto:
    """A named constant of a graph."""
    return numpy_helper.from_array(np.asarray(value), name)
