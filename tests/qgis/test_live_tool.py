"""The map tool and the live heat map: real events on a real canvas, the real engine behind."""

from __future__ import annotations

import os
import signal
import statistics
import time
from pathlib import Path

import pytest
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.gui import QgsMapCanvas, QgsMapToolPan
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QEvent, QPoint, Qt
from qgis.PyQt.QtGui import QColor, QImage, QMouseEvent, QPainter
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAction, QApplication, QMainWindow

from earthprint.engine import client as border

SIZE = (400, 300)
FRAME_S = 0.016
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


@pytest.fixture
def layer(project, made):
    embeddings = QgsRasterLayer(made["embeddings"], "embeddings")
    assert embeddings.isValid()
    project.setCrs(embeddings.crs())
    project.addMapLayer(embeddings)
    return embeddings


@pytest.fixture
def qgis_window(layer):
    made = Qgis()
    for canvas in made.canvases:
        canvas.setLayers([])
        canvas.setExtent(layer.extent())
    made.window.show()
    yield made
    made.window.close()
    sip.delete(made.window)


@pytest.fixture
def search(plugin, qgis_window, layer):
    """The search, opened from the toolbar, on the embeddings."""
    from earthprint.plugin.search.search import SimilaritySearch

    found = SimilaritySearch(qgis_window)
    found.action.trigger()
    found.session.set_layer(layer)
    yield found
    found.discard()


@pytest.fixture
def canvas(qgis_window):
    return qgis_window.mapCanvas()


@pytest.fixture
def hand(canvas):
    return Hand(canvas)


@pytest.fixture
def ready(search):
    """The search with its first view."""
    until(lambda: search.link.ready)
    let(0.15)
    return search


def heat_of(search, canvas):
    return next(place.heat for place in search._places if place.canvas is canvas)


def painted(search, canvas) -> QImage:
    """The heat map alone, on transparent ground."""
    picture = QImage(*SIZE, QImage.Format.Format_ARGB32_Premultiplied)
    picture.fill(0)
    painter = QPainter(picture)
    heat_of(search, canvas).paint(painter)
    painter.end()
    return picture


def colour(image: QImage, x: int, y: int) -> QColor:
    return image.pixelColor(x, y)


def to_layer(canvas, layer, x: int, y: int) -> QgsPointXY:
    way = QgsCoordinateTransform(
        canvas.mapSettings().destinationCrs(), layer.crs(), QgsProject.instance()
    )
    return way.transform(canvas.getCoordinateTransform().toMapCoordinates(x, y))


def brightest(image: QImage) -> tuple[int, int]:
    return max(
        ((x, y) for x in range(0, SIZE[0], 3) for y in range(0, SIZE[1], 3)),
        key=lambda spot: colour(image, *spot).lightness() * colour(image, *spot).alpha(),
    )


# Hover and click


def test_hover_lights_up_what_is_alike(ready, canvas, hand):
    hand.move(200, 150)
    until(lambda: ready.session.answer is not None)
    answer = ready.session.answer
    assert answer["kind"] == "cosine" and answer["hover_valid"]
    assert -1 <= answer["low"] < answer["high"] <= 1
    image = painted(ready, canvas)
    here = colour(image, 200, 150)
    assert here.alphaF() == pytest.approx(0.85 * 0.8, abs=0.02)  # alike, times opacity
    assert here.red() > 240 and here.green() > 240  # the bright end of the ramp
    assert colour(image, 5, 5).alpha() == 0  # beside the raster
    hand.move(210, 100)
    until(lambda: ready.session.answer is not answer)
    assert colour(painted(ready, canvas), 210, 100).green() > 240


def test_hovering_never_waits_for_the_engine(ready, hand, monkeypatch):
    """2 in flight would be one too many; the newest of what waits is what is asked next."""
    asked = []
    send = ready.link._post.send
    monkeypatch.setattr(
        ready.link._post, "send",
        lambda method, params, number: (
            asked.append(params["hover"]), send(method, params, number)),
    )
    for x in range(150, 190):
        hand.move(x, 150)
    assert len(asked) == 1
    until(lambda: ready.link._flight is None and not ready.link._due)
    assert len(asked) == 2
    last = ready.link.canvas.getCoordinateTransform().toMapCoordinates(189, 150)
    assert asked[-1][:2] == pytest.approx([last.x(), last.y()])


