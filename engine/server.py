"""The engine's side of the border: read requests, run one job at a time, answer.

Interactive requests (`live/*`) have a thread of their own, so that they are answered while a job
runs. The engine leaves when its input closes, so it dies with QGIS whatever happened there, and
after an hour without work.
"""

from __future__ import annotations

import importlib
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

from . import jobs, protocol
from .context import JobContext
from .errors import Cancelled, UserError

LOG = logging.getLogger(__name__)
IDLE_S = 3600.0
ALIVE_S = 5.0
#: Seconds that a running job has to clean up after the input closed.
FAREWELL_S = 2.0
#: Beginning of the methods that are answered beside the jobs, and the module that answers them.
LIVE, LIVE_MODULE = "live/", "earthprint.engine.search.live"
#: Seconds that a thread may go on while another wants to run Python; the default is 5 ms, which
#: a live query would wait for several times.
SWITCH_S = 5e-4


class Server:
    """Serves one client over a pair of byte streams."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink
        self._requests: queue.Queue[dict | None] = queue.Queue()
        self._interactive: queue.Queue[dict | None] = queue.Queue()
        self._last = time.monotonic()
        self._cancelled: set[object] = set()
        self._running: set[object] = set()
        self._closed = threading.Event()
        self._writing = threading.Lock()

    def serve(self) -> None:
        """Answer requests until the input closes."""
        sys.setswitchinterval(SWITCH_S)
        for work in (self._listen, self._sign_of_life):
            threading.Thread(target=work, daemon=True).start()
        interactive = threading.Thread(target=self._serve_interactive, daemon=True)
        interactive.start()
        while True:
            try:
                message = self._requests.get(timeout=IDLE_S)
            except queue.Empty:
                if time.monotonic() - self._last < IDLE_S:
                    continue
                break
            if message is None:
                break
            self._answer(message, self._job)
        self._interactive.put(None)
        interactive.join(FAREWELL_S)

    def _serve_interactive(self) -> None:
        """Answer interactive requests in their order; what they need is imported with the first."""
        search = None

        def answer(message: dict) -> Any:
            nonlocal search
            if search is None:
                search = importlib.import_module(LIVE_MODULE).LiveSearch()
            return search.answer(message["method"], message.get("params") or {})

        while (message := self._interactive.get()) is not None:
            self._answer(message, answer)
            self._last = time.monotonic()
        if search is not None:
            search.close()

    def _listen(self) -> None:
        for line in self._source:
            message = protocol.unpack(line)
            if message is None:
                continue
            if message.get("method") == protocol.CANCEL:
                self._cancel(message["params"]["id"])
            elif "id" in message:
                live = str(message.get("method", "")).startswith(LIVE)
                (self._interactive if live else self._requests).put(message)
        self._closed.set()
        self._interactive.put(None)  # its files go even where a job has to be abandoned
        self._requests.put(None)
        time.sleep(FAREWELL_S)
        os._exit(0)  # a job that does not stop must not outlive its client

    def _cancel(self, number: object) -> None:
        """Tell the running job to stop; one that still waits is answered at once."""
        self._cancelled.add(number)
        if number not in self._running:
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

    def _job(self, message: dict) -> Any:
        if message.get("method") == "describe":
            return jobs.describe()
        return jobs.run(message.get("method", ""), message.get("params") or {},
                        self._context(message["id"]))

    def _answer(self, message: dict, work: Callable[[dict], Any]) -> None:
        number, method = message["id"], message.get("method", "")
        self._running.add(number)
        try:
            if number in self._cancelled:
                self._send(protocol.error(number, protocol.CANCELLED, "Stopped before it began."))
                return
            self._send(protocol.result(number, work(message)))
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
        finally:
            self._running.discard(number)

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
