"""Job `assess_accuracy`: a map against places of known class, or against a raster of classes.

Places are a sample: accuracy and areas come with intervals. A raster is counted, without any.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ..accuracy.agreement import agree
from ..accuracy.classmap import Census, ClassMap
from ..accuracy.estimators import Assessment, Sample, assess
from ..accuracy.overlay import lay_over
from ..accuracy.reference import Reference, read_reference
from ..accuracy.strata import (
    Stratification,
    majority,
    of_field,
    of_raster,
    own_classes,
    shares_of,
)
from ..accuracy.tables import agreement_records, agreement_rows, cell, figure, write_csv
from ..accuracy.visits import SIZE
from ..context import JobContext
from ..errors import UserError
from ..heads.label_raster import ignored_values, is_raster
from ..rasters.legend import COLORS
from ..rasters.raster import check_writable
from ..reports.agreement_page import Compared, agreement_sections, scope
from ..reports.assessment import Tested, assessment_sections, picture_section
from ..reports.report import Report, hectares, method_section
from .sampling_design import describe
from .train_head import again, collecting


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Estimate how right a map is, and how much there is of each class in truth.

    Args:
        params: map, reference (points, polygons or a raster of classes); of features: field (true
            class), reference_layer, strata (raster that the units were drawn in; default: the
            map's classes), strata_field (field with the stratum instead, beside the field of
            sizes of Sampling design); of a raster: band, ignored (values that are no class, a
            list or a text with commas); report, table (CSV), command.
        context: surroundings.

    Returns:
        report, table (paths or None), units (places, or pixels of the map that were compared),
        overall and classes (figures in percent and hectares, each with half of its 95 %
        interval; None where undefined); of features strata, of a raster ground (hectares).
    """
    start = time.monotonic()
    context, warnings = collecting(context)
    if _is_raster(params):
        return _beside_raster(params, context, warnings)
    if params.get("strata") and params.get("strata_field"):
        raise UserError("Give the strata as a raster or as a field, not both.")
    _check_outputs(params)
    with ClassMap(Path(params["map"])) as source:
        tested = _tested(params, source, context)
    context.log(f"Overall accuracy {_percent(tested.result.overall)} %, 95 % interval; "
                f"{len(tested.names)} classes, {tested.units} units; "
                f"{time.monotonic() - start:.0f} s")
    _write(params, lambda: _report(params, tested, warnings, context), _sample_rows(tested),
           context)
    return {"report": params.get("report"), "table": params.get("table"), "units": tested.units,
            "overall": _figures(tested.result.overall), "classes": _records(tested),
            "strata": [{"name": n, "pixels": int(p), "units": int(k)} for n, p, k in
                       zip(tested.strata.names, tested.strata.pixels, tested.strata.units,
                           strict=True)]}


def _is_raster(params: dict[str, Any]) -> bool:
    """Whether the reference is a raster; if not, it has a field."""
    path = Path(params["reference"])
    if params.get("field") and not path.exists():
        return False  # features have a sentence of their own for that
    if is_raster(path):
        return True
    if not params.get("field"):
        raise UserError("No field was given. Choose the field with the true class.")
    return False


def _beside_raster(params: dict[str, Any], context: JobContext, warnings: list[str]
                   ) -> dict[str, Any]:
    """The job for a reference that knows the class of every place."""
    start = time.monotonic()
    path, other = Path(params["map"]), Path(params["reference"])
    if params.get("strata") or params.get("strata_field"):
        raise UserError("Strata belong to places that were drawn at random. Leave them empty for "
                        "a raster of reference.")
    if path.exists() and other.exists() and path.samefile(other):
        raise UserError(f"Map and reference are the same file, {path.name}. Choose another "
                        "reference.")
    _check_outputs(params)
    with ClassMap(path) as source, ClassMap(
            other, band=int(params.get("band") or 1),
            ignored=ignored_values(params.get("ignored"))) as reference:
        census = source.census(context.part(0, 0.3))
        describe(source, census, context)
        overlay = lay_over(source, census, reference, context.part(0.3, 0.95))
        found = agree(overlay, census, source, reference, context)
        compared = Compared(path.name, source.crs_name, other.name, reference.crs_name, found)
    pixels = int(found.pixels.sum())
    context.log(f"Overall accuracy {100 * found.overall:.1f} % of "
                f"{hectares(found.ground.compared)} ha; {len(found.names)} classes, {pixels} "
                f"pixels; {time.monotonic() - start:.0f} s")
    _write(params, lambda: _page(params, compared, warnings, context), agreement_rows(found),
           context)
    ground = found.ground
    return {"report": params.get("report"), "table": params.get("table"), "units": pixels,
            "overall": figure(100 * found.overall), "classes": agreement_records(found),
            "strata": [], "ground": {
                "map_ha": round(ground.mapped, 4), "compared_ha": round(ground.compared, 4),
                "unlabelled_ha": round(ground.unlabelled, 4),
                "beyond_ha": round(ground.beyond, 4), "whole": ground.whole}}


