import numpy as np
import pytest
from rasterio.crs import CRS

from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.heads import accuracy, classifiers, training
from earthprint.engine.heads.labels import Labels
from earthprint.engine.heads.layout import KINDS, FeatureLayout, SensorSeries
from earthprint.engine.heads.training import train
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.rasters.legend import Legend

GRID = Grid(CRS.from_epsg(32631).to_wkt(), (10, 0, 500000, 0, -10, 5600000), (1000, 1000))
LAYOUT = FeatureLayout("both", "fast@1.0#ab", 6, (SensorSeries("sentinel-2", ("red",), 24),))


def parcels(seed=0, number=45, each=12, classes=3):
    """Parcels whose pixels share a parcel effect; embeddings are noise, bands tell the class."""
    rng = np.random.default_rng(seed)
    r, c = rng.integers(0, 990, number), rng.integers(0, 980, number)
    groups = np.repeat(np.arange(number), each)
    y = groups % classes
    rows, cols = np.repeat(r, each), np.repeat(c, each) + np.tile(np.arange(each), number)
    own = rng.normal(size=(number, 30))[groups]
    means = np.zeros((classes, 30))
    means[:, 6:] = rng.normal(size=(classes, 24))
    x = 0.35 * means[y] + own + 0.1 * rng.normal(size=(len(y), 30))
    labels = Labels(rows, cols, y, groups, Legend.of_names(["a", "b", "c"][:classes]), 0, True,
                    "parcels.gpkg")
    return x.astype(np.float32), labels


@pytest.fixture(scope="module")
def trained():
    said = []
    context = JobContext(on_log=lambda level, text: said.append(text), threads=1)
    x, labels = parcels()
    return train(x, LAYOUT, labels, GRID, context, kinds=KINDS, seed=3), said


def test_the_best_features_win_and_all_are_reported(trained):
    result, said = trained
    by_kind = {t.kind: t.scores.macro_f1 for t in result.trials}
    assert tuple(by_kind) == KINDS
    assert result.chosen.scores.macro_f1 == max(by_kind.values())
    assert by_kind["bands"] > by_kind["embeddings"] + 0.2
    assert result.features.shape[1] == result.layout.size
    assert any(t.startswith("Features: embeddings") and "chosen" in t for t in said)
    assert any(t.startswith("5 folds, blocks of") and "random split" in t for t in said)


def test_random_splits_flatter_and_blocks_do_not(trained):
    result, _ = trained
    assert result.random.scores.macro_f1 > result.chosen.scores.macro_f1 + 0.05
    assert result.random.scores.macro_f1 > 0.9  # the parcels are known by heart
    assert result.baseline.model == "forest" and result.baseline.kind == "bands"


def test_held_back_means_held_back():
    x, labels = parcels(1)
    x[:] = np.random.default_rng(0).normal(size=(45, 30))[labels.groups]  # nothing but parcels
    result = train(x[:, 6:], LAYOUT.only("bands"), labels, GRID, JobContext(threads=1),
                   kinds=("bands",))
    assert result.chosen.scores.macro_f1 < 0.6 < result.random.scores.macro_f1


def test_the_card_says_what_was_measured(trained):
    result, _ = trained
    card = result.card({"labels": "parcels.gpkg"}, "")
    assert card.validation["macro_f1"] == round(result.chosen.scores.macro_f1, 4)
    assert set(card.validation["features"]) == set(KINDS)
    assert [c["groups"] for c in card.samples] == [15, 15, 15]
    assert 0.05 < card.temperature < 20
    assert result.calibrated.sum(1) == pytest.approx(1)
    assert result.ece[1] <= result.ece[0]


def test_same_seed_same_result():
    x, labels = parcels(2, number=20)
    one, two = (train(x, LAYOUT, labels, GRID, JobContext(threads=1), kinds=("bands",),
                      model="forest", seed=5) for _ in range(2))
    assert np.array_equal(one.chosen.probabilities, two.chosen.probabilities)
    assert one.baseline is one.chosen


