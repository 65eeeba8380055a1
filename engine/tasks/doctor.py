"""Job `doctor`: whether the engine works here, tried on a tiny season of its own.

It runs every bundled encoder and one live search, which also compiles what is compiled, so that
the first real run is not slow. Its page is made to be pasted into the report of a bug.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Sequence
from datetime import date
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnxruntime

from ...models import catalogue
from .. import environment
from ..context import JobContext, computer_memory
from ..encoding.encoder import Encoder
from ..errors import UserError
from ..rasters.embeddings import EmbeddingsFile
from ..rasters.raster import check_writable
from ..reports.report import Report, Section, table
from ..search.live import LiveSearch
from ..stacks.stack import Stack, build_stack
from . import encode, simulate_season

_SIZE = 128  # pixels a side of the season
_PACKAGES = ("numpy", "scipy", "numba", "rasterio", "pyogrio", "onnxruntime", "scikit-learn",
             "torch")


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Try the engine.

    Args:
        params: report (an HTML page), host (lines on the program that asks, such as QGIS's
            version).
        context: surroundings.

    Returns:
        encoders: name to pixels (or patches) a second; left_out: those that need other rasters;
        facts: name to what was found on this computer; report (path or None).

    Raises:
        UserError: something failed; the page is written all the same and says what.
    """
    if params.get("report"):
        check_writable(Path(params["report"]))
    facts = {**_facts(context), **dict(params.get("host") or {})}
    for name, fact in facts.items():
        context.log(f"{name}: {fact}")
    speeds, rows, left_out, failures = {}, [], [], []
    try:
        stack = _season(context.part(0, 0.1))
    except UserError as failure:
        failures.append(f"The test season could not be read: {failure}")
        stack = None
    names = list(catalogue.bundled()) if stack else []
    for number, name in enumerate(names):
        part = context.part(0.1 + 0.8 * number / len(names), 0.1 + 0.8 * (number + 1) / len(names))
        part.progress(0.0, f"Trying {name}")
        try:
            if Encoder.open(name).missing(stack.sensors()):
                left_out.append(name)
                rows.append((name, "not tried: it needs other rasters than the test season's"))
                continue
            speeds[name] = _encode(name, stack, context.folder / "doctor" / f"{name}.tif", part)
            rows.append((name, f"works, {speeds[name]:.0f} embeddings/s"))
        except UserError as failure:
            failures.append(f"{name}: {failure}")
            rows.append((name, f"failed: {failure}"))
        context.log(": ".join(rows[-1]))
    if catalogue.DEFAULT in speeds:
        context.progress(0.95, "Trying a search")
        _search(context.folder / "doctor" / f"{catalogue.DEFAULT}.tif")
        rows.append(("Live search", "works"))
    if params.get("report"):
        _report(Path(params["report"]), facts, rows, failures)
    if failures:
        raise UserError(
            f"{failures[0]} Choose Plugins > Earthprint > Set Up Environment… > Repair.")
    context.log("All that was tried works.")
    return {"encoders": speeds, "left_out": left_out, "facts": facts,
            "report": params.get("report")}


def _season(context: JobContext) -> Stack:
    """A stack of a season of its own."""
    folder = context.folder / "doctor"
    folder.mkdir()
    simulate_season.run({"output": str(folder / "season"), "size": _SIZE}, context)
    return build_stack([folder / "season" / "scenes"]).save(folder / "season.stack.json")


def _encode(name: str, stack: Stack, output: Path, context: JobContext) -> float:
    """Embeddings a second, the first compilation included."""
    start = time.monotonic()
    made = encode.run({"input": [str(stack.path)], "encoder": name, "output": str(output)}, context)
    with EmbeddingsFile(output) as file:
        if file.encoder != Encoder.open(name).card.identity or not made["pixels"]:
            raise UserError(f"The encoder {name} gave nothing on a test season.")
    return made["pixels"] / (time.monotonic() - start)


def _search(path: Path) -> None:
    """One live query in the middle of a file."""
    live = LiveSearch()
    with EmbeddingsFile(path) as file:
        grid = file.grid
    session = live.answer("live/open", {"input": str(path)})["session"]
    canvas = {"crs": grid.crs_wkt, "transform": grid.transform, "shape": grid.shape}
    view = live.answer("live/view", {"session": session, "grid": canvas})["view"]
    x, y = grid.affine @ (grid.shape[1] / 2, grid.shape[0] / 2)
    live.answer("live/query", {
        "session": session, "view": view, "examples": [], "counterexamples": [],
        "hover": [x, y, grid.crs_wkt], "rank": 10})
    live.close()


# --- what is where --------------------------------------------------------------------------------


def _facts(context: JobContext) -> dict[str, str]:
    """What somebody who helps asks first; the home folder's name is left out of paths."""
    place = environment.folder()
    own = sorted(path.name for path in environment.models_folder().glob("*.onnx"))
    devices = [name.removesuffix("ExecutionProvider")
               for name in onnxruntime.get_available_providers() if not name.startswith("Azure")]
    free = shutil.disk_usage(place if place.exists() else Path.home()).free
    return {
        "Earthprint": _own_version(),
        "System": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Python of the engine": platform.python_version(),
        "Processors": f"{context.threads} of {os.cpu_count()}",
        "Memory": _memory(),
        "Memory budget": f"{context.memory_mb} MB",
        "Devices": ", ".join(devices),
        "Packages": ", ".join(filter(None, map(_package, _PACKAGES))),
        "Environment": f"{_without_home(place)} ({free / 1e9:.0f} GB free)",
        "Set-up": environment.problem() or "in order",
        "Models of your own": ", ".join(own) or "none",
    }


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return ""


def _own_version() -> str:
    lines = (environment.ROOT / "metadata.txt").read_text(encoding="utf-8").splitlines()
    return next(line.split("=", 1)[1].strip() for line in lines if line.startswith("version="))


def _memory() -> str:
    """All of the computer's, where the system tells."""
    total = computer_memory()
    return f"{total / 1e9:.0f} GB" if total else "not told by the system"


def _without_home(path: Path) -> str:
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except ValueError:
        return str(path)


def _report(path: Path, facts: dict[str, str], rows: Sequence[tuple[str, str]],
            failures: Sequence[str]) -> None:
    """The page: tables to look at, and the same as text to copy."""
    text = "\n".join(f"{name}: {said}" for name, said in (*facts.items(), *rows))

    def shown(head: tuple[str, str], lines: Sequence[tuple[str, str]]) -> str:
        return table(head, [(escape(a), escape(b)) for a, b in lines])

    good = sum(said.startswith("works") for _, said in rows)
    tiles = ((f"{good}", "tests passed"), (f"{len(failures)}", "failed"))
    Report("Self-test", tiles, tuple(failures), (
        Section("What was tried", shown(("Part", "Result"), rows)),
        Section("This computer", shown(("What", "Found"), list(facts.items()))),
        Section("To copy into the report of a bug",
                f"<p>The same as plain text. It names no files of yours but models.</p>"
                f"<pre>{escape(text)}</pre>")), date.today()).write(path)
