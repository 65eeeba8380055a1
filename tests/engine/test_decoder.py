"""The convolutional decoder: textures of known answer, files, tiles, edges."""

import numpy as np
import onnx
import pytest
import rasterio
from rasterio.crs import CRS

from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled
from earthprint.engine.heads import classifiers, decoder_validation
from earthprint.engine.heads.accuracy import tempered
from earthprint.engine.heads.decoder import Decoder, Projection, taps
from earthprint.engine.heads.decoder_training import fit, gather, symmetries
from earthprint.engine.heads.features import FeatureSource
from earthprint.engine.heads.head import Head
from earthprint.engine.heads.inputs import Inputs
from earthprint.engine.heads.labels import Labels
from earthprint.engine.heads.layout import FeatureLayout
from earthprint.engine.heads.mapping import Options, map_head
from earthprint.engine.heads.surroundings import reflected, with_margin
from earthprint.engine.rasters.embeddings import ENCODER_TAG, EmbeddingsWriter, quantise
from earthprint.engine.rasters.grid import Grid, Window
from earthprint.engine.rasters.legend import Legend
from earthprint.engine.tasks.train_head import Learned, save

ENCODER, DIMS, ROWS, COLS = "toy@1.0#00000000", 4, 96, 128
LAYOUT = FeatureLayout("embeddings", ENCODER, DIMS)
GRID = Grid(CRS.from_epsg(32633).to_wkt(), (10, 0, 500000, 0, -10, 5000000), (ROWS, COLS))


def is_checkered():
    """Squares of 16 x 16 pixels in which the second texture lies."""
    r, c = np.indices((ROWS, COLS)) // 16
    return (r * 5 + c * 3 + r * c) % 2 == 1


def ground(gap=False):
    """Stripes and checkers: every pixel alone says nothing about its texture."""
    rng = np.random.default_rng(0)
    r, c = np.indices((ROWS, COLS))
    sign = np.where(is_checkered(), (r + c) % 2, c % 2) * 2.0 - 1
    vectors = 0.05 * rng.normal(size=(ROWS, COLS, DIMS))
    vectors[..., 0] += sign
    vectors[..., 1] += 1
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    codes = quantise(vectors.reshape(-1, DIMS).astype(np.float32), 1 / 127)
    codes = codes.reshape(ROWS, COLS, DIMS)
    if gap:
        codes[40:50, 60:70] = 0
    return codes


def write(path, codes):
    with EmbeddingsWriter(path, GRID, DIMS, 1 / 127, {ENCODER_TAG: ENCODER}) as out:
        out.write(0, 0, codes)
    return path


@pytest.fixture(scope="module")
def textures(tmp_path_factory):
    return write(tmp_path_factory.mktemp("textures") / "embeddings.tif", ground(gap=True))


def labelled(count=500):
    rng = np.random.default_rng(3)
    flat = rng.permutation(ROWS * COLS)[:count]
    rows, cols = np.divmod(flat, COLS)
    rows, cols = np.append(rows, [0, ROWS - 1]), np.append(cols, [0, COLS - 1])
    keep = ~((rows >= 40) & (rows < 50) & (cols >= 60) & (cols < 70))
    rows, cols = rows[keep], cols[keep]
    return Labels(rows, cols, is_checkered()[rows, cols].astype(int), np.arange(len(rows)),
                  Legend.of_names(["stripes", "checkers"]), 0, False, "points.gpkg")


def trained(path, context, seed=0):
    with FeatureSource(None, path) as source:
        labels = labelled()
        table, known = source.at(labels.rows, labels.cols, LAYOUT, context)
        assert known.all()
        return table, decoder_validation.train(source, table, LAYOUT, labels, context,
                                               kinds=("embeddings",), block_m=160, seed=seed)


@pytest.fixture(scope="module")
def learned(textures, tmp_path_factory):
    table, training = trained(textures, JobContext(threads=2))
    path = tmp_path_factory.mktemp("head") / "a.head.onnx"
    save(Learned(training, Inputs(None, textures, None, None, "textures")), path, None)
    return table, training, path


def mapped(textures, head, folder, memory_mb=2000, threads=1, smooth=False):
    path = folder / "map.tif"
    map_head(head, lambda: FeatureSource(None, textures),
             Options(path, folder / "sure.tif", smooth=smooth),
             JobContext(memory_mb=memory_mb, threads=threads, folder=folder))
    with rasterio.open(path) as file, rasterio.open(folder / "sure.tif") as sure:
        return file.read(1), sure.read(1)


def test_it_learns_a_texture_that_no_single_pixel_shows(textures, learned):
    table, training, _ = learned
    y, fold = training.labels.classes, training.folds.fold
    alone = np.empty(len(y), int)
    for f in range(training.folds.count):
        forest = classifiers.fit_forest(table[fold != f], y[fold != f], 2, 0, 1)
        alone[fold == f] = forest.probabilities(table[fold == f]).argmax(1)
    assert np.mean([(alone[y == k] == k).mean() for k in (0, 1)]) < 0.6
    assert training.chosen.scores.macro_f1 > 0.9
    assert training.ece[1] <= training.ece[0] + 0.02 and training.temperature > 0


