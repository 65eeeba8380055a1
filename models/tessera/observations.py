"""What TESSERA sees of a pixel's year: coding, standardisation and choice of observations.

NumPy only. The networks have no mask, so that padded duplicates count: the official weights give
the official embeddings only with exactly these rules (arXiv 2506.20380, 2607.03949; the rules of
each version follow the authors' inference code).

Frames of one sensor: (T, bands, N), N pixels. Sequences, the network's input: (n, length,
bands + 1), standardised bands and then the raw day of year; zeros with day 0 for a missing sensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..cube import Batch, Batches

# The order of the bands is part of the weights: B04 B02 B03 B08 B8A B05 B06 B07 B11 B12.
S2_BANDS = (
    "red", "blue", "green", "nir", "nir08",
    "rededge071", "rededge075", "rededge078", "swir16", "swir22",
)  # fmt: skip
S1_BANDS = ("vv", "vh")
BASELINE_0400 = np.datetime64("2022-01-25")  # Sentinel-2 DN of later days carry an offset of 1000
OFFSET = 1000
EMPTY_ORBIT_DAY = 180


# --- standardisation ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statistics:
    """Means and standard deviations: Sentinel-2 DN in the order of S2_BANDS, coded VV and VH."""

    s2_mean: tuple[float, ...]
    s2_std: tuple[float, ...]
    ascending_mean: tuple[float, float]
    ascending_std: tuple[float, float]
    descending_mean: tuple[float, float]
    descending_std: tuple[float, float]


_V2_S2 = (
    (1633.0042, 1341.1090, 1539.5536, 3054.8269, 3117.4658,
     2004.1648, 2694.7275, 2945.1504, 2266.6079, 1657.3094),
    (1999.4603, 2014.7549, 1929.2201, 1754.2493, 1649.9807,
     1936.8988, 1748.6041, 1708.6991, 1207.5250, 1108.6046),
)  # fmt: skip

STATISTICS = {
    "v1.0": Statistics(
        (1711.0938, 1308.8511, 1546.4543, 3010.1293, 3106.5083,
         2068.3044, 2685.0845, 2931.5889, 2514.6928, 1899.4922),
        (1926.1026, 1862.9751, 1803.1792, 1741.7837, 1677.4543,
         1888.7862, 1736.3090, 1715.8104, 1514.5199, 1398.4779),
        (5484.0407, 3003.7812), (1871.2334, 1726.0670),
        (5484.0407, 3003.7812), (1871.2334, 1726.0670),
    ),
    "v1.1-mpc": Statistics(
        (2683.4553, 2223.3630, 2432.0950, 3633.1970, 3602.1755,
         3006.4324, 3400.2710, 3515.6392, 2456.9163, 1983.8783),
        (2739.5217, 2846.2993, 2690.8250, 2290.0439, 2088.8970,
         2673.1106, 2381.4521, 2229.5225, 1601.0942, 1495.3545),
        (5588.3291, 3025.6270), (1713.4646, 1693.0471),
        (5552.9683, 2955.0520), (1685.5857, 1677.6414),
    ),
    "v1.1-aws": Statistics(
        (2793.6589, 2356.7776, 2551.0496, 3741.9229, 3713.7844,
         3120.1997, 3516.3342, 3637.0342, 2501.0283, 2038.1504),
        (2810.0093, 2933.8835, 2755.6360, 2344.5027, 2145.7986,
         2743.9019, 2438.8601, 2286.5977, 1680.7367, 1585.5529),
        (5697.0859, 2838.6687), (1671.3737, 1789.4116),
        (5759.1367, 2873.2854), (1583.2858, 1747.8390),
    ),
    "v2-student": Statistics(
        *_V2_S2,
        (5909.3921, 3405.0322), (1507.1750, 1531.2615),
        (5816.1382, 3277.7576), (1554.6475, 1546.4733),
    ),
    "v2-teacher": Statistics(  # one set for both orbits
        *_V2_S2,
        (5862.7652, 3341.3949), (1531.8051, 1540.2014),
        (5862.7652, 3341.3949), (1531.8051, 1540.2014),
    ),
}  # fmt: skip


# --- units ----------------------------------------------------------------------------------------


def code_power(power: np.ndarray) -> np.ndarray:
    """Backscatter as linear power to the int16 code that the weights were trained on.

    The authors apply the formula of amplitudes, 20 log10, to powers and keep it so: in decibels
    (10 log10) of power the code is (2 dB + 50) * 200. 0 means missing.
    """
    power = np.asarray(power)
    usable = np.isfinite(power) & (power > 0)
    return _code(10.0 * np.log10(np.where(usable, power, 1.0)), usable)


def code_decibel(decibel: np.ndarray) -> np.ndarray:
    """Backscatter in dB (10 log10 of power) to the same int16 code; NaN and below -25 dB to 0."""
    return _code(np.asarray(decibel), np.isfinite(decibel))


def _code(decibel: np.ndarray, usable: np.ndarray) -> np.ndarray:
    code = (2.0 * np.where(usable, decibel, 0.0) + 50.0) * 200.0
    return np.where(usable, np.clip(code, 0, 32767), 0).astype(np.int16)  # astype truncates


def harmonise(dn: np.ndarray, dates: np.ndarray, source: str = "mpc") -> np.ndarray:
    """Sentinel-2 DN of any processing baseline to the convention before baseline 04.00.

    Args:
        dn: (T, ...) surface reflectance * 10000.
        dates: (T,) datetime64.
        source: "mpc" if later days still carry the offset, "aws" if it was already removed.

    Returns:
        DN with 1000 subtracted from values of at least 1000 on days after 2022-01-25. Values below
        stay, a quirk that the weights were trained with.
    """
    if source not in ("mpc", "aws"):
        raise ValueError(f"Sentinel-2 source '{source}' is unknown to TESSERA, use 'mpc' or 'aws'")
    if source == "aws":
        return dn
    late = np.asarray(dates) > BASELINE_0400
    late = late.reshape(late.shape + (1,) * (dn.ndim - late.ndim))
    return np.where(late & (dn >= OFFSET), dn - np.asarray(OFFSET, dn.dtype), dn)


# --- frames ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frames:
    """All frames of one sensor over N pixels, in the order in which a network reads them."""

    values: np.ndarray  # (T, bands, N), DN or coded backscatter
    valid: np.ndarray  # (T, N) bool
    days: np.ndarray  # (T,) float32, day of year
    mean: np.ndarray  # (T, bands) float32
    std: np.ndarray  # (T, bands) float32

    @property
    def counts(self) -> np.ndarray:
        """(N,) valid frames of each pixel."""
        return self.valid.sum(axis=0)

    def take(self, pixels: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """The sequences of n pixels.

        Args:
            pixels: (n,) indices of pixels.
            frames: (n, length) indices of frames, for each of these pixels.

        Returns:
            (n, length, bands + 1) float32, standardised, with the day of year last.
        """
        values = self.values[frames, :, pixels[:, None]].astype(np.float32)
        sequence = np.empty((*frames.shape, values.shape[-1] + 1), np.float32)
        sequence[..., :-1] = (values - self.mean[frames]) / (self.std[frames] + np.float32(1e-9))
        sequence[..., -1] = self.days[frames]
        return sequence


def optical_frames(
    dn: np.ndarray, clear: np.ndarray, days: np.ndarray, statistics: Statistics
) -> Frames:
    """Sentinel-2: dn (T, 10, N) in the order of S2_BANDS, clear (T, N), days (T,)."""
    mean = np.tile(np.float32(statistics.s2_mean), (len(days), 1))
    std = np.tile(np.float32(statistics.s2_std), (len(days), 1))
    return Frames(dn, clear.astype(bool), np.asarray(days, np.float32), mean, std)


def radar_frames(
    ascending: np.ndarray,
    ascending_days: np.ndarray,
    descending: np.ndarray,
    descending_days: np.ndarray,
    statistics: Statistics,
    fill_empty_orbit: bool = False,
) -> Frames:
    """Sentinel-1: every ascending frame, then every descending one, in their own statistics.

    Args:
        ascending, descending: (T, 2, N) coded VV and VH; T may be 0. A frame counts where either
            is not 0.
        ascending_days, descending_days: (T,) days of year.
        statistics: of the weights in use.
        fill_empty_orbit: replace an orbit without frames by one of zeros on day 180, as v1.0 QAT.
    """
    orbits = [(ascending, ascending_days), (descending, descending_days)]
    if fill_empty_orbit:
        orbits = [
            (values, days)
            if len(values)
            else (np.zeros((1, *values.shape[1:]), values.dtype), [EMPTY_ORBIT_DAY])
            for values, days in orbits
        ]
    values = np.concatenate([values for values, _ in orbits])
    days = np.concatenate([np.asarray(days, np.float32) for _, days in orbits])
    descends = np.repeat([0, 1], [len(values) for values, _ in orbits])
    mean = np.float32([statistics.ascending_mean, statistics.descending_mean])[descends]
    std = np.float32([statistics.ascending_std, statistics.descending_std])[descends]
    return Frames(values, (values != 0).any(axis=1), days, mean, std)


# --- observation selection of v1.1 and v2 ---------------------------------------------------------


def resample(count: int, length: int) -> np.ndarray:
    """v1.1: (length,) indices into `count` valid observations.

    Fewer: the middle of each of `length` nearly equal chunks. More: all, and then extras at evenly
    spaced positions.
    """
    if length <= count:
        return _chunk_middles(count, length)
    extras = np.linspace(0, count - 1, length - count + 2)[1:-1]
    return np.concatenate([np.arange(count), np.rint(extras).astype(np.int64)])


def pad(count: int, length: int) -> np.ndarray:
    """v2: (length,) indices into `count` valid observations; other extras than v1.1's."""
    if count >= length:
        return np.linspace(0, count - 1, length).astype(np.int64)
    extra = length - count
    extras = _chunk_middles(count, extra) if extra <= count else np.arange(extra) % count
    return np.concatenate([np.arange(count), extras])


