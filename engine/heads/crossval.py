"""Which samples are held back together: whole blocks of ground, or (to compare) random ones.

Neighbouring pixels are alike, so random splits flatter. Here a block is floor(x/s), floor(y/s) in
metres; a parcel belongs to the block of its middle and is never cut; blocks go to folds greedily
so that each fold has its share of every class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid

_BLOCKS_PER_FOLD = 8  # wanted where the extent and the parcels allow
_STEPS = (1.0, 2.0, 2.5, 5.0)  # leading figures of a block size that is easy to say


@dataclass(frozen=True)
class Folds:
    """A split of n samples.

    Attributes:
        fold: (n,) int64, 0..count-1; the fold in which a sample is held back.
        count: number of folds.
        block: (n,) int64, number of the block of each sample; equal to the sample where random.
        places: (blocks, 2) block corners (left, bottom) in metres of `metres_of`; empty if random.
        side_m: side of a block; 0 where random.
    """

    fold: np.ndarray
    count: int
    block: np.ndarray
    places: np.ndarray
    side_m: float

    def turns(self) -> Iterator[tuple[int, np.ndarray]]:
        """The number of each fold, and which samples (n,) bool it holds back."""
        for f in range(self.count):
            yield f, self.fold == f


def metres_of(grid: Grid, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """(n, 2) east and north of pixel centres, in metres on the ground.

    Degrees and Web Mercator are scaled at the middle latitude of the grid, which is true to about
    a percent over a few degrees: enough to make blocks.
    """
    x, y = grid.affine @ (np.asarray(cols) + 0.5, np.asarray(rows) + 0.5)
    crs = grid.crs
    _, bottom, _, top = grid.bounds
    middle = (bottom + top) / 2
    if crs is not None and crs.is_geographic:
        return np.column_stack([x * 111320 * math.cos(math.radians(middle)), y * 110574])
    factor = crs.linear_units_factor[1] if crs is not None and crs.is_projected else 1.0
    if crs is not None and crs.to_epsg() == 3857:
        factor /= math.cosh(middle / 6378137.0)
    return np.column_stack([x, y]) * factor


def automatic_side(places: np.ndarray, groups: np.ndarray, count: int) -> float:
    """A block size (m) from the spread of the samples and the size of their parcels.

    Blocks are at least two parcels wide (median diameter) and about `_BLOCKS_PER_FOLD` for each
    fold; rounded to 1, 2, 2.5 or 5 times a power of ten.

    Args:
        places: (n, 2) metres.
        groups: (n,) parcel of each sample.
        count: wanted folds.
    """
    middles, sizes = _middles(places, groups)
    extent = np.maximum(np.ptp(middles, axis=0), 1.0)
    wanted = math.sqrt(max(extent.prod(), extent.max()) / (_BLOCKS_PER_FOLD * count))
    side = max(wanted, 2 * float(np.median(sizes)), 1.0)
    while True:
        rounded = _round(side)
        blocks = len(np.unique(np.floor(middles / rounded), axis=0))
        if blocks >= 2 * count or rounded <= max(float(np.median(sizes)), 1.0):
            return rounded
        side = rounded / 1.5


def blocked_folds(
    grid: Grid,
    rows: np.ndarray,
    cols: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray,
    context: JobContext,
    *,
    count: int = 5,
    side_m: float | None = None,
    seed: int = 0,
) -> Folds:
    """Folds of whole blocks.

    Args:
        grid: where the samples lie.
        rows, cols: (n,) pixels.
        classes: (n,) class index.
        groups: (n,) parcel; stays whole.
        context: receives warnings.
        count: wanted folds; reduced, with a warning, where there are fewer blocks.
        side_m: side of a block; None chooses it.
        seed: order of blocks of equal size.

    Raises:
        UserError: fewer than two blocks.
    """
    if count < 2:
        raise UserError(f"Folds is {count}; choose 2 or more.")
    places = metres_of(grid, rows, cols)
    side = float(side_m) if side_m else automatic_side(places, groups, count)
    middles, _ = _middles(places, groups)
    corners, block_of_group = np.unique(np.floor(middles / side), axis=0, return_inverse=True)
    block = block_of_group.reshape(-1)[np.unique(groups, return_inverse=True)[1]]
    if len(corners) < 2:
        raise UserError(f"All labels lie in one block of {side:.0f} m, so the map cannot be "
                        "tested. Choose a smaller Block size or label elsewhere.")
    if len(corners) < count:
        context.warn(f"Only {len(corners)} blocks of {side:.0f} m hold labels; {len(corners)} "
                     f"folds instead of {count}.")
        count = len(corners)
    fold = _deal(classes, block, len(corners), count, seed)[block]
    return Folds(fold, count, block, corners * side, side)


def random_folds(classes: np.ndarray, count: int, seed: int = 0) -> Folds:
    """Folds of random samples with equal shares of each class; they flatter, for comparison."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    fold = np.empty(len(classes), np.int64)
    fold[order] = np.arange(len(classes)) % count
    return Folds(fold, count, np.arange(len(classes)), np.zeros((0, 2)), 0.0)


