"""Windows of stacks: values, masks, mosaics, warping, edges of nodata, damaged files."""

import threading

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject, transform

from earthprint.engine.errors import UserError
from earthprint.engine.rasters.grid import Grid, Window
from earthprint.engine.stacks.assembly import lattice_shift
from earthprint.engine.stacks.reading import StackReader
from earthprint.engine.stacks.resampling import place, resample
from earthprint.engine.stacks.stack import build_stack

UTM = Affine(10, 0, 500000, 0, -10, 5600000)
BANDS = ("B02", "B03", "B04", "B08")
WKT = CRS.from_epsg(32631).to_wkt()


def write(path, values, *, names=BANDS, transform=UTM, crs="EPSG:32631", nodata=None, **options):
    """A raster of (bands, rows, cols) values with band descriptions."""
    values = np.asarray(values)
    with rasterio.open(path, "w", driver="GTiff", count=len(values), height=values.shape[1],
                       width=values.shape[2], dtype=values.dtype, crs=crs, transform=transform,
                       nodata=nodata, **options) as dataset:
        dataset.write(values)
        for i, name in enumerate(names[:len(values)]):
            dataset.set_band_description(i + 1, name)
    return path


def stored(shape=(4, 32, 32), seed=0):
    return np.random.default_rng(seed).integers(300, 4000, shape).astype("uint16")


def read(stack, window=None, **options):
    with StackReader(stack, **options) as reader:
        return reader.read(window or stack.grid.full)


def test_values_come_in_physical_units_with_dates_and_bands(tmp_path):
    values = stored()
    write(tmp_path / "s2_2024-06-15.tif", values)
    write(tmp_path / "s2_2024-04-01.tif", values[::-1])
    series = read(build_stack([tmp_path])).series["sentinel-2"]
    assert series.bands == ("blue", "green", "red", "nir")
    assert series.dates.tolist() == [np.datetime64(d).tolist() for d in ("2024-04-01",
                                                                         "2024-06-15")]
    assert series.values.dtype == np.float32 and series.values.shape == (2, 4, 32, 32)
    np.testing.assert_allclose(series.values[1], values / 10000, rtol=1e-6)
    np.testing.assert_allclose(series.values[0], values[::-1] / 10000, rtol=1e-6)
    assert series.valid.all()


@settings(max_examples=20, deadline=None)
@given(row=st.integers(0, 31), col=st.integers(0, 31), rows=st.integers(1, 32),
       cols=st.integers(1, 32))
def test_any_window_equals_the_part_of_the_whole(tmp_path_factory, row, col, rows, cols):
    folder = tmp_path_factory.mktemp("w")
    write(folder / "s2_2024-06-15.tif", stored())
    write(folder / "s1_2024-06-16.tif", np.random.default_rng(1).uniform(
        -20, -5, (2, 20, 20)).astype("float32"), names=("VV", "VH"),
        transform=UTM @ Affine.translation(3.3, 2.7) @ Affine.scale(2))
    stack = build_stack([folder])
    window = Window(row, col, min(rows, 32 - row), min(cols, 32 - col))
    whole, part = read(stack), read(stack, window)
    for sensor, series in part.series.items():
        cut = whole.series[sensor].values[..., window.slices[0], window.slices[1]]
        np.testing.assert_allclose(series.values, cut, atol=1e-5)
        assert (series.valid == whole.series[sensor].valid[(slice(None), *window.slices)]).all()


@pytest.mark.parametrize(("unit", "values", "expected"), [
    ("power", np.array([0.1, 1.0, 0.0]), [-10, 0, np.nan]),
    ("db", np.array([-10.0, -3.0, -20.0]), [-10, -3, -20]),
])
def test_radar_is_read_in_decibels(tmp_path, unit, values, expected):
    array = np.tile(values, (2, 1, 1)).astype("float32")
    write(tmp_path / "s1_2024-06-15.tif", array, names=("VV", "VH"))
    series = read(build_stack([tmp_path])).series["sentinel-1"]
    np.testing.assert_allclose(series.values[0, 0, 0], expected, atol=1e-5)
    assert series.valid[0, 0].tolist() == [bool(np.isfinite(e)) for e in expected]


