"""Makes or removes the engine's environment in the background, as tasks that QGIS shows."""

from __future__ import annotations

from qgis.core import QgsTask
from qgis.PyQt.QtCore import pyqtSignal

from ..engine import environment
from ..engine.client import close_shared_client
from ..processing_provider.translation import tr


class SetUpTask(QgsTask):
    """Runs `environment.create`; tells what it does and how it ended.

    Signals:
        stepped: what is being done now.
        logged: one line of the installer.
        ended: (whether the engine is ready, sentence), on the main thread.
    """

    stepped = pyqtSignal(str)
    logged = pyqtSignal(str)
    ended = pyqtSignal(bool, str)

    def __init__(self, with_import: bool = False) -> None:
        super().__init__(tr("Set up Earthprint's engine"), QgsTask.Flag.CanCancel)
        self._with_import = with_import
        self._sentence = ""

    def run(self) -> bool:
        """Work on a thread of the task manager."""
        close_shared_client()
        try:
            environment.create(
                self._progress, self.logged.emit, self.isCanceled, self._with_import
            )
        except environment.SetUpCancelled:
            self._sentence = tr("Stopped. What was downloaded is kept for the next try.")
            return False
        except environment.SetUpError as failure:
            self._sentence = str(failure)
            if failure.details:
                self.logged.emit(failure.details)
            return False
        except OSError as failure:
            self._sentence = tr("The folder {} cannot be written ({}). Free some space.").format(
                environment.folder(), failure.strerror
            )
            return False
        return True

    def finished(self, result: bool) -> None:
        """Tell how it ended; QGIS calls this on the main thread."""
        if result:
            self._sentence = tr("The engine is ready. Find Earthprint in the Processing toolbox.")
        self.ended.emit(result, self._sentence or tr("Stopped."))

    def _progress(self, fraction: float, text: str) -> None:
        self.setProgress(100.0 * fraction)
        self.stepped.emit(text)


class RemovalTask(QgsTask):
    """Runs `environment.remove`; tells how it ended.

    Signals:
        ended: (whether it is gone, sentence), on the main thread.
    """

    ended = pyqtSignal(bool, str)

    def __init__(self) -> None:
        super().__init__(tr("Remove Earthprint's engine"), QgsTask.Flag.CanCancel)
        self._sentence = ""

    def run(self) -> bool:
        """Work on a thread of the task manager."""
        close_shared_client()
        try:
            freed = environment.remove()
        except environment.SetUpError as failure:
            self._sentence = str(failure)
            return False
        self._sentence = tr("The engine is removed; {:.1f} GB are free again.").format(freed / 1000)
        return True

    def finished(self, result: bool) -> None:
        """Tell how it ended."""
        self.ended.emit(result, self._sentence)
