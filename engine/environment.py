"""Where the engine's own Python lives, whether it is in order, and how it is made.

Standard library only, Python 3.9. Also a command: ``python3 environment.py [FOLDER]`` makes or
mends the environment in FOLDER, which is what `./run` does.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess  # nosec B404
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = ROOT / "engine" / "launch.py"
REQUIREMENTS = ROOT / "requirements" / "engine.txt"
IMPORT_REQUIREMENTS = ROOT / "requirements" / "import.txt"
STAMP = "earthprint.stamp"
IMPORT_STAMP = "earthprint-import.stamp"
#: What the extra takes on Linux: a wheel of PyTorch and what it needs.
IMPORT_DOWNLOAD_MB, IMPORT_DISK_MB = 210, 870
#: Interpreters that the pinned wheels exist for.
VERSIONS = ("3.11", "3.12", "3.13")

NOT_SET_UP = "The engine is not set up. Choose Plugins > Earthprint > Set Up Environment…"

#: Variables of QGIS's launchers that would lead another Python astray.
_FOREIGN = ("VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "GDAL_DATA", "GDAL_DRIVER_PATH",
            "GDAL_PAM_PROXY_DIR", "PROJ_DATA", "PROJ_LIB", "LD_LIBRARY_PATH", "LD_PRELOAD")
_FOREIGN_STARTS = ("PYTHON", "QGIS_", "QT_", "DYLD_")


class SetUpError(Exception):
    """The environment could not be made. The message is one sentence for the user."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


class SetUpCancelled(Exception):
    """The user stopped the set-up; finished downloads are kept by pip's cache."""


def clean_variables() -> dict[str, str]:
    """A copy of the process's environment variables that is safe for the engine."""
    kept = {name: value for name, value in os.environ.items()
            if name not in _FOREIGN and not name.startswith(_FOREIGN_STARTS)}
    kept["PYTHONUTF8"] = "1"
    kept["NUMBA_CACHE_DIR"] = str(_cache_folder() / "numba")
    kept["EARTHPRINT_MODELS"] = str(models_folder())
    return kept


def _cache_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "Earthprint" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "Earthprint"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "earthprint"


def folder() -> Path:
    """Where the environment is, or will be made.

    ``EARTHPRINT_ENV`` wins; a checkout keeps it in ``.venv/engine``; an installed plugin keeps it
    in the user's data folder, where updates of the plugin don't touch it.
    """
    if os.environ.get("EARTHPRINT_ENV"):
        return Path(os.environ["EARTHPRINT_ENV"]) / "engine"
    if (ROOT / ".venv" / "engine").is_dir() or (ROOT / ".git").exists():
        return ROOT / ".venv" / "engine"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "Earthprint" / "engine"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Earthprint" / "engine"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "earthprint" / "engine"


def models_folder() -> Path:
    """Where the user's own encoders and heads are kept; it may not exist yet."""
    if os.environ.get("EARTHPRINT_MODELS"):
        return Path(os.environ["EARTHPRINT_MODELS"])
    return folder().parent / "models"


def _python_in(place: Path) -> Path:
    return place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def fingerprint(requirements: Path = REQUIREMENTS) -> str:
    """What the environment must have been made from to be current."""
    return hashlib.sha256(requirements.read_bytes()).hexdigest()


def can_import() -> bool:
    """Whether the extra that imports official weights is there and current."""
    stamp = folder() / IMPORT_STAMP
    return stamp.exists() and stamp.read_text("utf-8").strip() == fingerprint(IMPORT_REQUIREMENTS)


def find_python() -> Path | None:
    """The engine's interpreter; None when the environment was never made."""
    python = _python_in(folder())
    return python if python.exists() else None


def problem() -> str | None:
    """None when the engine can be started, else one sentence that says why not."""
    python = find_python()
    if python is None:
        return NOT_SET_UP
    stamp = folder() / STAMP
    if not stamp.exists():
        return (f"The set-up of the engine in {folder()} was not finished. Choose Plugins > "
                "Earthprint > Set Up Environment… > Repair.")
    if stamp.read_text(encoding="utf-8").strip() != fingerprint():
        return (f"The engine in {folder()} belongs to another version of Earthprint. Choose "
                "Plugins > Earthprint > Set Up Environment… > Repair.")
    return None


def _candidates() -> Iterator[str | None]:
    """Interpreters to make the environment from, best first."""
    yield os.environ.get("EARTHPRINT_BASE_PYTHON")
    if sys.platform == "win32":
        yield str(Path(sys.base_prefix) / "python.exe")
    else:
        yield "/usr/bin/python3"
        yield str(Path(sys.base_prefix) / "bin" / "python3")
    for version in reversed(VERSIONS):
        yield shutil.which("python" + version)
    yield shutil.which("python3")


def base_python() -> str:
    """An interpreter of a supported version that can make environments.

    Raises:
        SetUpError: when the machine has none.
    """
    probe = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for candidate in _candidates():
        if not candidate or not Path(candidate).exists():
            continue
        answer = subprocess.run(  # nosec B603
            [candidate, "-I", "-c", probe], capture_output=True, text=True, check=False,
            env=clean_variables())
        if answer.stdout.strip() in VERSIONS:
            return candidate
    raise SetUpError(
        f"No Python {VERSIONS[0]} to {VERSIONS[-1]} with venv was found. Install one (on Debian: "
        "apt install python3-venv) and try again.")


