"""Connected patches of equal values in an array of classes."""

from __future__ import annotations

import numba
import numpy as np


def connected(values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Patches of pixels that share a side and a value.

    Args:
        values: (rows, cols) whole numbers.
        valid: (rows, cols) bool; other pixels belong to no patch.

    Returns:
        (rows, cols) int32 number of the patch, 1, 2, ...; 0 where not valid. And (patches + 1,)
        int32, the longer side of the box around each; 0 at place 0.
    """
    return _connected(np.ascontiguousarray(values), np.ascontiguousarray(valid))


@numba.njit(cache=True, nogil=True)
def _connected(values, valid):  # noqa: ANN001, ANN202
    """Two passes (Rosenfeld and Pfaltz 1966): provisional numbers, then the smallest of equals."""
    rows, cols = values.shape
    numbers = np.zeros((rows, cols), np.int32)
    parent = np.zeros(rows * cols + 1, np.int32)
    last = 0
    for i in range(rows):
        for j in range(cols):
            if not valid[i, j]:
                continue
            above = numbers[i - 1, j] if i and values[i - 1, j] == values[i, j] else 0
            left = numbers[i, j - 1] if j and values[i, j - 1] == values[i, j] else 0
            if above and left and above != left:
                one, other = _root(parent, above), _root(parent, left)
                low = min(one, other)
                parent[max(one, other)] = low
                numbers[i, j] = low
            elif above or left:
                numbers[i, j] = max(above, left)
            else:
                last += 1
                parent[last] = last
                numbers[i, j] = last
    final, count = np.zeros(last + 1, np.int32), 0
    for k in range(1, last + 1):  # a parent is always smaller than its child
        if parent[k] == k:
            count += 1
            final[k] = count
        else:
            final[k] = final[_root(parent, k)]
    top, bottom = np.full(count + 1, rows, np.int32), np.full(count + 1, -1, np.int32)
    west, east = np.full(count + 1, cols, np.int32), np.full(count + 1, -1, np.int32)
    for i in range(rows):
        for j in range(cols):
            if numbers[i, j]:
                k = final[numbers[i, j]]
                numbers[i, j] = k
                top[k], bottom[k] = min(top[k], i), max(bottom[k], i)
                west[k], east[k] = min(west[k], j), max(east[k], j)
    sides = np.maximum(bottom - top, east - west) + 1
    sides[0] = 0
    return numbers, sides


@numba.njit(cache=True, nogil=True)
def _root(parent, number):  # noqa: ANN001, ANN202
    """The smallest number that is known to be the same patch; shortens the way to it."""
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = parent[number]
    return number
