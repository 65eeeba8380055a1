"""The best matches with pictures of a base layer: fly through them, keep or reject them."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer, QgsProject, QgsRasterLayer
from qgis.gui import QgsCollapsibleGroupBox, QgsMapLayerComboBox
from qgis.PyQt.QtCore import QEvent, QModelIndex, QSize, Qt, QTimer, pyqtSignal
from qgis.PyQt.QtGui import QColor, QIcon, QKeyEvent, QPalette, QPixmap, QResizeEvent, QShowEvent
from qgis.PyQt.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QListView,
    QListWidget,
    QListWidgetItem,
    QSizePolicy,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from ...processing_provider.translation import tr
from .layers import drawn_order, encoder_of
from .rows import MARGINS
from .session import COUNTEREXAMPLE, EXAMPLE, Match, SearchSession
from .texts import decimal, percentile
from .thumbnails import Thumbnails

MOST_MATCHES = 100
PICTURE = 48
#: Pixels of the embeddings along a picture's edge.
_AROUND = 40


class _Cells(QStyledItemDelegate):
    """Items as wide as the list's columns."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        return self.parent().gridSize()


class MatchList(QListWidget):
    """Pictures with cosine and percentile, in columns as the width allows.

    Signals:
        flown: row that the user went to.
        judged: (row, EXAMPLE or COUNTEREXAMPLE).
    """

    flown = pyqtSignal(int)
    judged = pyqtSignal(int, str)

    _STEPS = {
        Qt.Key.Key_Up: -1, Qt.Key.Key_Left: -1, Qt.Key.Key_Down: 1, Qt.Key.Key_Right: 1,
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(True)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setUniformItemSizes(True)
        self.setIconSize(QSize(PICTURE, PICTURE))
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setTabKeyNavigation(False)
        self.setItemDelegate(_Cells(self))
        self._row = -1  # where the map is; the list's own moves when it gets the focus
        self.itemClicked.connect(lambda item: self._fly(self.row(item)))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Arrows go by rank; Enter keeps the place, with Shift rejects it."""
        step = self._STEPS.get(event.key())
        if step is not None:
            row = min(max(self._row + step, 0), self.count() - 1)
            if row != self._row:
                self._fly(row)
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if self._row >= 0:
                reject = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
                self.judged.emit(self._row, COUNTEREXAMPLE if reject else EXAMPLE)
        else:
            before = self.currentRow()
            super().keyPressEvent(event)
            if self.currentRow() != before:
                self._fly(self.currentRow())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """As many equal columns as fit."""
        super().resizeEvent(event)
        self._set_columns()

    def _fly(self, row: int) -> None:
        self.show_current(row)
        self.flown.emit(row)

    def _set_columns(self) -> None:
        text = self.fontMetrics().horizontalAdvance(percentile(100.0))
        least = PICTURE + text + 14  # margins of an item
        width = self.viewport().width()
        columns = max(1, width // least)
        self.setGridSize(QSize(max(width // columns - 1, 1), PICTURE + 6))

    def show_matches(self, matches: list[Match]) -> None:
        """List the best matches with empty pictures."""
        self.clear()
        self._row = -1
        blank = _blank(self)
        for rank, match in enumerate(matches[:MOST_MATCHES], 1):
            cosine, share = decimal(match.cosine, 2), percentile(match.percentile)
            item = QListWidgetItem(blank, f"#{rank}  {cosine}\n{share}")
            spoken = tr("Match {}, cosine {}").format(rank, cosine)
            item.setData(Qt.ItemDataRole.AccessibleTextRole, spoken)
            item.setToolTip(tr("{}; {} of the background is less alike").format(spoken, share))
            self.addItem(item)
        self._set_columns()

    def show_current(self, row: int) -> None:
        """Mark a row without flying there."""
        self._row = row
        self.setCurrentRow(row)

    def show_picture(self, row: int, picture: QPixmap) -> None:
        """Set a row's picture."""
        item = self.item(row)
        if item is not None:
            item.setIcon(_icon(picture))


class MatchesPanel(QgsCollapsibleGroupBox):
    """The group of the dock: the base layer's box and the list.

    Args:
        session: whose matches are shown.
        search: flies over the map (`fly_to`).
        parent: owner.
    """

    def __init__(self, session: SearchSession, search: Any, parent: QWidget | None = None) -> None:
        super().__init__(tr("Matches"), parent)
        self.setObjectName("earthprint_matches")
        self._session, self._search = session, search
        self._project = QgsProject.instance()
        self._shown: list[Match] | None = None
        self._chosen = ""  # id of the base layer that the user chose
        self._watched: QgsMapLayer | None = None
        self._watched_id = ""
        self._pictures = Thumbnails(PICTURE, self)
        self._build()
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._offer_layers)
        self._pictures.drawn.connect(self.list.show_picture)
        self.base.activated.connect(self._choose)
        self.base.layerChanged.connect(self._change_base)
        self.list.flown.connect(self._fly)
        self.list.judged.connect(self._judge)
        self.collapsedStateChanged.connect(self._draw)
        session.matches_changed.connect(self._refresh)
        session.layer_changed.connect(self._later.start)
        root = self._project.layerTreeRoot()
        for signal in (
            self._project.layersAdded, self._project.layersRemoved, self._project.readProject,
            root.visibilityChanged,
        ):
            signal.connect(self._later.start)
        self._offer_layers()
        self._refresh()

    def _build(self) -> None:
        self.base = QgsMapLayerComboBox()
        self.base.setAllowEmptyLayer(True, tr("None"))
        self.base.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.base.setMinimumWidth(90)
        self.base.setToolTip(tr("Layer that the small pictures show"))
        self.base.setAccessibleName(tr("Layer of the thumbnails"))
        label = QLabel(tr("Thum&bnails"))
        label.setBuddy(self.base)
        self.list = MatchList()
        self.list.setToolTip(
            tr(
                "Best first: cosine, share of background less alike. Up and Down fly; Enter "
                "keeps, Shift+Enter rejects"
            )
        )
        self.list.setAccessibleName(tr("Matches"))
        self.list.setMinimumHeight(3 * (PICTURE + 6) + 4)
        self._hint = QLabel(tr("Keep an example; the places most like it are listed here."))
        self._hint.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(label)
        row.addWidget(self.base, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(*MARGINS)
        layout.addLayout(row)
        layout.addWidget(self._hint)
        layout.addWidget(self.list, 1)

    def showEvent(self, event: QShowEvent) -> None:
        """Draw what was not drawn while nobody looked."""
        super().showEvent(event)
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        """Empty pictures in the colours of a new palette."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and self._shown:
            self._shown = None
            self._refresh()

    def discard(self) -> None:
        """Stop drawing, for good."""
        self._later.stop()
        self._pictures.stop()

    def _offer_layers(self) -> None:
        """Leave embeddings out of the box; the topmost visible raster unless one was chosen.

        It stays while it is visible, or the results of a search would take its place.
        """
        self.base.setExceptedLayerList(
            [
                layer
                for layer in self._project.mapLayers().values()
                if encoder_of(layer) or not layer.isSpatial()
            ]
        )
        if self._chosen is not None and self._project.mapLayer(self._chosen) is None:
            shown = [layer for layer in drawn_order(self._project) if self._is_drawn(layer)]
            shown.sort(key=lambda layer: not isinstance(layer, QgsRasterLayer))  # images first
            if self.base.currentLayer() not in shown:
                self.base.setLayer(shown[0] if shown else None)
        self._change_base()

    def _is_drawn(self, layer: QgsMapLayer) -> bool:
        node = self._project.layerTreeRoot().findLayer(layer.id())
        return node.isVisible() and layer.isSpatial() and not encoder_of(layer)

    def _choose(self) -> None:
        layer = self.base.currentLayer()
        self._chosen = layer.id() if layer is not None else None

    def _change_base(self) -> None:
        layer = self.base.currentLayer()
        if layer is not self._watched:
            if self._watched is not None and self._project.mapLayer(self._watched_id) is not None:
                self._watched.styleChanged.disconnect(self._redraw)
            self._watched, self._watched_id = layer, layer.id() if layer is not None else ""
            if layer is not None:
                layer.styleChanged.connect(self._redraw)
            self._redraw()

    def _redraw(self) -> None:
        self._pictures.forget()
        self._shown = None
        self._refresh()

    def _refresh(self) -> None:
        session = self._session
        if session.matches is not self._shown:
            self._shown = session.matches
            count = min(len(session.matches), MOST_MATCHES)
            self.setTitle(tr("Matches (best {})").format(count) if count else tr("Matches"))
            self.list.setVisible(bool(count))
            self._hint.setVisible(not count)
            grows = QSizePolicy.Policy.Expanding if count else QSizePolicy.Policy.Maximum
            self.setSizePolicy(QSizePolicy.Policy.Preferred, grows)
            self.list.show_matches(session.matches)
            self._draw()
        self.list.show_current(session.current)

    def _draw(self) -> None:
        """Draw the pictures, if anybody can see them."""
        layer, base = self._session.layer, self.base.currentLayer()
        if layer is None or base is None or not self.list.isVisible() or not self._shown:
            self._pictures.stop()
            return
        side = _AROUND * max(layer.rasterUnitsPerPixelX(), layer.rasterUnitsPerPixelY())
        places = [(match.x, match.y) for match in self._shown[:MOST_MATCHES]]
        self._pictures.draw(base, layer.crs(), side, places, self.devicePixelRatioF())

    def _fly(self, row: int) -> None:
        self._session.set_current(row)
        match = self._session.matches[row]
        self._search.fly_to(match.x, match.y)

    def _judge(self, row: int, kind: str) -> None:
        match = self._session.matches[row]
        self._session.add(kind, match.x, match.y)


def _blank(widget: QWidget) -> QIcon:
    """A frame in the place of a picture that is to come."""
    ratio = widget.devicePixelRatioF()
    picture = QPixmap(int(PICTURE * ratio), int(PICTURE * ratio))
    picture.setDevicePixelRatio(ratio)
    colour = QColor(widget.palette().color(QPalette.ColorRole.Text))
    colour.setAlpha(30)
    picture.fill(colour)
    return _icon(picture)


def _icon(picture: QPixmap) -> QIcon:
    """The picture as it is, also in rows that are chosen."""
    icon = QIcon()
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected, QIcon.Mode.Active):
        icon.addPixmap(picture, mode)
    return icon
