"""The map of the next round in the project, and what its labels brought."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt import sip

from ...processing_provider import styling
from ...processing_provider.provenance import Provenance
from ...processing_provider.translation import tr


def add(
    project: QgsProject, old: QgsRasterLayer, made: Provenance, season: Sequence[str]
) -> QgsRasterLayer | None:
    """Show a new map above the old one, which is switched off.

    Args:
        project: whose layers both are.
        old: the former map; it may be gone.
        made: how the new one was made.
        season: first and last ISO day, or nothing.

    Returns:
        The layer; None where the file cannot be shown.
    """
    gone = sip.isdeleted(old)
    found = re.fullmatch(r"(.*?)(?: \((\d+)\))?", tr("Map") if gone else old.name())
    name, number = found.group(1), int(found.group(2) or 1) + 1
    path = made.params["output"]
    layer = QgsRasterLayer(path, f"{name} ({number})", "gdal")
    if not layer.isValid():
        return None
    styling.dress(layer, path, styling.Style(styling.CLASSES, name, "map"))
    styling.set_season(layer, season)
    made.write(layer)
    project.addMapLayer(layer, False)
    root = project.layerTreeRoot()
    node = None if gone else root.findLayer(old.id())
    if node is None:
        root.insertLayer(0, layer)
    else:
        parent = node.parent()
        parent.insertLayer(parent.children().index(node), layer)
        node.setItemVisibilityChecked(False)
        node.setExpanded(False)
    return layer


def change(before: float | None, after: float | None, count: int) -> str:
    """What the labels brought, in figures that are to be compared with care."""
    if after is None:
        return tr("The new map is on top; {} labels taught it.").format(count)
    if before is None:
        return tr("The new map is on top: macro F1 {:.2f} with {} labels of yours.").format(
            after, count)
    before, after = round(before, 2), round(after, 2)  # the difference is that of what is shown
    return tr(
        "The new map is on top: macro F1 {:.2f}, before {:.2f} ({:+.2f}), with {} labels of yours. "
        "They are hard places, so the figure may fall though the map gets better."
    ).format(after, before, after - before, count)
