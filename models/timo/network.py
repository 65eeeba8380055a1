"""The network of TiMo, with the parameter names of the authors' code.

Four stages with strides of 4, 8, 16 and 32 pixels. In the first two a token attends to all tokens
of its own date and to those at its own place on the other dates, in one softmax (spatiotemporal
gyroscope attention); in the last two to all tokens. All dates share the stem and, between the
stages, the convolutions.

Shapes: B series, T dates, C bands, H x W pixels; in a stage N = h w tokens a date, D width, heads
of d channels. Tokens are (B, T, N, D), row by row; maps of a stage (B T, D, h, w), date by date.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Mlp
from ..satdino.network import DropPath

STAGES = 4
ATTENTIONS = ("full", "gyroscope", "differential")  # 0, 1, 2 in the authors' `local`
POSITIONS = ("time and space", "space", "none")


@dataclass(frozen=True)
class Config:
    """Everything that decides which tensors a network has and what it does with them.

    Attributes:
        widths, heads, depths: D, heads and blocks of each stage.
        attention: kind of each stage, of ATTENTIONS.
        bands: C.
        positions: what is added to the stem's tokens, of POSITIONS.
        mlp_ratios: hidden width of the MLPs over D, of each stage.
        qkv_bias: queries, keys and values have biases.
        scaled: gyroscope attention divides its scores by sqrt(d), as full attention does. The
            authors' does not, though it starts from weights that were pretrained with the scale.
        stem_kernel: of the first convolution, 7 or 3.
        layer_scale: initial factor of every branch's channels; 0 for none.
        gates_everywhere: blocks that have no use for differential attention's gate have its
            tensors all the same, as in the authors' classifier.
        classes: outputs of `head`; 0 for no head. The authors' other networks keep an unused one.
        norm_eps: of the layer norms of blocks and stages.
        embed_norm_eps: of those after a convolution.
    """

    widths: tuple[int, ...]
    heads: tuple[int, ...]
    depths: tuple[int, ...]
    attention: tuple[str, ...] = ("differential", "differential", "full", "full")
    bands: int = 3
    positions: str = "time and space"
    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    qkv_bias: bool = True
    scaled: bool = False
    stem_kernel: int = 7
    layer_scale: float = 0.0
    gates_everywhere: bool = False
    classes: int = 0
    norm_eps: float = 1e-6
    embed_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        lists = (self.widths, self.heads, self.depths, self.attention, self.mlp_ratios)
        if any(len(values) != STAGES for values in lists):
            raise ValueError(f"TiMo has {STAGES} stages; each needs width, heads, depth, attention")
        if any(width % heads for width, heads in zip(self.widths, self.heads, strict=True)):
            raise ValueError(f"heads {self.heads} do not divide the widths {self.widths} of TiMo")
        if unknown := set(self.attention) - set(ATTENTIONS):
            raise ValueError(f"TiMo attends {', '.join(ATTENTIONS)}, not {', '.join(unknown)}")
        if self.positions not in POSITIONS:
            raise ValueError(f"TiMo's positions are {', '.join(POSITIONS)}, not {self.positions}")


OFFICIAL = {
    "base": Config((128, 256, 512, 1024), (4, 8, 16, 32), (2, 2, 18, 2)),
    "large": Config((384, 768, 960, 1536), (6, 12, 24, 48), (2, 2, 18, 2)),
    "huge": Config((512, 1024, 1280, 2048), (8, 16, 32, 64), (3, 3, 22, 3)),
}


# --- positions ------------------------------------------------------------------------------------


def code(places: Tensor, width: int) -> Tensor:
    """(n,) places to (n, width): all sines, then all cosines of places times 10000^(-2k/width)."""
    k = torch.arange(width // 2, dtype=torch.float64, device=places.device)
    angle = places.double()[:, None] * 10000 ** (-k / (width / 2))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def space_code(rows: int, columns: int, width: int) -> Tensor:
    """(rows columns, width): half of the channels tell the column, half the row."""
    across = code(torch.arange(columns), width // 2).repeat(rows, 1)
    down = code(torch.arange(rows), width // 2).repeat_interleave(columns, dim=0)
    return torch.cat([across, down], dim=1)


def time_and_space_code(dates: int, rows: int, columns: int, width: int) -> Tensor:
    """(T, N, width) float32: half of the channels tell the date's number, half the place."""
    when = code(torch.arange(dates), width // 2)[:, None].expand(-1, rows * columns, -1)
    where = space_code(rows, columns, width // 2).expand(dates, -1, -1)
    return torch.cat([when, where], dim=2).float()


# --- attention ------------------------------------------------------------------------------------


class Attention(nn.Module):
    """All tokens of all dates attend to each other: `full`, in pretraining and the late stages."""

    gated = False

    def __init__(
        self, width: int, heads: int, bias: bool = True, gate: bool = False, scaled: bool = False
    ) -> None:
        """`gate`: have the tensors of differential attention in any case; `scaled`: see Config."""
        super().__init__()
        self.heads = heads
        self.scale = math.sqrt(heads / width) if scaled else 1.0  # of gyroscope attention
        self.q = nn.Linear(width, width, bias=bias)
        self.kv = nn.Linear(width, 2 * width, bias=bias)
        self.proj = nn.Linear(width, width)
        if self.gated or gate:
            unit = nn.Linear(width // heads, 1, bias=False)
            self.cheap_operation = nn.Sequential(unit, nn.BatchNorm1d(1), nn.ReLU())

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, heads, T, N, d) each to the same."""
        whole = (x.flatten(2, 3) for x in (q, k, v))
        return functional.scaled_dot_product_attention(*whole).reshape_as(q)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, D) to (B, T, N, D)."""
        k, v = self.kv(x).chunk(2, dim=-1)
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).permute(0, 3, 1, 2, 4) for y in (self.q(x), k, v)
        )
        return self.proj(self.attend(q, k, v).permute(0, 2, 3, 1, 4).flatten(3))


