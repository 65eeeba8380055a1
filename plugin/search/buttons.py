"""What becomes of a search: the whole raster, a layer of examples, polygons, a head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qgis.core import QgsProcessing, QgsProject, QgsVectorLayer
from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt import sip
from qgis.PyQt.QtWidgets import QDialog, QFileDialog, QPushButton, QVBoxLayout, QWidget

from ...processing_provider.translation import tr
from .example_files import DRIVERS, KIND, FileError, save, temporary
from .forms import SEARCH, TRAIN, open_form
from .rows import MARGINS, FittingGrid
from .session import COUNTEREXAMPLE, ERROR, EXAMPLE, Match, SearchSession

#: Samples a class needs for a head.
LEAST_FOR_HEAD = 2
#: Hectares below which an area is not exported unless the form is told so.
LEAST_AREA = 0.1


class ResultButtons(QgsCollapsibleGroupBox):
    """The group of the dock.

    Args:
        session: whose examples, threshold and layer the forms are filled with.
        parent: owner.
    """

    def __init__(self, session: SearchSession, parent: QWidget | None = None) -> None:
        super().__init__(tr("Use the Result"), parent)
        self.setObjectName("earthprint_result")
        self._session = session
        self._forms: list[QDialog] = []
        self.search = self._button(tr("Search &Whole Raster…"), self.search_all)
        self.save = self._button(tr("Sa&ve Examples…"), self.save_examples)
        self.export = self._button(tr("E&xport Polygons…"), self.export_polygons)
        self.train = self._button(tr("Train Hea&d…"), self.train_head)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(*MARGINS)
        layout.addWidget(
            FittingGrid([self.search, self.save, self.export, self.train], 2, fill=True)
        )
        session.examples_changed.connect(self._refresh)
        session.layer_changed.connect(self._refresh)
        self._refresh()

    @staticmethod
    def _button(text: str, slot: Any) -> QPushButton:
        button = QPushButton(text)
        button.setAccessibleName(text.replace("&", "").rstrip("…"))
        button.clicked.connect(slot)
        return button

    def search_all(self) -> None:
        """Open Similarity search with these examples; its matches come into the list."""
        self._open_search({}, self._show_matches)

    def export_polygons(self) -> None:
        """Open Similarity search with these examples, asking for the areas alone."""
        self._open_search(
            {"SIMILARITY": None, "MATCHES": None, "POLYGONS": QgsProcessing.TEMPORARY_OUTPUT,
             "MIN_AREA": LEAST_AREA},
            lambda results: None,
        )

    def train_head(self) -> None:
        """Open Train head with examples and counterexamples as two classes."""
        session = self._session
        try:
            path = temporary(session.examples, session.layer, "examples")
        except FileError as failure:
            self._say_unwritten("examples.gpkg", failure)
            return
        open_form(TRAIN, {"INPUT": [session.layer.source()], "LABELS": path, "FIELD": KIND})

    def stop(self) -> bool:
        """Cancel searches that run; whether there was one."""
        self._forms = [form for form in self._forms if not sip.isdeleted(form)]
        running = [form for form in self._forms if form.cancelButton().isEnabled()]
        for form in running:
            form.cancelButton().click()
        return bool(running)

    def save_examples(self) -> None:
        """Ask for a file, write the examples, and add the layer to the project."""
        folder = QgsProject.instance().absolutePath() or str(Path.home())
        names = {"GPKG": tr("GeoPackage"), "GeoJSON": "GeoJSON", "ESRI Shapefile": "Shapefile"}
        filters = ";;".join(f"{names[driver]} (*{end})" for end, driver in DRIVERS.items())
        path, _ = QFileDialog.getSaveFileName(
            self, tr("Save Examples"), str(Path(folder) / "examples.gpkg"), filters
        )
        if not path:
            return
        if Path(path).suffix.lower() not in DRIVERS:
            path += ".gpkg"
        session = self._session
        try:
            save(session.examples, session.layer, path)
        except FileError as failure:
            self._say_unwritten(path, failure)
            return
        layer = QgsVectorLayer(path, Path(path).stem, "ogr")
        QgsProject.instance().addMapLayer(layer)
        session.set_status(tr("Saved the examples in {}.").format(Path(path).name))

    def _open_search(
        self, outputs: dict[str, Any], done: Callable[[dict[str, Any]], None]
    ) -> None:
        session = self._session
        parameters: dict[str, Any] = {"INPUT": [session.layer.source()], **outputs}
        for name, kind in (("EXAMPLES", EXAMPLE), ("COUNTEREXAMPLES", COUNTEREXAMPLE)):
            chosen = [example for example in session.examples if example.kind == kind]
            try:
                if chosen:
                    parameters[name] = temporary(chosen, session.layer, name.lower())
            except FileError as failure:
                self._say_unwritten(f"{name.lower()}.gpkg", failure)
                return
        threshold = session.threshold_cosine()
        if threshold is not None:
            parameters["THRESHOLD"] = round(threshold, 4)  # as many places as the form has
        self._forms.append(open_form(SEARCH, parameters, done))

    def _say_unwritten(self, path: str, failure: FileError) -> None:
        self._session.set_status(
            tr("{} cannot be written. Choose another folder.").format(Path(path).name),
            ERROR, str(failure),
        )

    def _show_matches(self, results: dict[str, Any]) -> None:
        """List the matches of the whole raster."""
        layer = QgsVectorLayer(str(results.get("MATCHES") or ""), "matches", "ogr")
        if self._session.layer is None or not layer.isValid():
            return
        found = [
            (feature["rank"], Match(
                feature["x"], feature["y"], feature["cosine"], feature["percentile"]
            ))
            for feature in layer.getFeatures()
        ]
        found.sort(key=lambda pair: pair[0])
        self._session.set_matches([match for _, match in found])
        self._session.set_status(tr("The matches of the whole raster are listed."))

    def _refresh(self) -> None:
        session = self._session
        good = sum(example.kind == EXAMPLE for example in session.examples)
        bad = len(session.examples) - good
        stale = tr("The examples belong to another encoder. Choose Read Again first.")
        keep = stale if session.kept_on else tr("Keep an example first.")
        two = tr("Keep at least two examples and two counterexamples first.")
        enough = min(good, bad) >= LEAST_FOR_HEAD
        for button, ready, tip, reason in (
            (self.search, good and not session.kept_on,
             tr("The algorithm with these examples, over the whole raster"), keep),
            (self.save, good or bad, tr("Points with kind, name, order"), keep),
            (self.export, good and not session.kept_on,
             tr("Places above the threshold, with area and cosine"), keep),
            (self.train, enough and not session.kept_on,
             tr("Examples, counterexamples as classes"), stale if session.kept_on else two),
        ):
            ready = bool(ready) and session.layer is not None
            button.setEnabled(ready)
            button.setToolTip(tip if ready else reason)
