"""Mapping with the class of what is unlike the training data, on embeddings of known layout."""

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.heads import classifiers
from earthprint.engine.heads.applicability import Gate
from earthprint.engine.heads.features import FeatureSource
from earthprint.engine.heads.head import Head, HeadCard, write_head
from earthprint.engine.heads.layout import FeatureLayout
from earthprint.engine.heads.mapping import UNKNOWN, Options, map_head
from earthprint.engine.rasters.embeddings import ENCODER_TAG, EmbeddingsWriter, quantise
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.rasters.legend import NODATA, Legend, LegendClass

ENCODER, DIMS = "toy@1.0#00000000", 8
ROWS, COLS = 60, 90


def write_embeddings(path, vectors):
    vectors = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    grid = Grid(CRS.from_epsg(32633).to_wkt(), (10, 0, 500000, 0, -10, 5000000), vectors.shape[:2])
    codes = quantise(vectors.reshape(-1, DIMS).astype(np.float32), 1 / 127)
    with EmbeddingsWriter(path, grid, DIMS, 1 / 127, {ENCODER_TAG: ENCODER}) as out:
        out.write(0, 0, codes.reshape(vectors.shape))


def write_toy_head(path, legend=None):
    """Two classes along the first two axes."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = (np.eye(DIMS)[y] + 0.1 * rng.normal(size=(200, DIMS))).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    card = HeadCard(FeatureLayout("embeddings", ENCODER, DIMS),
                    legend or Legend.of_names(["a", "b"]), "logistic", (), {}, 1.0, 0, {})
    write_head(path, classifiers.fit_logistic(x, y, 2, (1.0,), DIMS)[0], card,
               Gate.of(x, y, np.arange(200) % 5, True, 0), x)
    return Head.open(path)


@pytest.fixture
def ground(tmp_path):
    """Class a on the left, b on the right, a strange square, one strange pixel."""
    rng = np.random.default_rng(1)
    vectors = 0.05 * rng.normal(size=(ROWS, COLS, DIMS))
    vectors[:, :45, 0] += 1
    vectors[:, 45:, 1] += 1
    vectors[20:40, 10:30] = vectors[50, 70] = -np.eye(DIMS)[5]
    path = tmp_path / "embeddings.tif"
    write_embeddings(path, vectors)
    return path


def mapped(ground, head, tmp_path, **options):
    context = JobContext(folder=tmp_path)
    paths = {name: tmp_path / f"{name}.tif" for name in ("output", "confidence", "unlike")}
    result = map_head(head, lambda: FeatureSource(None, ground), Options(**paths, **options),
                      context)
    layers = {}
    for name, path in paths.items():
        with rasterio.open(path) as file:
            layers[name] = file.read(1)
            if name == "output":
                layers["names"] = file.tags(1)
    return result, layers


@pytest.mark.parametrize("smooth", [False, True])
def test_what_is_unlike_the_training_data_gets_a_class_of_its_own(ground, tmp_path, smooth):
    head = write_toy_head(tmp_path / "toy.head.onnx")
    result, layers = mapped(ground, head, tmp_path, smooth=smooth, unknown=True)
    answer = layers["output"]
    assert (answer[21:39, 11:29] == UNKNOWN.value).all()
    assert (answer[:18, :44] == 1).all() and (answer[:, 47:65] == 2).all()
    # one strange pixel is outvoted by its neighbours where the map is smoothed
    assert answer[50, 70] == (2 if smooth else UNKNOWN.value)
    assert layers["unlike"][50, 70] == 1 and layers["unlike"][30, 20] == 1
    assert (layers["confidence"][answer == UNKNOWN.value] == NODATA).all()
    assert (layers["confidence"][answer != UNKNOWN.value] <= 100).all()
    area = {c.value: c.hectares for c in result.areas.classes}
    assert area[254] == pytest.approx((answer == 254).sum() / 100, rel=0.01)
    assert result.legend.names == ("a", "b", "Unknown")
    assert result.unlike_share == pytest.approx((layers["unlike"] == 1).mean(), abs=0.02)


def test_without_the_wish_every_pixel_has_a_class(ground, tmp_path):
    head = write_toy_head(tmp_path / "toy.head.onnx")
    result, layers = mapped(ground, head, tmp_path)
    assert set(np.unique(layers["output"])) == {1, 2}
    assert result.legend == head.card.legend and layers["unlike"][30, 20] == 1


def test_small_patches_of_unknown_join_their_surroundings_like_any_other(ground, tmp_path):
    head = write_toy_head(tmp_path / "toy.head.onnx")
    _, layers = mapped(ground, head, tmp_path, smooth=False, unknown=True, min_area_ha=0.05)
    assert layers["output"][50, 70] == 2 and (layers["output"][22:38, 12:28] == 254).all()


def test_a_class_that_holds_the_value_already_is_refused_in_words(ground, tmp_path):
    legend = Legend((LegendClass(1, "a", "#ff0000"), LegendClass(254, "sea", "#0000ff")))
    head = write_toy_head(tmp_path / "toy.head.onnx", legend)
    with pytest.raises(UserError, match="sea has the value 254.*Turn Unknown off"):
        mapped(ground, head, tmp_path, unknown=True)
    assert not (tmp_path / "output.tif").exists()
