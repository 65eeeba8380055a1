"""What lies on top of the map: examples, counterexamples, matches and the keyboard's cross.

Shape first, colour second: circles with a plus, squares with a cross, diamonds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsPointXY,
    QgsProject,
)
from qgis.gui import QgsMapCanvas, QgsMapCanvasItem
from qgis.PyQt.QtCore import QPointF, QRectF, Qt
from qgis.PyQt.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QPainter,
    QPainterPath,
    QPen,
    QPixmap,
    QPolygonF,
)

from .session import EXAMPLE, NOTHING, SearchSession

BLUE, ORANGE, YELLOW = "#0072b2", "#d55e00", "#f0e442"
SIZE, RING, DIAMOND = 14.0, 20.0, 7.0
#: Pixels around a marker's middle that count as the marker.
REACH = 11.0
#: Above rubber bands (0).
LEVEL = 10.0


def to_canvas(crs: QgsCoordinateReferenceSystem, canvas: QgsMapCanvas) -> QgsCoordinateTransform:
    """From a layer's coordinates to those of a canvas."""
    target = canvas.mapSettings().destinationCrs()
    return QgsCoordinateTransform(crs, target if target.isValid() else crs, QgsProject.instance())


class Markers(QgsMapCanvasItem):
    """Draws the places of a session on one canvas.

    Args:
        canvas: where.
        session: whose places.
    """

    def __init__(self, canvas: QgsMapCanvas, session: SearchSession) -> None:
        super().__init__(canvas)
        self._canvas, self._session = canvas, session
        self._examples, self._boxes, self._matches = [], [], []
        self._lost = frozenset()
        self._cross = None
        self._bounds = QRectF()
        self.unplaced = 0
        self.setZValue(LEVEL)

    def refresh(self) -> None:
        """Look at the session again."""
        self.updatePosition()
        self.update()

    def set_lost(self, lost: Iterable[int]) -> None:
        """Draw the examples of these indices hollow: they have no embeddings."""
        self._lost = frozenset(lost)
        self.update()

    def set_cross(self, shown: bool) -> None:
        """Show or hide the cross in the middle, where the keyboard keeps places."""
        if shown != (self._cross is not None):
            self._cross = QPointF() if shown else None
            self.refresh()

    @property
    def cross(self) -> bool:
        """Whether the cross is shown."""
        return self._cross is not None

    def at(self, place: QPointF) -> int | None:
        """Index of the example drawn at a place of the canvas, the topmost one."""
        for index in reversed(range(len(self._examples))):
            drawn = self._examples[index]
            if drawn is not None and math.hypot(*_difference(drawn, place)) <= REACH:
                return index
        return None

    def boundingRect(self) -> QRectF:
        """Where it paints, in the scene."""
        return self._bounds

    def updatePosition(self) -> None:
        """Place everything again; QGIS calls this after each pan, zoom and turn."""
        session, layer = self._session, self._session.layer
        self._examples, self._boxes, self._matches = [], [], []
        if layer is not None:
            way = to_canvas(layer.crs(), self._canvas)
            self._examples = [self._spot(way, example.x, example.y) for example in session.examples]
            self._boxes = [
                self._outline(way, example.box) for example in session.examples if example.box
            ]
            if session.show != NOTHING:
                self._matches = [self._spot(way, match.x, match.y) for match in session.matches]
        self.unplaced = sum(spot is None for spot in self._examples)
        if self._cross is not None:
            size = self._canvas.viewport().size()
            self._cross = QPointF(size.width() / 2, size.height() / 2)
        self._measure()

    def _spot(self, way: QgsCoordinateTransform, x: float, y: float) -> QPointF | None:
        try:
            return self.toCanvasCoordinates(way.transform(QgsPointXY(x, y)))
        except QgsCsException:
            return None

    def _outline(self, way: QgsCoordinateTransform, box: tuple[float, ...]) -> QPolygonF:
        left, bottom, right, top = box
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        spots = [self._spot(way, x, y) for x, y in corners]
        return QPolygonF(spots if None not in spots else [])

    def _measure(self) -> None:
        bounds = QRectF()
        for spot in (*self._examples, *self._matches, self._cross):
            if spot is not None:
                bounds = bounds.united(QRectF(spot.x() - 20, spot.y() - 20, 70, 40))
        for outline in self._boxes:
            bounds = bounds.united(outline.boundingRect().adjusted(-3, -3, 3, 3))
        self.prepareGeometryChange()
        self.setPos(0, 0)
        self._bounds = bounds

    def paint(self, painter: QPainter, *_) -> None:
        """Draw boxes, matches, examples, cross, in this order."""
        session = self._session
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for outline in self._boxes:
            for colour, width in ((QColor("black"), 3.0), (QColor("white"), 1.5)):
                painter.setPen(QPen(colour, width))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawPolygon(outline)
        ratio = self._canvas.devicePixelRatioF()
        for index in reversed(range(len(self._matches))):
            _stamp(painter, self._matches[index], "match", ratio)
        if 0 <= session.current < len(self._matches):
            _stamp(painter, self._matches[session.current], "current", ratio)
        for index, (spot, example) in enumerate(zip(self._examples, session.examples)):
            if spot is not None:
                hollow = bool(session.kept_on) or index in self._lost
                _stamp(painter, spot, f"{example.kind}{' hollow' if hollow else ''}", ratio)
                _write(painter, spot, str(example.number))
        if self._cross is not None:
            _stamp(painter, self._cross, "cross", ratio)
        painter.restore()


