"""The files that a job writes: none of them may be one that it reads, or another that it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError

#: Parameters that name files to write; all others that name files are read.
WRITTEN = frozenset((
    "output", "confidence", "unlike", "reason", "embeddings", "head_output", "report", "distance",
    "date", "polygons", "disagreement", "zone_areas", "basis_output", "similarity", "matches",
    "table"))

_OURS = b"EARTHPRINT_"  # begins the names of the tags of every raster that the engine writes
_TAGS = 65536  # bytes of a file in which they stand


def check_outputs(params: dict[str, object]) -> None:
    """Refuse to write over an input, or two outputs into one file.

    Args:
        params: a job's parameters.

    Raises:
        UserError: names both parameters.
    """
    written: dict[str, str] = {}
    for name in sorted(WRITTEN & params.keys()):
        if not isinstance(params[name], str) or not params[name]:
            continue
        path = os.path.realpath(params[name])
        if path in written:
            raise UserError(f"{_words(written[path])} and {_words(name)} would both be written to "
                            f"{os.path.basename(path)}. Give each a name of its own.")
        written[path] = name
    for name, value in params.items():
        if name in WRITTEN:
            continue
        for given in value if isinstance(value, (list, tuple)) else [value]:
            if not isinstance(given, str) or not os.path.exists(given):
                continue
            for path in written:
                if _reads(given, path):
                    raise UserError(
                        f"{_words(written[path])} would overwrite {os.path.basename(path)}, which "
                        f"{_words(name)} reads. Choose another name for it.")


def _words(name: str) -> str:
    """A parameter's name as the form's label begins."""
    return name.replace("_", " ").capitalize()


def _reads(given: str, path: str) -> bool:
    """Whether a file, stack or folder that is read holds the file at `path`."""
    given = os.path.realpath(given)
    if os.path.isdir(given):
        return (os.path.isfile(path) and Path(given) in Path(path).parents and not _made_here(path))
    return path == given or (given.endswith(".json") and path in _files_of(given))


def _made_here(path: str) -> bool:
    """Whether the engine wrote a raster: a map beside its rasters may be made again."""
    with open(path, "rb") as file:
        return _OURS in file.read(_TAGS)


def _files_of(path: str) -> Iterator[str]:
    """The rasters that a stack names."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        for item in content.get("features", ()):
            for asset in item["assets"].values():
                yield os.path.realpath(os.path.join(os.path.dirname(path), asset["href"]))
    except (OSError, ValueError, KeyError, AttributeError):
        return  # no stack: whoever opens it says what is wrong
