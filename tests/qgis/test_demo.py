"""Open Demo Project: from the menu to a map of its crops."""

from __future__ import annotations

import pytest
from qgis.core import QgsApplication, QgsProcessingContext, QgsProject
from qgis.gui import QgsMessageBar, QgsProcessingAlgorithmDialogBase
from qgis.PyQt import sip
from qgis.PyQt.QtWidgets import QAction, QApplication, QPushButton

from earthprint.plugin import demo
from earthprint.plugin.demo import DemoProject
from tests.qgis.events import Qgis, until


class Window(Qgis):
    """QGIS's window that also opens projects."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = QgsMessageBar(self.window)
        self.saved = True

    def messageBar(self):
        return self.messages

    def newProject(self, _ask: bool) -> bool:
        if self.saved:
            QgsProject.instance().clear()
        return self.saved

    def addProject(self, path: str) -> bool:
        return QgsProject.instance().read(path)


class Search:
    shown = active = 0

    def show(self) -> None:
        self.shown += 1

    def activate_tool(self) -> None:
        self.active += 1


@pytest.fixture
def window(project):
    made = Window()
    made.window.show()
    yield made
    made.window.close()
    sip.delete(made.window)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The demo in a folder of the test, and small."""
    monkeypatch.setattr(demo, "folder", lambda: tmp_path / "demo")
    make = demo.make

    def small(run):
        return make(lambda job, params, part: run(
            job, {**params, "size": 128} if job == "simulate_season" else params, part))

    monkeypatch.setattr(demo, "make", small)
    return tmp_path / "demo"


@pytest.fixture
def opened(plugin, window, place):
    made = DemoProject(window, Search())
    yield made
    made.discard()


def buttons(window) -> dict[str, QPushButton]:
    item = window.messages.currentItem()
    return {b.text(): b for b in item.findChildren(QPushButton)} if item is not None else {}


def form():
    (found,) = (
        widget for widget in QApplication.topLevelWidgets()
        if isinstance(widget, QgsProcessingAlgorithmDialogBase) and widget.isVisible()
    )
    return found


def test_two_clicks_lead_to_a_form_that_is_filled_in(opened, window, project, place, iface):
    opened.action.trigger()
    assert "Inventing a season" in window.messages.currentItem().text()
    until(lambda: opened._work is None, 240)
    names = [node.name() for node in project.layerTreeRoot().findLayers()]
    assert names[0] == "Labelled parcels" and names[1].startswith("Sentinel-2, 2024-")
    assert names[2] == "Demo season 2024" and opened._search.shown == 1
    until(lambda: opened._search.active == 1)
    assert all(layer.isValid() for layer in project.mapLayers().values())
    (labels,) = project.mapLayersByName("Labelled parcels")
    crops = labels.renderer().categories()
    assert len({crop.symbol().symbolLayer(0).strokeColor().name() for crop in crops}) > 4
    buttons(window)["Map Its Crops…"].click()
    dialog = form()
    given = dialog.createProcessingParameters()
    dialog.close()
    assert given["FIELD"] == "crop" and given["LABELS"] == labels.id()
    algorithm = QgsApplication.processingRegistry().algorithmById("earthprint:cropclassification")
    context = QgsProcessingContext()
    context.setProject(project)
    assert algorithm.checkParameterValues(given, context) == (True, "")
    # the second time it is there at once
    project.clear()
    opened.action.trigger()
    assert opened._work is None and len(project.mapLayers()) == 3


def test_a_project_that_is_to_be_kept_is_kept(opened, window, project, place):
    place.mkdir()
    (place / "demo.qgz").touch()
    project.setTitle("mine")
    window.saved = False
    opened.action.trigger()
    assert project.title() == "mine"


def test_it_can_be_stopped(opened, window, place):
    opened.action.trigger()
    buttons(window)["Stop"].click()
    until(lambda: opened._work is None, 60)
    assert "Stopped" in window.messages.currentItem().text()
    assert not (place / "demo.qgz").exists()


def test_without_an_engine_the_set_up_is_offered(no_engine, opened, window):
    asked = []
    action = QAction(window.window)
    action.setObjectName("earthprint_setup")
    action.triggered.connect(asked.append)
    opened.action.trigger()
    buttons(window)["Set Up…"].click()
    assert asked and "not set up" in window.messages.currentItem().text()
