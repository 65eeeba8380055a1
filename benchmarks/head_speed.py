"""How fast heads map: fit, file and pixels a second on one processor, by kind of head.

``PYTHONPATH=build/plugins .venv/engine/bin/python benchmarks/head_speed.py`` prints the table of
`docs/evaluation.md`. Synthetic features of 128 numbers, 8 classes, 3 000 samples, 65 536 pixels.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from earthprint.engine.heads import classifiers
from earthprint.engine.heads.applicability import Gate
from earthprint.engine.heads.head import Head, HeadCard, write_head
from earthprint.engine.heads.layout import FeatureLayout
from earthprint.engine.rasters.legend import Legend

FEATURES, CLASSES, SAMPLES, PIXELS = 128, 8, 3000, 65_536


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


def main() -> None:
    """Print one line a kind of head."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, SAMPLES)
    means = 0.5 * rng.normal(size=(CLASSES, FEATURES))
    x = (means[y] + rng.normal(size=(SAMPLES, FEATURES))).astype(np.float32)
    pixels = (means[rng.integers(0, CLASSES, PIXELS)]
              + rng.normal(size=(PIXELS, FEATURES))).astype(np.float32)
    gate = Gate.of(x, y, np.arange(SAMPLES) % 5, False, 0)
    legend = Legend.of_names([f"class {k}" for k in range(CLASSES)])
    print("| head | fit (s) | file (MB) | pixels a second |\n|-|-|-|-|")
    with tempfile.TemporaryDirectory() as folder:
        for model in classifiers.MODELS:
            start = time.perf_counter()
            classifier = fitted(model, x, y)
            fit = time.perf_counter() - start
            path = Path(folder) / f"{model}.head.onnx"
            card = HeadCard(FeatureLayout("embeddings", "e@1#0", FEATURES), legend, model, (),
                            {}, 1.0, 0, {})
            write_head(path, classifier, card, gate, x[:200])
            head, best = Head.open(path), 0.0
            for _ in range(3):
                start = time.perf_counter()
                head.probabilities(pixels)
                best = max(best, PIXELS / (time.perf_counter() - start))
            print(f"| {model} | {fit:.1f} | {path.stat().st_size / 1e6:.1f} | {best:,.0f} |",
                  flush=True)


if __name__ == "__main__":
    main()
