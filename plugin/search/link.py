"""The line to the engine: opens the embeddings, asks for views and queries, hands pictures on.

One request is under way at most, and of what waits only the newest is sent. Nothing here waits:
the engine answers on a thread of its own, a Qt signal brings the answer to the GUI thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from qgis.core import QgsPointXY, QgsProcessingException
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ...engine.client import shared_client
from ...processing_provider.translation import tr
from ...processing_provider.values import raster_path
from .live_view import LiveView
from .overlay import HeatMap
from .request import Request
from .session import Match, SearchSession
from .wanted import Wanted

#: Milliseconds of rest after which a new view is asked for.
REST_MS = 100
#: Milliseconds for which a restart of the engine stays in the status.
NOTE_MS = 8000
MATCHES_WANTED = 100


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
        self._view = LiveView()
        self._request = Request(self)
        self._request.answered.connect(self._take)
        self._request.late.connect(self._take_late)
        self._request.slow.connect(self.changed)
        self._asked, self._asked_for = {}, Wanted()  # the last query
        self._opened = None  # the engine's number for the open embeddings
        self._pid = None  # of the engine that has them open
        self._restarts = 0
        self._stale = False  # the canvas has rested on another view
        self.empty = False
        self._due, self._ranked = False, True
        self._hover, self.hover_valid = None, True
        self._probes = deque()
        self._wanted = Wanted()
        self.lost = []
        self._listed = []  # the matches that were put into the session from here
        self.failure = None  # (sentence, details) of the last request
        self._blocked = False  # the embeddings cannot be opened, until `retry`
        self.restarted = False
        self._enabled = False
        self._rest = self._timer(REST_MS, self._rested)
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
        return self._view.number is not None and not self._stale

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._request.method)

    @property
    def canvas(self) -> QgsMapCanvas | None:
        """The canvas that is live."""
        return self._view.canvas

    def enable(self, on: bool) -> None:
        """Work while the dock is open; when it is closed the engine gets its memory back."""
        if on != self._enabled:
            self._enabled = on
            self._change_layer()

    def watch(self, canvas: QgsMapCanvas | None, overlay: HeatMap | None) -> None:
        """Be live on another canvas; the former one loses its heat map."""
        if canvas is self._view.canvas:
            return
        for signal in self._view.signs():
            signal.disconnect(self._rest.start)
        self._drop_view()
        if self._request.method != "live/open":
            self._request.drop()  # its answer is for the former canvas
        self._view = LiveView(canvas, overlay)
        self._hover = None
        if canvas is not None:
            for signal in self._view.signs():
                signal.connect(self._rest.start)
            self._restyle()
            self._rested()

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

    def restart(self) -> None:
        """End the engine; the request that waits for it then goes to a new one."""
        self._restarts = 0
        shared_client().kill()

    def discard(self) -> None:
        """Let go of the engine and of all that is shown."""
        self._request.discard()
        self._enabled = False
        self._opened = None  # the engine ends too
        self._close()
        self.watch(None, None)
        for timer in (self._rest, self._forget):
            timer.stop()

    # What the session says

    def _change_layer(self) -> None:
        self._close()
        self.failure, self._blocked = None, False
        self._hover = None
        self._change_examples()
        self.changed.emit()

    def _change_examples(self) -> None:
        wanted = self._wanted = Wanted.of_session(self._session)
        self._set_lost([])
        if not wanted:
            self._listed = []
            self._session.set_matches(self._listed)
        self._ranked = not wanted
        self._ask()
        self.changed.emit()

    def _change_live(self) -> None:
        self._hover = None
        self._set_hover_valid(True)
        self._ask()

    def _restyle(self) -> None:
        self._view.restyle(self._session)

    # What the canvas says

    def _rested(self) -> None:
        if self._view.moved() is not None:
            self._stale = True
            self._pump()

    # Requests

    def _ask(self) -> None:
        self._due = True
        self._pump()

    def _pump(self) -> None:
        """Send what is most wanted, if nothing is under way."""
        layer = self._session.layer
        if self._request.method or self._blocked or not self._enabled:
            return
        if layer is None or self.canvas is None:
            return
        if self._opened is None:
            self._open(layer)
        elif self._stale and self._ask_view():
            return
        elif self._view.number is not None and (self._probes or self._due or not self._ranked):
            self._query()

    def _open(self, layer: Any) -> None:
        try:
            path = raster_path(layer)
        except QgsProcessingException as failure:
            self._block(str(failure), "")
            return
        self._request.send("live/open", {"input": [path]})

    def _ask_view(self) -> bool:
        """Ask for what the canvas shows now; False when that is there already."""
        self._stale = False
        grid = self._view.moved()
        if grid is None and self._view.number is None:  # the same pixels, of other embeddings
            grid = self._view.grid
        if grid is None:
            return False
        self._answer_probes()
        self._request.send("live/view", {
            "session": self._opened, "grid": self._view.question(grid, self._session.layer.crs())})
        return True

    def _query(self) -> None:
        """A probe first, then the ranking of what is kept, then what is under the cursor."""
        wanted = self._wanted
        asked = {"session": self._opened, "view": self._view.number, "examples": wanted.examples,
                 "counterexamples": wanted.counterexamples, "hover": None, "rank": 0}
        place = self._probes[0][0] if self._probes else self._hover
        if not self._probes and not self._ranked:
            asked["rank"] = MATCHES_WANTED
            self._ranked = True
            self._due = self._hover is not None
        else:
            self._due = False
            if place is not None:
                asked["hover"] = [*place, self._view.crs(self._session.layer.crs())]
        self._asked, self._asked_for = asked, wanted
        self._request.send("live/query", asked)

    # Answers

    def _take_late(self, result: Any) -> None:
        if result and "encoder" in result:  # opened for a layer that is no longer wanted
            self._say_goodbye(result["session"])

    def _take(self, method: str, result: Any, error: Any) -> None:
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
        self._view.take(result)
        self.empty = not result["valid"]
        self._due = True
        self._ranked = self._ranked and not self._list_follows()

    def _list_follows(self) -> bool:
        """Whether another view means another list: not while one of its matches is looked at."""
        current, listed = self._session.current, self._session.matches == self._listed
        return bool(self._wanted.examples) and current < 0 and listed

    def _take_picture(self, result: dict[str, Any]) -> None:
        asked, session = self._asked, self._session
        self._restarts = 0
        self._set_lost(self._asked_for.lost(result))
        if result["kind"] != "none":
            session.set_answer(result)
            self._restyle()
            self._view.show(result["slot"])
        elif asked["hover"] is None or self._view.outdated:
            self._view.clear()
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

    def _answer_probes(self) -> None:
        """Clicks whose places cannot be looked at now are kept."""
        probes, self._probes = self._probes, deque()
        for _, done in probes:
            done(True)

    def _drop_view(self) -> None:
        self._view.drop()
        self._answer_probes()

    def _close(self) -> None:
        """Forget what the engine holds, and tell it so."""
        self._drop_view()
        self._request.drop()
        opened, self._opened = self._opened, None
        if opened is not None and shared_client().pid == self._pid:
            self._say_goodbye(opened)
        self._pid = None

    def _say_goodbye(self, opened: int) -> None:
        self._request.say("live/close", {"session": opened})

    # What the analyst is told

    @property
    def waiting(self) -> str:
        """The request that takes long enough to be told, "" without one."""
        return self._request.method if self._request.waiting else ""

    @property
    def stuck(self) -> bool:
        """Whether the engine may hang."""
        return self._request.stuck

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
