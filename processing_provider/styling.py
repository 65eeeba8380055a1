"""How outputs look when QGIS loads them: colours, name, group, season.

The engine writes a `.qml` beside its maps; it wins. Otherwise classes take the file's own colour
table, percentages Cividis, embeddings their first three dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qgis.core import (
    Qgis,
    QgsColorRampShader,
    QgsContrastEnhancement,
    QgsDateTimeRange,
    QgsFillSymbol,
    QgsLayerTreeLayer,
    QgsMapLayer,
    QgsMarkerSymbol,
    QgsMultiBandColorRenderer,
    QgsPalettedRasterRenderer,
    QgsPalLayerSettings,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsRasterShader,
    QgsSingleBandPseudoColorRenderer,
    QgsSingleSymbolRenderer,
    QgsTextBufferSettings,
    QgsTextFormat,
    QgsVectorLayer,
    QgsVectorLayerSimpleLabeling,
)
from qgis.PyQt.QtCore import QDate, QDateTime, QTime
from qgis.PyQt.QtGui import QColor

from .provenance import Provenance
from .translation import tr

CLASSES, PERCENT, EMBEDDINGS = "classes", "percent", "embeddings"
#: Ready-made RGB, numbers with their own `.qml`, polygons by their outlines.
COLOURS, NUMBERS, OUTLINES = "colours", "numbers", "outlines"
#: Of a search: ranked points, and areas filled so that what is below shows through.
MATCHES, AREAS = "matches", "areas"
#: Outlines with the hectares of the larger ones.
FLOODS = "floods"
#: Symbols and form of the `.qml` beside the file.
FORM = "form"

#: Cividis at 0, 25, 50, 75, 100 %.
CIVIDIS = ("#00224e", "#414d6b", "#7c7b78", "#bcaf6f", "#fee838")


@dataclass(frozen=True)
class Style:
    """How one output is shown.

    Attributes:
        kind: one of the words above.
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
    made_by: Provenance | None = None,
) -> None:
    """Have the layer at `path` dressed, named and grouped once QGIS has loaded it.

    A name given by a model's author is kept. With `made_by` the layer remembers how it was made.
    """
    details = context.layerToLoadOnCompletionDetails(path)
    season = tuple(result.get("season") or ())
    group = ""  # for QGIS before 3.32, which does not group layers itself
    ours = details.name in {d.description() for d in algorithm.parameterDefinitions()}
    if ours:
        details.name = " ".join([tr(style.title), *_year(season)])
        if hasattr(details, "forceName"):
            details.forceName = True
        group = f"{source} - {tr(style.task)}" if source else tr(style.task)
        if hasattr(details, "groupName"):
            details.groupName, group = group, ""
    if hasattr(details, "layerSortKey"):
        details.layerSortKey = -style.order  # QGIS puts each layer above the one before
    processor = _Dresser(path, style, season, group, made_by)
    _Dresser.waiting[path] = processor
    details.setPostProcessor(processor)


def _year(season: tuple[str, ...]) -> list[str]:
    """The year, or years, of a season of ISO days; nothing when it is not known."""
    years = sorted({day[:4] for day in season if day})
    return ["-".join(years)] if years else []


class _Dresser(QgsProcessingLayerPostProcessorInterface):
    """Dresses one layer on the main thread; QGIS keeps no reference, `waiting` does."""

    waiting: dict[str, _Dresser] = {}

    def __init__(
        self, path: str, style: Style, season: tuple[str, ...], group: str,
        made_by: Provenance | None,
    ) -> None:
        super().__init__()
        self._path, self._style, self._season, self._group = path, style, season, group
        self._made_by = made_by

    def postProcessLayer(
        self,
        layer: QgsMapLayer,
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> None:
        """Set renderer, season and visibility."""
        if layer.isValid():
            if isinstance(layer, QgsRasterLayer):
                dress(layer, self._path, self._style)
                set_season(layer, self._season)
                if self._made_by is not None:
                    self._made_by.write(layer)
            elif isinstance(layer, QgsVectorLayer):
                dress_vector(layer, self._style)
            project = context.project() or QgsProject.instance()
            node = project.layerTreeRoot().findLayer(layer.id())
            if node is not None:
                if self._group:
                    node = _grouped(node, self._group, self._style.order)
                node.setItemVisibilityChecked(self._style.visible)
                node.setExpanded(self._style.kind == CLASSES)
            layer.triggerRepaint()
        self.waiting.pop(self._path, None)


def _grouped(node: QgsLayerTreeLayer, name: str, order: int) -> QgsLayerTreeLayer:
    """Move a layer's node into the group of a name, at the top of the tree; its new node."""
    old = node.parent()
    group = old.findGroup(name) or old.insertGroup(0, name)
    moved = node.clone()
    group.insertChildNode(min(order, len(group.children())), moved)
    old.removeChildNode(node)
    return moved


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
    elif style.kind == COLOURS:  # never stretched, or tiles would differ
        layer.setRenderer(QgsMultiBandColorRenderer(provider, 1, 2, 3))
    elif style.kind == EMBEDDINGS and layer.bandCount() >= 3:
        layer.setRenderer(QgsMultiBandColorRenderer(provider, 1, 2, 3))
        layer.setContrastEnhancement(
            QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum,
            QgsRasterMinMaxOrigin.Limits.CumulativeCut,
        )


def dress_vector(layer: QgsVectorLayer, style: Style) -> None:
    """Give the layer the symbols, and labels, of its kind."""
    if style.kind == FORM:
        layer.loadDefaultStyle()
    elif style.kind == OUTLINES:
        layer.setRenderer(_outlines())
    elif style.kind == FLOODS:
        layer.setRenderer(_outlines("#005f7f"))
        _label(layer, "CASE WHEN area_ha > 10 THEN format_number(area_ha, 0) || ' ha' END")
    elif style.kind == AREAS:
        symbol = QgsFillSymbol.createSimple({"color": "#56b4e9", "outline_color": "#0072b2"})
        symbol.setOpacity(0.6)
        layer.setRenderer(QgsSingleSymbolRenderer(symbol))
    elif style.kind == MATCHES:
        layer.setRenderer(
            QgsSingleSymbolRenderer(
                QgsMarkerSymbol.createSimple(
                    {"name": "diamond", "color": "#ffffff", "outline_color": "#000000", "size": "3"}
                )
            )
        )
        _label(layer, "rank")


def _label(layer: QgsVectorLayer, expression: str) -> None:
    """Label each feature with what an expression gives, on a halo."""
    settings, text, halo = QgsPalLayerSettings(), QgsTextFormat(), QgsTextBufferSettings()
    halo.setEnabled(True)
    text.setBuffer(halo)
    settings.setFormat(text)
    settings.fieldName, settings.isExpression = expression, True
    layer.setLabeling(QgsVectorLayerSimpleLabeling(settings))
    layer.setLabelsEnabled(True)


def _outlines(colour: str = "#7a2f00") -> QgsSingleSymbolRenderer:
    return QgsSingleSymbolRenderer(
        QgsFillSymbol.createSimple(
            {"style": "no", "outline_color": colour, "outline_width": "0.4"}
        )
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


def set_season(layer: QgsRasterLayer, season: Sequence[str]) -> None:
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
