"""The engine's way into TESSERA: windows of a stack to network inputs, embeddings to int8.

NumPy only. The rules of what the network sees are in `observations.py`.
"""

from __future__ import annotations

import numpy as np

from earthprint.models.cube import Batch, Batches, Cube, Series
from earthprint.models.tessera.observations import (
    BASELINE_0400,
    OFFSET,
    S1_BANDS,
    S2_BANDS,
    STATISTICS,
    V2,
    Frames,
    Selection,
    Statistics,
    code_decibel,
    optical_frames,
    radar_frames,
    rectangular,
)

# --- the engine's windows -------------------------------------------------------------------------


def missing(sensors: dict[str, tuple[str, ...]]) -> list[str]:
    """Sentences that say why a stack with these sensors and bands cannot be encoded; else empty.

    One sensor is enough, but of a sensor that is there every band is needed.
    """
    needs = (("sentinel-2", "Sentinel-2", S2_BANDS), ("sentinel-1", "Sentinel-1", S1_BANDS))
    if not any(sensor in sensors for sensor, _, _ in needs):
        return ["TESSERA needs a year of Sentinel-2 or Sentinel-1 scenes; the stack has neither."]
    return [
        f"TESSERA needs all its {name} bands; {', '.join(lacking)} "
        f"{'is' if len(lacking) == 1 else 'are'} missing in the stack."
        for sensor, name, bands in needs
        if sensor in sensors and (lacking := [b for b in bands if b not in sensors[sensor]])
    ]


def batches(
    cube: Cube,
    size: int,
    latlon: tuple[float, float] | None = None,
    *,
    statistics: Statistics = STATISTICS["v2-student"],
    selection: Selection = V2,
) -> Batches:
    """Network inputs for the pixels of a window, by default for the v2 students.

    Args:
        cube: a window of a stack; one calendar year is what the weights know.
        size: most pixels a batch.
        latlon: not used, TESSERA does not know where a pixel lies.
        statistics: of the weights in use.
        selection: V1_1 or V2, `capped` for speed.

    Yields:
        Batches of the pixels that have a valid observation.
    """
    s2, s1 = cube_frames(cube, statistics)
    seen = (s2.counts > 0) | (s1.counts > 0)
    for batch in rectangular(s2, s1, selection, size):
        keep = seen[batch.pixels]
        if keep.all():
            yield batch
        elif keep.any():
            inputs = {name: values[keep] for name, values in batch.inputs.items()}
            yield Batch(batch.pixels[keep], inputs)


def cube_frames(cube: Cube, statistics: Statistics) -> tuple[Frames, Frames]:
    """Frames of Sentinel-2 and Sentinel-1 of a window; a sensor that is absent has no frames.

    Sentinel-1 scenes of unknown orbit are read as ascending ones.
    """
    pixels = cube.shape[0] * cube.shape[1]
    s2 = cube.series.get("sentinel-2")
    if s2 is None:
        dn, clear, days = np.zeros((0, 10, pixels), np.float32), np.zeros((0, pixels), bool), []
    else:
        values, clear, days, dates = _dated(s2, S2_BANDS)
        dn = np.rint(np.where(np.isfinite(values), values, 0) * 10000)
        # Below 0 only days with an offset can be; the weights know such values without it removed.
        late = (dates > BASELINE_0400)[:, None, None]
        dn = np.where(late & (dn < 0), dn + OFFSET, dn)
    optical = optical_frames(dn, clear, days, statistics)
    orbits = dict.fromkeys(("up", "down"), (np.zeros((0, 2, pixels), np.int16), np.zeros(0)))
    s1 = cube.series.get("sentinel-1")
    if s1 is not None:
        values, seen, days, _ = _dated(s1, S1_BANDS)
        code = np.where(seen[:, None], code_decibel(values), 0)
        down = np.array([o == "descending" for o in s1.orbits], bool)[~np.isnat(s1.dates)]
        orbits = {"up": (code[~down], days[~down]), "down": (code[down], days[down])}
    return optical, radar_frames(*orbits["up"], *orbits["down"], statistics)


def _dated(
    series: Series, bands: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values (T, bands, N), valid (T, N), days of year and dates of the frames with a date."""
    dated = ~np.isnat(series.dates)
    dates = series.dates[dated].astype("datetime64[D]")
    order = [series.bands.index(band) for band in bands]
    values = series.values[dated][:, order].reshape(len(dates), len(bands), -1)
    valid = series.valid[dated].reshape(len(dates), -1)
    if bands == S2_BANDS:
        valid = valid & np.isfinite(values).all(axis=1)
    days = (dates - dates.astype("datetime64[Y]")).astype(np.int64) + 1
    return values, valid, days, dates


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
