"""The network of SatDINO, with the parameter names of the official weights.

A plain vision transformer (Dosovitskiy et al. 2021) as in DINO v1, with one more learnt token at
the end of the sequence, the register from which pretraining regresses the ground sample distance.
Nothing is told about that distance on the way in.

Shapes: B images, H x W pixels, p side of a patch, P = (H/p)(W/p) patches, D width, h heads.
Token order: class token, patches row by row, register.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Mlp


@dataclass(frozen=True)
class Config:
    """Everything that decides which tensors a network has and what it does with them.

    Attributes:
        patch: p.
        width, depth, heads: D, number of blocks, h.
        image: side of the images (pixels) that the position table is made for.
        mlp_ratio: hidden width of an MLP over D.
        bands: of the image.
        qkv_bias: queries, keys and values have biases.
        norm_eps: of every layer norm.
        positions: "learnt", or "sin_cos" for a fixed table that the state dict does not hold.
        token_too_many: tables for other image sizes are resized by DINO's factor, which takes the
            table's side for sqrt(P + 1) since a token was added; official weights have learnt with
            it. If False, the table is resized to the size that is wanted.
    """

    patch: int
    width: int
    depth: int
    heads: int
    image: int = 224
    mlp_ratio: float = 4.0
    bands: int = 3
    qkv_bias: bool = True
    norm_eps: float = 1e-6
    positions: str = "learnt"
    token_too_many: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a SatDINO width of {self.width}")
        if self.image % self.patch:
            raise ValueError(f"patches of {self.patch} do not fill an image of {self.image} pixels")
        if self.positions not in ("learnt", "sin_cos"):
            raise ValueError(f"positions are 'learnt' or 'sin_cos', not '{self.positions}'")

    @property
    def side(self) -> int:
        """Patches on a side of the position table."""
        return self.image // self.patch


OFFICIAL = {  # the weights that are published
    "vit_small_16": Config(patch=16, width=384, depth=12, heads=6),
    "vit_small_8": Config(patch=8, width=384, depth=12, heads=6),
    "vit_base_16": Config(patch=16, width=768, depth=12, heads=12),
}


# --- blocks ---------------------------------------------------------------------------------------


class DropPath(nn.Module):
    """While training, leaves a branch out for some of the samples and scales up the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to (B, ...)."""
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * kept / (1 - self.rate)


class PatchEmbed(nn.Module):
    """One convolution whose kernel and stride are the patch."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.bands, config.width, config.patch, config.patch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, P, D), row by row."""
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, with queries, keys and values in one matrix."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.qkv_bias)
        self.proj = nn.Linear(config.width, config.width)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, N, D) to queries, keys and values (B, h, N, D/h)."""
        parts = self.qkv(x).chunk(3, dim=-1)
        return tuple(y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in parts)

    def weights(self, x: Tensor) -> Tensor:
        """How much each token takes from each: (B, N, D) to (B, h, N, N)."""
        q, k, _ = self._split(x)
        return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        attended = functional.scaled_dot_product_attention(*self._split(x))
        return self.proj(attended.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """Attention and MLP, each on the normed input and added to it."""

    def __init__(self, config: Config, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = Mlp(config.width, config.mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


# --- network --------------------------------------------------------------------------------------


def sinusoids(tokens: int, width: int) -> Tensor:
    """(1, N, D): for the position n in the sequence sin(n w_i), cos(n w_i), w_i = 10000^(-2i/D)."""
    frequency = 10000 ** (-torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angle = torch.arange(tokens, dtype=torch.float64)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[None].float()


class SatDino(nn.Module):
    """The backbone: what is kept of pretraining."""

    def __init__(self, config: Config, drop_path: float = 0.0) -> None:
        """`drop_path`: rate of the last block while training; it rises linearly from 0."""
        super().__init__()
        self.config = config
        tokens = config.side**2 + 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.gsd_register = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.positions == "learnt":
            self.pos_embed = nn.Parameter(torch.zeros(1, tokens, config.width))
        else:
            table = sinusoids(tokens, config.width)
            self.register_buffer("pos_embed", table, persistent=False)
        self.patch_embed = PatchEmbed(config)
        last = max(config.depth - 1, 1)
        self.blocks = nn.ModuleList(
            Block(config, drop_path * i / last) for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self._initialise()

    def _initialise(self) -> None:
        """Truncated normal weights of spread 0.02, biases 0, as in DINO."""
        learnt = [self.cls_token, self.gsd_register]
        learnt += [self.pos_embed] if self.config.positions == "learnt" else []
        for module in self.modules():
            if isinstance(module, nn.Linear):
                learnt.append(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for weight in learnt:
            nn.init.trunc_normal_(weight, std=0.02)

    def positions(self, height: int, width: int) -> Tensor:
        """The position table (1, P + 2, D) for an image of height x width pixels.

        Where DINO's factor does not lead to the wanted size (from 640 pixels with patches of 16,
        1256 with 8; the original stops there) the table is resized to that size.
        """
        side, patch = self.config.side, self.config.patch
        rows, columns = height // patch, width // patch
        if rows * columns == side**2 and height == width:
            return self.pos_embed
        first, grid, last = self.pos_embed.split([1, side**2, 1], dim=1)
        grid = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        counted = math.sqrt(side**2 + 1)
        factors = ((rows + 0.1) / counted, (columns + 0.1) / counted)
        reached = tuple(math.floor(side * factor) for factor in factors)
        if self.config.token_too_many and reached == (rows, columns):
            grid = functional.interpolate(grid, scale_factor=factors, mode="bicubic")
        else:
            grid = functional.interpolate(grid, size=(rows, columns), mode="bicubic")
        return torch.cat([first, grid.flatten(2).transpose(1, 2), last], dim=1)

    def embed(self, images: Tensor, positions: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) to tokens with their positions (B, P + 2, D)."""
        if positions is None:
            positions = self.positions(*images.shape[2:])
        patches = self.patch_embed(images)
        first = self.cls_token.expand(images.shape[0], -1, -1)  # len() would be fixed in ONNX
        last = self.gsd_register.expand(images.shape[0], -1, -1)
        return torch.cat([first, patches, last], dim=1) + positions

    def forward(self, images: Tensor, positions: Tensor | None = None) -> Tensor:
        """Images to normed tokens: class, patches, register.

        Args:
            images: (B, C, H, W), standardised; H and W multiples of p.
            positions: what `positions(H, W)` gives, where that is known beforehand.

        Returns:
            (B, P + 2, D).
        """
        x = self.embed(images, positions)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Classifier(nn.Module):
    """The linear head of the official files: scores of the classes of fMoW from a class token."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, classes)."""
        return self.linear(x)


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the backbone's state dict, without allocating it."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in SatDino(config).state_dict().items()}


def build(config: Config) -> SatDino:
    """The network of a configuration, with random weights."""
    return SatDino(config)
