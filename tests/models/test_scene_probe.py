"""Embeddings of real scenes in pairs: placed right, judged on ground held back, compared alike."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from dataclasses import replace  # noqa: E402

from earthprint.models.cube import Cube, Series  # noqa: E402
from earthprint.models.training import pretrain, scene_probe  # noqa: E402
from earthprint.models.training.scene_probe import Scene, cut, embedded, gain, scores  # noqa: E402

S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
      "swir22")  # fmt: skip


@pytest.fixture(scope="module")
def card():
    return pretrain.small("timo").card()


def scene(rows, cols, points=False, seed=0):
    """Two classes in squares of 8 pixels; one is darker."""
    rng = np.random.default_rng(seed)
    square = 1 if points else 8
    labels = rng.integers(2, size=(-(-rows // square), -(-cols // square)))
    labels = labels.repeat(square, 0).repeat(square, 1)[:rows, :cols]
    values = np.broadcast_to(0.1 + 0.3 * labels, (1, len(S2), rows, cols)).astype(np.float32)
    dates = np.array(["2018-06-01"], "datetime64[D]")
    series = Series("sentinel-2", S2, dates, values, np.ones((1, rows, cols), bool), ("",))
    return Scene("squares", Cube((rows, cols), {"sentinel-2": series}), labels, 2 if points else 16,
                 points=points)


def means(inputs):
    """The mean blue of each patch of 8, and a constant."""
    blue = inputs["series"][0, 0, 0].reshape(8, 8, 8, 8).mean(axis=(1, 3)).reshape(-1, 1)
    return np.concatenate([blue, np.ones_like(blue)], axis=1)


@pytest.mark.parametrize("points", (False, True))
def test_every_pixel_has_the_feature_of_its_own_patch(card, points):
    given = scene(20, 24, True) if points else scene(72, 101)
    found, known = embedded(cut(given, card), means)
    assert known.all()
    assert np.allclose(found[..., 0], 0.1 + 0.3 * given.labels, atol=0.16)
    whole = found[:64, :96, 0]
    assert np.allclose(whole[:20, :24], 0.1 + 0.3 * given.labels[:20, :24], atol=1e-5)


def test_scores_tell_a_network_that_knows_from_one_that_does_not(card):
    windows = cut(scene(64, 128), card)
    rng = np.random.default_rng(0)
    knows, guesses = scores(windows, means), scores(windows, lambda _: rng.normal(size=(64, 2)))
    assert knows.shape == (scene_probe.DRAWS, 2)
    assert knows.min() > 99 and guesses.mean() < 75
    assert np.array_equal(knows, scores(windows, means))


def test_a_fixed_split_learns_from_one_side_only(card):
    given = scene(64, 128)
    west = np.zeros((64, 128), bool)
    west[:, :64] = True
    flipped = np.where(west, 1 - given.labels, given.labels)  # the sides contradict each other
    found = scores(cut(replace(given, labels=flipped, held_back=west), card), means)
    assert found.max() < 5


def test_gains_are_of_pairs():
    start = np.arange(24.0).reshape(3, 4, 2)
    found = gain([start, start + 2], [start + 4])
    assert np.allclose(found.mean, 3) and np.allclose(found.error, 0)
    assert found.start.shape == found.trained.shape == (3, 2)
