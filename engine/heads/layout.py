"""The columns of a feature table: what a head was trained on and must be given again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..errors import UserError

KINDS = ("embeddings", "bands", "both")


class Source(Protocol):
    """Whatever offers features: encoder's identity or "", band series, a name for sentences."""

    encoder: str
    series: tuple[SensorSeries, ...]
    name: str


@dataclass(frozen=True)
class SensorSeries:
    """Bands of one sensor on `steps` half-months of a year; 1 step for scenes without a date.

    Where scenes span more than a year, `change` says that the change of each band from the first
    to the last year follows the steps (`years.change`).
    """

    sensor: str
    bands: tuple[str, ...]
    steps: int
    change: bool = False

    @property
    def size(self) -> int:
        """Number of columns."""
        return len(self.bands) * (self.steps + self.change)


@dataclass(frozen=True)
class FeatureLayout:
    """The columns of a feature table: the embedding's components, then sensor, step, band.

    The changes of a sensor's bands, if any, stand behind its last step.

    Attributes:
        kind: "embeddings", "bands" or "both".
        encoder: identity of the encoder; "" for bands.
        dims: components of the embedding; 0 for bands.
        series: band series; empty for embeddings.
    """

    kind: str
    encoder: str = ""
    dims: int = 0
    series: tuple[SensorSeries, ...] = ()

    @property
    def size(self) -> int:
        """Number of columns."""
        return self.dims + sum(s.size for s in self.series)

    def only(self, kind: str) -> FeatureLayout:
        """The part of a layout of `both` that is of a kind."""
        if kind == "embeddings":
            return FeatureLayout(kind, self.encoder, self.dims)
        return FeatureLayout(kind, series=self.series) if kind == "bands" else self

    def columns(self, kind: str) -> slice:
        """The columns of a table of this layout that are of a kind."""
        return {"embeddings": slice(0, self.dims), "bands": slice(self.dims, self.size),
                "both": slice(0, self.size)}[kind]

    def record(self) -> dict[str, object]:
        """The layout for a card (JSON)."""
        return {"kind": self.kind, "encoder": self.encoder, "dims": self.dims,
                "series": [{"sensor": s.sensor, "bands": list(s.bands), "steps": s.steps,
                            "change": s.change} for s in self.series]}

    @classmethod
    def of_record(cls, record: dict) -> FeatureLayout:
        """The layout of a card."""
        return cls(record["kind"], record["encoder"], int(record["dims"]), tuple(
            SensorSeries(s["sensor"], tuple(s["bands"]), int(s["steps"]), s.get("change", False))
            for s in record["series"]))

    def require(self, name: str, source: Source) -> None:
        """Raise a `UserError` that says what a source lacks for a head called `name`."""
        if self.dims and source.encoder != self.encoder:
            ours, theirs = self.encoder, source.encoder
            if ours.split("#")[0] != theirs.split("#")[0]:
                ours, theirs = ours.split("#")[0], theirs.split("#")[0]
            raise UserError(f"{name} needs {ours}, not {theirs or 'rasters'}. Encode with it.")
        offered = {s.sensor: s for s in source.series}
        for wanted in self.series:
            given = offered.get(wanted.sensor)
            if given is None:
                raise UserError(f"{name} needs {wanted.sensor} {', '.join(wanted.bands)}, which "
                                f"{source.name} lacks. Add them or train a head anew.")
            lacking = [b for b in wanted.bands if b not in given.bands]
            if lacking:
                raise UserError(f"{name} needs {wanted.sensor} {', '.join(lacking)}, which "
                                f"{source.name} lacks. Add them or train a head anew.")
            if wanted.steps != given.steps:
                word = "dated" if wanted.steps > 1 else "undated"
                raise UserError(f"{name} needs {word} scenes of {wanted.sensor}, which "
                                f"{source.name} lacks. Check Dates.")
