"""A class of a map that hides nothing: what lies below it shows."""

from __future__ import annotations

from pathlib import Path

from .legend import LegendClass


def see_through(path: Path, entry: LegendClass) -> None:
    """Make a class transparent in the style beside a map; a map without it stays as it is."""
    style = Path(path).with_suffix(".qml")
    opaque = f'value="{entry.value}" color="{entry.color}" alpha="255"'
    text = style.read_text(encoding="utf-8")
    style.write_text(text.replace(opaque, opaque.replace('alpha="255"', 'alpha="0"')),
                     encoding="utf-8")
