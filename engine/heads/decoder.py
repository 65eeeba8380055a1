"""A small convolutional network as a head: it looks at a pixel and at the ground around it.

The features are standardised and projected on their principal axes (embedding and bands apart);
a linear answer of the pixel itself is corrected by what 3 x 3 convolutions of several dilations and
two layers of 1 x 1 make of its surroundings. The
dilations reach as far as the encoder's tokens are wide, so that bands can sharpen coarse tokens.
A pixel without data is zero, and a mask among the channels says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import helper

from .layout import FeatureLayout
from .standard import Graph, Standard

MODEL = "convolutional"

AXES = 32
"""Principal axes that are kept of the embedding and of the bands, each."""

_FLATTENING = 0.5  # power of the axes' spread that is divided out: 0 keeps it, 1 whitens


@dataclass(frozen=True)
class Projection:
    """Features to channels.

    Attributes:
        standard: means and spreads of the features.
        axes: (k, p) float32, block-diagonal for embedding and bands.
        embedded: how many of the channels are of the embedding; the others are of the bands.
    """

    standard: Standard
    axes: np.ndarray
    embedded: int

    @classmethod
    def of(cls, x: np.ndarray, layout: FeatureLayout) -> Projection:
        """The principal axes of (n, k) features of single pixels."""
        standard = Standard.of(x, layout.dims)
        table = standard(x)
        parts = [_axes(part) for part in (table[:, :layout.dims], table[:, layout.dims:])]
        axes = np.zeros((x.shape[1], sum(p.shape[1] for p in parts)), np.float32)
        embedded = parts[0].shape[1]
        axes[:layout.dims, :embedded] = parts[0]
        axes[layout.dims:, embedded:] = parts[1]
        return cls(standard, axes, embedded)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, p + 1) float32 channels of (n, k) features; the last one is 0 without any data."""
        there = ~np.isnan(x).all(1)
        return np.column_stack([self.standard(x) @ self.axes, there]).astype(np.float32)

    def only(self, kind: str, layout: FeatureLayout) -> Projection:
        """The part for one kind of the features of a layout of both."""
        rows, columns = layout.columns(kind), self.columns(kind)
        return Projection(Standard(self.standard.mean[rows], self.standard.scale[rows]),
                          self.axes[rows, columns], self.embedded if kind != "bands" else 0)

    def columns(self, kind: str) -> slice:
        """The channels of a kind, without the mask."""
        whole = self.axes.shape[1]
        return {"embeddings": slice(0, self.embedded), "bands": slice(self.embedded, whole),
                "both": slice(0, whole)}[kind]


def _axes(x: np.ndarray) -> np.ndarray:
    """(k, p) principal axes of centred features, their spreads made more alike."""
    if not x.shape[1]:
        return np.zeros((0, 0), np.float32)
    x = x.astype(np.float64)
    power, axes = np.linalg.eigh(x.T @ x / len(x))
    order = np.argsort(-power)[:min(AXES, x.shape[1])]
    power, axes = np.maximum(power[order], 1e-9 * power.max() + 1e-12), axes[:, order]
    axes *= np.where(axes[np.abs(axes).argmax(0), np.arange(len(order))] < 0, -1, 1)
    scaled = axes / power ** (_FLATTENING / 2)
    return (scaled / np.sqrt((power ** (1 - _FLATTENING)).mean())).astype(np.float32)


def taps(dilations: tuple[int, ...]) -> np.ndarray:
    """(t, 2) offsets (row, column) that a pixel's answer depends on; the pixel itself is first."""
    ring = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
    return np.array([(0, 0), *((d * dy, d * dx) for d in dilations for dy, dx in ring)])


