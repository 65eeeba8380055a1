"""A detector over a whole raster: the map of change, its layers, its areas; all of them or none.

Strips are read window by window; a strip and the table of patches are all that is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..context import JobContext, Pace
from ..rasters.areas import AreaCount, Areas
from ..rasters.grid import Grid, Window
from ..rasters.legend import NODATA, Legend
from ..rasters.patches import Patches, PatchFinder
from ..rasters.raster import RasterWriter, check_space
from ..rasters.scratch import Scratch
from ..rasters.see_through import see_through
from ..rasters.styles import PERCENT, Ramp
from ..rasters.vector import VectorFile
from .areas import PatchFacts, write_patches
from .decision import NOTHING, UNKNOWN, Detector
from .series import Dater, Dates
from .vectors import UNCHANGED

#: Viridis at 0, 25, 50, 75 and 100 % (Smith, van der Walt).
VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
NO_DATE = -9999.0
DATE_BANDS = ("Date of change (decimal year)", "Last clear before (days since 1970-01-01)",
              "First clear after (days since 1970-01-01)", "Confidence (%)")
"""Bands of the raster of dates."""

_ROWS, _COLS = 256, 512  # of a strip and of a block of it, at most


@dataclass(frozen=True)
class Outputs:
    """Files to write; None where not wanted."""

    change: Path
    strength: Path | None = None
    confidence: Path | None = None
    date: Path | None = None
    polygons: Path | None = None


@dataclass(frozen=True)
class Mapped:
    """What came out.

    Attributes:
        legend: of the map.
        areas: of the answers.
        patches: of change, the largest first.
        facts: of each patch.
        years: (n,) int64 and (n,) hectares changed in each year; empty without dates.
        undated: hectares of change without a date.
    """

    legend: Legend
    areas: Areas
    patches: Patches
    facts: PatchFacts
    years: tuple[np.ndarray, np.ndarray] = field(
        default_factory=lambda: (np.zeros(0, np.int64), np.zeros(0)))
    undated: float = 0.0


def map_change(detector: Detector, dater: Dater | None, outputs: Outputs, least_ha: float,
               memory_mb: float, context: JobContext) -> Mapped:
    """Write all outputs.

    Args:
        detector: what decides.
        dater: dates changes, on the detector's grid; None for no dates.
        outputs: files.
        least_ha: smaller patches of change are left out.
        memory_mb: for one window.
        context: progress, cancellation and a folder.
    """
    grid, folder = detector.grid, context.folder
    check_space(folder / "codes.tif", 12 * grid.full.size)
    with ExitStack() as files:
        def number(path: Path | None, nodata: float, ramp: Ramp, *names: str
                   ) -> RasterWriter | None:
            return files.enter_context(RasterWriter(
                path, grid, "float32", nodata, bands=len(names), tags=detector.tags,
                overview="average" if len(names) == 1 else "nearest", descriptions=names,
                ramp=ramp)) if path else None

        strength = number(outputs.strength, UNKNOWN, detector.ramp, detector.strength)
        # opened now, so that what cannot be written is refused before the work
        date = number(outputs.date, NO_DATE, date_ramp(dater), *DATE_BANDS)
        confidence = files.enter_context(RasterWriter(
            outputs.confidence, grid, "uint8", NODATA, tags=detector.tags, overview="average",
            descriptions=("Confidence (%)",), ramp=PERCENT)) if outputs.confidence else None
        polygons = files.enter_context(VectorFile(outputs.polygons)) if outputs.polygons else None
        finder = PatchFinder(grid)
        _detect(detector, finder, strength, folder, memory_mb, context.part(0, 0.6))
        patches = finder.patches(least_ha)
        mass = _code_areas(detector, patches, folder, context.part(0.6, 0.68))
        lookup, legend = detector.values(mass)
        out = files.enter_context(RasterWriter(
            outputs.change, grid, "uint8", NODATA, legend=legend, tags=detector.tags,
            descriptions=("Change",)))
        facts = PatchFacts.empty(len(patches.hectares))
        count = _finish(detector, patches, facts, lookup, out, confidence, folder,
                        context.part(0.68, 0.78))
        years, undated = _date(dater, facts, date, grid, folder, memory_mb,
                               context.part(0.78, 0.94))
        if polygons is not None:
            context.progress(0.94, "Drawing patches")
            write_patches(polygons, folder / "kept.tif", patches, facts, legend,
                          "distance" if detector.tags["EARTHPRINT_METHOD"] == "embeddings"
                          else "strength", dater is not None)
        context.progress(0.97, "Saving")
    see_through(outputs.change, UNCHANGED)
    return Mapped(legend, count.areas(legend), patches, facts, years, undated)


def date_ramp(dater: Dater | None) -> Ramp:
    """Viridis over the years of a series."""
    first, last = (int(day[:4]) for day in dater.days) if dater else (1970, 2030)
    return Ramp(VIRIDIS, float(first), float(last + 1), "{:.1f}")


def _detect(detector: Detector, finder: PatchFinder, strength: RasterWriter | None,
            folder: Path, memory_mb: float, context: JobContext) -> None:
    """Codes, certainties and provisional numbers of patches to files; strengths."""
    grid = detector.grid
    side = detector.side(memory_mb)
    rows, cols = min(side, _ROWS), min(side, _COLS)
    pace = Pace(context, grid.full.size, "pixels", "Comparing")
    with Scratch.create(folder / "codes.tif", grid, "uint16") as codes, \
            Scratch.create(folder / "certain.tif", grid, "uint8") as certain, \
            Scratch.create(folder / "numbers.tif", grid, "int32") as numbers:
        for strip in grid.blocks(rows, grid.shape[1]):
            shape = strip.rows, strip.cols
            found, code = np.empty(shape, np.float32), np.empty(shape, np.uint16)
            percent = np.empty(shape, np.uint8)
            for col in range(0, strip.cols, cols):
                window = Window(strip.row, col, strip.rows, min(cols, strip.cols - col))
                block = detector.block(window)
                part = slice(None), slice(col, col + window.cols)
                found[part], code[part] = block.strength, block.codes
                percent[part] = np.rint(100 * np.clip(block.certainty, 0, 1))
                pace.add(window.size)
            moved = (code != NOTHING) & ~np.isin(code, detector.unmoved)
            codes.write(strip, code)
            certain.write(strip, percent)
            numbers.write(strip, finder.add(strip.row, moved, found))
            if strength is not None:
                strength.write(strip, found)


def _code_areas(detector: Detector, patches: Patches, folder: Path, context: JobContext
                ) -> np.ndarray:
    """(codes,) square metres of each code, small patches left out; final numbers to a file."""
    grid = detector.grid
    metres, mass = grid.row_areas_m2(), np.zeros(detector.codes)
    with Scratch.open(folder / "codes.tif") as codes, \
            Scratch.open(folder / "numbers.tif") as numbers, \
            Scratch.create(folder / "kept.tif", grid, "int32") as kept:
        for strip in _strips(grid, context, "Leaving out small patches"):
            code = codes.read(strip)
            number = patches.number[numbers.read(strip)]
            kept.write(strip, number)
            good = (code != NOTHING) & (np.isin(code, detector.unmoved) | (number > 0))
            areas = np.broadcast_to(metres[strip.row:strip.row + strip.rows, None], code.shape)
            mass += np.bincount(code[good], areas[good], detector.codes)
    return mass


def _finish(detector: Detector, patches: Patches, facts: PatchFacts, lookup: np.ndarray,
            out: RasterWriter, confidence: RasterWriter | None, folder: Path,
            context: JobContext) -> AreaCount:
    """The map without its small patches, confidence, and what is to be known of each patch."""
    grid = detector.grid
    metres, count = grid.row_areas_m2(), AreaCount(grid)
    with Scratch.open(folder / "codes.tif") as codes, \
            Scratch.open(folder / "certain.tif") as certain, \
            Scratch.open(folder / "kept.tif") as kept:
        for strip in _strips(grid, context, "Mapping change"):
            code = codes.read(strip)
            number = kept.read(strip)
            percent = certain.read(strip)
            known = code != NOTHING
            small = known & ~np.isin(code, detector.unmoved) & (number == 0)
            code[small] = detector.small
            values = np.where(known, lookup[np.where(known, code, 0)], NODATA).astype(np.uint8)
            out.write(strip, values)
            count.add(strip.row, values)
            if confidence is not None:
                sure = np.where(number > 0, percent, 100 - np.minimum(percent, 100))
                confidence.write(strip, np.where(known, sure, NODATA).astype(np.uint8))
            areas = np.broadcast_to(metres[strip.row:strip.row + strip.rows, None], code.shape)
            facts.add(number, values, percent, areas)
    return count


def _date(dater: Dater | None, facts: PatchFacts, out: RasterWriter | None, grid: Grid,
          folder: Path, memory_mb: float, context: JobContext
          ) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Dates of what changed; hectares by year, and without a date."""
    years: dict[int, float] = {}
    undated = 0.0
    if dater is None:
        return (np.zeros(0, np.int64), np.zeros(0)), undated
    metres = grid.row_areas_m2()
    side = min(dater.side(memory_mb), _COLS)
    pace = Pace(context, grid.full.size, "pixels", "Dating")
    with Scratch.open(folder / "kept.tif") as kept:
        for window in grid.blocks(side, side):
            number = kept.read(window)
            if not number.any():
                pace.add(window.size)
                continue
            when = dater.date(window)
            changed = number > 0
            dated = changed & np.isfinite(when.year)
            areas = np.broadcast_to(metres[window.row:window.row + window.rows, None],
                                    number.shape)
            facts.add_dates(number, when, dated, areas)
            undated += float(areas[changed & ~dated].sum()) / 1e4
            for year, share in zip(np.floor(when.year[dated]).astype(int), areas[dated],
                                   strict=True):
                years[int(year)] = years.get(int(year), 0.0) + share / 1e4
            if out is not None:
                out.write(window, _layers(when, dated))
            pace.add(window.size)
    keys = sorted(years)
    return (np.array(keys, np.int64), np.array([years[k] for k in keys])), undated


def _layers(when: Dates, dated: np.ndarray) -> np.ndarray:
    """(4, rows, cols) float32 of the raster of dates."""
    return np.stack([np.where(dated, layer, NO_DATE) for layer in (
        when.year, when.last, when.first, when.confidence)]).astype(np.float32)


def _strips(grid: Grid, context: JobContext, verb: str) -> Iterator[Window]:
    """Strips from the top, with progress."""
    for strip in grid.blocks(_ROWS, grid.shape[1]):
        context.progress(strip.row / grid.shape[0], verb)
        yield strip
