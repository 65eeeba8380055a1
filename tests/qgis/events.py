"""A window with real canvases, and a hand on them that works through Qt's own events."""

from __future__ import annotations

import time

from qgis.core import QgsProject
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QEvent, QPoint, Qt
from qgis.PyQt.QtGui import QMouseEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAction, QApplication, QMainWindow

SIZE = (400, 300)
LEFT, RIGHT, NONE = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton, Qt.MouseButton.NoButton
PLAIN = Qt.KeyboardModifier.NoModifier
CTRL = Qt.KeyboardModifier.ControlModifier
ALT = Qt.KeyboardModifier.AltModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


class Qgis:
    """QGIS's window as far as the search touches it, with real canvases in it."""

    def __init__(self) -> None:
        self.window = QMainWindow()
        self.canvases = [self.new_canvas()]
        self.window.setCentralWidget(self.canvases[0])
        self.window.resize(1000, 700)
        self.pan = QAction(self.window)
        self.toolbar: list[QAction] = []
        self.docks: list[object] = []

    def new_canvas(self) -> QgsMapCanvas:
        canvas = QgsMapCanvas(self.window)
        canvas.setFrameStyle(0)  # as in QGIS
        canvas.setFixedSize(*SIZE)
        canvas.setDestinationCrs(QgsProject.instance().crs())
        return canvas

    def mainWindow(self):
        return self.window

    def mapCanvas(self):
        return self.canvases[0]

    def mapCanvases(self):
        return self.canvases

    def actionPan(self):
        return self.pan

    def registerMainWindowAction(self, action, _shortcut):
        return True

    def unregisterMainWindowAction(self, action):
        return True

    def addToolBarIcon(self, action):
        self.toolbar.append(action)

    def removeToolBarIcon(self, action):
        self.toolbar.remove(action)

    def addTabifiedDockWidget(self, area, dock, _with, _raise):
        self.docks.append(dock)
        self.window.addDockWidget(area, dock)

    def addDockWidget(self, area, dock):
        self.addTabifiedDockWidget(area, dock, [], True)

    def removeDockWidget(self, dock):
        self.docks.remove(dock)
        self.window.removeDockWidget(dock)

    def messageBar(self):
        return None


def until(condition, seconds: float = 30.0) -> None:
    """Let Qt work until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        QApplication.processEvents()
        time.sleep(0.002)


def let(seconds: float) -> None:
    """Let Qt work for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.002)


class Hand:
    """Mouse and keyboard on a canvas, through Qt's own events."""

    def __init__(self, canvas: QgsMapCanvas) -> None:
        self.canvas = canvas

    def _send(self, kind, spot: QPoint, button, buttons, held) -> None:
        port = self.canvas.viewport()
        event = QMouseEvent(kind, spot, port.mapToGlobal(spot), button, buttons, held)
        QApplication.sendEvent(port, event)

    def move(self, x: int, y: int, held=PLAIN, buttons=NONE) -> None:
        self._send(QEvent.Type.MouseMove, QPoint(x, y), NONE, buttons, held)

    def press(self, x: int, y: int, button=LEFT, held=PLAIN) -> None:
        self._send(QEvent.Type.MouseButtonPress, QPoint(x, y), button, button, held)

    def release(self, x: int, y: int, button=LEFT, held=PLAIN) -> None:
        self._send(QEvent.Type.MouseButtonRelease, QPoint(x, y), button, NONE, held)

    def click(self, x: int, y: int, button=LEFT, held=PLAIN) -> None:
        self.move(x, y)
        self.press(x, y, button, held)
        self.release(x, y, button, held)

    def drag(self, start, end, held=SHIFT) -> None:
        self.move(*start)
        self.press(*start, held=held)
        self.move((start[0] + end[0]) // 2, (start[1] + end[1]) // 2, held, LEFT)
        self.move(*end, held, LEFT)
        self.release(*end, held=held)

    def leave(self) -> None:
        QApplication.sendEvent(self.canvas.viewport(), QEvent(QEvent.Type.Leave))

    def key(self, key, held=PLAIN) -> None:
        QTest.keyClick(self.canvas, key, held)
