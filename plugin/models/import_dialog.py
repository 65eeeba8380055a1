"""What the two ways of getting a model share: a page, one task, one sentence about it."""

from __future__ import annotations

from typing import Any

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ...engine import environment
from ...engine.client import EngineCancelled, EngineClient
from ...processing_provider.identity import icon
from ...processing_provider.translation import tr
from ..trouble import DetailsDialog
from ..work import Question, Work


class ImportDialog(QDialog):
    """A page that ends in one job; it may be closed while that works. Subclasses fill it.

    Args:
        client: the engine.
        parent: the Models dialog.

    Signals:
        imported: path of the model that has come in.
        set_up_wanted: the engine lacks something.

    Attributes:
        page: what the subclass puts above the sentence; disabled while the job works.
        replace: whether a model of the same name may be replaced; a name that is taken is refused
            otherwise.
        sentence: what is so now.
    """

    imported = pyqtSignal(str)
    set_up_wanted = pyqtSignal()

    def __init__(self, title: str, action: str, client: EngineClient, parent: QWidget | None
                 ) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setWindowIcon(icon("earthprint"))
        self._client = client
        self._work = None
        self._question = None
        self._details = ""
        self.page = QWidget()
        self.replace = QCheckBox(tr("Re&place a model of this name"))
        self.replace.setToolTip(
            tr("Heads that were trained on the former model no longer fit the new one")
        )
        self.sentence = QLabel()
        self.sentence.setWordWrap(True)
        self.sentence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.sentence.setAccessibleName(tr("Status"))
        self.bar = QProgressBar()
        self.bar.setAccessibleName(title)
        self.bar.hide()
        layout = QVBoxLayout(self)
        layout.addWidget(self.page, 1)
        layout.addWidget(self.replace)
        layout.addWidget(self.sentence)
        layout.addWidget(self.bar)
        layout.addWidget(self._buttons(action))

    def _buttons(self, action: str) -> QDialogButtonBox:
        box = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        role = QDialogButtonBox.ButtonRole.ActionRole
        self.start = box.addButton(action, role)
        self.stop = box.addButton(tr("Sto&p"), role)
        self.set_up = box.addButton(tr("Set &Up…"), role)
        self.set_up.setToolTip(tr("Install or repair the engine"))
        self.set_up.clicked.connect(self.set_up_wanted)
        self.details = box.addButton(tr("&Details…"), role)
        for button in box.findChildren(QPushButton):
            button.setAutoDefault(False)
        self.start.setDefault(True)
        self.start.clicked.connect(self._start)
        self.stop.clicked.connect(self._stop)
        self.details.clicked.connect(
            lambda: DetailsDialog(self.sentence.text(), self._details, self).show()
        )
        box.rejected.connect(self.close)
        return box

    # What a subclass says

    def job(self) -> tuple[str, dict[str, Any]]:
        """Name and parameters of the job that the page asks for."""
        raise NotImplementedError

    def complete(self) -> bool:
        """Whether the page says all that the job needs."""
        raise NotImplementedError

    def good_end(self, result: dict[str, Any]) -> str:
        """The sentence after the job went well."""
        raise NotImplementedError

    def lacking(self) -> str:
        """Why the engine cannot do it at all, "" where it can."""
        return environment.problem() or ""

    # What is the same

    @property
    def busy(self) -> bool:
        """Whether the job or a question is under way."""
        return self._work is not None or self._question is not None

    def ask(self, job: str, params: dict[str, Any], slot: Any) -> None:
        """Ask the engine something short; an answer to an earlier question is dropped.

        Args:
            job: name.
            params: its parameters.
            slot: called with (result or None, failure or None).
        """
        question = self._question = Question(self._client, self)

        def take(result: Any, failure: Any) -> None:
            question.deleteLater()
            if self._question is question:
                self._question = None
                slot(result, failure)

        question.answered.connect(take)
        question.ask(job, params)

    def forget(self) -> None:
        """Drop the answer to the question that is under way."""
        self._question = None

    def say(self, text: str, failure: Any = None) -> None:
        """A sentence; what the engine said about a failure can be read in the details."""
        self._details = getattr(failure, "details", "")
        self.sentence.setText(text)
        self.refresh()

    def refresh(self) -> None:
        """Enable what can be done now."""
        working, lacking = self._work is not None, self.lacking()
        if lacking:
            self.sentence.setText(lacking)
        for widget in (self.page, self.replace):
            widget.setEnabled(not working and not lacking)
        self.start.setEnabled(not self.busy and not lacking and self.complete())
        self.stop.setVisible(working)
        self.bar.setVisible(working)
        self.set_up.setVisible(bool(lacking))
        self.details.setVisible(bool(self._details))

    def changeEvent(self, event: Any) -> None:
        """Back from the set-up: see whether the engine can do it now."""
        super().changeEvent(event)
        if event.type() == event.Type.ActivationChange and self.set_up.isVisible():
            if not self.lacking():
                self.sentence.clear()
            self.refresh()

    def showEvent(self, event: Any) -> None:
        """Look afresh each time the dialog opens."""
        super().showEvent(event)
        self.refresh()

    def discard(self) -> None:
        """Close for good; what is under way is stopped."""
        if self._work is not None:
            self._work.abandon()
            self._work = None
        self._question = None
        self.close()
        self.deleteLater()

    def _start(self) -> None:
        job, params = self.job()
        params["overwrite"] = self.replace.isChecked()
        self._work = Work(self.windowTitle(), self._client, lambda run: run(job, params))
        self._work.stepped.connect(self.sentence.setText)
        self._work.progressChanged.connect(lambda percent: self.bar.setValue(int(percent)))
        self._work.ended.connect(self._ended)
        self.bar.setValue(0)
        self.stop.setEnabled(True)
        self._work.start()
        self.say("")

    def _stop(self) -> None:
        if self._work is not None:
            self.stop.setEnabled(False)
            self.sentence.setText(tr("Stopping…"))
            self._work.cancel()

    def _ended(self, result: Any, failure: Any) -> None:
        self._work = None
        if failure is None:
            self.replace.setChecked(False)
            self.say(self.good_end(result))
            self.imported.emit(result["output"])
        elif isinstance(failure, EngineCancelled):
            self.say(tr("Stopped; nothing was written."))
        else:
            self.say(str(failure), failure)
