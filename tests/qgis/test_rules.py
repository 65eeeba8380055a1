"""Who may import whom, which Python and which Qt the code in QGIS's process may use."""

from __future__ import annotations

import ast
import enum
import sys
from pathlib import Path

import pytest
import qgis.core
import qgis.gui
from qgis.PyQt import QtCore, QtGui, QtWidgets

ROOT = Path(__file__).resolve().parent.parent.parent
INSIDE = [
    ROOT / "__init__.py",
    *sorted((ROOT / "plugin").rglob("*.py")),
    *sorted((ROOT / "processing_provider").rglob("*.py")),
]
BORDER = [ROOT / "engine" / name for name in ("client.py", "protocol.py", "environment.py")]
OUTSIDE = [
    path
    for room in ("engine", "models")
    for path in sorted((ROOT / room).rglob("*.py"))
]
HEAVY = {
    "torch", "onnxruntime", "onnx", "rasterio", "sklearn", "scipy", "numpy", "numba", "pystac",
    "pyogrio", "netCDF4", "skl2onnx", "osgeo", "pandas", "matplotlib", "PyQt5", "PyQt6",
}


def imports(path: Path) -> list[tuple[int, str]]:
    """(level of a relative import, dotted name) of each import in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.level, f"{node.module or ''}.{alias.name}") for alias in node.names]
    return found


def relative(paths):
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


@pytest.mark.parametrize("path", relative(INSIDE))
def test_nothing_heavy_in_qgis(path):
    tops = {name.split(".")[0] for level, name in imports(path) if level == 0}
    assert not tops & HEAVY
    assert tops <= set(sys.stdlib_module_names) | {"qgis"}


@pytest.mark.parametrize("path", relative(INSIDE))
def test_only_the_border_is_imported(path):
    depth = len(path.relative_to(ROOT).parts)
    for level, name in imports(path):
        if level == depth and name.split(".")[0] in ("engine", "models"):
            assert name.split(".")[:2] in (["engine", "environment"], ["engine", "client"]), name


def test_the_provider_does_not_know_the_plugin():
    for path in sorted((ROOT / "processing_provider").rglob("*.py")):
        depth = len(path.relative_to(ROOT).parts)
        for level, name in imports(path):
            assert not (level == depth and name.startswith("plugin")), path


@pytest.mark.parametrize("path", relative(BORDER))
def test_the_border_is_standard_library(path):
    for level, name in imports(path):
        if level == 0:
            assert name.split(".")[0] in sys.stdlib_module_names
        else:
            assert level == 1 and name.lstrip(".").split(".")[0] in (
                "environment", "protocol", "client",
            )


@pytest.mark.parametrize("room", ["engine", "models"])
def test_engine_and_models_do_not_know_qgis(room):
    for path in OUTSIDE:
        if path.relative_to(ROOT).parts[0] == room:
            tops = {name.split(".")[0] for level, name in imports(path) if level == 0}
            assert not tops & {"qgis", "PyQt5", "PyQt6", "processing"}, path


@pytest.mark.parametrize("path", relative([*INSIDE, *BORDER]))
def test_python_3_9_reads_it(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.parametrize("path", relative(INSIDE))
def test_enums_are_scoped(path):
    """`Qt.ItemFlag.X`, never `Qt.X`: QGIS 4 has only the long form."""
    rooms = (qgis.core, qgis.gui, QtCore, QtGui, QtWidgets)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = node.value.id
            kind = next((getattr(room, name) for room in rooms if hasattr(room, name)), None)
            value = getattr(kind, node.attr, None)
            member = isinstance(value, enum.Enum) or (
                isinstance(value, int) and type(value) not in (int, bool)
            )
            assert not member, f"{name}.{node.attr} in line {node.lineno}"


def test_dark_icons_are_the_light_ones_in_other_colours():
    light = sorted((ROOT / "resources" / "icons" / "light").glob("*.svg"))
    assert light
    for path in light:
        text = path.read_text(encoding="utf-8")
        dark = text.replace("#5B6770", "#D5DBE0").replace("#007F99", "#35C9E0")
        assert (path.parent.parent / "dark" / path.name).read_text(encoding="utf-8") == dark
