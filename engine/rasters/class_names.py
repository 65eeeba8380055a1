"""Names and colours that a class raster brings with it, whoever made it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyogrio

LOG = logging.getLogger(__name__)

Names = dict[int, tuple[str, str]]
"""Class value to (name, colour); the colour is "" where the file tells none."""

_VALUE, _MINIMUM, _NAME, _RGB = 5, 3, 2, (6, 7, 8)  # GDAL's usages of columns
_NAMELIKE = ("name", "class", "label", "desc", "cover", "category")


def names_of(path: Path, band: int = 1) -> Names:
    """Names of the classes of a raster, empty where it brings none.

    In this order: the attribute table and the category names in GDAL's ``.aux.xml``, the value
    table of ArcGIS (``.vat.dbf``), the legend of a QGIS style (``.qml``) beside it. The last two
    tell nothing of which band they mean and are taken for the first.
    """
    path = Path(path)
    root = _parsed(Path(f"{path}.aux.xml"))
    readers = [] if root is None else [_attribute_table(root, band), _categories(root, band)]
    if band == 1:
        readers.append(_value_table(Path(f"{path}.vat.dbf")))
        style = _parsed(path.with_suffix(".qml"))
        readers += [] if style is None else [_palette(style)]
    for reader in readers:
        names = {value: (name, color) for value, name, color in reader if name}
        if names:
            return _distinct(names)
    return {}


def _parsed(file: Path) -> ElementTree.Element | None:
    if not file.is_file():
        return None
    try:
        return ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError) as failure:
        LOG.info("%s was not read: %s", file, failure)  # a legend is a help, not a must
        return None


def _of_band(root: ElementTree.Element, band: int) -> ElementTree.Element | None:
    return next((b for b in root.iter("PAMRasterBand") if b.get("band", "1") == str(band)), None)


def _attribute_table(root: ElementTree.Element, band: int) -> Iterator[tuple[int, str, str]]:
    element = _of_band(root, band)
    table = element.find("GDALRasterAttributeTable") if element is not None else None
    if table is None:
        return
    usage = [int(field.findtext("Usage", "0")) for field in table.findall("FieldDefn")]
    value = next((usage.index(u) for u in (_VALUE, _MINIMUM) if u in usage), None)
    if value is None or _NAME not in usage:
        return
    for row in table.findall("Row"):
        cells = [cell.text or "" for cell in row.findall("F")]
        color = ""
        if all(u in usage for u in _RGB):
            color = "#{:02x}{:02x}{:02x}".format(
                *(int(float(cells[usage.index(u)] or 0)) & 255 for u in _RGB))
        yield int(float(cells[value])), cells[usage.index(_NAME)].strip(), color


def _categories(root: ElementTree.Element, band: int) -> Iterator[tuple[int, str, str]]:
    element = _of_band(root, band)
    names = element.find("CategoryNames") if element is not None else None
    for value, name in enumerate(names if names is not None else ()):
        yield value, (name.text or "").strip(), ""


def _value_table(file: Path) -> Iterator[tuple[int, str, str]]:
    if not file.is_file():
        return
    try:
        meta, _, _, columns = pyogrio.raw.read(file, read_geometry=False)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError) as failure:
        LOG.info("%s was not read: %s", file, failure)
        return
    fields = {str(name).casefold(): column
              for name, column in zip(meta["fields"], columns, strict=True)}
    texts = [name for name, column in fields.items() if column.dtype.kind == "O"]
    texts.sort(key=lambda name: not any(word in name for word in _NAMELIKE))
    values = fields.get("value")
    if values is None or values.dtype.kind not in "iuf" or not texts:
        return
    for value, name in zip(values, fields[texts[0]], strict=True):
        if np.isfinite(value):
            yield int(value), str(name or "").strip(), ""


def _palette(root: ElementTree.Element) -> Iterator[tuple[int, str, str]]:
    for entry in root.iter("paletteEntry"):
        value = entry.get("value", "")
        if value.lstrip("-").replace(".", "", 1).isdigit() and float(value).is_integer():
            yield int(float(value)), entry.get("label", "").strip(), entry.get("color", "").lower()


def _distinct(names: Names) -> Names:
    """Two classes of one name get their value behind it, so that a name tells the class."""
    plain = [name.casefold() for name, _ in names.values()]
    return {value: (f"{name} ({value})" if plain.count(name.casefold()) > 1 else name, color)
            for value, (name, color) in names.items()}
