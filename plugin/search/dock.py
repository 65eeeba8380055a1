"""The dock "Earthprint Search": everything the search has besides the map."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsApplication
from qgis.gui import QgsDockWidget
from qgis.PyQt.QtCore import QEvent, Qt
from qgis.PyQt.QtGui import QKeyEvent, QKeySequence
from qgis.PyQt.QtWidgets import (
    QAction,
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QRadioButton,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...processing_provider.identity import icon
from ...processing_provider.translation import tr
from .buttons import ResultButtons
from .example_list import TARGET, ExamplesPanel
from .layer_chooser import LayerChooser
from .matches import MatchesPanel
from .rows import FittingGrid
from .session import COUNTEREXAMPLE, EXAMPLE, SearchSession
from .status_line import StatusLine
from .storage import SearchStorage
from .view_panel import ViewPanel


class SearchDock(QgsDockWidget):
    """Shows a session and changes it; holds no state of its own.

    Args:
        session: what is searched for.
        search: the search on the map: `activate_tool`, `leave_tool`, `tool_active`,
            `tool_changed`, `fly_to`, `retry`.
        parent: QGIS's window.
    """

    def __init__(self, session: SearchSession, search: Any, parent: QWidget | None = None) -> None:
        super().__init__(tr("Earthprint Search"), parent)
        self.setObjectName("earthprint_search_dock")
        self.setAllowedAreas(
            Qt.DockWidgetArea.LeftDockWidgetArea | Qt.DockWidgetArea.RightDockWidgetArea
        )
        self._session, self._search = session, search
        self.storage = SearchStorage(session, self)
        self.chooser = LayerChooser(session, self.storage.preferred)
        self.examples = ExamplesPanel(session, search)
        self.view = ViewPanel(session)
        self.matches = MatchesPanel(session, search)
        self.result = ResultButtons(session)
        self.status = StatusLine(session, search)
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(4, 6, 4, 4)
        for widget in (
            self.chooser, self._tool_row(), self._kind_row(), self.examples, self.view,
        ):
            column.addWidget(widget)
        column.addWidget(self.matches, 1)
        column.addWidget(self.result)
        column.addStretch(0)  # takes the room while the matches are closed or empty
        for group in (self.examples, self.view, self.matches, self.result):
            group.setSettingGroup("earthprint_search")
            fold = group.findChild(QToolButton, "collapseButton")
            if fold is not None:
                fold.setAccessibleName(tr("Fold or open {}").format(group.title()))
                fold.setToolTip(tr("Fold or open"))
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inside)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        whole = QWidget()
        layout = QVBoxLayout(whole)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(area, 1)
        layout.addWidget(self.status)
        self.setWidget(whole)
        session.layer_changed.connect(self._refresh)
        session.kind_changed.connect(self._refresh)
        session.examples_changed.connect(self._refresh)
        search.tool_changed.connect(self._refresh)
        self._refresh()

    def _tool_row(self) -> QWidget:
        self.tool = QPushButton(icon("similaritysearch"), tr("Search &Tool"))
        self.tool.setCheckable(True)
        self.tool.setAccessibleName(tr("Search Tool"))
        self.tool.clicked.connect(self._switch_tool)
        stack = self._session.undo_stack
        undo = stack.createUndoAction(self, tr("Undo"))
        redo = stack.createRedoAction(self, tr("Redo"))
        self._clear = clear = QAction(tr("Remove All Examples"), self)
        clear.triggered.connect(self._session.clear)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.tool)
        row.addStretch(1)
        self.history = []
        for action, picture, keys, name in (
            (undo, "/mActionUndo.svg", tr("Ctrl+Z"), tr("Undo")),
            (redo, "/mActionRedo.svg", tr("Ctrl+Shift+Z"), tr("Redo")),
            (clear, "/console/iconClearConsole.svg", tr("can be undone"),
             tr("Remove all examples")),
        ):
            action.setIcon(QgsApplication.getThemeIcon(picture))
            button = QToolButton()
            button.setDefaultAction(action)
            button.setAutoRaise(True)
            button.setMinimumSize(TARGET, TARGET)
            button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            button.setAccessibleName(name)
            self._tell(button, action, keys)
            action.changed.connect(lambda b=button, a=action, k=keys: self._tell(b, a, k))
            row.addWidget(button)
            self.history.append(button)
        holder = QWidget()
        holder.setLayout(row)
        return holder

    @staticmethod
    def _tell(button: QToolButton, action: QAction, keys: str) -> None:
        button.setToolTip(tr("{} ({})").format(action.text(), keys))

    def _kind_row(self) -> QWidget:
        self.example = QRadioButton(tr("Exam&ple"))
        self.counterexample = QRadioButton(tr("&Counterexample"))
        self._kinds = QButtonGroup(self)
        for button, kind in ((self.example, EXAMPLE), (self.counterexample, COUNTEREXAMPLE)):
            self._kinds.addButton(button)
            button.setToolTip(tr("What a plain click keeps (X)"))
            button.setAccessibleName(
                tr("Click keeps an example") if kind == EXAMPLE
                else tr("Click keeps a counterexample")
            )
            button.clicked.connect(lambda _, k=kind: self._session.set_keeps(k))
        kinds = FittingGrid([self.example, self.counterexample], 2)
        return FittingGrid([QLabel(tr("Click keeps")), kinds], 2)

    def stop_search(self) -> bool:
        """Cancel a search of the whole raster; whether one was under way."""
        return self.result.stop()

    def discard(self) -> None:
        """Go for good, when the plugin is unloaded."""
        self.matches.discard()
        self.close()
        self.deleteLater()

    def _switch_tool(self) -> None:
        if self._search.tool_active:
            self._search.leave_tool()
        else:
            self._search.activate_tool()
        self._refresh()

    def _refresh(self) -> None:
        session = self._session
        there = session.layer is not None
        self.tool.setEnabled(there)
        self.tool.setChecked(there and self._search.tool_active)
        if there:
            self.tool.setToolTip(tr("Click places on the map; Esc leaves"))
        else:
            self.tool.setToolTip(tr("Choose embeddings to search in first."))
        self._clear.setEnabled(bool(session.examples))
        self.example.setChecked(session.keeps == EXAMPLE)
        self.counterexample.setChecked(session.keeps == COUNTEREXAMPLE)

    def event(self, event: QEvent) -> bool:
        """Undo and redo are the dock's own while one works in it."""
        if event.type() == QEvent.Type.ShortcutOverride and self._step(event) is not None:
            event.accept()
            return True
        if event.type() in (QEvent.Type.WindowActivate, QEvent.Type.Show):
            self.status.look_at_engine()
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Take steps back and forth by the usual keys."""
        step = self._step(event)
        if step is None:
            super().keyPressEvent(event)
        else:
            step()

    def _step(self, event: QKeyEvent) -> Any:
        if event.matches(QKeySequence.StandardKey.Undo):
            return self._session.undo_stack.undo
        control = Qt.KeyboardModifier.ControlModifier
        again = event.key() == Qt.Key.Key_Y and event.modifiers() == control
        if event.matches(QKeySequence.StandardKey.Redo) or again:
            return self._session.undo_stack.redo
        return None
