import json

import numpy as np
import onnx
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from earthprint.engine.errors import UserError
from earthprint.engine.heads import classifiers, headfile
from earthprint.engine.heads.accuracy import tempered
from earthprint.engine.heads.applicability import Gate, training_dissimilarity
from earthprint.engine.heads.head import Head, HeadCard, write_head
from earthprint.engine.heads.headfile import CARD_KEY
from earthprint.engine.heads.layout import FeatureLayout, SensorSeries
from earthprint.engine.heads.standard import Standard
from earthprint.engine.heads.trees import float32_below
from earthprint.engine.rasters.legend import Legend

LAYOUT = FeatureLayout("bands", series=(SensorSeries("sentinel-2", tuple("abcdefghij"), 1),))
EMBEDDED = FeatureLayout("embeddings", "fast@1.0#12345678", 10)


def samples(classes=3, n=300, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.normal(size=(classes, 10))[y] + 0.8 * rng.normal(size=(n, 10))
    return x.astype(np.float32), y


def fitted(model, x, y, size):
    if model == "logistic":
        return classifiers.fit_logistic(x, y, size, (0.1,))[0]
    if model == "forest":
        return classifiers.fit_forest(x, y, size, 0, 1)
    if model == "boosting":
        return classifiers.fit_boosting(x, y, size, 0, 1)
    if model == "mlp":
        return classifiers.fit_perceptron(x, y, size, 0)
    return classifiers.fit_neighbours(x, y, size, 0)


def card(layout, size, model="logistic", t=1.0):
    legend = Legend.of_names([f"class {k}" for k in range(size)])
    return HeadCard(layout, legend, model, ({"value": 1, "samples": 3},), {"macro_f1": 0.5}, t, 7,
                    {"labels": "parcels.gpkg"}, "2024-07-01")


def gate(x, y, cosine=False):
    return Gate.of(x, y, np.arange(len(y)) % 5, cosine, 0)


@pytest.mark.parametrize("model", classifiers.MODELS)
@pytest.mark.parametrize("classes", [2, 5])
def test_the_file_answers_like_the_trained_classifier(tmp_path, model, classes):
    x, y = samples(classes)
    x[::17, 3] = np.nan
    path = tmp_path / "a.head.onnx"
    classifier = fitted(model, x, y, classes)
    write_head(path, classifier, card(LAYOUT, classes, model, 1.7), gate(x, y), x)
    head = Head.open(path, 1)
    new, _ = samples(classes, 500, 9)
    new[::7, 1] = np.nan
    p = head.probabilities(new)
    assert p == pytest.approx(tempered(classifier.probabilities(new), 1.7), abs=1e-4)
    assert p.sum(1) == pytest.approx(1, abs=1e-5) and p.dtype == np.float32
    assert (p[:0].shape, head.probabilities(new[:0]).shape) == ((0, classes), (0, classes))
    assert head.card == card(LAYOUT, classes, model, 1.7)
    onnx.checker.check_model(onnx.load(path))


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_is_scikit_learns(classes):
    x, y = samples(classes)
    scaler = StandardScaler().fit(x)
    theirs = LogisticRegression(C=0.1, class_weight="balanced", max_iter=300, tol=1e-3).fit(
        scaler.transform(x), y).predict_proba(scaler.transform(x))
    assert fitted("logistic", x, y, classes).probabilities(x) == pytest.approx(theirs, abs=2e-3)


def test_forest_thresholds_survive_single_precision():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (400, 10)).astype(np.float32) / 3  # many equal values
    y = rng.integers(0, 3, 400)
    forest = classifiers.fit_forest(x, y, 3, 0, 1)
    theirs = RandomForestClassifier(200, class_weight="balanced", random_state=0).fit(x, y)
    assert np.array_equal(forest.probabilities(x), theirs.predict_proba(x))
    limits = float32_below(np.array([1 / 3, 0.1, -0.1, 0.5]))
    assert np.all(limits.astype(np.float64) <= [1 / 3, 0.1, -0.1, 0.5])


