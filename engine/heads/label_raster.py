"""Pixels of known class drawn from a raster of classes, however large, in one pass over it."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.warp import transform
from rasterio.windows import Window as RasterioWindow

from ..context import JobContext, Pace
from ..errors import UserError
from ..rasters.class_names import Names, names_of
from ..rasters.connected import connected
from ..rasters.grid import Grid, Window
from ..rasters.legend import NODATA, Legend, LegendClass
from .samples import Samples, distance_apart

LOG = logging.getLogger(__name__)

MOST_PER_CLASS = 1000
"""Pixels taken of a class: neighbours are so alike that more of them teach little."""

MOST_CLASSES = 254
"""Classes that a map can hold beside its nodata."""

_SEED = 271828  # as for features
_TILE = 1024  # pixels a side that are read at a time, about
_CELL = 16, 512  # shortest and longest side of a cell, pixels
_CELLS = 256  # wanted
_PENDING = 500_000  # new candidates after which the surplus is dropped
_WIDE = 2  # cells; a patch that is wider is no parcel and may be tested in parts
_NOTHING = ("no data", "nodata", "unclassified", "unlabelled", "unlabeled", "unknown")
_BACKGROUND = (*_NOTHING, "background", "none")  # names of 0 that tell of no class
_DECLARED = {MaskFlags.nodata, MaskFlags.per_dataset, MaskFlags.alpha}


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Attributes:
        samples: pixels of the stack's grid with the raster's value; groups are patches.
        pixels: value to how many pixels of the raster have it, near the grid.
        names: what the raster calls its values.
        colors: its own table, value to "#rrggbb"; empty without one.
    """

    samples: Samples
    pixels: dict[int, int]
    names: Names
    colors: dict[int, str]

    def legend(self) -> tuple[Legend, list[int]]:
        """The classes, and the raster's value of each.

        Values from 0 to 254 stay; where there are others, all are numbered anew. The name of a
        class without one is "class 3".
        """
        values = np.unique(self.samples.values).tolist()
        stay = values[0] >= 0 and values[-1] < NODATA
        names = [self.names.get(v, (f"class {v}", ""))[0] for v in values]
        own = [self.names.get(v, ("", ""))[1] or self.colors.get(v, "") for v in values]
        usual = Legend.of_names(names).colors
        return Legend(tuple(
            LegendClass(v if stay else k, name, mine if mine and own.count(mine) == 1 else other)
            for k, (v, name, mine, other) in enumerate(zip(values, names, own, usual, strict=True),
                                                       1))), values


def is_raster(path: Path) -> bool:
    """Whether labels are a raster; a file that also holds features is taken for these.

    Raises:
        UserError: no such file, or neither of the two.
    """
    try:
        if len(pyogrio.list_layers(path)):
            return False
    except pyogrio.errors.DataSourceError as failure:
        LOG.info("no features: %s", failure)
    try:
        with rasterio.open(path):
            return True
    except RasterioError as failure:
        if not Path(path).exists():
            raise UserError(f"The labels {path.name} were not found in {path.parent}. Choose the "
                            "file again.") from failure
        raise UserError(f"{path.name} cannot be read as points or polygons, nor as a raster "
                        f"({failure}). Choose another file.") from failure


def ignored_values(given: str | list[int] | None) -> list[int]:
    """Values that are no class: numbers of a list, or of a text between commas or blanks."""
    words = re.split(r"[\s,;]+", given.strip()) if isinstance(given, str) else given or []
    try:
        return [int(word) for word in words if word != ""]
    except (TypeError, ValueError) as failure:
        raise UserError(f"Values that are no class are given as {given}. Write whole numbers with "
                        "commas between them, such as 0, 99.") from failure


