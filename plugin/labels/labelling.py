"""Labelling as a whole: the dock, the places on the map, and the engine's part of a round."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from qgis.core import (
    QgsCoordinateTransform,
    QgsCsException,
    QgsPointXY,
    QgsProcessingUtils,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QEvent, QObject, Qt, QTimer, QUrl
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import QAction

from ...engine import environment
from ...engine.client import EngineCancelled, shared_client
from ...processing_provider.identity import icon
from ...processing_provider.provenance import Provenance
from ...processing_provider.translation import tr
from ..search.layers import drawn_order
from ..work import Run, Work
from . import files, next_map
from .dock import LabelsDock
from .places import Places
from .ring import Ring
from .rounds import Labelled, class_field, conflict, mapping_again, proposing

#: Pixels of the map from a place to the edge of the view.
AROUND = 30


class Labelling(QObject):
    """What the plugin adds to QGIS's window for labelling; made once.

    Args:
        iface: QGIS's window.
    """

    def __init__(self, iface: Any) -> None:
        super().__init__(iface.mainWindow())
        self.setObjectName("earthprint_labelling")
        self._iface, self._project = iface, QgsProject.instance()
        self.dock: LabelsDock | None = None
        self.places: Places | None = None
        self.index = -1
        self._map_id, self._classes = "", []
        self._work: Work | None = None
        self._report = ""
        self._ring: Ring | None = None
        self.action = QAction(icon("labels"), tr("Label Places"), self)
        self.action.setObjectName("earthprint_labels")
        self.action.setToolTip(tr("Teach a map: label the places that it is unsure of"))
        self.action.triggered.connect(self.show)
        iface.registerMainWindowAction(self.action, "")
        iface.addToolBarIcon(self.action)
        self._later = QTimer(self)  # many signals of one change, and a project half read
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._look)
        for signal in (self._project.layersAdded, self._project.layersRemoved,
                       self._project.readProject):
            signal.connect(self._later.start)

    # Coming and going

    def show(self) -> None:
        """Open the dock."""
        if self.dock is None:
            dock = self.dock = LabelsDock(self._iface.mainWindow())
            self._iface.addTabifiedDockWidget(
                Qt.DockWidgetArea.RightDockWidgetArea, dock, ["earthprint_search_dock"], True
            )
            for signal, slot in (
                (dock.map_chosen, self._choose), (dock.wanted, self.suggest),
                (dock.stepped, self.step), (dock.labelled, self.label), (dock.again, self.again),
                (dock.hiding, self._hide_map), (dock.stopped, self._stop),
                (dock.report_wanted, self._open_report), (dock.shown, self._mark),
            ):
                signal.connect(slot)
            canvas = self._iface.mapCanvas()
            self._ring = Ring(canvas)
            canvas.installEventFilter(self)
            canvas.destinationCrsChanged.connect(self._mark)
        self.dock.setUserVisible(True)
        self._look()

    def discard(self) -> None:
        """Leave QGIS as it was."""
        self._later.stop()
        for signal in (self._project.layersAdded, self._project.layersRemoved,
                       self._project.readProject):
            signal.disconnect(self._later.start)
        if self._work is not None:
            self._work.abandon()
            self._work = None
        if self.dock is not None:
            canvas = self._iface.mapCanvas()
            canvas.removeEventFilter(self)
            canvas.destinationCrsChanged.disconnect(self._mark)
            self._ring.show_at(None)
            self._ring = None
            self._iface.removeDockWidget(self.dock)
            self.dock.close()
            self.dock.deleteLater()
            self.dock = None
        self._iface.unregisterMainWindowAction(self.action)
        self._iface.removeToolBarIcon(self.action)
        self.deleteLater()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """The keys of the classes also work on the map while the dock is open."""
        if event.type() == QEvent.Type.KeyPress and self.dock is not None:
            return self.dock.isUserVisible() and self.dock.take_key(event)
        return False

    # Which map, which places

    @property
    def map(self) -> QgsRasterLayer | None:
        """The map to improve."""
        return self._project.mapLayer(self._map_id)

    def _look(self) -> None:
        """See what the project has now."""
        if self.dock is None:
            return
        maps = [layer for layer in drawn_order(self._project)
                if Provenance.of_layer(layer) is not None]
        ids = [layer.id() for layer in maps]
        if self._map_id not in ids:
            with_places = [layer.id() for layer in maps if Places.of_map(layer) is not None]
            self._map_id = next(iter([*with_places, *ids]), "")
        self.dock.offer_maps([(layer.id(), layer.name()) for layer in maps], self._map_id)
        self._open_places()

    def _choose(self, id_: str) -> None:
        self._map_id = id_
        self._open_places()

    def _open_places(self) -> None:
        """Go on with the places of the map, at the first without a label."""
        there = self.map
        known = self.places
        if known is not None and (
            sip.isdeleted(known.layer) or there is None
            or known.layer.customProperty("earthprint/places_of") != there.id()
        ):
            known = None
        self.places = known or (Places.of_map(there) if there is not None else None)
        if self.places is not None and (known is None or self.index >= len(self.places.ids)):
            self.index = self.places.next_open(-1)
        self._classes = self.places.classes(there) if self.places is not None else []
        self.dock.offer_classes(self._classes)
        self._refresh()

    # Labelling

    def step(self, by: int) -> None:
        """Go to another place, from the start again behind the last."""
        if self.places is not None and self.places.ids:
            self.index = (max(self.index, 0) + by) % len(self.places.ids)
            self._fly()

    def label(self, number: int) -> None:
        """Say what the place is (-1: nothing), and go to the next that has no label."""
        if self.places is None or self.index < 0 or number >= len(self._classes):
            return
        value = self._classes[number].value if number >= 0 else None
        if not self.places.set_label(self.index, value):
            self._say_unwritten()
            return
        following = self.places.next_open(self.index) if number >= 0 else self.index
        if following < 0:
            self.dock.say(tr("All places are labelled. Map again, or suggest more."))
        else:
            self.index = following
        self._fly()

    def _fly(self) -> None:
        """Show the place and its surroundings."""
        self._refresh()
        place, around = self._on_canvas()
        if place is not None:
            canvas = self._iface.mapCanvas()
            canvas.setExtent(around)
            canvas.refresh()

    def _on_canvas(self) -> tuple[QgsPointXY | None, QgsRectangle | None]:
        """The place and its surroundings in the canvas's coordinates."""
        if self.places is None or not 0 <= self.index < len(self.places.ids):
            return None, None
        canvas, there = self._iface.mapCanvas(), self.map
        target = canvas.mapSettings().destinationCrs()
        point, source = self.places.point(self.index), self.places.layer.crs()
        reach = AROUND * there.rasterUnitsPerPixelX() if there is not None else 300.0
        box = QgsRectangle(
            point.x() - reach, point.y() - reach, point.x() + reach, point.y() + reach
        )
        if not target.isValid() or not source.isValid():
            return point, box
        way = QgsCoordinateTransform(source, target, self._project)
        try:
            return way.transform(point), way.transformBoundingBox(box)
        except QgsCsException:
            return None, None

    def _mark(self, *_shown: object) -> None:
        """Ring the place on the map while the dock is open."""
        if self._ring is not None:
            seen = self.dock is not None and self.dock.isVisible()
            self._ring.show_at(self._on_canvas()[0] if seen else None)

    def _hide_map(self, hidden: bool) -> None:
        node = self._project.layerTreeRoot().findLayer(self._map_id)
        if node is not None:
            node.setItemVisibilityChecked(not hidden)

    # The engine's part

    def suggest(self) -> None:
        """Have places proposed; those that have labels already stay."""
        there = self.map
        made = Provenance.of_layer(there)
        if made is None or self._work is not None:
            return
        known = self._labelled() if self.places is not None else None
        output = QgsProcessingUtils.generateTempFilename("places.gpkg")
        if self.places is None:
            output = files.for_places(there, self._project)
        steps = proposing(made, self.dock.count.value(), output, files.spare_folder(), known)
        self._start(tr("Suggest places to label"), steps,
                    lambda result: self._take_places(there, result))

    def again(self) -> None:
        """Make the map again with the labels of the places."""
        there = self.map
        made, labelled = Provenance.of_layer(there), self._labelled()
        if made is None or labelled is None or self._work is not None:
            return
        other = conflict(made, labelled.path)
        if other:
            self.dock.say(
                tr("This map was made with further labels in {}. Copy the places into it, and run "
                   "the form again.").format(os.path.basename(other)), error=True)
            return
        output = files.for_next_map(there.source())
        report = os.path.splitext(output)[0] + "_report.html" if made.params.get("report") else ""
        steps = mapping_again(made, labelled, output, report, files.spare_folder())
        self._start(tr("Map again"), steps, lambda result: self._take_map(there, made, result))

    def _labelled(self) -> Labelled | None:
        """The places, if any has a label."""
        if self.places is None or not self.places.labelled():
            return None
        parts = dict(part.split("=", 1) for part in self.places.layer.source().split("|")[1:]
                     if "=" in part)
        layer = parts.get("layername") or os.path.splitext(os.path.basename(self.places.path))[0]
        return Labelled(self.places.path, layer, self.places.field)

    def _start(self, title: str, steps: Callable[[Run], Any], done: Callable[[Any], None]) -> None:
        problem = environment.problem()
        if problem:
            self.dock.say(problem, error=True)
            self._refresh()
            return

        def end(result: Any, failure: Any) -> None:
            self._work = None
            if isinstance(failure, EngineCancelled):
                self.dock.say(tr("Stopped; nothing was written."))
            elif failure is not None:
                self.dock.say(str(failure), getattr(failure, "details", ""), error=True)
            else:
                done(result)
            self._refresh()

        self._report = ""
        self._work = Work(title, shared_client(), steps)
        self._work.stepped.connect(self.dock.say)
        self._work.progressChanged.connect(lambda percent: self.dock.bar.setValue(int(percent)))
        self._work.ended.connect(end)
        self.dock.bar.setValue(0)
        self.dock.say(tr("{}…").format(title))
        self._work.start()
        self._refresh()

    def _stop(self) -> None:
        if self._work is not None:
            self.dock.stop.setEnabled(False)
            self.dock.say(tr("Stopping…"))
            self._work.cancel()

    def _take_places(self, there: QgsRasterLayer, result: dict[str, Any]) -> None:
        """Show proposed places, in a layer of their own or in that of the last round."""
        if sip.isdeleted(there):
            return
        result["made"].write(there)
        layer = QgsVectorLayer(result["output"], tr("Places to label"), "ogr")
        if not layer.isValid():
            self._say_unwritten()
            return
        if self.places is not None and not sip.isdeleted(self.places.layer):
            if not self.places.replace_open(layer):
                self._say_unwritten()
                return
        else:
            layer.loadDefaultStyle()
            self.places = Places(layer, class_field(result["made"]))
            self.places.belong_to(there)
            self._project.addMapLayer(layer, False)
            self._project.layerTreeRoot().insertLayer(0, layer)
        self._project.setDirty()
        self.index = self.places.next_open(-1)
        self._open_places()
        self._fly()
        self.dock.focus_classes()
        self.dock.say(tr("{} places to label. Press the number of what you see, or Page Down where "
                         "you cannot tell.").format(result["points"]))

    def _take_map(self, old: QgsRasterLayer, before: Provenance, result: dict[str, Any]) -> None:
        """Show the new map above the old one, and say what the labels brought."""
        made: Provenance = result["made"]
        layer = next_map.add(self._project, old, made, result.get("season") or ())
        if layer is None:
            self.dock.say(tr("The new map {} cannot be shown.").format(made.params["output"]),
                          error=True)
            return
        self._report = str(result.get("report") or "")
        self._map_id = layer.id()
        self.dock.hide_map.setChecked(False)
        if self.places is not None:
            self.places.belong_to(layer)
        self._project.setDirty()
        self._look()
        count = self.places.labelled() if self.places is not None else 0
        self.dock.say(next_map.change(before.macro_f1, made.macro_f1, count))

    def _say_unwritten(self) -> None:
        self.dock.say(
            tr("The places cannot be written. Is their file or its folder read-only?"), error=True
        )

    def _open_report(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(self._report))

    # What the analyst sees

    def _refresh(self) -> None:
        """Enable what can be done now, and say which place it is."""
        if self.places is not None and sip.isdeleted(self.places.layer):
            self.places = None
        dock, places, working = self.dock, self.places, self._work is not None
        if dock is None:
            return
        there = self.map
        total = len(places.ids) if places is not None else 0
        count = places.labelled() if places is not None else 0
        dock.suggest.setEnabled(there is not None and not working)
        dock.suggest.setText(
            tr("&Suggest More Places") if count else tr("&Suggest Places to Label"))
        dock.places.setTitle(tr("Places ({} of {} labelled)").format(count, total) if total
                             else tr("Places"))
        dock.places.setEnabled(total > 0)
        dock.map_again.setEnabled(count > 0 and there is not None and not working)
        for widget in (dock.bar, dock.stop):
            widget.setVisible(working)
        dock.stop.setEnabled(working)
        dock.set_up.setVisible(bool(environment.problem()))
        dock.report.setVisible(bool(self._report))
        if total and self.index >= 0:
            feature = places.feature(self.index)
            value = places.label(self.index)
            chosen = next((n for n, kind in enumerate(self._classes) if kind.value == value), -1)
            dock.show_place(
                tr("Place {} of {}").format(self.index + 1, total),
                tr("The map says: {}").format(feature["why"]), chosen)
        else:
            dock.show_place("", "", -1)
        if there is None:
            dock.say(tr("No map to teach yet. Run Crop classification; its map is listed here."))
        self._mark()
