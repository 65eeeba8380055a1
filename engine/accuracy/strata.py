"""The strata that the units of a test were drawn in, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..context import JobContext
from ..errors import UserError
from .classmap import Census, ClassMap
from .estimators import Strata
from .reference import Reference
from .visits import SIZE


@dataclass(frozen=True)
class Stratification:
    """Strata of a map with the units in them.

    Attributes:
        names: of the strata.
        pixels, hectares: (h,) of each, within the map.
        of_unit: (n,) index of the stratum of each unit, -1 where it has none.
        own: whether the strata are the map's own classes.
        origin: where they come from, in words.
    """

    names: tuple[str, ...]
    pixels: np.ndarray
    hectares: np.ndarray
    of_unit: np.ndarray
    own: bool
    origin: str

    @property
    def units(self) -> np.ndarray:
        """(h,) units in each stratum."""
        return np.bincount(self.of_unit[self.of_unit >= 0], minlength=len(self.names))

    def sampled(self) -> Stratification:
        """Without the strata that have no unit."""
        kept = np.flatnonzero(self.units)
        number = np.full(len(self.names) + 1, -1, np.int64)  # the last one is that of -1
        number[kept] = np.arange(len(kept))
        return replace(self, names=tuple(self.names[h] for h in kept), pixels=self.pixels[kept],
                       hectares=self.hectares[kept], of_unit=number[self.of_unit])

    def strata(self) -> Strata:
        """As the estimators take them."""
        return Strata(self.pixels, self.hectares / self.hectares.sum())


def own_classes(census: Census, mapped: np.ndarray) -> Stratification:
    """The map's classes; a parcel is in the one that most of it is mapped as.

    Args:
        census: of the map.
        mapped: (n, c) share of each unit that is mapped as each class.
    """
    return Stratification(
        tuple(c.name for c in census.classes), census.pixels,
        np.array([c.hectares for c in census.classes]), mapped.argmax(1), True,
        "the classes of the map")


def of_raster(path: Path, source: ClassMap, census: Census, reference: Reference,
              context: JobContext) -> Stratification:
    """The classes of another raster, counted where the map has a class.

    Raises:
        UserError: it holds no classes, or none within the map.
    """
    areas = source.grid.row_areas_m2()
    with ClassMap(path, source.grid) as other:
        theirs = other.census(context.part(0, 0.4))
        count = len(theirs.classes)
        pixels, metres = np.zeros(count, np.int64), np.zeros(count)
        ours = source.indices(census, context.part(0.4, 1))
        for (window, mapped), (_, strata) in zip(ours, other.indices(theirs, context),
                                                 strict=True):
            both = np.where(mapped >= 0, strata, -1).astype(np.int64) + 1
            lines = np.bincount(
                (both + np.arange(window.rows)[:, None] * (count + 1)).ravel(),
                minlength=window.rows * (count + 1)).reshape(window.rows, -1)[:, 1:]
            pixels += lines.sum(0)
            metres += areas[window.row : window.row + window.rows] @ lines
        index = other.at(reference.rows, reference.cols, theirs)
    if not pixels.any():
        raise UserError(f"{path.name} and {source.path.name} have no common area. Choose other "
                        "strata.")
    return Stratification(
        tuple(c.name for c in theirs.classes), pixels, metres / 1e4,
        majority(shares_of(reference, index, count)), False, path.name)


def of_field(field: str, reference: Reference, census: Census) -> Stratification:
    """Strata that a field of the reference names; `SIZE`, another field, holds their pixels.

    Raises:
        UserError: a stratum with two sizes, or none.
    """
    values, sizes = reference.everywhere[field], reference.everywhere[SIZE].astype(float)
    texts = np.array(["" if v is None or v != v else str(v).strip() for v in values], object)
    names = sorted(set(texts) - {""})
    pixels = np.zeros(len(names), np.int64)
    for h, name in enumerate(names):
        found = np.unique(sizes[texts == name])
        if len(found) != 1 or not found[0] >= 1:
            raise UserError(f"Field {SIZE} of {reference.source} should hold one number of pixels "
                            f"for stratum {name}. Draw the points with Sampling design, or give "
                            "the strata as a raster.")
        pixels[h] = int(found[0])
    place = {name: h for h, name in enumerate(names)}
    own = ["" if v is None or v != v else str(v).strip() for v in reference.columns[field]]
    return Stratification(
        tuple(names), pixels, pixels / pixels.sum() * census.hectares,
        np.array([place.get(name, -1) for name in own], np.int64), False,
        f"field {field} of {reference.source}")


def shares_of(reference: Reference, index: np.ndarray, classes: int) -> np.ndarray:
    """(n, c) share of each unit's pixels of each class; zeros where none has one.

    Args:
        reference: the units.
        index: (m,) class of each of their pixels, -1 for none.
        classes: how many there are.
    """
    known = index >= 0
    flat = reference.unit[known] * classes + index[known]
    counts = np.bincount(flat, minlength=len(reference) * classes).reshape(-1, classes)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def majority(shares: np.ndarray) -> np.ndarray:
    """(n,) class with the largest share of (n, c), -1 where all are zero."""
    return np.where(shares.sum(1) > 0, shares.argmax(1), -1)
