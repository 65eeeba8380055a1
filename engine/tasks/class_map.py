"""A class map from start to end: what crop classification and land cover have in common.

Rasters and labels, or a ready-made head, become a styled map, its layers of doubt and a report.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from ..context import JobContext
from ..errors import UserError
from ..heads.head import SUFFIX, Head
from ..heads.inputs import Inputs
from ..heads.label_raster import is_raster
from ..heads.mapping import UNKNOWN, Mapped, map_head
from ..heads.origin import Origin, Reach
from ..rasters.areas import Areas
from ..rasters.legend import Legend
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

OUTPUTS = ("output", "confidence", "unlike", "reason", "embeddings", "head_output", "report")
"""Parameters that name files to write."""


@dataclass(frozen=True)
class Kind:
    """What tells one task from another.

    Attributes:
        job: its name.
        title: of the map, in log and report.
        noun: what the class field holds, in a sentence.
        head: name of the ready-made head that is taken where neither labels nor a head are
            given; "" where one of them is needed.
        legend: gives the classes of labels the task's own names and colours.
    """

    job: str
    title: str
    noun: str
    head: str = ""
    legend: Callable[[Legend], Legend] = lambda legend: legend


@dataclass(frozen=True)
class _Made:
    """What a report tells of."""

    inputs: Inputs
    head: Head
    learned: Learned | None
    mapped: Mapped
    reach: Reach
    why: dict[str, float]
    cutoff: str | None


def run(params: dict[str, Any], context: JobContext, kind: Kind) -> dict[str, Any]:
    """From rasters to a class map.

    Args:
        params: input (paths), output; labels and field (or labels that are a raster, band,
            ignored), or head (path, or name of a bundled one) or ready_head (such a name); layer,
            more_labels, more_labels_layer, encoder, features, model, cutoff, weather,
            weather_units, smooth, min_area_ha, extent, folds, block_m, seed, confidence, unlike,
            reason, unknown, embeddings (keep them there), head_output, report, command.
        context: surroundings.
        kind: the task.

    Returns:
        output, confidence, unlike, reason, embeddings, head, report (paths or None), areas,
        reasons (name to share of the raster), scores, season ([first, last] ISO day).
    """
    start = time.monotonic()
    context, warnings = collecting(context)
    params = _with_head(params, kind)
    options = options_of(params, "trained for this map" if params.get("labels") else "")
    for path in filter(None, (params.get(name) for name in OUTPUTS)):
        check_writable(Path(path))
    embeddings = Path(params.get("embeddings") or context.folder / "embeddings.tif")
    head = Head.open(Path(params["head"])) if params.get("head") else None
    cutoff = params.get("cutoff") or (head.card.cutoff if head else None) or None
    inputs = Inputs.open(params["input"], params.get("extent"), cutoff, context)
    inputs = with_weather_of(params, inputs, context)
    work = context.part(0, 0.7)
    if head is None:
        if params.get("weather") and params.get("features") != "bands":
            reads_weather(params.get("encoder") or "automatic", context)
        learned = _named(learn(params, inputs, embeddings, work), kind, context)
        inputs = learned.inputs
        path = Path(params.get("head_output") or context.folder / f"learned{SUFFIX}")
        save(learned, path, cutoff)
        head = Head.open(path)
    else:
        learned = None
        _fits(head, inputs, params, context)
        inputs = for_head(head, inputs, params, embeddings, work)
    mapped = map_head(head, inputs.source, options, context.part(0.7, 0.95))
    log_map(kind.title, mapped, start, context)
    reach = placed(params, inputs, Origin.of_card(head.card.source),
                   context.part(0.95, 0.96))
    why = explained(params, inputs, head.card.layout, context.part(0.96, 0.99))
    if params.get("report"):
        context.progress(0.99, "Writing the report")
        made = _Made(inputs, head, learned, mapped, reach, why, cutoff)
        _page(params, made, warnings, kind, context).write(Path(params["report"]))
    kept = params.get("embeddings") if inputs.embeddings == embeddings else None
    return {"output": params["output"], "confidence": params.get("confidence"),
            "unlike": params.get("unlike"), "reason": params.get("reason"), "embeddings": kept,
            "head": params.get("head_output") or params.get("head"),
            "report": params.get("report"), "areas": records(mapped.areas), "reasons": why,
            "scores": scores(learned) if learned else head.card.validation,
            "season": inputs.season()}


def _with_head(params: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """The parameters with the file of the head to use, if it is not learned from labels."""
    if kind.head:  # a ready-made head is what is left when nothing else was given
        own = params.get("labels") or params.get("head")
        params = {**params, "ready_head": None if own else params.get("ready_head") or kind.head}
    params = with_ready_head(params)
    if bool(params.get("labels")) == bool(params.get("head")):
        raise UserError("Give either labels to learn from or a ready-made head.")
    if (params.get("labels") and not params.get("field")
            and not is_raster(Path(params["labels"]))):
        raise UserError(f"No class field was given. Choose the field that holds the {kind.noun}.")
    return params


def _named(learned: Learned, kind: Kind, context: JobContext) -> Learned:
    """With the task's own names and colours of the classes."""
    training = learned.training
    legend = kind.legend(training.labels.legend)
    if legend.names != training.labels.legend.names:
        context.log(f"Class numbers are read as {', '.join(legend.names)}")
    labels = replace(training.labels, legend=legend)
    return replace(learned, training=replace(training, labels=labels))


