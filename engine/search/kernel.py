"""Cosine of a direction to 8-bit embeddings: a fast scan with a proven error, and the exact one.

sim(x) = q . (v - c) / |v - c| with v = s k, k = code - 128. The scan replaces q by 16-bit integers
t p and 2 F c / s by 16-bit integers m, so that a row needs two sums of 16-bit products,

    sum k p   and   sum k (F k - m) = F / s^2 (|v - c'|^2 - |c'|^2),   c' = s m / (2 F),

while it lies in registers. Compilers turn each into the processor's own instruction when the
number of dimensions is a constant; so each number gets a kernel of its own. By Cauchy and Schwarz
the first sum is wrong by at most |q - t p| |v|, the second makes a length wrong by a share of at
most r = 2 |c - c'| / l (1 + |c| / l), where l is the smallest length. Their margin
|q - t p| (1 + r + |c| / l) + r tells which rows have to be looked at in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numba
import numpy as np

from .sums import AT_ONCE, row_sums

#: Rows between two looks at the threshold: half a megabyte at 128 dimensions, so it stays cached.
BLOCK = 4096

_PIECE = 2048 * BLOCK  # rows that a thread scans at most before it ranks them
_STEP = 64  # rows between integer and float arithmetic, so that both are done in vectors
_NOTHING = -(2**31)  # the sum of a row without an embedding
#: Blocks with vectors nearer to the centre than this share of its length are taken in float64.
_NEAR = 0.25
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
def _scan_kernel(dims: int, lengths: str) -> Callable:
    """Scan of codes with "kept", "plain" (c = 0) or "centred" lengths."""
    second = {"kept": 0, "plain": 1, "centred": 2}[lengths]

    @numba.njit(cache=True, nogil=True)
    def scan(codes: np.ndarray, directions: np.ndarray, biases: np.ndarray, shifts: np.ndarray,
             factor: float, centre: np.ndarray, fine: int, unit: float, added: float,
             inverse: np.ndarray, values: np.ndarray, tops: np.ndarray, least: np.ndarray) -> None:
        dots, squares = np.empty(_STEP, np.int32), np.empty(_STEP, np.int32)
        parts, top = np.empty(_STEP, np.float32), np.empty(_STEP, np.float32)
        low, rest = np.empty(_STEP, np.float64), np.zeros((_STEP, dims), np.uint8)
        for block in range(tops.size):
            end = min((block + 1) * BLOCK, codes.shape[0])
            top[:], low[:] = -2, np.inf
            for first in range(block * BLOCK, end, _STEP):
                last = min(first + _STEP, end)
                rows, start = codes, first
                if last - first < _STEP:  # sums are made of whole steps
                    rest[: last - first] = codes[first:last]
                    rows, start = rest, 0
                parts[:] = -np.inf
                for p in range(directions.shape[0]):
                    for i in range(0, _STEP, AT_ONCE):
                        if p == 0:
                            row_sums(rows, start + i, directions, p, centre, fine, dots, squares,
                                     i, dims, second)
                        else:
                            row_sums(rows, start + i, directions, p, centre, fine, dots, squares,
                                     i, dims, 0)
                    _nearer(dots, biases[p], factor, shifts[p], parts)
                if second == 0:
                    _multiplied(parts, inverse[first:last], values[first:last], top)
                else:
                    for i in range(last - first):
                        squares[i] = squares[i] if codes[first + i, 0] != 0 else _NOTHING
                    _divided(parts, squares, unit, added, values[first:last], top, low)
            tops[block], least[block] = top.max(), low.min()

    return scan


@numba.njit(cache=True, nogil=True)
def _nearer(dots: np.ndarray, bias: int, factor: float, shift: float, parts: np.ndarray) -> None:
    for i in range(_STEP):
        part = np.float32(np.int32(dots[i] - bias)) * factor - shift
        parts[i] = part if part > parts[i] else parts[i]


@numba.njit(cache=True, nogil=True)
def _multiplied(parts: np.ndarray, inverse: np.ndarray, values: np.ndarray, top: np.ndarray
                ) -> None:
    for i in range(values.size):
        value = parts[i] * inverse[i]
        values[i] = value
        top[i] = value if value > top[i] else top[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _divided(parts: np.ndarray, squares: np.ndarray, unit: float, added: float,
             values: np.ndarray, top: np.ndarray, low: np.ndarray) -> None:
    for i in range(values.size):
        square = unit * np.float64(squares[i]) + added
        square = square if squares[i] != _NOTHING else np.nan
        low[i] = square if square < low[i] else low[i]
        value = parts[i] / np.sqrt(np.float32(square))
        values[i] = value
        top[i] = value if value > top[i] else top[i]


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
    """Similarity of (n, d) uint8 codes, C-contiguous, to the nearest of (p, d) unit directions.

    Args:
        codes, directions, coding: what is compared.
        inverse: `inverse_lengths` of the codes, where they are kept; else they are found on the
            way, which costs arithmetic but no second reading.
    """
    n, dims = codes.shape
    far = float(np.linalg.norm(coding.centre))
    most = min(32767, (2**31 - 1) // (255 * dims))  # so that a sum of products fits 32 bits
    step = max(float(np.abs(directions).max()), 1e-300) / most
    whole = np.rint(directions / step).astype(np.int16)
    twice = 2 * coding.centre / coding.scale
    widest = max(float(np.abs(twice).max()), 1e-300)
    fine = int(min(32767 / widest, (2**31 - 1) / (128 * dims) / (128 + widest) - 1)) if far else 1
    if fine < 1 and inverse is None:
        inverse = inverse_lengths(codes, coding)
    centre = np.rint(fine * twice).astype(np.int16) if inverse is None else np.zeros(dims, np.int16)
    values, blocks = np.empty(n, np.float32), -(-n // BLOCK)
    tops, least = np.empty(blocks, np.float32), np.empty(blocks)
    _scan_kernel(dims, "kept" if inverse is not None else "centred" if far else "plain")(
        codes, whole, (128 * whole.sum(1, dtype=np.int64)).astype(np.int32),
        (directions @ coding.centre).astype(np.float32), np.float32(step * coding.scale),
        centre, np.int32(fine), coding.scale**2 / max(fine, 1), far**2,
        np.zeros(0, np.float32) if inverse is None else inverse, values, tops, least)
    wrong = 0.0
    if inverse is not None:
        highest = float(np.nanmax(inverse, initial=0.0)) if far else 0.0
    else:
        near = least <= (_NEAR * far) ** 2
        for block in np.flatnonzero(near):
            rows = slice(block * BLOCK, (block + 1) * BLOCK)
            values[rows] = np.where(codes[rows, 0] != 0, exact(codes[rows], directions, coding),
                                    np.nan)
            tops[block] = np.nanmax(values[rows])
        highest = 1 / math.sqrt(least[~near].min(initial=np.inf))
        gap = float(np.linalg.norm(coding.centre - centre * (coding.scale / 2 / fine)))
        wrong = 2 * gap * highest * (1 + far * highest)
    apart = float(np.linalg.norm(directions - step * whole, axis=1).max())
    return Scan(values, tops, (apart + _ROUNDING) * (1 + wrong + 2 * far * highest) + wrong)


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
