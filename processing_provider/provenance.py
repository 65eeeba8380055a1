"""How a map came about, kept with its layer, so that it can be made again with more labels.

The record goes into the layer's custom properties, and with them into the project's file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from qgis.core import QgsMapLayer

PROPERTY = "earthprint/run"


@dataclass(frozen=True)
class Provenance:
    """One run of the engine that made a map of classes.

    Attributes:
        algorithm: id without the provider.
        job: name of the engine's job.
        params: of the job, as they were sent.
        head: path of the head that made the map, "" where it was not kept.
        embeddings: path of embeddings that were made on the way and kept, "" without any.
        macro_f1: of the head's cross-validation, None where it was not measured.
    """

    algorithm: str
    job: str
    params: dict[str, Any]
    head: str = ""
    embeddings: str = ""
    macro_f1: float | None = None

    @classmethod
    def of_run(
        cls, algorithm: str, job: str, params: dict[str, Any], result: dict[str, Any]
    ) -> Provenance:
        """The record of a run that went well: what was asked, and the job with its answer."""
        scores = result.get("scores") or {}
        head = result.get("head") or result.get("head_output") or ""
        return cls(
            algorithm, job, params, str(head), str(result.get("embeddings") or ""),
            scores.get("macro_f1"),
        )

    @classmethod
    def of_layer(cls, layer: QgsMapLayer | None) -> Provenance | None:
        """The record that a layer carries; None without one, or with one of another make."""
        text = layer.customProperty(PROPERTY, "") if layer is not None else ""
        try:
            return cls(**json.loads(text)) if text else None
        except (TypeError, ValueError):
            return None

    def write(self, layer: QgsMapLayer) -> None:
        """Have a layer carry the record."""
        layer.setCustomProperty(PROPERTY, json.dumps(asdict(self)))
