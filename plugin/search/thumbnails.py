"""Small pictures of places, drawn in the background, one at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsMapLayer,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsProject,
    QgsRectangle,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QSize, Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor, QPixmap

#: Pictures kept for lists to come.
MOST_KEPT = 500


class Thumbnails(QObject):
    """Draws one layer around places and says so picture by picture.

    Args:
        size: edge of a picture, device-independent pixels.
        parent: owner.

    Signals:
        drawn: (place's index, picture).
    """

    drawn = pyqtSignal(int, QPixmap)

    def __init__(self, size: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._size = size
        self._waiting: deque[tuple[int, float, float]] = deque()
        self._view: tuple[QgsMapLayer, QgsCoordinateReferenceSystem, float, float] | None = None
        self._job: QgsMapRendererSequentialJob | None = None
        self._dying: list[QgsMapRendererSequentialJob] = []
        self._kept: dict[tuple[object, ...], QPixmap] = {}

    def draw(
        self,
        layer: QgsMapLayer,
        crs: QgsCoordinateReferenceSystem,
        side: float,
        places: Sequence[tuple[float, float]],
        ratio: float,
    ) -> None:
        """Draw `layer` around all places, in place of what was asked for before.

        Args:
            layer: to draw.
            crs: of the places and of the pictures.
            side: of a picture on the ground, in units of `crs`.
            places: (x, y).
            ratio: device pixels a pixel.
        """
        self.stop()
        self._view = layer, crs, side, ratio
        for index, (x, y) in enumerate(places):
            picture = self._kept.get(self._key(x, y))
            if picture is None:
                self._waiting.append((index, x, y))
            else:
                self.drawn.emit(index, picture)
        self._next()

    def stop(self) -> None:
        """Leave what is not drawn; a picture under way is given up without waiting for it."""
        self._waiting.clear()
        self._view = None
        job, self._job = self._job, None
        if job is not None:
            self._dying.append(job)
            job.cancelWithoutBlocking()

    def forget(self) -> None:
        """Drop the pictures that are kept, as the layer looks different now."""
        self._kept.clear()

    def _key(self, x: float, y: float) -> tuple[object, ...]:
        layer, crs, side, ratio = self._view
        return layer.id(), crs.authid() or crs.toWkt(), side, ratio, x, y

    def _next(self) -> None:
        if self._job is not None or not self._waiting:
            return
        index, x, y = self._waiting.popleft()
        layer, crs, side, ratio = self._view
        settings = QgsMapSettings()
        settings.setLayers([layer])
        settings.setDestinationCrs(crs)
        settings.setTransformContext(QgsProject.instance().transformContext())
        settings.setEllipsoid(QgsProject.instance().ellipsoid())
        settings.setBackgroundColor(QColor(Qt.GlobalColor.transparent))
        settings.setOutputSize(QSize(self._size, self._size))
        settings.setDevicePixelRatio(ratio)
        settings.setExtent(
            QgsRectangle(x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        )
        job = self._job = QgsMapRendererSequentialJob(settings)
        key = self._key(x, y)
        job.finished.connect(lambda: self._take(job, index, key))
        job.start()

    def _take(
        self, job: QgsMapRendererSequentialJob, index: int, key: tuple[object, ...]
    ) -> None:
        if sip.isdeleted(self):
            return
        if job in self._dying:
            self._dying.remove(job)
        if job is not self._job:
            return
        self._job = None
        picture = QPixmap.fromImage(job.renderedImage())
        if len(self._kept) >= MOST_KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = picture
        self.drawn.emit(index, picture)
        self._next()
