import numpy as np

from earthprint.engine.heads.features import band_series
from earthprint.engine.heads.layout import SensorSeries
from earthprint.models.cube import Series


def series(dates, values, valid=None):
    values = np.asarray(values, np.float32)
    valid = np.ones((len(dates), *values.shape[2:]), bool) if valid is None else valid
    return Series("landsat", ("red", "nir"), np.array(dates, "datetime64[D]"), values, valid,
                  ("",) * len(dates))


def test_columns_run_by_step_then_band():
    s = series(["2024-01-03", "2024-07-03"], [[[[1.0]], [[2.0]]], [[[3.0]], [[4.0]]]])
    table = band_series(s, SensorSeries("landsat", ("nir", "red"), 24), slice(None))
    assert table.shape == (1, 48)
    assert table[0, :2].tolist() == [2, 1] and table[0, 24:26].tolist() == [4, 3]
    assert np.allclose(table[0, 12:14], [3, 2])  # half-way between the dates


def test_a_scene_without_a_band_still_counts_for_the_others():
    s = series(["2024-01-03", "2024-07-03"], [[[[1.0]], [[np.nan]]], [[[3.0]], [[4.0]]]])
    table = band_series(s, SensorSeries("landsat", ("red", "nir"), 24), slice(None))
    assert table[0, 0] == 1 and table[0, 24] == 3
    assert (table[0, 1::2] == 4).all()


def test_undated_scenes_give_their_mean_and_unseen_pixels_nan():
    valid = np.array([[[True, False, False]], [[True, True, False]]])
    s = series(["NaT", "NaT"], np.arange(12).reshape(2, 2, 1, 3), valid)
    table = band_series(s, SensorSeries("landsat", ("red", "nir"), 1), slice(None))
    assert table[:2].tolist() == [[3, 6], [7, 10]] and np.isnan(table[2]).all()


def test_chosen_pixels_are_the_same_as_in_the_whole():
    rng = np.random.default_rng(0)
    s = series(["2024-02-03", "2024-05-20", "2024-08-01"], rng.random((3, 2, 5, 7)),
               rng.random((3, 5, 7)) > 0.4)
    wanted = SensorSeries("landsat", ("red", "nir"), 24)
    some = np.array([3, 30, 11])
    assert np.array_equal(band_series(s, wanted, some), band_series(s, wanted, slice(None))[some],
                          equal_nan=True)
