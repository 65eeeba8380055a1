"""Several classifiers as one: the mean of their calibrated probabilities.

Two linear models of the embedding, one of the band series and trees on the same series err on
different ground, so their mean is right more often than each of them, and rarely far worse than
the best (soft voting). Each is calibrated first, so that none speaks louder than it knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from . import classifiers
from .accuracy import tempered
from .classifiers import Classifier
from .layout import FeatureLayout
from .phenology import Phenology
from .standard import Graph

MODEL = "joined"
"""What cards and reports call it."""

STRENGTHS = (0.003, 0.03, 0.3)
"""Values of C of the logistic members, from which cross-validation chooses: with hundreds of
columns that tell the same, strong penalties are better than `classifiers.STRENGTHS`."""

_SMALLEST = 1e-7  # as in `accuracy.tempered`


@dataclass(frozen=True)
class Part:
    """What a member looks at and what it is.

    Attributes:
        source: "embeddings" or "bands"; bands come with what `Phenology` makes of them.
        model: "logistic", "discriminant" or "trees".
    """

    source: str
    model: str

    @property
    def name(self) -> str:
        """For logs: "logistic on bands"."""
        return f"{self.model} on {self.source}"

    @property
    def strengths(self) -> tuple[float, ...]:
        """The penalties to compare; a NaN where there is nothing to choose."""
        return STRENGTHS if self.model == "logistic" else (float("nan"),)


def parts_of(kind: str) -> tuple[Part, ...]:
    """The members for a kind of features: trees look at series alone, see docs/evaluation.md."""
    embedding = (Part("embeddings", "logistic"), Part("embeddings", "discriminant"))
    embedding = embedding if kind != "bands" else ()
    series = (Part("bands", "logistic"), Part("bands", "trees")) if kind != "embeddings" else ()
    return embedding + series


@dataclass(frozen=True)
class Views:
    """A table of features as the members see it.

    Attributes:
        dims: columns of the embedding, which come first.
        phenology: of the band series; None without series.
    """

    dims: int
    phenology: Phenology | None

    @classmethod
    def of(cls, x: np.ndarray, layout: FeatureLayout) -> Views:
        """For training features (n, k), columns as in `layout`."""
        series = layout.only("bands")
        return cls(layout.dims, Phenology.of(x[:, layout.dims:], series) if series.series else None)

    def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Each source's table, of (n, k) features."""
        views = {"embeddings": x[:, :self.dims]} if self.dims else {}
        if self.phenology is not None:
            views["bands"] = self.phenology(x[:, self.dims:])
        return views


def fit_part(part: Part, x: np.ndarray, y: np.ndarray, size: int, seed: int, threads: int,
             strengths: tuple[float, ...]) -> list[Classifier]:
    """Fit one member on its view (n, m): logistic once for each strength, others once."""
    if part.model == "trees":
        return [classifiers.fit_trees(x, y, size, seed, threads)]
    embedded = x.shape[1] if part.source == "embeddings" else 0
    if part.model == "discriminant":
        return [classifiers.fit_discriminant(x, y, size, embedded)]
    return classifiers.fit_logistic(x, y, size, strengths, embedded)


@dataclass(frozen=True)
class Member:
    """A fitted part and the temperature of its probabilities."""

    part: Part
    classifier: Classifier
    temperature: float


@dataclass(frozen=True)
class Joined:
    """The mean of its members' calibrated probabilities."""

    views: Views
    members: tuple[Member, ...]

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, c) probabilities of (n, k) features."""
        views = self.views(x)
        return sum(tempered(m.classifier.probabilities(views[m.part.source]), m.temperature)
                   for m in self.members) / len(self.members)

    def graph(self) -> Graph:
        """The same as ONNX nodes: the parts beside each other, then their mean."""
        views, nodes = self.views, []
        constants = {"start": np.array([0], np.int64), "middle": np.array([views.dims], np.int64),
                     "end": np.array([2**31], np.int64), "columns": np.array([1], np.int64),
                     "least": np.float32(_SMALLEST),
                     "share": np.float32(1 / len(self.members))}
        embedded = [m for m in self.members if m.part.source == "embeddings"]
        if embedded:
            nodes.append(helper.make_node("Slice", ["features", "start", "middle", "columns"],
                                          ["embedding"]))
            _add(embedded[0].classifier.standard.filling(), "fill",
                 {"features": "embedding", "filled": "embeddings"}, nodes, constants)
        if views.phenology is not None:
            nodes.append(helper.make_node("Slice", ["features", "middle", "end", "columns"],
                                          ["series"]))
            _add(views.phenology.graph(), "phenology",
                 {"features": "series", "described": "bands"}, nodes, constants)
        answers = []
        for number, member in enumerate(self.members):
            name = f"member{number}"
            _add(member.classifier.graph().of_filled(), name, {"filled": member.part.source},
                 nodes, constants)
            constants[f"{name}/cool"] = np.float32(1 / member.temperature)
            steps = (("Max", ["raw", "least"], "positive"), ("Log", ["positive"], "logs"),
                     ("Mul", ["logs", "cool"], "scaled"), ("Softmax", ["scaled"], "answer"))
            for kind, inputs, output in steps:
                nodes.append(helper.make_node(
                    kind, [i if i == "least" else f"{name}/{i}" for i in inputs],
                    [f"{name}/{output}"]))
            answers.append(f"{name}/answer")
        nodes += [helper.make_node("Sum", answers, ["total"]),
                  helper.make_node("Mul", ["total", "share"], ["raw"])]
        return Graph(tuple(nodes), constants)


def _add(graph: Graph, name: str, shared: Mapping[str, str], nodes: list[NodeProto],
         constants: dict[str, np.ndarray]) -> None:
    """Put a graph beside others: its tensors get a prefix, but for the shared ones."""

    def renamed(tensor: str) -> str:
        return shared.get(tensor, f"{name}/{tensor}")

    for node in graph.nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [renamed(t) for t in node.input]
        copy.output[:] = [renamed(t) for t in node.output]
        nodes.append(copy)
    constants |= {renamed(key): value for key, value in graph.constants.items()}
