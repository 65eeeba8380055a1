"""Outlines of patches: one polygon a patch, drawn from the raster of their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import shapely
from rasterio.features import shapes

from .patches import Patches
from .scratch import Scratch
from .vector import VectorFile

_ROWS = 256  # rows read at a time


def write_polygons(file: VectorFile, numbers: Path, patches: Patches, value: str,
                   further: Mapping[str, np.ndarray] | None = None) -> None:
    """One polygon a patch, with `area_ha` and the mean in the field `value`, largest first.

    Args:
        file: to write into.
        numbers: `Scratch` of int32 numbers of the patches, 0 for none.
        further: fields, a value a patch.
    """
    inside = numbers.with_name(f"{numbers.stem}_inside.tif")
    geometry = np.empty(len(patches.hectares), object)
    with Scratch.open(numbers) as kept:
        grid = kept.grid
        # without a mask what is around all patches is a polygon too, with each of them as a hole
        with Scratch.create(inside, grid, "uint8") as mask:
            for strip in grid.blocks(_ROWS, grid.shape[1]):
                mask.write(strip, (kept.read(strip) > 0).astype(np.uint8))
        with Scratch.open(inside) as mask:
            for shape, number in shapes(kept.band, mask=mask.band, connectivity=4,
                                        transform=grid.affine):
                outer, *holes = shape["coordinates"]
                geometry[int(number) - 1] = shapely.Polygon(outer, holes)
    file.write(geometry, "Polygon",
               {"area_ha": patches.hectares, value: patches.mean, **(further or {})}, grid.crs_wkt)
