"""Land cover segmentation inside QGIS: the form, the layers' looks, the graphical model."""

from __future__ import annotations

from pathlib import Path

import processing
import pytest
from osgeo import gdal
from qgis.core import QgsProcessingContext, QgsProcessingModelAlgorithm, QgsRasterLayer

gdal.UseExceptions()
ROOT = Path(__file__).resolve().parent.parent.parent
ID = "earthprint:landcoversegmentation"


def classes(path: str) -> dict[int, tuple[str, str]]:
    """Value to name and colour, as a fresh project shows the file."""
    layer = QgsRasterLayer(path, "map")
    return {c.value: (c.label, c.color.name()) for c in layer.renderer().classes()}


def test_ready_made_from_layers_to_a_styled_map(plugin, project, scenes, tmp_path, log):
    layers = [QgsRasterLayer(path, f"scene {i}") for i, path in enumerate(scenes)]
    project.addMapLayers(layers)
    places = {name: str(tmp_path / f"{name}.tif") for name in ("OUTPUT", "CONFIDENCE", "REASON")}
    places["REPORT"] = str(tmp_path / "report.html")
    context = QgsProcessingContext()
    context.setProject(project)
    answer = processing.run(
        ID, {"INPUT": [layer.id() for layer in layers], **places}, context=context, feedback=log
    )
    assert answer == places
    shown = classes(places["OUTPUT"])
    assert shown[10] == ("Tree cover", "#006400") and shown[40] == ("Cropland", "#f096ff")
    assert "Again: ./run process landcoversegmentation INPUT=" in log.text
    page = Path(places["REPORT"]).read_text(encoding="utf-8")
    assert "landcoversegmentation" in page and "WorldCover" in page


def test_loaded_in_its_group(plugin, project, scenes, tmp_path):
    processing.runAndLoadResults(
        ID, {"INPUT": scenes[3:4], "OUTPUT": str(tmp_path / "cover.tif")}
    )
    (layer,) = project.mapLayers().values()
    assert layer.name() == "Land cover 2024"
    assert layer.renderer().classes()[0].label == "Tree cover"


def test_labels_of_ones_own(plugin, made, season, tmp_path):
    output = str(tmp_path / "own.tif")
    processing.run(ID, {
        "INPUT": [made["embeddings"]], "LABELS": str(season / "labels.gpkg"), "FIELD": "crop",
        "FEATURES": "embeddings", "MODEL": "logistic", "OUTPUT": output,
    })
    assert "Tree cover" not in {label for label, _ in classes(output).values()}


@pytest.mark.parametrize(("given", "sentence"), [
    ({"LABELS": "a.gpkg", "HEAD": "b.head.onnx"}, "not both"),
    ({"LABELS": "a.gpkg"}, "Choose the Class field"),
])
def test_refused_before_running(registry, given, sentence):
    assert sentence in registry.algorithmById(ID).create().unmet(given)


def test_the_ready_made_head_is_the_default(registry):
    form = registry.algorithmById(ID)
    assert form.parameterDefinition("READY_HEAD").defaultValue() == "land_cover"
    assert form.unmet({"INPUT": ["a.tif"]}) == ""


def test_graphical_model(plugin, scenes, tmp_path):
    model = QgsProcessingModelAlgorithm()
    assert model.fromFile(str(ROOT / "resources" / "models" / "land_cover_map.model3"))
    places = {
        "cover:Land cover map": str(tmp_path / "cover.tif"),
        "cover:Confidence": str(tmp_path / "sure.tif"), "cover:Report": str(tmp_path / "r.html"),
    }
    processing.run(model, {"INPUT": scenes[:4], **places})
    assert all(Path(path).stat().st_size > 500 for path in places.values())
