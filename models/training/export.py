"""A trained encoder to an ONNX file with its card, checked against torch before it is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..cards import Card, replacing, write_card

LOG = logging.getLogger(__name__)
_TOLERANCE = 1e-4
_HELD = 99.995  # percent of the components that 8-bit codes hold without clipping
_HEADROOM = 1.25  # of codes whose scale was measured on few vectors

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


class Centred(nn.Module):
    """Raw features to unit vectors around a mean."""

    def __init__(self, module: nn.Module, mean: Tensor) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", mean.detach().clone().float())

    def forward(self, *inputs: Tensor) -> Tensor:
        """Features (n, d) to (x - mean) / |x - mean|."""
        return functional.normalize(self.module(*inputs).float() - self.mean, dim=-1)


def code_scale(vectors: Tensor) -> float:
    """The scale of 8-bit codes that clips less than 0.01 % of the components of (n, d) vectors."""
    return float(np.percentile(vectors.abs().numpy(), _HELD)) / 127


def finish(exportable: Exportable, mean: Tensor | None, card: Card, path: Path,
           vectors: Tensor | None = None) -> Card:
    """Write raw features as an encoder of unit vectors and return its card.

    Args:
        exportable: the network that gives raw features (n, d).
        mean: (d,) mean feature, subtracted in the graph; None leaves the features where they are.
        card: its hash and its scale of codes are set here.
        path: the ONNX file; weights above `cards.EXTERNAL` bytes lie beside it, in `path`.data.
        vectors: (n, d) unit vectors of typical input that the scale of codes is measured on; None
            measures it on the examples, with headroom.

    Raises:
        ValueError: the exported graph computes something else than torch.
    """
    encoder, card = centred(exportable, mean, card, vectors)
    return export(encoder, card, path, exportable.axes, exportable.examples)


def centred(exportable: Exportable, mean: Tensor | None, card: Card,
            vectors: Tensor | None = None) -> tuple[Centred, Card]:
    """The encoder of unit vectors and its card with the scale of codes; arguments of `finish`."""
    if mean is None:
        mean = torch.zeros(card.dimensions)
    encoder = Centred(exportable.module, mean).eval()
    headroom = 1.0
    if vectors is None:
        with torch.no_grad():
            vectors = torch.cat([encoder(*inputs) for inputs in exportable.examples])
        headroom = _HEADROOM
    scale = min(headroom * code_scale(vectors), 1 / 127)
    return encoder, replace(card, code_scale=scale, weights_sha256="")


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
    return measured_export(encoder, card, path, axes, examples)[0]


def measured_export(encoder: nn.Module, card: Card, path: Path, axes: dict[str, dict[int, str]],
                    examples: Sequence[Inputs], say: Callable[[float], None] = lambda _done: None
                    ) -> tuple[Card, float]:
    """As `export`, with the largest difference between torch and ONNX Runtime.

    `say` is told the share of the examples that were compared; may raise to stop.
    """
    encoder = encoder.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        torch.onnx.export(
            encoder, examples[0], str(part), dynamo=False, opset_version=17,
            input_names=list(axes), output_names=["embedding"],
            dynamic_axes={**axes, "embedding": {0: "pixels"}},
        )  # fmt: skip
        card = write_card(part, card)
        difference = check(encoder, part, examples, say)
    LOG.info("%s: %s, %.2f MB", path, card.identity, path.stat().st_size / 1e6)
    return card, difference


def check(encoder: nn.Module, path: Path, examples: Sequence[Inputs],
          say: Callable[[float], None] = lambda _done: None) -> float:
    """Compare torch and ONNX Runtime on every example and return the largest difference.

    Raises:
        ValueError: they differ, or the vectors are not of norm 1.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    largest = 0.0
    for done, inputs in enumerate(examples):
        say(done / len(examples))
        with torch.no_grad():
            expected = encoder(*inputs).numpy()
        (found,) = session.run(
            ["embedding"], {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
        difference = float(np.abs(found - expected).max(initial=0))
        if not difference <= _TOLERANCE or not np.allclose(
            np.linalg.norm(found, axis=1), 1, atol=1e-4
        ):
            raise ValueError(f"{path} differs from torch by {difference:.2g} on {len(found)} rows")
        largest = max(largest, difference)
    return largest
