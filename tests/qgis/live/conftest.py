"""A real canvas with the search on it, and a hand."""

from __future__ import annotations

import pytest
from qgis.core import QgsRasterLayer
from qgis.PyQt import sip

from tests.qgis.events import Hand, Qgis, let, until


@pytest.fixture
def layer(project, made):
    embeddings = QgsRasterLayer(made["embeddings"], "embeddings")
    assert embeddings.isValid()
    project.setCrs(embeddings.crs())
    project.addMapLayer(embeddings)
    return embeddings


@pytest.fixture
def qgis_window(layer):
    made = Qgis()
    for canvas in made.canvases:
        canvas.setLayers([])
        canvas.setExtent(layer.extent())
    made.window.show()
    yield made
    made.window.close()
    sip.delete(made.window)


@pytest.fixture
def search(plugin, qgis_window, layer):
    """The search, opened from the toolbar, on the embeddings."""
    from earthprint.plugin.search.search import SimilaritySearch

    found = SimilaritySearch(qgis_window)
    found.action.trigger()
    found.session.set_layer(layer)
    yield found
    found.discard()


@pytest.fixture
def canvas(qgis_window):
    return qgis_window.mapCanvas()


@pytest.fixture
def hand(canvas):
    return Hand(canvas)


@pytest.fixture
def ready(search):
    """The search with its first view."""
    until(lambda: search.link.ready)
    let(0.15)
    return search
