"""Examples as features of a file, for algorithms and for keeping."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from qgis.core import (
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingUtils,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorFileWriter,
    QgsVectorLayer,
)

from .session import Example

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".shp": "ESRI Shapefile"}
KIND = "kind"

#: Share of a pixel that the square around a point covers, where points travel with boxes.
_SPECK = 0.01


class FileError(Exception):
    """The file cannot be written; the message is one sentence for the user."""


def temporary(examples: Iterable[Example], layer: QgsRasterLayer, name: str) -> str:
    """Path of a temporary GeoPackage of the examples as they count in a search.

    Points stay points. With a box among them all become polygons, since a layer holds one
    kind: a point's square is so small that it covers the point's own pixel alone.

    Raises:
        FileError: the folder for temporary files is full or read-only.
    """
    path = QgsProcessingUtils.generateTempFilename(f"{name}.gpkg")
    chosen = list(examples)
    if any(example.box for example in chosen):
        shapes = [_area(example, layer) for example in chosen]
        _write(path, chosen, shapes, "Polygon", layer)
    else:
        _write(path, chosen, [_point(e) for e in chosen], "Point", layer)
    return path


def save(examples: Iterable[Example], layer: QgsRasterLayer, path: str) -> None:
    """Write the examples as points with kind, name and order, in the layer's CRS.

    Raises:
        FileError: the file cannot be written.
    """
    chosen = list(examples)
    _write(path, chosen, [_point(e) for e in chosen], "Point", layer)


def _point(example: Example) -> QgsGeometry:
    return QgsGeometry.fromPointXY(QgsPointXY(example.x, example.y))


def _area(example: Example, layer: QgsRasterLayer) -> QgsGeometry:
    if example.box is not None:
        return QgsGeometry.fromRect(QgsRectangle(*example.box))
    half = _SPECK / 2 * min(layer.rasterUnitsPerPixelX(), layer.rasterUnitsPerPixelY())
    return QgsGeometry.fromRect(
        QgsRectangle(example.x - half, example.y - half, example.x + half, example.y + half)
    )


def _write(
    path: str, examples: list[Example], shapes: list[QgsGeometry], kind: str, layer: QgsRasterLayer
) -> None:
    fields = f"field={KIND}:string&field=name:string&field=order:integer"
    kept = QgsVectorLayer(f"{kind}?{fields}", Path(path).stem, "memory")
    kept.setCrs(layer.crs())
    features = []
    for example, shape in zip(examples, shapes):
        feature = QgsFeature(kept.fields())
        feature.setGeometry(shape)
        feature.setAttributes([example.kind, example.name, example.number])
        features.append(feature)
    kept.dataProvider().addFeatures(features)
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = DRIVERS.get(Path(path).suffix.lower(), "GPKG")
    options.layerName, options.fileEncoding = Path(path).stem, "UTF-8"
    failure, reason, *_ = QgsVectorFileWriter.writeAsVectorFormatV3(
        kept, path, QgsProject.instance().transformContext(), options
    )
    if failure != QgsVectorFileWriter.WriterError.NoError:
        raise FileError(reason)
