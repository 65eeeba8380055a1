"""Change vectors: how far the bands of a pixel moved, in units of what unchanged ground moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from ...models.cube import Series
from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Window
from ..rasters.legend import Legend, LegendClass
from ..rasters.margins import grown
from ..rasters.overlap import within
from ..rasters.sampling import even_places
from ..rasters.styles import INFERNO, Ramp
from ..stacks.reading import StackReader
from ..stacks.sensors import RADAR, TITLES
from ..stacks.stack import Stack
from .decision import NOTHING, UNKNOWN, Decision, Found, as_they_are, automatic_cut
from .indices import NIR
from .normalisation import Normalisation, normalise

UNCHANGED = LegendClass(0, "unchanged", "#dddddd")
LEGEND = Legend((UNCHANGED, LegendClass(1, "changed", "#d55e00")))
OPTICAL = ("sentinel-2", "landsat", "cbers", "modis", "optical", "aerial")
_SAMPLE = 40_000
_BOX = 3  # pixels a side that are averaged: neighbours of a change changed, neighbours' noise not


@dataclass(frozen=True)
class Group:
    """Bands that both dates have, of one kind of sensor.

    Attributes:
        sensors: before and after.
        bands: (before, after) names of each.
    """

    sensors: tuple[str, str]
    bands: tuple[tuple[str, str], ...]

    @property
    def radar(self) -> bool:
        """Whether the bands are backscatter in dB."""
        return self.sensors[0] == "sentinel-1"

    @property
    def title(self) -> str:
        """In words."""
        first, second = (TITLES[s] for s in self.sensors)
        names = ", ".join(a.upper() if self.radar else a for a, _ in self.bands)
        return f"{first if first == second else f'{first} and {second}'} ({names})"


def groups_of(before: Stack, after: Stack) -> tuple[Group, ...]:
    """What can be compared: radar with radar, optical bands of the same name.

    Two optical sensors are compared by their common names, of one sensor where both dates have
    it; near infrared is near infrared.

    Raises:
        UserError: nothing in common, radar of two orbits.
    """
    first, second = before.sensors(), after.sensors()
    found = []
    if "sentinel-1" in first and "sentinel-1" in second:
        bands = [b for b in first["sentinel-1"] if b in second["sentinel-1"] and b in RADAR]
        if bands:
            _check_orbits(before, after)
            found.append(Group(("sentinel-1",) * 2, tuple((b, b) for b in bands)))
    pairs = [(a, b, _common(first[a], second[b])) for a in OPTICAL for b in OPTICAL
             if a in first and b in second]
    pairs = [(a, b, common) for a, b, common in pairs if common]
    if pairs:
        a, b, common = max(pairs, key=lambda p: (p[0] == p[1], len(p[2])))
        found.append(Group((a, b), common))
    if not found:
        def held(sensors: dict[str, tuple[str, ...]]) -> str:
            return "; ".join(f"{TITLES.get(s, s)} {' '.join(b)}" for s, b in sensors.items())

        raise UserError(f"Before ({held(first)}) and After ({held(second)}) have no band in "
                        "common. Give the same kind of sensor on both dates.")
    return tuple(found)


def _check_orbits(before: Stack, after: Stack) -> None:
    """Radar of another orbit sees the ground from another side; that is no change."""
    for key in ("track", "orbit"):
        first, second = ({getattr(s, key) for s in stack.scenes if s.sensor == "sentinel-1"}
                         - {0, ""} for stack in (before, after))
        if first and second and first.isdisjoint(second):
            one, other = (", ".join(map(str, sorted(k))) for k in (first, second))
            raise UserError(f"The radar images before are of orbit {one}, those after of {other}. "
                            "Choose one orbit.")


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [(b, b) for b in first if b in second]
    if not any(b in NIR for b, _ in pairs):
        one, other = (next((n for n in NIR if n in bands), None) for bands in (first, second))
        if one and other:
            pairs.append((one, other))
    return tuple(pairs)


class VectorDetector:
    """Change vectors of two stacks on one grid; several scenes of a date count by their median.

    Args:
        before, after: stacks with the same grid.
        area: the part of the grid to work on.
        threshold: strength from which a pixel has changed; 1 is the automatic one.
        context: progress, log.

    Raises:
        UserError: nothing in common, no pixel seen on both dates, bands without any spread.
    """

    codes, unmoved, small = len(LEGEND), (0,), 0
    strength = "Strength of change (1 = threshold)"

    def __init__(self, before: Stack, after: Stack, area: Window, threshold: float | None,
                 context: JobContext) -> None:
        self.groups = groups_of(before, after)
        self._area, self.grid = area, after.grid.part(area)
        self._readers = [[StackReader(stack, sensors=(g.sensors[k],),
                                      bands={g.sensors[k]: tuple(p[k] for p in g.bands)})
                          for g in self.groups] for k, stack in enumerate((before, after))]
        self._per_pixel = sum(
            StackReader.bytes_per_pixel(stack, (g.sensors[k],),
                                        {g.sensors[k]: tuple(p[k] for p in g.bands)})
            for k, stack in enumerate((before, after)) for g in self.groups)
        try:
            self.scales, self.cuts, sample = self._survey(context)
        except UserError:
            self.close()
            raise
        given = 1.0 if threshold is None else float(threshold)
        self.decision = Decision.of(sample, given)
        self.sample = sample
        self.ramp = Ramp(INFERNO, 0.0, 3 * max(given, 0.1), "{:.1f}")
        self.tags = {"EARTHPRINT_METHOD": "bands", "EARTHPRINT_THRESHOLD": f"{given:.6f}"}

    def close(self) -> None:
        """Close all files."""
        for readers in self._readers:
            for reader in readers:
                reader.close()

    def side(self, memory_mb: float) -> int:
        """Side of windows within a budget."""
        return window_side(self._per_pixel, memory_mb)

    def values(self, square_metres: np.ndarray) -> tuple[np.ndarray, Legend]:  # noqa: ARG002
        """The codes are the values."""
        return as_they_are(LEGEND)

    def block(self, window: Window) -> Found:
        """Strength, and change where it is above the threshold."""
        strength = self._strength(self._differences(window))
        known = np.isfinite(strength)
        strength = np.where(known, strength, UNKNOWN).astype(np.float32)
        codes = np.where(known, strength > self.decision.cut, NOTHING).astype(np.uint16)
        return Found(strength, codes, self.decision.certainty(strength))

    def _strength(self, lengths: list[np.ndarray]) -> np.ndarray:
        """Root mean square over the groups that saw a pixel, each in units of its own cut."""
        squares = np.stack([(part / cut) ** 2 for part, cut in zip(lengths, self.cuts,
                                                                   strict=True)])
        seen = np.isfinite(squares)
        with np.errstate(invalid="ignore"):
            return np.where(seen.any(0), np.sqrt(np.where(seen, squares, 0).sum(0)
                                                 / np.maximum(seen.sum(0), 1)), np.nan)

    def _differences(self, window: Window) -> list[np.ndarray]:
        """(rows, cols) length of each group's change vectors; NaN where unseen."""
        return [np.linalg.norm(scale.differences(*dates), axis=0)
                for scale, dates in zip(self.scales, self._dates(window), strict=True)]

    def _dates(self, window: Window) -> list[tuple[np.ndarray, np.ndarray]]:
        """(bands, rows, cols) of both dates, of each group."""
        wide, inner = grown(within(window, self._area), _BOX // 2, self._area)
        dates = []
        for g, group in enumerate(self.groups):
            both = []
            for k in range(2):
                series = self._readers[k][g].read(wide).series.get(group.sensors[k])
                both.append(composite(series, tuple(p[k] for p in group.bands), group.radar,
                                      (wide.rows, wide.cols))[:, inner[0], inner[1]])
            dates.append(tuple(both))
        return dates

    def _survey(self, context: JobContext) -> tuple[list[Normalisation], list[float], np.ndarray]:
        """Scales and cuts from an even sample, and the strengths of it."""
        parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in self.groups]
        places = even_places(self.grid.shape, _SAMPLE, 0)
        for k, (window, rows, cols) in enumerate(places):
            context.progress(k / len(places), "Comparing a sample")
            for mine, (first, second) in zip(parts, self._dates(window), strict=True):
                mine.append((first[:, rows, cols], second[:, rows, cols]))
        scales, cuts, lengths = [], [], []
        for group, mine in zip(self.groups, parts, strict=True):
            first, second = (np.concatenate([p[k] for p in mine], 1).astype(np.float64)
                             for k in range(2))
            seen = np.isfinite(first).all(0) & np.isfinite(second).all(0)
            length = np.full(first.shape[1], np.nan)
            try:
                scale = normalise(first[:, seen], second[:, seen],
                                  np.full(len(first), group.radar))
            except ValueError as failure:
                if seen.sum() == 0:
                    raise UserError(f"No pixel of {group.title} was seen on both dates. Choose "
                                    "other dates or another area, or check Cloud mask.") \
                        from failure
                raise UserError(f"{group.title} cannot be compared: {failure}. Choose other "
                                "rasters or a larger area.") from failure
            moved = scale.differences(first[:, seen], second[:, seen])
            length[seen] = np.linalg.norm(moved, axis=0)
            scales.append(scale)
            cuts.append(max(automatic_cut(length[seen]), 1e-6))
            lengths.append(length)
            context.log(f"{group.title}: change from {cuts[-1]:.1f} times what unchanged ground "
                        f"differs by; {100 * (length[seen] > cuts[-1]).mean():.1f} % of "
                        f"{seen.sum()} pixels are above")
        self.cuts = cuts
        strength = self._strength(lengths)
        return scales, cuts, strength[np.isfinite(strength)]


