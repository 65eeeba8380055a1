"""The map tool: the cursor asks, clicks keep, keys do what the mouse does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgis.core import (
    Qgis,
    QgsApplication,
    QgsCsException,
    QgsPointXY,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.gui import QgsMapCanvas, QgsMapMouseEvent, QgsMapTool, QgsRubberBand
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QEvent, QObject, QPointF, Qt
from qgis.PyQt.QtGui import QColor, QKeyEvent
from qgis.PyQt.QtWidgets import QApplication

from .markers import Markers, to_canvas
from .session import COUNTEREXAMPLE, EXAMPLE, SHOWS

if TYPE_CHECKING:
    from .search import SimilaritySearch

#: Shares of the background that [ and ] go through.
STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
#: A drag shorter than this is a click with an unsteady hand.
SHORT_DRAG = 5

_ARROWS = (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down)
_ENTER = (Qt.Key.Key_Return, Qt.Key.Key_Enter)
_LETTERS = {Qt.Key.Key_X: "swap", Qt.Key.Key_L: "live", Qt.Key.Key_V: "show"}


class SearchTool(QgsMapTool):
    """Keeps examples on one canvas.

    Args:
        canvas: whose tool it is.
        markers: drawn on that canvas.
        search: what the tool works for.
    """

    def __init__(self, canvas: QgsMapCanvas, markers: Markers, search: SimilaritySearch) -> None:
        super().__init__(canvas)
        self._canvas, self._markers, self._search = canvas, markers, search
        self._session, self._link = search.session, search.link
        self._pressed = None  # where, and what it would keep, while the left button is down
        self._boxed = False
        self._band = QgsRubberBand(canvas)
        self._band.setColor(QColor("white"))
        self._band.setFillColor(QColor(255, 255, 255, 60))
        self._band.setSecondaryStrokeColor(QColor("black"))
        self._cursor_at = None
        self.setToolName("Earthprint similarity search")
        self._show_cursor(True)
        self._link.validity_changed.connect(self._show_cursor)
        canvas.extentsChanged.connect(self._follow_cross)

    def discard(self) -> None:
        """Let go of the canvas."""
        self._link.validity_changed.disconnect(self._show_cursor)
        self._canvas.extentsChanged.disconnect(self._follow_cross)
        self._canvas.removeEventFilter(self)
        self._canvas.viewport().removeEventFilter(self)
        self._canvas.unsetMapTool(self)
        self._canvas.scene().removeItem(self._band)
        self.deleteLater()

    def activate(self) -> None:
        """Listen to the canvas's keys."""
        super().activate()
        self._canvas.installEventFilter(self)
        self._canvas.viewport().installEventFilter(self)

    def deactivate(self) -> None:
        """Let go of cursor and keys; examples stay."""
        if sip.isdeleted(self._canvas):
            return
        self._canvas.removeEventFilter(self)
        self._canvas.viewport().removeEventFilter(self)
        self._drop_drag()
        self._markers.set_cross(False)
        super().deactivate()
        self._search.tool_left(self)

    # Mouse

    def canvasMoveEvent(self, event: QgsMapMouseEvent) -> None:
        """Show what is like the place under the cursor; with Shift held down, draw a box."""
        if self._cursor_at == event.pos():
            return
        self._cursor_at = event.pos()
        self._markers.set_cross(False)
        if self._boxed:
            self._draw_box(event)
        elif self._pressed is None:
            self._search.hover(self._canvas, event.mapPoint())

    def canvasPressEvent(self, event: QgsMapMouseEvent) -> None:
        """Remember where a click or a box begins; the right button removes a marker."""
        if event.button() == Qt.MouseButton.RightButton:
            index = self._markers.at(QPointF(event.pos()))
            if index is not None:
                self._session.remove(index)
        elif event.button() == Qt.MouseButton.LeftButton:
            self._pressed = (event.pos(), event.mapPoint(), self._kind(event.modifiers()))
            self._boxed = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)

    def canvasReleaseEvent(self, event: QgsMapMouseEvent) -> None:
        """Keep the place or the box."""
        if event.button() != Qt.MouseButton.LeftButton or self._pressed is None:
            return
        (start, point, kind), boxed = self._pressed, self._boxed
        far = (event.pos() - start).manhattanLength()
        box = self._box(event) if boxed and far >= SHORT_DRAG else None
        self._drop_drag()
        if box is not None:
            self._search.keep_box(kind, box)
        elif far < max(SHORT_DRAG, QApplication.startDragDistance()):
            self._search.keep(self._canvas, kind, point)

    def canvasDoubleClickEvent(self, event: QgsMapMouseEvent) -> None:
        """The first click has kept the place; the second keeps nothing."""
        self._pressed = None

    def _kind(self, modifiers: Qt.KeyboardModifiers) -> str:
        """Ctrl (Cmd on macOS) or Alt: many Linux desktops take Alt for themselves."""
        keys = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier
        return COUNTEREXAMPLE if modifiers & keys else self._session.keeps

    def _box(self, event: QgsMapMouseEvent) -> QgsRectangle | None:
        """The box between press and cursor along the layer's axes; None where there is no way."""
        layer = self._session.layer
        if layer is None:
            return None
        way = to_canvas(layer.crs(), self._canvas)
        reverse = Qgis.TransformDirection.Reverse
        try:
            return QgsRectangle(*(
                way.transform(point, reverse) for point in (self._pressed[1], event.mapPoint())
            ))
        except QgsCsException:
            return None

    def _draw_box(self, event: QgsMapMouseEvent) -> None:
        box = self._box(event)
        if box is None:
            return
        way = to_canvas(self._session.layer.crs(), self._canvas)
        self._band.reset()
        for x, y in (
            (box.xMinimum(), box.yMinimum()), (box.xMinimum(), box.yMaximum()),
            (box.xMaximum(), box.yMaximum()), (box.xMaximum(), box.yMinimum()),
            (box.xMinimum(), box.yMinimum()),
        ):
            self._band.addPoint(way.transform(QgsPointXY(x, y)))

    def _drop_drag(self) -> None:
        self._pressed, self._boxed = None, False
        self._band.reset()

    def _show_cursor(self, valid: bool) -> None:
        if valid:
            self.setCursor(QgsApplication.getThemeCursor(QgsApplication.Cursor.CrossHair))
        else:
            self.setCursor(Qt.CursorShape.ForbiddenCursor)

    # Keys

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take the tool's own keys before QGIS's shortcuts do; see the cursor leave."""
        kind = event.type()
        if kind == QEvent.Type.ShortcutOverride and self._job(event) is not None:
            event.accept()
            return True
        if kind == QEvent.Type.KeyPress and event.key() in _ARROWS and watched is self._canvas:
            self._markers.set_cross(True)
        elif kind == QEvent.Type.Leave and watched is not self._canvas:
            self._cursor_at = None
            self._search.leave(self._canvas)
        return False

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Do what a key asks for; the canvas sees to its own keys if the event is not ignored."""
        job = self._job(event)
        if job is not None:
            self._do(job)

    def _job(self, event: QKeyEvent) -> str | None:
        """What a key means here, None where it is not the tool's."""
        key = event.key()
        held = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        command = held & Qt.KeyboardModifier.ControlModifier
        shift = held & Qt.KeyboardModifier.ShiftModifier
        if key == Qt.Key.Key_Escape and not held:
            return "leave"
        if event.text() in ("[", "]"):
            return "less" if event.text() == "[" else "more"
        if key in _ENTER and not held & ~Qt.KeyboardModifier.ShiftModifier:
            return "reject" if shift else "keep"
        if command and key == Qt.Key.Key_Z:
            return self._history("redo" if shift else "undo")
        if command and not shift and key == Qt.Key.Key_Y:
            return self._history("redo")
        return None if held else _LETTERS.get(key)

    def _history(self, job: str) -> str | None:
        """Undo and redo belong to a layer in edit mode that has something to undo or redo."""
        ours = self._session.undo_stack
        layer = self._canvas.currentLayer()
        if isinstance(layer, QgsVectorLayer) and layer.isEditable():
            theirs = layer.undoStack()
            if theirs.canUndo() if job == "undo" else theirs.canRedo():
                return None
        return job if (ours.canUndo() if job == "undo" else ours.canRedo()) else None

    def _do(self, job: str) -> None:
        session = self._session
        if job == "leave":
            if self._pressed is not None:
                self._drop_drag()
            else:
                self._search.escape()
        elif job in ("keep", "reject"):
            self._keep_middle(COUNTEREXAMPLE if job == "reject" else session.keeps)
        elif job in ("undo", "redo"):
            getattr(session.undo_stack, job)()
        elif job == "swap":
            session.set_keeps(EXAMPLE if session.keeps == COUNTEREXAMPLE else COUNTEREXAMPLE)
        elif job == "live":
            session.set_live(not session.live)
        elif job == "show":
            session.set_show(SHOWS[(SHOWS.index(session.show) + 1) % len(SHOWS)])
        elif job == "less":
            session.set_share(max((s for s in STEPS if s < session.share), default=STEPS[0]))
        elif job == "more":
            session.set_share(min((s for s in STEPS if s > session.share), default=STEPS[-1]))

    def _keep_middle(self, kind: str) -> None:
        """Keep the place under the cross."""
        self._markers.set_cross(True)
        self._search.keep(self._canvas, kind, self._canvas.center())

    def _follow_cross(self) -> None:
        if self._markers.cross:
            self._search.hover(self._canvas, self._canvas.center())
