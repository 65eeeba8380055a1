"""Job `apply_head`: a head and rasters to a map."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...models import catalogue
from ...models.cards import read_card
from .. import environment
from ..context import JobContext
from ..encoding.encoder import Encoder
from ..errors import UserError
from ..heads.head import NUMBER_KIND, SUFFIX, Head
from ..heads.headfile import HeadFile
from ..heads.inputs import Inputs
from ..heads.layout import FeatureLayout
from ..heads.mapping import UNKNOWN, Mapped, Options, map_head
from ..heads.number_head import NumberHead
from ..heads.number_mapping import map_numbers
from ..heads.origin import Origin, Reach, compare, mark
from ..heads.reasons import log_reasons, write_reasons
from ..heads.sensors import Sensors, titles
from ..rasters.areas import Areas
from ..rasters.raster import check_writable
from ..stacks.stack import WEATHER, with_weather

BUNDLED = Path(__file__).resolve().parents[2] / "resources" / "heads"
"""Where the heads lie that come with Earthprint; they are chosen by their file's name."""


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Map the classes, or the numbers, of a head.

    Args:
        params: input (paths), head (path, or name of a bundled one), output; encoder, extent,
            cutoff, weather, weather_units, smooth, min_area_ha, confidence, unlike, reason,
            unknown.
        context: surroundings.

    Returns:
        output, confidence, unlike, reason (paths or None), areas (one record a class), reasons
        (name to share of the raster), season; for numbers also what `MappedNumbers` holds.
    """
    start = time.monotonic()
    params = {**params, "head": str(head_file(params["head"]))}
    options = options_of(params)
    for path in filter(None, (options.output, options.confidence, options.unlike,
                              params.get("reason"))):
        check_writable(Path(path))
    file = HeadFile.open(Path(params["head"]))
    numbers = file.kind == NUMBER_KIND
    if numbers and options.confidence:
        raise UserError(f"{file.path.name} maps numbers, which have an interval and no "
                        "confidence. Leave Confidence empty.")
    head = NumberHead.of(file) if numbers else Head.open(Path(params["head"]))
    inputs = Inputs.open(params["input"], params.get("extent"),
                         params.get("cutoff") or head.card.cutoff or None, context)
    inputs = for_head(head, with_weather_of(params, inputs, context), params,
                      context.folder / "embeddings.tif", context.part(0, 0.6))
    after = context.part(0.95, 1)
    if numbers:
        answer = _map_numbers(head, inputs, options, params, start, context)
    else:
        mapped = map_head(head, inputs.source, options, context.part(0.6, 0.95))
        log_map("Map", mapped, start, context)
        answer = {"areas": records(mapped.areas)}
    origin = Origin.of_card(head.card.source)
    placed(params, inputs, origin, after)
    why = explained(params, inputs, head.card.layout, after)
    return {"output": params["output"], "confidence": params.get("confidence"),
            "unlike": params.get("unlike"), "reason": params.get("reason"), "reasons": why,
            "season": inputs.season(), **answer}


def _map_numbers(head: NumberHead, inputs: Inputs, options: Options, params: dict[str, Any],
                 start: float, context: JobContext) -> dict[str, Any]:
    mapped = map_numbers(head, inputs.source, options, context.part(0.6, 0.95))
    context.log(f"Map of {head.card.title}: mean {mapped.mean:.4g}, {mapped.low:.4g} to "
                f"{mapped.high:.4g}, interval +- {head.card.half_width:.4g}; "
                f"{100 * mapped.unlike_share:.1f} % unlike the training data; "
                f"{time.monotonic() - start:.0f} s{_peak()}")
    if mapped.beyond > 0.05:
        low, high = head.card.range
        context.warn(f"{100 * mapped.beyond:.0f} % of the map lies beyond the values that were "
                     f"measured ({low:.4g} to {high:.4g}): do not trust it there.")
    return {"areas": [], "numbers": asdict(mapped)}


def with_ready_head(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with the path of the head under `head`, whichever way it was named.

    Raises:
        UserError: both a head's file and a ready-made one, or no such head.
    """
    ready = params.get("ready_head")
    if ready in (None, "", "none"):
        return {**params, "head": str(head_file(params["head"]))} if params.get("head") else params
    if params.get("head"):
        raise UserError("Two heads were given. Choose a Ready-made head or a Head from a file.")
    return {**params, "head": str(head_file(ready))}


def head_file(given: str) -> Path:
    """The file of a head: a path, or the name of one that comes with Earthprint.

    Raises:
        UserError: neither.
    """
    bundled = BUNDLED / f"{given}{SUFFIX}"
    if bundled.parent == BUNDLED and bundled.is_file():
        return bundled
    if Path(given).suffix:
        return Path(given)  # whoever opens it says what is wrong
    names = sorted(p.name.removesuffix(SUFFIX) for p in BUNDLED.glob(f"*{SUFFIX}"))
    raise UserError(f"There is no ready-made head {given}. Choose a file or one of "
                    f"{', '.join(names)}.")


def with_weather_of(params: dict[str, Any], inputs: Inputs, context: JobContext) -> Inputs:
    """The inputs with the daily weather that was given, if any."""
    if not params.get("weather"):
        return inputs
    if inputs.stack is None:
        raise UserError("Daily weather is of no use with embeddings alone. Give the rasters too, "
                        "or leave Daily weather empty.")
    return replace(inputs, stack=with_weather(
        inputs.stack, params["weather"], params.get("weather_units"), context))


