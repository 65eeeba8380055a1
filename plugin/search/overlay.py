"""The heat map over the map: bytes that the engine writes, coloured and placed by Qt, not copied.

A picture has one byte a pixel: 0 is nothing, 1 to 255 run over the ends of the ramp. What it looks
like is a table of 256 colours, so threshold, opacity and mode cost no request.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from functools import lru_cache

from qgis.core import Qgis, QgsCoordinateReferenceSystem, QgsMessageLog, QgsPointXY
from qgis.gui import QgsMapCanvas, QgsMapCanvasItem
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QPointF, QRectF
from qgis.PyQt.QtGui import QColor, QImage, QPainter, QPolygonF, QTransform

from .session import BOTH, HEAT, MATCHES, NOTHING

#: Inferno (van der Walt and Smith 2015) at 0, 25, 50, 75, 100 %, as in the layers of a search.
INFERNO = ("#000004", "#57106e", "#bc3754", "#f98e09", "#fcffa4")
#: Opacity at the unlike and at the alike end: a clear low end would be lost on sand and water.
UNLIKE, ALIKE = 0.55, 0.85
#: Places that count as alike, and the line around them.
FLAT, FLAT_OPACITY, EDGE = "#56b4e9", 0.6, "#00364d"
#: Pixels of a picture at most; finer screens get every second pixel or so.
MOST_PIXELS = 4_000_000
#: Above the rendered map (-10), below rubber bands of other tools (0).
LEVEL = -5.0


@dataclass(frozen=True)
class PictureGrid:
    """Where the pixels of a picture lie.

    Attributes:
        crs: of the map.
        transform: (a, b, c, d, e, f), x = a column + b row + c, y = d column + e row + f.
        rows, cols: size.
    """

    crs: QgsCoordinateReferenceSystem
    transform: tuple[float, ...]
    rows: int
    cols: int

    def to_map(self) -> QTransform:
        """From (column, row) to the map's coordinates."""
        a, b, c, d, e, f = self.transform
        return QTransform(a, d, b, e, c, f)


def canvas_grid(canvas: QgsMapCanvas) -> PictureGrid | None:
    """The grid of the screen's own pixels in what the canvas shows now; None without a view."""
    size = canvas.mapSettings().outputSize()
    if size.isEmpty() or canvas.extent().isEmpty():
        return None
    ratio = canvas.devicePixelRatioF()
    ratio *= min(1.0, math.sqrt(MOST_PIXELS / (size.width() * size.height() * ratio * ratio)))
    cols, rows = max(1, int(size.width() * ratio)), max(1, int(size.height() * ratio))
    to_map, possible = canvas.getCoordinateTransform().transform().inverted()
    if not possible:
        return None
    pixel = QTransform.fromScale(size.width() / cols, size.height() / rows) * to_map
    return PictureGrid(
        canvas.mapSettings().destinationCrs(),
        (pixel.m11(), pixel.m21(), pixel.dx(), pixel.m12(), pixel.m22(), pixel.dy()),
        rows,
        cols,
    )


@lru_cache(maxsize=1)
def inferno() -> tuple[QColor, ...]:
    """The ramp in 255 steps, from unlike to alike."""
    stops = [QColor(name) for name in INFERNO]
    colours = []
    for step in range(255):
        at = step / 254 * (len(stops) - 1)
        left = min(int(at), len(stops) - 2)
        low, high, part = stops[left], stops[left + 1], at - left
        colours.append(QColor(*(
            round(a + part * (b - a))
            for a, b in zip(low.getRgb()[:3], high.getRgb()[:3])
        )))
    return tuple(colours)


@lru_cache(maxsize=64)
def heat_table(opacity: float) -> list[int]:
    """Colours of the heat map by index."""
    table = [0]
    for step, colour in enumerate(inferno()):
        shown = QColor(colour)
        shown.setAlphaF(opacity * (UNLIKE + (ALIKE - UNLIKE) * step / 254))
        table.append(shown.rgba())
    return table


@lru_cache(maxsize=64)
def flat_table(colour: str, opacity: float, index: int) -> list[int]:
    """One colour from an index on, nothing below."""
    shown = QColor(colour)
    shown.setAlphaF(opacity)
    return [0] * index + [shown.rgba()] * (256 - index)


class Pictures:
    """The engine's file of pictures in memory; an image is only good until `close`."""

    def __init__(self, path: str, grid: PictureGrid) -> None:
        self._grid = grid
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def image(self, slot: int) -> QImage:
        """The picture in a slot, over the mapped bytes.

        A bare address, as Qt would copy what Python calls read-only when colours are set.
        """
        rows, cols = self._grid.rows, self._grid.cols
        start = slot * rows * cols
        address = sip.voidptr(memoryview(self._memory)[start : start + rows * cols])
        return QImage(address, cols, rows, cols, QImage.Format.Format_Indexed8)

    def close(self) -> None:
        """Let go of the file, which Windows will not replace before."""
        self._memory.close()


