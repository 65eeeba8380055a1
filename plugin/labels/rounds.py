"""What the engine does in one round: propose places, and make a map again with their labels.

Both are steps for a task in the background; files and records are looked up before.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ...engine.client import EngineError
from ...processing_provider.provenance import Provenance
from ...processing_provider.translation import tr
from ..work import Run

#: Values of a mapping job that proposing places needs too.
_SHARED = ("labels", "layer", "field", "extent", "seed", "memory_mb", "device")
#: Words of a command line that belong to one run alone.
_OUTPUTS = ("OUTPUT=", "CONFIDENCE=", "REPORT=", "EMBEDDINGS=", "HEAD_OUTPUT=", "UNLIKE=",
            "REASON=", "MORE_LABELS=")
_OUTPUT_KEYS = ("confidence", "report", "unlike", "reason", "embeddings", "head_output")
FIELD = "class"


@dataclass(frozen=True)
class Labelled:
    """Places with labels: path and layer name of their file, and the class field."""

    path: str
    layer: str
    field: str


def class_field(made: Provenance) -> str:
    """How the class field is called: as in the labels of the map."""
    return str(made.params.get("field") or FIELD)


def conflict(made: Provenance, places: str) -> str:
    """Path of further labels that the map was made with and that are not the places, or ""."""
    more = str(made.params.get("more_labels") or "")
    return "" if not more or os.path.abspath(more) == os.path.abspath(places) else more


def proposing(
    made: Provenance, count: int, output: str, spare: str, labelled: Labelled | None
) -> Callable[[Run], dict[str, Any]]:
    """Steps that write places to label.

    Args:
        made: how the map was made.
        count: of places.
        output: a GeoPackage.
        spare: folder for a head and embeddings, where those of the map are gone.
        labelled: places that have labels already.

    Returns:
        Steps whose result is that of `suggest_samples`, with `made` as it is now.
    """

    def steps(run: Run) -> dict[str, Any]:
        there = os.path.isfile(made.head)
        now = made if there else _made_again(made, spare, run)
        params = {key: made.params[key] for key in _SHARED if made.params.get(key) is not None}
        params.update(input=_inputs(now), head=now.head, output=output, count=count,
                      field=class_field(made))
        if labelled is not None:
            params.update(more_labels=labelled.path, more_labels_layer=labelled.layer)
        return {**run("suggest_samples", params, (0.0 if there else 0.8, 1.0)), "made": now}

    return steps


def mapping_again(
    made: Provenance, labelled: Labelled, output: str, report: str, spare: str
) -> Callable[[Run], dict[str, Any]]:
    """Steps that make the map again, all as before but with more labels.

    Args:
        made: how the map was made. One made by a ready-made head is made again from the labelled
            places alone, as the labels of its head are not known.
        labelled: the places.
        output: the new map.
        report: its page, "" without one.
        spare: folder for the new head.

    Returns:
        Steps whose result is that of the job, with `made` of the new map.
    """
    params = {key: value for key, value in made.params.items() if key not in _OUTPUT_KEYS}
    params.update(input=_inputs(made), output=output,
                  head_output=os.path.join(spare, "map.head.onnx"))
    job, algorithm = made.job, made.algorithm
    words = [word for word in shlex.split(str(params.get("command") or ""))
             if not word.startswith(_OUTPUTS)]
    if params.get("labels"):
        params.update(more_labels=labelled.path, more_labels_layer=labelled.layer)
        words.append(f"MORE_LABELS={labelled.path}|layername={labelled.layer}")
    else:
        for name in ("head", "ready_head"):
            params.pop(name, None)
        params.update(labels=labelled.path, layer=labelled.layer, field=labelled.field)
        words = [word for word in words if not word.startswith(("HEAD=", "READY_HEAD="))]
        words += [f"LABELS={labelled.path}|layername={labelled.layer}", f"FIELD={labelled.field}"]
        if job == "apply_head":  # which learns nothing
            job, algorithm = "crop_classification", "cropclassification"
    if report:
        params["report"] = report
    if params.get("command"):
        params["command"] = shlex.join([*words, f"OUTPUT={output}"])

    def steps(run: Run) -> dict[str, Any]:
        result = run(job, params)
        return {**result, "made": replace(
            Provenance.of_run(algorithm, job, params, {**params, **result}),
            embeddings=made.embeddings)}

    return steps


def _inputs(made: Provenance) -> list[str]:
    """The rasters, with the embeddings that were made of them where these are still there."""
    given = list(made.params["input"])
    if os.path.isfile(made.embeddings) and made.embeddings not in given:
        given.append(made.embeddings)
    return given


def _made_again(made: Provenance, spare: str, run: Run) -> Provenance:
    """The map once more, for the head and the embeddings that went with the last QGIS."""
    if not made.params.get("labels"):
        raise EngineError(
            tr("The head {} of this map is gone. Put it back, or map with another one.").format(
                os.path.basename(made.head)
            )
        )
    params = {key: value for key, value in made.params.items() if key not in _OUTPUT_KEYS}
    head = os.path.join(spare, "map.head.onnx")
    params.update(
        input=_inputs(made), output=os.path.join(spare, "map.tif"), head_output=head,
        embeddings=os.path.join(spare, "embeddings.tif"),
    )
    result = run(made.job, params, (0.0, 0.8))
    return replace(made, head=head, embeddings=str(result.get("embeddings") or made.embeddings))
