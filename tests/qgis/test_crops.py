"""Crop classification's form: ready-made heads, maps within the season, why pixels are empty."""

from __future__ import annotations

from pathlib import Path

import processing
import pytest
from osgeo import gdal
from qgis.core import QgsProcessingContext

ROOT = Path(__file__).resolve().parent.parent.parent
gdal.UseExceptions()


def test_the_form_lists_the_heads_that_come_with_the_plugin(registry):
    from earthprint.processing_provider.ready_heads import ready_heads

    algorithm = registry.algorithmById("earthprint:cropclassification")
    options = algorithm.parameterDefinition("READY_HEAD").options()
    assert options == ["none", *ready_heads("crops")] and "crops_flanders" in options
    for name in options[1:]:
        assert (ROOT / "resources" / "heads" / f"{name}.head.onnx").is_file()


@pytest.mark.parametrize("given", [
    {"READY_HEAD": "crops_flanders", "HEAD": "a.head.onnx"}, {"READY_HEAD": "none"}, {}])
def test_one_way_to_the_classes_is_needed(registry, given):
    algorithm = registry.algorithmById("earthprint:cropclassification").create()
    outputs = {d.name(): "TEMPORARY_OUTPUT" for d in algorithm.destinationParameterDefinitions()}
    good, said = algorithm.checkParameterValues(
        {"INPUT": [str(ROOT)], **given, **outputs}, QgsProcessingContext())
    assert not good and "Ready-made head" in said


def test_a_ready_made_head_maps_with_layers_that_say_where_to_trust_it(
        plugin, project, made, tmp_path, log):
    places = {name: str(tmp_path / f"{name.lower()}.tif")
              for name in ("OUTPUT", "UNLIKE", "REASON")}
    processing.runAndLoadResults(
        "earthprint:cropclassification",
        {"INPUT": [made["embeddings"]], "READY_HEAD": "crops_flanders", "UNKNOWN": True,
         "REPORT": str(tmp_path / "report.html"), **places}, feedback=log)
    assert "READY_HEAD=crops_flanders" in log.text and "UNKNOWN=true" in log.text
    layers = {layer.name().rsplit(" ", 1)[0]: layer for layer in project.mapLayers().values()}
    assert set(layers) == {"Crop map", "Unlike the training data", "Why pixels are empty"}
    shown = {c.label for c in layers["Why pixels are empty"].renderer().classes()}
    assert {"Cloud or shadow on every date", "Outside the rasters"} <= shown
    assert {"maize", "grassland", "Unknown"} <= {
        c.label for c in layers["Crop map"].renderer().classes()}
    tree = project.layerTreeRoot()
    assert tree.findLayer(layers["Crop map"].id()).isVisible()
    assert not tree.findLayer(layers["Why pixels are empty"].id()).isVisible()
    crops, why = (gdal.Open(places[n]).ReadAsArray() for n in ("OUTPUT", "REASON"))
    assert ((crops == 254) == (why == 6)).all() and (why[crops < 254] == 0).all()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Where it holds" in page and "field register" in page


def test_a_map_within_the_season(plugin, season, made, tmp_path, log):
    report = tmp_path / "report.html"
    processing.run(
        "earthprint:cropclassification",
        {"INPUT": made["stack"], "LABELS": str(season / "labels.gpkg"), "FIELD": "crop",
         "FEATURES": "bands", "MODEL": "logistic", "CUTOFF_DATE": "2024-06-30",
         "REPORT": str(report), "OUTPUT": str(tmp_path / "crops.tif")}, feedback=log)
    assert "in season until 30 June 2024" in report.read_text(encoding="utf-8")
    assert "CUTOFF_DATE=2024-06-30" in log.text
