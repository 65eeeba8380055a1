"""Why pixels of a map are empty: on scenes whose every corner is empty for a reason of its own."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from earthprint.engine.context import JobContext
from earthprint.engine.heads import reasons
from earthprint.engine.heads.inputs import Inputs
from earthprint.engine.heads.layout import FeatureLayout, SensorSeries
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.rasters.raster import RasterWriter
from earthprint.engine.stacks.masks import RULES, filled, valid
from earthprint.engine.stacks.reading import StackReader
from earthprint.engine.stacks.stack import build_stack

UTM = Affine(10, 0, 500000, 0, -10, 5600000)
BANDS = ("B02", "B03", "B04", "B08")
LAYOUT = FeatureLayout("bands", series=(
    SensorSeries("sentinel-2", ("blue", "green", "red", "nir"), 24),))


def write(path, values, names, transform=UTM):
    values = np.asarray(values)
    with rasterio.open(path, "w", driver="GTiff", count=len(values), height=values.shape[1],
                       width=values.shape[2], dtype=values.dtype, crs="EPSG:32631",
                       transform=transform) as dataset:
        dataset.write(values)
        dataset.descriptions = names


@pytest.fixture
def season(tmp_path):
    """Two dates of 40 x 40 pixels; 10 x 10 of them are empty, each corner for its own reason.

    Top left: cloud on both dates. Top right: nodata on both. Bottom left: one band is missing
    whenever the others are there. Bottom right: the file ends. A last corner is cloudy only once.
    """
    folder = tmp_path / "scenes"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for day in ("2024-05-01", "2024-06-01"):
        values = rng.integers(300, 4000, (4, 40, 40)).astype("uint16")
        scl = np.full((1, 40, 40), 4, "uint8")
        scl[0, :10, :10] = 9 if day < "2024-06" else 3
        values[:, :10, 30:] = 0
        values[3 if day < "2024-06" else 0, 30:, :10] = 0
        scl[0, 20:25, 20:25] = 9 if day < "2024-06" else 4
        write(folder / f"s2_{day}.tif", values, BANDS)
        write(folder / f"s2_{day}_SCL.tif", scl, ("SCL",))
    return folder


def mapped(folder, path, margin=0):
    """A map of the stack with an answer wherever a pixel is clear; its grid reaches beyond."""
    stack = build_stack([folder])
    with StackReader(stack) as reader:
        seen = reader.read(stack.grid.full).series["sentinel-2"].valid.any(0)
    with RasterWriter(path, stack.grid, "uint8", 255) as out:
        out.write(stack.grid.full, np.where(seen, 1, 255).astype(np.uint8))
    return Inputs(stack, None, None, None, "season")


def values(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_each_empty_corner_has_its_reason(season, tmp_path):
    inputs = mapped(season, tmp_path / "map.tif")
    shares = reasons.write_reasons(tmp_path / "why.tif", tmp_path / "map.tif", inputs, LAYOUT,
                                   JobContext(folder=tmp_path, threads=2))
    why = values(tmp_path / "why.tif")
    assert (why[:10, :10] == reasons.CLOUD).all() and (why[:10, 30:] == reasons.NO_DATA).all()
    assert (why[30:, :10] == reasons.MISSING).all() and (why[10:30, 10:] == 0).all()
    assert ((why == 0) == (values(tmp_path / "map.tif") == 1)).all()
    assert shares == pytest.approx({
        "Cloud or shadow on every date": 1 / 16, "No data on any date": 1 / 16,
        "A needed band or sensor is missing": 1 / 16})
    with rasterio.open(tmp_path / "why.tif") as dataset:
        assert dataset.nodata == 255 and dataset.colormap(1)[3][:3] == (0x56, 0xb4, 0xe9)


def test_places_outside_all_rasters_are_named(season, tmp_path):
    write(season / "s2_2024-07-01.tif", np.full((4, 10, 60), 900, "uint16"), BANDS)
    inputs = mapped(season, tmp_path / "map.tif")
    assert inputs.stack.grid.shape == (40, 60)
    reasons.write_reasons(tmp_path / "why.tif", tmp_path / "map.tif", inputs, LAYOUT, JobContext())
    why = values(tmp_path / "why.tif")
    assert (why[10:, 40:] == reasons.OUTSIDE).all() and (why[:10] == 0).all()


def test_only_sensors_and_bands_of_the_head_count(season, tmp_path):
    write(season / "s1_2024-05-03.tif", np.full((2, 40, 40), -12, "float32"), ("VV", "VH"))
    inputs = mapped(season, tmp_path / "map.tif")
    three = FeatureLayout("bands", series=(SensorSeries("sentinel-2", ("green", "red"), 24),))
    reasons.write_reasons(tmp_path / "why.tif", tmp_path / "map.tif", inputs, three, JobContext())
    assert (values(tmp_path / "why.tif")[:10, :10] == reasons.CLOUD).all()
    both = FeatureLayout("bands", series=(
        SensorSeries("sentinel-1", ("vv", "vh"), 24), *three.series))
    reasons.write_reasons(tmp_path / "why.tif", tmp_path / "map.tif", inputs, both, JobContext())
    assert (values(tmp_path / "why.tif")[:10, :10] == reasons.MISSING).all()


def test_withheld_answers_and_bare_embeddings(season, tmp_path):
    inputs = mapped(season, tmp_path / "map.tif")
    grid = inputs.stack.grid
    answers = np.full(grid.shape, 1, np.uint8)
    answers[15, 15], answers[0, 0] = 254, 255
    with RasterWriter(tmp_path / "map.tif", grid, "uint8", 255) as out:
        out.write(grid.full, answers)
    for withheld, value in ((True, reasons.UNLIKE), (False, reasons.ANSWERED)):
        reasons.write_reasons(tmp_path / "why.tif", tmp_path / "map.tif", inputs, LAYOUT,
                              JobContext(), withheld=withheld)
        assert values(tmp_path / "why.tif")[15, 15] == value
    only = Inputs(None, tmp_path / "embeddings.tif", None, None, "embeddings")
    reasons.write_reasons(tmp_path / "why.tif", tmp_path / "map.tif", only, LAYOUT, JobContext())
    assert values(tmp_path / "why.tif")[0, 0] == reasons.NO_EMBEDDING


def test_a_map_of_a_part_and_little_memory_give_the_same(season, tmp_path):
    inputs = mapped(season, tmp_path / "map.tif")
    whole = values(tmp_path / "map.tif")
    part = Grid.part(inputs.stack.grid, inputs.stack.grid.full.__class__(3, 5, 30, 33))
    with RasterWriter(tmp_path / "part.tif", part, "uint8", 255) as out:
        out.write(part.full, np.ascontiguousarray(whole[3:33, 5:38]))
    for memory in (2000, 0.1):
        reasons.write_reasons(tmp_path / "a.tif", tmp_path / "map.tif", inputs, LAYOUT,
                              JobContext(memory_mb=memory))
        reasons.write_reasons(tmp_path / "b.tif", tmp_path / "part.tif", inputs, LAYOUT,
                              JobContext(memory_mb=memory, threads=1))
        assert (values(tmp_path / "b.tif") == values(tmp_path / "a.tif")[3:33, 5:38]).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_sight_agrees_with_what_reading_says(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("sight")
    rng = np.random.default_rng(seed)
    for day in ("2024-05-01", "2024-06-01"):
        data = rng.integers(0, 3, (4, 12, 12)).astype("uint16") * 900
        write(folder / f"s2_{day}.tif", data, BANDS)
        write(folder / f"s2_{day}_SCL.tif", rng.choice([0, 4, 9], (1, 6, 6)).astype("uint8"),
              ("SCL",), UTM @ Affine.scale(2))
    stack = build_stack([folder])
    with StackReader(stack) as reader:
        sight = reader.sight(stack.grid.full)["sentinel-2"]
        series = reader.read(stack.grid.full).series["sentinel-2"]
    assert (sight.clear == series.valid.any(0)).all() and sight.inside.all()
    assert not (sight.clear & ~sight.whole).any() and not (sight.whole & ~sight.some).any()


@pytest.mark.parametrize("kind", sorted(RULES))
def test_what_a_mask_calls_fill_is_never_valid(kind):
    codes = np.arange(-1, 400)
    assert not (filled(kind, codes) & valid(kind, codes)).any()
    assert filled(kind, np.array([np.nan]))[0]
