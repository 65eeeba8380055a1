"""A raster of labels in the forms: given as a layer, by path and band, and through a model."""

from __future__ import annotations

import processing
import pytest
from osgeo import gdal
from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterLayer,
    QgsRasterLayer,
)

from earthprint.processing_provider.values import Values

FORMS = ("trainhead", "cropclassification", "landcoversegmentation")
FAST = {"FEATURES": "embeddings", "MODEL": "logistic"}


def classes(path):
    layer = QgsRasterLayer(path)  # it owns the renderer
    return {int(c.value): c.label for c in layer.renderer().classes()}


def right(path, season):
    """Share of pixels whose class has the name that the truth has."""
    truth = str(season / "truth.tif")
    ours, theirs = (gdal.Open(p).ReadAsArray().ravel().tolist() for p in (path, truth))
    mine, true = classes(path), classes(truth)
    pairs = [(mine[a], true[b]) for a, b in zip(ours, theirs) if a in mine and b in true]
    return sum(a == b for a, b in pairs) / len(pairs)


@pytest.mark.parametrize("name", FORMS)
def test_given_once_and_completely(registry, name):
    form = registry.algorithmById(f"earthprint:{name}").create()
    raster, features = {"LABEL_RASTER": "a.tif"}, {"LABELS": "a.gpkg", "FIELD": "crop"}
    assert form.unmet(raster) == "" and form.unmet(features) == ""
    assert "not both" in form.unmet({**raster, **features})
    assert "Choose the Class field" in form.unmet({"LABELS": "a.gpkg"})
    if name == "trainhead":
        assert "or a Raster of labels" in form.unmet({})
    else:
        assert form.unmet({**raster, "HEAD": "a.head.onnx"})


def test_the_engine_gets_path_and_band_and_the_command_repeats_them(registry, project, season):
    path = str(season / "truth.tif")
    layer = QgsRasterLayer(path, "truth")
    project.addMapLayer(layer)
    context = QgsProcessingContext()
    context.setProject(project)
    for given in (path, layer, layer.id()):
        form = registry.algorithmById("earthprint:trainhead").create()
        values = Values(form, {"INPUT": [path], "LABEL_RASTER": given, "LABEL_BAND": 1,
                               "LABEL_IGNORE": "0, 9"}, context, QgsProcessingFeedback(False))
        job = values.inputs()
        assert (job["labels"], job["band"], job["ignored"]) == (path, 1, "0, 9")
        words = values.command(job)
        assert {f"LABEL_RASTER={path}", "LABEL_BAND=1", "LABEL_IGNORE=0, 9"} <= set(words)
    form = registry.algorithmById("earthprint:trainhead").create()
    assert "band" not in Values(form, {"LABEL_RASTER": path}, context,
                                QgsProcessingFeedback(False)).inputs()


def test_the_dialog_hands_a_raster_on(registry, iface, qtbot, made, season):
    given = {"INPUT": [made["embeddings"]], "LABEL_RASTER": str(season / "truth.tif"),
             "LABEL_BAND": 1}
    dialog = processing.createAlgorithmDialog("earthprint:cropclassification", given)
    qtbot.addWidget(dialog)
    dialog.show()
    read = dialog.createProcessingParameters()
    assert {key: read[key] for key in given} == given and not read.get("LABELS")
    dialog.close()


def test_a_map_from_a_raster_of_labels(plugin, made, season, tmp_path, log):
    output = str(tmp_path / "crops.tif")
    processing.run("earthprint:cropclassification", {
        "INPUT": [made["embeddings"]], "LABEL_RASTER": str(season / "truth.tif"), **FAST,
        "OUTPUT": output}, feedback=log)
    assert right(output, season) > 0.6
    assert set(classes(output).values()) <= set(classes(str(season / "truth.tif")).values())
    assert "labelled pixels" in log.text and "LABEL_RASTER=" in log.text


def test_decimals_are_refused_in_a_sentence(plugin, made, scenes, tmp_path):
    path = str(tmp_path / "ndvi.tif")
    gdal.Translate(path, scenes[0], options="-b 1 -ot Float32")
    with pytest.raises(QgsProcessingException, match=r"Band 1 of ndvi.tif holds decimals"):
        processing.run("earthprint:trainhead", {
            "INPUT": [made["embeddings"]], "LABEL_RASTER": path, **FAST,
            "OUTPUT": str(tmp_path / "a.head.onnx")})


def test_a_graphical_model_with_a_raster_of_labels(plugin, made, season, tmp_path):
    """Trained by one step, mapped by the next; saved and read again before it runs."""
    source = QgsProcessingModelChildParameterSource
    model = QgsProcessingModelAlgorithm("from a raster", "test")
    for parameter in (QgsProcessingParameterMultipleLayers("INPUT", "Input"),
                      QgsProcessingParameterRasterLayer("KNOWN", "Known classes")):
        model.addModelParameter(parameter, QgsProcessingModelParameter(parameter.name()))
    steps = {
        "train": ("earthprint:trainhead", {
            "INPUT": source.fromModelParameter("INPUT"),
            "LABEL_RASTER": source.fromModelParameter("KNOWN"),
            **{key: source.fromStaticValue(value) for key, value in FAST.items()}}),
        "map": ("earthprint:applyhead", {
            "INPUT": source.fromModelParameter("INPUT"),
            "HEAD": source.fromChildOutput("train", "OUTPUT")}),
    }
    for name, (algorithm, sources) in steps.items():
        child = QgsProcessingModelChildAlgorithm(algorithm)
        child.setChildId(name)
        for key, value in sources.items():
            child.addParameterSources(key, [value])
        if name == "map":
            result = QgsProcessingModelOutput("Map")
            result.setChildId(name)
            result.setChildOutputName("OUTPUT")
            child.setModelOutputs({"Map": result})
        model.addChildAlgorithm(child)
    path, output = str(tmp_path / "m.model3"), str(tmp_path / "map.tif")
    assert model.toFile(path)
    again = QgsProcessingModelAlgorithm()
    assert again.fromFile(path)
    processing.run(again, {"INPUT": [made["embeddings"]], "KNOWN": str(season / "truth.tif"),
                           "map:Map": output})
    assert right(output, season) > 0.6
