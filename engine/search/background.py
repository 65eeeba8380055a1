"""The background: a fixed sample of all places, beside which a similarity means something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..context import JobContext
from ..errors import UserError
from ..rasters.cog import TILE
from ..rasters.grid import Window
from .archive import Archive, Reader
from .kernel import Coding, exact

SIZE = 20_000
_SQUARES = 128  # file tiles that are read for it, evenly over the archive
_LEAST = 2_000  # with fewer vectors than this, further file tiles are read


@dataclass(frozen=True)
class Background:
    """Codes of the sample, by coding: (coding, (n, d) uint8 codes)."""

    parts: tuple[tuple[Coding, np.ndarray], ...]

    def units(self) -> np.ndarray:
        """(n, d) float64 centred unit vectors."""
        return np.concatenate([coding.units(codes) for coding, codes in self.parts])

    def scale_of(self, directions: np.ndarray) -> Significance:
        """How alike the sample is to (p, d) directions."""
        return Significance(np.sort(np.concatenate(
            [exact(codes, directions, coding) for coding, codes in self.parts])))


@dataclass(frozen=True)
class Significance:
    """The sample's similarities to a query, ascending (n,)."""

    similarities: np.ndarray

    def percentile(self, similarity: np.ndarray) -> np.ndarray:
        """Share of the background (%) that is less alike; 100 minus it is at least as alike."""
        less = np.searchsorted(self.similarities, similarity, side="left")
        return 100 * less / len(self.similarities)

    def threshold(self, share: float) -> float:
        """The similarity that a share (0..1) of the background reaches."""
        return float(np.quantile(self.similarities, 1 - share))


def sample(archive: Archive, reader: Reader, context: JobContext) -> Background:
    """About `SIZE` vectors, evenly over the searched area and always the same.

    Raises:
        UserError: nothing but nodata.
    """
    rng = np.random.default_rng(0)
    squares = [(i, window) for i, tile in enumerate(archive.tiles)
               for window in tile.grid.part(tile.area).blocks(TILE, TILE)]
    # multiples of the golden ratio: each beginning of this order is spread evenly
    order = np.argsort((np.arange(len(squares)) * 0.6180339887498949) % 1, kind="stable")
    taken: dict[int, list[np.ndarray]] = {}
    found, near = 0, min(len(squares), _SQUARES)
    pixels = sum(squares[k][1].size for k in order[:near])
    for done, k in enumerate(order):
        if done >= near and found >= _LEAST:
            break
        context.progress(min(done / near, 1.0), "Sampling the background")
        index, window = squares[k]
        tile = archive.tiles[index]
        place = Window(window.row + tile.area.row, window.col + tile.area.col, window.rows,
                             window.cols)
        codes = reader.codes(tile, place).reshape(-1, archive.dims)
        valid = np.flatnonzero(codes[:, 0])
        wanted = min(len(valid), round(len(valid) * min(1.0, SIZE / pixels)) + 1)
        chosen = codes[np.sort(rng.choice(valid, wanted, replace=False))] if len(valid) else []
        if len(chosen):
            taken.setdefault(index, []).append(chosen)
            found += len(chosen)
    if not found:
        raise UserError(f"{archive.tiles[0].path.name} holds no embeddings in this area (all "
                        "nodata). Choose another area.")
    return Background(tuple((archive.tiles[i].coding, np.concatenate(parts))
                            for i, parts in sorted(taken.items())))
