"""Widgets side by side where they fit, below each other in a narrow dock."""

from __future__ import annotations

from collections.abc import Sequence

from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QResizeEvent
from qgis.PyQt.QtWidgets import QGridLayout, QWidget

#: Inside the groups of the dock, so that four of them fit beside a map.
MARGINS = (6, 4, 6, 6)


class FittingGrid(QWidget):
    """A grid of some columns that becomes one column when it is too narrow for its texts.

    Args:
        widgets: in reading order.
        columns: side by side, where there is room.
        fill: whether the columns share what is left of the width.
    """

    def __init__(
        self, widgets: Sequence[QWidget], columns: int, *, fill: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._widgets, self._columns, self._fill = list(widgets), columns, fill
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._shown = 0
        self._arrange(columns)

    def sizeHint(self) -> QSize:
        """With all columns side by side."""
        return QSize(self._wanted(), self._grid.totalSizeHint().height())

    def minimumSizeHint(self) -> QSize:
        """As narrow as the widest widget."""
        width = max(widget.minimumSizeHint().width() for widget in self._widgets)
        return QSize(width, self._grid.totalMinimumSize().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose the number of columns for the new width."""
        super().resizeEvent(event)
        self._arrange(self._columns if self.width() >= self._wanted() else 1)

    def _wanted(self) -> int:
        columns = [
            max(widget.sizeHint().width() for widget in self._widgets[column :: self._columns])
            for column in range(self._columns)
        ]
        return sum(columns) + (self._columns - 1) * max(self._grid.horizontalSpacing(), 0)

    def _arrange(self, columns: int) -> None:
        if columns == self._shown:
            return
        self._shown = columns
        for widget in self._widgets:
            self._grid.removeWidget(widget)
        for place, widget in enumerate(self._widgets):
            self._grid.addWidget(widget, place // columns, place % columns)
        for column in range(self._columns + 1):
            self._grid.setColumnStretch(
                column, int(column < columns if self._fill else column == columns)
            )
        self.updateGeometry()
