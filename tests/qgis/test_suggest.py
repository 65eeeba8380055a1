"""Suggested places in QGIS: the layer with its form, and heads of numbers beside it."""

from __future__ import annotations

import random

import processing
import pytest
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsExpression,
    QgsFeature,
    QgsFeatureRequest,
    QgsField,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingException,
    QgsProject,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QVariant

from earthprint.processing_provider import styling

gdal.UseExceptions()


@pytest.fixture
def suggested(made, season, tmp_path, log):
    output = str(tmp_path / "places.gpkg")
    processing.run(
        "earthprint:suggestsamples",
        {"INPUT": [made["embeddings"]], "HEAD": made["head"], "FIELD": "crop", "COUNT": 12,
         "LABELS": str(season / "labels.gpkg"), "OUTPUT": output},
        feedback=log,
    )
    return output


def test_places_come_with_a_form_of_the_classes(suggested, season, log):
    assert "Suggested 12 places" in log.text and "Again: ./run process suggestsamples" in log.text
    layer = QgsVectorLayer(suggested, "places", "ogr")
    assert layer.featureCount() == 12
    styling.dress_vector(layer, styling.Style(styling.FORM, "Places to label", "map"))
    index = layer.fields().indexOf("crop")
    setup = layer.editorWidgetSetup(index)
    assert setup.type() == "ValueMap"
    offered = {value for pair in setup.config()["map"] for value in pair.values()}
    labels = QgsVectorLayer(str(season / "labels.gpkg"), "labels", "ogr")
    assert offered == {feature["crop"] for feature in labels.getFeatures()}
    assert [layer.editFormConfig().readOnly(layer.fields().indexOf(name))
            for name in ("crop", "why")] == [False, True]
    rules = layer.renderer().rootRule().children()
    assert [rule.label() for rule in rules] == ["to label", "labelled"]


def test_a_place_that_has_its_class_turns_into_a_circle(suggested):
    layer = QgsVectorLayer(suggested, "places", "ogr")
    styling.dress_vector(layer, styling.Style(styling.FORM, "Places to label", "map"))
    assert layer.startEditing()
    feature = next(layer.getFeatures())
    assert layer.changeAttributeValue(feature.id(), layer.fields().indexOf("crop"), "maize")
    assert layer.commitChanges()
    counts = []
    for rule in layer.renderer().rootRule().children():
        request = QgsFeatureRequest(QgsExpression(rule.filterExpression()))
        counts.append(len(list(layer.getFeatures(request))))
    assert counts == [11, 1]


def test_labels_need_their_field(made, season):
    with pytest.raises(QgsProcessingException, match="Choose the Class field"):
        processing.run(
            "earthprint:suggestsamples",
            {"INPUT": [made["embeddings"]], "HEAD": made["head"],
             "LABELS": str(season / "labels.gpkg"), "OUTPUT": "TEMPORARY_OUTPUT"},
        )


def test_a_field_of_numbers_becomes_a_raster_with_its_unit(made, tmp_path, log):
    raster = gdal.Open(made["embeddings"])
    left, pixel, _, top, _, height = raster.GetGeoTransform()
    values = raster.ReadAsArray(0, 0, raster.RasterXSize, raster.RasterYSize)
    layer = QgsVectorLayer("Point", "yields", "memory")
    layer.setCrs(QgsCoordinateReferenceSystem.fromWkt(raster.GetProjection()))
    layer.dataProvider().addAttributes([QgsField("yield", QVariant.Double)])
    layer.updateFields()
    rng, features = random.Random(0), []
    while len(features) < 90:
        row, col = rng.randrange(raster.RasterYSize), rng.randrange(raster.RasterXSize)
        if not values[0, row, col]:
            continue
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromPointXY(QgsPointXY(
            left + pixel * (col + 0.5), top + height * (row + 0.5))))
        feature["yield"] = float(values[0, row, col]) / 10 + 0.05 * rng.random()
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    path = str(tmp_path / "yields.gpkg")
    options = QgsVectorFileWriter.SaveVectorOptions()
    QgsVectorFileWriter.writeAsVectorFormatV3(
        layer, path, QgsProject.instance().transformContext(), options)
    head, output = str(tmp_path / "yield.head.onnx"), str(tmp_path / "yield.tif")
    processing.run(
        "earthprint:trainhead",
        {"INPUT": [made["embeddings"]], "LABELS": path, "FIELD": "yield", "UNIT": "t/ha",
         "OUTPUT": head, "REPORT": str(tmp_path / "report.html")},
        feedback=log,
    )
    assert "learnt as numbers" in log.text
    processing.run(
        "earthprint:applyhead", {"INPUT": [made["embeddings"]], "HEAD": head, "OUTPUT": output})
    dataset = gdal.Open(output)  # a band does not keep its file open
    mapped = dataset.GetRasterBand(1)
    assert mapped.GetDescription() == "yield (t/ha)"
    assert mapped.DataType == gdal.GDT_Float32
    low, high, mean, _ = mapped.GetStatistics(False, True)
    assert 0 < low < mean < high < 30

