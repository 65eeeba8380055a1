"""The picture of a class map in a report: a small PNG with scale bar and north."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import Resampling

from ..heads.crossval import metres_of
from ..rasters.grid import Grid
from ..rasters.legend import NODATA, Legend
from .charts import line, svg, text

_MOST = 1400  # pixels of the longer side
_WIDTH, _HEIGHT = 896, 640  # room on the page


def map_picture(path: Path, legend: Legend, alt: str) -> str:
    """One <svg> with the map, at most as large as the page, read through its overviews."""
    with rasterio.open(path) as dataset:
        grid = Grid.of(dataset)
        shrink = max(1.0, max(dataset.shape) / _MOST)
        shape = tuple(max(1, round(n / shrink)) for n in dataset.shape)
        values = dataset.read(1, out_shape=shape, resampling=Resampling.nearest)
    zoom = min(_WIDTH / grid.shape[1], _HEIGHT / grid.shape[0])
    width, height = grid.shape[1] * zoom, grid.shape[0] * zoom
    left = (_WIDTH - width) / 2
    parts = [
        f'<rect x="{left:.1f}" y="0" width="{width:.1f}" height="{height:.1f}" class="paper"/>',
        f'<image x="{left:.1f}" y="0" width="{width:.1f}" height="{height:.1f}" '
        f'preserveAspectRatio="none" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{_png(values, legend)}"/>',
        *_scale_bar(grid, zoom, left + 14, height - 16), *_north(grid, left + width - 32)]
    return svg(_WIDTH, height, alt, parts, "map")


def _png(values: np.ndarray, legend: Legend) -> str:
    palette = np.zeros((256, 3), np.uint8)
    known = np.zeros(256, bool)
    for c in legend.classes:
        palette[c.value] = [int(c.color[i:i + 2], 16) for i in (1, 3, 5)]
        known[c.value] = True
    image = Image.fromarray(np.where(known[values], values, NODATA).astype(np.uint8), "P")
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, transparency=NODATA)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _scale_bar(grid: Grid, zoom: float, x: float, y: float) -> list[str]:
    rows, cols = grid.shape
    ends = metres_of(grid, np.array([rows / 2, rows / 2]), np.array([0, cols]))
    metres = float(np.hypot(*(ends[1] - ends[0]))) / (cols * zoom)  # of one px
    power = 10.0 ** math.floor(math.log10(160 * metres))
    length = max(f * power for f in (1, 2, 5) if f * power <= 160 * metres)
    px = length / metres
    words = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    return [f'<rect x="{x - 6:.1f}" y="{y - 24:.1f}" width="{px + 12:.1f}" height="32" rx="4" '
            'class="plate"/>',
            text(x + px / 2, y - 8, words, "onplate", "middle"),
            line(x, y, x + px, y, "ruler"), line(x, y - 4, x, y + 3, "ruler"),
            line(x + px, y - 4, x + px, y + 3, "ruler")]


def _north(grid: Grid, x: float) -> list[str]:
    """An arrow to the north of the grid's reference system."""
    inverse = ~grid.affine
    angle = math.degrees(math.atan2(inverse.b, -inverse.e))
    return [f'<circle cx="{x:.1f}" cy="32" r="19" class="plate"/>',
            f'<g transform="translate({x:.1f} 32) rotate({angle:.1f})">'
            '<path d="M0 -14 L6 8 L0 4 L-6 8 Z" class="needle"/></g>',
            text(x, 62, "N", "haloed", "middle")]
