"""Cosine of a direction to 8-bit embeddings: a fast scan with a proven error, and the exact one.

sim(x) = q . (v - c) / |v - c| with v = s (code - 128). The scan replaces q by 16-bit integers
t p: one 8 x 16-bit dot product a row, which compilers turn into the processor's own instruction
when the number of dimensions is a constant; so each number gets a kernel of its own. By Cauchy
and Schwarz the scan is wrong by at most |q - t p| |v| / |v - c|, and that margin tells which rows
have to be looked at in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numba
import numpy as np

#: Rows between two looks at the threshold: half a megabyte at 128 dimensions, so it stays cached.
BLOCK = 4096

_PIECE = 2048 * BLOCK  # rows that a thread scans at most before it ranks them
_ROUNDING = 1e-6  # of the scan's float32 arithmetic: a few units in the last place of 1


@dataclass(frozen=True)
class Coding:
    """What codes mean.

    Attributes:
        scale: s of the file.
        centre: (d,) float64, subtracted from each vector before its cosine is taken.
    """

    scale: float
    centre: np.ndarray

    def units(self, codes: np.ndarray) -> np.ndarray:
        """(n, d) codes to float64 centred unit vectors; a zero vector stays zero."""
        vectors = self.scale * (codes.astype(np.float64) - 128) - self.centre
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)


@dataclass(frozen=True)
class Scan:
    """Similarities of n rows to the nearest of some directions.

    Attributes:
        values: (n,) float32, NaN where there is no embedding.
        tops: (blocks,) float32, largest value of each `BLOCK` rows, -2 where there is none.
        margin: no value is farther than this from the exact one.
    """

    values: np.ndarray
    tops: np.ndarray
    margin: float

    def rows_from(self, floor: float) -> np.ndarray:
        """Indices of all rows whose exact similarity may be `floor` or more, ascending."""
        floor -= self.margin
        parts = [np.flatnonzero(self.values[b * BLOCK : (b + 1) * BLOCK] >= floor) + b * BLOCK
                 for b in np.flatnonzero(self.tops >= floor)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


@cache
def _dot_kernel(dims: int) -> Callable:
    @numba.njit(cache=True, nogil=True)
    def scan(codes: np.ndarray, direction: np.ndarray, bias: int, factor: float, shift: float,
             inverse: np.ndarray, values: np.ndarray, tops: np.ndarray) -> None:
        for block in range(tops.size):
            end = min((block + 1) * BLOCK, codes.shape[0])
            for i in range(block * BLOCK, end):
                dot = np.int32(0)
                for j in range(dims):
                    dot = np.int32(dot + np.int32(np.int32(codes[i, j]) * np.int32(direction[j])))
                values[i] = (np.float32(np.int32(dot - bias)) * factor - shift) * inverse[i]
            top = np.float32(-2)
            for i in range(block * BLOCK, end):
                top = values[i] if values[i] > top else top
            tops[block] = top

    return scan


@cache
def _length_kernel(dims: int) -> Callable:
    @numba.njit(cache=True, nogil=True)
    def lengths(codes: np.ndarray, scale: float, out: np.ndarray) -> None:
        squares = np.empty(BLOCK, np.int32)
        for first in range(0, codes.shape[0], BLOCK):
            count = min(BLOCK, codes.shape[0] - first)
            for i in range(count):
                total = np.int32(0)
                for j in range(dims):
                    code = np.int32(np.int32(codes[first + i, j]) - np.int32(128))
                    total = np.int32(total + np.int32(code * code))
                squares[i] = total
            for i in range(count):
                inverse = 1.0 / (scale * np.sqrt(np.float64(max(squares[i], 1))))
                inverse = inverse if squares[i] > 0 else 0.0
                out[first + i] = inverse if codes[first + i, 0] != 0 else np.nan

    return lengths


@numba.njit(cache=True, nogil=True, fastmath={"reassoc"})
def _centred_lengths(codes: np.ndarray, scale: float, centre: np.ndarray, out: np.ndarray) -> None:
    for i in range(codes.shape[0]):
        total = 0.0
        for j in range(codes.shape[1]):
            part = scale * (np.float64(codes[i, j]) - 128.0) - centre[j]
            total += part * part
        out[i] = np.nan if codes[i, 0] == 0 else 1.0 / np.sqrt(total) if total > 0.0 else 0.0


@numba.njit(cache=True, nogil=True)
def _exact(codes: np.ndarray, direction: np.ndarray, scale: float, centre: np.ndarray,
           out: np.ndarray) -> None:
    for i in range(codes.shape[0]):
        dot, square = 0.0, 0.0
        for j in range(codes.shape[1]):
            part = scale * (np.float64(codes[i, j]) - 128.0) - centre[j]
            dot += direction[j] * part
            square += part * part
        value = dot / np.sqrt(square) if square > 0.0 else 0.0
        out[i] = max(out[i], min(max(value, -1.0), 1.0))


def inverse_lengths(codes: np.ndarray, coding: Coding) -> np.ndarray:
    """(n, d) uint8 codes to (n,) float32 1 / |v - c|; NaN where nodata, 0 for a zero vector.

    They belong to the codes and not to the query, so whoever asks often keeps them.
    """
    inverse = np.empty(len(codes), np.float32)
    if coding.centre.any():
        _centred_lengths(codes, coding.scale, coding.centre, inverse)
    else:
        _length_kernel(codes.shape[1])(codes, coding.scale, inverse)
    return inverse


def scan(codes: np.ndarray, directions: np.ndarray, coding: Coding,
         inverse: np.ndarray | None = None) -> Scan:
    """Similarity of (n, d) uint8 codes, C-contiguous, to the nearest of (p, d) unit directions."""
    inverse = inverse_lengths(codes, coding) if inverse is None else inverse
    found = None
    for direction in directions:
        one = _scan_one(codes, direction, coding, inverse)
        found = one if found is None else Scan(
            np.maximum(found.values, one.values), np.maximum(found.tops, one.tops),
            max(found.margin, one.margin))
    return found


def _scan_one(codes: np.ndarray, direction: np.ndarray, coding: Coding,
              inverse: np.ndarray) -> Scan:
    n, dims = codes.shape
    most = min(32767, (2**31 - 1) // (255 * dims))  # so that a sum of products fits 32 bits
    step = max(float(np.abs(direction).max()), 1e-300) / most
    whole = np.rint(direction / step).astype(np.int16)
    values = np.empty(n, np.float32)
    tops = np.empty(-(-n // BLOCK), np.float32)
    _dot_kernel(dims)(
        codes, whole, np.int32(128 * int(whole.sum(dtype=np.int64))),
        np.float32(step * coding.scale), np.float32(direction @ coding.centre),
        inverse, values, tops)
    # |v| <= |v - c| + |c|, so |v| / |v - c| <= 1 + |c| / |v - c|
    far = float(np.linalg.norm(coding.centre))
    stretch = 1 + 2 * far * float(np.nanmax(inverse, initial=0.0)) if far else 1.0
    return Scan(values, tops, (float(np.linalg.norm(direction - step * whole)) + _ROUNDING)
                * stretch)


def exact(codes: np.ndarray, directions: np.ndarray, coding: Coding) -> np.ndarray:
    """(n, d) codes to (n,) float64 similarity to the nearest direction; 0 for a zero vector.

    Equal rows give equal numbers, since each is summed in the same order.
    """
    out = np.full(len(codes), -2.0)
    for direction in directions:
        _exact(codes, direction, coding.scale, coding.centre, out)
    return out


def nearest(codes: np.ndarray, directions: np.ndarray, coding: Coding, k: int, threads: int = 1,
            inverse: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of (n, d) codes most alike: (rows, float64 similarities), best first.

    Exact: as float64 ranks them; of equals, the smaller row comes first.
    """
    count = threads * max(math.ceil(len(codes) / threads / _PIECE), 1)  # as long as each other
    rows_each = max(math.ceil(len(codes) / count / BLOCK), 1) * BLOCK
    parts = [slice(i, i + rows_each) for i in range(0, len(codes), rows_each)]
    floor = -2.0  # a similarity that k rows are known to reach

    def look(part: slice) -> np.ndarray:
        nonlocal floor
        found = scan(codes[part], directions, coding, None if inverse is None else inverse[part])
        if floor == -2.0:
            floor = max(floor, kth_at_least(found, k))
        return found.rows_from(floor) + part.start

    with ThreadPoolExecutor(threads) as pool:
        rows = np.concatenate([np.zeros(0, np.int64), *pool.map(look, parts)])
    similar = exact(codes[rows], directions, coding)
    order = np.lexsort((rows, -similar))[:k]
    return rows[order], similar[order]


def kth_at_least(found: Scan, k: int) -> float:
    """A similarity that at least k rows reach exactly; -2 where there are fewer rows."""
    values = found.tops[found.tops > -2]
    if len(values) < k:
        values = found.values[~np.isnan(found.values)]
    return kth(values, k) - found.margin


def kth(values: np.ndarray, k: int) -> float:
    """The k-th largest of (n,) values; -2 where there are fewer."""
    place = len(values) - k
    return float(np.partition(values, place)[place]) if place >= 0 else -2.0
