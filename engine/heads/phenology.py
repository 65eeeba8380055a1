"""What classifiers are told about band series beside the values: indices, level, spread, rhythm.

A season that is early or late, or seen on other dates, moves every value of a series but hardly
its mean, range and rhythm; so a head that has these too holds on other ground and in other years.
Everything is worked out inside the head's graph: the table of features stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import helper

from .layout import FeatureLayout, SensorSeries
from .standard import Graph, Standard

_RATIOS = (
    (("nir", "nir08"), ("red",)),  # NDVI, Rouse et al. 1974
    (("nir", "nir08"), ("swir16",)),  # NDMI, Gao 1996
    (("swir16",), ("swir22",)),  # residue and tillage, van Deventer et al. 1997
    (("green",), ("nir", "nir08")),  # NDWI, McFeeters 1996
    (("nir", "nir08"), ("rededge071",)),  # NDRE, Barnes et al. 2000
)  # (a - b) / (a + b) of the first band of each pair that a sensor has
_DARK = 1e-6  # a sum of reflectances below this is taken for this
_HARMONICS = (1, 2)  # waves a year whose height is measured
_BOTH = np.kron(np.eye(len(_HARMONICS)), np.ones((1, 2))).astype(np.float32)  # cosine and sine


@dataclass(frozen=True)
class _Sensor:
    """One sensor's part: where its columns start, steps, bands, changes, and pairs of bands."""

    start: int
    steps: int
    bands: int
    changes: int
    ratios: tuple[tuple[int, int], ...]
    differences: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, series: SensorSeries, start: int) -> _Sensor:
        at = {name: i for i, name in enumerate(series.bands)}
        found = []
        for first, second in _RATIOS:
            a, b = (next((at[n] for n in names if n in at), None) for names in (first, second))
            if a is not None and b is not None:
                found.append((a, b))
        radar = ((at["vh"], at["vv"]),) if {"vv", "vh"} <= set(at) else ()
        bands = len(series.bands)
        return cls(start, series.steps, bands, bands * series.change, tuple(found), radar)

    @property
    def columns(self) -> slice:
        return slice(self.start, self.start + self.steps * self.bands)

    @property
    def changed(self) -> slice:
        """The columns of the changes over the years."""
        return slice(self.columns.stop, self.columns.stop + self.changes)


