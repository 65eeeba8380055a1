"""The sensors that a head has learnt from, against those that a map is made of.

An encoder such as `fast` takes any optical sensor or radar, so a head on its embeddings maps images
of a sensor that it has never met without a sign. That is why the card names what was met.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...models import catalogue
from ...models.cards import read_card
from .. import environment
from ..encoding import pipeline
from ..stacks.sensors import TITLES
from ..stacks.stack import Stack
from .layout import FeatureLayout

KEY, BANDS_KEY = "sensors", "bands"
"""Under these keys of a card's source the sensors, and the bands of each, are kept."""


def bands_read(stack: Stack, layout: FeatureLayout) -> dict[str, tuple[str, ...]] | None:
    """Each sensor's bands that features of a layout are made of, of those that a stack has.

    None where the layout's encoder is not installed, so that nobody knows what it reads.
    """
    offered = stack.sensors()
    wanted: dict[str, set[str]] = {s.sensor: set(s.bands) for s in layout.series}
    if layout.dims:
        path = catalogue.bundled([environment.models_folder()]).get(layout.encoder.split("@")[0])
        if path is None:
            return None
        for sensor, bands in pipeline.bands_read(read_card(path), offered).items():
            wanted.setdefault(sensor, set()).update(bands)
    return {sensor: tuple(b for b in offered[sensor] if b in bands)
            for sensor, bands in wanted.items()
            if sensor in offered and bands & set(offered[sensor])}


@dataclass(frozen=True)
class Sensors:
    """What a head has learnt from.

    Attributes:
        names: every sensor that it has met.
        bands: sensor to its bands, where all samples were read with all of them; empty where
            samples differed or the card does not say.
    """

    names: tuple[str, ...]
    bands: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, read: Mapping[str, tuple[str, ...]]) -> Sensors:
        """Of a training whose samples were all read with these sensors and bands."""
        return cls(tuple(sorted(read)), read)

    @classmethod
    def of_card(cls, source: Mapping[str, object]) -> Sensors | None:
        """What a card's source says; None where it does not, as older cards."""
        if not source.get(KEY):
            return None
        return cls(tuple(source[KEY]), {sensor: tuple(bands) for sensor, bands
                                        in source.get(BANDS_KEY, {}).items()})

    def record(self) -> dict[str, object]:
        """For a card's source (JSON)."""
        return {KEY: list(self.names),
                BANDS_KEY: {sensor: list(self.bands[sensor]) for sensor in sorted(self.bands)}}

    def unseen(self, read: Mapping[str, tuple[str, ...]]) -> list[str]:
        """Of a map's sensors those that were never met."""
        return sorted(set(read).difference(self.names))

    def lacking(self, read: Mapping[str, tuple[str, ...]]) -> list[str]:
        """In words, what every sample had and a map has not: sensors, and bands of the others."""
        gone = [TITLES.get(sensor, sensor) for sensor in self.bands if sensor not in read]
        for sensor, bands in self.bands.items():
            less = [b for b in bands if b not in read[sensor]] if sensor in read else []
            if less:
                gone.append(f"{', '.join(less)} of {TITLES.get(sensor, sensor)}")
        return gone


def titles(sensors: Iterable[str]) -> str:
    """Sensors for people, with commas."""
    return ", ".join(TITLES.get(sensor, sensor) for sensor in sensors)
