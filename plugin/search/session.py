"""What the analyst searches for: the layer, the examples with undo, the view, the last answer.

The map tool, the overlay and the dock meet here and nowhere else. All coordinates are in the
CRS of the embeddings layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from qgis.core import QgsRasterLayer
from qgis.PyQt.QtCore import QObject, pyqtSignal
from qgis.PyQt.QtWidgets import QUndoCommand, QUndoStack

from ...processing_provider.translation import tr

EXAMPLE, COUNTEREXAMPLE = "example", "counterexample"
HEAT, MATCHES, BOTH, NOTHING = "heat", "matches", "both", "nothing"
SHOWS = (HEAT, MATCHES, BOTH, NOTHING)
INFO, BUSY, STUCK, ERROR = "info", "busy", "stuck", "error"

#: Bounds and default of the share of the background (percent) that counts as alike.
LEAST_SHARE, MOST_SHARE, SHARE = 0.1, 50.0, 1.0
OPACITY = 0.8
UNDO_LIMIT = 200

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Example:
    """One place that is meant, or that is not.

    Attributes:
        kind: EXAMPLE or COUNTEREXAMPLE.
        x, y: in the layer's CRS; the middle of a box.
        name: given by the analyst, may be empty.
        box: (left, bottom, right, top), whose mean counts, None for a point.
        number: from 1, in the order of the list.
    """

    kind: str
    x: float
    y: float
    name: str = ""
    box: Box | None = None
    number: int = 0


@dataclass(frozen=True)
class Match:
    """A place that is alike: cosine, and percent of the background that is less alike."""

    x: float
    y: float
    cosine: float
    percentile: float


class _Change(QUndoCommand):
    """One step of the examples, from one whole list to another."""

    def __init__(
        self, session: SearchSession, text: str, after: Sequence[Example]
    ) -> None:
        super().__init__(text)
        self._session, self._before, self._after = session, session.examples, after

    def redo(self) -> None:
        self._session._show_examples(self._after)

    def undo(self) -> None:
        self._session._show_examples(self._before)


class SearchSession(QObject):
    """State of one search; changes only through its methods, each says so by a signal.

    Attributes:
        layer: the embeddings, None without any.
        examples: places kept, in order.
        kept_on: encoder that the examples were kept on where it is not the layer's, else "".
        show, share, opacity: how the heat map looks; share in percent of the background.
        live: whether the heat map follows the cursor.
        keeps: what a plain click keeps.
        status, status_kind, details: one sentence, INFO, BUSY, STUCK (busy for so long that the
            engine may hang) or ERROR, and the small print.
        matches, current: best places first, and the index of the one looked at or -1.
        answer: the engine's last answer to `live/query`, None before it.
        undo_stack: steps of the examples.
    """

    examples_changed = pyqtSignal()
    layer_changed = pyqtSignal()
    style_changed = pyqtSignal()
    live_changed = pyqtSignal()
    kind_changed = pyqtSignal()
    status_changed = pyqtSignal()
    matches_changed = pyqtSignal()
    answered = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.layer: QgsRasterLayer | None = None
        self.examples: tuple[Example, ...] = ()
        self.kept_on = ""
        self.show, self.share, self.opacity = HEAT, SHARE, OPACITY
        self.live, self.keeps = True, EXAMPLE
        self.status, self.status_kind, self.details = "", INFO, ""
        self.matches: list[Match] = []
        self.current = -1
        self.answer: dict[str, Any] | None = None
        self.undo_stack = QUndoStack(self)
        self.undo_stack.setUndoLimit(UNDO_LIMIT)

    def set_layer(self, layer: QgsRasterLayer | None) -> None:
        """Search in other embeddings; examples of the former layer leave the list."""
        if layer is self.layer:
            return
        if self.layer is not None:
            self.layer.willBeDeleted.disconnect(self._forget_layer)
        if layer is not None:
            layer.willBeDeleted.connect(self._forget_layer)
        self._take_layer(layer)

    def _forget_layer(self) -> None:
        self._take_layer(None)  # the layer is half gone, nothing of it may be called

    def _take_layer(self, layer: QgsRasterLayer | None) -> None:
        self.layer = layer
        self.restore(())
        self.set_answer(None)
        self.set_matches([])
        self.layer_changed.emit()

    def restore(self, examples: Sequence[Example], kept_on: str = "") -> None:
        """Show examples that were kept earlier; no step of undo, and none before it."""
        self.undo_stack.clear()
        self.kept_on = kept_on
        self._show_examples(examples)

    def read_again(self) -> None:
        """Take the examples' places as examples of the layer's own encoder."""
        if self.kept_on:
            self.kept_on = ""
            self.examples_changed.emit()

    def add(self, kind: str, x: float, y: float, box: Box | None = None) -> None:
        """Keep a place, or the mean of a box around it; nothing without a layer."""
        if self.layer is None:
            return
        number = len(self.examples) + 1
        if kind == EXAMPLE:
            text = tr("Add Example {}").format(number)
        else:
            text = tr("Add Counterexample {}").format(number)
        self._change(text, (*self.examples, Example(kind, x, y, box=box)))

    def remove(self, index: int) -> None:
        """Take one place out of the list."""
        left = self.examples[:index] + self.examples[index + 1 :]
        self._change(tr("Remove {}").format(title(self.examples[index])), left)

    def clear(self) -> None:
        """Take all places out of the list."""
        if self.examples:
            self._change(tr("Remove All Examples"), ())

    def rename(self, index: int, name: str) -> None:
        """Name a place; an empty name takes it away."""
        old = self.examples[index]
        if name.strip() != old.name:
            self._replace(index, tr("Rename {}").format(title(old)), name=name.strip())

    def change_kind(self, index: int) -> None:
        """Turn an example into a counterexample, or back."""
        old = self.examples[index]
        if old.kind == EXAMPLE:
            text, kind = tr("Make {} a Counterexample"), COUNTEREXAMPLE
        else:
            text, kind = tr("Make {} an Example"), EXAMPLE
        self._replace(index, text.format(title(old)), kind=kind)

    def _replace(self, index: int, text: str, **values: str) -> None:
        changed = list(self.examples)
        changed[index] = replace(changed[index], **values)
        self._change(text, changed)

    def _change(self, text: str, after: Sequence[Example]) -> None:
        self.undo_stack.push(_Change(self, text, after))

    def _show_examples(self, examples: Sequence[Example]) -> None:
        self.examples = tuple(
            replace(example, number=number) for number, example in enumerate(examples, 1)
        )
        if not self.examples:
            self.kept_on = ""
        self.examples_changed.emit()

    def set_show(self, show: str) -> None:
        """What the map shows: HEAT, MATCHES, BOTH or NOTHING."""
        if show in SHOWS and show != self.show:
            self.show = show
            self.style_changed.emit()

    def set_share(self, percent: float) -> None:
        """Share of the background that counts as alike."""
        percent = min(max(float(percent), LEAST_SHARE), MOST_SHARE)
        if percent != self.share:
            self.share = percent
            self.style_changed.emit()

    def set_opacity(self, opacity: float) -> None:
        """Opacity of the heat map, 0 to 1."""
        opacity = min(max(float(opacity), 0.0), 1.0)
        if opacity != self.opacity:
            self.opacity = opacity
            self.style_changed.emit()

    def set_live(self, live: bool) -> None:
        """Whether the heat map follows the cursor."""
        if live != self.live:
            self.live = live
            self.live_changed.emit()

    def set_keeps(self, kind: str) -> None:
        """What a plain click keeps."""
        if kind != self.keeps:
            self.keeps = kind
            self.kind_changed.emit()

    def set_status(self, text: str, kind: str = INFO, details: str = "") -> None:
        """One sentence on what is so now."""
        if (text, kind, details) != (self.status, self.status_kind, self.details):
            self.status, self.status_kind, self.details = text, kind, details
            self.status_changed.emit()

    def set_matches(self, matches: Sequence[Match]) -> None:
        """The best places, best first; none of them is looked at."""
        if matches or self.matches:
            self.matches, self.current = list(matches), -1
            self.matches_changed.emit()

    def set_current(self, index: int) -> None:
        """The match that is looked at; -1 for none."""
        index = index if 0 <= index < len(self.matches) else -1
        if index != self.current:
            self.current = index
            self.matches_changed.emit()

    def set_answer(self, answer: dict[str, Any] | None) -> None:
        """The engine's answer to the last query."""
        if answer is not None or self.answer is not None:
            self.answer = answer
            self.answered.emit()

    def threshold_cosine(self) -> float | None:
        """Cosine that `share` percent of the background reach; None without an answer.

        Interpolated over the logarithm of the shares that the engine sent.
        """
        table = sorted((self.answer or {}).get("thresholds") or ())
        if not table:
            return None
        if self.share <= table[0][0]:
            return float(table[0][1])
        for (low, first), (high, second) in zip(table, table[1:]):
            if self.share <= high:
                part = math.log(self.share / low) / math.log(high / low)
                return float(first + part * (second - first))
        return float(table[-1][1])

    def threshold_index(self) -> int | None:
        """The least index of the picture, 1 to 255, that counts as alike."""
        cosine = self.threshold_cosine()
        if cosine is None:
            return None
        low, high = self.answer["low"], self.answer["high"]
        if high <= low:
            return 1 if cosine <= low else 255
        return min(max(1 + round(254 * (cosine - low) / (high - low)), 1), 255)

    def hectares(self) -> float | None:
        """Ground area of the view that counts as alike; None without an answer."""
        index, areas = self.threshold_index(), (self.answer or {}).get("hectares")
        return float(areas[index]) if areas and index is not None else None


def title(example: Example) -> str:
    """An example in words, with its name where it has one."""
    if example.name:
        return f"{example.number} ({example.name})"
    if example.kind == EXAMPLE:
        return tr("Example {}").format(example.number)
    return tr("Counterexample {}").format(example.number)
