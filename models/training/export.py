"""A trained encoder to an ONNX file with its card, checked against torch before it is kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from ..cards import Card, write_card

LOG = logging.getLogger(__name__)
_TOLERANCE = 1e-4
_HELD = 99.995  # percent of the components that 8-bit codes hold without clipping

#: Inputs of one call, in the order of the graph's.
Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Exportable:
    """A network made ready for ONNX.

    Attributes:
        module: takes the adapter's inputs in their order, gives raw features (n, d).
        axes: name of each input to its free axes.
        examples: inputs of several lengths and sizes, on which both runtimes must agree.
    """

    module: nn.Module
    axes: dict[str, dict[int, str]]
    examples: tuple[Inputs, ...]


def code_scale(vectors: Tensor) -> float:
    """The scale of 8-bit codes that clips less than 0.01 % of the components of (n, d) vectors."""
    return float(np.percentile(vectors.abs().numpy(), _HELD)) / 127


def export(encoder: nn.Module, card: Card, path: Path, axes: dict[str, dict[int, str]],
           examples: Sequence[Inputs]) -> Card:
    """Write the encoder as an ONNX file and return its card with the weights' hash.

    Args:
        encoder: gives unit vectors (n, d).
        card: its hash is set here.
        path: the file, replaced at the end only.
        axes: name of each input to its free axes; axis 0 is "pixels".
        examples: inputs on which both runtimes must agree; the first one is traced.

    Raises:
        ValueError: the exported graph computes something else than torch.
    """
    encoder = encoder.eval()
    part = path.with_suffix(".part.onnx")
    try:
        torch.onnx.export(
            encoder, examples[0], str(part), dynamo=False, opset_version=17,
            input_names=list(axes), output_names=["embedding"],
            dynamic_axes={**axes, "embedding": {0: "pixels"}},
        )  # fmt: skip
        card = write_card(part, card)
        check(encoder, part, examples)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    LOG.info("%s: %s, %.2f MB", path, card.identity, path.stat().st_size / 1e6)
    return card


def check(encoder: nn.Module, path: Path, examples: Sequence[Inputs]) -> None:
    """Compare torch and ONNX Runtime on every example.

    Raises:
        ValueError: they differ, or the vectors are not of norm 1.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    for inputs in examples:
        with torch.no_grad():
            expected = encoder(*inputs).numpy()
        (found,) = session.run(
            ["embedding"], {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
        difference = float(np.abs(found - expected).max())
        if difference > _TOLERANCE or not np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4):
            raise ValueError(f"{path} differs from torch by {difference:.2g} on {len(found)} rows")
