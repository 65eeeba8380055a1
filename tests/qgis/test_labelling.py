"""Map, label, map again: by real clicks and keys, with the real engine behind."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace

import processing
import pytest
from osgeo import gdal, ogr
from qgis.core import (
    QgsProcessingMultiStepFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication

from earthprint.plugin.labels import next_map
from earthprint.plugin.labels.files import free
from earthprint.plugin.labels.labelling import Labelling
from earthprint.processing_provider.provenance import Provenance
from tests.qgis.events import Qgis, until

gdal.UseExceptions()
CLICKS = []


def click(widget) -> None:
    assert widget.isVisible() and widget.isEnabled(), widget.text()
    CLICKS.append(widget.text())
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier,
                     widget.rect().center())


def press(widget, key) -> None:
    CLICKS.append(key)
    QTest.keyClick(widget, key)


@pytest.fixture(scope="module")
def few(season, tmp_path_factory):
    """Two parcels of each class: so few that more labels matter."""
    path = str(tmp_path_factory.mktemp("few") / "few.gpkg")
    gdal.VectorTranslate(path, str(season / "labels.gpkg"))
    file = ogr.Open(path, 1)
    layer = file.GetLayer(0)
    seen: dict[str, int] = {}
    for feature in list(layer):
        seen[feature["crop"]] = seen.get(feature["crop"], 0) + 1
        if seen[feature["crop"]] > 2:
            layer.DeleteFeature(feature.GetFID())
    return path


@pytest.fixture(scope="module")
def from_the_form(plugin, made, few, tmp_path_factory):
    """A crop map of the season, and the record that its layer got from the form."""
    folder = tmp_path_factory.mktemp("from_the_form")
    project = QgsProject.instance()
    project.clear()
    processing.runAndLoadResults("earthprint:cropclassification", {
        "INPUT": [made["stack"], made["embeddings"]], "LABELS": few, "FIELD": "crop",
        "FEATURES": "embeddings", "MODEL": "logistic", "OUTPUT": str(folder / "crop_map.tif"),
        "REPORT": str(folder / "crop_map.html"),
    })
    (layer,) = [one for one in project.mapLayers().values() if isinstance(one, QgsRasterLayer)]
    record = Provenance.of_layer(layer)
    project.clear()
    return folder, record


@pytest.fixture
def mapped(from_the_form, project, tmp_path):
    """That map in the project, with files of its own."""
    folder, record = from_the_form
    for file in folder.iterdir():
        shutil.copy(file, tmp_path)
    head = shutil.copy(record.head, tmp_path)
    here = {key: str(tmp_path / os.path.basename(record.params[key]))
            for key in ("output", "report")}
    layer = QgsRasterLayer(here["output"], "Crop map 2024")
    replace(record, head=str(head), params={**record.params, **here}).write(layer)
    project.addMapLayer(layer)
    project.setCrs(layer.crs())
    return layer


@pytest.fixture
def qgis_window(qgis_app):
    made = Qgis()
    made.window.show()
    QApplication.setActiveWindow(made.window)
    yield made
    made.window.close()
    sip.delete(made.window)


@pytest.fixture
def labelling(qgis_window):
    CLICKS.clear()
    made = Labelling(qgis_window)
    yield made
    made.discard()


@pytest.fixture
def truth(season):
    """What grows at a place."""
    dataset, names = gdal.Open(str(season / "truth.tif")), names_of(str(season / "truth.tif"))
    left, width, _, top, _, height = dataset.GetGeoTransform()
    values = dataset.ReadAsArray()
    return lambda point: names.get(values[int((point.y() - top) / height),
                                          int((point.x() - left) / width)])


def names_of(path) -> dict[int, str]:
    """The classes of a map, as QGIS reads them."""
    layer = QgsRasterLayer(path)  # it owns the renderer
    return {int(entry.value): entry.label for entry in layer.renderer().classes()}


def wait(labelling) -> None:
    until(lambda: labelling._work is None, 240)
    QApplication.processEvents()


def label_as_the_truth(labelling, truth, count) -> None:
    """Press the number of what grows at each place; leave out what is no class."""
    names = [button.accessibleName() for button in labelling.dock.classes]
    for _ in range(count):
        name = truth(labelling.places.point(labelling.index))
        if name not in names:
            press(labelling.dock, Qt.Key.Key_PageDown)
        elif names.index(name) < 9:
            press(labelling.dock, Qt.Key(Qt.Key.Key_1 + names.index(name)))
        else:
            click(labelling.dock.classes[names.index(name)])


def test_a_map_remembers_how_it_was_made(mapped, few, made, project, tmp_path):
    run = Provenance.of_layer(mapped)
    assert run.algorithm == "cropclassification" and run.params["labels"] == few
    assert os.path.isfile(run.head) and 0 < run.macro_f1 <= 1
    path = str(tmp_path / "project.qgz")
    assert project.write(path)
    project.clear()
    assert project.read(path)
    (layer,) = project.mapLayers().values()
    assert Provenance.of_layer(layer) == run


def test_a_row_of_a_batch_keeps_nothing(plugin, project, made, season, tmp_path, log):
    row = QgsProcessingMultiStepFeedback(2, log)
    processing.runAndLoadResults("earthprint:cropclassification", {
        "INPUT": [made["embeddings"]], "LABELS": str(season / "labels.gpkg"), "FIELD": "crop",
        "MODEL": "logistic", "OUTPUT": str(tmp_path / "crop_map.tif")}, feedback=row)
    (layer,) = project.mapLayers().values()
    assert Provenance.of_layer(layer).head == ""


def test_the_loop_is_four_clicks(labelling, qgis_window, mapped, project, truth, tmp_path):
    """Open, suggest, say what a place is (once for each), map again."""
    CLICKS.append("Label Places")
    labelling.action.trigger()
    dock = labelling.dock
    dock.count.setValue(20)
    assert dock.maps.currentText() == mapped.name()
    click(dock.suggest)
    assert labelling._work is not None and dock.stop.isVisible()  # and the window goes on
    wait(labelling)
    assert len(labelling.places.ids) == 20, dock.sentence.text()
    assert labelling.places.path == str(tmp_path / "crop_map_places.gpkg")
    assert dock.places.title() == "Places (0 of 20 labelled)"
    assert not dock.map_again.isEnabled()
    first = labelling.index
    canvas = qgis_window.mapCanvas()
    assert canvas.extent().contains(labelling.places.point(first))
    assert canvas.extent().width() < mapped.extent().width()
    click(dock.classes[0])
    assert labelling.index != first and labelling.places.label(first) is not None
    before = labelling.map
    click(dock.map_again)
    assert len(CLICKS) == 4
    wait(labelling)
    assert labelling.map is not before and labelling.map.name() == mapped.name() + " (2)"
    assert labelling.map.source() == str(tmp_path / "crop_map_2.tif")
    root = project.layerTreeRoot()
    assert not root.findLayer(before.id()).isVisible()
    assert root.findLayer(labelling.map.id()).isVisible()
    assert re.search(r"macro F1 [01]\.\d\d, before [01]\.\d\d \([+-]0\.\d\d\), with 1 labels",
                     dock.sentence.text())
    assert dock.report.isVisible()
    report = (tmp_path / "crop_map_2_report.html").read_text(encoding="utf-8")
    assert "MORE_LABELS=" in report and "crop_map_places.gpkg" in report
    assert [entry.label for entry in labelling.map.renderer().classes()] == [
        entry.label for entry in mapped.renderer().classes()]


def test_labels_make_the_map_better_and_come_back(
    labelling, qgis_window, mapped, project, truth, season, tmp_path
):
    """Two rounds with the truth; between them the project is closed and opened."""
    labelling.action.trigger()
    click(labelling.dock.suggest)
    wait(labelling)
    label_as_the_truth(labelling, truth, 30)
    done = labelling.places.labelled()
    assert done > 8
    shares = [_share_right(mapped.source(), season)]
    path = str(tmp_path / "project.qgz")
    assert project.write(path)
    project.clear()
    until(lambda: labelling.places is None)
    assert labelling.dock.sentence.text().startswith("No map to teach yet")
    assert project.read(path)
    until(lambda: labelling.places is not None)
    assert labelling.places.labelled() == done
    click(labelling.dock.map_again)
    wait(labelling)
    shares.append(_share_right(labelling.map.source(), season))
    assert labelling.dock.suggest.text() == "&Suggest More Places"
    click(labelling.dock.suggest)
    wait(labelling)
    assert labelling.places.labelled() == done and len(labelling.places.ids) == done + 30
    kept = {labelling.places.label(i) for i in range(done)}
    assert None not in kept
    assert len({tuple(labelling.places.point(i)) for i in range(done + 30)}) == done + 30
    assert shares[1] > shares[0], shares


def _share_right(path, season) -> float:
    """Of the pixels whose class the map knows."""
    real = str(season / "truth.tif")
    classes, found = names_of(path), gdal.Open(path).ReadAsArray().ravel().tolist()
    names, true = names_of(real), gdal.Open(real).ReadAsArray().ravel().tolist()
    pairs = [(classes.get(a), names.get(b)) for a, b in zip(found, true)]
    counted = [a == b for a, b in pairs if b in classes.values()]
    return sum(counted) / len(counted)


def test_labels_are_taken_away_and_places_left_out(labelling, mapped, qgis_window):
    labelling.action.trigger()
    dock = labelling.dock
    dock.count.setValue(5)
    click(dock.suggest)
    wait(labelling)
    press(dock, Qt.Key.Key_2)
    assert labelling.index == 1 and labelling.places.labelled() == 1
    press(qgis_window.mapCanvas(), Qt.Key.Key_1)  # the keys work on the map too
    assert labelling.index == 2 and labelling.places.labelled() == 2
    press(dock, Qt.Key.Key_PageUp)
    assert dock.classes[0].isChecked() and dock.clear.isEnabled()
    press(dock, Qt.Key.Key_0)
    assert labelling.index == 1 and labelling.places.labelled() == 1
    click(dock.back)
    assert dock.classes[1].isChecked() and dock.place.text() == "Place 1 of 5"
    click(dock.back)
    assert dock.place.text() == "Place 5 of 5"
    dock.count.setFocus()
    press(dock.count, Qt.Key.Key_3)  # a number that is typed is no label
    assert labelling.places.labelled() == 1
    dock.hide_map.click()
    node = QgsProject.instance().layerTreeRoot().findLayer(mapped.id())
    assert not node.isVisible()
    dock.hide_map.click()
    assert node.isVisible()


def test_stopping_leaves_all_as_it_was(labelling, mapped, project):
    labelling.action.trigger()
    before = set(project.mapLayers())
    click(labelling.dock.suggest)
    click(labelling.dock.stop)
    wait(labelling)
    assert labelling.dock.sentence.text() == "Stopped; nothing was written."
    assert set(project.mapLayers()) == before and labelling.places is None
    assert labelling.dock.suggest.isEnabled()


def test_what_went_with_the_last_session_is_made_again(labelling, mapped):
    """Head and embeddings that lay in QGIS's temporary folder are gone after a restart."""
    os.remove(Provenance.of_layer(mapped).head)
    labelling.action.trigger()
    labelling.dock.count.setValue(4)
    click(labelling.dock.suggest)
    wait(labelling)
    assert len(labelling.places.ids) == 4
    assert os.path.isfile(Provenance.of_layer(mapped).head)


