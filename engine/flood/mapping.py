"""Both detectors over a whole scene: the map, its confidence, where they disagree, the patches.

The scene is read strip by strip; only a strip and the table of patches are held at a time.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..context import JobContext, Pace
from ..errors import UserError
from ..rasters.areas import AreaCount, Areas
from ..rasters.grid import Grid, Window
from ..rasters.legend import NODATA, Legend, LegendClass
from ..rasters.margins import grown
from ..rasters.outlines import write_polygons
from ..rasters.patches import Patches, PatchFinder
from ..rasters.raster import RasterWriter, check_space
from ..rasters.scratch import Scratch
from ..rasters.see_through import see_through
from ..rasters.styles import PERCENT
from ..rasters.vector import VectorFile
from .classical import clearest, trust, waters
from .ground import KnownWater, Terrain, Zones
from .learned import MARGIN, FloodHead, radar_set
from .scene import OPTICAL, RADAR, Scene, around
from .survey import Survey

DRY, PERMANENT, FLOOD, UNFIT, UNSEEN_BEFORE, UNSEEN = range(6)
LEGEND = Legend((
    LegendClass(DRY, "dry", "#ece7dc"),
    LegendClass(PERMANENT, "permanent water", "#1f4e79"),
    LegendClass(FLOOD, "flood", "#00b7eb"),
    LegendClass(UNFIT, "left out: steep or high ground", "#bdbdbd"),
    LegendClass(UNSEEN_BEFORE, "no answer: not seen before", "#d9c2e0"),
    LegendClass(UNSEEN, "no answer: not seen during", "#c9a3ae"),
))
ANSWERS = Legend(LEGEND.classes[:3])
"""The classes that are answers."""

COMPARED = Legend((
    LegendClass(0, "neither", "#ece7dc"),
    LegendClass(1, "both detectors", "#00b7eb"),
    LegendClass(2, "thresholds only", "#e69f00"),
    LegendClass(3, "embeddings only", "#cc79a7"),
))
"""Legend of the layer that says where the detectors differ."""

SHARE_WITHOUT_CLASSES = 0.3
"""Weight of the learned detector where no image during the flood shows two classes: what it sees
is told in terms of the scene, and a scene that is all flood looks to it like one that is all
dry."""

NOTHING_SEEN = ("No pixel was seen both before and during the flood. Choose images of one place, "
                "and check their cloud masks.")
_ALL_UNFIT = ("All ground that was seen is left out as steep or high. Raise Steepest ground or "
              "Highest ground, or leave Elevation empty.")

_ROWS, _COLS = 256, 512  # pixels of a strip and of a block of it
_LEAST = 0.01  # thresholds are never surer than this, so that the learned one can be heard


@dataclass(frozen=True)
class Detectors:
    """What decides: thresholds, a head, or both by a weighted sum of their log odds.

    Attributes:
        survey: of the whole scene.
        thresholds: whether the classical detector takes part.
        head: the learned detector, None without it.
    """

    survey: Survey
    thresholds: bool
    head: FloodHead | None

    def __post_init__(self) -> None:
        if not self.thresholds and self.head is None:
            raise ValueError("no detector was chosen; take thresholds, embeddings or both")

    def block(self, scene: Scene, window: Window) -> Block:
        """What they say about a window."""
        wide, inner = grown(window, MARGIN if self.head else 1, scene.grid.full)
        values = scene.read(wide)
        close, within = around(inner, 1, (wide.rows, wide.cols))
        water = waters(self.survey, {c: v[(slice(None), *close)] for c, v in values.items()},
                       within)
        seen = [np.any([np.isfinite(v[date][inner]) for v in values.values()], axis=0)
                for date in (0, 1)]
        sets = _seen_by({c: v[(slice(None), *inner)] for c, v in values.items()})
        parts, cuts = [], []
        if self.thresholds:
            parts.append(water.flood)
            cuts.append(np.float32(0.5))
        if self.head is not None:
            parts.append(self.head.flood(self.survey, values, inner))
            cuts.append(np.select(list(sets.values()), [self.head.cuts[name] for name in sets]))
        flood, cut = self._joined(parts, cuts, sets, radar_set(values))
        return Block(parts, cuts, flood, cut, water.lasting, seen[0], seen[1])

    def _joined(self, parts: list[np.ndarray], cuts: list[np.ndarray], sets: dict[str, np.ndarray],
                channels: str) -> tuple[np.ndarray, np.ndarray]:
        """Probability of flood and the cut from which it counts; where one detector has no
        answer, the other's."""
        if len(parts) == 1:
            return parts[0], cuts[0]
        classical, learned = parts
        blind = np.isnan(learned)
        joined, cut = np.where(blind, classical, learned), np.where(blind, *cuts)
        for name, part in sets.items():
            two = part & np.isfinite(classical) & ~blind
            if not two.any():
                continue
            if clearest(self.survey)[1].source == "cap":
                share = SHARE_WITHOUT_CLASSES
                both, own = share * learned + (1 - share) * classical, 0.5
            else:
                both, own = self.head.with_thresholds(
                    learned, np.clip(classical, _LEAST, 1 - _LEAST), trust(self.survey),
                    channels if name == "radar" else name)
            joined, cut = np.where(two, both, joined), np.where(two, own, cut)
        return joined, cut


