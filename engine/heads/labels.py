"""Samples of known class on a grid, from points or polygons of a vector file."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid
from ..rasters.legend import Legend
from .samples import MOST_PER_PARCEL, Field, joined, pick, read_field

_FEW = 10  # parcels of a class below which its accuracy is uncertain


@dataclass(frozen=True)
class Labels:
    """Samples on a grid.

    Attributes:
        rows, cols: (n,) int64, pixels of the grid.
        classes: (n,) int64, index into the legend.
        groups: (n,) int64, number of the polygon or point a sample belongs to, 0, 1, ...
        legend: the classes.
        outside: features of the file that touch no pixel of the grid.
        polygons: whether the features are polygons.
        source: name of the file.
    """

    rows: np.ndarray
    cols: np.ndarray
    classes: np.ndarray
    groups: np.ndarray
    legend: Legend
    outside: int
    polygons: bool
    source: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def noun(self) -> str:
        """What a group is called."""
        return "parcel" if self.polygons else "sample"

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
        return replace(self, classes=np.searchsorted(present, self.classes), legend=legend)

    def require_two_each(self, field: str) -> None:
        """Raise a `UserError` unless there are two classes with two groups each."""
        present = [c for c in self.counts() if c["groups"]]
        if len(present) < 2:
            name = present[0]["name"] if present else "none"
            raise UserError(f"Field {field} has one class ({name}). Label a second.")
        for c in present:
            if c["groups"] < 2:
                raise UserError(f"Class {c['name']} has 1 {self.noun}; 2 are needed. "
                                "Add one or merge it.")


def read_labels(
    path: Path,
    field: str,
    grid: Grid,
    context: JobContext,
    *,
    layer: str | None = None,
    most: int = MOST_PER_PARCEL,
    more: tuple[Path, str | None] | None = None,
) -> Labels:
    """Samples of the pixels whose centre lies in a polygon, or under a point.

    See `samples.pick` for which pixels are taken.

    Args:
        path: vector file that GDAL reads, in any CRS.
        field: text or number field with the class; empty values are ignored.
        grid: where the samples shall lie.
        context: log, warnings, cancellation.
        layer: layer of the file; default: the first one that has the field.
        most: pixels a polygon.
        more: a second file with a field of the same name, and its layer or None.

    Raises:
        UserError: no such file, layer or field; no features; labels outside the grid; fewer
            than two classes or than two features a class.
    """
    first = _classed(read_field(path, field, grid, context, layer))
    if not first.names:
        raise UserError(f"No feature of {path.name} has a class in field {field}. "
                        "Fill it in or choose another field.")
    files = [first]
    if more is not None:
        second = _classed(read_field(more[0], field, grid, context, more[1]))
        if not second.names:
            context.warn(f"No feature of {more[0].name} has a class in field {field} yet.")
        elif isinstance(second.names[0], str) != isinstance(first.names[0], str):
            raise UserError(f"Field {field} holds text in one and numbers in the other of "
                            f"{path.name} and {more[0].name}. Make them alike.")
        else:
            files.append(second)
    # A whole field of whole numbers may be read as floats; both spell the same class.
    distinct = sorted({name for file in files for name in file.names})
    legend = (Legend.of_numbers(distinct) if not isinstance(distinct[0], str)
              else Legend.of_names(distinct))
    index = {name: k for k, name in enumerate(distinct)}
    picked, *added = (pick(file.found, file.keep, np.array([index[n] for n in file.names]), grid,
                           context, most) for file in files)
    if added:
        context.log(f"{len(added[0].rows)} samples of {more[0].name} added")
        picked = joined(picked, added[0])
    labels = Labels(picked.rows, picked.cols, picked.values, picked.groups, legend,
                    picked.outside, picked.polygons, path.name)
    labels = labels.without_empty_classes()
    labels.require_two_each(field)
    _report(labels, context)
    return labels


@dataclass(frozen=True)
class _Classed:
    """The features of a file that have a class: indices and classes."""

    found: Field
    keep: list[int]
    names: list[str | float]


def _classed(found: Field) -> _Classed:
    names = _known(found.values)
    keep = [i for i, name in enumerate(names)
            if name is not None and found.geometry[i] is not None]
    return _Classed(found, keep, [names[i] for i in keep])


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
    parcels = f", {groups} parcels" if labels.polygons else ""
    noun = labels.noun + ("" if labels.outside == 1 else "s")
    outside = f"; {labels.outside} {noun} outside, ignored" if labels.outside else ""
    context.log(f"Labels: {len(labels)} samples{parcels}, {len(labels.legend)} classes{outside}")
    few = [f"{c['name']} {c['groups']}" for c in labels.counts() if c["groups"] < _FEW]
    if few:
        context.warn(f"Few {labels.noun}s of {', '.join(few)}; accuracy uncertain.")
