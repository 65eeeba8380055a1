"""The recipe of a season: every number of the simulation, read from `resources/demo/recipe.json`.

Sections and their keys are attributes: ``recipe.clouds.height_m``. Units are part of the key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

RECIPE = Path(__file__).resolve().parents[2] / "resources" / "demo" / "recipe.json"

# Independent random streams of one seed, so that a date does not depend on those before it.
STREAMS = ("landscape", "weather", "fields", "calendar", "labels", "optical", "radar")


@dataclass(frozen=True)
class Classes:
    """The rows of the class table, as columns.

    Attributes:
        rows: one namespace a class, as in the recipe.
        names: class names, in order; a class is known by its place in this tuple.
        truth: (k,) uint8, value of each class in the truth raster (1 = first).
    """

    rows: tuple[SimpleNamespace, ...]
    names: tuple[str, ...]
    truth: np.ndarray

    def column(self, key: str) -> np.ndarray:
        """One number (or list of numbers) of all classes, (k, ...) float64."""
        return np.array([getattr(row, key) for row in self.rows], dtype=float)

    def of_cover(self, cover: str) -> np.ndarray:
        """The places of the classes that grow on a kind of cover."""
        return np.array([k for k, row in enumerate(self.rows) if row.cover == cover])


def load_recipe(path: Path = RECIPE) -> SimpleNamespace:
    """The recipe as nested namespaces."""
    return json.loads(
        path.read_text(encoding="utf-8"), object_hook=lambda pairs: SimpleNamespace(**pairs)
    )


def classes_of(recipe: SimpleNamespace) -> Classes:
    """The class table of a recipe, with the defaults filled in."""
    defaults = vars(recipe.class_defaults)
    return Classes(
        tuple(SimpleNamespace(**defaults | vars(row)) for row in recipe.classes),
        tuple(row.name for row in recipe.classes),
        np.array([1 + recipe.truth.index(row.truth) for row in recipe.classes], np.uint8),
    )


def stream(seed: int, name: str, day: int = 0) -> np.random.Generator:
    """The random numbers of one purpose and, where it has one, of one day."""
    return np.random.default_rng([seed, STREAMS.index(name), day])
