"""A map's place and season against a head's."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from earthprint.engine.context import JobContext
from earthprint.engine.heads.origin import ELSEWHERE, KEY, NEAR_KM, Origin, compare, mark
from earthprint.engine.rasters.grid import Grid, Window
from earthprint.engine.rasters.raster import RasterWriter

DEGREES = CRS.from_epsg(4326).to_wkt()
UTM = CRS.from_epsg(32631).to_wkt()
HOME = Grid(UTM, tuple(Affine(10, 0, 500000, 0, -10, 5600000))[:6], (40, 50))
YEAR = ("2018-03-01", "2018-10-31")


def here(season=YEAR, **more):
    origin = Origin.of(HOME, np.array([0, 39]), np.array([0, 49]), season)
    return Origin(origin.places, origin.seasons, **more)


def grid_at(lon, lat, size=0.001, shape=(10, 10)):
    return Grid(DEGREES, (size, 0, lon, 0, -size, lat), shape)


def test_distances_are_those_of_a_sphere():
    origin = Origin(((3.0, 50.0),), ())
    far = origin.distances(grid_at(3.0, 51.0), np.array([0.0]), np.array([0.0]))
    assert far == pytest.approx([111.195], abs=0.01)
    east = origin.distances(grid_at(4.0, 50.0), np.array([0.0]), np.array([0.0]))
    assert east == pytest.approx([71.474], abs=0.01)  # haversine: 2 R asin(cos 50 sin 0.5)


def test_an_origin_comes_back_from_a_card():
    origin = here(core=("04-01", "07-01"), region="somewhere")
    assert (3.0, 50.5) in origin.places and origin.seasons == (YEAR,)
    assert Origin.of_card({KEY: origin.record()}) == origin
    assert Origin.of_card({"labels": "a"}) is None


def test_at_home_everything_is_inside():
    reach = compare(here(), HOME, YEAR)
    assert not reach.outside and reach.far_share == 0 and "among the labelled" in reach.place
    assert "2018-03-01 to 2018-10-31" in reach.season


def test_another_continent_is_outside():
    reach = compare(here(), grid_at(-80.0, 43.0), YEAR)
    assert reach.far_share == 1 and "climate" in reach.place and not reach.off_season


@pytest.mark.parametrize(("season", "off", "words"), [
    (("2018-03-01", "2018-10-15"), False, ""),  # a few days do not matter
    (("2018-03-01", "2018-06-30"), True, "123 days of the year that it relies on"),
    (("2018-01-01", "2018-10-31"), True, "59 days of the year are new to it"),
    (("2019-03-01", "2019-10-31"), False, "Another year"),
    (("2018-09-01", "2019-05-31"), True, "days of the year"),
])
def test_seasons_are_compared_by_the_days_of_the_year(season, off, words):
    reach = compare(here(), HOME, season)
    assert reach.off_season is off and words in reach.season


def test_a_head_of_parts_of_seasons_needs_its_core_only():
    head = here(core=("04-15", "06-30"))
    assert not compare(head, HOME, ("2018-03-20", "2018-07-15")).off_season
    assert compare(head, HOME, ("2018-03-20", "2018-05-15")).off_season
    winter = Origin(head.places, (("2018-09-01", "2019-08-31"),), ("11-01", "03-01"))
    assert not compare(winter, HOME, ("2018-10-15", "2019-03-20")).off_season
    assert compare(winter, HOME, ("2018-12-15", "2019-03-20")).off_season


def test_what_is_not_known_is_said_and_never_flagged():
    for origin, season in ((None, YEAR), (Origin((), ()), YEAR), (here(), [])):
        reach = compare(origin, HOME, season)
        assert not reach.outside and reach.place and reach.season
    assert "any part of the year" in compare(Origin((), ()), HOME, YEAR).season
    assert "without dates" in compare(here(), HOME, []).season


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 90), cols=st.integers(1, 90), row=st.integers(0, 50),
       col=st.integers(0, 50))
def test_far_ground_of_a_window_is_that_of_its_pixels(rows, cols, row, col):
    # 0.1 degree a pixel: the border of the known ground runs through the grid
    grid, origin = grid_at(0.0, 52.0, 0.1, (160, 160)), Origin(((3.0, 50.0),), ())
    far = origin.far(grid, Window(row, col, rows, cols))
    assert far.shape == (rows, cols)
    r, c = np.meshgrid(np.arange(rows) + row, np.arange(cols) + col, indexing="ij")
    km = origin.distances(grid, r.ravel() + 0.5, c.ravel() + 0.5).reshape(rows, cols)
    slack = 32 * 0.1 * 111.2  # coarse steps
    assert far[km > NEAR_KM + slack].all() and not far[km < NEAR_KM - slack].any()


def test_the_layer_tells_place_and_season_from_ground(tmp_path):
    grid, origin = grid_at(0.0, 52.0, 0.1, (160, 160)), Origin(((3.0, 50.0),), (YEAR,))
    values = np.zeros(grid.shape, np.uint8)
    values[0, :5], values[1, :5] = 1, 255
    path = tmp_path / "unlike.tif"
    for season in (YEAR, ("2018-03-01", "2018-05-01")):
        with RasterWriter(path, grid, "uint8", 255, tags={"EARTHPRINT_HEAD": "a"}) as out:
            out.write(grid.full, values)
        reach = compare(origin, grid, season)
        mark(path, origin, grid, reach, JobContext())
        with rasterio.open(path) as dataset:
            marked = dataset.read(1)
            assert dataset.tags()["EARTHPRINT_HEAD"] == "a"
            assert dataset.colormap(1)[ELSEWHERE.value][:3] == (0xbd,) * 3
        assert (marked[0, :5] == 1).all() and (marked[1, :5] == 255).all()
        if reach.off_season:
            assert (marked[2:] == ELSEWHERE.value).all()
        else:
            share = (marked[2:] == ELSEWHERE.value).mean()
            assert 0.5 < share < 1 and share == pytest.approx(reach.far_share, abs=0.05)
