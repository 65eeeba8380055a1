"""Two dates made comparable without calibration: what did not change tells gain, offset and noise.

Iteratively reweighted multivariate alteration detection (Nielsen 2007, IR-MAD) finds the pixels
that did not change; mean and spread of these bring each channel of both dates to one scale, and
the spread of what is left is the unit in which a change is measured. So neither digital numbers
nor haze nor another sensor's gain is change. Radar in dB keeps its gain, only its offset moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.stats import chi2

_ROUNDS = 50
_SETTLED = 1e-4  # change of the canonical correlations
_RIDGE = 1e-6  # share of the mean variance added to each: bands may be copies of each other
_LEAST = 1e-9


@dataclass(frozen=True)
class Normalisation:
    """How both dates are brought to one scale.

    Attributes:
        first, second: (k,) means of the unchanged pixels on each date.
        first_spread, second_spread: (k,) by which each date is divided.
        noise: (k,) spread of the difference of unchanged pixels, after that.
        unchanged: share (0..1) of the sample that speaks for it.
        correlations: canonical correlations of the unchanged pixels, the strongest first.
    """

    first: np.ndarray
    second: np.ndarray
    first_spread: np.ndarray
    second_spread: np.ndarray
    noise: np.ndarray
    unchanged: float
    correlations: np.ndarray

    def differences(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(k, ...) values of both dates to (k, ...) differences in units of the noise."""
        def column(values: np.ndarray) -> np.ndarray:
            return values.reshape(-1, *(1,) * (first.ndim - 1))

        before = (first - column(self.first)) / column(self.first_spread)
        after = (second - column(self.second)) / column(self.second_spread)
        return ((after - before) / column(self.noise)).astype(np.float32)


def normalise(first: np.ndarray, second: np.ndarray, keep_gain: np.ndarray) -> Normalisation:
    """Find the unchanged pixels of a sample and what they say.

    Args:
        first, second: (k, n) values of both dates, all finite.
        keep_gain: (k,) bool, channels of which only the offset may differ (dB).

    Raises:
        ValueError: fewer than 10 pixels a channel, or a channel without any spread.
    """
    k, n = first.shape
    if n < 10 * k:
        raise ValueError(f"{n} pixels are too few to compare {k} channels")
    flat = np.minimum(first.std(1), second.std(1)) < _LEAST
    if flat.any():
        raise ValueError("a channel has one value everywhere")
    weights, correlations = unchanged(first, second)
    share = weights / weights.sum()
    means = [values @ share for values in (first, second)]
    spreads = [np.sqrt(((values - mean[:, None]) ** 2) @ share)
               for values, mean in zip((first, second), means, strict=True)]
    spreads = [np.where(keep_gain, 1.0, np.maximum(spread, _LEAST)) for spread in spreads]
    left = ((second - means[1][:, None]) / spreads[1][:, None]
            - (first - means[0][:, None]) / spreads[0][:, None])
    noise = np.maximum(np.sqrt(left**2 @ share), _LEAST)
    return Normalisation(means[0], means[1], spreads[0], spreads[1], noise,
                         float(weights.mean()), correlations)


def unchanged(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability (n,) of no change of each pixel, and the canonical correlations (k,).

    Nielsen 2007, section III: canonical variates of the weighted covariance; the squared
    standardised differences are chi-squared with k degrees of freedom where nothing changed, and
    the probability of a larger value is the next round's weight.
    """
    k, n = first.shape
    weights, before = np.ones(n), np.zeros(k)
    for _ in range(_ROUNDS):
        share = weights / weights.sum()
        x = first - (first @ share)[:, None]
        y = second - (second @ share)[:, None]
        xx, yy, xy = _ridged((x * share) @ x.T), _ridged((y * share) @ y.T), (x * share) @ y.T
        squares, a = eigh(xy @ np.linalg.solve(yy, xy.T), xx)
        squares, a = np.clip(squares[::-1], 1e-12, 1 - 1e-9), a[:, ::-1]
        correlations = np.sqrt(squares)
        b = np.linalg.solve(yy, xy.T @ a) / correlations
        b /= np.sqrt(np.einsum("ij,ik,kj->j", b, yy, b))
        variates = a.T @ x - b.T @ y
        distance = (variates**2 / (2 * (1 - correlations))[:, None]).sum(0)
        weights = np.maximum(chi2.sf(distance, k), 1e-12)
        if np.abs(correlations - before).max() < _SETTLED:
            break
        before = correlations
    return weights, correlations


def _ridged(covariance: np.ndarray) -> np.ndarray:
    return covariance + _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
