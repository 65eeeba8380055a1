"""Three colours for embeddings: their first principal components with a fixed stretch.

A basis that was saved gives the same vectors the same colours in every tile and year.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from ..errors import UserError

#: Percentiles of the sample that become the darkest and the brightest colour.
STRETCH = (2.0, 98.0)
_KIND = "earthprint-colour-basis"


@dataclass(frozen=True)
class ColourBasis:
    """How vectors of one encoder become red, green and blue.

    Attributes:
        encoder: name@version#hash whose vectors it was made for.
        mean: (d,) float64, taken off first.
        axes: (3, d) float64 unit vectors; rows of zeros where vectors have fewer dimensions.
        stretch: (3, 2) float64, coordinates of the darkest and the brightest colour.
        explained: share of the sample's variance on the three axes, 0..1.
    """

    encoder: str
    mean: np.ndarray
    axes: np.ndarray
    stretch: np.ndarray
    explained: float

    @classmethod
    def fit(cls, encoder: str, sample: np.ndarray) -> ColourBasis:
        """Principal components of (n, d) vectors, n at least 1.

        An axis and its opposite are equally good; the one whose largest component is positive is
        taken, so that the same sample always gives the same colours.
        """
        vectors = np.asarray(sample, np.float64)
        mean = vectors.mean(0)
        centred = vectors - mean
        spread, directions = np.linalg.eigh(centred.T @ centred / len(centred))
        found = directions.T[::-1][:3]
        axes = np.zeros((3, len(mean)))
        for k, axis in enumerate(found):
            axes[k] = axis * np.sign(axis[np.argmax(np.abs(axis))])
        stretch = np.percentile(centred @ axes.T, STRETCH, axis=0).T
        total = spread.sum()
        return cls(encoder, mean, axes, stretch,
                   float(spread[-3:].sum() / total) if total > 0 else 1.0)

    @classmethod
    def load(cls, path: Path) -> ColourBasis:
        """Read a saved basis.

        Raises:
            UserError: no such file, or not a colour basis.
        """
        path = Path(path)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["kind"] != _KIND:
                raise ValueError("another kind of file")
            mean, axes, stretch = (np.array(record[key], np.float64)
                                   for key in ("mean", "axes", "stretch"))
            if (mean.ndim != 1 or axes.shape != (3, len(mean)) or stretch.shape != (3, 2)
                    or not all(np.isfinite(part).all() for part in (mean, axes, stretch))):
                raise ValueError("numbers are missing")
            return cls(str(record["encoder"]), mean, axes, stretch, float(record["explained"]))
        except OSError as failure:
            raise UserError(f"Colour basis {path.name} cannot be read ({failure.strerror}). Choose "
                            "another file.") from failure
        except (ValueError, KeyError, TypeError) as failure:
            raise UserError(f"{path.name} is no colour basis. Choose a file that Visualize "
                            "embeddings has saved, or none.") from failure

    def save(self, path: Path) -> None:
        """Write the basis as JSON; complete or not at all."""
        record = {"kind": _KIND, "encoder": self.encoder, "explained": self.explained,
                  "stretch": self.stretch.tolist(), "mean": self.mean.tolist(),
                  "axes": self.axes.tolist()}
        part = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.part")
        try:
            part.write_text(json.dumps(record, indent=1), encoding="utf-8")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def require(self, encoder: str, dims: int, name: str) -> None:
        """Raise a `UserError` unless embeddings `name` come from the basis's encoder."""
        if encoder != self.encoder or dims != len(self.mean):
            raise UserError(f"The colour basis is for embeddings of {self.encoder}, {name} is of "
                            f"{encoder}. Choose another colour basis or none.")

    def colours(self, codes: np.ndarray, scale: float) -> np.ndarray:
        """(rows, cols, d) uint8 codes to (3, rows, cols) uint8 colours 1..255; 0 without vector.

        The sums are made pixel by pixel in one order, so that no window changes a colour.
        """
        low, high = self.stretch.T
        wide = high > low
        step = np.where(wide, 254.0 / np.where(wide, high - low, 1.0), 0.0)
        # colour = 1 + (axis (s (code - 128) - mean) - low) step, gathered by code
        weights = np.ascontiguousarray((self.axes * step[:, None] * scale).T)
        start = 1.0 - ((self.axes @ self.mean) + low) * step
        return _paint(codes, weights, np.where(wide, start, 128.0))


@numba.njit(cache=True, nogil=True)
def _paint(codes: np.ndarray, weights: np.ndarray, start: np.ndarray) -> np.ndarray:
    rows, cols, dims = codes.shape
    out = np.zeros((3, rows, cols), np.uint8)
    for r in range(rows):
        for c in range(cols):
            if codes[r, c, 0] != 0:
                red, green, blue = start[0], start[1], start[2]
                for j in range(dims):
                    value = codes[r, c, j] - 128.0
                    red += weights[j, 0] * value
                    green += weights[j, 1] * value
                    blue += weights[j, 2] * value
                out[0, r, c] = np.uint8(min(max(np.rint(red), 1.0), 255.0))
                out[1, r, c] = np.uint8(min(max(np.rint(green), 1.0), 255.0))
                out[2, r, c] = np.uint8(min(max(np.rint(blue), 1.0), 255.0))
    return out
