import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from earthprint.engine.context import JobContext
from earthprint.engine.heads.features import FeatureSource, band_series, series_on
from earthprint.engine.heads.layout import FeatureLayout, SensorSeries
from earthprint.engine.rasters.grid import Window
from earthprint.engine.stacks.stack import build_stack
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


def test_a_series_of_more_than_a_year_tells_what_changed():
    days = ["2018-07-03", "2018-07-28", "2019-01-05", "2019-07-04", "2019-07-20", "2020-07-02"]
    values = np.ones((6, 2, 1, 3), np.float32)
    values[:, 0] *= np.array([5, 7, 9, 3, 1, 2], np.float32)[:, None, None]
    valid = np.ones((6, 1, 3), bool)
    valid[5, 0, 1] = False  # the second pixel has no third year
    valid[3:, 0, 2] = False  # and the third one year alone
    s = series(days, values, valid)
    wanted = series_on("landsat", s.bands, s.dates)
    assert wanted.change and wanted.size == 50
    table = band_series(s, wanted, slice(None))
    # red: 2 - 5 and 1 - 7 of two half-months; 3 - 5 where the last year is 2019
    assert table[:2, 48] == pytest.approx([-4.5, -4.0]) and (table[:2, 49] == 0).all()
    assert np.isnan(table[2, 48:]).all()
    plain = band_series(s, SensorSeries("landsat", s.bands, 24), slice(None))
    assert np.array_equal(table[:, :48], plain)


def test_scenes_of_a_year_or_without_dates_tell_no_change():
    year = np.array(["2024-01-01", "2024-12-30"], "datetime64[D]")
    assert not series_on("landsat", ("red",), year).change
    undated = series_on("landsat", ("red",), np.array(["NaT", "NaT"], "datetime64[D]"))
    assert undated.steps == 1 and not undated.change


def season(folder, days, reflectance):
    """A folder of scenes of 20 x 30 pixels, red and near infrared, each of one reflectance."""
    folder.mkdir()
    for day, value in zip(days, reflectance, strict=True):
        path = folder / f"S2A_MSIL2A_{day}T105031_N0208_R051_T31UFS.tif"
        with rasterio.open(path, "w", driver="GTiff", width=30, height=20, count=2,
                           dtype="uint16", nodata=0, crs="EPSG:32631",
                           transform=Affine(10, 0, 5e5, 0, -10, 5.6e6)) as out:
            out.write(np.stack([np.full((20, 30), 500), np.full((20, 30), 10000 * value)])
                      .astype(np.uint16))
            out.descriptions = ("B04", "B08")
    return build_stack([folder])


def test_a_stack_of_two_years_offers_the_change_and_one_of_a_year_leaves_it_empty(tmp_path):
    long = season(tmp_path / "long", ("20200705", "20201205", "20210706"), (0.5, 0.4, 0.2))
    short = season(tmp_path / "short", ("20200705", "20201205"), (0.5, 0.4))
    with FeatureSource(long, None) as source:
        layout = source.layout("bands")
        assert layout.series[0].change and layout.size == 50
        assert FeatureLayout.of_record(layout.record()) == layout
        table, valid = source.window(Window(2, 3, 4, 5), layout)
        rows, cols = (a.ravel() + b for a, b in zip(np.indices((4, 5)), (2, 3), strict=True))
        assert np.array_equal(source.at(rows, cols, layout, JobContext())[0], table)
        nir = layout.series[0].bands.index("nir")
        assert valid.all() and table[:, 48 + nir] == pytest.approx(-0.3, abs=1e-4)
        assert table[:, 48 + 1 - nir] == pytest.approx(0, abs=1e-6)
    with FeatureSource(short, None) as source:
        assert not source.layout("bands").series[0].change
        layout.require("the head", source)  # a head of two years maps one year too
        table, valid = source.window(Window(2, 3, 4, 5), layout)
        assert valid.all() and np.isnan(table[:, 48:]).all()
        assert not np.isnan(table[:, :48]).any()


def test_a_card_from_before_changes_were_told_still_opens():
    record = {"kind": "bands", "encoder": "", "dims": 0,
              "series": [{"sensor": "landsat", "bands": ["red"], "steps": 24}]}
    assert FeatureLayout.of_record(record).size == 24
