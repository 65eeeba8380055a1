"""What SatDINO's adapter makes of every kind of stack."""

from dataclasses import replace

import numpy as np
import pytest

from earthprint.models.cards import Card
from earthprint.models.cube import Cube, Series
from earthprint.models.satdino import adapter

S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
      "swir22")  # fmt: skip
WINDOW = 64
CARD = Card(
    name="satdino-test", version="1.0", system="satdino", paper="", licence_code="",
    licence_weights="", sensors=(), observations="", unit="patch", patch=16, ground_size_m=1.0,
    dimensions=8, prefixes=(), normalisation="", missing_input="", training_data=(), results=(),
    limits=(), window=WINDOW, margin=1, variant="fmow",
)  # fmt: skip


def series(sensor, bands, count=5, seed=0, clear=0.7):
    rng = np.random.default_rng(seed)
    dates = np.datetime64("2022-01-04") + np.sort(rng.choice(360, count, replace=False))
    values = rng.random((count, len(bands), WINDOW, WINDOW)).astype(np.float32) * 0.25
    values = -5 - 18 * values if sensor == "sentinel-1" else values
    valid = rng.random((count, WINDOW, WINDOW)) < clear
    return Series(sensor, bands, dates, values, valid, ("",) * count)


def cube(*parts):
    return Cube((WINDOW, WINDOW), {part.sensor: part for part in parts})


STACKS = {
    "S1 and S2": cube(series("sentinel-1", ("vv", "vh")), series("sentinel-2", S2)),
    "S2 only": cube(series("sentinel-2", S2)),
    "Landsat": cube(series("landsat", ("blue", "green", "red", "nir08", "swir16", "swir22"))),
    "aerial": cube(series("aerial", ("red", "green", "blue"), count=1, clear=1)),
    "one date": cube(series("sentinel-2", S2, count=1)),
    "60 dates": cube(series("sentinel-2", S2, count=60)),
}


@pytest.mark.parametrize("name", STACKS)
def test_every_stack_with_colours_becomes_a_picture(name):
    given = STACKS[name]
    assert adapter.missing({s: part.bands for s, part in given.series.items()}) == []
    (batch,) = adapter.batches(given, 512, CARD)
    image = batch.inputs["image"]
    assert image.shape == (1, 3, WINDOW, WINDOW) and image.dtype == np.float32
    assert np.isfinite(image).all()
    assert batch.pixels.tolist() == list(range(16))


def test_a_window_under_cloud_has_no_batch():
    assert list(adapter.batches(cube(series("sentinel-2", S2, clear=0)), 512, CARD)) == []
    assert list(adapter.batches(cube(series("sentinel-2", S2, count=0)), 512, CARD)) == []
    assert list(adapter.batches(cube(series("sentinel-1", ("vv", "vh"))), 512, CARD)) == []


def test_patches_without_data_are_dropped_and_filled_with_the_mean():
    part = series("sentinel-2", S2, clear=1)
    part.valid[:, 16:32, :16] = False
    part.values[:, :, 48:, 48:] = np.nan
    (batch,) = adapter.batches(cube(part), 512, CARD)
    expected = [i if i not in (4, 15) else -1 for i in range(16)]
    assert batch.pixels.tolist() == expected
    image = batch.inputs["image"][0]
    assert (image[:, 16:32, :16] == 0).all() and (image[:, 48:, 48:] == 0).all()
    part.valid[:, 20, 5] = True  # one pixel is enough
    (batch,) = adapter.batches(cube(part), 512, CARD)
    assert batch.pixels[4] == 4


def test_what_lies_under_cloud_is_never_seen():
    part = series("sentinel-2", S2, count=7)
    noisy = replace(part, values=np.where(part.valid[:, None], part.values, np.float32(9)))
    one, other = (next(adapter.batches(cube(p), 1, CARD)).inputs["image"] for p in (part, noisy))
    assert np.array_equal(one, other)


def test_the_median_over_valid_dates():
    values = np.array([0.1, 0.5, 0.2, 0.9], np.float32).reshape(4, 1, 1, 1)
    for valid, expected in (
        ([1, 1, 1, 1], 0.2), ([1, 1, 0, 1], 0.5), ([0, 1, 0, 0], 0.5), ([0] * 4, 0.0),
    ):  # fmt: skip
        mask = np.array(valid, bool).reshape(4, 1, 1)
        assert adapter.composite(values, mask).item() == np.float32(expected)


def test_colours_scaling_and_order():
    """Reflectance 0.15 is half of white; 8-bit pictures stay; red comes first; fMoW's numbers."""
    part = series("sentinel-2", S2, count=1, clear=1)
    part.values[:] = 0.0
    part.values[:, S2.index("red")] = 0.15
    part.values[:, S2.index("blue")] = 2.0  # cloud or snow: white
    image = next(adapter.batches(cube(part), 1, CARD)).inputs["image"][0, :, 0, 0]
    expected = [(0.5 - 0.433) / 0.198, -0.436 / 0.193, (1 - 0.407) / 0.195]
    np.testing.assert_allclose(image, expected, atol=1e-5)
    picture = series("aerial", ("blue", "green", "red", "nir"), count=1, clear=1)
    picture.values[:] = 0.5
    image = next(adapter.batches(cube(picture), 1, CARD)).inputs["image"][0, :, 0, 0]
    mean, spread = np.array(adapter.STATISTICS["fmow"])
    np.testing.assert_allclose(image, (0.5 - mean) / spread, atol=1e-5)


def test_the_card_names_statistics_and_patch():
    given = STACKS["S2 only"]
    fmow, eurosat = (
        next(adapter.batches(given, 1, replace(CARD, variant=v))).inputs["image"]
        for v in ("fmow", "eurosat")
    )
    assert np.abs(fmow - eurosat).max() > 0.1
    fine = next(adapter.batches(given, 1, replace(CARD, patch=8)))
    assert len(fine.pixels) == 64
    with pytest.raises(ValueError, match="nonsense"):
        next(adapter.batches(given, 1, replace(CARD, variant="nonsense")))


def test_the_finest_sensor_is_shown():
    both = cube(series("landsat", ("red", "green", "blue")), series("sentinel-2", S2, seed=4))
    alone = cube(series("sentinel-2", S2, seed=4))
    one, other = (next(adapter.batches(c, 1, CARD)).inputs["image"] for c in (both, alone))
    assert np.array_equal(one, other)


REFUSED = {
    "radar": ({"sentinel-1": ("vv", "vh")}, "red, green, blue are missing"),
    "no blue": ({"aerial": ("nir", "red", "green")}, "blue is missing"),
    "spread over sensors": ({"landsat": ("red", "green"), "modis": ("blue",)}, "blue is missing"),
    "nothing": ({}, "the stack has nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_stacks_are_refused_with_what_is_missing(name):
    sensors, words = REFUSED[name]
    (sentence,) = adapter.missing(sensors)
    assert words in sentence and "'fast'" in sentence and sentence.endswith(".")
