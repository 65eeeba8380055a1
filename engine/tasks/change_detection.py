"""Job `change_detection`: where the embeddings of two dates are farther apart than chance."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window as RasterioWindow

from ..context import JobContext, Pace
from ..encoding.pipeline import window_in
from ..errors import UserError
from ..heads.inputs import Inputs
from ..rasters.areas import AreaCount, Areas
from ..rasters.distance import NODATA as UNKNOWN
from ..rasters.distance import STEPS, Background, cosine_distance
from ..rasters.embeddings import EmbeddingsFile
from ..rasters.grid import Grid, Window
from ..rasters.legend import NODATA, Legend, LegendClass
from ..rasters.overlap import common_windows, within
from ..rasters.patches import Patches, PatchFinder, write_polygons
from ..rasters.raster import RasterWriter, check_space, check_writable
from ..rasters.sampling import even_places
from ..rasters.styles import INFERNO, Ramp
from ..rasters.vector import VectorFile
from .apply_head import records

PRESETS = ("any",)
LEGEND = Legend((LegendClass(0, "unchanged", "#dddddd"), LegendClass(1, "changed", "#d55e00")))
_SAMPLE = 40_000  # pixels of which the distances make the background
_BLOCK = 256


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Cosine distance of two embeddings, a threshold from its own background, and the change.

    Args:
        params: before, after (embeddings, or rasters to encode), output (map of change); encoder,
            preset ("any"), min_area_ha (0.1), threshold (cosine distance; else from the
            background), distance, polygons (paths), extent.
        context: surroundings.

    Returns:
        output, distance, polygons (paths or None), threshold, patches (how many), areas, season
        (first day before, last day after).
    """
    start = time.monotonic()
    given = params.get("threshold")
    preset = params.get("preset") or "any"
    if preset not in PRESETS:
        raise UserError(f"There is no preset {preset}. Choose {' or '.join(PRESETS)}.")
    if given is not None and not 0 <= float(given) <= 2:
        raise UserError(f"Threshold is {given}; a cosine distance lies from 0 to 2. Choose one, or "
                        "none.")
    if params.get("polygons"):
        VectorFile(Path(params["polygons"]))  # refuses an ending that no format has
    for key in ("output", "distance", "polygons"):
        if params.get(key):
            check_writable(Path(params[key]))
    before, after = _inputs(params, context)
    with EmbeddingsFile(before.embeddings) as first, EmbeddingsFile(after.embeddings) as second:
        pair = _Pair.of(first, second, before.name, after.name, params.get("extent"))
        threshold = _threshold(pair, given, context)
        areas, patches = _write(pair, threshold, params, context.part(0.65, 0.99))
    changed = next(a for a in areas.classes if a.value == 1)
    count = len(patches.hectares)
    context.log(f"Changed: {changed.hectares:,.1f} ha of {areas.total:,.1f} ha "
                f"({100 * changed.share:.1f} %) in {count} patch{'es' * (count != 1)}; "
                f"{time.monotonic() - start:.0f} s".replace(",", " "))
    return {"output": params["output"], "distance": params.get("distance"),
            "polygons": params.get("polygons"), "threshold": threshold,
            "patches": count, "areas": records(areas),
            "season": sorted([*before.season()[:1], *after.season()[-1:]])}


def _inputs(params: dict[str, Any], context: JobContext) -> tuple[Inputs, Inputs]:
    """Both dates with embeddings. "automatic" is the encoder of the date that has them already."""
    dates = [Inputs.open(params[key], params.get("extent"), None, context)
             for key in ("before", "after")]
    encoder = params.get("encoder") or "automatic"
    if encoder.lower() == "automatic":
        for date in dates:
            if date.embeddings is not None:
                with EmbeddingsFile(date.embeddings) as file:
                    encoder = file.encoder.split("@")[0]
    first, second = (
        date.encoded(encoder, context.folder / f"{key}.tif", context.part(share, share + 0.3))
        for date, key, share in zip(dates, ("before", "after"), (0.0, 0.3), strict=True))
    return first, second


class _Pair:
    """Two embeddings files on their common area."""

    def __init__(self, first: EmbeddingsFile, second: EmbeddingsFile,
                 areas: tuple[Window, Window]) -> None:
        self.first, self.second, self.areas = first, second, areas
        self.grid: Grid = first.grid.part(areas[0])

    @classmethod
    def of(cls, first: EmbeddingsFile, second: EmbeddingsFile, before: str, after: str,
           extent: list | None) -> _Pair:
        """The common area of two files within an extent.

        Raises:
            UserError: other encoders, pixels that don't lie on each other, nothing in common.
        """
        if first.encoder != second.encoder or first.dims != second.dims:
            raise UserError(f"{before} is of the encoder {first.encoder}, {after} of "
                            f"{second.encoder}; they cannot be compared. Encode both with one "
                            "encoder.")
        part = window_in(first.grid, extent)
        try:
            common = common_windows(first.grid.part(part), second.grid)
        except ValueError as failure:
            raise UserError(
                f"The pixels of {before} and {after} don't lie on each other: {failure}. Build the "
                "stack of one with a raster of the other as Reference grid, and encode it again."
            ) from failure
        if common is None:
            raise UserError(f"{before} and {after} have no common area here. Choose others.")
        return cls(first, second, (within(common[0], part), common[1]))

    def distances(self, window: Window) -> np.ndarray:
        """(rows, cols) float32 cosine distances of a window of the common area."""
        return cosine_distance(self.first.codes(within(window, self.areas[0])),
                               self.second.codes(within(window, self.areas[1])))