def dates_of(x: Tensor) -> Tensor:
    """0 .. T - 1 as int64 for the first axis of x.

    Counted from the values: ONNX's exporter takes lengths of shapes for constants here.
    """
    first = x.flatten(1)[:, 0]
    return (first.isnan().long() * 0 + 1).cumsum(dim=0) - 1


def _other_dates(q: Tensor, k: Tensor) -> Tensor:
    """Products with the keys at the same place on all dates, -inf for the own one.

    (B, heads, T, N, d) each to (B, heads, T, N, T).
    """
    products = q.transpose(2, 3) @ k.permute(0, 1, 3, 4, 2)  # (B, heads, N, T, T)
    dates = dates_of(q[0, 0])
    own = dates[:, None] == dates
    return products.masked_fill(own, -math.inf).transpose(2, 3)


def _from_other_dates(weights: Tensor, v: Tensor) -> Tensor:
    """Weights (B, heads, T, N, T) of values (B, heads, T, N, d): (B, heads, T, N, d)."""
    return (weights.transpose(2, 3) @ v.transpose(2, 3)).transpose(2, 3)


class GyroscopeAttention(Attention):
    """STGA: one softmax over the own place on other dates and all places of the own date."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, heads, T, N, d) each to the same."""
        places = q.shape[3]
        q = q * self.scale
        scores = torch.cat([_other_dates(q, k), q @ k.transpose(-2, -1)], dim=-1)
        weights = scores.softmax(dim=-1)
        return _from_other_dates(weights[..., :-places], v) + weights[..., -places:] @ v


class DifferentialGyroscopeAttention(Attention):
    """D-STGA: within a date the scores are those of the temporal medians, plus a gate a query.

    The scores I + D of a query differ between dates only by D, the same for all places. So with
    P = softmax(I) and L = logsumexp(I) the one softmax over T + N scores equals one over the T
    scores of the other dates and D + L, whose weight then goes to P: one map of N x N for all
    dates instead of T of them.
    """

    gated = True

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, heads, T, N, d) each to the same."""
        median_q, median_k = lower_median(q), lower_median(k)
        scores = self.scale * median_q @ median_k.transpose(-2, -1)  # I, (B, heads, N, N)
        apart = (q - median_q[:, :, None]).flatten(0, 3)
        gate = self.cheap_operation(apart).reshape_as(q[..., 0])  # D, (B, heads, T, N)
        within = gate + scores.logsumexp(dim=-1)[:, :, None]
        across = _other_dates(self.scale * q, k)
        weights = torch.cat([across, within[..., None]], dim=-1).softmax(dim=-1)
        mean = scores.softmax(dim=-1)[:, :, None] @ v
        return _from_other_dates(weights[..., :-1], v) + weights[..., -1:] * mean


def lower_median(x: Tensor) -> Tensor:
    """The median over T, of an even number the lower middle: (B, heads, T, N, d) without T."""
    middle = dates_of(x[0, 0])[-1:] // 2
    return x.sort(dim=2).values.index_select(2, middle).squeeze(2)  # ONNX has no median


KINDS = dict(
    zip(ATTENTIONS, (Attention, GyroscopeAttention, DifferentialGyroscopeAttention), strict=True)
)


# --- blocks and convolutions ----------------------------------------------------------------------


class Block(nn.Module):
    """Attention and MLP, each on the normed input, scaled if so configured, and added to it."""

    def __init__(
        self, config: Config, width: int, attention: Attention, ratio: float, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=config.norm_eps)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = Mlp(width, ratio)
        self.drop_path = DropPath(drop_path)
        self.gamma_1: Tensor | float = 1.0
        self.gamma_2: Tensor | float = 1.0
        if config.layer_scale:
            self.gamma_1 = nn.Parameter(torch.full((width,), config.layer_scale))
            self.gamma_2 = nn.Parameter(torch.full((width,), config.layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, D) to (B, T, N, D)."""
        x = x + self.drop_path(self.gamma_1 * self.attn(self.norm1(x)))
        return x + self.drop_path(self.gamma_2 * self.mlp(self.norm2(x)))


