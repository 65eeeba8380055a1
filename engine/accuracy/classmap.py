"""A map of classes as strata: read by blocks, counted, measured, looked up at pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from ..context import JobContext, Pace
from ..errors import UserError
from ..rasters.class_names import Names, names_of
from ..rasters.grid import Grid, Window
from ..rasters.legend import COLORS

_ROWS, _COLS = 512, 8192  # of a block
_MOST_VALUE = 65535
NONE = _MOST_VALUE + 1
"""Stands for a pixel without a value."""

MOST_CLASSES = 250
"""Values of a map of classes, at most."""

MOST_NAMELESS = 100
"""Classes that nobody named, at most; a terrain model of one valley has more values."""

_DECLARED = {MaskFlags.nodata, MaskFlags.per_dataset, MaskFlags.alpha}
_SIDE = 256  # pixels of a square in which places are looked up together


@dataclass(frozen=True)
class MapClass:
    """A class that occurs in a map: raster value, name, colour "#rrggbb", pixels, hectares."""

    value: int
    name: str
    color: str
    pixels: int
    hectares: float


@dataclass(frozen=True)
class Census:
    """All classes of a map in the order of their values, and what belongs to none of them.

    Attributes:
        classes: those with pixels.
        nameless: values that the map's own legend does not name; they count as no class.
        hectares_nameless: of these.
        legend: what the map's own legend names, whether it occurs or not; empty without one.
    """

    classes: tuple[MapClass, ...]
    nameless: tuple[int, ...]
    hectares_nameless: float
    legend: Names

    @property
    def hectares(self) -> float:
        """Of all classes."""
        return sum(c.hectares for c in self.classes)

    @property
    def pixels(self) -> np.ndarray:
        """(c,) pixels of each class."""
        return np.array([c.pixels for c in self.classes], np.int64)

    @property
    def shares(self) -> np.ndarray:
        """(c,) share of the area of each class."""
        return np.array([c.hectares for c in self.classes]) / self.hectares

    @property
    def index(self) -> np.ndarray:
        """(65537,) place of each value among the classes, -1 for none; the last is nodata's."""
        places = np.full(NONE + 1, -1, np.int16)
        places[[c.value for c in self.classes]] = np.arange(len(self.classes))
        return places


