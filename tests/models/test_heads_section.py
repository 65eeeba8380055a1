import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture
def heads(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    module = importlib.import_module("heads")
    page = tmp_path / "evaluation.md"
    page.write_text("before\n\n<!-- heads: begin -->\nYESTERDAY\n<!-- heads: end -->\nafter\n",
                    "utf-8")
    monkeypatch.setattr(module, "PAGE", page)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "kept")
    made = []
    for name in module.PARTS:
        part = type("Part", (), {"lines": staticmethod(
            lambda name=name: made.append(name) or iter(["| a |", f"| {name} |"]))})
        monkeypatch.setitem(module.PARTS, name, part)
    return module, page, made


def test_the_section_of_heads_is_written_between_its_marks(heads, monkeypatch):
    module, page, made = heads
    monkeypatch.setattr(sys, "argv", ["heads.py", "--write"])
    module.main()
    text = page.read_text("utf-8")
    assert text.startswith("before\n\n<!-- heads: begin -->\n## Heads")
    assert text.endswith("<!-- heads: end -->\nafter\n") and "YESTERDAY" not in text
    assert all(f"| a |\n| {name} |" in text for name in module.PARTS)
    assert made == list(module.PARTS) and not list(module.FOLDER.iterdir())


def test_a_killed_run_goes_on_with_the_tables_that_it_has(heads, monkeypatch):
    module, page, made = heads
    monkeypatch.setattr(sys, "argv", ["heads.py", "--write"])
    last = module.PARTS["suggestions"]

    class Killed:
        @staticmethod
        def lines():
            yield "| a |"
            raise KeyboardInterrupt

    monkeypatch.setitem(module.PARTS, "suggestions", Killed)
    with pytest.raises(KeyboardInterrupt):
        module.main()
    assert "YESTERDAY" in page.read_text("utf-8")
    monkeypatch.setitem(module.PARTS, "suggestions", last)
    module.main()
    assert made == ["kinds", "speed", "numbers", "suggestions"]
