"""Band series of any dates on the 24 half-months of one year, gaps filled. NumPy and Numba.

Layout: values (T, B, N) float32 and valid (T, N) bool, both C-contiguous, N = the pixels of a
window in row-major order, so `Series.values.reshape(T, B, -1)` is a view. The inner loops run
along N and vectorise; the kernels release the GIL. Years are laid over each other, since only the
season counts; step 2 m holds days 1 to 15 of month m (January = 0), step 2 m + 1 the rest.

Measured on one core of a shared server, 30 dates: 650 000 pixels a second for 10 bands (`grid`),
275 000 for Sentinel-1 and -2 with NDVI as the `fast` adapter does it.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

STEPS = 24
UNDATED_STEP = 12  # first half of July: where a scene goes when no scene of its sensor has a date
_CHUNK = 256  # pixels in flight in `grid`: their sums stay in the processor's cache


def compiled(function: Callable) -> Callable:
    """`numba.njit` with the machine code kept on disk, or in memory if no folder can be written."""
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # read-only installation without a cache folder
        return numba.njit(nogil=True, error_model="numpy")(function)


def half_months(dates: np.ndarray) -> np.ndarray:
    """The step 0..23 of each of the dates (T,) datetime64[D], as int64.

    An undated scene (NaT) says nothing about the season: it gets -1 (left out) beside dated
    scenes, and `UNDATED_STEP` where no scene is dated.
    """
    dates = np.asarray(dates, "datetime64[D]")
    undated = np.isnat(dates)
    if undated.all():
        return np.full(len(dates), UNDATED_STEP, np.int64)
    months = dates.astype("datetime64[M]")
    days = (dates - months.astype("datetime64[D]")).astype(np.int64)  # 0 is the first
    steps = 2 * (months.astype(np.int64) % 12) + (days >= 15)
    return np.where(undated, -1, steps)


@compiled
def accumulate(
    values: np.ndarray,
    valid: np.ndarray,
    steps: np.ndarray,
    bands: np.ndarray,
    start: int,
    sums: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Add the observations of the pixels start .. start + n to the sums of their half-months.

    Call it once for each sensor that has the bands: the sums of several sensors merge.

    Args:
        values: (T, B, N) float32.
        valid: (T, N) bool. An observation with a value that is not finite does not count either.
        steps: (T,) int64, see `half_months`; a negative one is left out.
        bands: (K,) int64, which of the B bands to add, in the order of `sums`.
        start: the first pixel.
        sums: (K, 24, n) float32, changed.
        counts: (24, n) float32, observations a step, changed.
    """
    n = counts.shape[1]
    seen = np.empty(n, np.float32)
    for t in range(len(steps)):
        if steps[t] < 0:
            continue
        ok = valid[t, start : start + n]
        for i in range(n):
            seen[i] = np.float32(1.0) if ok[i] else np.float32(0.0)
        for k in range(len(bands)):
            row = values[t, bands[k], start : start + n]
            for i in range(n):
                zero = row[i] * np.float32(0.0)  # NaN where the value is not finite
                seen[i] = seen[i] if zero == np.float32(0.0) else np.float32(0.0)
        count = counts[steps[t]]
        for i in range(n):
            count[i] += seen[i]
        for k in range(len(bands)):
            row = values[t, bands[k], start : start + n]
            total = sums[k, steps[t]]
            for i in range(n):
                total[i] += row[i] if seen[i] > np.float32(0.0) else np.float32(0.0)


@compiled
def _carry(rows: np.ndarray, counts: np.ndarray, backward: bool, out: np.ndarray) -> None:
    """Write for each step (24, n) the value of the observed step at or before (after) it."""
    steps, n = counts.shape
    last = np.zeros(n, np.float32)
    for turn in range(2 * steps):  # the first round finds what lies beyond the turn of the year
        s = (2 * steps - 1 - turn if backward else turn) % steps
        for i in range(n):
            last[i] = rows[s, i] if counts[s, i] > np.float32(0.0) else last[i]
        if turn >= steps:
            out[s] = last


@compiled
def _shares(counts: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The weight (24, n) of the observation before each step against the one after it."""
    steps, n = counts.shape
    times = np.empty((steps, n), np.float32)
    for s in range(steps):
        times[s] = np.float32(s)
    _carry(times, counts, False, before)
    _carry(times, counts, True, after)
    year, none = np.float32(steps), np.float32(0.0)
    for s in range(steps):
        for i in range(n):
            past, ahead = np.float32(s) - before[s, i], after[s, i] - np.float32(s)
            past += year if past < none else none
            ahead += year if ahead < none else none
            share = ahead / (past + ahead)
            times[s, i] = share if past > none else np.float32(1.0)
    return times


@compiled
def fill(
    sums: np.ndarray,
    counts: np.ndarray,
    centre: np.ndarray,
    factor: np.ndarray,
    missing: float,
    out: np.ndarray,
    first: int,
) -> None:
    """Turn sums into means, interpolate over the gaps around the year, scale and write them out.

    Args:
        sums: (K, 24, n) and
        counts: (24, n) from `accumulate`; the sums become means.
        centre: (K,) float32, subtracted, and
        factor: (K,) float32, multiplied afterwards.
        missing: the result for a pixel without any observation.
        out: (n, 24, W) float32, changed in columns first .. first + K.
        first: column of the first band.
    """
    bands, steps, n = sums.shape
    before, after = np.empty((steps, n), np.float32), np.empty((steps, n), np.float32)
    shares = _shares(counts, before, after)
    never = np.ones(n, np.bool_)
    for s in range(steps):
        for i in range(n):
            never[i] &= counts[s, i] == np.float32(0.0)
    absent = np.float32(missing)
    for k in range(bands):
        for s in range(steps):
            for i in range(n):
                sums[k, s, i] /= max(counts[s, i], np.float32(1.0))
        _carry(sums[k], counts, False, before)
        _carry(sums[k], counts, True, after)
        for s in range(steps):
            for i in range(n):
                value = after[s, i] + shares[s, i] * (before[s, i] - after[s, i])
                value = (value - centre[k]) * factor[k]
                out[i, s, first + k] = absent if never[i] else value


def grid(
    values: np.ndarray, valid: np.ndarray, dates: np.ndarray, missing: float = np.nan
) -> tuple[np.ndarray, np.ndarray]:
    """The gap-filled half-monthly series of any bands of one sensor, in their own units.

    Args:
        values: (T, B, N) float32.
        valid: (T, N) bool.
        dates: (T,) datetime64[D].
        missing: the value of all steps of a pixel that was never observed.

    Returns:
        The series (N, 24, B) float32, and (N, 24) bool: where it was observed rather than filled.
    """
    values = np.ascontiguousarray(values, np.float32)
    valid = np.ascontiguousarray(valid, np.bool_)
    _, bands, pixels = values.shape
    steps, every = half_months(dates), np.arange(bands)
    centre, factor = np.zeros(bands, np.float32), np.ones(bands, np.float32)
    series = np.empty((pixels, STEPS, bands), np.float32)
    observed = np.empty((pixels, STEPS), np.bool_)
    for start in range(0, pixels, _CHUNK):
        stop = min(start + _CHUNK, pixels)
        sums = np.zeros((bands, STEPS, stop - start), np.float32)
        counts = np.zeros((STEPS, stop - start), np.float32)
        accumulate(values, valid, steps, every, start, sums, counts)
        fill(sums, counts, centre, factor, missing, series[start:stop], 0)
        observed[start:stop] = (counts > 0).T
    return series, observed
