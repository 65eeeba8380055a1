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


def _run(path: str) -> int:
    """Run a job file with progress on stderr and the result on stdout."""
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
        job = json.loads(Path(path).read_text(encoding="utf-8"))
        name, params = job["job"], job.get("params", {})
    except (OSError, ValueError, KeyError) as failure:
        sys.stderr.write(f"The job file {path} cannot be read ({failure}). It holds "
                         '{"job": NAME, "params": {...}}.\n')
        return 2
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


def _selftest() -> int:
    """Take a tiny season through every bundled encoder and search it, which compiles the kernels.

    An encoder that needs other rasters than the season's is not tried.
    """
    import tempfile

    from ..models import catalogue
    from . import jobs
    from .context import JobContext
    from .encoding.encoder import Encoder
    from .rasters.embeddings import EmbeddingsFile
    from .search.live import LiveSearch
    from .stacks.stack import Stack

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        jobs.run("simulate_season", {"output": str(folder / "season"), "size": 128}, JobContext())
        stack = {"sources": [str(folder / "season" / "scenes")], "output": str(folder / "a.json")}
        jobs.run("build_stack", stack, JobContext())
        sensors = Stack.load(stack["output"]).sensors()
        for name in catalogue.bundled():
            if Encoder.open(name).missing(sensors):
                sys.stdout.write(f"{name} needs other rasters, not tried\n")
                continue
            target = folder / f"{name}.tif"
            encoded = jobs.run("encode", {"input": [stack["output"]], "encoder": name,
                                          "output": str(target)}, JobContext())
            with EmbeddingsFile(target) as file:
                if file.encoder != Encoder.open(name).card.identity or not encoded["pixels"]:
                    sys.stderr.write(f"The encoder {name} gave nothing on a test season.\n")
                    return 1
            sys.stdout.write(f"{file.encoder} runs\n")
            _search(LiveSearch(), target, file.grid)
    return 0


def _search(live: object, path: Path, grid: object) -> None:
    """One live query in the middle of a file."""
    session = live.answer("live/open", {"input": str(path)})["session"]
    canvas = {"crs": grid.crs_wkt, "transform": grid.transform, "shape": grid.shape}
    view = live.answer("live/view", {"session": session, "grid": canvas})["view"]
    x, y = grid.affine @ (grid.shape[1] / 2, grid.shape[0] / 2)
    live.answer("live/query", {"session": session, "view": view, "examples": [],
                               "counterexamples": [], "hover": [x, y, grid.crs_wkt], "rank": 10})
    live.close()


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
        return _run(given.job)
    if given.command == "selftest":
        return _selftest()
    from . import jobs

    sys.stdout.write(json.dumps(jobs.describe(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
