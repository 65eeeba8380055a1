"""What the analyst sees when outputs arrive: names, groups, colours, season."""

from __future__ import annotations

import processing
import pytest
from qgis.core import (
    QgsMultiBandColorRenderer,
    QgsPalettedRasterRenderer,
    QgsProject,
    QgsRasterLayer,
    QgsSingleBandPseudoColorRenderer,
)

from earthprint.processing_provider import styling


@pytest.fixture
def loaded(plugin, project, made, season, tmp_path):
    """Layers of a crop classification in the project, by name."""
    processing.runAndLoadResults(
        "earthprint:cropclassification",
        {
            "INPUT": made["stack"], "LABELS": str(season / "labels.gpkg"), "FIELD": "crop",
            "MODEL": "logistic", "OUTPUT": str(tmp_path / "a.tif"),
            "CONFIDENCE": str(tmp_path / "b.tif"),
            "EMBEDDINGS": "TEMPORARY_OUTPUT",
        },
    )
    return {layer.name(): layer for layer in project.mapLayers().values()}


def test_a_result_arrives_named_grouped_coloured_and_dated(loaded):
    assert sorted(loaded) == ["Confidence 2024", "Crop map 2024", "Embeddings 2024"]
    root = QgsProject.instance().layerTreeRoot()
    group = root.findGroup("season - crop map")
    assert [node.name() for node in group.children()] == [
        "Crop map 2024", "Confidence 2024", "Embeddings 2024",
    ]
    assert [node.isVisible() for node in group.children()] == [True, False, False]
    crops = loaded["Crop map 2024"].renderer()
    assert isinstance(crops, QgsPalettedRasterRenderer)
    labels = {c.label for c in crops.classes()}
    assert len(labels) >= 3 and not any(label.isdigit() for label in labels)
    assert isinstance(loaded["Confidence 2024"].renderer(), QgsSingleBandPseudoColorRenderer)
    assert isinstance(loaded["Embeddings 2024"].renderer(), QgsMultiBandColorRenderer)
    span = loaded["Crop map 2024"].temporalProperties().fixedTemporalRange()
    assert span.begin().date().year() == span.end().date().year() == 2024
    assert not styling._Dresser.waiting


def test_without_a_style_file_the_colour_table_counts(plugin, made, season, tmp_path):
    layer = QgsRasterLayer(str(season / "truth.tif"), "truth")
    style = styling.Style(styling.CLASSES, "Map", "map")
    styling.dress(layer, layer.source(), style)
    assert isinstance(layer.renderer(), QgsPalettedRasterRenderer)


@pytest.mark.parametrize(
    ("paths", "name"),
    [([], ""), (["/a/season.stack.json"], "season"), (["/a/lab/x.tif", "/a/lab/y.tif"], "lab")],
)
def test_source_name(paths, name):
    assert styling.source_name(paths) == name


@pytest.mark.parametrize(
    ("season", "year"),
    [((), []), (("2024-03-01", "2024-10-01"), ["2024"]),
     (("2023-10-01", "2024-07-01"), ["2023-2024"])],
)
def test_year(season, year):
    assert styling._year(season) == year