def create(
    on_progress: Callable[[float, str], None] | None = None,
    on_log: Callable[[str], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    with_import: bool = False,
) -> None:
    """Make the environment in `folder()`, or mend it; does nothing when it is in order.

    Args:
        on_progress: called with (fraction 0..1, text).
        on_log: called with each line of pip's output.
        is_cancelled: asked whether to stop.
        with_import: also install what imports official weights (PyTorch).

    Raises:
        SetUpError: with one sentence for the user and pip's last lines as details.
        SetUpCancelled: after `is_cancelled` said so.
    """
    say = on_progress or (lambda fraction, text: None)
    extra = with_import and not can_import()
    base = problem() is not None
    share = 0.6 if base and extra else float(base)
    if base:
        _create_base(lambda fraction, text: say(share * fraction, text), on_log, is_cancelled)
    if extra:
        say(share, f"Installing PyTorch (about {IMPORT_DOWNLOAD_MB} MB to download)")
        _install(IMPORT_REQUIREMENTS, lambda done, text: say(share + (1 - share) * done, text),
                 on_log, is_cancelled)
        stamp = folder() / IMPORT_STAMP
        stamp.write_text(fingerprint(IMPORT_REQUIREMENTS), encoding="utf-8")
    if base or extra:
        say(1.0, "The engine is ready.")


def remove() -> float:
    """Take the environment away; models and demo stay. Does nothing where there is none.

    Returns:
        What that freed on the disk, MB (10^6 bytes).

    Raises:
        SetUpError: the folder is no environment of Python, or a file in it is in use.
    """
    place = folder()
    if not place.exists():
        return 0.0
    if not (place / "pyvenv.cfg").is_file():
        raise SetUpError(f"{place} holds no Python environment and was left alone.")
    going = place.with_name(f".{place.name}.removed")
    try:
        if going.exists():  # of a removal that was cut short
            shutil.rmtree(going)
        place.rename(going)  # whole or not at all: half an environment would be worse than one
        freed = sum(file.lstat().st_size for file in going.rglob("*") if file.is_file())
        shutil.rmtree(going)
    except OSError as failure:
        raise SetUpError(f"The environment in {place} cannot be removed ({failure.strerror}). "
                         "Close other QGIS windows and try again.", str(failure)) from failure
    return freed / 1e6


def _create_base(say: Callable[[float, str], None], on_log: Callable[[str], None] | None,
                 is_cancelled: Callable[[], bool] | None) -> None:
    """The environment without extras."""
    place = folder()
    stamp = place / STAMP
    if stamp.exists():
        stamp.unlink()
    say(0.0, f"Making a Python environment in {place}")
    if not _python_in(place).exists():
        _command([base_python(), "-I", "-m", "venv", str(place)], on_log, is_cancelled)
    say(0.05, "Installing packages (about 300 MB to download, 1 GB on disk)")
    _install(REQUIREMENTS, lambda done, text: say(0.05 + 0.85 * done, text), on_log, is_cancelled)
    say(0.9, "Testing the engine")
    _command([str(_python_in(place)), "-I", str(LAUNCHER), "selftest"], on_log, is_cancelled)
    stamp.write_text(fingerprint(), encoding="utf-8")


def _install(requirements: Path, say: Callable[[float, str], None],
             on_log: Callable[[str], None] | None, is_cancelled: Callable[[], bool] | None) -> None:
    """Let pip install a file of requirements."""
    wanted = sum(1 for line in requirements.read_text(encoding="utf-8").splitlines()
                 if line and not line.startswith(("#", "-")))
    seen = []

    def follow(line: str) -> None:
        if line.startswith("Collecting "):
            seen.append(line)
            say(min(0.7 * len(seen) / (3.0 * wanted), 0.7), line)
        elif line.startswith("Installing collected"):
            say(0.75, "Unpacking packages")
        if on_log is not None:
            on_log(line)

    _command([str(_python_in(folder())), "-m", "pip", "install", "--disable-pip-version-check",
              "--only-binary=:all:", "--progress-bar=off", "-r", str(requirements)],
             follow, is_cancelled)


def _command(words: list[str], on_line: Callable[[str], None] | None,
             is_cancelled: Callable[[], bool] | None) -> None:
    """Run a command, hand over its lines, stop it when asked."""
    variables = clean_variables()
    for name in ("PIP_FIND_LINKS", "PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        if name in os.environ:
            variables[name] = os.environ[name]
    process = subprocess.Popen(  # nosec B603
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
        errors="replace", env=variables)
    stopped = threading.Event()

    def watch() -> None:
        while process.poll() is None:
            if is_cancelled is not None and is_cancelled():
                stopped.set()
                process.kill()
            threading.Event().wait(0.2)

    threading.Thread(target=watch, daemon=True).start()
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if on_line is not None:
            on_line(line.rstrip())
    process.wait()
    process.stdout.close()
    if stopped.is_set():
        raise SetUpCancelled
    if process.returncode:
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        raise SetUpError("The set-up stopped: {} Check the connection and the free space in {}, "
                         "then choose Repair.".format(last.rstrip(".") + ".", folder()),
                         "\n".join(lines[-50:]))


def _main() -> int:
    """Make the environment, with one line a step on the terminal."""
    if len(sys.argv) > 1:
        os.environ["EARTHPRINT_ENV"] = str(Path(sys.argv[1]).resolve())
    last = [None]

    def say(fraction: float, text: str) -> None:
        if not text.startswith("Collecting") and text != last[0]:
            sys.stdout.write(f"  {text}\n")
            sys.stdout.flush()
            last[0] = text

    try:
        create(on_progress=say)
    except SetUpError as failure:
        sys.stderr.write(f"{failure}\n{failure.details}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
