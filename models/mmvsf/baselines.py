"""What a forecast must beat: the last clear value, and a line from it to the next clear one. NumPy.

The line looks at what comes after the day in question, which a forecast cannot.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def persistence_and_line(dates: np.ndarray, values: np.ndarray, seen: np.ndarray,
                         last: np.datetime64, target: np.datetime64) -> dict[str, np.ndarray]:
    """`persistence` and `interpolation` (B, H, W), NaN where they have nothing.

    Args:
        dates, values, seen: a series (T,), (T, B, H, W), (T, H, W), ascending.
        last: the last day that may be looked at.
        target: the day in question; what lies between `last` and it is left out.
    """
    before, after = np.flatnonzero(dates <= last), np.flatnonzero(dates > target)
    old, old_day = _last_seen(dates, values, seen, before)
    new, new_day = _last_seen(dates, values, seen, after[::-1])
    weight = (target.astype(np.int64) - old_day) / (new_day - old_day)
    return {"persistence": old, "interpolation": (old + weight * (new - old)).astype(np.float32)}


def _last_seen(dates: np.ndarray, values: np.ndarray, seen: np.ndarray, order: Iterable[int]
               ) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's value and day at the last of some dates at which it is seen, else NaN."""
    value = np.full(values.shape[1:], np.nan, np.float32)
    day = np.full(values.shape[2:], np.nan)
    for t in order:
        value = np.where(seen[t], values[t], value)
        day = np.where(seen[t], dates[t].astype(np.int64), day)
    return value, day
