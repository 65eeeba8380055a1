"""The engine as a command: ``serve``, ``run JOB.json``, ``describe``, ``selftest``.

A job file is ``{"job": NAME, "params": {...}}``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

#: Decoded blocks that GDAL keeps, of all files together (MB); not part of a job's budget.
GDAL_CACHE_MB = 128


def _run_file(path: str) -> int:
    """Run a job file; the exit status."""
    try:
        job = json.loads(Path(path).read_text(encoding="utf-8"))
        name, params = job["job"], job.get("params", {})
    except (OSError, ValueError, KeyError) as failure:
        sys.stderr.write(f"The job file {path} cannot be read ({failure}). It holds "
                         '{"job": NAME, "params": {...}}.\n')
        return 2
    return _run(name, params)


def _run(name: str, params: dict) -> int:
    """Run a job with progress on stderr and the result on stdout; the exit status."""
    from . import jobs
    from .context import JobContext
    from .errors import Cancelled, UserError

    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    context = JobContext(
        on_progress=lambda fraction, text: sys.stderr.write(f"\r\033[K{text}"),
        on_log=lambda level, text: sys.stderr.write(
            f"\r\033[K{'Warning: ' if level == 'warning' else ''}{text}\n"),
        is_cancelled=stop.is_set)
    try:
        result = jobs.run(name, params, context)
    except Cancelled:
        sys.stderr.write("\r\033[KStopped; nothing was written.\n")
        return 130
    except UserError as failure:
        sys.stderr.write(f"\r\033[K{failure}\n")
        return 1
    sys.stderr.write("\r\033[K")
    sys.stdout.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return 0


def main(words: list[str] | None = None) -> int:
    """Parse the command line and do it; the exit status."""
    parser = argparse.ArgumentParser(prog="earthprint.engine", description=__doc__)
    parser.add_argument("command", choices=("serve", "run", "describe", "selftest"))
    parser.add_argument("job", nargs="?", help="for run: a job file (JSON)")
    given = parser.parse_args(words)
    # GDAL reads this once, before the first dataset; its default is a twentieth of all memory
    os.environ.setdefault("GDAL_CACHEMAX", str(GDAL_CACHE_MB))
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if given.command == "serve":
        from . import server

        server.serve()
        return 0
    if given.command == "run":
        if given.job is None:
            parser.error("run needs a job file")
        return _run_file(given.job)
    if given.command == "selftest":
        return _run("doctor", {})
    from . import jobs

    sys.stdout.write(json.dumps(jobs.describe(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