def _chunk_middles(count: int, chunks: int) -> np.ndarray:
    """Element len // 2 of each of `chunks` chunks of 0..count-1, the first ones longer by one."""
    size, longer = divmod(count, chunks)
    index = np.arange(chunks)
    sizes = size + (index < longer)
    return index * size + np.minimum(index, longer) + sizes // 2


@dataclass(frozen=True)
class Selection:
    """How a version turns any number of valid observations into few lengths of sequences."""

    bins: tuple[int, ...]  # lengths, ascending; a count is rounded up, and capped at the last
    indices: Callable[[int, int], np.ndarray]  # (count, length) -> (length,)
    none: int  # bin of a sensor without any valid observation; 0 is a single row of zeros

    def bin(self, counts: np.ndarray) -> np.ndarray:
        """(N,) counts of valid observations to (N,) bins."""
        bins = np.asarray(self.bins)
        found = bins[np.minimum(np.searchsorted(bins, counts), len(bins) - 1)]
        return np.where(np.asarray(counts) == 0, self.none, found)

    def capped(self, most: int) -> Selection:
        """The same with sequences of at most `most` observations, for speed."""
        bins = tuple(b for b in self.bins if b <= most)
        if not bins:
            raise ValueError(f"TESSERA needs at least {self.bins[0]} observations, not {most}")
        return Selection(bins, self.indices, self.none)


