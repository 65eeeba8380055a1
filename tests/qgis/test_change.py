"""Change detection inside QGIS: series and dates, the layers' looks, the graphical model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import processing
import pytest
from osgeo import gdal, osr
from qgis.core import (
    QgsProcessingContext,
    QgsProcessingModelAlgorithm,
    QgsRasterLayer,
    QgsVectorLayer,
)

gdal.UseExceptions()
ROOT = Path(__file__).resolve().parent.parent.parent
SIZE = 48
FOREST, SOIL = (0.04, 0.025, 0.30, 0.13, 0.06), (0.11, 0.15, 0.24, 0.32, 0.26)
LOST = np.s_[10:30, 10:40]  # 600 pixels of 10 m, 6 ha


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> list[str]:
    """Twelve dates of forest; from the seventh on a clearing."""
    folder = tmp_path_factory.mktemp("forest")
    paths = []
    for k in range(12):
        rng = np.random.default_rng(k)
        bare = np.zeros((SIZE, SIZE), bool)
        bare[:5] = True
        bare[LOST] |= k >= 6
        path = str(folder / f"S2A_{2020 + k // 6}{4 + k % 6:02d}15.tif")
        file = gdal.GetDriverByName("GTiff").Create(path, SIZE, SIZE, 5, gdal.GDT_UInt16)
        file.SetGeoTransform((500000, 10, 0, 5600000, 0, -10))
        system = osr.SpatialReference()
        system.ImportFromEPSG(32631)
        file.SetProjection(system.ExportToWkt())
        for band, (name, tree, soil) in enumerate(
            zip(("B3", "B4", "B8", "B11", "B12"), FOREST, SOIL), 1  # noqa: B905
        ):
            values = np.where(bare, soil, tree) + rng.normal(0, 0.004, bare.shape)
            file.GetRasterBand(band).WriteArray(np.rint(1e4 * np.clip(values, 1e-4, 1)))
            file.GetRasterBand(band).SetDescription(name)
        file.FlushCache()
        paths.append(path)
    return paths


def test_before_and_after_to_styled_layers_and_report(plugin, project, scenes, tmp_path, log):
    layers = [QgsRasterLayer(path, Path(path).stem) for path in scenes]
    project.addMapLayers(layers)
    places = {
        "OUTPUT": str(tmp_path / "lost.tif"), "POLYGONS": str(tmp_path / "areas.gpkg"),
        "DATE": str(tmp_path / "date.tif"), "CONFIDENCE": str(tmp_path / "sure.tif"),
        "DISTANCE": str(tmp_path / "strength.tif"), "REPORT": str(tmp_path / "report.html"),
    }
    processing.runAndLoadResults(
        "earthprint:changedetection",
        {"BEFORE": [layer.id() for layer in layers[:6]],
         "AFTER": [layer.id() for layer in layers[6:]], "PRESET": "deforestation", **places},
        feedback=log,
    )
    lost = gdal.Open(places["OUTPUT"]).ReadAsArray()
    assert (lost[LOST] == 1).mean() > 0.95 and (lost[:5] == 0).mean() > 0.95
    loaded = {layer.name(): layer for layer in project.mapLayers().values()}
    assert {"Change 2020-2021", "Date of change 2020-2021", "Areas of change 2020-2021",
            "Confidence 2020-2021", "Strength of change 2020-2021"} <= set(loaded)
    fresh = QgsRasterLayer(places["OUTPUT"], "as in a fresh project")
    assert {c.value: c.label for c in fresh.renderer().classes()} == {
        0: "no forest before", 1: "deforested", 2: "forest"}
    date = loaded["Date of change 2020-2021"]
    assert date.renderer().classificationMin() == 2020 and date.bandCount() == 4
    areas = QgsVectorLayer(places["POLYGONS"], "areas", "ogr")
    (area,) = areas.getFeatures()
    assert area["area_ha"] == pytest.approx(6, rel=0.05) and area["change"] == "deforested"
    assert (area["last_clear"], area["first_clear"]) == ("2020-09-15", "2021-04-15")
    page = Path(places["REPORT"]).read_text(encoding="utf-8")
    assert "Deforestation, 2020-04-15 to 2021-09-15" in page and "changedetection" in page
    assert "Again: ./run process changedetection BEFORE=" in log.text
    assert "PRESET=deforestation" in log.text


def test_one_series_needs_no_after(plugin, scenes, tmp_path, log):
    processing.run(
        "earthprint:changedetection",
        {"BEFORE": scenes, "OUTPUT": str(tmp_path / "c.tif"), "DATE": str(tmp_path / "d.tif")},
        feedback=log,
    )
    assert (gdal.Open(str(tmp_path / "c.tif")).ReadAsArray()[LOST] == 1).mean() > 0.95
    year = gdal.Open(str(tmp_path / "d.tif")).ReadAsArray()[0]
    assert np.median(year[LOST]) == pytest.approx(2020.99, abs=0.1)
    assert "Series: NBR of Sentinel-2, 12 dates" in log.text


@pytest.mark.parametrize(("given", "sentence"), [
    ({"METHOD": "head"}, "needs Head"),
    ({"METHOD": "bands", "PRESET": "deforestation"}, "automatic, head or series"),
    ({"METHOD": "bands", "HEAD": "x.head.onnx"}, "Head is used by the method head only"),
])
def test_refused_before_running(registry, scenes, given, sentence):
    algorithm = registry.algorithmById("earthprint:changedetection").create()
    good, said = algorithm.checkParameterValues(
        {"BEFORE": scenes[:1], "AFTER": scenes[6:7], "OUTPUT": "TEMPORARY_OUTPUT", **given},
        QgsProcessingContext(),
    )
    assert not good and sentence in said


def test_graphical_model(plugin, scenes, tmp_path):
    model = QgsProcessingModelAlgorithm()
    assert model.fromFile(str(ROOT / "resources" / "models" / "deforestation_map.model3"))
    places = {
        "forest:Deforestation map": str(tmp_path / "lost.tif"),
        "forest:Areas of loss": str(tmp_path / "areas.gpkg"),
        "forest:Confidence": str(tmp_path / "sure.tif"),
        "forest:Report": str(tmp_path / "r.html"),
    }
    processing.run(model, {"BEFORE": scenes[:6], "AFTER": scenes[6:], **places})
    assert all(Path(path).stat().st_size > 500 for path in places.values())
    two = gdal.Open(places["forest:Deforestation map"]).ReadAsArray()
    processing.run(model, {"BEFORE": scenes, **places})  # one series
    one = gdal.Open(places["forest:Deforestation map"]).ReadAsArray()
    assert (one[LOST] == 1).mean() > 0.9 and (two[LOST] == 1).mean() > 0.9
