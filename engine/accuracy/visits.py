"""The points to visit: a layer with a form, which does not tell what the map says there.

An interpreter who knows the mapped class tends to confirm it, so the columns that tell it are
hidden, the points are in random order, and all of them look alike until they are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import shapely

from ..rasters.grid import Grid
from ..rasters.point_style import add_options, add_symbols, save_style
from ..rasters.vector import VectorFile
from .classmap import MapClass

REFERENCE = "reference"
"""Column for the true class, empty until a point is visited."""

SIZE = "stratum_px"
"""Column with the number of pixels of the stratum that a point was drawn in."""

_TELLING = ("stratum", "class", "inclusion", SIZE)  # what gives the mapped class away
_TITLES = {"fid": "Feature", "id": "Point", REFERENCE: "True class", "stratum": "Mapped value",
           "class": "Mapped class", "inclusion": "Probability of being drawn",
           SIZE: "Pixels of the stratum"}  # "fid" is GeoPackage's own number


def write_visits(file: VectorFile, grid: Grid, rows: np.ndarray, cols: np.ndarray,
                 stratum: np.ndarray, classes: Sequence[MapClass], seed: int) -> None:
    """Write the points of a sample in random order.

    Args:
        file: where to.
        grid: of the map.
        rows, cols: (n,) drawn pixels; a point lies in the centre of each.
        stratum: (n,) index into `classes`.
        classes: the map's, one a stratum.
        seed: of the order.
    """
    order = np.random.default_rng([seed, 1]).permutation(len(rows))
    rows, cols, stratum = rows[order], cols[order], stratum[order]
    x, y = grid.affine @ (cols + 0.5, rows + 0.5)
    drawn = np.bincount(stratum, minlength=len(classes))
    pixels = np.array([c.pixels for c in classes], np.int64)
    file.write(shapely.points(x, y), "Point", {
        "id": np.arange(1, len(rows) + 1),
        REFERENCE: np.full(len(rows), None, object),
        "stratum": np.array([c.value for c in classes])[stratum],
        "class": np.array([c.name for c in classes], object)[stratum],
        "inclusion": (drawn / pixels)[stratum],
        SIZE: pixels[stratum]}, grid.crs_wkt)


def write_style(path: Path, classes: Sequence[MapClass], *, blind: bool) -> None:
    """Write the QGIS style (`.qml`) beside a layer of points: symbols, form, columns.

    Args:
        path: of the points.
        classes: offered as answers.
        blind: whether to hide what tells the mapped class.
    """
    hidden = ("fid", *_TELLING) if blind else ("fid",)
    root = Element("qgis", version="3.22.0",
                   styleCategories="Symbology|Fields|Forms|AttributeTable")
    add_symbols(root, REFERENCE, "to visit", "visited")
    fields = SubElement(root, "fieldConfiguration")
    aliases, editable = SubElement(root, "aliases"), Element("editable")
    table = SubElement(SubElement(root, "attributetableconfig"), "columns")
    for index, (name, title) in enumerate(_TITLES.items()):
        kind = "ValueMap" if name == REFERENCE else "Hidden" if name in hidden else "TextEdit"
        widget = SubElement(SubElement(fields, "field", name=name), "editWidget", type=kind)
        config = add_options(SubElement(widget, "config"))
        if name == REFERENCE:
            answers = SubElement(config, "Option", name="map", type="List")
            for c in classes:
                add_options(answers, **{c.name: c.name})
        SubElement(aliases, "alias", field=name, index=str(index), name=title)
        SubElement(table, "column", type="field", name=name, hidden=str(int(name in hidden)))
        SubElement(editable, "field", name=name, editable=str(int(name == REFERENCE)))
    root.append(editable)
    save_style(path, root)
