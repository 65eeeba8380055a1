"""Vector outputs of a search: ranked points, and outlines of all that is alike enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import shapely
from rasterio.features import shapes
from scipy.ndimage import label

from ..rasters.grid import Grid, Window
from ..rasters.vector import VectorFile
from .archive import Archive
from .background import Significance
from .heatmap import SCALE
from .ranking import Places


def write_matches(file: VectorFile, places: Places, archive: Archive, significance: Significance
                  ) -> None:
    """Ranked points with cosine, percentile, coordinates and the file they come from."""
    tiles, rows, cols = places.pixels(archive)
    x, y = archive.position(tiles, rows, cols)
    names = np.array([t.path.name for t in archive.tiles], object)
    file.write(shapely.points(x, y), "Point", {
        "rank": np.arange(1, len(places) + 1, dtype=np.int32), "cosine": places.similarities,
        "percentile": significance.percentile(places.similarities), "x": x, "y": y,
        "source": names[tiles]}, archive.tiles[0].grid.crs_wkt)


class Outlines:
    """Collects similarities and outlines the areas that reach a threshold.

    Similarities, mask and numbers of areas lie in memory-mapped files in a temporary folder (7
    bytes a pixel) that the system may swap out; only the outlines grow in memory. Areas hold
    together over edges and not over corners, which keeps polygons valid.

    Args:
        grid: of the similarities.
        threshold: smallest similarity.
        folder: for temporary files.
    """

    def __init__(self, grid: Grid, threshold: float, folder: Path) -> None:
        self._grid, self._least = grid, int(np.ceil(threshold / SCALE - 1e-9))
        self._codes = np.memmap(folder / "similarity.map", np.int16, "w+", shape=grid.shape)
        self._mask = np.memmap(folder / "mask.map", np.uint8, "w+", shape=grid.shape)
        self._areas = np.memmap(folder / "areas.map", np.int32, "w+", shape=grid.shape)

    def add(self, window: Window, codes: np.ndarray) -> None:
        """Take in the stored similarities of a window."""
        self._codes[window.slices] = codes
        self._mask[window.slices] = codes >= self._least

    def write(self, file: VectorFile, check: Callable[[], None]) -> int:
        """Write the polygons with area_ha and mean cosine, the largest first; how many.

        Args:
            check: called now and then; may raise to stop.
        """
        count = int(label(self._mask, output=self._areas))
        square_metres = np.zeros(count + 1)
        total, pixels = np.zeros(count + 1), np.zeros(count + 1)
        row_areas = self._grid.row_areas_m2()
        for window in self._grid.blocks(256, self._grid.shape[1]):
            check()
            own = self._areas[window.slices].ravel()
            every = np.repeat(row_areas[window.slices[0]], window.cols)
            square_metres += np.bincount(own, every, count + 1)
            total += np.bincount(own, self._codes[window.slices].ravel(), count + 1)
            pixels += np.bincount(own, minlength=count + 1)
        outlines = np.empty(count, object)
        found = shapes(self._areas, mask=self._mask, connectivity=4,
                       transform=self._grid.affine)
        for done, (outline, value) in enumerate(found):
            if done % 1000 == 0:
                check()
            outlines[int(value) - 1] = shapely.geometry.shape(outline)
        order = np.argsort(-square_metres[1:], kind="stable")
        file.write(outlines[order], "Polygon", {
            "area_ha": square_metres[1:][order] / 1e4,
            "cosine": (total[1:] / np.maximum(pixels[1:], 1))[order] * SCALE},
            self._grid.crs_wkt)
        return count