def test_a_map_by_a_ready_made_head_is_made_again_from_the_places_alone(
    plugin, labelling, project, made, truth, tmp_path
):
    processing.runAndLoadResults("earthprint:applyhead", {
        "INPUT": [made["embeddings"]], "HEAD": made["head"], "OUTPUT": str(tmp_path / "map.tif")})
    labelling.action.trigger()
    assert Provenance.of_layer(labelling.map).head == made["head"]
    labelling.dock.count.setValue(60)
    click(labelling.dock.suggest)
    wait(labelling)
    label_as_the_truth(labelling, truth, 60)
    places = labelling.places
    names = [places.label(index) for index in range(len(places.ids))]
    for index, name in enumerate(names):
        if names.count(name) < 2:  # too few to learn from, which the engine refuses
            places.set_label(index, None)
    given = {places.label(index) for index in range(len(places.ids))} - {None}
    assert len(given) > 1
    click(labelling.dock.map_again)
    wait(labelling)
    run = Provenance.of_layer(labelling.map)
    assert run.algorithm == "cropclassification", labelling.dock.sentence.text()
    assert run.params["labels"] == places.path and not run.params.get("head")
    assert {entry.label for entry in labelling.map.renderer().classes()} <= given


def test_labels_of_another_layer_are_not_lost_silently(labelling, mapped, tmp_path):
    """A map that has More labels of its own is not made again without them."""
    run = Provenance.of_layer(mapped)
    replace(run, params={**run.params, "more_labels": "/somewhere/mine.gpkg"}).write(mapped)
    labelling.action.trigger()
    labelling.dock.count.setValue(3)
    click(labelling.dock.suggest)
    wait(labelling)
    press(labelling.dock, Qt.Key.Key_1)
    click(labelling.dock.map_again)
    assert "mine.gpkg" in labelling.dock.sentence.text() and labelling._work is None


