"""Visualize embeddings and Change detection, from the form to the styled layer."""

from __future__ import annotations

from pathlib import Path

import processing
import pytest
from osgeo import gdal, ogr
from qgis.core import (
    QgsContrastEnhancement,
    QgsMultiBandColorRenderer,
    QgsPalettedRasterRenderer,
    QgsProcessingException,
    QgsProject,
    QgsRasterLayer,
    QgsSingleBandPseudoColorRenderer,
)

gdal.UseExceptions()


@pytest.fixture(scope="module")
def changed(made, tmp_path_factory) -> str:
    """The embeddings of the season with 20 x 30 pixels, 6 ha, taken from elsewhere and turned."""
    source = gdal.Open(made["embeddings"])
    codes = source.ReadAsArray()
    codes[:, 40:60, 50:80] = 256 - codes[:, 90:110, 10:40].astype(int)
    copy = gdal.GetDriverByName("MEM").CreateCopy("", source)
    for band, plane in enumerate(codes, 1):
        copy.GetRasterBand(band).WriteArray(plane)
    path = str(tmp_path_factory.mktemp("changed") / "later.tif")
    gdal.GetDriverByName("GTiff").CreateCopy(path, copy, options=["INTERLEAVE=PIXEL"])
    return path


def test_colours_are_loaded_as_they_are(plugin, project, made, tmp_path):
    output, basis = str(tmp_path / "colours.tif"), str(tmp_path / "colours.json")
    processing.runAndLoadResults(
        "earthprint:visualizeembeddings",
        {"INPUT": made["embeddings"], "OUTPUT": output, "BASIS_OUTPUT": basis},
    )
    (layer,) = project.mapLayers().values()
    assert layer.name() == "Colours 2024"
    assert QgsProject.instance().layerTreeRoot().findGroup("embeddings - colours") is not None
    renderer = layer.renderer()
    assert isinstance(renderer, QgsMultiBandColorRenderer)
    for enhancement in (renderer.redContrastEnhancement(), renderer.blueContrastEnhancement()):
        none = QgsContrastEnhancement.ContrastEnhancementAlgorithm.NoEnhancement
        assert enhancement is None or enhancement.contrastEnhancementAlgorithm() == none
    assert Path(basis).is_file()
    # in a project without the plugin, GDAL's interpretation gives the same picture
    plain = QgsRasterLayer(output, "plain").renderer()
    assert isinstance(plain, QgsMultiBandColorRenderer)
    assert (plain.redBand(), plain.greenBand(), plain.blueBand()) == (1, 2, 3)


def test_a_stack_in_the_colours_of_another_run(plugin, made, tmp_path, log):
    basis = str(tmp_path / "colours.json")
    whole, again = str(tmp_path / "whole.tif"), str(tmp_path / "again.tif")
    processing.run(
        "earthprint:visualizeembeddings",
        {"INPUT": made["embeddings"], "OUTPUT": whole, "BASIS_OUTPUT": basis},
    )
    box = QgsRasterLayer(whole, "whole").extent()
    left, top = box.xMinimum() + 200, box.yMaximum() - 300
    processing.run(
        "earthprint:visualizeembeddings",
        {"INPUT": made["stack"], "BASIS": basis, "OUTPUT": again,
         "EXTENT": f"{left},{left + 400},{top - 500},{top}"},
        feedback=log,
    )
    part = gdal.Open(again).ReadAsArray()
    assert part.shape == (3, 50, 40)
    assert (part == gdal.Open(whole).ReadAsArray()[:, 30:80, 20:60]).mean() > 0.999
    assert f"BASIS={basis}" in log.text and "three axes hold" in log.text


def test_change_is_mapped_measured_and_styled(plugin, project, made, changed, tmp_path, log):
    places = {"OUTPUT": str(tmp_path / "change.tif"), "DISTANCE": str(tmp_path / "distance.tif"),
              "POLYGONS": str(tmp_path / "areas.gpkg")}
    processing.runAndLoadResults(
        "earthprint:changedetection",
        {"BEFORE": made["embeddings"], "AFTER": changed, **places}, feedback=log,
    )
    change = gdal.Open(places["OUTPUT"]).ReadAsArray()
    assert (change[40:60, 50:80] == 1).mean() > 0.95
    assert (change == 1).sum() <= 600
    layers = {layer.name(): layer for layer in project.mapLayers().values()}
    assert sorted(layers) == ["Areas of change 2024", "Change 2024", "Strength of change 2024"]
    assert isinstance(layers["Change 2024"].renderer(), QgsPalettedRasterRenderer)
    assert [c.label for c in layers["Change 2024"].renderer().classes()] == ["unchanged", "changed"]
    distance = layers["Strength of change 2024"].renderer()
    assert isinstance(distance, QgsSingleBandPseudoColorRenderer)
    assert distance.classificationMin() == 0
    areas = layers["Areas of change 2024"]
    assert areas.featureCount() >= 1 and areas.renderer().symbol().symbolLayer(0).strokeWidth() > 0
    assert sum(f["area_ha"] for f in areas.getFeatures()) == pytest.approx(
        (change == 1).sum() / 100, rel=2e-3)
    group = QgsProject.instance().layerTreeRoot().findGroup("later - change")
    shown = {node.name(): node.isVisible() for node in group.children()}
    assert shown == {"Areas of change 2024": True, "Change 2024": True,
                     "Strength of change 2024": False}
    assert "Threshold: cosine distance" in log.text and "Changed: " in log.text


def test_rasters_are_encoded_like_the_other_season(plugin, made, tmp_path):
    """The stack goes through the encoder of the embeddings; the same season shows no change."""
    output = str(tmp_path / "change.tif")
    processing.run(
        "earthprint:changedetection",
        {"BEFORE": made["stack"], "AFTER": made["embeddings"], "OUTPUT": output},
    )
    assert not (gdal.Open(output).ReadAsArray() == 1).any()


def test_a_polygon_layer_of_its_own_choice(plugin, made, changed):
    answer = processing.run(
        "earthprint:changedetection",
        {"BEFORE": made["embeddings"], "AFTER": changed, "THRESHOLD": 0.5, "MIN_AREA": 1,
         "OUTPUT": "TEMPORARY_OUTPUT", "POLYGONS": "TEMPORARY_OUTPUT"},
    )
    file = ogr.Open(answer["POLYGONS"])
    assert file.GetLayer(0).GetFeatureCount() >= 1


def test_what_does_not_go_together_is_a_sentence(plugin, made, tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}", encoding="utf-8")
    with pytest.raises(QgsProcessingException, match="wrong.json is no colour basis"):
        processing.run(
            "earthprint:visualizeembeddings",
            {"INPUT": made["embeddings"], "BASIS": str(wrong), "OUTPUT": str(tmp_path / "c.tif")},
        )
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.json"]


def test_by_qgis_process(qgis_process, made, changed, tmp_path):
    output, areas = tmp_path / "change.tif", tmp_path / "areas.gpkg"
    status, text = qgis_process(
        "run", "earthprint:changedetection", "--", f"BEFORE={made['embeddings']}",
        f"AFTER={changed}", "MIN_AREA=0.5", f"OUTPUT={output}", f"POLYGONS={areas}",
    )
    assert status == 0 and output.is_file() and areas.is_file(), text
    assert f"Again: ./run process changedetection BEFORE={made['embeddings']} " in text
    assert "MIN_AREA=0.5" in text and f"POLYGONS={areas}" in text
