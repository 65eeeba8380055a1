"""Job `import_embeddings`: other people's embeddings become an embeddings file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..context import JobContext, Pace
from ..encoding.pipeline import window_in
from ..errors import UserError
from ..imports.mosaic import Mosaic, Seam, chosen
from ..imports.recognition import open_sources
from ..imports.source import Source
from ..rasters.cog import TILE
from ..rasters.embeddings import (
    ATTRIBUTION_TAG,
    CENTER_TAG,
    DATES_TAG,
    ENCODER_TAG,
    EmbeddingsWriter,
    quantise,
)
from ..rasters.grid import Grid, Window
from ..rasters.raster import check_space, check_writable

_BLOCK = 4 * TILE  # blocks in which files are read, so that their own blocks are read once
_SAMPLE = 40_000  # vectors that the scale and the centre are taken from
_STRIDE = 8  # at most: pixels between two of the sample
_CLIPPED = 1e-4  # share of components that may be clipped; a fifth of it in the sample
_LARGEST = 400_000_000  # pixels that are imported without an area being chosen
_SEAM = 0.05  # mean cosine distance in an overlap from which on a seam will show


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Import.

    Args:
        params: input (files, folders, Zarr folders or https addresses), address (one more, of a
            Zarr store), output; format ("auto" or a word of `recognition.FORMATS`), year, crs
            (default: that of most pixels), extent ([left, bottom, right, top, CRS]).
        context: surroundings.

    Returns:
        output, pixels (that have an embedding), encoder, dims, attribution, seams (first, second,
        pixels, distance), clipped (share of components), season ([first, last] ISO day).
    """
    given = params.get("input") or []
    inputs = [given] if isinstance(given, str) else [str(item) for item in given]
    inputs += filter(None, [str(params.get("address") or "").strip()])
    if not inputs:
        raise UserError("Give embeddings files or the address of a Zarr store.")
    output = Path(params["output"])
    check_writable(output)
    year = int(params["year"]) if params.get("year") else None
    sources = open_sources(inputs, params.get("format") or "auto", year, context.warn,
                           context.check)
    sources, grid = chosen(sources, params.get("crs"), params.get("extent"))
    if params.get("extent"):
        grid = grid.part(window_in(grid, params["extent"]))
    elif grid.full.size > _LARGEST:
        raise UserError(f"The embeddings cover {grid.shape[0]} x {grid.shape[1]} pixels. Choose an "
                        "area to process.")
    mosaic, origin = Mosaic(sources, grid), sources[0].origin
    check_space(output, 2.4 * mosaic.dims * mosaic.pixels)
    _announce(sources, mosaic, context)
    year = year or next((s.origin.year for s in sources if s.origin.year), None)
    season = [f"{year}-01-01", f"{year}-12-31"] if year else []
    try:
        basis = _measure(mosaic, context.part(0.0, 0.15))
        tags = {ENCODER_TAG: origin.encoder, DATES_TAG: ",".join(season),
                CENTER_TAG: ",".join(f"{value:.6g}" for value in basis.center)}
        if origin.attribution:
            tags[ATTRIBUTION_TAG] = origin.attribution
        pixels, clipped = _write(mosaic, output, basis.scale, tags, context.part(0.15, 0.97))
    finally:
        for source in sources:
            source.close()
    seams = mosaic.seams()
    _report(seams, clipped, context)
    context.log(f"Imported {pixels} pixels of {mosaic.dims} dimensions"
                f"{'. ' + origin.attribution if origin.attribution else ''}")
    return {"output": str(output), "pixels": pixels, "encoder": origin.encoder,
            "dims": mosaic.dims, "attribution": origin.attribution, "clipped": clipped,
            "seams": [vars(seam) for seam in seams], "season": season}


@dataclass(frozen=True)
class _Basis:
    """What is measured before writing: scale of the codes, and (dims,) mean of unit vectors."""

    scale: float
    center: np.ndarray


def _announce(sources: list[Source], mosaic: Mosaic, context: JobContext) -> None:
    first = sources[0].origin
    rows, cols = mosaic.grid.shape
    context.log(f"Encoder {first.encoder}, {mosaic.dims} d; {len(sources)} sources, "
                f"{rows} x {cols} pixels")
    if first.encoder.startswith("unknown@"):
        context.warn("The files do not say which encoder made them. Compare them only with "
                     "embeddings of the same encoder.")
    other = [s.name for s in sources if s.grid.crs != mosaic.grid.crs]
    if other:
        context.log(f"{len(other)} sources are in another CRS; the nearest pixels are taken: "
                    f"{', '.join(other[:5])}{' ...' if len(other) > 5 else ''}")