def test_without_an_engine_the_set_up_is_offered(labelling, mapped, no_engine):
    labelling.action.trigger()
    click(labelling.dock.suggest)
    assert "not set up" in labelling.dock.sentence.text()
    assert labelling.dock.set_up.isVisible() and labelling._work is None


def test_the_map_goes_midway(labelling, mapped, project):
    labelling.action.trigger()
    click(labelling.dock.suggest)
    project.removeMapLayer(mapped.id())
    wait(labelling)
    QApplication.processEvents()
    assert labelling.map is None and not labelling.dock.suggest.isEnabled()


def test_the_difference_is_that_of_the_figures_shown():
    assert "0.70, before 0.71 (-0.01), with 6" in next_map.change(0.7052, 0.7049, 6)
    assert "0.70, before 0.70 (+0.00)" in next_map.change(0.7021, 0.6981, 6)


def test_names_are_never_taken_twice(tmp_path):
    for wanted in ("map.tif", "map_2.tif", "map_3.tif"):
        path = free(str(tmp_path / "map.tif"))
        assert os.path.basename(path) == wanted
        open(path, "w").close()


def test_a_layer_that_is_edited_keeps_its_edits(labelling, mapped):
    labelling.action.trigger()
    labelling.dock.count.setValue(3)
    click(labelling.dock.suggest)
    wait(labelling)
    layer: QgsVectorLayer = labelling.places.layer
    assert layer.startEditing()
    press(labelling.dock, Qt.Key.Key_1)
    assert layer.isEditable() and layer.isModified() and labelling.places.labelled() == 1
    layer.rollBack()
    assert labelling.places.labelled() == 0
