"""Job `sampling_design`: the points to visit for a test of a map."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..accuracy import design
from ..accuracy.classmap import Census, ClassMap
from ..accuracy.estimators import Z95
from ..accuracy.visits import write_style, write_visits
from ..context import JobContext
from ..errors import UserError
from ..rasters.vector import VectorFile
from ..reports.report import hectares

TARGET = 1.0
"""Standard error of overall accuracy (%) that is aimed at."""

LEAST = 50
"""Points a class, at least (Olofsson et al. 2014, section 5.1.2: 50 to 100)."""

_USUAL, _RARE = 0.9, 0.7  # expected user's accuracy of large and of rare classes
_MOST = 200_000  # points that anyone could want
_UNEVEN = 0.1  # pixels that differ more in size are not alike


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Draw a stratified random sample of a map's pixels.

    Args:
        params: map, output (points); target_error (standard error of overall accuracy, %),
            min_per_class, expected (user's accuracies in %: "85" or "forest=95, change=60, 80"),
            seed, show_class (do not hide the mapped class from the interpreter).
        context: surroundings.

    Returns:
        output, points (how many), expected_error (%), classes (a record each).
    """
    start = time.monotonic()
    target = _number(params, "target_error", TARGET, "Standard error")
    least = int(_number(params, "min_per_class", LEAST, "Least per class"))
    seed = int(params.get("seed") or 0)
    path = Path(params["output"])
    file = VectorFile(path)
    with ClassMap(Path(params["map"])) as source:
        census = source.census(context.part(0, 0.45))
        describe(source, census, context)
        accuracies = expected_accuracies(str(params.get("expected") or ""), census)
        shares = census.shares
        wanted = design.sample_size(shares, accuracies, target / 100)
        counts = design.allocate(census.pixels, shares, wanted, least)
        if counts.sum() > _MOST:
            raise UserError(f"{counts.sum()} points would be needed. Choose a larger standard "
                            "error or a smaller least number.")
        chosen = design.ranks(census.pixels, counts, seed)
        strata, rows, cols = design.places(
            source.indices(census, context.part(0.45, 0.95)), chosen)
        with file:
            write_visits(file, source.grid, rows, cols, strata, census.classes, seed)
    write_style(path, census.classes, blind=not params.get("show_class"))
    error = design.expected_error(shares, accuracies, counts)
    _log(census, accuracies, counts, wanted, error, context)
    context.log(f"Points to visit: {len(rows)}; {time.monotonic() - start:.0f} s")
    return {"output": str(path), "points": len(rows), "expected_error": round(100 * error, 4),
            "classes": [{"value": c.value, "name": c.name, "hectares": round(c.hectares, 4),
                         "points": int(n)}
                        for c, n in zip(census.classes, counts, strict=True)]}


def expected_accuracies(text: str, census: Census) -> np.ndarray:
    """(c,) expected user's accuracies, 0..1.

    Args:
        text: numbers in percent, apart by commas: "class=85" for one class by name or value, a
            number alone for all others. Where neither says anything, 90 % for classes of at least
            a tenth of the area and 70 % for rarer ones.
        census: the map's classes.

    Raises:
        UserError: no number from 0 to 100, or no such class.
    """
    given = np.where(census.shares < design.RARE, _RARE, _USUAL)
    keys = {key: i for i, c in enumerate(census.classes) for key in (c.name.casefold(),
                                                                     str(c.value))}
    single: dict[int, float] = {}
    for part in filter(None, (p.strip() for p in re.split(r"[,;\n]", text))):
        name, _, figure = part.rpartition("=")
        try:
            share = float(figure.strip().rstrip("%")) / 100
        except ValueError:
            share = float("nan")
        if not 0 <= share <= 1:
            raise UserError(f"Expected accuracy {part} has no number from 0 to 100. Write 85 or "
                            "forest=95, 80.")
        if not name:
            given[:] = share
        elif name.strip().casefold() in keys:
            single[keys[name.strip().casefold()]] = share
        else:
            raise UserError(f"The map has no class {name.strip()}. Choose one of "
                            f"{', '.join(c.name for c in census.classes)}.")
    for i, share in single.items():
        given[i] = share
    return given


def _number(params: dict[str, Any], key: str, default: float, label: str) -> float:
    value = params.get(key)
    value = default if value is None else float(value)
    if not value > 0:
        raise UserError(f"{label} is {value:g}; it must be above 0. Choose another.")
    return value


def describe(source: ClassMap, census: Census, context: JobContext) -> None:
    """What the reader should know of the map."""
    context.log(f"Map: {len(census.classes)} classes, {hectares(census.hectares)} ha, "
                f"{source.grid.shape[1]} x {source.grid.shape[0]} pixels")
    if census.nameless:
        values = ", ".join(map(str, census.nameless))
        context.warn(f"{hectares(census.hectares_nameless)} ha of value {values} have no class in "
                     f"the legend of {source.path.name} and were left out.")
    if source.uneven() > _UNEVEN:
        context.warn(f"The largest pixels of {source.path.name} are {100 * source.uneven():.0f} % "
                     "larger than the smallest, but all count alike within a class. Use an "
                     "equal-area grid.")


def _log(census: Census, accuracies: np.ndarray, counts: np.ndarray, wanted: int, error: float,
         context: JobContext) -> None:
    """How many points each class has and what they will tell."""
    total = int(counts.sum())
    context.log(f"Sample size: {wanted} by Olofsson et al. 2014, eq. 13"
                + ("" if total == wanted else f"; {total} with the least number of each class, "
                                              "or as many as there are pixels"))
    for c, u, n in zip(census.classes, accuracies, counts, strict=True):
        half = 100 * Z95 * np.sqrt(u * (1 - u) / max(n - 1, 1))
        context.log(f"  {c.name}: {n} points, {hectares(c.hectares)} ha; if {100 * u:.0f} % of it "
                    f"is right, the 95 % interval will be ± {half:.1f}")
    context.log(f"Standard error of overall accuracy, if so: {100 * error:.2f} %")
