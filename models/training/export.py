"""A trained trunk to an ONNX encoder with its card, checked against torch before it is kept."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from ..cards import Card, write_card
from ..fast.adapter import COLUMNS, INPUT
from ..fast.network import Encoder
from ..timegrid import STEPS

LOG = logging.getLogger(__name__)
_TOLERANCE = 1e-4
_HELD = 99.995  # percent of the components that 8-bit codes hold without clipping


def code_scale(encoder: Encoder, grid: torch.Tensor) -> float:
    """The scale of the 8-bit codes of embeddings, from inputs (n, 24, 20) of the training pool."""
    with torch.inference_mode():
        vectors = torch.cat([encoder(part) for part in grid.split(4096)])
    return float(np.percentile(vectors.abs().numpy(), _HELD)) / 127


def export(encoder: Encoder, card: Card, path: Path, real: np.ndarray) -> Card:
    """Write the encoder as an ONNX file and return its card with the weights' hash.

    Args:
        encoder: in evaluation mode.
        card: without a hash.
        path: the file, replaced at the end only.
        real: (n, 24, 20) inputs on which both runtimes must agree.

    Raises:
        ValueError: the exported graph computes something else.
    """
    encoder = encoder.eval()
    part = path.with_suffix(".part.onnx")
    try:
        torch.onnx.export(
            encoder, (torch.zeros(2, STEPS, COLUMNS),), str(part), dynamo=False, opset_version=17,
            input_names=[INPUT], output_names=["embedding"],
            dynamic_axes={INPUT: {0: "pixels"}, "embedding": {0: "pixels"}},
        )  # fmt: skip
        card = write_card(part, card)
        check(encoder, part, real)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    LOG.info("%s: %s, %.2f MB", path, card.identity, path.stat().st_size / 1e6)
    return card


def check(encoder: Encoder, path: Path, real: np.ndarray) -> None:
    """Compare torch and ONNX Runtime on random and real inputs and several batch sizes."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(0).normal(size=(257, STEPS, COLUMNS)).astype(np.float32)
    for inputs in (noise, noise[:1], noise[:2], noise[:64], real[:1000], np.zeros_like(noise[:3])):
        with torch.no_grad():
            expected = encoder(torch.from_numpy(inputs)).numpy()
        (found,) = session.run(["embedding"], {INPUT: inputs})
        difference = float(np.abs(found - expected).max())
        if difference > _TOLERANCE or not np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4):
            raise ValueError(f"{path} differs from torch by {difference:.2g} on {len(inputs)} rows")
