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
from ..heads.origin import Origin, Reach
from ..rasters.raster import check_writable
from ..reports.corrected_areas import corrected_areas
from ..reports.head_page import head_section, origin_section, reach_section
from ..reports.report import (
    Report,
    areas_section,
    hectares,
    labels_section,
    map_section,
    method_section,
)
from ..reports.scorecard import accuracy_section, trust_section
from .apply_head import (
    explained,
    for_head,
    log_map,
    options_of,
    placed,
    reads_weather,
    records,
    with_ready_head,
    with_weather_of,
)
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
        params: input (paths), output; labels and field, or head (path, or name of a bundled one)
            or ready_head (such a name); layer, encoder, features, model, cutoff, weather,
            weather_units, smooth, min_area_ha, extent, folds, block_m, seed, confidence, unlike,
            reason, unknown, embeddings (keep them there), head_output, report, command.
        context: surroundings.

    Returns:
        output, confidence, unlike, reason, embeddings, head, report (paths or None), areas,
        reasons (name to share of the raster), scores, season ([first, last] ISO day).
    """
    start = time.monotonic()
    context, warnings = collecting(context)
    params = with_ready_head(params)
    if bool(params.get("labels")) == bool(params.get("head")):
        raise UserError("Give either labels to learn from or a ready-made head.")
    if params.get("labels") and not params.get("field"):
        raise UserError("No class field was given. Choose the field that holds the crop.")
    options = options_of(params, "trained for this map" if params.get("labels") else "")
    written = (options.output, options.confidence, options.unlike,
               *(params.get(name) for name in ("reason", "embeddings", "head_output", "report")))
    for path in filter(None, written):
        check_writable(Path(path))
    embeddings = Path(params.get("embeddings") or context.folder / "embeddings.tif")
    head = Head.open(Path(params["head"])) if params.get("head") else None
    cutoff = params.get("cutoff") or (head.card.cutoff if head else None) or None
    inputs = Inputs.open(params["input"], params.get("extent"), cutoff, context)
    inputs = with_weather_of(params, inputs, context)
    if head is None:
        if params.get("weather") and params.get("features") != "bands":
            reads_weather(params.get("encoder") or "automatic", context)
        learned = learn(params, inputs, embeddings, context.part(0, 0.7))
        inputs = learned.inputs
        path = Path(params.get("head_output") or context.folder / f"crops{SUFFIX}")
        save(learned, path, cutoff)
        head = Head.open(path)
        labels = learned.training.labels
        with inputs.source() as source:
            origin = Origin.of(source.grid, labels.rows, labels.cols, inputs.season())
    else:
        learned, origin = None, Origin.of_card(head.card.source)
        inputs = for_head(head, inputs, params, embeddings, context.part(0, 0.7))
    mapped = map_head(head, inputs.source, options, context.part(0.7, 0.95))
    log_map("Crop map", mapped, start, context)
    reach = placed(params, inputs, origin, context.part(0.95, 0.96))
    why = explained(params, inputs, head.card.layout, context.part(0.96, 0.99))
    if params.get("report"):
        context.progress(0.99, "Writing the report")
        page = _page(params, inputs, head, learned, mapped, reach, why, warnings, cutoff, context)
        page.write(Path(params["report"]))
    kept = params.get("embeddings") if inputs.embeddings == embeddings else None
    return {"output": params["output"], "confidence": params.get("confidence"),
            "unlike": params.get("unlike"), "reason": params.get("reason"), "embeddings": kept,
            "head": params.get("head_output") or params.get("head"),
            "report": params.get("report"), "areas": records(mapped.areas), "reasons": why,
            "scores": scores(learned) if learned else head.card.validation,
            "season": inputs.season()}


def _page(params: dict[str, Any], inputs: Inputs, head: Head, learned: Learned | None,
          mapped: Mapped, reach: Reach, why: dict[str, float], warnings: list[str],
          cutoff: str | None, context: JobContext) -> Report:
    """The report: map, areas, how right it is, where it holds, what went in, how to repeat it."""
    areas = mapped.areas
    tiles = [(f"{hectares(areas.total)} <small>ha</small>", "mapped")]
    if learned:
        training = learned.training
        tiles += headline(training)
        corrected = corrected_areas(areas, training)
        judged = [accuracy_section(training), trust_section(training, None)]
        samples, entries = labels_section(training.labels), method(learned, params)
    else:
        tiles.append((str(len(head.card.legend)), "classes"))
        corrected, samples = None, origin_section(head)
        judged = [head_section(head)]
        entries = {"Head": head.path.name, "Encoder": head.card.layout.encoder,
                   "Features": head.card.layout.kind}
    tiles.append((f"{100 * mapped.unlike_share:.1f} %", "unlike the training data"))
    entries["Last date used"] = cutoff or ""
    entries["Daily weather"] = Path(params["weather"]).name if params.get("weather") else ""
    entries["Unlike ground"] = "answer withheld" if params.get("unknown") else "mapped all the same"
    smoothed = params.get("smooth") in (None, True)
    entries["Smoothing"] = ("probabilities 3 x 3" if smoothed else "none") + (
        f"; patches under {params['min_area_ha']:g} ha join their surroundings"
        if params.get("min_area_ha") else "")
    season = f", in season until {_day(cutoff)}" if cutoff else ""
    return Report(
        f"Crop map, {inputs.name.removesuffix('.json')}{season}", tuple(tiles), tuple(warnings),
        (map_section(Path(params["output"]), mapped.legend, areas, _crs(inputs)),
         areas_section(areas, corrected, why), *judged,
         reach_section(reach, mapped.unlike_share), data_of(inputs, context), samples,
         method_section(entries, again("crop_classification", params))),
        date.today())


def _crs(inputs: Inputs) -> str:
    """The coordinate system of a map, for its caption."""
    with inputs.source() as source:
        crs = source.grid.crs
    code = crs.to_epsg() if crs else None
    return f"EPSG:{code}" if code else "own coordinate system" if crs else "no coordinate system"


def _day(iso: str) -> str:
    """A day in words: 15 June 2024."""
    day = date.fromisoformat(iso)
    return f"{day.day} {day:%B %Y}"
