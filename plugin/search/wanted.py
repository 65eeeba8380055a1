"""What is searched for, in the engine's words: places of a session and coordinate systems."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qgis.core import QgsCoordinateReferenceSystem

from .session import COUNTEREXAMPLE, EXAMPLE, SearchSession


@dataclass(frozen=True)
class Wanted:
    """The places that are kept.

    Attributes:
        examples, counterexamples: as the engine wants them.
        indices: of both, in the session.
    """

    examples: list[dict[str, Any]] = field(default_factory=list)
    counterexamples: list[dict[str, Any]] = field(default_factory=list)
    indices: tuple[list[int], list[int]] = ((), ())

    @classmethod
    def of_session(cls, session: SearchSession) -> Wanted:
        """Nothing without a layer, or while its examples belong to another encoder."""
        if session.kept_on or session.layer is None:
            return cls()
        kept, crs = session.examples, crs_text(session.layer.crs())
        indices = tuple(
            [index for index, example in enumerate(kept) if example.kind == kind]
            for kind in (EXAMPLE, COUNTEREXAMPLE)
        )
        places = ([_place(kept[index], crs) for index in those] for those in indices)
        return cls(*places, indices)

    def __bool__(self) -> bool:
        return bool(self.examples or self.counterexamples)

    def lost(self, result: dict[str, Any]) -> list[int]:
        """Indices in the session of the places that have no embeddings, by the engine's answer."""
        return sorted(
            indices[at]
            for key, indices in zip(("lost", "lost_counterexamples"), self.indices)
            for at in result[key]
        )


def crs_text(crs: QgsCoordinateReferenceSystem) -> str:
    """A name that the engine reads: short where there is one, as it goes with every query."""
    return crs.authid() if crs.authid().startswith("EPSG:") else crs.toWkt()


def _place(example: Any, crs: str) -> dict[str, Any]:
    if example.box is not None:
        return {"box": list(example.box), "crs": crs}
    return {"x": example.x, "y": example.y, "crs": crs}
