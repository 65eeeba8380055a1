"""Accuracy and area of a map from a stratified random sample, with standard errors.

Every figure is a ratio of two totals (overall accuracy: what agrees to all; a class's area: what
is of the class to all; user's accuracy: what agrees to what is mapped so). A ratio's variance is
that of the residuals y - R x within the strata (Stehman 2014, ratio of estimated totals). With
strata that are the map's classes and without the correction for finite populations these are the
formulas of Olofsson et al. 2014, eqs. 5-7 and 9-11.

A ratio 0/0 is NaN, and so is an error that one point in a stratum cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Z95 = 1.96
"""Standard errors to each side of an estimate in a 95 % interval."""


@dataclass(frozen=True)
class Strata:
    """The parts of the map that points were drawn in.

    Attributes:
        pixels: (h,) how many pixels each has.
        shares: (h,) its share of the area; they sum to 1.
    """

    pixels: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True)
class Sample:
    """Units (points, parcels) of known class.

    Attributes:
        stratum: (n,) index of the stratum that a unit was drawn in.
        mapped: (n, c) share of the unit that is mapped as each class; rows sum to 1.
        reference: (n,) index of its true class.
    """

    stratum: np.ndarray
    mapped: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class Estimate:
    """Figures with their standard errors, arrays of the same shape."""

    value: np.ndarray
    error: np.ndarray

    @property
    def half(self) -> np.ndarray:
        """Half of the 95 % interval."""
        return Z95 * self.error


@dataclass(frozen=True)
class Assessment:
    """What a sample says of a map of c classes; rows are the map, columns the reference.

    Attributes:
        counts: (c, c) units; a parcel that is mapped as several classes counts in parts.
        shares: (c, c) estimated share of the area.
        overall: () share of the area that is mapped right.
        users, producers: (c,) accuracy of what is mapped as a class, and of what is one.
        f1, iou: (c,) of the area, not of the units.
        area: (c,) share of the area that is of a class in truth.
    """

    counts: np.ndarray
    shares: np.ndarray
    overall: Estimate
    users: Estimate
    producers: Estimate
    f1: Estimate
    iou: Estimate
    area: Estimate


def assess(sample: Sample, strata: Strata, *, finite: bool) -> Assessment:
    """Estimate accuracy and areas.

    Args:
        sample: at least one unit in every stratum.
        strata: where they were drawn.
        finite: whether variances shrink with the share of a stratum's pixels that was visited
            (Stehman 2014 does so, Olofsson et al. 2014 do not).

    Raises:
        ValueError: a stratum without a unit.
    """
    mapped = np.asarray(sample.mapped, float)
    true = np.eye(mapped.shape[1])[sample.reference]
    agree = mapped * true
    right, all_ = agree.sum(1, keepdims=True), np.ones((len(mapped), 1))
    ratio = _Ratios(sample.stratum, strata, finite)
    overall = ratio(right, all_)
    return Assessment(
        counts=mapped.T @ true,
        shares=np.einsum("n,ni,nj->ij", ratio.weights, mapped, true),
        overall=Estimate(overall.value[0], overall.error[0]),
        users=ratio(agree, mapped),
        producers=ratio(agree, true),
        f1=ratio(2 * agree, mapped + true),
        iou=ratio(agree, mapped + true - agree),
        area=ratio(true, np.ones_like(true)))


class _Ratios:
    """Estimates ratios of totals from one sample.

    `weights` are the shares of the area that the single units stand for; they sum to 1.
    """

    def __init__(self, stratum: np.ndarray, strata: Strata, finite: bool) -> None:
        self._stratum = np.asarray(stratum, np.int64)
        self._units = np.bincount(self._stratum, minlength=len(strata.shares))
        if not self._units.all():
            raise ValueError(f"Stratum {int(np.argmin(self._units))} has no unit. Leave it out.")
        self.weights = (strata.shares / self._units)[self._stratum]
        left = 1 - self._units / strata.pixels if finite else np.ones(len(self._units))
        self._factor = strata.shares**2 * np.clip(left, 0, 1) / self._units

    def __call__(self, y: np.ndarray, x: np.ndarray) -> Estimate:
        """Ratios of the totals of (n, k) y to those of (n, k) x."""
        total = self.weights @ x
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.where(total > 0, (self.weights @ y) / total, np.nan)
            variance = self._factor @ self._spread(y - value * x, x) / total**2
        return Estimate(value, np.sqrt(np.where(total > 0, variance, np.nan)))

    def _spread(self, residual: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(h, k) variance of the residuals in each stratum.

        That of a single unit is unknown, unless the unit is no part of the ratio.
        """
        shape = len(self._units), residual.shape[1]
        sums, squares = np.zeros(shape), np.zeros(shape)
        np.add.at(sums, self._stratum, residual)
        centred = residual - (sums / self._units[:, None])[self._stratum]
        np.add.at(squares, self._stratum, centred**2)
        spread = squares / np.maximum(self._units - 1, 1)[:, None]
        part = np.zeros(shape, bool)
        np.logical_or.at(part, self._stratum, x != 0)
        return np.where((self._units == 1)[:, None] & part, np.nan, spread)
