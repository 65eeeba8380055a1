"""What TiMo's adapter makes of every kind of stack."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthprint.models.cards import Card, SensorBands
from earthprint.models.cube import Cube, Series
from earthprint.models.timo import adapter

S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
      "swir22")  # fmt: skip
L1C = (*S2, "coastal", "nir09", "cirrus")
LANDSAT = ("blue", "green", "red", "nir08", "swir16", "swir22")
WINDOW = 64


def card(variant, most=0):
    sensors = (SensorBands("sentinel-2", (), "", False, "", most),) if most else ()
    return Card(
        name="timo-test", version="1.0", system="timo", paper="", licence_code="",
        licence_weights="", sensors=sensors, observations="", unit="patch", patch=16,
        ground_size_m=10.0, dimensions=8, prefixes=(), normalisation="", missing_input="",
        training_data=(), results=(), limits=(), window=WINDOW, margin=1, variant=variant,
    )  # fmt: skip


def series(sensor, bands, count=5, seed=0, clear=0.7):
    rng = np.random.default_rng(seed)
    dates = np.datetime64("2022-01-04") + np.sort(rng.choice(360, count, replace=False))
    values = rng.random((count, len(bands), WINDOW, WINDOW)).astype(np.float32) * 0.25
    values = -5 - 60 * values if sensor == "sentinel-1" else values
    valid = rng.random((count, WINDOW, WINDOW)) < clear
    return Series(sensor, bands, dates, values, valid, ("",) * count)


def cube(*parts):
    return Cube((WINDOW, WINDOW), {part.sensor: part for part in parts})


STACKS = {
    "S1 and S2": (cube(series("sentinel-1", ("vv", "vh")), series("sentinel-2", S2)), 3),
    "S2 only": (cube(series("sentinel-2", S2)), 3),
    "Landsat": (cube(series("landsat", LANDSAT, count=2)), 2),
    "aerial": (cube(series("aerial", ("red", "green", "blue"), count=1, clear=1)), 1),
    "one date": (cube(series("sentinel-2", S2, count=1)), 1),
    "60 dates": (cube(series("sentinel-2", S2, count=60)), 3),
}


@pytest.mark.parametrize("name", STACKS)
def test_every_stack_with_colours_becomes_a_series(name):
    given, dates = STACKS[name]
    assert adapter.missing({s: part.bands for s, part in given.series.items()}) == []
    (batch,) = adapter.batches(given, 512, card("millionst"))
    found = batch.inputs["series"]
    assert found.shape == (1, dates, 3, WINDOW, WINDOW) and found.dtype == np.float32
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
    assert batch.pixels.tolist() == list(range(16))


LAYOUTS = {
    "millionst": (series("sentinel-2", S2), 3),
    "sen12-flood": (series("sentinel-2", S2), 3),
    "multisenge": (series("sentinel-2", S2), 10),
    "mtlcc": (series("sentinel-2", L1C, count=40), 13),
    "kuro-siwo": (series("sentinel-1", ("vv", "vh")), 2),
}


@pytest.mark.parametrize("variant", adapter.LAYOUTS)
def test_every_layout_has_its_bands_and_its_most_dates(variant):
    part, bands = LAYOUTS[variant]
    given = card(variant)
    assert adapter.missing({part.sensor: part.bands}, given) == []
    (batch,) = adapter.batches(cube(part), 1, given)
    dates = adapter.LAYOUTS[variant].most
    assert batch.inputs["series"].shape == (1, dates, bands, WINDOW, WINDOW)


def test_a_window_under_cloud_has_no_batch():
    assert list(adapter.batches(cube(series("sentinel-2", S2, clear=0)), 1)) == []
    assert list(adapter.batches(cube(series("sentinel-2", S2, count=0)), 1)) == []
    assert list(adapter.batches(cube(series("sentinel-1", ("vv", "vh"))), 1)) == []


def test_scaling_and_order():
    part = series("sentinel-2", S2, count=1, clear=1)
    part.values[:] = np.arange(10, dtype=np.float32)[:, None, None] / 20
    for variant, expected in (
        ("millionst", [2 / 20 / 0.3, 1 / 20 / 0.3, 0]),
        ("sen12-flood", [2 / 20, 1 / 20, 0]),
        ("multisenge", np.arange(10) / 20),
    ):
        (batch,) = adapter.batches(cube(part), 1, card(variant))
        np.testing.assert_allclose(batch.inputs["series"][0, 0, :, 5, 7], expected, atol=1e-6)
    bright = replace(part, values=part.values + 1)
    (batch,) = adapter.batches(cube(bright), 1, card("millionst"))
    assert (batch.inputs["series"] == 1).all()


def test_radar_goes_from_least_to_largest_by_band_and_date():
    part = series("sentinel-1", ("vv", "vh"), count=2)
    part.values[1] *= 3
    (batch,) = adapter.batches(cube(part), 1, card("kuro-siwo"))
    images = batch.inputs["series"][0]
    for t in range(2):
        seen = images[t][:, part.valid[t]]
        np.testing.assert_allclose(seen.min(axis=1), 0, atol=1e-6)
        np.testing.assert_allclose(seen.max(axis=1), 1, atol=1e-6)
        assert (images[t][:, ~part.valid[t]] == -1).all()
    flat = replace(part, values=np.full_like(part.values, -9))
    (batch,) = adapter.batches(cube(flat), 1, card("kuro-siwo"))
    assert np.isfinite(batch.inputs["series"]).all()


def test_gaps_take_the_value_of_the_nearest_date():
    values = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1) + 1
    dates = np.array(["2022-01-01", "2022-03-01", "2022-03-05", "2022-12-01"], "M8[D]")
    for valid, expected in (
        ([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 0, 1, 1], [1, 3, 3, 4]), ([0, 1, 0, 0], [2, 2, 2, 2]),
        ([1, 1, 0, 0], [1, 2, 2, 2]), ([0, 0, 0, 0], [0, 0, 0, 0]),
    ):  # fmt: skip
        mask = np.array(valid, bool).reshape(4, 1, 1)
        images = adapter.fill_gaps(values, mask, dates, np.arange(4))
        assert images.ravel().tolist() == expected
    undated = np.array(["2022-01-01", "NaT", "NaT", "NaT"], "M8[D]")
    mask = np.array([1, 0, 0, 1], bool).reshape(4, 1, 1)
    assert adapter.fill_gaps(values, mask, undated, np.arange(4)).ravel().tolist() == [1, 1, 4, 4]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 60), st.integers(1, 30), st.floats(0, 1), st.integers(0, 9999))
def test_chosen_dates_are_clear_ordered_and_spread(count, most, clear, seed):
    rng = np.random.default_rng(seed)
    valid = rng.random((count, 2, 2)) < clear * rng.random((count, 1, 1))
    useful = np.flatnonzero(valid.any(axis=(1, 2)))
    chosen = adapter.choose_dates(valid, most)
    assert len(chosen) == min(most, len(useful))
    assert set(chosen) <= set(useful) and (np.diff(chosen) > 0).all()
    if len(useful) > most:
        for part, date in zip(np.array_split(useful, most), chosen, strict=True):
            assert date in part and valid[date].sum() == max(valid[t].sum() for t in part)


def test_what_lies_under_cloud_is_never_seen():
    part = series("sentinel-2", S2, count=7)
    noisy = replace(part, values=np.where(part.valid[:, None], part.values, np.nan))
    for variant in ("millionst", "multisenge"):
        one, other = (
            next(adapter.batches(cube(p), 1, card(variant))).inputs["series"] for p in (part, noisy)
        )
        assert np.array_equal(one, other)


def test_patches_without_data_are_dropped():
    part = series("sentinel-2", S2, clear=1)
    part.valid[:, 16:32, :16] = False
    (batch,) = adapter.batches(cube(part), 1, card("millionst"))
    assert batch.pixels.tolist() == [i if i != 4 else -1 for i in range(16)]
    assert (batch.inputs["series"][0, :, :, 16:32, :16] == 0).all()


def test_the_card_says_how_many_dates():
    (batch,) = adapter.batches(STACKS["60 dates"][0], 1, card("millionst", most=7))
    assert batch.inputs["series"].shape[1] == 7
    with pytest.raises(ValueError, match="nonsense"):
        next(adapter.batches(STACKS["S2 only"][0], 1, card("nonsense")))


REFUSED = {
    "radar": ("", {"sentinel-1": ("vv", "vh")}, "so red, green, blue are missing"),
    "no blue": ("", {"aerial": ("nir", "red", "green")}, "so blue is missing"),
    "nothing": ("", {}, "the stack has nothing"),
    "10 bands": ("multisenge", {"landsat": LANDSAT}, "rededge071"),
    "other sensor": ("multisenge", {"landsat": S2}, "so scenes of sentinel-2 are missing"),
    "no cirrus": ("mtlcc", {"sentinel-2": L1C[:-1]}, "so cirrus is missing"),
    "no radar": ("kuro-siwo", {"sentinel-2": S2}, "so vv, vh are missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_stacks_are_refused_with_what_is_missing(name):
    variant, sensors, words = REFUSED[name]
    (sentence,) = adapter.missing(sensors, card(variant) if variant else None)
    assert words in sentence and "'fast'" in sentence and sentence.endswith(".")
