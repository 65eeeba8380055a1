"""Heads of numbers: models against scikit-learn, known answers, and a map from end to end."""

import json

import numpy as np
import onnx
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.crs import CRS

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.heads import regressors
from earthprint.engine.heads.crossval import Folds, random_folds
from earthprint.engine.heads.head import Head
from earthprint.engine.heads.headfile import HeadFile
from earthprint.engine.heads.layout import FeatureLayout, SensorSeries
from earthprint.engine.heads.measurements import Measurements, holds_numbers, read_measurements
from earthprint.engine.heads.number_head import NumberHead, write_number_head
from earthprint.engine.heads.number_mapping import ramp_of
from earthprint.engine.heads.regression import (
    NumberScores,
    half_width,
    interval_of,
    train_numbers,
)
from earthprint.engine.heads.samples import Samples
from earthprint.engine.rasters.grid import Grid

GRID = Grid(CRS.from_epsg(32631).to_wkt(), (10, 0, 500000, 0, -10, 5600000), (400, 400))
LAYOUT = FeatureLayout("bands", series=(SensorSeries("sentinel-2", tuple("abcdef"), 1),))
SIDE = 96


def measured(seed=0, parcels=60, each=8):
    """Parcels whose pixels share an effect that the features know, and one that they do not."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(parcels), each)
    x = rng.normal(size=(parcels, 6))[groups] + 0.1 * rng.normal(size=(parcels * each, 6))
    y = 50 + 10 * x[:, 0] - 6 * x[:, 1] + 4 * rng.normal(size=parcels)[groups]
    rows = np.repeat(rng.integers(0, 390, parcels), each)
    cols = np.repeat(rng.integers(0, 390, parcels), each) + np.tile(np.arange(each), parcels)
    return x.astype(np.float32), Measurements(Samples(rows, cols, y, groups, 0, True), "moisture",
                                              "%", "parcels.gpkg")


@pytest.fixture(scope="module")
def trained():
    x, m = measured()
    said = []
    context = JobContext(on_log=lambda _, text: said.append(text), threads=1)
    return train_numbers(x, LAYOUT, m, GRID, context, kinds=("bands",), model="auto", seed=1), said


@pytest.mark.parametrize("model", regressors.MODELS)
def test_the_file_answers_like_the_trained_model(tmp_path, model, trained):
    x, m = measured(3)
    x[::9, 2] = np.nan
    fitted = regressors.fit(model, x, m.values, seed=0, threads=1)[-1]
    training = trained[0]
    path = tmp_path / "a.head.onnx"
    write_number_head(path, fitted, training.card({}, ""), training.gate, x)
    onnx.checker.check_model(onnx.load(path))
    head = NumberHead.of(HeadFile.open(path))
    new, _ = measured(4)
    new[::7, 1] = np.nan
    assert head.values(new) == pytest.approx(fitted.values(new), rel=1e-4)
    assert head.values(new[:0]).shape == (0,) and head.card == training.card({}, "")
    with pytest.raises(UserError, match=r"a.head.onnx maps numbers, not classes"):
        Head.open(path)


def test_ridge_is_the_closed_form():
    x, m = measured()
    one = regressors.fit("ridge", x, m.values, seed=0, threads=1, penalties=(10.0,))[0]
    z = ((x - x.mean(0)) / x.std(0)).astype(float)
    w = np.linalg.solve(z.T @ z + 10 * np.eye(6), z.T @ (m.values - m.values.mean()))
    assert one.values(x) == pytest.approx(z @ w + m.values.mean(), rel=1e-4)


def test_scores_known_answers():
    s = NumberScores.of(np.array([1.0, 3.0, 5.0]), np.array([2.0, 3.0, 7.0]))
    assert (s.bias, s.mae, s.rmse) == pytest.approx((-1, 1, np.sqrt(5 / 3)))
    assert s.r2 == pytest.approx(1 - 5 / 14)  # mean 4, squares 4 + 1 + 9
    assert np.isnan(NumberScores.of(np.ones(3), np.ones(3)).r2)


def test_the_interval_holds_what_it_promises():
    assert half_width(np.arange(1.0, 10.0), 0.9) == 9  # the ceil(10 * 0.9)-th of nine
    assert half_width(np.arange(1.0, 100.0), 0.9) == 90
    rng = np.random.default_rng(0)
    true = rng.normal(size=20_000)
    folds = random_folds(np.zeros(20_000, np.int64), 5)
    i = interval_of(np.zeros(20_000), true, folds)
    assert i.half_width == pytest.approx(1.645, abs=0.03)
    assert i.coverage == pytest.approx(0.9, abs=0.01)
    worse = Folds((np.arange(20_000) >= 15_000).astype(np.int64), 2, folds.block, folds.places, 0)
    i = interval_of(np.zeros(20_000), np.where(worse.fold, 3 * true, true), worse)
    assert i.fold_coverage[0] > 0.99 and i.fold_coverage[1] < 0.5  # foreign ground is told


def test_training_tells_blocks_from_random_splits(trained):
    training, said = trained
    card = training.card({"labels": "parcels.gpkg"}, "")
    tried = {(t.kind, t.model) for t in training.trials}
    assert tried == {("bands", m) for m in ("ridge", "forest", "boosting", "joined")}
    by_model = {t.model: t.predicted for t in training.trials}
    assert by_model["joined"] == pytest.approx((by_model["forest"] + by_model["boosting"]) / 2)
    assert training.chosen.scores.rmse == min(t.scores.rmse for t in training.trials)
    assert training.chosen.model == "ridge" and 0.8 < training.chosen.scores.r2 < 0.95
    assert 0.8 < training.interval.coverage < 0.97
    assert card.validation["r2"] == round(training.chosen.scores.r2, 4)
    assert card.range == (training.measured.values.min(), training.measured.values.max())
    assert any("R2" in t and "random split" in t and "interval" in t for t in said)
    forest = train_numbers(measured()[0], LAYOUT, measured()[1], GRID, JobContext(threads=1),
                           kinds=("bands",), model="forest")
    assert forest.random.scores.rmse < 0.7 * forest.chosen.scores.rmse  # parcels known by heart


def test_noise_is_called_noise():
    x, m = measured()
    said = []
    context = JobContext(on_log=lambda level, text: said.append((level, text)), threads=1)
    noise = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    train_numbers(noise, LAYOUT, m, GRID, context, kinds=("bands",), model="logistic")
    assert any(level == "warning" and "no better than the mean" in text for level, text in said)
    with pytest.raises(UserError, match="mlp cannot learn numbers"):
        train_numbers(x, LAYOUT, m, GRID, context, kinds=("bands",), model="mlp")


def test_colours_fit_the_unit(trained):
    card = trained[0].card({}, "")
    ramp = ramp_of(card)
    assert (ramp.low, ramp.high) == card.middle and ramp.label.format(ramp.low).endswith(" %")
    assert card.title == "moisture (%)"


def write_points(path, x, y, values, name="yield"):
    pyogrio.raw.write(path, shapely.to_wkb(shapely.points(x, y)), [np.asarray(values)], [name],
                      geometry_type="Point", crs="EPSG:32631", driver="GPKG")


def test_fields_of_measurements_are_told_from_classes(tmp_path):
    rng = np.random.default_rng(0)
    x, y = 500000 + rng.uniform(0, 4000, 80), 5600000 - rng.uniform(0, 4000, 80)
    for values, expected in ((np.arange(80) % 5, False), (np.arange(80), True),
                             (np.arange(80) % 3 + 0.5, True), ((np.arange(80) % 3) * 1.0, False),
                             (np.array(["a", "b"] * 40, object), False)):
        write_points(tmp_path / "p.gpkg", x, y, values)
        assert holds_numbers(tmp_path / "p.gpkg", "yield", GRID, JobContext()) is expected
        (tmp_path / "p.gpkg").unlink()
    write_points(tmp_path / "p.gpkg", x[:5], y[:5], np.arange(5.0))
    with pytest.raises(UserError, match="known at 5 points; 20 are needed"):
        read_measurements(tmp_path / "p.gpkg", "yield", GRID, JobContext())
    write_points(tmp_path / "t.gpkg", x, y, np.array(["a"] * 80, object))
    with pytest.raises(UserError, match="holds no numbers"):
        read_measurements(tmp_path / "t.gpkg", "yield", GRID, JobContext())
    write_points(tmp_path / "same.gpkg", x, y, np.full(80, 2.5))
    with pytest.raises(UserError, match="2.5 everywhere"):
        read_measurements(tmp_path / "same.gpkg", "yield", GRID, JobContext())


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """One undated scene whose bands tell the yield, smooth over ground; points on it."""
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(1)
    rows, cols = np.mgrid[:SIDE, :SIDE] / SIDE
    green = 0.5 + 0.4 * np.sin(7 * rows) * np.cos(9 * cols) + 0.02 * rng.normal(size=(SIDE, SIDE))
    dry = 0.5 + 0.3 * np.cos(11 * rows + 5 * cols)
    truth = 2 + 6 * green - 3 * dry
    bands = np.stack([0.03 + 0.05 * dry, 0.05 + 0.04 * green, 0.04 + 0.1 * (1 - green),
                      0.1 + 0.4 * green])
    bands[:, :4, :4] = 0
    path = folder / "scene.tif"
    with rasterio.open(path, "w", driver="GTiff", width=SIDE, height=SIDE, count=4,
                       dtype="uint16", nodata=0, crs="EPSG:32631",
                       transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5.6e6)) as out:
        out.write((bands * 10000).astype(np.uint16))
        for band, name in enumerate(("B02", "B03", "B04", "B08"), 1):
            out.set_band_description(band, name)
    r, c = rng.integers(0, SIDE, (2, 150))
    write_points(folder / "points.gpkg", 5e5 + 10 * (c + 0.5), 5.6e6 - 10 * (r + 0.5),
                 truth[r, c] + 0.1 * rng.normal(size=150))
    stack = folder / "scene.stack.json"
    jobs.run("build_stack", {"sources": [str(path)], "sensor": "sentinel-2",
                             "output": str(stack)}, JobContext())
    return folder, stack, truth


def test_from_points_to_a_map_of_numbers(scene, tmp_path):
    folder, stack, truth = scene
    said = []
    context = JobContext(on_log=lambda _, text: said.append(text), threads=2)
    head, page = tmp_path / "yield.head.onnx", tmp_path / "report.html"
    made = jobs.run("train_head", {
        "input": [str(stack)], "labels": str(folder / "points.gpkg"), "field": "yield",
        "unit": "t/ha", "features": "bands", "model": "auto", "output": str(head),
        "report": str(page)}, context)
    assert made["scores"]["r2"] > 0.8 and 0.75 < made["scores"]["interval_coverage"] <= 1
    assert any("learnt as numbers" in t for t in said)
    text = page.read_text()
    for words in ("R²", "RMSE", "t/ha", "random split", "± ", "Predicted against measured"):
        assert words in text
    mapped = jobs.run("apply_head", {
        "input": [str(stack)], "head": str(head), "output": str(tmp_path / "yield.tif"),
        "unlike": str(tmp_path / "unlike.tif")}, context)
    with rasterio.open(mapped["output"]) as dataset:
        values = dataset.read(1)
        assert dataset.dtypes == ("float32",) and dataset.descriptions == ("yield (t/ha)",)
        assert dataset.tags()["EARTHPRINT_UNIT"] == "t/ha" and dataset.overviews(1) == []
    assert np.isnan(values[:4, :4]).all() and np.isfinite(values[5:, 5:]).all()
    inside = np.abs(values - truth)[5:, 5:] <= made["scores"]["rmse"] * 3
    assert inside.mean() > 0.95
    assert "t/ha" in (tmp_path / "yield.qml").read_text()
    assert mapped["numbers"]["mean"] == pytest.approx(np.nanmean(values), rel=1e-3)
    assert json.loads(HeadFile.open(head).metadata["earthprint_card"])["unit"] == "t/ha"


def test_numbers_are_refused_where_classes_are_meant(scene, tmp_path):
    folder, stack, _ = scene
    given = {"input": [str(stack)], "labels": str(folder / "points.gpkg"), "field": "yield",
             "features": "bands", "model": "ridge", "output": str(tmp_path / "h.head.onnx")}
    with pytest.raises(UserError, match="There is no target mood"):
        jobs.run("train_head", {**given, "target": "mood"}, JobContext())
    jobs.run("train_head", given, JobContext(threads=1))
    with pytest.raises(UserError, match="an interval and no confidence"):
        jobs.run("apply_head", {"input": [str(stack)], "head": given["output"],
                                "output": str(tmp_path / "m.tif"),
                                "confidence": str(tmp_path / "c.tif")}, JobContext())
    with pytest.raises(UserError, match="maps numbers, not classes. Use Apply head"):
        jobs.run("crop_classification", {"input": [str(stack)], "head": given["output"],
                                         "output": str(tmp_path / "m.tif")}, JobContext())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["h.head.onnx"]
