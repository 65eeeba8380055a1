from dataclasses import replace

import numpy as np
import pytest
from rasterio.crs import CRS
from scipy.ndimage import convolve

from earthprint.engine.context import JobContext
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.rasters.smoothing import patch_pixels, remove_patches, smooth

KERNEL = np.array([[1, 2, 1], [2, 3, 2], [1, 2, 1]]) / 15


def test_smoothing_is_the_published_kernel_inside():
    p = np.random.default_rng(0).random((9, 8, 3)).astype(np.float32)
    out = smooth(p, np.ones((9, 8), bool))
    wanted = np.stack([convolve(p[..., k], KERNEL) for k in range(3)], -1)
    assert out[1:-1, 1:-1] == pytest.approx(wanted[1:-1, 1:-1], abs=1e-6)


def test_smoothed_probabilities_sum_to_one_beside_nodata_and_edges():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(4), (12, 13)).astype(np.float32)
    valid = rng.random((12, 13)) > 0.4
    p[~valid] = 99
    out = smooth(p, valid)
    assert out[valid].sum(1) == pytest.approx(1, abs=1e-5)
    assert not out[~valid].any()


def test_windows_with_a_margin_join_without_a_seam():
    p = np.random.default_rng(2).random((10, 10, 2)).astype(np.float32)
    valid = np.ones((10, 10), bool)
    whole = smooth(p, valid)
    left = smooth(p[:, :6], valid[:, :6])[:, :5]
    right = smooth(p[:, 4:], valid[:, 4:])[:, 1:]
    assert np.array_equal(np.concatenate([left, right], 1), whole)


def test_small_patches_join_and_nodata_stays():
    a = np.full((20, 20), 1, np.uint8)
    a[5:7, 5:7] = 2  # 4 pixels: goes
    a[10:13, 10:13] = 3  # 9 pixels: stays
    a[0, 0] = 255
    ((rows, out),) = remove_patches(a, 5, 255, JobContext())
    assert rows == slice(0, 20)
    assert not (out == 2).any() and (out == 3).sum() == 9
    assert out[0, 0] == 255 and (out == 255).sum() == 1


def test_an_island_in_nodata_keeps_its_class():
    a = np.full((9, 9), 255, np.uint8)
    a[4, 4] = 7
    ((_, out),) = remove_patches(a, 5, 255, JobContext())
    assert out[4, 4] == 7


def test_strips_give_what_the_whole_gives():
    a = np.random.default_rng(3).integers(1, 3, (900, 50)).astype(np.uint8)
    ((_, whole),) = remove_patches(a, 4, 255, JobContext())
    small = replace(JobContext(), memory_mb=0.04)
    parts = list(remove_patches(a, 4, 255, small))
    assert len(parts) > 2
    joined = np.concatenate([p for _, p in parts])
    assert (joined == whole).mean() > 0.999


def test_hectares_become_pixels():
    grid = Grid(CRS.from_epsg(32631).to_wkt(), (10, 0, 5e5, 0, -10, 5.6e6), (5, 5))
    assert patch_pixels(grid, 0.1) == 10
    assert patch_pixels(grid, 0.101) == 11
