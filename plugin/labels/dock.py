"""The dock "Earthprint Labels": propose places, say what they are, map again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qgis.gui import QgsDockWidget
from qgis.PyQt.QtCore import QEvent, Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor, QIcon, QKeyEvent, QPainter, QPalette, QPixmap
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...processing_provider.identity import icon
from ...processing_provider.translation import tr
from ..search.rows import MARGINS, FittingGrid
from ..trouble import DetailsDialog, open_set_up
from .places import PlaceClass

#: Places that are proposed at first; at most a tedious afternoon.
COUNT, MOST = 30, 500
_CHIP = 14  # pixels a side of a class's colour


class LabelsDock(QgsDockWidget):
    """Shows a round of labelling; what happens is up to whoever listens to the signals.

    Signals:
        map_chosen: id of the map layer.
        wanted: propose places.
        stepped: to the place so many further on.
        labelled: the number of the class that the place has, -1 for none.
        hiding: whether the map is to be hidden.
        again: map again.
        stopped: stop what is under way.
        report_wanted: open the page of the new map.
        shown: the dock came up or went away.
    """

    map_chosen = pyqtSignal(str)
    wanted = pyqtSignal()
    stepped = pyqtSignal(int)
    labelled = pyqtSignal(int)
    hiding = pyqtSignal(bool)
    again = pyqtSignal()
    stopped = pyqtSignal()
    report_wanted = pyqtSignal()
    shown = pyqtSignal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(tr("Earthprint Labels"), parent)
        self.setObjectName("earthprint_labels_dock")
        self.setAllowedAreas(
            Qt.DockWidgetArea.LeftDockWidgetArea | Qt.DockWidgetArea.RightDockWidgetArea
        )
        self._details = ""
        self.classes: list[QPushButton] = []
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(4, 6, 4, 4)
        column.addWidget(self._map_row())
        column.addWidget(self._suggest_row())
        column.addWidget(self._places())
        column.addWidget(self._again_button())
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inside)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        whole = QWidget()
        layout = QVBoxLayout(whole)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(area, 1)
        layout.addWidget(self._foot())
        self.setWidget(whole)
        self.visibilityChanged.connect(self.shown)

    # Parts

    def _map_row(self) -> QWidget:
        self.maps = QComboBox()
        self.maps.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.maps.setMinimumContentsLength(8)
        self.maps.setAccessibleName(tr("Map"))
        self.maps.setToolTip(tr("The map to improve: made by Crop classification and its kin"))
        self.maps.activated.connect(
            lambda _: self.map_chosen.emit(self.maps.currentData() or "")
        )
        label = QLabel(tr("&Map"))
        label.setBuddy(self.maps)
        return _row(label, (self.maps, 1))

    def _suggest_row(self) -> QWidget:
        self.suggest = _button(
            tr("&Suggest Places to Label"),
            tr("Places that the map is unsure of, all different: their labels teach it most"),
            self.wanted.emit,
        )
        self.count = QSpinBox()
        self.count.setRange(1, MOST)
        self.count.setValue(COUNT)
        self.count.setAccessibleName(tr("Number of places"))
        self.count.setToolTip(tr("Number of places"))
        return _row((self.suggest, 1), self.count)

    def _places(self) -> QGroupBox:
        self.places = QGroupBox()
        self.back = self._arrow(Qt.ArrowType.LeftArrow, tr("Place before (Page Up)"), -1)
        self.on = self._arrow(Qt.ArrowType.RightArrow, tr("Next place (Page Down)"), 1)
        self.place = QLabel()
        self.place.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.why = QLabel()
        self.why.setWordWrap(True)
        self.why.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.why.setAccessibleName(tr("What the map says here"))
        self._grid_place = QVBoxLayout()
        self._grid: QWidget | None = None
        self.clear = _button(
            tr("&No Label"), tr("Take the label of this place away (0)"),
            lambda: self.labelled.emit(-1),
        )
        self.hide_map = QCheckBox(tr("&Hide the map while labelling"))
        self.hide_map.setToolTip(tr("See the image below"))
        self.hide_map.toggled.connect(self.hiding)
        layout = QVBoxLayout(self.places)
        layout.setContentsMargins(*MARGINS)
        layout.addWidget(_row(self.back, (self.place, 1), self.on))
        layout.addWidget(self.why)
        layout.addLayout(self._grid_place)
        layout.addWidget(_row((self.hide_map, 1), self.clear))
        return self.places

    def _arrow(self, kind: Qt.ArrowType, tip: str, step: int) -> QToolButton:
        button = QToolButton()
        button.setArrowType(kind)
        button.setAutoRaise(True)
        button.setMinimumSize(24, 24)
        button.setToolTip(tip)
        button.setAccessibleName(tip)
        button.clicked.connect(lambda: self.stepped.emit(step))
        return button

    def _again_button(self) -> QPushButton:
        self.map_again = _button(
            tr("Map &Again With New Labels"),
            tr("The same map with the same parameters, taught by these labels too"),
            self.again.emit,
        )
        self.map_again.setIcon(icon("cropclassification"))
        return self.map_again

    def _foot(self) -> QWidget:
        self.sentence = QLabel()
        self.sentence.setWordWrap(True)
        self.sentence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.sentence.setAccessibleName(tr("Status"))
        self.bar = QProgressBar()
        self.bar.setAccessibleName(tr("The engine is at work"))
        self.stop = _button(tr("S&top"), tr("Stop; nothing is written"), self.stopped.emit)
        self.set_up = _button(
            tr("Set &Up…"), tr("Install or repair the engine"), lambda: open_set_up(self)
        )
        self.details = _button(
            tr("&Details…"), tr("What the engine said, to read and to copy"),
            lambda: DetailsDialog(self.sentence.text(), self._details, self).show(),
        )
        self.report = _button(
            tr("&Report…"), tr("The page of the new map, in the browser"),
            self.report_wanted.emit,
        )
        foot = QWidget()
        layout = QVBoxLayout(foot)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self.sentence)
        layout.addWidget(_row((self.bar, 1), self.stop))
        ways = QHBoxLayout()
        for button in (self.set_up, self.details, self.report):
            ways.addWidget(button)
        ways.addStretch(1)
        layout.addLayout(ways)
        for widget in (self.bar, self.stop, self.set_up, self.details, self.report):
            widget.hide()
        return foot

    # What is shown

    def offer_maps(self, maps: Sequence[tuple[str, str]], chosen: str) -> None:
        """List (id, name) of the maps; one of them is chosen."""
        blocked = self.maps.blockSignals(True)
        self.maps.clear()
        for id_, name in maps:
            self.maps.addItem(name, id_)
        self.maps.setCurrentIndex(self.maps.findData(chosen))
        self.maps.setEnabled(bool(maps))
        self.maps.blockSignals(blocked)

    def offer_classes(self, classes: Sequence[PlaceClass]) -> None:
        """A button for each class; the first nine have a key."""
        if self._grid is not None:
            self._grid_place.removeWidget(self._grid)
            self._grid.deleteLater()
            self._grid = None
        self.classes = []
        for number, kind in enumerate(classes):
            key = number + 1
            name = kind.name.replace("&", "&&")
            button = _button(
                tr("{} {}").format(key, name) if key < 10 else name,
                tr("This place is {} ({})").format(kind.name, key) if key < 10
                else tr("This place is {}").format(kind.name),
                lambda _=False, n=number: self.labelled.emit(n),
            )
            button.setAccessibleName(kind.name)
            button.setIcon(_chip(kind.color))
            button.setCheckable(True)
            button.setStyleSheet("text-align: left; padding: 3px 6px;")
            self.classes.append(button)
        if self.classes:
            self._grid = FittingGrid(self.classes, 2, fill=True)
            self._grid_place.addWidget(self._grid)
            self._grid.show()

    def show_place(self, title: str, why: str, chosen: int) -> None:
        """One place: which it is, what the map says, and the class that it has (-1: none)."""
        self.place.setText(title)
        self.why.setText(why)
        for number, button in enumerate(self.classes):
            button.setChecked(number == chosen)
        self.clear.setEnabled(chosen >= 0)

    def focus_classes(self) -> None:
        """Have the keys of the classes at hand, unless the analyst works elsewhere by now."""
        focus = self.window().focusWidget()
        if self.classes and (focus is None or self.isAncestorOf(focus)):
            self.classes[0].setFocus()

    def say(self, sentence: str, details: str = "", error: bool = False) -> None:
        """A sentence at the foot; red where something went wrong."""
        self._details = details
        self.sentence.setText(sentence)
        palette = QPalette(self.palette())
        if error:
            dark = palette.color(QPalette.ColorRole.Window).lightness() < 128
            palette.setColor(
                QPalette.ColorRole.WindowText, QColor("#ff8a80" if dark else "#b00020")
            )
        self.sentence.setPalette(palette)
        self.details.setVisible(bool(details))

    # Keys

    def event(self, event: QEvent) -> bool:
        """The keys of the classes are the dock's own, unless a number is being typed."""
        if event.type() == QEvent.Type.ShortcutOverride and self._meant(event) is not None:
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """1 to 9 give a class, 0 takes it away, Page Up and Page Down go on."""
        if not self.take_key(event):
            super().keyPressEvent(event)

    def take_key(self, event: QKeyEvent) -> bool:
        """Do what a key means here, also when it was pressed on the map; whether it did."""
        meant = self._meant(event)
        if meant is None:
            return False
        signal, value = meant
        signal.emit(value)
        return True

    def _meant(self, event: QKeyEvent) -> tuple[Any, int] | None:
        plain = event.modifiers() in (
            Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.KeypadModifier
        )
        if not plain or not self.places.isEnabled() or self.count.hasFocus():
            return None
        number = event.key() - Qt.Key.Key_0
        if 0 <= number <= min(len(self.classes), 9):
            return self.labelled, number - 1
        if event.key() == Qt.Key.Key_PageDown:
            return self.stepped, 1
        if event.key() == Qt.Key.Key_PageUp:
            return self.stepped, -1
        return None


def _row(*widgets: Any) -> QWidget:
    """Widgets side by side; (widget, share) takes room that is left."""
    holder = QWidget()
    layout = QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(*(widget if isinstance(widget, tuple) else (widget,)))
    return holder


def _button(text: str, tip: str, slot: Any) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setAccessibleName(text.replace("&", "").rstrip("…"))
    button.clicked.connect(lambda _=False: slot())
    return button


def _chip(color: str) -> QIcon:
    """A square in a class's colour with a hairline, so that white can be seen too."""
    picture = QPixmap(_CHIP, _CHIP)
    picture.fill(QColor(color))
    painter = QPainter(picture)
    painter.setPen(QColor("#555555"))
    painter.drawRect(0, 0, _CHIP - 1, _CHIP - 1)
    painter.end()
    return QIcon(picture)
