"""Matches: listed, flown to, with thumbnails; on a real map too."""

from __future__ import annotations

import time

import pytest
from qgis.core import QgsRasterLayer
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QPoint, Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAction, QApplication

from earthprint.plugin.search.session import COUNTEREXAMPLE, EXAMPLE
from tests.qgis.dock.hands import KEYS, SHIFT, click, until


def test_fly_through_the_matches_by_keys(kept, session, search, matches):
    panel = kept.matches
    assert panel.list.isHidden()
    session.set_matches(matches)
    listed = panel.list
    assert panel.title() == "Matches (best 100)" and listed.count() == 100
    assert listed.item(0).text() == "#1  0.95\n> 99.9 %"
    assert listed.item(10).text() == "#11  0.90\n99.8 %"
    assert listed.item(2).data(Qt.ItemDataRole.AccessibleTextRole) == "Match 3, cosine 0.94"
    listed.setFocus()
    for key in (KEYS.Key_Down, KEYS.Key_Down, KEYS.Key_Up, KEYS.Key_End, KEYS.Key_Down):
        QTest.keyClick(listed, key)
    assert search.flown == [(matches[row].x, matches[row].y) for row in (0, 1, 0, 99)]
    assert session.current == 99
    QTest.keyClick(listed, KEYS.Key_Return)
    QTest.keyClick(listed, KEYS.Key_Return, SHIFT)
    last = matches[99]
    assert [(e.kind, e.x, e.y) for e in session.examples[-2:]] == [
        (EXAMPLE, last.x, last.y), (COUNTEREXAMPLE, last.x, last.y)]
    session.set_current(5)  # from the map
    assert listed.currentRow() == 5 and len(search.flown) == 4
    session.set_matches([])
    assert listed.isHidden() and panel.title() == "Matches"


def test_a_click_on_a_match_flies(kept, session, search, matches):
    session.set_matches(matches)
    listed = kept.matches.list
    QApplication.processEvents()
    spot = listed.visualItemRect(listed.item(1)).center()
    click(listed.viewport(), spot)
    assert session.current == 1 and search.flown == [(matches[1].x, matches[1].y)]
    click(listed.viewport(), spot)  # again, after the map was moved
    assert len(search.flown) == 2
    session.set_current(-1)
    click(listed.viewport(), spot)
    assert len(search.flown) == 3 and session.current == 1


def test_thumbnails_show_the_base_layer(project, kept, session, base, matches):
    QApplication.processEvents()
    panel = kept.matches
    assert panel.base.currentLayer() is base  # the topmost visible one that is no embeddings
    node = project.layerTreeRoot().findLayer(base.id())
    for visible in (False, True):
        node.setItemVisibilityChecked(visible)
        QApplication.processEvents()
        assert panel.base.currentLayer() is (base if visible else None)
    drawn = []
    panel._pictures.drawn.connect(lambda row, image: drawn.append(row))
    session.set_matches(matches[:12])
    until(lambda: len(drawn) == 12)
    assert drawn == list(range(12))  # one after the other
    image = panel.list.item(0).icon().pixmap(48).toImage()
    assert image.pixelColor(24, 24).name() == "#c80000"
    began = time.monotonic()
    session.set_matches(matches[:12])  # the same places again come from memory
    assert len(drawn) == 24 and time.monotonic() - began < 1


def test_a_new_list_cancels_the_pictures_of_the_old_one(project, kept, session, base, matches):
    panel, drawn = kept.matches, []
    QApplication.processEvents()
    panel._pictures.drawn.connect(lambda row, image: drawn.append(row))
    session.set_matches(matches)
    until(lambda: len(drawn) >= 2)
    began = time.monotonic()
    session.set_matches(matches[90:93])
    assert time.monotonic() - began < 0.5
    before = len(drawn)
    until(lambda: len(drawn) == before + 3)
    for _ in range(20):
        QApplication.processEvents()
        time.sleep(0.01)
    assert drawn[before:] == [0, 1, 2]


def test_the_base_layer_goes_midway(project, kept, session, base, matches, picture):
    session.set_matches(matches)
    QApplication.processEvents()
    project.removeMapLayer(base.id())
    for _ in range(30):
        QApplication.processEvents()
        time.sleep(0.01)
    assert kept.matches.base.currentLayer() is None
    # one that the analyst chooses stays, whatever is put on top
    lower, upper = QgsRasterLayer(picture, "lower"), QgsRasterLayer(picture, "upper")
    project.addMapLayer(lower)
    QApplication.processEvents()
    box = kept.matches.base
    assert box.currentLayer() is lower
    box.activated.emit(box.currentIndex())
    project.addMapLayer(upper)
    QApplication.processEvents()
    assert box.currentLayer() is lower
    assert all(box.layer(row) is not session.layer for row in range(box.count()))


class Qgis3:
    """QGIS's window as far as the search touches it."""

    def __init__(self, window, canvas) -> None:
        self._window, self._canvas, self._pan = window, canvas, QAction(window)

    def mainWindow(self):
        return self._window

    def mapCanvas(self):
        return self._canvas

    def mapCanvases(self):
        return [self._canvas]

    def actionPan(self):
        return self._pan

    def addTabifiedDockWidget(self, area, dock, _with, _raise):
        self._window.addDockWidget(area, dock)

    def removeDockWidget(self, dock):
        self._window.removeDockWidget(dock)

    def __getattr__(self, name):  # toolbar and shortcuts, which are not looked at here
        return lambda *_: True


@pytest.fixture
def live(plugin, window, layer, project):
    """The real search with its dock open, on a canvas that shows the embeddings."""
    from earthprint.plugin.search.search import SimilaritySearch

    project.setCrs(layer.crs())
    canvas = QgsMapCanvas(window)
    canvas.setFixedSize(300, 300)
    canvas.setDestinationCrs(layer.crs())
    window.setCentralWidget(canvas)
    canvas.setExtent(layer.extent())
    found = SimilaritySearch(Qgis3(window, canvas))
    found.action.trigger()
    until(lambda: found.link.ready)
    yield found
    found.discard()


def test_from_a_click_on_the_map_to_a_walk_through_the_matches(live, layer):
    dock, session = live.dock, live.session
    canvas = live.link.canvas
    assert session.layer is layer and dock.tool.isChecked()
    QTest.mouseMove(canvas.viewport(), QPoint(150, 150))
    click(canvas.viewport(), QPoint(150, 150))
    until(lambda: len(session.matches) > 3)
    listed = dock.matches.list
    assert listed.count() == len(session.matches) and session.matches[0].cosine > 0.9
    assert dock.view.reading.text().startswith("cosine ")
    assert dock.examples.title() == "Examples (1 + 0)"
    walked = list(session.matches)
    listed.setFocus()
    for rank in range(3):
        QTest.keyClick(listed, KEYS.Key_Down)
        middle = canvas.center()
        assert (middle.x(), middle.y()) == pytest.approx((walked[rank].x, walked[rank].y))
        until(lambda: live.link.ready)
        for _ in range(60):
            QApplication.processEvents()
            time.sleep(0.01)
        assert session.matches == walked and session.current == rank
    QTest.keyClick(listed, KEYS.Key_Return, SHIFT)
    assert session.examples[-1].kind == COUNTEREXAMPLE
    until(lambda: session.answer["kind"] == "linear head")
    click(dock.tool)
    assert not live.tool_active
