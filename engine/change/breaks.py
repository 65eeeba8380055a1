"""When a pixel's series changed its level: one break, its date between two observations, or none.

Model of an index at irregular dates: a level, a seasonal harmonic where the series is long enough,
and a step between two observations. For every possible place of the step the residual sum of
squares follows from one orthogonal basis of the rest, so all places cost as much as one. The
posterior of the places, and of no step at all, comes from these sums (a normal model with unknown
variance, even odds of a break, all places alike; Chib 1998, Western and Kleykamp 2004), with the
number of observations lowered by their correlation from date to date. Single outliers, such as
clouds that a mask has missed, lose their weight (Tukey) before the sums are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...models.timegrid import compiled

LEAST_CLEAR = 4
"""Clear observations that are needed before and after a break."""

SURE = 0.9
"""Posterior probability of a break from which a date is told."""

SEASONAL_DAYS = 540
"""Days that a series must span to tell a season from a break."""

_TWO_HARMONICS = 36  # observations from which a second harmonic is fitted
_ROUNDS = 3  # of the weights
_TUKEY = 4.685  # its bend, in robust standard deviations
_NORMAL_QUARTILES = 0.7413  # distance of the quartiles of a normal distribution to its deviation
_SMALLEST_NOISE = 0.01  # of an index; of a series that is all but constant


@dataclass(frozen=True)
class Breaks:
    """What was found in n series.

    Attributes:
        after: (n,) int32 index of the first date after the break; -1 without one.
        before: (n,) int32 index of the last clear date before it; -1 without one.
        step: (n,) float32 change of the level.
        probability: (n,) float32 posterior of a break at any place, 0..1; NaN where there are too
            few observations to say.
        placed: (n,) float32 posterior, given a break, that it lies between `before` and `after`
            or one observation beside.
        clear: (n,) int32 observations that were used.
        swing: (n,) float32 spread of the series with its season, the step taken off: the standard
            deviation of a normal distribution with the same quartiles; 0 without a break.
    """

    after: np.ndarray
    before: np.ndarray
    step: np.ndarray
    probability: np.ndarray
    placed: np.ndarray
    clear: np.ndarray
    swing: np.ndarray


def find_breaks(days: np.ndarray, values: np.ndarray, least_clear: int = LEAST_CLEAR,
                direction: int = 0, least_step: float = 0.0, unit: float = 1.0) -> Breaks:
    """Look for one break in each series.

    Args:
        days: (T,) datetime64[D], ascending.
        values: (T, n) float32 of an index, NaN where not seen.
        least_clear: observations that are needed on both sides.
        direction: -1 for a fall only, 1 for a rise only, 0 for both.
        least_step: smaller steps are no break.
        unit: what a whole range of the index is (1; dB: about 10), for the least noise.
    """
    time = (days - days[0]).astype(np.float64)
    out = _find(time, np.ascontiguousarray(values.T, np.float32), least_clear, direction,
                least_step, _SMALLEST_NOISE * unit)
    return Breaks(*out)


@compiled
def _find(time, values, least, direction, least_step, noise):  # noqa: ANN001, ANN202
    n, dates = values.shape
    after, before = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    step = np.zeros(n, np.float32)
    probability, placed = np.full(n, np.nan, np.float32), np.zeros(n, np.float32)
    clear, swing = np.zeros(n, np.int32), np.zeros(n, np.float32)
    where, t, y = np.empty(dates, np.int64), np.empty(dates), np.empty(dates)
    for p in range(n):
        m = 0
        for k in range(dates):
            if np.isfinite(values[p, k]):
                where[m], t[m], y[m] = k, time[k], values[p, k]
                m += 1
        clear[p] = m
        if m < 2 * least:
            continue
        at, jump, chance, near = _one(t[:m], y[:m], least, direction, least_step, noise)
        probability[p] = chance
        if at > 0:
            after[p], before[p] = where[at], where[at - 1]
            step[p], placed[p] = jump, near
            swing[p] = _swing(y[:m], at, jump)
    return after, before, step, probability, placed, clear, swing


@compiled
def _swing(y, at, step):  # noqa: ANN001, ANN202
    """Spread of a series whose step is taken off, from its quartiles."""
    level = y.copy()
    for k in range(at, len(level)):
        level[k] -= step
    low, high = np.percentile(level, np.array((25.0, 75.0)))
    return _NORMAL_QUARTILES * (high - low)


@compiled
def _one(t, y, least, direction, least_step, noise):  # noqa: ANN001, ANN202
    """Place of the break (0: none), its step, probability of a break, and of its place."""
    m = len(y)
    weight = np.ones(m)
    _drop_spikes(y, weight, noise)
    columns = 1
    if t[m - 1] - t[0] >= SEASONAL_DAYS:
        columns = 5 if m >= _TWO_HARMONICS else 3
        if m < 2 * least + columns:
            columns = 1
    basis, residual = np.empty((columns, m)), np.empty(m)
    scores, steps = np.empty(m), np.empty(m)
    best, places = 0, 0.0
    for turn in range(_ROUNDS):
        if turn:
            _reweigh(weight, basis, residual, best, steps, noise)
        _basis(t, weight, basis)
        _project(y, weight, basis, residual)
        best, places = _scan(weight, basis, residual, least, direction, least_step, scores, steps)
    if best == 0:
        return 0, 0.0, 0.0, 0.0
    chance, near = _posterior(weight, basis, residual, scores, best, steps[best], places, noise)
    return best, steps[best], chance, near


@compiled
def _drop_spikes(y, weight, noise):  # noqa: ANN001, ANN202
    """No weight for a single value far from its four neighbours: it tells nothing of the level."""
    for k in range(2, len(y) - 2):
        near = np.sort(np.array((y[k - 2], y[k - 1], y[k + 1], y[k + 2])))
        wide = max(near[3] - near[0], 4 * noise)
        if abs(y[k] - (near[1] + near[2]) / 2) > 2 * wide:
            weight[k] = 0


@compiled
def _project(y, weight, basis, residual):  # noqa: ANN001, ANN202
    """What level and season leave of a series."""
    columns, m = basis.shape
    for k in range(m):
        residual[k] = y[k]
    for c in range(columns):
        dot = 0.0
        for k in range(m):
            dot += weight[k] * basis[c, k] * residual[k]
        for k in range(m):
            residual[k] -= dot * basis[c, k]


@compiled
def _posterior(weight, basis, residual, scores, best, step, places, noise):  # noqa: ANN001, ANN202
    """Probability of a break at any place, and, given one, of the best place or one beside.

    From log marginal likelihoods: -(freedom / 2) log RSS, and Schwarz's half log n for the step.
    """
    m = len(residual)
    total, flat = 0.0, 0.0
    for k in range(m):
        total += weight[k]
        flat += weight[k] * residual[k] * residual[k]
    least = total * noise * noise
    left, whole = max(flat - scores[best], least), max(flat, least)
    freedom = _freedom(weight, basis, residual, best, step, total)
    mass, near = 0.0, 0.0
    for k in range(1, m):
        if scores[k] > 0:
            ratio = np.log(max(flat - scores[k], least)) - np.log(left)
            share = np.exp(-freedom / 2 * ratio)
            mass += share
            if abs(k - best) <= 1:
                near += share
    odds = (np.log(mass / places) + freedom / 2 * (np.log(whole) - np.log(left))
            - 0.5 * np.log(max(freedom, 1.0)))
    return 1 / (1 + np.exp(-min(max(odds, -50.0), 50.0))), near / mass


@compiled
def _basis(t, weight, basis):  # noqa: ANN001, ANN202
    """Weighted orthonormal columns: level and harmonics of a year (Gram-Schmidt)."""
    columns, m = basis.shape
    for c in range(columns):
        for k in range(m):
            if c == 0:
                basis[c, k] = 1.0
            else:
                angle = 2 * np.pi * t[k] / 365.2425 * ((c + 1) // 2)
                basis[c, k] = np.cos(angle) if c % 2 else np.sin(angle)
        for _ in range(2):  # twice is enough
            for other in range(c):
                dot = 0.0
                for k in range(m):
                    dot += weight[k] * basis[c, k] * basis[other, k]
                for k in range(m):
                    basis[c, k] -= dot * basis[other, k]
        norm = 0.0
        for k in range(m):
            norm += weight[k] * basis[c, k] ** 2
        scale = 1 / np.sqrt(norm) if norm > 1e-9 else 0.0
        for k in range(m):
            basis[c, k] *= scale


@compiled
def _scan(weight, basis, residual, least, direction, least_step, scores, steps):  # noqa: ANN001, ANN202
    """What a step before each observation takes off the sum of squares; the best place, and how
    many places there are."""
    columns, m = basis.shape
    dots = np.zeros(columns)
    norm = dot = 0.0
    seen = np.zeros(m + 1)
    for k in range(m):
        seen[k + 1] = seen[k] + (weight[k] > 0.1)
    best, highest, places = 0, 0.0, 0
    scores[0] = 0.0
    for k in range(m - 1, 0, -1):
        norm += weight[k]
        dot += weight[k] * residual[k]
        for c in range(columns):
            dots[c] += weight[k] * basis[c, k]
        scores[k] = 0.0
        steps[k] = 0.0
        if seen[k] < least or seen[m] - seen[k] < least or weight[k] <= 0.1:
            continue
        places += 1
        own = norm
        for c in range(columns):
            own -= dots[c] ** 2
        if own <= 1e-6 * norm:
            continue
        jump = dot / own
        steps[k] = jump
        if abs(jump) < least_step or jump * direction < 0:
            continue
        scores[k] = dot * dot / own
        if scores[k] > highest:
            best, highest = k, scores[k]
    return best, float(max(places, 1))


@compiled
def _reweigh(weight, basis, residual, best, steps, noise):  # noqa: ANN001, ANN202
    """Tukey's weights of the residuals on both sides of the best place."""
    m = len(residual)
    left = np.empty(m)
    _after_step(weight, basis, residual, best, steps[best] if best > 0 else 0.0, left)
    spread = 1.4826 * np.median(np.abs(left))
    spread = max(spread, noise)
    for k in range(m):
        u = left[k] / (_TUKEY * spread)
        weight[k] = (1 - u * u) ** 2 if abs(u) < 1 else 0.0


@compiled
def _after_step(weight, basis, residual, best, step, out):  # noqa: ANN001, ANN202
    """(m,) what level, season and step leave over."""
    columns, m = basis.shape
    for k in range(m):
        out[k] = residual[k]
    if best == 0:
        return
    dots = np.zeros(columns)
    for c in range(columns):
        for k in range(best, m):
            dots[c] += weight[k] * basis[c, k]
    for k in range(m):
        part = 1.0 if k >= best else 0.0
        for c in range(columns):
            part -= dots[c] * basis[c, k]
        out[k] -= step * part


@compiled
def _freedom(weight, basis, residual, best, step, total):  # noqa: ANN001, ANN202
    """Independent observations less parameters: correlated ones count less (AR(1))."""
    columns, m = basis.shape
    left = np.empty(m)
    _after_step(weight, basis, residual, best, step, left)
    square = product = 0.0
    for k in range(m):
        square += weight[k] * left[k] ** 2
        if k:
            product += np.sqrt(weight[k] * weight[k - 1]) * left[k] * left[k - 1]
    correlation = min(max(product / square, 0.0), 0.9) if square > 0 else 0.0
    return max(total * (1 - correlation) / (1 + correlation) - columns - 1, 1.0)
