"""GDAL's cache of blocks, scratch files and outlines: what jobs over whole rasters share."""

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.env import get_gdal_config
from rasterio.transform import Affine
from scipy.ndimage import label

from earthprint.engine import jobs
from earthprint.engine.block_cache import block_cache
from earthprint.engine.context import JobContext
from earthprint.engine.rasters.grid import Grid, Window
from earthprint.engine.rasters.margins import grown
from earthprint.engine.rasters.outlines import write_polygons
from earthprint.engine.rasters.patches import PatchFinder
from earthprint.engine.rasters.scratch import Scratch
from earthprint.engine.rasters.vector import VectorFile

UTM = CRS.from_epsg(32631).to_wkt()
BANDS = ("B2", "B3", "B4", "B8")


def limit():
    return int(get_gdal_config("GDAL_CACHEMAX"))


@pytest.mark.parametrize("memory_mb", (1, 100, 1000, 64_000))
def test_the_cache_is_a_share_of_the_budget_and_never_grows(memory_mb):
    before = limit()
    with block_cache(memory_mb):
        assert limit() <= min(before, 128e6) and limit() <= max(memory_mb * 1e6 / 8, 16e6)
    assert limit() == before


def write(path, seed, changed):
    rng = np.random.default_rng(seed)
    values = rng.normal(3000, 30, (len(BANDS), 300, 300))
    values[:, 40:90, 40:90] += 1500 * changed
    with rasterio.open(path, "w", driver="GTiff", width=300, height=300, count=len(BANDS),
                       dtype="uint16", crs=CRS.from_wkt(UTM), nodata=0,
                       transform=Affine(10, 0, 5e5, 0, -10, 5.6e6)) as dataset:
        dataset.write(values.astype("uint16"))
        for k, band in enumerate(BANDS, 1):
            dataset.set_band_description(k, band)
    return str(path)


def test_a_small_budget_gives_the_same_files_within_a_small_cache(tmp_path):
    (tmp_path / "in").mkdir()
    given = {"before": [write(tmp_path / "in" / "S2A_20200601.tif", 0, False)],
             "after": [write(tmp_path / "in" / "S2A_20210601.tif", 1, True)]}
    before, limits, bands = limit(), [], []
    for memory_mb in (8, 4000):
        path = tmp_path / f"{memory_mb}.tif"
        jobs.run("change_detection", {
            **given, "output": str(path), "confidence": str(path.with_suffix(".c.tif")),
            "distance": str(path.with_suffix(".d.tif")), "memory_mb": memory_mb},
            JobContext(on_progress=lambda *_: limits.append(limit())))
        for name in (path, path.with_suffix(".c.tif"), path.with_suffix(".d.tif")):
            with rasterio.open(name) as dataset:
                bands.append(dataset.read(1))
    assert set(limits) == {16_000_000, min(before, 128_000_000)} and limit() == before
    assert (bands[0] == 1).sum() > 2000
    assert all((one == other).all() for one, other in zip(bands[:3], bands[3:], strict=True))


def test_scratch_gives_back_what_was_written(tmp_path):
    grid = Grid(UTM, (10, 0, 5e5, 0, -10, 5.6e6), (70, 50))
    values = np.arange(3500, dtype=np.int32).reshape(grid.shape)
    with Scratch.create(tmp_path / "s.tif", grid, "int32") as scratch:
        for window in grid.blocks(32, 50):
            scratch.write(window, values[window.slices])
    with Scratch.open(tmp_path / "s.tif") as scratch:
        assert scratch.grid.matches(grid)
        window = Window(20, 10, 30, 40)
        assert (scratch.read(window) == values[window.slices]).all()


def test_outlines_cover_their_patches_with_their_holes(tmp_path):
    marked = np.random.default_rng(0).random((60, 80)) < 0.6
    marked[10:20, 10:20], marked[14:16, 14:16] = True, False
    grid = Grid(UTM, (10, 0, 5e5, 0, -10, 5.6e6), marked.shape)
    finder = PatchFinder(grid)
    numbers = finder.add(0, marked, np.ones(marked.shape))
    patches = finder.patches(0)
    with Scratch.create(tmp_path / "kept.tif", grid, "int32") as kept:
        kept.write(grid.full, patches.number[numbers])
    with VectorFile(tmp_path / "p.gpkg") as file:
        write_polygons(file, tmp_path / "kept.tif", patches, "mean")
    polygons = shapely.from_wkb(pyogrio.raw.read(tmp_path / "p.gpkg")[2])
    whole, count = label(marked)
    assert len(polygons) == count and shapely.is_valid(polygons).all()
    assert sorted(shapely.area(polygons)) == sorted(100.0 * np.bincount(whole[marked])[1:])
    assert any(len(polygon.interiors) for polygon in polygons)


def test_a_margin_ends_at_the_limit():
    limit = Window(10, 20, 100, 50)
    wide, inner = grown(Window(10, 30, 20, 40), 7, limit)
    assert wide == Window(10, 23, 27, 47)
    values = np.arange(150 * 90).reshape(150, 90)
    assert (values[wide.slices][inner] == values[10:30, 30:70]).all()
