"""QGIS with the plugin, and a small simulated season, for the tests of what runs inside QGIS."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from pathlib import Path

import pytest
from osgeo import ogr
from qgis.core import QgsApplication, QgsProcessingFeedback, QgsProject
from qgis.gui import QgsBrowserGuiModel
from qgis.PyQt.QtWidgets import QMainWindow, QMenu, QToolBar

from earthprint.engine import environment
from earthprint.engine.client import EngineClient

ROOT = Path(__file__).resolve().parent.parent.parent
PLUGINS = ROOT / "build" / "plugins"
for place in (PLUGINS, ROOT):  # ROOT for what tests share: `from tests.qgis.events import ...`
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))


class Window:
    """As much of QGIS's window as the plugin touches, with a menu that can be looked at."""

    def __init__(self, message_bar) -> None:
        self._window = QMainWindow()
        self.menu = QMenu(self._window)
        self.bar = QToolBar(self._window)
        self.registered = 0
        self._message_bar = message_bar

    def mainWindow(self):
        return self._window

    def messageBar(self):
        return self._message_bar

    def addPluginToMenu(self, _name, action) -> None:
        self.menu.addAction(action)

    def removePluginMenu(self, _name, action) -> None:
        self.menu.removeAction(action)

    def addToolBarIcon(self, action) -> None:
        self.bar.addAction(action)

    def removeToolBarIcon(self, action) -> None:
        self.bar.removeAction(action)

    def registerMainWindowAction(self, _action, _shortcut) -> None:
        self.registered += 1

    def unregisterMainWindowAction(self, _action) -> None:
        self.registered -= 1


class Log(QgsProcessingFeedback):
    """Keeps what an algorithm says."""

    def __init__(self) -> None:
        super().__init__(False)
        self.lines: list[str] = []
        self.steps: list[float] = []
        self.progressChanged.connect(self.steps.append)

    def pushInfo(self, info):
        self.lines.append(info)

    def pushWarning(self, warning):
        self.lines.append(f"Warning: {warning}")

    def pushDebugInfo(self, info):
        self.lines.append(info)

    def setProgressText(self, text):
        self.lines.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def iface(qgis_iface, monkeypatch):
    """The stand-in for QGIS's window, with the browser that Processing's dialogs ask for."""
    browser = QgsBrowserGuiModel()
    monkeypatch.setattr(qgis_iface, "browserModel", lambda: browser, raising=False)
    return qgis_iface


@pytest.fixture
def window(qgis_iface):
    return Window(qgis_iface.messageBar())


@pytest.fixture(scope="session")
def plugin(qgis_app, qgis_processing):
    """The plugin as `qgis_process` has it, its algorithms registered."""
    from earthprint import classFactory

    made = classFactory(None)
    made.initProcessing()
    yield made
    made.unload()


@pytest.fixture
def registry(plugin):
    return QgsApplication.processingRegistry()


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def project(qgis_app):
    """The project, empty before and after."""
    QgsProject.instance().clear()
    yield QgsProject.instance()
    QgsProject.instance().clear()


@pytest.fixture(scope="session")
def season(tmp_path_factory) -> Path:
    """A simulated season: scenes/*.tif, labels.gpkg, truth.tif; made by the engine."""
    folder = tmp_path_factory.mktemp("season") / "field_lab"
    client = EngineClient()
    try:
        client.run("simulate_season", {"output": str(folder), "size": 128, "seed": 31})
    finally:
        client.close()
    keep_common_classes(str(folder / "labels.gpkg"))
    return folder


def keep_common_classes(path: str) -> None:
    """Remove labels of classes with one parcel, which is too little to test a head with."""
    file = ogr.Open(path, 1)
    layer = file.GetLayer(0)
    counts = collections.Counter(feature["crop"] for feature in layer)
    for name, count in counts.items():
        if count < 2:
            file.ExecuteSQL(f"DELETE FROM {layer.GetName()} WHERE crop = '{name}'")


@pytest.fixture(scope="session")
def scenes(season) -> list[str]:
    return sorted(str(path) for path in (season / "scenes").glob("*.tif"))


@pytest.fixture(scope="session")
def made(plugin, season, scenes, tmp_path_factory) -> dict[str, str]:
    """A stack, embeddings and a head of the season, made by the algorithms themselves."""
    import processing

    folder = tmp_path_factory.mktemp("made")
    stack = str(folder / "season.stack.json")
    embeddings = str(folder / "embeddings.tif")
    head = str(folder / "crops.head.onnx")
    processing.run("earthprint:buildstack", {"LAYERS": scenes, "OUTPUT": stack})
    processing.run("earthprint:encode", {"INPUT": [stack], "OUTPUT": embeddings})
    processing.run(
        "earthprint:trainhead",
        {
            "INPUT": [embeddings],
            "LABELS": str(season / "labels.gpkg"),
            "FIELD": "crop",
            "MODEL": "logistic",
            "OUTPUT": head,
            "REPORT": str(folder / "report.html"),
        },
    )
    return {"stack": stack, "embeddings": embeddings, "head": head}


@pytest.fixture(scope="session")
def qgis_process(tmp_path_factory):
    """Runs qgis_process on this checkout in a profile of its own; (exit status, output)."""
    place = tmp_path_factory.mktemp("profile")
    settings = place / "profiles" / "default" / "QGIS" / "QGIS3.ini"
    settings.parent.mkdir(parents=True)
    settings.write_text("[PythonPlugins]\nearthprint=true\n", encoding="utf-8")
    place.chmod(0o700)
    variables = {
        **os.environ,
        "QGIS_PLUGINPATH": str(PLUGINS),
        "QGIS_CUSTOM_CONFIG_PATH": str(place),
        "XDG_RUNTIME_DIR": str(place),
        "QT_QPA_PLATFORM": "offscreen",
    }
    program = "qgis_process.bin" if Path("/usr/bin/qgis_process.bin").exists() else "qgis_process"

    def run(*words: str, **more: str) -> tuple[int, str]:
        done = subprocess.run(
            [program, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env={**variables, **more},
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture
def no_engine(tmp_path, monkeypatch):
    """A machine on which the engine was never set up."""
    monkeypatch.setenv("EARTHPRINT_ENV", str(tmp_path / "nothing"))
    assert environment.find_python() is None
