"""Each algorithm from end to end through `processing.run`, and what happens when it goes wrong."""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import processing
import pytest
from osgeo import gdal
from qgis.core import (
    QgsFeatureRequest,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingModelAlgorithm,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)

from earthprint.engine.client import shared_client

gdal.UseExceptions()
ROOT = Path(__file__).resolve().parent.parent.parent


def share_right(path: str, season: Path) -> float:
    """Share of mapped pixels whose class name is that of the truth."""
    mapped, truth = gdal.Open(path), gdal.Open(str(season / "truth.tif"))
    names, true_names = class_names(mapped), class_names(truth)
    pairs = [
        (names[ours], true_names.get(theirs))
        for ours, theirs in zip(mapped.ReadAsArray().ravel(), truth.ReadAsArray().ravel())
        if ours in names
    ]
    return sum(ours == theirs for ours, theirs in pairs) / len(pairs)


def class_names(file) -> dict[int, str]:
    """Value to name, from the raster attribute table that QGIS shows too."""
    table = file.GetRasterBand(1).GetDefaultRAT()
    value, name = table.GetColOfUsage(gdal.GFU_MinMax), table.GetColOfUsage(gdal.GFU_Name)
    return {
        table.GetValueAsInt(row, value): table.GetValueAsString(row, name)
        for row in range(table.GetRowCount())
    }


def test_build_stack(plugin, scenes, tmp_path, log):
    output = str(tmp_path / "season.stack.json")
    made = processing.run(
        "earthprint:buildstack", {"LAYERS": scenes, "OUTPUT": output}, feedback=log
    )
    assert made == {"OUTPUT": output}
    items = json.loads(Path(output).read_text(encoding="utf-8"))["features"]
    assert len(items) == len(scenes)
    assert f"Again: ./run process buildstack LAYERS={scenes[0]}" in log.text


def test_build_stack_of_a_folder(plugin, season, tmp_path):
    output = str(tmp_path / "season.stack.json")
    processing.run("earthprint:buildstack", {"FOLDER": str(season / "scenes"), "OUTPUT": output})
    assert Path(output).is_file()


def test_forecast_of_a_scene(plugin, project, scenes, tmp_path, log):
    table = tmp_path / "weather.csv"
    first = datetime.date(2024, 1, 1)
    rows = [f"{first + datetime.timedelta(n)},{10 + n % 7},{6 + n % 5},2,12,3" for n in range(366)]
    table.write_text("date,temperature (degC),dewpoint (degC),rain (mm),radiation (MJ/m2),"
                     "wind (m/s)\n" + "\n".join(rows), encoding="utf-8")
    stack, output = str(tmp_path / "season.stack.json"), str(tmp_path / "forecast.tif")
    processing.run("earthprint:buildstack",
                   {"LAYERS": scenes, "WEATHER": str(table), "OUTPUT": stack})
    answer = processing.runAndLoadResults(
        "earthprint:forecast",
        {"INPUT": stack, "DATE": "2024-07-20", "OUTPUT": output,
         "REPORT": str(tmp_path / "report.html")},
        feedback=log,
    )
    assert 0 < answer["ERROR"] < 0.3 and 0 < answer["ERROR_LAST_VALUE"] < 0.3
    assert gdal.Open(output).RasterCount == 10
    (layer,) = project.mapLayers().values()
    assert layer.name() == "Forecast 2024" and layer.bandName(3).endswith("red")
    assert layer.renderer().redContrastEnhancement().maximumValue() < 1
    assert layer.temporalProperties().fixedTemporalRange().begin().date().toString(
        "yyyy-MM-dd") == "2024-07-20"
    assert "Error on dates held back" in log.text and "DATE=2024-07-20" in log.text
    with pytest.raises(QgsProcessingException, match="Daily weather"):
        processing.run("earthprint:forecast",
                       {"INPUT": scenes, "DATE": "2024-07-20", "OUTPUT": output})


