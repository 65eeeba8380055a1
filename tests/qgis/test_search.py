"""Similarity search from the form to the styled layers, and through `qgis_process`."""

from __future__ import annotations

import processing
import pytest
from osgeo import gdal, ogr
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingUtils,
    QgsProject,
    QgsReferencedPointXY,
    QgsSingleBandPseudoColorRenderer,
    QgsVectorLayer,
)

gdal.UseExceptions()
ogr.UseExceptions()


@pytest.fixture(scope="module")
def place(made):
    """Middle of the embeddings: x, y and the name of their CRS."""
    file = gdal.Open(made["embeddings"])
    a, b, _, c, _, d = file.GetGeoTransform()
    code = file.GetSpatialRef().GetAuthorityCode(None)
    return a + b * (file.RasterXSize // 2 + 0.5), c + d * (file.RasterYSize // 2 + 0.5), (
        f"EPSG:{code}")


def rows(path):
    """Attributes of the features of a vector file, in order."""
    file = ogr.Open(path)
    return [feature.items() for feature in file.GetLayer(0)]


def points(place, offsets):
    """A memory layer of points around the place."""
    x, y, crs = place
    layer = QgsVectorLayer(f"Point?crs={crs}", "my examples", "memory")
    features = []
    for east, north in offsets:
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromPointXY(QgsPointXY(x + east, y + north)))
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    return layer


def test_from_a_point(plugin, made, place, tmp_path, log):
    x, y, crs = place
    places = {"SIMILARITY": str(tmp_path / "s.tif"), "MATCHES": str(tmp_path / "m.gpkg"),
              "POLYGONS": str(tmp_path / "p.gpkg")}
    answer = processing.run(
        "earthprint:similaritysearch",
        {"INPUT": [made["embeddings"]], "POINT": f"{x},{y} [{crs}]", "K": 7, "MIN_DISTANCE": 200,
         **places}, feedback=log)
    assert answer == places
    found = rows(places["MATCHES"])
    assert [match["rank"] for match in found] == list(range(1, 8))
    assert found[0]["cosine"] == pytest.approx(1)
    assert (found[0]["x"], found[0]["y"]) == pytest.approx((x, y))
    assert found[0]["percentile"] > 99
    raster = gdal.Open(places["SIMILARITY"])
    band = raster.GetRasterBand(1)
    assert (band.GetScale(), band.GetNoDataValue(), band.DataType) == (
        1e-4, -32768, gdal.GDT_Int16)
    assert band.ReadAsArray().max() == 10000
    areas = rows(places["POLYGONS"])
    assert areas and areas[0]["area_ha"] >= areas[-1]["area_ha"] > 0
    again = log.text[log.text.index("Again: ") :].splitlines()[0]
    assert f"'POINT={x!r},{y!r} [{crs}]'" in again and "MIN_DISTANCE=200" in again
    assert f"MATCHES={places['MATCHES']}" in again


def test_point_in_another_coordinate_system(plugin, made, place, tmp_path):
    x, y, crs = place
    point = QgsGeometry.fromPointXY(QgsPointXY(x, y))
    target = QgsCoordinateReferenceSystem("EPSG:4326")
    point.transform(QgsCoordinateTransform(
        QgsCoordinateReferenceSystem(crs), target, QgsProject.instance()))
    output = str(tmp_path / "m.gpkg")
    processing.run("earthprint:similaritysearch", {
        "INPUT": [made["embeddings"]], "POINT": QgsReferencedPointXY(point.asPoint(), target),
        "K": 1, "SIMILARITY": None, "MATCHES": output})
    assert (rows(output)[0]["x"], rows(output)[0]["y"]) == pytest.approx((x, y), abs=0.01)


def test_from_layers(plugin, made, place, tmp_path):
    examples = points(place, [(0, 0), (30, 0), (0, 30), (40, 40)])
    counter = points(place, [(-300, -300), (300, 300)])
    output = str(tmp_path / "m.geojson")
    answer = processing.run("earthprint:similaritysearch", {
        "INPUT": made["embeddings"], "EXAMPLES": examples, "COUNTEREXAMPLES": counter, "K": 20,
        "SIMILARITY": None, "MATCHES": output})
    assert answer == {"MATCHES": output}
    found = rows(output)
    assert len(found) == 20
    assert all(a["cosine"] >= b["cosine"] for a, b in zip(found, found[1:]))


def test_layers_arrive_dressed(plugin, project, made, place):
    x, y, crs = place
    processing.runAndLoadResults("earthprint:similaritysearch", {
        "INPUT": made["embeddings"], "POINT": f"{x},{y} [{crs}]", "K": 5,
        **dict.fromkeys(("SIMILARITY", "MATCHES", "POLYGONS"), "TEMPORARY_OUTPUT")})
    layers = {layer.name(): layer for layer in project.mapLayers().values()}
    assert sorted(layers) == ["Areas alike 2024", "Matches 2024", "Similarity 2024"]
    group = QgsProject.instance().layerTreeRoot().findGroup("embeddings - similarity")
    assert [node.name() for node in group.children()] == [
        "Matches 2024", "Areas alike 2024", "Similarity 2024"]
    similarity = layers["Similarity 2024"].renderer()
    assert isinstance(similarity, QgsSingleBandPseudoColorRenderer)
    assert (similarity.classificationMin(), similarity.classificationMax()) == (0, 1)
    assert similarity.opacity() == pytest.approx(0.8)
    assert layers["Matches 2024"].labelsEnabled()
    assert layers["Areas alike 2024"].renderer().symbol().color().name() == "#56b4e9"


def test_nothing_to_look_for_is_refused(registry, made):
    algorithm = registry.algorithmById("earthprint:similaritysearch").create()
    good, said = algorithm.checkParameterValues(
        {"INPUT": made["embeddings"], "SIMILARITY": "TEMPORARY_OUTPUT",
         "MATCHES": "TEMPORARY_OUTPUT"}, QgsProcessingContext())
    assert not good and said == "Give a place or examples."


def test_a_place_outside_is_a_sentence(plugin, made, place, tmp_path):
    output = tmp_path / "s.tif"
    with pytest.raises(QgsProcessingException, match="No embeddings at 0, 0"):
        processing.run("earthprint:similaritysearch", {
            "INPUT": made["embeddings"], "POINT": f"0,0 [{place[2]}]", "SIMILARITY": str(output),
            "MATCHES": None})
    assert not list(tmp_path.iterdir())


def test_through_qgis_process(qgis_process, made, place, tmp_path):
    x, y, crs = place
    matches, raster = tmp_path / "m.gpkg", tmp_path / "s.tif"
    status, text = qgis_process(
        "run", "earthprint:similaritysearch", "--", f"INPUT={made['embeddings']}",
        f"POINT={x},{y} [{crs}]", "K=3", f"MATCHES={matches}", f"SIMILARITY={raster}")
    assert status == 0, text
    assert len(rows(str(matches))) == 3 and raster.is_file()
    examples = tmp_path / "examples.gpkg"
    layer = points(place, [(0, 0), (50, 0)])
    saved = processing.run("native:savefeatures", {"INPUT": layer, "OUTPUT": str(examples)})
    assert QgsProcessingUtils.mapLayerFromString(saved["OUTPUT"], QgsProcessingContext())
    status, text = qgis_process(
        "run", "earthprint:similaritysearch", "--", f"INPUT={made['embeddings']}",
        f"EXAMPLES={examples}", "K=4", f"MATCHES={matches}", "SIMILARITY=")
    assert status == 0, text
    assert len(rows(str(matches))) == 4
