"""The search by keyboard alone, and whose keys are whose."""

from __future__ import annotations

import pytest
from qgis.core import QgsFeature, QgsGeometry, QgsPointXY, QgsVectorLayer
from qgis.gui import QgsMapToolPan
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAction, QApplication

from tests.qgis.events import CTRL, SHIFT, SIZE, let, until
from tests.qgis.live.pictures import to_layer


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