def test_clicks_keep_and_reject(ready, canvas, layer, hand):
    session = ready.session
    for count, (x, held, kind) in enumerate(
        ((150, PLAIN, "example"), (170, CTRL, "counterexample"), (190, ALT, "counterexample"),
         (210, PLAIN, "example")), 1):
        hand.click(x, 140, held=held)
        until(lambda wanted=count: len(session.examples) == wanted)
        place = to_layer(canvas, layer, x, 140)
        assert session.examples[-1].kind == kind
        assert (session.examples[-1].x, session.examples[-1].y) == pytest.approx(
            (place.x(), place.y()))
    until(lambda: session.matches and session.answer["kind"] == "linear head")
    assert session.status == "Ready. 2 examples, 2 counterexamples."
    assert len(session.matches) <= 100
    assert [m.cosine for m in session.matches] == sorted(
        (m.cosine for m in session.matches), reverse=True)
    hand.click(190, 140, RIGHT)
    assert [e.kind for e in session.examples] == ["example", "counterexample", "example"]
    hand.click(30, 250, RIGHT)  # no marker there
    assert len(session.examples) == 3


def test_a_double_click_keeps_one(ready, hand):
    hand.click(200, 150)
    hand._send(QEvent.Type.MouseButtonDblClick, QPoint(200, 150), LEFT, LEFT, PLAIN)
    hand.release(200, 150)
    let(0.3)
    assert len(ready.session.examples) == 1


def test_a_dragged_box_is_one_example(ready, canvas, layer, hand):
    hand.drag((160, 120), (200, 150))
    (example,) = ready.session.examples
    first, last = to_layer(canvas, layer, 160, 120), to_layer(canvas, layer, 200, 150)
    assert example.box == pytest.approx((first.x(), last.y(), last.x(), first.y()))
    assert (example.x, example.y) == pytest.approx(
        ((first.x() + last.x()) / 2, (first.y() + last.y()) / 2))
    until(lambda: ready.session.matches)
    hand.drag((200, 150), (230, 180), held=PLAIN)  # a plain drag keeps nothing
    let(0.1)
    assert len(ready.session.examples) == 1


def test_nodata_and_outside(ready, canvas, hand):
    session = ready.session
    hand.move(200, 150)
    until(lambda: session.answer is not None)
    hand.move(3, 150)
    until(lambda: canvas.cursor().shape() == Qt.CursorShape.ForbiddenCursor)
    assert session.status == "No embeddings here (cloud or edge)."
    hand.click(3, 150)
    let(0.1)
    assert not session.examples
    hand.move(200, 150)
    until(lambda: canvas.cursor().shape() != Qt.CursorShape.ForbiddenCursor)
    assert session.status == "Move over the map, click to keep a place."


def test_leaving_the_map_shows_what_is_kept(ready, hand):
    hand.click(200, 150)
    until(lambda: ready.session.matches)
    kept = ready.session.answer
    hand.move(120, 80)
    until(lambda: ready.session.answer["thresholds"] != kept["thresholds"])
    hand.leave()
    until(lambda: ready.session.answer["thresholds"] == kept["thresholds"])


def test_style_asks_nothing(ready, canvas, hand):
    session = ready.session
    hand.move(200, 150)
    until(lambda: session.answer is not None)
    answer, requests = session.answer, ready.link._requests
    session.set_opacity(0.5)
    assert colour(painted(ready, canvas), 200, 150).alphaF() == pytest.approx(0.425, abs=0.02)
    session.set_show("matches")
    image = painted(ready, canvas)
    assert colour(image, 200, 150).alphaF() == pytest.approx(0.3, abs=0.02)
    covered = _covered(image)
    session.set_share(20.0)
    assert _covered(painted(ready, canvas)) > 3 * covered
    session.set_show("nothing")
    assert not heat_of(ready, canvas).isVisible()
    session.set_show("heat")
    assert heat_of(ready, canvas).isVisible()
    assert (session.answer, ready.link._requests) == (answer, requests)


def _covered(image: QImage) -> int:
    return sum(
        colour(image, x, y).alpha() > 0 for x in range(0, SIZE[0], 2) for y in range(0, SIZE[1], 2)
    )


# Views


def test_the_heat_map_follows_pan_and_zoom(ready, canvas, hand):
    hand.click(200, 150)
    until(lambda: ready.session.matches)
    spot = canvas.getCoordinateTransform().toMapCoordinates(200, 150)
    view = ready.link._view
    box = canvas.extent()
    canvas.setExtent(QgsRectangle(
        box.xMinimum() + box.width() / 4, box.yMinimum() + box.height() / 4,
        box.xMaximum() - box.width() / 8, box.yMaximum() - box.height() / 8))
    at = canvas.getCoordinateTransform().transform(spot)
    image = painted(ready, canvas)  # the old picture, in its new place
    assert colour(image, round(at.x()), round(at.y())).green() > 200
    until(lambda: ready.link._view not in (view, None) and not ready.link._due)
    until(lambda: heat_of(ready, canvas).grid is ready.link._grid)
    at = canvas.getCoordinateTransform().transform(spot)
    assert colour(painted(ready, canvas), round(at.x()), round(at.y())).green() > 200