def test_encode_layers_of_the_project(plugin, project, scenes, tmp_path, log):
    layers = [QgsRasterLayer(path, f"scene {i}") for i, path in enumerate(scenes)]
    project.addMapLayers(layers)
    output = str(tmp_path / "embeddings.tif")
    context = QgsProcessingContext()
    context.setProject(project)
    box = layers[0].extent()
    left, bottom = box.xMinimum(), box.yMinimum()
    extent = f"{left},{left + 400},{bottom},{bottom + 300} [{layers[0].crs().authid()}]"
    processing.run(
        "earthprint:encode",
        {"INPUT": [layer.id() for layer in layers], "OUTPUT": output, "EXTENT": extent},
        context=context,
        feedback=log,
    )
    file = gdal.Open(output)
    assert (file.RasterXSize, file.RasterYSize) == (40, 30) and file.RasterCount >= 16
    assert "fast@" in file.GetMetadataItem("EARTHPRINT_ENCODER")
    assert log.steps and max(log.steps) <= 100


def test_train_and_apply_head(plugin, made, season, tmp_path):
    head = Path(made["head"])
    assert head.stat().st_size > 500
    assert "macro" in head.with_name("report.html").read_text(encoding="utf-8").lower()
    places = {name: str(tmp_path / f"{name}.tif") for name in ("OUTPUT", "CONFIDENCE", "UNLIKE")}
    answer = processing.run(
        "earthprint:applyhead", {"INPUT": [made["embeddings"]], "HEAD": str(head), **places}
    )
    assert answer == places
    assert all(Path(path).is_file() for path in places.values())
    assert share_right(places["OUTPUT"], season) > 0.6


def test_crop_classification_from_a_stack(plugin, made, season, tmp_path, log):
    places = {
        "OUTPUT": str(tmp_path / "crops.tif"), "CONFIDENCE": str(tmp_path / "confidence.tif"),
        "REPORT": str(tmp_path / "report.html"), "EMBEDDINGS": str(tmp_path / "embeddings.tif"),
        "HEAD_OUTPUT": str(tmp_path / "crops.head.onnx"),
    }
    answer = processing.run(
        "earthprint:cropclassification",
        {"INPUT": made["stack"], "LABELS": str(season / "labels.gpkg"), "FIELD": "crop", **places},
        feedback=log,
    )
    assert answer == places
    assert all(Path(path).stat().st_size > 500 for path in places.values())
    assert share_right(places["OUTPUT"], season) > 0.6
    again = log.text[log.text.index("Again: ") :].splitlines()[0]
    assert f"OUTPUT={places['OUTPUT']}" in again and "FIELD=crop" in again
    assert "cropclassification" in Path(places["REPORT"]).read_text(encoding="utf-8")


def test_crop_classification_with_a_head_and_a_memory_layer(plugin, made, season, tmp_path):
    mapped = str(tmp_path / "by_head.tif")
    processing.run(
        "earthprint:cropclassification",
        {"INPUT": made["embeddings"], "HEAD": made["head"], "OUTPUT": mapped},
    )
    labels = QgsVectorLayer(str(season / "labels.gpkg"), "labels", "ogr").materialize(
        QgsFeatureRequest()
    )
    assert labels.providerType() == "memory"
    other = str(tmp_path / "by_labels.tif")
    processing.run(
        "earthprint:cropclassification",
        {"INPUT": made["embeddings"], "LABELS": labels, "FIELD": "crop", "MODEL": "logistic",
         "OUTPUT": other},
    )
    assert share_right(mapped, season) > 0.6 and share_right(other, season) > 0.6


def test_cluster_embeddings(plugin, made, tmp_path):
    output = str(tmp_path / "groups.tif")
    processing.run(
        "earthprint:clusterembeddings",
        {"INPUT": made["embeddings"], "CLUSTERS": 5, "OUTPUT": output},
    )
    values = set(gdal.Open(output).ReadAsArray().ravel().tolist())
    assert 3 <= len(values - {0}) <= 5


def test_one_engine_serves_all_runs_and_qgis_stays_light(plugin, made, tmp_path):
    engines = set()
    for count in (3, 4):
        processing.run(
            "earthprint:clusterembeddings",
            {"INPUT": made["embeddings"], "CLUSTERS": count, "OUTPUT": str(tmp_path / "g.tif")},
        )
        engines.add(shared_client().pid)
    assert len(engines) == 1 and None not in engines
    heavy = {"torch", "onnxruntime", "rasterio", "sklearn", "pystac", "numba", "onnx", "pyogrio"}
    assert not heavy & set(sys.modules)


