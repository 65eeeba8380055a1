"""Which rasters of the project are embeddings, and of which encoder."""

from __future__ import annotations

import html
import os
import re

from qgis.core import QgsMapLayer, QgsProject, QgsRasterLayer

_TAG = re.compile(r"EARTHPRINT_ENCODER=([^<\n]+)")
_MOST_KNOWN = 1000
_known: dict[tuple[str, str, int], str] = {}


def encoder_of(layer: QgsMapLayer | None) -> str:
    """The encoder of an embeddings layer (name@version#hash), "" where it is none.

    QGIS shows the tags of a file only as the table in the layer's properties, which takes too
    long to be made anew at each look.
    """
    if not isinstance(layer, QgsRasterLayer) or not layer.isValid():
        return ""
    if layer.providerType() != "gdal":
        return ""
    key = layer.id(), layer.source(), _written(layer.source())
    if key not in _known:
        found = _TAG.search(layer.dataProvider().htmlMetadata())
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[key] = html.unescape(found.group(1)).strip() if found else ""
    return _known[key]


def _written(path: str) -> int:
    """When a file was written, since a path may hold another encoder's work tomorrow."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def drawn_order(project: QgsProject) -> list[QgsMapLayer]:
    """All layers of the project's tree, topmost first, switched-on ones before all others."""
    nodes = [
        (node.isVisible(), project.mapLayer(node.layerId()))
        for node in project.layerTreeRoot().findLayers()
    ]
    there = [(on, layer) for on, layer in nodes if layer is not None and layer.isValid()]
    return [layer for on, layer in there if on] + [layer for on, layer in there if not on]


def embeddings_layers(project: QgsProject) -> list[QgsRasterLayer]:
    """Embeddings of the project, topmost visible one first."""
    return [layer for layer in drawn_order(project) if encoder_of(layer)]
