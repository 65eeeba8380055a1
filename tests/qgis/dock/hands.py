"""The dock in a window, and what clicks and waits in it."""

from __future__ import annotations

import time

from osgeo import gdal, ogr
from qgis.gui import QgsProcessingAlgorithmDialogBase
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QPoint, Qt, pyqtSignal
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QTextEdit

from earthprint.plugin.search.dock import SearchDock

gdal.UseExceptions()
ogr.UseExceptions()

LEFT = Qt.MouseButton.LeftButton
KEYS = Qt.Key
NONE, SHIFT = Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier
ANSWER = {
    "kind": "cosine", "low": 0.05, "high": 0.93,
    "thresholds": [[50, 0.05], [10, 0.4], [1, 0.71], [0.1, 0.93]],
    "hectares": [412.6 + 2 * (191 - index) for index in range(256)],
}


class Map(QObject):
    """The search on the map as the dock sees it; remembers where it was sent."""

    tool_changed = pyqtSignal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.tool_active = False
        self.flown: list[tuple[float, float]] = []
        self.retries = self.restarts = 0

    def activate_tool(self) -> None:
        self.tool_active = True
        self.tool_changed.emit(True)

    def leave_tool(self) -> None:
        self.tool_active = False
        self.tool_changed.emit(False)

    def fly_to(self, x: float, y: float) -> None:
        self.flown.append((x, y))

    def retry(self) -> None:
        self.retries += 1

    def restart(self) -> None:
        self.restarts += 1


def open_dock(session, search, window, width=340) -> SearchDock:
    made = SearchDock(session, search, window)
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, made)
    made.setFixedWidth(width)
    QApplication.processEvents()
    return made


def click(widget, spot=None) -> None:
    QTest.mouseClick(widget, LEFT, NONE, spot or widget.rect().center())


def until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        QApplication.processEvents()
        time.sleep(0.005)


def form() -> QgsProcessingAlgorithmDialogBase:
    """The algorithm's dialog that is open."""
    (found,) = (
        widget for widget in QApplication.topLevelWidgets()
        if isinstance(widget, QgsProcessingAlgorithmDialogBase) and widget.isVisible()
    )
    return found


def run(dialog) -> dict:
    """Press Run and wait for the end; the results."""
    ended = []
    dialog.algorithmFinished.connect(lambda good, results: ended.append((good, results)))
    dialog.runAlgorithm()
    until(lambda: ended, 180)
    QApplication.processEvents()
    if not sip.isdeleted(dialog):
        dialog.close()
    assert ended[0][0]
    return ended[0][1]


def log_of(dialog) -> str:
    """What the algorithm has said."""
    return "".join(text.toPlainText() for text in dialog.findChildren(QTextEdit))


def row_of(listed, row, column=1) -> QPoint:
    return listed.visualItemRect(listed.topLevelItem(row)).center() if column == 1 else (
        listed.visualRect(listed.model().index(row, column)).center())
