"""Layers of any kind become paths for the engine, parameters become JSON and words."""

from __future__ import annotations

import pytest
from osgeo import ogr
from qgis.core import (
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsRasterLayer,
    QgsVectorLayer,
)

from earthprint.processing_provider.values import Values, dates, flat, plain_file, raster_path


@pytest.fixture
def context(project):
    made = QgsProcessingContext()
    made.setProject(project)
    return made


def memory_layer(count=3):
    layer = QgsVectorLayer("Point?crs=EPSG:32631&field=crop:string", "my fields", "memory")
    features = []
    for i in range(count):
        feature = QgsFeature(layer.fields())
        feature.setAttributes([f"crop {i}"])
        feature.setGeometry(QgsGeometry.fromPointXY(QgsPointXY(600000 + i, 5600000)))
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    return layer


def job(registry, context, algorithm="trainhead", **parameters):
    instance = registry.algorithmById(f"earthprint:{algorithm}").create()
    values = Values(instance, parameters, context, QgsProcessingFeedback(False))
    return values.inputs(), values


def crops(path):
    layer = QgsVectorLayer(path, "x", "ogr")
    assert layer.isValid() and layer.crs().authid() == "EPSG:32631"
    return sorted(feature["crop"] for feature in layer.getFeatures())


def test_defaults(registry, context, scenes):
    found, _ = job(registry, context, "cropclassification", INPUT=scenes[:2])
    assert found == {
        "input": scenes[:2], "encoder": "automatic", "features": "auto", "model": "auto",
        "folds": 5, "smooth": True, "min_area_ha": 0.1, "seed": 0, "device": "auto",
        "memory_mb": 2000, "ready_head": "none", "unknown": False,
    }


def test_memory_layer_is_saved(registry, context):
    found, _ = job(registry, context, LABELS=memory_layer(), FIELD="crop")
    assert crops(found["labels"]) == ["crop 0", "crop 1", "crop 2"]
    assert found["labels"].endswith("my_fields.gpkg") and found["field"] == "crop"


def test_selected_features_only(registry, context, project):
    layer = memory_layer()
    project.addMapLayer(layer)
    layer.selectByExpression("crop = 'crop 1'")
    chosen = QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True)
    found, _ = job(registry, context, LABELS=chosen)
    assert crops(found["labels"]) == ["crop 1"]


@pytest.fixture
def package(tmp_path):
    """A GeoPackage with two layers."""
    path = str(tmp_path / "two layers.gpkg")
    driver = ogr.GetDriverByName("GPKG").CreateDataSource(path)
    for name in ("roads", "parcels"):
        made = driver.CreateLayer(name, geom_type=ogr.wkbPoint)
        made.CreateField(ogr.FieldDefn("crop", ogr.OFTString))
        feature = ogr.Feature(made.GetLayerDefn())
        feature.SetField("crop", name)
        feature.SetGeometry(ogr.CreateGeometryFromWkt("POINT(1 2)"))
        made.CreateFeature(feature)
    return path


def test_sublayer_of_a_geopackage(registry, context, package):
    found, values = job(registry, context, LABELS=f"{package}|layername=parcels", FIELD="crop")
    assert (found["labels"], found["layer"]) == (package, "parcels")
    assert f"LABELS={package}|layername=parcels" in values.command(found)


def test_what_is_not_a_plain_file(package, project):
    assert plain_file(QgsVectorLayer(f"{package}|layername=parcels", "p", "ogr"))[1] == "parcels"
    filtered = QgsVectorLayer(f"{package}|layername=parcels|subset=crop='a'", "p", "ogr")
    assert filtered.isValid() and plain_file(filtered) is None
    assert plain_file(memory_layer()) is None
    edited = QgsVectorLayer(f"{package}|layername=parcels", "p", "ogr")
    edited.startEditing()
    edited.changeAttributeValue(1, edited.fields().lookupField("crop"), "other")
    assert plain_file(edited) is None
    edited.rollBack()
    placed = QgsVectorLayer(f"{package}|layername=parcels", "p", "ogr")
    placed.setCrs(memory_layer().crs())
    assert plain_file(placed) is None


def test_layers_of_the_project_and_files(registry, context, project, scenes, tmp_path):
    layer = QgsRasterLayer(scenes[0], "first")
    project.addMapLayer(layer)
    stack = tmp_path / "a.stack.json"
    stack.write_text("{}", encoding="utf-8")
    given = [layer, layer.id(), "first", scenes[1], str(stack), str(tmp_path)]
    found, _ = job(registry, context, "encode", INPUT=given)
    assert found["input"] == [scenes[0]] * 3 + [scenes[1], str(stack), str(tmp_path)]


def test_unknown_raster_is_a_sentence(registry, context):
    with pytest.raises(QgsProcessingException, match=r"nowhere.tif is neither a file nor a layer"):
        job(registry, context, "encode", INPUT=["nowhere.tif"])


def test_web_layer_is_a_sentence():
    layer = QgsRasterLayer("type=xyz&url=http://localhost/{z}", "tiles", "wms")
    with pytest.raises(QgsProcessingException, match="tiles is no raster file"):
        raster_path(layer)


def test_extent_and_dates(registry, context, scenes):
    found, values = job(
        registry, context, "encode", INPUT=scenes[0], START="2024-03-01",
        EXTENT="600000,601000,5600000,5602000 [EPSG:32631]",
    )
    assert found["extent"][:4] == [600000, 5600000, 601000, 5602000]
    assert found["extent"][4].startswith("PROJCRS[") or "UTM zone 31N" in found["extent"][4]
    assert found["start"] == "2024-03-01" and "end" not in found
    words = values.command(found)
    assert "EXTENT=600000.0,601000.0,5600000.0,5602000.0 [EPSG:32631]" in words
    assert "START=2024-03-01" in words and not any(w.startswith("ENCODER") for w in words)


def test_command_repeats_what_differs_from_defaults(registry, context, scenes):
    found, values = job(
        registry, context, "cropclassification", INPUT=scenes[:2], SMOOTH=False, SEED=7,
        MIN_AREA=0, FEATURES="bands", OUTPUT="/data/crops.tif",
    )
    words = values.command({**found, "output": "/data/crops.tif"})
    assert words == [
        f"INPUT={scenes[0]}", f"INPUT={scenes[1]}", "FEATURES=bands", "SMOOTH=false",
        "MIN_AREA=0.0", "SEED=7", "OUTPUT=/data/crops.tif",
    ]


def test_empty_number_is_left_out(registry, context, scenes):
    assert "block_m" not in job(registry, context, INPUT=scenes, BLOCK=None)[0]
    assert job(registry, context, INPUT=scenes, BLOCK=500)[0]["block_m"] == 500.0


@pytest.mark.parametrize(
    ("text", "days"),
    [("", []), ("2024-05-01", ["2024-05-01"]),
     ("2024-05-01, 2024-05-11;2024-06-01\n2024-06-02",
      ["2024-05-01", "2024-05-11", "2024-06-01", "2024-06-02"])],
)
def test_dates_in_a_text(text, days):
    assert dates(text) == days


def test_flat(context):
    assert flat([["a", None], "b", ""], context) == ["a", "b"]
    assert flat(None, context) == []
