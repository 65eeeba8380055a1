"""What the user gave for a date or a series: scenes, embeddings made before, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import rasterio
from rasterio.errors import RasterioIOError

from ..context import JobContext
from ..errors import UserError
from ..heads.inputs import Inputs
from ..rasters.embeddings import ENCODER_TAG, EmbeddingsFile
from ..rasters.grid import Grid
from ..stacks.scenes import metres
from ..stacks.season import one_season
from ..stacks.stack import Stack, open_input


@dataclass(frozen=True)
class Side:
    """The rasters before or after a change.

    Attributes:
        stack: all scenes, of any years; None where only embeddings were given.
        embeddings: path, or None.
        name: for sentences.
    """

    stack: Stack | None
    embeddings: Path | None
    name: str

    @classmethod
    def open(cls, paths: Sequence[str], context: JobContext) -> Side:
        """Tell embeddings from rasters and open these.

        Raises:
            UserError: two embeddings files; see `open_input`.
        """
        files = [Path(p) for p in paths]
        embeddings = [p for p in files if _is_embeddings(p)]
        rasters = [p for p in files if p not in embeddings]
        if len(embeddings) > 1:
            raise UserError(f"{embeddings[0].name} and {embeddings[1].name} are both embeddings. "
                            "Give one.")
        first = files[0]
        name = first.name if len(files) == 1 else first.resolve().parent.name
        name = name.removesuffix(".stack.json").removesuffix(".tif")
        return cls(open_input(rasters, context) if rasters else None,
                   embeddings[0] if embeddings else None, name)

    @property
    def grid(self) -> Grid:
        """Of the embeddings, or of the scenes."""
        if self.embeddings is not None:
            with EmbeddingsFile(self.embeddings) as file:
                return file.grid
        return self.stack.grid

    def season(self) -> list[str]:
        """[first, last] ISO day; empty without dates."""
        if self.stack is not None:
            return self.stack.season()
        with EmbeddingsFile(self.embeddings) as file:
            return [file.dates[0], file.dates[-1]] if file.dates else []

    def on(self, grid: Grid) -> Side:
        """The same with its scenes brought to a grid."""
        return replace(self, stack=replace(self.stack, grid=grid)) if self.stack else self

    def inputs(self, extent: list | None, context: JobContext) -> Inputs:
        """The side as features are made of it: one season of scenes."""
        stack = one_season(self.stack, None, None, context) if self.stack is not None else None
        return Inputs(stack, self.embeddings, extent, None, self.name)


def coarser(first: Stack, second: Stack) -> Grid:
    """The grid with the larger pixels; of the second where they are alike.

    A coarse image on fine pixels would differ from a fine one along every edge.
    """
    return first.grid if metres(first.grid) > 1.05 * metres(second.grid) else second.grid


def check_order(before: list[str], after: list[str]) -> None:
    """Raise a `UserError` where all of After is earlier than Before."""
    if before and after and after[-1] < before[0]:
        raise UserError(f"Before ({before[0]}) is later than After ({after[-1]}). Swap them.")


def check_overlap(before: Side, after: Side) -> None:
    """Raise a `UserError` where the rasters of both sides are of other places."""
    if before.stack is None or after.stack is None:
        return  # whatever compares embeddings says so itself
    first, second = before.stack.grid, after.stack.grid
    if (first.crs is None) != (second.crs is None):
        without, other = (before, after) if first.crs is None else (after, before)
        raise UserError(f"{without.name} has no coordinate system, {other.name} has one. Assign "
                        f"one to {without.name}.")
    if second.window_of(first.bounds_in(second.crs)) is None:
        raise UserError(f"Before ({before.name}) and After ({after.name}) have no common area. "
                        "Choose rasters of one place, and check their coordinate systems.")


def _is_embeddings(path: Path) -> bool:
    if path.is_dir() or path.suffix.lower() not in (".tif", ".tiff", ".vrt"):
        return False
    try:
        with rasterio.open(path) as dataset:
            return ENCODER_TAG in dataset.tags()
    except RasterioIOError:
        return False  # whoever opens it as a raster says what is wrong
