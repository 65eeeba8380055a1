"""The layer of suggested places: points with an empty class, and a form that offers the classes."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
import shapely

from ..errors import UserError
from ..rasters.grid import Grid
from ..rasters.legend import Legend
from ..rasters.vector import VectorFile
from .suggestions import uncertainty

_COLUMNS = {"fid": "Feature", "id": "Place", "predicted": "Mapped as", "uncertainty": "Uncertainty",
            "why": "Why here"}  # "fid" is GeoPackage's own number
_DONE, _OPEN = ("circle", "0,114,178,255"), ("square", "240,228,66,255")  # #0072b2, #f0e442


def check_field(field: str) -> str:
    """The name of the class field, unless a column of ours has it."""
    if field.lower() in _COLUMNS:
        raise UserError(f"The class field cannot be called {field}, which is a column of the "
                        "suggested places. Rename it.")
    return field


def write_suggestions(file: VectorFile, grid: Grid, rows: np.ndarray, cols: np.ndarray,
                      probabilities: np.ndarray, legend: Legend, field: str, numeric: bool
                      ) -> None:
    """Write suggested places in their order.

    Args:
        file: where to.
        grid: of the pixels.
        rows, cols: (n,) pixels; a point lies in the centre of each.
        probabilities: (n, c) of the head.
        legend: its classes.
        field: name of the class field, left empty.
        numeric: whether the field holds the classes' numbers instead of their names.
    """
    x, y = grid.affine @ (cols + 0.5, rows + 0.5)
    order = np.argsort(-probabilities, axis=1)
    names = np.array(legend.names, object)
    why = [f"{names[a]} {100 * p[a]:.0f} %, {names[b]} {100 * p[b]:.0f} %"
           for (a, b), p in zip(order[:, :2], probabilities, strict=True)]
    empty = (np.full(len(rows), np.nan) if numeric else np.full(len(rows), None, object))
    file.write(shapely.points(x, y), "Point", {
        "id": np.arange(1, len(rows) + 1), field: empty, "predicted": names[order[:, 0]],
        "uncertainty": np.round(uncertainty(probabilities).astype(np.float64), 3),
        "why": np.array(why, object)}, grid.crs_wkt)


def write_form(path: Path, legend: Legend, field: str, numeric: bool) -> None:
    """Write the QGIS style (`.qml`) beside the points: symbols, and a form with the classes."""
    root = Element("qgis", version="3.22.0",
                   styleCategories="Symbology|Fields|Forms|AttributeTable")
    _renderer(root, field)
    fields, aliases = SubElement(root, "fieldConfiguration"), SubElement(root, "aliases")
    editable = Element("editable")
    titles = dict(list(_COLUMNS.items())[:2]) | {field: "Class"} | dict(list(_COLUMNS.items())[2:])
    for index, (name, title) in enumerate(titles.items()):
        kind = "ValueMap" if name == field else "Hidden" if name == "fid" else "TextEdit"
        widget = SubElement(SubElement(fields, "field", name=name), "editWidget", type=kind)
        config = _options(SubElement(widget, "config"))
        if name == field:
            answers = SubElement(config, "Option", name="map", type="List")
            for c in legend.classes:
                _options(answers, **{c.name: str(c.value) if numeric else c.name})
        SubElement(aliases, "alias", field=name, index=str(index), name=title)
        SubElement(editable, "field", name=name, editable=str(int(name == field)))
    root.append(editable)
    SubElement(root, "previewExpression").text = "\"id\""
    SubElement(root, "layerGeometryType").text = "0"
    Path(path).with_suffix(".qml").write_text(
        '<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n'
        + tostring(root, encoding="unicode") + "\n", encoding="utf-8")


def _renderer(root: Element, field: str) -> None:
    """Labelled places are circles, the others squares; shape first, then colour."""
    renderer = SubElement(root, "renderer-v2", type="RuleRenderer", symbollevels="0")
    rules = SubElement(renderer, "rules", key="root")
    symbols = SubElement(renderer, "symbols")
    name = field.replace('"', '""')
    empty = f"coalesce(trim(to_string(\"{name}\")), '') = ''"
    for key, label, rule, (shape, color) in (("0", "to label", empty, _OPEN),
                                             ("1", "labelled", f"NOT ({empty})", _DONE)):
        SubElement(rules, "rule", key=label, symbol=key, label=label, filter=rule)
        symbol = SubElement(symbols, "symbol", type="marker", name=key, alpha="1")
        _options(SubElement(symbol, "layer", {"class": "SimpleMarker", "enabled": "1"}),
                 name=shape, color=color, outline_color="0,0,0,255", outline_width="0.3",
                 size="3.2")


def _options(parent: Element, **values: str) -> Element:
    """A map of options as QGIS writes it."""
    options = SubElement(parent, "Option", type="Map")
    for name, value in values.items():
        SubElement(options, "Option", name=name, value=value, type="QString")
    return options
