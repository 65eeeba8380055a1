"""Job `remove_model`: an encoder or a head leaves the user's folder of models.

With an encoder that was trained here goes what its training would have gone on from.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ...models.cards import weights_beside
from ..context import JobContext
from ..errors import UserError
from . import list_models
from .pretrain import TRAINING


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Remove.

    Args:
        params: name as `list_models` gives it; kind ("encoder" or "head") where both have it.
        context: surroundings.

    Returns:
        removed: the files and the folder of the training, as paths.

    Raises:
        UserError: no such model, one that comes with Earthprint, or two of that name.
    """
    name, kind = str(params["name"]), str(params.get("kind") or "")
    listed = list_models.run({}, context)
    found = [m for m in listed["models"] if m["name"] == name and kind in ("", m["kind"])]
    if not found:
        raise UserError(f"There is no model {name} in {listed['folder']}.")
    if len(found) > 1:
        raise UserError(f"{name} is an encoder and a head. Say which to remove.")
    if found[0]["bundled"]:
        raise UserError(f"{name} comes with Earthprint and stays.")
    path = Path(found[0]["path"])
    removed = []
    for file in (path, weights_beside(path)):
        if file.exists():
            file.unlink()
            removed.append(str(file))
    training = path.with_suffix(TRAINING)
    if found[0]["kind"] == "encoder" and training.is_dir():
        shutil.rmtree(training)
        removed.append(str(training))
    context.log(f"Removed {', '.join(removed)}")
    return {"removed": removed}
