"""Samples of known class on a grid, from points or polygons, or from a raster of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid
from ..rasters.legend import NODATA, Legend, LegendClass
from .label_raster import MOST_CLASSES, MOST_PER_CLASS, Drawn, draw, is_raster
from .samples import MOST_PER_PARCEL, Field, Samples, joined, pick, read_field

FIELD = "class"
"""Class field of places that Suggest samples proposes; of labels that are added to a raster."""

_FEW = 10  # parcels of a class below which its accuracy is uncertain


@dataclass(frozen=True)
class Labels:
    """Samples on a grid.

    Attributes:
        rows, cols: (n,) int64, pixels of the grid.
        classes: (n,) int64, index into the legend.
        groups: (n,) int64, number of the polygon, point or patch a sample belongs to, 0, 1, ...
        legend: the classes.
        outside: features of the file that touch no pixel of the grid.
        polygons: whether the features are polygons.
        source: name of the file.
        pixels: of each class in the raster that the samples were drawn from; empty for features.
    """

    rows: np.ndarray
    cols: np.ndarray
    classes: np.ndarray
    groups: np.ndarray
    legend: Legend
    outside: int
    polygons: bool
    source: str
    pixels: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def noun(self) -> str:
        """What a group is called."""
        if self.pixels:
            return "patch"
        return "parcel" if self.polygons else "sample"

    @property
    def nouns(self) -> str:
        """What groups are called."""
        return self.noun + ("es" if self.pixels else "s")

    @property
    def heading(self) -> str:
        """What groups are called above a column; single samples are points there."""
        return self.nouns.capitalize() if self.pixels or self.polygons else "Points"

    @property
    def weights(self) -> np.ndarray:
        """(n,) how many labelled pixels a sample stands for; 1 where they are features."""
        if not self.pixels:
            return np.ones(len(self))
        drawn = np.bincount(self.classes, minlength=len(self.pixels))
        return (np.array(self.pixels) / np.maximum(drawn, 1))[self.classes]

    def group_classes(self) -> np.ndarray:
        """(groups,) class index of each group."""
        result = np.zeros(int(self.groups.max()) + 1, np.int64)
        result[self.groups] = self.classes
        return result

    def counts(self) -> list[dict[str, object]]:
        """Samples and groups of each class, for cards and reports."""
        samples = np.bincount(self.classes, minlength=len(self.legend))
        groups = np.bincount(self.group_classes(), minlength=len(self.legend))
        return [{"value": c.value, "name": c.name, "samples": int(s), "groups": int(g)}
                for c, s, g in zip(self.legend.classes, samples, groups, strict=True)]

    def keep(self, chosen: np.ndarray) -> Labels:
        """The samples of a boolean mask (n,); groups numbered anew, the legend unchanged."""
        groups = np.unique(self.groups[chosen], return_inverse=True)[1]
        return replace(self, rows=self.rows[chosen], cols=self.cols[chosen],
                       classes=self.classes[chosen], groups=groups)

    def without_empty_classes(self) -> Labels:
        """With a legend of the classes that have samples."""
        present = np.unique(self.classes)
        legend = Legend(tuple(self.legend.classes[k] for k in present))
        pixels = tuple(self.pixels[k] for k in present) if self.pixels else ()
        return replace(self, classes=np.searchsorted(present, self.classes), legend=legend,
                       pixels=pixels)

    def learnable(self, field: str, context: JobContext) -> np.ndarray:
        """(n,) bool, the samples of classes with two groups at least, of which two are needed.

        Classes of a raster that have a single patch are left out with a warning.

        Raises:
            UserError: one class only, or a class of points or polygons that has only one.
        """
        single = [k for k, c in enumerate(self.counts()) if c["groups"] == 1]
        if not self.pixels:
            if len(self.legend) < 2:
                raise UserError(f"Field {field} has one class ({self.legend.names[0]}). Label a "
                                "second.")
            if single:
                raise UserError(f"Class {self.legend.names[single[0]]} has 1 {self.noun}; 2 are "
                                "needed. Add one or merge it.")
            return np.ones(len(self), bool)
        if len(self.legend) - len(single) < 2:
            names = ", ".join(self.legend.names)
            few = (f"one class ({names})" if len(self.legend) == 1 else
                   f"fewer than two classes with two patches each (it has {names})")
            raise UserError(f"{self.source} has {few} within the rasters. Choose labels with "
                            "more, or a larger area.")
        if single:
            names = ", ".join(self.legend.names[k] for k in single)
            context.warn(f"Left out: {names}, with a single patch within the rasters.")
        return ~np.isin(self.classes, single)


def read_labels(
    path: Path,
    field: str | None,
    grid: Grid,
    context: JobContext,
    *,
    layer: str | None = None,
    band: int | None = None,
    ignored: Sequence[int] = (),
    most: int | None = None,
    more: tuple[Path, str | None] | None = None,
) -> Labels:
    """Samples of the pixels whose centre lies in a polygon, or under a point; or of a raster.

    See `samples.pick` and `label_raster.draw` for which pixels are taken.

    Args:
        path: vector file that GDAL reads, or a raster of classes, in any CRS.
        field: text or number field with the class; empty values are ignored. Not used for a
            raster, but for what is added to it (default `FIELD`).
        grid: where the samples shall lie.
        context: log, warnings, cancellation.
        layer: layer of the file; default: the first one that has the field.
        band: of the raster; default: the first.
        ignored: values of the raster that are no class, beside its nodata.
        most: pixels of a polygon, or of a class of a raster.
        more: a second vector file with a field of the same name, and its layer or None. Where it
            shares a pixel with the first, it counts. Its classes are those of a raster that have
            the same name, or the same value if the field holds numbers; others are added.

    Raises:
        UserError: no such file, layer, field or band; no labels, or all outside the grid; fewer
            than two classes or than two features a class.
    """
    if is_raster(path):
        drawn = draw(path, band or 1, grid, context, most or MOST_PER_CLASS, ignored)
        labels = _of_raster(drawn, path, field or FIELD, grid, context, more)
    elif not field:
        raise UserError(f"No class field was given. Choose the field of {path.name} that holds "
                        "the class.")
    else:
        labels = _of_features(path, field, grid, context, layer, most or MOST_PER_PARCEL, more)
    labels = labels.without_empty_classes()
    labels = labels.keep(labels.learnable(field or FIELD, context)).without_empty_classes()
    _report(labels, context)
    return labels


def _of_features(path: Path, field: str, grid: Grid, context: JobContext, layer: str | None,
                 most: int, more: tuple[Path, str | None] | None) -> Labels:
    """Samples of one or two vector files."""
    first = _classed(read_field(path, field, grid, context, layer))
    if not first.names:
        raise UserError(f"No feature of {path.name} has a class in field {field}. "
                        "Fill it in or choose another field.")
    files = [first]
    if more is not None:
        second = _further(more, field, grid, context)
        if second.names and isinstance(second.names[0], str) != isinstance(first.names[0], str):
            raise UserError(f"Field {field} holds text in one and numbers in the other of "
                            f"{path.name} and {more[0].name}. Make them alike.")
        files += [second] if second.names else []
    # A whole field of whole numbers may be read as floats; both spell the same class.
    distinct = sorted({name for file in files for name in file.names})
    legend = (Legend.of_numbers(distinct) if not isinstance(distinct[0], str)
              else Legend.of_names(distinct))
    index = {name: k for k, name in enumerate(distinct)}
    picked, *added = (file.picked(index, grid, context, most) for file in files)
    if added:
        picked = _with(picked, added[0], more[0], context)
    return Labels(picked.rows, picked.cols, picked.values, picked.groups, legend,
                  picked.outside, picked.polygons, path.name)


def _of_raster(drawn: Drawn, path: Path, field: str, grid: Grid, context: JobContext,
               more: tuple[Path, str | None] | None) -> Labels:
    """Samples of a raster, and of a vector file that is added to it."""
    legend, values = drawn.legend()
    picked = replace(drawn.samples, values=np.searchsorted(values, drawn.samples.values))
    second = _further(more, field, grid, context) if more is not None else None
    if second is not None and second.names:
        index = {**{name: k for k, name in enumerate(legend.names)},
                 **{float(value): k for k, value in enumerate(values)}}
        legend = _extended(legend, [n for n in dict.fromkeys(second.names) if n not in index],
                           index)
        picked = _with(picked, second.picked(index, grid, context, MOST_PER_PARCEL), more[0],
                       context)
    pixels = [drawn.pixels[value] for value in values]
    added = np.bincount(picked.values, minlength=len(legend))[len(values):].tolist()
    return Labels(picked.rows, picked.cols, picked.values, picked.groups, legend, picked.outside,
                  False, path.name, tuple(pixels + added))


def _extended(legend: Legend, names: list[str | float], index: dict[str | float, int]) -> Legend:
    """A legend with further classes, which are entered in the index."""
    if not names:
        return legend
    if len(legend) + len(names) > MOST_CLASSES:
        raise UserError(f"There are more than {MOST_CLASSES} classes with those of More labels. "
                        "Group them.")
    free = iter(v for v in range(1, NODATA) if v not in legend.values)
    words = [name if isinstance(name, str) else f"class {name:g}" for name in names]
    colors = Legend.of_names([*legend.names, *words]).colors[len(legend):]
    for k, name in enumerate(names, len(legend)):
        index[name] = k
    return Legend((*legend.classes, *(LegendClass(next(free), word, color)
                                      for word, color in zip(words, colors, strict=True))))


def _with(first: Samples, second: Samples, path: Path, context: JobContext) -> Samples:
    context.log(f"{len(second.rows)} samples of {path.name} added")
    return joined(first, second)


@dataclass(frozen=True)
class _Classed:
    """The features of a file that have a class: indices and classes."""

    found: Field
    keep: list[int]
    names: list[str | float]

    def picked(self, index: dict[str | float, int], grid: Grid, context: JobContext,
               most: int) -> Samples:
        """Their pixels, with the number that the index has for the class."""
        return pick(self.found, self.keep, np.array([index[n] for n in self.names]), grid,
                    context, most)


def _classed(found: Field) -> _Classed:
    names = _known(found.values)
    keep = [i for i, name in enumerate(names)
            if name is not None and found.geometry[i] is not None]
    return _Classed(found, keep, [names[i] for i in keep])


def _further(more: tuple[Path, str | None], field: str, grid: Grid,
             context: JobContext) -> _Classed:
    """The features of a second file; a warning where none has a class yet."""
    second = _classed(read_field(more[0], field, grid, context, more[1]))
    if not second.names:
        context.warn(f"No feature of {more[0].name} has a class in field {field} yet.")
    return second


def _known(values: np.ndarray) -> list[str | float | None]:
    """Class of each feature as text or number; None where it is empty."""
    if values.dtype.kind in "OUS":
        texts = [None if v is None or v != v else str(v).strip() for v in values]
        return [t or None for t in texts]
    if values.dtype.kind not in "biuf":
        raise UserError("The class field holds dates. Choose a text or number field.")
    return [None if math.isnan(v) else float(v) for v in values.astype(float)]


def _report(labels: Labels, context: JobContext) -> None:
    groups = int(labels.groups.max()) + 1
    units = f", {groups} {labels.nouns}" if labels.polygons or labels.pixels else ""
    noun = labels.noun if labels.outside == 1 else labels.nouns
    outside = f"; {labels.outside} {noun} outside, ignored" if labels.outside else ""
    whole = f" of {sum(labels.pixels)} labelled pixels" if labels.pixels else ""
    context.log(f"Labels: {len(labels)} samples{whole}{units}, {len(labels.legend)} classes"
                f"{outside}")
    few = [f"{c['name']} {c['groups']}" for c in labels.counts() if c["groups"] < _FEW]
    if few:
        context.warn(f"Few {labels.nouns} of {', '.join(few)}; accuracy uncertain.")
