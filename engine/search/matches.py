"""Vector outputs of a search: ranked points, and outlines of all that is alike enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from rasterio.features import shapes
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..rasters.grid import Grid, Window
from ..rasters.vector import VectorFile
from .archive import Archive
from .background import Significance
from .heatmap import SCALE
from .ranking import Places

_STRIP = 2_000_000  # pixels that are outlined without a look at whether to stop


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
    together over edges and not over corners, which keeps polygons valid. They are numbered and
    outlined strip by strip and then joined, so that a search can be stopped midway.

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

    def write(self, file: VectorFile, min_area_ha: float, check: Callable[[], None]) -> int:
        """Write the polygons with area_ha and mean cosine, the largest first; how many.

        Args:
            file: to write.
            min_area_ha: smaller areas are left out.
            check: called now and then; may raise to stop.
        """
        strips = list(self._grid.blocks(max(_STRIP // self._grid.shape[1], 1),
                                        self._grid.shape[1]))
        numbers = self._numbers(strips, check)
        count = int(numbers.max())
        square_metres = np.zeros(count + 1)
        total, pixels = np.zeros(count + 1), np.zeros(count + 1)
        row_areas = self._grid.row_areas_m2()
        pieces: list[list[shapely.Geometry]] = [[] for _ in range(count)]
        for window in strips:
            check()
            areas = self._areas[window.slices]
            areas[:] = numbers[areas]
            own = areas.ravel()
            every = np.repeat(row_areas[window.slices[0]], window.cols)
            square_metres += np.bincount(own, every, count + 1)
            total += np.bincount(own, self._codes[window.slices].ravel(), count + 1)
            pixels += np.bincount(own, minlength=count + 1)
            # in whole pixels, so that the edges of two strips are the same numbers
            found = shapes(areas, mask=self._mask[window.slices], connectivity=4,
                           transform=Affine.translation(0, window.row))
            for done, (outline, value) in enumerate(found):
                if done % 1000 == 0:
                    check()
                pieces[int(value) - 1].append(shapely.geometry.shape(outline))
        # to the square millimetre, so that sums in another order rank areas alike
        order = np.argsort(-np.round(square_metres[1:], 6), kind="stable")
        order = order[square_metres[1:][order] >= min_area_ha * 1e4]
        file.write(self._joined([pieces[k] for k in order], check), "Polygon", {
            "area_ha": square_metres[1:][order] / 1e4,
            "cosine": (total[1:] / np.maximum(pixels[1:], 1))[order] * SCALE},
            self._grid.crs_wkt)
        return len(order)

    def _numbers(self, strips: list[Window], check: Callable[[], None]) -> np.ndarray:
        """Number the areas of each strip; which number each gets when strips are joined.

        Returns:
            (n + 1,) int32, 0 for 0, else 1 to the number of areas in the order of their pixels.
        """
        count, first, second = 0, [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for window in strips:
            check()
            areas, inside = self._areas[window.slices], self._mask[window.slices] != 0
            found = int(label(inside, output=areas))
            areas[inside] += count
            if window.row:
                above = self._areas[window.row - 1]
                both = (above > 0) & (areas[0] > 0)
                first.append(above[both])
                second.append(areas[0][both])
            count += found
        ends = np.concatenate(first) - 1, np.concatenate(second) - 1
        _, joined = connected_components(
            coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(count, count)), directed=False)
        _, place, back = np.unique(joined, return_index=True, return_inverse=True)
        rank = np.empty(len(place), np.int32)
        rank[np.argsort(place)] = np.arange(1, len(place) + 1)
        return np.concatenate([np.zeros(1, np.int32), rank[back]])

    def _joined(self, pieces: list[list[shapely.Geometry]], check: Callable[[], None]
                ) -> np.ndarray:
        """One outline an area, in the coordinates of the grid."""
        outlines = np.empty(len(pieces), object)
        for k, parts in enumerate(pieces):
            if k % 1000 == 0 or len(parts) > 1:
                check()
            # simplified by nothing: without the corners that the edges of strips have left
            outlines[k] = parts[0] if len(parts) == 1 else shapely.simplify(
                shapely.union_all(parts), 0)
        return shapely.transform(
            outlines, lambda xy: np.column_stack(self._grid.affine @ tuple(xy.T)))
