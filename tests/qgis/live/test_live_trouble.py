"""What goes wrong while one searches is a sentence, and nothing is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from qgis.core import QgsRasterLayer
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication

from earthprint.engine import client as border
from tests.qgis.events import CTRL, LEFT, PLAIN, Hand, let, until
from tests.qgis.live.pictures import heat_of


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


def test_an_engine_that_hangs_can_be_restarted(ready, hand):
    hand.click(200, 150)
    until(lambda: ready.session.matches and not ready.link.busy)
    button = ready.dock.status.restart
    assert not button.isVisible()
    ready.link._request._stuck.setInterval(400)
    hanging = border.shared_client().pid
    os.kill(hanging, signal.SIGSTOP)
    hand.move(180, 130)
    until(lambda: ready.session.status_kind == "stuck")
    assert ready.session.status == (
        "The engine gives no answer. Wait, or restart it; examples are safe.")
    until(button.isVisible)
    QTest.mouseClick(button, LEFT, PLAIN, button.rect().center())
    until(lambda: "restarted" in ready.session.status)
    assert not button.isVisible()
    until(lambda: ready.link.ready and ready.session.matches)
    assert border.shared_client().pid not in (hanging, None)
    assert len(ready.session.examples) == 1


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
