"""MM-VSF for ONNX: the encoder that gives embeddings, and the whole of it that forecasts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..training.export import Exportable
from .network import MMVSF, Config

_AXES = {
    "images": {0: "windows", 1: "dates"}, "seen": {0: "windows", 1: "dates"},
    "weather": {0: "windows", 1: "days"}, "days": {0: "windows", 1: "dates"},
    "start": {0: "windows"},
}  # fmt: skip


class Embedding(nn.Module):
    """Each patch at the last date that was seen: (windows * patches, D)."""

    def __init__(self, network: MMVSF) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, seen: Tensor, weather: Tensor, days: Tensor, start: Tensor
                ) -> Tensor:
        """Inputs as `MMVSF.encode` takes them."""
        return self.network.encode(images, seen, weather, days, start).last.flatten(0, 1)


class Forecast(nn.Module):
    """The standardised image of the day with index `target`: (windows, C, H, W)."""

    def __init__(self, network: MMVSF) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, seen: Tensor, weather: Tensor, days: Tensor, start: Tensor,
                target: Tensor) -> Tensor:
        """Inputs as `MMVSF.encode` takes them, and the target's day (windows,)."""
        sequence = self.network.encode(images, seen, weather, days, start)
        return self.network.forecast(sequence, start, target)


def exportable(network: MMVSF, config: Config) -> Exportable:
    """The encoder that gives embeddings."""
    examples = tuple(series(config, *sizes) for sizes in ((3, 60, 1), (1, 20, 2), (6, 200, 1)))
    return Exportable(Embedding(network).eval(), _AXES, examples)


def forecasting(network: MMVSF, config: Config) -> Exportable:
    """The network that forecasts."""
    examples = tuple(
        (*series(config, *sizes), torch.full((sizes[2],), sizes[1] - 1))
        for sizes in ((3, 60, 1), (1, 20, 2), (6, 200, 1)))
    return Exportable(Forecast(network).eval(), {**_AXES, "target": {0: "windows"}}, examples)


def series(config: Config, dates: int, length: int, windows: int) -> tuple[Tensor, ...]:
    """Random inputs of `windows` windows with `dates` dates in `length` days of weather."""
    random = torch.Generator().manual_seed(dates)
    side = config.side * config.patch
    days = torch.stack([torch.randperm(length - 1, generator=random)[:dates].sort().values
                        for _ in range(windows)])
    return (
        torch.randn(windows, dates, config.bands, side, side, generator=random),
        (torch.rand(windows, dates, side, side, generator=random) < 0.8).float(),
        torch.randn(windows, length, config.variables, generator=random),
        days,
        torch.randint(0, 365, (windows,), generator=random),
    )
