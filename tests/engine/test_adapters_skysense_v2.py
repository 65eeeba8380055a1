"""What SkySense V2's adapter makes of every kind of stack."""

from dataclasses import replace

import numpy as np
import pytest

from earthprint.models.cards import Card, SensorBands
from earthprint.models.cube import Cube, Series
from earthprint.models.skysense_v2 import adapter

S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
      "swir22")  # fmt: skip
S1 = ("vv", "vh")
RGB = ("red", "green", "blue")
SIDE = 64
CARD = Card(
    name="skysense-v2-test", version="1.0", system="skysense_v2", paper="", licence_code="",
    licence_weights="", observations="", unit="patch", patch=4, ground_size_m=10.0, dimensions=8,
    sensors=(SensorBands("sentinel-2", S2, "", True, "", most=20),
             SensorBands("sentinel-1", S1, "", True, "", most=10)),
    prefixes=(), normalisation="", missing_input="", training_data=(), results=(), limits=(),
    window=SIDE, variant="s2+s1",
)  # fmt: skip
PICTURE = replace(
    CARD, patch=32, variant="hr", sensors=(SensorBands("aerial", RGB, "", True, ""),)
)


def series(sensor, bands, count=5, seed=0, clear=0.7):
    rng = np.random.default_rng(seed)
    dates = np.datetime64("2022-01-04") + np.sort(rng.choice(360, count, replace=False))
    values = rng.random((count, len(bands), SIDE, SIDE)).astype(np.float32) * 0.3
    values = -5 - 30 * values if sensor == "sentinel-1" else values
    valid = rng.random((count, SIDE, SIDE)) < clear
    return Series(sensor, bands, dates, values, valid, ("",) * count)


def cube(*parts):
    return Cube((SIDE, SIDE), {part.sensor: part for part in parts})


def bands_of(given):
    return {sensor: part.bands for sensor, part in given.series.items()}


STACKS = {  # stack, card, dates of Sentinel-2 and Sentinel-1
    "S1 and S2": (cube(series("sentinel-2", S2), series("sentinel-1", S1, seed=1)), (5, 5)),
    "S2 only": (cube(series("sentinel-2", S2)), (5, 1)),
    "one date": (cube(series("sentinel-2", S2, count=1)), (1, 1)),
    "60 dates": (cube(series("sentinel-2", S2, count=60), series("sentinel-1", S1, count=60)),
                 (20, 10)),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_sentinel_stacks_become_a_window_of_patches(name):
    given, (s2, s1) = STACKS[name]
    assert adapter.missing(bands_of(given), CARD) == []
    (batch,) = adapter.batches(given, 512, CARD)
    assert {k: v.shape for k, v in batch.inputs.items()} == {
        "s2": (1, 10, s2, SIDE, SIDE), "s1": (1, 2, s1, SIDE, SIDE),
        "s2_seen": (1, s2, SIDE, SIDE), "s1_seen": (1, s1, SIDE, SIDE), "s2_day": (1, s2),
    }  # fmt: skip
    assert len(batch.pixels) == 16 * 16
    seen = batch.inputs["s2_seen"].any(axis=1) | batch.inputs["s1_seen"].any(axis=1)
    patches = seen[0].reshape(16, 4, 16, 4).any(axis=(1, 3))
    np.testing.assert_array_equal(batch.pixels >= 0, patches.ravel())


def test_a_picture_becomes_a_window_of_its_own():
    given = cube(series("aerial", RGB, count=1, clear=1))
    assert adapter.missing(bands_of(given), PICTURE) == []
    (batch,) = adapter.batches(given, 512, PICTURE)
    assert list(batch.inputs) == ["hr"] and batch.inputs["hr"].shape == (1, 3, SIDE, SIDE)
    assert batch.pixels.tolist() == [0, 1, 2, 3]


def test_landsat_is_refused_and_cloud_gives_nothing():
    landsat = {"landsat": ("blue", "green", "red", "nir08", "swir16", "swir22")}
    for card in (CARD, PICTURE, None):
        if card is PICTURE:
            (line,) = adapter.missing({"landsat": ("blue", "green")}, card)
        else:
            (line,) = adapter.missing(landsat, card)
        assert line.startswith("SkySense V2 needs") and "missing: " in line
    assert list(adapter.batches(cube(series("sentinel-2", S2, clear=0)), 512, CARD)) == []
