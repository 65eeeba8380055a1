"""The engine's side of the border: read requests, run one job at a time, answer.

It leaves when its input closes, so it dies with QGIS whatever happened there, and after an hour
without work.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
import traceback
from typing import BinaryIO

from . import jobs, protocol
from .context import JobContext
from .errors import Cancelled, UserError

LOG = logging.getLogger(__name__)
IDLE_S = 3600.0
ALIVE_S = 5.0
#: Seconds that a running job has to clean up after the input closed.
FAREWELL_S = 2.0


class Server:
    """Serves one client over a pair of byte streams."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink
        self._requests: queue.Queue[dict | None] = queue.Queue()
        self._cancelled: set[object] = set()
        self._current: object = None
        self._closed = threading.Event()
        self._writing = threading.Lock()

    def serve(self) -> None:
        """Answer requests until the input closes."""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._sign_of_life, daemon=True).start()
        while True:
            try:
                message = self._requests.get(timeout=IDLE_S)
            except queue.Empty:
                return
            if message is None:
                return
            self._answer(message)

    def _listen(self) -> None:
        for line in self._source:
            message = protocol.unpack(line)
            if message is None:
                continue
            if message.get("method") == protocol.CANCEL:
                self._cancel(message["params"]["id"])
            elif "id" in message:
                self._requests.put(message)
        self._closed.set()
        self._requests.put(None)
        time.sleep(FAREWELL_S)
        os._exit(0)  # a job that does not stop must not outlive its client

    def _cancel(self, number: object) -> None:
        """Tell the running job to stop; one that still waits is answered at once."""
        self._cancelled.add(number)
        if number != self._current:
            self._send(protocol.error(number, protocol.CANCELLED, "Stopped before it began."))

    def _sign_of_life(self) -> None:
        while not self._closed.wait(ALIVE_S):
            self._send(protocol.notification(protocol.ALIVE, {}))

    def _send(self, message: dict) -> None:
        try:
            with self._writing:
                self._sink.write(protocol.pack(message))
                self._sink.flush()
        except (OSError, ValueError):
            self._closed.set()

    def _answer(self, message: dict) -> None:
        number, method = message["id"], message.get("method", "")
        self._current = number
        if number in self._cancelled:
            self._send(protocol.error(number, protocol.CANCELLED, "Stopped before it began."))
            return
        try:
            if method == "describe":
                value = jobs.describe()
            else:
                value = jobs.run(method, message.get("params") or {}, self._context(number))
            self._send(protocol.result(number, value))
        except Cancelled:
            self._send(protocol.error(number, protocol.CANCELLED, "Stopped; nothing was written."))
        except UserError as failure:
            self._send(protocol.error(number, protocol.USER_ERROR, str(failure)))
        except MemoryError:
            self._send(protocol.error(
                number, protocol.USER_ERROR,
                "Memory ran out. Run again with a smaller Memory budget.", traceback.format_exc()))
        except Exception as failure:  # the border: a bug must become a sentence, not a dead engine
            if isinstance(failure, ModuleNotFoundError) and not str(failure.name).startswith(
                    "earthprint"):
                self._send(protocol.error(
                    number, protocol.USER_ERROR,
                    f"The engine's environment is broken ({failure}). Choose Plugins > Earthprint "
                    "> Set Up Environment… > Repair.", traceback.format_exc()))
                return
            LOG.exception("bug in %s", method)
            place = traceback.extract_tb(failure.__traceback__)[-1]
            self._send(protocol.error(
                number, protocol.BUG,
                f"A bug in {method} ({os.path.basename(place.filename)}, line {place.lineno}: "
                f"{type(failure).__name__}), not your data, stopped this run. Send us the log.",
                traceback.format_exc()))

    def _context(self, number: object) -> JobContext:
        def progress(fraction: float, text: str) -> None:
            self._send(protocol.notification(
                protocol.PROGRESS, {"id": number, "fraction": fraction, "text": text}))

        def log(level: str, text: str) -> None:
            self._send(protocol.notification(
                protocol.LOG, {"id": number, "level": level, "text": text}))

        return JobContext(
            on_progress=progress, on_log=log,
            is_cancelled=lambda: self._closed.is_set() or number in self._cancelled)


def serve() -> None:
    """Serve over stdin and stdout, after moving everybody else's prints to stderr."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    Server(sys.stdin.buffer, sink).serve()
