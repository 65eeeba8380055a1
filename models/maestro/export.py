"""MAESTRO for ONNX: a row for each token of the finest input.

The authors give no way to embed; a row is the mean over all inputs and dates of the features at a
place, which is what their linear head reads, with tokens that do not exist left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..training.export import Exportable
from .adapter import REFERENCE
from .heads import on_grid
from .network import Config, Encoder, build


class PlaceFeatures(nn.Module):
    """The adapter's inputs, in its order, to rows (n, D)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.inputs = encoder.config.layout.inputs
        self.grid = max(given.grid for given in self.inputs.values())

    def forward(self, *inputs: Tensor) -> Tensor:
        """Windows one after the other, places row by row."""
        given = dict(zip(input_names(self.encoder.config), inputs, strict=True))
        visible = {
            name: given[f"{name}_visible"].repeat(1, len(i.bands), 1)
            for name, i in self.inputs.items()
        }
        features = self.encoder(given, visible)
        total = count = 0.0
        for name, x in features.items():
            there = visible[name][..., None].to(x.dtype)
            total = total + on_grid((x * there).sum(dim=1, keepdim=True), self.grid)
            count = count + on_grid(there.sum(dim=1, keepdim=True), self.grid)
        return (total / count.clamp(min=1e-6)).flatten(0, 2)


def input_names(config: Config) -> list[str]:
    """The adapter's inputs, in their order."""
    names = [n + end for n in config.layout.inputs for end in ("", "_dates", "_visible")]
    return [*names, REFERENCE]


def exportable(network: Encoder, config: Config, inputs: Sequence[str] = ()) -> Exportable:
    """The network for some of its inputs, any number of windows and dates.

    Args:
        network: of this configuration; what other inputs need is left out.
        config: of the network.
        inputs: names; by default the series of Sentinel-2 and Sentinel-1.

    Raises:
        ValueError: for an input that the layout lacks.
    """
    small = replace(config, layout=config.layout.only(inputs or config.layout.series))
    encoder = build(small)
    state = network.state_dict()
    encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})
    axes: dict[str, dict[int, str]] = {}
    for name in input_names(small):
        axes[name] = {0: "windows"}
        if name != REFERENCE:
            axes[name][1] = f"{name.removesuffix('_visible').removesuffix('_dates')}_dates"
    examples = tuple(_example(small, windows, dates) for windows, dates in ((1, 3), (2, 5), (1, 1)))
    return Exportable(PlaceFeatures(encoder).eval(), axes, examples)


def _example(config: Config, windows: int, dates: int) -> tuple[Tensor, ...]:
    """Random inputs; the first token of the last input of several was never seen."""
    generator = torch.Generator().manual_seed(dates)
    found: list[Tensor] = []
    for i, given in enumerate(config.layout.inputs.values()):
        count = min(dates + i, given.dates)
        visible = torch.rand(windows, count, given.grid**2, generator=generator) < 0.8
        visible[:, 0] = True
        if i:
            visible[-1, :, 0] = False
        day = torch.randint(1, 366, (windows, count, 1), generator=generator)
        when = torch.cat([torch.full_like(day, 2020), day, torch.zeros_like(day)], dim=2)
        shape = (windows, count, sum(given.bands), given.image, given.image)
        found += [torch.randn(shape, generator=generator), when, visible]
    return (*found, torch.tensor([[[2020, 183, 0]]]).repeat(windows, 1, 1))
