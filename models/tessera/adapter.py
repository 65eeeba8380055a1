"""The engine's way into TESSERA: windows of a stack to network inputs, embeddings to int8.

NumPy and Numba. The rules of what the network sees are in `observations.py`; here they run compiled
over the pixels of a window, since in plain NumPy they would cost more than a small network.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube, Series
from ..timegrid import compiled
from .observations import (
    BASELINE_0400,
    OFFSET,
    S1_BANDS,
    S2_BANDS,
    STATISTICS,
    V1_1,
    V2,
    Frames,
    Selection,
    Statistics,
    optical_frames,
    radar_frames,
)

BUNDLED = V2.capped(16)  # what `tessera-student` takes


def _drawn(count: int, length: int) -> np.ndarray:
    """v1.0: (length,) random indices into `count` valid observations, ascending.

    The authors draw for each pixel anew; one draw for all pixels with as many observations keeps
    a pixel's embedding the same whatever lies around it.
    """
    chosen = np.random.default_rng(count).choice(count, length, replace=count < length)
    return np.sort(chosen)


V1_0 = Selection((40,), _drawn, none=40)
DEFAULT = "v2-student"
_RULES = {  # `Card.variant` to the weights' statistics and choice of observations
    "v1.0-early": (STATISTICS["v1.0"], V1_0),
    "v1.0-qat": (STATISTICS["v1.0"], V1_0),
    "v1.1-mpc": (STATISTICS["v1.1-mpc"], V1_1),
    "v1.1-aws": (STATISTICS["v1.1-aws"], V1_1),
    "v2-student": (STATISTICS["v2-student"], V2),
    "v2-teacher": (STATISTICS["v2-teacher"], V2),
}
_OBSERVATIONS = 8192  # of a batch: what the network makes of them stays in the processor's cache

# --- the engine's windows -------------------------------------------------------------------------


def missing(sensors: dict[str, tuple[str, ...]], card: Card | None = None) -> list[str]:
    """Sentences that say why a stack with these sensors and bands cannot be encoded; else empty.

    One sensor is enough unless the card says otherwise, but of a sensor that is there every band
    is needed.
    """
    needs = (("sentinel-2", "Sentinel-2", S2_BANDS), ("sentinel-1", "Sentinel-1", S1_BANDS))
    if not any(sensor in sensors for sensor, _, _ in needs):
        found = "; ".join(f"{name}: {', '.join(bands)}" for name, bands in sensors.items())
        lacking = [b for b in S2_BANDS if not any(b in bands for bands in sensors.values())]
        which = f"; of its ten bands {', '.join(lacking)} are missing" if lacking else ""
        return [
            f"TESSERA needs Sentinel-2 or Sentinel-1 scenes; the stack has {found or 'nothing'}"
            f"{which}. Add such scenes, or use the encoder 'fast'."
        ]
    needed = [s.sensor for s in card.sensors if not s.optional] if card else []
    return [
        f"{card.name} needs {name} scenes, which the stack lacks. Add some."
        for sensor, name, _ in needs
        if sensor in needed and sensor not in sensors
    ] + [
        f"TESSERA needs all its {name} bands; {', '.join(lacking)} "
        f"{'is' if len(lacking) == 1 else 'are'} missing in the stack. Add "
        f"{'it' if len(lacking) == 1 else 'them'}, or use the encoder 'fast'."
        for sensor, name, bands in needs
        if sensor in sensors and (lacking := [b for b in bands if b not in sensors[sensor]])
    ]


def rules_of(card: Card | None) -> tuple[Statistics, Selection]:
    """The statistics and the choice of observations that a card's variant names.

    Raises:
        ValueError: if there is no such variant.
    """
    name = card.variant if card and card.variant else DEFAULT
    if name not in _RULES:
        raise ValueError(
            f"The encoder {card.name} asks for the rules of '{name}', but TESSERA's adapter knows "
            f"{', '.join(_RULES)}: import the checkpoint again."
        )
    return _RULES[name]


def selection_of(card: Card) -> Selection:
    """The weights' choice of observations, capped where the card says how many it takes."""
    most, selection = max(sensor.most for sensor in card.sensors), rules_of(card)[1]
    return selection.capped(most) if most else selection


