"""What TESSERA's adapter makes of every kind of stack, and what the bundled student answers."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthprint.models import catalogue
from earthprint.models.cards import read_card
from earthprint.models.cube import Cube, Series
from earthprint.models.tessera import adapter, observations

S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
      "swir22")  # fmt: skip
S1 = ("vv", "vh")
SHAPE = (6, 9)


def series(sensor, bands, count=12, seed=0, clear=0.7, year="2022"):
    rng = np.random.default_rng(seed)
    dates = np.datetime64(f"{year}-01-04") + np.sort(rng.choice(360, count, replace=False))
    values = rng.random((count, len(bands), *SHAPE)).astype(np.float32)
    values = -5 - 18 * values if sensor == "sentinel-1" else values - 0.05
    valid = rng.random((count, *SHAPE)) < clear
    orbits = ("ascending", "descending", "") if sensor == "sentinel-1" else ("",)
    return Series(sensor, bands, dates, values, valid, (orbits * count)[:count])


def cube(*parts):
    return Cube(SHAPE, {part.sensor: part for part in parts})


@pytest.fixture(scope="module")
def student():
    path = catalogue.bundled()["tessera-student"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session, read_card(path)


def encode(student, given):
    """Window to pixels and embeddings, in the order of the pixels."""
    session, card = student
    found = {}
    for batch in adapter.batches(given, 32, card):
        assert len(batch.pixels) <= 32 and all(len(x) == len(batch.pixels)
                                               for x in batch.inputs.values())
        (vectors,) = session.run(["embedding"], batch.inputs)
        found |= dict(zip(batch.pixels.tolist(), vectors, strict=True))
    return np.array(sorted(found)), np.array([found[p] for p in sorted(found)])


STACKS = {
    "S1 and S2": cube(series("sentinel-2", S2), series("sentinel-1", S1, seed=1)),
    "S2 only": cube(series("sentinel-2", S2)),
    "S1 only": cube(series("sentinel-1", S1)),
    "one date": cube(series("sentinel-2", S2, count=1)),
    "60 dates": cube(series("sentinel-2", S2, count=60), series("sentinel-1", S1, count=60)),
    "Landsat beside it": cube(series("sentinel-2", S2), series("landsat", ("red", "nir08"))),
}


@pytest.mark.parametrize("name", STACKS)
def test_every_kind_of_stack_becomes_unit_vectors(student, name):
    given = STACKS[name]
    assert adapter.missing({sensor: part.bands for sensor, part in given.series.items()}) == []
    pixels, vectors = encode(student, given)
    parts = [given.series[s] for s in ("sentinel-2", "sentinel-1") if s in given.series]
    seen = np.any([part.valid.any(axis=0) for part in parts], axis=0)
    assert pixels.tolist() == np.flatnonzero(seen).tolist()
    assert vectors.shape == (len(pixels), student[1].dimensions)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    assert np.linalg.matrix_rank(vectors[:20]) > 10  # pixels differ


def test_dates_under_cloud_change_nothing(student):
    clear = series("sentinel-2", S2, count=14)
    hidden = clear.valid.copy()
    hidden[3:6] = False
    kept = np.r_[0:3, 6:14]
    without = Series(clear.sensor, S2, clear.dates[kept], clear.values[kept], clear.valid[kept],
                     clear.orbits[:11])  # fmt: skip
    clouded = replace(clear, valid=hidden)
    for one, other in zip(encode(student, cube(clouded)), encode(student, cube(without)),
                          strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_window_under_cloud_and_one_without_scenes_have_no_batches():
    clouded = series("sentinel-2", S2, clear=0.0)
    radar = series("sentinel-1", S1, clear=0.0)
    assert list(adapter.batches(cube(clouded, radar), 32)) == []
    empty = series("sentinel-2", S2, count=0)
    assert list(adapter.batches(cube(empty), 32)) == []
    undated = replace(series("sentinel-2", S2), dates=np.full(12, np.datetime64("NaT", "D")))
    assert list(adapter.batches(cube(undated), 32)) == []


def test_a_gap_in_one_band_is_no_observation():
    part = series("sentinel-2", S2, count=1, clear=1.0)
    part.values[0, 4, 2, 3] = np.nan
    (batch,) = adapter.batches(cube(part), 64)
    assert sorted(set(range(54)) - set(batch.pixels.tolist())) == [2 * 9 + 3]


REFUSED = {
    "Landsat": ({"landsat": ("blue", "green", "red", "nir08", "swir16", "swir22")},
                "nir, rededge071, rededge075, rededge078 are missing"),
    "aerial": ({"aerial": ("red", "green", "blue")}, "swir16, swir22 are missing"),
    "S2 at 10 m": ({"sentinel-2": ("blue", "green", "red", "nir")}, "rededge071"),
    "VV alone": ({"sentinel-1": ("vv",)}, "vh is missing"),
    "nothing": ({}, "the stack has nothing"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_stacks_are_refused_with_what_is_missing(name):
    sensors, words = REFUSED[name]
    (sentence,) = adapter.missing(sensors)
    assert words in sentence and "'fast'" in sentence and sentence.endswith(".")


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(0, 40), st.floats(0.05, 1), st.integers(0, 10**6))
def test_the_compiled_selection_follows_the_rules_of_the_weights(optical, radar, clear, seed):
    parts = [series("sentinel-2", S2, optical, seed, clear)]
    if radar:
        parts.append(series("sentinel-1", S1, radar, seed + 1, clear))
    window = cube(*parts)
    s2, s1 = adapter.cube_frames(window, observations.STATISTICS["v2-student"])
    for selection in (observations.V2, adapter.BUNDLED):
        expected, found = (
            {
                pixel: (s2_row, s1_row)
                for batch in batches
                for pixel, s2_row, s1_row in zip(
                    batch.pixels.tolist(), batch.inputs["s2"], batch.inputs["s1"], strict=True
                )
            }
            for batches in (
                observations.rectangular(s2, s1, selection, 16),
                adapter.batches(window, 16, selection=selection),
            )
        )
        assert found.keys() == expected.keys()
        for pixel, rows in expected.items():
            for one, other in zip(rows, found[pixel], strict=True):
                np.testing.assert_allclose(other, one, atol=1e-6)


def test_units_are_those_of_the_weights():
    """Reflectance 0.1 is DN 1000; -11 dB is code 5600; both standardised."""
    part, radar = series("sentinel-2", S2, 3, clear=1.0), series("sentinel-1", S1, 2, clear=1.0)
    part.values[:], radar.values[:] = 0.1, -11.0
    (batch,) = adapter.batches(cube(part, radar), 64)
    statistics = observations.STATISTICS["v2-student"]
    dn = batch.inputs["s2"][..., :-1] * statistics.s2_std + np.array(statistics.s2_mean)
    np.testing.assert_allclose(dn, 1000, atol=0.1)
    code = batch.inputs["s1"][0, 0, 0] * statistics.ascending_std[0] + statistics.ascending_mean[0]
    assert code == pytest.approx(5600, abs=0.1)


def test_the_card_says_how_many_observations(student):
    card = student[1]
    assert adapter.selection_of(card) == adapter.BUNDLED
    official = replace(card, sensors=tuple(replace(s, most=0) for s in card.sensors))
    assert adapter.selection_of(official) == observations.V2
    lengths = [
        max(batch.inputs["s2"].shape[1] for batch in adapter.batches(STACKS["60 dates"], 64, c))
        for c in (card, official)
    ]
    assert lengths[0] == 16 and lengths[1] > 24


def test_long_sequences_make_small_batches():
    many = cube(series("sentinel-2", S2, count=300, clear=1.0))
    sizes = [len(b.pixels) for b in adapter.batches(many, 64, selection=observations.V2)]
    assert sum(sizes) == 54 and max(sizes) <= 32


def test_prefixes_keep_the_neighbours(student):
    """The first components alone order pixels much as all do."""
    _, vectors = encode(student, STACKS["S1 and S2"])
    everything = vectors @ vectors.T
    off = ~np.eye(len(vectors), dtype=bool)
    agreement = []
    for length in student[1].prefixes:
        prefix = vectors[:, :length] / np.linalg.norm(vectors[:, :length], axis=1, keepdims=True)
        agreement.append(np.corrcoef((prefix @ prefix.T)[off], everything[off])[0, 1])
    assert agreement == sorted(agreement) and agreement[0] > 0.5
