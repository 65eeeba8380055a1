"""Windows of the training data as a network's inputs: drawn, thinned, kept, joined, rolled.

A window goes through the system's own adapter, so that training and inference cannot differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..cards import Card
from ..catalogue import adapter_of
from ..cube import Cube, Series

#: A window of the training data, of the card's `window` pixels a side. Where it also has `places`,
#: pairs of a chance and the windows of one place, it draws from those.
Windows = Callable[[np.random.Generator], Cube]

_TRIES = 128  # windows in a row that may show nothing
_YEAR = 365
_PIXELS = 256  # of a window that a pixel encoder is trained on at one time
_ROLLS = 6  # places along an axis that a window is moved to, at most


def thin(cube: Cube, dates: int, rng: np.random.Generator) -> Cube:
    """The cube with at most so many dates of each sensor, of one year, as `encode` takes one.

    They are drawn from those that show something; undated scenes belong to every year.
    """
    known = np.concatenate([s.dates[~np.isnat(s.dates)] for s in cube.series.values()])
    first = known.min(initial=np.datetime64("9999-01-01"))
    spare = int((known.max(initial=first) - first).astype(np.int64)) - _YEAR + 1
    first = first + int(rng.integers(spare + 1)) if spare > 0 else first

    def fewer(series: Series) -> Series:
        apart = (series.dates - first).astype(np.int64)
        inside = np.isnat(series.dates) | ((apart >= 0) & (apart < _YEAR))
        useful = np.flatnonzero(inside & series.valid.any(axis=(1, 2)))
        kept = np.sort(rng.permutation(useful)[:dates])
        return replace(series, dates=series.dates[kept], values=series.values[kept],
                       valid=series.valid[kept], orbits=tuple(series.orbits[t] for t in kept))

    return replace(cube, series={name: fewer(given) for name, given in cube.series.items()})


def drawn(windows: Windows, card: Card, dates: int, rng: np.random.Generator
          ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Endlessly, `pixels` and inputs of one window after the other; empty ones are left out.

    Raises:
        ValueError: many windows in a row give the adapter nothing.
    """
    adapter, misses = adapter_of(card), 0
    while misses < _TRIES:
        cube = thin(windows(rng), dates, rng)
        batch = next(iter(adapter.batches(cube, _PIXELS, card)), None)
        if batch is None or (batch.pixels < 0).all():
            misses += 1
            continue
        misses = 0
        yield batch.pixels, batch.inputs
    raise ValueError(f"Of {misses} windows none shows anything to {card.name}: the rasters are "
                     "masked or without data nearly everywhere, or lack its bands.")


def collated(given: Sequence[dict[str, np.ndarray]], device: str = "cpu"
             ) -> list[tuple[int, dict[str, Tensor]]]:
    """Windows of equal shapes joined along the first axis: (number of windows, inputs) each."""
    groups: dict[tuple, list[dict[str, np.ndarray]]] = defaultdict(list)
    for inputs in given:
        groups[_shapes(inputs)].append(inputs)
    return [
        (len(group), {name: torch.from_numpy(np.concatenate([g[name] for g in group])).to(device)
                      for name in group[0]})
        for group in groups.values()
    ]


class Pool:
    """Windows cut once, in groups of equal shapes."""

    def __init__(self, windows: Windows, card: Card, count: int, dates: tuple[int, int],
                 seed: int, together: bool = False) -> None:
        """So many windows, each with `dates[0]` to `dates[1]` dates of each sensor at most.

        `together`: a group is also of one place.
        """
        rng = np.random.default_rng([seed, 2**31 + 1])
        placed = _Placed(windows) if together else None
        groups: dict[tuple, list[dict[str, np.ndarray]]] = defaultdict(list)
        for _ in range(count):
            most = int(rng.integers(dates[0], dates[1] + 1))
            inputs = next(drawn(placed or windows, card, most, rng))[1]
            groups[placed and placed.last, _shapes(inputs)].append(inputs)
        self._groups = list(groups.values())
        self._chances = np.array([len(group) for group in self._groups]) / count

    def __call__(self, count: int, rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
        """So many windows of one shape, fewer where there are not so many."""
        group = self._groups[int(rng.choice(len(self._groups), p=self._chances))]
        return [group[i] for i in rng.permutation(len(group))[:count]]


class _Placed:
    """Windows that remember of which place the last one was."""

    def __init__(self, windows: Windows) -> None:
        chances, self._places = zip(*getattr(windows, "places", ((1.0, windows),)), strict=True)
        self._chances, self.last = np.array(chances), 0

    def __call__(self, rng: np.random.Generator) -> Cube:
        self.last = int(rng.choice(len(self._places), p=self._chances))
        return self._places[self.last](rng)


def _shapes(inputs: dict[str, np.ndarray]) -> tuple:
    return tuple((name, x.dtype.str, x.shape[1:]) for name, x in inputs.items())


class Rolled:
    """Windows that come again with what they show moved on, out at one edge and in at the other.

    So every place of the window shows the same ground, and what differs is the place's own.
    """

    def __init__(self, windows: Windows, side: int, patch: int) -> None:
        """Windows of `side` pixels, moved by whole patches."""
        self._windows, self._cube, self._next = windows, None, 0
        self._steps = np.unique(np.linspace(0, side // patch, _ROLLS, False).astype(int)) * patch
        self.turns = len(self._steps) ** 2

    def __call__(self, rng: np.random.Generator) -> Cube:
        """The next one; a new window after `turns` of the last."""
        if self._cube is None or self._next == self.turns:
            self._cube, self._next = self._windows(rng), 0
        down, right = divmod(self._next, len(self._steps))
        shift = int(self._steps[down]), int(self._steps[right])
        self._next += 1
        return replace(self._cube, series={
            name: replace(s, values=np.roll(s.values, shift, (-2, -1)),
                          valid=np.roll(s.valid, shift, (-2, -1)))
            for name, s in self._cube.series.items()})
