"""Calmer maps: smoothing of class probabilities and removal of small patches."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from rasterio.features import sieve

from ..context import JobContext
from .grid import Grid

HALO = 1
"""Pixels that `smooth` needs around a window so that windows join without a seam."""

_KERNEL = ((-1, -1, 1), (-1, 0, 2), (-1, 1, 1), (0, -1, 2), (0, 0, 3), (0, 1, 2),
           (1, -1, 1), (1, 0, 2), (1, 1, 1))


def smooth(probabilities: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Mean of the 3 x 3 neighbours with weights [[1,2,1],[2,3,2],[1,2,1]]/15 (WorldCereal).

    Neighbours without an answer or outside have no weight; the others' weights are scaled up.

    Args:
        probabilities: (rows, cols, c) float32.
        valid: (rows, cols) bool.

    Returns:
        (rows, cols, c) float32; 0 where not valid.
    """
    rows, cols, _ = probabilities.shape
    held = np.pad(np.where(valid[..., None], probabilities, 0).astype(np.float32),
                  ((1, 1), (1, 1), (0, 0)))
    mask = np.pad(valid.astype(np.float32), 1)
    total = np.zeros(probabilities.shape, np.float32)
    weight = np.zeros(valid.shape, np.float32)
    for dy, dx, w in _KERNEL:
        part = slice(1 + dy, 1 + dy + rows), slice(1 + dx, 1 + dx + cols)
        total += w * held[part]
        weight += w * mask[part]
    return np.where(valid[..., None], total / np.maximum(weight, 1)[..., None], 0)


def patch_pixels(grid: Grid, hectares: float) -> int:
    """Number of pixels that make an area (ha) on a grid; less than 2 means nothing to remove."""
    return math.ceil(hectares * 1e4 / float(np.mean(grid.row_areas_m2())) - 1e-9)


def remove_patches(
    classes: np.ndarray, size: int, nodata: int, context: JobContext
) -> Iterator[tuple[slice, np.ndarray]]:
    """Patches of fewer than `size` pixels join their largest neighbour.

    Pixels without an answer neither join nor are joined. Memory: 4 bytes a pixel of the whole
    raster where the budget allows; else strips of rows with a margin of `size` rows, which holds
    every such patch whole.

    Args:
        classes: (rows, cols) uint8, not changed; may be memory-mapped.
        size: patches of fewer pixels (joined by their sides) are removed.
        nodata: value without an answer.
        context: budget and cancellation.

    Yields:
        (rows as a slice, (rows, cols) uint8), from the top.
    """
    height, width = classes.shape
    fit = int(context.memory_mb * 1e6 / 4 / max(width, 1))
    core = height if fit >= height else max(fit - 2 * size, 256)
    for start in range(0, height, core):
        context.check()
        stop = min(start + core, height)
        top, bottom = max(start - size, 0), min(stop + size, height)
        block = np.ascontiguousarray(classes[top:bottom])
        mask = block != nodata
        result = sieve(block, size, mask=mask, connectivity=4) if mask.any() else block
        result[~mask] = nodata
        yield slice(start, stop), result[start - top:stop - top]
