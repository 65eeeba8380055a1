"""The ring around the place that is labelled, on a canvas."""

from __future__ import annotations

from qgis.core import QgsPointXY
from qgis.gui import QgsMapCanvas, QgsVertexMarker
from qgis.PyQt import sip
from qgis.PyQt.QtGui import QColor

#: Colour and width of its lines, the lower one first: seen on dark ground and on bright.
LINES = (("#000000", 6), ("#f0e442", 3))
SIZE = 28


class Ring:
    """Two circles that lie around one place at most.

    Args:
        canvas: where.
    """

    def __init__(self, canvas: QgsMapCanvas) -> None:
        self._canvas = canvas
        self._parts: list[QgsVertexMarker] = []

    def show_at(self, place: QgsPointXY | None) -> None:
        """Lie around a place of the canvas, or nowhere."""
        for part in self._parts:
            if not sip.isdeleted(part):
                self._canvas.scene().removeItem(part)
        self._parts = []
        if place is None:
            return
        for color, width in LINES:
            part = QgsVertexMarker(self._canvas)
            part.setIconType(QgsVertexMarker.IconType.ICON_CIRCLE)
            part.setIconSize(SIZE)
            part.setPenWidth(width)
            part.setColor(QColor(color))
            part.setCenter(place)
            self._parts.append(part)
