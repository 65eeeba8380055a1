"""The layer of suggested places: points with an empty class, and a form that offers the classes."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import shapely

from ..errors import UserError
from ..rasters.grid import Grid
from ..rasters.legend import Legend
from ..rasters.point_style import add_options, add_symbols, save_style
from ..rasters.vector import VectorFile
from .suggestions import uncertainty

_COLUMNS = {"fid": "Feature", "id": "Place", "predicted": "Mapped as", "uncertainty": "Uncertainty",
            "why": "Why here"}  # "fid" is GeoPackage's own number


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
    add_symbols(root, field, "to label", "labelled")
    fields, aliases = SubElement(root, "fieldConfiguration"), SubElement(root, "aliases")
    editable = Element("editable")
    titles = dict(list(_COLUMNS.items())[:2]) | {field: "Class"} | dict(list(_COLUMNS.items())[2:])
    for index, (name, title) in enumerate(titles.items()):
        kind = "ValueMap" if name == field else "Hidden" if name == "fid" else "TextEdit"
        widget = SubElement(SubElement(fields, "field", name=name), "editWidget", type=kind)
        config = add_options(SubElement(widget, "config"))
        if name == field:
            answers = SubElement(config, "Option", name="map", type="List")
            for c in legend.classes:
                add_options(answers, **{c.name: str(c.value) if numeric else c.name})
        SubElement(aliases, "alias", field=name, index=str(index), name=title)
        SubElement(editable, "field", name=name, editable=str(int(name == field)))
    root.append(editable)
    save_style(path, root)
