"""What the user gave as input, sorted: rasters or a stack, and embeddings made before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import rasterio
from rasterio.errors import RasterioIOError

from ..context import JobContext
from ..encoding.encoder import Encoder
from ..encoding.pipeline import encode_stack, window_in
from ..errors import UserError
from ..rasters.embeddings import ENCODER_TAG, EmbeddingsFile
from ..stacks.season import one_season
from ..stacks.stack import Stack, open_input
from .features import FeatureSource
from .layout import FeatureLayout
from .sensors import bands_read


@dataclass(frozen=True)
class Inputs:
    """A stack, embeddings, or both.

    Attributes:
        stack: scenes of one season; None where only embeddings were given.
        embeddings: path; None where they are still to be made or not needed.
        extent: [left, bottom, right, top, CRS] or None.
        cutoff: last date that may be used, ISO day, or None.
        name: the input in a title.
    """

    stack: Stack | None
    embeddings: Path | None
    extent: list | None
    cutoff: str | None
    name: str

    @classmethod
    def open(cls, paths: Sequence[str], extent: list | None, cutoff: str | None,
             context: JobContext) -> Inputs:
        """Tell embeddings from rasters, build the stack and cut it to one season.

        Raises:
            UserError: two embeddings files; embeddings that use dates after the cutoff.
        """
        paths = [Path(p) for p in paths]
        embeddings = [p for p in paths if _is_embeddings(p)]
        rasters = [p for p in paths if p not in embeddings]
        if len(embeddings) > 1:
            raise UserError(f"{embeddings[0].name} and {embeddings[1].name} are both embeddings. "
                            "Give one.")
        for path in embeddings:
            with EmbeddingsFile(path) as file:
                if cutoff and file.dates and max(file.dates) > cutoff:
                    raise UserError(f"{path.name} uses dates up to {max(file.dates)}, after "
                                    f"{cutoff}. Encode the rasters up to that date.")
        stack = None
        if rasters:
            stack = one_season(open_input(rasters, context), None, cutoff, context)
        return cls(stack, embeddings[0] if embeddings else None, extent, cutoff, _name(paths))

    def lacking(self, encoder: str, device: str) -> list[str]:
        """Sentences on what the rasters lack to be encoded; empty where they can be."""
        if self.embeddings is not None:
            return []
        return Encoder.open(encoder, device).missing(self.stack.sensors())

    def encoded(self, encoder: str, output: Path, context: JobContext) -> Inputs:
        """With embeddings; made now unless they were given."""
        if self.embeddings is not None:
            return self
        encode_stack(self.stack, encoder, output, context, self.extent, upsampled=True)
        return replace(self, embeddings=output)

    def bands_read(self, layout: FeatureLayout) -> dict[str, tuple[str, ...]]:
        """Each sensor's bands that features of a layout are made of; empty where unknown.

        Imported embeddings do not say what they were made of.
        """
        if not layout.dims or self.embeddings is None:
            return (bands_read(self.stack, layout) or {}) if self.stack is not None else {}
        with EmbeddingsFile(self.embeddings) as file:
            read = file.sensors
        if not read or self.stack is None:
            return read
        return {**bands_read(self.stack, layout.only("bands")), **read}

    def season(self) -> list[str]:
        """[first, last] ISO day that was read; empty without dates."""
        if self.embeddings is None or self.stack is not None:
            return self.stack.season() if self.stack is not None else []
        with EmbeddingsFile(self.embeddings) as file:
            return [file.dates[0], file.dates[-1]] if file.dates else []

    def source(self) -> FeatureSource:
        """The features on the grid to work on; opens files, so one for each thread."""
        if self.embeddings is not None:
            with EmbeddingsFile(self.embeddings) as file:
                return FeatureSource(self.stack, self.embeddings,
                                     window=window_in(file.grid, self.extent))
        return FeatureSource(self.stack, None, window=window_in(self.stack.grid, self.extent))


def _is_embeddings(path: Path) -> bool:
    if path.is_dir() or path.suffix.lower() not in (".tif", ".tiff", ".vrt"):
        return False
    try:
        with rasterio.open(path) as dataset:
            return ENCODER_TAG in dataset.tags()
    except RasterioIOError:
        return False  # whoever opens it as a raster says what is wrong


def _name(paths: list[Path]) -> str:
    """The stack's or the only file's name, or that of the folder that holds the rasters."""
    first = paths[0]
    if first.is_dir() or len(paths) == 1:
        return first.stem.removesuffix(".stack")
    return first.resolve().parent.name
