"""A window of a stack to SkySense V2's inputs: those of SkySense, whose data it was trained on.

Bands, statistics, dates and gaps are SkySense's (inferred: the summaries of V2's paper state no
normalisation). Fused features stand for 4 Sentinel pixels, or for the picture's 32.
"""

from __future__ import annotations

from ..cards import Card
from ..cube import Batches, Cube
from ..skysense import adapter as skysense


def missing(sensors: dict[str, tuple[str, ...]], card: Card | None = None) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does."""
    lines = skysense.missing(sensors, card)
    return [line.replace("SkySense needs", "SkySense V2 needs") for line in lines]


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """The inputs of one window, if anything is seen in it; see `skysense.adapter.batches`."""
    return skysense.batches(cube, size, card)
