"""Job `flood_detection`: images before and during a flood to a map, areas and a report."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..context import JobContext
from ..encoding.pipeline import window_in
from ..errors import UserError
from ..flood.classical import clearest, thresholds
from ..flood.ground import REACH_M, KnownWater, Terrain, Zones
from ..flood.learned import BUNDLED, FloodHead, can_see
from ..flood.mapping import (
    FLOOD,
    NOTHING_SEEN,
    PERMANENT,
    UNFIT,
    UNSEEN,
    UNSEEN_BEFORE,
    Detectors,
    Ground,
    Mapped,
    Outputs,
    map_flood,
)
from ..flood.pair import FloodPair, describe
from ..flood.survey import CAPS, Survey, survey
from ..rasters.raster import check_writable
from ..rasters.vector import VectorFile
from ..reports.flood_page import FloodPage
from .apply_head import records
from .train_head import again, collecting

METHODS = ("both", "thresholds", "embeddings")
_UNITS = {"vv": " dB", "vh": " dB", "mndwi": "", "ndwi": ""}


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Water that came.

    Args:
        params: before, after (paths: a stack, or rasters and folders), output; method (both |
            thresholds | embeddings), permanent_water (raster, or polygons as
            FILE or FILE|layername=NAME), dem, max_slope (degrees, 5), max_height (m, 15), zones and
            zones_layer, min_area_ha (0.1), extent, confidence, polygons, disagreement,
            zone_areas, report (paths), command.
        context: surroundings.

    Returns:
        output, confidence, polygons, disagreement, zone_areas, report (paths or None), areas,
        flood_ha, permanent_ha, no_answer_ha, patches (how many), thresholds (channel to those
        before and during), agreement (0..1 or None), zones (rows), season (the days of the
        flood's images).
    """
    start = time.monotonic()
    context, warnings = collecting(context)
    method = params.get("method") or "both"
    if method not in METHODS:
        raise UserError(f"There is no method {method}. Choose {', '.join(METHODS)}.")
    _check_outputs(params, method)
    with ExitStack() as files:
        pair = files.enter_context(FloodPair.open(params["before"], params["after"],
                                                  context.part(0, 0.05)))
        if params.get("extent"):
            pair = files.enter_context(pair.within(window_in(pair.grid, params["extent"])))
        context.log(f"Before: {pair.dates[0] or 'no date'}; during: {pair.dates[1] or 'no date'}; "
                    f"channels {describe(pair.channels)}")
        ground = _ground(params, pair, files)
        found = survey(pair, context.part(0.05, 0.2))
        _check_seen(found)
        head = _head(method, pair, context)
        _check_classes(found, method, head is not None, Path(params["after"][0]).name, context)
        _log_thresholds(found, context)
        detectors = Detectors(found, method != "embeddings", head)
        tags = {"EARTHPRINT_METHOD": method, "EARTHPRINT_DATES": " / ".join(map(str, pair.dates))}
        mapped = map_flood(
            pair, detectors, ground, _outputs(params), _least(params), tags,
            context.part(0.2, 0.95))
        _log_result(mapped, start, context)
        if params.get("report"):
            context.progress(0.96, "Writing the report")
            FloodPage(
                Path(params["output"]), pair, found, mapped, ground, method,
                head.card if head else None, _method(params, method, head), tuple(warnings),
                again("flood_detection", params)).write(Path(params["report"]))
    return {**{key: params.get(key) for key in (
                "output", "confidence", "polygons", "disagreement", "zone_areas", "report")},
            "areas": records(mapped.all_areas), "patches": len(mapped.patches.hectares),
            "flood_ha": round(_hectares(mapped, FLOOD), 4),
            "permanent_ha": round(_hectares(mapped, PERMANENT), 4),
            "no_answer_ha": round(mapped.areas.unanswered, 4),
            "thresholds": {c: [round(cut, 4) for cut in cuts]
                           for c, cuts in thresholds(found).items()},
            "agreement": None if mapped.agreement != mapped.agreement else mapped.agreement,
            "zones": _zone_rows(ground.zones), "season": _season(pair)}


def _check_outputs(params: dict[str, Any], method: str) -> None:
    """Everything that can be refused before the work begins."""
    for key in ("polygons", "zone_areas"):
        if params.get(key):
            VectorFile(Path(params[key]))  # refuses an ending that no format has
    for key in ("output", "confidence", "polygons", "disagreement", "zone_areas", "report"):
        if params.get(key):
            check_writable(Path(params[key]))
    if params.get("disagreement") and method != "both":
        raise UserError("Disagreement needs two detectors. Choose Both Detectors, or skip it.")
    if params.get("zone_areas") and not params.get("zones"):
        raise UserError("Areas of zones need the zones. Give Zones, or skip it.")


def _ground(params: dict[str, Any], pair: FloodPair, files: ExitStack) -> Ground:
    """The layers beside the images."""
    permanent = terrain = zones = None
    if params.get("permanent_water"):
        path, _, layer = str(params["permanent_water"]).partition("|layername=")
        permanent = KnownWater(Path(path), layer or None, pair.grid)
        files.callback(permanent.close)
    if params.get("dem"):
        steepest, highest = (_number(params, key, default)
                             for key, default in (("max_slope", 5.0), ("max_height", 15.0)))
        terrain = Terrain(Path(params["dem"]), pair.grid, steepest, highest)
        files.callback(terrain.close)
    if params.get("zones"):
        zones = Zones(Path(params["zones"]), params.get("zones_layer"), pair.grid)
    return Ground(permanent, terrain, zones)


