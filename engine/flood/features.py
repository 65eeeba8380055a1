"""What the learned detector sees of a pixel: both dates at several distances around it.

Radar is told in the scene's own terms (median and spread, the two classes of its histogram, rank),
which no scale or offset changes: the head was trained on images whose scaling to bytes nobody
knows, and works on decibels of any calibration.
"""

from __future__ import annotations

import numpy as np

from .scene import OPTICAL, box
from .survey import Stats, Survey

SCALES = (3, 7, 15, 31, 63)
"""Sides (pixels) of the squares whose means describe what surrounds a pixel."""

MARGIN = 33
"""Pixels around a window that its features depend on."""

_COARSE = (1, 7, 31)
_TEXTURE = (5, 15)
_LIMIT = 6.0  # spreads from the median at which values are cut off

RADAR_SIZE = 6 * len(SCALES) + 3 * len(_COARSE) + 2 * len(_TEXTURE) + 13
OPTICAL_SIZE = 3 * len(_COARSE) * len(OPTICAL)
"""Numbers of features of a radar channel and of the water indices together."""


def radar_features(survey: Survey, channel: str, values: np.ndarray,
                   inner: tuple[slice, slice]) -> np.ndarray:
    """(rows, cols, RADAR_SIZE) float32 of the inner part of (2, rows, cols) backscatter."""
    stats = survey.stats[channel]
    standard = [_standard(v, s) for v, s in zip(values, stats, strict=True)]
    before, during = ([box(z, size) for size in SCALES] for z in standard)
    found = [_three(b, d) for b, d in zip(before, during, strict=True)]
    # the same means in units of the two classes, since a linear step turns one into the other
    found += [_three(_in_classes(b, stats[0]), _in_classes(d, stats[1]))
              for b, d in zip(before, during, strict=True)]
    ranks = [s.rank(box(v, 3)) for v, s in zip(values, stats, strict=True)]
    found += [_three(box(ranks[0], size), box(ranks[1], size)) for size in _COARSE]
    for size in _TEXTURE:
        found.append([np.sqrt(np.maximum(box(z * z, size) - box(z, size) ** 2, 0))
                      for z in reversed(standard)])
    planes = [plane[inner] for group in found for plane in group]
    return _table(planes, [*stats[0].shape(), *stats[1].shape(), survey.correlation[channel]])


def optical_features(values: dict[str, np.ndarray], inner: tuple[slice, slice]) -> np.ndarray:
    """(rows, cols, OPTICAL_SIZE) float32 of the inner part of the water indices.

    As they are: their zero means something, and an index has no scale. (In the scene's own terms
    they scored lower on held-back events.)
    """
    found = [_three(box(values[channel][0], size), box(values[channel][1], size))
             for channel in OPTICAL for size in _COARSE]
    return _table([plane[inner] for group in found for plane in group], [])


def _standard(values: np.ndarray, stats: Stats) -> np.ndarray:
    return np.clip((values - stats.median) / stats.spread, -_LIMIT, _LIMIT).astype(np.float32)


def _in_classes(standard: np.ndarray, stats: Stats) -> np.ndarray:
    """Standardised values as distance from the cut, in half distances of the two classes."""
    threshold = stats.cut.threshold if stats.cut else stats.median
    return np.clip((standard * stats.spread + stats.median - threshold) / stats.gap * 2,
                   -_LIMIT, _LIMIT)


def _three(before: np.ndarray, during: np.ndarray) -> list[np.ndarray]:
    return [during, before, during - before]


def _table(planes: list[np.ndarray], whole: list[float]) -> np.ndarray:
    """Planes and numbers of the whole scene side by side."""
    shape = planes[0].shape
    table = np.empty((*shape, len(planes) + len(whole)), np.float32)
    for k, plane in enumerate(planes):
        table[..., k] = plane
    table[..., len(planes):] = whole
    return table
