"""Suggested places: the choice itself, and the loop of suggesting, labelling, training again."""

from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.heads.head import Head
from earthprint.engine.heads.samples import Samples, joined
from earthprint.engine.heads.suggestions import choose, uncertainty, usual_distance

SIDE = 80
AFFINE = rasterio.Affine(10, 0, 5e5, 0, -10, 5.6e6)
NOWHERE = np.zeros((0, 2))


def test_uncertainty_known_answers():
    p = np.array([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    assert uncertainty(p) == pytest.approx([0.5, 1, 0])


def test_places_are_the_farthest_gradients():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    p = rng.dirichlet(np.ones(3), 60)
    places = rng.uniform(0, 1000, (60, 2))
    gradients = p.copy()
    gradients[np.arange(60), p.argmax(1)] -= 1
    gradients = (gradients[:, :, None] * x[:, None, :]).reshape(60, -1)
    expected = [int((gradients**2).sum(1).argmax())]
    for _ in range(6):
        apart = ((gradients[:, None] - gradients[expected][None]) ** 2).sum(2).min(1)
        expected.append(int(np.minimum(apart, (gradients**2).sum(1)).argmax()))
    assert choose(x, p, places, 7, 0, NOWHERE).tolist() == expected


def test_twins_are_chosen_once_and_sure_places_last():
    x = np.array([[1, 0], [1, 0], [0, 1], [5, 5]], np.float32)
    p = np.array([[0.5, 0.5], [0.5, 0.5], [0.45, 0.55], [1, 0]])
    places = np.arange(8.0).reshape(4, 2) * 100
    assert choose(x, p, places, 2, 0, NOWHERE).tolist() == [0, 2]
    assert sorted(choose(x, p, places, 9, 0, NOWHERE).tolist()) == [0, 1, 2, 3]


def test_places_keep_their_distance():
    rng = np.random.default_rng(1)
    x, p = rng.normal(size=(500, 4)).astype(np.float32), rng.dirichlet(np.ones(3), 500)
    places, taken = rng.uniform(0, 1000, (500, 2)), np.array([[500.0, 500.0]])
    chosen = choose(x, p, places, 12, 150, taken)
    apart = np.hypot(*(places[chosen][:, None] - places[chosen][None]).T)
    assert apart[np.triu_indices(len(chosen), 1)].min() >= 150
    assert np.hypot(*(places[chosen] - taken[0]).T).min() >= 150
    assert len(choose(x, p, places, 500, 400, taken)) < 10
    assert len(choose(x, p, places, 5, 2000, taken)) == 0
    assert usual_distance(1e6, 25) == pytest.approx(40)


def write_points(path, rows, cols, names):
    x, y = AFFINE @ (np.asarray(cols) + 0.5, np.asarray(rows) + 0.5)
    pyogrio.raw.write(path, shapely.to_wkb(shapely.points(x, y)), [np.asarray(names)], ["crop"],
                      geometry_type="Point", crs="EPSG:32631", driver="GPKG")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """One undated scene of three covers, of which water is rare; a head of few labels."""
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(0)
    truth = np.where(np.add.outer(np.arange(SIDE), np.arange(SIDE)) < SIDE, 0, 1)
    truth[60:70, 60:70] = truth[5:15, 20:30] = 2
    bands = np.array([[0.05, 0.08, 0.06, 0.4], [0.12, 0.14, 0.18, 0.25],
                      [0.07, 0.05, 0.03, 0.02]])[truth]
    bands = np.clip(bands * rng.normal(1, 0.45, bands.shape), 0.001, 1).transpose(2, 0, 1)
    with rasterio.open(folder / "scene.tif", "w", driver="GTiff", width=SIDE, height=SIDE,
                       count=4, dtype="uint16", nodata=0, crs="EPSG:32631",
                       transform=AFFINE) as out:
        out.write((bands * 10000).astype(np.uint16))
        for band, name in enumerate(("B02", "B03", "B04", "B08"), 1):
            out.set_band_description(band, name)
    names = np.array(["forest", "field", "water"], object)
    rows, cols = rng.integers(0, SIDE, (2, 24))
    rows, cols = np.append(rows, [61, 68, 7, 13]), np.append(cols, [61, 68, 22, 28])
    write_points(folder / "labels.gpkg", rows, cols, names[truth[rows, cols]])
    stack = folder / "scene.stack.json"
    jobs.run("build_stack", {"sources": [str(folder / "scene.tif")], "sensor": "sentinel-2",
                             "output": str(stack)}, JobContext())
    head = folder / "cover.head.onnx"
    jobs.run("train_head", {"input": [str(stack)], "labels": str(folder / "labels.gpkg"),
                            "field": "crop", "features": "bands", "model": "logistic",
                            "output": str(head)},
             JobContext(threads=1))
    return folder, stack, head, truth, names


def test_the_loop_closes(scene, tmp_path):
    folder, stack, head, truth, names = scene
    said, output = [], tmp_path / "places.gpkg"
    context = JobContext(on_log=lambda _, text: said.append(text), threads=1)
    made = jobs.run("suggest_samples", {
        "input": [str(stack)], "head": str(head), "labels": str(folder / "labels.gpkg"),
        "field": "crop", "count": 15, "min_distance_m": 60, "output": str(output)}, context)
    assert made["points"] == 15 and made["uncertainty"][0] > made["uncertainty"][1]
    info, _, wkb, columns = pyogrio.raw.read(output)
    table = dict(zip(info["fields"], columns, strict=True))
    assert list(table) == ["id", "crop", "predicted", "uncertainty", "why"]
    assert table["id"].tolist() == list(range(1, 16)) and all(v is None for v in table["crop"])
    assert set(table["predicted"]) <= set(names) and "%" in table["why"][0]
    xy = shapely.get_coordinates(shapely.from_wkb(wkb))
    old = shapely.get_coordinates(shapely.from_wkb(pyogrio.raw.read(folder / "labels.gpkg")[2]))
    assert np.hypot(*(xy[:, None] - old[None]).T).min() >= 60
    assert any("Suggested 15 places at least 60 m apart" in t for t in said)
    col, row = np.floor(~AFFINE @ tuple(xy.T)).astype(int)
    given = {"input": [str(stack)], "labels": str(folder / "labels.gpkg"), "field": "crop",
             "features": "bands", "model": "logistic", "output": str(tmp_path / "b.head.onnx")}
    jobs.run("train_head", {**given, "more_labels": str(output)}, context)
    assert any("No feature of places.gpkg has a class in field crop yet" in t for t in said)
    labelled = np.append(names[truth[row, col]][:-1], [None])  # the last one could not be told
    write_points(tmp_path / "more.gpkg", row, col, labelled)
    jobs.run("train_head", {**given, "more_labels": str(tmp_path / "more.gpkg")}, context)
    samples = [sum(c["samples"] for c in Head.open(path).card.samples)
               for path in (head, tmp_path / "b.head.onnx")]
    assert samples[1] == samples[0] + 14
    again = tmp_path / "again.gpkg"  # the next round stays away from this one's places
    jobs.run("suggest_samples", {
        "input": [str(stack)], "head": str(head), "labels": str(folder / "labels.gpkg"),
        "more_labels": str(tmp_path / "more.gpkg"), "field": "crop", "count": 10,
        "min_distance_m": 60, "output": str(again)}, context)
    new = shapely.get_coordinates(shapely.from_wkb(pyogrio.raw.read(again)[2]))
    known = np.concatenate([old, np.stack(AFFINE @ (col + 0.5, row + 0.5), axis=1)])
    assert np.hypot(*(new[:, None] - known[None]).T).min() >= 59.9
    write_points(tmp_path / "codes.gpkg", row, col, np.arange(15) % 3)
    with pytest.raises(UserError, match="text in one and numbers in the other"):
        jobs.run("train_head", {**given, "more_labels": str(tmp_path / "codes.gpkg")}, context)


def test_where_two_files_share_a_pixel_the_second_counts():
    one = Samples(np.array([1, 1, 2]), np.array([1, 2, 2]), np.array([0, 0, 1]),
                  np.array([0, 0, 1]), 1, True)
    two = Samples(np.array([2, 5]), np.array([2, 5]), np.array([0, 1]), np.array([0, 1]), 2, False)
    both = joined(one, two)
    assert both.rows.tolist() == [1, 1, 2, 5] and both.values.tolist() == [0, 0, 0, 1]
    assert both.groups.tolist() == [0, 0, 1, 2] and both.outside == 3 and both.polygons


def test_the_form_offers_the_classes(scene, tmp_path):
    folder, stack, head, _, names = scene
    output = tmp_path / "places.gpkg"
    given = {"input": [str(stack)], "head": str(head), "output": str(output), "count": 4}
    jobs.run("suggest_samples", given, JobContext(threads=1))
    root = ElementTree.parse(tmp_path / "places.qml").getroot()
    widgets = {f.get("name"): f.find("editWidget") for f in root.iter("field")
               if f.find("editWidget") is not None}
    assert widgets["class"].get("type") == "ValueMap"
    offered = {o.get("value") for o in widgets["class"].iter("Option") if o.get("value")}
    assert offered == set(names)
    editable = {f.get("name"): f.get("editable") for f in root.find("editable")}
    assert editable["class"] == "1" and editable["why"] == "0"
    first = pyogrio.raw.read(output)[2]
    jobs.run("suggest_samples", given, JobContext(threads=2))
    assert np.array_equal(first, pyogrio.raw.read(output)[2])  # same seed, same places


def test_what_cannot_be_is_said(scene, tmp_path):
    folder, stack, head, _, _ = scene
    given = {"input": [str(stack)], "head": str(head), "output": str(tmp_path / "p.gpkg")}
    for more, words in (({"count": 0}, "Number of places is 0"),
                        ({"min_distance_m": -1}, "Minimum distance is -1"),
                        ({"field": "why"}, "cannot be called why"),
                        ({"labels": str(folder / "labels.gpkg"), "field": "crop",
                          "min_distance_m": 5000}, "Lower the minimum distance"),
                        ({"labels": str(folder / "labels.gpkg"), "field": "kind"},
                         "no field kind")):
        with pytest.raises(UserError, match=words):
            jobs.run("suggest_samples", {**given, **more}, JobContext())
    around = tmp_path / "around.head.onnx"
    jobs.run("train_head", {"input": [str(stack)], "labels": str(folder / "labels.gpkg"),
                            "field": "crop", "model": "convolutional", "output": str(around)},
             JobContext(threads=1))
    with pytest.raises(UserError, match="cannot say which single pixels to label"):
        jobs.run("suggest_samples", {**given, "head": str(around)}, JobContext())
    assert list(tmp_path.iterdir()) == [around]
    said = []
    jobs.run("suggest_samples", {**given, "min_distance_m": 400, "count": 50},
             JobContext(on_log=lambda level, text: said.append((level, text))))
    assert any(level == "warning" and "fewer than the 50" in text for level, text in said)