@pytest.mark.parametrize(("turn", "crs"), [(33.0, None), (0.0, "EPSG:3857"), (-70.0, "EPSG:4326")])
def test_rotated_and_in_other_coordinates(ready, canvas, layer, hand, project, turn, crs):
    if crs is not None:
        project.setCrs(QgsCoordinateReferenceSystem(crs))
        canvas.setDestinationCrs(project.crs())
        canvas.setExtent(QgsCoordinateTransform(layer.crs(), project.crs(), project)
                         .transformBoundingBox(layer.extent()))
    canvas.setRotation(turn)
    let(0.2)
    until(lambda: ready.link.ready)
    hand.move(200, 150)
    until(lambda: ready.session.answer is not None)
    assert colour(painted(ready, canvas), 200, 150).green() > 240
    hand.click(200, 150)
    until(lambda: ready.session.matches)
    place = to_layer(canvas, layer, 200, 150)
    (example,) = ready.session.examples
    assert (example.x, example.y) == pytest.approx((place.x(), place.y()))
    marker = next(p.markers for p in ready._places if p.canvas is canvas)
    assert marker.at(QPoint(200, 150)) == 0
    best = ready.session.matches[0]
    assert QgsPointXY(best.x, best.y).distance(place) < 15


def test_fine_screens_get_their_pixels_and_huge_ones_fewer(ready, canvas, monkeypatch):
    from earthprint.plugin.search import overlay

    monkeypatch.setattr(canvas, "devicePixelRatioF", lambda: 2.0, raising=False)
    grid = overlay.canvas_grid(canvas)
    assert (grid.rows, grid.cols) == (600, 800)
    monkeypatch.setattr(overlay, "MOST_PIXELS", 120_000)
    small = overlay.canvas_grid(canvas)
    assert small.rows * small.cols <= 120_000
    assert small.cols / small.rows == pytest.approx(4 / 3, rel=0.01)
    corner = canvas.getCoordinateTransform().toMapCoordinates(*SIZE)
    for found in (grid, small):
        assert found.to_map().map(float(found.cols), float(found.rows)) == pytest.approx(
            (corner.x(), corner.y()))


def test_two_canvases(ready, qgis_window, canvas, layer, hand):
    second = qgis_window.new_canvas()
    qgis_window.canvases.append(second)
    second.setExtent(layer.extent().buffered(-200))
    second.show()
    until(lambda: len(ready._places) == 2, 3)
    other = Hand(second)
    hand.click(200, 150)
    until(lambda: ready.session.matches)
    assert all(len(place.markers._examples) == 1 for place in ready._places)
    other.move(180, 140)
    until(lambda: ready.link.canvas is second and heat_of(ready, second).isVisible())
    assert not heat_of(ready, canvas).isVisible()
    other.click(180, 140)
    until(lambda: len(ready.session.examples) == 2)
    hand.move(150, 150)
    until(lambda: heat_of(ready, canvas).isVisible())
    assert not heat_of(ready, second).isVisible()
    qgis_window.canvases.remove(second)
    sip.delete(second)
    let(0.1)
    assert len(ready._places) == 1
    hand.move(160, 150)
    until(lambda: ready.link._flight is None)


# Keyboard


def test_keys(ready, canvas, hand):
    session = ready.session
    canvas.setFocus()
    hand.key(Qt.Key.Key_X)
    assert session.keeps == "counterexample"
    hand.key(Qt.Key.Key_X)
    hand.key(Qt.Key.Key_L)
    assert (session.keeps, session.live) == ("example", False)
    hand.key(Qt.Key.Key_L)
    shown = []
    for _ in range(4):
        hand.key(Qt.Key.Key_V)
        shown.append(session.show)
    assert shown == ["matches", "both", "nothing", "heat"]
    QTest.keyClick(canvas, "]")
    assert session.share == 2.0
    QTest.keyClick(canvas, "[")
    QTest.keyClick(canvas, "[")
    assert session.share == 0.5


