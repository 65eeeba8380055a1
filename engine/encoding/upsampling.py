"""Embeddings of patches to embeddings of pixels: bilinear between the middles of the patches."""

from __future__ import annotations

from pathlib import Path

import numba
import numpy as np

from ..context import JobContext, Pace
from ..rasters.cog import TILE
from ..rasters.embeddings import EmbeddingsFile, EmbeddingsWriter
from ..rasters.grid import Grid, Window


@numba.njit(cache=True, nogil=True)
def _interpolate(codes: np.ndarray, row: float, col: float, patch: int, scale: float,
                 out: np.ndarray) -> None:
    """Fill (rows, cols, d) codes; row, col: place of its first pixel's middle among the patches."""
    height, width, dims = codes.shape
    mean = np.empty(dims, np.float64)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            y, x = row + i / patch, col + j / patch
            if codes[min(int(np.rint(y)), height - 1), min(int(np.rint(x)), width - 1), 0] == 0:
                continue  # no embedding where the pixel's own patch has none
            mean[:] = 0.0
            y0, x0 = int(np.floor(y)), int(np.floor(x))
            for k in range(4):
                r, c = y0 + k // 2, x0 + k % 2
                weight = (1 - abs(y - r)) * (1 - abs(x - c))
                r, c = min(max(r, 0), height - 1), min(max(c, 0), width - 1)
                if weight > 0 and codes[r, c, 0] != 0:
                    for d in range(dims):
                        mean[d] += weight * (codes[r, c, d] - 128.0)
            norm = np.sqrt((mean * mean).sum())
            if norm > 0:
                for d in range(dims):
                    out[i, j, d] = min(max(np.rint(mean[d] / (norm * scale)) + 128.0, 1.0), 255.0)


def upsample(path: Path, grid: Grid, patch: int, output: Path, tags: dict[str, str],
             context: JobContext) -> int:
    """Write the embeddings of a file on a finer grid; the number of pixels that have one.

    Args:
        path: embeddings of patches.
        grid: of pixels, `patch` to a side of a patch; starts on a pixel of the file's patches.
        output: file to write.
        tags: of the new file.
    """
    pixels = 0
    pace = Pace(context, grid.full.size, "pixels", "Upsampling")
    with EmbeddingsFile(path) as file, EmbeddingsWriter(
            output, grid, file.dims, file.scale, tags, context.check) as out:
        col, row = (round(n * patch) / patch for n in ~file.grid.affine @ (grid.affine @ (0, 0)))
        for block in grid.blocks(TILE, TILE):
            top, left = row + (block.row + 0.5) / patch - 0.5, col + (block.col + 0.5) / patch - 0.5
            first = max(int(np.floor(top)), 0), max(int(np.floor(left)), 0)
            last = [min(int(start + (length - 1) / patch) + 2, size) for start, length, size in (
                (top, block.rows, file.grid.shape[0]), (left, block.cols, file.grid.shape[1]))]
            codes = file.codes(Window(*first, last[0] - first[0], last[1] - first[1]))
            fine = np.zeros((block.rows, block.cols, file.dims), np.uint8)
            _interpolate(codes, top - first[0], left - first[1], patch, file.scale, fine)
            out.write(block.row, block.col, fine)
            pixels += int((fine[..., 0] != 0).sum())
            pace.add(block.size)
    return pixels
