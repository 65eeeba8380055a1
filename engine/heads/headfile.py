"""The file of a head: a checked ONNX graph with what it means in its metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from ..errors import UserError
from .standard import constant

CARD_KEY, GATE_KEY = "earthprint_card", "earthprint_gate"
Card = TypeVar("Card")

_OPSET, _ML_OPSET, _IR = 17, 3, 8  # read by onnxruntime 1.19 and later
_TOLERANCE = 1e-4  # of what file and trained model answer, over the size of the answers
_TURN = 0.02  # what one tree among many may change where rounding turns it the other way
_BATCH = 1024  # rows at a time: distances to all neighbours then take 16 MB


class HeadFile:
    """An opened head file: its metadata, and what its graph answers."""

    def __init__(self, path: Path, session: onnxruntime.InferenceSession) -> None:
        self.path, self._session = path, session
        self.metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
        self._output = session.get_outputs()[0]

    @classmethod
    def open(cls, path: Path, threads: int = 1) -> HeadFile:
        """Open a file; a `UserError` says why it cannot be a head."""
        path = Path(path)
        if not path.exists():
            raise UserError(f"The head {path.name} was not found in {path.parent}. "
                            "Choose the file again.")
        try:
            return cls(path, _session(path.read_bytes(), threads))
        except Exception as error:  # onnxruntime has a class of its own for every refusal
            raise UserError(f"{path.name} cannot be read as a head "
                            f"({str(error).splitlines()[0]}). Train it again.") from error

    @property
    def kind(self) -> str:
        """What the card says that the file is; "" without a card."""
        try:
            return str(json.loads(self.metadata[CARD_KEY])["kind"])
        except (KeyError, TypeError, json.JSONDecodeError):
            return ""

    def card(self, read: Callable[[str], Card]) -> Card:
        """The card, as `read` makes it of JSON; a `UserError` where it is not a head's."""
        try:
            return read(self.metadata[CARD_KEY])
        except (KeyError, ValueError) as error:
            raise UserError(f"{self.path.name} is not an Earthprint head ({error}). "
                            "Choose a file made by Train head.") from error

    def run(self, features: np.ndarray) -> np.ndarray:
        """(n, targets) float32 from (n, k) features, batch by batch."""
        if not len(features):
            return np.zeros((0, self._output.shape[1]), np.float32)
        features = np.ascontiguousarray(features, np.float32)
        return np.concatenate([
            self._session.run([self._output.name],
                              {"features": features[start:start + _BATCH]})[0]
            for start in range(0, len(features), _BATCH)])

    def image(self, features: np.ndarray) -> np.ndarray:
        """(rows, cols, targets) float32 of a graph of images, from (rows + 2 margin, ..., k)."""
        block = np.ascontiguousarray(features.transpose(2, 0, 1)[None], np.float32)
        return self._session.run([self._output.name], {"features": block})[0][0].transpose(1, 2, 0)


def card_of(text: str, kind: str, make: Callable[[dict], Card]) -> Card:
    """A card of a kind, as `make` makes it of its JSON values.

    Raises:
        ValueError: the card is of another kind, or incomplete.
    """
    try:
        values = json.loads(text)
        if values["kind"] != kind:
            raise ValueError(f"the card is not that of a {kind}")
        return make(values)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"the card is incomplete ({error})") from error


def build(nodes: Sequence[onnx.NodeProto], constants: dict[str, np.ndarray], features: int,
          output: str, targets: int, margin: int = 0) -> onnx.ModelProto:
    """A model from "features" (n, features) to `output` (n, targets).

    With a margin, of images: (1, features, rows + 2 margin, cols + 2 margin) to
    (1, targets, rows, cols).
    """
    into, out = (([1, features, "height", "width"], [1, targets, "rows", "cols"]) if margin
                 else (["n", features], ["n", targets]))
    model = helper.make_model(
        helper.make_graph(
            nodes, "head",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, into)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, out)],
            [constant(name, value) for name, value in constants.items()]),
        opset_imports=[helper.make_opsetid("", _OPSET),
                       helper.make_opsetid("ai.onnx.ml", _ML_OPSET)],
        producer_name="earthprint")
    model.ir_version = _IR
    return model


def write(path: Path, model: onnx.ModelProto, card: str, gate: str, check: np.ndarray,
          expected: np.ndarray) -> None:
    """Write a head under a temporary name, check it, and rename it.

    Args:
        path: of the finished file.
        model: the graph.
        card, gate: for the metadata.
        check: features, shaped as the graph takes them, on which the file must answer as expected.
        expected: answers of the trained model.

    Raises:
        RuntimeError: file and model differ by more than 1e-4 of the largest answer, or of 1, on
            more than one in a hundred samples; or anywhere by more than a tree can.
    """
    helper.set_model_props(model, {CARD_KEY: card, GATE_KEY: gate})
    raw = model.SerializeToString()
    written = _session(raw, 1).run(None, {"features": check.astype(np.float32)})[0]
    difference = np.abs(expected - written).max(1) / max(1.0, float(np.abs(expected).max()))
    differing = int((difference > _TOLERANCE).sum())
    if differing > max(1, difference.size // 100) or difference.max() > _TURN:
        raise RuntimeError(f"the written head differs from the trained one by "
                           f"{difference.max():.2g}, on {differing} of {difference.size} samples")
    part = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.part")
    try:
        part.write_bytes(raw)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _session(raw: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(threads, 1)
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
