"""What frozen embeddings of real scenes are worth, compared in pairs: same windows, same draws.

A scene is cut into the encoder's own windows, every labelled pixel has the embedding of its patch
(a point fills a window by itself and has that of the middle), and a logistic regression and the
nearest neighbours are judged on blocks of ground held back.
Scores are macro-F1 in %. A network and its random start differ by their weights alone, so
the differences of equal draws say more than the scores do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

from ..cards import Card
from ..catalogue import adapter_of
from ..cube import Cube

#: Inputs of one window, as the adapter gives them, to features (P, d).
Network = Callable[[dict[str, np.ndarray]], np.ndarray]

DRAWS = 4  # of labelled pixels and folds
_FOLDS = 4
_LABELS = 600  # pixels of a draw at most, evenly of each class
_NEIGHBOURS = 10
_FEWEST = 30  # pixels of a class in a raster, or it is left out
METHODS = ("LR", "kNN")


@dataclass(frozen=True)
class Scene:
    """A labelled raster.

    Attributes:
        name: of the table's row.
        cube: its series.
        labels: (rows, cols) int, -1 where unlabelled.
        block: side in pixels of the blocks that are held back together.
        held_back: (rows, cols) bool, what is tested on; None = each block in its turn.
        points: pixels are places that have nothing to do with their neighbours.
    """

    name: str
    cube: Cube
    labels: np.ndarray
    block: int
    held_back: np.ndarray | None = None
    points: bool = False


@dataclass(frozen=True)
class Cut:
    """The windows of a scene in the form of one encoder: first row and column, patches, inputs."""

    scene: Scene
    patch: int
    side: int
    windows: tuple[tuple[int, int, np.ndarray, dict[str, np.ndarray]], ...]


def cut(scene: Scene, card: Card) -> Cut:
    """The windows, side by side; of the last ones the part that is new."""
    adapter = adapter_of(card)
    windows = []
    if scene.points:
        for row, col in np.argwhere(scene.labels >= 0):
            cube = _part(scene.cube, slice(row, row + 1), slice(col, col + 1), card.window, "edge")
            for batch in adapter.batches(cube, card.window**2, card):
                windows.append((int(row), int(col), batch.pixels, batch.inputs))
        return Cut(scene, card.patch, card.window // card.patch, tuple(windows))
    starts = [_starts(n, card.window, card.patch) for n in scene.cube.shape]
    for row in starts[0]:
        for col in starts[1]:
            rows, cols = slice(row, row + card.window), slice(col, col + card.window)
            if not (scene.labels[rows, cols] >= 0).any():
                continue
            cube = _part(scene.cube, rows, cols, card.window, "constant")
            for batch in adapter.batches(cube, card.window**2, card):
                windows.append((row, col, batch.pixels, batch.inputs))
    return Cut(scene, card.patch, card.window // card.patch, tuple(windows))


def _starts(length: int, window: int, patch: int) -> list[int]:
    """Windows over an axis, all on one grid of patches; the last one may reach beyond."""
    starts = [*range(0, length - window + 1, window)] or [0]
    left = length - starts[-1] - window
    return starts if left <= 0 else [*starts, starts[-1] + -(-left // patch) * patch]


def _part(cube: Cube, rows: slice, cols: slice, side: int, mode: str) -> Cube:
    """A part, filled up to a square at its lower and right edge: `edge` repeats, else nothing."""

    def square(x: np.ndarray) -> np.ndarray:
        x = x[..., rows, cols]
        missing = [(0, 0)] * (x.ndim - 2) + [(0, side - n) for n in x.shape[-2:]]
        return np.pad(x, missing, mode=mode)

    return replace(cube, shape=(side, side), series={
        name: replace(s, values=square(s.values), valid=square(s.valid))
        for name, s in cube.series.items()})


def embedded(given: Cut, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Features of all pixels (rows, cols, d), and which have any."""
    rows, cols = given.scene.labels.shape
    found, known = None, np.zeros((rows, cols), bool)
    side, patch = given.side, given.patch
    for row, col, pixels, inputs in given.windows:
        x = network(inputs)
        if found is None:
            found = np.zeros((rows, cols, x.shape[1]), np.float32)
        if given.scene.points:
            middle = side // 2 * side + side // 2
            found[row, col], known[row, col] = x[middle], pixels[middle] >= 0
            continue
        here = np.s_[row : row + side * patch, col : col + side * patch]
        high, wide = known[here].shape
        x = x.reshape(side, side, -1).repeat(patch, 0).repeat(patch, 1)[:high, :wide]
        seen = (pixels >= 0).reshape(side, side).repeat(patch, 0).repeat(patch, 1)[:high, :wide]
        new = seen & ~known[here]
        found[here][new] = x[new]
        known[here][new] = True
    if found is None:
        raise ValueError(f"{given.scene.name} shows the encoder nothing")
    return found, known


