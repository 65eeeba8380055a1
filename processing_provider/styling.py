"""How outputs look when QGIS loads them: colours, name, group, season.

The engine writes a `.qml` beside its maps; it wins. Otherwise classes take the file's own colour
table, percentages Cividis, embeddings their first three dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qgis.core import (
    Qgis,
    QgsColorRampShader,
    QgsContrastEnhancement,
    QgsDateTimeRange,
    QgsMapLayer,
    QgsMultiBandColorRenderer,
    QgsPalettedRasterRenderer,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsRasterShader,
    QgsSingleBandPseudoColorRenderer,
)
from qgis.PyQt.QtCore import QDate, QDateTime, QTime
from qgis.PyQt.QtGui import QColor

from .translation import tr

CLASSES, PERCENT, EMBEDDINGS = "classes", "percent", "embeddings"

#: Cividis at 0, 25, 50, 75, 100 %.
CIVIDIS = ("#00224e", "#414d6b", "#7c7b78", "#bcaf6f", "#fee838")


@dataclass(frozen=True)
class Style:
    """How one output is shown.

    Attributes:
        kind: CLASSES, PERCENT or EMBEDDINGS.
        title: layer name, to which the year is added.
        task: second half of the group's name.
        visible: whether the layer is switched on.
        order: place in the group, small ones on top.
    """

    kind: str
    title: str
    task: str
    visible: bool = True
    order: int = 0


def source_name(paths: list[str]) -> str:
    """A short name for the inputs: a file's stem, or the folder of several files."""
    if not paths:
        return ""
    first = Path(paths[0])
    if len(paths) > 1:
        return first.parent.name or first.stem
    return first.name.split(".")[0]


def prepare(
    path: str,
    style: Style,
    source: str,
    result: dict[str, Any],
    context: QgsProcessingContext,
    algorithm: QgsProcessingAlgorithm,
) -> None:
    """Have the layer at `path` dressed, named and grouped once QGIS has loaded it.

    A name given by a model's author is kept.
    """
    details = context.layerToLoadOnCompletionDetails(path)
    season = tuple(result.get("season") or ())
    ours = details.name in {d.description() for d in algorithm.parameterDefinitions()}
    if ours:
        details.name = " ".join([tr(style.title), *_year(season)])
        if hasattr(details, "forceName"):
            details.forceName = True
        if hasattr(details, "groupName"):
            details.groupName = f"{source} - {tr(style.task)}" if source else tr(style.task)
    if hasattr(details, "layerSortKey"):
        details.layerSortKey = -style.order  # QGIS puts each layer above the one before
    processor = _Dresser(path, style, season)
    _Dresser.waiting[path] = processor
    details.setPostProcessor(processor)


def _year(season: tuple[str, ...]) -> list[str]:
    """The year, or years, of a season of ISO days; nothing when it is not known."""
    years = sorted({day[:4] for day in season if day})
    return ["-".join(years)] if years else []


class _Dresser(QgsProcessingLayerPostProcessorInterface):
    """Dresses one layer on the main thread; QGIS keeps no reference, `waiting` does."""

    waiting: dict[str, _Dresser] = {}

    def __init__(self, path: str, style: Style, season: tuple[str, ...]) -> None:
        super().__init__()
        self._path, self._style, self._season = path, style, season

    def postProcessLayer(
        self,
        layer: QgsMapLayer,
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> None:
        """Set renderer, season and visibility."""
        if isinstance(layer, QgsRasterLayer) and layer.isValid():
            dress(layer, self._path, self._style)
            _set_season(layer, self._season)
            project = context.project() or QgsProject.instance()
            node = project.layerTreeRoot().findLayer(layer.id())
            if node is not None:
                node.setItemVisibilityChecked(self._style.visible)
                node.setExpanded(self._style.kind == CLASSES)
            layer.triggerRepaint()
        self.waiting.pop(self._path, None)


def dress(layer: QgsRasterLayer, path: str, style: Style) -> None:
    """Give the layer its renderer: the `.qml` beside the file, else one for its kind."""
    qml = Path(path).with_suffix(".qml")
    if qml.exists() and layer.loadNamedStyle(str(qml))[1]:
        return
    provider = layer.dataProvider()
    if style.kind == CLASSES:
        classes = QgsPalettedRasterRenderer.colorTableToClassData(provider.colorTable(1))
        if not classes:
            classes = QgsPalettedRasterRenderer.classDataFromRaster(provider, 1)
        layer.setRenderer(QgsPalettedRasterRenderer(provider, 1, classes))
    elif style.kind == PERCENT:
        layer.setRenderer(_percent_renderer(provider))
    elif layer.bandCount() >= 3:
        layer.setRenderer(QgsMultiBandColorRenderer(provider, 1, 2, 3))
        layer.setContrastEnhancement(
            QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum,
            QgsRasterMinMaxOrigin.Limits.CumulativeCut,
        )


def _percent_renderer(provider: Any) -> QgsSingleBandPseudoColorRenderer:
    ramp = QgsColorRampShader(0, 100)
    ramp.setColorRampType(QgsColorRampShader.Type.Interpolated)
    ramp.setColorRampItemList(
        [
            QgsColorRampShader.ColorRampItem(25.0 * i, QColor(colour), f"{25 * i} %")
            for i, colour in enumerate(CIVIDIS)
        ]
    )
    shader = QgsRasterShader(0, 100)
    shader.setRasterShaderFunction(ramp)
    renderer = QgsSingleBandPseudoColorRenderer(provider, 1, shader)
    renderer.setClassificationMin(0)
    renderer.setClassificationMax(100)
    return renderer


def _set_season(layer: QgsRasterLayer, season: tuple[str, ...]) -> None:
    """Show the layer in the temporal controller from the first to the last day."""
    if len(season) != 2:
        return
    first, last = (QDate.fromString(day, "yyyy-MM-dd") for day in season)
    if not (first.isValid() and last.isValid()):
        return
    temporal = layer.temporalProperties()
    temporal.setMode(Qgis.RasterTemporalMode.FixedTemporalRange)
    temporal.setFixedTemporalRange(
        QgsDateTimeRange(QDateTime(first, QTime(0, 0)), QDateTime(last, QTime(23, 59, 59)))
    )
    temporal.setIsActive(True)