def test_the_file_answers_like_the_trained_network(textures, learned):
    _, training, path = learned
    head = Head.open(path)
    onnx.checker.check_model(onnx.load(path))
    assert head.card.model == "convolutional" and head.card.margin == training.classifier.margin
    with FeatureSource(None, textures) as source:
        features, valid = with_margin(source, Window(30, 50, 40, 30), head.card.margin, LAYOUT)
    assert not valid.all() and np.isnan(features[~valid]).all()
    answer = head.image(features, valid)
    image = features.transpose(2, 0, 1)[None]
    wanted = tempered(training.classifier.probabilities(image), head.card.temperature)
    m = head.card.margin
    inner = valid[m:-m, m:-m]
    assert answer[inner] == pytest.approx(wanted[0].transpose(1, 2, 0)[inner], abs=1e-4)
    assert (answer[~inner] == 0).all() and answer[inner].sum(1) == pytest.approx(1, abs=1e-5)


def test_the_map_is_right_and_does_not_show_its_windows(textures, learned, tmp_path):
    head = Head.open(learned[2])
    whole, _ = mapped(textures, head, tmp_path)
    known = whole != 255
    assert (~known).sum() == 100  # the gap, and nothing more
    assert ((whole == 2) == is_checkered())[known].mean() > 0.9
    m = head.card.margin
    with FeatureSource(None, textures) as source:
        once = head.image(*with_margin(source, source.grid.full, m, LAYOUT))
        for window in source.grid.blocks(17, 23):
            part = head.image(*with_margin(source, window, m, LAYOUT))
            assert np.abs(part - once[window.slices]).max() < 1e-5
    smoothed = [mapped(textures, head, tmp_path, memory_mb=mb, threads=n, smooth=True)
                for mb, n in ((2000, 1), (1, 3))]
    assert np.array_equal(smoothed[0][0], smoothed[1][0])


def test_the_same_seed_gives_the_same_bytes(textures, learned, tmp_path):
    _, training = trained(textures, JobContext(threads=1))  # the other one used two threads
    path = tmp_path / "a.head.onnx"
    save(Learned(training, Inputs(None, textures, None, None, "textures")), path, None)
    assert path.read_bytes() == learned[2].read_bytes()


def test_surroundings_are_read_the_same_for_training_and_mapping(textures):
    labels, dilations, context = labelled(60), (1, 2, 4), JobContext(memory_mb=50)
    with FeatureSource(None, textures) as source:
        table, _ = source.at(labels.rows, labels.cols, LAYOUT, context)
        projection = Projection.of(table, LAYOUT)
        found = gather(source, labels.rows, labels.cols, LAYOUT, projection, dilations, context)
        features, _ = with_margin(source, source.grid.full, 4, LAYOUT)
    channels = projection(features.reshape(-1, DIMS)).reshape(*features.shape[:2], -1)
    offsets = taps(dilations)
    for i, (row, col) in enumerate(zip(labels.rows, labels.cols, strict=True)):
        y, x = row + 4 + offsets[:, 0], col + 4 + offsets[:, 1]
        assert found[i] == pytest.approx(channels[y, x], abs=1e-6)
    missing = found[..., -1] == 0
    assert missing.any() and (found[missing] == 0).all() and found[:, 0, -1].all()


def test_mirrored_indices():
    assert reflected(np.arange(-4, 9), 5).tolist() == [4, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0]
    assert reflected(np.arange(-2, 3), 1).tolist() == [0] * 5


def test_turns_and_mirrorings_keep_dilations_and_the_centre():
    orders, offsets = symmetries((1, 2, 4)), taps((1, 2, 4))
    assert orders.shape == (8, 25) and len(np.unique(orders, axis=0)) == 8
    assert (orders[:, 0] == 0).all() and (np.sort(orders, 1) == np.arange(25)).all()
    size = np.abs(offsets).max(1)
    assert all(np.array_equal(size[order], size) for order in orders)


def test_a_class_that_a_fold_lacks_gets_no_votes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, DIMS)).astype(np.float32)
    projection = Projection.of(x, LAYOUT)
    channels = np.repeat(projection(x)[:, None], 9, 1)
    (decoder,) = fit(channels, np.repeat([0, 2], 30), 3, projection, (1,), 0, (20,))
    assert isinstance(decoder, Decoder) and decoder.around(channels)[:, 1].max() < 1e-6


def test_it_stops_when_asked(textures):
    calls = iter(range(10_000))
    with pytest.raises(Cancelled):
        trained(textures, JobContext(threads=1, is_cancelled=lambda: next(calls) > 20))
