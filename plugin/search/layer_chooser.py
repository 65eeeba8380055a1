"""Which embeddings are searched, and how to get some where there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qgis.core import QgsApplication, QgsProject, QgsRasterLayer, QgsUnitTypes
from qgis.PyQt.QtCore import Qt, QTimer
from qgis.PyQt.QtGui import QPaintEvent
from qgis.PyQt.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...processing_provider.identity import icon
from ...processing_provider.translation import tr
from .example_list import TARGET
from .forms import ENCODE, IMPORT, encodable, loaded, open_form, season_of
from .layers import drawn_order, embeddings_layers
from .rows import FittingGrid
from .session import SearchSession
from .texts import decimal


class ElidingBox(QComboBox):
    """A combo box that shortens what it shows up to the last hyphen, where it does not fit."""

    def paintEvent(self, event: QPaintEvent) -> None:
        """As Qt does, with dots in the name; dimensions and ground size stay."""
        painter, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        room = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
        ).width()
        if not option.currentIcon.isNull():
            room -= option.iconSize.width() + 4
        name, hyphen, rest = option.currentText.rpartition(" - ")
        metrics, tail = self.fontMetrics(), hyphen + rest
        left = room - 4 - metrics.horizontalAdvance(tail)
        if not name or left < 4 * metrics.averageCharWidth():
            name, tail, left = option.currentText, "", room - 4
        option.currentText = (
            metrics.elidedText(name, Qt.TextElideMode.ElideRight, left) + tail
        )
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)


class LayerChooser(QWidget):
    """The top of the dock: the embeddings of the project, then its other rasters.

    A raster that is no embeddings can be chosen to be encoded; so does a project without any.

    Args:
        session: whose layer is chosen.
        preferred: id of the layer to begin with, "" for the topmost visible one.
        parent: owner.
    """

    def __init__(
        self, session: SearchSession, preferred: Callable[[], str], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session, self._preferred = session, preferred
        self._project = QgsProject.instance()
        self._wanted = ""  # id of the layer that was chosen by hand, or produced
        self._build()
        self._later = QTimer(self)  # many signals of one change, and a project half read
        self._later.setSingleShot(True)
        self._later.timeout.connect(self.offer)
        self.box.activated.connect(self._choose)
        root = self._project.layerTreeRoot()
        for signal in (
            self._project.layersAdded, self._project.layersRemoved, root.nameChanged
        ):
            signal.connect(self._later.start)
        session.layer_changed.connect(self._follow)
        self._project.readProject.connect(self._begin)
        self.offer()

    def _build(self) -> None:
        self.box = ElidingBox()
        self.box.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.box.setMinimumContentsLength(5)
        self.box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.box.setAccessibleName(tr("Embeddings"))
        label = QLabel(tr("&Embeddings"))
        label.setBuddy(self.box)
        self.more = QToolButton()
        self.more.setIcon(QgsApplication.getThemeIcon("/symbologyAdd.svg"))
        self.more.setMinimumSize(TARGET, TARGET)
        self.more.setAutoRaise(True)
        self.more.setToolTip(tr("Encode rasters of this project…"))
        self.more.setAccessibleName(tr("Encode rasters of this project"))
        self.more.clicked.connect(self.encode_project)
        self.need = QLabel()
        self.need.setWordWrap(True)
        self.encode = QPushButton(tr("E&ncode…"))
        self.encode.setAccessibleName(tr("Encode"))
        self.encode.setToolTip(tr("Turn rasters into embeddings, once"))
        self.encode.clicked.connect(self.encode_chosen)
        self.imports = QPushButton(tr("&Import…"))
        self.imports.setAccessibleName(tr("Import"))
        self.imports.setToolTip(tr("Take embeddings that others have published"))
        self.imports.clicked.connect(self.import_files)
        self.ways = FittingGrid([self.encode, self.imports], 2, fill=True)
        row = QHBoxLayout()
        row.addWidget(label)
        row.addWidget(self.box, 1)
        row.addWidget(self.more)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.need)
        layout.addWidget(self.ways)

    def offer(self) -> None:
        """List what the project has now, and search in the best of it."""
        found = embeddings_layers(self._project)
        others = encodable(drawn_order(self._project))
        if self._project.mapLayer(self._wanted) is None:
            self._wanted = ""
        blocked = self.box.blockSignals(True)
        self.box.clear()
        for layer in found:
            self.box.addItem(_title(layer), layer.id())
        if found and others:
            self.box.insertSeparator(self.box.count())
        for layer in others:
            self.box.addItem(icon("encode"), layer.name(), layer.id())
        current = self._session.layer
        ids = [layer.id() for layer in found]
        if self._wanted:
            chosen = self._wanted
        elif current is not None and current.id() in ids:
            chosen = current.id()
        else:
            preferred = self._preferred()
            chosen = preferred if preferred in ids else ids[0] if ids else ""
        self.box.setCurrentIndex(self.box.findData(chosen) if chosen else -1)
        self.box.blockSignals(blocked)
        self._show(chosen)

    def _follow(self) -> None:
        """The search went to another layer, or its layer is gone."""
        if self._session.layer is not None:
            self._wanted = self._session.layer.id()
        self._later.start()

    def _begin(self) -> None:
        """A project was read: begin with the layer that was searched when it was saved."""
        self._wanted = self._preferred()
        self._later.start()

    def _choose(self) -> None:
        self._wanted = self.box.currentData() or ""
        self._show(self._wanted)

    def _show(self, chosen: str) -> None:
        """Search in a layer, or say what it lacks."""
        layer = self._project.mapLayer(chosen)
        good = layer if layer in embeddings_layers(self._project) else None
        self._session.set_layer(good)
        if good is not None:
            tip = tr("Raster to search in: {}").format(_title(good))
        else:
            tip = tr("Raster to search in")
        self.box.setToolTip(tip)
        if layer is None:
            self.need.setText(tr("No embeddings here yet."))
        else:
            self.need.setText(tr("These rasters need embeddings first."))
        self.need.setVisible(good is None)
        self.ways.setVisible(good is None)

    def encode_project(self) -> None:
        """Open Encode rasters with the raster files of the project."""
        self._open(ENCODE, encodable(drawn_order(self._project)))

    def encode_chosen(self) -> None:
        """Open Encode rasters with the raster that was chosen and those of its group."""
        layer = self._project.mapLayer(self._wanted)
        if layer is None:
            self.encode_project()
        else:
            self._open(ENCODE, season_of(layer))

    def import_files(self) -> None:
        """Open Import embeddings, with the raster that was chosen if there is one."""
        layer = self._project.mapLayer(self._wanted)
        self._open(IMPORT, encodable([layer]) if layer is not None else [])

    def _open(self, algorithm: str, layers: Iterable[QgsRasterLayer]) -> None:
        given = [layer.source() for layer in layers]
        open_form(algorithm, {"INPUT": given} if given else {}, self._take_produced)

    def _take_produced(self, results: dict[str, Any]) -> None:
        """Search in the layer that an algorithm has made and loaded."""
        layer = loaded(results.get("OUTPUT"))
        if layer is not None:
            self._wanted = layer.id()
            self.offer()


def _title(layer: QgsRasterLayer) -> str:
    """Name, dimensions and the ground size of a pixel."""
    size = layer.rasterUnitsPerPixelX()
    if layer.crs().isGeographic():
        size *= 111_320.0  # metres of a degree at the equator
        unit = QgsUnitTypes.DistanceUnit.DistanceMeters
    else:
        unit = layer.crs().mapUnits()
    metres = size * QgsUnitTypes.fromUnitToUnitFactor(
        unit, QgsUnitTypes.DistanceUnit.DistanceMeters
    )
    ground = decimal(metres, 0 if metres >= 9.95 else 1).replace(".0", "")
    return tr("{} - {} d, {} m").format(layer.name(), layer.bandCount(), ground)
