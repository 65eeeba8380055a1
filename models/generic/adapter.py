"""A window of a stack to the image of a described ONNX network. NumPy only.

The card names the sensors that will do and their bands in order; what the network wants beside is
part of its graph (`models/importing/described.py`). Of several dates each pixel takes its median.
"""

from __future__ import annotations

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube
from ..satdino.adapter import composite, patches_seen

INPUT = "image"  # (1, bands, window, window) float32 in the cube's units, 0 where not seen


def missing(sensors: dict[str, tuple[str, ...]], card: Card) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does."""
    if any(set(s.bands) <= set(sensors.get(s.sensor, ())) for s in card.sensors):
        return []
    wanted = card.sensors[0]
    found = "; ".join(f"{name}: {', '.join(bands)}" for name, bands in sensors.items()) or "nothing"
    names = " or ".join(s.sensor for s in card.sensors)
    return [
        f"{card.name} needs {', '.join(wanted.bands)} of {names}; the stack has {found}. Add such "
        "rasters, or choose another encoder."
    ]


def batches(cube: Cube, size: int, card: Card) -> Batches:
    """The image of one window, unless nothing of it was seen.

    Args:
        cube: one network window.
        size: not used: a window is one image.
        card: names sensors, bands and patch.

    Yields:
        At most one batch.
    """
    for wanted in card.sensors:
        series = cube.series.get(wanted.sensor)
        if series is None or not len(series.dates) or not set(wanted.bands) <= set(series.bands):
            continue
        values = series.values[:, [series.bands.index(band) for band in wanted.bands]]
        values = values.astype(np.float32)
        valid = series.valid & np.isfinite(values).all(axis=1)
        pixels = patches_seen(valid.any(axis=0), card.patch)
        if (pixels >= 0).any():
            yield Batch(pixels, {INPUT: composite(values, valid)[None]})
        return
