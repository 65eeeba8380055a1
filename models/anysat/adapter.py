"""A window of a stack to the inputs of AnySat: standardised series or an image. NumPy only.

AnySat takes any of its sensors in one call, each with pixels of its own size; a cube has one grid,
so a setup names the sensors that share one. All dates count, the authors remove no cloud; here what
is marked invalid is masked, as they mask PLANTED's. Sensors that are absent are masked throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube, Series

S2_BANDS = (
    "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
    "swir22",
)  # fmt: skip


@dataclass(frozen=True)
class Feed:
    """What one of AnySat's sensors takes.

    Attributes:
        sensor: of the cube.
        bands: in the network's order.
        mean, spread: of each band, in the cube's units, or in linear power where `decibel`.
        most: dates that are used at most; 1 for an image.
        decibel: the cube holds dB, the network knows linear power.
    """

    sensor: str
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    most: int = 24
    decibel: bool = False


@dataclass(frozen=True)
class Setup:
    """Sensors over one window, and how it is cut.

    Attributes:
        feeds: AnySat's sensors.
        pixel_m: of the cube.
        window: side in pixels.
        scale: side of a patch in cells of 10 m.
        row: side in pixels of what one row of the result stands for.
        margin: rows at each side that see too little around them.
    """

    feeds: tuple[str, ...]
    pixel_m: float
    window: int
    scale: int
    row: int
    margin: int


# Statistics: "s2" and "aerial" are the authors' own, of their demonstration (TreeSatAI, clouds in
# the Sentinel-2 series); they publish no others. "s1-asc" follows their recipe on the two TreeSatAI
# samples of our test data. The images without statistics of their own have aerial's, Landsat the
# bands of Sentinel-2's.
_S2_MEAN = (
    0.4304, 0.4159, 0.4058, 0.4329, 0.4571, 0.4645, 0.4837, 0.4700, 0.2823, 0.2320,
)  # fmt: skip
_S2_SPREAD = (
    0.3538, 0.3324, 0.3270, 0.3251, 0.2897, 0.2754, 0.2822, 0.2626, 0.1732, 0.1549,
)  # fmt: skip
_PICTURE = {  # 8-bit pictures
    "nir": (150.893, 36.765), "green": (92.714, 27.625), "blue": (84.854, 22.479),
    "red": (80.704, 26.734),
}  # fmt: skip


def _image(*bands: str) -> Feed:
    mean, spread = (tuple(_PICTURE[b][i] / 255 for b in bands) for i in (0, 1))
    return Feed("aerial", bands, mean, spread, most=1)


def _landsat(*like: int) -> Feed:
    bands = ("blue", "green", "red", "nir08", "swir16", "swir22")
    return Feed("landsat", bands, tuple(_S2_MEAN[i] for i in like),
                tuple(_S2_SPREAD[i] for i in like))  # fmt: skip


FEEDS = {
    "s2": Feed("sentinel-2", S2_BANDS, _S2_MEAN, _S2_SPREAD),
    "s1-asc": Feed("sentinel-1", ("vv", "vh"), (0.100, 0.028), (0.057, 0.016), decibel=True),
    "aerial": _image("nir", "green", "blue", "red"),
    "spot": _image("red", "green", "blue"),
    "naip": _image("red", "green", "blue", "nir"),
    "l7": _landsat(0, 1, 2, 7, 8, 9),
}
SETUPS = {
    "s2+s1": Setup(("s2", "s1-asc"), 10.0, window=32, scale=4, row=1, margin=4),
    "landsat": Setup(("l7",), 30.0, window=16, scale=3, row=1, margin=2),
    "aerial": Setup(("aerial",), 0.2, window=300, scale=1, row=10, margin=5),
    "spot": Setup(("spot",), 1.0, window=240, scale=4, row=10, margin=4),
    "naip": Setup(("naip",), 1.25, window=192, scale=4, row=8, margin=4),
}
DEFAULT = "s2+s1"


def setup_of(card: Card | None) -> Setup:
    """The setup that a card's variant names.

    Raises:
        ValueError: if there is no such setup.
    """
    name = card.variant if card and card.variant else DEFAULT
    if name not in SETUPS:
        raise ValueError(
            f"The encoder {card.name} asks for the setup '{name}', but AnySat's adapter knows "
            f"{', '.join(SETUPS)}: import the checkpoint again."
        )
    return SETUPS[name]


def missing(sensors: dict[str, tuple[str, ...]], card: Card | None = None) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does.

    One sensor of the card's setup is enough, with all its bands; without a card, of any setup.
    """
    setups = [setup_of(card)] if card else list(SETUPS.values())
    feeds = [FEEDS[name] for name in dict.fromkeys(n for setup in setups for n in setup.feeds)]
    if any(set(feed.bands) <= set(sensors.get(feed.sensor, ())) for feed in feeds):
        return []
    found = "; ".join(f"{name}: {', '.join(bands)}" for name, bands in sensors.items()) or "nothing"
    wanted = "; or ".join(f"{feed.sensor}: {', '.join(feed.bands)}" for feed in feeds)
    nearest = min(feeds, key=lambda f: (f.sensor not in sensors, len(_lacking(f, sensors))))
    bands = _lacking(nearest, sensors)
    lacking = f"of {nearest.sensor} {', '.join(bands)} {'is' if len(bands) == 1 else 'are'}"
    if not any(feed.sensor in sensors for feed in feeds):
        lacking = f"scenes of {' or '.join(dict.fromkeys(feed.sensor for feed in feeds))} are"
    return [
        f"AnySat needs all bands of one of its sensors ({wanted}); the stack has {found}, so "
        f"{lacking} missing. Add such scenes, or use the encoder 'fast'."
    ]


