"""A window of a stack to SkySense's inputs. NumPy only.

A card's `variant` says which branches the encoder has and what it takes (`network.USES`):
  hr         one RGB picture                      -> a patch of 32 pixels
  s2, s1     dates of one Sentinel sensor         -> a patch of 4 pixels, mean over the dates
  s2+s1      dates of both, fused at each pixel   -> a pixel; either may be absent
  hr+s2+s1   the same on the grid of the picture  -> a patch of 32 pixels
and `plusplus:` before it: SkySense++, one date of each sensor with a flag of its presence.

Pixels without data are 0 before normalisation, as the authors fill them, and are left out of the
fusion. Dates count from 0 on 1 January; 31 December of a leap year shares the day before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube, Series

PIXELS = 32  # HR pixels a Sentinel pixel, and stride of the HR branch
_NO_DATE = 181  # day of a scene without a date: the middle of the year
_LAST_DAY = 364
PLUSPLUS = "plusplus:"


@dataclass(frozen=True)
class Layout:
    """What a branch takes: bands in order and their statistics, (x * scale - mean) / std."""

    title: str
    sensors: tuple[str, ...]  # of the cube; the first one that has the bands is taken
    bands: tuple[str, ...]
    scale: float
    statistics: dict[str, tuple[float, float]]
    most: int  # dates at most, where the card does not say

    def of(self, card: Card | None) -> Layout:
        """The same with the bands and dates that a card names."""
        entry = next((s for s in card.sensors if s.sensor in self.sensors), None) if card else None
        return replace(self, bands=entry.bands, most=entry.most or self.most) if entry else self


LAYOUTS = {
    "hr": Layout(
        "aerial or other very-high-resolution pictures", ("aerial", "optical"),
        ("red", "green", "blue"), 1.0,
        {"red": (0.485, 0.229), "green": (0.456, 0.224), "blue": (0.406, 0.225),
         "nir": (0.485, 0.229)},  # weights for it start as a copy of red's, and so does this
        1,
    ),
    "s2": Layout(
        "Sentinel-2", ("sentinel-2",),
        ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08",
         "swir16", "swir22"),
        10000.0,
        {"blue": (884.29673756, 1155.15170768), "green": (1144.16202635, 1183.6292542),
         "red": (1297.47289228, 1368.11351514), "rededge071": (1624.90992062, 1370.265037),
         "rededge075": (2194.6423161, 1355.55390699), "rededge078": (2422.21248945, 1416.51487101),
         "nir": (2517.76053101, 1474.78900051), "nir08": (2581.64687018, 1439.3086061),
         "swir16": (2368.51236873, 1455.52084939), "swir22": (1805.06846033, 1343.48379601)},
        20,
    ),
    "s1": Layout(
        "Sentinel-1", ("sentinel-1",), ("vv", "vh"), 1.0,
        {"vv": (-12.54847273, 5.25697717), "vh": (-20.19237134, 5.91150917)}, 10,
    ),
}  # fmt: skip


def missing(sensors: dict[str, tuple[str, ...]], card: Card | None = None) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does.

    The picture cannot be done without where it gives the grid; of the others one is enough.

    Args:
        sensors: of the stack, with their bands.
        card: of the encoder; without it, any branch of SkySense will do.
    """
    branches = branches_of(card.variant) if card else tuple(LAYOUTS)
    layouts = {branch: LAYOUTS[branch].of(card) for branch in branches}
    lacking = {branch: _lacking(layouts[branch], sensors) for branch in branches}
    needed = ("hr",) if card and "hr" in branches else ()
    if not all(lacking.values()) and not any(lacking[branch] for branch in needed):
        return []
    found = "; ".join(f"{name}: {', '.join(bands)}" for name, bands in sensors.items()) or "nothing"
    one_of = "" if needed or len(branches) == 1 else "one of its sensors: "
    needs = " or ".join(
        f"{', '.join(layouts[b].bands)} of {layouts[b].title} (missing: {', '.join(lacking[b])})"
        for b in needed or branches
    )
    return [f"SkySense needs {one_of}{needs}; the stack has {found}. Add such scenes, or choose "
            "another encoder."]


def branches_of(variant: str) -> tuple[str, ...]:
    """The branches that a card's variant names."""
    return tuple(variant.removeprefix(PLUSPLUS).split("+"))


def _lacking(layout: Layout, sensors: dict[str, tuple[str, ...]]) -> list[str]:
    """Bands that the best of the branch's sensors lacks."""
    gaps = [[b for b in layout.bands if b not in sensors.get(s, ())] for s in layout.sensors]
    return min(gaps, key=len)


# --- values ---------------------------------------------------------------------------------------


def _series(cube: Cube, layout: Layout) -> Series | None:
    """The cube's series for a branch, if it has all bands and a date."""
    for sensor in layout.sensors:
        series = cube.series.get(sensor)
        if series is not None and len(series.dates) and set(layout.bands) <= set(series.bands):
            return series
    return None


