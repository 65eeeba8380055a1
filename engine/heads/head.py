"""Heads: small classifiers on features, each one self-describing ONNX file.

Graph: "features" (n, k) float32 -> "probabilities" (n, c) float32. The card under the metadata
key `earthprint_card` says what the features are and what the classes mean; the samples that
tell the unlike pixels lie under `earthprint_gate`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from ..errors import UserError
from ..rasters.legend import Legend
from .accuracy import tempered
from .applicability import Gate
from .classifiers import Classifier, constant
from .layout import FeatureLayout, Source

CARD_KEY, GATE_KEY = "earthprint_card", "earthprint_gate"
SUFFIX = ".head.onnx"
_OPSET, _ML_OPSET, _IR = 17, 3, 8  # read by onnxruntime 1.19 and later
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class HeadCard:
    """All that a user or a program must know about a head.

    Attributes:
        layout: the features.
        legend: the classes, in the order of the probabilities.
        model: "logistic", "forest" or "neighbours".
        samples: [{value, name, samples, groups}] of the training labels.
        validation: figures of the blocked cross-validation.
        temperature: by which log probabilities are divided in the graph.
        seed: of everything random.
        source: names of the labels and of the input.
        cutoff: last date that was used, ISO day, or "".
        version: of the program.
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

    def to_json(self) -> str:
        """The card as indented JSON."""
        return json.dumps({
            "kind": "head", "encoder": self.layout.encoder, "features": self.layout.record(),
            "legend": self.legend.records(), "model": self.model, "samples": list(self.samples),
            "validation": self.validation, "temperature": self.temperature, "seed": self.seed,
            "source": self.source, "cutoff": self.cutoff, "version": self.version,
        }, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> HeadCard:
        """A card from JSON; a ValueError says what is missing."""
        try:
            c = json.loads(text)
            if c["kind"] != "head":
                raise ValueError("the card is not that of a head")
            return cls(FeatureLayout.of_record(c["features"]), Legend.of_records(c["legend"]),
                       c["model"], tuple(c["samples"]), c["validation"], c["temperature"],
                       c["seed"], c["source"], c["cutoff"], c["version"])
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"the card is incomplete ({error})") from error


class Head:
    """An opened head.

    Attributes:
        path: of the file.
        card: what it is.
    """

    def __init__(self, path: Path, card: HeadCard, session: onnxruntime.InferenceSession,
                 gate: str) -> None:
        self.path, self.card, self._session, self._gate = Path(path), card, session, gate

    @classmethod
    def open(cls, path: Path, threads: int = 1) -> Head:
        """Open a head file; a `UserError` says why it cannot be one."""
        path = Path(path)
        if not path.exists():
            raise UserError(f"The head {path.name} was not found in {path.parent}. "
                            "Choose the file again.")
        try:
            session = _session(path.read_bytes(), threads)
            metadata = session.get_modelmeta().custom_metadata_map
            card = HeadCard.from_json(metadata[CARD_KEY])
            return cls(path, card, session, metadata.get(GATE_KEY, ""))
        except (KeyError, ValueError) as error:
            raise UserError(f"{path.name} is not an Earthprint head ({error}). "
                            "Choose a file made by Train head.") from error
        except Exception as error:  # onnxruntime has a class of its own for every refusal
            raise UserError(f"{path.name} cannot be read as a head "
                            f"({str(error).splitlines()[0]}). Train it again.") from error

    @cached_property
    def gate(self) -> Gate:
        """What tells pixels that are unlike the training data."""
        if not self._gate:
            raise UserError(f"{self.path.name} cannot tell what is unlike its training data. "
                            "Train it again.")
        return Gate.of_text(self._gate)

    def require(self, source: Source) -> None:
        """Raise a `UserError` unless a source has the features that the head was trained on."""
        self.card.layout.require(self.path.name, source)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(n, c) float32 from (n, k) features."""
        if not len(features):
            return np.zeros((0, len(self.card.legend)), np.float32)
        features = np.ascontiguousarray(features, np.float32)
        return self._session.run(["probabilities"], {"features": features})[0]


def write_head(
    path: Path, classifier: Classifier, card: HeadCard, gate: Gate, check: np.ndarray
) -> None:
    """Write a head under a temporary name, check it, and rename it.

    Args:
        path: of the finished file.
        classifier: what to write.
        card: goes into the metadata, and its temperature into the graph.
        gate: goes into the metadata.
        check: (n, k) training features on which file and classifier must agree to 1e-4.

    Raises:
        RuntimeError: they do not.
    """
    model = _model(classifier, card)
    helper.set_model_props(model, {CARD_KEY: card.to_json(), GATE_KEY: gate.to_text()})
    raw = model.SerializeToString()
    expected = tempered(classifier.probabilities(check), card.temperature)
    written = _session(raw, 1).run(None, {"features": check.astype(np.float32)})[0]
    difference = float(np.abs(expected - written).max())
    if difference > _TOLERANCE:
        raise RuntimeError(f"the written head differs from the trained one by {difference:.2g}")
    part = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.part")
    try:
        part.write_bytes(raw)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _model(classifier: Classifier, card: HeadCard) -> onnx.ModelProto:
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
    model = helper.make_model(
        helper.make_graph(
            nodes, "head",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT,
                                           ["n", card.layout.size])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT,
                                           ["n", len(card.legend)])],
            [constant(name, value) for name, value in constants.items()]),
        opset_imports=[helper.make_opsetid("", _OPSET),
                       helper.make_opsetid("ai.onnx.ml", _ML_OPSET)],
        producer_name="earthprint")
    model.ir_version = _IR
    return model


def _session(raw: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(threads, 1)
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