def composite(series: Series | None, bands: tuple[str, ...], radar: bool,
              shape: tuple[int, int]) -> np.ndarray:
    """(bands, rows, cols) float32: the median of all dates, then the mean of 3 x 3 pixels.

    Radar is averaged in amplitude, the dates' median is the same in any unit; NaN where the
    middle pixel was never seen.
    """
    out = np.full((len(bands), *shape), np.nan, np.float32)
    if series is None:
        return out
    for k, band in enumerate(bands):
        values = np.where(series.valid, series.values[:, series.bands.index(band)], np.nan)
        plane = _median(values)
        if radar:
            with np.errstate(divide="ignore"):
                out[k] = 20 * np.log10(box_mean(10 ** (plane / 20)))
        else:
            out[k] = box_mean(plane)
    return out


def _median(values: np.ndarray) -> np.ndarray:
    """(T, rows, cols) with gaps to (rows, cols), NaN where nothing was seen."""
    if len(values) == 1:
        return values[0]
    ordered, count = np.sort(values, axis=0), np.isfinite(values).sum(0)
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count, 1) // 2
    high = np.minimum(high, np.maximum(count - 1, 0))
    pick = [np.take_along_axis(ordered, k[None], 0)[0] for k in (low, high)]
    return (pick[0] + pick[1]) / 2


def box_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the 3 x 3 pixels that have a value; NaN where the middle one has none."""
    known = np.isfinite(values)
    total = uniform_filter(np.where(known, values, 0), _BOX, mode="reflect")
    share = uniform_filter(known.astype(np.float32), _BOX, mode="reflect")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(known, total / share, np.nan)


def window_side(per_pixel: float, memory_mb: float) -> int:
    """Side (pixels) of windows of which three copies stay within a budget."""
    side = math.isqrt(max(int(memory_mb * 1e6 / (3 * max(per_pixel, 1))), 1))
    return max(32, min(side // 32 * 32, 512))
