"""The line to the engine: opens the embeddings, asks for views and queries, hands pictures on.

One request is under way at most, and of what waits only the newest is sent. Nothing here waits:
the engine answers on a thread of its own, a Qt signal brings the answer to the GUI thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsPointXY, QgsProcessingException
from qgis.gui import QgsMapCanvas
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ...engine.client import shared_client
from ...processing_provider.translation import tr
from ...processing_provider.values import raster_path
from .overlay import HeatMap, Pictures, canvas_grid
from .session import COUNTEREXAMPLE, EXAMPLE, Match, SearchSession

#: Milliseconds of rest after which a new view is asked for, and after which waiting is told.
REST_MS, TELL_MS = 100, 300
#: Milliseconds for which a restart of the engine stays in the status.
NOTE_MS = 8000
MATCHES_WANTED = 100


class _Post(QObject):
    """Carries an answer from the thread it arrives on to the GUI thread."""

    answered = pyqtSignal(int, object, object)

    def send(self, method: str, params: dict[str, Any], number: int) -> None:
        """Ask; `answered` gives (number, result or None, error or None)."""
        shared_client().post(
            method, params, lambda result, error: self._pass_on(number, result, error)
        )

    def _pass_on(self, number: int, result: Any, error: Any) -> None:
        if not sip.isdeleted(self):
            self.answered.emit(number, result, error)


class LiveLink(QObject):
    """Keeps the heat map of one canvas, and the session's answer and matches, up to date.

    Args:
        session: what is searched for, and where the answers go.
        parent: owner.

    Signals:
        validity_changed: whether there are embeddings under the cursor.
        lost_changed: indices of the session's examples that have no embeddings.
        changed: anything that the analyst may have to be told.

    Attributes:
        failure: (sentence, details) of the last request, None when it went well.
        restarted: whether the engine died a moment ago.
        empty: whether the view has no embeddings.
        hover_valid: whether the place under the cursor has.
        lost: what `lost_changed` said last.
    """

    validity_changed = pyqtSignal(bool)
    lost_changed = pyqtSignal(object)
    changed = pyqtSignal()

    def __init__(self, session: SearchSession, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._canvas, self._overlay = None, None
        self._post = _Post()
        self._post.answered.connect(self._take)
        self._requests = 0
        self._flight = None  # (number, method) of the request under way
        self._asked, self._asked_indices = {}, ([], [])  # the last query
        self._opened = None  # the engine's number for the open embeddings
        self._pid = None  # of the engine that has them open
        self._restarts = 0
        self._view, self._grid, self._pictures = None, None, None
        self._stale = False  # the canvas has rested on another view
        self.empty = False
        self._due, self._ranked = False, True
        self._hover, self.hover_valid = None, True
        self._probes = deque()
        self._places = ([], [])  # of examples and counterexamples, as the engine wants them
        self._indices = ([], [])  # of the same, in the session
        self.lost = []
        self._listed = []  # the matches that were put into the session from here
        self.failure = None  # (sentence, details) of the last request
        self._blocked = False  # the embeddings cannot be opened, until `retry`
        self.restarted = False
        self._enabled = False
        self._rest = self._timer(REST_MS, self._rested)
        self._slow = self._timer(TELL_MS, self.changed.emit)
        self._forget = self._timer(NOTE_MS, self._drop_note)
        session.layer_changed.connect(self._change_layer)
        session.examples_changed.connect(self._change_examples)
        session.live_changed.connect(self._change_live)
        session.style_changed.connect(self._restyle)

    def _timer(self, milliseconds: int, slot: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(slot)
        return timer

    @property
    def ready(self) -> bool:
        """Whether a view is open, so that an answer takes milliseconds."""
        return self._view is not None and not self._stale

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return self._flight is not None

    @property
    def canvas(self) -> QgsMapCanvas | None:
        """The canvas that is live."""
        return self._canvas

    def enable(self, on: bool) -> None:
        """Work while the dock is open; when it is closed the engine gets its memory back."""
        if on != self._enabled:
            self._enabled = on
            self._change_layer()

    def watch(self, canvas: QgsMapCanvas | None, overlay: HeatMap | None) -> None:
        """Be live on another canvas; the former one loses its heat map."""
        if canvas is self._canvas:
            return
        if self._canvas is not None and not sip.isdeleted(self._canvas):
            for signal in self._signs(self._canvas):
                signal.disconnect(self._rest.start)
        self._drop_view()
        if self._flight is not None and self._flight[1] != "live/open":
            self._flight = None  # its answer is for the former canvas
        self._canvas, self._overlay = canvas, overlay
        self._hover = None
        if canvas is not None:
            for signal in self._signs(canvas):
                signal.connect(self._rest.start)
            self._restyle()
            self._rested()

    @staticmethod
    def _signs(canvas: QgsMapCanvas) -> tuple[Any, ...]:
        """What the canvas says when it may show something else."""
        return (
            canvas.extentsChanged, canvas.rotationChanged, canvas.destinationCrsChanged,
            canvas.renderStarting,
        )

    def hover(self, point: QgsPointXY) -> None:
        """Show what is like a place, in the canvas's coordinates, if the search is live."""
        if self._session.live:
            self._hover = (point.x(), point.y())
            self._ask()

    def leave(self, freeze: bool = True) -> None:
        """The cursor has left the map: kept examples show; without any the picture may freeze."""
        if self._hover is not None:
            self._hover = None
            self._set_hover_valid(True)
            if self._session.examples or not freeze:
                self._ask()

    def probe(self, point: QgsPointXY, done: Callable[[bool], None]) -> None:
        """Tell whether a place has embeddings; at once True while the view is not there yet."""
        if not self.ready:
            done(True)
            return
        self._probes.append(((point.x(), point.y()), done))
        self._pump()

    def retry(self) -> None:
        """Try once more after an error."""
        if self.failure is not None:
            self._restarts = 0
            self._change_layer()

    def discard(self) -> None:
        """Let go of the engine and of all that is shown."""
        self._post.answered.disconnect(self._take)
        self._enabled = False
        self._opened = None  # the engine ends too
        self._close()
        self.watch(None, None)
        for timer in (self._rest, self._slow, self._forget):
            timer.stop()

    # What the session says

    def _change_layer(self) -> None:
        self._close()
        self.failure, self._blocked = None, False
        self._hover = None
        self._change_examples()
        self.changed.emit()

    def _change_examples(self) -> None:
        session = self._session
        kept = () if session.kept_on or session.layer is None else session.examples
        crs = _crs_text(session.layer.crs()) if session.layer is not None else ""
        self._indices = tuple(
            [index for index, example in enumerate(kept) if example.kind == kind]
            for kind in (EXAMPLE, COUNTEREXAMPLE)
        )
        self._places = tuple(
            [_place(kept[index], crs) for index in indices] for indices in self._indices
        )
        self._set_lost([])
        if not kept:
            self._listed = []
            session.set_matches(self._listed)
        self._ranked = not kept
        self._ask()
        self.changed.emit()

    def _change_live(self) -> None:
        self._hover = None
        self._set_hover_valid(True)
        self._ask()

    def _restyle(self) -> None:
        if self._overlay is not None:
            session = self._session
            self._overlay.set_style(session.show, session.opacity, session.threshold_index())

    # What the canvas says

    def _rested(self) -> None:
        if self._canvas is None or sip.isdeleted(self._canvas):
            return
        grid = canvas_grid(self._canvas)
        if grid is not None and grid != self._grid:
            self._stale = True
            self._pump()

    # Requests

    def _ask(self) -> None:
        self._due = True
        self._pump()

    def _pump(self) -> None:
        """Send what is most wanted, if nothing is under way."""
        layer = self._session.layer
        if self._flight is not None or self._blocked or not self._enabled:
            return
        if layer is None or self._canvas is None:
            return
        if self._opened is None:
            self._open(layer)
        elif self._stale and self._ask_view():
            return
        elif self._view is not None and (self._probes or self._due or not self._ranked):
            self._query()

    def _send(self, method: str, params: dict[str, Any]) -> None:
        self._requests += 1
        self._flight = (self._requests, method)
        self._slow.start()
        self._post.send(method, params, self._requests)

    def _open(self, layer: Any) -> None:
        try:
            path = raster_path(layer)
        except QgsProcessingException as failure:
            self._block(str(failure), "")
            return
        self._send("live/open", {"input": [path]})

    def _ask_view(self) -> bool:
        """Ask for what the canvas shows now; False when that is there already."""
        grid = canvas_grid(self._canvas)
        self._stale = False
        if grid is None or (self._view is not None and grid == self._grid):
            return False
        self._release()
        self._grid = grid
        self._send("live/view", {"session": self._opened, "grid": {
            "crs": self._map_crs(), "transform": list(grid.transform),
            "shape": [grid.rows, grid.cols]}})
        return True

    def _query(self) -> None:
        """A probe first, then the ranking of what is kept, then what is under the cursor."""
        examples, counterexamples = self._places
        asked = {"session": self._opened, "view": self._view, "examples": examples,
                 "counterexamples": counterexamples, "hover": None, "rank": 0}
        place = self._probes[0][0] if self._probes else self._hover
        if not self._probes and not self._ranked:
            asked["rank"] = MATCHES_WANTED
            self._ranked = True
            self._due = self._hover is not None
        else:
            self._due = False
            if place is not None:
                asked["hover"] = [*place, self._map_crs()]
        self._asked, self._asked_indices = asked, self._indices
        self._send("live/query", asked)

    def _map_crs(self) -> str:
        """The view's coordinate system; a map without any shows layers as they are."""
        crs = self._grid.crs
        return _crs_text(crs if crs.isValid() else self._session.layer.crs())

    # Answers

    def _take(self, number: int, result: Any, error: Any) -> None:
        if self._flight is None or number != self._flight[0]:
            if result and "encoder" in result:  # opened for a layer that is no longer wanted
                self._say_goodbye(result["session"])
            return
        method = self._flight[1]
        self._flight = None
        self._slow.stop()
        if error is not None:
            self._take_error(method, error)
            return
        try:
            {"live/open": self._take_open, "live/view": self._take_view,
             "live/query": self._take_picture}[method](result)
        except (OSError, ValueError) as failure:
            self._block(tr("The engine's pictures cannot be read ({}).").format(failure), "")
            return
        self.failure = None
        self.changed.emit()
        self._pump()

    def _take_open(self, result: dict[str, Any]) -> None:
        self._opened, self._pid = result["session"], shared_client().pid
        self._stale = True

    def _take_view(self, result: dict[str, Any]) -> None:
        self._pictures = Pictures(result["file"], self._grid)
        self._view, self.empty = result["view"], not result["valid"]
        self._due = True
        self._ranked = self._ranked and not self._list_follows()

    def _list_follows(self) -> bool:
        """Whether another view means another list: not while one of its matches is looked at."""
        session = self._session
        return bool(self._places[0]) and session.current < 0 and session.matches == self._listed

    def _take_picture(self, result: dict[str, Any]) -> None:
        asked, session = self._asked, self._session
        self._restarts = 0
        self._set_lost(sorted(
            indices[at]
            for key, indices in zip(("lost", "lost_counterexamples"), self._asked_indices)
            for at in result[key]
        ))
        if result["kind"] != "none":
            session.set_answer(result)
            self._restyle()
            self._overlay.show_picture(self._pictures.image(result["slot"]), self._grid)
        elif asked["hover"] is None or self._overlay.grid is not self._grid:
            self._overlay.clear()
            session.set_answer(None)
        if asked["hover"] is not None:
            self._set_hover_valid(bool(result["hover_valid"]))
        if asked["rank"]:
            self._listed = [
                Match(found["x"], found["y"], found["cosine"], found["percentile"])
                for found in result["matches"]
            ]
            session.set_matches(self._listed)
        if self._probes and asked["hover"] is not None:
            place, done = self._probes[0]
            if place == tuple(asked["hover"][:2]):
                self._probes.popleft()
                done(bool(result["hover_valid"]))

    def _take_error(self, method: str, error: Exception) -> None:
        died = self._opened is not None and shared_client().pid != self._pid
        if died and self._restarts < 2:
            self._restarts += 1
            self._close()
            self.restarted = True
            self._forget.start()
            self.changed.emit()
            self._pump()
            return
        sentence, details = str(error), getattr(error, "details", "")
        if died or method == "live/open":
            self._block(sentence, details)
        else:  # of this view or this query; the next one may be better
            self.failure = (sentence, details)
            self._answer_probes()
            self.changed.emit()
            self._pump()

    def _block(self, sentence: str, details: str) -> None:
        """Say what is wrong and ask nothing more until `retry`."""
        self._close()
        self.failure, self._blocked = (sentence, details), True
        self.changed.emit()

    # Letting go

    def _release(self) -> None:
        """Go on with a copy of the picture; the engine may replace its file."""
        self._view = None
        if self._pictures is not None:
            if self._overlay is not None and not sip.isdeleted(self._overlay):
                self._overlay.keep()
            self._pictures.close()
            self._pictures = None
        self._answer_probes()

    def _answer_probes(self) -> None:
        """Clicks whose places cannot be looked at now are kept."""
        probes, self._probes = self._probes, deque()
        for _, done in probes:
            done(True)

    def _drop_view(self) -> None:
        if self._overlay is not None and not sip.isdeleted(self._overlay):
            self._overlay.clear()
        self._release()
        self._grid = None

    def _close(self) -> None:
        """Forget what the engine holds, and tell it so."""
        self._drop_view()
        self._flight = None
        self._slow.stop()
        opened, self._opened = self._opened, None
        if opened is not None and shared_client().pid == self._pid:
            self._say_goodbye(opened)
        self._pid = None

    def _say_goodbye(self, opened: int) -> None:
        self._post.send("live/close", {"session": opened}, 0)

    # What the analyst is told

    @property
    def waiting(self) -> str:
        """The request that takes long enough to be told, "" without one."""
        return self._flight[1] if self._flight is not None and not self._slow.isActive() else ""

    @property
    def starting(self) -> bool:
        """Whether the engine's process does not run yet."""
        return self._opened is None and shared_client().pid is None

    def _set_hover_valid(self, valid: bool) -> None:
        if valid != self.hover_valid:
            self.hover_valid = valid
            self.validity_changed.emit(valid)

    def _set_lost(self, lost: list[int]) -> None:
        if lost != self.lost:
            self.lost = lost
            self.lost_changed.emit(lost)

    def _drop_note(self) -> None:
        self.restarted = False
        self.changed.emit()


def _crs_text(crs: QgsCoordinateReferenceSystem) -> str:
    """A name that the engine reads: short where there is one, as it goes with every query."""
    return crs.authid() if crs.authid().startswith("EPSG:") else crs.toWkt()


def _place(example: Any, crs: str) -> dict[str, Any]:
    if example.box is not None:
        return {"box": list(example.box), "crs": crs}
    return {"x": example.x, "y": example.y, "crs": crs}
