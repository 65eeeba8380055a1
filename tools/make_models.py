"""Make the graphical models in resources/models: run with the Python of QGIS.

    PYTHONPATH=build/plugins /usr/bin/python3 tools/make_models.py [FOLDER]

The models are data that the modeler can open and change; this file is how ours came about.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (  # noqa: E402
    QgsApplication,
    QgsProcessing,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterLayer,
)
from qgis.PyQt.QtCore import QPointF  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
Source = QgsProcessingModelChildParameterSource


def _ask(
    model: QgsProcessingModelAlgorithm,
    parameter: QgsProcessingParameterDefinition,
    help_text: str,
    place: QPointF,
) -> None:
    """Add an input to the model."""
    parameter.setHelp(help_text)
    component = QgsProcessingModelParameter(parameter.name())
    component.setPosition(place)
    model.addModelParameter(parameter, component)


def _step(
    model: QgsProcessingModelAlgorithm,
    child_id: str,
    algorithm: str,
    description: str,
    sources: dict[str, list[Source]],
    outputs: dict[str, str],
    place: QPointF,
) -> None:
    """Add an algorithm; parameters without a source have the algorithm's default."""
    child = QgsProcessingModelChildAlgorithm(algorithm)
    child.setChildId(child_id)
    child.setDescription(description)
    child.setPosition(place)
    definition = QgsApplication.processingRegistry().algorithmById(algorithm)
    for parameter in definition.parameterDefinitions():
        given = sources.get(parameter.name())
        if given is None and not parameter.isDestination() and parameter.defaultValue() is not None:
            given = [Source.fromStaticValue(parameter.defaultValue())]
        if given is not None:
            child.addParameterSources(parameter.name(), given)
    results = {}
    for row, (name, title) in enumerate(outputs.items()):
        result = QgsProcessingModelOutput(title)
        result.setChildId(child_id)
        result.setChildOutputName(name)
        result.setPosition(QPointF(place.x() + 260, place.y() + 60 * row))
        results[title] = result
    child.setModelOutputs(results)
    model.addChildAlgorithm(child)


def crop_map() -> QgsProcessingModelAlgorithm:
    """Rasters to embeddings to crop map; the embeddings are kept for further maps."""
    model = QgsProcessingModelAlgorithm("Crop map from rasters", "Earthprint")
    model.setHelpContent(
        {
            "ALG_DESC": "Encodes the rasters of a season once, then maps crops from labelled "
            "fields. The embeddings are kept, for further maps without encoding again.",
            "ALG_CREATOR": "Earthprint developers",
        }
    )
    _ask(
        model,
        QgsProcessingParameterMultipleLayers(
            "INPUT", "Rasters", QgsProcessing.SourceType.TypeRaster
        ),
        "Raster layers or files of one place and several dates.",
        QPointF(120, 60),
    )
    _ask(
        model,
        QgsProcessingParameterFeatureSource(
            "LABELS",
            "Labels",
            [QgsProcessing.SourceType.TypeVectorPoint, QgsProcessing.SourceType.TypeVectorPolygon],
        ),
        "Points or polygons of known class.",
        QPointF(120, 180),
    )
    _ask(
        model,
        QgsProcessingParameterField("FIELD", "Class field", parentLayerParameterName="LABELS"),
        "The field of the labels that holds the class.",
        QPointF(120, 300),
    )
    _step(
        model,
        "encode",
        "earthprint:encode",
        "Encode rasters",
        {"INPUT": [Source.fromModelParameter("INPUT")]},
        {"OUTPUT": "Embeddings"},
        QPointF(420, 60),
    )
    _step(
        model,
        "classify",
        "earthprint:cropclassification",
        "Crop classification",
        {
            "INPUT": [Source.fromChildOutput("encode", "OUTPUT")],
            "LABELS": [Source.fromModelParameter("LABELS")],
            "FIELD": [Source.fromModelParameter("FIELD")],
        },
        {"OUTPUT": "Crop map", "CONFIDENCE": "Confidence", "REPORT": "Report"},
        QPointF(420, 240),
    )
    return model


