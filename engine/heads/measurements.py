"""Samples with a measured number (moisture, biomass, yield), from points or polygons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid
from .samples import MOST_PER_PARCEL, Samples, pick, read_field

MOST_CLASSES = 50
"""Different whole numbers above which a field is taken for measurements rather than classes."""

FEWEST = 20
"""Points or parcels below which nothing useful can be learnt, nor tested."""


@dataclass(frozen=True)
class Measurements:
    """Measured numbers on a grid.

    Attributes:
        samples: pixels with their numbers.
        field: name of what was measured.
        unit: of the numbers, may be "".
        source: name of the file.
    """

    samples: Samples
    field: str
    unit: str
    source: str

    def __len__(self) -> int:
        return len(self.samples.rows)

    @property
    def values(self) -> np.ndarray:
        """(n,) float64 numbers."""
        return self.samples.values

    @property
    def noun(self) -> str:
        """What a group is called."""
        return "parcel" if self.samples.polygons else "point"

    @property
    def number_of_groups(self) -> int:
        """Points or parcels."""
        return int(self.samples.groups.max()) + 1

    def keep(self, chosen: np.ndarray) -> Measurements:
        """The samples of a boolean mask (n,); groups numbered anew."""
        s = self.samples
        groups = np.unique(s.groups[chosen], return_inverse=True)[1]
        return replace(self, samples=replace(
            s, rows=s.rows[chosen], cols=s.cols[chosen], values=s.values[chosen], groups=groups))

    def require_enough(self) -> None:
        """Raise a `UserError` unless there are points enough, and not all the same."""
        if self.number_of_groups < FEWEST:
            raise UserError(f"Field {self.field} is known at {self.number_of_groups} "
                            f"{self.noun}s; {FEWEST} are needed to learn numbers. Measure more.")
        if np.ptp(self.values) <= 0:
            raise UserError(f"Field {self.field} is {self.values[0]:g} everywhere, so there is "
                            "nothing to learn. Choose another field.")


def holds_numbers(path: Path, field: str, grid: Grid, context: JobContext,
                  layer: str | None = None) -> bool:
    """Whether a field holds measurements: numbers with fractions, or very many whole ones."""
    values = read_field(path, field, grid, context, layer).values
    if values.dtype.kind not in "iuf":
        return False
    known = np.unique(values[np.isfinite(values)])
    return bool((known != np.round(known)).any()) or len(known) > MOST_CLASSES


def read_measurements(path: Path, field: str, grid: Grid, context: JobContext, *,
                      unit: str = "", layer: str | None = None) -> Measurements:
    """Samples of a number field; see `samples.pick` for which pixels are taken.

    Raises:
        UserError: no such file, layer or field; a field of text; too few points.
    """
    found = read_field(path, field, grid, context, layer)
    if found.values.dtype.kind not in "iuf":
        raise UserError(f"Field {field} of {path.name} holds no numbers. Choose a number field, "
                        "or learn classes.")
    numbers = found.values.astype(np.float64)
    keep = [i for i in np.flatnonzero(np.isfinite(numbers)) if found.geometry[i] is not None]
    if not keep:
        raise UserError(f"No feature of {path.name} has a number in field {field}. "
                        "Fill it in or choose another field.")
    picked = pick(found, keep, numbers[keep], grid, context, MOST_PER_PARCEL)
    measured = Measurements(picked, field, unit, path.name)
    measured.require_enough()
    low, high = measured.values.min(), measured.values.max()
    context.log(f"Labels: {len(measured)} samples of {measured.number_of_groups} {measured.noun}s, "
                f"{field} {low:.4g} to {high:.4g} {unit}".rstrip())
    return measured