@dataclass(frozen=True)
class Phenology:
    """Band series (n, k) to a wider table: series and indices, then what sums each of them up.

    Attributes:
        standard: of the band series; a sensor that never saw a pixel counts as the mean series.
        sensors: the parts of the table.
    """

    standard: Standard
    sensors: tuple[_Sensor, ...]

    @classmethod
    def of(cls, x: np.ndarray, layout: FeatureLayout) -> Phenology:
        """For the band series (n, k) of the training samples, columns as in `layout`."""
        sensors, start = [], 0
        for series in layout.series:
            sensors.append(_Sensor.of(series, start))
            start = sensors[-1].changed.stop
        return cls(Standard.of(x), tuple(sensors))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, m) float32 of (n, k) band series."""
        filled, parts = self.standard.filled(x), []
        for sensor in self.sensors:
            cube = filled[:, sensor.columns].reshape(len(x), sensor.steps, sensor.bands)
            a, b = ([pair[i] for pair in sensor.ratios] for i in (0, 1))
            ratios = (cube[:, :, a] - cube[:, :, b]) / np.maximum(cube[:, :, a] + cube[:, :, b],
                                                                  np.float32(_DARK))
            c, d = ([pair[i] for pair in sensor.differences] for i in (0, 1))
            cube = np.concatenate([cube, np.clip(ratios, -1, 1), cube[:, :, c] - cube[:, :, d]], 2)
            parts.append(cube.reshape(len(x), -1))
            if sensor.steps > 1:
                parts += _summary(cube)
            parts.append(filled[:, sensor.changed])
        return np.concatenate(parts, 1).astype(np.float32)

    def graph(self) -> Graph:
        """Nodes from "features" (n, k) to "described" (n, m)."""
        first = self.standard.filling()
        nodes = list(first.nodes)
        constants = {**first.constants, "dark": np.float32(_DARK), "low": np.float32(-1),
                     "high": np.float32(1), "flat": np.array([0, -1], np.int64),
                     "along": np.array([1], np.int64)}
        parts = []
        for number, sensor in enumerate(self.sensors):
            parts += _nodes(sensor, f"s{number}_", nodes, constants)
        nodes.append(helper.make_node("Concat", parts, ["described"], axis=1))
        return Graph(tuple(nodes), constants)


def _summary(cube: np.ndarray) -> list[np.ndarray]:
    """Mean, standard deviation, extremes, steepest rise and fall, height of waves; (n, bands)."""
    mean = cube.mean(1)
    centred = cube - mean[:, None]
    change = cube[:, 1:] - cube[:, :-1]
    parts = [mean, np.sqrt((centred**2).mean(1)), cube.max(1), cube.min(1), change.max(1),
             change.min(1)]
    waves = np.matmul(_waves(cube.shape[1]), centred) ** 2
    heights = np.sqrt(waves.reshape(len(cube), len(_HARMONICS), 2, -1).sum(2))
    return [*parts, heights.reshape(len(cube), -1)]


def _waves(steps: int) -> np.ndarray:
    """(2 waves, steps) float32: cosine and sine of each wave, over the number of steps."""
    angle = 2 * np.pi * np.arange(steps) / steps
    return np.array([f(h * angle) / steps for h in _HARMONICS for f in (np.cos, np.sin)],
                    np.float32)


def _pairs(pairs: tuple[tuple[int, int], ...], bands: int, sign: int) -> np.ndarray:
    """(bands, pairs) float32 by which bands make a + sign b: faster than picking them."""
    matrix = np.zeros((bands, len(pairs)), np.float32)
    for column, (a, b) in enumerate(pairs):
        matrix[a, column], matrix[b, column] = 1, sign
    return matrix


def _nodes(sensor: _Sensor, name: str, nodes: list, constants: dict[str, np.ndarray]) -> list[str]:
    """Add the nodes of one sensor, the same steps as in `Phenology.__call__`."""

    def add(kind: str, inputs: list[str], output: str, **settings: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [name + output], **settings))
        return name + output

    def given(key: str, value: object) -> str:
        constants[name + key] = np.asarray(value)
        return name + key

    mine = add("Slice", ["filled", given("from", np.array([sensor.start], np.int64)),
                         given("to", np.array([sensor.columns.stop], np.int64)), "along"], "own")
    shape = given("shape", np.array([-1, sensor.steps, sensor.bands], np.int64))
    layers = [add("Reshape", [mine, shape], "series")]
    if sensor.ratios:
        over = add("MatMul", [layers[0], given("less", _pairs(sensor.ratios, sensor.bands, -1))],
                   "over")
        under = add("MatMul", [layers[0], given("more", _pairs(sensor.ratios, sensor.bands, 1))],
                    "sum")
        under = add("Max", [under, "dark"], "under")
        layers.append(add("Clip", [add("Div", [over, under], "ratio"), "low", "high"], "index"))
    if sensor.differences:
        apart = given("apart", _pairs(sensor.differences, sensor.bands, -1))
        layers.append(add("MatMul", [layers[0], apart], "difference"))
    cube = add("Concat", layers, "cube", axis=2)
    parts = [add("Reshape", [cube, "flat"], "values")]
    changes = [add("Slice", ["filled", given("behind", np.array([sensor.changed.start], np.int64)),
                             given("beyond", np.array([sensor.changed.stop], np.int64)), "along"],
                   "changes")] if sensor.changes else []
    if sensor.steps == 1:
        return parts + changes
    mean = add("ReduceMean", [cube], "mean3", axes=[1], keepdims=1)
    centred = add("Sub", [cube, mean], "centred")
    length = add("ReduceL2", [centred], "length", axes=[1], keepdims=0)
    root = given("root", np.float32(1 / np.sqrt(sensor.steps)))
    later = add("Slice", [cube, given("second", np.array([1], np.int64)),
                          given("end", np.array([sensor.steps], np.int64)), "along"], "later")
    before = add("Slice", [cube, given("first", np.array([0], np.int64)),
                           given("last", np.array([sensor.steps - 1], np.int64)), "along"],
                 "before")
    change = add("Sub", [later, before], "change")
    parts += [add("Reshape", [mean, "flat"], "mean"), add("Mul", [length, root], "spread")]
    for source, what in ((cube, "value"), (change, "change")):
        for kind in ("Max", "Min"):
            parts.append(add(f"Reduce{kind}", [source], f"{kind}_{what}", axes=[1], keepdims=0))
    waves = add("MatMul", [given("wave", _waves(sensor.steps)), centred], "waves")
    power = add("MatMul", [given("both", _BOTH), add("Mul", [waves, waves], "power")], "powers")
    return [*parts, add("Reshape", [add("Sqrt", [power], "height"), "flat"], "heights"), *changes]