def test_search_by_keyboard_alone(ready, canvas, layer, hand):
    session = ready.session
    canvas.setFocus()
    hand.key(Qt.Key.Key_Left)
    let(0.3)
    until(lambda: ready.link.ready and session.answer is not None, 5)
    marker = ready._places[0].markers
    assert marker.cross
    hand.key(Qt.Key.Key_Return)
    until(lambda: len(session.examples) == 1)
    middle = to_layer(canvas, layer, SIZE[0] // 2, SIZE[1] // 2)
    assert (session.examples[0].x, session.examples[0].y) == pytest.approx(
        (middle.x(), middle.y()), abs=10)
    hand.key(Qt.Key.Key_Up)
    let(0.3)
    until(lambda: ready.link.ready)
    hand.key(Qt.Key.Key_Enter, SHIFT | Qt.KeyboardModifier.KeypadModifier)
    until(lambda: len(session.examples) == 2)
    assert session.examples[1].kind == "counterexample"
    hand.key(Qt.Key.Key_Z, CTRL)
    hand.key(Qt.Key.Key_Z, CTRL)
    assert not session.examples
    hand.key(Qt.Key.Key_Z, CTRL | SHIFT)
    hand.key(Qt.Key.Key_Y, CTRL)
    assert len(session.examples) == 2
    hand.move(100, 100)
    assert not marker.cross


def test_shortcuts_of_qgis_give_way_to_our_keys_only(ready, qgis_window, canvas, hand):
    """QGIS binds bare letters; `X` is ours while the canvas has the focus, `S` is not."""
    canvas.setFocus()
    QApplication.setActiveWindow(qgis_window.window)
    fired = []
    for key in ("X", "S", "Esc"):
        action = QAction(qgis_window.window)
        action.setShortcut(key)
        action.triggered.connect(lambda _=False, key=key: fired.append(key))
        qgis_window.window.addAction(action)
    hand.key(Qt.Key.Key_X)
    hand.key(Qt.Key.Key_S)
    assert fired == ["S"] and ready.session.keeps == "counterexample"
    ready.leave_tool()
    hand.key(Qt.Key.Key_X)
    assert fired == ["S", "X"]


def test_undo_belongs_to_a_layer_that_is_edited(ready, canvas, project, hand):
    ready.session.add("example", 1.0, 2.0)
    drawn = QgsVectorLayer("Point", "drawn", "memory")
    project.addMapLayer(drawn)
    canvas.setCurrentLayer(drawn)
    drawn.startEditing()
    canvas.setFocus()
    feature = QgsFeature()
    feature.setGeometry(QgsGeometry.fromPointXY(QgsPointXY(0, 0)))
    drawn.addFeature(feature)
    hand.key(Qt.Key.Key_Z, CTRL)
    assert len(ready.session.examples) == 1
    drawn.undoStack().undo()
    hand.key(Qt.Key.Key_Z, CTRL)
    assert not ready.session.examples


def test_escape_restores_the_former_tool(qgis_window, search, canvas, hand):
    search.leave_tool()
    former = QgsMapToolPan(canvas)
    canvas.setMapTool(former)
    said = []
    search.tool_changed.connect(said.append)
    search.activate_tool()
    assert search.tool_active and search.action.isChecked() and canvas.mapTool() is not former
    canvas.setFocus()
    hand.key(Qt.Key.Key_Escape)
    assert canvas.mapTool() is former and not search.tool_active
    assert not search.action.isChecked() and said == [True, False]
    search.activate_tool()
    canvas.setMapTool(former)  # the analyst takes another tool
    let(0.05)
    assert not search.tool_active and canvas.mapTool() is former


# What goes wrong


def test_clicks_are_kept_while_the_engine_starts(search, hand):
    assert not search.link.ready
    hand.click(200, 150)
    hand.click(150, 120, held=CTRL)
    assert [e.kind for e in search.session.examples] == ["example", "counterexample"]
    until(lambda: search.session.matches)


def test_a_killed_engine_is_a_sentence(ready, hand):
    session = ready.session
    hand.click(200, 150)
    until(lambda: session.matches)
    old = border.shared_client().pid
    os.kill(old, signal.SIGKILL)
    hand.move(180, 130)
    until(lambda: "restarted" in session.status)
    assert session.status == "The engine stopped and was restarted; examples are safe."
    until(lambda: ready.link.ready)
    assert border.shared_client().pid not in (old, None) and len(session.examples) == 1
    answer = session.answer
    hand.move(170, 120)
    until(lambda: session.answer is not answer)


def test_layer_removed_midway(ready, canvas, layer, project, hand):
    hand.click(200, 150)
    hand.move(150, 150)
    project.removeMapLayer(layer.id())
    assert ready.session.layer is None and not ready.tool_active
    assert canvas.mapTool() is None
    hand.move(160, 150)
    hand.click(160, 150)
    hand.key(Qt.Key.Key_Return)
    let(0.3)
    assert not heat_of(ready, canvas).isVisible() and not ready.session.examples


def test_project_closed_midway(ready, canvas, project, hand):
    hand.click(200, 150)
    hand.move(150, 150)
    project.clear()
    let(0.3)
    assert ready.session.layer is None and not heat_of(ready, canvas).isVisible()
    assert ready.session.status == ""
    ready.action.trigger()
    assert not ready.tool_active and not ready.action.isChecked()


def test_a_truncated_file_is_a_sentence(search, made, project, tmp_path):
    whole = Path(made["embeddings"]).read_bytes()
    path = tmp_path / "cut.tif"
    path.write_bytes(whole[: len(whole) // 2])
    cut = QgsRasterLayer(str(path), "cut")
    project.addMapLayer(cut)
    search.session.set_layer(cut)
    until(lambda: search.session.status_kind == "error")
    assert "cut.tif" in search.session.status and search.link.failure
    path.write_bytes(whole)
    search.retry()
    until(lambda: search.link.ready and search.session.status_kind == "info")


def test_an_example_without_embeddings_is_left_out_and_said(ready, canvas, hand):
    session = ready.session
    session.add("example", 1e7, 1e7)
    until(lambda: session.status == "No embeddings at 1 (cloud or edge); left out.")
    hand.click(200, 150)
    until(lambda: session.matches)
    assert session.status == "No embeddings at 1 (cloud or edge); left out."
    session.remove(0)
    until(lambda: session.status == "Ready. 1 example.")


def test_without_an_engine(no_engine, qgis_window, layer, plugin, monkeypatch):
    from earthprint.plugin.search.search import SimilaritySearch

    border.close_shared_client()
    found = SimilaritySearch(qgis_window)
    try:
        found.action.trigger()
        found.session.set_layer(layer)
        until(lambda: found.session.status_kind == "error")
        assert "Set Up Environment" in found.session.status
        Hand(qgis_window.mapCanvas()).click(200, 150)
        assert len(found.session.examples) == 1
        monkeypatch.undo()
        found.retry()
        until(lambda: found.session.matches)
    finally:
        found.discard()


def test_nothing_is_left_behind(plugin, qgis_window, layer, canvas, hand):
    from earthprint.plugin.search.search import SimilaritySearch

    before = len(canvas.scene().items())
    former = canvas.mapTool()
    found = SimilaritySearch(qgis_window)
    found.action.trigger()
    found.session.set_layer(layer)
    until(lambda: found.link.ready)
    hand.move(200, 150)
    hand.click(200, 150)
    found.discard()
    let(0.1)
    assert len(canvas.scene().items()) == before
    assert canvas.mapTool() is former
    assert not qgis_window.toolbar and not qgis_window.docks
    hand.move(210, 150)
    let(0.1)


def test_the_dock_takes_no_focus_and_closing_it_ends_the_search(ready, canvas, hand):
    canvas.setFocus()
    hand.click(200, 150)
    until(lambda: ready.session.matches)
    assert QApplication.focusWidget() in (canvas, None)
    ready.dock.close()
    let(0.05)
    assert not ready.tool_active and not ready._places
    ready.action.trigger()
    until(lambda: ready.link.ready)
    assert len(ready.session.examples) == 1


# Speed


def test_the_gui_thread_is_free(ready, canvas, hand):
    """Handling a move, an answer and a paint each take less than a frame, in CPU time."""
    canvas.setFixedSize(1200, 850)
    until(lambda: ready.link.ready and ready.link._grid.cols == 1200)
    hand.move(600, 500)
    until(lambda: ready.session.answer is not None)
    moves, taken = [], []
    take = ready.link._take

    def timed(*values):
        start = time.thread_time()
        take(*values)
        taken.append(time.thread_time() - start)

    ready.link._post.answered.disconnect(take)
    ready.link._post.answered.connect(timed)
    while len(taken) < 40:
        start = time.thread_time()
        hand.move(300 + len(moves) % 600, 400)
        moves.append(time.thread_time() - start)
        let(0.008)
        assert len(moves) < 2000
    ready.link._post.answered.disconnect(timed)
    ready.link._post.answered.connect(take)
    heat = heat_of(ready, canvas)
    picture = QImage(1200, 850, QImage.Format.Format_ARGB32_Premultiplied)
    paints = []
    for show in ("heat", "matches", "both") * 5:
        ready.session.set_show(show)
        start = time.thread_time()
        painter = QPainter(picture)
        heat.paint(painter)
        painter.end()
        paints.append(time.thread_time() - start)
    for name, seconds in (("move", moves), ("answer", taken), ("paint", paints)):
        assert statistics.median(seconds) < FRAME_S, (name, seconds)