def test_a_user_error_is_a_sentence(plugin, made, season, tmp_path):
    output = tmp_path / "crops.tif"
    with pytest.raises(QgsProcessingException) as failure:
        processing.run(
            "earthprint:cropclassification",
            {"INPUT": made["embeddings"], "LABELS": str(season / "labels.gpkg"),
             "FIELD": "nothing", "OUTPUT": str(output)},
        )
    assert "nothing" in str(failure.value) and "Traceback" not in str(failure.value)
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("buildstack", {}, "Give either Rasters or Folder."),
        ("encode", {"INPUT": []}, "is empty. Choose at least one."),
        ("encode", {"INPUT": ["nowhere.tif"]}, "nowhere.tif in Rasters or stack is"),
        ("cropclassification", {"INPUT": [str(ROOT)]}, "Give either Labels with their Class field"),
    ],
)
def test_refused_before_running(registry, name, parameters, sentence):
    algorithm = registry.algorithmById(f"earthprint:{name}").create()
    outputs = {d.name(): "TEMPORARY_OUTPUT" for d in algorithm.destinationParameterDefinitions()}
    good, said = algorithm.checkParameterValues({**parameters, **outputs}, QgsProcessingContext())
    assert not good and sentence in said


def test_without_engine_the_form_says_what_to_do(registry, no_engine, scenes):
    algorithm = registry.algorithmById("earthprint:encode").create()
    assert algorithm.canExecute()[0]  # the dialog opens all the same
    good, said = algorithm.checkParameterValues(
        {"INPUT": scenes[0], "OUTPUT": "TEMPORARY_OUTPUT"}, QgsProcessingContext()
    )
    assert (good, said) == (
        False,
        "The engine is not set up. Choose Plugins > Earthprint > Set Up Environment…",
    )


def test_cancel(plugin, scenes, tmp_path, log):
    output = tmp_path / "embeddings.tif"
    shared_client().run("describe", {})  # warm, so that the job itself is what is cancelled
    threading.Timer(0.3, log.cancel).start()
    start = time.monotonic()
    answer = processing.run(
        "earthprint:encode", {"INPUT": scenes, "OUTPUT": str(output)}, feedback=log
    )
    assert answer == {} and time.monotonic() - start < 2.5
    assert "nothing was written" in log.text
    assert not list(tmp_path.iterdir())


def test_killed_engine_is_a_sentence_and_the_next_run_works(plugin, made, scenes, tmp_path, log):
    shared_client().run("describe", {})
    threading.Timer(0.3, lambda: os.kill(shared_client().pid, signal.SIGKILL)).start()
    with pytest.raises(QgsProcessingException, match="The engine stopped unexpectedly"):
        processing.run(
            "earthprint:encode", {"INPUT": scenes, "OUTPUT": str(tmp_path / "e.tif")}, feedback=log
        )
    output = tmp_path / "groups.tif"
    processing.run(
        "earthprint:clusterembeddings", {"INPUT": made["embeddings"], "OUTPUT": str(output)}
    )
    assert output.is_file()


def test_graphical_model(plugin, season, scenes, tmp_path):
    model = QgsProcessingModelAlgorithm()
    assert model.fromFile(str(ROOT / "resources" / "models" / "crop_map.model3"))
    mapped = str(tmp_path / "crops.tif")
    processing.run(
        model,
        {"INPUT": scenes, "LABELS": str(season / "labels.gpkg"), "FIELD": "crop",
         "classify:Crop map": mapped, "encode:Embeddings": str(tmp_path / "embeddings.tif")},
    )
    assert share_right(mapped, season) > 0.6


def test_outputs_of_other_algorithms_can_be_chained(registry):
    """The modeler offers a stack and embeddings as input of what comes next."""
    from qgis.core import QgsProcessingModelChildAlgorithm

    model = QgsProcessingModelAlgorithm("chain", "test")
    for name in ("buildstack", "encode", "cropclassification"):
        child = QgsProcessingModelChildAlgorithm(f"earthprint:{name}")
        child.setChildId(name)
        model.addChildAlgorithm(child)
    offered = model.availableSourcesForChild(
        "cropclassification", [], ["outputFile", "outputRaster"]
    )
    assert {"buildstack", "encode"} <= {source.outputChildId() for source in offered}


def test_project_is_left_alone(plugin, project, made, tmp_path):
    processing.run("earthprint:clusterembeddings", {"INPUT": made["embeddings"],
                                                    "OUTPUT": str(tmp_path / "g.tif")})
    assert not QgsProject.instance().mapLayers()
