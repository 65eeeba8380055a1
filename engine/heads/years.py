"""What changed over the years of a series that is longer than one.

`timegrid` lays years over each other, since crops and covers come back every year. What does not
come back (a forest that was cleared) shows in the difference between the same half-months of two
years, which that averages away.
"""

from __future__ import annotations

import numpy as np

from ...models import timegrid

_YEAR = np.timedelta64(365, "D")
_CHUNK = 256  # pixels in flight: their sums stay in the processor's cache


def longer_than_one(dates: np.ndarray) -> bool:
    """Whether dates (T,) datetime64[D], NaT left out, span more than a year."""
    known = np.asarray(dates, "datetime64[D]")
    known = known[~np.isnat(known)]
    return known.size > 1 and bool(known.max() - known.min() >= _YEAR)


def change(values: np.ndarray, valid: np.ndarray, dates: np.ndarray) -> np.ndarray:
    """Last year minus first year, as the mean of the half-months that a pixel has of both.

    Args:
        values: (T, B, N); one that is not finite was not seen.
        valid: (T, N) bool.
        dates: (T,) datetime64[D].

    Returns:
        (N, B) float32, NaN where a pixel has no half-month of two years.
    """
    dates = np.asarray(dates, "datetime64[D]")
    steps, years = timegrid.half_months(dates), dates.astype("datetime64[Y]").astype(np.int64)
    several = [s for s in np.unique(steps[steps >= 0]) if len(np.unique(years[steps == s])) > 1]
    order = np.lexsort((dates, steps))
    order = order[np.isin(steps[order], several)]
    return _changes(np.ascontiguousarray(values, np.float32), np.ascontiguousarray(valid), order,
                    steps, years).T


@timegrid.compiled
def _changes(values: np.ndarray, valid: np.ndarray, order: np.ndarray, steps: np.ndarray,
             years: np.ndarray) -> np.ndarray:
    """(B, N) float32, over the scenes `order`, sorted by step and then date."""
    bands, n = values.shape[1], values.shape[2]
    none, one = np.float32(0), np.float32(1)
    result = np.empty((bands, n), np.float32)
    for start in range(0, n, _CHUNK):
        stop = min(start + _CHUNK, n)
        size = stop - start
        total, pairs = np.zeros(size, np.float32), np.zeros(size, np.float32)
        sums, counts = np.zeros(size, np.float32), np.zeros(size, np.float32)
        first, last = np.zeros(size, np.float32), np.zeros(size, np.float32)
        turns = np.zeros(size, np.float32)  # years that have the half-month
        for b in range(bands):
            total[:], pairs[:], sums[:], counts[:], turns[:] = none, none, none, none, none
            for place in range(len(order)):
                t = order[place]
                row, there = values[t, b, start:stop], valid[t, start:stop]
                for i in range(size):
                    seen = there[i] and row[i] * none == none  # not NaN, not infinite
                    sums[i] += row[i] if seen else none
                    counts[i] += one if seen else none
                over = place + 1 == len(order) or steps[order[place + 1]] != steps[t]
                if not over and years[order[place + 1]] == years[t]:
                    continue
                for i in range(size):  # the year is over
                    mean = sums[i] / max(counts[i], one)
                    seen = counts[i] > none
                    first[i] = mean if seen and turns[i] == none else first[i]
                    last[i] = mean if seen else last[i]
                    turns[i] += one if seen else none
                    sums[i], counts[i] = none, none
                if over:  # so is the half-month
                    for i in range(size):
                        twice = turns[i] > one
                        total[i] += last[i] - first[i] if twice else none
                        pairs[i] += one if twice else none
                        turns[i] = none
            for i in range(size):
                result[b, start + i] = total[i] / pairs[i] if pairs[i] > none else np.nan
    return result
