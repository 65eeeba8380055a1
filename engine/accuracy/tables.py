"""Figures of an assessment as rows of a CSV file and as JSON values."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .agreement import Agreement


def agreement_rows(found: Agreement) -> Iterator[list[Any]]:
    """The head, the matrix in hectares with the figures of each class, and their sums."""
    yield ["value", "class", "reference_value", *(f"reference {n} ha" for n in found.names),
           "pixels", "mapped_ha", "reference_ha", "users_accuracy", "producers_accuracy", "f1",
           "iou"]
    for k, name in enumerate(found.names):
        yield [found.values[k], name, found.true_values[k],  # the writer leaves None empty
               *map(cell, found.hectares[k]), int(found.pixels[k].sum()),
               *(cell(v[k]) for v in (found.mapped, found.true, found.users, found.producers,
                                      found.f1, found.iou))]
    total = cell(found.ground.compared)
    yield ["", "all", "", *map(cell, found.true), int(found.pixels.sum()), total, total,
           cell(found.overall), "", "", ""]


def agreement_records(found: Agreement) -> list[dict[str, Any]]:
    """A record a class, percent and hectares."""
    return [{"name": name, "value": found.values[k], "mapped_ha": round(float(found.mapped[k]), 4),
             "users": figure(100 * found.users[k]),
             "producers": figure(100 * found.producers[k]), "f1": figure(100 * found.f1[k]),
             "area_ha": figure(found.true[k])} for k, name in enumerate(found.names)]


def figure(value: float) -> dict[str, float | None]:
    """A figure without an interval."""
    return {"value": None if math.isnan(value) else round(float(value), 6), "half": None}


def cell(value: float) -> str:
    """A number in a CSV file, empty where undefined."""
    return "" if math.isnan(value) else f"{value:.10g}"


def write_csv(path: Path, rows: Iterable[list[Any]]) -> None:
    """Write rows under a temporary name and rename the file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
