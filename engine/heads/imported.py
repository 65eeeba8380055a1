"""The head of a segmentation network of others: its embedding's components are its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from ...models.cards import Card
from ..rasters.legend import COLORS, Legend, LegendClass
from .applicability import Gate
from .classifiers import Graph, Standard
from .head import HeadCard, write_head
from .layout import FeatureLayout

MODEL = "imported"


class Shares:
    """Each class's share of the embedding: probabilities that were brought to unit length."""

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, c) probabilities of (n, c) components."""
        positive = np.maximum(x, 0) + np.float32(1e-7)
        return positive / positive.sum(axis=1, keepdims=True)

    def graph(self) -> Graph:
        """The same as ONNX nodes."""
        return Graph(
            [
                helper.make_node("Max", ["features", "nothing"], ["kept"]),
                helper.make_node("Add", ["kept", "little"], ["positive_share"]),
                helper.make_node("ReduceSum", ["positive_share", "axis"], ["total"], keepdims=1),
                helper.make_node("Div", ["positive_share", "total"], ["raw"]),
            ],
            {"nothing": np.float32(0), "little": np.float32(1e-7), "axis": np.array([1])},
        )


def write_imported_head(path: Path, encoder: Card, classes: tuple[str, ...]) -> HeadCard:
    """Write the head that tells a segmentation network's classes from its embedding.

    Args:
        path: of the head.
        encoder: its card, with the hash.
        classes: names, in the order of the components; the map has 0, 1, 2 ...
    """
    legend = Legend(tuple(LegendClass(i, name, COLORS[i % len(COLORS)])
                          for i, name in enumerate(classes)))
    layout = FeatureLayout("embeddings", encoder.identity, len(classes))
    card = HeadCard(layout, legend, MODEL, (), {}, 1.0, 0, {"model": encoder.source})
    # it was trained elsewhere on samples that nobody can compare with: nothing counts as unlike
    nowhere = Standard(np.zeros(len(classes), np.float32), np.ones(len(classes), np.float32))
    gate = Gate(True, nowhere, np.ones((1, len(classes)), np.float32), 1.0, float("inf"))
    check = np.random.default_rng(0).random((64, len(classes)), np.float32)
    write_head(path, Shares(), card, gate, check)
    return card
