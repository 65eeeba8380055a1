"""A session with its dock beside a map that only remembers."""

from __future__ import annotations

import random

import pytest
from osgeo import gdal
from qgis.core import QgsRasterLayer
from qgis.PyQt import sip
from qgis.PyQt.QtWidgets import QApplication, QMainWindow, QWidget

from earthprint.plugin.search.session import COUNTEREXAMPLE, EXAMPLE, Match, SearchSession
from tests.qgis.dock.hands import Map, open_dock


@pytest.fixture
def layer(project, made):
    embeddings = QgsRasterLayer(made["embeddings"], "Demo season 2024")
    project.addMapLayer(embeddings)
    return embeddings


@pytest.fixture
def window(qtbot):
    made = QMainWindow()
    made.setCentralWidget(QWidget())
    made.resize(700, 1000)
    made.show()
    QApplication.setActiveWindow(made)
    yield made
    made.close()
    sip.delete(made)


@pytest.fixture
def session(project):
    return SearchSession()


@pytest.fixture
def search(qgis_app):
    return Map()


@pytest.fixture
def dock(plugin, session, search, window):
    return open_dock(session, search, window)


@pytest.fixture
def places(layer):
    """Four places on the embeddings."""
    middle = layer.extent().center()
    return [(middle.x() + dx, middle.y() + dy) for dx, dy in ((0, 0), (60, 0), (0, 90), (-90, 30))]


@pytest.fixture
def kept(dock, session, places):
    """The dock with two examples and two counterexamples."""
    for place, kind in zip(places, (EXAMPLE, EXAMPLE, COUNTEREXAMPLE, COUNTEREXAMPLE)):
        session.add(kind, *place)
    return dock


@pytest.fixture
def matches(session, layer):
    box, dice = layer.extent(), random.Random(4)
    return [
        Match(dice.uniform(box.xMinimum(), box.xMaximum()),
              dice.uniform(box.yMinimum(), box.yMaximum()), 0.95 - rank / 200, 99.99 - rank / 50)
        for rank in range(100)
    ]


@pytest.fixture(scope="module")
def picture(made, tmp_path_factory) -> str:
    """A base layer over the embeddings: red everywhere."""
    source = gdal.Open(made["embeddings"])
    path = str(tmp_path_factory.mktemp("base") / "red.tif")
    file = gdal.GetDriverByName("GTiff").Create(path, source.RasterXSize, source.RasterYSize, 3)
    file.SetGeoTransform(source.GetGeoTransform())
    file.SetProjection(source.GetProjection())
    file.GetRasterBand(1).Fill(200)
    file.FlushCache()
    return path


@pytest.fixture
def base(project, picture):
    red = QgsRasterLayer(picture, "Red")
    project.addMapLayer(red)
    return red
