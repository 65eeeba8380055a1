"""Values of Processing parameters as JSON for the engine, and as words for a command line.

Layers become paths: the engine never sees QGIS. Inputs are read on the main thread
(`prepareAlgorithm`), outputs on the thread that runs the algorithm.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsMapLayer,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingUtils,
    QgsProperty,
    QgsProviderRegistry,
    QgsVectorFileWriter,
    QgsVectorLayer,
)

from .parameters import AUTOMATIC
from .translation import tr

#: Job keys that are not the parameter's name in lower case.
KEYS = {
    "LAYERS": "sources",
    "CUTOFF_DATE": "cutoff",
    "MIN_AREA": "min_area_ha",
    "BLOCK": "block_m",
    "MEMORY": "memory_mb",
    "MIN_DISTANCE": "min_distance_m",
    "LABEL_RASTER": "labels",
    "LABEL_BAND": "band",
    "LABEL_IGNORE": "ignored",
    "REFERENCE_RASTER": "reference",
    "REFERENCE_BAND": "band",
    "REFERENCE_IGNORE": "ignored",
}
RASTERS, SOURCE, EXTENT, DATE = "multilayer", "source", "extent", "datetime"
POINT = "point"
RASTER, BAND, FILE = "raster", "band", "file"
CHOICE, NUMBER, SWITCH = "enum", "number", "boolean"
LAYER_OUTPUTS = ("rasterDestination", "vectorDestination")

_SUBSETS = re.compile(r"\|(?:subset|uniqueGeometryType|featurelimit)=", re.IGNORECASE)


class Values:
    """Reads the parameters of one run.

    Args:
        algorithm: whose parameters they are.
        parameters: as Processing hands them over.
        context: of the run.
        feedback: of the run.
    """

    def __init__(
        self,
        algorithm: QgsProcessingAlgorithm,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> None:
        self._algorithm, self._parameters = algorithm, parameters
        self._context, self._feedback = context, feedback

    def inputs(self) -> dict[str, Any]:
        """The job's input values by key; parameters that are not set are left out."""
        job: dict[str, Any] = {}
        for definition in self._algorithm.parameterDefinitions():
            name, kind = definition.name(), definition.type()
            if definition.isDestination():
                continue
            if kind == SOURCE:
                job.update(self._features(name))
                continue
            value = self._input(definition, name, kind)
            if value not in (None, "", []):
                job[KEYS.get(name, name.lower())] = value
        return job

    def outputs(self) -> dict[str, str]:
        """Where to write, by parameter name; outputs that are skipped are left out."""
        places: dict[str, str] = {}
        for definition in self._algorithm.destinationParameterDefinitions():
            name = definition.name()
            if definition.type() in LAYER_OUTPUTS:
                read = self._algorithm.parameterAsOutputLayer
            else:
                read = self._algorithm.parameterAsFileOutput
            path = read(self._parameters, name, self._context)
            if path:
                places[name] = str(Path(path).absolute())
        return places

    def _input(self, definition: QgsProcessingParameterDefinition, name: str, kind: str) -> Any:
        algorithm, given = self._algorithm, (self._parameters, name, self._context)
        if kind == RASTERS:
            return self.rasters(name)
        if kind == RASTER:
            layer = algorithm.parameterAsRasterLayer(*given)
            return raster_path(layer) if layer is not None else None
        if kind == BAND:
            return algorithm.parameterAsInt(*given) or None
        if kind == CHOICE:
            word = algorithm.parameterAsEnumString(*given)
            # encoders have names, "automatic" is one of them
            return "auto" if word == AUTOMATIC and name != "ENCODER" else word
        if kind == NUMBER:
            return self._number(definition, name)
        if kind == SWITCH:
            return algorithm.parameterAsBoolean(*given)
        if kind == DATE:
            day = algorithm.parameterAsDateTime(*given).date()
            return day.toString("yyyy-MM-dd") if day.isValid() else None
        if kind == EXTENT:
            return self._extent(name)
        if kind == POINT:
            return self._point(name)
        text = algorithm.parameterAsString(*given)
        if kind == FILE:
            return str(Path(text).absolute()) if text else None
        return dates(text) if name == "DATES" else text

    def _number(self, definition: QgsProcessingParameterDefinition, name: str) -> float | None:
        raw = self._parameters.get(name, definition.defaultValue())
        if not isinstance(raw, QgsProperty) and raw in (None, ""):
            return None
        value = self._algorithm.parameterAsDouble(self._parameters, name, self._context)
        return int(value) if definition.dataType() == definition.Type.Integer else value

    def _extent(self, name: str) -> list[Any] | None:
        box = self._algorithm.parameterAsExtent(self._parameters, name, self._context)
        if box.isNull() or box.isEmpty():
            return None
        crs = self._algorithm.parameterAsExtentCrs(self._parameters, name, self._context)
        edges = [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()]
        return [*edges, crs.toWkt() if crs.isValid() else ""]

    def _point(self, name: str) -> list[Any] | None:
        if self._parameters.get(name) in (None, ""):
            return None
        point = self._algorithm.parameterAsPoint(self._parameters, name, self._context)
        crs = self._algorithm.parameterAsPointCrs(self._parameters, name, self._context)
        return [point.x(), point.y(), crs.toWkt() if crs.isValid() else ""]

    def rasters(self, name: str) -> list[str]:
        """Paths of the rasters, stacks and folders in a multiple-layer parameter."""
        return [self._raster(value) for value in flat(self._parameters.get(name), self._context)]

    def _raster(self, value: Any) -> str:
        if isinstance(value, QgsMapLayer):
            return raster_path(value)
        text = str(value)
        if os.path.exists(text):
            return str(Path(text).absolute())
        layer = QgsProcessingUtils.mapLayerFromString(text, self._context)
        if layer is None:
            raise QgsProcessingException(
                tr("{} is neither a file nor a layer of this project. Choose another.").format(text)
            )
        return raster_path(layer)

    def _features(self, name: str) -> dict[str, str]:
        """Path and layer name of features; what is not a plain file is saved as one first."""
        if self._parameters.get(name) in (None, ""):
            return {}
        key, of_file = name.lower(), layer_key(name)
        layer = self._algorithm.parameterAsVectorLayer(self._parameters, name, self._context)
        value = self._parameters[name]
        chosen = isinstance(value, QgsProcessingFeatureSourceDefinition) and (
            value.selectedFeaturesOnly or value.featureLimit > 0
        )
        if layer is not None and not chosen:
            plain = plain_file(layer)
            if plain is not None:
                return {key: plain[0], of_file: plain[1]} if plain[1] else {key: plain[0]}
        return {key: self._save_features(name, layer)}

    def _save_features(self, name: str, layer: QgsVectorLayer | None) -> str:
        source = self._algorithm.parameterAsSource(self._parameters, name, self._context)
        if source is None:
            raise QgsProcessingException(
                self._algorithm.invalidSourceError(self._parameters, name)
            )
        title = re.sub(r"[^\w-]+", "_", layer.name() if layer is not None else name.lower()) or "x"
        path = QgsProcessingUtils.generateTempFilename(f"{title}.gpkg")
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName, options.layerName = "GPKG", title
        fields = source.fields()
        id_column = fields.lookupField("fid")
        if id_column >= 0:  # GeoPackage wants whole, unique numbers in its own "fid"
            options.layerOptions = ["FID=earthprint_fid"]
        writer = QgsVectorFileWriter.create(
            path, fields, source.wkbType(), source.sourceCrs(),
            self._context.transformContext(), options,
        )
        if writer.hasError() != QgsVectorFileWriter.WriterError.NoError:
            raise QgsProcessingException(
                tr("The features of {} cannot be saved for the engine ({}).").format(
                    title, writer.errorMessage()
                )
            )
        for feature in source.getFeatures():
            if self._feedback.isCanceled():
                break
            writer.addFeature(feature)
        del writer  # closes the file
        return path

    def command(self, job: dict[str, Any]) -> list[str]:
        """NAME=value words that repeat the run; what has its default is left out."""
        words: list[str] = []
        for definition in self._algorithm.parameterDefinitions():
            name = definition.name()
            raw = self._parameters.get(name)
            if definition.isDestination():
                path = job.get(KEYS.get(name, name.lower()))
                if path and QgsProcessingUtils.tempFolder() not in path:
                    words.append(f"{name}={path}")
                continue
            if raw is None or raw == definition.defaultValue():
                continue
            words.extend(f"{name}={text}" for text in self._words(definition, name, job))
        return words

    def _words(
        self, definition: QgsProcessingParameterDefinition, name: str, job: dict[str, Any]
    ) -> Iterable[str]:
        value = job.get(KEYS.get(name, name.lower()))
        if value is None:
            return []
        if definition.type() == SOURCE:
            layer = job.get(layer_key(name))
            return [f"{value}|layername={layer}" if layer else value]
        if definition.type() == EXTENT:
            left, bottom, right, top, _ = value
            crs = self._algorithm.parameterAsExtentCrs(self._parameters, name, self._context)
            ending = f" [{crs.authid()}]" if crs.isValid() and crs.authid() else ""
            return [f"{left!r},{right!r},{bottom!r},{top!r}{ending}"]
        if definition.type() == POINT:
            crs = self._algorithm.parameterAsPointCrs(self._parameters, name, self._context)
            ending = f" [{crs.authid()}]" if crs.isValid() and crs.authid() else ""
            return [f"{value[0]!r},{value[1]!r}{ending}"]
        if name == "DATES":
            return [",".join(value)]
        if isinstance(value, list):
            return [str(item) for item in value]
        if isinstance(value, bool):
            return ["true" if value else "false"]
        return [str(value)]


