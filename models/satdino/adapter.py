"""A window of a stack to the input of SatDINO: one picture in red, green and blue. NumPy only.

The weights know 8-bit pictures of 0.3 to 1.7 m. Pictures (aerial, and sensors without a name) are
taken as they are; reflectance is rendered with a fixed stretch, for which the paper has no recipe.
SatDINO sees one date: of several dates each pixel and band takes its median, so that neighbouring
windows agree, however many dates each of them has.
"""

from __future__ import annotations

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube, Series

INPUT = "image"  # (1, 3, H, W) float32, standardised
BANDS = ("red", "green", "blue")
PATCH = 16  # without a card
WHITE = {  # sensor to the value that is rendered as white; finest pixels first
    "aerial": 1.0,
    "optical": 1.0,
    "sentinel-2": 0.3,
    "cbers": 0.3,
    "landsat": 0.3,
    "modis": 0.3,
}
STATISTICS = {  # mean and spread of red, green, blue in 0..1 by data set; pretraining had fmow's
    "fmow": ((0.433, 0.436, 0.407), (0.198, 0.193, 0.195)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "eurosat": ((0.343, 0.379, 0.406), (0.168, 0.110, 0.091)),
    "resisc45": ((0.367, 0.379, 0.342), (0.131, 0.115, 0.118)),
    "uc_merced": ((0.482, 0.488, 0.449), (0.116, 0.102, 0.103)),
    "whu-rs19": ((0.424, 0.446, 0.401), (0.165, 0.147, 0.160)),
    "rs_c11": ((0.347, 0.342, 0.318), (0.110, 0.104, 0.111)),
    "siri-whu": ((0.352, 0.378, 0.365), (0.106, 0.101, 0.107)),
}
DEFAULT = "fmow"


def missing(sensors: dict[str, tuple[str, ...]], card: Card | None = None) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does.

    Args:
        sensors: bands of each sensor of the stack.
        card: not used: all encoders of this system need the same.
    """
    if any(set(BANDS) <= set(sensors.get(sensor, ())) for sensor in WHITE):
        return []
    found = "; ".join(f"{name}: {', '.join(bands)}" for name, bands in sensors.items()) or "nothing"
    optical = [set(bands) for sensor, bands in sensors.items() if sensor in WHITE]
    nearest = max(optical, key=lambda bands: len(bands & set(BANDS)), default=set())
    lacking = ", ".join(band for band in BANDS if band not in nearest)
    return [
        f"SatDINO needs red, green and blue of one optical sensor; the stack has {found}, so "
        f"{lacking} {'are' if ',' in lacking else 'is'} missing. Add such scenes, or use "
        "the encoder 'fast'."
    ]


def series_of(cube: Cube) -> Series | None:
    """The sensor that is shown: of those with red, green and blue the one of the finest pixels."""
    for sensor in WHITE:
        series = cube.series.get(sensor)
        if series is not None and len(series.dates) and set(BANDS) <= set(series.bands):
            return series
    return None


def colours(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Red, green and blue of every date as rendered, and where they were seen.

    Returns:
        (T, 3, H, W) float32 in 0..1, 0 where not valid, and (T, H, W) bool.
    """
    order = [series.bands.index(band) for band in BANDS]
    values = series.values[:, order].astype(np.float32)
    valid = series.valid & np.isfinite(values).all(axis=1)
    rendered = np.clip(values / np.float32(WHITE[series.sensor]), 0, 1)
    return np.where(valid[:, None], rendered, np.float32(0)), valid


def composite(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The median over the valid dates, the lower one of two; 0 where no date is valid.

    Args:
        values: (T, B, H, W).
        valid: (T, H, W).

    Returns:
        (B, H, W).
    """
    ordered = np.sort(np.where(valid[:, None], values, np.float32(np.inf)), axis=0)
    middle = np.maximum(valid.sum(axis=0) - 1, 0) // 2
    middle = np.broadcast_to(middle, ordered.shape[1:])[None]
    median = np.take_along_axis(ordered, middle, axis=0)[0]
    return np.where(valid.any(axis=0), median, np.float32(0))


def patches_seen(valid: np.ndarray, patch: int) -> np.ndarray:
    """Flat index of each patch of a window (H, W), row by row, or -1 where no pixel is valid."""
    rows, columns = valid.shape[0] // patch, valid.shape[1] // patch
    inside = valid[: rows * patch, : columns * patch]
    seen = inside.reshape(rows, patch, columns, patch).any(axis=(1, 3)).ravel()
    return np.where(seen, np.arange(rows * columns), -1)


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """The picture of one window, unless nothing of it was seen.

    Args:
        cube: one network window; reflectance or pictures in 0..1.
        size: not used: a window is one picture.
        card: its `variant` names the statistics, its `patch` the size of the patches.

    Yields:
        At most one batch with the input `image` (1, 3, H, W); what was not seen is 0, the mean.
    """
    series = series_of(cube)
    if series is None:
        return
    values, valid = colours(series)
    pixels = patches_seen(valid.any(axis=0), card.patch if card else PATCH)
    if (pixels < 0).all():
        return
    mean, spread = _statistics(card)
    image = (composite(values, valid) - mean) / spread
    image = np.where(valid.any(axis=0), image, np.float32(0))
    yield Batch(pixels, {INPUT: image[None]})


def _statistics(card: Card | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread (3, 1, 1) that the card names."""
    name = card.variant if card and card.variant else DEFAULT
    if name not in STATISTICS:
        raise ValueError(
            f"The encoder {card.name} asks for the statistics '{name}', but SatDINO's adapter "
            f"knows {', '.join(STATISTICS)}: import the checkpoint again."
        )
    mean, spread = np.array(STATISTICS[name], np.float32)
    return mean[:, None, None], spread[:, None, None]
