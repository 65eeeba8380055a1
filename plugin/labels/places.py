"""The layer of places to label: its classes, which are labelled, and how one is.

The layer is a GeoPackage that the job `suggest_samples` wrote. Each label is saved at once, so a
project, QGIS or the computer may close at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qgis.core import (
    NULL,
    QgsFeature,
    QgsFeatureRequest,
    QgsPalettedRasterRenderer,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

MAP, FIELD = "earthprint/places_of", "earthprint/places_field"


@dataclass(frozen=True)
class PlaceClass:
    """A class that a place can have: the value in the field, its name, and its colour's name."""

    value: Any
    name: str
    color: str


class Places:
    """The places of one layer, in the order in which they were proposed.

    Args:
        layer: made by `suggest_samples`.
        field: name of the class field.
    """

    def __init__(self, layer: QgsVectorLayer, field: str) -> None:
        self.layer, self.field = layer, field
        self.ids: list[int] = []
        self.read()

    @classmethod
    def of_map(cls, source: QgsRasterLayer) -> Places | None:
        """The places that the project has for a map."""
        for layer in QgsProject.instance().mapLayers().values():
            if layer.customProperty(MAP, "") == source.id() and layer.isValid():
                return cls(layer, layer.customProperty(FIELD, ""))
        return None

    def belong_to(self, source: QgsRasterLayer) -> None:
        """Be the places of a map, also when the project is opened again."""
        self.layer.setCustomProperty(MAP, source.id())
        self.layer.setCustomProperty(FIELD, self.field)

    def read(self) -> None:
        """Look at the layer anew."""
        order = QgsFeatureRequest()
        order.addOrderBy("id")
        self.ids = [feature.id() for feature in self.layer.getFeatures(order)]

    @property
    def path(self) -> str:
        """The file."""
        return self.layer.source().split("|")[0]

    @property
    def column(self) -> int:
        """Number of the class field."""
        return self.layer.fields().indexOf(self.field)

    def feature(self, index: int) -> QgsFeature:
        """One place."""
        return self.layer.getFeature(self.ids[index])

    def point(self, index: int) -> QgsPointXY:
        """Where one is, in the layer's coordinates."""
        return self.feature(index).geometry().asPoint()

    def label(self, index: int) -> Any:
        """The value that one has, None without."""
        return _value(self.feature(index)[self.field])

    def labelled(self) -> int:
        """How many have a class."""
        request = QgsFeatureRequest().setSubsetOfAttributes([self.column])
        request.setFlags(QgsFeatureRequest.Flag.NoGeometry)
        return sum(
            _value(feature[self.field]) is not None for feature in self.layer.getFeatures(request)
        )

    def set_label(self, index: int, value: Any) -> bool:
        """Give one a class, or take it away with None; False where the file cannot be written.

        A layer that the analyst edits keeps the change among the other edits.
        """
        editing = self.layer.isEditable()
        if not editing and not self.layer.startEditing():
            return False
        good = self.layer.changeAttributeValue(
            self.ids[index], self.column, NULL if value is None else value
        )
        if not editing and not (good and self.layer.commitChanges()):
            self.layer.rollBack()
            return False
        return good

    def next_open(self, after: int) -> int:
        """The next place without a class, from the start again behind the last; -1 for none."""
        count = len(self.ids)
        for step in range(1, count + 1):
            index = (after + step) % count
            if self.label(index) is None:
                return index
        return -1

    def classes(self, source: QgsRasterLayer) -> list[PlaceClass]:
        """What a place can be, in the order and the colours of the map's legend."""
        entries = self.layer.editorWidgetSetup(self.column).config().get("map") or []
        entries = [entries] if isinstance(entries, dict) else entries
        numeric = self.layer.fields().at(self.column).isNumeric()
        renderer = source.renderer()
        colors = {}
        if isinstance(renderer, QgsPalettedRasterRenderer):
            colors = {entry.label: entry.color for entry in renderer.classes()}
        return [
            PlaceClass(int(float(value)) if numeric else value, name,
                       colors.get(name, QColor("#888888")).name())
            for entry in entries
            for name, value in entry.items()
        ]

    def replace_open(self, fresh: QgsVectorLayer) -> bool:
        """Put newly proposed places in the stead of those that got no class; labels stay.

        Returns:
            Whether the file could be written.
        """
        if self.layer.isEditable() and not self.layer.commitChanges():
            return False
        provider = self.layer.dataProvider()
        old = [id_ for index, id_ in enumerate(self.ids) if self.label(index) is None]
        last = max((feature["id"] for feature in self.layer.getFeatures()), default=0)
        names = [field.name() for field in self.layer.fields()]
        added = []
        for feature in fresh.getFeatures():
            copy = QgsFeature(self.layer.fields())
            copy.setGeometry(feature.geometry())
            for name in names:
                if name in ("fid", "id") or fresh.fields().indexOf(name) < 0:
                    continue
                copy[name] = feature[name]
            copy["id"] = last + feature["id"]
            added.append(copy)
        good = provider.deleteFeatures(old) and provider.addFeatures(added)[0]
        self.layer.reload()
        self.layer.triggerRepaint()
        self.read()
        return good


def _value(raw: Any) -> Any:
    """None for what counts as empty: NULL, and text without letters."""
    if raw is None or raw == NULL or (isinstance(raw, str) and not raw.strip()):
        return None
    return raw
