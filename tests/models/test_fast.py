"""The default encoder: what its adapter makes of every kind of stack, and what comes out."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from earthprint.models import catalogue
from earthprint.models.cards import read_card
from earthprint.models.cube import Cube, Series
from earthprint.models.fast import adapter
from earthprint.models.fast.network import Encoder, Fast, soft_axes
from earthprint.models.fast.objective import Objective, barlow_twins
from earthprint.models.training import distill, export, pool, tasks, teachers
from earthprint.models.training.probe import few, neighbours, table
from earthprint.models.training.tasks import cube_of

S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
      "swir22")  # fmt: skip
SHAPE = (5, 7)
FLAGS = slice(len(adapter.BANDS), None)


def series(sensor, bands, count=12, seed=0, clear=0.7):
    rng = np.random.default_rng(seed)
    dates = np.datetime64("2022-01-04") + np.sort(rng.choice(360, count, replace=False))
    scale = -20.0 if sensor == "sentinel-1" else 0.4
    values = (scale * rng.random((count, len(bands), *SHAPE))).astype(np.float32)
    valid = rng.random((count, *SHAPE)) < clear
    return Series(sensor, bands, dates, values, valid, ("",) * count)


def cube(*parts):
    return Cube(SHAPE, {part.sensor: part for part in parts})


def encode(session, given, size=16):
    """Window to (pixels, embeddings, grids)."""
    pixels, vectors, grids = [], [], []
    for batch in adapter.batches(given, size):
        assert len(batch.pixels) <= size
        pixels.append(batch.pixels)
        grids.append(batch.inputs["grid"])
        vectors.append(session.run(["embedding"], batch.inputs)[0])
    return np.concatenate(pixels), np.concatenate(vectors), np.concatenate(grids)


@pytest.fixture(scope="module")
def session():
    return onnxruntime.InferenceSession(
        str(catalogue.bundled()["fast"]), providers=["CPUExecutionProvider"]
    )


STACKS = {
    "S1 and S2": (
        cube(series("sentinel-2", S2), series("sentinel-1", ("vv", "vh"), seed=1)), "1111111"),
    "S2 only": (cube(series("sentinel-2", S2)), "0111111"),
    "S1 only": (cube(series("sentinel-1", ("vv", "vh"))), "1000000"),
    "Landsat": (cube(series("landsat", ("blue", "green", "red", "nir08", "swir16", "swir22"))),
                "0101111"),
    "CBERS": (cube(series("cbers", ("blue", "green", "red", "nir"))), "0101001"),
    "aerial": (cube(series("aerial", ("red", "green", "blue", "nir"))), "0101001"),
    "MODIS": (cube(series("modis", ("blue", "red", "nir", "swir22"))), "0101011"),
    "false colour": (cube(series("optical", ("green", "red", "nir"))), "0001001"),
    "NDVI": (cube(series("modis", ("ndvi",))), "0000001"),
    "one date": (cube(series("sentinel-2", S2, count=1, clear=1.0)), "0111111"),
    "60 dates": (cube(series("sentinel-2", S2, count=60)), "0111111"),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_every_kind_of_stack(session, name):
    given, groups = STACKS[name]
    sensors = {sensor: part.bands for sensor, part in given.series.items()}
    assert adapter.missing(sensors) == []
    pixels, vectors, grids = encode(session, given)
    seen = np.any([part.valid.any(axis=0) for part in given.series.values()], axis=0)
    assert pixels.tolist() == np.flatnonzero(seen).tolist()
    assert vectors.shape == (len(pixels), 128) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    present = grids[:, :, FLAGS].any(axis=(0, 1))
    assert "".join("01"[int(p)] for p in present) == groups
    for slots, there in zip(adapter.SLOTS, present, strict=True):
        assert grids[:, :, list(slots)].any() == there


def test_batches_do_not_matter(session):
    given = STACKS["S1 and S2"][0]
    _, small, _ = encode(session, given, 3)
    _, large, _ = encode(session, given, 4096)
    np.testing.assert_allclose(small, large, atol=1e-5)


def test_clouds_do_not_matter(session):
    part = series("sentinel-2", S2)
    cloudy = replace(part, values=part.values.copy())  # the same scenes, nothing under the clouds
    hidden = ~part.valid[:, None].repeat(len(S2), axis=1)
    cloudy.values[hidden] = np.nan
    np.testing.assert_array_equal(encode(session, cube(part))[1], encode(session, cube(cloudy))[1])


def test_nothing_clear_is_nothing():
    part = series("sentinel-2", S2, clear=0.0)
    assert list(adapter.batches(cube(part), 16)) == []
    assert list(adapter.batches(Cube(SHAPE, {}), 16)) == []


def test_two_optical_sensors_are_merged():
    one, two = series("sentinel-2", S2, 3), series("landsat", ("red", "nir08"), 3, seed=5)
    grids = [encode_grid(cube(*parts)) for parts in ((one,), (two,), (one, two))]
    ndvi_flag = FLAGS.start + 6
    flags = [g[:, :, ndvi_flag] > 0 for g in grids]
    np.testing.assert_array_equal(flags[2], flags[0] | flags[1])
    rgb = FLAGS.start + 1
    np.testing.assert_array_equal(grids[2][:, :, rgb], grids[0][:, :, rgb])


def encode_grid(given):
    pixels = SHAPE[0] * SHAPE[1]
    out = np.zeros((pixels, 24, adapter.COLUMNS), np.float32)
    for batch in adapter.batches(given, 16):
        out[batch.pixels] = batch.inputs["grid"]
    return out


def test_known_values():
    date = np.array(["2022-05-20"], "datetime64[D]")
    values = np.array([0.1, 0.5], np.float32).reshape(1, 2, 1, 1)
    part = Series("optical", ("red", "nir"), date, values, np.ones((1, 1, 1), bool), ("",))
    (batch,) = adapter.batches(Cube((1, 1), {"optical": part}), 8)
    grid, ndvi = batch.inputs["grid"][0], adapter.BANDS.index("ndvi")
    expected = (0.4 / 0.6 - adapter.MEAN[ndvi]) / adapter.STD[ndvi]
    np.testing.assert_allclose(grid[:, ndvi], expected, rtol=1e-5)
    assert np.flatnonzero(grid[:, FLAGS].any(axis=1)).tolist() == [9]
    assert np.flatnonzero(grid[9, FLAGS]).tolist() == [3, 6]


@pytest.mark.parametrize(
    "sensors", [{}, {"sentinel-2": ("red", "green")}, {"sentinel-1": ("vv",)},
                {"landsat": ("lwir11",)}, {"sentinel-2": ("nir",), "landsat": ("red",)}],
)  # fmt: skip
def test_too_little_is_said_in_one_sentence(sensors):
    (sentence,) = adapter.missing(sensors)
    assert "red and near infrared" in sentence and sentence.endswith(".")


def test_months_for_the_teachers_are_means_of_the_observations():
    part = series("sentinel-2", S2, count=40)
    ((pixels, means),) = adapter.month_means(cube(part), 64)
    month = part.dates.astype("datetime64[M]").astype(int) % 12
    red = np.where(part.valid, part.values[:, 2], np.nan).reshape(40, -1)[:, pixels]
    for m in range(12):
        here = red[month == m]
        known = np.isfinite(here).any(axis=0)
        found = means[:, m, adapter.BANDS.index("red")]
        np.testing.assert_array_equal(np.isfinite(found), known)
        np.testing.assert_allclose(found[known], np.nanmean(here[:, known], axis=0), rtol=1e-5)


def test_folding_changes_nothing(tmp_path):
    torch.manual_seed(0)
    trunk = Fast(width=32, dimensions=16)
    grid = torch.randn(200, 24, adapter.COLUMNS)
    trunk(grid)  # gives the norms statistics
    trunk.eval()
    with torch.no_grad():
        mean, axes = soft_axes(trunk(grid))
        plain = torch.nn.functional.normalize((trunk(grid) - mean) @ axes.T, dim=1)
        folded = Encoder(trunk, mean, axes).eval()
        assert (folded(grid) - plain).abs().max() < 1e-4
    card = read_card(catalogue.bundled()["fast"])
    path = tmp_path / "tiny.onnx"
    written = export.export(folded, card, path, distill.AXES, distill.examples(grid))
    assert read_card(path) == written
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.onnx"]


def test_soft_axes_are_sorted_and_half_whitened():
    torch.manual_seed(0)
    features = torch.randn(5000, 6) * torch.tensor([9.0, 1, 4, 0.5, 2, 3]) + 7
    mean, axes = soft_axes(features)
    turned = (features - mean) @ axes.T
    spread = turned.std(dim=0)
    assert (spread.diff() < 0).all()
    np.testing.assert_allclose(spread[0] / spread[-1], np.sqrt(9 / 0.5), rtol=0.1)


def test_twins_want_equal_views_and_different_dimensions():
    torch.manual_seed(0)
    a = torch.randn(2000, 8)
    same = a[:, :1].expand(-1, 8)
    assert barlow_twins(a, a) < 0.01 < barlow_twins(same, same) < barlow_twins(a, a.roll(1, 0))


def test_the_objective_falls():
    torch.manual_seed(0)
    trunk, grid = Fast(width=32), torch.randn(64, 24, adapter.COLUMNS)
    objective = Objective({"teacher": 4}, {"teacher": 1.0}, 0.1)
    target = {"teacher": torch.randn(64, 4).repeat(2, 1)}
    optimiser = torch.optim.Adam([*trunk.parameters(), *objective.parameters()], 1e-3)
    totals = []
    for _ in range(30):
        parts = objective(trunk(grid), trunk(grid), target)
        optimiser.zero_grad()
        parts["total"].backward()
        optimiser.step()
        totals.append(float(parts["total"].detach()))
    assert totals[-1] < 0.7 * totals[0]


def rows(count=50):
    rng = np.random.default_rng(3)
    out = rng.random((count, 24, len(adapter.BANDS))).astype(np.float32)
    out[:, ::3] = np.nan
    return out


def test_views_keep_groups_whole_and_leave_something():
    rng = np.random.default_rng(0)
    for _ in range(5):
        view = pool.degrade(rows(), rng)
        assert np.isfinite(view).any(axis=(1, 2)).all()
        for slots in adapter.SLOTS:
            here = np.isfinite(view[:, :, list(slots)])
            assert (here.all(axis=2) == here.any(axis=2)).all()
        assert not np.isfinite(view[:, ::3]).any()


def test_training_inputs_equal_the_adapters():
    given = rows()
    expected = pool.network_input(given)
    found = np.concatenate([b.inputs["grid"] for b in adapter.batches(cube_of(given), 16)])
    same = [adapter.BANDS.index(b) for b in adapter.BANDS if b != "ndvi"]  # random here
    np.testing.assert_allclose(found[:, :, same], expected[:, :, same], atol=1e-4)


def test_no_test_side_is_in_the_pool(shared):
    assert set(pool.SOURCES) & {"canada", "global", "north", "mato-grosso", "para"} == set()
    assert sum(share for share, _ in pool.SOURCES.values()) == pytest.approx(1)


@torch.no_grad()
def test_teachers_take_any_groups(shared):
    given = pool.degrade(rows(20), np.random.default_rng(1))
    for teacher in (teachers.presto(), teachers.galileo()):
        features = teacher(*teachers.month_means(given))
        assert features.shape == (20, 128) and np.isfinite(features).all()


def test_blocks_keep_the_sides_apart():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 400)) * 10
    labels, blocks = rng.integers(0, 3, 400), tasks.squares(x, y, 1.0)
    for train, test in tasks.block_splits(labels, blocks):
        assert not set(blocks[train]) & set(blocks[test])
        assert set(labels[train]) == set(labels[test]) == {0, 1, 2}
        assert len(train) + len(test) == 400


def test_impossible_blocks_are_refused():
    with pytest.raises(ValueError, match="smaller blocks"):
        tasks.block_splits(np.array([0, 0, 1]), np.array([0, 1, 2]))


def test_neighbours_by_direction_after_centring():
    rng = np.random.default_rng(0)
    away, labels = np.full(5, 50.0), np.repeat([0, 1], 40)
    points = away + np.where(labels[:, None], 1.0, -1.0) * [1, 0, 0, 0, 0]
    points = points + 0.1 * rng.normal(size=points.shape)
    assert (neighbours(points, labels, away + [[3, 0, 0, 0, 0], [-9, 0, 0, 0, 0]]) == [1, 0]).all()


def test_few_labels_and_the_table():
    labels = np.repeat([0, 1, 2], [50, 5, 30])
    rows_of = few(labels, np.arange(85), 20, seed=0)
    assert np.bincount(labels[rows_of]).tolist() == [20, 5, 20]
    text = table({"A": {"LR x": [50.0, 60.0]}, "B": {"LR x": [65.0], "LR y": [10.0]}}, "T")
    assert "| A | 55.0±5 | - |" in text and "| **mean** | **60.0** | **10.0*** |" in text
