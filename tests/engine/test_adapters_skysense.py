"""What SkySense's adapter makes of every kind of stack, for each use of an encoder."""

import numpy as np
import pytest

from earthprint.models.cards import Card, SensorBands
from earthprint.models.cube import Cube, Series
from earthprint.models.skysense import adapter

S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
      "swir22")  # fmt: skip
S1 = ("vv", "vh")
RGB = ("red", "green", "blue")
SIDE = 64


def card(variant, most=0):
    bands = {"hr": RGB, "s2": S2, "s1": S1}
    sensors = {"hr": "aerial", "s2": "sentinel-2", "s1": "sentinel-1"}
    entries = tuple(
        SensorBands(sensors[b], bands[b], "", optional=True, note="", most=most)
        for b in adapter.branches_of(variant)
    )
    patch = 32 if "hr" in variant else 1 if "+" in variant.removeprefix("plusplus:") else 4
    return Card(
        name="skysense-test", version="1.0", system="skysense", paper="", licence_code="",
        licence_weights="", sensors=entries, observations="", unit="patch", patch=patch,
        ground_size_m=1.0, dimensions=8, prefixes=(), normalisation="", missing_input="",
        training_data=(), results=(), limits=(), window=SIDE, variant=variant,
    )  # fmt: skip


def series(sensor, bands, count=5, seed=0, clear=0.7):
    rng = np.random.default_rng(seed)
    dates = np.datetime64("2022-01-04") + np.sort(rng.choice(360, count, replace=False))
    values = rng.random((count, len(bands), SIDE, SIDE)).astype(np.float32) * 0.3
    values = -5 - 30 * values if sensor == "sentinel-1" else values
    valid = rng.random((count, SIDE, SIDE)) < clear
    return Series(sensor, bands, dates, values, valid, ("",) * count)


def cube(*parts):
    return Cube((SIDE, SIDE), {part.sensor: part for part in parts})


STACKS = {
    "S1 and S2": cube(series("sentinel-2", S2), series("sentinel-1", S1, seed=1)),
    "S2 only": cube(series("sentinel-2", S2)),
    "Landsat": cube(series("landsat", ("blue", "green", "red", "nir08", "swir16", "swir22"))),
    "aerial RGB": cube(series("aerial", RGB, count=1, clear=1)),
    "one date": cube(series("sentinel-2", S2, count=1)),
    "60 dates": cube(series("sentinel-2", S2, count=60), series("sentinel-1", S1, count=60)),
    "all cloud": cube(series("sentinel-2", S2, clear=0)),
    "aerial and S2": cube(series("aerial", RGB, count=1, clear=1), series("sentinel-2", S2)),
}
DATES = {"S1 and S2": (5, 5), "S2 only": (5, 1), "one date": (1, 1), "60 dates": (20, 10)}


def bands_of(given):
    return {sensor: part.bands for sensor, part in given.series.items()}


@pytest.mark.parametrize("name", DATES)
def test_sentinel_stacks_become_a_window_of_the_fusion(name):
    (batch,) = adapter.batches(STACKS[name], 512, card("s2+s1"))
    s2, s1 = DATES[name]
    shapes = {k: (v.shape, v.dtype.name) for k, v in batch.inputs.items()}
    assert list(shapes.items()) == [
        ("s2", ((1, 10, s2, SIDE, SIDE), "float32")), ("s1", ((1, 2, s1, SIDE, SIDE), "float32")),
        ("s2_seen", ((1, s2, SIDE, SIDE), "bool")), ("s1_seen", ((1, s1, SIDE, SIDE), "bool")),
        ("s2_day", ((1, s2), "int64")),
    ]  # fmt: skip
    assert all(np.isfinite(v).all() for v in batch.inputs.values())
    seen = batch.inputs["s2_seen"].any(axis=1) | batch.inputs["s1_seen"].any(axis=1)
    np.testing.assert_array_equal(batch.pixels >= 0, seen.ravel())
    assert adapter.missing(bands_of(STACKS[name]), card("s2+s1")) == []


@pytest.mark.parametrize("variant", ("s2", "s1", "s2+s1", "hr", "hr+s2+s1", "plusplus:hr+s2+s1",
                                     "plusplus:s2+s1", "plusplus:hr"))  # fmt: skip