def test_automatic_joins_models_and_reports_every_kind_of_features(monkeypatch):
    monkeypatch.setattr(classifiers, "RANDOM_TREES", 10)
    monkeypatch.setattr(classifiers, "TREES", 10)
    x, labels = parcels(4, number=60, each=4)
    said, done = [], []
    context = JobContext(on_log=lambda _, text: said.append(text), threads=1,
                         on_progress=lambda share, _: done.append(share))
    result = train(x, LAYOUT, labels, GRID, context, kinds=KINDS, model="auto", seed=0)
    assert [(t.kind, t.model) for t in result.trials] == [(k, "joined") for k in KINDS]
    assert done == sorted(done) and done[-1] <= 1
    assert any(t.startswith("Members: logistic on embeddings 0.") for t in said)
    assert result.baseline.model == "forest"
    card = result.card({}, "")
    assert set(card.validation["features"]) == set(KINDS)
    assert card.model == result.chosen.model
    again = train(x, LAYOUT, labels, GRID, JobContext(threads=1), kinds=KINDS, model="auto")
    assert np.array_equal(again.chosen.probabilities, result.chosen.probabilities)
    p = result.classifier.probabilities(x[:, LAYOUT.columns(result.layout.kind)])
    assert (p.argmax(1) == labels.classes).mean() > 0.9


def test_a_temperature_that_would_mislead_is_not_used(monkeypatch):
    x, labels = parcels(2, number=20)
    wrong = np.eye(3)[(labels.classes + 1) % 3]
    monkeypatch.setattr(training, "calibrate", lambda p, y, folds: (0.1, wrong))
    monkeypatch.setattr(classifiers, "TREES", 5)
    result = train(x, LAYOUT, labels, GRID, JobContext(threads=1), kinds=("bands",))
    assert result.temperature == 1 and result.ece[0] == result.ece[1] < 1
    assert result.calibrated is result.chosen.probabilities


def trial(kind, model, folds):
    folds = np.array(folds, float)
    y = np.arange(100) % 2
    wrong = int(round(100 * (1 - folds.mean())))
    answer = np.where(np.arange(100) < wrong, 1 - y, y)
    scores = accuracy.scores(accuracy.confusion(answer, y, 2))
    return training.Trial(kind, model, np.eye(2)[answer], scores, folds, float("nan"))


def test_something_simpler_is_taken_only_where_it_is_clearly_better():
    rich = trial("both", "joined", [0.6, 0.7, 0.65, 0.6, 0.7])
    lucky = trial("bands", "joined", [0.9, 0.5, 0.9, 0.4, 0.8])
    better = trial("bands", "forest", [0.7, 0.8, 0.76, 0.7, 0.81])
    assert training._preferred((lucky, rich), None) is rich
    assert training._preferred((lucky, rich), better) is better
    assert training._preferred((rich,), trial("bands", "forest", [0.5] * 5)) is rich


def test_large_label_sets_are_drawn_before_features_are_read(monkeypatch):
    _, labels = parcels(number=300)
    monkeypatch.setattr(training, "MOST_SAMPLES", 90)
    said = []
    drawn = training.drawn(labels, 0, JobContext(on_log=lambda _, text: said.append(text)))
    assert len(drawn) == 90 and np.bincount(drawn.classes).tolist() == [30, 30, 30]
    assert "90 of 3600 samples are used" in said[0]
    assert training.drawn(drawn, 0, JobContext()) is drawn


def test_unknown_classifiers_and_cancelling():
    x, labels = parcels(2)
    with pytest.raises(UserError, match="no classifier oracle"):
        train(x, LAYOUT, labels, GRID, JobContext(), kinds=("bands",), model="oracle")
    with pytest.raises(Cancelled):
        train(x, LAYOUT, labels, GRID, JobContext(is_cancelled=lambda: True), kinds=("bands",))
