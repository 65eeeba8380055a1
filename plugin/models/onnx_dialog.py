"""Add ONNX Model: any encoder or segmentation model, described on one page."""

from __future__ import annotations

import os
from typing import Any

from qgis.gui import QgsFileWidget
from qgis.PyQt.QtCore import QLocale
from qgis.PyQt.QtWidgets import (
    QComboBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ...engine.client import EngineClient
from ...processing_provider.translation import tr
from .import_dialog import ImportDialog
from .model import sensor_title

_SENSORS = ("aerial", "optical", "sentinel-2", "sentinel-1", "landsat", "modis", "cbers")


class OnnxDialog(ImportDialog):
    """Asks for what the file itself does not say; a file that says all needs its name only."""

    def __init__(self, client: EngineClient, parent: QWidget | None = None) -> None:
        super().__init__(tr("Add ONNX Model"), tr("&Add"), client, parent)
        self.resize(560, 480)
        note = QLabel(tr(
            "What stays empty is read from the file: from the card that Earthprint writes, or from "
            "the metadata that Deepness documents."
        ))
        note.setWordWrap(True)
        self.file = QgsFileWidget()
        self.file.setDialogTitle(tr("ONNX Model"))
        self.file.setFilter(tr("ONNX models (*.onnx)"))
        self.file.fileChanged.connect(self._look)
        self.kind = QComboBox()
        for title, value in (
            (tr("Automatic"), "automatic"), (tr("Encoder"), "encoder"),
            (tr("Segmentation"), "segmentation"),
        ):
            self.kind.addItem(title, value)
        self.sensor = QComboBox()
        self.sensor.addItem(tr("Automatic (any picture)"), "automatic")
        for sensor in _SENSORS:
            self.sensor.addItem(sensor_title(sensor), sensor)
        self.tile = _spin(tr("As the file says"), 8192)
        self._words = {name: QLineEdit() for name in (
            "name", "bands", "scale", "mean", "std", "ground_size", "classes", "licence",
        )}
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for label, widget, example, tip in self._rows():
            if isinstance(widget, QLineEdit):
                widget.setPlaceholderText(example)
            widget.setToolTip(tip)
            widget.setAccessibleName(label.replace("&", ""))
            form.addRow(label, widget)
            if isinstance(widget, QLineEdit):
                widget.textChanged.connect(self._look)
        layout = QVBoxLayout(self.page)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(note)
        layout.addLayout(form)
        layout.addStretch(1)
        self.refresh()

    def _rows(self) -> list[tuple[str, QWidget, str, str]]:
        """Label, widget, example and tooltip of each row."""
        words = self._words
        return [
            (tr("&File"), self.file, "", tr("The network; Earthprint keeps a copy of its own")),
            (tr("&Name"), words["name"], tr("that of the file"), tr("As the forms call it")),
            (tr("&Kind"), self.kind, "", tr("What it gives: embeddings, or classes of pixels")),
            (tr("&Sensor"), self.sensor, "", tr("The images that it reads")),
            (tr("&Bands in order"), words["bands"], "red green blue",
             tr("Common names in the order that the network wants, such as blue green red nir")),
            (tr("&Multiply values by"), words["scale"], "1",
             tr("Values are 0..1 for pictures and reflectance, dB for radar; 255 for networks "
                "that want 0..255, 10000 for such that want scaled reflectance")),
            (tr("Then subtract (m&ean)"), words["mean"], "0.485 0.456 0.406",
             tr("A number for each band")),
            (tr("Then d&ivide by (deviation)"), words["std"], "0.229 0.224 0.225",
             tr("A number for each band")),
            (tr("&Ground size of a pixel (m)"), words["ground_size"], "0.3",
             tr("For which it was trained")),
            (tr("&Tile size (pixels)"), self.tile, "", tr("Side of the square that goes in")),
            (tr("Names &of classes"), words["classes"], tr("other, building"),
             tr("Of a segmentation, separated by commas, in the network's order")),
            (tr("&Licence"), words["licence"], tr("unknown"), tr("Of the weights")),
        ]

    def job(self) -> tuple[str, dict[str, Any]]:
        """The import with what was filled in."""
        params = {name: widget.text().strip() for name, widget in self._words.items()}
        for name in ("scale", "ground_size"):
            params[name] = _number(params[name])
        params.update(
            file=self.file.filePath().strip(), kind=self.kind.currentData(),
            sensor=self.sensor.currentData(), window=self.tile.value(),
        )
        return "import_model", {name: value for name, value in params.items() if value}

    def complete(self) -> bool:
        """A file that is there, and numbers where numbers are asked for."""
        return os.path.isfile(self.file.filePath().strip()) and not self._wrong()

    def good_end(self, result: dict[str, Any]) -> str:
        """What has come in."""
        if result["head"] and result["head"] != result["output"]:
            return tr("{} and its head are ready; map with Apply head.").format(result["name"])
        return tr("{} is ready for all tools.").format(result["name"])

    def _look(self, _text: str = "") -> None:
        """Say what is wrong with the page, if anything is."""
        path = self.file.filePath().strip()
        if path and not os.path.isfile(path):
            self.say(tr("{} was not found. Choose the file again.").format(path))
        else:
            self.say(self._wrong())

    def _wrong(self) -> str:
        """One sentence about words that should be numbers, "" where all is well."""
        for name in ("scale", "mean", "std", "ground_size"):
            text = self._words[name].text().strip()
            parts = [text] if name in ("scale", "ground_size") else text.replace(",", " ").split()
            if any(_number(part) is None for part in parts if part):
                return tr("{} is no number. Write it like {}.").format(
                    text, self._words[name].placeholderText()
                )
        return ""


def _number(text: str) -> float | None:
    """The number that a text is, with a decimal point or the language's own; None if it is none."""
    try:
        return float(text)
    except ValueError:
        number, good = QLocale().toDouble(text)
        return number if good else None


def _spin(least: str, most: int) -> QSpinBox:
    """A whole number whose 0 is a word."""
    spin = QSpinBox()
    spin.setRange(0, most)
    spin.setSpecialValueText(least)
    return spin
