"""The foot of the dock: one sentence, a bar while waiting, and the way out of trouble."""

from __future__ import annotations

from typing import Any

from qgis.PyQt.QtCore import QEvent, QSize, Qt, QTimer
from qgis.PyQt.QtGui import QColor, QPalette
from qgis.PyQt.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QStyle,
    QVBoxLayout,
    QWidget,
)

from ...engine import environment
from ...processing_provider.translation import tr
from ..trouble import DetailsDialog, open_set_up
from .session import BUSY, ERROR, STUCK, SearchSession

#: Waiting shorter than this is not worth a bar, milliseconds.
PATIENCE_MS = 300


class StatusLine(QWidget):
    """Says what is so now.

    Args:
        session: whose status is told.
        search: tries again after an error (`retry`), ends an engine that hangs (`restart`).
        parent: owner.
    """

    def __init__(self, session: SearchSession, search: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session, self._search = session, search
        self._problem = ""  # why the engine cannot start
        self._build()
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(PATIENCE_MS)
        self._patience.timeout.connect(self.bar.show)
        for signal in (session.status_changed, session.examples_changed, session.layer_changed):
            signal.connect(self.refresh)
        self.refresh()

    def _build(self) -> None:
        self._sign = QLabel()
        sign = self.style().standardIcon(QStyle.StandardPixmap.SP_MessageBoxCritical)
        self._sign.setPixmap(sign.pixmap(QSize(16, 16)))
        self.sentence = QLabel()
        self.sentence.setWordWrap(True)
        self.sentence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.sentence.setAccessibleName(tr("Status"))
        self.bar = QProgressBar()
        self.bar.setRange(0, 0)
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        self.bar.setAccessibleName(tr("The engine is at work"))
        self.bar.hide()
        self.set_up = self._button(tr("Set &Up…"), tr("Install or repair the engine"), self._set_up)
        self.retry = self._button(tr("Tr&y Again"), tr("Ask the engine once more"), self._retry)
        self.restart = self._button(
            tr("Restart En&gine"),
            tr("End the engine, with whatever else it computes, and start it anew"),
            self._restart,
        )
        self.read_again = self._button(
            tr("&Read Again"), tr("Take the same places as examples of this encoder"),
            self._session.read_again,
        )
        self.details = self._button(
            tr("Det&ails…"), tr("What the engine said, to read and to copy"), self._show_details
        )
        ways = QHBoxLayout()
        for button in (self.set_up, self.read_again, self.retry, self.restart, self.details):
            ways.addWidget(button)
        ways.addStretch(1)
        line = QHBoxLayout()
        line.addWidget(self._sign, 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(self.sentence, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addLayout(line)
        layout.addLayout(ways)
        layout.addWidget(self.bar)

    @staticmethod
    def _button(text: str, tip: str, slot: Any) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.setAccessibleName(text.replace("&", "").rstrip("…"))
        button.clicked.connect(slot)
        return button

    def look_at_engine(self) -> None:
        """See anew whether the engine is set up; the search goes on when it is at last."""
        before, self._problem = self._problem, environment.problem() or ""
        if before and not self._problem:
            self._search.retry()
        self.refresh()

    def refresh(self) -> None:
        """Show what is so now."""
        session = self._session
        text, kind = self._text()
        error = kind == ERROR
        self.sentence.setText(text)
        self._sign.setVisible(error)
        palette = QPalette(self.palette())
        if error:
            dark = palette.color(QPalette.ColorRole.Window).lightness() < 128
            red = QColor("#ff8a80" if dark else "#b00020")
            palette.setColor(QPalette.ColorRole.WindowText, red)
        self.sentence.setPalette(palette)
        if kind not in (BUSY, STUCK):
            self._patience.stop()
            self.bar.hide()
        elif not self.bar.isVisible() and not self._patience.isActive():
            self._patience.start()
        self.set_up.setVisible(bool(self._problem))
        self.read_again.setVisible(bool(session.kept_on) and not self._problem)
        self.retry.setVisible(error and not self._problem)
        self.restart.setVisible(kind == STUCK)
        self.details.setVisible(error and bool(session.details))

    def _text(self) -> tuple[str, str]:
        session = self._session
        if self._problem:
            return self._problem, ERROR
        if session.status and session.status_kind == ERROR:
            return session.status, ERROR
        if session.kept_on:
            name = session.kept_on.split("#")[0]
            return tr("Examples were kept on {}.").format(name), session.status_kind
        if session.layer is None:
            return tr("Choose embeddings to search in."), session.status_kind
        return session.status, session.status_kind

    def changeEvent(self, event: QEvent) -> None:
        """Red that can be read on the new background."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self.refresh()

    def _set_up(self) -> None:
        open_set_up(self)

    def _retry(self) -> None:
        self._search.retry()

    def _restart(self) -> None:
        self._search.restart()

    def _show_details(self) -> None:
        DetailsDialog(self._session.status, self._session.details, self).show()
