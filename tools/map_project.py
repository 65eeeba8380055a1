"""Make a QGIS project of a folder of results, and a picture of its map with the legend.

``map_project.py FOLDER TITLE`` writes FOLDER/project.qgz and FOLDER/map.png. Runs in PyQGIS.
"""

import json
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsContrastEnhancement,
    QgsLayout,
    QgsLayoutExporter,
    QgsLayoutItemLabel,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutItemScaleBar,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsMapLayerLegendUtils,
    QgsMultiBandColorRenderer,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsReferencedRectangle,
    QgsScaleBarSettings,
    QgsUnitTypes,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QFont

#: File, layer name, whether it is shown at first; top of the map first.
LAYERS = (
    ("labels.gpkg", "Labelled samples", False),
    ("crop_map.tif", "Crop map", True),
    ("groups.tif", "Groups", True),
    ("confidence.tif", "Confidence (%)", False),
    ("truth.tif", "Truth", False),
    ("embeddings.tif", "Embeddings (dimensions 1 to 3)", False),
)


def _open(path, name):
    """A layer with the style that lies beside its file."""
    if path.suffix == ".gpkg":
        return QgsVectorLayer(str(path), name)
    return QgsRasterLayer(str(path), name)


def _stretched(layer, bands):
    """Show three bands with a 2-98 % stretch."""
    renderer = QgsMultiBandColorRenderer(layer.dataProvider(), *bands)
    layer.setRenderer(renderer)
    layer.setContrastEnhancement(
        QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum,
        QgsRasterMinMaxOrigin.Limits.CumulativeCut)


def _season(folder):
    """The year of the last scene of the stack as " 2024"; empty where nothing is dated."""
    stack = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
    days = [scene["properties"].get("datetime") or "" for scene in stack["features"]]
    return f" {max(days)[:4]}" if any(days) else ""


def _scene(folder):
    """The clearest summer scene of a demo season: (path, date, bands of red, green, blue)."""
    facts = folder / "season" / "season.json"
    if not facts.exists():
        return None
    dates = json.loads(facts.read_text(encoding="utf-8"))["sentinel-2"]
    summer = [d for d in dates if "-05-01" <= d["date"][4:] <= "-08-31"] or dates
    best = min(summer, key=lambda d: d["cloud"] + d["shadow"])
    return folder / "season" / best["file"], best["date"], (3, 2, 1)


def build(folder, title):
    """Fill the project of this process and save it; the layer of the map."""
    project = QgsProject.instance()
    project.setTitle(title)
    group = project.layerTreeRoot().addGroup(title)
    top = None
    year = _season(folder)
    wanted = [(folder / file, name + year if shown else name, shown, None)
              for file, name, shown in LAYERS]
    scene = _scene(folder)
    if scene:
        wanted.append((scene[0], f"Sentinel-2, {scene[1]}", True, scene[2]))
    for path, name, shown, bands in wanted:
        if not path.exists():
            continue
        layer = _open(path, name)
        if not layer.isValid():
            sys.stderr.write(f"{path.name} cannot be shown\n")
            continue
        if name.startswith("Embeddings"):
            bands = (1, 2, 3)
        if bands:
            _stretched(layer, bands)
        project.addMapLayer(layer, False)
        node = group.addLayer(layer)
        node.setItemVisibilityChecked(shown)
        node.setExpanded(layer is not None and shown)
        if shown and top is None:
            top = layer
            project.setCrs(layer.crs())
    project.viewSettings().setDefaultViewExtent(QgsReferencedRectangle(top.extent(), top.crs()))
    project.write(str(folder / "project.qgz"))
    return top


def picture(layer, title, path):
    """Export the layer with title, legend and scale bar as a PNG of 1600 x 1100 pixels."""
    millimetres = QgsUnitTypes.LayoutUnit.LayoutMillimeters
    layout = QgsLayout(QgsProject.instance())
    layout.initializeDefaults()
    ratio = layer.width() / layer.height()
    width, height = min(170, 140 * ratio), min(140, 170 / ratio)
    layout.pageCollection().page(0).setPageSize(QgsLayoutSize(width + 70, 165, millimetres))

    def place(item, x, y, width, height):
        item.attemptMove(QgsLayoutPoint(x, y, millimetres))
        item.attemptResize(QgsLayoutSize(width, height, millimetres))
        layout.addLayoutItem(item)
        return item

    heading = QgsLayoutItemLabel(layout)
    heading.setText(title)
    heading.setFont(QFont("Open Sans", 18))
    place(heading, 8, 5, 224, 10)
    shown = QgsLayoutItemMap(layout)
    place(shown, 8, 17, width, height)
    shown.setLayers([layer])
    shown.setKeepLayerSet(True)
    shown.zoomToExtent(layer.extent())
    shown.setFrameEnabled(True)
    legend = QgsLayoutItemLegend(layout)
    legend.setLinkedMap(shown)
    legend.setAutoUpdateModel(False)
    root = legend.model().rootGroup()
    root.clear()
    node = root.addLayer(layer)
    # the first entry of a palette is only the band's name
    entries = len(legend.model().layerLegendNodes(node))
    QgsMapLayerLegendUtils.setLegendNodeOrder(node, list(range(1, entries)))
    legend.model().refreshLayerLegend(node)
    place(legend, 12 + width, 17, 55, 120)
    bar = QgsLayoutItemScaleBar(layout)
    bar.setLinkedMap(shown)
    bar.applyDefaultSize()
    bar.setNumberOfSegmentsLeft(0)
    bar.setNumberOfSegments(1)
    bar.setSegmentSizeMode(QgsScaleBarSettings.SegmentSizeMode.SegmentSizeFitWidth)
    bar.setMinimumBarWidth(20)
    bar.setMaximumBarWidth(40)
    bar.setStyle("Line Ticks Up")
    place(bar, 14 + width, 140, 50, 14)
    settings = QgsLayoutExporter.ImageExportSettings()
    settings.dpi = 170
    result = QgsLayoutExporter(layout).exportToImage(str(path), settings)
    if result != QgsLayoutExporter.ExportResult.Success:
        raise SystemExit(f"The picture {path} could not be written.")


def main(folder, title):
    """Build project and picture in a QGIS without a window."""
    application = QgsApplication([], False)
    application.initQgis()
    layer = build(folder, title)
    picture(layer, title, folder / "map.png")
    QgsProject.instance().clear()
    application.exitQgis()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
