"""AnySat for ONNX: a row for every sub-patch, as the authors map with it.

A row is the patch's vector beside the sub-patch's own ("dense"). The sub-patch is the setup's first
sensor's, or the next one's where that has seen nothing of the patch. Sensors without observations
are hidden from all attention, which is the same as leaving them out.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..training.export import Exportable
from .adapter import DEFAULT, FEEDS, SETUPS, Setup
from .network import AnySat, Config
from .projectors import ImageSensor, row_by_row


class DenseFeatures(nn.Module):
    """The adapter's inputs, in its order, to rows (n, 2D)."""

    def __init__(self, network: AnySat, setup: Setup) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        self.setup = setup
        self.names = input_names(network.config, setup)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Windows one after the other, sub-patches row by row."""
        network, scale = self.network, self.setup.scale
        given = dict(zip(self.names, inputs, strict=True))
        found = network.embed(given, scale)
        visible = network.observed(given, found)
        rows = network.rows(found, scale, visible)
        parts = found[self.setup.feeds[-1]].parts
        for name in reversed(self.setup.feeds[:-1]):
            parts = torch.where(visible[name][:, :, None, None], found[name].parts, parts)
        sensor = network.config.sensors[self.setup.feeds[0]]
        if isinstance(sensor, ImageSensor):
            parts = row_by_row(parts, scale, sensor.parts)
        return network.dense(rows, parts).flatten(0, 2)


def input_names(config: Config, setup: Setup) -> list[str]:
    """The adapter's inputs of a setup, in their order."""
    names: list[str] = []
    for name in setup.feeds:
        image = isinstance(config.sensors[name], ImageSensor)
        names += [name] if image else [name, f"{name}_dates", f"{name}_mask"]
    return names


def exportable(network: AnySat, config: Config, setup: str = DEFAULT, window: int = 0
               ) -> Exportable:
    """The network for windows of a setup, any number of windows and dates.

    Args:
        network: of this configuration; projectors of other sensors are left out.
        config: of the network.
        setup: one of `adapter.SETUPS`.
        window: side in pixels, if it is not the setup's.

    Raises:
        ValueError: if the weights lack a sensor of the setup.
    """
    chosen = SETUPS[setup]
    if lacking := [name for name in chosen.feeds if name not in config.sensors]:
        raise ValueError(
            f"These weights of AnySat have no projector for {', '.join(lacking)}, which the setup "
            f"'{setup}' needs."
        )
    module = DenseFeatures(network, chosen)
    for name in config.sensors:
        if name not in chosen.feeds:
            delattr(module.network, f"projector_{name}")
    axes: dict[str, dict[int, str]] = {}
    for name in module.names:
        axes[name] = {0: "windows"}
        if not isinstance(config.sensors[name.split("_")[0]], ImageSensor):
            axes[name][1] = f"{name.split('_')[0]}_dates"
    side = window or chosen.window
    examples = tuple(_example(config, chosen, side, n, t) for n, t in ((1, 3), (2, 5), (1, 1)))
    return Exportable(module.eval(), axes, examples)


def _example(config: Config, setup: Setup, side: int, windows: int, dates: int
             ) -> tuple[Tensor, ...]:
    """Random inputs; the last sensor of several has seen nothing of the last window's corner."""
    generator = torch.Generator().manual_seed(dates)
    inputs: list[Tensor] = []
    for i, name in enumerate(setup.feeds):
        bands = len(FEEDS[name].bands)
        if isinstance(config.sensors[name], ImageSensor):
            inputs.append(torch.randn(windows, bands, side, side, generator=generator))
            continue
        count = dates + i
        mask = torch.rand(windows, count, 1, side, side, generator=generator) < 0.8
        if i:
            mask[-1, :, :, : side // 2, : side // 2] = False
        inputs += [
            torch.randn(windows, count, bands, side, side, generator=generator),
            torch.randint(1, 366, (windows, count), generator=generator), mask,
        ]  # fmt: skip
    return tuple(inputs)
