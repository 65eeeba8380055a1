import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from earthprint.engine.heads import classifiers, joined
from earthprint.engine.heads.accuracy import tempered
from earthprint.engine.heads.applicability import Gate
from earthprint.engine.heads.head import Head, HeadCard, write_head
from earthprint.engine.heads.headfile import build
from earthprint.engine.heads.joined import Joined, Member, Views, fit_part, parts_of
from earthprint.engine.heads.layout import KINDS, FeatureLayout, SensorSeries
from earthprint.engine.heads.phenology import Phenology
from earthprint.engine.rasters.legend import Legend

RADAR = SensorSeries("sentinel-1", ("vh", "vv"), 24)
OPTICAL = SensorSeries("sentinel-2", ("red", "nir", "swir16"), 24, change=True)
UNDATED = SensorSeries("aerial", ("green", "nir"), 1)
LAYOUT = FeatureLayout("both", "fast@1.0#12345678", 6, (UNDATED, RADAR, OPTICAL))


@pytest.fixture
def few_trees(monkeypatch):
    monkeypatch.setattr(classifiers, "RANDOM_TREES", 15)


def samples(layout=LAYOUT, n=240, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = 0.2 + 0.1 * rng.random((n, layout.size)) + 0.05 * y[:, None]
    start = layout.dims + 2
    if layout.kind == "both":
        x[::7, start:start + 48] = np.nan  # never seen by radar
    return x.astype(np.float32), y


def fitted(layout, x, y, size, temperature=1.5):
    views = Views.of(x, layout)
    tables = views(x)
    return Joined(views, tuple(
        Member(p, fit_part(p, tables[p.source], y, size, 0, 1, p.strengths[:1])[0], temperature)
        for p in parts_of(layout.kind)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3])
def test_the_file_answers_like_the_joined_models(tmp_path, few_trees, kind, classes):
    layout = LAYOUT.only(kind)
    x, y = samples(layout, classes=classes)
    model = fitted(layout, x, y, classes)
    path = tmp_path / "a.head.onnx"
    legend = Legend.of_names(["a", "b", "c"][:classes])
    card = HeadCard(layout, legend, joined.MODEL, (), {}, 0.8, 0, {})
    write_head(path, model, card, Gate.of(x, y, np.arange(len(y)) % 5, False, 0), x)
    new, _ = samples(layout, 300, classes, seed=4)
    new[::5, :2] = np.nan  # what is absent counts as the mean, of embeddings too
    answer = Head.open(path).probabilities(new)
    assert answer == pytest.approx(tempered(model.probabilities(new), 0.8), abs=1e-4)
    assert answer.sum(1) == pytest.approx(1, abs=1e-5)
    onnx.checker.check_model(onnx.load(path))


def test_joined_is_the_mean_of_calibrated_members(few_trees):
    x, y = samples()
    model = fitted(LAYOUT, x, y, 3)
    assert [m.part.name for m in model.members] == [
        "logistic on embeddings", "discriminant on embeddings", "logistic on bands",
        "trees on bands"]
    tables = model.views(x)
    alone = [tempered(m.classifier.probabilities(tables[m.part.source]), 1.5)
             for m in model.members]
    assert model.probabilities(x) == pytest.approx(np.mean(alone, 0))


def test_a_class_that_a_fold_lacks_gets_no_votes(few_trees):
    x, y = samples()
    model = fitted(LAYOUT, x[y != 1], y[y != 1], 3, 1.0)
    assert model.probabilities(x)[:, 1].max() < 1e-4


@pytest.mark.parametrize("classes", [2, 4])
def test_discriminant_is_scikit_learns(classes):
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, 90)
    x = (rng.normal(size=(classes, 40))[y] + rng.normal(size=(90, 40))).astype(np.float32)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto",
                                        priors=np.full(classes, 1 / classes))
    scaled = (x - x.mean(0)) / x.std(0)
    expected = theirs.fit(scaled, y).predict_proba(scaled)
    found = classifiers.fit_discriminant(x, y, classes).probabilities(x)
    assert found == pytest.approx(expected, abs=1e-3)


def test_what_a_series_says_about_a_season():
    angle = 2 * np.pi * np.arange(24) / 24
    red, nir = np.full(24, 0.1), 0.4 + 0.2 * np.cos(angle - 1)
    layout = FeatureLayout("bands", series=(SensorSeries("sentinel-2", ("red", "nir"), 24),))
    x = np.column_stack([red, nir]).reshape(1, -1).astype(np.float32)
    said = Phenology.of(x, layout)(x)[0]
    values, summary = said[:72].reshape(24, 3), said[72:].reshape(8, 3)
    assert values[:, 2] == pytest.approx((nir - red) / (nir + red), abs=1e-6)
    mean, spread, high, low, rise, fall, once, twice = summary
    assert mean[:2] == pytest.approx([0.1, 0.4], abs=1e-6)
    assert spread[:2] == pytest.approx([0, 0.2 / 2**0.5], abs=1e-6)
    assert (high[1], low[1]) == pytest.approx((nir.max(), nir.min()), abs=1e-6)
    assert (rise[1], fall[1]) == pytest.approx((np.diff(nir).max(), np.diff(nir).min()), abs=1e-6)
    assert once[:2] == pytest.approx([0, 0.1], abs=1e-6)  # half the amplitude
    assert twice[:2] == pytest.approx([0, 0], abs=1e-6)
    later = np.column_stack([red, np.roll(nir, 3)]).reshape(1, -1).astype(np.float32)
    moved = Phenology.of(x, layout)(later)[0]
    assert moved[72:] == pytest.approx(said[72:], abs=1e-6)  # a late season sums up alike


def test_radar_without_dates_and_dark_pixels():
    layout = FeatureLayout("bands", series=(
        SensorSeries("sentinel-1", ("vv", "vh"), 1), SensorSeries("aerial", ("red", "nir"), 1)))
    x = np.array([[-10, -17, 0, 0], [-9, -15, 0.1, 0.3]], np.float32)
    assert Phenology.of(x, layout)(x).tolist()[0] == [-10, -17, -7, 0, 0, 0]
    assert Phenology.of(x, layout)(x)[1] == pytest.approx([-9, -15, -6, 0.1, 0.3, 0.5])


def test_the_graph_describes_series_alike():
    layout = LAYOUT.only("bands")
    x, _ = samples(layout, 50)
    x[::3, 2:50] = np.nan
    described = Phenology.of(x, layout)
    expected = described(x)
    graph = described.graph()
    model = build(graph.nodes, graph.constants, layout.size, "described", expected.shape[1])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert session.run(None, {"features": x})[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("fit", [classifiers.fit_forest, classifiers.fit_trees,
                                 classifiers.fit_boosting])
def test_trees_do_not_split_on_rounding(fit):
    """The spread of one date's constant series is noise, which ONNX rounds otherwise."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=200)
    x = (0.2 + 0.05 * rng.random((200, 8))).astype(np.float32)
    x[:, 4:] = 1e-8 * (rng.random((200, 4)) + y[:, None])  # noise that would tell the classes apart
    model = fit(x, y, 2, 0, 1)
    other = x.copy()
    other[:, 4:] = 1e-8 * rng.random((200, 4))
    assert np.array_equal(model.probabilities(x), model.probabilities(other))