class ClassMap:
    """A raster of classes in one of its bands; a with-block.

    Args:
        path: any raster that GDAL reads, with whole numbers from 0 to 65535.
        onto: the grid to read it on, by nearest neighbour; default: its own.
        band: 1, 2, ...
        ignored: values that are no class, beside its nodata; any numbers.
    """

    def __init__(self, path: Path, onto: Grid | None = None, *, band: int = 1,
                 ignored: Sequence[int] = ()) -> None:
        self.path, self._band, self._ignored = Path(path), band, tuple(ignored)
        self._files = ExitStack()
        try:
            dataset = self._files.enter_context(rasterio.open(self.path))
            if onto is not None and not Grid.of(dataset).matches(onto):
                dataset = self._files.enter_context(WarpedVRT(
                    dataset, src_crs=dataset.crs or onto.crs, crs=onto.crs or dataset.crs,
                    transform=onto.affine, height=onto.shape[0], width=onto.shape[1],
                    resampling=Resampling.nearest, add_alpha=dataset.nodata is None))
        except (RasterioError, ValueError) as failure:
            self._files.close()
            raise UserError(f"{self.path.name} cannot be read as a raster ({failure}). Choose "
                            "another file.") from failure
        self._dataset, self.grid = dataset, onto or Grid.of(dataset)
        if not 1 <= band <= dataset.count:
            self._files.close()
            raise UserError(f"{self.path.name} has no band {band}. Choose one of 1 to "
                            f"{dataset.count}.")
        if np.dtype(dataset.dtypes[band - 1]).kind == "c":
            self._files.close()
            raise UserError(f"{self.path.name} holds complex numbers, no classes. Choose a map.")

    def __enter__(self) -> ClassMap:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    @property
    def crs_name(self) -> str:
        """The coordinate system in a few words."""
        crs = self.grid.crs
        return "without CRS" if crs is None else crs.to_string()[:40]

    @property
    def names(self) -> Names:
        """Names and colours that the raster brings with it; empty without any."""
        return names_of(self.path, self._band)

    @property
    def declares_nodata(self) -> bool:
        """Whether the file says which of its pixels hold nothing."""
        return bool(_DECLARED & set(self._dataset.mask_flag_enums[self._band - 1]))

    def census(self, context: JobContext) -> Census:
        """Count and measure all classes in one pass.

        Raises:
            UserError: the raster holds no classes.
        """
        areas = self.grid.row_areas_m2()
        pixels, metres = np.zeros(_MOST_VALUE + 1, np.int64), np.zeros(_MOST_VALUE + 1)
        for window, values in self._blocks("Counting", context):
            here = np.bincount(values.ravel(), minlength=NONE + 1)[:-1]
            found = np.flatnonzero(here)
            pixels += here
            if np.count_nonzero(pixels) > MOST_CLASSES:
                raise UserError(f"{self.path.name} has more than {MOST_CLASSES} values; that is "
                                "no map of classes. Choose another.")
            order = np.zeros(NONE + 1, np.int64)
            order[found] = np.arange(1, len(found) + 1)
            width = len(found) + 1
            lines = np.bincount((order[values] + np.arange(window.rows)[:, None] * width).ravel(),
                                minlength=window.rows * width).reshape(window.rows, width)
            metres[found] += areas[window.row : window.row + window.rows] @ lines[:, 1:]
        return self._census(pixels, metres / 1e4)

    def indices(self, census: Census, context: JobContext) -> Iterator[tuple[Window, np.ndarray]]:
        """Blocks in reading order with (rows, cols) places among the classes, -1 for none."""
        places = census.index
        for window, values in self._blocks("Reading the map", context):
            yield window, places[values]

    def at(self, rows: np.ndarray, cols: np.ndarray, census: Census) -> np.ndarray:
        """(n,) places among the classes of pixels, -1 for none; neighbours are read together."""
        rows, cols = np.asarray(rows, np.int64), np.asarray(cols, np.int64)
        found, places = np.full(len(rows), -1, np.int64), census.index
        squares = rows // _SIDE * (self.grid.shape[1] // _SIDE + 1) + cols // _SIDE
        order = np.argsort(squares, kind="stable")
        starts = np.flatnonzero(np.diff(squares[order], prepend=-1))
        for part in np.split(order, starts[1:]) if len(order) else ():
            top, left = rows[part].min(), cols[part].min()
            window = Window(int(top), int(left), int(rows[part].max() - top) + 1,
                            int(cols[part].max() - left) + 1)
            found[part] = places[self.values(window)[rows[part] - top, cols[part] - left]]
        return found

    def uneven(self) -> float:
        """How much larger the largest pixel is than the smallest one; 0 on most grids."""
        areas = self.grid.row_areas_m2()
        return float(areas.max() / max(areas.min(), 1e-12) - 1)

    def _blocks(self, verb: str, context: JobContext) -> Iterator[tuple[Window, np.ndarray]]:
        pace = Pace(context, self.grid.full.size, "pixels", verb)
        for window in self.grid.blocks(_ROWS, _COLS):
            yield window, self.values(window)
            pace.add(window.size)

    def values(self, window: Window) -> np.ndarray:
        """(rows, cols) int32 class values, `NONE` where there is none."""
        try:
            block = self._dataset.read(self._band, masked=True, window=RasterioWindow(
                window.col, window.row, window.cols, window.rows))
        except RasterioError as failure:
            raise UserError(f"{self.path.name} is damaged near row {window.row} ({failure}). Make "
                            "it again.") from failure
        empty = np.ma.getmaskarray(block)
        if block.dtype.kind == "f":
            empty = empty | ~np.isfinite(block.data)
        if self._ignored:
            empty = empty | np.isin(block.data, self._ignored)
        values = np.where(empty, 0, block.data)
        if block.dtype.kind == "f" and (values != np.rint(values)).any():
            raise UserError(f"{self.path.name} holds decimals, no classes. Choose a map of "
                            "classes.")
        low, high = values.min(), values.max()
        if low < 0 or high > _MOST_VALUE:
            raise UserError(f"{self.path.name} holds the value {low if low < 0 else high:g}; "
                            f"classes are numbers from 0 to {_MOST_VALUE}. Set it as nodata or "
                            "number the classes anew.")
        return np.where(empty, NONE, values.astype(np.int32))

    def _census(self, pixels: np.ndarray, hectares: np.ndarray) -> Census:
        present = np.flatnonzero(pixels).tolist()
        names = self.names
        nameless = [v for v in present if names and v not in names]
        if len(nameless) == len(present):  # a legend of something else
            names, nameless = {}, []
        if not names and len(present) > MOST_NAMELESS:
            raise UserError(f"{self.path.name} holds {len(present)} values without names; that "
                            "looks like measurements, no classes. Choose a map of classes, or "
                            "name its values.")
        colors = self._colors(names, present)
        classes = tuple(
            MapClass(v, names.get(v, (f"{v}", ""))[0], colors[v], int(pixels[v]),
                     float(hectares[v])) for v in present if v not in nameless)
        if not classes:
            raise UserError(f"{self.path.name} has no pixel with a class. Choose another map.")
        return Census(classes, tuple(nameless), float(hectares[nameless].sum()), names)

    def _colors(self, names: Names, present: list[int]) -> dict[int, str]:
        """The colours of the legend, else of the file's table, else colours that stay apart."""
        try:
            table = {v: f"#{r:02x}{g:02x}{b:02x}" for v, (r, g, b, _) in
                     self._dataset.colormap(self._band).items()}
        except ValueError:  # no table
            table = {}
        return {v: names.get(v, ("", ""))[1] or table.get(v) or COLORS[i % len(COLORS)]
                for i, v in enumerate(present)}
