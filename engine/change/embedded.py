"""Change of embeddings: the angle between the vectors of two dates, cut above its background."""

from __future__ import annotations

import numpy as np

from ..context import JobContext
from ..encoding.pipeline import window_in
from ..errors import UserError
from ..heads.inputs import Inputs
from ..rasters.distance import STEPS, Background, cosine_distance
from ..rasters.embeddings import EmbeddingsFile
from ..rasters.grid import Grid, Window
from ..rasters.legend import Legend
from ..rasters.overlap import common_windows, within
from ..rasters.sampling import even_places
from ..rasters.styles import INFERNO, Ramp
from .decision import NOTHING, Decision, Found, as_they_are
from .vectors import LEGEND

_SAMPLE = 40_000  # pixels of which the distances make the background
_SIDE = 256


class EmbeddingDetector:
    """Cosine distances of two embeddings files on their common area.

    Args:
        before, after: with embeddings.
        extent: [left, bottom, right, top, CRS] or None.
        threshold: cosine distance, or None for that of the background.
        context: progress, log.

    Raises:
        UserError: other encoders, pixels that don't lie on each other, nothing in common.
    """

    codes, unmoved, small = len(LEGEND), (0,), 0
    strength = "Cosine distance"

    def __init__(self, before: Inputs, after: Inputs, extent: list | None,
                 threshold: float | None, context: JobContext) -> None:
        self._first = EmbeddingsFile(before.embeddings)
        self._second = EmbeddingsFile(after.embeddings)
        try:
            if (self._first.encoder, self._first.dims) != (self._second.encoder,
                                                           self._second.dims):
                raise UserError(
                    f"{before.name} is of the encoder {self._first.encoder}, {after.name} of "
                    f"{self._second.encoder}; they cannot be compared. Encode both with one "
                    "encoder.")
            self._areas = common_area(self._first.grid, self._second.grid, before.name,
                                      after.name, extent)
            self.grid = self._first.grid.part(self._areas[0])
            self.decision = self._decide(threshold, context)
        except UserError:
            self.close()
            raise
        self.ramp = Ramp(INFERNO, 0.0, 2 * self.decision.cut, "{:.3f}")
        self.tags = {"EARTHPRINT_METHOD": "embeddings",
                     "EARTHPRINT_ENCODERS": self._first.encoder,
                     "EARTHPRINT_THRESHOLD": f"{self.decision.cut:.6f}"}

    @property
    def encoder(self) -> str:
        """Identity of the encoder of both."""
        return self._first.encoder

    def close(self) -> None:
        """Close both files."""
        self._first.close()
        self._second.close()

    def side(self, memory_mb: float) -> int:  # noqa: ARG002
        """Side of windows: a tile of the files."""
        return _SIDE

    def values(self, square_metres: np.ndarray) -> tuple[np.ndarray, Legend]:  # noqa: ARG002
        """The codes are the values."""
        return as_they_are(LEGEND)

    def block(self, window: Window) -> Found:
        """Distances, and change where they are above the threshold."""
        distance = self._distances(window)
        known = distance >= 0
        codes = np.where(known, distance > self.decision.cut, NOTHING).astype(np.uint16)
        return Found(distance, codes, self.decision.certainty(distance))

    def _distances(self, window: Window) -> np.ndarray:
        return cosine_distance(self._first.codes(within(window, self._areas[0])),
                               self._second.codes(within(window, self._areas[1])))

    def _decide(self, given: float | None, context: JobContext) -> Decision:
        """The threshold that was given, or that of the background, said in the log."""
        parts, places = [], even_places(self.grid.shape, _SAMPLE, 0)
        for k, (window, rows, cols) in enumerate(places):
            context.progress(k / len(places), "Comparing a sample")
            found = self._distances(window)[rows, cols]
            parts.append(found[found >= 0])
        self.sample = np.concatenate(parts)
        if not len(self.sample):
            raise UserError("No pixel has embeddings on both dates. Choose other dates or another "
                            "area.")
        background = Background.of(self.sample, self._first.dims, self._first.scale)
        threshold = background.threshold if given is None else float(given)
        source = ("as given" if given is not None else
                  f"background angle {np.degrees(background.median):.1f} ± "
                  f"{np.degrees(background.deviation):.1f}°, change from {STEPS:.0f} deviations "
                  "above")
        context.log(f"Threshold: cosine distance {threshold:.4f} ({source}); "
                    f"{100 * (self.sample > threshold).mean():.1f} % of {len(self.sample)} pixels "
                    "are above")
        return Decision.of(self.sample, threshold)


def common_area(first: Grid, second: Grid, before: str, after: str, extent: list | None
                ) -> tuple[Window, Window]:
    """The windows of the common area of two grids within an extent.

    Raises:
        UserError: pixels that don't lie on each other, nothing in common.
    """
    part = window_in(first, extent)
    try:
        common = common_windows(first.part(part), second)
    except ValueError as failure:
        raise UserError(
            f"The pixels of {before} and {after} don't lie on each other: {failure}. Build the "
            "stack of one with a raster of the other as Reference grid, and encode it again."
        ) from failure
    if common is None:
        raise UserError(f"{before} and {after} have no common area here. Choose others.")
    return within(common[0], part), common[1]
