"""Flood detection inside QGIS: the form, the layers' looks, the graphical model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import processing
import pytest
from osgeo import gdal, osr
from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingModelAlgorithm,
    QgsRasterLayer,
    QgsVectorLayer,
)

gdal.UseExceptions()
ROOT = Path(__file__).resolve().parent.parent.parent
SIZE = 128


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[str, str]:
    """Backscatter before and during a flood of 40 x 90 pixels, and a lake of 30 x 30."""
    folder = tmp_path_factory.mktemp("flood")
    rng = np.random.default_rng(0)
    paths = {}
    for name, day in (("BEFORE", "2024-06-01"), ("AFTER", "2024-06-13")):
        water = np.zeros((SIZE, SIZE), bool)
        water[10:40, 10:40] = True
        water[70:110, 20:110] |= name == "AFTER"
        paths[name] = str(folder / f"S1_{day}_A044.tif")
        file = gdal.GetDriverByName("GTiff").Create(paths[name], SIZE, SIZE, 2, gdal.GDT_Float32)
        file.SetGeoTransform((500000, 10, 0, 5100000, 0, -10))
        system = osr.SpatialReference()
        system.ImportFromEPSG(32633)
        file.SetProjection(system.ExportToWkt())
        for band, (label, wet, dry) in enumerate((("VV", -19, -9), ("VH", -26, -16)), 1):
            values = np.where(water, wet, dry) + rng.normal(0, 1.2, water.shape)
            file.GetRasterBand(band).WriteArray(values.astype(np.float32))
            file.GetRasterBand(band).SetDescription(label)
    return paths


def test_from_layers_to_areas_and_report(plugin, project, images, tmp_path, log):
    layers = {name: QgsRasterLayer(path, name.lower()) for name, path in images.items()}
    project.addMapLayers(list(layers.values()))
    places = {
        "OUTPUT": str(tmp_path / "flood.tif"), "POLYGONS": str(tmp_path / "areas.gpkg"),
        "CONFIDENCE": str(tmp_path / "sure.tif"), "DISAGREEMENT": str(tmp_path / "odd.tif"),
        "REPORT": str(tmp_path / "report.html"),
    }
    context = QgsProcessingContext()
    context.setProject(project)
    answer = processing.run(
        "earthprint:flooddetection",
        {**{name: [layer.id()] for name, layer in layers.items()}, **places},
        context=context,
        feedback=log,
    )
    assert answer == places
    flood = gdal.Open(places["OUTPUT"]).ReadAsArray()
    assert (flood == 2).sum() == pytest.approx(3600, rel=0.1) and (flood[12:38, 12:38] == 1).all()
    areas = QgsVectorLayer(places["POLYGONS"], "areas", "ogr")
    assert sum(f["area_ha"] for f in areas.getFeatures()) == pytest.approx(
        (flood == 2).sum() / 100, rel=2e-3)
    assert "Again: ./run process flooddetection BEFORE=" in log.text
    assert "flooddetection" in Path(places["REPORT"]).read_text(encoding="utf-8")
    layer = QgsRasterLayer(places["OUTPUT"], "flood")  # as in a fresh project
    labels = {c.value: (c.label, c.color.alpha()) for c in layer.renderer().classes()}
    assert labels[2] == ("flood", 255) and labels[0] == ("dry", 0)


def test_permanent_water_may_be_a_layer_of_polygons(plugin, images, tmp_path):
    areas = str(tmp_path / "areas.gpkg")
    run = {**{k: [v] for k, v in images.items()}, "OUTPUT": str(tmp_path / "a.tif")}
    processing.run("earthprint:flooddetection", {**run, "POLYGONS": areas})
    water = QgsVectorLayer(areas, "water", "ogr")
    processing.run(
        "earthprint:flooddetection",
        {**run, "PERMANENT_WATER": water, "OUTPUT": str(tmp_path / "b.tif")},
    )
    assert (gdal.Open(str(tmp_path / "b.tif")).ReadAsArray() == 2).mean() < 0.01


@pytest.mark.parametrize(("given", "sentence"), [
    ({"METHOD": "thresholds", "DISAGREEMENT": "TEMPORARY_OUTPUT"}, "needs the method both"),
    ({"ZONE_AREAS": "TEMPORARY_OUTPUT"}, "Flood by zone needs Zones"),
])
def test_refused_before_running(registry, images, given, sentence):
    algorithm = registry.algorithmById("earthprint:flooddetection").create()
    good, said = algorithm.checkParameterValues(
        {**{k: [v] for k, v in images.items()}, "OUTPUT": "TEMPORARY_OUTPUT", **given},
        QgsProcessingContext(),
    )
    assert not good and sentence in said


def test_swapped_dates_are_a_sentence(plugin, images, tmp_path):
    with pytest.raises(QgsProcessingException, match="Swap them"):
        processing.run(
            "earthprint:flooddetection",
            {"BEFORE": [images["AFTER"]], "AFTER": [images["BEFORE"]],
             "OUTPUT": str(tmp_path / "flood.tif")},
        )
    assert not (tmp_path / "flood.tif").exists()


def test_graphical_model(plugin, images, tmp_path):
    model = QgsProcessingModelAlgorithm()
    assert model.fromFile(str(ROOT / "resources" / "models" / "flood_map.model3"))
    places = {
        "flood:Flood map": str(tmp_path / "flood.tif"), "flood:Report": str(tmp_path / "r.html"),
        "flood:Flood areas": str(tmp_path / "areas.gpkg"),
        "flood:Disagreement": str(tmp_path / "odd.tif"),
    }
    processing.run(model, {**{k: [v] for k, v in images.items()}, **places})
    assert all(Path(path).stat().st_size > 500 for path in places.values())
