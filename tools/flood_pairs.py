"""What the flood head is trained on: OMBRIA's training events, and pairs in which nothing was
flooded, some of them with water planted."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from flood_sets import Chip, ombria, polders, still_pair  # noqa: E402

GROUPS, SEED = 4, 0
#: Last ids of the runs of neighbouring chips that look like one event, and the group of each.
RUNS = ((20, 0), (107, 1), (132, 0), (257, 2), (268, 0), (330, 3))
STILL_EVERY = 3  # chips of OMBRIA for one that is also shown beside itself
STILL_DATES = 20  # pairs of dates of the series of fields in each group
STILL_LAG = 20  # dates that they are apart at most
PLANTED, BESIDE = "planted", "beside itself"
#: Backscatter (dB) of open water that is planted, and how much it differs from scene to scene.
WATER, WATER_SPREAD = {"vv": -18.5, "vh": -25.5}, 1.5


@dataclass(frozen=True, eq=False)
class Pair:
    """A chip, the group it is held back with, and what kind of still pair it is: "" for none,
    PLANTED for one with a flood that was put there, which is trained on and not judged by."""

    chip: Chip
    group: int
    still: str = ""


def training_pairs(shared: Path) -> tuple[list[Pair], list[list[Pair]]]:
    """All pairs of radar, of which some have optical images too; and the still dates in VV and in
    VH, which are the last of them."""
    flooded = [Pair(chip, _group(chip)) for chip in ombria(shared, "train")]
    dates = still_dates(polders(shared))
    rng = np.random.default_rng(SEED)
    wet = [planted(pair, rng) for pair in (*dates[0], *dates[1])]
    return [*flooded, *still_chips(flooded), *wet, *dates[0], *dates[1]], dates


def beside_itself(chip: Chip, rng: np.random.Generator) -> Chip:
    """The chip's first date twice, as if seen on two days: each with noise of its own, one a pixel
    aside at most, one wetter here and drier there."""
    values = {}
    row, col = rng.integers(-1, 2, 2)
    for channel, (before, _) in chip.values.items():
        spread = np.nanstd(before)
        noise = gaussian_filter(rng.normal(size=(2, *before.shape)), (0, 0.6, 0.6))
        wet = gaussian_filter(rng.normal(size=before.shape), rng.uniform(5, 40))
        twice = np.stack([before, np.roll(before, (row, col), (0, 1))])
        twice += spread * rng.uniform(0.1, 0.6) * noise / noise.std()
        twice[1] += spread * rng.uniform(0, 0.5) * wet / wet.std()
        values[channel] = twice.astype(np.float32)
    return Chip(chip.name, values, np.zeros_like(chip.truth), chip.judged)


def still_chips(pairs: list[Pair]) -> list[Pair]:
    """Some chips beside themselves, in the groups of their events."""
    rng = np.random.default_rng(SEED)
    return [Pair(beside_itself(pair.chip, rng), pair.group, BESIDE)
            for pair in pairs[::STILL_EVERY]]


def still_dates(dates: list[np.ndarray]) -> list[list[Pair]]:
    """Pairs of dates of a series in VV, and the same in VH; the year's quarters are groups."""
    rng = np.random.default_rng(SEED)
    found: list[list[Pair]] = [[], []]
    for group, part in enumerate(np.array_split(np.arange(len(dates)), GROUPS)):
        for _ in range(STILL_DATES):
            lag = int(rng.integers(1, STILL_LAG + 1))
            first = int(part[0] + rng.integers(len(part) - lag))
            second = first + lag
            for channel, name in enumerate(("VV", "VH")):
                found[channel].append(
                    Pair(still_pair(dates[first], dates[second], channel), group, name))
    return found


def planted(pair: Pair, rng: np.random.Generator) -> Pair:
    """A still pair with water of about the backscatter of calm water put into its second date, so
    that decibels do not come to mean dry, and into every second pair a lake on both dates."""
    chip = pair.chip
    channel, values = next(iter(chip.values.items()))
    shape = chip.truth.shape
    lake = _shape_of_water(shape, 0.4, rng) & bool(rng.integers(2))
    wet = _shape_of_water(shape, 0.6, rng) & ~lake
    level = rng.normal(WATER[channel], WATER_SPREAD)
    filled = []
    for date, water in zip(values, (lake, lake | wet), strict=True):
        speckle = gaussian_filter(rng.normal(size=shape), 0.5)
        surface = level + 1.2 * speckle / speckle.std()
        filled.append(np.where(water, np.minimum(date, surface), date))
    return Pair(Chip(chip.name, {channel: np.stack(filled).astype(np.float32)}, wet, chip.judged),
                pair.group, PLANTED)


def _shape_of_water(shape: tuple[int, int], most: float, rng: np.random.Generator) -> np.ndarray:
    """(rows, cols) bool: smooth patches that fill at most a share of a chip."""
    form = gaussian_filter(rng.normal(size=shape), rng.uniform(1.5, 5))
    return form > np.quantile(form, 1 - rng.uniform(0.05, most))


def _group(chip: Chip) -> int:
    return next(group for last, group in RUNS if int(chip.name) <= last)
