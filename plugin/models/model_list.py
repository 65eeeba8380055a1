"""The list of encoders and heads, with its filter."""

from __future__ import annotations

from collections.abc import Sequence

from qgis.gui import QgsFilterLineEdit
from qgis.PyQt.QtCore import QEvent, Qt, pyqtSignal
from qgis.PyQt.QtGui import QKeyEvent
from qgis.PyQt.QtWidgets import (
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...processing_provider.translation import tr
from .model import ENCODER, HEAD, Model, size_text
from .speed import Speed

NAME, SENSORS, UNIT, GROUND, SIZE, SPEED, LICENCE = range(7)
_NUMBERS = (GROUND, SIZE, SPEED)
#: Width of each column, in mean characters.
_WIDTHS = {NAME: 23, SENSORS: 11, UNIT: 8, GROUND: 9, SIZE: 9, SPEED: 10, LICENCE: 17}
#: What a line is sorted by, and the path of its model.
_ORDER, _PATH = Qt.ItemDataRole.UserRole, Qt.ItemDataRole.UserRole + 1


class _Line(QTreeWidgetItem):
    """Sorts numbers as numbers; groups, which have no order, stay where they are."""

    def __lt__(self, other: QTreeWidgetItem) -> bool:
        column = self.treeWidget().sortColumn()
        mine, its = self.data(column, _ORDER), other.data(column, _ORDER)
        return mine < its if mine is not None and its is not None else False


class ModelList(QWidget):
    """Two groups of lines; what the filter does not find is hidden.

    Signals:
        chosen: another line, or none, is current.
        removal_wanted: Delete was pressed.
    """

    chosen = pyqtSignal()
    removal_wanted = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._models: dict[str, Model] = {}
        self._groups = {}
        self.filter = QgsFilterLineEdit()
        self.filter.setShowClearButton(True)
        self.filter.setPlaceholderText(tr("Name, sensor or licence"))
        self.filter.textChanged.connect(self._filter)
        label = QLabel(tr("&Filter"))
        label.setBuddy(self.filter)
        self.tree = QTreeWidget()
        self.tree.setAccessibleName(tr("Encoders and heads"))
        self.tree.setHeaderLabels([
            tr("Name"), tr("Sensors"), tr("Unit"), tr("Ground\nsize (m)"), tr("Size"),
            tr("Speed\nhere"), tr("Licence"),
        ])
        self.tree.setAllColumnsShowFocus(True)
        self.tree.setTabKeyNavigation(False)
        self.tree.setIndentation(12)
        self.tree.setSortingEnabled(True)
        self.tree.sortByColumn(NAME, Qt.SortOrder.AscendingOrder)
        self.tree.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.tree.header().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        self.tree.header().setStretchLastSection(False)
        character = self.fontMetrics().averageCharWidth()
        for column, characters in _WIDTHS.items():
            self.tree.setColumnWidth(column, characters * character)
        self.tree.currentItemChanged.connect(self._current_changed)
        self.tree.installEventFilter(self)
        above = QHBoxLayout()
        above.addWidget(label)
        above.addWidget(self.filter)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(above)
        layout.addWidget(self.tree)

    @property
    def current(self) -> Model | None:
        """The model of the current line."""
        item = self.tree.currentItem()
        return self._models.get(item.data(NAME, _PATH)) if item else None

    def show_models(self, models: Sequence[Model], speeds: dict[str, Speed], wanted: str = ""
                    ) -> None:
        """List the models.

        Args:
            models: all of them.
            speeds: by identity, of those that were measured.
            wanted: path of the one to make current; the current one where there is none such.
        """
        former = wanted or (self.current.path if self.current is not None else "")
        blocked = self.tree.blockSignals(True)
        self.tree.clear()
        self._models = {model.path: model for model in models}
        self._groups = {
            kind: self._group(kind, [m for m in models if m.kind == kind], speeds)
            for kind in (ENCODER, HEAD)
        }
        self.tree.expandAll()
        self._filter()
        self._go_to(former)
        self.tree.blockSignals(blocked)
        self.chosen.emit()

    def show_speed(self, model: Model, speed: Speed) -> None:
        """Fill in a speed that was just measured."""
        item = self._item(model.path)
        if item is not None:
            _write_speed(item, speed)

    def eventFilter(self, watched: QWidget, event: QEvent) -> bool:
        """Delete removes, unless it belongs to the filter."""
        if event.type() == QEvent.Type.KeyPress and isinstance(event, QKeyEvent) \
                and event.key() == Qt.Key.Key_Delete:
            self.removal_wanted.emit()
            return True
        return super().eventFilter(watched, event)

    def _group(self, kind: str, models: Sequence[Model], speeds: dict[str, Speed]
               ) -> QTreeWidgetItem:
        title, none = {
            ENCODER: (tr("Encoders"), tr("None was found.")),
            HEAD: (tr("Heads"), tr("None yet; Train head writes them.")),
        }[kind]
        group = _Line([title])
        group.setFlags(Qt.ItemFlag.ItemIsEnabled)
        font = group.font(NAME)
        font.setBold(True)
        group.setFont(NAME, font)
        self.tree.addTopLevelItem(group)
        group.setFirstColumnSpanned(True)
        for model in models:
            group.addChild(_line(model, speeds.get(model.identity)))
        if not models:
            empty = QTreeWidgetItem([none])
            empty.setFlags(Qt.ItemFlag.NoItemFlags)
            group.addChild(empty)
            empty.setFirstColumnSpanned(True)
        return group

    def _lines(self) -> list[QTreeWidgetItem]:
        return [group.child(row) for group in self._groups.values()
                for row in range(group.childCount())
                if group.child(row).data(NAME, _PATH)]

    def _item(self, path: str) -> QTreeWidgetItem | None:
        return next((line for line in self._lines()
                     if line.data(NAME, _PATH) == path), None)

    def _go_to(self, path: str) -> None:
        item = self._item(path)
        if item is None or item.isHidden():
            item = next((line for line in self._lines() if not line.isHidden()), None)
        self.tree.setCurrentItem(item)
        if item is not None:
            self.tree.scrollToItem(item)

    def _filter(self) -> None:
        words = self.filter.text().casefold().split()
        for line in self._lines():
            model = self._models[line.data(NAME, _PATH)]
            text = f"{model.name} {model.sensors} {model.unit} {model.licence}".casefold()
            line.setHidden(not all(word in text for word in words))
        current = self.tree.currentItem()
        if current is not None and current.isHidden():
            self._go_to("")

    def _current_changed(self, current: QTreeWidgetItem, former: QTreeWidgetItem) -> None:
        self.chosen.emit()



def _line(model: Model, speed: Speed | None) -> QTreeWidgetItem:
    texts = [model.name, model.sensors, model.unit, model.ground_size, size_text(model.size), "",
             model.licence]
    orders = [model.name.casefold(), model.sensors, model.unit, model.metres, float(model.size),
              -1.0, model.licence.casefold()]
    item = _Line(texts)
    for column, order in enumerate(orders):
        item.setData(column, _ORDER, order)
        item.setToolTip(column, texts[column])
    for column in _NUMBERS:
        item.setTextAlignment(
            column, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        )
    item.setData(NAME, _PATH, model.path)
    if model.problem:
        item.setToolTip(NAME, model.problem)
    _write_speed(item, speed)
    return item


def _write_speed(item: QTreeWidgetItem, speed: Speed | None) -> None:
    item.setText(SPEED, speed.short() if speed is not None else "")
    item.setData(SPEED, _ORDER, speed.rate if speed is not None else -1.0)
    item.setToolTip(
        SPEED, speed.sentence() if speed is not None else tr("Not measured yet: Measure Speed.")
    )
