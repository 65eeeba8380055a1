"""A stratified random sample of a map's pixels: how many, how many of each class, and which."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..rasters.grid import Window

RARE = 0.1
"""Share of the area below which a class is rare (Olofsson et al. 2014, section 5.1)."""


def sample_size(shares: np.ndarray, accuracies: np.ndarray, target: float) -> int:
    """Points that bring the standard error of overall accuracy down to a target.

    n = (sum W_i S_i / S(O))^2 with S_i = sqrt(U_i (1 - U_i)), Cochran 1977 eq. 5.25 as in
    Olofsson et al. 2014 eq. 13, for maps of many pixels.

    Args:
        shares: (h,) W_i, of the area, sum 1.
        accuracies: (h,) U_i, expected user's accuracies, 0..1.
        target: S(O), 0..1.
    """
    spread = np.sqrt(np.asarray(accuracies) * (1 - np.asarray(accuracies)))
    return max(math.ceil((float(np.dot(shares, spread)) / target) ** 2 - 1e-9), 1)


def expected_error(shares: np.ndarray, accuracies: np.ndarray, counts: np.ndarray) -> float:
    """Standard error of overall accuracy of an allocation, if the expected accuracies hold."""
    variance = np.asarray(accuracies) * (1 - np.asarray(accuracies))
    return float(np.sqrt(np.sum(np.asarray(shares) ** 2 * variance / np.asarray(counts))))


def allocate(pixels: np.ndarray, shares: np.ndarray, total: int, least: int) -> np.ndarray:
    """Points for each stratum: at least so many, the rest in proportion to the area.

    Rare classes get `least`, and what is left is shared by the others (Olofsson et al. 2014,
    section 5.1.2). No stratum gets more points than it has pixels; `total` grows where the least
    numbers need it.

    Args:
        pixels: (h,) of each stratum, at least 1.
        shares: (h,) of the area, positive.
        total: points in all.
        least: points a stratum.

    Returns:
        (h,) int64.
    """
    most = np.asarray(pixels, np.int64)
    low = np.minimum(most, max(least, 1))
    total = int(min(max(total, low.sum()), most.sum()))

    def filled(level: float) -> np.ndarray:
        return np.clip(level * np.asarray(shares, float), low, most)

    bottom, top = 0.0, float(np.max(most / shares))
    for _ in range(200):
        middle = (bottom + top) / 2
        bottom, top = (middle, top) if filled(middle).sum() < total else (bottom, middle)
    wanted = filled(top)
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    # whole points, those with the largest fraction first
    order = np.argsort(-(wanted - counts), kind="stable")
    order = order[counts[order] < most[order]]
    counts[order[: total - counts.sum()]] += 1
    return counts


def ranks(pixels: np.ndarray, counts: np.ndarray, seed: int) -> list[np.ndarray]:
    """Which of its pixels, in reading order, each stratum gives: ascending, without doubles.

    Every set of pixels of the given size is as likely as any other.
    """
    rng = np.random.default_rng(seed)
    return [np.sort(rng.choice(int(n), int(k), replace=False))
            for n, k in zip(pixels, counts, strict=True)]


def places(
    blocks: Iterable[tuple[Window, np.ndarray]], chosen: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the pixels of given ranks lie, found in one pass over the map.

    Args:
        blocks: windows of the map in reading order with (rows, cols) indices of strata, -1 where
            there is none; the same order as when the strata's pixels were counted.
        chosen: ascending ranks of each stratum, from `ranks`.

    Returns:
        (n,) stratum, row and column, in the order of the strata.
    """
    seen = np.zeros(len(chosen), np.int64)
    done = np.zeros(len(chosen), np.int64)
    found: list[list[np.ndarray]] = [[] for _ in chosen]
    for window, index in blocks:
        flat = index.ravel()
        here = np.bincount(flat + 1, minlength=len(chosen) + 1)[1:]
        ends = np.array([np.searchsorted(r, s) for r, s in
                         zip(chosen, seen + here, strict=True)], np.int64)
        for h in np.flatnonzero(ends > done):
            wanted = chosen[h][done[h] : ends[h]] - seen[h]
            rows, cols = np.divmod(np.flatnonzero(flat == h)[wanted], window.cols)
            found[h].append(np.column_stack([rows + window.row, cols + window.col]))
        seen, done = seen + here, ends
    strata = np.repeat(np.arange(len(chosen)), [sum(map(len, f)) for f in found])
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *(p for f in found for p in f)])
    return strata, pairs[:, 0], pairs[:, 1]
