"""What the search has painted on a canvas."""

from __future__ import annotations

from qgis.core import QgsCoordinateTransform, QgsPointXY, QgsProject
from qgis.PyQt.QtGui import QColor, QImage, QPainter

from tests.qgis.events import SIZE


def heat_of(search, canvas):
    return next(place.heat for place in search._places if place.canvas is canvas)


def painted(search, canvas) -> QImage:
    """The heat map alone, on transparent ground."""
    picture = QImage(*SIZE, QImage.Format.Format_ARGB32_Premultiplied)
    picture.fill(0)
    painter = QPainter(picture)
    heat_of(search, canvas).paint(painter)
    painter.end()
    return picture


def colour(image: QImage, x: int, y: int) -> QColor:
    return image.pixelColor(x, y)


def to_layer(canvas, layer, x: int, y: int) -> QgsPointXY:
    way = QgsCoordinateTransform(
        canvas.mapSettings().destinationCrs(), layer.crs(), QgsProject.instance()
    )
    return way.transform(canvas.getCoordinateTransform().toMapCoordinates(x, y))


def brightest(image: QImage) -> tuple[int, int]:
    return max(
        ((x, y) for x in range(0, SIZE[0], 3) for y in range(0, SIZE[1], 3)),
        key=lambda spot: colour(image, *spot).lightness() * colour(image, *spot).alpha(),
    )
