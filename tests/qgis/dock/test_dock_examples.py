"""Examples in the dock: kept, listed, undone, redone."""

from __future__ import annotations

import random

from osgeo import gdal
from qgis.core import QgsCoordinateReferenceSystem, QgsRasterLayer
from qgis.PyQt.QtCore import QPoint, Qt
from qgis.PyQt.QtGui import QKeySequence
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QLineEdit

from earthprint.plugin.search.session import COUNTEREXAMPLE, EXAMPLE
from tests.qgis.dock.hands import KEYS, LEFT, NONE, click, row_of, until


def test_undo_and_redo_are_exact_to_both_ends(dock, session, layer):
    dice, states, texts = random.Random(7), [()], []
    while len(states) < 121:
        before = session.examples
        index = dice.randrange(len(before)) if before else 0
        step = dice.choice(("add", "add", "box", "remove", "kind", "name", "clear"))
        if step == "add":
            session.add(dice.choice((EXAMPLE, COUNTEREXAMPLE)), dice.random(), dice.random())
        elif step == "box":
            session.add(EXAMPLE, 1.5, 2.5, (1.0, 2.0, 2.0, 3.0))
        elif step == "clear" and dice.random() < 0.2:
            session.clear()
        elif before and step == "remove":
            session.remove(index)
        elif before and step == "kind":
            session.change_kind(index)
        elif before and step == "name":
            session.rename(index, str(dice.random()))
        if session.examples != before:
            states.append(session.examples)
            texts.append(session.undo_stack.undoText())
            assert [e.number for e in session.examples] == list(
                range(1, len(session.examples) + 1))
    dock.tool.setFocus()
    for count, state in enumerate(reversed(states[:-1]), 1):
        assert session.undo_stack.undoText() == texts[-count]
        QTest.keyClick(dock.tool, KEYS.Key_Z, Qt.KeyboardModifier.ControlModifier)
        assert session.examples == state
    QTest.keyClick(dock.tool, KEYS.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert session.examples == () and not session.undo_stack.canUndo()
    for state in states[1:]:
        QTest.keySequence(dock.tool, QKeySequence(QKeySequence.StandardKey.Redo))
        assert session.examples == state
    assert not session.undo_stack.canRedo()


def test_undo_redo_and_clear_by_the_buttons(kept, session):
    undo, redo, clear = kept.history
    assert undo.toolTip() == "Undo Add Counterexample 4 (Ctrl+Z)"
    before = session.examples
    click(clear)
    assert session.examples == () and not clear.isEnabled()
    assert undo.toolTip() == "Undo Remove All Examples (Ctrl+Z)"
    click(undo)
    assert session.examples == before
    click(redo)
    assert session.examples == () and not redo.isEnabled()
    click(undo)
    QTest.keyClick(undo, KEYS.Key_Y, Qt.KeyboardModifier.ControlModifier)
    assert session.examples == ()


def test_two_hundred_steps_are_kept(session, layer):
    session.set_layer(layer)
    for step in range(230):
        session.add(EXAMPLE, step, 0)
    while session.undo_stack.canUndo():
        session.undo_stack.undo()
    assert len(session.examples) == 30


def test_the_list_of_examples(kept, session, search, places):
    panel = kept.examples
    listed = panel.list
    assert panel.title() == "Examples (2 + 2)" and listed.topLevelItemCount() == 4
    text = listed.topLevelItem(0).data(0, Qt.ItemDataRole.AccessibleTextRole)
    assert text.startswith("Example 1, ") and "\u202f" in text
    click(listed.viewport(), row_of(listed, 1))
    QTest.mouseDClick(listed.viewport(), LEFT, NONE, row_of(listed, 1))
    QTest.keyClick(listed, KEYS.Key_Return)
    assert search.flown == [places[1], places[1]]
    QTest.keyClick(listed, KEYS.Key_F2)
    editor = listed.viewport().findChild(QLineEdit)
    QTest.keyClicks(editor, "Maize")
    QTest.keyClick(editor, KEYS.Key_Return)
    until(lambda: session.examples[1].name == "Maize", 5)
    assert session.undo_stack.undoText() == "Rename Example 2"
    listed.setFocus()
    QTest.keyClick(listed, KEYS.Key_X)
    assert session.examples[1].kind == COUNTEREXAMPLE and panel.title() == "Examples (1 + 3)"
    QTest.keyClick(listed, KEYS.Key_Delete)
    assert [e.number for e in session.examples] == [1, 2, 3]
    assert listed.row() == 1
    button = listed.itemWidget(listed.topLevelItem(0), 3)
    assert button.accessibleName() == "Remove Example 1" and button.width() >= 24
    click(button)
    assert panel.title() == "Examples (0 + 2)"
    QTest.keyClick(listed, KEYS.Key_Delete)
    QTest.keyClick(listed, KEYS.Key_Delete)
    QTest.keyClick(listed, KEYS.Key_Delete)
    assert session.examples == () and panel.title() == "Examples" and listed.isHidden()


def test_degrees_are_written_with_their_decimals(project, dock, session, made, tmp_path):
    path = str(tmp_path / "degrees.tif")
    gdal.Warp(path, made["embeddings"], dstSRS="EPSG:4326", resampleAlg="near")
    project.addMapLayer(QgsRasterLayer(path, "degrees"))
    QApplication.processEvents()
    assert session.layer.crs() == QgsCoordinateReferenceSystem("EPSG:4326")
    session.add(EXAMPLE, 4.25, 50.875)
    assert dock.examples.list.topLevelItem(0).text(1) == "4.25000, 50.87500"


def test_what_a_click_keeps(dock, session, layer):
    assert dock.example.isChecked()
    click(dock.counterexample, QPoint(8, dock.counterexample.height() // 2))
    assert session.keeps == COUNTEREXAMPLE
    session.set_keeps(EXAMPLE)
    assert dock.example.isChecked() and not dock.counterexample.isChecked()


def test_the_tool_button_follows_the_tool(dock, search, layer):
    QApplication.processEvents()
    click(dock.tool)
    assert search.tool_active and dock.tool.isChecked()
    search.leave_tool()
    assert not dock.tool.isChecked()
    QTest.keyClick(dock.tool, KEYS.Key_Space)
    assert search.tool_active
    click(dock.tool)
    assert not search.tool_active and not dock.tool.isChecked()
