"""The similarity raster: absolute cosines as 16-bit numbers, in Inferno."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..rasters.grid import Grid
from ..rasters.raster import RasterWriter
from ..rasters.styles import INFERNO, Ramp

#: Stored similarity = code * SCALE; the code of no embedding is NODATA.
SCALE, NODATA = 1e-4, -32768


def codes_of(similarities: np.ndarray) -> np.ndarray:
    """Similarities, NaN for no embedding, as stored int16."""
    codes = np.full(similarities.shape, NODATA, np.int16)
    known = ~np.isnan(similarities)
    codes[known] = np.rint(np.clip(similarities[known], -1, 1) / SCALE)
    return codes


def similarity_writer(path: Path, grid: Grid, tags: dict[str, str]) -> RasterWriter:
    """A writer of stored similarities with their scale and colours."""
    return RasterWriter(path, grid, "int16", NODATA, tags=tags, overview="average", scale=SCALE,
                        ramp=Ramp(INFERNO, 0.0, 1.0, "{:g}", 0.8), descriptions=["cosine"])
