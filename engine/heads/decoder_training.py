"""Trains a convolutional decoder on the ground around labelled pixels, without PyTorch.

The surroundings of all samples are read tile by tile and kept as channels. A logistic regression of
the pixels themselves comes first and stays; the network learns what it gets wrong. Adam with weight
decay, classes balanced, turned and mirrored at random. The longer it trains the better it knows
its own ground: how many steps are best is chosen on held-back blocks, for each fold on the others,
so that figures do not profit from the choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from ..context import JobContext
from .decoder import Decoder, Projection, taps
from .features import FeatureSource
from .layout import FeatureLayout
from .surroundings import reflected

STEPS = (200, 400)
"""Steps of training from which cross-validation chooses. On the sets of `benchmarks/decoder.py` 800
and 1600 were no better; with 0, the logistic regression alone, small folds chose wrongly."""

HIDDEN = 48
_BATCH = 128
_RATE, _DECAY = 2e-3, 0.05  # of Adam; decay of the weights, times the rate
_DROPPED = 0.1  # share of neighbours that a step does not see, as if they had no data
_UNITS = 0.3  # share of hidden units that a step leaves out
_MEMORY = 0.99  # of the running mean of the weights, which is what answers
_STRENGTH = 0.1  # C of the logistic regression
_ABSENT = -30.0  # logit of a class that the training samples of a fold lack
_TILE = 256


def gather(source: FeatureSource, rows: np.ndarray, cols: np.ndarray, layout: FeatureLayout,
           projection: Projection, dilations: tuple[int, ...],
           context: JobContext) -> np.ndarray:
    """Channels around pixels, read tile by tile.

    Args:
        source: the features.
        rows, cols: (n,) pixels; ground beyond the raster is mirrored.
        layout: the features of the projection.
        projection: to channels.
        dilations: see `Decoder`.
        context: budget, progress, cancellation.

    Returns:
        (n, t, p + 1) float32; 0 where there is no data.
    """
    offsets, (height, width) = taps(dilations), source.grid.shape
    result = np.zeros((len(rows), len(offsets), projection.axes.shape[1] + 1), np.float32)
    tile = min(source.side(layout, context.memory_mb / 4), _TILE)
    key = rows // tile * (width // tile + 1) + cols // tile
    parts = np.split(np.argsort(key, kind="stable"),
                     np.cumsum(np.unique(key, return_counts=True)[1])[:-1])
    for number, mine in enumerate(parts):
        context.progress(number / len(parts), "Reading the surroundings of labels")
        y = reflected(rows[mine, None] + offsets[:, 0], height)
        x = reflected(cols[mine, None] + offsets[:, 1], width)
        pixels, place = np.unique(y * width + x, return_inverse=True)
        table, valid = source.at(*np.divmod(pixels, width), layout,
                                 context.part(number / len(parts), (number + 1) / len(parts)))
        table[~valid] = np.nan
        result[mine] = projection(table)[place.reshape(y.shape)]
    return result


def symmetries(dilations: tuple[int, ...]) -> np.ndarray:
    """(8, t) orders of the taps under the turns and mirrorings of the ground."""
    offsets = taps(dilations)
    index = {tuple(o): i for i, o in enumerate(offsets.tolist())}
    result = []
    for mirrored in (False, True):
        turned = offsets[:, ::-1] if mirrored else offsets
        for _ in range(4):
            turned = np.column_stack([turned[:, 1], -turned[:, 0]])
            result.append([index[tuple(o)] for o in turned.tolist()])
    return np.array(result)


@dataclass
class _Adam:
    """Adam (Kingma and Ba 2015) with decoupled decay of the weights, and their running mean."""

    values: list[np.ndarray]

    def __post_init__(self) -> None:
        self._first = [np.zeros_like(v) for v in self.values]
        self._second = [np.zeros_like(v) for v in self.values]
        self.mean = [v.copy() for v in self.values]
        self._step = 0

    def step(self, slopes: list[np.ndarray]) -> None:
        self._step += 1
        t = self._step
        memory = min(_MEMORY, t / (t + 9))
        rate = np.float32(_RATE * np.sqrt(1 - 0.999**t) / (1 - 0.9**t))
        for v, g, m, s, mean in zip(self.values, slopes, self._first, self._second, self.mean,
                                    strict=True):
            m += np.float32(0.1) * (g - m)
            s += np.float32(0.001) * (g * g - s)
            if v.ndim > 1:
                v *= np.float32(1 - _RATE * _DECAY)
            v -= rate * m / (np.sqrt(s) + np.float32(1e-8))
            mean += np.float32(1 - memory) * (v - mean)


def fit(channels: np.ndarray, y: np.ndarray, size: int, projection: Projection,
        dilations: tuple[int, ...], seed: int, steps: tuple[int, ...] = STEPS,
        check: Callable[[], None] = lambda: None) -> list[Decoder]:
    """Class-balanced decoders after so many steps each.

    Args:
        channels: (n, t, p + 1) as `gather` gives them.
        y: (n,) class index; classes may be missing.
        size: number of classes.
        projection, dilations: of the decoders.
        seed: of weights, batches and turns.
        steps: ascending.
        check: called now and then; may raise to stop.
    """
    rng = np.random.default_rng(seed)
    n, t, width = channels.shape
    share = np.bincount(y, minlength=size)
    known = share > 0
    weight = (n / (known.sum() * np.maximum(share, 1)))[y].astype(np.float32)
    direct, bias = _linear(channels[:, 0], y, size)
    orders = symmetries(dilations)

    def start(rows: int, columns: int) -> np.ndarray:
        return rng.normal(0, np.sqrt(2 / rows), (rows, columns)).astype(np.float32)

    state = _Adam([start(t * width, HIDDEN), np.zeros(HIDDEN, np.float32),
                   start(HIDDEN, HIDDEN), np.zeros(HIDDEN, np.float32),
                   np.zeros((HIDDEN, size), np.float32), np.zeros(size, np.float32)])

    def decoder() -> Decoder:
        w0, b0, w1, b1, w2, b2 = (v.copy() for v in state.mean)
        return Decoder(projection, dilations, (w0.reshape(t, width, HIDDEN), w1, w2),
                       (b0, b1, b2 + bias), direct)

    batch, result = min(_BATCH, n), []
    queue = np.zeros(0, np.int64)
    for step in range(1, steps[-1] + 1):
        if step % 16 == 0:
            check()
        if len(queue) < batch:
            queue = np.concatenate([queue, rng.permutation(n)])
        mine, queue = queue[:batch], queue[batch:]
        x = channels[mine[:, None], orders[rng.integers(0, 8, batch)]]
        lost = rng.random((batch, t)) < _DROPPED
        lost[:, 0] = False
        x[lost] = 0
        state.step(_slopes(state.values, x.reshape(batch, -1), x[:, 0] @ direct + bias, y[mine],
                           weight[mine], rng))
        if step in steps:
            result.append(decoder())
    return result


def _linear(x: np.ndarray, y: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(p + 1, c) weights and (c,) bias of a class-balanced logistic regression."""
    model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=300, tol=1e-3)
    known = model.fit(x, y).classes_
    weights, bias = np.zeros((x.shape[1], size)), np.full(size, _ABSENT)
    if len(known) == 2:  # scikit-learn keeps the second class's logit only
        weights[:, known[1]], bias[known] = model.coef_[0], (0, model.intercept_[0])
    else:
        weights[:, known], bias[known] = model.coef_.T, model.intercept_
    return weights.astype(np.float32), bias.astype(np.float32)


def _slopes(values: list[np.ndarray], x: np.ndarray, linear: np.ndarray, y: np.ndarray,
            weight: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Slopes of the weighted cross-entropy of a batch whose linear answer is corrected."""
    w0, b0, w1, b1, w2, b2 = values
    masks = [(rng.random((len(x), HIDDEN), np.float32) >= _UNITS) / np.float32(1 - _UNITS)
             for _ in range(2)]
    h0 = np.maximum(x @ w0 + b0, 0) * masks[0]
    h1 = np.maximum(h0 @ w1 + b1, 0) * masks[1]
    z = h1 @ w2 + b2 + linear
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    p *= (weight / len(y))[:, None]
    d1 = (p @ w2.T) * (h1 > 0) * masks[1]
    d0 = (d1 @ w1.T) * (h0 > 0) * masks[0]
    return [x.T @ d0, d0.sum(0), h0.T @ d1, d1.sum(0), h1.T @ p, p.sum(0)]
