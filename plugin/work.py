"""What windows ask of the engine, always in the background: a question or a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qgis.core import Qgis, QgsApplication, QgsMessageLog, QgsTask
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..engine.client import EngineCancelled, EngineClient, EngineError

#: Runs a job of the engine: (name, parameters) -> result; a third argument, (start, end), says
#: which part of the whole the job is, 0..1.
Run = Callable[..., dict[str, Any]]


class Question(QObject):
    """A short job whose answer comes back to the GUI thread.

    Args:
        client: the engine.
        parent: owner; when it is gone, so is the answer.

    Signals:
        answered: (result or None, failure or None).
    """

    answered = pyqtSignal(object, object)

    def __init__(self, client: EngineClient, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._client = client

    def ask(self, job: str, params: dict[str, Any]) -> Question:
        """Send it; never waits."""
        self._client.post(job, params, self._pass_on)
        return self

    def _pass_on(self, result: Any, failure: Any) -> None:
        if not sip.isdeleted(self):
            self.answered.emit(result, failure)


class Work(QgsTask):
    """Jobs of the engine with progress, as a task that QGIS shows and can cancel.

    Args:
        title: what QGIS's list of tasks calls it.
        client: the engine.
        steps: runs jobs with the function it is given, and returns the result.

    Signals:
        stepped: what is being done now.
        ended: (result or None, failure or None), on the GUI thread.
    """

    stepped = pyqtSignal(str)
    ended = pyqtSignal(object, object)

    def __init__(self, title: str, client: EngineClient, steps: Callable[[Run], Any]) -> None:
        super().__init__(title, QgsTask.Flag.CanCancel)
        self._client, self._steps = client, steps
        self._result, self._failure = None, None
        self._part = (0.0, 1.0)  # which the job that runs is of the whole

    def start(self) -> Work:
        """Hand it to QGIS; keep a reference until it has ended."""
        QgsApplication.taskManager().addTask(self)
        return self

    def run(self) -> bool:
        """Work on a thread of the task manager."""
        try:
            self._result = self._steps(self._job)
        except (EngineError, EngineCancelled) as failure:
            self._failure = failure
            return False
        return True

    def finished(self, result: bool) -> None:
        """Tell how it ended; QGIS calls this on the GUI thread."""
        if not result and self._failure is None:
            self._failure = EngineCancelled()  # stopped before it began
        self.ended.emit(self._result, self._failure)

    def abandon(self) -> None:
        """Stop it and tell nobody."""
        for signal in (self.stepped, self.ended):
            if self.receivers(signal):
                signal.disconnect()
        self.cancel()

    def _job(
        self, job: str, params: dict[str, Any], part: tuple[float, float] = (0.0, 1.0)
    ) -> dict[str, Any]:
        self._part = part
        return self._client.run(job, params, self._progress, _log, self.isCanceled)

    def _progress(self, fraction: float, text: str) -> None:
        start, end = self._part
        self.setProgress(100.0 * (start + (end - start) * fraction))
        self.stepped.emit(text)


def _log(level: str, text: str) -> None:
    kind = Qgis.MessageLevel.Warning if level == "warning" else Qgis.MessageLevel.Info
    QgsMessageLog.logMessage(text, "Earthprint", kind, False)
