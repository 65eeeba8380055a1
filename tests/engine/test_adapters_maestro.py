"""What MAESTRO's adapter makes of every kind of stack."""

from dataclasses import replace

import numpy as np
import pytest

from earthprint.models.cards import Card
from earthprint.models.cube import Cube, Series
from earthprint.models.maestro import adapter
from earthprint.models.maestro.layout import LAYOUTS, S2_BANDS

SERIES = "s2_naip:s2+s1"
NIR_RGB = ("red", "green", "blue", "nir")


def card(variant):
    setup = adapter.setup_of(variant)
    return Card(
        name="maestro-test", version="1.0", system="maestro", paper="", licence_code="",
        licence_weights="", sensors=(), observations="", unit="patch",
        patch=setup.window // setup.grid, ground_size_m=1.0, dimensions=8, prefixes=(),
        normalisation="", missing_input="", training_data=(), results=(), limits=(),
        window=setup.window, variant=variant,
    )  # fmt: skip


def series(sensor, bands, count=5, side=12, seed=0, clear=0.8):
    rng = np.random.default_rng(seed)
    dates = np.datetime64("2022-01-04") + np.sort(rng.choice(360, count, replace=False))
    values = rng.random((count, len(bands), side, side)).astype(np.float32) * 0.25
    values = -5 - 60 * values if sensor == "sentinel-1" else values
    valid = rng.random((count, side, side)) < clear
    return Series(sensor, bands, dates, values, valid, ("",) * count)


def cube(*parts, side=12):
    return Cube((side, side), {part.sensor: part for part in parts})


S1 = series("sentinel-1", ("vv", "vh"), seed=1, clear=1)
STACKS = {  # name to cube, whether S2 and S1 have data, dates of S2
    "S1 and S2": (cube(S1, series("sentinel-2", S2_BANDS)), (True, True), 5),
    "S2 only": (cube(series("sentinel-2", S2_BANDS)), (True, False), 5),
    "S1 only": (cube(S1), (False, True), 1),
    "one date": (cube(series("sentinel-2", S2_BANDS, count=1, clear=1)), (True, False), 1),
    "60 dates": (cube(series("sentinel-2", S2_BANDS, count=60)), (True, False), 16),
    "clouds and S1": (cube(series("sentinel-2", S2_BANDS, clear=0), S1), (False, True), 1),
}


@pytest.mark.parametrize("name", STACKS)
def test_every_stack_of_series_can_be_encoded(name):
    given, present, count = STACKS[name]
    assert adapter.missing({s: p.bands for s, p in given.series.items()}, card(SERIES)) == []
    (batch,) = adapter.batches(given, 512, card(SERIES))
    ends = ("", "_dates", "_visible")
    assert list(batch.inputs) == [n + end for n in ("s2", "s1") for end in ends] + ["ref_date"]
    for feed, there in zip(("s2", "s1"), present, strict=True):
        values, dates, visible = (batch.inputs[feed + end] for end in ends)
        official = LAYOUTS["s2_naip"].inputs[feed]
        assert 1 <= values.shape[1] <= official.dates
        assert values.shape[2:] == (official.bands[0], 12, 12) and values.dtype == np.float32
        assert dates.shape == (1, values.shape[1], 3) and dates.dtype == np.int64
        assert visible.shape == (1, values.shape[1], 36) and visible.any() == there
        assert np.isfinite(values).all()
    assert batch.inputs["s2"].shape[1] == count
    assert batch.inputs["ref_date"].tolist() == [[[2022, 182, 0]]]
    assert batch.pixels.tolist() == list(range(36))


def test_an_image_is_resized_as_the_network_would():
    part = series("aerial", NIR_RGB, count=1, side=96, clear=1)
    part.valid[:, :8, 4:8] = False  # two patches of 4 pixels
    (batch,) = adapter.batches(cube(part, side=96), 1, card("s2_naip:aerial"))
    image = batch.inputs["aerial"]
    assert image.shape == (1, 1, 4, 384, 384)
    order = [NIR_RGB.index(b) for b in ("nir", "red", "green", "blue")]
    expected = part.values[0, order].repeat(4, axis=1).repeat(4, axis=2)
    assert np.allclose(image[0, 0, :, 40:, 40:], expected[:, 40:, 40:])
    assert np.flatnonzero(batch.pixels < 0).tolist() == [1, 25]
    assert batch.inputs["ref_date"].tolist() == batch.inputs["aerial_dates"].tolist()


def test_rgb_alone_is_enough_for_spot():
    part = series("aerial", ("red", "green", "blue"), count=1, side=96, clear=1)
    part = replace(part, dates=np.array(["NaT"], "datetime64[D]"))
    assert adapter.missing({"aerial": part.bands}, card("s2_naip:spot")) == []
    (batch,) = adapter.batches(cube(part, side=96), 1, card("s2_naip:spot"))
    assert batch.inputs["spot"].shape == (1, 1, 3, 128, 128) and len(batch.pixels) == 64
    assert adapter.missing({"aerial": part.bands}, card("s2_naip:aerial")) != []


