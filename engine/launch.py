"""Start the engine: ``python -I launch.py serve``.

Registers the folder above as the package `earthprint`, whatever the folder is called, so that
neither its neighbours (QGIS keeps all plugins in one folder) nor PYTHONPATH can shadow a module.
"""

import importlib.util
import runpy
import sys
from pathlib import Path


def register(root: Path) -> None:
    """Make `root` importable as the package `earthprint`."""
    spec = importlib.util.spec_from_file_location(
        "earthprint", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["earthprint"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != here]
    register(here.parent)
    runpy.run_module("earthprint.engine", run_name="__main__", alter_sys=True)
