"""What every format gives: where the vectors lie, whose they are, and windows of them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..rasters.grid import Grid, Window

_YEAR = re.compile(r"(?<!\d)(20[1-4]\d)(?!\d)")


@dataclass(frozen=True)
class Origin:
    """Whose vectors they are.

    Attributes:
        encoder: name@version#variant; vectors of different encoders are never mixed.
        year: that they describe; None where nothing says so.
        attribution: the sentence that the makers ask for, or "".
    """

    encoder: str
    year: int | None = None
    attribution: str = ""


class Source(ABC):
    """Vectors on one grid, read by windows.

    Attributes:
        name: for sentences to the user.
        grid: where the pixels lie, in the order in which `read` gives them.
        dims: numbers a vector.
        origin: whose they are.
    """

    def __init__(self, name: str, grid: Grid, dims: int, origin: Origin) -> None:
        self.name, self.grid, self.dims, self.origin = name, grid, dims, origin

    @abstractmethod
    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(rows, cols, dims) float32 vectors as published, and (rows, cols) bool where they are.

        Vectors are not normalised; where there is none, the numbers mean nothing.

        Raises:
            UserError: the file is damaged.
        """

    def close(self) -> None:  # noqa: B027 (most sources hold nothing open)
        """Let go of what is held open; a later `read` opens it again."""


def year_in(path: Path) -> int | None:
    """The year in a file's name, else the nearest folder that is called like one."""
    found = _YEAR.findall(path.stem)
    if found:
        return int(found[-1])
    folders: Iterable[str] = (parent.name for parent in path.parents)
    return next((int(name) for name in folders if _YEAR.fullmatch(name)), None)
