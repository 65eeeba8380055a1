"""The forms of algorithms, opened with what the dock knows already filled in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from qgis import processing
from qgis.core import QgsMapLayer, QgsProject, QgsRasterLayer
from qgis.PyQt.QtWidgets import QDialog

from .layers import encoder_of

SEARCH, ENCODE, IMPORT, TRAIN, CROPS = (
    f"earthprint:{name}"
    for name in (
        "similaritysearch", "encode", "importembeddings", "trainhead", "cropclassification",
    )
)


def open_form(
    algorithm: str,
    parameters: dict[str, Any],
    done: Callable[[dict[str, Any]], None] = lambda results: None,
) -> QDialog:
    """Show an algorithm's own dialog; Run goes through Processing, into its history.

    Args:
        algorithm: id.
        parameters: values to fill in.
        done: called with the results after each run that went well, its layers loaded.
    """
    dialog = processing.createAlgorithmDialog(algorithm, parameters)
    dialog.algorithmFinished.connect(lambda good, results: done(results) if good else None)
    dialog.show()
    dialog.raise_()
    dialog.activateWindow()
    return dialog


def encodable(layers: Iterable[QgsMapLayer]) -> list[QgsRasterLayer]:
    """Raster files among the layers that are not embeddings."""
    return [
        layer
        for layer in layers
        if isinstance(layer, QgsRasterLayer)
        and layer.providerType() == "gdal"
        and not encoder_of(layer)
    ]


def season_of(layer: QgsRasterLayer) -> list[QgsRasterLayer]:
    """The rasters that lie in one group of the layer tree with a raster, itself included."""
    node = QgsProject.instance().layerTreeRoot().findLayer(layer.id())
    group = node.parent() if node is not None else None
    if group is None or group.parent() is None:  # at the root, beside anything
        return [layer]
    return encodable(leaf.layer() for leaf in group.findLayers())


def loaded(path: Any) -> QgsRasterLayer | None:
    """The embeddings layer of the project that shows a file, None where it was not loaded."""
    for layer in QgsProject.instance().mapLayers().values():
        if encoder_of(layer) and _same_file(layer.source(), str(path)):
            return layer
    return None


def _same_file(one: str, other: str) -> bool:
    return os.path.normcase(os.path.abspath(one)) == os.path.normcase(os.path.abspath(other))
