"""Job `change_detection`: two dates, two seasons or one long series to a map of change."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..change.breaks import LEAST_CLEAR
from ..change.choice import are_seasons, check_units, warn_seasons
from ..change.classes import ClassDetector, ClassProbabilities
from ..change.decision import Detector
from ..change.deforestation import DeforestationDetector, HeadPair, SeasonPair
from ..change.embedded import EmbeddingDetector
from ..change.forest import ForestHead
from ..change.mapping import Outputs, map_change
from ..change.scenes import Side, check_order, check_overlap, coarser
from ..change.series import STANDS_OUT, Dater, SeriesDetector
from ..change.vectors import VectorDetector
from ..context import JobContext
from ..encoding.pipeline import window_in
from ..errors import UserError
from ..heads.head import Head
from ..rasters.embeddings import EmbeddingsFile
from ..rasters.grid import Grid, Window
from ..rasters.raster import check_writable
from ..rasters.vector import VectorFile
from ..reports.change_page import ChangePage
from ..stacks.stack import Stack
from .apply_head import for_head, records
from .train_head import again, collecting

PRESETS = ("any", "deforestation")
METHODS = ("automatic", "embeddings", "bands", "head", "series")
LEAST_HA = {"any": 0.1, "deforestation": 0.5}
"""Smallest area of each preset; half a hectare is FAO's least forest."""

_WORDS = {"embeddings": "embeddings", "bands": "change vectors of the bands",
          "head": "a head's classes before and after", "series": "breaks in the series"}
_OUTPUTS = ("output", "distance", "confidence", "date", "polygons", "report")


