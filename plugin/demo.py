"""Open Demo Project: a season that the engine invents, ready to be searched and mapped."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from qgis.core import (
    Qgis,
    QgsCategorizedSymbolRenderer,
    QgsContrastEnhancement,
    QgsFillSymbol,
    QgsMapLayer,
    QgsMultiBandColorRenderer,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsReferencedRectangle,
    QgsRendererCategory,
    QgsVectorLayer,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QTimer
from qgis.PyQt.QtWidgets import QAction, QProgressBar, QPushButton

from ..engine import environment
from ..engine.client import EngineCancelled, shared_client
from ..processing_provider.identity import icon
from ..processing_provider.translation import tr
from .search.forms import CROPS, open_form
from .trouble import DetailsDialog, open_set_up
from .work import Run, Work

TITLE = "Demo season 2024"
FIELD = "crop"
#: Milliseconds after the opening until the search's tool has the map.
BEGIN_MS = 500
#: True colour of the season's Sentinel-2 files, whose bands begin with blue.
RED_GREEN_BLUE = (3, 2, 1)


def folder() -> Path:
    """Where the demo lies: beside the engine, as the user's models do."""
    return environment.folder().parent / "demo"


class DemoProject(QObject):
    """The menu's entry; makes the demo once and opens it.

    Args:
        iface: QGIS's window.
        search: what opens the search dock (`show`), and its tool (`activate_tool`).
    """

    def __init__(self, iface: Any, search: Any) -> None:
        super().__init__(iface.mainWindow())
        self._iface, self._search = iface, search
        self._work: Work | None = None
        self._message = None
        self._begin = QTimer(self)  # the dock finds the new layers first
        self._begin.setSingleShot(True)
        self._begin.setInterval(BEGIN_MS)
        self._begin.timeout.connect(search.activate_tool)
        self.action = QAction(icon("earthprint"), tr("Open Demo Project"), self)
        self.action.setObjectName("earthprint_demo")
        self.action.triggered.connect(self.open)

    def open(self) -> None:
        """Open the demo; the first time it is made, which takes some seconds."""
        if self._work is not None:
            return
        if (folder() / "demo.qgz").is_file():
            self._show()
            return
        problem = environment.problem()
        if problem:
            self._say(problem, Qgis.MessageLevel.Warning,
                      (tr("Set Up…"), lambda: open_set_up(self._iface.mainWindow())))
            return
        bar = QProgressBar()
        bar.setMaximumWidth(200)
        bar.setAccessibleName(tr("The demo is being made"))
        self._work = Work(tr("Make the demo project"), shared_client(), make)
        self._work.progressChanged.connect(lambda percent: bar.setValue(int(percent)))
        self._work.ended.connect(self._ended)
        self._say(tr("Inventing a season of fields, and encoding it…"), Qgis.MessageLevel.Info,
                  (tr("Stop"), self._work.cancel), widget=bar)
        self._work.start()

    def discard(self) -> None:
        """Leave QGIS as it was."""
        if self._work is not None:
            self._work.abandon()
            self._work = None
        self._begin.stop()
        self._unsay()
        self.action.deleteLater()
        self.deleteLater()

    def _ended(self, result: Any, failure: Any) -> None:
        self._work = None
        self._unsay()
        if failure is None:
            write_project()
            self._show()
        elif isinstance(failure, EngineCancelled):
            self._say(tr("Stopped. Open Demo Project begins anew."), Qgis.MessageLevel.Info)
        else:
            details = partial(self._show_details, str(failure), getattr(failure, "details", ""))
            self._say(str(failure), Qgis.MessageLevel.Warning, (tr("Details…"), details))

    def _show_details(self, sentence: str, details: str) -> None:
        DetailsDialog(sentence, details, self._iface.mainWindow()).show()

    def _show(self) -> None:
        """Ask about the project that is open, then open the demo with its next steps."""
        if not self._iface.newProject(True):
            return
        self._iface.addProject(str(folder() / "demo.qgz"))
        self._search.show()
        self._begin.start()
        self._say(
            tr("An invented season with labelled fields; move over the map to search, or map."),
            Qgis.MessageLevel.Info, (tr("Map Its Crops…"), self._map_crops),
        )

    def _map_crops(self) -> None:
        place = folder()
        open_form(CROPS, {
            "INPUT": [str(place / "season.stack.json"), str(place / "embeddings.tif")],
            "LABELS": str(place / "season" / "labels.gpkg"), "FIELD": FIELD,
        })

    def _say(
        self, sentence: str, level: Any, button: tuple[str, Any] | None = None, widget: Any = None
    ) -> None:
        self._unsay()
        messages = self._iface.messageBar()
        self._message = messages.createMessage("Earthprint", sentence)
        if widget is not None:
            self._message.layout().addWidget(widget)
        if button is not None:
            pressed = QPushButton(button[0], self._message)
            pressed.clicked.connect(lambda _=False: button[1]())
            self._message.layout().addWidget(pressed)
        messages.pushWidget(self._message, level)

    def _unsay(self) -> None:
        message, self._message = self._message, None
        if message is not None and not sip.isdeleted(message):
            self._iface.messageBar().popWidget(message)


