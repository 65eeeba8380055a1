"""The bundled student: TESSERA v2's architecture at a size that reads 50,000 pixels a second.

Its embedding is that of `network.Tessera`; `Student` computes the same with fewer and larger matrix
products. With a single head the products of queries with keys and of values with the output map
each become one matrix, and what softmax does not see is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import (
    MATRYOSHKA,
    Backbone,
    BackboneConfig,
    EncoderLayer,
    Tessera,
    TesseraConfig,
)

LENGTHS = (8, 16)  # bins of its sequences: at most 16 observations of a sensor
_SIZE = BackboneConfig(width=64, layers=1, heads=1, feedforward=96)
CONFIG = TesseraConfig("v2_student", 128, s2=_SIZE, s1=_SIZE, prefixes=MATRYOSHKA)
DAYS = 367  # 0 for nothing, then 1..366


def megaflop(config: TesseraConfig, s2_length: int, s1_length: int) -> float:
    """Million additions and multiplications of matrix products for a pixel, by `Student`."""
    products = 0
    for bands, length, size in ((10, s2_length, config.s2), (2, s1_length, config.s1)):
        d = size.width
        layer = 2 * d * d + 2 * d * length + 2 * d * size.feedforward
        products += length * (bands * d + d * d + size.layers * layer + 2 * d)
    fused = config.s2.width * 2
    products += fused * 2 * fused + 2 * fused * config.dimensions + config.dimensions**2
    return 2 * products / 1e6


class FoldedLayer(nn.Module):
    """An `EncoderLayer` of one head.

    The score of observations i and j is (Wq y_i + bq) (Wk y_j + bk) / sqrt(d); terms without j do
    not change a softmax over j, which leaves (A y_i + c) y_j. The attended values pass Wv and Wo in
    turn, so once through their product. The bias before the second norm joins the first norm's.
    """

    def __init__(self, layer: EncoderLayer):
        super().__init__()
        attention, width = layer.self_attn, layer.linear2.out_features
        wq, wk, wv = attention.in_proj_weight.chunk(3)
        bq, _, bv = attention.in_proj_bias.chunk(3)
        out = attention.out_proj
        self.score = _linear(wk.T @ wq / width**0.5, wk.T @ bq / width**0.5)
        self.value = _linear(out.weight @ wv, out.weight @ bv + out.bias)
        bias = layer.linear2.bias
        self.norm1 = _norm(layer.norm1, bias)
        self.linear1 = _linear(
            layer.linear1.weight, layer.linear1.bias - layer.linear1.weight @ bias
        )
        self.register_buffer("linear2", layer.linear2.weight.T.detach().clone())
        self.norm2 = _norm(layer.norm2)

    def forward(self, y: Tensor, length: int) -> Tensor:
        """(B * T, d) to (B * T, d), T = length."""
        series = y.reshape(-1, length, y.shape[1])
        scores = self.score(y).reshape(-1, length, y.shape[1]) @ series.transpose(1, 2)
        attended = (scores.softmax(dim=-1) @ series).reshape(-1, y.shape[1])
        y = self.norm1(y + self.value(attended))
        return self.norm2(torch.addmm(y, self.linear1(y).relu(), self.linear2))


class FoldedBackbone(nn.Module):
    """A `Backbone` whose days are whole numbers: their sines and cosines come from a table."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        first, second = backbone.embedding[0], backbone.embedding[2]
        self.first = _linear(first.weight, first.bias)
        self.register_buffer("second", second.weight.T.detach().clone())
        table = backbone.temporal_encoder(torch.arange(float(DAYS))[None])[0]
        self.register_buffer("days", (table + second.bias).detach())
        self.layers = nn.ModuleList(FoldedLayer(x) for x in backbone.transformer_encoder.layers)
        self.register_buffer("query", backbone.attn_pool.query.weight.T.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C + 1) to (B, d)."""
        length = x.shape[1]
        flat = x.flatten(0, 1)  # (B * T, C + 1): one product for all observations
        day = self.days[flat[:, -1].long()]
        y = torch.addmm(day, self.first(flat[:, :-1]).relu(), self.second)
        for layer in self.layers:
            y = layer(y, length)
        weights = (y @ self.query).reshape(-1, 1, length).softmax(dim=-1)
        return (weights @ y.reshape(-1, length, y.shape[1])).flatten(1)


class Student(nn.Module):
    """What is shipped: the network, then its embedding along softly whitened principal axes.

    Any v2 student of one head a layer will do.
    """

    def __init__(self, network: Tessera, mean: Tensor, axes: Tensor):
        """`mean` (128,) and `axes` (128, 128) of scaled rows, see `fast.network.soft_axes`."""
        super().__init__()
        config = network.config
        heads = max(config.s2.heads, config.s1.heads)
        if config.variant != "v2_student" or config.qk_norm or heads > 1:
            raise ValueError("only a TESSERA v2 student with one head a layer can be folded")
        network = network.eval()
        self.s2_backbone = FoldedBackbone(network.s2_backbone)
        self.s1_backbone = FoldedBackbone(network.s1_backbone)
        self.dim_reducer = network.dim_reducer
        self.axes = _linear(axes, -axes @ mean)

    def forward(self, s2: Tensor, s1: Tensor) -> Tensor:
        """s2 (B, T2, 11) and s1 (B, T1, 3) to unit vectors (B, 128)."""
        fused = torch.cat((self.s2_backbone(s2), self.s1_backbone(s1)), dim=-1)
        return functional.normalize(self.axes(self.dim_reducer(fused)), dim=1)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear map with these constants."""
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return linear


def _norm(norm: nn.LayerNorm, shift: Tensor | float = 0.0) -> nn.LayerNorm:
    """A copy of a layer norm whose outputs are shifted."""
    copy = nn.LayerNorm(norm.normalized_shape, norm.eps)
    with torch.no_grad():
        copy.weight.copy_(norm.weight)
        copy.bias.copy_(norm.bias + shift)
    return copy
