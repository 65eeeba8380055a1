"""Similarity Search as a whole: one session, one line to the engine, every canvas, the dock."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from qgis.core import Qgis, QgsCsException, QgsPointXY, QgsRectangle
from qgis.gui import QgsMapCanvas, QgsMapTool
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QEvent, QObject, Qt, QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import QAction

from ...processing_provider.identity import icon
from ...processing_provider.translation import tr
from .dock import SearchDock
from .link import LiveLink
from .markers import Markers, to_canvas
from .overlay import HeatMap
from .session import BUSY, ERROR, EXAMPLE, INFO, STUCK, SearchSession
from .tool import SearchTool


@dataclass
class _Place:
    """What one canvas carries.

    Attributes:
        canvas, heat, markers, tool: as the names say.
        former: the tool to go back to, None while ours is not active.
    """

    canvas: QgsMapCanvas
    heat: HeatMap
    markers: Markers
    tool: SearchTool
    former: QgsMapTool | None = None


class SimilaritySearch(QObject):
    """What the plugin adds to QGIS's window for searching; made once.

    Args:
        iface: QGIS's window.

    Signals:
        tool_changed: whether the tool is active now.
    """

    tool_changed = pyqtSignal(bool)

    def __init__(self, iface: Any) -> None:
        super().__init__(iface.mainWindow())
        self.setObjectName("earthprint_similarity_search")
        self._iface = iface
        self._places = []
        self._active = False
        self._told = None
        self.session = SearchSession(self)
        self.link = LiveLink(self.session, self)
        self.dock = None
        self.action = QAction(icon("similaritysearch"), tr("Similarity Search"), self)
        self.action.setObjectName("earthprint_search")
        self.action.setCheckable(True)
        self.action.setToolTip(tr("Click places on the map, see everything like them"))
        self.action.triggered.connect(self._triggered)
        iface.registerMainWindowAction(self.action, "")
        iface.addToolBarIcon(self.action)
        for signal in (self.session.examples_changed, self.session.matches_changed,
                       self.session.layer_changed, self.session.style_changed):
            signal.connect(self._refresh_markers)
        self.session.layer_changed.connect(self._look_at_layer)
        self.link.lost_changed.connect(self._mark_lost)
        self.link.changed.connect(self._tell)
        self._look = QTimer(self)
        self._look.setSingleShot(True)
        self._look.timeout.connect(self._meet_canvases)
        iface.mainWindow().installEventFilter(self)

    # What the dock calls

    @property
    def tool_active(self) -> bool:
        """Whether the tool has the main canvas."""
        return self._active

    def show(self) -> None:
        """Open the dock; the search works while it is open."""
        if self.dock is None:
            self.dock = SearchDock(self.session, self, self._iface.mainWindow())
            self._iface.addTabifiedDockWidget(
                Qt.DockWidgetArea.RightDockWidgetArea, self.dock, ["ProcessingToolbox"], True
            )
            self.dock.closedStateChanged.connect(self._dock_closed)
        self.dock.setUserVisible(True)
        self._dock_closed(False)

    def activate_tool(self) -> None:
        """Give the tool all canvases and the main one the keys; nothing without a layer."""
        if self.session.layer is None:
            self._set_active(False)
            return
        self._meet_canvases()
        self.link.retry()
        for place in self._places:
            tool = place.canvas.mapTool()
            if tool is not place.tool:
                place.former = tool
                place.canvas.setMapTool(place.tool)
        self._iface.mapCanvas().setFocus()
        self._set_active(True)

    def leave_tool(self) -> None:
        """Give the canvases back to the tools that they had."""
        for place in self._places:
            if place.canvas.mapTool() is place.tool:
                self._restore(place)
        self._set_active(False)

    def fly_to(self, x: float, y: float) -> None:
        """Centre the live canvas on a place, in the layer's coordinates."""
        layer, canvas = self.session.layer, self.link.canvas or self._iface.mapCanvas()
        if layer is None:
            return
        try:
            canvas.setCenter(to_canvas(layer.crs(), canvas).transform(QgsPointXY(x, y)))
        except QgsCsException:
            self._say_no_way()
            return
        canvas.refresh()

    def retry(self) -> None:
        """Try once more after an error: the engine was set up, the file is back."""
        self.link.retry()

    def restart(self) -> None:
        """End an engine that gives no answer; the search goes on with a new one."""
        self.link.restart()

    # What the tool calls

    def hover(self, canvas: QgsMapCanvas, point: QgsPointXY) -> None:
        """The cursor is over a place, in the canvas's coordinates."""
        self._watch(canvas)
        self.link.hover(point)

    def leave(self, canvas: QgsMapCanvas) -> None:
        """The cursor has left a canvas."""
        if canvas is self.link.canvas:
            self.link.leave()

    def keep(self, canvas: QgsMapCanvas, kind: str, point: QgsPointXY) -> None:
        """Keep a place of a canvas, if it has embeddings."""
        layer = self.session.layer
        if layer is None:
            return
        self._watch(canvas)
        try:
            place = to_canvas(layer.crs(), canvas).transform(
                point, Qgis.TransformDirection.Reverse
            )
        except QgsCsException:
            self._say_no_way()
            return
        if layer.extent().contains(place):
            self.link.probe(point, partial(self._keep_if, layer, kind, place))
        else:
            self._keep_if(layer, kind, place, False)

    def _keep_if(self, layer: Any, kind: str, place: QgsPointXY, valid: bool) -> None:
        if self.session.layer is not layer:
            return
        if valid:
            self.session.add(kind, place.x(), place.y())
        else:
            self._say_no_embeddings()

    def keep_box(self, kind: str, box: QgsRectangle) -> None:
        """Keep the mean of a box, in the layer's coordinates."""
        layer = self.session.layer
        if layer is None or not layer.extent().intersects(box):
            self._say_no_embeddings()
            return
        middle = box.center()
        edges = (box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum())
        self.session.add(kind, middle.x(), middle.y(), edges)

    def escape(self) -> None:
        """Stop a running search, else leave."""
        if self.dock is None or not self.dock.stop_search():
            self.leave_tool()

    def tool_left(self, tool: SearchTool) -> None:
        """A canvas was given another tool, by us or by the analyst."""
        self.link.leave(freeze=False)
        if self._active and any(
            place.tool is tool and place.canvas is self._iface.mapCanvas()
            for place in self._places
        ):
            self._set_active(False)
            QTimer.singleShot(0, self.leave_tool)  # not while a canvas is changing tools

    # Window and canvases

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Notice docks that come to QGIS's window, as new map views do."""
        if event.type() in (QEvent.Type.ChildAdded, QEvent.Type.ChildPolished) and self._places:
            self._look.start(0)
        return False

    def discard(self) -> None:
        """Leave QGIS as it was."""
        self._iface.mainWindow().removeEventFilter(self)
        self._look.stop()
        self.leave_tool()
        self.link.discard()
        for place in list(self._places):
            self._part(place)
        if self.dock is not None:
            self._iface.removeDockWidget(self.dock)
            self.dock.discard()
            self.dock = None
        self._iface.unregisterMainWindowAction(self.action)
        self._iface.removeToolBarIcon(self.action)
        self.deleteLater()

    def _triggered(self, checked: bool) -> None:
        if checked:
            self.show()
            self.activate_tool()
        else:
            self.leave_tool()

    def _dock_closed(self, closed: bool) -> None:
        if closed:
            self.leave_tool()
            self.link.enable(False)
            for place in list(self._places):
                self._part(place)
            self.link.watch(None, None)
        else:
            self._meet_canvases()
            self.link.enable(True)
            if self.link.canvas is None:
                self._watch(self._iface.mapCanvas())

    def _set_active(self, active: bool) -> None:
        self.action.setChecked(active)
        if active != self._active:
            self._active = active
            self.tool_changed.emit(active)

    def _meet_canvases(self) -> None:
        """Put heat map, markers and tool on canvases that have none yet."""
        known = [place.canvas for place in self._places]
        for canvas in self._iface.mapCanvases():
            if canvas not in known:
                heat, markers = HeatMap(canvas), Markers(canvas, self.session)
                place = _Place(canvas, heat, markers, SearchTool(canvas, markers, self))
                self._places.append(place)
                canvas.destroyed.connect(partial(self._forget, place))
                canvas.destinationCrsChanged.connect(markers.refresh)
                markers.refresh()
                if self._active:
                    place.former = canvas.mapTool()
                    canvas.setMapTool(place.tool)

    def _watch(self, canvas: QgsMapCanvas) -> None:
        if canvas is not self.link.canvas:
            place = next(place for place in self._places if place.canvas is canvas)
            self.link.watch(canvas, place.heat)

    def _forget(self, place: _Place) -> None:
        """A canvas is gone, and with it all that lay on it."""
        if place in self._places:
            self._places.remove(place)
            if self.link.canvas is place.canvas:
                self.link.watch(None, None)

    def _part(self, place: _Place) -> None:
        """Take everything off a canvas."""
        self._places.remove(place)
        if sip.isdeleted(place.canvas):
            return
        place.canvas.destinationCrsChanged.disconnect(place.markers.refresh)
        place.tool.discard()
        for item in (place.heat, place.markers):
            place.canvas.scene().removeItem(item)

    def _restore(self, place: _Place) -> None:
        former, place.former = place.former, None
        if former is not None and not sip.isdeleted(former):
            place.canvas.setMapTool(former)
        else:
            place.canvas.unsetMapTool(place.tool)
            if place.canvas is self._iface.mapCanvas():
                self._iface.actionPan().trigger()

    def _refresh_markers(self) -> None:
        for place in self._places:
            place.markers.refresh()
        if any(place.markers.unplaced for place in self._places):
            self._say_no_way()

    def _look_at_layer(self) -> None:
        """Without embeddings the canvas is as it always was."""
        if self.session.layer is None:
            self.leave_tool()

    def _mark_lost(self, lost: list[int]) -> None:
        for place in self._places:
            place.markers.set_lost(lost)

    # What the analyst reads

    def _tell(self) -> None:
        """Put one sentence into the status, unless it was the last one from here."""
        said = self._sentence()
        if said != self._told:
            self._told = said
            self.session.set_status(*said)

    def _sentence(self) -> tuple[str, str, str]:
        session, link = self.session, self.link
        if session.layer is None:
            return ("", INFO, "")
        if link.failure is not None:
            return (link.failure[0], ERROR, link.failure[1])
        if link.restarted:
            return (tr("The engine stopped and was restarted; examples are safe."), INFO, "")
        if link.stuck:
            return (tr("The engine gives no answer. Wait, or restart it; examples are safe."),
                    STUCK, "")
        if link.waiting:
            return (self._wait_sentence(), BUSY, "")
        if not link.hover_valid:
            return (tr("No embeddings here (cloud or edge)."), INFO, "")
        if link.empty:
            return (tr("No embeddings in this view. Zoom to the layer."), INFO, "")
        return (self._ready_sentence(), INFO, "")

    def _wait_sentence(self) -> str:
        if self.link.starting:
            return tr("Starting the engine; clicks are kept.")
        if self.link.waiting == "live/query":
            return tr("Searching…")
        return tr("Reading the embeddings; clicks are kept.")

    def _ready_sentence(self) -> str:
        session = self.session
        if session.kept_on:
            return tr("Examples were kept on {}.").format(session.kept_on)
        if not session.examples:
            return tr("Move over the map, click to keep a place.")
        if self.link.lost:
            return tr("No embeddings at {} (cloud or edge); left out.").format(
                ", ".join(str(index + 1) for index in self.link.lost)
            )
        likes = sum(example.kind == EXAMPLE for example in session.examples)
        unlikes = len(session.examples) - likes
        first = tr("1 example") if likes == 1 else tr("{} examples").format(likes)
        second = (
            tr("1 counterexample") if unlikes == 1 else tr("{} counterexamples").format(unlikes)
        )
        if not unlikes:
            return tr("Ready. {}.").format(first)
        return tr("Ready. {}, {}.").format(first, second)

    def _say_no_embeddings(self) -> None:
        self.session.set_status(tr("No embeddings here (cloud or edge)."))

    def _say_no_way(self) -> None:
        self.session.set_status(tr("There is no way from the layer's coordinates to the map's."))
