"""Job `crop_classification`: rasters and labels (or a head) to a crop map with its report."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Any

from ..context import JobContext
from ..errors import UserError
from ..heads.head import SUFFIX, Head
from ..heads.inputs import Inputs
from ..heads.mapping import Mapped, map_head
from ..rasters.raster import check_writable
from ..reports.report import (
    Report,
    Section,
    areas_section,
    hectares,
    labels_section,
    map_section,
    method_section,
)
from ..reports.scorecard import accuracy_section, trust_section
from .apply_head import for_head, log_map, options_of, records
from .train_head import (
    Learned,
    again,
    collecting,
    data_of,
    headline,
    learn,
    method,
    save,
    scores,
)


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """From rasters to a crop map.

    Args:
        params: input (paths), output; labels and field, or head; layer, encoder, features, model,
            cutoff, smooth, min_area_ha, extent, folds, block_m, seed, confidence, unlike,
            embeddings (keep them there), head_output, report, command.
        context: surroundings.

    Returns:
        output, confidence, unlike, embeddings, head, report (paths or None), areas, scores,
        season ([first, last] ISO day).
    """
    start = time.monotonic()
    context, warnings = collecting(context)
    if bool(params.get("labels")) == bool(params.get("head")):
        raise UserError("Give either labels to learn from or a ready-made head.")
    if params.get("labels") and not params.get("field"):
        raise UserError("No class field was given. Choose the field that holds the crop.")
    options = options_of(params, "trained for this map" if params.get("labels") else "")
    written = (options.output, options.confidence, options.unlike,
               *(params.get(name) for name in ("embeddings", "head_output", "report")))
    for path in filter(None, written):
        check_writable(Path(path))
    embeddings = Path(params.get("embeddings") or context.folder / "embeddings.tif")
    head = Head.open(Path(params["head"])) if params.get("head") else None
    cutoff = params.get("cutoff") or (head.card.cutoff if head else None) or None
    inputs = Inputs.open(params["input"], params.get("extent"), cutoff, context)
    if head is None:
        learned = learn(params, inputs, embeddings, context.part(0, 0.7))
        inputs = learned.inputs
        path = Path(params.get("head_output") or context.folder / f"crops{SUFFIX}")
        save(learned, path, cutoff)
        head = Head.open(path)
    else:
        learned = None
        inputs = for_head(head, inputs, params, embeddings, context.part(0, 0.7))
    mapped = map_head(head, inputs.source, options, context.part(0.7, 0.95))
    log_map("Crop map", mapped, start, context)
    if params.get("report"):
        context.progress(0.96, "Writing the report")
        _report(params, inputs, head, learned, mapped, warnings, context)
    kept = params.get("embeddings") if inputs.embeddings == embeddings else None
    return {"output": params["output"], "confidence": params.get("confidence"),
            "unlike": params.get("unlike"), "embeddings": kept,
            "head": params.get("head_output") or params.get("head"),
            "report": params.get("report"), "areas": records(mapped.areas),
            "scores": scores(learned) if learned else head.card.validation,
            "season": inputs.season()}


def _report(params: dict[str, Any], inputs: Inputs, head: Head, learned: Learned | None,
            mapped: Mapped, warnings: list[str], context: JobContext) -> None:
    areas = mapped.areas
    tiles = [(f"{hectares(areas.total)} <small>ha</small>", "mapped")]
    if learned:
        training = learned.training
        tiles += headline(training)
        judged = [accuracy_section(training), trust_section(training, mapped.unlike_share)]
        samples, entries = [labels_section(training.labels)], method(learned, params)
    else:
        tiles.append((str(len(head.card.legend)), "classes"))
        judged, samples = [_head_trust(head, mapped)], []
        entries = {"Head": head.path.name, "Encoder": head.card.layout.encoder,
                   "Features": head.card.layout.kind}
    with inputs.source() as source:
        crs = source.grid.crs
    smoothed = params.get("smooth") in (None, True)
    entries["Smoothing"] = ("probabilities 3 x 3" if smoothed else "none") + (
        f"; patches under {params['min_area_ha']:g} ha join their surroundings"
        if params.get("min_area_ha") else "")
    code = crs.to_epsg() if crs else None
    place = f"EPSG:{code}" if code else "own coordinate system" if crs else "no coordinate system"
    Report(
        f"Crop map, {inputs.name}", tuple(tiles), tuple(warnings),
        (map_section(Path(params["output"]), head.card.legend, areas, place),
         areas_section(areas), *judged, data_of(inputs, context), *samples,
         method_section(entries, again("crop_classification", params))),
        date.today(),
    ).write(Path(params["report"]))


def _head_trust(head: Head, mapped: Mapped) -> Section:
    """What is known of a ready-made head: nothing of this place, so say where to be careful."""
    reached = head.card.validation.get("macro_f1")
    figure = (f"reached macro F1 {reached:.2f} on held-back blocks where it was trained"
              if reached is not None else "says nothing of how right it was where it was trained")
    said = (f"<p>The head {head.path.name} {figure}. How right it is here was not measured: visit "
            "points drawn at random in each class (Sampling design, Assess accuracy).</p>")
    return Section("Trust", f"{said}<p><b>{100 * mapped.unlike_share:.1f} %</b> of the map is "
                            "unlike the head's training data.</p>")
