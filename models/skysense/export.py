"""SkySense as a graph for ONNX: one window in, a feature for each patch or pixel out.

The window is fixed at export, so that position tables and window masks become constants; numbers of
windows and of dates stay free. Single branches give the mean over the dates on which a patch is
seen, fused ones the class-token map. A SkySense++ sees images with all labels hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..training.export import Exportable
from .adapter import PIXELS
from .completion import SENSORS
from .network import Config, SkySense
from .plusplus import PlusConfig, SkySensePlusPlus

Network = SkySense | SkySensePlusPlus


def window_of(config: Config) -> int:
    """Side of the window in pixels.

    The HR branch and SkySense++ were trained on 512 pixels and 16 Sentinel pixels, SkySense on 64
    Sentinel pixels. A SkySense++ with extra attention takes 256: it looks at all tokens at once.
    """
    plus = isinstance(config, PlusConfig)
    if "hr" in config.use:
        heavy = plus and config.hr_labels.attention
        least = 8 * PIXELS if heavy else 16 * PIXELS
        return max(least, config.hr.windows[-1] * PIXELS)
    return 16 if plus else 64


def patch_of(config: Config) -> int:
    """Side in pixels of what one feature stands for."""
    if "hr" in config.use:
        return PIXELS
    return 1 if "+" in config.use else getattr(config, config.use).patch


def rows(x: Tensor) -> Tensor:
    """(N, D, h, w) to (N h w, D)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


class Branch(nn.Module):
    """A Sentinel branch: mean over the dates."""

    def __init__(self, network: Network, sensor: str) -> None:
        super().__init__()
        self.backbone = network.get_submodule(f"backbone_{sensor}")
        self.patch = self.backbone.config.patch

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x (N, bands, T, h, w), seen (N, T, h, w) bool to (N h/4 w/4, D)."""
        maps = self.backbone(x.transpose(1, 2).flatten(0, 1))
        last = maps[max(maps)]
        last = last.reshape(-1, x.shape[2], *(int(side) for side in last.shape[1:]))
        weight = nn.functional.max_pool2d(seen.to(x.dtype), self.patch)[:, :, None]
        return rows((last * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1))


class Picture(nn.Module):
    """The HR branch: its last stage."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.backbone = network.backbone_hr

    def forward(self, hr: Tensor) -> Tensor:
        """(N, 3, H, W) to (N H/32 W/32, C)."""
        maps = self.backbone(hr)
        return rows(maps[max(maps)])


class Fused(nn.Module):
    """SkySense's fusion, with the inputs in the adapter's order."""

    def __init__(self, network: SkySense) -> None:
        super().__init__()
        self.network = network
        self.names = _names(network.config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The tensors named by `names` to (N h w, D)."""
        return rows(self.network(dict(zip(self.names, inputs, strict=True))).fused)


class Completed(nn.Module):
    """SkySense++'s fusion, absent sensors completed, labels hidden."""

    def __init__(self, network: SkySensePlusPlus) -> None:
        super().__init__()
        self.network = network
        self.names = _names(network.config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The tensors named by `names` to (N h w, D)."""
        given = dict(zip(self.names, inputs, strict=True))
        network, maps = self.network, {}
        own = {s: network.sentinel(s, given[s][:, :, 0]) for s in ("s2", "s1")}
        if "hr" in given:
            maps = network.high_resolution(given["hr"])
            own["hr"] = maps[max(maps)]
        else:
            own["hr"] = torch.zeros_like(own["s2"])  # completed: its flag is False
        return rows(network.fuse(own, given["present"], maps).fused)


def _names(config: Config) -> tuple[str, ...]:
    """Inputs in the adapter's order."""
    branches = config.use.split("+")
    if isinstance(config, PlusConfig) and len(branches) > 1:
        return (*branches, "present")
    if branches == ["hr"]:
        return ("hr",)
    day = ("s2_day",) if "s2" in branches and len(branches) > 1 else ()
    return (*branches, *(f"{b}_seen" for b in branches), *day)


def exportable(network: Network, config: Config) -> Exportable:
    """The graph of a configuration's use, and inputs on which to check it."""
    branches = config.use.split("+")
    if len(branches) > 1:
        module = (Completed if isinstance(config, PlusConfig) else Fused)(network)
    elif config.use == "hr":
        module = Picture(network)
    else:
        module = Branch(network, config.use)
    free = {"hr": {0: "windows"}, "hr_seen": {0: "windows"}, "present": {0: "windows"}}
    several = not (isinstance(config, PlusConfig) and len(branches) > 1)
    for sensor in ("s2", "s1"):
        dates = f"dates_{sensor}"
        free[sensor] = {0: "windows", 2: dates} if several else {0: "windows"}
        free[f"{sensor}_seen"] = {0: "windows", 1: dates}
    free["s2_day"] = {0: "windows", 1: "dates_s2"}
    axes = {name: free[name] for name in _names(config)}
    lengths = ((2, 3), (1, 1), (5, 2)) if several else ((1, 1), (1, 1))
    examples = tuple(_example(config, n, t2, t1) for n, (t2, t1) in zip((1, 2, 1), lengths,
                                                                        strict=False))
    return Exportable(module.eval(), axes, examples)


def _example(config: Config, n: int, s2_dates: int, s1_dates: int) -> tuple:
    """Random inputs of n windows."""
    draw = torch.Generator().manual_seed(n + 10 * s2_dates)
    window, sides = window_of(config), {}
    grid = window // PIXELS if "hr" in config.use else window
    for sensor, dates in zip(SENSORS, (1, s2_dates, s1_dates), strict=True):
        branch = getattr(config, sensor)
        if branch and sensor == "hr":
            sides["hr"] = torch.randn(n, branch.channels, window, window, generator=draw)
        elif branch:
            sides[sensor] = torch.randn(n, branch.channels, dates, grid, grid, generator=draw)
        sides[f"{sensor}_seen"] = torch.rand(n, dates, grid, grid, generator=draw) < 0.7
    sides["s2_day"] = torch.randint(0, 365, (n, s2_dates), generator=draw)
    sides["present"] = torch.rand(n, 3, generator=draw) < 0.6
    if "hr" not in config.use:
        sides["present"][:, 0] = False
    return tuple(sides[name] for name in _names(config))
