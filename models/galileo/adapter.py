"""A window of a stack to Galileo's inputs: monthly Sentinel-1, Sentinel-2 and NDVI. NumPy only.

As a pixel encoder every pixel is a window and patch of its own; as a patch encoder the window is
seen as a whole. Weather, maps, terrain and location are masked.
"""

from __future__ import annotations

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube
from ..presto import composites
from .products import normalise

MOST_MONTHS = 24  # positions that the weights know
_FIRST = [columns[0] for columns in composites.GROUPS.values()]
_TOKENS = 16384  # of a batch of pixels: bounds the memory of attention
_SHARE = 0.5  # of a patch's pixels that must be observed in a month for its token to be seen


def missing(sensors: dict[str, tuple[str, ...]], card: Card | None = None) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does."""
    return composites.missing("Galileo", sensors)


def space_time(values: np.ndarray) -> np.ndarray:
    """Monthly means (..., 13) in the order of `composites.BANDS` to s_t, NaN where missing."""
    physical = values.astype(np.float64)
    physical[..., 2:12] *= 10000
    return normalise("s_t", physical)


def inputs(values: np.ndarray, month: np.ndarray) -> dict[str, np.ndarray]:
    """All that the network takes for single pixels, the other products masked.

    Args:
        values: (n, T, 13) in the order of `composites.BANDS`: dB, reflectance 0..1, NDVI; NaN
            where missing.
        month: (n, T) int, January = 0.
    """
    n, steps, _ = values.shape
    return {
        **pixel_inputs(values, month),
        "sp": np.zeros((n, 1, 1, 16), np.float32),
        "t": np.zeros((n, steps, 6), np.float32),
        "st": np.zeros((n, 18), np.float32),
        "sp_mask": np.ones((n, 1, 1, 3), np.float32),
        "t_mask": np.ones((n, steps, 3), np.float32),
        "st_mask": np.ones((n, 4), np.float32),
    }


def pixel_inputs(values: np.ndarray, month: np.ndarray) -> dict[str, np.ndarray]:
    """What the exported graph takes for single pixels; the arguments are those of `inputs`."""
    return {
        "s_t": np.nan_to_num(space_time(values))[:, None, None],
        "s_t_mask": np.isnan(values[:, :, _FIRST]).astype(np.float32)[:, None, None],
        "months": month.astype(np.int64),
    }


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """Network inputs of a window.

    Args:
        cube: reflectance 0..1 and dB; for a patch encoder one network window.
        size: pixels in a batch at most; a patch encoder takes one window at a time.
        card: of the encoder; without one it is a pixel encoder.

    Yields:
        Batches with s_t (n, H, W, T, 13), s_t_mask (n, H, W, T, 7) and months (n, T).

    Raises:
        ValueError: the cube is not the window of a patch encoder.
    """
    stated = max(sensor.most for sensor in card.sensors) if card else 0
    monthly = composites.Composites(cube, stated or MOST_MONTHS)
    if not len(monthly.months):
        return
    if card is not None and card.unit == "patch":
        if cube.shape != (card.window, card.window):
            raise ValueError(
                f"{card.name} takes windows of {card.window} x {card.window} pixels, not "
                f"{cube.shape[0]} x {cube.shape[1]}."
            )
        yield from _window(monthly, card.window, card.patch)
        return
    pixels = cube.shape[0] * cube.shape[1]
    size = max(1, min(size, _TOKENS // (len(composites.GROUPS) * len(monthly.months))))
    for start in range(0, pixels, size):
        values = monthly.of(start, min(size, pixels - start))
        seen = np.flatnonzero(np.isfinite(values).any(axis=(1, 2)))
        if len(seen):
            month = np.tile(monthly.months, (len(seen), 1))
            yield Batch(start + seen, pixel_inputs(values[seen], month))


def _window(monthly: composites.Composites, side: int, patch: int) -> Batches:
    """One window as one sample; patches without a token that is seen are dropped.

    A token is seen if its group is observed in half of the patch's pixels that have any observation
    in the stack; pixels that lack it get the mean of the others, since the patch is taken whole.
    """
    cells = side // patch
    values = monthly.of(0, side * side)
    ever = np.isfinite(values).any(axis=(1, 2))
    if not ever.any():
        return
    blocks = _blocks(values, cells, patch)  # (cells^2, patch^2, T, 13)
    here = np.isfinite(blocks)
    count = here.sum(axis=1, keepdims=True)
    mean = np.where(here, blocks, 0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    inside = _blocks(ever, cells, patch).sum(axis=1)[:, None, None]
    groups = count[:, 0][:, :, _FIRST]  # (cells^2, T, 7)
    seen = (groups > 0) & (groups >= _SHARE * inside)
    scaled = space_time(np.where(here, blocks, np.where(count > 0, mean, np.nan)))
    hidden = np.repeat(~seen[:, None], patch * patch, axis=1)
    yield Batch(
        np.where(seen.any(axis=(1, 2)), np.arange(cells * cells), -1),
        {
            "s_t": _raster(np.nan_to_num(scaled), cells, patch),
            "s_t_mask": _raster(hidden.astype(np.float32), cells, patch),
            "months": monthly.months[None].astype(np.int64),
        },
    )


def _blocks(pixels: np.ndarray, cells: int, patch: int) -> np.ndarray:
    """Pixels of a square window (side^2, ...) by patch: (cells^2, patch^2, ...)."""
    rest = pixels.shape[1:]
    blocks = pixels.reshape(cells, patch, cells, patch, *rest).swapaxes(1, 2)
    return blocks.reshape(cells * cells, patch * patch, *rest)


def _raster(blocks: np.ndarray, cells: int, patch: int) -> np.ndarray:
    """The way back, with an axis for the sample: (1, side, side, ...)."""
    rest = blocks.shape[2:]
    raster = blocks.reshape(cells, cells, patch, patch, *rest).swapaxes(1, 2)
    return np.ascontiguousarray(raster.reshape(1, cells * patch, cells * patch, *rest))
