"""The kept examples: where each lies, its name, and what can be done with it."""

from __future__ import annotations

from functools import partial
from typing import Any

from qgis.core import QgsApplication
from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtCore import QEvent, QPoint, QPointF, QRectF, QSize, Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor, QIcon, QKeyEvent, QPainter, QPen, QPixmap
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QMenu,
    QToolButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...processing_provider.translation import tr
from .rows import MARGINS
from .session import COUNTEREXAMPLE, EXAMPLE, Example, SearchSession, title
from .texts import place

NUMBER, PLACE, NAME, REMOVE = range(4)
#: Least edge of what can be clicked, pixels.
TARGET = 24
_MARKER = 14
_COLOURS = {EXAMPLE: "#0072b2", COUNTEREXAMPLE: "#d55e00"}


class ExampleList(QTreeWidget):
    """A row an example; the name is edited in place.

    Signals:
        flown, removed, turned: row to fly to, to remove, to turn into its contrary.
        renamed: (row, name).
    """

    flown = pyqtSignal(int)
    removed = pyqtSignal(int)
    turned = pyqtSignal(int)
    renamed = pyqtSignal(int, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: tuple[Example, ...] = ()
        self._degrees = False
        self.setColumnCount(4)
        self.setHeaderHidden(True)
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setAllColumnsShowFocus(True)
        self.setTabKeyNavigation(False)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setIconSize(QSize(_MARKER + 2, _MARKER + 2))
        header = self.header()
        header.setStretchLastSection(False)
        header.setMinimumSectionSize(TARGET)
        for column in (NUMBER, PLACE):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(REMOVE, QHeaderView.ResizeMode.Fixed)
        header.resizeSection(REMOVE, TARGET + 2)
        self.customContextMenuRequested.connect(self._show_menu)
        self.itemDoubleClicked.connect(self._double_click)
        self.itemChanged.connect(self._take_name)

    def show_examples(self, examples: tuple[Example, ...], crs: Any) -> None:
        """List the examples; rows that stay as they are are not touched."""
        old, degrees = self._shown, bool(examples) and crs.isGeographic()
        row, self._shown = self.row(), examples
        blocked = self.blockSignals(True)
        for number in range(len(old), len(examples), -1):
            self.takeTopLevelItem(number - 1)
        for number, example in enumerate(examples, 1):
            if number > len(old):
                self._add_row(number)
            if number > len(old) or example != old[number - 1] or degrees != self._degrees:
                self._fill_row(number, example, degrees)
        self._degrees = degrees
        if row >= len(examples) > 0:
            self.setCurrentItem(self.topLevelItem(len(examples) - 1))
        self.blockSignals(blocked)

    def _add_row(self, number: int) -> None:
        item = QTreeWidgetItem()
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
        item.setSizeHint(NAME, QSize(0, TARGET + 2))
        self.addTopLevelItem(item)
        button = QToolButton()
        button.setAutoRaise(True)
        button.setMinimumSize(TARGET, TARGET)
        button.setIcon(QgsApplication.getThemeIcon("/symbologyRemove.svg"))
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # Delete does it from the keyboard
        button.clicked.connect(lambda _, row=number - 1: self.removed.emit(row))
        self.setItemWidget(item, REMOVE, button)

    def _fill_row(self, number: int, example: Example, degrees: bool) -> None:
        item, where = self.topLevelItem(number - 1), place(example.x, example.y, degrees)
        item.setIcon(NUMBER, marker_icon(example.kind, self.devicePixelRatioF()))
        for column, text in ((NUMBER, str(number)), (PLACE, where), (NAME, example.name)):
            item.setText(column, text)
        parts = [tr("{}: {}.").format(title(example), where)]
        if example.box is not None:
            parts.append(tr("Mean of a box."))
        parts.append(
            tr("Double-click flies there; F2 names it; X turns it into the other kind; Delete "
               "removes it.")
        )
        for column in (NUMBER, PLACE, NAME):
            item.setToolTip(column, " ".join(parts))
        item.setData(NUMBER, Qt.ItemDataRole.AccessibleTextRole, f"{title(example)}, {where}")
        button, text = self.itemWidget(item, REMOVE), tr("Remove {}").format(title(example))
        button.setToolTip(text)
        button.setAccessibleName(text)

    def row(self) -> int:
        """The row that one is in, -1 without any."""
        return self.indexOfTopLevelItem(self.currentItem()) if self.currentItem() else -1

    def rename(self) -> None:
        """Edit the name of the row that one is in."""
        if self.currentItem() is not None:
            self.editItem(self.currentItem(), NAME)

    def event(self, event: QEvent) -> bool:
        """Keep the list's own keys from QGIS's shortcuts."""
        if event.type() == QEvent.Type.ShortcutOverride and self._action(event) is not None:
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter flies, F2 names, X turns the kind, Delete removes."""
        action = self._action(event)
        if action is None:
            super().keyPressEvent(event)
        elif self.row() >= 0:
            action()

    def _action(self, event: QKeyEvent) -> Any:
        if event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            return None
        return {
            Qt.Key.Key_Return: partial(self.flown.emit, self.row()),
            Qt.Key.Key_Enter: partial(self.flown.emit, self.row()),
            Qt.Key.Key_F2: self.rename,
            Qt.Key.Key_X: partial(self.turned.emit, self.row()),
            Qt.Key.Key_Delete: partial(self.removed.emit, self.row()),
            Qt.Key.Key_Backspace: partial(self.removed.emit, self.row()),
        }.get(event.key())

    def _double_click(self, item: QTreeWidgetItem, column: int) -> None:
        if column == NAME:
            self.editItem(item, NAME)
        else:
            self.flown.emit(self.indexOfTopLevelItem(item))

    def _take_name(self, item: QTreeWidgetItem, column: int) -> None:
        if column == NAME:
            self.renamed.emit(self.indexOfTopLevelItem(item), item.text(NAME))

    def _show_menu(self, where: QPoint) -> None:
        row = self.row()
        if row < 0:
            return
        menu = QMenu(self)
        menu.addAction(tr("Fly There"), partial(self.flown.emit, row))
        menu.addAction(tr("Rename"), self.rename)
        menu.addAction(tr("Turn Into the Other Kind"), partial(self.turned.emit, row))
        menu.addSeparator()
        menu.addAction(tr("Remove"), partial(self.removed.emit, row))
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(self.viewport().mapToGlobal(where))


class ExamplesPanel(QgsCollapsibleGroupBox):
    """The group of the dock.

    Args:
        session: whose examples are listed.
        search: flies over the map (`fly_to`).
        parent: owner.
    """

    _MOST_ROWS = 5

    def __init__(self, session: SearchSession, search: Any, parent: QWidget | None = None) -> None:
        super().__init__(tr("Examples"), parent)
        self.setObjectName("earthprint_examples")
        self._session, self._search = session, search
        self.list = ExampleList()
        self.list.setAccessibleName(tr("Examples"))
        self._hint = QLabel(tr("Click a place on the map to keep it."))
        self._hint.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(*MARGINS)
        layout.addWidget(self._hint)
        layout.addWidget(self.list)
        self.list.flown.connect(self._fly)
        # the list is made anew by it, which an editor that is closing would not survive
        self.list.renamed.connect(session.rename, Qt.ConnectionType.QueuedConnection)
        self.list.removed.connect(session.remove)
        self.list.turned.connect(session.change_kind)
        session.examples_changed.connect(self._refresh)
        self._refresh()

    def _refresh(self) -> None:
        session = self._session
        good = sum(example.kind == EXAMPLE for example in session.examples)
        bad = len(session.examples) - good
        if session.examples:
            self.setTitle(tr("Examples ({} + {})").format(good, bad))
        else:
            self.setTitle(tr("Examples"))
        crs = session.layer.crs() if session.layer is not None else None
        self.list.show_examples(session.examples if crs is not None else (), crs)
        rows = min(max(len(session.examples), 2), self._MOST_ROWS)
        self.list.setFixedHeight(rows * (TARGET + 2) + 2 * self.list.frameWidth() + 2)
        self.list.setVisible(bool(session.examples))
        self._hint.setVisible(not session.examples)

    def _fly(self, row: int) -> None:
        example = self._session.examples[row]
        self._search.fly_to(example.x, example.y)


def marker_icon(kind: str, ratio: float) -> QIcon:
    """The marker on the map, small: circle with plus, square with cross."""
    good, edge = kind == EXAMPLE, _MARKER + 2
    picture = QPixmap(int(edge * ratio), int(edge * ratio))
    picture.setDevicePixelRatio(ratio)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    for margin, colour in ((0.5, "#000000"), (1.2, "#ffffff"), (2.6, _COLOURS[kind])):
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colour))
        box = QRectF(margin, margin, edge - 2 * margin, edge - 2 * margin)
        if good:
            painter.drawEllipse(box)
        else:
            painter.drawRect(box)
    painter.setPen(QPen(QColor("#ffffff"), 1.8))
    middle, arm = edge / 2, 3.0
    for dx, dy in ((arm, 0), (0, arm)) if good else ((arm, arm), (arm, -arm)):
        painter.drawLine(QPointF(middle - dx, middle - dy), QPointF(middle + dx, middle + dy))
    painter.end()
    return QIcon(picture)