def held_back(
    x: np.ndarray, y: np.ndarray, folds: Folds, shape: tuple[int, ...], doing: str,
    context: JobContext,
    fit: Callable[[np.ndarray, np.ndarray], Iterable[Callable[[np.ndarray], np.ndarray]]],
) -> np.ndarray:
    """Hold back every fold once: answers (s, n, ...) of s variants of a model.

    Args:
        x: (n, k) features.
        y: (n,) what is to be learned.
        folds: of the samples.
        shape: of the answers.
        doing: what to tell, before " fold 1 of 5".
        context: progress, cancellation.
        fit: from features and truth of the other folds to what answers on features, a variant each.
    """
    held = np.zeros(shape)
    for f, test in folds.turns():
        context.progress(f / folds.count, f"{doing} fold {f + 1} of {folds.count}")
        for s, answer in enumerate(fit(x[~test], y[~test])):
            held[s, test] = answer(x[test])
    return held


def settled(held: np.ndarray, folds: Folds,
            best: Callable[[np.ndarray | slice], int]) -> tuple[np.ndarray, int]:
    """Of held-back answers (s, n, ...): each fold's of the variant that is best on the others.

    Args:
        held: answers of s variants.
        folds: of the n samples.
        best: which variant is best on some of the samples.

    Returns:
        (n, ...), and which variant is best on all.
    """
    chosen = np.empty(held.shape[1:])
    for _, test in folds.turns():
        chosen[test] = held[best(~test), test]
    return chosen, best(slice(None))


def lonely_classes(classes: np.ndarray, folds: Folds, number: int) -> list[int]:
    """Classes found in one fold only: whenever they are tested, the model has never seen them."""
    return [k for k in range(number)
            if len(np.unique(folds.fold[classes == k])) == 1]


def _middles(places: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(groups, 2) mean place and (groups,) diameter of each group."""
    _, index = np.unique(groups, return_inverse=True)
    number = int(index.max()) + 1
    size = np.bincount(index, minlength=number)[:, None]
    mean = np.column_stack([np.bincount(index, p, number) for p in places.T]) / size
    low, high = np.full((number, 2), np.inf), np.full((number, 2), -np.inf)
    np.minimum.at(low, index, places)
    np.maximum.at(high, index, places)
    return mean, np.hypot(*(high - low).T)


def _deal(
    classes: np.ndarray, block: np.ndarray, blocks: int, count: int, seed: int
) -> np.ndarray:
    """(blocks,) fold of each block: largest first, to the fold that lacks its classes most."""
    table = np.zeros((blocks, int(classes.max()) + 1))
    np.add.at(table, (block, classes), 1)
    share = table / np.maximum(table.sum(0), 1)  # rare classes weigh as much as common ones
    order = np.random.default_rng(seed).permutation(blocks)
    order = order[np.argsort(-share[order].sum(1), kind="stable")]
    held = np.zeros((count, table.shape[1]))
    fold = np.zeros(blocks, np.int64)
    for turn, b in enumerate(order):
        # Squared overshoot of the fair share of every class, were the block added to a fold.
        cost = ((held + share[b]) ** 2 - held**2).sum(1)
        if turn >= blocks - count:
            empty = np.flatnonzero(~held.any(1))
            if len(empty) >= blocks - turn:  # each fold must get a block
                cost[np.setdiff1d(np.arange(count), empty)] = np.inf
        fold[b] = int(np.argmin(cost))
        held[fold[b]] += share[b]
    return fold


def _round(value: float) -> float:
    """The nearest of 1, 2, 2.5, 5 times a power of ten, in ratio."""
    power = 10.0 ** math.floor(math.log10(value))
    return min((s * p for s in _STEPS for p in (power, 10 * power)),
               key=lambda s: abs(math.log(s / value)))
