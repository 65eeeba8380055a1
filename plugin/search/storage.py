"""Examples and the look of the heat map in the project's file, for each embeddings layer.

One JSON text under "earthprint/search". A layer is known by its id, and by its source once it was
taken out of the project and put back.
"""

from __future__ import annotations

import json
import math
from typing import Any

from qgis.core import Qgis, QgsMapLayer, QgsMessageLog, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QObject

from ...processing_provider.translation import tr
from .layers import encoder_of
from .session import (
    COUNTEREXAMPLE,
    EXAMPLE,
    HEAT,
    OPACITY,
    SHARE,
    SHOWS,
    Example,
    SearchSession,
)

SCOPE, KEY = "earthprint", "search"


class SearchStorage(QObject):
    """Writes each change of a session into the project, and reads it back.

    Args:
        session: whose examples are kept.
        parent: owner.
    """

    def __init__(self, session: SearchSession, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session, self._project = session, QgsProject.instance()
        self._loaded: QgsRasterLayer | None = None
        session.layer_changed.connect(self._load)
        session.examples_changed.connect(self._save)
        session.style_changed.connect(self._save)
        self._project.readProject.connect(self._load_look)
        self._project.cleared.connect(self._forget_look)
        self._load_look()
        self._load()

    def preferred(self) -> str:
        """Id of the layer that was searched when the project was saved, "" where unknown."""
        return str(self._read().get("layer") or "")

    def _load(self) -> None:
        """Take the layer's examples out of the project."""
        layer, self._loaded = self._session.layer, None
        if layer is not None:
            record = self._find(self._read(), layer) or {}
            examples = [_example(value) for value in _list(record, "examples")]
            kept_on = str(record.get("encoder") or "")
            self._session.restore(
                [example for example in examples if example is not None],
                "" if kept_on == encoder_of(layer) else kept_on,
            )
        self._loaded = layer

    def _load_look(self) -> None:
        """Take threshold, show and opacity out of the project."""
        look, self._loaded = self._read(), None
        self._session.set_share(_number(look.get("share"), SHARE))
        self._session.set_opacity(_number(look.get("opacity"), OPACITY))
        self._session.set_show(look["show"] if look.get("show") in SHOWS else HEAT)
        self._loaded = self._session.layer

    def _forget_look(self) -> None:
        self._loaded = None
        self._session.set_share(SHARE)
        self._session.set_opacity(OPACITY)
        self._session.set_show(HEAT)

    def _save(self) -> None:
        """Write what is so now; while a layer is being loaded nothing is."""
        session = self._session
        if session.layer is None or session.layer is not self._loaded:
            return
        known = self._read()
        layers = [record for record in _list(known, "layers") if isinstance(record, dict)]
        old = self._find(known, session.layer)
        layers = [record for record in layers if record is not old]
        if session.examples:
            layers.append(
                {
                    "id": session.layer.id(),
                    "source": self._project.pathResolver().writePath(session.layer.source()),
                    "encoder": session.kept_on or encoder_of(session.layer),
                    "examples": [_record(example) for example in session.examples],
                }
            )
        text = json.dumps(
            {
                "layer": session.layer.id(),
                "share": session.share,
                "show": session.show,
                "opacity": session.opacity,
                "layers": layers,
            },
            ensure_ascii=False,
        )
        if text != self._project.readEntry(SCOPE, KEY)[0]:
            self._project.writeEntry(SCOPE, KEY, text)
            self._project.setDirty(True)

    def _read(self) -> dict[str, Any]:
        text = self._project.readEntry(SCOPE, KEY)[0]
        try:
            known = json.loads(text) if text else {}
        except ValueError:
            known = None
        if isinstance(known, dict):
            return known
        QgsMessageLog.logMessage(
            tr("The examples in this project's file are damaged and were left out."),
            "Earthprint",
            Qgis.MessageLevel.Warning,
        )
        return {}

    def _find(self, known: dict[str, Any], layer: QgsMapLayer) -> dict[str, Any] | None:
        """The record of a layer: by its id, else by its source."""
        records = [record for record in _list(known, "layers") if isinstance(record, dict)]
        resolver = self._project.pathResolver()
        for record in records:
            if record.get("id") == layer.id():
                return record
        for record in records:
            if resolver.readPath(str(record.get("source") or "")) == layer.source():
                return record
        return None


def _list(record: dict[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    return value if isinstance(value, list) else []


def _number(value: Any, default: float) -> float:
    """A finite number, else the default."""
    good = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if good else default


def _record(example: Example) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": example.kind, "x": example.x, "y": example.y}
    if example.name:
        record["name"] = example.name
    if example.box is not None:
        record["box"] = list(example.box)
    return record


def _example(record: Any) -> Example | None:
    """An example from its record, None where the record is not one."""
    if not isinstance(record, dict) or record.get("kind") not in (EXAMPLE, COUNTEREXAMPLE):
        return None
    x, y = (_number(record.get(key), math.nan) for key in ("x", "y"))
    edges = [_number(value, math.nan) for value in _list(record, "box")]
    if not all(map(math.isfinite, (x, y, *edges))) or len(edges) not in (0, 4):
        return None
    box = (edges[0], edges[1], edges[2], edges[3]) if edges else None
    return Example(record["kind"], x, y, str(record.get("name") or ""), box)
