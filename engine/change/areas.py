"""What is known of each patch of change, and the patches as polygons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..rasters.legend import Legend
from ..rasters.outlines import write_polygons
from ..rasters.patches import Patches
from ..rasters.vector import VectorFile
from .series import Dates

_NEVER = np.iinfo(np.int32).max
_VALUES = 32  # of a map of change, at most


@dataclass(frozen=True)
class PatchFacts:
    """Sums over the pixels of n patches, in the order of their numbers; filled window by window.

    Attributes:
        metres: (n + 1,) square metres; the first is of no patch.
        certain: (n + 1,) sum of percent times square metres.
        by_value: (n + 1, _VALUES) square metres of each class of the map.
        dated: (n + 1,) square metres with a date.
        last, first: (n + 1,) int32 earliest last clear day before and latest first clear day after
            a change, days since 1970-01-01.
        sure: (n + 1,) sum of the date's confidence times square metres.
    """

    metres: np.ndarray
    certain: np.ndarray
    by_value: np.ndarray
    dated: np.ndarray
    last: np.ndarray
    first: np.ndarray
    sure: np.ndarray

    @classmethod
    def empty(cls, count: int) -> PatchFacts:
        """For `count` patches."""
        size = count + 1
        return cls(np.zeros(size), np.zeros(size), np.zeros((size, _VALUES), np.float32),
                   np.zeros(size), np.full(size, _NEVER, np.int32),
                   np.full(size, -_NEVER, np.int32), np.zeros(size))

    def add(self, number: np.ndarray, values: np.ndarray, percent: np.ndarray, metres: np.ndarray
            ) -> None:
        """Take a window's numbers, classes, certainties and pixel areas."""
        inside = number > 0
        if not inside.any():
            return
        n, m = number[inside], metres[inside]
        size = len(self.metres)
        self.metres[:] += np.bincount(n, m, size)
        self.certain[:] += np.bincount(n, m * percent[inside], size)
        np.add.at(self.by_value, (n, values[inside]), m)

    def add_dates(self, number: np.ndarray, when: Dates, dated: np.ndarray, metres: np.ndarray
                  ) -> None:
        """Take a window's dates."""
        if not dated.any():
            return
        n, m = number[dated], metres[dated]
        self.dated[:] += np.bincount(n, m, len(self.metres))
        self.sure[:] += np.bincount(n, m * when.confidence[dated], len(self.metres))
        np.minimum.at(self.last, n, when.last[dated].astype(np.int32))
        np.maximum.at(self.first, n, when.first[dated].astype(np.int32))

    def columns(self, legend: Legend, dates: bool) -> dict[str, np.ndarray]:
        """Fields of the patches."""
        area = np.maximum(self.metres[1:], 1e-9)
        names = dict(zip(legend.values, legend.names, strict=True))
        most = self.by_value[1:].argmax(1)
        fields = {"change": np.array([names.get(int(v), "") for v in most], object),
                  "confidence": self.certain[1:] / area}
        if dates:
            known = self.dated[1:] > 0
            fields["last_clear"] = _days(self.last[1:], known)
            fields["first_clear"] = _days(self.first[1:], known)
            fields["dated"] = 100 * self.dated[1:] / area
            fields["date_conf"] = np.where(
                known, self.sure[1:] / np.maximum(self.dated[1:], 1e-9), np.nan)
        return fields


def _days(numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """ISO days, empty where unknown."""
    days = np.where(known, numbers, 0).astype("datetime64[D]").astype(str)
    return np.where(known, days, "").astype(object)


def write_patches(file: VectorFile, numbers: Path, patches: Patches, facts: PatchFacts,
                  legend: Legend, strength: str, dates: bool) -> None:
    """One polygon a patch, largest first.

    Fields: `area_ha` on the ellipsoid, the mean of the strength under its name, `change` (what
    most of it became), `confidence` (percent); with dates `last_clear` and `first_clear` (between
    these days all dated pixels changed), `dated` (percent of the patch), `date_conf` (percent).

    Args:
        file: to write into.
        numbers: `Scratch` of the patches' numbers, 0 for none.
    """
    write_polygons(file, numbers, patches, strength, facts.columns(legend, dates))
