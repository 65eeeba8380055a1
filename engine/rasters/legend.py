"""Which value of a class raster means what, and its colour."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from ..errors import UserError

NODATA = 255
"""Value of pixels without an answer in class rasters, so that 0 may be a class."""

COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00",
          "#cc79a7", "#000000", "#332288", "#882255", "#dddddd", "#661100")
"""Colours that stay apart for all kinds of colour vision, in the order of use."""

_CROPS = Path(__file__).resolve().parents[2] / "resources" / "legends" / "crops.json"


@dataclass(frozen=True)
class LegendClass:
    """One class: raster value 0..254, name, colour "#rrggbb"."""

    value: int
    name: str
    color: str


@dataclass(frozen=True)
class Legend:
    """The classes of a map, in the order of the columns of probabilities."""

    classes: tuple[LegendClass, ...]

    def __post_init__(self) -> None:
        values = [c.value for c in self.classes]
        if len(set(values)) != len(values) or not all(0 <= v < NODATA for v in values):
            raise UserError(f"The legend needs different values from 0 to {NODATA - 1}, not "
                            f"{', '.join(map(str, values))}. Number the classes anew.")

    @classmethod
    def of_names(cls, names: Sequence[str]) -> Legend:
        """Values 1, 2, ... for names, with crop colours by name or else the default colours."""
        return cls._coloured(list(enumerate(names, 1)))

    @classmethod
    def of_numbers(cls, numbers: Sequence[float]) -> Legend:
        """The legend of a number field.

        Whole numbers 0..254 stay the raster's values. Others, such as the ten-digit codes of
        WorldCereal, become 1, 2, ... and lend their name: the crop of the code, or the number.
        """
        whole = all(float(n).is_integer() for n in numbers)
        if whole and all(0 <= n < NODATA for n in numbers):
            return cls._coloured([(int(n), f"{int(n)}") for n in numbers])
        codes = {c["code"]: c["name"] for c in _crops() if c["code"]}
        return cls.of_names([codes.get(n, f"{n:.0f}" if float(n).is_integer() else f"{n:g}")
                             for n in numbers])

    @classmethod
    def of_records(cls, records: Iterable[dict]) -> Legend:
        """The legend from [{value, name, color}] as cards and files hold it."""
        return cls(tuple(LegendClass(int(r["value"]), str(r["name"]), str(r["color"]).lower())
                         for r in records))

    @classmethod
    def _coloured(cls, items: list[tuple[int, str]]) -> Legend:
        known = [crop_color(name) for _, name in items]
        used = {color for color in known if color}
        spare = [c for c in COLORS if c not in used]
        spare += [f"#{(i * 83) % 200 + 28:02x}{(i * 151) % 200 + 28:02x}{(i * 211) % 200 + 28:02x}"
                  for i in range(len(items))]
        classes, taken = [], set()
        for (value, name), color in zip(items, known, strict=True):
            if color is None or color in taken:
                color = spare.pop(0)
            taken.add(color)
            classes.append(LegendClass(value, name, color))
        return cls(tuple(classes))

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(c.name for c in self.classes)

    @property
    def values(self) -> tuple[int, ...]:
        """Raster values of the classes."""
        return tuple(c.value for c in self.classes)

    @property
    def colors(self) -> tuple[str, ...]:
        """Colours of the classes, "#rrggbb"."""
        return tuple(c.color for c in self.classes)

    def records(self) -> list[dict[str, object]]:
        """The legend as [{value, name, color}], for JSON and raster writers."""
        return [asdict(c) for c in self.classes]


def crop_color(name: str) -> str | None:
    """The colour analysts expect for a crop or cover, by its name or a synonym; None if unknown."""
    return _colors().get(_plain(name))


def _plain(name: str) -> str:
    """Lower case, without accents, with single spaces between words."""
    text = unicodedata.normalize("NFKD", name.casefold())
    text = "".join(c for c in text if not unicodedata.combining(c))
    return re.sub(r"[\W_]+", " ", text).strip()


@cache
def _crops() -> list[dict]:
    return json.loads(_CROPS.read_text(encoding="utf-8"))["classes"]


@cache
def _colors() -> dict[str, str]:
    return {_plain(name): crop["color"]
            for crop in _crops() for name in (crop["name"], *crop["synonyms"])}
