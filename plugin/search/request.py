"""One request to the engine at a time: sent without waiting, answered on the GUI thread.

What takes long is told, and what takes so long that the engine may hang.
"""

from __future__ import annotations

from typing import Any

from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ...engine.client import shared_client

#: Milliseconds after which waiting is told, and after which the engine may hang.
TELL_MS, STUCK_MS = 300, 8000


class _Post(QObject):
    """Carries an answer from the thread it arrives on to the GUI thread."""

    answered = pyqtSignal(int, object, object)

    def send(self, method: str, params: dict[str, Any], number: int) -> None:
        """Ask; `answered` gives (number, result or None, error or None)."""
        shared_client().post(
            method, params, lambda result, error: self._pass_on(number, result, error)
        )

    def _pass_on(self, number: int, result: Any, error: Any) -> None:
        if not sip.isdeleted(self):
            self.answered.emit(number, result, error)


class Request(QObject):
    """The request that is under way, if there is one.

    Args:
        parent: owner.

    Signals:
        answered: (method, result or None, error or None) of the request that was waited for.
        late: the result of one that was dropped.
        slow: waiting is worth a word now, or another one.
    """

    answered = pyqtSignal(str, object, object)
    late = pyqtSignal(object)
    slow = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.method = ""  # of the request under way
        self._number = 0
        self._post = _Post()
        self._post.answered.connect(self._take)
        self._tell, self._stuck = (self._timer(wait) for wait in (TELL_MS, STUCK_MS))

    def _timer(self, milliseconds: int) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(self.slow)
        return timer

    def send(self, method: str, params: dict[str, Any]) -> None:
        """Ask; nothing may be under way."""
        self._number += 1
        self.method = method
        for timer in (self._tell, self._stuck):
            timer.start()
        self._post.send(method, params, self._number)

    def say(self, method: str, params: dict[str, Any]) -> None:
        """Send what needs no answer."""
        self._post.send(method, params, 0)

    def drop(self) -> None:
        """Wait for the answer no longer."""
        self.method = ""
        for timer in (self._tell, self._stuck):
            timer.stop()

    def discard(self) -> None:
        """Take no answers any more."""
        self._post.answered.disconnect(self._take)
        self.drop()

    @property
    def waiting(self) -> bool:
        """Whether it takes long enough to be told."""
        return bool(self.method) and not self._tell.isActive()

    @property
    def stuck(self) -> bool:
        """Whether it takes so long that the engine may hang; an engine that starts may not."""
        return bool(self.method) and not self._stuck.isActive() and shared_client().pid is not None

    def _take(self, number: int, result: Any, error: Any) -> None:
        if not self.method or number != self._number:
            self.late.emit(result)
            return
        method = self.method
        self.drop()
        self.answered.emit(method, result, error)
