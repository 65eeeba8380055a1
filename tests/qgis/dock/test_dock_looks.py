"""The dock fits, can be reached by keys alone, and goes without a trace."""

from __future__ import annotations

import time

import pytest
from qgis.core import QgsApplication, QgsProject, QgsRasterLayer
from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt import sip
from qgis.PyQt.QtCore import Qt, QTranslator
from qgis.PyQt.QtGui import QFont, QKeySequence, QPixmap
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QScrollArea,
    QWidget,
)

from earthprint.plugin.search.session import COUNTEREXAMPLE, ERROR, EXAMPLE
from tests.qgis.dock.hands import ANSWER, KEYS, open_dock


class Longer(QTranslator):
    """A language whose words are 40 % longer."""

    def translate(self, context, text, disambiguation=None, n=-1):
        if context != "Earthprint" or not text:
            return None
        return text + "~" * round(0.4 * len(text.replace("&", "")) + 0.5)


@pytest.fixture
def longer(qgis_app):
    words = Longer()
    QApplication.installTranslator(words)
    yield
    QApplication.removeTranslator(words)


def fill(session, layer, matches, places=((1, 2), (3, 4))) -> None:
    session.set_layer(layer)
    for place, kind in zip(places, (EXAMPLE, COUNTEREXAMPLE) * 2):
        session.add(kind, *place)
    session.rename(1, "Maize by the river")
    session.set_matches(matches)
    session.set_answer(ANSWER)
    session.set_status("`emb.tif` is damaged at tile 118 of 400. Encode it again.", ERROR, "x")


def cut(dock) -> list[str]:
    """Texts of labels and buttons that do not fit where they stand."""
    found = []
    for widget in dock.findChildren((QLabel, QAbstractButton)):
        if not widget.isVisible() or not widget.text() or widget.parent() is dock:
            continue
        wraps = isinstance(widget, QLabel) and widget.wordWrap()
        if not wraps and widget.width() < widget.minimumSizeHint().width():
            found.append(widget.text())
    for box in dock.findChildren(QComboBox):
        if box.isVisible() and box is dock.view.show_box:
            texts = [box.fontMetrics().horizontalAdvance(box.itemText(i))
                     for i in range(box.count())]
            if box.width() < max(texts) + 20:
                found.append(box.currentText())
    return found


@pytest.mark.parametrize(("points", "width"), [(8, 280), (10, 340), (12, 400)])
@pytest.mark.parametrize("height", [1000, 600])
def test_longer_texts_fit(
    longer, session, search, window, layer, places, matches, points, width, height
):
    font = QFont(QApplication.font())
    font.setPointSize(points)
    before = QApplication.font()
    QApplication.setFont(font)
    try:
        window.resize(width + 300, height)
        dock = open_dock(session, search, window, width)
        fill(session, layer, matches, places)
        for _ in range(5):
            QApplication.processEvents()
        area = dock.findChild(QScrollArea)
        assert dock.view.live.text().endswith("~~")
        assert area.widget().width() <= area.viewport().width()
        assert area.widget().minimumSizeHint().width() <= area.viewport().width()
        assert dock.minimumSizeHint().width() <= width
        assert cut(dock) == []
    finally:
        QApplication.setFont(before)


def controls(dock) -> list[QWidget]:
    """What can be worked with now."""
    return [
        widget for widget in dock.widget().findChildren(QWidget)
        if widget.isVisible() and widget.isEnabled()
        and widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        and not isinstance(widget, QgsCollapsibleGroupBox)
        and not isinstance(widget.parent(), (QComboBox, QAbstractSpinBox))
    ]


def test_every_control_is_reached_by_tab(kept, session, matches, base, layer):
    fill(session, layer, matches)
    QApplication.processEvents()
    wanted = set(map(id, controls(kept)))
    expected = [
        kept.chooser.box, kept.chooser.more, kept.tool, *kept.history[:1], kept.examples.list,
        kept.view.show_box, kept.view.live, kept.view.threshold, kept.view.share,
        kept.view.opacity, kept.view.percent, kept.matches.base, kept.matches.list,
        kept.result.search, kept.result.save, kept.result.export, kept.result.train,
        kept.status.retry, kept.status.details,
    ]
    for widget in expected:
        assert id(widget) in wanted, widget.accessibleName()
    reached, order = set(), []
    kept.chooser.box.setFocus()
    for _ in range(80):
        focused = QApplication.focusWidget()
        if focused is not None and id(focused) not in reached:
            reached.add(id(focused))
            order.append(focused)
        QTest.keyClick(focused, KEYS.Key_Tab)
    assert [w.accessibleName() for w in expected if id(w) not in reached] == []
    places = [order.index(widget) for widget in expected]
    assert places == sorted(places)  # from top to bottom


def test_names_mnemonics_and_buddies(kept, session, matches, base, layer):
    fill(session, layer, matches)
    QApplication.processEvents()
    for widget in controls(kept):
        assert widget.accessibleName(), widget
        assert widget.toolTip() or widget is kept.examples.list, widget.accessibleName()
    letters = []
    for widget in kept.findChildren((QLabel, QAbstractButton)):
        sequence = QKeySequence.mnemonic(widget.text())
        if not sequence.isEmpty():
            letters.append(sequence.toString())
    assert len(letters) == len(set(letters)) >= 17, sorted(letters)
    assert "Alt+E" in letters
    buddies = {label.buddy() for label in kept.findChildren(QLabel) if label.buddy()}
    assert {kept.chooser.box, kept.view.show_box, kept.view.threshold, kept.view.opacity,
            kept.matches.base} <= buddies


def test_targets_can_be_hit(kept):
    for button in (*kept.history, kept.chooser.more, kept.tool):
        assert min(button.width(), button.height()) >= 24


def test_it_can_be_painted_in_all_states(kept, session, matches, base):
    for state in ({}, ANSWER):
        session.set_answer(state or None)
        session.set_matches(matches if state else [])
        for direction in (Qt.LayoutDirection.RightToLeft, Qt.LayoutDirection.LeftToRight):
            kept.setLayoutDirection(direction)
            picture = QPixmap(kept.size())
            kept.render(picture)
            assert not picture.isNull()


def test_updates_leave_the_focus_where_it_is(kept, session, window, matches, base):
    canvas = window.centralWidget()
    canvas.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    canvas.setFocus()
    session.set_answer(ANSWER)
    session.set_matches(matches)
    session.set_current(3)
    session.add(EXAMPLE, 1, 2)
    session.remove(0)
    session.set_status("x", ERROR, "y")
    session.clear()
    QApplication.processEvents()
    assert QApplication.focusWidget() is canvas


def test_project_closed_midway(project, kept, session, base, matches):
    session.set_matches(matches)
    QApplication.processEvents()
    project.clear()
    for _ in range(20):
        QApplication.processEvents()
        time.sleep(0.01)
    assert session.layer is None and session.matches == []
    assert kept.chooser.box.count() == 0


def test_discard_leaves_nothing(project, session, search, window, layer, base, matches):
    dock = open_dock(session, search, window)
    fill(session, layer, matches)
    QApplication.processEvents()
    dock.discard()
    QgsApplication.sendPostedEvents(None, 52)  # deferred deletion
    assert sip.isdeleted(dock)
    session.add(EXAMPLE, 1, 2)
    session.set_matches(matches[:3])
    project.addMapLayer(QgsRasterLayer(layer.source(), "later"))
    for _ in range(10):
        QApplication.processEvents()
        time.sleep(0.01)
    assert QgsProject.instance().mapLayers()