def _threshold(pair: _Pair, given: float | None, context: JobContext) -> float:
    """The threshold that was given, or that of the background, said in the log."""
    parts, places = [], even_places(pair.grid.shape, _SAMPLE, 0)
    for k, (window, rows, cols) in enumerate(places):
        context.progress(0.6 + 0.05 * k / len(places), "Comparing a sample")
        found = pair.distances(window)[rows, cols]
        parts.append(found[found >= 0])
    sample = np.concatenate(parts)
    if not len(sample):
        raise UserError("No pixel has embeddings on both dates. Choose other dates or another "
                        "area.")
    background = Background.of(sample, pair.first.dims, pair.first.scale)
    threshold = background.threshold if given is None else float(given)
    source = ("as given" if given is not None else
              f"background angle {np.degrees(background.median):.1f} ± "
              f"{np.degrees(background.deviation):.1f}°, change from {STEPS:.0f} deviations above")
    context.log(f"Threshold: cosine distance {threshold:.4f} ({source}); "
                f"{100 * (sample > threshold).mean():.1f} % of {len(sample)} pixels are above")
    return threshold


def _write(pair: _Pair, threshold: float, params: dict[str, Any],
           context: JobContext) -> tuple[Areas, Patches]:
    """Distances, then patches, then the map and the polygons; all of them or none."""
    least, grid, folder = params.get("min_area_ha"), pair.grid, context.folder
    numbers, final = folder / "found.tif", folder / "kept.tif"
    check_space(numbers, 8 * grid.full.size)
    tags = {"EARTHPRINT_ENCODERS": pair.first.encoder, "EARTHPRINT_THRESHOLD": f"{threshold:.6f}"}
    with ExitStack() as stack:
        far = stack.enter_context(RasterWriter(
            Path(params["distance"]), grid, "float32", UNKNOWN, tags=tags,
            overview="average", descriptions=("Cosine distance",),
            ramp=Ramp(INFERNO, 0.0, 2 * threshold, "{:.3f}"),
        )) if params.get("distance") else None
        out = stack.enter_context(RasterWriter(
            Path(params["output"]), grid, "uint8", NODATA, legend=LEGEND, tags=tags,
            descriptions=("Change",)))
        polygons = (stack.enter_context(VectorFile(Path(params["polygons"])))
                    if params.get("polygons") else None)
        finder = PatchFinder(grid)
        _compare(pair, threshold, finder, far, numbers, context.part(0, 0.7))
        patches = finder.patches(0.1 if least is None else float(least))
        areas = _map(grid, numbers, patches, out, final, context.part(0.7, 0.9))
        if polygons is not None:
            context.progress(0.9, "Drawing patches")
            write_polygons(polygons, final, patches, "distance")
        context.progress(0.95, "Saving")
    return areas, patches


def _compare(pair: _Pair, threshold: float, finder: PatchFinder, far: RasterWriter | None,
             numbers: Path, context: JobContext) -> None:
    """Distances by blocks, patches by strips; provisional numbers, -1 where unknown, to a file."""
    grid = pair.grid
    rows, cols = grid.shape
    pace = Pace(context, grid.full.size, "pixels", "Comparing")
    with _numbers(numbers, grid) as work:
        for row in range(0, rows, _BLOCK):
            strip = Window(row, 0, min(_BLOCK, rows - row), cols)
            found = np.empty((strip.rows, cols), np.float32)
            for col in range(0, cols, _BLOCK):
                window = Window(row, col, strip.rows, min(_BLOCK, cols - col))
                found[:, col:col + window.cols] = pair.distances(window)
                pace.add(window.size)
            if far is not None:
                far.write(strip, found)
            marked = finder.add(row, found > threshold, found)
            marked[found < 0] = -1
            work.write(marked, 1, window=_place(strip))


def _map(grid: Grid, numbers: Path, patches: Patches, out: RasterWriter, final: Path,
         context: JobContext) -> Areas:
    """The map of change, and the patches' final numbers to a file."""
    rows, cols = grid.shape
    count = AreaCount(grid)
    with rasterio.open(numbers) as found, _numbers(final, grid) as kept:
        for row in range(0, rows, _BLOCK):
            context.progress(row / rows, "Mapping change")
            strip = Window(row, 0, min(_BLOCK, rows - row), cols)
            values = found.read(1, window=_place(strip))
            number = np.where(values > 0, patches.number[np.maximum(values, 0)], 0)
            change = np.where(values < 0, NODATA, number > 0).astype(np.uint8)
            out.write(strip, change)
            count.add(row, change)
            kept.write(number.astype(np.int32), 1, window=_place(strip))
    return count.areas(LEGEND)


def _numbers(path: Path, grid: Grid) -> rasterio.io.DatasetWriter:
    """A file for the numbers of patches while they are sorted out."""
    return rasterio.open(
        path, "w", driver="GTiff", width=grid.shape[1], height=grid.shape[0], count=1,
        dtype="int32", crs=grid.crs, transform=grid.affine, compress="deflate", zlevel=1,
        BIGTIFF="IF_SAFER")


def _place(window: Window) -> RasterioWindow:
    return RasterioWindow(window.col, window.row, window.cols, window.rows)
