"""Job `apply_head`: a head and rasters to a map."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..context import JobContext
from ..errors import UserError
from ..heads.head import NUMBER_KIND, Head
from ..heads.headfile import HeadFile
from ..heads.inputs import Inputs
from ..heads.mapping import Mapped, Options, map_head
from ..heads.number_head import NumberHead
from ..heads.number_mapping import map_numbers
from ..rasters.areas import Areas
from ..rasters.raster import check_writable


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Map the classes, or the numbers, of a head.

    Args:
        params: input (paths), head, output; encoder, extent, cutoff, smooth, min_area_ha,
            confidence, unlike.
        context: surroundings.

    Returns:
        output, confidence, unlike (paths or None), areas (one record a class), season; for
        numbers also what `MappedNumbers` holds.
    """
    start = time.monotonic()
    options = options_of(params)
    for path in filter(None, (options.output, options.confidence, options.unlike)):
        check_writable(path)
    file = HeadFile.open(Path(params["head"]))
    numbers = file.kind == NUMBER_KIND
    if numbers and options.confidence:
        raise UserError(f"{file.path.name} maps numbers, which have an interval and no "
                        "confidence. Leave Confidence empty.")
    head = NumberHead.of(file) if numbers else Head.open(Path(params["head"]))
    inputs = Inputs.open(params["input"], params.get("extent"),
                         params.get("cutoff") or head.card.cutoff or None, context)
    inputs = for_head(head, inputs, params, context.folder / "embeddings.tif",
                      context.part(0, 0.6))
    if numbers:
        return _map_numbers(head, inputs, options, params, start, context)
    mapped = map_head(head, inputs.source, options, context.part(0.6, 1))
    log_map("Map", mapped, start, context)
    return {"output": params["output"], "confidence": params.get("confidence"),
            "unlike": params.get("unlike"), "areas": records(mapped.areas),
            "season": inputs.season()}


def _map_numbers(head: NumberHead, inputs: Inputs, options: Options, params: dict[str, Any],
                 start: float, context: JobContext) -> dict[str, Any]:
    mapped = map_numbers(head, inputs.source, options, context.part(0.6, 1))
    context.log(f"Map of {head.card.title}: mean {mapped.mean:.4g}, {mapped.low:.4g} to "
                f"{mapped.high:.4g}, interval +- {head.card.half_width:.4g}; "
                f"{100 * mapped.unlike_share:.1f} % unlike the training data; "
                f"{time.monotonic() - start:.0f} s{_peak()}")
    if mapped.beyond > 0.05:
        low, high = head.card.range
        context.warn(f"{100 * mapped.beyond:.0f} % of the map lies beyond the values that were "
                     f"measured ({low:.4g} to {high:.4g}): do not trust it there.")
    return {"output": params["output"], "confidence": None, "unlike": params.get("unlike"),
            "areas": [], "numbers": asdict(mapped), "season": inputs.season()}


def for_head(head: Head | NumberHead, inputs: Inputs, params: dict[str, Any], embeddings: Path,
             context: JobContext) -> Inputs:
    """The inputs with the embeddings that a head needs, made by its own encoder.

    Raises:
        UserError: the chosen encoder is not the head's.
    """
    layout = head.card.layout
    if not layout.dims or inputs.embeddings is not None:
        return inputs
    chosen = params.get("encoder") or "automatic"
    name = layout.encoder.split("@")[0] if chosen.lower() == "automatic" else chosen
    if inputs.stack is None:
        raise UserError("No rasters were given. Choose some.")
    return inputs.encoded(name, embeddings, context)


def options_of(params: dict[str, Any], head: str = "") -> Options:
    """Files and treatment of a map from the parameters of a job; `head` names it in the files."""
    def path(name: str) -> Path | None:
        return Path(params[name]) if params.get(name) else None

    smooth = params.get("smooth")
    return Options(Path(params["output"]), path("confidence"), path("unlike"),
                   True if smooth is None else bool(smooth),
                   float(params.get("min_area_ha") or 0),
                   (("EARTHPRINT_HEAD", head or Path(str(params.get("head"))).name),
                    ("EARTHPRINT_INPUT", ", ".join(Path(p).name for p in params["input"]))))


def log_map(noun: str, mapped: Mapped, start: float, context: JobContext) -> None:
    """The closing line: hectares, what has no answer, time, memory."""
    total = f"{mapped.areas.total:,.0f}".replace(",", " ")
    context.log(f"{noun}: {total} ha, {100 * mapped.areas.unanswered_share:.1f} % without answer, "
                f"{100 * mapped.unlike_share:.1f} % unlike the training data; "
                f"{time.monotonic() - start:.0f} s{_peak()}")


def records(areas: Areas) -> list[dict[str, Any]]:
    """Areas as JSON values."""
    return [{"value": c.value, "name": c.name, "color": c.color, "pixels": c.pixels,
             "hectares": round(c.hectares, 4), "share": round(c.share, 6)}
            for c in areas.classes]


def _peak() -> str:
    """The most memory that this process has held, where the system tells."""
    try:
        import resource  # not on Windows
    except ImportError:
        return ""
    return f", peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"
