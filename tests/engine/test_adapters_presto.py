"""What Presto's adapter makes of every kind of stack."""

import numpy as np
import pytest

from earthprint.models.cube import Cube, Series
from earthprint.models.presto import adapter

S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
      "swir22")  # fmt: skip
S1 = ("vv", "vh")
SHAPE = (7, 5)


def series(sensor, bands, count=12, clear=0.8, first="2022-01-15", every=30):
    rng = np.random.default_rng(count)
    dates = np.datetime64(first) + np.arange(count) * every
    values = rng.random((count, len(bands), *SHAPE)).astype(np.float32)
    values = -20 * values if sensor == "sentinel-1" else values
    return Series(sensor, bands, dates, values, rng.random((count, *SHAPE)) < clear, ("",) * count)


def cube(*parts):
    return Cube(SHAPE, {part.sensor: part for part in parts})


# stack, steps, columns of x that are never seen
OTHER = [12, 13, 14, 15]  # weather and terrain
STACKS = {
    "S1 and S2": (cube(series("sentinel-2", S2), series("sentinel-1", S1)), 12, OTHER),
    "S2 only": (cube(series("sentinel-2", S2)), 12, [0, 1, *OTHER]),
    "S1 only": (cube(series("sentinel-1", S1)), 12, [*range(2, 17)]),
    "S2 at 10 m": (cube(series("sentinel-2", ("blue", "green", "red", "nir"))), 12,
                   [0, 1, 5, 6, 7, 9, 10, 11, *OTHER]),
    "one date": (cube(series("sentinel-2", S2, count=1)), 1, [0, 1, *OTHER]),
    "60 dates": (cube(series("sentinel-2", S2, count=60, every=6, first="2022-01-02")), 12,
                 [0, 1, *OTHER]),
    "five years": (cube(series("sentinel-2", S2, count=60)), 24, [0, 1, *OTHER]),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_every_kind_of_stack_becomes_inputs(name):
    given, steps, hidden = STACKS[name]
    assert adapter.missing({s: part.bands for s, part in given.series.items()}) == []
    pixels, seen = [], np.zeros(17, bool)
    for batch in adapter.batches(given, 16):
        n = len(batch.pixels)
        shapes = {"x": (n, steps, 17), "dynamic_world": (n, steps), "latlons": (n, 2),
                  "mask": (n, steps, 17), "month": (n, steps)}  # fmt: skip
        assert n <= 16 and {k: v.shape for k, v in batch.inputs.items()} == shapes
        assert list(batch.inputs) == list(shapes)  # the order of the graph
        assert all(np.isfinite(array).all() for array in batch.inputs.values())
        seen |= (batch.inputs["mask"] == 0).any(axis=(0, 1))
        assert (batch.inputs["mask"] == 0).any(axis=(1, 2)).all()
        pixels += batch.pixels.tolist()
    assert np.flatnonzero(~seen).tolist() == sorted(hidden)
    valid = np.any([part.valid.any(axis=0) for part in given.series.values()], axis=0)
    assert len(pixels) == len(set(pixels)) and set(pixels) <= set(np.flatnonzero(valid).tolist())
    if name != "five years":  # of which some months are left out
        assert len(pixels) == valid.sum()


@pytest.mark.parametrize(
    "sensors",
    [
        {"landsat": ("blue", "green", "red", "nir08", "swir16", "swir22")},
        {"aerial": ("red", "green", "blue")},
        {"sentinel-1": ("vh",)},
        {},
    ],
)
def test_other_stacks_are_refused_with_what_is_missing(sensors):
    (sentence,) = adapter.missing(sensors)
    assert sentence.startswith("Presto knows Sentinel-1 (vv and vh) and Sentinel-2")
    assert all(name in sentence for name in sensors)


def test_clouds_everywhere_give_nothing():
    assert list(adapter.batches(cube(series("sentinel-2", S2, clear=0.0)), 64)) == []
    assert list(adapter.batches(cube(series("sentinel-2", S2, count=0)), 64)) == []


def test_known_values():
    part = series("sentinel-2", S2, count=2, clear=1.0, every=3)
    part.values[:, 2], part.values[:, 6] = 0.1, 0.3  # red, near infrared
    radar = series("sentinel-1", S1, count=1, clear=1.0)
    radar.values[:] = -10
    batch = next(adapter.batches(cube(part, radar), 64))
    x = batch.inputs["x"][0, 0]
    blue = part.values[:, 0, 0, 0].mean()
    np.testing.assert_allclose(x[[0, 2, 4, 8, 16]], [0.6, blue, 0.1, 0.3, 0.5], rtol=1e-5)
    assert (x[12:16] == 0).all() and batch.inputs["mask"][0, 0, 12:16].all()
    assert (batch.inputs["dynamic_world"] == 9).all()
    assert batch.inputs["month"][0].tolist() == [0]


def test_dark_pixels_have_an_index_of_zero():
    part = series("sentinel-2", S2, count=1, clear=1.0)
    part.values[:] = -0.01
    batch = next(adapter.batches(cube(part), 64))
    assert (batch.inputs["x"][:, :, 16] == 0).all() and (batch.inputs["mask"][:, :, 16] == 0).all()


def test_a_gap_in_one_band_hides_its_group_and_the_index():
    part = series("sentinel-2", S2, count=1, clear=1.0)
    part.values[0, 2, 0, 0] = np.nan  # red
    batch = next(adapter.batches(cube(part), 64))
    masked = np.flatnonzero(batch.inputs["mask"][0, 0]).tolist()
    assert masked == [0, 1, 2, 3, 4, *OTHER, 16]
