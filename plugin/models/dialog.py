"""Models: which encoders and heads there are, the card of each, and how more come in."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QFileSystemWatcher, Qt, QTimer, QUrl
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSplitter,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from ...engine import environment
from ...engine.client import EngineCancelled, EngineClient
from ...processing_provider.identity import icon
from ...processing_provider.translation import tr
from ..trouble import DetailsDialog, open_set_up
from ..work import Question, Work
from . import speed
from .card import page
from .checkpoint_dialog import CheckpointDialog
from .model import ENCODER, Model, size_text
from .model_list import ModelList
from .onnx_dialog import OnnxDialog

#: Waiting shorter than this is not worth a word; changes of the folder are read after this rest.
PATIENCE_MS, REST_MS = 300, 700
#: The engine's process ends when the dialog has been closed for so long.
FAREWELL_MS = 5000


class ModelsDialog(QDialog):
    """The window; the engine works in a process of its own, so that no long job is in the way.

    Args:
        parent: QGIS's window.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("earthprint_models")
        self.setWindowTitle(tr("Models"))
        self.setWindowIcon(icon("earthprint"))
        self.resize(900, 560)
        self._client = EngineClient()
        self._question = None  # the list that is being read
        self._removal = None
        self._work = None  # a speed being measured
        self._season = None  # folder that speeds are measured in
        self._details = ""
        self._wanted = ""  # path of the model to show when the list is there
        self._encoders = None  # names, as the forms know them
        self._dialogs = {}
        self._build()
        self._patience = self._timer(PATIENCE_MS, self._tell_reading)
        self._rest = self._timer(REST_MS, self.read)
        self._farewell = self._timer(FAREWELL_MS, self._let_go)
        self._watcher = QFileSystemWatcher(self)
        self._watcher.directoryChanged.connect(lambda _: self._rest.start())

    def _timer(self, milliseconds: int, slot: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(slot)
        return timer

    def _build(self) -> None:
        self.list = ModelList()
        self.list.chosen.connect(self._refresh)
        self.list.removal_wanted.connect(self.remove)
        self.card = QTextBrowser()
        self.card.setOpenExternalLinks(True)
        self.card.setAccessibleName(tr("Card of the model"))
        self.card.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextBrowserInteraction
            | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.card.document().setIndentWidth(14)
        split = QSplitter(Qt.Orientation.Horizontal)
        split.setChildrenCollapsible(False)
        split.addWidget(self.list)
        split.addWidget(self.card)
        split.setStretchFactor(0, 5)
        split.setStretchFactor(1, 3)
        split.setSizes([620, 260])
        layout = QVBoxLayout(self)
        layout.addWidget(split, 1)
        layout.addLayout(self._status())
        layout.addLayout(self._actions())

    def _status(self) -> QHBoxLayout:
        self.sentence = QLabel()
        self.sentence.setWordWrap(True)
        self.sentence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.sentence.setAccessibleName(tr("Status"))
        self.bar = QProgressBar()
        self.bar.setRange(0, 0)
        self.bar.setTextVisible(False)
        self.bar.setFixedWidth(120)
        self.bar.setAccessibleName(tr("The engine is at work"))
        self.set_up = _button(tr("Set &Up…"), tr("Install or repair the engine"), self._set_up)
        self.retry = _button(tr("Tr&y Again"), tr("Ask the engine once more"), self.read)
        self.details = _button(
            tr("&Details…"), tr("What the engine said, to read and to copy"), self._show_details
        )
        self.stop = _button(tr("Sto&p"), tr("Stop measuring"), self._stop)
        line = QHBoxLayout()
        line.addWidget(self.sentence, 1)
        for widget in (self.bar, self.stop, self.set_up, self.retry, self.details):
            widget.hide()
            line.addWidget(widget)
        return line

    def _actions(self) -> QHBoxLayout:
        self.import_checkpoint = _button(
            tr("&Import Checkpoint…"), tr("Turn the official weights of an encoder into one"),
            lambda: self._open("checkpoint", CheckpointDialog),
        )
        self.add_onnx = _button(
            tr("&Add ONNX Model…"), tr("Take any ONNX encoder or segmentation model"),
            lambda: self._open("onnx", OnnxDialog),
        )
        self.open_folder = _button(
            tr("&Open Folder"), tr("The folder that your own models lie in"), self._open_folder
        )
        self.measure = _button(
            tr("&Measure Speed"), tr("Encode a simulated season for some seconds"), self._measure
        )
        self.removal = _button(tr("&Remove…"), "", self.remove)
        close = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        close.button(QDialogButtonBox.StandardButton.Close).setAutoDefault(False)
        close.rejected.connect(self.close)
        line = QHBoxLayout()
        for button in (self.import_checkpoint, self.add_onnx, self.open_folder, self.measure):
            line.addWidget(button)
        line.addStretch(1)
        line.addWidget(self.removal)
        line.addSpacing(12)
        line.addWidget(close)
        return line

    # What it shows

    def showEvent(self, event: Any) -> None:
        """Look afresh each time the dialog opens."""
        super().showEvent(event)
        folder = environment.models_folder()
        folder.mkdir(parents=True, exist_ok=True)
        self._watcher.addPath(str(folder))
        self.list.tree.setFocus()
        self.read()

    def hideEvent(self, event: Any) -> None:
        """Let the engine go, in a while."""
        super().hideEvent(event)
        self._farewell.start()

    def changeEvent(self, event: Any) -> None:
        """Back from the set-up: see whether the engine is there now."""
        super().changeEvent(event)
        back = event.type() == event.Type.ActivationChange and self.isActiveWindow()
        if back and self.set_up.isVisible() and environment.problem() is None:
            self.read()

    def read(self) -> None:
        """Ask the engine for the models."""
        if self._question is not None or not self.isVisible():
            return
        self._say("")
        problem = environment.problem()
        if problem is not None:
            self._say(problem)
            self.set_up.show()
            self._refresh()
            return
        self._patience.start()
        self._question = Question(self._client, self)
        self._question.answered.connect(self._take_models)
        self._question.ask("list_models", {})
        self._refresh()

    def show_model(self, path: str) -> None:
        """Read the list again and go to a model that is new in it."""
        self._wanted = path
        self._rest.stop()
        self._question = None  # what is under way does not know it yet
        self.read()

    def discard(self) -> None:
        """Close for good, when the plugin is unloaded."""
        if self._work is not None:
            self._work.abandon()
            self._work = None
        for dialog in self._dialogs.values():
            dialog.discard()
        self._dialogs.clear()
        self._question = self._removal = None
        self.close()
        self._client.close()
        if self._season is not None:
            self._season.cleanup()
            self._season = None
        self.deleteLater()

    def _take_models(self, result: Any, failure: Any) -> None:
        if self.sender() is not self._question:
            return
        self._question.deleteLater()
        self._question = None
        self._patience.stop()
        if failure is not None:
            self._fail(failure)
            self.retry.show()
            self._refresh()
            return
        models = [Model.of_record(record) for record in result["models"]]
        self.list.show_models(models, speed.remembered(), self._wanted)
        self._wanted = ""
        encoders = sum(model.kind == ENCODER for model in models)
        self._say(tr("{} encoders and {} heads. Your own lie in {}.").format(
            encoders, len(models) - encoders, result["folder"]))
        self._tell_forms(models)

    def _tell_forms(self, models: list[Model]) -> None:
        """Have the toolbox read its lists of encoders again when they have changed."""
        names = {model.name for model in models if model.kind == ENCODER}
        provider = QgsApplication.processingRegistry().providerById("earthprint")
        if self._encoders is not None and names != self._encoders and provider is not None:
            provider.refreshAlgorithms()
        self._encoders = names

    def _tell_reading(self) -> None:
        self._say(tr("Reading the models…"))
        self.bar.show()

    def _fail(self, failure: Any) -> None:
        if isinstance(failure, EngineCancelled):
            self._say(tr("Stopped."))
            return
        self._say(str(failure))
        self._details = getattr(failure, "details", "")
        self.details.setVisible(bool(self._details))

    def _say(self, text: str) -> None:
        """A sentence in place of the former one and of the ways out of it."""
        self._details = ""
        self.sentence.setText(text)
        for widget in (self.bar, self.stop, self.set_up, self.retry, self.details):
            widget.hide()

    def _refresh(self) -> None:
        """Show the card of the current model, and what can be done."""
        model, ready = self.list.current, environment.problem() is None
        if model is not None:
            measured = speed.remembered().get(model.identity)
            self.card.setHtml(page(model, measured.sentence() if measured is not None else ""))
        else:
            self.card.setPlainText(tr("Choose a model to read its card."))
        for button in (self.import_checkpoint, self.add_onnx):
            button.setEnabled(ready)
        busy = self._work is not None
        self.measure.setEnabled(
            ready and not busy and model is not None and model.kind == ENCODER
            and not model.problem
        )
        fixed = model.immovable if model is not None else tr("Choose a model to remove.")
        self.removal.setEnabled(ready and not busy and not fixed and self._removal is None)
        self.removal.setToolTip(fixed or tr("Delete the file of this model"))

    # What it does

    def remove(self) -> None:
        """Ask once, then delete the current model's file."""
        model = self.list.current
        if model is None or not self.removal.isEnabled():
            return
        box = QMessageBox(self)
        box.setObjectName("earthprint_remove")
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle(tr("Remove Model"))
        box.setText(tr("Remove {}?").format(model.name))
        box.setInformativeText(tr(
            "{} ({}) is deleted, with the state of its training where there is one. What was made "
            "with it stays; to make more of it, import it again."
        ).format(model.path, size_text(model.size)))
        sure = box.addButton(tr("Remove"), QMessageBox.ButtonRole.DestructiveRole)
        box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
        sure.clicked.connect(lambda: self._remove(model))
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.open()

    def _remove(self, model: Model) -> None:
        self._say(tr("Removing {}…").format(model.name))
        self._removal = Question(self._client, self)
        self._removal.answered.connect(self._removed)
        self._removal.ask("remove_model", {"name": model.name, "kind": model.kind})
        self._refresh()

    def _removed(self, _result: Any, failure: Any) -> None:
        self._removal.deleteLater()
        self._removal = None
        if failure is not None:
            self._fail(failure)
            self._refresh()
        else:
            self.show_model("")

    def _measure(self) -> None:
        model = self.list.current
        if self._season is None:
            self._season = tempfile.TemporaryDirectory(prefix="earthprint-")
        folder = Path(self._season.name)
        self._work = Work(
            tr("Measure the speed of {}").format(model.name), self._client,
            lambda run: (model, speed.measure(run, model, folder)),
        )
        self._say(tr("Measuring {} for some seconds…").format(model.name))
        self._work.ended.connect(self._measured)
        self.bar.show()
        self.stop.show()
        self._work.start()
        self._refresh()

    def _measured(self, result: Any, failure: Any) -> None:
        self._work = None
        if failure is not None:
            self._fail(failure)
        else:
            model, measured = result
            speed.remember(model, measured)
            self.list.show_speed(model, measured)
            self._say(f"{model.name}: {measured.sentence()}")
        self._refresh()

    def _stop(self) -> None:
        if self._work is not None:
            self.stop.hide()
            self.sentence.setText(tr("Stopping…"))
            self._work.cancel()

    def _open(self, name: str, kind: type) -> None:
        if name not in self._dialogs:
            self._dialogs[name] = kind(self._client, self)
            self._dialogs[name].imported.connect(self.show_model)
            self._dialogs[name].set_up_wanted.connect(self._set_up)
        dialog = self._dialogs[name]
        dialog.show()
        dialog.raise_()
        dialog.activateWindow()

    def _open_folder(self) -> None:
        folder = environment.models_folder()
        folder.mkdir(parents=True, exist_ok=True)
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))

    def _set_up(self) -> None:
        open_set_up(self)

    def _show_details(self) -> None:
        DetailsDialog(self.sentence.text(), self._details, self).show()

    def _let_go(self) -> None:
        """End the engine's process when nobody looks; not yet while something is under way."""
        if self.isVisible():
            return
        if self._work or self._removal or any(dialog.busy for dialog in self._dialogs.values()):
            self._farewell.start()
        else:  # it may take a moment
            threading.Thread(target=self._client.close, daemon=True).start()


def _button(text: str, tip: str, slot: Callable[[], Any]) -> QPushButton:
    button = QPushButton(text)
    button.setAutoDefault(False)  # Enter in the filter must not press it
    button.setToolTip(tip)
    button.clicked.connect(lambda _=False: slot())
    return button
