"""Cross-validation of the convolutional decoder: blocks held back, calibration, gate.

The same steps as `training.train`, for a head that looks at the ground around each sample. The
principal axes of the features are those of all samples, labels unseen; everything that is learned
from labels is learned without the held-back blocks.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from ...models import catalogue
from ...models.cards import read_card
from .. import environment
from ..context import JobContext
from . import accuracy, classifiers, crossval
from .applicability import Gate
from .crossval import Folds
from .decoder import MODEL, Decoder, Projection
from .decoder_training import STEPS, fit, gather
from .features import FeatureSource
from .labels import Labels
from .layout import FeatureLayout
from .training import Training
from .trials import Trial, calibrate, settled

_REACH = 4  # pixels that a decoder looks at least in each direction


def reach_of(encoder: str) -> int:
    """Side (pixels) of the tokens of an encoder with this identity; 1 where it is not at hand."""
    path = catalogue.bundled([environment.models_folder()]).get(encoder.split("@")[0])
    return read_card(path).patch if path is not None else 1


def dilations_of(layout: FeatureLayout) -> tuple[int, ...]:
    """Dilations that reach over a token of the layout's encoder: near, half of it, all of it."""
    reach = max(_REACH, reach_of(layout.encoder) if layout.dims else 1)
    return 1, reach // 2, reach


def train(
    source: FeatureSource,
    table: np.ndarray,
    layout: FeatureLayout,
    labels: Labels,
    context: JobContext,
    *,
    kinds: tuple[str, ...],
    count: int = 5,
    block_m: float | None = None,
    seed: int = 0,
) -> Training:
    """Compare feature kinds on held-back blocks, fit the best on all samples, calibrate it.

    Args:
        source: the features, on the grid of the samples.
        table: (n, k) features of the samples themselves, all columns of `layout`.
        layout: of the table.
        labels: n samples.
        context: budget, progress, log, warnings.
        kinds, count, block_m, seed: as for `training.train`.
    """
    y, size = labels.classes, len(labels.legend)
    folds = crossval.blocked_folds(source.grid, labels.rows, labels.cols, y, labels.groups,
                                   context, count=count, side_m=block_m, seed=seed)
    for k in crossval.lonely_classes(y, folds, size):
        context.warn(f"All {labels.legend.names[k]} lies in one fold, so how well it is mapped "
                     "elsewhere cannot be tested.")
    dilations, whole = dilations_of(layout), Projection.of(table, layout)
    channels = gather(source, labels.rows, labels.cols, layout, whole, dilations,
                      context.part(0, 0.2))

    def task(kind: str) -> _Task:
        seen = np.r_[whole.columns(kind), channels.shape[2] - 1]
        return _Task(kind, channels[:, :, seen], y, size, whole.only(kind, layout), dilations, seed)

    share = 0.6 / len(kinds)
    trials = tuple(task(kind).held_back(folds, STEPS, context.part(0.2 + share * i,
                                                                   0.2 + share * (i + 1)))
                   for i, kind in enumerate(kinds))
    best = max(trials, key=lambda t: t.scores.macro_f1)
    chosen, steps = task(best.kind), (int(best.strength),)
    random = chosen.held_back(crossval.random_folds(y, folds.count, seed), steps,
                              context.part(0.8, 0.9))
    baseline = _forest(table, layout, y, size, folds, seed, context.part(0.9, 0.95))
    context.progress(0.95, "Training on all samples")
    with threadpool_limits(1, "blas"):
        fitted = chosen.fit(np.ones(len(y), bool), steps, context)[0]
    temperature, calibrated = calibrate(best.probabilities, y, folds)
    ece = tuple(accuracy.expected_calibration_error(p.max(1), p.argmax(1) == y)
                for p in (best.probabilities, calibrated))
    x, used = table[:, layout.columns(best.kind)], layout.only(best.kind)
    gate = Gate.of(x, y, folds.fold, best.kind == "embeddings", seed)
    context.log(f"Convolutional decoder, {2 * dilations[-1] + 1} x {2 * dilations[-1] + 1} pixels, "
                f"{steps[0]} steps: " + ", ".join(f"{t.kind} {t.text}" for t in trials)
                + f"; {folds.count} folds, blocks of {folds.side_m:g} m (random split "
                  f"{random.scores.macro_f1:.2f})")
    return Training(fitted, used, layout, labels, x, gate, folds, best, trials, random, baseline,
                    temperature, calibrated, ece, seed)


class _Task:
    """One kind of features to learn from; arguments as for `decoder_training.fit`."""

    def __init__(self, kind: str, channels: np.ndarray, y: np.ndarray, size: int,
                 projection: Projection, dilations: tuple[int, ...], seed: int) -> None:
        self._kind, self._channels, self._y, self._size = kind, channels, y, size
        self._projection, self._dilations, self._seed = projection, dilations, seed

    def fit(self, mask: np.ndarray, steps: tuple[int, ...], context: JobContext) -> list[Decoder]:
        """Decoders of the samples of a mask."""
        return fit(self._channels[mask], self._y[mask], self._size, self._projection,
                   self._dilations, self._seed, steps, context.check)

    def held_back(self, folds: Folds, steps: tuple[int, ...], context: JobContext) -> Trial:
        """Hold back every fold once; the steps of each fold are those best on the others."""
        y, size = self._y, self._size
        held = np.zeros((len(steps), len(y), size))

        def one(f: int) -> None:
            test = folds.fold == f
            for s, decoder in enumerate(self.fit(~test, steps, context)):
                held[s, test] = decoder.around(self._channels[test])

        # one processor a fit: the same sums in the same order, so the same bytes
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(context.threads) as pool:
            for f, _ in enumerate(pool.map(one, range(folds.count))):
                context.progress((f + 1) / folds.count, f"Testing {self._kind} on held-back "
                                                        f"ground, fold {f + 1} of {folds.count}")
        chosen, best = settled(held, y, size, folds)
        return Trial.judged(self._kind, MODEL, chosen, y, size, folds, float(steps[best]))


def _forest(table: np.ndarray, layout: FeatureLayout, y: np.ndarray, size: int, folds: Folds,
            seed: int, context: JobContext) -> Trial | None:
    """A random forest on band series, the yardstick of the field; None without bands."""
    if not layout.series:
        return None
    held = crossval.held_back(
        table[:, layout.columns("bands")], y, folds, (1, len(y), size),
        "Testing a forest,", context, lambda known, truth: [
            classifiers.fit_forest(known, truth, size, seed, context.threads).probabilities])
    return Trial.judged("bands", "forest", held[0], y, size, folds, float("nan"))
