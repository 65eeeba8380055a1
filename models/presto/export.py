"""Presto for ONNX: a pixel's months in, its feature out; masked tokens are dropped as it runs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ..training.export import Exportable
from .network import DYNAMIC_WORLD_MISSING, Config, Encoder


def exportable(network: Encoder, config: Config) -> Exportable:
    """The encoder with the adapter's inputs and any number of steps that its positions allow."""
    axes = {"x": 2, "dynamic_world": 2, "latlons": 1, "mask": 2, "month": 2}
    longest = min(config.max_sequence_length, 24)
    return Exportable(
        copy.deepcopy(network).eval().requires_grad_(False),
        {name: dict(enumerate(("pixels", "steps")[:free])) for name, free in axes.items()},
        tuple(_example(*size) for size in ((3, longest // 2), (1, 1), (5, longest))),
    )


def _example(count: int, steps: int) -> tuple[Tensor, ...]:
    """Random inputs, half of the values masked, in rows of different length."""
    generator = torch.Generator().manual_seed(steps)
    x = torch.rand(count, steps, 17, generator=generator)
    mask = (torch.rand(count, steps, 17, generator=generator) < 0.5).float()
    return (
        x * (1 - mask),
        torch.randint(DYNAMIC_WORLD_MISSING + 1, (count, steps), generator=generator),
        torch.rand(count, 2, generator=generator) * 90,
        mask,
        torch.randint(12, (count, steps), generator=generator),
    )
