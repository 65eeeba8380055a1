"""Change between two dates: planted change is found, noise is not, and grids must meet."""

import math

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from scipy.ndimage import label

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.rasters.distance import Background, cosine_distance
from earthprint.engine.rasters.embeddings import (
    DATES_TAG,
    ENCODER_TAG,
    EmbeddingsWriter,
    dequantise,
    quantise,
)
from earthprint.engine.rasters.grid import Grid, Window
from earthprint.engine.rasters.overlap import common_windows
from earthprint.engine.rasters.patches import PatchFinder

UTM, DEGREES = (CRS.from_epsg(code).to_wkt() for code in (32631, 4326))
NORTH_UP = (10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6)
SCALE, DIMS = 0.5 / 127, 16
CHANGED = np.s_[30:50, 60:70]  # 200 pixels, 2 ha of 10 m


def codes_of(vectors):
    vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    flat = vectors.reshape(-1, vectors.shape[-1]).astype(np.float32)
    return quantise(flat, SCALE).reshape(vectors.shape)


def dates(rows, cols, planted=True, noise=0.15):
    """Codes of two dates: the same covers, other noise, and one field that was turned over."""
    rng = np.random.default_rng(7)
    covers = rng.normal(size=(5, DIMS))
    kind = np.kron(rng.integers(0, 4, (-(-rows // 16), -(-cols // 16))),
                   np.ones((16, 16), int))[:rows, :cols]
    later = kind.copy()
    if planted:
        later[CHANGED] = 4
    first, second = (covers[k] + rng.normal(0, noise, (rows, cols, DIMS)) for k in (kind, later))
    return codes_of(first), codes_of(second)


def write(path, codes, transform=NORTH_UP, wkt=UTM, encoder="fast@1.0#abcd", day="2023-06-01"):
    grid = Grid(wkt, transform, codes.shape[:2])
    with EmbeddingsWriter(path, grid, codes.shape[2], SCALE,
                          {ENCODER_TAG: encoder, DATES_TAG: day}) as out:
        for block in grid.blocks(256, 256):
            out.write(block.row, block.col, codes[block.slices])
    return str(path)


@pytest.fixture
def pair(tmp_path):
    """Two files of 150 x 270 pixels, in a folder of their own."""
    (tmp_path / "in").mkdir()
    first, second = dates(150, 270)
    second[140:, :9] = 0
    return (write(tmp_path / "in" / "before.tif", first),
            write(tmp_path / "in" / "after.tif", second, day="2024-07-01"))


def detect(before, after, context=None, **params):
    said = []
    context = context or JobContext(on_log=lambda _, text: said.append(text))
    result = jobs.run("change_detection", {"before": [before], "after": [after], **params}, context)
    with rasterio.open(result["output"]) as dataset:
        return result, dataset.read(1), said


def test_planted_change_is_found_and_noise_is_not(pair, tmp_path):
    result, change, said = detect(
        *pair, output=str(tmp_path / "change.tif"), distance=str(tmp_path / "distance.tif"),
        polygons=str(tmp_path / "areas.gpkg"))
    truth = np.zeros(change.shape, bool)
    truth[CHANGED] = True
    known = change != 255
    assert (~known[140:, :9]).all() and known.sum() == change.size - 90
    # all of it, and beside it no more than the few noisy pixels that touch it
    assert (change[truth] == 1).all() and (change[known & ~truth] == 1).sum() <= 4
    hectare = 100 * 0.9996**2  # in pixels, at the zone's central meridian
    hectares = (change == 1).sum() / hectare
    areas = {a["name"]: a["hectares"] for a in result["areas"]}
    assert areas == pytest.approx({"changed": hectares, "unchanged": 40410 / hectare - hectares},
                                  rel=1e-5)
    assert result["season"] == ["2023-06-01", "2024-07-01"] and result["patches"] == 1
    assert any(t.startswith("Threshold: cosine distance 0.") for t in said)
    assert any(t.startswith("Changed: 2.0 ha of 404.4 ha (0.5 %) in 1 patch;") for t in said)
    with rasterio.open(result["distance"]) as dataset:
        distance = dataset.read(1)
        assert dataset.nodata == -1 and ((distance == -1) == ~known).all()
    info, _, shapes, (listed, mean, what, sure) = pyogrio.raw.read(result["polygons"])
    assert info["fields"].tolist() == ["area_ha", "distance", "change", "confidence"]
    assert info["crs"] == "EPSG:32631" and what.tolist() == ["changed"] and 50 < sure[0] <= 100
    assert listed == pytest.approx([hectares], rel=1e-5)
    assert mean == pytest.approx([distance[change == 1].mean()])
    shape = shapely.from_wkb(shapes)[0]
    assert shape.is_valid and shape.area == pytest.approx(1e4 * hectares * 0.9996**2, rel=1e-5)
    assert shape.covers(shapely.box(500600, 5599500, 500700, 5599700))
    assert "changed" in (tmp_path / "change.qml").read_text(encoding="utf-8")
    assert f"{2 * result['threshold']!r}" in (tmp_path / "distance.qml").read_text("utf-8")


def test_without_a_change_nothing_is_found(tmp_path):
    first, second = dates(200, 200, planted=False)
    before, after = write(tmp_path / "a.tif", first), write(tmp_path / "b.tif", second)
    result, change, _ = detect(before, after, output=str(tmp_path / "c.tif"),
                               polygons=str(tmp_path / "p.gpkg"))
    assert (change == 0).all() and result["patches"] == 0
    assert pyogrio.read_info(tmp_path / "p.gpkg", force_feature_count=True)["features"] == 0
    result, change, _ = detect(before, before, output=str(tmp_path / "same.tif"), min_area_ha=0)
    assert (change == 0).all() and result["threshold"] > 0


@pytest.mark.parametrize(("least", "found"), [(0, 3), (0.01, 3), (0.04, 2), (0.05, 1), (3, 0)])
def test_small_patches_are_left_out(tmp_path, least, found):
    first, _ = dates(100, 100, planted=False, noise=0)
    second = first.copy()
    for place in (CHANGED, np.s_[5:7, 5:7], np.s_[90:91, 90:91]):
        second[place] = first[place][..., ::-1]
    result, change, _ = detect(
        write(tmp_path / "a.tif", first), write(tmp_path / "b.tif", second), min_area_ha=least,
        output=str(tmp_path / "c.tif"), polygons=str(tmp_path / "p.geojson"))
    assert result["patches"] == found and (change == 1).sum() == (0, 200, 204, 205)[found]
    info = pyogrio.read_info(tmp_path / "p.geojson", force_feature_count=True)
    assert info["features"] == found


def test_a_threshold_of_ones_own(pair, tmp_path):
    result, change, said = detect(*pair, threshold=1.99, output=str(tmp_path / "c.tif"))
    assert result["threshold"] == 1.99 and not (change == 1).any()
    assert any("1.9900 (as given)" in text for text in said)
    with rasterio.open(pair[0]) as dataset:
        total = dataset.width * dataset.height - 90
    _, change, _ = detect(*pair, threshold=0, min_area_ha=0, output=str(tmp_path / "c.tif"))
    assert (change == 1).sum() == total


def test_distances_are_exact():
    rng = np.random.default_rng(2)
    first, second = (rng.integers(1, 256, (9, 11, 64)).astype(np.uint8) for _ in range(2))
    a, b = (dequantise(codes, SCALE).astype(np.float64) for codes in (first, second))
    wanted = 1 - (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    assert np.allclose(cosine_distance(first, second), wanted, atol=1e-6)
    assert (cosine_distance(first, first) == 0).all()
    assert np.allclose(cosine_distance(first, 256 - first.astype(int)), 2)
    first[0, 0], second[0, 1], second[0, 2] = 0, 0, 128  # none, none, a vector of length 0
    assert (cosine_distance(first, second)[0, :4] == -1).tolist() == [True, True, True, False]


def test_the_threshold_is_median_and_three_deviations():
    rng = np.random.default_rng(4)
    angles = np.concatenate([rng.normal(0.5, 0.05, 95_000), rng.normal(1.4, 0.1, 2_000)])
    background = Background.of(1 - np.cos(angles), 64, SCALE)
    assert background.median == pytest.approx(0.5, abs=0.003)
    assert background.deviation == pytest.approx(0.05, rel=0.05)
    assert background.threshold == pytest.approx(1 - math.cos(0.65), rel=0.02)
    still = Background.of(np.zeros(10), 64, SCALE)
    assert still.threshold == pytest.approx(1 - math.cos(2 * SCALE * math.sqrt(64 / 6)))


@pytest.mark.parametrize(("transform", "wkt", "pixel"), [
    ((10.0, 0.0, 5e5, 0.0, 10.0, 5.6e6), UTM, 0.01),  # south-up
    ((1e-4, 0.0, 5.0, 0.0, -1e-4, 60.0), DEGREES, 0.0062),
    ((8.0, 6.0, 5e5, 6.0, -8.0, 5.6e6), UTM, 0.01),  # turned
])
def test_grids_of_all_kinds(tmp_path, transform, wkt, pixel):
    first, second = dates(97, 83)
    result, change, _ = detect(
        write(tmp_path / "a.tif", first, transform, wkt),
        write(tmp_path / "b.tif", second, transform, wkt), output=str(tmp_path / "c.tif"),
        polygons=str(tmp_path / "p.gpkg"), threshold=0.5)
    assert (change[CHANGED] == 1).all() and (change == 1).sum() == 200
    hectares = next(a["hectares"] for a in result["areas"] if a["name"] == "changed")
    assert hectares == pytest.approx(200 * pixel, rel=0.01)
    _, _, shapes, (listed, *_) = pyogrio.raw.read(result["polygons"])
    assert listed == pytest.approx([hectares], rel=1e-4)
    area = abs(transform[0] * transform[4] - transform[1] * transform[3])
    assert shapely.area(shapely.from_wkb(shapes)) == pytest.approx([200 * area])


def test_files_that_overlap_are_compared_where_both_are(tmp_path):
    first, second = dates(120, 130)
    before = write(tmp_path / "a.tif", first[:90])
    # 20 rows and 25 columns further in
    moved = (10.0, 0.0, 5e5 + 250, 0.0, -10.0, 5.6e6 - 200)
    after = write(tmp_path / "b.tif", second[20:, 25:], moved)
    _, change, _ = detect(before, after, output=str(tmp_path / "c.tif"), threshold=0.5)
    assert change.shape == (70, 105) and (change[10:30, 35:45] == 1).all()
    assert (change == 1).sum() == 200
    with rasterio.open(tmp_path / "c.tif") as dataset:
        assert tuple(dataset.transform)[:6] == moved
    extent = [500600, 5599500, 500700, 5599650, "EPSG:32631"]
    _, change, _ = detect(before, after, output=str(tmp_path / "c.tif"), extent=extent,
                          threshold=0.5)
    assert change.shape == (15, 10) and (change == 1).all()


def test_wrong_requests_are_sentences_and_leave_nothing(pair, tmp_path):
    codes, _ = dates(40, 40)
    folder = tmp_path / "in"
    other = write(folder / "other.tif", codes, encoder="tessera@2.0#ffff")
    half = write(folder / "half.tif", codes, (10.0, 0.0, 5e5 + 5, 0.0, -10.0, 5.6e6))
    coarse = write(folder / "coarse.tif", codes, (20.0, 0.0, 5e5, 0.0, -20.0, 5.6e6))
    away = write(folder / "away.tif", codes, (10.0, 0.0, 6e5, 0.0, -10.0, 5.6e6))
    degrees = write(folder / "degrees.tif", codes, (1e-4, 0.0, 5.0, 0.0, -1e-4, 50.0), DEGREES)
    empty = write(folder / "empty.tif", np.zeros((40, 40, DIMS), np.uint8))
    before = pair[0]
    for after, more, sentence in (
            (other, {}, "is of the encoder fast@1.0#abcd, other of tessera@2.0#ffff; .* Encode"),
            (half, {}, "don't lie on each other: .* part of a pixel apart. Build the stack"),
            (coarse, {}, "differ in size or direction"),
            (degrees, {}, "coordinate systems differ"),
            (away, {}, "no common area"),
            (empty, {}, "No pixel has embeddings on both dates"),
            (pair[1], {"preset": "fire"}, "no preset fire. Choose any."),
            (pair[1], {"threshold": 2.5}, "Threshold is 2.5"),
            (pair[1], {"polygons": str(tmp_path / "p.txt")}, "No vector format ends with .txt"),
    ):
        with pytest.raises(UserError, match=sentence):
            detect(before, after, output=str(tmp_path / "c.tif"),
                   distance=str(tmp_path / "d.tif"), **more)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("step", ["Comparing a sample", "Comparing", "Mapping", "Drawing", "Sav"])
def test_cancelling_leaves_nothing(pair, tmp_path, step):
    seen = []

    def watch(_, text):
        if text.startswith(step) and (step != "Comparing" or "%" in text):
            seen.append(text)

    context = JobContext(is_cancelled=lambda: bool(seen), on_progress=watch)
    if step == "Sav":  # too late to stop: everything is complete
        detect(*pair, context, output=str(tmp_path / "c.tif"), polygons=str(tmp_path / "p.gpkg"))
        assert {"c.tif", "p.gpkg"} < {path.name for path in tmp_path.iterdir()}
        return
    with pytest.raises(Cancelled):
        detect(*pair, context, output=str(tmp_path / "c.tif"), distance=str(tmp_path / "d.tif"),
               polygons=str(tmp_path / "p.gpkg"))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), rows=st.integers(1, 40), cols=st.integers(1, 40),
       strip=st.integers(1, 9))
def test_patches_do_not_depend_on_the_strips(seed, rows, cols, strip):
    rng = np.random.default_rng(seed)
    marked, values = rng.random((rows, cols)) < 0.55, rng.random((rows, cols))
    finder = PatchFinder(Grid(UTM, NORTH_UP, (rows, cols)))
    numbers = np.concatenate([
        finder.add(row, marked[row:row + strip], values[row:row + strip])
        for row in range(0, rows, strip)])
    patches = finder.patches(0.02)
    numbers = patches.number[numbers]
    whole, count = label(marked)
    kept = [k for k in range(1, count + 1) if (whole == k).sum() >= 2]
    assert sorted(patches.hectares, reverse=True) == pytest.approx(list(patches.hectares))
    assert len(kept) == len(patches.hectares) == numbers.max()
    for k in kept:
        number = numbers[whole == k][0]
        assert ((numbers == number) == (whole == k)).all()
        assert patches.hectares[number - 1] == pytest.approx(
            (whole == k).sum() / (100 * 0.9996**2), rel=1e-5)
        assert patches.mean[number - 1] == pytest.approx(values[whole == k].mean())


@settings(max_examples=60, deadline=None)
@given(down=st.integers(-30, 30), right=st.integers(-30, 30), turned=st.booleans())
def test_common_windows_are_the_same_place(down, right, turned):
    first = Grid(UTM, (8.0, 6.0, 5e5, 6.0, -8.0, 5.6e6) if turned else NORTH_UP, (20, 25))
    second = first.part(Window(down, right, 22, 17))
    common = common_windows(first, second)
    if common is None:
        assert abs(down) >= 20 or abs(right) >= 17
        return
    ours, theirs = common
    assert (ours.rows, ours.cols) == (theirs.rows, theirs.cols)
    assert first.part(ours).matches(second.part(theirs))