def test_a_pixel_is_valid_where_all_bands_are_present_and_the_mask_agrees(tmp_path):
    values = stored((4, 4, 4))
    values[2, 0, 0] = 0  # nodata in one band
    write(tmp_path / "s2_2024-06-15.tif", values)
    scl = np.full((1, 2, 2), 4, np.uint8)
    scl[0, 1, 1] = 9
    write(tmp_path / "s2_2024-06-15_SCL.tif", scl, names=("SCL",),
          transform=UTM @ Affine.scale(2))
    valid = read(build_stack([tmp_path])).series["sentinel-2"].valid[0]
    assert not valid[0, 0] and valid[0, 1] and not valid[2:, 2:].any() and valid.sum() == 11


def test_a_scene_that_lacks_bands_stays_and_is_nan_there(tmp_path):
    write(tmp_path / "s2_2024-06-15.tif", stored())
    write(tmp_path / "s2_2024-06-25.tif", stored((2, 32, 32)))
    series = read(build_stack([tmp_path])).series["sentinel-2"]
    assert series.valid.all() and np.isnan(series.values[1, 2:]).all()
    assert np.isfinite(series.values[1, :2]).all()


def test_sensors_and_bands_can_be_selected(tmp_path):
    values = stored()
    values[3] = 0
    write(tmp_path / "s2_2024-06-15.tif", values)
    write(tmp_path / "naip_20240615.tif", np.full((3, 32, 32), 9, np.uint8),
          names=("red", "green", "blue"))
    stack = build_stack([tmp_path])
    cube = read(stack, sensors=("sentinel-2",), bands={"sentinel-2": ("red", "blue")})
    assert list(cube.series) == ["sentinel-2"]
    assert cube.series["sentinel-2"].bands == ("blue", "red")
    assert cube.series["sentinel-2"].valid.all()  # the empty band was not asked for
    whole = StackReader.bytes_per_pixel(stack)
    assert 0 < StackReader.bytes_per_pixel(stack, sensors=("aerial",)) < whole


def test_tiles_of_one_day_are_laid_over_each_other_first_valid_first(tmp_path):
    left, right = stored(), stored(seed=1)
    left[:, :, 24:] = 0
    write(tmp_path / "T31UFS_20240615T105031.tif", left)
    write(tmp_path / "T31UGS_20240615T105031.tif", right,
          transform=UTM @ Affine.translation(16, 0))
    series = read(build_stack([tmp_path])).series["sentinel-2"]
    assert series.values.shape == (1, 4, 32, 48) and series.valid.all()
    np.testing.assert_allclose(series.values[0, :, :, :24], left[:, :, :24] / 1e4, rtol=1e-6)
    np.testing.assert_allclose(series.values[0, :, :, 24:], right[:, :, 8:] / 1e4, rtol=1e-6)


def test_all_masked_and_all_nodata_give_no_valid_pixel(tmp_path):
    write(tmp_path / "s2_2024-06-15.tif", stored())
    write(tmp_path / "s2_2024-06-15_SCL.tif", np.full((1, 32, 32), 9, np.uint8), names=("SCL",))
    write(tmp_path / "s2_2024-06-25.tif", np.zeros((4, 32, 32), np.uint16))
    assert not read(build_stack([tmp_path])).series["sentinel-2"].valid.any()


def test_windows_cover_the_grid_and_fit_the_budget(tmp_path):
    write(tmp_path / "s2_2024-06-15.tif", stored((4, 300, 500)))
    stack = build_stack([tmp_path])
    reader = StackReader(stack, memory_mb=2)
    covered = np.zeros(stack.grid.shape, int)
    for window in reader.windows():
        covered[window.slices] += 1
        assert window.size * StackReader.bytes_per_pixel(stack) <= 2e6
    assert (covered == 1).all()


