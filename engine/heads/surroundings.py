"""Windows of features with the ground around them, for heads that look at neighbours.

Beyond the raster's edge the ground is mirrored; pixels without data have no features at all (NaN).
Training and mapping read through these functions, so that both see the same surroundings.
"""

from __future__ import annotations

import numpy as np

from ..rasters.grid import Window
from .features import FeatureSource
from .layout import FeatureLayout


def reflected(index: np.ndarray, length: int) -> np.ndarray:
    """Indices mirrored into 0..length-1; the edge pixel is not repeated."""
    if length == 1:
        return np.zeros_like(index)
    turn = np.abs(index) % (2 * length - 2)
    return np.where(turn < length, turn, 2 * length - 2 - turn)


def with_margin(source: FeatureSource, window: Window, margin: int,
                layout: FeatureLayout) -> tuple[np.ndarray, np.ndarray]:
    """Features of a window and of `margin` pixels around it.

    Args:
        source: the features.
        window: of the source's grid.
        margin: pixels on each side; mirrored where the raster ends.
        layout: which features.

    Returns:
        (rows + 2 margin, cols + 2 margin, k) float32, NaN where there is no answer, and the
        (rows + 2 margin, cols + 2 margin) bool mask of what has one.
    """
    rows = reflected(np.arange(window.row - margin, window.row + window.rows + margin),
                     source.grid.shape[0])
    cols = reflected(np.arange(window.col - margin, window.col + window.cols + margin),
                     source.grid.shape[1])
    wide = Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
    features, valid = source.window(wide, layout)
    features = features.reshape(wide.rows, wide.cols, -1)
    if margin:
        place = np.ix_(rows - wide.row, cols - wide.col)
        features, valid = features[place], valid[place]
        features[~valid] = np.nan
    return features, valid
