"""The objective of SkySense++: fill in the hidden part of a label map (semantic enhancement).

A canvas of two images, one above the other, enters with its labels, whose classes were given random
words; a part of the labels is hidden, and the decoder must name every pixel. Features of sensors
that are absent are completed, which has a loss of its own.

The published pretraining cuts its canvas from a grid of eight images of one class; here a canvas is
two images of the batch, so a batch should hold images that share classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .completion import completion_loss
from .plusplus import SkySensePlusPlus

_QUERY = 0.3  # share of canvases whose lower image is hidden, the others lose random blocks
_HIDDEN = 0.5  # share of cells that random blocks hide
_ASPECT = (0.3, 3.3)
_SMALLEST = 4  # cells of a block
_TRIES = 10
_FEWEST = 4  # windows of a batch: one canvas leaves a single value to a batch norm


def balanced_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of all pixels: half the mean over labels > 0, half that over label 0.

    Args:
        logits: (N, words + 1, H, W).
        labels: (N, H, W) int.
    """
    error = functional.cross_entropy(logits, labels.long(), reduction="none")
    named = (labels > 0).to(error.dtype)
    halves = [(error * part).sum() / part.sum().clamp(min=1) for part in (named, 1 - named)]
    return 0.5 * (halves[0] + halves[1])


def masked_loss(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of the hidden pixels only; mask (N, H, W), 1 where the label was hidden."""
    error = functional.cross_entropy(logits, labels.long(), reduction="none")
    hidden = mask.to(error.dtype)
    return (error * hidden).sum() / hidden.sum().clamp(min=1)


def anonymous(labels: Tensor, words: int, generator: torch.Generator) -> Tensor:
    """Classes (...) as random words 1 .. `words`; 0, no label, stays 0.

    Raises:
        ValueError: more classes than words.
    """
    classes = labels[labels != 0].unique()
    if len(classes) > words:
        raise ValueError(f"SkySense++ knows {words} words, the batch has {len(classes)} classes")
    order = torch.randperm(words, generator=generator, device=generator.device) + 1
    names = order[: len(classes)].to(labels.device)
    named = torch.zeros_like(labels, dtype=torch.long)
    found = labels != 0
    named[found] = names[torch.searchsorted(classes, labels[found])]
    return named


def hide(rows: int, cols: int, generator: torch.Generator) -> Tensor:
    """(rows, cols) of 0 and 1: the lower half of a canvas, or random blocks over half of it."""

    def draw(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator,
                                               device=generator.device).item()

    mask = torch.zeros(rows, cols)
    if draw(0, 1) < _QUERY:
        mask[rows // 2 :] = 1
        return mask
    goal = max(round(_HIDDEN * rows * cols), 1)
    for _ in range(_TRIES * rows * cols):
        left = goal - int(mask.sum())
        if left <= 0:
            break
        area = draw(min(_SMALLEST, left), left)
        aspect = math.exp(draw(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        h = min(max(round(math.sqrt(area * aspect)), 1), rows)
        w = min(max(round(math.sqrt(area / aspect)), 1), cols)
        top, at = int(draw(0, rows - h + 1)), int(draw(0, cols - w + 1))
        mask[top : top + h, at : at + w] = 1
    return mask


class MaskedSemantics(nn.Module):
    """The objective: `encoder` is the whole network, decoder and completion included."""

    def __init__(self, encoder: SkySensePlusPlus) -> None:
        super().__init__()
        if encoder.config.decoder is None:
            raise ValueError("masked semantic learning needs a SkySense++ with its decoder")
        self.encoder = encoder

    def forward(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of a batch of windows: an even number of them, for two canvases or more.

        Args:
            inputs: what the adapter yields with use "hr+s2+s1": "hr", "s2", "s1", "present"; and
                "labels" (N, H, W) int on the HR pixels, classes of any number, 0 for none.
            generator: of words and hidden parts.

        Returns:
            "loss" and its parts "labels" and "completion".

        Raises:
            ValueError: an odd number of windows, or too few for the decoder's batch norms.
        """
        if len(inputs["labels"]) % 2 or len(inputs["labels"]) < _FEWEST:
            raise ValueError("SkySense++ learns from canvases of two windows, two canvases or more "
                             f"at a time: give an even number of windows, {_FEWEST} at least")
        canvas = {name: _stack(inputs[name]) for name in ("hr", "labels")}
        for sensor in ("s2", "s1"):
            canvas[sensor] = _stack(inputs[sensor][:, :, 0])
        present = inputs["present"].view(-1, 2, 3).all(dim=1)
        words = self.encoder.config.hr_labels.words
        labels = anonymous(canvas["labels"], words, generator)
        patch = self.encoder.config.s2.patch
        h, w = (side // patch for side in canvas["s2"].shape[-2:])
        mask = torch.stack([hide(h, w, generator) for _ in labels]).to(labels.device)
        features = self.encoder(canvas, present, labels, mask)
        logits = self.encoder.decode(features, tuple(labels.shape[1:]))
        parts = {"labels": balanced_loss(logits, labels)}
        if features.completed:
            parts["completion"] = completion_loss(features.completed, features.own, present)
        return {"loss": sum(parts.values()), **parts}


def _stack(x: Tensor) -> Tensor:
    """(2n, ..., h, w) to n canvases (n, ..., 2h, w): the even ones above the odd ones."""
    return torch.cat((x[::2], x[1::2]), dim=-2)