@pytest.mark.parametrize("name", STACKS)
def test_a_stack_is_encoded_or_refused_with_what_it_lacks(name, variant):
    given, this = STACKS[name], card(variant)
    lacking = adapter.missing(bands_of(given), this)
    found = list(adapter.batches(given, 512, this))
    if lacking:
        assert "SkySense needs" in lacking[0] and "missing: " in lacking[0]
        assert all(sensor in lacking[0] for sensor in given.series)
    else:
        assert len(found) == (name != "all cloud")
    for batch in found:
        assert len(batch.pixels) == (SIDE // this.patch) ** 2


def test_refusals_name_the_bands():
    landsat = bands_of(STACKS["Landsat"])
    (line,) = adapter.missing(landsat, card("s2"))
    assert "(missing: blue, green, red, rededge071" in line
    (line,) = adapter.missing({"sentinel-2": S2[:3]}, card("s2"))
    assert "(missing: rededge071, rededge075, rededge078, nir, nir08, swir16, swir22)" in line
    assert adapter.missing(bands_of(STACKS["aerial RGB"])) == []
    assert adapter.missing(bands_of(STACKS["S2 only"])) == []
    assert "one of its sensors" in adapter.missing(landsat)[0]
    assert adapter.missing(bands_of(STACKS["S2 only"]), card("hr+s2+s1"))


def test_values_are_standardised_and_gaps_are_zero_before_that():
    given = series("sentinel-2", S2, count=1, clear=1)
    given.values[0, 2] = 0.129747289228  # the mean of red
    given.values[0, :, 3, 5] = np.nan
    given.valid[0, 8:12, 8:12] = False
    (batch,) = adapter.batches(cube(given), 1, card("s2"))
    red = batch.inputs["s2"][0, 2, 0]
    assert abs(red[0, 0]) < 1e-5
    assert red[3, 5] == red[8, 8] == pytest.approx(-1297.47289228 / 1368.11351514)
    assert not batch.inputs["s2_seen"][0, 0, 3, 5]
    assert np.flatnonzero(batch.pixels < 0).tolist() == [2 * 16 + 2]


def test_a_day_counts_from_zero_and_a_leap_year_ends_with_the_table():
    dates = np.array(["2020-01-01", "2020-12-31", "2021-12-31", "NaT"], "datetime64[D]")
    assert adapter.days_of(dates).tolist() == [0, 364, 364, 181]


def test_of_many_dates_the_clearest_of_each_part_is_taken():
    seen = np.zeros((7, 1, 10), bool)
    for date, clear in enumerate((3, 9, 0, 5, 4, 1, 8)):
        seen[date, 0, :clear] = True
    assert adapter.chosen(seen, 3).tolist() == [1, 3, 6]
    assert adapter.chosen(seen, 10).tolist() == [0, 1, 3, 4, 5, 6]
    assert len(adapter.chosen(np.zeros((2, 3, 3), bool), 5)) == 0


def test_sentinel_pixels_on_a_picture_s_grid_are_means_of_blocks():
    s2 = series("sentinel-2", S2, count=2, clear=1)
    s2.values[0, 0, :32, :32] = 0.2
    s2.values[0, 0, :16, :32] = 0.4
    s2.valid[0, :16, :32] = False
    s2.valid[1, :32, 32:] = False
    picture = series("aerial", RGB, count=1, clear=1)
    (batch,) = adapter.batches(cube(picture, s2), 1, card("hr+s2+s1"))
    assert batch.inputs["hr"].shape == (1, 3, SIDE, SIDE)
    assert batch.inputs["s2"].shape == (1, 10, 2, 2, 2)
    assert batch.inputs["s2"][0, 0, 0, 0, 0] == pytest.approx(
        (2000 - 884.29673756) / 1155.15170768, rel=1e-4)
    assert batch.inputs["s2_seen"][0, 1].tolist() == [[True, False], [True, True]]
    assert batch.inputs["hr_seen"].shape == (1, 1, 2, 2) and batch.pixels.tolist() == [0, 1, 2, 3]


def test_plusplus_takes_the_clearest_date_and_says_what_is_there():
    s2 = series("sentinel-2", S2, count=3, clear=0.5)
    s2.valid[1] = True
    (batch,) = adapter.batches(cube(s2), 1, card("plusplus:s2+s1"))
    assert list(batch.inputs) == ["s2", "s1", "present"]
    assert batch.inputs["s2"].shape == (1, 10, 1, SIDE, SIDE)
    assert batch.inputs["s1"].shape == (1, 2, 1, SIDE, SIDE)
    assert batch.inputs["present"].tolist() == [[False, True, False]]
    absent = batch.inputs["s1"][0, :, 0, 0, 0]
    np.testing.assert_allclose(absent, [12.54847273 / 5.25697717, 20.19237134 / 5.91150917], 1e-5)


def test_without_a_card_the_sentence_says_why():
    with pytest.raises(ValueError, match="needs the encoder's card"):
        list(adapter.batches(STACKS["S2 only"], 1))
