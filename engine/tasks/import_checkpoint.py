"""Job `import_checkpoint`: official weights become an encoder in the user's folder of models."""

from __future__ import annotations

import datetime
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...models import catalogue
from ...models.cards import Card
from ...models.cube import Cube
from .. import environment
from ..context import JobContext, computer_memory
from ..encoding.patches import spans, window
from ..errors import UserError
from ..rasters.grid import Window
from ..rasters.raster import check_space, check_writable
from ..stacks.reading import StackReader
from ..stacks.stack import Stack, open_input
from . import simulate_season

if TYPE_CHECKING:
    from ...models.importing.recognition import Recognised

NO_TORCH = (
    "Importing official weights needs PyTorch, which the engine lacks. Choose Plugins > Earthprint "
    "> Set Up Environment…, tick Import official weights and press Install."
)
_SEASON = {"pixel": 128, "patch": 256}  # pixels a side of the simulated season
_PLACES = 4  # windows of pixels along each axis of the raster
_PIXELS = 8  # side of such a window
_WINDOWS = 9  # most windows of a patch encoder
_COPIES = 4  # of the weights in memory at the same time: 3.8 were measured with 2.6 GB


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Import weights.

    Args:
        params: file; parts (further files of the same encoder), variant (a use of the weights, ""
            for the usual one), name (of the encoder, default: its own), accept_licence, calibrate
            (paths: rasters or a stack that the mean of features is taken from; default: the
            simulated season), output (default: <name>.onnx in the folder of models), overwrite (a
            model of that name), look (only say what the file is).
        context: surroundings.

    Returns:
        output, name, card (a mapping), what (one sentence), known (what the file is, or ""),
        variants, difference (largest between PyTorch and ONNX Runtime). Of a look: what, known,
        variants, card, terms (that have to be accepted, or "").
    """
    if importlib.util.find_spec("torch") is None:
        raise UserError(NO_TORCH)
    file = Path(params["file"])
    wanted = str(params.get("variant") or "").strip()
    try:
        opened = _open([file, *map(Path, params.get("parts") or [])], wanted, context)
    except ValueError as failure:
        raise UserError(str(failure)) from failure
    if params.get("look"):
        card = opened.found.card(opened.variant)
        return {"what": opened.what, "known": opened.known,
                "variants": list(opened.found.variants), "card": json.loads(card.to_json()),
                "terms": _terms(card)}
    card = _accepted(opened, bool(params.get("accept_licence")), context)
    target = destination(card.name, params)
    check_space(target, 2.2 * opened.megabytes * 1e6)
    _check_memory(card.name, opened.megabytes * 1e6)
    card = replace(card, name=target.stem)
    stack, place = _typical(params.get("calibrate") or [], card, context.part(0.1, 0.35))
    rest = context.part(0.35, 1.0)
    import torch

    from ...models.importing.conversion import convert

    torch.set_num_threads(context.threads)
    try:
        done = convert(opened.found, opened.variant, card, target, _cubes(stack, card), place,
                       rest.progress)
    except ValueError as failure:
        raise UserError(f"{file.name} was read, but its encoder could not be written: {failure}. "
                        "Nothing was kept; please report it.") from failure
    card = done.card
    context.log(f"Encoder {card.identity}, per {card.unit}, {card.dimensions} d; largest "
                f"difference from the original {done.difference:.1g} on {done.inputs} inputs")
    _state_licence(card, context)
    return {"output": str(target), "name": card.name, "card": json.loads(card.to_json()),
            "what": opened.what, "known": opened.known, "variants": list(opened.found.variants),
            "difference": done.difference}


@dataclass(frozen=True)
class _Opened:
    """A file that was recognised; `variant` is how it will be used."""

    found: Recognised
    variant: str
    known: str
    what: str
    source: str
    megabytes: float


def _open(files: list[Path], wanted: str, context: JobContext) -> _Opened:
    """Read and recognise; a ValueError or `UserError` says why not."""
    from ...models.importing import reading, recognition

    for file in files:
        if not file.is_file():
            raise UserError(f"{file} was not found. Choose the file again.")
    first = files[0]
    context.progress(0.0, f"Reading {first.name}")
    digest = reading.sha256(first)
    known = recognition.known_file(digest)
    contents = {file.name: reading.read_weights(file) for file in files}
    context.check()
    content = contents[first.name] if len(files) == 1 else recognition.join(contents)
    try:
        found = recognition.recognise(content, first.name)
    except ValueError as failure:
        if known:
            raise UserError(f"{first.name} is {known}; it holds no encoder that can be used. "
                            "Choose another file.") from failure
        raise
    variant = wanted or recognition.hinted(found, first)
    found.require(variant)
    card = found.card(variant)
    what = f"{first.name}: {known or card.name}, {len(found.state)} tensors, 0 missing"
    context.log(what)
    others = [name for name in found.variants if name and name != (variant or found.variants[0])]
    if others:
        context.log(f"Used as {variant or found.variants[0]}; also possible: {', '.join(others)}")
    source = (f"{', '.join(file.name for file in files)}; SHA-256 of {first.name} {digest}"
              f"{' (' + known + ')' if known else ''}; imported on {today()}.")
    size = sum(4 * t.numel() for t in found.state.values()) / 1e6  # written as float32
    return _Opened(found, variant, known, what, source, size)


def _accepted(opened: _Opened, accepted: bool, context: JobContext) -> Card:
    """The card with source and accepted terms; a `UserError` shows terms that were not."""
    card = opened.found.card(opened.variant)
    source = opened.source
    if terms := _terms(card):
        if not accepted:
            raise UserError(f"The weights of {card.name} have terms: {terms} If you have read them "
                            "and will keep to them, tick Accept the licence.")
        source += f" Terms accepted on {today()}: {terms}"
        context.log(f"Terms accepted: {terms}")
    return replace(card, source=source)


def _check_memory(name: str, weights: float) -> None:
    """Refuse weights (bytes) that this computer could not hold as often as is needed."""
    needed, there = _COPIES * weights, computer_memory()
    if there and needed > there:
        raise UserError(f"The import of {name} takes about {needed / 1e9:.0f} GB of memory, this "
                        f"computer has {there / 1e9:.0f} GB. Import it on a larger one and copy "
                        "the .onnx and .onnx.data files to this one's folder of models.")


def _terms(card: Card) -> str:
    """What has to be accepted before these weights are used, "" for nothing."""
    if "non-commercial" not in card.licence_weights.lower():
        return ""
    return next((s for s in card.limits if "non-commercial" in s), card.licence_weights)


def _state_licence(card: Card, context: JobContext) -> None:
    if card.licence_weights in ("NOASSERTION", "unknown"):
        context.warn(f"The licence of the weights of {card.name} is not known here. Read it where "
                     "you got the file.")
    else:
        context.log(f"Licence of the weights: {card.licence_weights}")


def destination(name: str, params: dict[str, Any]) -> Path:
    """Where an imported encoder will be.

    Args:
        name: of the encoder, if the parameters give none.
        params: name, output, overwrite; without an output it is the folder of models.

    Raises:
        UserError: a name that is no file name, a bundled encoder's, or that of a file which is
            there already, unless it is to be overwritten.
    """
    folder = environment.models_folder()
    given = str(params.get("name") or "").strip()
    if params.get("output"):
        path = Path(params["output"])
        if path.suffix != ".onnx":
            path = path.with_name(path.name + ".onnx")
        name = path.stem
    else:
        name = given or name
        path = folder / f"{name}.onnx"
        folder.mkdir(parents=True, exist_ok=True)
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] in ".-":
        raise UserError(f"{name!r} cannot be the name of an encoder. Use letters, digits, '-', '_' "
                        "and '.'.")
    if name in catalogue.bundled() or name.lower() == "automatic" or name.endswith(".head"):
        raise UserError(f"{name} is the name of an encoder that comes with Earthprint. Choose "
                        "another name.")
    check_writable(path)
    check_free(path, params)
    return path


def check_free(path: Path, params: dict[str, Any]) -> None:
    """Refuse to write over a model, unless `overwrite` says so."""
    if path.exists() and not params.get("overwrite"):
        raise UserError(f"There is a model {path.name} in {path.parent} already. Choose another "
                        "name, or tick Replace a model of this name.")


def _typical(calibrate: list[str] | str, card: Card, context: JobContext
             ) -> tuple[Stack | None, str]:
    """Rasters that show what the encoder will see, and what they are, in words."""
    adapter = catalogue.adapter_of(card)
    given = [calibrate] if isinstance(calibrate, str) else list(calibrate)
    if given:
        stack = open_input([Path(p) for p in given], context)
        name = stack.path.name if stack.path else "the rasters"
        if lacking := adapter.missing(stack.sensors(), card):
            raise UserError(f"Calibrate on: {' '.join(lacking)}")
        return stack, name
    nothing = None, "random input"
    if not {"sentinel-1", "sentinel-2"} & {s.sensor for s in card.sensors}:
        context.warn(f"{card.name} is not centred: it takes no Sentinel-1 or Sentinel-2, which the "
                     "built-in season has. For better contrast give rasters in Calibrate on.")
        return nothing
    season = context.folder / "season"
    context.progress(0.0, "Simulating a season to measure on")
    simulate_season.run({"output": str(season), "size": _SEASON[card.unit]}, context)
    stack = open_input([season / "scenes"], context)
    if adapter.missing(stack.sensors(), card):
        context.warn(f"{card.name} is not centred: the built-in season lacks what it needs. For "
                     "better contrast give rasters in Calibrate on.")
        return nothing
    return stack, "the simulated season"


def _cubes(stack: Stack | None, card: Card) -> Iterator[Cube]:
    """Windows spread evenly over a stack, of the size that the encoder takes."""
    if stack is None:
        return
    with StackReader(stack, bands={s.sensor: s.bands for s in card.sensors}) as reader:
        rows, cols = stack.grid.shape
        if card.unit == "pixel":
            side = _PIXELS
            places = [(r, c) for r in _spread(rows, side) for c in _spread(cols, side)]
        else:
            side = card.window
            size = side // card.patch
            every = [(r.start * card.patch, c.start * card.patch)
                     for r in spans(-(-rows // card.patch), size, card.margin)
                     for c in spans(-(-cols // card.patch), size, card.margin)]
            step = max(len(every) // _WINDOWS, 1)
            places = every[step // 2::step]
        for row, col in places:
            there = Window(row, col, min(side, rows - row), min(side, cols - col))
            yield window(reader.read(there), 0, 0, side)


def _spread(length: int, side: int) -> list[int]:
    """Starts of windows along an axis, evenly spread."""
    last = max(length - side, 0)
    return sorted({round(last * (i + 0.5) / _PLACES) for i in range(_PLACES)})


def today() -> str:
    """The day, for cards."""
    return datetime.date.today().isoformat()
