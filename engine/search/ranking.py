"""The best places of a scan, exactly, and thinned so that no two lie close together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .archive import Archive, Part, ground
from .kernel import Coding, Scan, exact, kth, kth_at_least

_PIXEL_BITS = 40  # a place is tile << 40 | row * columns + column, which also orders equals
#: Centres that are a distance apart on the map are not on the ground (scale of a projection).
_SLACK = 0.999


@dataclass(frozen=True)
class Places:
    """Pixels with their similarity.

    Attributes:
        keys: (n,) int64, tile, row and column in one number.
        similarities: (n,) float64.
    """

    keys: np.ndarray
    similarities: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def none(cls) -> Places:
        """No places."""
        return cls(np.zeros(0, np.int64), np.zeros(0))

    def of(self, chosen: np.ndarray) -> Places:
        """The places of an index or mask."""
        return Places(self.keys[chosen], self.similarities[chosen])

    def pixels(self, archive: Archive) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tile, row and column of each."""
        tiles = self.keys >> _PIXEL_BITS
        widths = np.array([t.grid.shape[1] for t in archive.tiles])[tiles]
        rows, cols = np.divmod(self.keys & ((1 << _PIXEL_BITS) - 1), widths)
        return tiles, rows, cols


class Ranking:
    """Collects the `size` best places, best first; of equals the first tile, row, column.

    Args:
        size: how many are kept.
        after: keep only places that rank behind this (similarity, key).
    """

    def __init__(self, size: int, after: tuple[float, int] | None = None) -> None:
        self._size, self._after = size, after
        self._parts: list[Places] = []
        self._held = 0
        self._floor = -2.0

    def select(self, found: Scan, codes: np.ndarray, directions: np.ndarray, coding: Coding,
               part: Part, columns: int) -> Places:
        """The rows of a part's scan that may be among the best; any thread may call it.

        Args:
            found: scan of the part's pixels, row by row.
            codes: (n, d) codes that were scanned.
            directions, coding: of the scan.
            part: where the pixels lie in their tile.
            columns: of the tile's file.
        """
        floor = self._floor
        if floor == -2.0 and self._after is None:
            floor = kth_at_least(found, self._size)
        elif floor == -2.0:
            behind = found.values[found.values < self._after[0] - found.margin]
            floor = kth(behind, self._size) - found.margin
        rows = found.rows_from(floor)
        if self._after is not None:
            rows = rows[found.values[rows] <= self._after[0] + found.margin]
        row, col = np.divmod(rows, part.window.cols)
        keys = (part.tile << _PIXEL_BITS) + (row + part.window.row) * columns + (
            col + part.window.col)
        places = Places(keys, exact(codes[rows], directions, coding))
        if self._after is not None:
            similarity, key = self._after
            places = places.of((places.similarities < similarity)
                               | (places.similarities == similarity) & (places.keys > key))
        return places.of(places.similarities >= self._floor)

    def add(self, places: Places) -> None:
        """Take in what `select` found; one thread calls it."""
        self._parts.append(places)
        self._held += len(places)
        if self._held > 2 * self._size + 10_000:
            self.best()

    def best(self) -> Places:
        """The best so far, at most `size`."""
        together = Places(np.concatenate([p.keys for p in self._parts] or [np.zeros(0, np.int64)]),
                          np.concatenate([p.similarities for p in self._parts] or [np.zeros(0)]))
        order = np.lexsort((together.keys, -together.similarities))[: self._size]
        kept = together.of(order)
        self._parts, self._held = [kept], len(kept)
        if len(kept) == self._size:
            self._floor = float(kept.similarities[-1])
        return kept


def thin(places: Places, kept: Places, archive: Archive, metres: float, k: int) -> Places:
    """`kept` and then `places` in their order, without those closer than `metres` to a better one.

    Args:
        places: best first, all ranking behind `kept`.
        kept: chosen already, themselves far enough apart.
        archive: in which they lie.
        metres: distance on the ground; 0 keeps all.
        k: how many at most.
    """
    both = Places(np.concatenate([kept.keys, places.keys]),
                  np.concatenate([kept.similarities, places.similarities]))
    if metres <= 0:
        return both.of(slice(k))
    at = _ground(both, archive)
    tree, free = cKDTree(at), np.ones(len(both), bool)
    chosen: list[int] = []
    for i in range(len(both)):
        if len(chosen) == k:
            break
        if free[i]:
            chosen.append(i)
            free[tree.query_ball_point(at[i], metres * _SLACK)] = False
    return both.of(np.array(chosen, np.int64))


def _ground(places: Places, archive: Archive) -> np.ndarray:
    tiles, rows, cols = places.pixels(archive)
    at = np.empty((len(places), 3))
    for index in np.unique(tiles):
        own, grid = tiles == index, archive.tiles[index].grid
        at[own] = ground(grid.crs, *(grid.affine @ (cols[own] + 0.5, rows[own] + 0.5)))
    return at
