"""What a head looks at: embeddings, gap-filled band series, or both, at samples and in windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...models import timegrid
from ...models.cube import Series
from ..context import JobContext
from ..errors import UserError
from ..rasters.embeddings import EmbeddingsFile
from ..rasters.grid import Grid, Window
from ..stacks.reading import StackReader
from ..stacks.stack import Stack
from . import years
from .layout import KINDS, FeatureLayout, SensorSeries

_TILE = 256  # samples are read tile by tile


class FeatureSource:
    """Features of a stack and of its embeddings, on one grid; a with-block, for one thread.

    Args:
        stack: dated rasters, or None.
        embeddings: path of an embeddings file whose grid is the stack's or a part of it, or None.
        window: the part to work on, of the embeddings' grid or else of the stack's; None: all.

    Attributes:
        grid: of all windows and samples.
        encoder: identity of the embeddings' encoder, or "".
        series: the band series that the stack offers.
        name: what to call the source in sentences.
    """

    def __init__(self, stack: Stack | None, embeddings: Path | None, *,
                 window: Window | None = None) -> None:
        if stack is None and embeddings is None:
            raise UserError("No rasters or embeddings were given. Choose some.")
        self._stack, self._readers = stack, {}
        self._embeddings = EmbeddingsFile(embeddings) if embeddings is not None else None
        self.encoder = self._embeddings.encoder if self._embeddings else ""
        self.series = _series_of(stack) if stack is not None else ()
        self.name = Path(embeddings).name if embeddings is not None else "the input"
        if stack is not None and stack.path is not None:
            self.name = stack.path.name
        base = self._embeddings.grid if self._embeddings else stack.grid
        window = window or base.full
        self.grid = base.part(window)
        self._place = self._in_stack = (window.row, window.col)
        if stack is not None and self._embeddings is not None:
            try:
                self._in_stack = _offset(stack.grid, self.grid, self.name)
            except UserError:
                self.close()
                raise

    def __enter__(self) -> FeatureSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for reader in self._readers.values():
            reader.close()
        if self._embeddings is not None:
            self._embeddings.close()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of features that can be had."""
        if self._embeddings is None:
            return ("bands",)
        return KINDS if self.series else ("embeddings",)

    def layout(self, kind: str) -> FeatureLayout:
        """All features of a kind; a `UserError` where the input does not carry them."""
        if kind not in self.kinds:
            raise UserError(f"Features {kind} cannot be had from {self.name}. "
                            f"Choose {' or '.join(self.kinds)}.")
        dims = self._embeddings.dims if self._embeddings is not None else 0
        return FeatureLayout("both", self.encoder, dims, self.series).only(kind)

    def side(self, layout: FeatureLayout, memory_mb: float, classes: int = 0) -> int:
        """Side (pixels) of windows whose arrays stay within a memory budget."""
        read = StackReader.bytes_per_pixel(
            self._stack, **_selection(layout)) if layout.series else 0
        # the table, its valid part, and what the head's graph holds in between
        per_pixel = 2 * read + 4 * (7 * layout.size + 6 * classes) + 16
        side = math.isqrt(int(memory_mb * 1e6 / per_pixel))
        return max(16, min(side // 16 * 16, 512))

    def window(self, window: Window, layout: FeatureLayout) -> tuple[np.ndarray, np.ndarray]:
        """Features of all pixels of a window.

        Returns:
            (rows * cols, size) float32, NaN where a sensor never saw the pixel; and
            (rows, cols) bool, whether there is enough to answer.
        """
        table, valid = self._pixels(window, layout, slice(None))
        return table, valid.reshape(window.rows, window.cols)

    def _pixels(self, window: Window, layout: FeatureLayout,
                chosen: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, size) of chosen pixels of a window (flat indices), and (n,) validity."""
        count = window.size if isinstance(chosen, slice) else len(chosen)
        table = np.full((count, layout.size), np.nan, np.float32)
        valid = np.ones(count, bool)
        if layout.dims:
            vectors, there = self._embeddings.vectors(_shifted(window, self._place))
            table[:, :layout.dims] = vectors.reshape(window.size, -1)[chosen]
            valid = there.reshape(-1)[chosen]
        if layout.series:
            cube = self._reader(layout).read(_shifted(window, self._in_stack))
            start = layout.dims
            for wanted in layout.series:
                stop = start + wanted.size
                if wanted.sensor in cube.series:
                    table[:, start:stop] = band_series(cube.series[wanted.sensor], wanted, chosen)
                start = stop
            if not layout.dims:
                valid = ~np.isnan(table).all(1)
        return table, valid

    def _reader(self, layout: FeatureLayout) -> StackReader:
        """The reader of just the bands of a layout: other bands do not touch its results."""
        if layout.series not in self._readers:
            self._readers[layout.series] = StackReader(self._stack, **_selection(layout))
        return self._readers[layout.series]

    def at(self, rows: np.ndarray, cols: np.ndarray, layout: FeatureLayout,
           context: JobContext) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, size) of n pixels, read tile by tile, and (n,) whether they can answer."""
        table = np.full((len(rows), layout.size), np.nan, np.float32)
        valid = np.zeros(len(rows), bool)
        tile = min(self.side(layout, context.memory_mb / 2), _TILE)
        keys, inverse = np.unique(np.stack([rows // tile, cols // tile], 1), axis=0,
                                  return_inverse=True)
        order = np.argsort(inverse.reshape(-1), kind="stable")
        ends = np.cumsum(np.bincount(inverse.reshape(-1), minlength=len(keys)))
        for number, mine in enumerate(np.split(order, ends[:-1])):
            context.progress(number / len(keys), "Reading the features of single pixels")
            r, c = rows[mine], cols[mine]
            window = Window(int(r.min()), int(c.min()), int(np.ptp(r)) + 1, int(np.ptp(c)) + 1)
            table[mine], valid[mine] = self._pixels(
                window, layout, (r - window.row) * window.cols + c - window.col)
        return table, valid


def band_series(series: Series, wanted: SensorSeries,
                chosen: slice | np.ndarray) -> np.ndarray:
    """(N, wanted.size) float32 of a sensor: gap-filled half-months, or the mean if undated.

    N are the chosen pixels: flat indices, or slice(None) for all. Wanted changes over the years
    follow; a pixel that has none (a stack of one year) gets NaN.

    Bands that some scenes lack (older satellites) are filled by themselves, so that they do not
    take those scenes from the others.
    """
    index = [series.bands.index(b) for b in wanted.bands]
    dates = len(series.dates)
    values = series.values[:, index].reshape(dates, len(index), -1)[:, :, chosen]
    valid = series.valid.reshape(dates, -1)[:, chosen]
    present = np.isfinite(values).any(axis=2)  # (dates, bands)
    table = np.full((valid.shape[1], wanted.steps, len(index)), np.nan, np.float32)
    for pattern in np.unique(present, axis=1).T:
        bands = np.flatnonzero((present == pattern[:, None]).all(0))
        if not pattern.any():
            continue
        some, seen = values[pattern][:, bands], valid[pattern]
        if wanted.steps > 1:
            table[:, :, bands] = timegrid.grid(some, seen, series.dates[pattern])[0]
        else:
            seen = seen & np.isfinite(some).all(1)
            total = np.where(seen[:, None], some, 0).sum(0)
            count = seen.sum(0)
            table[:, 0, bands] = np.where(count, total / np.maximum(count, 1), np.nan).T
    table = table.reshape(len(table), -1)
    if wanted.change:
        table = np.concatenate([table, years.change(values, valid, series.dates)], 1)
    return table


def series_on(sensor: str, bands: Sequence[str], dates: np.ndarray) -> SensorSeries:
    """The series that scenes on dates (T,) datetime64[D] offer; NaT for undated scenes."""
    dated = not np.isnat(dates).all()
    return SensorSeries(sensor, tuple(bands), timegrid.STEPS if dated else 1,
                        dated and years.longer_than_one(dates))


def _series_of(stack: Stack) -> tuple[SensorSeries, ...]:
    dates = {sensor: np.array([s.date or "NaT" for s in stack.scenes if s.sensor == sensor],
                              "datetime64[D]") for sensor in stack.sensors()}
    return tuple(series_on(sensor, bands, dates[sensor])
                 for sensor, bands in sorted(stack.sensors().items()) if bands)


def _selection(layout: FeatureLayout) -> dict[str, object]:
    """Sensors and bands of a layout as `StackReader` takes them."""
    return {"sensors": tuple(s.sensor for s in layout.series),
            "bands": {s.sensor: s.bands for s in layout.series}}


def _shifted(window: Window, place: tuple[int, int]) -> Window:
    return Window(window.row + place[0], window.col + place[1], window.rows, window.cols)


def _offset(whole: Grid, part: Grid, name: str) -> tuple[int, int]:
    """Row and column of a grid's first pixel in the grid that it is a part of."""
    col, row = ~whole.affine @ (part.affine @ (0, 0))
    window = Window(round(row), round(col), *part.shape)
    inside = (window.row >= 0 and window.col >= 0 and window.row + window.rows <= whole.shape[0]
              and window.col + window.cols <= whole.shape[1])
    if not inside or not whole.part(window).matches(part):
        raise UserError(f"{name} and the rasters lie on different pixels. Encode the rasters "
                        "again or give one of the two.")
    return window.row, window.col
