"""From a query to the bytes of a picture in two passes over memory.

The first pass reads each embedding once, whatever the number of directions, and leaves one byte;
the second gathers the bytes into the picture's own grid and counts them. Both work on integers as
`kernel` does, so the bytes are right to one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numba
import numpy as np

from .kernel import Coding
from .sums import AT_ONCE, row_sums

#: Steps of the ramp: a byte is 1 + round(STEPS (cosine - low) / (high - low)).
STEPS = 254
#: Picture pixels whose ground area is taken as equal when bytes are counted.
PATCH = 16, 256

_STEP = 64  # embeddings that all directions look at while they are in the nearest cache


@cache
def _byte_kernel(dims: int) -> Callable:
    @numba.njit(cache=True, nogil=True)
    def fill(codes: np.ndarray, directions: np.ndarray, biases: np.ndarray, factors: np.ndarray,
             shifts: np.ndarray, inverse: np.ndarray, low: float, gain: float, out: np.ndarray
             ) -> None:
        dots, values = np.empty(_STEP, np.int32), np.empty(_STEP, np.float32)
        unused, rest = np.empty(dims, np.int16), np.zeros((_STEP, dims), np.uint8)
        for first in range(0, codes.shape[0], _STEP):
            lengths, target = inverse[first : first + _STEP], out[first : first + _STEP]
            rows, start = codes, first
            if target.size < _STEP:  # sums are made of whole steps
                rest[: target.size] = codes[first:]
                rows, start = rest, 0
            values[:] = -np.inf
            for p in range(directions.shape[0]):
                for i in range(0, _STEP, AT_ONCE):
                    row_sums(rows, start + i, directions, p, unused, np.int32(0), dots, dots, i,
                             dims, 0)
                bias, factor, shift = biases[p], factors[p], shifts[p]
                for i in range(_STEP):
                    value = np.float32(np.int32(dots[i] - bias)) * factor - shift
                    values[i] = value if value > values[i] else values[i]
            for i in range(target.size):
                step = (values[i] * lengths[i] - low) * gain + np.float32(1.5)
                step = min(max(step, np.float32(1)), np.float32(STEPS + 1))
                target[i] = np.uint8(np.int32(step))

    return fill


@dataclass(frozen=True)
class Whole:
    """(p, d) unit directions as 16-bit integers, with what makes cosines of their products.

    cosine = ((product - bias) factor - shift) / |v - c|

    Attributes:
        directions: (p, d) int16.
        biases: (p,) int32.
        factors, shifts: (p,) float32.
    """

    directions: np.ndarray
    biases: np.ndarray
    factors: np.ndarray
    shifts: np.ndarray

    @classmethod
    def of(cls, directions: np.ndarray, coding: Coding) -> Whole:
        """Rounded as finely as a sum of products fits 32 bits."""
        most = min(32767, (2**31 - 1) // (255 * directions.shape[1]))
        steps = np.maximum(np.abs(directions).max(1), 1e-300) / most
        whole = np.rint(directions / steps[:, None]).astype(np.int16)
        return cls(whole, 128 * whole.sum(1, dtype=np.int32),
                   (steps * coding.scale).astype(np.float32),
                   (directions @ coding.centre).astype(np.float32))


def fill_bytes(codes: np.ndarray, whole: Whole, inverse: np.ndarray, low: float, high: float,
               out: np.ndarray) -> None:
    """Bytes 1..255 of (n, d) uint8 codes, C-contiguous, for the nearest direction, into out (n,).

    Args:
        inverse: (n,) float32 1 / |v - c|, see `kernel.inverse_lengths`.
        low, high: cosines of the bytes 1 and 255.
    """
    _byte_kernel(codes.shape[1])(
        codes, whole.directions, whole.biases, whole.factors, whole.shifts, inverse,
        np.float32(low), np.float32(STEPS / (high - low)), out)


@numba.njit(cache=True, nogil=True)
def gather(index: np.ndarray, values: np.ndarray, picture: np.ndarray, counts: np.ndarray) -> None:
    """Paint a picture and count its bytes.

    Args:
        index: (rows, cols) int32 into values.
        values: (n,) bytes.
        picture: (rows, cols) uint8, filled.
        counts: (rows / PATCH[0], cols / PATCH[1], 256) uint32, rounded up; zeros, filled.
    """
    high, wide = PATCH
    rows, cols = index.shape
    for r in range(rows):
        for first in range(0, cols, wide):
            count = counts[r // high, first // wide]
            for c in range(first, min(first + wide, cols)):
                value = values[index[r, c]]
                picture[r, c] = value
                count[value] += np.uint32(1)
