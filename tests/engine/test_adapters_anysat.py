"""What AnySat's adapter makes of every kind of stack."""

from dataclasses import replace

import numpy as np
import pytest

from earthprint.models.anysat import adapter
from earthprint.models.cards import Card
from earthprint.models.cube import Cube, Series

S2 = adapter.S2_BANDS
LANDSAT = ("blue", "green", "red", "nir08", "swir16", "swir22")


def card(setup):
    chosen = adapter.SETUPS[setup]
    return Card(
        name="anysat-test", version="1.0", system="anysat", paper="", licence_code="",
        licence_weights="", sensors=(), observations="", unit="patch", patch=chosen.row,
        ground_size_m=chosen.pixel_m, dimensions=8, prefixes=(), normalisation="",
        missing_input="", training_data=(), results=(), limits=(), window=chosen.window,
        margin=chosen.margin, variant=setup,
    )  # fmt: skip


def series(sensor, bands, count=5, side=32, seed=0, clear=0.7):
    rng = np.random.default_rng(seed)
    dates = np.datetime64("2022-01-04") + np.sort(rng.choice(360, count, replace=False))
    values = rng.random((count, len(bands), side, side)).astype(np.float32) * 0.25
    values = -5 - 60 * values if sensor == "sentinel-1" else values
    valid = rng.random((count, side, side)) < clear
    return Series(sensor, bands, dates, values, valid, ("",) * count)


def cube(*parts, side=32):
    return Cube((side, side), {part.sensor: part for part in parts})


S1 = series("sentinel-1", ("vv", "vh"), seed=1, clear=1)
STACKS = {  # name to cube, setup, whether S2 and S1 (or the one sensor) have data
    "S1 and S2": (cube(S1, series("sentinel-2", S2)), "s2+s1", (True, True)),
    "S2 only": (cube(series("sentinel-2", S2)), "s2+s1", (True, False)),
    "S1 only": (cube(S1), "s2+s1", (False, True)),
    "one date": (cube(series("sentinel-2", S2, count=1)), "s2+s1", (True, False)),
    "60 dates": (cube(series("sentinel-2", S2, count=60)), "s2+s1", (True, False)),
    "clouds and S1": (cube(series("sentinel-2", S2, clear=0), S1), "s2+s1", (False, True)),
    "Landsat": (cube(series("landsat", LANDSAT, side=16), side=16), "landsat", (True,)),
}


@pytest.mark.parametrize("name", STACKS)
def test_every_stack_of_series_can_be_encoded(name):
    given, setup, present = STACKS[name]
    assert adapter.missing({s: p.bands for s, p in given.series.items()}, card(setup)) == []
    (batch,) = adapter.batches(given, 512, card(setup))
    feeds = adapter.SETUPS[setup].feeds
    assert list(batch.inputs) == [n + end for n in feeds for end in ("", "_dates", "_mask")]
    for feed, there in zip(feeds, present, strict=True):
        values, dates, mask = (batch.inputs[feed + end] for end in ("", "_dates", "_mask"))
        count = values.shape[1]
        assert 1 <= count <= 24 and dates.shape == (1, count) and mask.shape[1:3] == (count, 1)
        assert values.dtype == np.float32 and dates.dtype == np.int64 and mask.dtype == bool
        assert np.isfinite(values).all() and mask.any() == there
        assert (values[~np.broadcast_to(mask, values.shape)] == 0).all()
        assert (dates >= 1).all() and (dates <= 366).all()
    assert batch.pixels.tolist() == list(range(given.shape[0] ** 2)) or name != "S1 only"


