import importlib.util
import sys
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
    sys.modules["evaluate"] = module  # dataclasses look their module up
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


def test_a_series_of_more_than_a_year_keeps_all_of_its_days():
    dates = np.array(["2019-09-14", "2020-01-01", "2020-09-13"], "datetime64[D]")
    values = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    series = tasks._season("modis", ("ndvi",), values, dates).series["modis"]
    assert series.dates.tolist() == dates.tolist()
    assert series.values[:, 0, 0].tolist() == [[0, 3], [1, 4], [2, 5]] and series.valid.all()


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
    found = {name: [] for name in ("overall", "ece", "chosen", "promised")}
    test = np.arange(45, 90)
    guess = evaluate.judge(given, training, table, layout, test, found)
    assert evaluate.f1(given, test, guess)[0] > 90 and len(found["ece"][0]) == 4
    assert [t.kind for t in training.trials] == ["embeddings", "bands", "both"]


def test_the_section_takes_the_place_of_the_one_before(evaluate, tmp_path, monkeypatch):
    document = tmp_path / "evaluation.md"
    document.write_text("# How right\n\nbefore\n", "utf-8")
    monkeypatch.setattr(evaluate, "DOCUMENT", document)
    row = {"ours": [60.0, 62.0], "RF bands": [50.0], "LR bands": [61.5], "kNN bands": [40.0],
           "LR fast": [55.0], "overall": [70.0], "ece": [[9, 4, 5, 3]],
           "chosen": ["joined on bands"], "promised": [66.0],
           "error": {"RF bands": 1.0, "LR bands": 0.4, "kNN bands": 1.0}}
    worse = {**row, "ours": [60.0, 61.0], "error": {**row["error"], "LR bands": 0.3}}
    names = "Canada 7, val", "Uganda 3, val"
    found = {name: dict.fromkeys(evaluate.AMOUNTS, r)
             for name, r in zip(names, (row, worse), strict=True)}
    for _ in range(2):
        evaluate.written(evaluate.section(found, {}, 3))
    text = document.read_text("utf-8")
    assert text.count(evaluate.BEGIN) == 1 and text.startswith("# How right\n\nbefore\n")
    assert "| Canada 7, val | 61.0 ± 1 | 50.0 | 61.5 | 40.0 | -0.5 ± 0.4 | 55.0 |" in text
    assert "| 40.0 | -1.0 ± 0.3 (below) |" in text  # by more than two standard errors
    assert "ours minus the forest +10.8" in text and "| half | 2 | +10.8 ± 0.2 |" in text
    assert "-0.8 ± 0.2 | 2 | 1 | -1.0, Uganda 3, val |" in text


def test_differences_have_an_error_by_the_blocks_of_the_test_ground(evaluate):
    given = task(90)
    test, rng = np.arange(90), np.random.default_rng(1)
    right = given.labels.copy()
    wrong = np.where(rng.random(90) < 0.3, (right + 1) % 3, right)
    assert evaluate.paired_error(given, [(test, wrong)], [(test, wrong)]) == 0
    single = evaluate.paired_error(given, [(test, right)], [(test, wrong)])
    assert 2 < single < 10  # of 30 % of 90 answers
    again = evaluate.paired_error(given, [(test, right)] * 3, [(test, wrong)] * 3)
    assert again == pytest.approx(single)  # the same ground drawn thrice tells no more
    whole = Task(**{**vars(given), "blocks": np.arange(90) // 45})
    blocks = np.where(np.arange(90) < 45, right, (right + 1) % 3)  # one of two blocks is wrong
    assert evaluate.paired_error(whole, [(test, right)], [(test, blocks)]) > 2 * single


def test_an_evaluation_goes_on_where_it_was(evaluate, tmp_path, monkeypatch):
    asked = []

    def run(command, **_):
        asked.append(Path(command[1]).stem)
        return type("Done", (), {"returncode": asked[-1] == "crops"})

    monkeypatch.setattr(evaluate.subprocess, "run", run)
    assert evaluate.run_others(tmp_path) == 1
    first = list(asked)
    assert first[0] == "heads" and set(first) >= {"crops", "seams", "decoder"}
    assert evaluate.run_others(tmp_path) == 1 and asked[len(first):] == ["crops"]
    made = []
    for _ in range(2):
        kept = evaluate.remembered(tmp_path / "a.json", lambda: made.append(1) or {"f1": 60})
    assert kept["result"] == {"f1": 60} and made == [1]


def test_the_help_lists_every_section(evaluate, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--help"])
    said = capsys.readouterr().out
    assert all(f"  {path.stem} " in said for path in evaluate.others()) and "  auto " in said


def test_every_set_is_whole(shared):
    for given in tasks.every_task():
        n = len(given.labels)
        assert given.cube.shape == (1, n) and given.places.shape == (n, 2)
        assert all(s.values.shape[2:] == (1, n) for s in given.cube.series.values())
        for train, test in given.splits:
            assert not set(train) & set(test)


def test_every_section_with_a_benchmark_is_made_again(evaluate):
    names = {path.stem for path in evaluate.others()}
    assert names == set(evaluate.MINUTES) - {"auto"}


def test_days_of_a_series_are_shared_by_its_samples():
    values = np.full((2, 3, 13), np.nan)
    values[:, :, 3] = [[1, 3, 5], [2, 4, 8]]
    dates = np.array(["2019-01-02", "2019-01-30", "2019-06-01"], "datetime64[D]")
    rows = tasks._monthly_rows(values, dates)
    assert rows[:, 0, 3].tolist() == [2, 3] and rows[:, 10, 3].tolist() == [5, 8]
    assert np.isfinite(rows[:, :, 3]).sum() == 4
