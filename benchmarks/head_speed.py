"""How fast heads map: fit, file and pixels a second on one processor, by kind of head.

``PYTHONPATH=build/plugins .venv/engine/bin/python benchmarks/head_speed.py`` prints the table that
`heads.py` puts into `docs/evaluation.md`. Synthetic features of 128 numbers, 8 classes, 3 000
samples, 65 536 pixels; the joined head sees 24 steps of 12 bands as well. Seconds are processor
time of one thread.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from earthprint.engine.heads import classifiers, joined
from earthprint.engine.heads.applicability import Gate
from earthprint.engine.heads.head import Head, HeadCard, write_head
from earthprint.engine.heads.layout import FeatureLayout, SensorSeries
from earthprint.engine.rasters.legend import Legend

FEATURES, CLASSES, SAMPLES, PIXELS = 128, 8, 3000, 65_536
STEPS, BATCH = 24, 8192
SERIES = (
    SensorSeries("sentinel-1", ("vv", "vh"), STEPS),
    SensorSeries("sentinel-2", ("blue", "green", "red", "rededge071", "rededge075", "rededge078",
                                "nir", "nir08", "swir16", "swir22"), STEPS),
)


def fitted(model: str, x: np.ndarray, y: np.ndarray) -> classifiers.Classifier:
    """One classifier, by one thread."""
    if model == "logistic":
        return classifiers.fit_logistic(x, y, CLASSES, (0.1,))[0]
    if model == "forest":
        return classifiers.fit_forest(x, y, CLASSES, 0, 1)
    if model == "boosting":
        return classifiers.fit_boosting(x, y, CLASSES, 0, 1)
    if model == "mlp":
        return classifiers.fit_perceptron(x, y, CLASSES, 0)
    return classifiers.fit_neighbours(x, y, CLASSES, 0)


def fitted_joined(x: np.ndarray, y: np.ndarray, layout: FeatureLayout) -> joined.Joined:
    """All members of the joined model, by one thread."""
    views = joined.Views.of(x, layout)
    tables = views(x)
    return joined.Joined(views, tuple(
        joined.Member(part, joined.fit_part(part, tables[part.source], y, CLASSES, 0, 1,
                                            (0.03,))[0], 1.0)
        for part in joined.parts_of("both")))


def lines() -> Iterator[str]:
    """The table: a line a kind of head."""
    rng = np.random.default_rng(0)
    y, truth = rng.integers(0, CLASSES, SAMPLES), rng.integers(0, CLASSES, PIXELS)
    legend = Legend.of_names([f"class {k}" for k in range(CLASSES)])
    yield from ("| head | fit (s) | file (MB) | pixels a second |", "|-|-|-|-|")
    with tempfile.TemporaryDirectory() as folder:
        for model in (*classifiers.MODELS, joined.MODEL):
            layout = FeatureLayout("embeddings", "e@1#0", FEATURES)
            if model == joined.MODEL:
                layout = FeatureLayout("both", "e@1#0", FEATURES, SERIES)
            means = 0.5 * rng.normal(size=(CLASSES, layout.size))
            x, pixels = ((means[k] + rng.normal(size=(len(k), layout.size))).astype(np.float32)
                         for k in (y, truth))
            gate = Gate.of(x, y, np.arange(SAMPLES) % 5, False, 0)
            start = time.process_time()
            classifier = (fitted_joined(x, y, layout) if model == joined.MODEL
                          else fitted(model, x, y))
            fit = time.process_time() - start
            path = Path(folder) / f"{model}.head.onnx"
            card = HeadCard(layout, legend, model, (), {}, 1.0, 0, {})
            write_head(path, classifier, card, gate, x[:200])
            head, best = Head.open(path), 0.0
            for _ in range(3):
                start = time.process_time()
                for first in range(0, PIXELS, BATCH):  # as windows are mapped
                    head.probabilities(pixels[first:first + BATCH])
                best = max(best, PIXELS / (time.process_time() - start))
            yield f"| {model} | {fit:.1f} | {path.stat().st_size / 1e6:.1f} | {best:,.0f} |"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
