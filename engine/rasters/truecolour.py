"""The QGIS style of reflectance in true colour, with one stretch for all dates of a place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .styles import document


@dataclass(frozen=True)
class TrueColour:
    """Red, green and blue between two reflectances each.

    Attributes:
        bands: numbers of the red, green and blue band in the file, from 1.
        low, high: what is drawn black and full, of each.
    """

    bands: tuple[int, int, int]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, bands: tuple[int, int, int], pixels: np.ndarray) -> TrueColour:
        """A stretch from the 2nd to the 98th percentile of (3, n) reflectances."""
        if not pixels.size:
            return cls(bands, (0.0,) * 3, (0.3,) * 3)
        low, high = np.percentile(pixels, (2, 98), axis=1)
        high = [max(h, b + 0.01) for b, h in zip(low, high, strict=True)]
        return cls(bands, tuple(float(v) for v in low), tuple(float(v) for v in high))

    def bytes_of(self, pixels: np.ndarray) -> np.ndarray:
        """(rows, cols, 3) uint8 of (3, rows, cols) reflectances; white where there is none."""
        low, high = (np.array(v)[:, None, None] for v in (self.low, self.high))
        shades = np.clip((pixels - low) / (high - low), 0, 1) * 255
        return np.where(np.isfinite(shades), shades, 255).round().astype(np.uint8).transpose(
            1, 2, 0)

    def qml(self) -> str:
        """The style as QGIS reads it."""
        red, green, blue = self.bands
        ends = "".join(
            f"   <{name}ContrastEnhancement><minValue>{low!r}</minValue>"
            f"<maxValue>{high!r}</maxValue><algorithm>StretchToMinimumMaximum</algorithm>"
            f"</{name}ContrastEnhancement>\n"
            for name, low, high in zip(("red", "green", "blue"), self.low, self.high, strict=True))
        return document(
            f'  <rasterrenderer type="multibandcolor" redBand="{red}" greenBand="{green}" '
            f'blueBand="{blue}" opacity="1" alphaBand="-1" nodataColor="">\n{ends}'
            "  </rasterrenderer>\n")
