import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.heads.crossval import (
    blocked_folds,
    lonely_classes,
    metres_of,
    random_folds,
)
from earthprint.engine.rasters.grid import Grid

GRID = Grid(CRS.from_epsg(32631).to_wkt(), (10, 0, 500000, 0, -10, 5600000), (500, 500))


def scattered(seed, groups=40, each=5, classes=3):
    """Parcels of `each` pixels in a row, of random classes."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.integers(0, 500, groups), each)
    cols = np.repeat(rng.integers(0, 490, groups), each) + np.tile(np.arange(each), groups)
    return rows, cols, np.repeat(np.arange(groups) % classes, each), np.repeat(
        np.arange(groups), each)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8))
def test_blocks_and_parcels_stay_whole_and_no_fold_is_empty(seed, count):
    rows, cols, classes, groups = scattered(seed)
    folds = blocked_folds(GRID, rows, cols, classes, groups, JobContext(), count=count, seed=seed)
    assert folds.count <= count
    assert set(folds.fold) == set(range(folds.count))
    for unit in (folds.block, groups):
        for value in np.unique(unit):
            assert len(np.unique(folds.fold[unit == value])) == 1


def test_classes_are_spread_over_the_folds():
    rows, cols, classes, groups = scattered(1, groups=120)
    folds = blocked_folds(GRID, rows, cols, classes, groups, JobContext(), count=5)
    for k in range(3):
        share = np.bincount(folds.fold[classes == k], minlength=5) / (classes == k).sum()
        assert share.min() > 0.08 and share.max() < 0.36
    assert lonely_classes(classes, folds, 3) == []


def test_a_given_side_makes_blocks_of_that_many_metres():
    rows, cols = np.array([0, 9, 0, 499]), np.array([0, 9, 10, 499])
    folds = blocked_folds(GRID, rows, cols, np.array([0, 1, 0, 1]), np.arange(4), JobContext(),
                          count=2, side_m=100)
    assert folds.block[0] == folds.block[1] != folds.block[2]
    assert folds.side_m == 100


def test_metres_are_metres_in_degrees_and_web_mercator():
    degrees = Grid(CRS.from_epsg(4326).to_wkt(), (1e-3, 0, 5, 0, -1e-3, 60.5), (1000, 1000))
    one = metres_of(degrees, np.array([500, 500, 501]), np.array([0, 1, 0]))
    assert np.hypot(*(one[1] - one[0])) == pytest.approx(55.8, rel=0.01)
    assert np.hypot(*(one[2] - one[0])) == pytest.approx(111.4, rel=0.01)
    mercator = Grid(CRS.from_epsg(3857).to_wkt(), (20, 0, 0, 0, -20, 8399737 + 200), (20, 20))
    two = metres_of(mercator, np.array([0, 0]), np.array([0, 1]))
    assert np.hypot(*(two[1] - two[0])) == pytest.approx(10.0, rel=0.01)


def test_fewer_blocks_than_folds_is_said_and_one_is_refused():
    said = []
    context = JobContext(on_log=lambda level, text: said.append((level, text)))
    rows, cols = np.array([0, 0, 400, 400]), np.array([0, 1, 400, 401])
    classes, groups = np.array([0, 1, 0, 1]), np.arange(4)
    folds = blocked_folds(GRID, rows, cols, classes, groups, context, count=5, side_m=1000)
    assert folds.count == 2 and said[0][0] == "warning" and "2 folds instead of 5" in said[0][1]
    with pytest.raises(UserError, match="one block"):
        blocked_folds(GRID, rows, cols, classes, groups, context, side_m=100000)
    with pytest.raises(UserError, match="choose 2 or more"):
        blocked_folds(GRID, rows, cols, classes, groups, context, count=1)


def test_lonely_classes_are_found():
    rows, cols, classes, groups = scattered(2)
    classes = np.where(groups == 7, 3, classes)
    folds = blocked_folds(GRID, rows, cols, classes, groups, JobContext())
    assert lonely_classes(classes, folds, 4) == [3]


def test_random_folds_are_even():
    classes = np.repeat([0, 1], [50, 25])
    folds = random_folds(classes, 5, 3)
    assert np.bincount(folds.fold).tolist() == [15] * 5
    assert np.bincount(folds.fold[classes == 1]).tolist() == [5] * 5