def scores(given: Cut, network: Network, centred: bool = True) -> np.ndarray:
    """Macro-F1 in % of each draw and method: (DRAWS, methods).

    Args:
        given: the windows.
        network: what is judged.
        centred: features become directions from the scene's mean; without it they are taken as
            they are, for an encoder that gives unit vectors around the mean of its training.
    """
    features, seen = embedded(given, network)
    return judged(given.scene, directions(features, seen) if centred else features, seen)


def directions(features: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Unit vectors of features (rows, cols, d) around the mean of those that are seen."""
    apart = features - features[seen].mean(axis=0)
    return apart / np.maximum(np.linalg.norm(apart, axis=-1, keepdims=True), 1e-9)


def judged(scene: Scene, features: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The scores of what `embedded` gives."""
    known = (scene.labels >= 0) & seen
    if not scene.points:
        values, counts = np.unique(scene.labels[known], return_counts=True)
        known &= np.isin(scene.labels, values[counts >= _FEWEST])
    rows, cols = np.nonzero(known)
    x, y = features[rows, cols], scene.labels[rows, cols]
    x = x - x.mean(axis=0)
    x = x / np.sqrt(x.var(axis=0).mean() + 1e-12)
    blocks = rows // scene.block * 10_000 + cols // scene.block
    kept_back = None if scene.held_back is None else scene.held_back[rows, cols]
    return np.array([_draw(x, y, blocks, kept_back, seed) for seed in range(DRAWS)])


def _draw(x: np.ndarray, y: np.ndarray, blocks: np.ndarray, held_back: np.ndarray | None,
          seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    classes = np.unique(y)
    sides = [np.ones(len(y), bool)] if held_back is None else [held_back, ~held_back]
    chosen = np.concatenate([
        rng.permutation(np.flatnonzero((y == c) & side))[: _LABELS // len(classes)]
        for c in classes for side in sides])
    x, y, blocks = x[chosen], y[chosen], blocks[chosen]
    guessed = np.full((len(METHODS), len(y)), -1)
    for train, test in _folds(blocks, None if held_back is None else held_back[chosen], rng):
        for i, model in enumerate(_models()):
            guessed[i, test] = model.fit(x[train], y[train]).predict(x[test])
    judged = guessed[0] >= 0
    return [100 * f1_score(y[judged], g[judged], average="macro") for g in guessed]


def _models() -> Iterator[LogisticRegression | KNeighborsClassifier]:
    yield LogisticRegression(C=10, class_weight="balanced", max_iter=300, tol=1e-3)
    yield KNeighborsClassifier(_NEIGHBOURS, metric="cosine")


def _folds(blocks: np.ndarray, held_back: np.ndarray | None, rng: np.random.Generator
           ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(training, test) masks: the fixed split, or every block once in a test."""
    if held_back is not None:
        yield ~held_back, held_back
        return
    names = rng.permutation(np.unique(blocks))
    for part in np.array_split(names, _FOLDS):
        test = np.isin(blocks, part)
        yield ~test, test


@dataclass(frozen=True)
class Gain:
    """What training brought on some scenes.

    Attributes:
        start, trained: mean scores, (scenes, methods).
        mean, error: of the paired differences over all scenes, and its standard error over scenes,
            for each method.
    """

    start: np.ndarray
    trained: np.ndarray
    mean: np.ndarray
    error: np.ndarray


def gain(starts: list[np.ndarray], trained: list[np.ndarray]) -> Gain:
    """Compare scores (scenes, draws, methods) of random starts and of trainings, means of each."""
    before, after = (np.mean(x, axis=0).mean(axis=1) for x in (starts, trained))
    apart = after - before
    error = apart.std(axis=0, ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else 0 * apart[0]
    return Gain(before, after, apart.mean(axis=0), error)