class HeatMap(QgsMapCanvasItem):
    """Draws the newest picture on one canvas and follows it until the next one comes."""

    def __init__(self, canvas: QgsMapCanvas) -> None:
        super().__init__(canvas)
        self._canvas = canvas
        self._image = QImage()
        self._areas = QImage()
        self._grid = None
        self._placed = QTransform()
        self._box = QRectF()
        self._style = (NOTHING, 1.0, None)
        self._broken = False
        self.setZValue(LEVEL)
        self.hide()

    @property
    def grid(self) -> PictureGrid | None:
        """Where the picture lies, None without one."""
        return self._grid

    def show_picture(self, image: QImage, grid: PictureGrid) -> None:
        """Paint `image` (Format_Indexed8, over memory that stays until `keep` or `clear`)."""
        self._image, self._grid = image, grid
        self._areas = QImage()
        self._place()
        self.update()

    def keep(self) -> None:
        """Go on with a copy of the picture, as its memory is about to go."""
        self._image = self._image.copy()

    def clear(self) -> None:
        """Paint nothing and hold no memory."""
        self._image, self._areas, self._grid = QImage(), QImage(), None
        self.hide()

    def set_style(self, show: str, opacity: float, index: int | None) -> None:
        """How it looks: a word of the session, 0 to 1, and the least index that is alike."""
        style = (show, round(opacity, 3), index)
        if style != self._style:
            self._style = style
            self._areas = QImage()
            self._place()
            self.update()

    def updatePosition(self) -> None:
        """Follow the canvas; QGIS calls this after each pan, zoom and turn."""
        self._place()

    def boundingRect(self) -> QRectF:
        """Where it paints, in the scene."""
        return self._box

    def _place(self) -> None:
        shown = (
            self._grid is not None
            and self._style[0] != NOTHING
            and self._grid.crs == self._canvas.mapSettings().destinationCrs()
        )
        self.setVisible(shown)
        if not shown:
            return
        to_map, size = self._grid.to_map(), QPointF(self._grid.cols, self._grid.rows)
        corners = [
            self.toCanvasCoordinates(_point(to_map, x, y))
            for x, y in ((0, 0), (size.x(), 0), (0, size.y()), (size.x(), size.y()))
        ]
        origin, right, below = corners[:3]
        self.prepareGeometryChange()
        self.setPos(0, 0)
        self._placed = QTransform(
            (right.x() - origin.x()) / size.x(), (right.y() - origin.y()) / size.x(),
            (below.x() - origin.x()) / size.y(), (below.y() - origin.y()) / size.y(),
            origin.x(), origin.y(),
        )
        self._box = QPolygonF(corners).boundingRect().adjusted(-2, -2, 2, 2)

    def paint(self, painter: QPainter, *_) -> None:
        """Draw; an exception in here would end QGIS, so it ends the heat map instead."""
        if self._image.isNull() or self._broken:
            return
        try:
            self._draw(painter)
        except Exception as failure:
            self._broken = True
            QgsMessageLog.logMessage(
                f"The heat map was switched off: {failure!r}", "Earthprint",
                Qgis.MessageLevel.Critical,
            )

    def _draw(self, painter: QPainter) -> None:
        show, opacity, index = self._style
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
        painter.setTransform(self._placed, True)
        if show in (HEAT, BOTH):
            self._image.setColorTable(heat_table(opacity))
            painter.drawImage(0, 0, self._image)
        if show in (MATCHES, BOTH) and index is not None:
            if self._areas.isNull():
                self._areas = _outlined(self._image, index, show == MATCHES)
            painter.setOpacity(opacity)
            painter.drawImage(0, 0, self._areas)
        painter.restore()


def _point(to_map: QTransform, x: float, y: float) -> QgsPointXY:
    return QgsPointXY(*to_map.map(float(x), float(y)))


def _outlined(picture: QImage, index: int, filled: bool) -> QImage:
    """Pixels from an index on with a line around them: 4 blits of the edge, less the inside.

    Over the heat map they are not filled, and the line is bright, as the ramp has no blue.
    """
    picture.setColorTable(flat_table(EDGE if filled else FLAT, 1.0, index))
    inside = picture.convertToFormat(QImage.Format.Format_ARGB32_Premultiplied)
    areas = QImage(picture.size(), QImage.Format.Format_ARGB32_Premultiplied)
    areas.fill(0)
    painter = QPainter(areas)
    for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        painter.drawImage(x, y, inside)
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_DestinationOut)
    painter.drawImage(0, 0, inside)
    if filled:
        painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceOver)
        picture.setColorTable(flat_table(FLAT, FLAT_OPACITY, index))
        painter.drawImage(0, 0, picture)
    painter.end()
    return areas
