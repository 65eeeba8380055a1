"""Examples and looks in the project's file."""

from __future__ import annotations

from pathlib import Path

import pytest
from osgeo import gdal
from qgis.core import QgsRasterLayer
from qgis.PyQt import sip
from qgis.PyQt.QtWidgets import QApplication

from earthprint.plugin.search.dock import SearchDock
from earthprint.plugin.search.layers import encoder_of
from earthprint.plugin.search.session import EXAMPLE, SHARE, SearchSession
from earthprint.plugin.search.storage import KEY, SCOPE
from tests.qgis.dock.hands import click


def test_a_project_brings_its_examples_back(
    project, kept, session, search, layer, tmp_path, window
):
    session.add(EXAMPLE, 5.5, 6.5, (5.0, 6.0, 6.0, 7.0))
    session.rename(0, "Zuckerrübe ☘")
    session.set_share(2.5)
    session.set_opacity(0.35)
    session.set_show("both")
    examples = session.examples
    assert project.isDirty()
    path = str(tmp_path / "with examples.qgz")
    assert project.write(path) and not project.isDirty()
    project.clear()
    QApplication.processEvents()
    assert session.examples == () and session.layer is None
    assert (session.share, session.opacity, session.show) == (SHARE, 0.8, "heat")
    assert project.read(path)
    QApplication.processEvents()
    assert session.examples == examples and not session.undo_stack.canUndo()
    assert (session.share, session.opacity, session.show) == (2.5, 0.35, "both")
    assert not project.isDirty()
    # and in a dock that is opened later
    second = SearchSession()
    late = SearchDock(second, search, window)
    assert second.examples == examples and second.share == 2.5
    sip.delete(late)


def test_the_layer_that_was_searched_is_searched_again(project, dock, session, made, tmp_path):
    layers = [QgsRasterLayer(made["embeddings"], name) for name in ("a", "b")]
    project.addMapLayers(layers)
    QApplication.processEvents()
    box = dock.chooser.box
    other = next(one for one in layers if one is not session.layer)
    box.setCurrentIndex(box.findData(other.id()))
    box.activated.emit(box.currentIndex())
    session.add(EXAMPLE, 1, 2)
    name, path = session.layer.name(), str(tmp_path / "p.qgz")
    project.write(path)
    project.clear()
    project.read(path)
    QApplication.processEvents()
    assert session.layer.name() == name and len(session.examples) == 1


def test_a_layer_that_comes_back_brings_its_examples(project, kept, session, layer, made):
    examples = session.examples
    project.removeMapLayer(layer.id())
    assert session.layer is None and session.examples == ()
    QApplication.processEvents()
    back = QgsRasterLayer(made["embeddings"], "another name")
    project.addMapLayer(back)
    QApplication.processEvents()
    assert session.layer is back and session.examples == examples


def test_each_layer_has_its_own_examples(project, kept, session, layer, made, tmp_path):
    copy = str(tmp_path / "copy.tif")
    Path(copy).write_bytes(Path(made["embeddings"]).read_bytes())
    examples, other = session.examples, QgsRasterLayer(copy, "copy")
    project.addMapLayer(other)
    QApplication.processEvents()
    assert session.layer is layer  # what one works on stays
    session.set_layer(other)
    assert session.examples == ()
    session.add(EXAMPLE, 1, 2)
    session.set_layer(layer)
    assert session.examples == examples
    session.set_layer(other)
    assert len(session.examples) == 1


@pytest.mark.parametrize("text", [
    "{", "[]", '{"layers": 3}', '{"layers": [{"id": "x"}, 4, null], "share": "much"}',
    '{"layers": [{"source": "SOURCE", "examples": [{"kind": "example", "x": NaN, "y": 1}, 5, '
    '{"kind": "example", "x": 1, "y": 2, "box": [1, 2]}, {"kind": "no", "x": 1, "y": 2}, '
    '{"kind": "example", "x": 3, "y": 4}]}], "share": NaN, "show": ["x"]}',
])
def test_a_damaged_entry_is_no_error(project, dock, session, made, text):
    project.writeEntry(SCOPE, KEY, text.replace("SOURCE", made["embeddings"]))
    layer = QgsRasterLayer(made["embeddings"], "again")
    project.addMapLayer(layer)
    QApplication.processEvents()
    assert session.layer is layer and session.share == SHARE
    assert [(e.x, e.y) for e in session.examples] == ([(3, 4)] if "SOURCE" in text else [])
    session.add(EXAMPLE, 1, 2)
    assert project.readEntry(SCOPE, KEY)[0] != text


def test_a_file_that_was_encoded_anew(project, kept, session, made, tmp_path):
    """The same path and layer, but another encoder's work by now."""
    path = tmp_path / "embeddings.tif"
    path.write_bytes(Path(made["embeddings"]).read_bytes())
    layer = QgsRasterLayer(str(path), "mine")
    project.addMapLayer(layer)
    session.set_layer(layer)
    session.add(EXAMPLE, 1, 2)
    before, file = encoder_of(layer), str(tmp_path / "p.qgz")
    project.write(file)
    project.clear()
    encoded = gdal.Open(str(path), gdal.GA_Update)
    encoded.SetMetadataItem("EARTHPRINT_ENCODER", "galileo-nano@1#12ab")
    encoded = None
    project.read(file)
    QApplication.processEvents()
    assert encoder_of(session.layer) == "galileo-nano@1#12ab" and session.kept_on == before


def test_examples_of_another_encoder(project, kept, session, layer, made):
    text = project.readEntry(SCOPE, KEY)[0]
    encoder = encoder_of(layer)
    assert encoder in text
    project.removeMapLayer(layer.id())
    project.writeEntry(SCOPE, KEY, text.replace(encoder, "galileo-nano@1#12ab"))
    project.addMapLayer(QgsRasterLayer(made["embeddings"], "again"))
    QApplication.processEvents()
    assert session.kept_on == "galileo-nano@1#12ab"
    assert kept.status.sentence.text() == "Examples were kept on galileo-nano@1."
    assert not kept.result.search.isEnabled() and "Read Again" in kept.result.search.toolTip()
    session.rename(0, "still of the other")
    assert "galileo-nano@1#12ab" in project.readEntry(SCOPE, KEY)[0]
    click(kept.status.read_again)
    assert session.kept_on == "" and kept.status.read_again.isHidden()
    assert encoder in project.readEntry(SCOPE, KEY)[0] and kept.result.search.isEnabled()