def test_coarse_inputs_are_averaged_beside_a_fine_one():
    aerial = series("aerial", NIR_RGB, count=1, side=512, clear=1)
    s2 = series("sentinel-2", S2_BANDS, count=2, side=512, clear=1)
    (batch,) = adapter.batches(cube(aerial, s2, side=512), 1, card("flair:aerial+s2+s1_asc"))
    assert batch.inputs["aerial"].shape[-1] == 512 and batch.inputs["s2"].shape[-1] == 10
    mean = batch.inputs["s2"][0, 0].mean() / 2  # the divisor is 5000
    assert mean == pytest.approx(float(s2.values[0].mean()), rel=1e-3)
    assert len(batch.pixels) == 32 * 32 and (batch.pixels >= 0).all()
    assert not batch.inputs["s1_asc_visible"].any()


def test_a_window_without_observations_has_no_batch():
    for part in (series("sentinel-2", S2_BANDS, clear=0), series("sentinel-2", S2_BANDS, count=0),
                 series("landsat", S2_BANDS)):  # fmt: skip
        assert list(adapter.batches(cube(part), 512, card(SERIES))) == []
    undated = replace(series("sentinel-2", S2_BANDS, count=1), dates=np.array(["NaT"], "M8[D]"))
    assert list(adapter.batches(cube(undated), 512)) == []


def test_what_lacks_is_listed():
    (line,) = adapter.missing({"sentinel-2": tuple(b for b in S2_BANDS if b != "nir08")})
    assert "nir08 is missing" in line and "'fast'" in line
    (line,) = adapter.missing({"landsat": ("blue", "red", "nir08")}, card(SERIES))
    assert "so scenes of sentinel-2 or sentinel-1 are missing" in line
    (line,) = adapter.missing({})
    assert "the stack has nothing" in line
    for variant in ("s2_naip", "none:s2", "flair:dem", "flair:spot"):
        with pytest.raises(ValueError, match="import the checkpoint again"):
            adapter.setup_of(variant)


def test_units_and_orbits():
    radar = replace(S1, values=np.full_like(S1.values, -10.0),
                    orbits=("ascending", "descending", "", "descending", "ascending"))  # fmt: skip
    (batch,) = adapter.batches(cube(radar), 1, card("s2_naip:s1"))
    assert np.allclose(batch.inputs["s1"], -0.5) and batch.inputs["s1"].shape[1] == 4
    (batch,) = adapter.batches(cube(radar), 1, card("flair:s1_asc+s1_des"))
    assert np.allclose(batch.inputs["s1_asc"], np.log(0.1) / 5, atol=1e-6)
    assert [batch.inputs[f"s1_{o}"].shape[1] for o in ("asc", "des")] == [3, 2]


def test_of_each_run_the_clearest_and_most_usual_date_is_used():
    values = np.zeros((6, 1, 2, 2), np.float32)
    values[:, 0] = np.array([5, 1, 1.1, 7, 2, 3])[:, None, None]
    valid = np.ones((6, 2, 2), bool)
    assert adapter.choose(values, valid, 2).tolist() == [2, 5]
    valid[[2, 5], 0, 0] = False
    assert adapter.choose(values, valid, 2).tolist() == [0, 3]
    assert adapter.choose(values, valid, 6).tolist() == list(range(6))


def test_gaps_are_filled_from_other_dates_and_hidden():
    part = series("sentinel-2", S2_BANDS, count=2, clear=1)
    part.valid[0, :2, :2] = False  # one token on one date
    part.valid[:, 4:6, 4] = False  # half a token on both
    part.valid[:, 8:10, 8:10] = False  # one token on both
    part.values[~part.valid.repeat(10, 0).reshape(2, 10, 12, 12)] = np.nan
    (batch,) = adapter.batches(cube(part), 1, card(SERIES))
    values, visible = batch.inputs["s2"][0], batch.inputs["s2_visible"][0]
    assert np.array_equal(values[0, :, :2, :2], values[1, :, :2, :2])
    assert visible[:, 0].tolist() == [False, True]
    assert visible[:, 14].all() and not visible[:, 28].any()
    assert np.flatnonzero(batch.pixels < 0).tolist() == [28]


@pytest.mark.parametrize("side", [5, 10, 12, 40])
def test_resampling_keeps_means(side):
    values = np.arange(2 * 3 * 20 * 20, dtype=np.float32).reshape(2, 3, 20, 20)
    valid = np.ones((2, 20, 20), bool)
    found, share = adapter.resampled(values, valid, side)
    assert found.shape == (2, 3, side, side) and np.allclose(share, 1)
    if side != 12:
        assert np.allclose(found.mean(axis=(2, 3)), values.mean(axis=(2, 3)))
