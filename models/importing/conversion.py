"""Recognised weights to an encoder of our own: centred, exported, compared with the original."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .. import catalogue
from ..cards import Card
from ..cube import Cube
from ..training.export import Exportable, Inputs, centred, measured_export
from .recognition import Recognised

_ROWS = 2048  # features from which the mean is taken
_SECONDS = 90.0  # after which the mean is taken from what there is
_CHECKED = 3  # calls with real input on which both runtimes must agree
_CHECKED_ROWS = 32
_BATCH = 256


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        card: of the encoder, with its hash.
        difference: largest difference between torch and ONNX Runtime.
        inputs: calls that were compared.
        rows: features from which the mean was taken; 0 where it was not.
    """

    card: Card
    difference: float
    inputs: int
    rows: int


def convert(found: Recognised, variant: str, card: Card, path: Path, cubes: Iterable[Cube],
            place: str, say: Callable[[float, str], None]) -> Imported:
    """Write recognised weights as an encoder.

    Args:
        found: the weights.
        variant: one of `found.variants`, or "".
        card: of the encoder, with name and source.
        path: of the ONNX file.
        cubes: typical input, windows of the card's size (any size for an encoder of pixels); may
            be empty.
        place: what they show, for the card.
        say: told the share that is done, 0..1, and what is being done; may raise to stop.

    Raises:
        ValueError: the exported graph computes something else than torch.
    """
    say(0.0, "Building the network")
    exportable = found.exportable(variant)
    features, real = _observe(exportable, card, cubes, lambda done: say(
        0.1 + 0.5 * done, "Measuring the mean of features"))  # fmt: skip
    mean = vectors = None
    rows = len(features)
    if rows:
        mean = features.mean(dim=0)
        vectors = functional.normalize(features - mean, dim=-1)
        said = f" The mean of {rows} features of {place} is subtracted."
    else:
        said = " No mean is subtracted, and the scale of codes is that of random input."
    card = replace(card, normalisation=card.normalisation + said)
    exportable = replace(exportable, examples=exportable.examples + real)
    encoder, card = centred(exportable, mean, card, vectors)
    say(0.6, "Writing the encoder")
    card, difference = measured_export(
        encoder, card, path, exportable.axes, exportable.examples,
        lambda done: say(0.8 + 0.2 * done, "Comparing it with the original"))
    say(1.0, "Written")
    return Imported(card, difference, len(exportable.examples), rows)


def _observe(exportable: Exportable, card: Card, cubes: Iterable[Cube],
             say: Callable[[float], None]) -> tuple[Tensor, tuple[Inputs, ...]]:
    """Features (n, d) of typical input, and some of the inputs with few rows."""
    adapter, module = catalogue.adapter_of(card), exportable.module.eval()
    features: list[Tensor] = []
    real: list[Inputs] = []
    rows, start = 0, time.monotonic()
    for cube in cubes:
        for batch in adapter.batches(cube, _BATCH, card):
            inputs = tuple(torch.from_numpy(np.ascontiguousarray(batch.inputs[name]))
                           for name in exportable.axes)  # fmt: skip
            with torch.no_grad():
                given = module(*inputs).float().reshape(len(batch.pixels), -1)
            given = given[torch.from_numpy(batch.pixels >= 0)]
            features.append(given[torch.isfinite(given).all(dim=1)])
            rows += len(features[-1])
            if len(real) < _CHECKED:
                real.append(tuple(x[:_CHECKED_ROWS].clone() for x in inputs))
            spent = time.monotonic() - start
            say(min(max(rows / _ROWS, spent / _SECONDS), 1.0))
            if rows >= _ROWS or spent > _SECONDS:
                return torch.cat(features), tuple(real)
    return torch.cat(features) if features else torch.zeros(0, card.dimensions), tuple(real)
