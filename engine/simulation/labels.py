"""The labelled sample that an analyst would have: some parcels, and places of other cover."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects, minimum_filter
from scipy.spatial import ConvexHull, QhullError

from .landscape import FIELD
from .season import Season


@dataclass(frozen=True)
class Label:
    """One labelled polygon.

    Attributes:
        name: class, as in the truth legend.
        ring: (k, 2) corners as (column, row) in pixels, closed.
        unit: number of the parcel; -1 for a place that is no parcel.
    """

    name: str
    ring: np.ndarray
    unit: int


def draw_labels(season: Season, rng: np.random.Generator) -> list[Label]:
    """Draw the sample: every crop a few times, the rest at random, then places of other cover."""
    options = season.recipe.labels
    outlines = _outlines(season, options)
    units = rng.permutation(np.array(sorted(outlines), dtype=int))
    kinds = season.fields.kind[units]
    rank = np.zeros(len(units), int)
    for kind in np.unique(kinds):
        rank[kinds == kind] = np.arange(np.count_nonzero(kinds == kind))
    # The first of every crop come before all others; within each, the order stays random.
    order = np.argsort(rank >= options.least_per_crop, kind="stable")
    area = season.land.unit.size / 512**2
    chosen = units[order][:round(options.parcels_per_2600_ha * area)]
    names = season.recipe.truth
    value = season.classes.truth[season.fields.kind]
    labels = [Label(names[value[u] - 1], outlines[u], int(u)) for u in sorted(chosen)]
    return labels + _places(season, options, rng)


def _outlines(season: Season, options: SimpleNamespace) -> dict[int, np.ndarray]:
    """Straight-edged rings, one pixel inside the edge, of all parcels that have a plain shape."""
    unit = season.land.unit
    inner = distance_transform_edt(_same_as_neighbours(unit)) > 1
    rings = {}
    for number, box in enumerate(find_objects(unit + 1)):
        if season.land.cover[number] != FIELD:
            continue
        rows, cols = np.nonzero(inner[box] & (unit[box] == number))
        if len(rows) < options.least_px:
            continue
        points = np.column_stack([cols + box[1].start + 0.5, rows + box[0].start + 0.5])
        try:
            hull = ConvexHull(points)
        except QhullError:  # all on one line
            continue
        # Pick's theorem: pixel centres in a lattice polygon of this area and perimeter.
        if len(points) >= options.convexity * (hull.volume + hull.area / 2):
            ring = points[hull.vertices]
            rings[number] = np.vstack([ring, ring[:1]])
    return rings


def _same_as_neighbours(unit: np.ndarray) -> np.ndarray:
    """Pixels whose four neighbours are of the same unit; those on the edge of the map are not."""
    same = np.zeros(unit.shape, bool)
    middle = unit[1:-1, 1:-1]
    same[1:-1, 1:-1] = ((middle == unit[:-2, 1:-1]) & (middle == unit[2:, 1:-1])
                        & (middle == unit[1:-1, :-2]) & (middle == unit[1:-1, 2:]))
    return same


def _places(season: Season, options: SimpleNamespace, rng: np.random.Generator) -> list[Label]:
    """Small squares of forest, town and water."""
    truth, side = season.truth, options.place_px
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * side - side / 2 + 0.5
    crops = set(season.classes.truth[season.classes.of_cover("field")])
    labels = []
    for value, name in enumerate(season.recipe.truth, 1):
        if value in crops:
            continue
        whole = minimum_filter(truth == value, size=side, mode="constant", cval=0)
        at = np.flatnonzero(whole)
        for place in rng.choice(at, min(options.places_per_cover, len(at)), replace=False):
            row, col = divmod(int(place), truth.shape[1])
            labels.append(Label(name, corners + [col, row], -1))
    return labels
