"""QGIS styles (`.qml`) of points to be filled in by a person: symbols, options, the file."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

_DONE, _OPEN = ("circle", "0,114,178,255"), ("square", "240,228,66,255")  # #0072b2, #f0e442


def add_symbols(root: Element, field: str, to_do: str, done: str) -> None:
    """Points whose field is filled in are circles, the others squares; shape first, then colour.

    Args:
        root: of the style.
        field: that is empty until a point is done.
        to_do, done: names of the two kinds.
    """
    renderer = SubElement(root, "renderer-v2", type="RuleRenderer", symbollevels="0")
    rules = SubElement(renderer, "rules", key="root")
    symbols = SubElement(renderer, "symbols")
    name = field.replace('"', '""')
    empty = f"coalesce(trim(to_string(\"{name}\")), '') = ''"
    for key, label, rule, (shape, color) in (("0", to_do, empty, _OPEN),
                                             ("1", done, f"NOT ({empty})", _DONE)):
        SubElement(rules, "rule", key=label, symbol=key, label=label, filter=rule)
        symbol = SubElement(symbols, "symbol", type="marker", name=key, alpha="1")
        add_options(SubElement(symbol, "layer", {"class": "SimpleMarker", "enabled": "1"}),
                    name=shape, color=color, outline_color="0,0,0,255", outline_width="0.3",
                    size="3.2")


def add_options(parent: Element, **values: str) -> Element:
    """A map of options as QGIS writes it."""
    options = SubElement(parent, "Option", type="Map")
    for name, value in values.items():
        SubElement(options, "Option", name=name, value=value, type="QString")
    return options


def save_style(path: Path, root: Element) -> None:
    """Finish a style of points and write it beside them."""
    SubElement(root, "previewExpression").text = "\"id\""
    SubElement(root, "layerGeometryType").text = "0"
    Path(path).with_suffix(".qml").write_text(
        '<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n'
        + tostring(root, encoding="unicode") + "\n", encoding="utf-8")
