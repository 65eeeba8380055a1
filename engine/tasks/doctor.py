"""Job `doctor`: whether the engine works here, tried on a tiny season of its own.

It runs every bundled encoder and one live search, which also compiles what is compiled, so that
the first real run is not slow.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ...models import catalogue
from ..context import JobContext
from ..encoding.encoder import Encoder
from ..errors import UserError
from ..rasters.embeddings import EmbeddingsFile
from ..search.live import LiveSearch
from ..stacks.stack import Stack, build_stack
from . import encode, simulate_season

_SIZE = 128  # pixels a side of the season


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Try the engine.

    Args:
        params: none.
        context: surroundings.

    Returns:
        encoders: name to pixels (or patches) a second; left_out: those that need other rasters.

    Raises:
        UserError: an encoder gives nothing, or something under another name.
    """
    folder = context.folder / "doctor"
    folder.mkdir()
    simulate_season.run({"output": str(folder / "season"), "size": _SIZE}, context.part(0, 0.1))
    stack = build_stack([folder / "season" / "scenes"]).save(folder / "season.stack.json")
    speeds, left_out = {}, []
    names = list(catalogue.bundled())
    for number, name in enumerate(names):
        part = context.part(0.1 + 0.8 * number / len(names), 0.1 + 0.8 * (number + 1) / len(names))
        part.progress(0.0, f"Trying {name}")
        if Encoder.open(name).missing(stack.sensors()):
            left_out.append(name)
            continue
        speeds[name] = _encode(name, stack, folder / f"{name}.tif", part)
        context.log(f"{name}: {speeds[name]:.0f} embeddings/s")
    _search(folder / f"{catalogue.DEFAULT}.tif")
    return {"encoders": speeds, "left_out": left_out}


def _encode(name: str, stack: Stack, output: Path, context: JobContext) -> float:
    """Embeddings a second, the first compilation included."""
    start = time.monotonic()
    made = encode.run({"input": [str(stack.path)], "encoder": name, "output": str(output)}, context)
    with EmbeddingsFile(output) as file:
        if file.encoder != Encoder.open(name).card.identity or not made["pixels"]:
            raise UserError(f"The encoder {name} gave nothing on a test season. Choose Plugins > "
                            "Earthprint > Set Up Environment… > Repair.")
    return made["pixels"] / (time.monotonic() - start)


def _search(path: Path) -> None:
    """One live query in the middle of a file."""
    live = LiveSearch()
    with EmbeddingsFile(path) as file:
        grid = file.grid
    session = live.answer("live/open", {"input": str(path)})["session"]
    canvas = {"crs": grid.crs_wkt, "transform": grid.transform, "shape": grid.shape}
    view = live.answer("live/view", {"session": session, "grid": canvas})["view"]
    x, y = grid.affine @ (grid.shape[1] / 2, grid.shape[0] / 2)
    live.answer("live/query", {
        "session": session, "view": view, "examples": [], "counterexamples": [],
        "hover": [x, y, grid.crs_wkt], "rank": 10})
    live.close()
