"""The encoder of Galileo (Tseng et al., ICML 2025), with the official weights' names.

A token is one (place, date, channel group) of a data product. Products come in four kinds: space
and time (s_t), space (sp), time (t), static (st). Masked tokens are taken out of the sequence.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Block, month_table

# Channel groups of each kind: name to columns of the kind's tensor.
SPACE_TIME = {
    "S1": (0, 1), "S2_RGB": (2, 3, 4), "S2_Red_Edge": (5, 6, 7), "S2_NIR_10m": (8,),
    "S2_NIR_20m": (9,), "S2_SWIR": (10, 11), "NDVI": (12,),
}  # fmt: skip
SPACE = {"SRTM": (0, 1), "DW": tuple(range(2, 11)), "WC": tuple(range(11, 16))}
TIME = {"ERA5": (0, 1), "TC": (2, 3, 4), "VIIRS": (5,)}
STATIC = {
    "LS": (0,), "location": (1, 2, 3), "DW_static": tuple(range(4, 13)),
    "WC_static": tuple(range(13, 18)),
}  # fmt: skip


def sinusoid(width: int, position: Tensor) -> Tensor:
    """(..., width): sines, then cosines. The exponent i / (2 width) is the original's own."""
    index = torch.arange(width // 2, dtype=torch.float64)
    angle = position[..., None].double() * 10000 ** (-index / (2 * width))
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()


def resize_kernel(kernel: Tensor, patch: int) -> Tensor:
    """A patch kernel (D, C, p, p) for another patch size (FlexiViT, Beyer et al. 2023).

    The pseudo-inverse of the bicubic resize, so that a resized patch gives the same token.
    """
    size = kernel.shape[-1]
    if patch == size:
        return kernel
    basis = torch.eye(size * size).reshape(size * size, 1, size, size)
    resized = functional.interpolate(
        basis, (patch, patch), mode="bicubic", antialias=True, align_corners=False
    )
    inverse = torch.linalg.pinv(resized.reshape(size * size, patch * patch))
    return (kernel.flatten(2) @ inverse.T).reshape(*kernel.shape[:2], patch, patch)


class PatchEmbed(nn.Module):
    """A convolution whose kernel and stride are the patch, which may change at every call."""

    def __init__(self, bands: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(bands, width, patch, patch)

    def forward(self, x: Tensor, patch: int) -> Tensor:
        """(B, H, W, C) to (B, H / p, W / p, D)."""
        kernel = resize_kernel(self.proj.weight, patch)
        y = functional.conv2d(x.permute(0, 3, 1, 2), kernel, self.proj.bias, stride=patch)
        return y.permute(0, 2, 3, 1)


class Attention(nn.Module):
    """Multi-head self-attention with projections of its own for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """x (B, N, D); visible (B, N) bool: which tokens are keys."""
        b, n, d = x.shape
        q, k, v = (
            part(x).reshape(b, n, self.heads, d // self.heads).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None])
        return self.proj(x.transpose(1, 2).reshape(b, n, d))


@dataclass(frozen=True)
class Tokens:
    """Tokens, or their masks, by kind.

    Attributes:
        s_t: (B, h, w, T, 7, D).
        sp: (B, h, w, 3, D).
        t: (B, T, 3, D).
        st: (B, 4, D).
    """

    s_t: Tensor
    sp: Tensor
    t: Tensor
    st: Tensor

    def kinds(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four, in the order of the sequence."""
        return self.s_t, self.sp, self.t, self.st


class Encoder(nn.Module):
    """Section 3 of the paper: projections, encodings, blocks over visible tokens, norm."""

    def __init__(
        self,
        embedding_size: int = 128,
        depth: int = 4,
        num_heads: int = 8,
        mlp_ratio: float = 4,
        max_sequence_length: int = 24,
        max_patch_size: int = 8,
    ) -> None:
        super().__init__()
        width, quarter = embedding_size, embedding_size // 4
        self.space_time_embed = nn.ModuleDict(
            {n: PatchEmbed(len(c), width, max_patch_size) for n, c in SPACE_TIME.items()}
        )
        self.space_embed = nn.ModuleDict(
            {n: PatchEmbed(len(c), width, max_patch_size) for n, c in SPACE.items()}
        )
        self.time_embed = nn.ModuleDict({n: nn.Linear(len(c), width) for n, c in TIME.items()})
        self.static_embed = nn.ModuleDict({n: nn.Linear(len(c), width) for n, c in STATIC.items()})
        self.s_t_channel_embed = nn.Parameter(torch.zeros(len(SPACE_TIME), quarter))
        self.sp_channel_embed = nn.Parameter(torch.zeros(len(SPACE), quarter))
        self.t_channel_embed = nn.Parameter(torch.zeros(len(TIME), quarter))
        self.st_channel_embed = nn.Parameter(torch.zeros(len(STATIC), quarter))
        self.pos_embed = nn.Parameter(sinusoid(quarter, torch.arange(max_sequence_length)), False)
        self.month_embed = nn.Embedding.from_pretrained(month_table(quarter), freeze=True)
        self.blocks = nn.ModuleList(
            Block(width, Attention(width, num_heads), mlp_ratio) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def project(self, s_t: Tensor, sp: Tensor, t: Tensor, st: Tensor, patch: int) -> Tokens:
        """Values to tokens without encodings."""
        b, height, width, steps, _ = s_t.shape
        frames = s_t.permute(0, 3, 1, 2, 4).reshape(b * steps, height, width, -1)

        def columns(x: Tensor, of: tuple[int, ...]) -> Tensor:
            return x[..., of[0] : of[-1] + 1]

        space_time = torch.stack(
            [self.space_time_embed[n](columns(frames, c), patch) for n, c in SPACE_TIME.items()], 3
        )
        space_time = space_time.reshape(b, steps, *space_time.shape[1:]).permute(0, 2, 3, 1, 4, 5)
        return Tokens(
            space_time,
            torch.stack([self.space_embed[n](columns(sp, c), patch) for n, c in SPACE.items()], 3),
            torch.stack([self.time_embed[n](columns(t, c)) for n, c in TIME.items()], 2),
            torch.stack([self.static_embed[n](columns(st, c)) for n, c in STATIC.items()], 1),
        )

    def encode(self, tokens: Tokens, months: Tensor, patch: int, resolution_m: float) -> Tokens:
        """Add the encodings: quarters for channel, position in time, month, position in space."""
        b, rows, columns, steps, _, _ = tokens.s_t.shape
        quarter = self.pos_embed.shape[1]
        ground = resolution_m * patch / 10  # in units of 10 m
        across = sinusoid(quarter // 2, torch.arange(columns) * ground).expand(rows, -1, -1)
        down = sinusoid(quarter // 2, torch.arange(rows) * ground)[:, None].expand(-1, columns, -1)
        space = torch.cat([across, down], dim=2)  # columns come first
        time = torch.cat(
            [self.pos_embed[:steps].expand(b, -1, -1), self.month_embed(months)], dim=2
        )

        def added(x: Tensor, channel: Tensor, when: Tensor | None, where: Tensor | None) -> Tensor:
            parts = [channel.expand(*x.shape[:-1], -1)]
            none = x.new_zeros(())
            parts.append((none if when is None else when).expand(*x.shape[:-1], 2 * quarter))
            parts.append((none if where is None else where).expand(*x.shape[:-1], quarter))
            return x + torch.cat(parts, dim=-1)

        return Tokens(
            added(tokens.s_t, self.s_t_channel_embed, time[:, None, None, :, None],
                  space[None, :, :, None, None]),
            added(tokens.sp, self.sp_channel_embed, None, space[None, :, :, None]),
            added(tokens.t, self.t_channel_embed, time[:, :, None], None),
            added(tokens.st, self.st_channel_embed, None, None),
        )  # fmt: skip

    def forward(
        self,
        s_t: Tensor,
        sp: Tensor,
        t: Tensor,
        st: Tensor,
        masks: Tokens,
        months: Tensor,
        patch: int = 1,
        resolution_m: float = 10,
    ) -> tuple[Tokens, Tokens]:
        """Normed tokens, and which of them were visible.

        Args:
            s_t: (B, H, W, T, 13), and
            sp: (B, H, W, 16), t: (B, T, 6), st: (B, 18), all normalised.
            masks: by pixel and group, without D: s_t (B, H, W, T, 7) and so on; 0 = visible.
            months: (B, T) int64, January = 0.
            patch: side of a patch in pixels.
            resolution_m: size of a pixel.

        Returns:
            Tokens; masked ones equal the norm's bias. And bool masks of their shapes without D.
        """
        tokens = self.encode(self.project(s_t, sp, t, st, patch), months, patch, resolution_m)
        hidden = Tokens(
            masks.s_t[:, ::patch, ::patch] > 0, masks.sp[:, ::patch, ::patch] > 0,
            masks.t > 0, masks.st > 0,
        )  # fmt: skip
        b, width = len(s_t), tokens.st.shape[-1]
        x = torch.cat([kind.reshape(b, -1, width) for kind in tokens.kinds()], dim=1)
        masked = torch.cat([kind.reshape(b, -1) for kind in hidden.kinds()], dim=1)
        order = masked.int().argsort(dim=1, stable=True)[:, : int((~masked).sum(dim=1).max())]
        place = order[:, :, None].expand(-1, -1, width)
        visible = ~masked.gather(1, order)
        kept = x.gather(1, place)
        for block in self.blocks:
            kept = block(kept, visible)
        x = torch.zeros_like(x).scatter(1, place, kept * visible[:, :, None])
        parts = self.norm(x).split([math.prod(k.shape[1:-1]) for k in tokens.kinds()], dim=1)
        shaped = (p.reshape(k.shape) for p, k in zip(parts, tokens.kinds(), strict=True))
        return Tokens(*shaped), Tokens(*(~kind for kind in hidden.kinds()))


def average(tokens: Tokens, visible: Tokens) -> Tensor:
    """The mean of all visible tokens of a sample: (B, D)."""
    b, width = len(tokens.st), tokens.st.shape[-1]
    x = torch.cat([kind.reshape(b, -1, width) for kind in tokens.kinds()], dim=1)
    share = torch.cat([kind.reshape(b, -1) for kind in visible.kinds()], dim=1).float()
    return (x * share[:, :, None]).sum(dim=1) / share.sum(dim=1, keepdim=True)


def average_per_patch(tokens: Tokens, visible: Tokens) -> Tensor:
    """The mean of each patch's visible tokens and all that have no place: (B, h w, D)."""
    b, rows, columns = tokens.sp.shape[:3]
    width = tokens.st.shape[-1]
    local = [kind.reshape(b, rows * columns, -1, width) for kind in (tokens.s_t, tokens.sp)]
    share = [kind.reshape(b, rows * columns, -1) for kind in (visible.s_t, visible.sp)]
    for kind, seen in ((tokens.t, visible.t), (tokens.st, visible.st)):
        local.append(kind.reshape(b, 1, -1, width).expand(-1, rows * columns, -1, -1))
        share.append(seen.reshape(b, 1, -1).expand(-1, rows * columns, -1))
    weight = torch.cat(share, dim=2).float()
    return (torch.cat(local, dim=2) * weight[..., None]).sum(dim=2) / weight.sum(2, keepdim=True)


def load(folder: str | Path) -> Encoder:
    """The encoder of an official folder (config.json, encoder.pt), strictly, for evaluation."""
    config = json.loads((Path(folder) / "config.json").read_text())["model"]["encoder"]
    names = ("embedding_size", "depth", "num_heads", "mlp_ratio", "max_sequence_length",
             "max_patch_size")  # fmt: skip
    encoder = Encoder(**{name: config[name] for name in names if name in config})
    weights = torch.load(Path(folder) / "encoder.pt", map_location="cpu", weights_only=True)
    # Some official files name the module that was wrapped for distributed training.
    encoder.load_state_dict({k.replace(".backbone", ""): v for k, v in weights.items()})
    return encoder.eval()
