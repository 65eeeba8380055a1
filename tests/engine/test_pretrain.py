"""Windows of stacks for training, and the job's refusals; the loop itself needs torch."""

import importlib.util

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.rasters.grid import Window
from earthprint.engine.stacks.stack import build_stack
from earthprint.engine.tasks import pretrain as pretrain_task
from earthprint.engine.tasks.pretrain import Source, Windows
from earthprint.models.cards import Card, SensorBands, TrainingSet

BANDS = ("B02", "B03", "B04", "B08")
COMMON = ("blue", "green", "red", "nir")
SIDE = 8


def scene(folder, date, shape=(30, 40)):
    """A scene whose red names the pixel: row in thousandths, column in millionths."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    data = np.stack([0 * rows + 500, 0 * rows + 700, 100 * rows + cols + 1, 0 * rows + 3000])
    path = folder / f"S2A_MSIL2A_{date}T105031_N0208_R051_T31UFS.tif"
    with rasterio.open(path, "w", driver="GTiff", width=shape[1], height=shape[0], count=4,
                       dtype="uint16", nodata=0, crs="EPSG:32631",
                       transform=Affine(10, 0, 5e5, 0, -10, 5.6e6)) as out:
        out.write(data.astype(np.uint16))
        for band, name in enumerate(BANDS, 1):
            out.set_band_description(band, name)
    return path


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "season"
    folder.mkdir()
    for date in ("20200401", "20200801"):
        scene(folder, date)
    stack = build_stack([folder])
    return Source(stack, TrainingSet("season", "CC0-1.0", "this test"))


def card(system="fast", sensors=(("sentinel-2", COMMON),), window=SIDE):
    entries = tuple(SensorBands(s, b, "reflectance 0..1", False, "") for s, b in sensors)
    return Card(
        "test", "1.0", system, "", "", "", entries, "", "patch", 4, 10.0, 8, (), "", "", (), (), (),
        window=window)


def places(cube):
    red = cube.series["sentinel-2"].values[0, COMMON.index("red")] * 10000
    return np.round(red - 1).astype(int)


def test_windows_are_squares_of_the_scene_at_any_place_and_turn(source):
    with Windows([source], card(), 100) as windows:
        corners, turns = set(), set()
        for seed in range(60):
            cube = windows(np.random.default_rng(seed))
            assert cube.shape == (SIDE, SIDE) and cube.series["sentinel-2"].values.shape[0] == 2
            found = places(cube)
            corners.add(found.min())
            turns.add((found[0, 1] - found[0, 0], found[1, 0] - found[0, 0]))
            again = windows(np.random.default_rng(seed))
            assert np.array_equal(found, places(again))
    assert len(corners) > 30 and len(turns) == 8


def test_pixels_outside_a_region_are_never_drawn(source):
    region = Window(2, 5, 20, 12)
    part = Source(source.stack, source.described, region=region)
    with Windows([part], card(), 100) as windows:
        for seed in range(50):
            found = places(windows(np.random.default_rng(seed)))
            rows, cols = found // 100, found % 100
            assert rows.min() >= 2 and rows.max() < 22 and cols.min() >= 5 and cols.max() < 17


def test_what_does_not_fit_into_memory_is_read_window_by_window(source):
    with Windows([source], card(), 100) as kept, Windows([source], card(), 0) as read:
        for seed in range(10):
            a, b = kept(np.random.default_rng(seed)), read(np.random.default_rng(seed))
            for name in a.series:
                assert np.array_equal(a.series[name].values, b.series[name].values)
                assert np.array_equal(a.series[name].valid, b.series[name].valid)


def test_a_raster_smaller_than_a_window_is_padded_as_invalid(source):
    with Windows([source], card(window=32), 100) as windows:
        cube = windows(np.random.default_rng(0))
    assert cube.shape == (32, 32)
    assert cube.series["sentinel-2"].valid[0].sum() == 30 * 32


def test_a_band_may_stand_in_for_another(source):
    sensors = (("sentinel-2", (*COMMON, "nir08")),)
    part = Source(source.stack, source.described, stand_ins={"nir08": "nir"})
    assert part.sensors(card(sensors=sensors))["sentinel-2"][-1] == "nir08"
    with Windows([part], card(sensors=sensors), 100) as windows:
        series = windows(np.random.default_rng(0)).series["sentinel-2"]
    nir, stand_in = (series.values[:, series.bands.index(b)] for b in ("nir", "nir08"))
    assert np.array_equal(nir, stand_in)


def test_what_an_encoder_cannot_read_is_left_out_or_refused(source):
    radar = card("maestro", (("sentinel-1", ("vv", "vh")),))
    with pytest.raises(UserError, match="season: MAESTRO needs"):
        Windows([source], radar, 100)


def test_weights_say_how_often_a_source_is_drawn(source):
    left = Source(source.stack, source.described, 3, Window(0, 0, 30, 10))
    right = Source(source.stack, source.described, 1, Window(0, 20, 30, 20))
    with Windows([left, right], card(), 100) as windows:
        cols = [places(windows(np.random.default_rng(s))).min() % 100 for s in range(200)]
        (chance, of_left), _ = windows.places
        assert chance == 0.75 and places(of_left(np.random.default_rng(0))).min() % 100 < 10
    assert 0.6 < np.mean(np.array(cols) < 10) < 0.9


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is here")
def test_without_torch_the_job_says_what_to_do(source, tmp_path):
    stack = source.stack.save(tmp_path / "in.stack.json")
    with pytest.raises(UserError, match="needs PyTorch"):
        jobs.run("pretrain", {"input": [str(stack.path)], "output": str(tmp_path / "e.onnx"),
                              "system": "maestro"}, JobContext())


def test_a_name_that_is_taken_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_task, "training", lambda: None)
    stack = source.stack.save(tmp_path / "in.stack.json")
    (tmp_path / "e.onnx").write_bytes(b"somebody's")
    with pytest.raises(UserError, match="e.onnx in .* already. .*tick Replace"):
        jobs.run("pretrain", {"input": [str(stack.path)], "output": str(tmp_path / "e.onnx"),
                              "system": "maestro"}, JobContext())
    assert (tmp_path / "e.onnx").read_bytes() == b"somebody's"


def test_each_stack_is_a_place_and_single_rasters_are_one(tmp_path):
    stacks = [str(tmp_path / name) for name in ("a.stack.json", "b.stack.json")]
    rasters = [str(tmp_path / name) for name in ("x.tif", "y.tif")]
    names = [[p.name for p in place] for place in pretrain_task._places(
        [stacks[0], rasters[0], str(tmp_path), stacks[1], rasters[1]])]
    assert names == [["a.stack.json"], [tmp_path.name], ["b.stack.json"], ["x.tif", "y.tif"]]


def test_a_training_tells_the_time_left(monkeypatch):
    said, clock = [], iter([100.0, 111.0, 400.0])
    monkeypatch.setattr(pretrain_task.time, "monotonic", lambda: next(clock))
    watch = pretrain_task._with_time_left(JobContext(on_progress=lambda f, text: said.append(text)))
    for fraction in (0.5, 0.55, 0.75):
        watch(fraction, "step 1")
    assert said == ["Training 50 %, step 1", "Training 55 %, step 1, 2 min left",
                    "Training 75 %, step 1, 5 min left"]
