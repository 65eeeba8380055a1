"""QGIS's side of the border: start the engine, run jobs in it, survive whatever happens to it.

Standard library only, Python 3.9; any thread may call `EngineClient.run`, which waits, and
`EngineClient.post`, which never does.
"""

from __future__ import annotations

import collections
import itertools
import logging
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
#: Seconds between two looks at whether the engine that was posted to still lives.
WATCH_S = 5.0

LOG = logging.getLogger(__name__)


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
        self._ended = False
        self._lock = threading.Lock()
        self._pipe = threading.Lock()
        hidden = {"creationflags": 0x08000000} if sys.platform == "win32" else {}
        self._popen = subprocess.Popen(  # nosec B603
            [str(python), "-I", str(environment.LAUNCHER), "serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment.clean_variables(), **hidden)
        self._complaints = threading.Thread(target=self._drain_errors, daemon=True)
        for drain in (threading.Thread(target=self._drain_output, daemon=True), self._complaints):
            drain.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._popen.poll() is None

    def ask(self, number: int, line: bytes, take: Callable[[dict[str, Any] | None], None]) -> None:
        """Send a request.

        Args:
            number: its id.
            line: as it goes through the pipe.
            take: called on another thread with each notification, then with the answer, or with
                None when the engine ended; not after `forget`.
        """
        with self._lock:
            ended = self._ended
            if not ended:
                self._waiting[number] = take
        if ended:
            take(None)
        else:
            self.tell(line)

    def tell(self, line: bytes) -> None:
        """Send a message; a broken pipe is noticed by whoever waits."""
        try:
            with self._pipe:
                self._popen.stdin.write(line)
                self._popen.stdin.flush()
        except (OSError, ValueError):
            self.kill()

    def hangs(self) -> bool:
        """Whether somebody waits for an engine that gives no sign of life."""
        return bool(self._waiting) and time.monotonic() - self.last_sign > SILENCE_S

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
                take = self._waiting.get(number)
                if "method" not in message:  # the answer
                    self._waiting.pop(number, None)
            if take is not None:
                take(message)
        with self._lock:
            self._ended = True
            waiting, self._waiting = self._waiting, {}
        for take in waiting.values():
            take(None)

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

    def bury(self) -> str:
        """End the process and wait for its last words, which tell why it died."""
        self.kill()
        self._complaints.join(1.0)
        return "\n".join(self.errors)

    def kill(self) -> None:
        """End the process at once."""
        if self.alive():
            self._popen.kill()
            self._popen.wait()


class _Sender:
    """A thread that sends what is posted, in order, and looks after the engine in between."""

    def __init__(self, send: Callable[[int, bytes, Callable], None],
                 watch: Callable[[], None]) -> None:
        self.posts = queue.Queue()
        self._send, self._watch = send, watch
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self, patience: float = 2.0) -> None:
        """Send no more; who still waits to be sent is told so."""
        self._closed.set()
        self.posts.put(None)
        self._thread.join(patience)

    def _work(self) -> None:
        while True:
            try:
                post = self.posts.get(timeout=WATCH_S)
            except queue.Empty:
                self._watch()
                continue
            if post is None:
                return
            if self._closed.is_set():
                _finish(post[2], None, EngineCancelled())
            else:
                self._send(*post)


def _finish(done: Callable, result: dict[str, Any] | None, failure: Exception | None) -> None:
    try:
        done(result, failure)
    except Exception:  # an asker that is gone must not end the thread that serves the others
        LOG.exception("nobody took an answer of the engine")


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
        self._sending = threading.Lock()
        self._sender = None

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
        inbox = queue.Queue()
        process.ask(number, protocol.pack(protocol.request(number, job, params)), inbox.put)
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
                    raise self._obituary(process)
                if "result" in message:
                    return message["result"]
                if "error" in message:
                    raise self._failure(message["error"])
                self._pass_on(message, on_progress, on_log)
                now = time.monotonic()
                if cancel_at is None and is_cancelled is not None and is_cancelled():
                    cancel_at = now
                    process.tell(protocol.pack(
                        protocol.notification(protocol.CANCEL, {"id": number})))
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

    def post(self, method: str, params: dict[str, Any],
             done: Callable[[dict[str, Any] | None, Exception | None], None]) -> None:
        """Ask without waiting, not even for the engine to start.

        Requests of one client are answered in the order of their posts.

        Args:
            method: an interactive request, see `engine/search/live.py`.
            params: its parameters, JSON values.
            done: called exactly once, on a worker thread, with the result and None, or with None
                and an `EngineError` or `EngineCancelled`. It must return soon.
        """
        number = next(self._numbers)
        line = protocol.pack(protocol.request(number, method, params))
        with self._sending:  # not the other lock, which is held while an engine starts
            if self._sender is None:
                self._sender = _Sender(self._send, self._watch)
            self._sender.posts.put((number, line, done))

    def _send(self, number: int, line: bytes, done: Callable) -> None:
        try:
            process = self._running()
        except EngineError as failure:
            _finish(done, None, failure)
        else:
            process.ask(number, line, self._answered(process, done))

    def _watch(self) -> None:
        process = self._process
        if process is not None and process.hangs():
            process.kill()

    def _answered(self, process: _Process, done: Callable) -> Callable:
        """What turns the messages of a posted request into one call of `done`."""
        def take(message: dict[str, Any] | None) -> None:
            if message is None:
                _finish(done, None, self._obituary(process))
            elif "error" in message:
                _finish(done, None, self._failure(message["error"]))
            elif "result" in message:
                _finish(done, message["result"], None)

        return take

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
    def _obituary(process: _Process) -> EngineError:
        words = process.bury()
        text = words.replace("\n", " ")
        if "No module named" in text and "No module named 'earthprint" not in text:
            return EngineError(
                "The engine's environment is broken ({}). Choose Plugins > Earthprint > Set Up "
                "Environment… > Repair.".format(text[text.index("No module named"):][:60]), words)
        return EngineError(
            "The engine stopped unexpectedly (memory may have run out); nothing was written. "
            "Run again with a smaller Memory budget.", words)

    def kill(self) -> None:
        """End an engine that hangs, at once; who waits for it gets an `EngineError`."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the engine; the next job or post starts a new one."""
        with self._sending:
            sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
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
