"""The networks of TESSERA v1.0, v1.1 and v2, with the parameter names of the official weights.

Two transformers read the time series of one pixel, one for each sensor; each is pooled over time,
the two vectors are fused and reduced to the embedding (arXiv 2506.20380 section 3; arXiv
2607.03949). Nothing is masked: the adapter decides which observations the network sees.

Shapes: B pixels, T observations, C bands, d width of a backbone, h heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VARIANTS = ("v1.0_early", "v1.0_qat", "v1.1", "v2_student", "v2_teacher")
S2_BANDS = 10
S1_BANDS = 2
FUSION_HEADS = 4  # of the teacher's fusion layers, whatever its backbones have


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes of the transformer of one sensor."""

    width: int  # d, in the authors' configurations 4 * latent_dim
    layers: int
    heads: int
    feedforward: int

    def __post_init__(self):
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a TESSERA width of {self.width}")


@dataclass(frozen=True)
class TesseraConfig:
    """Everything that decides which tensors a network has and what it does with them."""

    variant: str  # one of VARIANTS
    dimensions: int  # of the embedding
    s2: BackboneConfig
    s1: BackboneConfig
    fusion: str = "concat"  # or "sum"; the teacher fuses with a transformer
    qk_norm: bool = False  # students only: layers with normalised queries and keys
    final_norm: bool = True  # v2 only: LayerNorm without parameters over the embedding
    prefixes: tuple[int, ...] = ()  # lengths at which a v2 student's embedding may be cut

    def __post_init__(self):
        if self.variant not in VARIANTS:
            raise ValueError(f"TESSERA has no variant '{self.variant}', only {', '.join(VARIANTS)}")
        if self.fusion not in ("concat", "sum"):
            raise ValueError(f"TESSERA fuses by 'concat' or 'sum', not by '{self.fusion}'")
        if self.s2.width != self.s1.width:
            raise ValueError(
                f"both backbones of TESSERA have one width, not {self.s2.width} and {self.s1.width}"
            )
        if any(not 0 < k <= self.dimensions for k in self.prefixes):
            raise ValueError(
                f"prefixes {self.prefixes} do not fit an embedding of {self.dimensions} dimensions"
            )


def _official(variant, dimensions, width, layers, heads, feedforward, prefixes=()):
    backbone = BackboneConfig(width, layers, heads, feedforward)
    return TesseraConfig(variant, dimensions, s2=backbone, s1=backbone, prefixes=prefixes)


MATRYOSHKA = (16, 32, 64, 128)
OFFICIAL = {
    "v1_0_early": _official("v1.0_early", 128, 512, 8, 8, 4096),
    "v1_0_qat": _official("v1.0_qat", 128, 512, 4, 4, 4096),
    "v1_1": _official("v1.1", 192, 768, 4, 4, 2048),
    "v2_student_nano": _official("v2_student", 128, 144, 2, 4, 384, MATRYOSHKA),
    "v2_student_small": _official("v2_student", 128, 256, 4, 4, 1024, MATRYOSHKA),
    "v2_student_medium": _official("v2_student", 128, 440, 4, 4, 1792, MATRYOSHKA),
    "v2_student_large": _official("v2_student", 128, 640, 4, 4, 2560, MATRYOSHKA),
    "v2_teacher_2B": _official("v2_teacher", 1024, 4096, 4, 4, 16384),
}


# --- time -----------------------------------------------------------------------------------------


class TemporalEncoding(nn.Module):
    """Sines and cosines of the raw day of year: no position in the sequence, nothing learnt."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, day: Tensor) -> Tensor:
        """(B, T) days 1..366 to (B, T, d): sin(t w_k), cos(t w_k), w_k = 10000^(-2k/d)."""
        k = torch.arange(0, self.width, 2, device=day.device, dtype=torch.float32)
        angle = day.unsqueeze(-1) * torch.exp(k * (-math.log(10000.0) / self.width))  # (B, T, d/2)
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)  # (B, T, d)


# --- layers ---------------------------------------------------------------------------------------


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, d) to (B, h, T, d/h). Only the last axis is named, so that T stays free in ONNX."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d/h)) v with the heads (B, h, T, d/h) joined again: (B, T, d)."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)


class SelfAttention(nn.Module):
    """Multi-head self-attention with queries, keys and values in one matrix."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        return self.out_proj(_attend(*(_split_heads(y, self.heads) for y in (q, k, v))))


