"""Job `visualize_embeddings`: embeddings as three colours, the same in all tiles and years."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ..context import JobContext, Pace
from ..encoding.pipeline import window_in
from ..errors import UserError
from ..heads.inputs import Inputs
from ..rasters.colours import ColourBasis
from ..rasters.embeddings import DATES_TAG, EmbeddingsFile, dequantise
from ..rasters.grid import Window
from ..rasters.overlap import within
from ..rasters.raster import RasterWriter, check_writable
from ..rasters.sampling import even_places

_SAMPLE = 40_000  # pixels from which the colours are found
_BLOCK = 256
#: Tag with the encoder; not `ENCODER_TAG`, since colours must not pass for embeddings.
_COLOURS_TAG = "EARTHPRINT_COLOURS_OF"


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Paint embeddings by their first three principal components.

    Args:
        params: input (embeddings, or rasters to encode), output; encoder, basis (a saved one),
            basis_output, extent, seed (0).
        context: surroundings.

    Returns:
        output, basis_output (path or None), explained (share of variance, 0..1), season.
    """
    start = time.monotonic()
    output, saved = Path(params["output"]), params.get("basis_output")
    for path in filter(None, (output, saved)):
        check_writable(Path(path))
    basis = ColourBasis.load(Path(params["basis"])) if params.get("basis") else None
    inputs = Inputs.open(params["input"], params.get("extent"), None, context)
    inputs = inputs.encoded(_encoder(params, basis), context.folder / "embeddings.tif",
                            context.part(0, 0.6))
    with EmbeddingsFile(inputs.embeddings) as file:
        name = inputs.name
        area = window_in(file.grid, params.get("extent"))
        if basis is None:
            sample = _sample(file, area, int(params.get("seed") or 0), context.part(0.6, 0.7))
            if not len(sample):
                raise UserError(f"{name} has no pixel with an embedding here. Choose another area.")
            basis = ColourBasis.fit(file.encoder, sample)
        basis.require(file.encoder, file.dims, name)
        _paint(file, area, basis, output, context.part(0.7, 0.98))
    if saved:
        basis.save(Path(saved))
    context.log(f"Colours: three axes hold {100 * basis.explained:.0f} % of the variance of their "
                f"sample; {area.rows} x {area.cols} pixels; {time.monotonic() - start:.0f} s")
    return {"output": str(output), "basis_output": saved, "explained": basis.explained,
            "season": inputs.season()}


def _encoder(params: dict[str, Any], basis: ColourBasis | None) -> str:
    """The encoder asked for; with a saved basis automatic means the one of the basis."""
    chosen = params.get("encoder") or "automatic"
    return basis.encoder.split("@")[0] if basis and chosen.lower() == "automatic" else chosen


def _sample(file: EmbeddingsFile, area: Window, seed: int, context: JobContext) -> np.ndarray:
    """(n, d) vectors evenly over an area."""
    parts, places = [], even_places((area.rows, area.cols), _SAMPLE, seed)
    for k, (window, rows, cols) in enumerate(places):
        context.progress(k / len(places), "Finding colours")
        codes = file.codes(within(window, area))[rows, cols]
        parts.append(dequantise(codes[codes[:, 0] != 0], file.scale))
    return np.concatenate(parts)


def _paint(file: EmbeddingsFile, area: Window, basis: ColourBasis, output: Path,
           context: JobContext) -> None:
    grid = file.grid.part(area)
    tags = {_COLOURS_TAG: file.encoder, DATES_TAG: ",".join(file.dates)}
    pace = Pace(context, grid.full.size, "pixels", "Painting")
    with RasterWriter(output, grid, "uint8", 0, bands=3, tags=tags, overview="average",
                      descriptions=("Red: axis 1", "Green: axis 2", "Blue: axis 3")) as out:
        for window in grid.blocks(_BLOCK, _BLOCK):
            out.write(window, basis.colours(file.codes(within(window, area)), file.scale))
            pace.add(window.size)


