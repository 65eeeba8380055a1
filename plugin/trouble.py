"""The ways out of trouble that every window offers: what the engine said, and its set-up."""

from __future__ import annotations

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import (
    QAction,
    QApplication,
    QDialog,
    QDialogButtonBox,
    QMainWindow,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from ..processing_provider.translation import tr

#: Name of the plugin's action that opens the set-up of the engine.
SET_UP_ACTION = "earthprint_setup"


def open_set_up(widget: QWidget) -> None:
    """Open the set-up of the engine, from anything that lies in or belongs to QGIS's window."""
    window = widget
    while window is not None and not isinstance(window, QMainWindow):
        window = window.parentWidget()
    action = window.findChild(QAction, SET_UP_ACTION) if window is not None else None
    if action is not None:
        action.trigger()


class DetailsDialog(QDialog):
    """The small print of an error, to read and to copy."""

    def __init__(self, sentence: str, details: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(tr("Details"))
        self.resize(600, 320)
        text = QPlainTextEdit(f"{sentence}\n\n{details}")
        text.setReadOnly(True)
        text.setAccessibleName(tr("Details"))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        copy = buttons.addButton(tr("Copy"), QDialogButtonBox.ButtonRole.ActionRole)
        copy.clicked.connect(lambda: QApplication.clipboard().setText(text.toPlainText()))
        buttons.rejected.connect(self.close)
        layout = QVBoxLayout(self)
        layout.addWidget(text)
        layout.addWidget(buttons)