def _lacking(feed: Feed, sensors: dict[str, tuple[str, ...]]) -> list[str]:
    return [band for band in feed.bands if band not in sensors.get(feed.sensor, ())]


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """The inputs of one window, unless nothing of it was seen.

    Args:
        cube: one network window.
        size: not used: a window is one sample.
        card: its `variant` names the setup.

    Yields:
        At most one batch: for a series `<sensor>` (1, T, C, H, W), `<sensor>_dates` (1, T) day of
        the year from 1 and `<sensor>_mask` (1, T, 1, H, W), all False where the stack lacks it;
        for an image `<sensor>` (1, C, H, W).
    """
    setup = setup_of(card)
    inputs: dict[str, np.ndarray] = {}
    seen = np.zeros(cube.shape, bool)
    for name in setup.feeds:
        given, valid = _fed(name, cube)
        inputs |= given
        seen |= valid
    rows, columns = (side // setup.row for side in cube.shape)
    under = seen[: rows * setup.row, : columns * setup.row]
    under = under.reshape(rows, setup.row, columns, setup.row).any(axis=(1, 3)).ravel()
    if under.any():
        yield Batch(np.where(under, np.arange(len(under)), -1), inputs)


def _fed(name: str, cube: Cube) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs of one sensor, and the pixels (H, W) that it has seen."""
    feed = FEEDS[name]
    values, valid, days = _observations(cube.series.get(feed.sensor), feed, cube.shape)
    if feed.most == 1:
        return {name: values}, valid[0]
    inputs = {name: values[None], f"{name}_dates": days[None], f"{name}_mask": valid[None, :, None]}
    return inputs, valid.any(axis=0)


def _observations(
    series: Series | None, feed: Feed, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised values (T, C, H, W), 0 where invalid; valid (T, H, W); days of the year.

    A sensor that is absent has one date without anything valid.
    """
    nothing = (np.zeros((1, len(feed.bands), *shape), np.float32), np.zeros((1, *shape), bool),
               np.ones(1, np.int64))  # fmt: skip
    if series is None or not set(feed.bands) <= set(series.bands):
        return nothing
    values = series.values[:, [series.bands.index(band) for band in feed.bands]]
    valid = series.valid & np.isfinite(values).all(axis=1)
    usable = valid.any(axis=(1, 2))
    if feed.most > 1:
        usable &= ~np.isnat(series.dates)
    ascending = np.array([orbit != "descending" for orbit in series.orbits], bool)
    if (usable & ascending).any():  # "s1-asc" has learnt from ascending orbits alone
        usable &= ascending
    dates = np.flatnonzero(usable)
    if not len(dates):
        return nothing
    dates = dates[clearest(valid[dates].sum(axis=(1, 2)), feed.most)]
    values, valid = values[dates].astype(np.float32), valid[dates]
    if feed.decibel:
        values = np.power(np.float32(10), values / 10)
    mean, spread = (np.array(x, np.float32)[:, None, None] for x in (feed.mean, feed.spread))
    values = np.where(valid[:, None], (values - mean) / spread, np.float32(0))
    return values, valid, days_of_year(series.dates[dates])


def clearest(counts: np.ndarray, most: int) -> np.ndarray:
    """Of dates in order, at most so many: the clearest of each of as many equal runs.

    Args:
        counts: (T,) valid pixels of each date.
        most: dates to keep.
    """
    if len(counts) <= most:
        return np.arange(len(counts))
    runs = np.array_split(np.arange(len(counts)), most)
    return np.array([run[np.argmax(counts[run])] for run in runs])


def days_of_year(dates: np.ndarray) -> np.ndarray:
    """(T,) int64, 1 for 1 January; 1 for a date that is unknown."""
    known = np.where(np.isnat(dates), np.datetime64("2000-01-01"), dates).astype("datetime64[D]")
    return (known - known.astype("datetime64[Y]")).astype(np.int64) + 1
