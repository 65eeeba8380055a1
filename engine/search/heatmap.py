"""The similarity raster: absolute cosines as 16-bit numbers, in Inferno."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..rasters.grid import Grid
from ..rasters.raster import RasterWriter

#: Stored similarity = code * SCALE; the code of no embedding is NODATA.
SCALE, NODATA = 1e-4, -32768

#: Anchors of the Inferno ramp (van der Walt and Smith 2015), cosine to colour.
_INFERNO = ((0.0, "#000004"), (0.25, "#57106e"), (0.5, "#bc3754"), (0.75, "#f98e09"),
            (1.0, "#fcffa4"))


def codes_of(similarities: np.ndarray) -> np.ndarray:
    """Similarities, NaN for no embedding, as stored int16."""
    codes = np.full(similarities.shape, NODATA, np.int16)
    known = ~np.isnan(similarities)
    codes[known] = np.rint(np.clip(similarities[known], -1, 1) / SCALE)
    return codes


class SimilarityWriter(RasterWriter):
    """A `RasterWriter` of similarities with their scale and style.

    Args:
        path: of the finished GeoTIFF.
        grid: where the pixels lie.
        tags: metadata of the file.
    """

    def __init__(self, path: Path, grid: Grid, tags: dict[str, str]) -> None:
        super().__init__(path, grid, "int16", NODATA, tags=tags, overview="average",
                         descriptions=["cosine"])
        self._dataset.scales = (SCALE,)

    def _qml(self) -> str:
        items = "".join(f'      <item value="{value:g}" color="{color}" alpha="255" '
                        f'label="{value:g}"/>\n' for value, color in _INFERNO)
        return (
            '<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n'
            '<qgis version="3.22.0" styleCategories="Symbology">\n <pipe>\n'
            '  <rasterrenderer type="singlebandpseudocolor" band="1" opacity="0.8" alphaBand="-1" '
            'classificationMin="0" classificationMax="1" nodataColor="">\n   <rastershader>\n'
            '    <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" '
            f'minimumValue="0" maximumValue="1">\n{items}'
            "    </colorrampshader>\n   </rastershader>\n  </rasterrenderer>\n </pipe>\n</qgis>\n")
