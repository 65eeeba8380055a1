"""An encoder at work: an ONNX graph, its card and its adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from ...models import catalogue
from ...models.cards import Card, read_card
from .. import environment
from ..errors import UserError


@dataclass(frozen=True)
class Encoder:
    """An opened encoder; `run` may be called from several threads at once.

    Attributes:
        card: what it is.
        adapter: module with `missing` and `batches`, see `models/cube.py`.
        session: ONNX Runtime's session.
    """

    card: Card
    adapter: object
    session: onnxruntime.InferenceSession

    @classmethod
    def open(cls, name: str, device: str = "auto", threads: int = 1) -> Encoder:
        """Open a bundled encoder by name ("automatic" is the default one) or a file by path.

        Args:
            name: of a bundled encoder, or a path to an ONNX file with a card.
            device: "auto", "cpu" or "cuda"; "cuda" fails rather than falling back unseen.
            threads: processors that one call of a patch encoder uses; a pixel encoder's call
                uses one, since its callers are many.

        Raises:
            UserError: no such encoder, no card, or no usable GPU.
        """
        known = catalogue.bundled([environment.models_folder()])
        path = known.get(catalogue.DEFAULT if name.lower() == "automatic" else name, Path(name))
        if not path.is_file():
            raise UserError(f"There is no encoder {name}. Choose one of {', '.join(known)}.")
        try:
            card = read_card(path)
            adapter = catalogue.adapter_of(card)
        except ValueError as failure:
            raise UserError(str(failure)) from failure
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads if card.unit == "patch" else 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=_providers(device))
        return cls(card, adapter, session)

    def missing(self, sensors: dict[str, tuple[str, ...]]) -> list[str]:
        """What a stack with these bands lacks, in sentences; empty where it can be encoded."""
        return self.adapter.missing(sensors, self.card)

    def run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """(n, d) float32 unit vectors for the graph's inputs (first axis n)."""
        return self.session.run(["embedding"], inputs)[0]


def _providers(device: str) -> list[str]:
    there = onnxruntime.get_available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in there:
        raise UserError("No usable GPU: this environment has ONNX Runtime for the CPU. "
                        "Choose Device CPU.")
    gpu = ["CUDAExecutionProvider"] if device != "cpu" and "CUDAExecutionProvider" in there else []
    return [*gpu, "CPUExecutionProvider"]