def _check_outputs(params: dict[str, Any]) -> None:
    for key in ("report", "table"):
        if params.get(key):
            check_writable(Path(params[key]))


def _write(params: dict[str, Any], page: Callable[[], Report], rows: Iterable[list[Any]],
           context: JobContext) -> None:
    """Report and table, where they are wanted."""
    if params.get("report"):
        context.progress(0.95, "Writing the report")
        page().write(Path(params["report"]))
    if params.get("table"):
        write_csv(Path(params["table"]), rows)


@dataclass(frozen=True)
class _Classes:
    """The classes of map and reference together.

    Attributes:
        names, colors: the map's first, then those that only the reference knows.
        of_unit: (n,) true class of each unit.
    """

    names: tuple[str, ...]
    colors: tuple[str, ...]
    of_unit: np.ndarray


def _tested(params: dict[str, Any], source: ClassMap, context: JobContext) -> Tested:
    """Read, match and estimate."""
    census = source.census(context.part(0, 0.4))
    describe(source, census, context)
    field, strata_field = str(params["field"]), str(params.get("strata_field") or "")
    reference = read_reference(
        Path(params["reference"]), field, source.grid, context,
        layer=params.get("reference_layer"), more=(strata_field, SIZE) if strata_field else ())
    classes = _match(reference, census, source, context)
    mapped = shares_of(reference, source.at(reference.rows, reference.cols, census),
                       len(classes.names))
    if params.get("strata"):
        strata = of_raster(Path(params["strata"]), source, census, reference,
                           context.part(0.4, 0.9))
    elif strata_field:
        strata = of_field(strata_field, reference, census)
    else:
        strata = own_classes(census, mapped)
    on_map = majority(mapped) >= 0
    used = on_map & (strata.of_unit >= 0)
    _say_left_out(reference, on_map, used, context)
    if not used.any():
        raise UserError(f"No unit of {reference.source} lies where {source.path.name} has a class. "
                        "Check its CRS, or visit points on the map.")
    whole = replace(strata, of_unit=strata.of_unit[used])
    kept = whole.sampled()
    _say_strata(whole, kept, census, context)
    sample = Sample(kept.of_unit, mapped[used], classes.of_unit[used])
    result = assess(sample, kept.strata(), finite=not kept.own)
    count = len(census.classes)
    counted = np.zeros(len(classes.names))
    counted[:count] = [c.hectares for c in census.classes]
    return Tested(
        map_name=source.path.name, crs=source.crs_name, names=classes.names,
        colors=classes.colors, values=tuple(c.value for c in census.classes), mapped=counted,
        strata=kept, result=result, units=int(used.sum()), parcels=reference.parcels,
        reference=reference.source, census=census)


