"""Pretraining of MM-VSF in its two phases.

Notes on the paper: first masked reconstruction, then forecasting over a step that varies with every
sample, with the weather up to the target day. Mask ratios, horizons and weights are our reading:
half of the patches are hidden, horizons are as the dates fall, and both losses are mean squared
errors over pixels that were seen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .network import MMVSF

_HIDDEN = 0.5  # share of patches that the first phase hides
_FIRST_PHASE = 0.2  # of all steps
_CONTEXT = (1, 12)  # input dates of a forecast


class VariableStepForecasting(nn.Module):
    """Forecast a later date of a series; at first also what was hidden of its own dates.

    Args:
        encoder: to train.
    """

    def __init__(self, encoder: MMVSF) -> None:
        super().__init__()
        self.encoder = encoder
        self.reconstructing = True

    def update(self, progress: float) -> None:
        """Leave the first phase when its share of the steps is done."""
        self.reconstructing = progress < _FIRST_PHASE

    def forward(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of a batch of whole series, as `MMVSF.encode` takes them."""
        given, target = split(inputs, generator)
        forecast = self.encoder.forecast(self.encoder.encode(**given), given["start"],
                                         target["days"])
        parts = {"forecast": error(forecast, target["images"], target["seen"])}
        if self.reconstructing:
            parts["reconstruction"] = self._reconstruction(given, generator)
        return {**parts, "loss": sum(parts.values())}

    def _reconstruction(self, given: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """Error of the hidden patches, painted from the sequence's own embeddings."""
        images, patch = given["images"], self.encoder.config.patch
        b, t, _, height, width = images.shape
        grid = height // patch, width // patch
        hidden = torch.rand(b, t, grid[0] * grid[1], generator=generator) < _HIDDEN
        embeddings = self.encoder.encode(**given, hidden=hidden).embeddings
        painted = self.encoder.paint(embeddings.transpose(1, 2).flatten(0, 1)).unflatten(0, (b, t))
        pixels = hidden.unflatten(2, grid).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
        return error(painted.flatten(0, 1), images.flatten(0, 1),
                     (given["seen"] * pixels).flatten(0, 1))


def error(forecast: Tensor, truth: Tensor, seen: Tensor) -> Tensor:
    """Mean squared error of (B, C, H, W) over the pixels seen (B, H, W)."""
    squared = (forecast - truth).square().mean(dim=1)
    return (squared * seen).sum() / seen.sum().clamp(min=1)


def split(inputs: dict[str, Tensor], generator: torch.Generator
          ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Some dates to look at and a later one to forecast, drawn for each sample.

    Returns:
        inputs in which all other dates are not seen; and images, seen, days of the target.
    """
    seen = inputs["seen"]
    share = seen.flatten(2).mean(dim=2)
    usable = share > 0.3
    b, t = usable.shape
    chance = torch.rand(b, t, generator=generator)
    order = torch.arange(t)
    # the target is any usable date but the first; without two of them it is the last date
    first = torch.where(usable, order, t).amin(dim=1, keepdim=True)
    target = torch.where(usable & (order > first), chance, chance - 2).argmax(dim=1)
    before = usable & (order < target[:, None])
    most = torch.randint(_CONTEXT[0], _CONTEXT[1] + 1, (b, 1), generator=generator)
    rank = torch.where(before, torch.rand(b, t, generator=generator), torch.full((b, t), 2.0))
    kept = before & (rank.argsort(dim=1).argsort(dim=1) < most)
    given = {**inputs, "seen": seen * kept[:, :, None, None]}
    rows = torch.arange(b)
    wanted = {"images": inputs["images"][rows, target], "seen": seen[rows, target],
              "days": inputs["days"][rows, target]}
    # a sample without anything to look at teaches nothing
    wanted["seen"] = wanted["seen"] * kept.any(dim=1)[:, None, None]
    return given, wanted
