"""Heads: small classifiers on features, each one self-describing ONNX file.

Graph: "features" (n, k) float32 -> "probabilities" (n, c) float32. The card under the metadata
key `earthprint_card` says what the features are and what the classes mean; the samples that
tell the unlike pixels lie under `earthprint_gate`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic

import numpy as np
from onnx import helper

from ...models.catalogue import HEAD_SUFFIX
from ..errors import UserError
from ..rasters.legend import Legend
from .accuracy import tempered
from .applicability import Gate
from .classifiers import Classifier
from .decoder import Decoder, image_of
from .headfile import GATE_KEY, Card, HeadFile, build, card_of, write
from .layout import FeatureLayout, Source

SUFFIX = HEAD_SUFFIX
KIND, NUMBER_KIND = "head", "number head"
"""What the cards of heads of classes and of numbers call themselves."""


@dataclass(frozen=True)
class HeadCard:
    """All that a user or a program must know about a head.

    Attributes:
        layout: the features.
        legend: the classes, in the order of the probabilities.
        model: one of `classifiers.MODELS`.
        samples: [{value, name, samples, groups}] of the training labels.
        validation: figures of the blocked cross-validation.
        temperature: by which log probabilities are divided in the graph.
        seed: of everything random.
        source: names of the labels and of the input, `Origin`, `Sensors`.
        cutoff: last date that was used, ISO day, or "".
        version: of the program.
        margin: pixels around a pixel that the head looks at; 0 for heads of single pixels.
    """

    layout: FeatureLayout
    legend: Legend
    model: str
    samples: tuple[dict, ...]
    validation: dict
    temperature: float
    seed: int
    source: dict
    cutoff: str = ""
    version: str = "1.0.0"
    margin: int = 0

    def to_json(self) -> str:
        """The card as indented JSON."""
        return json.dumps({
            "kind": KIND, "encoder": self.layout.encoder, "features": self.layout.record(),
            "legend": self.legend.records(), "model": self.model, "samples": list(self.samples),
            "validation": self.validation, "temperature": self.temperature, "seed": self.seed,
            "source": self.source, "cutoff": self.cutoff, "version": self.version,
            "margin": self.margin,
        }, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> HeadCard:
        """A card from JSON; a ValueError says what is missing."""
        return card_of(text, KIND, lambda c: cls(
            FeatureLayout.of_record(c["features"]), Legend.of_records(c["legend"]), c["model"],
            tuple(c["samples"]), c["validation"], c["temperature"], c["seed"], c["source"],
            c["cutoff"], c["version"], c.get("margin", 0)))


class OpenedHead(Generic[Card]):
    """What opened heads of classes and of numbers have in common.

    Attributes:
        path: of the file.
        card: what the head is.
    """

    def __init__(self, file: HeadFile, card: Card) -> None:
        self.path, self.card, self._file = file.path, card, file

    @cached_property
    def gate(self) -> Gate:
        """What tells pixels that are unlike the training data."""
        return gate_of(self._file)

    def require(self, source: Source) -> None:
        """Raise a `UserError` unless a source has the features that the head was trained on."""
        self.card.layout.require(self.path.name, source)


class Head(OpenedHead[HeadCard]):
    """An opened head of classes."""

    @classmethod
    def open(cls, path: Path, threads: int = 1) -> Head:
        """Open a head file; a `UserError` says why it cannot be one."""
        file = HeadFile.open(path, threads)
        if file.kind == NUMBER_KIND:
            raise UserError(f"{file.path.name} maps numbers, not classes. Use Apply head for it, "
                            "or choose a head of classes.")
        return cls(file, file.card(HeadCard.from_json))

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(n, c) float32 from (n, k) features; of a head that looks at single pixels.

        Raises:
            UserError: the head looks at neighbours, see `image`.
        """
        if self.card.margin:
            raise UserError(f"{self.path.name} looks at the ground around a pixel, which is not "
                            "possible here. Train a head of another kind.")
        return self._file.run(features)

    def image(self, features: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Probabilities of a window.

        Args:
            features: (rows + 2 margin, cols + 2 margin, k), NaN where invalid if there is a margin.
            valid: (rows + 2 margin, cols + 2 margin) bool.

        Returns:
            (rows, cols, c) float32; 0 where not valid.
        """
        if self.card.margin:
            m = self.card.margin
            inner = valid[m:-m, m:-m]
            found = self._file.image(features) if inner.any() else 0
            return np.where(inner[..., None], found,
                            np.zeros(len(self.card.legend), np.float32)).astype(np.float32)
        probabilities = np.zeros((*valid.shape, len(self.card.legend)), np.float32)
        probabilities[valid] = self._file.run(features[valid])
        return probabilities


def gate_of(file: HeadFile) -> Gate:
    """The gate that a head file carries."""
    text = file.metadata.get(GATE_KEY, "")
    if not text:
        raise UserError(f"{file.path.name} cannot tell what is unlike its training data. "
                        "Train it again.")
    return Gate.of_text(text)


def write_head(
    path: Path, classifier: Classifier | Decoder, card: HeadCard, gate: Gate, check: np.ndarray
) -> None:
    """Write a head under a temporary name, check it, and rename it.

    Args:
        path: of the finished file.
        classifier: what to write; of images, if the card has a margin.
        card: goes into the metadata, and its temperature into the graph.
        gate: goes into the metadata.
        check: (n, k) training features on which file and classifier must agree to 1e-4.

    Raises:
        RuntimeError: they do not.
    """
    graph = classifier.graph()
    nodes = [
        *graph.nodes,
        helper.make_node("Max", ["raw", "smallest"], ["positive"]),
        helper.make_node("Log", ["positive"], ["log"]),
        helper.make_node("Mul", ["log", "coolness"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["probabilities"], axis=1),
    ]
    constants = {**graph.constants, "smallest": np.float32(1e-7),
                 "coolness": np.float32(1 / card.temperature)}
    model = build(nodes, constants, card.layout.size, "probabilities", len(card.legend),
                  card.margin)
    if card.margin:
        check = image_of(check, 2 * card.margin + 8)
    write(path, model, card.to_json(), gate.to_text(), check,
          tempered(classifier.probabilities(check), card.temperature))