def _match(reference: Reference, census: Census, source: ClassMap, context: JobContext
           ) -> _Classes:
    """The true class of each unit by the map's names or values, whatever their case."""
    legend = {v: name for v, (name, _) in census.legend.items()}
    legend.update({c.value: c.name for c in census.classes})
    spelled = {str(v): name for v, name in legend.items()}
    spelled.update({name.casefold(): name for name in legend.values()})
    true = [spelled.get(name.casefold(), name) for name in reference.names]
    mapped = [c.name for c in census.classes]
    further = sorted(set(true) - set(mapped))
    if set(further) == set(true):
        raise UserError(f"No class of {reference.source} ({', '.join(further[:5])}) is one of "
                        f"{source.path.name} ({', '.join(mapped[:5])}). Choose the field with the "
                        "true class, spelled as in the map's legend or as its values.")
    if further:
        context.warn(f"{', '.join(further)} of {reference.source} "
                     f"{'is' if len(further) == 1 else 'are'} not on the map; such units count as "
                     "mapped wrongly.")
    names = (*mapped, *further)
    spare = [c for c in COLORS if c not in {k.color for k in census.classes}] or list(COLORS)
    colors = (*(c.color for c in census.classes),
              *(spare[i % len(spare)] for i in range(len(further))))
    place = {name: i for i, name in enumerate(names)}
    return _Classes(names, colors, np.array([place[name] for name in true], np.int64))


def _say_left_out(reference: Reference, on_map: np.ndarray, used: np.ndarray,
                  context: JobContext) -> None:
    """Units that could not be used, and why."""
    said = [(reference.unvisited, "without a class"),
            (reference.unreadable, "neither point nor polygon"),
            (reference.outside, "outside the map"),
            (int((~on_map).sum()), "where the map has no class"),
            (int((on_map & ~used).sum()), "without a stratum")]
    words = "; ".join(f"{n} {why}" for n, why in said if n)
    total = len(reference) + sum(n for n, _ in said[:3])
    context.log(f"Reference: {total} features, {int(used.sum())} used")
    if words:
        context.warn(f"Left out of {total} features of {reference.source}: {words}. If their true "
                     "classes differ from those of the others, the figures are biased.")
    pixels = reference.rows * (2**32) + reference.cols
    doubles = len(pixels) - len(np.unique(pixels))
    if doubles and not reference.parcels:
        context.warn(f"Points of {reference.source} that lie in the pixel of another one and count "
                     f"again: {doubles}.")


def _say_strata(whole: Stratification, kept: Stratification, census: Census, context: JobContext
                ) -> None:
    """What the sample cannot tell, because nobody was there."""
    noun = "class" if whole.own else "stratum"
    missing = [(n, h) for n, h, k in zip(whole.names, whole.hectares, whole.units, strict=True)
               if not k]
    if missing:
        area = sum(h for _, h in missing)
        context.warn(
            f"No unit lies in {noun} {', '.join(n for n, _ in missing)}; the figures leave out "
            f"its {hectares(area)} ha ({100 * area / whole.hectares.sum():.1f} % of the map). "
            "Visit points there.")
    lost = census.hectares - whole.hectares.sum()
    if lost > 1e-6 * census.hectares:
        context.warn(f"{hectares(lost)} ha of the map have no stratum and were left out.")
    alone = [n for n, k in zip(kept.names, kept.units, strict=True) if k == 1]
    if alone:
        context.warn(f"Only one unit lies in {noun} {', '.join(alone)}; intervals need two. Visit "
                     "a second one.")


def _report(params: dict[str, Any], tested: Tested, warnings: list[str], context: JobContext
            ) -> Report:
    overall = tested.result.overall
    stated = ("Olofsson et al. 2014, eqs. 5-7 and 9-11; strata are the map's classes"
              if tested.strata.own else
              "Stehman 2014, ratios of totals over strata that differ from the map's classes")
    tiles = ((f"{100 * overall.value:.1f} % <small>± {100 * overall.half:.1f}</small>"
              if np.isfinite(overall.half) else f"{100 * overall.value:.1f} %",
              "overall accuracy of the area, 95 % interval"),
             (str(tested.units), "parcels visited" if tested.parcels else "points visited"),
             (f"{hectares(tested.hectares)} <small>ha</small>", "tested"),
             (str(len(tested.names)), "classes"))
    method = {
        "Map": tested.map_name, "Reference": f"{tested.reference}, field {params['field']}",
        "Strata": tested.strata.origin, "Estimators": stated,
        "Intervals": "95 %, 1.96 standard errors; they hold if the places were drawn at random in "
                     "each stratum, as by Sampling design, and not for places picked by hand or "
                     "used for training",
        "Units": "a point stands for the pixel under it" if not tested.parcels else
                 "a polygon is one unit; what it is mapped as counts by its share of pixels"}
    return Report(
        f"Accuracy, {Path(tested.map_name).stem}", tiles, tuple(warnings),
        (picture_section(Path(params["map"]), tested, context.folder),
         *assessment_sections(tested),
         method_section(method, again("assess_accuracy", params))), date.today())