class Stem(nn.Module):
    """Images to tokens of 4 x 4 pixels."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, kernel = config.widths[0], config.stem_kernel
        self.conv = nn.Sequential(
            nn.Conv2d(config.bands, width, kernel, stride=2, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 2, stride=2),
        )
        self.norm = nn.LayerNorm(width, eps=config.embed_norm_eps)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(n, C, H, W) to tokens (n, N, D), row by row, and their rows and columns."""
        x = self.conv(x)
        return self.norm(x.flatten(2).transpose(1, 2)), (x.shape[2], x.shape[3])


class Downsample(nn.Module):
    """Maps to tokens of twice the stride; odd sides are rounded up."""

    def __init__(self, config: Config, given: int, wanted: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(given, wanted, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(wanted, eps=config.embed_norm_eps)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(n, D, h, w) to tokens (n, N', D') and their rows and columns."""
        x = self.proj(x)
        return self.norm(x.flatten(2).transpose(1, 2)), (x.shape[2], x.shape[3])


# --- network --------------------------------------------------------------------------------------


class Timo(nn.Module):
    """The encoder, with `head` where the configuration has classes."""

    def __init__(self, config: Config, drop_path: float = 0.0) -> None:
        """`drop_path`: rate of the last block while training; it rises linearly from 0."""
        super().__init__()
        self.config = config
        rates = iter(torch.linspace(0, drop_path, sum(config.depths), device="cpu").tolist())
        for i, width in enumerate(config.widths):
            embed = Downsample(config, config.widths[i - 1], width) if i else Stem(config)
            kind, heads = KINDS[config.attention[i]], config.heads[i]
            blocks = (
                Block(
                    config,
                    width,
                    kind(width, heads, config.qkv_bias, config.gates_everywhere, config.scaled),
                    config.mlp_ratios[i],
                    next(rates),
                )
                for _ in range(config.depths[i])
            )
            self.add_module(f"patch_embed{i + 1}", embed)
            self.add_module(f"block{i + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{i + 1}", nn.LayerNorm(width, eps=config.norm_eps))
        if config.classes:
            self.head = nn.Linear(config.widths[-1], config.classes)
        self.apply(initialise)

    def embed(self, stage: int, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images or maps (n, ...) to the tokens (n, N, D) of stage 0..3, and rows and columns."""
        return self.get_submodule(f"patch_embed{stage + 1}")(x)

    def attend(self, stage: int, x: Tensor) -> Tensor:
        """The blocks of stage 0..3 and its norm, (B, T, N, D) to (B, T, N, D)."""
        for block in self.get_submodule(f"block{stage + 1}"):
            x = block(x)
        return self.get_submodule(f"norm{stage + 1}")(x)

    def positions(self, dates: int, rows: int, columns: int) -> Tensor:
        """What is added to the stem's tokens, (T, N, D)."""
        width = self.config.widths[0]
        if self.config.positions == "time and space":
            return time_and_space_code(dates, rows, columns, width)
        if self.config.positions == "space":
            return space_code(rows, columns, width).float().expand(dates, -1, -1)
        return torch.zeros(dates, rows * columns, width)

    def forward(self, series: Tensor, positions: Tensor | None = None) -> list[Tensor]:
        """A series of images to the maps of the four stages.

        Args:
            series: (B, T, C, H, W), H and W multiples of 32 for maps that cover whole pixels.
            positions: what `positions` gives, where that is known beforehand.

        Returns:
            (B T, D, h, w) for each stage, date by date.
        """
        b, dates = series.shape[0], series.shape[1]  # a slice of the shape is fixed in ONNX
        x, maps = series.flatten(0, 1), []
        for stage, width in enumerate(self.config.widths):
            x, (rows, columns) = self.embed(stage, x)
            x = x.reshape(b, dates, rows * columns, width)
            if stage == 0:
                if positions is None:
                    positions = self.positions(dates, rows, columns).to(x.device)
                x = x + positions
            x = self.attend(stage, x).flatten(0, 1)
            x = x.transpose(1, 2).unflatten(2, (rows, columns))
            maps.append(x)
        return maps

    def classify(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Scores for each date (B T, classes) and for the whole series (B, classes)."""
        dates = self(series)[-1].mean(dim=(2, 3))
        whole = dates.unflatten(0, (-1, series.shape[1])).mean(dim=1)
        return self.head(dates), self.head(whole)


def initialise(module: nn.Module) -> None:
    """Truncated normal matrices of spread 0.02, normal kernels by their outputs, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        outputs = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, std=math.sqrt(2 / outputs))
    if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
        nn.init.zeros_(module.bias)


def build(config: Config) -> Timo:
    """The encoder of a configuration, with random weights."""
    return Timo(config)


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network's state dict."""
    return {name: tuple(t.shape) for name, t in network.state_dict().items()}
