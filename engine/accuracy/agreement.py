"""How far a map agrees with a reference that knows every place: counted, not estimated.

All ground that both know is looked at, so there is no sample and no sampling error. Neighbouring
pixels are alike; to take them for independent draws would promise intervals that do not hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..context import JobContext
from ..errors import UserError
from ..rasters.class_names import Names
from ..rasters.grid import Grid
from ..rasters.legend import COLORS
from .classmap import MOST_NAMELESS, Census, ClassMap
from .overlay import OUTSIDE, Overlay

_NOTHING = ("no data", "nodata", "unclassified", "unlabelled", "unlabeled", "unknown")
_BACKGROUND = (*_NOTHING, "background", "none")  # names of 0 that tell of no class

RIGHT, WRONG, UNSEEN = 0, 1, 2
"""Values of `Agreement.picture`: both say the same, they do not, one of them says nothing."""


@dataclass(frozen=True)
class Ground:
    """Where the map's hectares are.

    Attributes:
        mapped: all that has a class on the map.
        compared: of it, what has one in the reference too.
        unlabelled: of it, where the reference has none.
        beyond: of it, outside the reference.
        unmapped: what has a class in the reference alone, on the map's pixels.
        whole: whether no pixel with a class on the map was left out.
    """

    mapped: float
    compared: float
    unlabelled: float
    beyond: float
    unmapped: float
    whole: bool

    @property
    def covered(self) -> str:
        """Share of the map's area that was compared, in percent; 100 where nothing is left out."""
        share = 100 * self.compared / self.mapped
        if self.whole:
            return "100"
        return f"{share:.1f}" if share < 99.9 else f"{min(share, 99.99):.2f}"

    @property
    def left(self) -> float:
        """Share of the map's area that could not be compared, 0..1."""
        return (self.unlabelled + self.beyond) / self.mapped


