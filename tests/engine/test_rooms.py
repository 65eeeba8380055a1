"""The house: which room may import which. `docs/architecture.md` draws it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

#: Room of the engine to the rooms that it may import; the engine's own modules are "core".
BELOW = {
    "main": {"core"},
    "core": {"core", "models"},
    "tasks": {"core", "tasks", "reports", "accuracy", "heads", "change", "flood", "encoding",
              "imports", "stacks", "rasters", "search", "simulation", "models"},
    "accuracy": {"core", "accuracy", "rasters"},
    "reports": {"core", "accuracy", "reports", "heads", "change", "flood", "stacks", "rasters",
                "models"},
    "change": {"core", "change", "heads", "encoding", "stacks", "rasters", "models"},
    "flood": {"core", "flood", "stacks", "rasters", "models"},
    "heads": {"core", "heads", "encoding", "stacks", "rasters", "models"},
    "search": {"core", "search", "rasters"},
    "encoding": {"core", "encoding", "stacks", "rasters", "models"},
    "simulation": {"core", "simulation", "rasters"},
    "imports": {"core", "imports", "rasters"},
    "stacks": {"core", "stacks", "rasters", "models"},
    "rasters": {"core", "rasters"},
}


def imports(path):
    """Absolute dotted names below `earthprint` that a file imports."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = (*base, *(node.module.split(".") if node.module else ()))
            yield from ((*target, alias.name) for alias in node.names)


def room(parts):
    if parts[0] != "engine":
        return parts[0]
    if parts[1:] == ("__main__.py",):
        return "main"
    return parts[1] if len(parts) > 1 and (ROOT / "engine" / parts[1]).is_dir() else "core"


@pytest.mark.parametrize("path", sorted((ROOT / "engine").rglob("*.py")),
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_the_engine_imports_downwards(path):
    here = room(path.relative_to(ROOT).parts)
    for parts in imports(path):
        assert room(parts) in BELOW[here], f"{here} imports {'.'.join(parts)}"


@pytest.mark.parametrize("path", sorted((ROOT / "models").rglob("*.py")),
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_models_know_nothing_of_the_engine(path):
    assert all(parts[0] == "models" for parts in imports(path))


def test_adapters_need_no_torch():
    for path in (ROOT / "models").glob("*/adapter.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            assert not any(name.split(".")[0] == "torch" for name in names), path
