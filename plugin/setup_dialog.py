"""Set Up Environment: says what will happen and how much it takes, then does it."""

from __future__ import annotations

import shutil

from qgis.core import QgsApplication
from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtWidgets import (
    QApplication,
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QLabel,
    QMessageBox,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
)

from ..engine import environment
from ..processing_provider.identity import icon
from ..processing_provider.translation import tr
from .setup_task import RemovalTask, SetUpTask

NEEDED_GB = 1.5


def free_gb() -> float:
    """Free space (10^9 bytes) where the environment will be."""
    place = environment.folder()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / 1e9


class SetUpDialog(QDialog):
    """Installs or repairs the engine; may be closed while it works."""

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("Set Up Environment"))
        self.setWindowIcon(icon("earthprint"))
        self.resize(600, 260)
        self._task = None
        why = QLabel(
            tr(
                "Earthprint computes in its own process with its own Python, so that QGIS stays "
                "as it is and keeps running whatever happens. This installs it in your folder, "
                "without administrator rights."
            )
        )
        self._place = QLabel()
        self._state = QLabel()
        for label in (why, self._place, self._state):
            label.setWordWrap(True)
        self._import = QCheckBox(
            tr(
                "Import official weights, train encoders (adds PyTorch, about {} MB to download)"
            ).format(environment.IMPORT_DOWNLOAD_MB)
        )
        self._import.setToolTip(
            tr(
                "Needed only to turn files of weights that others have published into encoders, "
                "and to train encoders of your own. Those that come with Earthprint work without."
            )
        )
        self._import.toggled.connect(self._refresh)
        self._bar = QProgressBar()
        self._bar.setAccessibleName(tr("Progress of the set-up"))
        self._bar.hide()
        layout = QVBoxLayout(self)
        for widget in (why, self._place, self._import, self._state, self._bar):
            layout.addWidget(widget)
        layout.addWidget(self._details(), 20)
        layout.addStretch(1)  # takes the room while the details are closed
        layout.addWidget(self._buttons())
        self._refresh()

    def _details(self) -> QgsCollapsibleGroupBox:
        box = QgsCollapsibleGroupBox(tr("Details"))
        box.setCollapsed(True)
        self._log = QPlainTextEdit()
        self._log.setReadOnly(True)
        self._log.setMaximumBlockCount(5000)
        self._log.setAccessibleName(tr("Log of the set-up"))
        copy = QPushButton(tr("Copy"))
        copy.clicked.connect(
            lambda: QApplication.clipboard().setText(self._log.toPlainText())
        )
        inside = QVBoxLayout(box)
        inside.addWidget(self._log)
        inside.addWidget(copy)
        return box

    def _buttons(self) -> QDialogButtonBox:
        box = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self._start = box.addButton("", QDialogButtonBox.ButtonRole.ActionRole)
        self._stop = box.addButton(tr("Stop"), QDialogButtonBox.ButtonRole.ActionRole)
        self.removal = box.addButton(tr("&Remove…"), QDialogButtonBox.ButtonRole.ResetRole)
        self.removal.setToolTip(tr("Take the engine off this computer; models and maps stay"))
        self.removal.setAutoDefault(False)
        self.removal.clicked.connect(self.remove)
        self._start.clicked.connect(self.start)
        self._stop.clicked.connect(self.stop)
        box.rejected.connect(self.close)
        return box

    def showEvent(self, event) -> None:
        """Look afresh each time the dialog opens."""
        super().showEvent(event)
        if self._task is None:
            self._refresh()

    def start(self) -> None:
        """Install or repair in the background."""
        self._task = SetUpTask(self._import.isChecked())
        self._task.stepped.connect(self._state.setText)
        self._task.logged.connect(self._log.appendPlainText)
        self._task.progressChanged.connect(lambda percent: self._bar.setValue(int(percent)))
        self._task.ended.connect(self._end)
        self._log.clear()
        self._refresh()
        QgsApplication.taskManager().addTask(self._task)

    def remove(self) -> None:
        """Ask, then take the environment away in the background."""
        answer = QMessageBox.question(
            self, tr("Remove the Engine"),
            tr("Remove the engine in {}? Your models, maps and projects stay; nothing can be "
               "computed until it is installed again.").format(environment.folder()),
            QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.Cancel,
            QMessageBox.StandardButton.Cancel,
        )
        if answer != QMessageBox.StandardButton.Yes:
            return
        self._task = RemovalTask()
        self._task.ended.connect(self._end)
        self._refresh()
        self._stop.setEnabled(False)
        self._bar.setRange(0, 0)
        self._state.setText(tr("Removing the engine…"))
        QgsApplication.taskManager().addTask(self._task)

    def stop(self) -> None:
        """Stop the set-up; what was downloaded is kept."""
        if self._task is not None:
            self._stop.setEnabled(False)
            self._state.setText(tr("Stopping…"))
            self._task.cancel()

    def discard(self) -> None:
        """Close for good, when the plugin is unloaded."""
        task, self._task = self._task, None
        if task is not None:
            for name in ("stepped", "logged", "progressChanged", "ended"):
                if hasattr(task, name) and task.receivers(getattr(task, name)):
                    getattr(task, name).disconnect()
            task.cancel()
        self.close()
        self.deleteLater()

    def _end(self, good: bool, sentence: str) -> None:
        self._task = None
        self._bar.setRange(0, 100)
        if not environment.can_import():
            self._import.setChecked(False)
        self._refresh()
        self._state.setText(sentence)

    def _refresh(self, *_changed: object) -> None:
        """Show what is so now."""
        running = self._task is not None
        problem = environment.problem()
        imports = environment.can_import()
        if imports:
            self._import.setChecked(True)
        self._import.setEnabled(not running and not imports)
        extra = self._import.isChecked() and not imports
        more_gb = extra * environment.IMPORT_DISK_MB / 1000
        free = free_gb()
        enough = free >= more_gb + (NEEDED_GB if problem else 0.0)
        self._place.setText(
            tr("Folder: {}\nNeeded: {} MB to download, {:.1f} GB on disk; free: {:.0f} GB").format(
                environment.folder(),
                300 + extra * environment.IMPORT_DOWNLOAD_MB,
                NEEDED_GB + more_gb,
                free,
            )
        )
        if problem is None and not extra:
            self._state.setText(tr("The engine is ready."))
        elif not enough:
            self._state.setText(tr("The free space is too small. Free some and open this again."))
        elif problem is None:
            self._state.setText(tr("The engine is ready; PyTorch will be added."))
        else:
            self._state.setText(
                problem if environment.find_python() else tr("The engine is not set up yet.")
            )
        broken = problem is not None and environment.find_python() is not None
        self._start.setText(tr("Repair") if broken else tr("Install"))
        self._start.setEnabled(not running and (problem is not None or extra) and enough)
        self._start.setDefault(True)
        self._stop.setEnabled(running)
        self.removal.setEnabled(not running and environment.folder().exists())
        self._bar.setVisible(running)
        self._bar.setValue(0)