BINS = tuple(range(8, 257, 8))
V1_1 = Selection(BINS, resample, none=BINS[0])
V2 = Selection(BINS, pad, none=0)


def sequences(frames: Frames, pixels: np.ndarray, length: int, selection: Selection) -> np.ndarray:
    """The sequences of pixels of one bin.

    Args:
        frames: of one sensor.
        pixels: (n,) indices of pixels.
        length: their bin; 0 gives one row.
        selection: of the version.

    Returns:
        (n, max(length, 1), bands + 1) float32; zeros with day 0 for pixels without observations.
    """
    bands = frames.values.shape[1]
    sequence = np.zeros((len(pixels), max(length, 1), bands + 1), np.float32)
    valid = frames.valid[:, pixels]
    counts = valid.sum(axis=0)
    seen = np.flatnonzero(counts)
    if not len(seen):
        return sequence
    order = np.argsort(~valid[:, seen], axis=0, kind="stable").T  # (n, T), valid frames first
    distinct, kind = np.unique(counts[seen], return_inverse=True)
    table = np.stack([selection.indices(int(count), length) for count in distinct])
    chosen = np.take_along_axis(order, table[kind], axis=1)
    sequence[seen] = frames.take(pixels[seen], chosen)
    return sequence


def rectangular(s2: Frames, s1: Frames, selection: Selection, size: int) -> Batches:
    """Group pixels by their bins, so that every batch is rectangular.

    Args:
        s2, s1: frames over the same N pixels.
        selection: V1_1, V2 or one of their own bins.
        size: most pixels a batch.

    Yields:
        Batches with inputs `s2` (n, T2, 11) and `s1` (n, T1, 3), pixels ascending within a group.
        A pixel with neither sensor is left out where `selection` knows a bin for nothing (v2).
    """
    bins = np.stack([selection.bin(s2.counts), selection.bin(s1.counts)], axis=1)
    groups, group = np.unique(bins, axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    for (length2, length1), pixels in zip(
        groups, np.split(order, np.cumsum(np.bincount(group.reshape(-1)))[:-1])
    ):
        if length2 == length1 == 0:
            continue
        for start in range(0, len(pixels), size):
            some = pixels[start : start + size]
            yield Batch(
                some,
                {
                    "s2": sequences(s2, some, int(length2), selection),
                    "s1": sequences(s1, some, int(length1), selection),
                },
            )


# --- observation selection of v1.0, and of every pretraining --------------------------------------


def draw(valid: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """v1.0: a random choice of frames for each pixel, in their order in time.

    Args:
        valid: (T, N) bool. A pixel without valid frames draws from all.
        size: frames to draw, 40 in the official weights; with replacement only if there are fewer.
        rng: the choice is repeated with the same seed.

    Returns:
        (N, size) ascending indices of frames.
    """
    if not len(valid):
        raise ValueError("TESSERA v1.0 cannot draw observations from a sensor without any frame")
    allowed = valid.T | ~valid.any(axis=0)[:, None]
    counts = allowed.sum(axis=1)
    chosen = np.empty((len(allowed), size), np.int64)
    enough = counts >= size
    if enough.any():
        # Random keys in 0..1 for valid frames, 2 for others: the smallest are a random subset.
        keys = np.where(allowed[enough], rng.random((enough.sum(), len(valid))), 2.0)
        chosen[enough] = np.argsort(keys, axis=1)[:, :size]
    if not enough.all():
        few = ~enough
        order = np.argsort(~allowed[few], axis=1, kind="stable")
        again = (rng.random((few.sum(), size)) * counts[few, None]).astype(np.int64)
        chosen[few] = np.take_along_axis(order, again, axis=1)
    return np.sort(chosen, axis=1)


def drawn(
    s2: Frames,
    s1: Frames,
    length: int,
    size: int,
    rng: np.random.Generator,
    skip_black: bool = False,
) -> Batches:
    """Batches of v1.0, every sequence `length` random observations long.

    `skip_black` leaves out pixels whose Sentinel-2 values are all zero, as the QAT pipeline does.
    """
    wanted = np.ones(s2.values.shape[2], bool)
    if skip_black:
        wanted = (s2.values != 0).any(axis=(0, 1))
    pixels = np.flatnonzero(wanted)
    for start in range(0, len(pixels), size):
        some = pixels[start : start + size]
        inputs = {
            name: frames.take(some, draw(frames.valid[:, some], length, rng))
            for name, frames in (("s2", s2), ("s1", s1))
        }
        yield Batch(some, inputs)
