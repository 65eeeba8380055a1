"""The two ways in which Galileo encodes a raster here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """Side of a patch and of a network window in pixels, margin in patches, months at most."""

    patch: int
    window: int
    margin: int
    most: int


# A pixel alone is the authors' demo and how CropHarvest is encoded (p = 1). Four patches a side
# with twelve months is one of the shapes that the weights were trained on; the inner patches have
# neighbours on all sides.
VARIANTS = {
    "pixel": Variant(patch=1, window=1, margin=0, most=24),
    "patch": Variant(patch=8, window=32, margin=1, most=12),
}
