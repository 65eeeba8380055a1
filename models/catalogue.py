"""Which encoders there are, and which adapter feeds each."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from .cards import Card

DEFAULT = "fast"
#: End of the names of heads, which lie beside encoders in the user's folder.
HEAD_SUFFIX = ".head.onnx"
_ROOM = Path(__file__).resolve().parent


def bundled(folders: Iterable[str | Path] = ()) -> dict[str, Path]:
    """Encoder name to ONNX file: those beside the code, then those in `folders` (not deeper).

    A name is the file's without `.onnx`. A bundled encoder is never replaced by a file of the
    same name; the file can still be opened by its path.
    """
    found = sorted(_ROOM.glob("*/*.onnx"))
    for folder in folders:
        found += sorted(Path(folder).glob("*.onnx"))
    encoders: dict[str, Path] = {}
    for path in found:
        if not path.name.endswith(HEAD_SUFFIX):
            encoders.setdefault(path.stem, path)
    return encoders


def adapter_of(card: Card) -> ModuleType:
    """The module with `missing` and `batches` for this encoder; a ValueError if there is none."""
    name = f".{card.system}.adapter"
    if not card.system.isidentifier() or importlib.util.find_spec(
        f".{card.system}", __package__
    ) is None or importlib.util.find_spec(name, __package__) is None:
        raise ValueError(
            f"The encoder {card.name} needs the adapter of '{card.system}', which this version "
            "does not have: update Earthprint."
        )
    return importlib.import_module(name, __package__)
