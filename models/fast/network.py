"""The network of `fast`: a residual perceptron on one pixel's year, 1.7 MFLOP, and its output axes.

Large plain matrix products are what processors do best, and after 24 fixed steps a year is just a
vector. Batch norms vanish into the linear layers at export; so do the mean and the rotation that
make the output fit for similarity search.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_linear_bn_eval

from ..timegrid import STEPS
from .adapter import COLUMNS

CLIP = 4.0  # standard deviations: a cloud or snow may stand out, but not drown the season
WIDTH = 512
DIMENSIONS = 128


class Layer(nn.Module):
    """Linear, batch norm, ReLU, added to the input where the widths agree."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inside, outside)
        self.norm = nn.BatchNorm1d(outside)
        self.residual = inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside) to (n, outside)."""
        y = functional.relu(self.norm(self.linear(x)))
        return x + y if self.residual else y


class Fast(nn.Module):
    """The trunk: what is trained. The year (n, 24, 20) to features (n, 128) without constraints."""

    def __init__(self, width: int = WIDTH, dimensions: int = DIMENSIONS) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Layer(STEPS * COLUMNS, width), Layer(width, width), Layer(width, width)
        )
        self.out = nn.Linear(width, dimensions)

    def forward(self, grid: Tensor) -> Tensor:
        """The adapter's `grid` to features."""
        return self.out(self.layers(grid.flatten(1).clamp(-CLIP, CLIP)))


class FoldedLayer(nn.Module):
    """A `Layer` in use: the norm is part of the linear map."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.linear = fuse_linear_bn_eval(layer.linear, layer.norm)
        self.residual = layer.residual

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside) to (n, outside)."""
        y = functional.relu(self.linear(x))
        return x + y if self.residual else y


class Encoder(nn.Module):
    """What is shipped: the trunk, then the features seen along softly whitened principal axes.

    Raw features share one direction and a few loud axes, which cosine search would measure above
    all. So the training mean is subtracted, the axes are turned to the principal ones (sorted, so
    that prefixes work) and multiplied by variance^-0.25, and the vector gets unit length.
    """

    def __init__(self, trunk: Fast, mean: Tensor, axes: Tensor) -> None:
        """`mean` (128,) and `axes` (128, 128), rows already scaled, see `soft_axes`."""
        super().__init__()
        trunk = trunk.eval()
        self.layers = nn.Sequential(*(FoldedLayer(layer) for layer in trunk.layers))
        self.out = nn.Linear(trunk.out.in_features, len(axes))
        with torch.no_grad():
            self.out.weight.copy_(axes @ trunk.out.weight)
            self.out.bias.copy_(axes @ (trunk.out.bias - mean))

    def forward(self, grid: Tensor) -> Tensor:
        """The adapter's `grid` (n, 24, 20) to unit vectors (n, 128)."""
        features = self.out(self.layers(grid.flatten(1).clamp(-CLIP, CLIP)))
        return functional.normalize(features, dim=1)


def soft_axes(features: Tensor, power: float = -0.25) -> tuple[Tensor, Tensor]:
    """Mean (d,) and principal axes (d, d) of features (n, d), each axis times variance^power."""
    features = features.double()
    mean = features.mean(dim=0)
    variance, vectors = torch.linalg.eigh(torch.cov((features - mean).T))
    order = variance.argsort(descending=True)
    variance, axes = variance[order].clamp_min(1e-6 * variance.max()), vectors.T[order]
    return mean.float(), (axes * variance[:, None] ** power).float()
