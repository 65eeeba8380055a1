"""Bring pixels of one grid to another: bilinear for data, nearest for masks, box means first
where the target is much coarser.

Missing pixels (NaN) lend nothing to their neighbours, and a target pixel whose nearest source
pixel is missing stays missing, so edges of data neither grow nor bleed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from rasterio.warp import transform

from ..rasters.grid import Grid, Window

_STEP = 16  # target pixels between exact positions; linear between them
_COARSER = 1.5  # from this ratio on the source is averaged first


@dataclass(frozen=True)
class Placement:
    """Where target pixels lie in a window of a source.

    Attributes:
        window: the part of the source that is needed.
        nodes: (2, r, c) columns and rows in the source, of pixel centres, at every `_STEP`th
            target pixel; relative to the window.
        shape: of the target.
        ratio: target pixels are this many source pixels wide.
    """

    window: Window
    nodes: np.ndarray
    shape: tuple[int, int]
    ratio: float


def place(target: Grid, source: Grid) -> Placement | None:
    """Where a target lies in a source; None where they have nothing in common."""
    rows, cols = target.shape
    r = np.arange(0, rows + _STEP, _STEP) + 0.5
    c = np.arange(0, cols + _STEP, _STEP) + 0.5
    c, r = np.meshgrid(c, r)
    xs, ys = target.affine @ (c, r)
    if target.crs is not None and source.crs is not None and target.crs_wkt != source.crs_wkt:
        flat = transform(target.crs, source.crs, xs.ravel(), ys.ravel())
        xs, ys = (np.asarray(v).reshape(xs.shape) for v in flat)
    nodes = np.stack(~source.affine @ (xs, ys)) - 0.5
    if not np.isfinite(nodes).all():
        return None
    across = np.hypot(nodes[0, 0, 1] - nodes[0, 0, 0], nodes[1, 0, 1] - nodes[1, 0, 0])
    ratio = float(across / _STEP)
    margin = 2 + int(np.ceil(ratio))
    low = np.floor(nodes.min((1, 2))).astype(int) - margin
    high = np.ceil(nodes.max((1, 2))).astype(int) + margin + 1
    c0, r0 = np.maximum(low, 0)
    c1, r1 = np.minimum(high, source.shape[::-1])
    if r1 <= r0 or c1 <= c0:
        return None
    window = Window(int(r0), int(c0), int(r1 - r0), int(c1 - c0))
    return Placement(window, nodes - np.array([c0, r0]).reshape(2, 1, 1), (rows, cols), ratio)


def resample(values: np.ndarray, where: Placement, nearest: bool = False) -> np.ndarray:
    """Values on the target grid.

    Args:
        values: (bands, rows, cols) float32 of the placement's window, NaN where missing.
        where: from `place`.
        nearest: take the nearest pixel, for codes.

    Returns:
        (bands, rows, cols) float32 of the target, NaN where missing or outside.
    """
    nodes = where.nodes
    factor = int(round(where.ratio)) if where.ratio >= _COARSER and not nearest else 1
    if factor > 1:
        values = _box_means(values, factor)
        nodes = (nodes + 0.5) / factor - 0.5
    out = np.empty((len(values), *where.shape), np.float32)
    kernel = _nearest if nearest else _bilinear
    kernel(np.ascontiguousarray(values, np.float32), nodes, float(_STEP), out)
    return out


def _box_means(values: np.ndarray, factor: int) -> np.ndarray:
    """Means of the present values of factor x factor boxes."""
    bands, rows, cols = values.shape
    down, right = -rows % factor, -cols % factor
    padded = np.pad(values, ((0, 0), (0, down), (0, right)), constant_values=np.nan)
    boxes = padded.reshape(bands, padded.shape[1] // factor, factor, -1, factor)
    present = np.isfinite(boxes)
    count = present.sum((2, 4))
    total = np.where(present, boxes, 0).sum((2, 4), dtype=np.float32)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


@numba.njit(nogil=True, cache=True)
def _position(nodes, row, col, step):  # noqa: ANN001, ANN202
    """Column and row in the source of a target pixel, between the four nodes around it."""
    v, u = row / step, col / step
    i, j = int(v), int(u)
    v, u = v - i, u - j
    a, b = (1 - v) * (1 - u), (1 - v) * u
    c, d = v * (1 - u), v * u
    i1, j1 = min(i + 1, nodes.shape[1] - 1), min(j + 1, nodes.shape[2] - 1)
    x = a * nodes[0, i, j] + b * nodes[0, i, j1] + c * nodes[0, i1, j] + d * nodes[0, i1, j1]
    y = a * nodes[1, i, j] + b * nodes[1, i, j1] + c * nodes[1, i1, j] + d * nodes[1, i1, j1]
    return x, y


@numba.njit(nogil=True, cache=True)
def _nearest(values, nodes, step, out):  # noqa: ANN001, ANN202
    """Fill `out` with the nearest source pixels."""
    bands, height, width = values.shape
    for row in range(out.shape[1]):
        for col in range(out.shape[2]):
            x, y = _position(nodes, row, col, step)
            i, j = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
            inside = 0 <= i < height and 0 <= j < width
            for band in range(bands):
                out[band, row, col] = values[band, i, j] if inside else np.nan


@numba.njit(nogil=True, cache=True)
def _bilinear(values, nodes, step, out):  # noqa: ANN001, ANN202
    """Fill `out` with means of the four source pixels around, weighted, the missing left out."""
    bands, height, width = values.shape
    index = np.empty((out.shape[2], 4), np.int64)
    weight = np.empty((out.shape[2], 4), np.float32)
    home = np.empty(out.shape[2], np.int64)
    flat = values.reshape(bands, height * width)
    for row in range(out.shape[1]):
        for col in range(out.shape[2]):
            x, y = _position(nodes, row, col, step)
            near_y, near_x = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
            inside = 0 <= near_y < height and 0 <= near_x < width
            home[col] = near_y * width + near_x if inside else -1
            i, j = int(np.floor(y)), int(np.floor(x))
            v, u = np.float32(y - i), np.float32(x - j)
            i0, i1 = min(max(i, 0), height - 1), min(max(i + 1, 0), height - 1)
            j0, j1 = min(max(j, 0), width - 1), min(max(j + 1, 0), width - 1)
            index[col, 0], weight[col, 0] = i0 * width + j0, (1 - v) * (1 - u)
            index[col, 1], weight[col, 1] = i0 * width + j1, (1 - v) * u
            index[col, 2], weight[col, 2] = i1 * width + j0, v * (1 - u)
            index[col, 3], weight[col, 3] = i1 * width + j1, v * u
        for band in range(bands):
            for col in range(out.shape[2]):
                total, share = np.float32(0), np.float32(0)
                missing = home[col] < 0 or np.isnan(flat[band, max(home[col], 0)])
                if not missing:
                    for k in range(4):
                        value = flat[band, index[col, k]]
                        if not np.isnan(value):
                            total += weight[col, k] * value
                            share += weight[col, k]
                out[band, row, col] = np.nan if missing else total / share
