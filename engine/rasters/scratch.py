"""One band of numbers in a temporary file: what waits between two passes over a grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window as RasterioWindow

from .grid import Grid, Window


class Scratch:
    """A file that is written by one pass and read by the next; a with-block.

    It lies in a job's folder and goes with it.
    """

    def __init__(self, dataset: rasterio.DatasetReader | rasterio.io.DatasetWriter) -> None:
        self._dataset = dataset

    @classmethod
    def create(cls, path: Path, grid: Grid, dtype: str) -> Scratch:
        """A new file on a grid, to be written."""
        return cls(rasterio.open(
            path, "w", driver="GTiff", width=grid.shape[1], height=grid.shape[0], count=1,
            dtype=dtype, crs=grid.crs, transform=grid.affine, compress="deflate", zlevel=1,
            BIGTIFF="IF_SAFER"))

    @classmethod
    def open(cls, path: Path) -> Scratch:
        """A file that was written, to be read."""
        return cls(rasterio.open(path))

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *error: object) -> None:
        self._dataset.close()

    @property
    def grid(self) -> Grid:
        """Where its pixels lie."""
        return Grid.of(self._dataset)

    @property
    def band(self) -> rasterio.Band:
        """As GDAL's algorithms take it."""
        return rasterio.band(self._dataset, 1)

    def write(self, window: Window, values: np.ndarray) -> None:
        """Write (rows, cols) values of a window."""
        self._dataset.write(values, 1, window=_place(window))

    def read(self, window: Window) -> np.ndarray:
        """(rows, cols) values of a window."""
        return self._dataset.read(1, window=_place(window))


def _place(window: Window) -> RasterioWindow:
    return RasterioWindow(window.col, window.row, window.cols, window.rows)
