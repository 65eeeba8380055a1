"""Job `list_models`: encoders and heads that every form offers, with their cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from ...models import catalogue
from ...models.cards import METADATA_KEY, weights_beside
from ...models.catalogue import HEAD_SUFFIX
from .. import environment
from ..context import JobContext
from .apply_head import BUNDLED


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """List.

    Args:
        params: none.
        context: surroundings.

    Returns:
        folder (the user's folder of models) and models, a list of name, path, kind ("encoder" or
        "head"), bundled (it comes with Earthprint and cannot be removed), bytes (with weights that
        lie beside it), card (a mapping, empty where the file cannot be used) and problem (why it
        cannot, or "").
    """
    folder = environment.models_folder()
    encoders = catalogue.bundled([folder])
    own = catalogue.bundled()
    found = [_record(name, path, "encoder", name in own) for name, path in encoders.items()]
    found += [_record(path.name.removesuffix(HEAD_SUFFIX), path, "head", place == BUNDLED)
              for place in (BUNDLED, folder) for path in sorted(place.glob(f"*{HEAD_SUFFIX}"))]
    return {"folder": str(folder), "models": found}


def _record(name: str, path: Path, kind: str, bundled: bool) -> dict[str, Any]:
    size, problem, card = path.stat().st_size, "", {}
    beside = weights_beside(path)
    if beside.exists():
        size += beside.stat().st_size
    try:
        model = onnx.load(str(path), load_external_data=False)
        card = json.loads({p.key: p.value for p in model.metadata_props}[METADATA_KEY])
    except (OSError, DecodeError):
        problem = f"{path.name} cannot be read as an ONNX file. Remove it and import it again."
    except (KeyError, json.JSONDecodeError):
        problem = f"{path.name} has no card. Import it with Import checkpoint or Add ONNX model."
    return {"name": name, "path": str(path), "kind": kind, "bundled": bundled, "bytes": size,
            "card": card, "problem": problem}