def _difference(a: QPointF, b: QPointF) -> tuple[float, float]:
    return a.x() - b.x(), a.y() - b.y()


def _stamp(painter: QPainter, spot: QPointF | None, name: str, ratio: float) -> None:
    if spot is not None:
        picture = _picture(name, ratio)
        half = picture.width() / picture.devicePixelRatio() / 2
        painter.drawPixmap(QPointF(spot.x() - half, spot.y() - half), picture)


def _write(painter: QPainter, spot: QPointF, text: str) -> None:
    """A number to the right of a marker, white on a dark halo."""
    font = QFont(painter.font())
    font.setPixelSize(12)
    font.setBold(True)
    path = QPainterPath()
    path.addText(
        QPointF(spot.x() + SIZE / 2 + 3, spot.y() + QFontMetricsF(font).capHeight() / 2), font, text
    )
    pen = QPen(QColor("black"), 3.0)
    pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
    painter.strokePath(path, pen)
    painter.fillPath(path, QColor("white"))


@lru_cache(maxsize=32)
def _picture(name: str, ratio: float) -> QPixmap:
    """A marker drawn once for screens of a pixel ratio."""
    side = 30
    picture = QPixmap(round(side * ratio), round(side * ratio))
    picture.setDevicePixelRatio(ratio)
    picture.fill(QColor(0, 0, 0, 0))
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.translate(side / 2, side / 2)
    kind, _, hollow = name.partition(" ")
    if kind == "match":
        _diamond(painter)
    elif kind == "current":
        _ring(painter)
    elif kind == "cross":
        _cross(painter)
    else:
        _place(painter, kind == EXAMPLE, bool(hollow))
    painter.end()
    return picture


def _place(painter: QPainter, liked: bool, hollow: bool) -> None:
    shape, colour = QPainterPath(), QColor(BLUE if liked else ORANGE)
    add = shape.addEllipse if liked else shape.addRect
    add(QRectF(-SIZE / 2, -SIZE / 2, SIZE, SIZE))
    painter.strokePath(shape, QPen(QColor("black"), 4.0))
    painter.strokePath(shape, QPen(QColor("white"), 2.5))
    if hollow:
        painter.strokePath(shape, QPen(colour, 1.2))
    else:
        painter.fillPath(shape, colour)
    sign = QPen(colour if hollow else QColor("white"), 2.0)
    sign.setCapStyle(Qt.PenCapStyle.RoundCap)
    painter.setPen(sign)
    arm = 3.6 if liked else 2.8
    for x, y in ((arm, 0), (0, arm)) if liked else ((arm, arm), (arm, -arm)):
        painter.drawLine(QPointF(-x, -y), QPointF(x, y))


def _diamond(painter: QPainter) -> None:
    half = DIAMOND / 2 + 1
    painter.setPen(QPen(QColor("black"), 1.2))
    painter.setBrush(QColor("white"))
    painter.drawPolygon(QPolygonF(
        [QPointF(0, -half), QPointF(half, 0), QPointF(0, half), QPointF(-half, 0)]
    ))


def _ring(painter: QPainter) -> None:
    painter.setBrush(Qt.BrushStyle.NoBrush)
    for colour, width in ((QColor("black"), 5.0), (QColor(YELLOW), 3.0)):
        painter.setPen(QPen(colour, width))
        painter.drawEllipse(QPointF(), RING / 2, RING / 2)


def _cross(painter: QPainter) -> None:
    for colour, width in ((QColor("black"), 4.0), (QColor("white"), 2.0)):
        painter.setPen(QPen(colour, width))
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            painter.drawLine(QPointF(4 * x, 4 * y), QPointF(13 * x, 13 * y))
