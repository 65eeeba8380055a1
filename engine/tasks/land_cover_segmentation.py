"""Job `land_cover_segmentation`: rasters of one date or a season to a land cover map.

Without labels the ready-made head with the classes of ESA WorldCover maps; with labels a head of
their own classes is learned.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ..context import JobContext
from ..rasters.legend import Legend, LegendClass
from . import class_map

HEAD = "land_cover"
"""The ready-made head, see tools/train_land_cover.py."""

_LEGEND = Path(__file__).resolve().parents[2] / "resources" / "legends" / "worldcover.json"


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """From rasters to a land cover map; parameters and results as `class_map.run` has them."""
    return class_map.run(params, context, class_map.Kind(
        "land_cover_segmentation", "Land cover map", "land cover", HEAD, worldcover))


def worldcover(legend: Legend) -> Legend:
    """A legend in the colours of ESA WorldCover.

    Numbers that are all values of WorldCover get its names; names that mean one of its classes
    (in several languages) keep their words and get its colour.
    """
    known = {int(r["value"]): r for r in _records()}
    if all(c.value in known and c.name in (f"{c.value}", f"class {c.value}")
           for c in legend.classes):
        return Legend.of_records(known[c.value] for c in legend.classes)
    colours = {_plain(name): r["color"] for r in _records() for name in (r["name"], *r["synonyms"])}
    given = [colours.get(_plain(c.name)) for c in legend.classes]
    return Legend(tuple(_painted(c, colour, given[:k])
                        for k, (c, colour) in enumerate(zip(legend.classes, given, strict=True))))


def _painted(one: LegendClass, colour: str | None, taken: list[str | None]) -> LegendClass:
    """With a colour, unless another class has it already: two forests must stay apart."""
    return replace(one, color=colour) if colour and colour not in taken else one


def _plain(name: str) -> str:
    """Lower case with single spaces between words."""
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


@cache
def _records() -> list[dict]:
    return json.loads(_LEGEND.read_text(encoding="utf-8"))["classes"]