def batches(
    cube: Cube,
    size: int,
    card: Card | None = None,
    *,
    statistics: Statistics | None = None,
    selection: Selection | None = None,
) -> Batches:
    """Network inputs for the pixels of a window that have a valid observation.

    Args:
        cube: a window of a stack; one calendar year is what the weights know.
        size: most pixels a batch; long sequences make smaller batches.
        card: of the encoder; without one it is the bundled `tessera-student`.
        statistics: of the weights in use, if they are not what the card says.
        selection: of the weights in use, if it is not what the card says.

    Yields:
        Batches with inputs `s2` (n, T2, 11) and `s1` (n, T1, 3), pixels ascending within one pair
        of lengths.
    """
    selection = selection or (selection_of(card) if card else BUNDLED)
    early = card is not None and card.variant.startswith("v1.0")
    fill = card is not None and card.variant == "v1.0-qat"
    frames = cube_frames(cube, statistics or rules_of(card)[0], fill)
    counts = [f.counts for f in frames]
    pixels = np.flatnonzero(counts[0] + counts[1])
    if early:
        frames = [_with_masked(f) for f in frames]
        counts = [f.counts for f in frames]
    bins = [selection.bin(c) for c in counts]
    pair = (bins[0] * (max(selection.bins) + 1) + bins[1])[pixels]
    tables: dict[int, np.ndarray] = {}
    for kind in np.unique(pair):
        group = pixels[pair == kind]
        lengths = [int(b[group[0]]) for b in bins]
        some = max(1, min(size, _OBSERVATIONS // sum(max(length, 1) for length in lengths)))
        for start in range(0, len(group), some):
            part = group[start : start + some]
            inputs = {
                name: _sequences(f, part, length, _table(tables, f, length, selection))
                for name, f, length in zip(("s2", "s1"), frames, lengths, strict=True)
            }
            yield Batch(part, inputs)


def _with_masked(frames: Frames) -> Frames:
    """v1.0: of a pixel without a valid frame all of them are taken."""
    return replace(frames, valid=frames.valid | ~frames.valid.any(axis=0))


def _table(
    tables: dict[int, np.ndarray], frames: Frames, length: int, selection: Selection
) -> np.ndarray:
    """(T + 1, length) indices into the valid frames for each count of them; row 0 is not used."""
    known = tables.get(length)
    if known is None or len(known) <= len(frames.days):
        rows = [selection.indices(max(count, 1), length) for count in range(len(frames.days) + 1)]
        known = tables[length] = np.stack(rows)
    return known


def _sequences(frames: Frames, pixels: np.ndarray, length: int, table: np.ndarray) -> np.ndarray:
    """`observations.sequences`, compiled."""
    bands = frames.values.shape[1]
    out = np.zeros((len(pixels), max(length, 1), bands + 1), np.float32)
    if length and len(frames.days):
        spread = frames.std + np.float32(1e-9)
        _gather(frames.values, frames.valid, frames.days, frames.mean, spread, pixels, table, out)
    return out


def cube_frames(
    cube: Cube, statistics: Statistics, fill_empty_orbit: bool = False
) -> tuple[Frames, Frames]:
    """Frames of Sentinel-2 and Sentinel-1 of a window; a sensor that is absent has no frames.

    With `fill_empty_orbit` an orbit of Sentinel-1 without frames has one of zeros, as in v1.0 QAT.
    Sentinel-1 scenes of unknown orbit are read as ascending ones.
    """
    pixels = cube.shape[0] * cube.shape[1]
    s2 = cube.series.get("sentinel-2")
    dn, clear, days = np.zeros((0, 10, pixels), np.int16), np.zeros((0, pixels), bool), np.zeros(0)
    if s2 is not None:
        values, valid, days, dates = _dated(s2)
        dn, clear = np.empty((len(dates), 10, pixels), np.int16), valid.copy()
        order = np.array([s2.bands.index(band) for band in S2_BANDS])
        _digital_numbers(values, order, dates > BASELINE_0400, dn, clear)
    optical = optical_frames(dn, clear, days, statistics)
    orbits = dict.fromkeys(("up", "down"), (np.zeros((0, 2, pixels), np.int16), np.zeros(0)))
    s1 = cube.series.get("sentinel-1")
    if s1 is not None:
        values, valid, days, dates = _dated(s1)
        code = np.empty((len(dates), 2, pixels), np.int16)
        order = np.array([s1.bands.index(band) for band in S1_BANDS])
        _backscatter(values, valid, order, code)
        down = np.array([o == "descending" for o in s1.orbits], bool)[~np.isnat(s1.dates)]
        orbits = {"up": (code[~down], days[~down]), "down": (code[down], days[down])}
    radar = radar_frames(*orbits["up"], *orbits["down"], statistics, fill_empty_orbit)
    return optical, radar


def _dated(series: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values (T, B, N), valid (T, N), days of year and dates of the frames with a date."""
    dated = ~np.isnat(series.dates)
    dates = series.dates[dated].astype("datetime64[D]")
    values, valid = series.values, series.valid
    if not dated.all():
        values, valid = values[dated], valid[dated]
    pixels = valid.shape[1] * valid.shape[2]
    values = np.ascontiguousarray(values, np.float32)
    values = values.reshape(len(dates), len(series.bands), pixels)
    valid = np.ascontiguousarray(valid, np.bool_).reshape(len(dates), pixels)
    days = (dates - dates.astype("datetime64[Y]")).astype(np.int64) + 1
    return values, valid, days, dates


@compiled
def _digital_numbers(
    values: np.ndarray, order: np.ndarray, late: np.ndarray, dn: np.ndarray, clear: np.ndarray
) -> None:
    """Reflectances (T, B, N) to DN (T, 10, N); `clear` (T, N) loses pixels with a gap in a band.

    DN below 0 only days with an offset can have; the weights know such values without it removed.
    """
    zero, offset = np.float32(0.0), np.float32(OFFSET)
    for t in range(len(values)):
        shift = offset if late[t] else zero
        seen = clear[t]
        for k in range(len(order)):
            row, out = values[t, order[k]], dn[t, k]
            for i in range(len(row)):
                finite = row[i] * zero == zero
                number = np.rint(row[i] * np.float32(10000)) if finite else zero
                number += shift if number < zero else zero
                out[i] = np.int16(min(max(number, np.float32(-32768)), np.float32(32767)))
                seen[i] &= finite


@compiled
def _backscatter(
    values: np.ndarray, valid: np.ndarray, order: np.ndarray, code: np.ndarray
) -> None:
    """`observations.code_decibel` of dB (T, B, N) into (T, 2, N), 0 where not valid."""
    zero = np.float32(0.0)
    for t in range(len(values)):
        for k in range(len(order)):
            row, out = values[t, order[k]], code[t, k]
            for i in range(len(row)):
                usable = valid[t, i] and row[i] * zero == zero
                level = (np.float32(2) * row[i] + np.float32(50)) * np.float32(200)
                level = min(max(level, zero), np.float32(32767)) if usable else zero
                out[i] = np.int16(level)


@compiled
def _gather(
    values: np.ndarray,
    valid: np.ndarray,
    days: np.ndarray,
    mean: np.ndarray,
    spread: np.ndarray,
    pixels: np.ndarray,
    table: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the standardised sequences (n, length, bands + 1) of pixels with valid frames."""
    frames, bands, _ = values.shape
    found = np.empty(frames, np.int64)
    for i in range(len(pixels)):
        p, count = pixels[i], 0
        for t in range(frames):
            found[count] = t
            count += valid[t, p]
        if count:
            for j in range(out.shape[1]):
                t = found[table[count, j]]
                for b in range(bands):
                    out[i, j, b] = (np.float32(values[t, b, p]) - mean[t, b]) / spread[t, b]
                out[i, j, bands] = days[t]


# --- quantised embeddings -------------------------------------------------------------------------


def quantise_v1(embedding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., d) float32 to int8 codes (..., d) and scales (...,): embedding = codes * scales."""
    embedding = np.asarray(embedding, np.float32)
    scale = np.maximum(np.abs(embedding).max(axis=-1) / np.float32(127), np.float32(1e-8))
    codes = np.clip(np.rint(embedding / scale[..., None]), -128, 127)
    return codes.astype(np.int8), scale


def quantise_v2(embedding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same as v2 stores it: another floor of the scale, and no code -128."""
    embedding = np.asarray(embedding, np.float32)
    scale = np.maximum(np.abs(embedding).max(axis=-1), np.float32(1e-12)) / np.float32(127)
    codes = np.clip(np.rint(embedding / scale[..., None]), -127, 127)
    return codes.astype(np.int8), scale


def dequantise(codes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Codes (..., d) and scales (...,) back to float32 embeddings."""
    return codes.astype(np.float32) * np.asarray(scale, np.float32)[..., None]