def test_readers_work_in_threads(tmp_path):
    for day in range(10, 20):
        write(tmp_path / f"s2_2024-06-{day}.tif", stored((4, 64, 64), day), tiled=True,
              blockxsize=16, blockysize=16, compress="deflate")
    stack = build_stack([tmp_path])
    expected, wrong = read(stack).series["sentinel-2"].values, []

    def work():
        with StackReader(stack) as reader:
            for row in range(0, 64, 16):
                cube = reader.read(Window(row, 0, 16, 64))
                if not np.array_equal(cube.series["sentinel-2"].values,
                                      expected[:, :, row:row + 16]):
                    wrong.append(row)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class TestWarping:
    """Against a plane in the target's coordinates, and against GDAL."""

    def plane(self, grid, crs):
        """Values that are linear in the coordinates of `crs`, on a grid."""
        cols, rows = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
        xs, ys = grid.affine @ (cols, rows)
        if grid.crs != crs:
            flat = transform(grid.crs, crs, xs.ravel(), ys.ravel())
            xs, ys = (np.reshape(v, xs.shape) for v in flat)
        return ((xs - 500000) + 2 * (ys - 5600000)).astype(np.float32)[None]

    @pytest.mark.parametrize(("crs", "transform"), [
        ("EPSG:32631", Affine(20, 0, 499900, 0, -20, 5600100)),          # coarser
        ("EPSG:32631", Affine(10, 0, 499903, 0, -10, 5600104)),          # shifted
        ("EPSG:32631", Affine(10, 0, 499900, 0, 10, 5598900)),           # south-up
        ("EPSG:32631", Affine(8, 4, 499600, 4, -8, 5600200)),            # rotated
        ("EPSG:32631", Affine(3, 0, 499903, 0, -3, 5600104)),            # finer: means
        ("EPSG:4326", Affine(1e-4, 0, 2.995, 0, -1e-4, 50.556)),         # degrees
        ("EPSG:32632", Affine(10, 0, 74000, 0, -10, 5619000)),           # next zone
        ("EPSG:3857", Affine(15, 0, 333000, 0, -15, 6545000)),
    ])
    def test_a_plane_stays_a_plane(self, crs, transform):
        target = Grid(WKT, tuple(UTM)[:6], (40, 50))
        source = Grid(CRS.from_user_input(crs).to_wkt(), tuple(transform)[:6], (600, 600))
        where = place(target, source)
        values = self.plane(source, target.crs)[(slice(None), *where.window.slices)]
        result = resample(values, where)
        pixel = source.pixel_size * (111320 if crs == "EPSG:4326" else 1)
        assert np.isfinite(result).all()
        np.testing.assert_allclose(result, self.plane(target, target.crs), atol=0.05 * pixel)

    def test_bilinear_is_what_gdal_does(self):
        source = Grid(WKT, (20, 0, 500005, 0, -20, 5600007), (40, 40))
        target = Grid(WKT, (10, 0, 500100, 0, -10, 5599900), (50, 50))
        values = np.random.default_rng(0).random((2, 40, 40)).astype(np.float32)
        expected = np.full((2, 50, 50), np.nan, np.float32)
        reproject(values, expected, src_transform=source.affine, src_crs=source.crs,
                  dst_transform=target.affine, dst_crs=target.crs,
                  resampling=Resampling.bilinear, src_nodata=np.nan, dst_nodata=np.nan)
        where = place(target, source)
        result = resample(values[(slice(None), *where.window.slices)], where)
        np.testing.assert_allclose(result, expected, atol=1e-5)

    def test_missing_pixels_neither_bleed_nor_grow(self):
        source = Grid(WKT, (20, 0, 500000, 0, -20, 5600000), (10, 10))
        target = Grid(WKT, (10, 0, 500000, 0, -10, 5600000), (20, 20))
        values = np.full((1, 10, 10), 5, np.float32)
        values[0, :, 5:] = np.nan
        where = place(target, source)
        result = resample(values[(slice(None), *where.window.slices)], where)[0]
        assert (result[:, :10] == 5).all() and np.isnan(result[:, 10:]).all()

    def test_codes_are_never_mixed(self):
        source = Grid(WKT, (20, 0, 500003, 0, -20, 5600005), (30, 30))
        target = Grid(WKT, (10, 0, 500100, 0, -10, 5599900), (40, 40))
        codes = np.random.default_rng(0).choice([3, 8], (1, 30, 30)).astype(np.float32)
        where = place(target, source)
        result = resample(codes[(slice(None), *where.window.slices)], where, nearest=True)
        assert set(np.unique(result)) == {3, 8}

    def test_outside_is_missing(self):
        source = Grid(WKT, (10, 0, 500004, 0, -10, 5600004), (10, 10))
        target = Grid(WKT, (10, 0, 499950, 0, -10, 5600050), (20, 20))
        where = place(target, source)
        result = resample(np.ones((1, 10, 10), np.float32), where)[0]
        assert np.isfinite(result).sum() == 100
        assert place(Grid(WKT, (10, 0, 900000, 0, -10, 5600004), (5, 5)), source) is None

    def test_scenes_of_another_crs_agree_with_gdal_within_the_stack(self, tmp_path):
        fine = write(tmp_path / "s2_2024-06-15.tif", stored((4, 64, 64)))
        smooth = np.add.outer(np.arange(80.0), np.arange(80.0)) * 20 + 500
        degrees = Affine(1.5e-4, 0, 2.999, 0, -1e-4, 50.5525)
        write(tmp_path / "s2_2024-07-15.tif", np.tile(smooth, (4, 1, 1)).astype("uint16"),
              crs="EPSG:4326", transform=degrees, nodata=0)
        stack = build_stack([tmp_path])
        with rasterio.open(fine) as dataset:
            assert stack.grid.matches(Grid.of(dataset))
        series = read(stack).series["sentinel-2"]
        expected = np.full((64, 64), np.nan, np.float32)
        reproject(smooth.astype(np.float32), expected, src_transform=degrees, src_crs="EPSG:4326",
                  dst_transform=UTM, dst_crs="EPSG:32631", resampling=Resampling.bilinear,
                  dst_nodata=np.nan, tolerance=0.0)
        both = series.valid[1] & np.isfinite(expected)
        assert both.mean() > 0.9
        np.testing.assert_allclose(series.values[1, 0][both] * 1e4, expected[both], atol=3)