def reads_weather(encoder: str, context: JobContext) -> bool:
    """Whether an encoder (name, or "automatic") reads weather; a warning where it does not."""
    card = Encoder.open(encoder, context.device).card
    if any(s.sensor == WEATHER for s in card.sensors):
        return True
    able = [name for name, path in catalogue.bundled([environment.models_folder()]).items()
            if any(s.sensor == WEATHER for s in read_card(path).sensors)]
    context.warn(f"The encoder {card.name} does not read weather, so Daily weather changes "
                 f"nothing. Encoders that do: {', '.join(able) or 'none is installed'}.")
    return False


def placed(params: dict[str, Any], inputs: Inputs, origin: Origin | None,
           context: JobContext) -> Reach:
    """How the map lies to the head's place and season; also drawn into its layer `unlike`."""
    with inputs.source() as source:
        grid = source.grid
    reach = compare(origin, grid, inputs.season())
    if origin is not None and reach.outside:
        if reach.far_share:
            context.warn(reach.place)
        if reach.off_season:
            context.warn(reach.season)
        if params.get("unlike"):
            mark(Path(params["unlike"]), origin, grid, reach, context)
    return reach


def explained(params: dict[str, Any], inputs: Inputs, layout: FeatureLayout,
              context: JobContext) -> dict[str, float]:
    """Why pixels are empty, where that was asked for: reason to share of the raster."""
    if not params.get("reason"):
        return {}
    shares = write_reasons(Path(params["reason"]), Path(params["output"]), inputs, layout, context,
                           withheld=bool(params.get("unknown")))
    log_reasons(shares, context)
    return shares


def for_head(head: Head | NumberHead, inputs: Inputs, params: dict[str, Any], embeddings: Path,
             context: JobContext) -> Inputs:
    """The inputs with the embeddings that a head needs, made by its own encoder.

    Raises:
        UserError: no rasters, or the head cannot know their sensors, see `knows_sensors`.
    """
    knows_sensors(head, inputs, context)
    layout = head.card.layout
    if not layout.dims or inputs.embeddings is not None:
        return inputs
    chosen = params.get("encoder") or "automatic"
    name = layout.encoder.split("@")[0] if chosen.lower() == "automatic" else chosen
    if params.get("weather"):
        reads_weather(name, context)
    if inputs.stack is None:
        raise UserError("No rasters were given. Choose some.")
    return inputs.encoded(name, embeddings, context)


def knows_sensors(head: Head | NumberHead, inputs: Inputs, context: JobContext) -> None:
    """Warn of sensors that a head has never met, and of those that it relies on and are missing.

    Nothing is said where the head's card, or the input's embeddings, do not tell their sensors.

    Raises:
        UserError: a head that comes with Earthprint has met none of the sensors.
    """
    known, read = Sensors.of_card(head.card.source), inputs.bands_read(head.card.layout)
    if known is None or not read:
        return
    name, unseen = head.path.name, known.unseen(read)
    if unseen:
        # "optical" is an unnamed sensor, which may be one that the head met if it gives reflectance
        unnamed = "optical" in unseen and (inputs.stack is None or any(
            s.sensor == "optical" and "display values" not in s.note for s in inputs.stack.scenes))
        if len(unseen) == len(read) and head.path.parent == BUNDLED and not unnamed:
            raise UserError(f"{name} was trained on {titles(known.names)} and cannot map "
                            f"{titles(unseen)} images. Give Labels to learn a head for them, as "
                            "Train head does.")
        alone = f", all that {inputs.name} has" if len(unseen) == len(read) else ""
        context.warn(f"{name} was trained on {titles(known.names)} and never on {titles(unseen)}"
                     f"{alone}: do not trust the map before you have checked it. Labels of your "
                     "own are safer here.")
    if len(unseen) < len(read) and (lacking := known.lacking(read)):
        context.warn(f"{name} was trained on {titles(known.names)}; {inputs.name} has "
                     f"{titles(read)} and lacks {', '.join(lacking)}: the head's accuracy does "
                     "not hold for such a map. Add what is missing, or learn a head from labels "
                     "on what there is.")


def options_of(params: dict[str, Any], head: str = "") -> Options:
    """Files and treatment of a map from the parameters of a job; `head` names it in the files."""
    def path(name: str) -> Path | None:
        return Path(params[name]) if params.get(name) else None

    smooth = params.get("smooth")
    return Options(Path(params["output"]), path("confidence"), path("unlike"),
                   True if smooth is None else bool(smooth),
                   float(params.get("min_area_ha") or 0),
                   (("EARTHPRINT_HEAD", head or Path(str(params.get("head"))).name),
                    ("EARTHPRINT_INPUT", ", ".join(Path(p).name for p in params["input"]))),
                   unknown=bool(params.get("unknown")))


def log_map(noun: str, mapped: Mapped, start: float, context: JobContext) -> None:
    """The closing line: hectares, what has no answer, time, memory."""
    total = f"{mapped.areas.total:,.0f}".replace(",", " ")
    withheld = [c for c in mapped.areas.classes if c.value == UNKNOWN.value]
    unknown = f"{100 * withheld[0].share:.1f} % of it {withheld[0].name}, " if withheld else ""
    context.log(f"{noun}: {total} ha, {unknown}"
                f"{100 * mapped.areas.unanswered_share:.1f} % without answer, "
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