def _fits(head: Head, inputs: Inputs, params: dict[str, Any], context: JobContext) -> None:
    """Refuse rasters that the encoder of a ready-made head cannot read."""
    if inputs.stack is None:
        return
    layout = head.card.layout
    if layout.dims and inputs.embeddings is None:
        needed, chosen = layout.encoder.split("@")[0], params.get("encoder") or "automatic"
        if chosen.lower() != "automatic" and Path(chosen).stem != needed:
            raise UserError(f"{head.path.name} needs the encoder {needed}, not {chosen}. Leave "
                            "Encoder on automatic, or give Labels to learn a head for yours.")
        if lacking := inputs.lacking(needed if chosen.lower() == "automatic" else chosen,
                                     context.device):
            raise UserError(f"{' '.join(lacking)} Or give Labels: a head that is learned from them "
                            "can use any bands.")


def _page(params: dict[str, Any], made: _Made, warnings: list[str], kind: Kind,
          context: JobContext) -> Report:
    """The report: map, areas, how right it is, where it holds, what went in, how to repeat it."""
    head, learned, mapped, areas = made.head, made.learned, made.mapped, _known(made.mapped)
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
    entries["Last date used"] = made.cutoff or ""
    entries["Daily weather"] = Path(params["weather"]).name if params.get("weather") else ""
    entries["Unlike ground"] = "answer withheld" if params.get("unknown") else "mapped all the same"
    smoothed = params.get("smooth") in (None, True)
    entries["Smoothing"] = ("probabilities 3 x 3" if smoothed else "none") + (
        f"; patches under {params['min_area_ha']:g} ha join their surroundings"
        if params.get("min_area_ha") else "")
    season = f", in season until {_day(made.cutoff)}" if made.cutoff else ""
    return Report(
        f"{kind.title}, {made.inputs.name}{season}", tuple(tiles), tuple(warnings),
        (map_section(Path(params["output"]), mapped.legend, mapped.areas, _crs(made.inputs)),
         areas_section(areas, corrected, made.why), *judged,
         reach_section(made.reach, mapped.unlike_share), data_of(made.inputs, context), samples,
         method_section(entries, again(kind.job, params))),
        date.today())


def _known(mapped: Mapped) -> Areas:
    """The areas without the class `UNKNOWN`: to withhold an answer is to give none."""
    areas = mapped.areas
    if UNKNOWN not in mapped.legend.classes:
        return areas
    withheld = sum(c.hectares for c in areas.classes if c.value == UNKNOWN.value)
    total = areas.total - withheld
    classes = tuple(replace(c, share=c.hectares / total if total else 0.0)
                    for c in areas.classes if c.value != UNKNOWN.value)
    return Areas(classes, areas.unanswered + withheld)


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