@dataclass(frozen=True)
class _Task:
    """What is to be compared, and how.

    Attributes:
        before, after: rasters; `after` is None for one long series.
        preset, method: of `PRESETS`; of `METHODS` but automatic.
        threshold: given, or None.
        least_clear: observations on both sides of a date.
    """

    before: Side
    after: Side | None
    preset: str
    method: str
    threshold: float | None
    least_clear: int


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Map where the ground changed.

    Args:
        params: before, after (embeddings, or rasters or a stack; without after, before is one
            long series), output (map of change); preset ("any" | "deforestation"), method
            ("automatic" | "embeddings" | "bands" | "head" | "series"), head, encoder, threshold
            (in the method's own measure; else automatic), min_area_ha (0.1; deforestation 0.5),
            min_clear (4), extent, distance, confidence, date, polygons, report (paths), command.
        context: surroundings.

    Returns:
        output, distance, confidence, date, polygons, report (paths or None), method, threshold,
        patches (how many), changed_ha, areas, years (hectares by year), undated_ha, season
        (first day before, last day after).
    """
    start = time.monotonic()
    context, warnings = collecting(context)
    _check(params)
    before = Side.open(params["before"], context)
    after = Side.open(params["after"], context) if params.get("after") else None
    task = _task(params, before, after, context)
    outputs = Outputs(*(Path(params[k]) if params.get(k) else None
                        for k in ("output", "distance", "confidence", "date", "polygons")))
    given = params.get("min_area_ha")
    least = LEAST_HA[task.preset] if given is None else float(given)
    with ExitStack() as files:
        detector = _detector(task, params, context.part(0, 0.6), files)
        dater = _dater(task, params, detector, context, files)
        mapped = map_change(detector, dater, outputs, least, context.memory_mb / 2,
                            context.part(0.65, 0.97))
        _warn_unlike(detector, context)
        changed = float(mapped.patches.hectares.sum())
        count = len(mapped.patches.hectares)
        noun = "Deforested" if task.preset == "deforestation" else "Changed"
        share = 100 * changed / mapped.areas.total if mapped.areas.total else 0.0
        context.log(f"{noun}: {changed:,.1f} ha of {mapped.areas.total:,.1f} ha ({share:.1f} %) in "
                    f"{count} patch{'es' * (count != 1)}; {time.monotonic() - start:.0f} s"
                    .replace(",", " "))
        if params.get("report"):
            context.progress(0.98, "Writing the report")
            ChangePage(
                outputs.change, task.preset, task.method, detector, dater, mapped,
                tuple(s for s in (task.before, task.after) if s is not None), least,
                _method(task, params, detector, least), tuple(warnings),
                again("change_detection", params)).write(Path(params["report"]))
    season = before.season() + (after.season() if after else [])
    decision = getattr(detector, "decision", None)
    return {**{key: params.get(key) for key in _OUTPUTS}, "method": task.method,
            "threshold": decision.cut if decision else task.threshold, "patches": count,
            "changed_ha": round(changed, 4), "areas": records(mapped.areas),
            "years": {str(y): round(float(h), 4) for y, h in zip(*mapped.years, strict=True)},
            "undated_ha": round(mapped.undated, 4),
            "season": [min(season), max(season)] if season else []}


def _check(params: dict[str, Any]) -> None:
    """Everything that can be refused before a file is opened."""
    preset, method = params.get("preset") or "any", _method_of(params)
    if preset not in PRESETS:
        raise UserError(f"There is no preset {preset}. Choose {' or '.join(PRESETS)}.")
    if method not in METHODS:
        raise UserError(f"There is no method {method}. Choose {', '.join(METHODS)}.")
    if method == "head" and not params.get("head") and preset == "any":
        raise UserError("The method head needs Head. Give one made by Train head, or choose "
                        "another method.")
    if params.get("head") and method not in ("head", "automatic"):
        raise UserError(f"Head is not used by the method {method}. Choose the method head, or "
                        "leave Head empty.")
    if preset == "deforestation" and method in ("embeddings", "bands"):
        raise UserError(f"The method {method} does not know forest. Choose automatic, head or "
                        "series for the preset deforestation.")
    if params.get("polygons"):
        VectorFile(Path(params["polygons"]))  # refuses an ending that no format has
    for key in _OUTPUTS:
        if params.get(key):
            check_writable(Path(params[key]))


def _method_of(params: dict[str, Any]) -> str:
    """The wanted method; forms say "auto"."""
    method = params.get("method") or "automatic"
    return "automatic" if method == "auto" else method


def _task(params: dict[str, Any], before: Side, after: Side | None, context: JobContext) -> _Task:
    """The method that fits, said in the log, and its threshold."""
    preset, head = params.get("preset") or "any", bool(params.get("head"))
    if after is not None:
        check_order(before.season(), after.season())
        check_overlap(before, after)
        warn_seasons(before.season(), after.season(), context)
    method = _fitting(params, before, after, context)
    if method in ("bands", "series") or (preset == "deforestation" and not head):
        for side in (before, after):
            if side is not None and side.stack is None:
                raise UserError(f"{side.name} holds embeddings, no bands. Give its rasters, or "
                                "choose the method embeddings.")
    check_units(method, preset, head, [before, after], context)
    clear = params.get("min_clear")
    least_clear = LEAST_CLEAR if clear is None else int(clear)
    if least_clear < 2:
        raise UserError("At least 2 clear observations are needed on each side of a date.")
    bundled = method == "head" and not head
    context.log("Method: " + ("the bundled forest head before and after" if bundled
                              else _WORDS[method]))
    return _Task(before, after, preset, method, _threshold(params, method), least_clear)


def _threshold(params: dict[str, Any], method: str) -> float | None:
    """The given threshold, within what its method measures."""
    given = params.get("threshold")
    if given is None:
        return None
    most, what = {"embeddings": (2.0, "a cosine distance lies from 0 to 2"),
                  "bands": (float("inf"), "it is not below 0")}.get(
                      method, (1.0, "it is a probability from 0 to 1"))
    if not 0 <= float(given) <= most:
        raise UserError(f"Threshold is {given}; {what}. Choose one, or none.")
    return float(given)


def _fitting(params: dict[str, Any], before: Side, after: Side | None, context: JobContext) -> str:
    """The wanted method, or the one that fits the input."""
    method = _method_of(params)
    if after is None:
        if method not in ("automatic", "series") or params.get("head"):
            raise UserError("After is empty, so Before is one long series, in which only the "
                            "method series finds change. Give After, or choose series.")
        return "series"
    if method != "automatic":
        return method
    if params.get("head") or params.get("preset") == "deforestation":
        return "head"
    made = before.embeddings or after.embeddings
    return "embeddings" if made or are_seasons(
        before, after, params.get("encoder") or "automatic", context) else "bands"


def _detector(task: _Task, params: dict[str, Any], context: JobContext, files: ExitStack
              ) -> Detector:
    """What decides, with its files open until the end."""
    if task.method == "embeddings":
        found: Detector = _embeddings(task, params, context)
    elif task.method == "head" and params.get("head"):
        found = _head(task, params, context)
    else:
        stacks = _stacks(task)
        area = window_in(stacks[-1].grid, params.get("extent"))
        if task.method == "bands":
            found = VectorDetector(*stacks, area, task.threshold, context)
        elif task.method == "head":
            head = ForestHead.open(threads=context.threads)
            found = DeforestationDetector(SeasonPair(head, *stacks, area), task.threshold,
                                          f"deforestation {head.card['version']}")
        else:
            found = _series(task, stacks, area, context)
    files.callback(found.close)
    return found


def _embeddings(task: _Task, params: dict[str, Any], context: JobContext) -> EmbeddingDetector:
    """Both dates with embeddings. "automatic" is the encoder of the date that has them already."""
    encoder = params.get("encoder") or "automatic"
    sides = _on_one_grid(task)
    if encoder.lower() == "automatic":
        for side in sides:
            if side.embeddings is not None:
                with EmbeddingsFile(side.embeddings) as file:
                    encoder = file.encoder.split("@")[0]
    extent = params.get("extent")
    first, second = (
        side.inputs(extent, context).encoded(encoder, context.folder / f"{key}.tif",
                                             context.part(share, share + 0.45))
        for side, key, share in zip(sides, ("before", "after"), (0.0, 0.45), strict=True))
    return EmbeddingDetector(first, second, extent, task.threshold, context.part(0.9, 1))


def _head(task: _Task, params: dict[str, Any], context: JobContext) -> Detector:
    """Classes of the user's head before and after; with the preset those of forest."""
    head = Head.open(Path(params["head"]), context.threads)
    extent = params.get("extent")
    inputs = [
        for_head(head, side.inputs(extent, context), params, context.folder / f"{key}.tif",
                 context.part(share, share + 0.5))
        for side, key, share in zip(_on_one_grid(task), ("before", "after"), (0.0, 0.5),
                                    strict=True)]
    classes = ClassProbabilities(head, *inputs, extent)
    if task.preset == "any":
        return ClassDetector(classes, task.threshold)
    try:
        return DeforestationDetector(HeadPair(classes), task.threshold, head.path.name)
    except UserError:
        classes.close()
        raise


def _series(task: _Task, stacks: list[Stack], area: Window, context: JobContext) -> SeriesDetector:
    """Breaks in all scenes."""
    whole = _joined(stacks)
    forest = ForestHead.open(threads=context.threads) if task.preset == "deforestation" else None
    dater = Dater(whole, area, forest is not None, task.least_clear)
    if not dater.long_enough:
        dater.close()
        raise UserError(f"The series has {dater.dates} dates; {2 * task.least_clear} are needed, "
                        f"{task.least_clear} clear ones on each side of a change. Give more "
                        "dates, or Before and After apart.")
    context.log(f"Series: {dater.title}")
    if forest is None and not dater.seasonal:
        context.warn("The series is shorter than 18 months, so that a season may look like a "
                     "change. Give a longer one, or Before and After apart.")
    return SeriesDetector(dater, forest, whole, area, task.threshold)


def _dater(task: _Task, params: dict[str, Any], detector: Detector, context: JobContext,
           files: ExitStack) -> Dater | None:
    """Dates of change, where a layer, polygons or a report could hold them and rasters can tell."""
    if isinstance(detector, SeriesDetector):
        return detector.dater
    wanted = bool(params.get("date"))
    sides = [s for s in (task.before, task.after) if s is not None and s.stack is not None]
    if len(sides) < 2:
        if wanted:
            raise UserError("The date of a change needs the rasters of both dates, not embeddings "
                            "alone. Give them, or leave Date of change out.")
        return None
    stack = _joined([s.stack for s in sides])
    stack = replace(stack, grid=detector.grid)
    try:
        dater = Dater(stack, stack.grid.full, task.preset == "deforestation", task.least_clear)
    except UserError:
        if wanted:
            raise
        return None
    files.callback(dater.close)
    if not dater.long_enough:
        if wanted:
            context.warn(f"No date can be told: {dater.dates} dates are too few, "
                         f"{2 * task.least_clear} are needed.")
            return dater
        return None
    context.log(f"Dates: {dater.title}")
    return dater


def _stacks(task: _Task) -> list[Stack]:
    """The scenes of each side on one grid."""
    if task.after is None:
        return [task.before.stack]
    first, second = task.before.stack, task.after.stack
    grid = coarser(first, second)
    return [replace(first, grid=grid), replace(second, grid=grid)]


def _on_one_grid(task: _Task) -> list[Side]:
    """Both sides; scenes are brought to the other's embeddings, or to the coarser pixels."""
    sides = [task.before, task.after]
    made = [s for s in sides if s.embeddings is not None]
    if len(made) == 2:
        return sides
    grid: Grid = made[0].grid if made else coarser(*(s.stack for s in sides))
    return [s if s.embeddings is not None else s.on(grid) for s in sides]


def _joined(stacks: list[Stack]) -> Stack:
    """One stack of the scenes of all, on the last one's grid."""
    scenes = {id(s): s for stack in stacks for s in stack.scenes}.values()
    return replace(stacks[-1], scenes=tuple(sorted(scenes, key=lambda s: s.date or "")))


def _warn_unlike(detector: Detector, context: JobContext) -> None:
    """Say where the ground is unlike what the bundled forest head has seen."""
    pair = getattr(detector, "pair", None)
    if isinstance(pair, SeasonPair) and pair.looked:
        share = pair.strange / pair.looked
        context.log(f"Forest head: {100 * share:.0f} % of pixels are unlike its training data")
        if share > 0.2:
            context.warn(f"{100 * share:.0f} % of pixels are unlike what the forest head was "
                         "trained on: check the map, or train a head of your own.")


def _method(task: _Task, params: dict[str, Any], detector: Detector, least: float
            ) -> dict[str, str]:
    """What ran, for the report."""
    words = {
        "embeddings": "angle between the embeddings of both dates",
        "bands": "change vectors: medians of each date, 3 x 3 means, scaled by unchanged ground "
                 "(IR-MAD), Otsu's cut",
        "head": "classes of a head before and after",
        "series": "one break in each pixel's series (posterior of its place)"}
    entries = {"Preset": task.preset, "Method": words[task.method]}
    if isinstance(detector, EmbeddingDetector):
        entries["Encoder"] = detector.encoder
    if isinstance(detector, VectorDetector):
        entries["Bands"] = "; ".join(g.title for g in detector.groups)
    if isinstance(detector, (DeforestationDetector, ClassDetector)):
        entries["Head"] = detector.tags["EARTHPRINT_HEAD"]
    entries["Threshold"] = "automatic" if task.threshold is None else f"{task.threshold:g}"
    if isinstance(detector, SeriesDetector) and detector.stands_out:
        entries["Threshold"] += (f"; less than three years, so a step must be {STANDS_OUT:g} times "
                                 "the swing of its own series")
    entries["Smallest area"] = f"{least:g} ha"
    entries["Dates"] = (f"{task.least_clear} clear observations at least on each side of a date; "
                        "one break a pixel")
    if params.get("extent"):
        entries["Area"] = "a part: " + ", ".join(map(str, params["extent"]))
    return entries
