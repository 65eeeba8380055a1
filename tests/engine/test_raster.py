"""Maps carry their colours, names and style, and appear only when complete."""

from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.errors import RasterioIOError

from earthprint.engine.errors import UserError
from earthprint.engine.rasters.grid import Grid, Window
from earthprint.engine.rasters.legend import Legend
from earthprint.engine.rasters.raster import RasterWriter

GRID = Grid(CRS.from_epsg(32631).to_wkt(), (10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6), (600, 500))
LEGEND = Legend.of_records([
    {"value": 1, "name": "wheat & rye", "color": "#a57000"},
    {"value": 4, "name": "grass <cut>", "color": "#00aa55"}])


def test_a_class_map_carries_colours_names_and_table(tmp_path):
    path = tmp_path / "map.tif"
    values = np.random.default_rng(0).choice([1, 4, 255], GRID.shape).astype(np.uint8)
    with RasterWriter(path, GRID, "uint8", 255, legend=LEGEND,
                      tags={"MADE_BY": "test"}) as out:
        for block in GRID.blocks(256, 512):
            out.write(block, values[block.slices])
    with rasterio.open(path) as dataset:
        assert (dataset.read(1) == values).all() and dataset.nodata == 255
        assert dataset.colormap(1)[4] == (0, 170, 85, 255)
        assert dataset.tags()["MADE_BY"] == "test"
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1)
    aux = (tmp_path / "map.tif.aux.xml").read_text()
    assert "<Category>wheat &amp; rye</Category>" in aux and "<F>grass &lt;cut&gt;</F>" in aux
    qml = (tmp_path / "map.qml").read_text()
    assert 'value="4" color="#00aa55"' in qml
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.qml", "map.tif", "map.tif.aux.xml"]


def test_a_map_that_fails_midway_is_not_there(tmp_path):
    with pytest.raises(ZeroDivisionError), RasterWriter(
            tmp_path / "map.tif", GRID, "float32", -1) as out:
        out.write(Window(0, 0, 10, 10), np.zeros((10, 10), np.float32))
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        RasterWriter(tmp_path / "no" / "map.tif", GRID, "uint8", 0)


def test_long_and_foreign_names(tmp_path):
    folder = tmp_path / ("Ñandú_" + "x" * 100) / ("農地_" + "y" * 60)
    folder.mkdir(parents=True)
    path = folder / "Äcker ☔.tif"
    with RasterWriter(path, GRID, "uint8", 255, legend=LEGEND) as out:
        out.write(Window(0, 0, 2, 2), np.ones((2, 2), np.uint8))
    with rasterio.open(path) as dataset:
        assert dataset.read(1)[0, 0] == 1


def test_a_full_disk_is_a_sentence_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(UserError, match=r"0\.1 MB free, 0\.6 MB are needed"):
        RasterWriter(tmp_path / "map.tif", GRID, "uint8", 255)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_meanwhile_is_a_sentence(tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise RasterioIOError("No space left on device")

    with pytest.raises(UserError, match=r"map\.tif could not be written .*No space left"), \
            RasterWriter(tmp_path / "map.tif", GRID, "uint8", 255) as out:
        out.write(Window(0, 0, 2, 2), np.ones((2, 2), np.uint8))
        monkeypatch.setattr("rasterio.shutil.copy", full)
    assert not list(tmp_path.iterdir())


def test_numbers_carry_their_unit(tmp_path):
    path = tmp_path / "yield.tif"
    with RasterWriter(path, GRID, "float32", float("nan"), overview="average", unit="t/ha",
                      descriptions=("yield (t/ha)",)) as out:
        out.write(GRID.full, np.full(GRID.shape, 7.5, np.float32))
    with rasterio.open(path) as dataset:
        assert dataset.units == ("t/ha",) and dataset.descriptions == ("yield (t/ha)",)
        assert dataset.overviews(1)