class EncoderLayer(nn.Module):
    """Post-norm layer of v1 and the released students: x = LN(x + MHA(x)); x = LN(x + FFN(x))."""

    def __init__(self, width: int, heads: int, feedforward: int):
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self.linear2(self.linear1(x).relu()))


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in operations that ONNX 18 has."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        mean_square = x.square().mean(dim=-1, keepdim=True)
        return x * (mean_square + torch.finfo(torch.float32).eps).rsqrt() * self.weight


class QKNormLayer(nn.Module):
    """Post-norm layer whose queries and keys are RMS-normalised in each head before their product.

    The weight of both norms has the size of one head and is shared by all heads.
    """

    def __init__(self, width: int, heads: int, feedforward: int):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.q_norm = RMSNorm(width // heads)
        self.k_norm = RMSNorm(width // heads)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def attention(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        q = self.q_norm(_split_heads(self.q_proj(x), self.heads))
        k = self.k_norm(_split_heads(self.k_proj(x), self.heads))
        v = _split_heads(self.v_proj(x), self.heads)
        return self.out_proj(_attend(q, k, v))

    def feed_forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        return self.linear2(self.linear1(x).relu())

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.feed_forward(x))


class PreNormQKLayer(QKNormLayer):
    """The teacher's layer: the same parts, but each norm stands before its branch."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class LayerStack(nn.Module):
    """Layers in order, under the name `layers` that the official weights use."""

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        for layer in self.layers:
            x = layer(x)
        return x


# --- pooling over time ----------------------------------------------------------------------------


class AttentionPooling(nn.Module):
    """v2: weights from the observations themselves, softmax over time of Linear(x)."""

    def __init__(self, width: int):
        super().__init__()
        self.query = nn.Linear(width, 1)

    def context(self, x: Tensor) -> Tensor:
        """What the weights are computed from, (B, T, d)."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, d): the weights come from the context, the values from x."""
        weights = self.query(self.context(x)).softmax(dim=1)  # (B, T, 1)
        return (weights * x).sum(dim=1)


class GRUPooling(AttentionPooling):
    """v1.0 early: the weights come from a GRU over the sequence, so its order matters."""

    def __init__(self, width: int):
        super().__init__(width)
        self.temporal_context = nn.GRU(width, width, batch_first=True)

    def context(self, x: Tensor) -> Tensor:
        """States of the GRU, (B, T, d)."""
        return self.temporal_context(x)[0]


class GRUCell(nn.Module):
    """The gates of the hand-written GRU of v1.0 QAT and v1.1.

    It differs from the common GRU: the update gate z weighs the *new* state, the reset gate acts
    before its matrix, and each gate has one bias.
    """

    def __init__(self, width: int):
        super().__init__()
        for name in ("W_ir", "W_iz", "W_ih", "W_hr", "W_hz", "W_hh"):
            matrix = nn.Linear(width, width, bias=False)
            nn.init.xavier_uniform_(matrix.weight)
            self.add_module(name, matrix)
        for name in ("b_r", "b_z", "b_h"):
            self.register_parameter(name, nn.Parameter(torch.zeros(width)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to the states (B, T, d), starting from zero."""
        from_r = self.W_ir(x) + self.b_r  # the input's part of every step at once, (B, T, d)
        from_z = self.W_iz(x) + self.b_z
        from_h = self.W_ih(x) + self.b_h
        state = torch.zeros_like(x[:, 0])
        states = []
        for t in range(x.shape[1]):
            r = torch.sigmoid(from_r[:, t] + self.W_hr(state))
            z = torch.sigmoid(from_z[:, t] + self.W_hz(state))
            new = torch.tanh(from_h[:, t] + self.W_hh(r * state))
            state = (1 - z) * state + z * new
            states.append(state)
        return torch.stack(states, dim=1)


class GRUCellPooling(AttentionPooling):
    """v1.0 QAT and v1.1: weights from the normalised states of the hand-written GRU."""

    def __init__(self, width: int):
        super().__init__(width)
        self.temporal_context = nn.ModuleDict({"gru_cell": GRUCell(width)})
        self.layer_norm = nn.LayerNorm(width)

    def context(self, x: Tensor) -> Tensor:
        """Normalised states, (B, T, d)."""
        return self.layer_norm(self.temporal_context["gru_cell"](x))


POOLINGS = {
    "v1.0_early": GRUPooling,
    "v1.0_qat": GRUCellPooling,
    "v1.1": GRUCellPooling,
    "v2_student": AttentionPooling,
    "v2_teacher": AttentionPooling,
}


# --- network --------------------------------------------------------------------------------------


class Backbone(nn.Module):
    """One sensor's time series to one vector."""

    def __init__(self, bands: int, size: BackboneConfig, variant: str, qk_norm: bool):
        super().__init__()
        d = size.width
        self.embedding = nn.Sequential(nn.Linear(bands, d), nn.ReLU(), nn.Linear(d, d))
        self.temporal_encoder = TemporalEncoding(d)
        layer = QKNormLayer if qk_norm else EncoderLayer
        if variant == "v2_teacher":
            layer = PreNormQKLayer
        layers = [layer(d, size.heads, size.feedforward) for _ in range(size.layers)]
        # The weights of a student with QK-norm name their layers without `layers.`
        self.transformer_encoder = nn.Sequential(*layers) if qk_norm else LayerStack(layers)
        self.attn_pool = POOLINGS[variant](d)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C + 1), standardised bands and then the raw day of year, to (B, d)."""
        bands, day = x[..., :-1], x[..., -1]
        x = self.embedding(bands) + self.temporal_encoder(day)
        return self.attn_pool(self.transformer_encoder(x))


class Tessera(nn.Module):
    """v1.0, v1.1 and the v2 students: two backbones, concatenation (or sum), reducer."""

    def __init__(self, config: TesseraConfig):
        super().__init__()
        self.config = config
        variant, qk_norm = config.variant, config.qk_norm
        self.s2_backbone = Backbone(S2_BANDS, config.s2, variant, qk_norm)
        self.s1_backbone = Backbone(S1_BANDS, config.s1, variant, qk_norm)
        fused = config.s2.width * (1 if config.fusion == "sum" else 2)
        if variant in ("v1.0_early", "v1.0_qat"):
            self.dim_reducer = nn.Sequential(nn.Linear(fused, config.dimensions))
            return
        reducer = [
            nn.Linear(fused, 2 * fused),
            nn.LayerNorm(2 * fused),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(2 * fused, config.dimensions),
        ]
        if variant in ("v2_student", "v2_teacher") and config.final_norm:
            reducer.append(nn.LayerNorm(config.dimensions, elementwise_affine=False))
        self.dim_reducer = nn.Sequential(*reducer)

    def fuse(self, s2: Tensor, s1: Tensor) -> Tensor:
        """Two (B, d) to (B, 2d), or to (B, d) by summation."""
        return s2 + s1 if self.config.fusion == "sum" else torch.cat((s2, s1), dim=-1)

    def forward(self, s2: Tensor, s1: Tensor) -> Tensor:
        """s2 (B, T2, 11) and s1 (B, T1, 3) to the embedding (B, dimensions)."""
        return self.dim_reducer(self.fuse(self.s2_backbone(s2), self.s1_backbone(s1)))


class TesseraTeacher(Tessera):
    """The v2 teacher: two transformer layers let the sensors' vectors see each other."""

    def __init__(self, config: TesseraConfig):
        super().__init__(config)
        d = config.s2.width
        self.fusion_modality_embed = nn.Parameter(0.02 * torch.randn(2, d))
        self.fusion_transformer = LayerStack(
            [PreNormQKLayer(d, FUSION_HEADS, 2 * d) for _ in range(2)]
        )

    def fuse(self, s2: Tensor, s1: Tensor) -> Tensor:
        """Two (B, d) to (B, 2d): tokens S2, S1 with their learnt sensor vectors."""
        tokens = torch.stack((s2, s1), dim=1) + self.fusion_modality_embed  # (B, 2, d)
        return self.fusion_transformer(tokens).flatten(1)


def build(config: TesseraConfig) -> Tessera:
    """The network of a configuration, with random weights."""
    return (TesseraTeacher if config.variant == "v2_teacher" else Tessera)(config)


def shapes(config: TesseraConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a configuration's state dict, without allocating it."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in build(config).state_dict().items()}
