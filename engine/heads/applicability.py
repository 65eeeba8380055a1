"""Where a model may be trusted: dissimilarity to its training samples.

The area of applicability of Meyer and Pebesma (2021): the distance to the nearest training sample
over the mean distance between training samples, against what held-back samples showed.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np

from .classifiers import balanced_draw
from .standard import Standard

MOST_REFERENCES = 2000
"""Training samples kept to compare with, drawn evenly over the classes."""

_CHUNK = 4096  # pixels compared at a time


@dataclass(frozen=True)
class Gate:
    """Training samples to compare with.

    Attributes:
        cosine: compare unit vectors by 1 - cosine (embeddings); else standardised features by
            Euclidean distance.
        standard: means and spreads; unused for cosine.
        references: (m, k) float32 prepared samples.
        mean_distance: between all pairs of references.
        threshold: dissimilarity above which a pixel is unlike the training data.
    """

    cosine: bool
    standard: Standard
    references: np.ndarray
    mean_distance: float
    threshold: float

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, fold: np.ndarray, cosine: bool, seed: int) -> Gate:
        """The gate of training samples.

        Args:
            x: (n, k) features.
            y: (n,) class index, for an even draw.
            fold: (n,) fold; a sample's nearest neighbour is looked for outside its own.
            cosine: see the attribute.
            seed: of the draw.
        """
        chosen = balanced_draw(y, MOST_REFERENCES, seed)
        standard = Standard.of(x)
        points = _prepared(x[chosen], standard, cosine)
        mean, threshold, _ = training_dissimilarity(points, fold[chosen], cosine)
        return cls(cosine, standard, points, mean, threshold)

    def dissimilarity(self, x: np.ndarray) -> np.ndarray:
        """(n,) distance of (n, k) features to the nearest reference over the mean distance."""
        result = np.empty(len(x), np.float32)
        for start in range(0, len(x), _CHUNK):
            part = _prepared(x[start:start + _CHUNK], self.standard, self.cosine)
            result[start:start + _CHUNK] = _distances(part, self.references, self.cosine).min(1)
        return result / max(self.mean_distance, 1e-12)

    def unlike(self, x: np.ndarray) -> np.ndarray:
        """(n,) bool: outside the area of applicability."""
        return self.dissimilarity(x) > self.threshold

    def to_text(self) -> str:
        """The gate as text, for the metadata of a file."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, cosine=self.cosine, mean=self.standard.mean, scale=self.standard.scale,
            references=self.references.astype(np.float16),
            numbers=np.array([self.mean_distance, self.threshold]))
        return base64.b64encode(buffer.getvalue()).decode("ascii")

    @classmethod
    def of_text(cls, text: str) -> Gate:
        """The gate that `to_text` wrote."""
        with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as held:
            mean, threshold = held["numbers"]
            return cls(bool(held["cosine"]), Standard(held["mean"], held["scale"]),
                       held["references"].astype(np.float32), float(mean), float(threshold))


def training_dissimilarity(
    points: np.ndarray, fold: np.ndarray, cosine: bool
) -> tuple[float, float, np.ndarray]:
    """What the training samples say about themselves.

    Args:
        points: (m, k) prepared samples.
        fold: (m,) fold of each.
        cosine: distance 1 - cosine instead of Euclid.

    Returns:
        Mean distance of all pairs; threshold = min(Q75 + 1.5 IQR, max); (m,) dissimilarity to the
        nearest sample outside the own fold.
    """
    distance = _distances(points, points, cosine)
    m = len(points)
    mean = float(distance[np.triu_indices(m, 1)].mean()) if m > 1 else 1.0
    own = fold[:, None] == fold[None, :]
    nearest = np.where(own, np.inf, distance).min(1) / max(mean, 1e-12)
    nearest = nearest[np.isfinite(nearest)]
    if not len(nearest):
        return mean, float("inf"), nearest
    low, high = np.quantile(nearest, [0.25, 0.75])
    return mean, float(min(high + 1.5 * (high - low), nearest.max())), nearest


def _prepared(x: np.ndarray, standard: Standard, cosine: bool) -> np.ndarray:
    if not cosine:
        return standard(x)
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _distances(a: np.ndarray, b: np.ndarray, cosine: bool) -> np.ndarray:
    """(n, m) distances between rows."""
    product = a @ b.T
    if cosine:
        return np.maximum(1 - product, 0)
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * product
    return np.sqrt(np.maximum(squares, 0))