@given(st.integers(-50, 50), st.integers(-50, 50), st.floats(0.02, 0.98))
def test_lattice_shift_is_exact_or_none(row, col, part):
    grid = Grid(WKT, tuple(UTM)[:6], (30, 40))
    moved = Grid(WKT, tuple(UTM @ Affine.translation(col, row))[:6], (10, 12))
    assert lattice_shift(moved, grid) == (row, col)
    between = Grid(WKT, tuple(UTM @ Affine.translation(col + part, row))[:6], (10, 12))
    assert lattice_shift(between, grid) is None
    assert lattice_shift(Grid(WKT, tuple(UTM @ Affine.scale(2))[:6], (4, 4)), grid) is None


class TestDamage:
    def stack(self, folder):
        write(folder / "s2_2024-06-15.tif", stored((4, 512, 512)), tiled=True, blockxsize=128,
              blockysize=128, compress="deflate")
        return build_stack([folder]), folder / "s2_2024-06-15.tif"

    def test_a_file_cut_short_is_named(self, tmp_path):
        stack, path = self.stack(tmp_path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError, match="`s2_2024-06-15.tif` is damaged or cut short"):
            read(stack)

    def test_a_file_cut_short_before_building_is_named(self, tmp_path):
        _, path = self.stack(tmp_path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError, match="`s2_2024-06-15.tif`"):
            read(build_stack([tmp_path]))

    def test_a_file_that_went_away_is_named(self, tmp_path):
        stack, path = self.stack(tmp_path)
        path.unlink()
        with pytest.raises(UserError, match="`s2_2024-06-15.tif` is not in"):
            read(stack)

    def test_a_file_with_fewer_bands_than_before_is_named(self, tmp_path):
        stack, path = self.stack(tmp_path)
        path.unlink()
        write(path, stored((1, 512, 512)))
        with pytest.raises(UserError, match="`s2_2024-06-15.tif` is damaged"):
            read(stack)
