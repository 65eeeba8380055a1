"""Forest or not, from what a season's clear observations show: a small head on three indices.

Quantiles over the dates of NDVI, EVI2 and NBR say how green a pixel is, how bright its canopy, how
moist, and how much that varies; they need no fixed dates, so one date is a short season. The
indices are of reflectance, which makes sensors comparable.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from onnx import helper

from ...models.cube import Series
from ..errors import UserError
from ..heads.applicability import Gate
from ..heads.classifiers import Perceptron
from ..heads.head import gate_of
from ..heads.headfile import CARD_KEY, HeadFile, build, write
from .indices import evi2, normalised

BUNDLED = (Path(__file__).resolve().parents[2] / "resources" / "heads"
           / "deforestation.head.onnx")
KIND = "forest head"
INDICES = ("ndvi", "evi2", "nbr")
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
SIZE = len(INDICES) * len(QUANTILES)
NEEDED = ("red", "nir")
"""Bands without which there is no answer; NBR joins where `swir22` is there."""


class ForestHead:
    """An opened head.

    Attributes:
        card: what it was trained on and how right it was.
        gate: tells pixels unlike the training data.
    """

    def __init__(self, file: HeadFile) -> None:
        self._file = file
        self.card: dict = json.loads(file.metadata[CARD_KEY])
        self.gate: Gate = gate_of(file)

    @classmethod
    def open(cls, path: Path = BUNDLED, threads: int = 1) -> ForestHead:
        """Open a head.

        Raises:
            UserError: no such file, or another kind of head.
        """
        file = HeadFile.open(path, threads)
        if file.kind != KIND:
            raise UserError(f"{Path(path).name} is no forest head. Install the plugin again.")
        return cls(file)

    def forest(self, table: np.ndarray) -> np.ndarray:
        """(n,) float32 probability of forest from (n, SIZE) features; NaN without any."""
        known = ~np.isnan(table[:, :len(QUANTILES)]).any(1)
        found = np.full(len(table), np.nan, np.float32)
        found[known] = self._file.run(table[known])[:, 1]
        return found


def season_features(indices: np.ndarray) -> np.ndarray:
    """(3, T, n) index series with NaN gaps to (n, SIZE) quantiles over the dates.

    Bad single values (an index beyond its range) count as gaps.
    """
    parts = []
    for values, (low, high) in zip(indices, ((-1, 1), (-0.5, 1.5), (-1, 1)), strict=True):
        with np.errstate(invalid="ignore"):
            good = np.where((values >= low) & (values <= high), values, np.nan)
        parts.append(_quantiles(good))
    return np.concatenate(parts, 1)


def _quantiles(values: np.ndarray) -> np.ndarray:
    """(T, n) with gaps to (n, quantiles), linear between the sorted values; NaN without any."""
    ordered = np.sort(values, axis=0)  # NaN last
    count = np.isfinite(values).sum(0)
    last = np.maximum(count - 1, 0)
    out = np.empty((values.shape[1], len(QUANTILES)), np.float32)
    columns = np.arange(values.shape[1])
    for k, q in enumerate(QUANTILES):
        place = q * last
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, last)
        share = place - low
        out[:, k] = ordered[low, columns] * (1 - share) + ordered[high, columns] * share
    out[count == 0] = np.nan
    return out


def index_series(series: Series) -> np.ndarray:
    """(3, T, rows * cols) float32 of an optical series; NaN where not seen or a band lacks."""
    def band(name: str) -> np.ndarray | None:
        for known in (name, f"{name}08") if name == "nir" else (name,):
            if known in series.bands:
                values = series.values[:, series.bands.index(known)]
                return np.where(series.valid, values, np.nan).reshape(len(values), -1)
        return None

    red, nir, swir = band("red"), band("nir"), band("swir22")
    out = np.full((3, *red.shape), np.nan, np.float32)
    out[0], out[1] = normalised(nir, red), evi2(nir, red)
    if swir is not None:
        out[2] = normalised(nir, swir)
    return out


def write_forest_head(path: Path, network: Perceptron, card: dict, gate: Gate,
                      check: np.ndarray) -> None:
    """Write a head; file and network must agree on (n, SIZE) features to check."""
    graph = network.graph()
    nodes = [*graph.nodes, helper.make_node("Identity", ["raw"], ["probabilities"])]
    model = build(nodes, graph.constants, SIZE, "probabilities", 2)
    write(path, model, json.dumps({"kind": KIND, **card}, indent=1, ensure_ascii=False),
          gate.to_text(), check, network.probabilities(check))