def draw(path: Path, band: int, grid: Grid, context: JobContext,
         most: int = MOST_PER_CLASS, ignored: Sequence[int] = ()) -> Drawn:
    """At most `most` pixels of each class, evenly over the ground.

    The raster is read once by tiles, as far as it lies on the grid. In each cell (a square of
    pixels) the pixels of a class stand in random order; the first ones of all cells are taken
    before the second ones, so that a class comes from everywhere where it grows. A pixel counts
    where its centre lies; the pixels of one connected patch are a group, those of a patch that
    is wider than `_WIDE` cells a group in each cell.

    Nodata is no class, nor is a class that is called so. In a raster that declares no nodata, 0
    is none either, unless the legend names it or only one other value is there.

    Args:
        path: raster that GDAL reads, in any CRS and on any grid.
        band: 1, 2, ...
        grid: where the samples shall lie.
        context: progress, log, warnings, cancellation.
        most: pixels of a class.
        ignored: further values that are no class.

    Raises:
        UserError: no such band, decimals in it, nothing within the grid, too many classes.
    """
    try:
        with rasterio.open(path) as dataset:
            return _Source(dataset, Path(path).name, band, grid, context).drawn(most, ignored)
    except RasterioError as failure:
        raise UserError(f"{Path(path).name} cannot be read as a raster ({failure}). Choose "
                        "another file.") from failure


