"""Where pixels lie."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from earthprint.engine.rasters.grid import Grid, Window

UTM = CRS.from_epsg(32631).to_wkt()
WGS = CRS.from_epsg(4326).to_wkt()


def grid(shape=(100, 80), transform=(10, 0, 500000, 0, -10, 5600000), wkt=UTM):
    return Grid(wkt, tuple(map(float, transform)), shape)


@settings(deadline=None)
@given(rows=st.integers(1, 300), cols=st.integers(1, 300), height=st.integers(20, 128),
       width=st.integers(20, 128))
def test_blocks_cover_every_pixel_once(rows, cols, height, width):
    seen = np.zeros((rows, cols), int)
    for block in grid((rows, cols)).blocks(height, width):
        seen[block.slices] += 1
    assert (seen == 1).all()


@given(row=st.integers(0, 99), col=st.integers(0, 79), rows=st.integers(1, 100),
       cols=st.integers(1, 80),
       transform=st.sampled_from([(10, 0, 5e5, 0, -10, 5.6e6), (10, 0, 5e5, 0, 10, 5.6e6),
                                  (7, 3, 5e5, 3, -7, 5.6e6)]))
def test_a_part_lies_where_its_window_says(row, col, rows, cols, transform):
    whole = grid(transform=transform)
    window = Window(row, col, min(rows, 100 - row), min(cols, 80 - col))
    part = whole.part(window)
    assert part.affine @ (0, 0) == pytest.approx(whole.affine @ (col, row))
    assert part.shape == (window.rows, window.cols)
    found = whole.window_of(part.bounds)
    if transform[1] == 0:
        assert found == window
    else:
        assert found.row <= window.row and found.col <= window.col


def test_extent_outside_is_none_and_inside_snaps_outwards():
    whole = grid()
    assert whole.window_of((0, 0, 10, 10)) is None
    assert whole.window_of((500011, 5599971, 500012, 5599972)) == Window(2, 1, 1, 1)
    assert whole.window_of((499000, 5500000, 600000, 5700000)) == whole.full


@pytest.mark.parametrize(("lower", "square_metres"),
                         [(0, 85.4797), (30, 74.2759), (45, 60.8499), (60, 43.1722)])
def test_area_of_a_pixel_in_degrees(lower, square_metres):
    step = 1 / 12000
    area = grid((1, 1), (step, 0, 5, 0, -step, lower + step), WGS).row_areas_m2()
    assert area[0] == pytest.approx(square_metres, abs=1e-3)


def test_area_of_one_degree_cells():
    area = grid((1, 1), (1, 0, 5, 0, -1, 46), WGS).row_areas_m2()
    assert area[0] / 1e6 == pytest.approx(8686.494957, abs=1e-3)


def test_web_mercator_shrinks_with_latitude():
    wkt = CRS.from_epsg(3857).to_wkt()
    y = 6378137 * np.arctanh(np.sin(np.radians(60)))
    area = grid((1, 1), (10, 0, 0, 0, -10, y + 5), wkt).row_areas_m2()
    # Snyder 1987, eq. 7-8 and 7-9: the sphere's projection of latitudes of the ellipsoid
    sine = 0.00669438 * 0.75
    assert area[0] == pytest.approx(25 * (1 - 0.00669438) / (1 - sine) ** 2, rel=1e-5)


def test_feet_become_metres():
    wkt = CRS.from_epsg(2263).to_wkt()
    area = grid((2, 1), (10, 0, 984250, 0, -10, 200000), wkt).row_areas_m2()
    assert area[0] == pytest.approx(100 * 0.3048006096**2, rel=1e-4)


@pytest.mark.parametrize(("code", "corner", "square_metres"), [
    (32631, (5e5, 5.6e6), 100 / 0.9996**2),  # the central meridian of UTM
    (32631, (166021.44, 0), 100 / 1.000981**2),  # three degrees beside it, on the equator
    (3035, (4321000, 3210000), 100),  # equal areas
])
def test_projected_pixels_count_on_the_ellipsoid(code, corner, square_metres):
    wkt = CRS.from_epsg(code).to_wkt()
    area = grid((30, 20), (10, 0, corner[0], 0, -10, corner[1]), wkt).row_areas_m2()
    assert area.shape == (30,) and area == pytest.approx(square_metres, rel=1e-5)


def test_pixels_without_a_place_on_earth_are_plane():
    assert grid((2, 3), (10, 0, 0, 0, -10, 0), "").row_areas_m2().tolist() == [100, 100]


def test_matching_grids():
    assert grid().matches(grid())
    assert grid().matches(grid(transform=(10, 0, 500000.01, 0, -10, 5600000)))
    assert not grid().matches(grid(transform=(10, 0, 500001, 0, -10, 5600000)))
    assert not grid().matches(grid(shape=(100, 81)))
    assert not grid().matches(grid(wkt=WGS))