def _observed(
    series: Series, layout: Layout, dates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values (T, B, H, W) in the branch's order and unit, 0 without data, and seen (T, H, W)."""
    values = series.values[np.ix_(dates, [series.bands.index(b) for b in layout.bands])]
    seen = series.valid[dates] & np.isfinite(values).all(axis=1)
    values = np.where(seen[:, None], values, 0) * np.float32(layout.scale)
    return values.astype(np.float32), seen


def normalise(values: np.ndarray, layout: Layout) -> np.ndarray:
    """(..., B, H, W) in the branch's unit to what the network sees."""
    statistics = np.array([layout.statistics[b] for b in layout.bands], np.float32)
    mean, std = statistics.T[:, :, None, None]
    return ((values - mean) / std).astype(np.float32)


def chosen(seen: np.ndarray, most: int) -> np.ndarray:
    """Indices of the dates that are used: the clearest of each of `most` parts of the series.

    Args:
        seen: (T, H, W); dates that show nothing are never used.
        most: dates at most.
    """
    clear = seen.reshape(len(seen), -1).mean(axis=1)
    useful = np.flatnonzero(clear)
    if len(useful) <= most:
        return useful
    parts = np.array_split(useful, most)
    return np.array([part[clear[part].argmax()] for part in parts])


def days_of(dates: np.ndarray) -> np.ndarray:
    """Zero-based day of year of datetime64[D], int64."""
    known = ~np.isnat(dates)
    days = np.full(len(dates), _NO_DATE, np.int64)
    dates = dates[known].astype("datetime64[D]")
    days[known] = (dates - dates.astype("datetime64[Y]")).astype(np.int64)
    return np.minimum(days, _LAST_DAY)


def _coarse(values: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of the seen pixels of blocks of 32: (T, B, H / 32, W / 32), and seen there."""
    dates, bands, h, w = values.shape
    blocks = (h // PIXELS, PIXELS, w // PIXELS, PIXELS)
    count = seen.reshape(dates, *blocks).sum(axis=(2, 4))
    total = values.reshape(dates, bands, *blocks).sum(axis=(3, 5))
    return (total / np.maximum(count, 1)[:, None]).astype(np.float32), count > 0


# --- inputs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """What a branch gets: values (T, B, H, W), seen (T, h, w) on the grid of rows, days (T,)."""

    values: np.ndarray
    seen: np.ndarray
    days: np.ndarray


def _of_branch(cube: Cube, branch: str, layout: Layout, most: int, coarse: bool) -> _Seen:
    """A branch's part of a window, normalised; where `coarse`, in blocks of 32 pixels.

    A branch without data gets one date on which nothing is seen.
    """
    series = _series(cube, layout)
    sides = tuple(side // PIXELS if coarse else side for side in cube.shape)
    if series is not None:
        used = chosen(series.valid, most)
        if len(used):
            values, seen = _observed(series, layout, used)
            if coarse:
                means, seen = _coarse(values, seen)
                values = values if branch == "hr" else means
            return _Seen(normalise(values, layout), seen, days_of(series.dates[used]))
    full = cube.shape if branch == "hr" else sides
    empty = np.zeros((1, len(layout.bands), *full), np.float32)
    return _Seen(normalise(empty, layout), np.zeros((1, *sides), bool), np.zeros(1, np.int64))


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """The inputs of one window, if anything is seen in it.

    Args:
        cube: card.window pixels a side, a multiple of card.patch and of 32 where HR is fused.
        size: not used: a window is one call.
        card: of the encoder.

    Raises:
        ValueError: no card, which says what the encoder takes.
    """
    if card is None:
        raise ValueError("SkySense's adapter needs the encoder's card: it says which branches "
                         "the encoder has")
    branches = branches_of(card.variant)
    fused, plus = len(branches) > 1, card.variant.startswith(PLUSPLUS)
    given = {}
    for branch in branches:
        layout = LAYOUTS[branch].of(card)
        most = 1 if branch == "hr" or (plus and fused) else layout.most
        coarse = fused and "hr" in branches
        given[branch] = _of_branch(cube, branch, layout, most, coarse)
    seen = np.logical_or.reduce([part.seen.any(axis=0) for part in given.values()])
    rows, cols = (side // card.patch for side in cube.shape)
    seen = seen.reshape(rows, seen.shape[0] // rows, cols, seen.shape[1] // cols).any(axis=(1, 3))
    if seen.any():
        pixels = np.where(seen.ravel(), np.arange(seen.size), -1)
        yield Batch(pixels, (_one_date if plus and fused else _series_inputs)(given))


def _images(given: dict[str, _Seen]) -> dict[str, np.ndarray]:
    """A picture as (1, B, H, W), a series as (1, B, T, H, W)."""
    return {
        branch: part.values if branch == "hr" else part.values.swapaxes(0, 1)[None]
        for branch, part in given.items()
    }


def _one_date(given: dict[str, _Seen]) -> dict[str, np.ndarray]:
    """Inputs of a whole SkySense++: an image a sensor, and flags in the order hr, s2, s1."""
    present = [branch in given and bool(given[branch].seen.any()) for branch in LAYOUTS]
    return {**_images(given), "present": np.array([present])}


def _series_inputs(given: dict[str, _Seen]) -> dict[str, np.ndarray]:
    """Inputs of SkySense: images, what is seen of each date, days of Sentinel-2 if it is fused."""
    if tuple(given) == ("hr",):
        return _images(given)
    inputs = _images(given) | {f"{b}_seen": part.seen[None] for b, part in given.items()}
    if "s2" in given and len(given) > 1:
        inputs["s2_day"] = given["s2"].days[None]
    return inputs
