"""SkySense V2 as a graph for ONNX: one window in, a feature for each patch out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..skysense.adapter import PIXELS
from ..training.export import Exportable
from .checkpoint import card_of
from .network import CHANNELS, Config, SkySenseV2


class Rows(nn.Module):
    """A network whose inputs come in the adapter's order."""

    def __init__(self, network: SkySenseV2) -> None:
        super().__init__()
        self.network = network
        self.names = _names(network.config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The tensors named by `names` to (N h w, D).

        The fused feature, or of a single sensor the mean over the dates on which a patch is seen.
        """
        given = dict(zip(self.names, inputs, strict=True))
        if self.names == ("hr",):
            feature = self.network.feature("hr", given["hr"])[:, 0]
        else:
            found = self.network(given)
            feature = found.fused
            if feature is None:
                (sensor,) = found.own
                weight = found.seen[sensor][:, :, None].to(torch.float32)
                total = (found.own[sensor] * weight).sum(dim=1)
                feature = total / weight.sum(dim=1).clamp(min=1)
        return feature.permute(0, 2, 3, 1).flatten(0, 2)


def _names(config: Config) -> tuple[str, ...]:
    branches = config.use.split("+")
    if branches == ["hr"]:
        return ("hr",)
    day = ("s2_day",) if len(branches) > 1 else ()
    return (*branches, *(f"{b}_seen" for b in branches), *day)


def exportable(network: SkySenseV2, config: Config, window: int = 0) -> Exportable:
    """The graph of a configuration's use for windows of one size, and inputs to check it.

    `window` is the side in pixels, if it is not that of the configuration's card.
    """
    free = {"hr": {0: "windows"}, "hr_seen": {0: "windows"},
            "s2_day": {0: "windows", 1: "dates_s2"}}
    for sensor in ("s2", "s1"):
        free[sensor] = {0: "windows", 2: f"dates_{sensor}"}
        free[f"{sensor}_seen"] = {0: "windows", 1: f"dates_{sensor}"}
    axes = {name: free[name] for name in _names(config)}
    window = window or card_of(config).window
    examples = tuple(_example(config, window, *sizes)
                     for sizes in ((1, 2, 3), (2, 1, 1), (1, 4, 2)))
    return Exportable(Rows(network).eval(), axes, examples)


def _example(config: Config, window: int, n: int, s2_dates: int, s1_dates: int
             ) -> tuple[Tensor, ...]:
    """Random inputs of n windows."""
    draw = torch.Generator().manual_seed(n + 10 * s2_dates)
    grid = window // PIXELS if "hr" in config.use else window
    given = {"hr": torch.randn(n, CHANNELS["hr"], window, window, generator=draw)}
    for sensor, dates in (("hr", 1), ("s2", s2_dates), ("s1", s1_dates)):
        if sensor != "hr":
            size = (n, CHANNELS[sensor], dates, grid, grid)
            given[sensor] = torch.randn(*size, generator=draw)
        given[f"{sensor}_seen"] = torch.rand(n, dates, grid, grid, generator=draw) < 0.7
    given["s2_day"] = torch.randint(0, 365, (n, s2_dates), generator=draw)
    return tuple(given[name] for name in _names(config))
