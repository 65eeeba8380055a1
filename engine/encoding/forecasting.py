"""A forecasting network at work: windows that overlap on one lattice, blended so that none shows.

Every pixel is the weighted mean of all windows that hold it. The windows' places and weights depend
on the raster alone, so that the image is the same whatever block it is worked out in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from ...models.cards import Card, read_card
from ...models.cube import Cube
from ...models.mmvsf import adapter
from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Window
from ..stacks.reading import StackReader
from .patches import window

_AT_ONCE = 8  # windows of one call


@dataclass(frozen=True)
class Forecaster:
    """An opened network that forecasts.

    Attributes:
        card: what it is; its `window` is the side of a window.
        session: ONNX Runtime's session.
    """

    card: Card
    session: onnxruntime.InferenceSession

    @classmethod
    def open(cls, path: Path, threads: int = 1) -> Forecaster:
        """Open a network.

        Raises:
            UserError: it is not there, or gives no forecasts.
        """
        try:
            card = read_card(path)
        except ValueError as failure:
            raise UserError(str(failure)) from failure
        if (card.system, card.variant) != ("mmvsf", "forecast"):
            raise UserError(f"{card.name} does not forecast. Install Earthprint again.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return cls(card, onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]))

    def places(self, area: Window, shape: tuple[int, int]) -> list[tuple[int, int]]:
        """(row, col) of the lattice's windows that touch an area of a raster of a shape."""
        side = self.card.window

        def along(start: int, length: int, size: int) -> list[int]:
            return [s for s in adapter.starts(size, side) if start - side < s < start + length]

        return [(row, col) for row in along(area.row, area.rows, shape[0])
                for col in along(area.col, area.cols, shape[1])]

    def block(self, reader: StackReader, area: Window, target: np.datetime64, context: JobContext
              ) -> np.ndarray:
        """(B, rows, cols) reflectance of an area on a day; NaN where nothing was seen before.

        Args:
            reader: of the stack's Sentinel-2 scenes, and of its weather.
            area: window of the stack's grid.
            target: the day; only scenes before it are looked at.
            context: for cancelling.
        """
        side, places = self.card.window, self.places(area, reader.grid.shape)
        top, left = places[0]
        bottom = min(places[-1][0] + side, reader.grid.shape[0])
        right = min(places[-1][1] + side, reader.grid.shape[1])
        cube = reader.read(Window(top, left, bottom - top, right - left))
        total = np.zeros((len(adapter.BANDS), bottom - top + side, right - left + side), np.float32)
        weights = np.zeros(total.shape[1:], np.float32)
        for (row, col), image, seen in self._images(cube, places, target, context):
            part = ..., slice(row - top, row - top + side), slice(col - left, col - left + side)
            weight = adapter.weights(side) * seen
            total[part] += weight * image
            weights[part] += weight
        inside = (..., slice(area.row - top, area.row - top + area.rows),
                  slice(area.col - left, area.col - left + area.cols))
        weights = weights[inside]
        mean = total[inside] / np.where(weights > 0, weights, 1)
        return np.where(weights > 0, mean, np.nan).astype(np.float32)

    def image(self, cube: Cube, target: np.datetime64) -> np.ndarray | None:
        """(B, side, side) reflectance of one window, NaN where nothing was seen; None without any.
        """
        for _, image, seen in self._images(cube, [(0, 0)], target, JobContext()):
            return np.where(seen, image, np.nan)
        return None

    def _images(self, cube: Cube, places: list[tuple[int, int]], target: np.datetime64,
                context: JobContext) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray]]:
        """Place, image and what was seen of each window of a cube that shows anything."""
        most = self.card.sensors[0].most
        waiting: dict[int, list] = defaultdict(list)  # windows of as many dates go together
        first = places[0]
        for row, col in places:
            context.check()
            given = adapter.forecast_inputs(
                window(cube, row - first[0], col - first[1], self.card.window), target, most)
            if given is None:
                continue
            group = waiting[given["days"].shape[1]]
            group.append(((row, col), given))
            if len(group) == _AT_ONCE:
                yield from self._run(group)
                group.clear()
        for group in waiting.values():
            if group:
                yield from self._run(group)

    def _run(self, group: list) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray]]:
        inputs = {name: np.concatenate([given[name] for _, given in group])
                  for name in group[0][1]}
        images = adapter.reflectance(self.session.run(["image"], inputs)[0])
        for (place, given), image in zip(group, images, strict=True):
            yield place, image, given["seen"][0].any(axis=0)
