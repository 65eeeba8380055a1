"""What Galileo's adapter makes of every kind of stack, by pixel and by patch."""

from dataclasses import replace

import numpy as np
import pytest

from earthprint.models.cards import Card, SensorBands
from earthprint.models.cube import Cube, Series
from earthprint.models.galileo import adapter
from earthprint.models.galileo.variants import VARIANTS

S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
      "swir22")  # fmt: skip
S1 = ("vv", "vh")
S1_GROUP, RED_EDGE, NIR_20M, NDVI = 0, 2, 4, 6


def series(sensor, bands, count=12, side=16, clear=0.8, first="2022-01-15", every=30):
    rng = np.random.default_rng(count)
    dates = np.datetime64(first) + np.arange(count) * every
    values = rng.random((count, len(bands), side, side)).astype(np.float32)
    values = -20 * values if sensor == "sentinel-1" else values
    valid = rng.random((count, side, side)) < clear
    return Series(sensor, bands, dates, values, valid, ("",) * count)


def cube(*parts, side=16):
    return Cube((side, side), {part.sensor: part for part in parts})


def card(variant, window=None):
    shape = VARIANTS[variant]
    sensors = tuple(
        SensorBands(name, bands, unit, optional=True, note="", most=shape.most)
        for name, bands, unit in (("sentinel-2", S2, "reflectance 0..1"), ("sentinel-1", S1, "dB"))
    )
    return Card(
        name="galileo-test", version="1", system="galileo", paper="", licence_code="MIT",
        licence_weights="MIT", sensors=sensors, observations="",
        unit="pixel" if variant == "pixel" else "patch", patch=shape.patch, ground_size_m=10.0,
        dimensions=8, prefixes=(), normalisation="", missing_input="", training_data=(),
        results=(), limits=(), window=window or shape.window, margin=shape.margin, variant=variant,
    )  # fmt: skip


def one(given, size=4096, with_card=None):
    (batch,) = adapter.batches(given, size, with_card)
    return batch