def _head(method: str, pair: FloodPair, context: JobContext) -> FloodHead | None:
    """The learned detector where it was asked for and can see something."""
    if method == "thresholds":
        return None
    if can_see(pair.channels):
        return FloodHead.open(BUNDLED, context.threads)
    if method == "embeddings":
        raise UserError("The learned detector needs radar (VV or VH), or green, near and short-"
                        "wave infrared on both dates. Choose Thresholds Only.")
    context.warn("The learned detector needs radar, or green, near and short-wave infrared; the "
                 "thresholds alone made this map.")
    return None


def _check_seen(found: Survey) -> None:
    """Refuse a date of which no image holds data: thresholds have nothing to come from."""
    if not all(any(both[date].counts.any() for both in found.stats.values()) for date in (0, 1)):
        raise UserError(NOTHING_SEEN)


def _check_classes(found: Survey, method: str, learned: bool, name: str, context: JobContext
                   ) -> None:
    """Say where no image shows two classes; thresholds alone cannot work then."""
    if method == "embeddings":
        return
    channel, stats = clearest(found)
    if stats.source != "cap":
        return
    words = f"`{name}` shows no separate water (Ashman D {stats.clearest:.1f})"
    if method == "thresholds":
        raise UserError(f"{words}. Choose Embeddings Only.")
    if learned:
        context.warn(f"{words}: thresholds are fixed ones ({describe((channel,))} "
                     f"{CAPS[channel]:g}{_UNITS[channel]}), look at the result with care.")


def _log_thresholds(found: Survey, context: JobContext) -> None:
    words = {"tiles": "tiles with two classes: median of {}", "scene": "of the whole scene",
             "cap": "fixed, no two classes", "other": "as on the other date"}
    for channel, cuts in thresholds(found).items():
        both = found.stats[channel]
        parts = [f"{when} {cut:.2f}{_UNITS[channel]} "
                 f"({words[s.source if cut == s.threshold else 'other'].format(len(s.tiles))})"
                 for when, cut, s in zip(("before", "during"), cuts, both, strict=True)]
        context.log(f"Threshold {describe((channel,))}: {', '.join(parts)}; during Ashman D "
                    f"{both[1].clearest:.1f}")


def _outputs(params: dict[str, Any]) -> Outputs:
    def path(key: str) -> Path | None:
        return Path(params[key]) if params.get(key) else None

    return Outputs(Path(params["output"]), path("confidence"), path("disagreement"),
                   path("polygons"), path("zone_areas"))


def _least(params: dict[str, Any]) -> float:
    return _number(params, "min_area_ha", 0.1)


def _number(params: dict[str, Any], key: str, default: float) -> float:
    value = params.get(key)
    return default if value is None else float(value)


def _hectares(mapped: Mapped, value: int) -> float:
    return next(a.hectares for a in mapped.all_areas.classes if a.value == value)


def _log_result(mapped: Mapped, start: float, context: JobContext) -> None:
    count = len(mapped.patches.hectares)
    context.log(
        f"Flood: {_hectares(mapped, FLOOD):,.1f} ha in {count} patch{'es' * (count != 1)}; "
        f"permanent water {_hectares(mapped, PERMANENT):,.1f} ha; left out or not seen "
        f"{mapped.areas.unanswered:,.1f} ha; {time.monotonic() - start:.0f} s".replace(",", " "))


def _method(params: dict[str, Any], method: str, head: FloodHead | None) -> dict[str, str]:
    """What ran, for the report."""
    words = {"both": "both detectors, joined by weights from events that were held back",
             "thresholds": "thresholds only",
             "embeddings": "embeddings only (the learned detector)"}
    entries = {"Detectors": words[method]}
    if head is not None:
        sets = "; ".join(f"{t['set']}, {t['chips']} chips, licence {t['licence']}"
                         for t in head.card["training"])
        entries["Head"] = f"flood {head.card['version']}, trained on {sets}"
    if params.get("permanent_water"):
        entries["Permanent water"] = Path(params["permanent_water"]).name.partition("|")[0]
    else:
        entries["Permanent water"] = (
            f"water on both dates, by thresholds; in radar darker than {CAPS['vv']:g} dB (VV) or "
            f"{CAPS['vh']:g} dB (VH)")
    if params.get("dem"):
        entries["Left out"] = (
            f"steeper than {_number(params, 'max_slope', 5):g} degrees, or more than "
            f"{_number(params, 'max_height', 15):g} m above the lowest ground within "
            f"{REACH_M:.0f} m ({Path(params['dem']).name}), which stands for the height above the "
            "nearest drainage")
    entries["Smallest area"] = f"{_least(params):g} ha"
    return entries


def _zone_rows(zones: Zones | None) -> list[dict[str, Any]]:
    if zones is None:
        return []
    flood, permanent, other = (zones.hectares(values) for values in (
        (FLOOD,), (PERMANENT,), (UNFIT, UNSEEN_BEFORE, UNSEEN)))
    return [{"name": n, "flood_ha": round(float(f), 4), "permanent_ha": round(float(p), 4),
             "no_answer_ha": round(float(o), 4)}
            for n, f, p, o in zip(zones.names, flood, permanent, other, strict=True)]


def _season(pair: FloodPair) -> list[str]:
    during = pair.dates[1]
    return [during.first, during.last] if during.first else []
