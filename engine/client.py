"""QGIS's side of the border: start the engine, run jobs in it, survive whatever happens to it.

Standard library only, Python 3.9; any thread may call `EngineClient.run`.
"""

from __future__ import annotations

import collections
import itertools
import queue
import subprocess  # nosec B404
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import environment, protocol

#: Seconds without any sign of life after which a running engine counts as hung.
SILENCE_S = 120.0
#: Seconds that a start may take, cold disk and virus scanner included.
START_S = 120.0
#: Seconds between the wish to cancel and the end of the process that ignores it.
CANCEL_S = 10.0


class EngineError(Exception):
    """A job failed. The message is one sentence for the user; `details` is for the log."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


class EngineCancelled(Exception):
    """The user stopped the job; nothing was written."""


class _Process:
    """One running engine: its pipes, the threads that drain them, and who waits for what."""

    def __init__(self, python: str | Path) -> None:
        self.last_sign = time.monotonic()
        self.errors = collections.deque(maxlen=200)
        self._waiting = {}
        self._lock = threading.Lock()
        hidden = {"creationflags": 0x08000000} if sys.platform == "win32" else {}
        self._popen = subprocess.Popen(  # nosec B603
            [str(python), "-I", str(environment.LAUNCHER), "serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment.clean_variables(), **hidden)
        for drain in (self._drain_output, self._drain_errors):
            threading.Thread(target=drain, daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._popen.poll() is None

    def ask(self, message: dict[str, Any]) -> queue.Queue:
        """Send a request; the queue that its notifications and answer will arrive in."""
        inbox = queue.Queue()
        with self._lock:
            self._waiting[message["id"]] = inbox
        self.tell(message)
        return inbox

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message; a broken pipe is noticed by whoever waits."""
        try:
            with self._lock:
                self._popen.stdin.write(protocol.pack(message))
                self._popen.stdin.flush()
        except (OSError, ValueError):
            self.kill()

    def forget(self, number: int) -> None:
        """Nobody waits for this answer any more."""
        with self._lock:
            self._waiting.pop(number, None)

    def _drain_output(self) -> None:
        for line in self._popen.stdout:
            message = protocol.unpack(line)
            if message is None:
                self.errors.append(line.decode("utf-8", "replace").rstrip())
                continue
            self.last_sign = time.monotonic()
            number = message.get("id", (message.get("params") or {}).get("id"))
            with self._lock:
                inbox = self._waiting.get(number)
            if inbox is not None:
                inbox.put(message)
        with self._lock:
            for inbox in self._waiting.values():
                inbox.put(None)

    def _drain_errors(self) -> None:
        for line in self._popen.stderr:
            self.errors.append(line.decode("utf-8", "replace").rstrip())

    def close(self, patience: float = 2.0) -> None:
        """Ask the engine to leave by closing its input; kill it when it does not."""
        try:
            self._popen.stdin.close()
        except OSError:
            self.kill()
        try:
            self._popen.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
        for pipe in (self._popen.stdout, self._popen.stderr):
            pipe.close()

    def kill(self) -> None:
        """End the process at once."""
        if self.alive():
            self._popen.kill()
            self._popen.wait()


class EngineClient:
    """Runs jobs in an engine process, which is started at first use and kept warm.

    Args:
        python: the engine's interpreter; found by `environment.find_python` when None.
    """

    def __init__(self, python: str | Path | None = None) -> None:
        self._python = python
        self._process = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the engine, None when none runs."""
        process = self._process
        return process.pid if process is not None and process.alive() else None

    def _running(self) -> _Process:
        with self._lock:
            if self._process is None or not self._process.alive():
                python = self._python or environment.find_python()
                sentence = None if self._python else environment.problem()
                if python is None or sentence:
                    raise EngineError(sentence or environment.NOT_SET_UP)
                try:
                    self._process = _Process(python)
                except OSError as failure:
                    raise EngineError(
                        f"The engine at {python} cannot be started ({failure}). Choose Plugins > "
                        "Earthprint > Set Up Environment…") from failure
            return self._process

    def run(
        self,
        job: str,
        params: dict[str, Any],
        on_progress: Callable[[float, str], None] | None = None,
        on_log: Callable[[str, str], None] | None = None,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> dict[str, Any]:
        """Run a job to its end and return its result (a dict).

        Args:
            job: name of the job, see `engine/jobs.py`.
            params: its parameters, JSON values.
            on_progress: called with (fraction 0..1, text), on this thread.
            on_log: called with (level "info" or "warning", text), on this thread.
            is_cancelled: asked about every 50 ms whether to stop.

        Raises:
            EngineError: with one sentence for the user.
            EngineCancelled: after `is_cancelled` said so.
        """
        process = self._running()
        number = next(self._numbers)
        process.last_sign = time.monotonic()
        inbox = process.ask(protocol.request(number, job, params))
        cancel_at = None
        try:
            while True:
                try:
                    message = inbox.get(timeout=0.05)
                except queue.Empty:
                    message = {} if process.alive() else None
                if message is None:
                    if cancel_at is not None:
                        raise EngineCancelled
                    raise EngineError(self._obituary(process), "\n".join(process.errors))
                if "result" in message:
                    return message["result"]
                if "error" in message:
                    raise self._failure(message["error"])
                self._pass_on(message, on_progress, on_log)
                now = time.monotonic()
                if cancel_at is None and is_cancelled is not None and is_cancelled():
                    cancel_at = now
                    process.tell(protocol.notification(protocol.CANCEL, {"id": number}))
                if cancel_at is not None and now - cancel_at > CANCEL_S:
                    process.kill()
                    raise EngineCancelled
                if now - process.last_sign > SILENCE_S:
                    process.kill()
                    raise EngineError(
                        f"The engine gave no sign of life for {SILENCE_S:.0f} s and was stopped; "
                        "nothing was written. Run again with a smaller Memory budget.",
                        "\n".join(process.errors))
        finally:
            process.forget(number)

    @staticmethod
    def _pass_on(message: dict[str, Any], on_progress: Callable | None,
                 on_log: Callable | None) -> None:
        said = message.get("params") or {}
        if message.get("method") == protocol.PROGRESS and on_progress is not None:
            on_progress(said["fraction"], said["text"])
        elif message.get("method") == protocol.LOG and on_log is not None:
            on_log(said["level"], said["text"])

    @staticmethod
    def _failure(error: dict[str, Any]) -> Exception:
        if error["code"] == protocol.CANCELLED:
            return EngineCancelled()
        return EngineError(error["message"], error.get("data") or "")

    @staticmethod
    def _obituary(process: _Process) -> str:
        process.kill()
        text = " ".join(process.errors)
        if "No module named" in text and "No module named 'earthprint" not in text:
            return ("The engine's environment is broken ({}). Choose Plugins > Earthprint > Set Up "
                    "Environment… > Repair.".format(text[text.index("No module named"):][:60]))
        return ("The engine stopped unexpectedly (memory may have run out); nothing was written. "
                "Run again with a smaller Memory budget.")

    def close(self) -> None:
        """End the engine; the next job starts a new one."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.close()


_shared = None


def shared_client() -> EngineClient:
    """The one warm engine of a QGIS session."""
    global _shared
    if _shared is None:
        _shared = EngineClient()
    return _shared


def close_shared_client() -> None:
    """End the warm engine, if there is one."""
    global _shared
    if _shared is not None:
        _shared.close()
        _shared = None