# stack, months of its steps, groups that are never seen
STACKS = {
    "S1 and S2": (cube(series("sentinel-2", S2), series("sentinel-1", S1)), 12, []),
    "S2 only": (cube(series("sentinel-2", S2)), 12, [S1_GROUP]),
    "S1 only": (cube(series("sentinel-1", S1)), 12, [1, 2, 3, 4, 5, 6]),
    "S2 at 10 m": (cube(series("sentinel-2", ("blue", "green", "red", "nir"))), 12,
                   [S1_GROUP, RED_EDGE, NIR_20M, 5]),
    "one date": (cube(series("sentinel-2", S2, count=1)), 1, [S1_GROUP]),
    "60 dates": (cube(series("sentinel-2", S2, count=60, every=6, first="2022-01-02"),
                      series("sentinel-1", S1, count=60, every=6, first="2022-01-02")), 12, []),
    "with Landsat": (cube(series("sentinel-2", S2), series("landsat", ("red", "nir08"))), 12,
                     [S1_GROUP]),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_every_kind_of_stack_becomes_inputs(name):
    given, steps, hidden = STACKS[name]
    assert adapter.missing({s: part.bands for s, part in given.series.items()}) == []
    rows, seen = 0, np.ones(7, bool)
    for batch in adapter.batches(given, 100):
        n = len(batch.pixels)
        assert n <= 100
        assert batch.inputs["s_t"].shape == (n, 1, 1, steps, 13)
        assert batch.inputs["s_t_mask"].shape == (n, 1, 1, steps, 7)
        assert batch.inputs["months"].shape == (n, steps)
        assert all(np.isfinite(array).all() for array in batch.inputs.values())
        assert (batch.inputs["s_t_mask"] == 0).any(axis=(1, 2, 3, 4)).all()
        seen &= (batch.inputs["s_t_mask"] == 1).all(axis=(0, 1, 2, 3))
        rows += n
    assert np.flatnonzero(seen).tolist() == hidden
    parts = [p for s, p in given.series.items() if s != "landsat"]
    assert rows == np.any([part.valid.any(axis=0) for part in parts], axis=0).sum()


@pytest.mark.parametrize(
    "sensors",
    [
        {"landsat": ("blue", "green", "red", "nir08", "swir16", "swir22")},
        {"aerial": ("red", "green", "blue")},
        {"sentinel-1": ("vv",)},
        {"sentinel-2": ("red",)},
        {},
    ],
)
def test_other_stacks_are_refused_with_what_is_missing(sensors):
    (sentence,) = adapter.missing(sensors)
    assert "vv and vh" in sentence and "blue, green, red" in sentence
    assert all(name in sentence for name in sensors)


def test_clouds_everywhere_give_nothing():
    clouded = cube(series("sentinel-2", S2, clear=0.0), series("sentinel-1", S1, clear=0.0))
    assert list(adapter.batches(clouded, 64)) == []
    assert list(adapter.batches(cube(series("sentinel-2", S2, count=0)), 64)) == []
    assert list(adapter.batches(cube(), 64)) == []
    whole = cube(series("sentinel-2", S2, side=32, clear=0.0), side=32)
    assert list(adapter.batches(whole, 64, card("patch"))) == []


def test_dates_under_cloud_change_nothing_but_their_month():
    part = series("sentinel-2", S2, clear=1.0)
    part.valid[3] = False
    batch = next(adapter.batches(cube(part), 64))
    assert (batch.inputs["s_t_mask"][:, 0, 0, 3] == 1).all()
    assert (batch.inputs["s_t_mask"][:, 0, 0, 4, 1:] == 0).all()


def test_months_follow_each_other_over_the_turn_of_the_year():
    part = series("sentinel-2", S2, count=4, first="2020-11-10", clear=1.0)
    batch = next(adapter.batches(cube(part), 64))
    assert batch.inputs["months"][0].tolist() == [10, 11, 0, 1]
    gap = replace(part, dates=np.array(["2020-11-10", "2020-11-20", "2021-02-01", "2021-02-02"],
                                       "datetime64[D]"))  # fmt: skip
    batch = next(adapter.batches(cube(gap), 64))
    assert batch.inputs["months"][0].tolist() == [10, 11, 0, 1]
    assert (batch.inputs["s_t_mask"][:, 0, 0, 1:3] == 1).all()
    first, second = (batch.inputs["s_t"][0, 0, 0, step, 2:12] for step in (0, 3))
    red = (part.values[:2, 2, 0, 0].mean(), part.values[2:, 2, 0, 0].mean())
    scaled = (np.array(red) * 10000 + 842.2586089515398) / 4370.71489411022
    np.testing.assert_allclose((first[2], second[2]), scaled, rtol=1e-4)


def test_a_long_stack_keeps_the_months_with_most_scenes():
    monthly = np.arange("2020-03", "2023-03", dtype="datetime64[M]").astype("datetime64[D]")
    dense = np.arange("2021-01-01", "2021-03-01", dtype="datetime64[D]")
    dates = np.sort(np.concatenate([monthly, dense]))
    part = replace(series("sentinel-2", S2, count=len(dates), side=4), dates=dates)
    months = next(adapter.batches(cube(part, side=4), 64)).inputs["months"][0]
    # The latest 24 that hold January and February 2021.
    assert months.tolist() == [*range(12)] * 2


def test_scenes_without_dates_are_july():
    undated = replace(series("sentinel-2", S2, count=2), dates=np.full(2, "NaT", "datetime64[D]"))
    assert next(adapter.batches(cube(undated), 64)).inputs["months"][0].tolist() == [6]
    radar = series("sentinel-1", S1, count=12)
    batch = next(adapter.batches(cube(undated, radar), 512))
    seen = (batch.inputs["s_t_mask"][..., 1] == 0).any(axis=(0, 1, 2))
    assert np.flatnonzero(seen).tolist() == [6]


def test_one_orbit_direction_is_used():
    radar = replace(series("sentinel-1", S1, count=5, every=1, clear=1.0),
                    orbits=("ascending", "descending", "descending", "", "descending"))  # fmt: skip
    batch = next(adapter.batches(cube(radar), 64))
    mean = radar.values[1:, 0, 0, 0].mean()
    scaled = (mean + 21.503015938865595) / 19.54858309936126
    assert batch.inputs["s_t"][0, 0, 0, 0, 0] == pytest.approx(scaled, rel=1e-4)


# --- windows --------------------------------------------------------------------------------------


def test_a_window_becomes_patches():
    given = cube(series("sentinel-2", S2, side=32), series("sentinel-1", S1, side=32), side=32)
    batch = one(given, with_card=card("patch"))
    assert batch.pixels.tolist() == list(range(16))
    assert batch.inputs["s_t"].shape == (1, 32, 32, 12, 13)
    masks = batch.inputs["s_t_mask"].reshape(4, 8, 4, 8, 12, 7)
    assert (masks == masks[:, :1, :, :1]).all()
    assert all(np.isfinite(array).all() for array in batch.inputs.values())


def test_a_window_s_pixels_stay_in_their_place():
    part = series("sentinel-2", S2, side=32, clear=1.0, count=1)
    batch = one(cube(part, side=32), with_card=card("patch"))
    expected = (part.values[0, 2] * 10000 + 842.2586089515398) / 4370.71489411022
    np.testing.assert_allclose(batch.inputs["s_t"][0, :, :, 0, 4], expected, rtol=1e-4)


def test_patches_without_data_are_dropped_and_gaps_filled():
    part = series("sentinel-2", S2, side=32, clear=1.0, count=2)
    part.valid[:, :8, :8] = False  # a patch outside of the raster
    part.valid[:, :8, 8:14] = False  # a patch at its edge: a quarter is inside
    part.valid[0, 8:16, :8] = False  # clouds over most of a patch on the first date
    part.valid[0, 15, :8] = True
    part.valid[0, 16:18, :8] = False  # a cloud over a quarter of a patch
    batch = one(cube(part, side=32), with_card=card("patch"))
    assert batch.pixels.tolist() == [-1, *range(1, 16)]
    masks = batch.inputs["s_t_mask"][0, ::8, ::8]
    assert (masks[0, 0] == 1).all() and (masks[0, 1, :, 1:] == 0).all()
    assert (masks[1, 0, 0] == 1).all() and (masks[1, 0, 1, 1:] == 0).all()
    values = batch.inputs["s_t"][0, :, :, 0, 4]
    clear = values[18:24, :8]
    np.testing.assert_allclose(values[16:18, :8], clear.mean(), rtol=1e-4)


def test_a_window_of_another_size_is_refused():
    given = cube(series("sentinel-2", S2))
    with pytest.raises(ValueError, match="32 x 32 pixels, not 16 x 16"):
        list(adapter.batches(given, 64, card("patch")))


@pytest.mark.parametrize("name", ["one date", "60 dates"])
def test_windows_of_any_length(name):
    count, every = {"one date": (1, 1), "60 dates": (60, 20)}[name]
    part = series("sentinel-2", S2, side=32, count=count, every=every)
    batch = one(cube(part, side=32), with_card=card("patch"))
    assert batch.inputs["months"].shape == (1, 1 if count == 1 else 12)