@pytest.mark.parametrize("classes", [2, 4])
def test_boosting_and_network_are_scikit_learns(classes):
    x, y = samples(classes)
    boosted = fitted("boosting", x, y, classes)
    theirs = HistGradientBoostingClassifier(
        max_iter=50, learning_rate=0.15, max_leaf_nodes=15, min_samples_leaf=10,
        l2_regularization=1.0, max_features=0.2, max_bins=63, class_weight="balanced",
        early_stopping=False, random_state=0).fit(x, y)
    assert np.allclose(boosted.probabilities(x), theirs.predict_proba(x))
    one, two = fitted("mlp", x, y, classes), fitted("mlp", x, y, classes)
    assert np.array_equal(one.probabilities(x), two.probabilities(x))  # same seed
    scaled = StandardScaler().fit_transform(x)
    theirs = MLPClassifier((128,), alpha=0.1, batch_size=64, max_iter=40, n_iter_no_change=40,
                           random_state=0)
    theirs.fit(scaled.astype(np.float32), y, compute_sample_weight("balanced", y))
    assert one.probabilities(x) == pytest.approx(theirs.predict_proba(scaled), abs=0.02)


@pytest.mark.parametrize("model", ["boosting", "mlp"])
def test_rare_classes_weigh_as_much_as_common_ones(model):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [570, 30])
    x = (y[:, None] * 1.0 + rng.normal(size=(600, 10))).astype(np.float32)
    new = (np.repeat([0, 1], 200)[:, None] * 1.0 + rng.normal(size=(400, 10))).astype(np.float32)
    found = fitted(model, x, y, 2).probabilities(new).argmax(1)
    assert (found[200:] == 1).mean() > 0.6


def test_a_window_is_mapped_in_batches_of_bounded_size(tmp_path, monkeypatch):
    x, y = samples()
    path = tmp_path / "a.head.onnx"
    write_head(path, fitted("neighbours", x, y, 3), card(LAYOUT, 3, "neighbours"), gate(x, y), x)
    whole, head = Head.open(path).probabilities(x), Head.open(path)
    monkeypatch.setattr(headfile, "_BATCH", 7)
    assert head.probabilities(x) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("model", classifiers.MODELS)
def test_a_class_that_a_fold_lacks_gets_no_votes(model):
    x, y = samples(4)
    keep = y != 2
    p = fitted(model, x[keep], y[keep], 4).probabilities(x)
    assert p.shape == (300, 4) and p[:, 2].max() < 1e-6


def test_draws_are_even_over_classes():
    y = np.repeat([0, 1, 2], [1000, 50, 10])
    chosen = classifiers.balanced_draw(y, 120, 0)
    assert len(chosen) == 120 and np.bincount(y[chosen]).tolist() == [60, 50, 10]
    assert np.array_equal(chosen, np.unique(chosen))


def test_forest_files_stay_small(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4000, 10)).astype(np.float32), rng.integers(0, 8, 4000)
    path = tmp_path / "f.head.onnx"
    write_head(path, classifiers.fit_forest(x, y, 8, 0, 2), card(LAYOUT, 8), gate(x, y), x[:500])
    assert path.stat().st_size < 20e6


def test_area_of_applicability_known_answer():
    points = np.array([[0, 0], [1, 0], [0, 1], [4, 4]], float)
    mean, sd = points.mean(0), points.std(0, ddof=1)
    weights = np.array([1, 0.5])
    prepared = (points - mean) / sd * weights
    dbar, threshold, own = training_dissimilarity(prepared, np.arange(4), False)
    assert dbar == pytest.approx(1.3178345362)
    assert own == pytest.approx([0.200431, 0.400863, 0.200431, 1.445331], abs=1e-6)
    assert threshold == pytest.approx(1.3543019976)
    _, _, own = training_dissimilarity(prepared, np.array([0, 0, 1, 1]), False)
    assert own == pytest.approx([0.200431, 0.448178, 0.200431, 1.445331], abs=1e-6)
    new = (np.array([[2, 2], [0.2, 0.1], [9, 9]]) - mean) / sd * weights
    gate = Gate(False, Standard(np.zeros(2), np.ones(2)), prepared, dbar, threshold)
    assert gate.dissimilarity(new) == pytest.approx([0.566905, 0.082640, 2.240890], abs=1e-5)
    assert gate.unlike(new).tolist() == [False, False, True]


