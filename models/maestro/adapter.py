"""A window of a stack to the inputs of MAESTRO: a few dates of each input, scaled. NumPy only.

MAESTRO is built for the inputs of one data set over a window of fixed ground size. An encoder takes
some of them, which its card's variant names ("s2_naip:s2+s1"); the finest sets the window's pixels,
the others are averaged to their own. A window's dates are cut into as many equal runs as the
pretraining saw, and the clearest of each is used (the paper's rule); fewer dates are used as they
are. The network knows no masks, so gaps are filled, and tokens that are mostly filled are hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..cards import Card
from ..cube import Batch, Batches, Cube, Series
from .layout import LAYOUTS, Input, Layout

REFERENCE = "ref_date"
DEFAULT = "s2_naip:s2+s1"
_ENOUGH = 0.5  # share of a patch's pixels that a date must have seen


@dataclass(frozen=True)
class Setup:
    """A layout and those of its inputs that an encoder takes."""

    layout: Layout
    inputs: tuple[str, ...]

    @property
    def grid(self) -> int:
        """Rows and columns of the result: the finest input's tokens."""
        return max(self.layout.inputs[name].grid for name in self.inputs)

    @property
    def window(self) -> int:
        """Side of a window in pixels of the finest input."""
        return max(self.layout.inputs[name].pixels for name in self.inputs)


def setup_of(variant: str) -> Setup:
    """The setup that a card's variant means, "layout:input+input".

    Raises:
        ValueError: if there is no such layout, or an input that a cube cannot hold.
    """
    name, _, inputs = variant.partition(":")
    chosen = tuple(inputs.split("+")) if inputs else ()
    known = LAYOUTS[name].inputs if name in LAYOUTS else {}
    if not chosen or any(i not in known or known[i].source is None for i in chosen):
        raise ValueError(
            f"MAESTRO's adapter knows no inputs '{variant}', which an encoder's card asks for: "
            "import the checkpoint again."
        )
    return Setup(LAYOUTS[name], chosen)


def missing(sensors: dict[str, tuple[str, ...]], card: Card | None = None) -> list[str]:
    """What keeps a stack with these bands from being encoded; empty if nothing does.

    One of the inputs is enough, with all its bands; without a card, one of any layout.
    """
    setups = [Setup(layout, tuple(layout.inputs)) for layout in LAYOUTS.values()]
    if card:
        setups = [setup_of(card.variant)]
    sources = [setup.layout.inputs[name].source for setup in setups for name in setup.inputs]
    needs = list(dict.fromkeys((s.sensor, s.bands) for s in sources if s is not None))
    if any(set(bands) <= set(sensors.get(sensor, ())) for sensor, bands in needs):
        return []
    found = "; ".join(f"{name}: {', '.join(bands)}" for name, bands in sensors.items()) or "nothing"
    wanted = "; or ".join(f"{sensor}: {', '.join(bands)}" for sensor, bands in needs)
    lacking = {
        need: [band for band in need[1] if band not in sensors.get(need[0], ())] for need in needs
    }
    nearest = min(needs, key=lambda need: (need[0] not in sensors, len(lacking[need])))
    bands = lacking[nearest]
    missed = f"of {nearest[0]} {', '.join(bands)} {'is' if len(bands) == 1 else 'are'}"
    if nearest[0] not in sensors:
        missed = f"scenes of {' or '.join(dict.fromkeys(sensor for sensor, _ in needs))} are"
    return [
        f"MAESTRO needs all bands of one of its inputs ({wanted}); the stack has {found}, so "
        f"{missed} missing. Add such scenes, or use the encoder 'fast'."
    ]


def batches(cube: Cube, size: int, card: Card | None = None) -> Batches:
    """The inputs of one window, unless nothing of it was seen.

    Args:
        cube: one network window.
        size: not used: a window is one sample.
        card: its `variant` names the inputs.

    Yields:
        At most one batch: for each input `<input>` (1, T, C, image, image), `<input>_dates`
        (1, T, 3) year, day of the year from 1 and hour, `<input>_visible` (1, T, tokens), all
        False where the stack lacks it; and `ref_date` (1, 1, 3).
    """
    setup = setup_of(card.variant if card else DEFAULT)
    views = {name: _view(setup.layout.inputs[name], cube) for name in setup.inputs}
    seen = np.zeros((setup.grid, setup.grid), bool)
    for name, view in views.items():
        grid = setup.layout.inputs[name].grid
        cell = np.arange(setup.grid) * grid // setup.grid
        seen |= view.visible.any(axis=0).reshape(grid, grid)[np.ix_(cell, cell)]
    if not seen.any():
        return
    reference = _reference([(setup.layout.inputs[n], v) for n, v in views.items()])
    inputs: dict[str, np.ndarray] = {}
    for name, view in views.items():
        inputs[name] = view.values[None]
        dates = np.where(np.isnat(view.dates), reference, view.dates)
        inputs[f"{name}_dates"] = calendar(dates)[None]
        inputs[f"{name}_visible"] = view.visible[None]
    inputs[REFERENCE] = calendar(np.array([reference]))[None]
    yield Batch(np.where(seen.ravel(), np.arange(seen.size), -1), inputs)


@dataclass(frozen=True)
class _View:
    """One input's chosen dates: values (T, C, image, image), visible (T, tokens), dates (T,)."""

    values: np.ndarray
    visible: np.ndarray
    dates: np.ndarray