def _page(params: dict[str, Any], compared: Compared, warnings: list[str], context: JobContext
          ) -> Report:
    """The report on a raster of reference."""
    found, ground = compared.found, compared.found.ground
    tiles = ((f"{100 * found.overall:.1f} %", "overall accuracy of the compared area"),
             (f"{hectares(ground.compared)} <small>ha</small>", "compared"),
             (f"{ground.covered} %", "of the map's area"),
             (str(len(found.names)), "classes"))
    band = f", band {params['band']}" if int(params.get("band") or 1) > 1 else ""
    method = {
        "Map": f"{compared.map_name}, {compared.map_crs}",
        "Reference": f"{compared.reference}{band}, {compared.reference_crs}",
        "Comparison": "each pixel of the map with the reference's pixel that its centre lies in; "
                      "areas are those of the map's pixels on the ellipsoid",
        "Classes": f"matched {found.matched}",
        "Left out of the reference": str(params.get("ignored") or ""),
        "Intervals": f"none. {scope(compared)} Neighbouring pixels are alike, so no standard error "
                     "of independent pixels is given",
        "Limits": "ground that the map was trained on flatters it, and a reference that was itself "
                  "made by a classifier has errors of its own"}
    return Report(
        f"Accuracy, {Path(compared.map_name).stem}", tiles, tuple(warnings),
        (*agreement_sections(compared, context.folder),
         method_section(method, again("assess_accuracy", params))), date.today())


def _sample_rows(tested: Tested) -> Iterable[list[Any]]:
    """The matrix in units and the figures, a row a class."""
    r, total = tested.result, tested.hectares
    yield ["value", "class", *(f"reference {n}" for n in tested.names), "units",
           "mapped_ha", "area_ha", "area_ci95_ha", "area_share", "users_accuracy", "users_ci95",
           "producers_accuracy", "producers_ci95", "f1", "f1_ci95", "iou", "iou_ci95"]
    for i, name in enumerate(tested.names):
        scores = [x for e in (r.users, r.producers, r.f1, r.iou)
                  for x in (e.value[i], e.half[i])]
        yield [tested.values[i] if i < len(tested.values) else "", name,
               *(cell(n) for n in r.counts[i]), cell(r.counts[i].sum()),
               cell(tested.mapped[i]), cell(total * r.area.value[i]),
               cell(total * r.area.half[i]), cell(r.area.value[i]), *map(cell, scores)]
    yield ["", "all", *(cell(n) for n in r.counts.sum(0)), tested.units,
           cell(tested.mapped.sum()), cell(total), "", 1, cell(float(r.overall.value)),
           cell(float(r.overall.half)), *[""] * 6]


def _percent(estimate: Any) -> str:
    half = float(estimate.half)
    ending = "" if math.isnan(half) else f" ± {100 * half:.1f}"
    return f"{100 * float(estimate.value):.1f}{ending}"


def _figures(estimate: Any, k: int | tuple = (), factor: float = 100.0) -> dict[str, float | None]:
    """Value and half interval as JSON has them."""
    pair = factor * float(estimate.value[k]), factor * float(estimate.half[k])
    value, half = (None if math.isnan(x) else round(x, 6) for x in pair)
    return {"value": value, "half": half}


def _records(tested: Tested) -> list[dict[str, Any]]:
    r: Assessment = tested.result
    return [{"name": name, "value": tested.values[k] if k < len(tested.values) else None,
             "mapped_ha": round(float(tested.mapped[k]), 4),
             "users": _figures(r.users, k), "producers": _figures(r.producers, k),
             "f1": _figures(r.f1, k), "area_ha": _figures(r.area, k, tested.hectares)}
            for k, name in enumerate(tested.names)]
