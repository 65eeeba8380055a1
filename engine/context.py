"""What a job may ask of its surroundings: progress, log, cancellation, budgets, a folder.

A job is a plain function ``task(params, context)``. It never knows whether QGIS, a shell or a
test runs it.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from .errors import Cancelled

LOG = logging.getLogger(__name__)


def _nothing(*_args: object) -> None:
    """Report to nobody."""


def _never() -> bool:
    """Report that nobody asked to stop."""
    return False


def computer_memory() -> float | None:
    """Bytes of memory that this computer has; None where the system does not tell (Windows)."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return None


@dataclass(frozen=True)
class JobContext:
    """The surroundings of one job.

    Attributes:
        on_progress: called with (fraction 0..1, text) at most a few times a second.
        on_log: called with (level, text); level is "info" or "warning".
        is_cancelled: tells whether the user asked to stop.
        memory_mb: budget for arrays held at one time (MB, 10^6 bytes).
        threads: processors to use.
        device: "auto", "cpu" or "cuda".
        folder: for temporary files; removed by whoever made the context.
    """

    on_progress: Callable[[float, str], None] = _nothing
    on_log: Callable[[str, str], None] = _nothing
    is_cancelled: Callable[[], bool] = _never
    memory_mb: int = 2000
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0))
                         if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    device: str = "auto"
    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))

    def progress(self, fraction: float, text: str = "") -> None:
        """Report the share that is done (0..1) and what is being done; stop when cancelled."""
        self.check()
        self.on_progress(min(max(fraction, 0.0), 1.0), text)

    def log(self, text: str) -> None:
        """Write one calm line for the user."""
        LOG.info(text)
        self.on_log("info", text)

    def warn(self, text: str) -> None:
        """Write one line that the user should not miss."""
        LOG.warning(text)
        self.on_log("warning", text)

    def check(self) -> None:
        """Raise `Cancelled` when the user asked to stop; call it at least every half second."""
        if self.is_cancelled():
            raise Cancelled

    def part(self, start: float, end: float) -> JobContext:
        """The context for a step whose own 0..1 is start..end of the whole job."""
        return replace(
            self, on_progress=lambda f, text: self.on_progress(start + (end - start) * f, text)
        )


class Pace:
    """Counts work and turns it into progress lines with speed and time left."""

    def __init__(self, context: JobContext, total: int, unit: str, verb: str) -> None:
        self._context, self._total, self._unit, self._verb = context, max(total, 1), unit, verb
        self._done, self._work, self._start, self._last = 0, 0, time.monotonic(), -1.0

    def add(self, done: int, work: int | None = None) -> None:
        """Count `done` of the total; `work` is what the speed is made of (default: the same)."""
        self._done += done
        self._work += done if work is None else work
        now = time.monotonic()
        if now - self._last < 0.25 and self._done < self._total:
            self._context.check()
            return
        self._last = now
        spent, fraction = max(now - self._start, 1e-9), self._done / self._total
        left = spent / fraction * (1 - fraction) if fraction > 0 else 0.0
        self._context.progress(
            fraction,
            f"{self._verb} {100 * fraction:.0f} %, {self._work / spent:.0f} {self._unit}/s, "
            f"{left:.0f} s left",
        )