def layer_key(name: str) -> str:
    """The job's key for which layer of a file the features of a parameter are."""
    return "layer" if name == "LABELS" else f"{name.lower()}_layer"


def flat(value: Any, context: QgsProcessingContext) -> list[Any]:
    """The single values of a multiple-layer parameter, whatever shape it was given in."""
    if isinstance(value, QgsProperty):
        value = value.valueAsString(context.expressionContext())[0]
    if isinstance(value, (list, tuple)):
        return [single for item in value for single in flat(item, context)]
    return [] if value is None or value == "" else [value]


def raster_path(layer: QgsMapLayer) -> str:
    """The path, or GDAL subdataset, behind a raster layer.

    Raises:
        QgsProcessingException: the layer is not a file (a web service, say).
    """
    if layer.providerType() != "gdal":
        raise QgsProcessingException(
            tr("Layer {} is no raster file on this computer. Save it as GeoTIFF first.").format(
                layer.name()
            )
        )
    source = layer.source().split("|")[0]
    return str(Path(source).absolute()) if os.path.exists(source) else source


def plain_file(layer: QgsVectorLayer) -> tuple[str, str] | None:
    """Path and layer name of a vector layer that the engine can read as it stands, else None.

    Not plain are layers of other providers, filtered or edited ones, those with joined or virtual
    fields, and those whose coordinate system was set by hand.
    """
    if layer.providerType() != "ogr" or layer.subsetString() or layer.isModified():
        return None
    if len(layer.fields()) != len(layer.dataProvider().fields()):
        return None
    if layer.crs() != layer.dataProvider().crs() or _SUBSETS.search(layer.source()):
        return None
    parts = QgsProviderRegistry.instance().decodeUri("ogr", layer.source())
    path = parts.get("path") or ""
    if not os.path.isfile(path):
        return None
    return str(Path(path).absolute()), parts.get("layerName") or ""


def dates(text: str) -> list[str]:
    """ISO days in a text, separated by commas, semicolons or blanks."""
    return [word for word in re.split(r"[\s,;]+", text or "") if word]
