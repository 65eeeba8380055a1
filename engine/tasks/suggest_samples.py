"""Job `suggest_samples`: the places whose label would teach a head most."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ..context import JobContext
from ..errors import UserError
from ..heads.accuracy import tempered
from ..heads.crossval import metres_of
from ..heads.features import FeatureSource
from ..heads.head import Head
from ..heads.inputs import Inputs
from ..heads.label_raster import is_raster
from ..heads.labels import FIELD
from ..heads.samples import pick, read_field
from ..heads.suggestion_file import check_field, write_form, write_suggestions
from ..heads.suggestions import choose, uncertainty, usual_distance
from ..rasters.grid import Grid
from ..rasters.vector import VectorFile
from .apply_head import for_head

COUNT = 30
"""Places that are suggested by default."""

_MOST = 10_000  # places that anyone could want
_POOL = 20_000  # pixels, drawn evenly over the raster, of which places are chosen


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Choose places that a head is unsure of, unlike each other and apart on the ground.

    Args:
        params: input (paths), head, output (points); labels, layer, field (places that have a
            label, to stay away from them and to name the class field alike; a raster of labels
            covers all its ground and keeps no place away), more_labels and
            more_labels_layer (further ones), count (30), min_distance_m (default: a fifth of the
            distance of evenly spread places), extent, seed.
        context: surroundings.

    Returns:
        output, points (how many), min_distance_m, uncertainty (median of the suggested places
        and of the raster), season.
    """
    start = time.monotonic()
    count, metres = int(_number(params, "count", COUNT, 1)), params.get("min_distance_m")
    field, path = check_field(str(params.get("field") or FIELD)), Path(params["output"])
    file = VectorFile(path)
    head = Head.open(Path(params["head"]))
    if head.card.margin:
        raise UserError(f"{head.path.name} looks at the ground around a pixel, so it cannot say "
                        "which single pixels to label. Train a head of another kind on the same "
                        "labels and give that one.")
    inputs = Inputs.open(params["input"], params.get("extent"), head.card.cutoff or None, context)
    inputs = for_head(head, inputs, params, context.folder / "embeddings.tif",
                      context.part(0, 0.6))
    with inputs.source() as source:
        head.require(source)
        grid = source.grid
        taken, numeric = _taken(params, "labels", "layer", field, grid, context.part(0.6, 0.63))
        more, _ = _taken(params, "more_labels", "more_labels_layer", field, grid,
                         context.part(0.63, 0.65))
        taken = np.concatenate([taken, more])
        rows, cols, table = _pool(source, head, int(params.get("seed") or 0),
                                  context.part(0.65, 0.95))
    places = metres_of(grid, rows, cols)
    if metres is None:
        metres = usual_distance(float(np.prod(np.ptp(places, axis=0))), count)
    metres = _number({"min_distance_m": metres}, "min_distance_m", 0, 0)
    context.progress(0.95, "Choosing places")
    probabilities = head.probabilities(table)
    # as fitted: a temperature fit for stating confidence may leave no differences to choose by
    fitted = tempered(probabilities, 1 / head.card.temperature)
    chosen = choose(_prepared(table, head), fitted, places, count, metres, taken)
    if not len(chosen):
        raise UserError(f"No pixel lies {metres:g} m from all labels. Lower the minimum distance.")
    numeric = numeric and all(c.name == str(c.value) for c in head.card.legend.classes)
    with file:
        write_suggestions(file, grid, rows[chosen], cols[chosen], probabilities[chosen],
                          head.card.legend, field, numeric)
    write_form(path, head.card.legend, field, numeric)
    unsure = uncertainty(probabilities)
    middle = [float(np.median(unsure[chosen])), float(np.median(unsure))]
    context.log(f"Suggested {len(chosen)} places at least {metres:.0f} m apart; median "
                f"uncertainty {middle[0]:.2f}, of the raster {middle[1]:.2f}; "
                f"{time.monotonic() - start:.0f} s")
    if len(chosen) < count:
        context.warn(f"Only {len(chosen)} places lie {metres:.0f} m apart, fewer than the "
                     f"{count} asked for. Lower the minimum distance for more.")
    return {"output": str(path), "points": len(chosen), "min_distance_m": metres,
            "uncertainty": middle, "season": inputs.season()}


def _number(params: dict[str, Any], name: str, default: float, least: float) -> float:
    value = params.get(name)
    value = default if value is None else float(value)
    if not least <= value < float("inf") or (name == "count" and value > _MOST):
        words = {"count": "Number of places", "min_distance_m": "Minimum distance"}
        most = f"{least:g} to {_MOST}" if name == "count" else f"{least:g} or more"
        raise UserError(f"{words[name]} is {value:g}; choose {most}.")
    return value


def _taken(params: dict[str, Any], labels: str, layer: str, field: str, grid: Grid,
           context: JobContext) -> tuple[np.ndarray, bool]:
    """(m, 2) metres of the labelled pixels, and whether the class field holds numbers.

    `labels` and `layer` are the parameters that name them.
    """
    if not params.get(labels) or is_raster(Path(params[labels])):
        return np.zeros((0, 2)), False
    found = read_field(Path(params[labels]), field, grid, context, params.get(layer))
    known = [i for i, wkb in enumerate(found.geometry) if wkb is not None]
    numeric = found.values.dtype.kind in "iuf"
    if not known:
        return np.zeros((0, 2)), numeric
    picked = pick(found, known, np.zeros(len(known), np.int64), grid, context, most=4)
    return metres_of(grid, picked.rows, picked.cols), numeric


def _pool(source: FeatureSource, head: Head, seed: int, context: JobContext
          ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and features of pixels drawn evenly over the raster, as many as fit."""
    layout, size = head.card.layout, source.grid.full.size
    # features, their prepared copy, and what reading them takes
    most = int(min(_POOL, max(context.memory_mb * 1e6 / 2 / (12 * layout.size), 1000)))
    flat = np.arange(size) if size <= most else np.unique(
        np.random.default_rng(seed).integers(0, size, most))
    rows, cols = np.divmod(flat, source.grid.shape[1])
    table, known = source.at(rows, cols, layout, context)
    if not known.any():
        raise UserError("No pixel of the area to process has data. Choose another area or check "
                        "Cloud mask.")
    return rows[known], cols[known], table[known]


def _prepared(table: np.ndarray, head: Head) -> np.ndarray:
    """Features on the scale that the head sees: centred embeddings, standardised bands."""
    standard = head.gate.standard
    if head.gate.cosine:
        return table - standard.mean
    return standard(table)