def _view(given: Input, cube: Cube) -> _View:
    source = given.source
    series = cube.series.get(source.sensor)
    nothing = _View(
        np.zeros((1, sum(given.bands), given.image, given.image), np.float32),
        np.zeros((1, given.grid**2), bool),
        np.array(["NaT"], "datetime64[D]"),
    )
    if series is None or not set(source.bands) <= set(series.bands):
        return nothing
    dates = np.flatnonzero(_of_orbit(series, source.orbit))
    if given.dates > 1:
        dates = dates[~np.isnat(series.dates[dates])]
    order = [series.bands.index(band) for band in source.bands]
    values = series.values[np.ix_(dates, order)].astype(np.float32)
    valid = series.valid[dates] & np.isfinite(values).all(axis=1)
    useful = np.flatnonzero(valid.any(axis=(1, 2)))
    if not len(useful):
        return nothing
    useful = useful[choose(values[useful], valid[useful], given.dates)]
    values, share = resampled(values[useful], valid[useful], given.image)
    values = filled(values, share > 0) * np.float32(source.factor)
    return _View(values, tokens_seen(share, given.grid), series.dates[dates[useful]])


def _of_orbit(series: Series, orbit: str) -> np.ndarray:
    """(T,) bool; scenes of unknown orbit count as ascending ones."""
    if not orbit:
        return np.ones(len(series.dates), bool)
    descending = np.array([o == "descending" for o in series.orbits], bool)
    return descending if orbit == "descending" else ~descending


def choose(values: np.ndarray, valid: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most so many dates: of each run the clearest, and of these the most usual one.

    Args:
        values: (T, C, H, W), dates ascending.
        valid: (T, H, W).
        most: number of runs.
    """
    if len(values) <= most:
        return np.arange(len(values))
    counts, kept = valid.sum(axis=(1, 2)), []
    for run in np.array_split(np.arange(len(values)), most):
        best = run[counts[run] == counts[run].max()]
        if len(best) > 1:
            shown = filled(values[best], valid[best])
            away = np.abs(shown - np.median(shown, axis=0)).mean(axis=(1, 2, 3))
            best = best[[int(away.argmin())]]
        kept.append(int(best[0]))
    return np.array(kept)


def filled(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Gaps of (T, C, H, W) get the pixel's mean over the dates, or else the window's."""
    shown = np.where(valid[:, None], values, np.float32(0))
    total, count = shown.sum(axis=0), valid.sum(axis=0)
    overall = total.sum(axis=(1, 2)) / max(int(count.sum()), 1)
    usual = np.where(count > 0, total / np.maximum(count, 1), overall[:, None, None])
    return np.where(valid[:, None], values, usual).astype(np.float32)


def resampled(values: np.ndarray, valid: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Valid pixels averaged, or repeated, to side x side.

    Args:
        values: (T, C, H, H).
        valid: (T, H, H).

    Returns:
        (T, C, side, side) float32, 0 where nothing is valid, and the valid share (T, side, side).
    """
    pixels = valid.shape[1]
    shown = np.where(valid[:, None], values, np.float32(0))
    share = valid.astype(np.float32)
    if pixels == side:
        return shown, share
    if pixels < side:  # as the network's own resize, the nearest
        cell = np.arange(side) * pixels // side
        return shown[:, :, cell][..., cell], share[:, cell][..., cell]
    starts = -(-np.arange(side) * pixels // side)  # the first pixel whose left edge is inside
    sums = np.add.reduceat(np.add.reduceat(shown, starts, axis=2), starts, axis=3)
    counts = np.add.reduceat(np.add.reduceat(share, starts, axis=1), starts, axis=2)
    wide = np.diff(np.append(starts, pixels)).astype(np.float32)
    means = sums / np.maximum(counts, 1)[:, None]
    return means.astype(np.float32), counts / (wide[:, None] * wide)


def tokens_seen(share: np.ndarray, grid: int) -> np.ndarray:
    """(T, grid^2) bool: dates that saw half of a patch, or at least as much as the best one.

    Args:
        share: (T, image, image), 0..1.
    """
    step = share.shape[1] // grid
    patches = share[:, : grid * step, : grid * step].reshape(-1, grid, step, grid, step)
    part = patches.mean(axis=(2, 4)).reshape(len(share), -1)
    return (part > 0) & (part >= np.minimum(_ENOUGH, part.max(axis=0)))


def _reference(views: list[tuple[Input, _View]]) -> np.datetime64:
    """The image's date, or else 1 July of the year in which the middle of the dates lies."""
    for given, view in views:
        if given.dates == 1 and view.visible.any() and not np.isnat(view.dates[0]):
            return view.dates[0].astype("datetime64[D]")
    dates = np.concatenate([view.dates[~np.isnat(view.dates)] for _, view in views])
    if not len(dates):
        return np.datetime64("2019-07-01")
    middle = np.sort(dates)[len(dates) // 2].astype("datetime64[Y]")
    return middle.astype("datetime64[M]") + np.timedelta64(6, "M") + np.timedelta64(0, "D")


def calendar(dates: np.ndarray) -> np.ndarray:
    """(T,) dates to (T, 3) int64: year, day of the year from 1, hour 0."""
    days = dates.astype("datetime64[D]")
    years = days.astype("datetime64[Y]")
    number = (days - years).astype(np.int64) + 1
    return np.stack([years.astype(np.int64) + 1970, number, np.zeros_like(number)], axis=1)
