"""A window of a stack to the input of TiMo: a short series of whole images. NumPy only.

Which bands and which scaling an encoder knows is a `Layout`, named by the card's `variant`: one for
each data set of the paper. TiMo has no mask, neither for pixels nor for dates: dates without data
are left out, gaps of the others are filled with the same pixels' values of the nearest date.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube, Series
from ..satdino.adapter import WHITE, patches_seen

INPUT = "series"  # (1, T, C, H, W) float32
PATCH = 16  # pixels on a side of what one embedding stands for
RGB = ("red", "green", "blue")
_EPSILON = 1e-13  # of the range of an image whose pixels are all the same


@dataclass(frozen=True)
class Layout:
    """What an encoder's weights expect.

    Attributes:
        sensors: that can give the bands, the first one that does is taken.
        bands: in the network's order.
        scaling: "rendered" (reflectance as a picture in 0..1), "reflectance", or "range" (each
            band of each image from its least to its largest value in 0..1).
        most: dates that the weights have seen together.
        source: whose input this is.
    """

    sensors: tuple[str, ...]
    bands: tuple[str, ...]
    scaling: str
    most: int
    source: str


LAYOUTS = {
    "millionst": Layout(
        ("sentinel-2", *(s for s in WHITE if s != "sentinel-2")), RGB, "rendered", 3,
        "pretraining on 8-bit pictures of Sentinel-2",
    ),
    "sen12-flood": Layout(
        ("sentinel-2", "cbers", "landsat", "modis"), RGB, "reflectance", 3, "SEN12-FLOOD",
    ),
    "multisenge": Layout(
        ("sentinel-2",),
        ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08",
         "swir16", "swir22"),
        "reflectance", 3, "MultiSenGE, bands by wavelength (the files' order is not known)",
    ),
    "mtlcc": Layout(
        ("sentinel-2",),
        ("blue", "green", "red", "nir",
         "rededge071", "rededge075", "rededge078", "nir08", "swir16", "swir22",
         "coastal", "nir09", "cirrus"),
        "reflectance", 30, "MTLCC, bands of 10, 20 and 60 m, each by number",
    ),
    "kuro-siwo": Layout(
        ("sentinel-1",), ("vv", "vh"), "range", 3, "Kuro Siwo",
    ),
}  # fmt: skip
DEFAULT = "millionst"


def layout_of(card: Card | None) -> Layout:
    """What the card's encoder expects; a ValueError if it names a layout that is not known."""
    name = card.variant if card and card.variant else DEFAULT
    if name not in LAYOUTS:
        raise ValueError(
            f"The encoder {card.name} asks for the input '{name}', but TiMo's adapter knows "
            f"{', '.join(LAYOUTS)}: import the checkpoint again."
        )
    return LAYOUTS[name]


def missing(sensors: dict[str, tuple[str, ...]], card: Card | None = None) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does.

    Args:
        sensors: bands of each sensor of the stack.
        card: of the encoder; without one it is a pretrained one in red, green and blue.
    """
    layout = layout_of(card)
    if any(set(layout.bands) <= set(sensors.get(sensor, ())) for sensor in layout.sensors):
        return []
    found = "; ".join(f"{name}: {', '.join(bands)}" for name, bands in sensors.items()) or "nothing"
    wanted = f"{', '.join(layout.bands)} of {' or '.join(layout.sensors)}"
    given = [set(sensors.get(sensor, ())) for sensor in layout.sensors]
    nearest = max(given, key=lambda bands: len(bands & set(layout.bands)))
    lacking = [band for band in layout.bands if band not in nearest]
    missing = f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing"
    if any(set(layout.bands) <= set(bands) for bands in sensors.values()):
        missing = f"scenes of {' or '.join(layout.sensors)} are missing"
    return [
        f"This TiMo needs {wanted}; the stack has {found}, so {missing}. Add such scenes, or use "
        "the encoder 'fast'."
    ]


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """The series of one window, unless nothing of it was seen.

    Args:
        cube: one network window.
        size: not used: a window is one series.
        card: its `variant` names the layout, its sensors how many dates are used at most.

    Yields:
        At most one batch with the input `series` (1, T, C, H, W), 1 <= T <= most.
    """
    layout = layout_of(card)
    series = _series_of(cube, layout)
    if series is None:
        return
    order = [series.bands.index(band) for band in layout.bands]
    values = series.values[:, order].astype(np.float32)
    valid = series.valid & np.isfinite(values).all(axis=1)
    pixels = patches_seen(valid.any(axis=0), card.patch if card else PATCH)
    if (pixels < 0).all():
        return
    most = max((s.most for s in card.sensors), default=0) if card else 0
    chosen = choose_dates(valid, most or layout.most)
    if layout.scaling == "range":
        images = np.stack([_range(values[t], valid[t]) for t in chosen])
    else:
        white = WHITE[series.sensor] if layout.scaling == "rendered" else 1.0
        images = fill_gaps(values, valid, series.dates, chosen) / np.float32(white)
        images = np.clip(images, 0, 1) if layout.scaling == "rendered" else images
    yield Batch(pixels, {INPUT: images[None]})


def choose_dates(valid: np.ndarray, most: int) -> np.ndarray:
    """Indices of the dates that are used, ascending: all with data, or the clearest of each part.

    Args:
        valid: (T, H, W).
        most: dates; the series is cut into as many parts.
    """
    clear = valid.sum(axis=(1, 2))
    useful = np.flatnonzero(clear)
    if len(useful) <= most:
        return useful
    return np.array([part[clear[part].argmax()] for part in np.array_split(useful, most)])


def fill_gaps(
    values: np.ndarray, valid: np.ndarray, dates: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """The chosen dates' images (len(chosen), C, H, W) without gaps.

    A pixel that is not valid takes its value of the date nearest in time (in the series, if a date
    is unknown); of two equally near ones the earlier. Never valid pixels are 0, as masked ones are
    in pretraining.

    Args:
        values: (T, C, H, W), and
        valid: (T, H, W) of all dates, from which the gaps are filled.
        dates: (T,) datetime64[D].
        chosen: indices of dates.
    """
    undated = np.isnat(dates).any()
    days = np.arange(len(dates)) if undated else dates.astype("datetime64[D]").astype(np.int64)
    images = np.where(valid[chosen][:, None], values[chosen], np.float32(0))
    for image, t in zip(images, chosen, strict=True):
        gaps = ~valid[t]
        for other in np.argsort(np.abs(days - days[t]), kind="stable"):
            if not gaps.any():
                break
            known = gaps & valid[other]
            image[:, known] = values[other][:, known]
            gaps &= ~known
    return images


def _range(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Each band of (C, H, W) from its least valid value to its largest in 0..1; -1 elsewhere."""
    low = np.where(valid, image, np.inf).min(axis=(1, 2), keepdims=True)
    high = np.where(valid, image, -np.inf).max(axis=(1, 2), keepdims=True)
    scaled = (np.where(valid, image, low) - low) / (high - low + _EPSILON)
    return np.where(valid, scaled, -1).astype(np.float32)


def _series_of(cube: Cube, layout: Layout) -> Series | None:
    """The first of the layout's sensors that has its bands."""
    for sensor in layout.sensors:
        series = cube.series.get(sensor)
        if series is not None and len(series.dates) and set(layout.bands) <= set(series.bands):
            return series
    return None
