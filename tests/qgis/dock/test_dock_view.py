"""The view of the heat map, and the status, by real events."""

from __future__ import annotations

import pytest
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAction, QApplication, QPlainTextEdit, QPushButton

from earthprint.plugin.search.session import BUSY, ERROR
from tests.qgis.dock.hands import ANSWER, KEYS, click, open_dock, until


def test_the_view_restyles_by_key_and_mouse(dock, session, layer):
    view, styled = dock.view, []
    session.style_changed.connect(lambda: styled.append(True))
    assert view.reading.text().strip() == ""
    session.set_answer(ANSWER)
    assert view.reading.text() == "cosine 0.71, 412.6 ha"
    QTest.keyClick(view.show_box, KEYS.Key_Down)
    view.show_box.activated.emit(view.show_box.currentIndex())
    assert session.show == "matches"
    QTest.keyClick(view.live, KEYS.Key_Space)
    assert not session.live
    shares = [session.share]
    for _ in range(60):
        QTest.keyClick(view.threshold, KEYS.Key_Right)
        shares.append(session.share)
        assert view.share.value() == session.share
    assert shares == sorted(shares, reverse=True) and shares[-1] == 0.1
    for _ in range(80):
        QTest.keyClick(view.threshold, KEYS.Key_Left)
    assert session.share == 50 and view.reading.text().startswith("cosine 0.05, ")
    view.share.setFocus()
    view.share.selectAll()
    QTest.keyClicks(view.share, "10")
    QTest.keyClick(view.share, KEYS.Key_Return)
    assert session.share == 10 and view.reading.text().startswith("cosine 0.40")
    assert view.threshold.value() == pytest.approx(52, abs=1)
    QTest.keyClick(view.opacity, KEYS.Key_Left)
    assert session.opacity == 0.75 and view.percent.value() == 75
    session.set_share(1.0)
    assert view.share.value() == 1.0 and view.share.text() == "top 1.0 %"
    assert styled
    session.set_answer(None)
    assert view.reading.text().strip() == ""


def test_thresholds_lie_between_those_of_the_engine(session, layer):
    session.set_layer(layer)
    assert session.threshold_cosine() is None and session.hectares() is None
    session.set_answer(ANSWER)
    cosines = []
    for share in (0.1, 0.2, 0.5, 1, 3, 10, 30, 50):
        session.set_share(share)
        cosines.append(session.threshold_cosine())
    assert cosines == sorted(cosines, reverse=True)
    assert (cosines[0], cosines[3], cosines[-1]) == pytest.approx((0.93, 0.71, 0.05))
    session.set_share(10**0.5)  # halfway on the scale of logarithms
    assert session.threshold_cosine() == pytest.approx((0.71 + 0.4) / 2)
    session.set_share(1)
    assert session.threshold_index() == 1 + round(254 * (0.71 - 0.05) / 0.88)
    session.set_answer({**ANSWER, "high": 0.05})
    assert session.threshold_index() == 255


def test_waiting_shows_a_bar_after_a_while(dock, session, layer):
    QApplication.processEvents()
    session.set_status("Opening the embeddings…", BUSY)
    assert dock.status.bar.isHidden()
    until(lambda: not dock.status.bar.isHidden(), 5)
    session.set_status("Ready.")
    assert dock.status.bar.isHidden() and dock.status.sentence.text() == "Ready."


def test_an_error_has_details_and_another_try(dock, session, search, layer):
    QApplication.processEvents()
    session.set_status("`emb.tif` is damaged.", ERROR, "line 1\nline 2")
    status = dock.status
    assert status.retry.isVisible() and status.details.isVisible()
    click(status.retry)
    assert search.retries == 1
    click(status.details)
    dialog = QApplication.activeWindow()
    assert "line 2" in dialog.findChild(QPlainTextEdit).toPlainText()
    click(next(b for b in dialog.findChildren(QPushButton) if b.text() == "Copy"))
    assert QApplication.clipboard().text() == "`emb.tif` is damaged.\n\nline 1\nline 2"
    dialog.close()
    session.set_status("Ready.")
    assert not status.retry.isVisible() and not status.details.isVisible()


def test_without_an_engine_the_set_up_is_offered(
    project, session, search, window, no_engine, monkeypatch, layer
):
    asked = []
    action = QAction(window)
    action.setObjectName("earthprint_setup")
    action.triggered.connect(lambda: asked.append(True))
    dock = open_dock(session, search, window)
    dock.status.look_at_engine()
    assert "Set Up Environment" in dock.status.sentence.text()
    click(dock.status.set_up)
    assert asked == [True]
    monkeypatch.undo()
    dock.status.look_at_engine()
    assert dock.status.set_up.isHidden() and search.retries == 1
