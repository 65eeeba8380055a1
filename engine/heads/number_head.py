"""Heads of numbers: a self-describing ONNX file from features (n, k) to one number a pixel.

Graph: "features" (n, k) float32 -> "value" (n, 1) float32; card and gate as in `head.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import helper

from .applicability import Gate
from .head import NUMBER_KIND, OpenedHead
from .headfile import HeadFile, build, card_of, write
from .layout import FeatureLayout
from .regressors import Regressor


@dataclass(frozen=True)
class NumberCard:
    """All that a user or a program must know about a head of numbers.

    Attributes:
        layout: the features.
        field: what was measured.
        unit: of the numbers, may be "".
        model: one of `regressors.MODELS`.
        samples: number of training samples.
        range: smallest and largest training value.
        middle: the 2nd and the 98th percentile of the training values, for colours.
        validation: figures of the blocked cross-validation.
        half_width: of the prediction interval, in the unit.
        seed: of everything random.
        source: names of the labels and of the input, `Origin`, `Sensors`.
        cutoff: last date that was used, ISO day, or "".
        version: of the program.
    """

    layout: FeatureLayout
    field: str
    unit: str
    model: str
    samples: int
    range: tuple[float, float]
    middle: tuple[float, float]
    validation: dict
    half_width: float
    seed: int
    source: dict
    cutoff: str = ""
    version: str = "1.0.0"

    @property
    def title(self) -> str:
        """What is mapped, with its unit: "moisture (%)"."""
        return f"{self.field} ({self.unit})" if self.unit else self.field

    def to_json(self) -> str:
        """The card as indented JSON."""
        return json.dumps({
            "kind": NUMBER_KIND, "encoder": self.layout.encoder, "features": self.layout.record(),
            "field": self.field, "unit": self.unit, "model": self.model, "samples": self.samples,
            "range": list(self.range), "middle": list(self.middle),
            "validation": self.validation, "half_width": self.half_width, "seed": self.seed,
            "source": self.source, "cutoff": self.cutoff, "version": self.version,
        }, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> NumberCard:
        """A card from JSON; a ValueError says what is missing."""
        return card_of(text, NUMBER_KIND, lambda c: cls(
            FeatureLayout.of_record(c["features"]), c["field"], c["unit"], c["model"],
            c["samples"], tuple(c["range"]), tuple(c["middle"]), c["validation"],
            c["half_width"], c["seed"], c["source"], c["cutoff"], c["version"]))


class NumberHead(OpenedHead[NumberCard]):
    """An opened head of numbers."""

    @classmethod
    def of(cls, file: HeadFile) -> NumberHead:
        """The head in a file whose `kind` is that of numbers."""
        return cls(file, file.card(NumberCard.from_json))

    def values(self, features: np.ndarray) -> np.ndarray:
        """(n,) float32 from (n, k) features."""
        return self._file.run(features)[:, 0]


def write_number_head(path: Path, regressor: Regressor, card: NumberCard, gate: Gate,
                      check: np.ndarray) -> None:
    """Write a head under a temporary name, check it on (n, k) features, and rename it."""
    graph = regressor.graph()
    nodes = (*graph.nodes, helper.make_node("Identity", ["raw"], ["value"]))
    write(path, build(nodes, graph.constants, card.layout.size, "value", 1), card.to_json(),
          gate.to_text(), check, regressor.values(check)[:, None])