@dataclass(frozen=True)
class Agreement:
    """A map of c classes beside a reference; rows are the map, columns the reference.

    Attributes:
        names, colors: (c,) classes, the map's first, then those that only the reference knows.
        values: (c,) of the map; None where it has no such class.
        true_values: (c,) of the reference; None where it has no such class there.
        matched: how classes found each other, in words.
        pixels: (c, c) of the map that were compared.
        hectares: (c, c) their true size.
        ground: what was compared and what was not.
        sketch: grid of `picture`.
        picture: (rows, cols) uint8 `RIGHT`, `WRONG` or `UNSEEN`.
    """

    names: tuple[str, ...]
    colors: tuple[str, ...]
    values: tuple[int | None, ...]
    true_values: tuple[int | None, ...]
    matched: str
    pixels: np.ndarray
    hectares: np.ndarray
    ground: Ground
    sketch: Grid
    picture: np.ndarray

    @property
    def mapped(self) -> np.ndarray:
        """(c,) hectares mapped as each class."""
        return self.hectares.sum(1)

    @property
    def true(self) -> np.ndarray:
        """(c,) hectares that are of each class in the reference."""
        return self.hectares.sum(0)

    @property
    def overall(self) -> float:
        """Share of the compared ground where both say the same."""
        return float(np.trace(self.hectares) / self.hectares.sum())

    @property
    def users(self) -> np.ndarray:
        """(c,) share right of what is mapped as a class; NaN where nothing is."""
        return self._share(self.mapped)

    @property
    def producers(self) -> np.ndarray:
        """(c,) share mapped right of what is of a class; NaN where nothing is."""
        return self._share(self.true)

    @property
    def f1(self) -> np.ndarray:
        """(c,) harmonic mean of user's and producer's accuracy."""
        return self._share((self.mapped + self.true) / 2)

    @property
    def iou(self) -> np.ndarray:
        """(c,) what both call so, of what any of them calls so."""
        return self._share(self.mapped + self.true - np.diag(self.hectares))

    def _share(self, of: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(of > 0, np.diag(self.hectares) / of, np.nan)


def agree(overlay: Overlay, census: Census, source: ClassMap, reference: ClassMap,
          context: JobContext) -> Agreement:
    """Match the classes of both and sum up.

    Where both bring a legend, classes are matched by name, whatever its case; otherwise by value.
    Values of the reference that its own legend does not name are no class, nor are those called
    "no data" or the like. In a reference that declares no nodata, 0 is none either, unless the
    legend names it or only one other value is there, as for labels.

    Args:
        overlay: of both.
        census: of the map.
        source: the map.
        reference: what is taken for true.
        context: warnings.

    Raises:
        UserError: no class in common, or no ground.
    """
    match = _Match(overlay, census, source, reference, context)
    count = len(census.classes)
    known = match.place >= 0
    size = len(match.names)

    def squared(table: np.ndarray) -> np.ndarray:
        result = np.zeros((size, size), table.dtype)
        for value in np.flatnonzero(known):
            result[:count, match.place[value]] += table[:count, value]
        return result

    pixels, hectares = squared(overlay.pixels), squared(overlay.hectares)
    lost = overlay.hectares[:count].sum() - hectares.sum()
    beyond = overlay.hectares[:count, -1].sum()
    ground = Ground(
        mapped=float(overlay.hectares[:count].sum()), compared=float(hectares.sum()),
        unlabelled=float(max(lost - beyond, 0)), beyond=float(beyond),
        unmapped=float(overlay.hectares[count, :-2][known].sum()),
        whole=int(pixels.sum()) == int(overlay.pixels[:count].sum()))
    found = Agreement(
        match.names, match.colors, (*(c.value for c in census.classes), *[None] * (size - count)),
        match.true_values, match.matched, pixels, hectares, ground,
        overlay.sketch, _picture(overlay, match.place))
    match.say(found)
    return found


class _Match:
    """The classes of map and reference together.

    Attributes:
        place: (r,) of each value of the reference among the classes, -1 for no class.
        names, colors, true_values: (c,) of the classes.
        matched: how, in words.
    """

    def __init__(self, overlay: Overlay, census: Census, source: ClassMap, reference: ClassMap,
                 context: JobContext) -> None:
        self._map, self._reference, self._context = source.path.name, reference.path.name, context
        self._census = census
        present = [v for v, n in zip(overlay.values.tolist(),
                                     overlay.pixels[: len(census.classes), :-2].sum(0),
                                     strict=True) if n]
        self._theirs = self._legend(present, reference.names)
        self.by_name = bool(census.legend) and bool(self._theirs)
        nameless = [v for v in present if self._theirs and v not in self._theirs]
        if nameless:
            context.warn(f"Value {', '.join(map(str, nameless))} has no class in the legend of "
                         f"{self._reference} and was left out.")
        empty = {*nameless, *self._no_classes(present, reference)}
        classes = [v for v in present if v not in empty]
        if not classes:
            raise UserError(f"{self._reference} has no class anywhere on {self._map}: all of it "
                            "is nodata there. Choose another raster or band.")
        if not self._theirs and len(classes) > MOST_NAMELESS:
            raise UserError(f"{self._reference} holds {len(classes)} values without names; that "
                            "looks like measurements, no classes. Choose a raster of classes.")
        index = self._index()
        further = [v for v in classes if self._key(v) not in index]
        if len(further) == len(classes):
            raise self._nothing_in_common(classes)
        self._further = [self._name(v) for v in further]
        self.names = (*self._own_names(), *self._further)
        spare = [c for c in COLORS if c not in {k.color for k in census.classes}] or list(COLORS)
        self.colors = (*(c.color for c in census.classes),
                       *(spare[i % len(spare)] for i in range(len(further))))
        index.update({self._key(v): len(census.classes) + i for i, v in enumerate(further)})
        self.place = np.array([index[self._key(v)] if v in classes else -1
                               for v in overlay.values.tolist()], np.int64)
        back = {index[self._key(v)]: v for v in classes}
        self.true_values = tuple(back.get(k) for k in range(len(self.names)))
        lacking = ("neither has a legend" if not census.legend and not self._theirs else
                   f"{self._reference if census.legend else self._map} has no legend")
        self.matched = ("by the names of both legends" if self.by_name
                        else f"by value, since {lacking}")

    def say(self, found: Agreement) -> None:
        """What the reader should know of the classes and the ground."""
        context, ground = self._context, found.ground
        context.log(f"Classes were matched {found.matched}")
        if self._further:
            one = len(self._further) == 1
            context.warn(f"{', '.join(self._further)} of {self._reference} "
                         f"{'is' if one else 'are'} not on the map; such ground counts as mapped "
                         f"wrongly. {self._remedy()}")
        alien = [found.names[k] for k in self._unknown() if found.mapped[k] > 0]
        if alien:
            one = len(alien) == 1
            context.warn(f"{', '.join(alien)} of {self._map} {'is' if one else 'are'} not in "
                         f"{self._reference}; such ground counts as mapped wrongly. "
                         f"{self._remedy()}")
        if not ground.whole:
            context.warn(f"{self._reference} has no class on {_percent(ground.left)} % of the "
                         "map's area. All figures speak of the other part alone.")

    def _legend(self, present: list[int], names: Names) -> Names:
        """The reference's legend, empty where it is one of something else."""
        return names if any(v in names for v in present) else {}

    def _no_classes(self, present: list[int], reference: ClassMap) -> set[int]:
        """Values that are no class, though nobody declared them as nodata."""
        empty = {v for v in present if self._theirs.get(v, ("", ""))[0].casefold() in _NOTHING}
        named = self._theirs.get(0, ("", ""))[0].casefold() not in ("", *_BACKGROUND)
        if 0 in present and not named:
            if not reference.declares_nodata and len(present) > 2:
                empty.add(0)
            taken = "not labelled" if 0 in empty else "a class"
            reason = ("another nodata is declared" if reference.declares_nodata else
                      "no nodata is declared" if 0 in empty else "one other value is there")
            said = f"Value 0 of {self._reference} is taken as {taken}, since {reason}"
            mine = [c.name for c in self._census.classes if c.value == 0]
            if 0 in empty and mine and not self.by_name:
                self._context.warn(f"{said}. If it is {mine[0]}, declare another nodata in it.")
            else:
                self._context.log(said)
        return empty

    def _key(self, value: int) -> str | int:
        """What a value of the reference is found by."""
        return self._theirs[value][0].casefold() if self.by_name else value

    def _index(self) -> dict[str | int, int]:
        """Place of each class of the map."""
        return {c.name.casefold() if self.by_name else c.value: k
                for k, c in enumerate(self._census.classes)}

    def _own_names(self) -> list[str]:
        """Names of the map's classes; the reference's where only that has some."""
        if self._census.legend or not self._theirs:
            return [c.name for c in self._census.classes]
        return [self._theirs.get(c.value, (c.name, ""))[0] for c in self._census.classes]

    def _name(self, value: int) -> str:
        """Name of a class that has no place on the map; the map's legend may still know it."""
        legend = self._theirs or self._census.legend
        return legend.get(value, (f"{value}", ""))[0]

    def _unknown(self) -> list[int]:
        """Classes of the map that the reference knows neither by legend nor by occurrence."""
        legend = ({name.casefold() for name, _ in self._theirs.values()} if self.by_name
                  else set(self._theirs))
        return [k for key, k in self._index().items()
                if self.true_values[k] is None and key not in legend]

    def _remedy(self) -> str:
        if self.by_name:
            return "Where that is a class of the other under another name, give both one name."
        return "Where numbers mean something else in the other, give both a legend with names."

    def _nothing_in_common(self, classes: list[int]) -> UserError:
        mapped = [c.name if self.by_name else f"{c.value}" for c in self._census.classes]
        true = [self._name(v) if self.by_name else f"{v}" for v in classes]
        kind = "class" if self.by_name else "value"
        return UserError(
            f"No {kind} of {self._reference} ({', '.join(true[:5])}) is one of {self._map} "
            f"({', '.join(mapped[:5])}). "
            + ("Give both legends the same names." if self.by_name else
               "Give both a legend with names, or the same numbers."))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share >= 1e-3 else f"{100 * share:.1g}"


def _picture(overlay: Overlay, place: np.ndarray) -> np.ndarray:
    """Where both say the same, thinned out."""
    among = np.searchsorted(overlay.values, overlay.reference)
    among = np.where(np.isin(overlay.reference, overlay.values), among, len(place))
    true = np.append(place, OUTSIDE)[among]
    seen = (true >= 0) & (overlay.mapped >= 0)
    return np.where(seen, np.where(true == overlay.mapped, RIGHT, WRONG), UNSEEN).astype(np.uint8)