def make(run: Run) -> dict[str, Any]:
    """Steps of the engine: a season with labels, its stack, its embeddings."""
    place = folder()
    place.mkdir(parents=True, exist_ok=True)
    stack = str(place / "season.stack.json")
    run("simulate_season", {"output": str(place / "season")}, (0.0, 0.4))
    run("build_stack", {"folder": str(place / "season" / "scenes"), "output": stack}, (0.4, 0.45))
    return run("encode", {"input": [stack], "output": str(place / "embeddings.tif")}, (0.45, 1.0))


def write_project() -> None:
    """The project's file: fields in true colour, labelled parcels, embeddings below."""
    place = folder()
    facts = json.loads((place / "season" / "season.json").read_text(encoding="utf-8"))
    summer = [d for d in facts["sentinel-2"] if "-05-01" <= d["date"][4:] <= "-08-31"]
    best = min(summer or facts["sentinel-2"], key=lambda d: d["cloud"] + d["shadow"])
    labels = QgsVectorLayer(str(place / "season" / "labels.gpkg"), tr("Labelled parcels"), "ogr")
    labels.setRenderer(_by_crop(labels, _colors(place / "season" / "truth.tif")))
    scene = QgsRasterLayer(
        str(place / "season" / best["file"]), tr("Sentinel-2, {}").format(best["date"]))
    embeddings = QgsRasterLayer(str(place / "embeddings.tif"), TITLE)
    for layer, bands in ((scene, RED_GREEN_BLUE), (embeddings, (1, 2, 3))):
        layer.setRenderer(QgsMultiBandColorRenderer(layer.dataProvider(), *bands))
        layer.setContrastEnhancement(
            QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum,
            QgsRasterMinMaxOrigin.Limits.CumulativeCut,
        )
    project = QgsProject()
    project.setTitle(TITLE)
    project.setCrs(scene.crs())
    for layer, shown in ((labels, True), (scene, True), (embeddings, False)):
        _add(project, layer, shown)
    project.viewSettings().setDefaultViewExtent(
        QgsReferencedRectangle(scene.extent(), scene.crs()))
    part = place / "part.qgz"
    project.write(str(part))
    os.replace(part, place / "demo.qgz")


def _add(project: QgsProject, layer: QgsMapLayer, shown: bool) -> None:
    project.addMapLayer(layer, False)
    node = project.layerTreeRoot().addLayer(layer)
    node.setItemVisibilityChecked(shown)
    node.setExpanded(False)


def _colors(path: Path) -> dict[str, Any]:
    """Colours of the classes by their names, from the style beside the truth."""
    truth = QgsRasterLayer(str(path))
    return {entry.label: entry.color for entry in truth.renderer().classes()}


def _by_crop(labels: QgsVectorLayer, colors: dict[str, Any]) -> QgsCategorizedSymbolRenderer:
    """Outlines in the colours of the crops, so that the fields are seen below."""
    names = sorted(labels.uniqueValues(labels.fields().indexOf(FIELD)))
    categories = []
    for name in names:
        symbol = QgsFillSymbol.createSimple({"style": "no", "outline_width": "0.8"})
        if name in colors:
            symbol.symbolLayer(0).setStrokeColor(colors[name])
        categories.append(QgsRendererCategory(name, symbol, str(name)))
    return QgsCategorizedSymbolRenderer(FIELD, categories)
