"""Job `encode`: a stack becomes an embeddings file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..context import JobContext
from ..encoding.pipeline import encode_stack
from ..stacks.season import one_season
from ..stacks.stack import open_input, with_weather


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Encode.

    Args:
        params: input (paths: one stack, or rasters and folders), output; encoder, extent
            ([left, bottom, right, top, CRS]), start and end (ISO days), upsample (bring the
            embeddings of patches to the pixels of the rasters), weather and weather_units (as
            `stack.with_weather`; instead of the stack's own).
        context: surroundings.

    Returns:
        output, pixels (that have an embedding; patches of a patch encoder), seconds, season
        ([first, last] ISO day).
    """
    stack = open_input([Path(p) for p in params["input"]], context)
    if params.get("weather"):
        stack = with_weather(stack, params["weather"], params.get("weather_units"), context)
    stack = one_season(stack, params.get("start"), params.get("end"), context)
    encoded = encode_stack(stack, params.get("encoder", "automatic"), Path(params["output"]),
                           context, params.get("extent"), bool(params.get("upsample")))
    return {"output": str(encoded.path), "pixels": encoded.pixels, "seconds": encoded.seconds,
            "season": stack.season()}