class _Source:
    """A band of an open raster, as seen from a grid."""

    def __init__(self, dataset: rasterio.DatasetReader, name: str, band: int, grid: Grid,
                 context: JobContext) -> None:
        self._dataset, self._name, self._band, self._grid = dataset, name, band, grid
        self._context = context
        if not 1 <= band <= dataset.count:
            raise UserError(f"{name} has no band {band}. Choose one of 1 to {dataset.count}.")
        kind = np.dtype(dataset.dtypes[band - 1])
        if kind.kind not in "iu":
            raise UserError(f"Band {band} of {name} holds decimals ({kind.name}), no classes. "
                            "Choose a raster of whole numbers.")
        if dataset.count > 1:
            described = ", ".join(text for text in dataset.descriptions if text)
            context.log(f"Band {band} of {dataset.count} of {name} is read"
                        + (f" ({described})" if described else ""))
        self._own = Grid.of(dataset)
        both = self._own.crs is not None and grid.crs is not None
        if bool(self._own.crs) != bool(grid.crs):
            lacking = "The rasters have" if self._own.crs else f"{name} has"
            context.warn(f"{lacking} no CRS; the labels are taken to share it.")
        self._other: CRS | None = self._own.crs if both and self._own.crs != grid.crs else None

    def drawn(self, most: int, ignored: Sequence[int]) -> Drawn:
        """See `draw`."""
        window = self._window()
        if window is None:
            raise self._nothing()
        cell = min(max(math.isqrt(window.size // _CELLS), _CELL[0]), _CELL[1])
        pool, pixels = _Pool(most), np.zeros(0, np.int64)
        pace = Pace(self._context, window.size, "pixels", "Reading labels")
        for place, values, valid in self._tiles(window, cell):
            if ignored:
                valid &= ~np.isin(values, ignored)
            if valid.any():
                codes = pool.codes(values, valid, self._name)
                pixels = np.append(pixels, np.zeros(len(pool.values) - len(pixels), np.int64))
                pixels += np.bincount(codes[valid], minlength=len(pixels))
                self._offer(pool, place, codes, valid, cell)
            pace.add(place.size)
        counted = dict(zip(pool.values, pixels.tolist(), strict=True))
        return self._finished(pool, counted)

    def _window(self) -> Window | None:
        """The part of the raster that may lie on the grid."""
        bounds = self._grid.bounds
        if self._other is not None:
            bounds = self._grid.bounds_in(self._other)
        return self._own.window_of(bounds) if np.isfinite(bounds).all() else self._own.full

    def _tiles(self, window: Window,
               cell: int) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
        """Windows of whole cells with their values and where these are known."""
        side = cell * max(1, _TILE // cell)
        for part in Grid("", (1, 0, 0, 0, 1, 0), (window.rows, window.cols)).blocks(side, side):
            place = Window(part.row + window.row, part.col + window.col, part.rows, part.cols)
            block = self._dataset.read(self._band, masked=True, window=RasterioWindow(
                place.col, place.row, place.cols, place.rows))
            yield place, block.data, ~np.ma.getmaskarray(block)

    def _offer(self, pool: _Pool, place: Window, codes: np.ndarray, valid: np.ndarray,
               cell: int) -> None:
        """Offer pixels of all cells of a tile."""
        patches, sides = connected(codes, valid)
        wide = sides > _WIDE * cell
        base = pool.patches
        pool.patches += len(sides)
        for part in Grid("", (1, 0, 0, 0, 1, 0), codes.shape).blocks(cell, cell):
            known = np.flatnonzero(valid[part.slices])
            if not len(known):
                continue
            chosen, rank = pool.first_ones(codes[part.slices].ravel(), known)
            patch = patches[part.slices].ravel()[chosen]
            rows, cols = np.divmod(chosen, part.cols)
            flat = self._on_grid(rows + part.row + place.row, cols + part.col + place.col)
            groups = base + patch.astype(np.int64)
            if wide[patch].any():  # numbers of their own, one a cell
                parts, inverse = np.unique(patch[wide[patch]], return_inverse=True)
                groups[wide[patch]] = pool.patches + inverse.reshape(-1)
                pool.patches += len(parts)
            inside = flat >= 0
            pool.add(codes[part.slices].ravel()[chosen][inside], flat[inside], groups[inside],
                     rank[inside])

    def _on_grid(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Flat indices of the grid's pixels under centres of the raster's; -1 outside."""
        x, y = self._own.affine @ (cols + 0.5, rows + 0.5)
        if self._other is not None:
            x, y = (np.asarray(v) for v in transform(self._other, self._grid.crs, x, y))
        col, row = ~self._grid.affine @ (x, y)
        height, width = self._grid.shape
        # a centre on the border of two pixels goes to the later one, whatever the rounding
        col, row = np.floor(col + 1e-6), np.floor(row + 1e-6)
        inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)  # infinite is not
        return np.where(inside, np.where(inside, row, 0) * width + np.where(inside, col, 0),
                        -1).astype(np.int64)

    def _finished(self, pool: _Pool, pixels: dict[int, int]) -> Drawn:
        """The candidates without what is no class, each pixel once."""
        names = names_of(Path(self._dataset.name), self._band)
        empty = self._no_classes(pixels, names)
        pixels = {value: count for value, count in pixels.items() if value not in empty}
        if len(pixels) > MOST_CLASSES:
            raise _too_many(self._name)
        values, flat, groups = pool.taken()
        kept = ~np.isin(values, list(empty))
        values, flat, groups = values[kept], flat[kept], groups[kept]
        if not len(values):
            raise self._nothing()
        places, first, where = np.unique(flat, return_index=True, return_inverse=True)
        doubtful = np.zeros(len(places), bool)
        np.logical_or.at(doubtful, where.reshape(-1), values != values[first][where.reshape(-1)])
        chosen = first[~doubtful]
        rows, cols = np.divmod(flat[chosen], self._grid.shape[1])
        samples = Samples(rows, cols, values[chosen],
                          np.unique(groups[chosen], return_inverse=True)[1].reshape(-1), 0, False)
        return Drawn(samples, pixels, names, self._colors())

    def _no_classes(self, pixels: dict[int, int], names: Names) -> set[int]:
        """Values that are no class, though nobody declared them as nodata."""
        empty = {v for v in pixels if names.get(v, ("", ""))[0].casefold() in _NOTHING}
        declared = _DECLARED & set(self._dataset.mask_flag_enums[self._band - 1])
        named = names.get(0, ("", ""))[0].casefold() not in ("", *_BACKGROUND)
        if 0 in pixels and not named:
            if not declared and len(pixels) > 2:
                empty.add(0)
            taken = "not labelled" if 0 in empty else "a class"
            reason = ("another nodata is declared" if declared else "no nodata is declared"
                      if 0 in empty else "one other value is there")
            self._context.log(f"Value 0 of {self._name} ({pixels[0]} pixels) is taken as {taken}, "
                              f"since {reason}")
        return empty

    def _colors(self) -> dict[int, str]:
        try:
            table = self._dataset.colormap(self._band)
        except ValueError:  # no table
            return {}
        return {v: f"#{r:02x}{g:02x}{b:02x}" for v, (r, g, b, _) in table.items()}

    def _nothing(self) -> UserError:
        crs = self._own.crs
        bounds = self._own.bounds
        apart = distance_apart(bounds, crs, self._grid)
        if apart or self._window() is None:
            name = crs.to_string() if crs is not None else "unknown"
            return UserError(f"{self._name} lies {apart}outside the rasters. Check its CRS "
                             f"({name if len(name) < 40 else 'user-defined'}).")
        return UserError(f"{self._name} has no labelled pixel within the rasters: all of it is "
                         "nodata there. Choose another band, raster or area.")


def _too_many(name: str) -> UserError:
    return UserError(f"{name} has more than {MOST_CLASSES} classes within the rasters. Group them, "
                     "or choose a raster of classes.")


class _Pool:
    """Keeps of each class the candidates that come first: by place in their cell, then by lot.

    Attributes:
        values: raster value of each class, in the order in which they were met.
        patches: numbers of patches that are given away.
    """

    def __init__(self, most: int) -> None:
        self._most, self._rng = most, np.random.default_rng(_SEED)
        self.values: list[int] = []
        self.patches = 0
        self._index: dict[int, int] = {}
        self._last = np.zeros(0, np.int64)  # place in its cell beyond which none is wanted
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._pending = 0

    def codes(self, values: np.ndarray, valid: np.ndarray, name: str) -> np.ndarray:
        """(rows, cols) uint16 class of each pixel; 0 where not valid."""
        known = values[valid]
        low, high = int(known.min()), int(known.max())
        if high - low < 2**16:
            found = np.flatnonzero(np.bincount(known.astype(np.int64) - low)) + low
        else:
            found = np.unique(known)
        new = [v for v in found.tolist() if v not in self._index]
        if len(self.values) + len(new) > MOST_CLASSES + 1:  # one of them may be no class
            raise _too_many(name)
        for value in new:
            self._index[value] = len(self.values)
            self.values.append(value)
        self._last = np.append(self._last, np.full(len(new), self._most))
        result = np.zeros(values.shape, np.uint16)
        numbers = np.array([self._index[v] for v in found.tolist()], np.uint16)
        if high - low < 2**16:
            table = np.zeros(high - low + 1, np.uint16)
            table[found - low] = numbers
            result[valid] = table[known.astype(np.int64) - low]
        else:
            result[valid] = numbers[np.searchsorted(found, known)]
        return result

    def first_ones(self, codes: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of a cell in random order, as many of each class as are still wanted.

        Args:
            codes: (n,) class of each pixel.
            known: indices of those that have one.

        Returns:
            (m,) indices and (m,) place within the class.
        """
        order = self._rng.permutation(known)
        order = order[np.argsort(codes[order], kind="stable")]
        mine = codes[order]
        starts = np.flatnonzero(np.diff(mine.astype(np.int32), prepend=-1))
        sizes = np.diff(starts, append=len(mine))
        rank = np.arange(len(mine)) - np.repeat(starts, sizes)
        wanted = rank < self._last[mine]
        return order[wanted], rank[wanted]

    def add(self, codes: np.ndarray, flat: np.ndarray, groups: np.ndarray,
            rank: np.ndarray) -> None:
        """Take candidates: class, flat index on the grid, group, place in the cell."""
        self._parts.append((codes, flat, groups, rank.astype(np.int32),
                            self._rng.random(len(codes), np.float32)))
        self._pending += len(codes)
        if self._pending > _PENDING:
            self._prune()

    def taken(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, flat indices and groups of those that came first."""
        if not self._parts:
            return tuple(np.zeros(0, np.int64) for _ in range(3))
        self._prune()
        codes, flat, groups, _, _ = self._parts[0]
        return np.array(self.values)[codes], flat, groups

    def _prune(self) -> None:
        columns = [np.concatenate(column) for column in zip(*self._parts, strict=True)]
        codes, rank, lot = columns[0], columns[3], columns[4]
        order = np.lexsort((lot, rank, codes))
        starts = np.flatnonzero(np.diff(codes[order].astype(np.int32), prepend=-1))
        sizes = np.diff(starts, append=len(order))
        place = np.arange(len(order)) - np.repeat(starts, sizes)
        kept = order[place < self._most]
        full = starts[sizes >= self._most]
        # of a class that is full, only those may follow that stand before its last one
        self._last[codes[order[full]]] = rank[order[full + self._most - 1]] + 1
        self._parts = [tuple(column[kept] for column in columns)]
        self._pending = 0
