"""Job `import_model`: any ONNX network of images becomes an encoder, or an encoder with a head."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...models import catalogue
from ...models.cards import METADATA_KEY, Card, read_card, weights_beside, write_card
from ...models.importing import described
from .. import environment
from ..context import JobContext
from ..errors import UserError
from ..heads.head import SUFFIX, Head
from ..heads.imported import write_imported_head
from ..rasters.raster import check_space, check_writable
from .import_checkpoint import check_free, destination, today


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Import a network.

    Args:
        params: file; kind ("auto", "encoder", "segmentation"), sensor ("auto": aerial or
            other pictures), bands (names in the network's order, separated by spaces or commas),
            scale, mean, std (numbers), ground_size (m), window (pixels), classes (names separated
            by commas), licence, name, output, overwrite (a model of that name). What is not given
            is read from the file's metadata.
        context: surroundings.

    Returns:
        output (encoder), head (path or None), name, card (a mapping).
    """
    file = Path(params["file"])
    if not file.is_file():
        raise UserError(f"{file} was not found. Choose the file again.")
    check = _saying(file)
    metadata = check(lambda: described.metadata_of(file))
    name = file.name.removesuffix(".onnx").removesuffix(".head").replace(" ", "-")
    if METADATA_KEY in metadata:
        return _taken_over(file, name, params, context)
    said = check(lambda: described.described(metadata, **_words(params)))
    context.progress(0.1, f"Trying {file.name}")
    network = check(lambda: described.Described(file, said))
    target = destination(name, params)
    head = None
    if network.description.kind == "segmentation":
        head = target.with_name(target.stem + SUFFIX)
        check_free(head, params)
    check_space(target, 2.2 * file.stat().st_size)
    context.progress(0.5, "Writing the encoder")
    source = f"{file.name}, an ONNX network, imported on {today()}."
    card = network.write(target, network.card(target.stem, source))
    context.log(f"Encoder {card.identity}, per {card.unit} of {card.patch}, {card.dimensions} d, "
                f"windows of {card.window} pixels; bands {', '.join(card.sensors[0].bands)}")
    if head is not None:
        write_imported_head(head, card, network.description.classes)
        context.log(f"Head {head.name}: {', '.join(network.description.classes)}. Map with it by "
                    "Apply head.")
    return {"output": str(target), "head": str(head) if head else None, "name": card.name,
            "card": json.loads(card.to_json())}


def _saying(file: Path) -> Callable[[Callable[[], Any]], Any]:
    """Calls that turn what is wrong with the file into a sentence."""
    def check(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except ValueError as failure:
            raise UserError(f"{file.name}: {str(failure).rstrip('.')}.") from failure

    return check


def _words(params: dict[str, Any]) -> dict[str, Any]:
    """What the user gave, as fields of `Description`."""
    words: dict[str, Any] = {}
    if params.get("kind", "auto") not in ("", "auto", "automatic"):
        words["kind"] = params["kind"]
    if params.get("sensor", "auto") not in ("", "auto", "automatic"):
        words["sensors"] = (params["sensor"],)
    if params.get("bands"):
        words["bands"] = _parts(params["bands"])
    for name in ("mean", "std"):
        if params.get(name):
            try:
                words[name] = tuple(float(n) for n in _parts(params[name]))
            except ValueError as failure:
                raise UserError(f"{params[name]!r} in {name} are no numbers. Write them like "
                                "0.485 0.456 0.406.") from failure
    if params.get("classes"):
        given = params["classes"]
        words["classes"] = tuple(part.strip() for part in (
            given.split(",") if isinstance(given, str) else given))
    for name, field, kind in (("scale", "scale", float), ("ground_size", "ground_size_m", float),
                              ("window", "window", int), ("licence", "licence", str)):
        if params.get(name):
            words[field] = kind(params[name])
    return words


def _parts(text: str | list[str]) -> tuple[str, ...]:
    if not isinstance(text, str):
        return tuple(map(str, text))
    return tuple(text.replace(",", " ").split())


def _taken_over(file: Path, name: str, params: dict[str, Any], context: JobContext
                ) -> dict[str, Any]:
    """A file that has a card of ours goes into the folder of models as it is."""
    if file.name.endswith(SUFFIX):
        card = json.loads(Head.open(file).card.to_json())
        folder = environment.models_folder()
        folder.mkdir(parents=True, exist_ok=True)
        head = Path(params.get("output") or folder / file.name)
        check_writable(head)
        if not (head.exists() and file.samefile(head)):
            check_free(head, params)
        _copy(file, head)
        context.log(f"Head {head.name}")
        return {"output": str(head), "head": str(head), "name": name, "card": card}
    try:
        own: Card = read_card(file)
        catalogue.adapter_of(own)
    except ValueError as failure:
        raise UserError(f"{file.name}: {failure}") from failure
    target = destination(own.name, params)
    check_space(target, 1.1 * file.stat().st_size)
    if weights_beside(file).exists():
        if target.name != file.name:
            raise UserError(f"{file.name} has its weights in a file of its own, which goes by its "
                            f"name. Leave the name {own.name}.")
        _copy(weights_beside(file), weights_beside(target))
    _copy(file, target)
    if target.stem != own.name:  # heads find their encoder by the card's name
        own = write_card(target, replace(own, name=target.stem))
    context.log(f"Encoder {own.identity}")
    return {"output": str(target), "head": None, "name": own.name,
            "card": json.loads(own.to_json())}


def _copy(file: Path, target: Path) -> None:
    if target.exists() and file.samefile(target):
        return
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(file, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
