"""Where two grids meet: the windows of their common area, pixel on pixel."""

from __future__ import annotations

import numpy as np

from .grid import Grid, Window

_TOLERANCE = 0.01  # pixels


def common_windows(first: Grid, second: Grid) -> tuple[Window, Window] | None:
    """The windows of the area that two grids share, one in each, of the same shape.

    Returns:
        None where the grids have no common area.

    Raises:
        ValueError: the pixels do not lie on each other (CRS, size, turn, or a part of a pixel).
    """
    if first.crs_wkt != second.crs_wkt and first.crs != second.crs:
        raise ValueError("their coordinate systems differ")
    # the second grid's corners in pixels of the first must be its own shape, moved by whole pixels
    rows, cols = second.shape
    corners = np.array([(0, 0), (cols, 0), (0, rows), (cols, rows)], float)
    seen = np.array([~first.affine @ (second.affine @ tuple(corner)) for corner in corners])
    moved = seen - corners
    whole = np.rint(moved[0])
    if np.abs(moved - moved[0]).max() > _TOLERANCE:
        raise ValueError("their pixels differ in size or direction")
    if np.abs(moved[0] - whole).max() > _TOLERANCE:
        raise ValueError("their pixels are a part of a pixel apart")
    right, down = int(whole[0]), int(whole[1])
    top, bottom = max(down, 0), min(down + rows, first.shape[0])
    left, end = max(right, 0), min(right + cols, first.shape[1])
    if bottom <= top or end <= left:
        return None
    size = bottom - top, end - left
    return Window(top, left, *size), Window(top - down, left - right, *size)


def within(window: Window, area: Window) -> Window:
    """A window of an area as a window of the grid that the area is a part of."""
    return Window(window.row + area.row, window.col + area.col, window.rows, window.cols)