def _parts(mosaic: Mosaic, window: Window, context: JobContext) -> Iterator[Window]:
    """A window by rows, so that the arrays of a part stay within half the memory budget."""
    # vectors as read, at their place, normalised, and the mosaic's own
    share = context.memory_mb * 1e6 / 2 / (4 * 4 * mosaic.dims)
    rows = min(max(int(share / window.cols), 1), window.rows)
    for row in range(0, window.rows, rows):
        yield Window(window.row + row, window.col, min(rows, window.rows - row), window.cols)


def _measure(mosaic: Mosaic, context: JobContext) -> _Basis:
    """Scale and centre from vectors of tiles all over the mosaic."""
    tiles = [tile for tile in mosaic.grid.blocks(TILE, TILE) if mosaic.touched(tile)]
    order = np.random.default_rng(0).permutation(len(tiles))
    stride = min(max(math.isqrt(mosaic.pixels // _SAMPLE), 1), _STRIDE)
    parts, count = [], 0
    for done, k in enumerate(order):
        for window in _parts(mosaic, tiles[k], context):
            context.progress(max(count / _SAMPLE, done / len(tiles)), "Measuring a sample")
            vectors, valid = mosaic.read(window)
            some = vectors[::stride, ::stride][valid[::stride, ::stride]]
            parts.append(some if len(some) else vectors[valid][:1])
            count += len(parts[-1])
        mosaic.release(mosaic.grid.shape[0])
        if count >= _SAMPLE:
            break
    if not count:
        raise UserError("The embeddings have no valid pixel in the area. Choose another area or "
                        "year.")
    sample = np.concatenate(parts)
    limit = float(np.quantile(np.abs(sample), 1 - _CLIPPED / 5))
    # steps of a quarter octave: imports of one encoder mostly share their scale
    scale = min(2 ** (math.ceil(4 * math.log2(limit / 127)) / 4), 1 / 127)
    return _Basis(scale, sample.mean(0, dtype=np.float64))


def _write(mosaic: Mosaic, output: Path, scale: float, tags: dict[str, str],
           context: JobContext) -> tuple[int, float]:
    """Write all tiles; number of pixels with an embedding, share of clipped components."""
    grid, pixels, clipped = mosaic.grid, 0, 0
    pace = Pace(context, grid.full.size, "pixels", "Importing")
    with EmbeddingsWriter(output, grid, mosaic.dims, scale, tags, context.check) as out:
        for block in grid.blocks(_BLOCK, _BLOCK):
            if block.col == 0:
                mosaic.release(block.row)
            for tile in _tiles(grid, block):
                if not mosaic.touched(tile):
                    pace.add(tile.size, 0)
                    continue
                codes = np.zeros((tile.rows, tile.cols, mosaic.dims), np.uint8)
                for part in _parts(mosaic, tile, context):
                    vectors, valid = mosaic.read(part, seams=True)
                    some = vectors[valid]
                    target = codes[part.row - tile.row :][: part.rows]
                    target[valid] = quantise(some, scale)
                    pixels += len(some)
                    clipped += int(np.count_nonzero(np.abs(some) > 127.5 * scale))
                    pace.add(part.size, len(some))
                out.write(tile.row, tile.col, codes)
        if not pixels:
            raise UserError("The embeddings have no valid pixel in the area. Choose another area "
                            "or year.")
        context.check()
    return pixels, clipped / (pixels * mosaic.dims)


def _tiles(grid: Grid, block: Window) -> Iterator[Window]:
    for tile in grid.part(block).blocks(TILE, TILE):
        yield Window(block.row + tile.row, block.col + tile.col, tile.rows, tile.cols)


def _report(seams: list[Seam], clipped: float, context: JobContext) -> None:
    """What the analyst should know of seams and codes."""
    if seams:
        pixels = sum(seam.pixels for seam in seams)
        mean = sum(seam.pixels * seam.distance for seam in seams) / pixels
        context.log(f"{len(seams)} overlaps, {pixels} pixels: mean cosine distance {mean:.4f}")
    bad = [seam for seam in seams if seam.distance > _SEAM]
    for seam in bad[:3]:
        context.warn(f"{seam.first} and {seam.second} differ where they overlap: mean cosine "
                     f"distance {seam.distance:.3f} on {seam.pixels} pixels. The seam may show in "
                     "maps.")
    if len(bad) > 3:
        context.warn(f"{len(bad) - 3} more overlaps differ by more than {_SEAM}.")
    if clipped >= _CLIPPED:
        context.warn(f"{100 * clipped:.3f} % of the numbers were larger than the 8-bit codes hold "
                     "and were clipped.")
