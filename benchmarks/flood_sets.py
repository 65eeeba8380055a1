"""The flood sets of the reference material as scenes: OMBRIA's chips, the Spanish chip, and radar
pairs in which nothing was flooded."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from earthprint.engine.flood.scene import optical_channels
from earthprint.engine.rasters.grid import Grid, Window

_OUTSIDE = 255  # grey value where a chip reaches beyond the radar scene


@dataclass(frozen=True, eq=False)
class Chip:
    """One chip in memory; a `Scene` for the detectors.

    Attributes:
        name: of the chip.
        values: channel to (2, rows, cols).
        truth: (rows, cols) bool.
        judged: (rows, cols) bool, where the truth is known.
    """

    name: str
    values: dict[str, np.ndarray]
    truth: np.ndarray
    judged: np.ndarray

    @property
    def grid(self) -> Grid:
        """Pixels of 10 m without a place."""
        return Grid("", (10, 0, 0, 0, -10, 0), self.truth.shape)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(self.values)

    def read(self, window: Window) -> dict[str, np.ndarray]:
        """A part of the chip."""
        rows, cols = window.slices
        return {c: v[:, rows, cols] for c, v in self.values.items()}

    def only(self, *channels: str) -> Chip:
        """The chip with some of its channels."""
        return Chip(self.name, {c: self.values[c] for c in channels if c in self.values},
                    self.truth, self.judged)

    def crop(self, row: int, col: int, side: int) -> Chip:
        """A square of the chip."""
        part = slice(row, row + side), slice(col, col + side)
        return Chip(self.name, {c: v[:, part[0], part[1]] for c, v in self.values.items()},
                    self.truth[part], self.judged[part])


RADAR = ("vv",)
OPTICAL = ("mndwi", "ndwi")


def ombria(shared: Path, split: str) -> list[Chip]:
    """Chips of a split of OMBRIA.

    Radar grey values become -30..0: their true scale is unknown and the detectors do not depend
    on it. White is outside the scene.
    """
    folder = Path(shared) / "data" / "flood-ombria"
    with open(folder / "index.csv", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == split]
    return [_chip(folder / split, row["chip"], row["has_s2"] == "1") for row in rows]


def _chip(folder: Path, name: str, optical: bool) -> Chip:
    def grey(kind: str) -> np.ndarray:
        return np.asarray(Image.open(folder / kind / f"{name}.png"), np.float32)

    radar = np.stack([grey("S1_BEFORE"), grey("S1_AFTER")])
    radar = np.where(radar == _OUTSIDE, np.nan, radar / 255 * 30 - 30).astype(np.float32)
    values = {"vv": radar}
    if optical:
        # file order is short-wave infrared, near infrared, green
        pair = np.stack([grey("S2_BEFORE"), grey("S2_AFTER")]).transpose(3, 0, 1, 2) / 255
        values |= optical_channels(dict(zip(("swir16", "nir", "green"), pair, strict=True)))
    truth = grey("S1_MASK") > 0
    return Chip(name, values, truth, np.ones(truth.shape, bool))


def spain(shared: Path) -> tuple[dict[str, Path], np.ndarray, np.ndarray]:
    """The Spanish chip: its files by sensor, water, and where the label is known."""
    folder = Path(shared) / "data" / "flood-sen1floods11-spain"
    files = {"sentinel-1": folder / "Spain_7370579_S1Hand.tif",
             "sentinel-2": folder / "Spain_7370579_S2Hand.tif"}
    with rasterio.open(folder / "Spain_7370579_LabelHand.tif") as dataset:
        label = dataset.read(1)
    return files, label == 1, label >= 0


def dry_pairs(shared: Path) -> dict[str, list[Chip]]:
    """Sentinel-1 in dB of two dates without a flood, by place; every sixth date of the series of
    fields and the second one after it, which is often of another orbit."""
    data = Path(shared) / "data"
    patches = data / "crop-worldcereal-patches"
    weeks = data / "s1-s2-flanders-weekly-2024"
    flanders = [sorted(weeks.glob(f"s1*-{way}-*.tif")) for way in ("asc", "desc")]
    spain_radar = _radar(spain(shared)[0]["sentinel-1"])
    return {
        "Flanders, weeks of one orbit": [
            _pair(*(10 * np.log10(np.maximum(_radar(f), 1e-6)) for f in pair))
            for pair in flanders],
        "Polders 2018, orbits mixed (trained on)": _later(polders(shared)),
        "Northern Belgium 2019, orbits mixed": _later(_dates(
            patches / "belgium-2019-north" / "s1_vv_vh_20m_stack.tif")),
        "Tanzania 2021": _later(_dates(
            patches / "tanzania-2021" / "s1_vv_vh_20m_stack.tif")),
        "Spanish chip beside itself": [_pair(spain_radar, spain_radar)]}


def polders(shared: Path) -> list[np.ndarray]:
    """(2: VV VH, rows, cols) dB of each date of the series of 2018, in order; the one series
    without a flood that is trained on."""
    folder = Path(shared) / "data" / "crop-worldcereal-patches" / "belgium-2018-polders"
    return [_radar(file) for file in sorted((folder / "s1_vv_vh_20m").iterdir())]


def still_pair(before: np.ndarray, during: np.ndarray, channel: int) -> Chip:
    """One channel of two dates on which nothing was flooded.

    Args:
        before, during: (2: VV VH, rows, cols) dB.
        channel: 0 or 1.
    """
    return _pair(before, during).only(("vv", "vh")[channel])


def _radar(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read((1, 2)).astype(np.float32)


def _dates(path: Path) -> list[np.ndarray]:
    """(2: VV VH, rows, cols) of each date of a file of many."""
    with rasterio.open(path) as file:
        names, values = file.descriptions, file.read().astype(np.float32)
    kinds = [[k for k, name in enumerate(names) if kind in name] for kind in ("VV", "VH")]
    return [values[list(pair)] for pair in zip(*kinds, strict=True)]


def _later(dates: list[np.ndarray]) -> list[Chip]:
    return [_pair(dates[k], dates[k + 2]) for k in range(0, len(dates) - 2, 6)]


def _pair(before: np.ndarray, during: np.ndarray) -> Chip:
    dry = np.zeros(before.shape[1:], bool)
    return Chip("dry", {"vv": np.stack([before[0], during[0]]),
                        "vh": np.stack([before[1], during[1]])}, dry, ~dry)
