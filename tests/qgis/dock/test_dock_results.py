"""What becomes of a search: forms, files, a head."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from qgis.core import Qgis, QgsVectorLayer
from qgis.gui import QgsGui
from qgis.PyQt.QtWidgets import QApplication, QFileDialog

from earthprint.plugin.search.example_files import temporary
from earthprint.plugin.search.session import COUNTEREXAMPLE, ERROR, EXAMPLE
from tests.qgis.dock.hands import ANSWER, click, form, log_of, run, until


def test_dead_buttons_say_why(dock, session, layer, places):
    result = dock.result
    QApplication.processEvents()
    for button in (result.search, result.save, result.export):
        assert not button.isEnabled() and button.toolTip() == "Keep an example first."
    session.add(EXAMPLE, *places[0])
    assert all(b.isEnabled() for b in (result.search, result.save, result.export))
    reason = "Keep at least two examples and two counterexamples first."
    for kind, place in ((EXAMPLE, places[1]), (COUNTEREXAMPLE, places[2])):
        assert not result.train.isEnabled() and result.train.toolTip() == reason
        session.add(kind, *place)
    assert not result.train.isEnabled()
    session.add(COUNTEREXAMPLE, *places[3])
    assert result.train.isEnabled() and result.train.toolTip() != reason


def test_search_the_whole_raster(kept, session, layer, places, iface, project, base):
    """With exactly these examples and this threshold, through Processing, into its history."""
    session.set_answer(ANSWER)
    click(kept.result.search)
    dialog = form()
    assert dialog.algorithm().id() == "earthprint:similaritysearch"
    given = dialog.createProcessingParameters()
    assert given["INPUT"] == [layer.source()] and given["THRESHOLD"] == pytest.approx(0.71)
    for name, wanted in (("EXAMPLES", places[:2]), ("COUNTEREXAMPLES", places[2:])):
        points = QgsVectorLayer(given[name], name, "ogr")
        assert points.crs() == layer.crs()
        found = [feature.geometry().asPoint() for feature in points.getFeatures()]
        assert [(p.x(), p.y()) for p in found] == wanted
    results = run(dialog)
    layers = {one.name().split(" ")[0] for one in project.mapLayers().values()}
    assert {"Similarity", "Matches"} <= layers
    assert kept.matches.base.currentLayer() is base  # not the results
    assert len(session.matches) == 100 and session.matches[0].cosine > session.matches[99].cosine
    assert kept.status.sentence.text() == "The matches of the whole raster are listed."
    if Qgis.QGIS_VERSION_INT >= 32400:
        entry = QgsGui.historyProviderRegistry().queryEntries(providerId="processing")[-1].entry
        assert entry["algorithm_id"] == "earthprint:similaritysearch"
        assert entry["parameters"]["inputs"]["THRESHOLD"] == pytest.approx(0.71)
        assert entry["results"]["MATCHES"] == results["MATCHES"]


def test_export_polygons(kept, session, iface, project):
    session.set_answer({**ANSWER, "thresholds": [[1, 0.3]]})
    click(kept.result.export)
    dialog = form()
    results = run(dialog)
    assert sorted(name for name in results if results[name]) == ["POLYGONS"]
    areas = next(one for one in project.mapLayers().values() if one.name().startswith("Areas"))
    assert areas.featureCount() and "area_ha" in areas.fields().names()


def test_train_a_head_with_examples_as_classes(kept, session, layer, iface, tmp_path):
    dice = random.Random(3)
    box = layer.extent()
    for kind in (EXAMPLE, COUNTEREXAMPLE) * 8:
        session.add(kind, dice.uniform(box.xMinimum(), box.xMaximum()),
                    dice.uniform(box.yMinimum(), box.yMaximum()))
    click(kept.result.train)
    dialog = form()
    assert dialog.algorithm().id() == "earthprint:trainhead"
    given = dialog.createProcessingParameters()
    assert given["INPUT"] == [layer.source()] and given["FIELD"] == "kind"
    labels = QgsVectorLayer(given["LABELS"], "labels", "ogr")
    assert [f["kind"] for f in labels.getFeatures()] == [e.kind for e in session.examples]
    results = run(dialog)
    assert Path(results["OUTPUT"]).is_file()


def test_points_beside_boxes_stay_their_own_pixels(session, layer, places, plugin, tmp_path):
    """A box makes all of them polygons; what is found for the points does not change by that."""
    import processing

    session.set_layer(layer)
    for place in places:
        session.add(EXAMPLE, *place)
    x, y = places[0]
    session.add(EXAMPLE, x, y, (x - 30, y - 30, x + 30, y + 30))
    assert QgsVectorLayer(temporary(session.examples[:4], layer, "a"), "a", "ogr").geometryType() \
        != QgsVectorLayer(temporary(session.examples, layer, "b"), "b", "ogr").geometryType()
    shapes = QgsVectorLayer(temporary(session.examples, layer, "c"), "c", "ogr")
    only = shapes.clone()
    only.setSubsetString('"order" < 5')
    found = []
    for given in (temporary(session.examples[:4], layer, "d"), only):
        output = str(tmp_path / f"{len(found)}.gpkg")
        processing.run("earthprint:similaritysearch", {
            "INPUT": [layer.source()], "EXAMPLES": given, "K": 20, "SIMILARITY": None,
            "MATCHES": output})
        found.append([f.attributes()[1:] for f in QgsVectorLayer(output).getFeatures()])
    assert found[0] == found[1] and len(found[0]) == 20


def test_save_examples(kept, session, layer, places, project, tmp_path, monkeypatch):
    session.rename(2, "Wiese")
    path = tmp_path / "mine"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    click(kept.result.save)
    saved = next(one for one in project.mapLayers().values() if one.name() == "mine")
    assert [(f["kind"], f["name"] or "", f["order"]) for f in saved.getFeatures()] == [
        (e.kind, e.name, e.number) for e in session.examples]
    assert saved.crs() == layer.crs() and path.with_suffix(".gpkg").is_file()
    assert kept.status.sentence.text() == "Saved the examples in mine.gpkg."
    path = tmp_path / "no folder" / "mine.geojson"
    click(kept.result.save)
    assert kept.status.sentence.text() == (
        "mine.geojson cannot be written. Choose another folder.")
    assert session.status_kind == ERROR and session.details


def test_a_running_search_can_be_stopped(kept, session, iface):
    assert not kept.stop_search()
    click(kept.result.search)
    dialog = form()
    assert not kept.stop_search()  # the form is open, nothing runs
    dialog.runAlgorithm()
    assert kept.stop_search()
    until(lambda: not dialog.cancelButton().isEnabled() and "Stopped" in log_of(dialog))
    dialog.close()
    assert session.matches == []