def flood_map() -> QgsProcessingModelAlgorithm:
    """Images of two dates to a flood map that can be handed over."""
    model = QgsProcessingModelAlgorithm("Flood map from images", "Earthprint")
    model.setHelpContent(
        {
            "ALG_DESC": "Maps the water that came between two dates with both detectors, shows "
            "where they differ, and writes the report.",
            "ALG_CREATOR": "Earthprint developers",
        }
    )
    raster = QgsProcessing.SourceType.TypeRaster
    for row, (name, label, text) in enumerate(
        (
            ("BEFORE", "Before the flood", "Radar, optical images or both."),
            ("AFTER", "During the flood", "The same sensors, radar of the same orbit."),
        )
    ):
        _ask(
            model,
            QgsProcessingParameterMultipleLayers(name, label, raster),
            text,
            QPointF(120, 60 + 120 * row),
        )
    _ask(
        model,
        QgsProcessingParameterRasterLayer("DEM", "Elevation (m)", optional=True),
        "A terrain model; steep and high ground is then left out.",
        QPointF(120, 300),
    )
    _step(
        model,
        "flood",
        "earthprint:flooddetection",
        "Flood detection",
        {name: [Source.fromModelParameter(name)] for name in ("BEFORE", "AFTER", "DEM")},
        {
            "OUTPUT": "Flood map",
            "POLYGONS": "Flood areas",
            "DISAGREEMENT": "Disagreement",
            "REPORT": "Report",
        },
        QPointF(420, 120),
    )
    return model


def land_cover_map() -> QgsProcessingModelAlgorithm:
    """Rasters to a land cover map by the ready-made head, with confidence and report."""
    model = QgsProcessingModelAlgorithm("Land cover map from rasters", "Earthprint")
    model.setHelpContent(
        {
            "ALG_DESC": "Maps land cover with the ready-made head, from one date or a season, "
            "and writes confidence and report. Replace the head by labels of your own for a "
            "better map.",
            "ALG_CREATOR": "Earthprint developers",
        }
    )
    _ask(
        model,
        QgsProcessingParameterMultipleLayers(
            "INPUT", "Rasters", QgsProcessing.SourceType.TypeRaster
        ),
        "Sentinel-2, Landsat or Sentinel-1 of one place, one date or several.",
        QPointF(120, 120),
    )
    _step(
        model,
        "cover",
        "earthprint:landcoversegmentation",
        "Land cover segmentation",
        {"INPUT": [Source.fromModelParameter("INPUT")]},
        {"OUTPUT": "Land cover map", "CONFIDENCE": "Confidence", "REPORT": "Report"},
        QPointF(420, 120),
    )
    return model


def deforestation_map() -> QgsProcessingModelAlgorithm:
    """Rasters before and after to lost forest, its areas and the report."""
    model = QgsProcessingModelAlgorithm("Deforestation map from rasters", "Earthprint")
    model.setHelpContent(
        {
            "ALG_DESC": "Maps what was forest before and is none after, with the interval in which "
            "it was lost where the dates suffice, and writes the report.",
            "ALG_CREATOR": "Earthprint developers",
        }
    )
    raster = QgsProcessing.SourceType.TypeRaster
    for row, (name, label, text, optional) in enumerate(
        (
            (
                "BEFORE",
                "Before, or one long series",
                "Optical rasters of the first season, or a whole series of many dates.",
                False,
            ),
            (
                "AFTER",
                "After",
                "Optical rasters of the second season; empty: a loss within the series.",
                True,
            ),
        )
    ):
        _ask(
            model,
            QgsProcessingParameterMultipleLayers(name, label, raster, optional=optional),
            text,
            QPointF(120, 60 + 120 * row),
        )
    _step(
        model,
        "forest",
        "earthprint:changedetection",
        "Change detection",
        {
            "BEFORE": [Source.fromModelParameter("BEFORE")],
            "AFTER": [Source.fromModelParameter("AFTER")],
            "PRESET": [Source.fromStaticValue("deforestation")],
        },
        {
            "OUTPUT": "Deforestation map",
            "POLYGONS": "Areas of loss",
            "CONFIDENCE": "Confidence",
            "REPORT": "Report",
        },
        QPointF(420, 120),
    )
    return model


def main() -> int:
    """Write every model; the exit status."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "resources" / "models"
    sys.path.append("/usr/share/qgis/python/plugins")
    application = QgsApplication([], False)
    application.initQgis()
    from earthprint.processing_provider.provider import EarthprintProvider

    provider = EarthprintProvider()
    application.processingRegistry().addProvider(provider)
    folder.mkdir(parents=True, exist_ok=True)
    good = crop_map().toFile(str(folder / "crop_map.model3"))
    good = flood_map().toFile(str(folder / "flood_map.model3")) and good
    good = land_cover_map().toFile(str(folder / "land_cover_map.model3")) and good
    good = deforestation_map().toFile(str(folder / "deforestation_map.model3")) and good
    application.processingRegistry().removeProvider(provider)
    application.exitQgis()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