def test_images_are_standardised_and_cut_into_sub_patches():
    part = series("aerial", ("red", "green", "blue", "nir"), count=1, side=300, clear=1)
    part.valid[:, 10:20, :10] = False
    (batch,) = adapter.batches(cube(part, side=300), 1, card("aerial"))
    image = batch.inputs["aerial"]
    assert image.shape == (1, 4, 300, 300) and list(batch.inputs) == ["aerial"]
    nir = (part.values[0, 3, 100, 100] * 255 - 150.893) / 36.765
    assert image[0, 0, 100, 100] == pytest.approx(nir, abs=1e-3)
    assert batch.pixels.tolist() == [-1 if i == 30 else i for i in range(900)]
    assert (image[0, :, 10:20, :10] == 0).all()


def test_rgb_alone_is_enough_for_spot():
    part = series("aerial", ("red", "green", "blue"), count=1, side=240, clear=1)
    part = replace(part, dates=np.array(["NaT"], "datetime64[D]"))
    assert adapter.missing({"aerial": part.bands}, card("spot")) == []
    (batch,) = adapter.batches(cube(part, side=240), 1, card("spot"))
    assert batch.inputs["spot"].shape == (1, 3, 240, 240) and len(batch.pixels) == 576


def test_a_window_without_observations_has_no_batch():
    for part in (series("sentinel-2", S2, clear=0), series("sentinel-2", S2, count=0),
                 series("modis", ("red", "nir"))):  # fmt: skip
        assert list(adapter.batches(cube(part), 512, card("s2+s1"))) == []
    undated = replace(series("sentinel-2", S2, count=1), dates=np.array(["NaT"], "datetime64[D]"))
    assert list(adapter.batches(cube(undated), 512)) == []


def test_what_lacks_is_listed():
    (line,) = adapter.missing({"sentinel-2": tuple(b for b in S2 if b != "rededge075")})
    assert "rededge075 is missing" in line and "'fast'" in line
    (line,) = adapter.missing({"landsat": ("red", "nir08")}, card("landsat"))
    assert "blue, green, swir16, swir22 are missing" in line
    (line,) = adapter.missing({})
    assert "the stack has nothing" in line
    assert adapter.missing({"sentinel-2": ("red",), "sentinel-1": ("vv", "vh")}) == []
    with pytest.raises(ValueError, match="setup 'none'"):
        adapter.missing({}, replace(card("spot"), variant="none"))


def test_values_days_and_decibel():
    s2 = series("sentinel-2", S2[::-1], count=2, clear=1)
    s2 = replace(s2, dates=np.array(["2020-01-01", "2020-12-31"], "datetime64[D]"))
    s2.values[:, S2[::-1].index("swir16")] = 0.2823 + 0.1732
    (batch,) = adapter.batches(cube(s2, replace(S1, values=np.full_like(S1.values, -10.0))), 1)
    assert batch.inputs["s2_dates"].tolist() == [[1, 366]]
    assert np.allclose(batch.inputs["s2"][0, :, 8], 1, atol=1e-3)
    assert np.allclose(batch.inputs["s1-asc"][0, :, 0], 0, atol=1e-3)  # -10 dB is 0.1


def test_ascending_orbits_come_first():
    orbits = ("descending", "ascending", "", "descending", "ascending")
    (batch,) = adapter.batches(cube(replace(S1, orbits=orbits)), 1)
    assert batch.inputs["s1-asc"].shape[1] == 3
    (batch,) = adapter.batches(cube(replace(S1, orbits=("descending",) * 5)), 1)
    assert batch.inputs["s1-asc"].shape[1] == 5


def test_of_many_dates_each_run_gives_its_clearest():
    counts = np.array([3, 9, 1, 5, 5, 7])
    assert adapter.clearest(counts, 3).tolist() == [1, 3, 5]
    assert adapter.clearest(counts, 6).tolist() == list(range(6))


def test_what_lies_under_cloud_is_never_seen():
    part = series("sentinel-2", S2, count=7)
    noisy = replace(part, values=np.where(part.valid[:, None], part.values, np.float32(np.nan)))
    one, other = (next(adapter.batches(cube(p), 1)).inputs for p in (part, noisy))
    assert all(np.array_equal(one[name], other[name]) for name in one)
