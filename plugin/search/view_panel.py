"""How the heat map looks: what is shown, threshold, opacity, and the ramp with its meaning."""

from __future__ import annotations

import math

from qgis.gui import QgsCollapsibleGroupBox, QgsDoubleSpinBox, QgsSpinBox
from qgis.PyQt.QtCore import QRectF, QSize, Qt
from qgis.PyQt.QtGui import QLinearGradient, QPainter, QPaintEvent, QPalette, QPen
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from ...processing_provider.translation import tr
from .overlay import inferno
from .rows import MARGINS, FittingGrid
from .session import BOTH, HEAT, LEAST_SHARE, MATCHES, MOST_SHARE, NOTHING, SearchSession
from .texts import decimal

_STEPS = 200
_GAP = 6


class RampBar(QWidget):
    """Inferno from unlike to alike, with a notch where the threshold lies."""

    def __init__(self, session: SearchSession, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.setMinimumWidth(60)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(tr("Colours from unlike to like"))

    def sizeHint(self) -> QSize:
        """As high as a line of text."""
        return QSize(120, self.fontMetrics().height() + 4)

    def paintEvent(self, event: QPaintEvent) -> None:
        """The ramp, mirrored where people read from the right."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        bar = QRectF(0.5, 3.5, self.width() - 1, self.height() - 7)
        mirrored = self.layoutDirection() == Qt.LayoutDirection.RightToLeft
        ends = (bar.topRight(), bar.topLeft()) if mirrored else (bar.topLeft(), bar.topRight())
        ramp, colours = QLinearGradient(*ends), inferno()
        for step in range(0, len(colours), 2):
            ramp.setColorAt(step / (len(colours) - 1), colours[step])
        text = self.palette().color(QPalette.ColorRole.WindowText)
        painter.setPen(QPen(text, 1))
        painter.setBrush(ramp)
        painter.setOpacity(1.0 if self.isEnabled() else 0.4)
        painter.drawRect(bar)
        index = self._session.threshold_index()
        if index is not None:
            part = (index - 1) / 254
            x = bar.left() + bar.width() * (1 - part if mirrored else part)
            for width, role in ((3, QPalette.ColorRole.Window), (1, QPalette.ColorRole.WindowText)):
                painter.setPen(QPen(self.palette().color(role), width))
                painter.drawLine(int(x), 0, int(x), self.height())
        painter.end()


class ViewPanel(QgsCollapsibleGroupBox):
    """The group of the dock; every control restyles, none asks the engine.

    Args:
        session: whose look is set.
        parent: owner.
    """

    def __init__(self, session: SearchSession, parent: QWidget | None = None) -> None:
        super().__init__(tr("View"), parent)
        self.setObjectName("earthprint_view")
        self._session = session
        self._build()
        self.show_box.activated.connect(
            lambda row: session.set_show(self.show_box.itemData(row))
        )
        self.live.toggled.connect(session.set_live)
        self.threshold.valueChanged.connect(lambda step: session.set_share(_share(step)))
        self.share.valueChanged.connect(session.set_share)
        self.opacity.valueChanged.connect(lambda value: session.set_opacity(value / 100))
        self.percent.valueChanged.connect(lambda value: session.set_opacity(value / 100))
        session.style_changed.connect(self._refresh)
        session.live_changed.connect(self._refresh)
        session.answered.connect(self._read)
        self._refresh()

    def _build(self) -> None:
        self.show_box = QComboBox()
        for word, text in (
            (HEAT, tr("Heat Map")), (MATCHES, tr("Matches Only")), (BOTH, tr("Both")),
            (NOTHING, tr("Nothing")),
        ):
            self.show_box.addItem(text, word)
        self.show_box.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.show_box.setMinimumContentsLength(6)
        self.live = QCheckBox(tr("&Live"))
        self.threshold, self.opacity = _slider(_STEPS, 4), _slider(100, 5)
        self.share = QgsDoubleSpinBox()
        self.share.setRange(LEAST_SHARE, MOST_SHARE)
        self.share.setDecimals(1)
        self.share.setSingleStep(0.1)
        self.share.setPrefix(tr("top "))
        self.share.setSuffix(tr(" %"))
        self.percent = QgsSpinBox()
        self.percent.setRange(0, 100)
        self.percent.setSuffix(tr(" %"))
        for box, value in ((self.share, 1.0), (self.percent, 80)):
            box.setClearValue(value)
            box.setShowClearButton(False)
        self.ramp = RampBar(self._session)
        self.reading = QLabel()
        self.reading.setAlignment(Qt.AlignmentFlag.AlignTrailing | Qt.AlignmentFlag.AlignVCenter)
        self.reading.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._name()
        labels = [QLabel(text) for text in (tr("&Show"), tr("T&hreshold"), tr("&Opacity"))]
        for label, field in zip(labels, (self.show_box, self.threshold, self.opacity)):
            label.setBuddy(field)
        labels[0].setMinimumWidth(max(label.sizeHint().width() for label in labels))
        shown = QHBoxLayout()
        shown.setContentsMargins(0, 0, 0, 0)
        shown.setSpacing(_GAP)
        shown.addWidget(labels[0])
        shown.addWidget(self.show_box, 1)
        holder = QWidget()
        holder.setLayout(shown)
        grid = QGridLayout()
        grid.setHorizontalSpacing(_GAP)
        grid.setColumnStretch(1, 1)
        grid.addWidget(FittingGrid([holder, self.live], 2, fill=True), 0, 0, 1, 3)
        for row, fields in enumerate(
            ((labels[1], self.threshold, self.share), (labels[2], self.opacity, self.percent)), 1
        ):
            for column, widget in enumerate(fields):
                grid.addWidget(widget, row, column)
        ramp = QHBoxLayout()
        ramp.addWidget(QLabel(tr("unlike")))
        ramp.addWidget(self.ramp, 1)
        ramp.addWidget(QLabel(tr("like")))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(*MARGINS)
        layout.addLayout(grid)
        layout.addLayout(ramp)
        layout.addWidget(self.reading)

    def _name(self) -> None:
        """Tooltips, and names for those who hear the dock."""
        share = tr("Share of the background that counts as alike, and its cosine")
        for widget, name, tip in (
            (self.show_box, tr("Show"), tr("What the map shows of the search (V)")),
            (self.live, tr("Live"), tr("Follow the cursor (L)")),
            (self.threshold, tr("Threshold"), f"{share} ([ ])"),
            (self.share, tr("Threshold, share of the background"), f"{share} ([ ])"),
            (self.opacity, tr("Opacity"), tr("Of the heat map")),
            (self.percent, tr("Opacity in percent"), tr("Of the heat map")),
            (self.reading, tr("Threshold and area"),
             tr("Cosine at the threshold, and ground area in view that reaches it")),
            (self.ramp, tr("Colours from unlike to like"),
             tr("From the median of the background to what 0.1 % of it reaches")),
        ):
            widget.setAccessibleName(name)
            widget.setToolTip(tip)

    def _refresh(self) -> None:
        session = self._session
        widgets = (self.show_box, self.live, self.threshold, self.share, self.opacity, self.percent)
        blocked = [widget.blockSignals(True) for widget in widgets]
        self.show_box.setCurrentIndex(self.show_box.findData(session.show))
        self.live.setChecked(session.live)
        if _share(self.threshold.value()) != session.share:
            self.threshold.setValue(_step(session.share))
        if round(self.share.value(), 1) != round(session.share, 1):
            self.share.setValue(session.share)
        self.opacity.setValue(round(100 * session.opacity))
        self.percent.setValue(round(100 * session.opacity))
        for widget, before in zip(widgets, blocked):
            widget.blockSignals(before)
        self._read()

    def _read(self) -> None:
        """Cosine and hectares at the threshold."""
        cosine, hectares = self._session.threshold_cosine(), self._session.hectares()
        if cosine is None:
            text = ""
        elif hectares is None:
            text = tr("cosine {}").format(decimal(cosine, 2))
        else:
            text = tr("cosine {}, {} ha").format(decimal(cosine, 2), decimal(hectares, 1))
        self.reading.setText(text or "\u00a0")
        self.ramp.update()


def _slider(most: int, step: int) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, most)
    slider.setSingleStep(step)
    slider.setPageStep(4 * step)
    slider.setMinimumWidth(36)
    return slider


def _share(step: int) -> float:
    """Percent at a step of the slider: strict on the right, even steps of the logarithm."""
    return round(MOST_SHARE * (LEAST_SHARE / MOST_SHARE) ** (step / _STEPS), 1)


def _step(share: float) -> int:
    """The step of the slider nearest to a percentage."""
    return round(_STEPS * math.log(MOST_SHARE / share) / math.log(MOST_SHARE / LEAST_SHARE))