@dataclass(frozen=True)
class Decoder:
    """A trained network.

    Attributes:
        projection: features to p channels and a mask.
        dilations: of the convolutions, ascending, pixels.
        weights: (t, p + 1, h) by offset of `taps`, (h, h), (h, c).
        biases: (h,), (h,), (c,).
        direct: (p + 1, c) weights of the pixel's own channels.
    """

    projection: Projection
    dilations: tuple[int, ...]
    weights: tuple[np.ndarray, np.ndarray, np.ndarray]
    biases: tuple[np.ndarray, np.ndarray, np.ndarray]
    direct: np.ndarray

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its answer depends on."""
        return self.dilations[-1]

    def around(self, channels: np.ndarray) -> np.ndarray:
        """(n, c) probabilities of (n, t, p + 1) channels at the offsets of `taps`."""
        first, second, last = self.weights
        hidden = np.maximum(channels.reshape(len(channels), -1) @ first.reshape(-1, first.shape[2])
                            + self.biases[0], 0)
        hidden = np.maximum(hidden @ second + self.biases[1], 0)
        z = hidden @ last + channels[:, 0] @ self.direct + self.biases[2]
        p = np.exp(z - z.max(1, keepdims=True))
        return p / p.sum(1, keepdims=True)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(1, c, rows, cols) probabilities of (1, k, rows + 2 margin, cols + 2 margin) features."""
        _, k, height, width = x.shape
        m = self.margin
        rows, cols = height - 2 * m, width - 2 * m
        channels = self.projection(x[0].reshape(k, -1).T).reshape(height, width, -1)
        seen = [channels[m + dy:m + dy + rows, m + dx:m + dx + cols].reshape(rows * cols, -1)
                for dy, dx in taps(self.dilations)]
        return self.around(np.stack(seen, 1)).T.reshape(1, -1, rows, cols)

    def graph(self) -> Graph:
        """The same as ONNX nodes on images."""
        m, nodes, parts = self.margin, [], []
        constants = {
            "mean": self.projection.standard.mean[None, :, None, None],
            "scale": self.projection.standard.scale[None, :, None, None],
            "axes": self.projection.axes.T[:, :, None, None], "one": np.float32(1),
            "bias0": self.biases[0][None, :, None, None],
            "direct": self.direct.T[:, :, None, None],
            "start0": np.array([m, m], np.int64), "stop0": np.array([-m, -m], np.int64),
            "plane": np.array([2, 3], np.int64)}
        for i, d in enumerate(self.dilations):
            kernel = np.zeros((3, 3, *self.weights[0].shape[1:]), np.float32)
            ring = self.weights[0][1 + 8 * i:9 + 8 * i]
            kernel.reshape(9, *ring.shape[1:])[[0, 1, 2, 3, 5, 6, 7, 8]] = ring
            if i == 0:
                kernel[1, 1] = self.weights[0][0]
            constants[f"kernel{d}"] = kernel.transpose(3, 2, 0, 1)
            source = "channels"
            if d < m:
                source = f"near{d}"
                constants[f"start{d}"] = np.array([m - d, m - d], np.int64)
                constants[f"stop{d}"] = np.array([d - m, d - m], np.int64)
                nodes.append(helper.make_node(
                    "Slice", ["channels", f"start{d}", f"stop{d}", "plane"], [source]))
            nodes.append(helper.make_node("Conv", [source, f"kernel{d}"], [f"seen{d}"],
                                          kernel_shape=[3, 3], dilations=[d, d]))
            parts.append(f"seen{d}")
        for layer in (1, 2):
            constants[f"weights{layer}"] = self.weights[layer].T[:, :, None, None]
            constants[f"bias{layer}"] = self.biases[layer]
        return Graph((
            helper.make_node("IsNaN", ["features"], ["absent"]),
            helper.make_node("Where", ["absent", "mean", "features"], ["filled"]),
            helper.make_node("Sub", ["filled", "mean"], ["centred"]),
            helper.make_node("Mul", ["centred", "scale"], ["standard"]),
            helper.make_node("Conv", ["standard", "axes"], ["projected"]),
            helper.make_node("Cast", ["absent"], ["absence"], to=1),
            helper.make_node("ReduceMin", ["absence"], ["empty"], axes=[1], keepdims=1),
            helper.make_node("Sub", ["one", "empty"], ["mask"]),
            helper.make_node("Concat", ["projected", "mask"], ["channels"], axis=1),
            *nodes,
            helper.make_node("Sum", [*parts, "bias0"], ["before0"]),
            helper.make_node("Relu", ["before0"], ["hidden0"]),
            helper.make_node("Conv", ["hidden0", "weights1", "bias1"], ["before1"]),
            helper.make_node("Relu", ["before1"], ["hidden1"]),
            helper.make_node("Conv", ["hidden1", "weights2", "bias2"], ["correction"]),
            helper.make_node("Slice", ["channels", "start0", "stop0", "plane"], ["own"]),
            helper.make_node("Conv", ["own", "direct"], ["linear"]),
            helper.make_node("Add", ["linear", "correction"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["raw"], axis=1)),
            constants)


def image_of(x: np.ndarray, side: int) -> np.ndarray:
    """(1, k, side, side) image of the first features of (n, k), repeated, with a gap: a check."""
    image = x[np.arange(side * side) % len(x)].copy()
    image[::7] = np.nan
    return image.T.reshape(1, -1, side, side).astype(np.float32)
