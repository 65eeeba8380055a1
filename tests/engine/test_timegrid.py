"""The compiled time grid against a plain one, and its rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthprint.models import timegrid
from earthprint.models.timegrid import STEPS, UNDATED_STEP, grid, half_months

DAYS = np.datetime64("2019-01-01"), np.datetime64("2021-12-31")


def plain_step(date):
    day = date.astype(object)
    return 2 * (day.month - 1) + (day.day > 15)


def plain_grid(values, valid, dates):
    """One pixel and band at a time, in float64."""
    count, bands, pixels = values.shape
    series = np.full((pixels, STEPS, bands), np.nan)
    observed = np.zeros((pixels, STEPS), bool)
    for p in range(pixels):
        means = {}
        for s in range(STEPS):
            here = [t for t in range(count)
                    if plain_step(dates[t]) == s and valid[t, p]
                    and np.isfinite(values[t, :, p]).all()]  # fmt: skip
            if here:
                means[s] = values[here, :, p].astype(float).mean(axis=0)
                observed[p, s] = True
        if not means:
            continue
        known = sorted(means)
        times = [k + STEPS * turn for turn in (-1, 0, 1) for k in known]
        for b in range(bands):
            series[p, :, b] = np.interp(
                np.arange(STEPS), times, [means[k][b] for k in known] * 3
            )
    return series, observed


@st.composite
def scenes(draw):
    count, bands, pixels = draw(st.integers(1, 12)), draw(st.integers(1, 3)), draw(
        st.integers(1, 9))  # fmt: skip
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    span = (DAYS[1] - DAYS[0]).astype(int)
    dates = np.sort(DAYS[0] + rng.integers(0, span, count))
    values = rng.normal(0, 3, (count, bands, pixels)).astype(np.float32)
    values[rng.random(values.shape) < 0.05] = rng.choice([np.nan, np.inf])
    return values, rng.random((count, pixels)) < draw(st.floats(0, 1)), dates


@given(scenes())
@settings(max_examples=60, deadline=None)
def test_equals_the_plain_grid(case):
    found, seen = grid(*case)
    expected, observed = plain_grid(*case)
    np.testing.assert_array_equal(seen, observed)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@given(st.dates(min_value=DAYS[0].astype(object), max_value=DAYS[1].astype(object)))
def test_half_months(day):
    date = np.datetime64(day)
    assert half_months(np.array([date]))[0] == plain_step(date)


def test_interpolates_around_the_turn_of_the_year():
    dates = np.array(["2020-02-05", "2020-12-03"], "datetime64[D]")  # steps 2 and 22
    values = np.array([[[6.0]], [[2.0]]], np.float32)
    found, observed = grid(values, np.ones((2, 1), bool), dates)
    np.testing.assert_allclose(found[0, [22, 23, 0, 1, 2, 12], 0], [2, 3, 4, 5, 6, 4], atol=1e-5)
    assert np.flatnonzero(observed[0]).tolist() == [2, 22]


def test_one_date_fills_the_year():
    dates = np.array(["2020-08-20"], "datetime64[D]")
    found, observed = grid(np.full((1, 2, 3), 7, np.float32), np.ones((1, 3), bool), dates)
    assert (found == 7).all()
    assert (observed.sum(axis=1) == 1).all()


def test_never_observed_is_the_missing_value():
    dates = np.array(["2020-08-20"], "datetime64[D]")
    values, valid = np.ones((1, 2, 3), np.float32), np.zeros((1, 3), bool)
    assert np.isnan(grid(values, valid, dates)[0]).all()
    assert (grid(values, valid, dates, missing=-5)[0] == -5).all()
    assert not grid(values, valid, dates)[1].any()


def test_undated_scenes_count_only_among_themselves():
    undated, dated = np.array(["NaT"], "datetime64[D]"), np.datetime64("2020-03-01")
    assert half_months(undated).tolist() == [UNDATED_STEP]
    assert half_months(np.array([undated[0], dated])).tolist() == [-1, 4]
    values = np.array([[[100.0]], [[1.0]]], np.float32)
    found, _ = grid(values, np.ones((2, 1), bool), np.array([undated[0], dated]))
    assert (found == 1).all()


@pytest.mark.parametrize("pixels", [1, 255, 256, 257, 1000])
def test_any_number_of_pixels(pixels):
    rng = np.random.default_rng(pixels)
    dates = np.sort(DAYS[0] + rng.integers(0, 365, 8))
    values = rng.random((8, 2, pixels)).astype(np.float32)
    valid = rng.random((8, pixels)) < 0.6
    some = [0, pixels // 2, pixels - 1]
    expected, observed = plain_grid(values[:, :, some], valid[:, some], dates)
    found, seen = grid(values, valid, dates)
    np.testing.assert_allclose(found[some], expected, atol=1e-5)
    np.testing.assert_array_equal(seen[some], observed)


def test_strided_and_other_types_are_taken():
    rng = np.random.default_rng(0)
    dates = np.sort(DAYS[0] + rng.integers(0, 365, 6))
    wide = rng.random((6, 4, 20))
    valid = np.ones((6, 20), np.uint8)
    found, _ = grid(wide[:, ::2, ::-1], valid, dates)
    expected, _ = grid(np.ascontiguousarray(wide[:, ::2, ::-1], np.float32), valid > 0, dates)
    np.testing.assert_array_equal(found, expected)


def test_the_kernels_release_the_interpreter_lock():
    assert timegrid.accumulate.targetoptions["nogil"]
    assert timegrid.fill.targetoptions["nogil"]


def test_without_a_cache_folder_it_still_compiles(monkeypatch):
    def refuse(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(timegrid.numba, "njit", refuse)
    assert timegrid.compiled(half_months) is half_months