@pytest.mark.parametrize("cosine", [True, False])
def test_the_gate_knows_strangers_and_survives_the_file(tmp_path, cosine):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 3000)
    x = (np.eye(3, 10)[y] + 0.05 * rng.normal(size=(3000, 10))).astype(np.float32)
    mine = Gate.of(x, y, np.arange(3000) % 5, cosine, 0)
    assert len(mine.references) == 2000
    strange = np.zeros((5, 10), np.float32)
    strange[:, 7] = 1
    again = Gate.of_text(mine.to_text())
    for g in (mine, again):
        assert g.unlike(x).mean() < 0.05 and g.unlike(strange).all()


class Offer:
    def __init__(self, encoder="", series=()):
        self.encoder, self.series, self.name = encoder, series, "season.stack.json"


def test_a_head_refuses_what_it_was_not_trained_on():
    with pytest.raises(UserError, match=r"a.head.onnx needs fast@1.0, not nano@1.0. Encode with"):
        EMBEDDED.require("a.head.onnx", Offer("nano@1.0#87654321"))
    with pytest.raises(UserError, match=r"needs fast@1.0#12345678, not fast@1.0#0000"):
        EMBEDDED.require("a.head.onnx", Offer("fast@1.0#0000"))
    EMBEDDED.require("a.head.onnx", Offer("fast@1.0#12345678"))
    bands = FeatureLayout("bands", series=(SensorSeries("sentinel-2", ("red", "nir"), 24),))
    with pytest.raises(UserError, match="needs sentinel-2 nir, which season.stack.json lacks"):
        bands.require("h", Offer(series=(SensorSeries("sentinel-2", ("red",), 24),)))
    with pytest.raises(UserError, match="needs sentinel-2 red, nir, which"):
        bands.require("h", Offer(series=(SensorSeries("landsat", ("red",), 24),)))
    with pytest.raises(UserError, match="needs dated scenes"):
        bands.require("h", Offer(series=(SensorSeries("sentinel-2", ("red", "nir"), 1),)))
    bands.require("h", Offer(series=(SensorSeries("sentinel-2", ("blue", "nir", "red"), 24),)))


def test_layouts_round_trip_and_find_their_columns():
    both = FeatureLayout("both", "e@1#a", 4, (SensorSeries("landsat", ("red", "nir"), 24),))
    assert FeatureLayout.of_record(json.loads(json.dumps(both.record()))) == both
    assert both.size == 52 and both.columns("bands") == slice(4, 52)
    assert both.only("embeddings").size == 4 and both.only("bands").size == 48


def test_other_files_are_refused_in_words(tmp_path):
    path = tmp_path / "a.head.onnx"
    with pytest.raises(UserError, match="not found"):
        Head.open(path)
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match="cannot be read as a head"):
        Head.open(path)
    x, y = samples()
    write_head(path, fitted("logistic", x, y, 3), card(LAYOUT, 3), gate(x, y), x)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {CARD_KEY: json.dumps({"kind": "encoder"})})
    onnx.save(model, path)
    with pytest.raises(UserError, match="not an Earthprint head"):
        Head.open(path)


def test_a_head_that_differs_is_never_written(tmp_path):
    x, y = samples()

    class Wrong(classifiers.Logistic):
        def probabilities(self, x):
            return np.roll(super().probabilities(x), 1, axis=1)

    good = fitted("logistic", x, y, 3)
    with pytest.raises(RuntimeError, match="differs"):
        write_head(tmp_path / "a.head.onnx", Wrong(good.standard, good.weights, good.bias),
                   card(LAYOUT, 3), gate(x, y), x)
    assert not list(tmp_path.iterdir())


def test_the_axes_of_an_embedding_keep_their_own_spread():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(500, 4)) * [3, 1, 5, 0.5]).astype(np.float32)
    standard = Standard.of(x, embedded=2)
    assert standard.scale[0] == standard.scale[1] == pytest.approx(1 / np.sqrt(5), rel=0.1)
    assert standard.scale[2:] == pytest.approx([1 / 5, 2], rel=0.1)