def _seen_by(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(rows, cols) bool: where radar alone, optical images alone or both saw both dates."""
    nothing = np.zeros(next(iter(values.values())).shape[1:], bool)
    radar, optical = (np.any([np.isfinite(values[c]).all(0) for c in kind if c in values]
                             or [nothing], axis=0) for kind in (RADAR, OPTICAL))
    return {"radar": radar & ~optical, "optical": optical & ~radar, "both": radar & optical}


@dataclass(frozen=True)
class Block:
    """Answers for a window, (rows, cols) each.

    Attributes:
        parts: probability of flood by thresholds, by the head, or by one of them; NaN where it
            has no answer.
        cuts: from which of them each calls a pixel flood, a number or one a pixel.
        flood: probability of flood by all detectors.
        cut: from which it counts, likewise.
        lasting: probability of permanent water, by thresholds.
        seen_before, seen_during: whether any sensor saw the pixel.
    """

    parts: list[np.ndarray]
    cuts: list[np.ndarray]
    flood: np.ndarray
    cut: np.ndarray
    lasting: np.ndarray
    seen_before: np.ndarray
    seen_during: np.ndarray

    def classes(self, permanent: np.ndarray | None, unfit: np.ndarray | None
                ) -> tuple[np.ndarray, np.ndarray]:
        """(rows, cols) uint8 classes, and confidence in percent, NODATA without an answer.

        Lasting water that is no flood is permanent, where no layer tells it.
        """
        flood = self.flood
        wet = np.nan_to_num(self.lasting)
        known = np.isfinite(flood)
        lasting = permanent if permanent is not None else wet > 0.5
        classes = np.where(flood > self.cut, FLOOD, np.where(lasting, PERMANENT, DRY))
        if permanent is not None:
            classes = np.where(permanent, PERMANENT, classes)
        sure = np.select([classes == FLOOD, (classes == PERMANENT) & (permanent is None)],
                         [flood, np.maximum(wet, 0.5)], 1 - flood)
        if permanent is not None:
            sure = np.where(permanent, 1.0, sure)
        classes = np.where(known, classes, np.where(self.seen_during, UNSEEN_BEFORE, UNSEEN))
        if unfit is not None:
            classes = np.where(unfit, UNFIT, classes)
        answered = classes <= FLOOD
        percent = np.where(answered, np.rint(100 * np.nan_to_num(sure)), NODATA)
        return classes.astype(np.uint8), percent.astype(np.uint8)

    def compared(self) -> np.ndarray:
        """(rows, cols) uint8 of the legend COMPARED; NODATA where one detector has no answer."""
        first, second = self.parts
        said = (first > self.cuts[0]) * 2 + (second > self.cuts[1]) * 3
        both = np.isfinite(first) & np.isfinite(second)
        return np.where(both, np.choose(said, (0, 0, 2, 3, 0, 1)), NODATA).astype(np.uint8)


@dataclass(frozen=True)
class Outputs:
    """Files to write; None where not wanted."""

    flood: Path
    confidence: Path | None = None
    disagreement: Path | None = None
    polygons: Path | None = None
    zones: Path | None = None


@dataclass(frozen=True)
class Ground:
    """Layers beside the images; None where not given."""

    permanent: KnownWater | None = None
    terrain: Terrain | None = None
    zones: Zones | None = None


@dataclass(frozen=True)
class Mapped:
    """What came out.

    Attributes:
        areas: of the answers.
        all_areas: of all classes of the map.
        patches: of flood.
        agreement: share of the pixels called flood by either detector that both call so; NaN with
            one detector, or without flood.
    """

    areas: Areas
    all_areas: Areas
    patches: Patches
    agreement: float


def map_flood(scene: Scene, detectors: Detectors, ground: Ground, outputs: Outputs,
              least_ha: float, tags: dict[str, str], context: JobContext) -> Mapped:
    """Write all outputs; all of them or none.

    Args:
        scene: before and during.
        detectors: what decides.
        ground: other layers.
        outputs: files.
        least_ha: smaller patches of flood become dry.
        tags: metadata of the files.
        context: progress, cancellation and a folder.

    Raises:
        UserError: no pixel has an answer.
    """
    grid, folder = scene.grid, context.folder
    check_space(folder / "numbers.tif", 10 * grid.full.size)
    with ExitStack() as files:
        def writer(path: Path | None, legend: Legend | None, name: str) -> RasterWriter | None:
            return files.enter_context(RasterWriter(
                path, grid, "uint8", NODATA, legend=legend, tags=tags, descriptions=(name,),
                overview="nearest" if legend else "average",
                ramp=None if legend else PERCENT)) if path else None

        out = writer(outputs.flood, LEGEND, "Flood")
        confidence = writer(outputs.confidence, None, "Confidence (%)")
        compared = writer(outputs.disagreement, COMPARED, "Disagreement")
        polygons = files.enter_context(VectorFile(outputs.polygons)) if outputs.polygons else None
        zones = files.enter_context(VectorFile(outputs.zones)) if outputs.zones else None
        finder, votes = PatchFinder(grid), np.zeros(2)
        _detect(scene, detectors, ground, finder, votes, (confidence, compared), folder,
                context.part(0, 0.8))
        patches = finder.patches(least_ha)
        count = _finish(grid, patches, out, ground.zones, folder, context.part(0.8, 0.92))
        areas = count.areas(ANSWERS)
        if not areas.total:
            raise UserError(_ALL_UNFIT if count.pixels[UNFIT] else NOTHING_SEEN)
        if polygons is not None:
            context.progress(0.92, "Drawing patches")
            write_polygons(polygons, folder / "kept.tif", patches, "confidence")
        if zones is not None:
            _write_zones(zones, ground.zones)
        context.progress(0.96, "Saving")
    see_through(outputs.flood, LEGEND.classes[DRY])
    agreement = float(votes[0] / votes[1]) if votes[1] else float("nan")
    return Mapped(areas, count.areas(LEGEND), patches, agreement)


def _detect(scene: Scene, detectors: Detectors, ground: Ground, finder: PatchFinder,
            votes: np.ndarray, layers: tuple[RasterWriter | None, RasterWriter | None],
            folder: Path, context: JobContext) -> None:
    """Draft classes and provisional numbers of patches to files; confidence, disagreement."""
    grid = scene.grid
    confidence, compared = layers
    two = detectors.thresholds and detectors.head is not None
    pace = Pace(context, grid.full.size, "pixels", "Mapping")
    with Scratch.create(folder / "draft.tif", grid, "uint8") as draft, \
            Scratch.create(folder / "numbers.tif", grid, "int32") as numbers:
        for strip in grid.blocks(_ROWS, grid.shape[1]):
            classes = np.empty((strip.rows, strip.cols), np.uint8)
            percent, odd = np.empty_like(classes), np.empty_like(classes)
            for col in range(0, strip.cols, _COLS):
                window = Window(strip.row, col, strip.rows, min(_COLS, strip.cols - col))
                part = slice(None), slice(col, col + window.cols)
                block = detectors.block(scene, window)
                classes[part], percent[part] = block.classes(
                    ground.permanent.read(window) if ground.permanent else None,
                    ground.terrain.unfit(window) if ground.terrain else None)
                if two:
                    odd[part] = np.where(classes[part] <= FLOOD, block.compared(), NODATA)
                pace.add(window.size)
            draft.write(strip, classes)
            numbers.write(strip, finder.add(strip.row, classes == FLOOD, percent))
            if confidence is not None:
                confidence.write(strip, percent)
            if two:
                votes += [(odd == 1).sum(), np.isin(odd, (1, 2, 3)).sum()]
            if compared is not None:
                compared.write(strip, odd)


def _finish(grid: Grid, patches: Patches, out: RasterWriter, zones: Zones | None, folder: Path,
            context: JobContext) -> AreaCount:
    """The map without its small patches, and the final numbers of the others to a file."""
    count = AreaCount(grid)
    with Scratch.open(folder / "draft.tif") as draft, \
            Scratch.open(folder / "numbers.tif") as numbers, \
            Scratch.create(folder / "kept.tif", grid, "int32") as kept:
        for strip in grid.blocks(_ROWS, grid.shape[1]):
            context.progress(strip.row / grid.shape[0], "Leaving out small patches")
            classes = draft.read(strip)
            number = patches.number[numbers.read(strip)]
            classes[(classes == FLOOD) & (number == 0)] = DRY
            out.write(strip, classes)
            count.add(strip.row, classes)
            if zones is not None:
                zones.add(strip.row, classes)
            kept.write(strip, number)
    return count


def _write_zones(file: VectorFile, zones: Zones) -> None:
    """The zones with their hectares."""
    columns: dict[str, np.ndarray] = {"name": np.array(zones.names, object)}
    for name, values in (("flood_ha", (FLOOD,)), ("permanent_ha", (PERMANENT,)),
                         ("dry_ha", (DRY,)), ("no_answer_ha", (UNFIT, UNSEEN_BEFORE, UNSEEN))):
        columns[name] = zones.hectares(values)
    file.write(zones.geometry, "Unknown", columns, zones.crs)
