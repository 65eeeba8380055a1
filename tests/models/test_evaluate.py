import importlib.util
from pathlib import Path

import numpy as np
import pytest

from earthprint.engine.heads import classifiers
from earthprint.models.training import tasks
from earthprint.models.training.tasks import Task, cube_of


@pytest.fixture(scope="module")
def evaluate():
    path = Path(__file__).parents[2] / "tools" / "evaluate.py"
    spec = importlib.util.spec_from_file_location("evaluate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def task(n=60):
    rng = np.random.default_rng(0)
    rows = np.full((n, 24, 13), np.nan, np.float32)
    rows[:, ::2] = rng.random((n, 12, 13))
    labels = np.arange(n) % 3
    places = np.column_stack([np.arange(n) * 100.0, np.zeros(n)])
    split = (np.arange(n // 2), np.arange(n // 2, n))
    return Task("Somewhere 3, val", rows, tasks.series(rows), labels, np.arange(n) // 5, (split,),
                cube_of(rows), places, np.arange(n))


def test_a_cube_is_what_the_engine_reads():
    given = task()
    series = given.cube.series
    assert series["sentinel-1"].values.shape == (12, 2, 1, 60)
    assert "ndvi" not in series["sentinel-2"].bands  # it follows from red and near infrared
    assert series["sentinel-2"].values[3, 0, 0] == pytest.approx(given.rows[:, 6, 2])
    assert series["sentinel-1"].dates[1] == np.datetime64("2021-02-01")


def test_a_series_over_new_year_lies_on_the_days_of_one():
    dates = np.array(["2019-09-14", "2020-01-01", "2020-09-13"], "datetime64[D]")
    values = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    series = tasks._season("modis", ("ndvi",), values, dates).series["modis"]
    assert [str(d)[5:] for d in series.dates] == ["01-01", "09-14"]
    assert series.values[:, 0, 0].tolist() == [[1, 4], [2, 5]] and series.valid.all()


def test_halves_and_draws_come_from_the_training_side(evaluate):
    given = task()
    half, test = evaluate.drawn(given, "half", 1)
    assert len(half) == 15 and set(half) <= set(range(30)) and set(test) == set(range(30, 60))
    assert np.bincount(given.labels[half]).tolist() == [5, 5, 5]
    assert len(evaluate.drawn(given, "20 a class", 0)[0]) == 30  # no class has twenty


def test_places_keep_their_distances(evaluate):
    places = np.array([[0.0, 0.0], [250.0, 0.0], [250.0, 990.0]])
    grid, rows, cols = evaluate.placed(places)
    x, y = grid.affine @ (cols + 0.5, rows + 0.5)
    assert np.diff(x).tolist() == [250, 0] and np.diff(y).tolist() == [0, 990]
    assert rows.max() < grid.shape[0] and cols.max() < grid.shape[1]


def test_ours_is_trained_by_the_engine_and_judged(evaluate, monkeypatch):
    monkeypatch.setattr(classifiers, "TREES", 20)
    monkeypatch.setattr(classifiers, "RANDOM_TREES", 10)
    given = task(90)
    given.rows[:, :, 3] += given.labels[:, None]
    given = Task(**{**vars(given), "cube": cube_of(given.rows), "raw": tasks.series(given.rows)})
    encoder = evaluate.Encoder.open("automatic", "cpu")
    table, layout = evaluate.table_of(given, encoder)
    assert layout.size == table.shape[1] and layout.dims == encoder.card.dimensions
    assert np.abs(np.linalg.norm(table[:, :layout.dims], axis=1) - 1).max() < 0.05
    training = evaluate.trained(given, table, layout, np.arange(45), 0, 1)
    found = {name: [] for name in ("ours", "overall", "ece", "chosen", "promised")}
    evaluate.judge(given, training, table, layout, np.arange(45, 90), found)
    assert found["ours"][0] > 90 and len(found["ece"][0]) == 4
    assert [t.kind for t in training.trials] == ["embeddings", "bands", "both"]


def test_the_section_takes_the_place_of_the_one_before(evaluate, tmp_path, monkeypatch):
    document = tmp_path / "evaluation.md"
    document.write_text("# How right\n\nbefore\n", "utf-8")
    monkeypatch.setattr(evaluate, "DOCUMENT", document)
    row = {"ours": [60.0, 62.0], "RF bands": [50.0], "LR bands": [61.5], "kNN bands": [40.0],
           "LR fast": [55.0], "overall": [70.0], "ece": [[9, 4, 5, 3]],
           "chosen": ["joined on bands"], "promised": [66.0]}
    names = "Canada 7, val", "Uganda 3, val"
    found = {name: dict.fromkeys(evaluate.AMOUNTS, row) for name in names}
    for _ in range(2):
        evaluate.written(evaluate.section(found, {}, 3))
    text = document.read_text("utf-8")
    assert text.count(evaluate.BEGIN) == 1 and text.startswith("# How right\n\nbefore\n")
    assert "| Canada 7, val | 61.0 ± 1 (below) | 50.0 | 61.5 | 40.0 | 55.0 |" in text
    assert "ours minus the forest +11.0" in text and "| half | 2 | +11.0 ± 0.0 |" in text


def test_every_set_is_whole(shared):
    for given in tasks.every_task():
        n = len(given.labels)
        assert given.cube.shape == (1, n) and given.places.shape == (n, 2)
        assert all(s.values.shape[2:] == (1, n) for s in given.cube.series.values())
        for train, test in given.splits:
            assert not set(train) & set(test)


def test_every_section_with_a_benchmark_is_made_again(evaluate):
    names = {path.stem for path in evaluate.others()}
    assert names >= {"change_accuracy", "crops", "decoder", "flood_accuracy", "land_cover", "seams"}


def test_days_of_a_series_are_shared_by_its_samples():
    values = np.full((2, 3, 13), np.nan)
    values[:, :, 3] = [[1, 3, 5], [2, 4, 8]]
    dates = np.array(["2019-01-02", "2019-01-30", "2019-06-01"], "datetime64[D]")
    rows = tasks._monthly_rows(values, dates)
    assert rows[:, 0, 3].tolist() == [2, 3] and rows[:, 10, 3].tolist() == [5, 8]
    assert np.isfinite(rows[:, :, 3]).sum() == 4
