"""Places for a sample of pixels: even over a raster, repeatable, at a bounded cost of reading."""

from __future__ import annotations

import numpy as np

from .grid import Grid, Window

_SIDE = 256  # pixels of a window, a tile of our files
_WINDOWS = 256  # of a large raster that are read

Places = list[tuple[Window, np.ndarray, np.ndarray]]


def even_places(shape: tuple[int, int], most: int, seed: int) -> Places:
    """At most `most` pixels, the same share of every window, at random within it.

    Of a raster with more windows than can be read, one is drawn from each run of neighbours.

    Args:
        shape: (rows, columns) to sample.
        most: pixels.
        seed: same seed, same places.

    Returns:
        (window, rows, columns) with (n,) positions inside the window, in ascending order.
    """
    rng = np.random.default_rng(seed)
    windows = list(Grid("", (1, 0, 0, 0, 1, 0), shape).blocks(_SIDE, _SIDE))
    if len(windows) > _WINDOWS:
        runs = np.array_split(np.arange(len(windows)), _WINDOWS)
        windows = [windows[rng.choice(run)] for run in runs]
    ends = np.cumsum([window.size for window in windows])
    share = min(1.0, most / ends[-1])
    counts = np.diff(np.floor(ends * share + 1e-9).astype(int), prepend=0)
    places = []
    for window, count in zip(windows, counts, strict=True):
        chosen = np.sort(rng.choice(window.size, min(count, window.size), replace=False))
        places.append((window, *np.divmod(chosen, window.cols)))
    return places
