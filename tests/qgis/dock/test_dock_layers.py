"""Which embeddings the dock searches, and how it gets some."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsRasterLayer
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication

from earthprint.plugin.search.layers import encoder_of
from tests.qgis.dock.hands import KEYS, click, form, run, until


def test_the_topmost_visible_embeddings_are_searched(project, made, dock, session):
    assert session.layer is None and dock.chooser.need.isVisible()
    assert dock.chooser.need.text() == "No embeddings here yet."
    assert not dock.tool.isEnabled() and "first" in dock.tool.toolTip()
    hidden, above, below = (QgsRasterLayer(made["embeddings"], name) for name in "abc")
    for one in (hidden, above, below):
        project.addMapLayer(one, False)
        project.layerTreeRoot().addLayer(one)
    project.layerTreeRoot().findLayer(hidden.id()).setItemVisibilityChecked(False)
    QApplication.processEvents()
    assert session.layer is above
    assert dock.chooser.box.currentText() == "b - 128 d, 10 m"
    assert not dock.chooser.need.isVisible() and dock.tool.isEnabled()
    QTest.keyClick(dock.chooser.box, KEYS.Key_Down)
    assert dock.chooser.box.currentText().startswith("c ") and session.layer is below
    project.removeMapLayer(below.id())
    QApplication.processEvents()
    assert session.layer is above
    project.removeMapLayers([above.id(), hidden.id()])
    QApplication.processEvents()
    assert session.layer is None and dock.chooser.need.isVisible()


def test_rasters_are_encoded_first(
    project, dock, session, scenes, iface, layer, registry
):
    """A season's group is encoded by its own form; the new embeddings are searched then."""
    group = project.layerTreeRoot().addGroup("season")
    rasters = [QgsRasterLayer(path, Path(path).stem) for path in scenes[:6]]
    for raster in rasters:
        project.addMapLayer(raster, False)
        group.addLayer(raster)
    QApplication.processEvents()
    assert session.layer is layer
    box = dock.chooser.box
    box.setCurrentIndex(box.findData(rasters[2].id()))
    box.activated.emit(box.currentIndex())
    assert session.layer is None
    assert dock.chooser.need.text() == "These rasters need embeddings first."
    click(dock.chooser.encode)
    dialog = form()
    assert dialog.algorithm().id() == "earthprint:encode"
    assert sorted(dialog.createProcessingParameters()["INPUT"]) == sorted(scenes[:6])
    run(dialog)
    until(lambda: session.layer is not None)
    assert session.layer is not layer and encoder_of(session.layer)
    assert box.currentData() == session.layer.id()


def test_import_and_plus_open_their_forms(project, dock, iface, base):
    click(dock.chooser.imports)
    dialog = form()
    assert dialog.algorithm().id() == "earthprint:importembeddings"
    dialog.close()
    click(dock.chooser.more)
    dialog = form()
    assert dialog.algorithm().id() == "earthprint:encode"
    assert dialog.createProcessingParameters()["INPUT"] == [base.source()]
    dialog.close()
