"""One encoder or head as the engine describes it, in the words of the list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qgis.PyQt.QtCore import QLocale

from ...processing_provider.translation import tr

ENCODER, HEAD = "encoder", "head"

_SENSORS = {
    "sentinel-2": "Sentinel-2", "sentinel-1": "Sentinel-1", "landsat": "Landsat", "modis": "MODIS",
    "cbers": "CBERS",
}
_SHORT = {"sentinel-2": "S2", "sentinel-1": "S1"}


@dataclass(frozen=True)
class Model:
    """A line of the list.

    Attributes:
        name: as the forms call it.
        kind: "encoder" or "head".
        path: of the ONNX file.
        bundled: whether it comes with the plugin.
        size: bytes on disk, weights beside the file included.
        problem: why it cannot be used, "" where it can.
        card: as in the file, JSON values; empty where the file cannot be used.
    """

    name: str
    kind: str
    path: str
    bundled: bool
    size: int
    problem: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Model:
        """From what the engine's job `list_models` says about it."""
        return cls(
            name=record["name"], kind=record["kind"], path=record["path"],
            bundled=record["bundled"], size=record["bytes"], problem=record["problem"],
            card=record["card"],
        )

    @property
    def identity(self) -> str:
        """Equal for equal weights only; the path where the card has no hash."""
        digest = str(self.card.get("weights_sha256") or "")
        if not digest:
            return self.path
        return "{}@{}#{}".format(
            self.card.get("name", self.name), self.card.get("version", ""), digest[:8]
        )

    @property
    def sensors(self) -> str:
        """What goes in, by short names; for a head on embeddings also their encoder."""
        features = self.card.get("features")
        if not isinstance(features, Mapping):  # a detector describes them in words
            features = {}
        encoder = str(self.card.get("encoder") or "").split("@")[0]
        series = [s["sensor"] for s in features.get("series", self.card.get("sensors") or ())]
        names = [_SHORT.get(name) or sensor_title(name) for name in dict.fromkeys(series)]
        return ", ".join([encoder, *names] if encoder else names)

    @property
    def unit(self) -> str:
        """What one embedding stands for."""
        if self.card.get("unit") == "patch":
            return tr("patch {}").format(self.card["patch"])
        return tr("pixel") if self.card.get("unit") == "pixel" else ""

    @property
    def ground_size(self) -> str:
        """Side of what one embedding stands for, in metres."""
        side = self.metres
        return QLocale().toString(side, "g", 6) if side else ""

    @property
    def metres(self) -> float:
        """The same as a number, 0 where it is not known."""
        return float(self.card.get("ground_size_m") or 0) * int(self.card.get("patch") or 1)

    @property
    def licence(self) -> str:
        """Of the weights."""
        return str(self.card.get("licence_weights") or "")

    @property
    def immovable(self) -> str:
        """Why it cannot be removed, "" where it can."""
        if not self.bundled:
            return ""
        return tr("{} comes with Earthprint and cannot be removed.").format(self.name)


def sensor_title(sensor: str) -> str:
    """A sensor as its makers write it."""
    return _SENSORS.get(sensor) or tr(sensor.replace("-", " ").capitalize())


def size_text(size: int) -> str:
    """Bytes on disk, in megabytes so that sizes can be compared at a glance."""
    return tr("{} MB").format(QLocale().toString(size / 1e6, "f", 1))
