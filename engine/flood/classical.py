"""The classical detector: water on both dates by thresholds, flood where it came or fell.

Radar: darker than the threshold during the flood, and either not so before or fallen by a fifth of
the distance between the classes (about 2 dB). Optical: a water index above its threshold, and
not so before. Where both sensors have an answer their probabilities are averaged.

Permanent is what is water on both dates and has not fallen, by a harder test: darker than bare
fields in absolute terms too (`CAPS`), since an image of fields parts into two classes as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .scene import OPTICAL, RADAR, calm
from .survey import CAPS, Stats, Survey
from .thresholds import LEAST_D

_STEEPNESS = 6.0
"""Of the curve from distance to probability: at the middle of a class 0.95."""

_MOST_TRUST = 6.0  # at an Ashman's D of 8 there is no doubt left

LEAST_FALL = 0.2
"""Fall, in distances of the two classes, that makes dark ground flooded that was dark before: less
scores higher on OMBRIA, but then half of a lake's speckle is flood."""


@dataclass(frozen=True)
class Waters:
    """Probabilities 0..1 of a window, (rows, cols) float32, NaN where no sensor has an answer.

    Attributes:
        during: of water during the flood.
        flood: of water that came.
        lasting: of permanent water.
    """

    during: np.ndarray
    flood: np.ndarray
    lasting: np.ndarray


def thresholds(survey: Survey) -> dict[str, tuple[float, float]]:
    """Channel to the thresholds before and during the flood; of the indices the better one.

    A date without two classes of its own takes the other's, since both are calibrated alike.
    """
    found = {}
    index = [c for c in OPTICAL if c in survey.stats][:1]
    for channel in (*(c for c in RADAR if c in survey.stats), *index):
        before, during = survey.stats[channel]
        one = during if during.source != "cap" or before.source == "cap" else before
        found[channel] = (before.threshold if before.source != "cap" else one.threshold,
                          one.threshold)
    return found


def clearest(survey: Survey) -> tuple[str, Stats]:
    """The channel whose image during the flood parts water from land best."""
    return max(((c, survey.stats[c][1]) for c in thresholds(survey)),
               key=lambda pair: (pair[1].source != "cap", pair[1].clearest))


def trust(survey: Survey) -> float:
    """How far apart the two classes are of the clearest image during the flood: Ashman's D beyond
    what makes two classes, 0..6. Fields part too, but less than water from land."""
    stats = clearest(survey)[1]
    distance = np.median([d for _, d in stats.tiles]) if stats.tiles else stats.clearest
    return float(np.clip(distance - LEAST_D, 0, _MOST_TRUST))


def waters(survey: Survey, values: dict[str, np.ndarray], inner: tuple[slice, slice]) -> Waters:
    """Water and flood in the inner part of a window.

    Args:
        survey: thresholds of the whole scene.
        values: channel to (2, rows, cols), at least one pixel wider than the inner part.
        inner: the part that is wanted.
    """
    cuts = thresholds(survey)
    answers = []
    for kind, least_fall in ((RADAR, LEAST_FALL), (OPTICAL, np.inf)):
        channels = [c for c in kind if c in cuts]
        if not channels:
            continue
        evidence = np.mean([_evidence(survey, c, cuts[c], values[c], inner) for c in channels], 0)
        harder = np.mean([_harder(survey, c, cuts[c]) for c in channels], 0)
        during, flood = _flood(evidence, least_fall)
        lasting = _probability((evidence - harder[:, None, None]).min(0))
        answers.append((during, flood, np.minimum(lasting, 1 - flood)))
    return Waters(*(_mean([answer[k] for answer in answers]) for k in range(3)))


def _evidence(survey: Survey, channel: str, cut: tuple[float, float], values: np.ndarray,
              inner: tuple[slice, slice]) -> np.ndarray:
    """(2, rows, cols) distance from the threshold to the water's side, in class distances."""
    smooth = np.stack([calm(date)[inner] for date in values])
    sign = -1 if channel in RADAR else 1
    return np.stack([sign * (v - t) / g
                     for v, t, g in zip(smooth, cut, _gaps(survey, channel), strict=True)])


def _harder(survey: Survey, channel: str, cut: tuple[float, float]) -> list[float]:
    """How far on the land's side of the cap the threshold of each date is, in class distances."""
    sign = -1 if channel in RADAR else 1
    return [max(sign * (CAPS[channel] - t), 0) / g
            for t, g in zip(cut, _gaps(survey, channel), strict=True)]


def _gaps(survey: Survey, channel: str) -> list[float]:
    """Distance of the classes on each date, but 6 dB, or 0.3 of an index, at least; noise alone
    shows less."""
    least = 6.0 if channel in RADAR else 0.3
    return [max(s.gap, least) for s in survey.stats[channel]]


def _flood(evidence: np.ndarray, least_fall: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of water during, and of flood, from (2, rows, cols) evidence."""
    before, during = (_probability(e) for e in evidence)
    fell = _probability(evidence[1] - evidence[0] - least_fall)
    return during, np.minimum(during, np.maximum(1 - before, fell))


def _probability(distance: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-_STEEPNESS * np.clip(distance, -5, 5)))).astype(np.float32)


def _mean(planes: list[np.ndarray]) -> np.ndarray:
    """Mean over the planes that have an answer."""
    stack = np.stack(planes)
    known = np.isfinite(stack)
    total = np.where(known, stack, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan).astype(np.float32)
