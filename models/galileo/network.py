"""The encoder of Galileo (Tseng et al., ICML 2025), with the official weights' names.

A token is one (place, date, channel group) of a data product. Products come in four kinds: space
and time (s_t), space (sp), time (t), static (st). Masked tokens are taken out of the sequence.

Sizes in shapes: B samples, H x W pixels, h x w patches, T dates, N tokens, D width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Block
from .products import GROUP_NAMES, SPACE, SPACE_TIME, STATIC, TIME
from .tokens import Encodings, Tokens, chosen_first, put, take


@dataclass(frozen=True)
class Config:
    """Sizes of an encoder, named as in the official config.json."""

    embedding_size: int = 128
    depth: int = 4
    num_heads: int = 8
    mlp_ratio: float = 4
    max_sequence_length: int = 24
    max_patch_size: int = 8
    drop_path: float = 0.1  # share of samples that skip a block's branch in training


OFFICIAL = {
    "nano": Config(128, depth=4, num_heads=8),
    "tiny": Config(192, depth=12, num_heads=3),
    "base": Config(768, depth=12, num_heads=12),
}


# --- patches of any size --------------------------------------------------------------------------


@lru_cache(maxsize=64)
def resize_matrix(size: int, patch: int) -> Tensor:
    """(patch^2, size^2): a flat kernel of one size times this is the kernel of another.

    The pseudo-inverse of the bicubic resize, so that a resized patch gives the same token
    (FlexiViT, Beyer et al. 2023).
    """
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        basis = torch.eye(size * size).reshape(size * size, 1, size, size)
        resized = functional.interpolate(
            basis, (patch, patch), mode="bicubic", antialias=True, align_corners=False
        )
        return torch.linalg.pinv(resized.reshape(size * size, patch * patch))


def resize_kernel(kernel: Tensor, patch: int) -> Tensor:
    """A patch kernel (D, C, p, p) for another patch size."""
    size = kernel.shape[-1]
    if patch == size:
        return kernel
    matrix = resize_matrix(size, patch).to(kernel.device)
    return (kernel.flatten(2) @ matrix.T).reshape(*kernel.shape[:2], patch, patch)


class PatchEmbed(nn.Module):
    """A convolution whose kernel and stride are the patch, which may change at every call."""

    def __init__(self, bands: int, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(bands, width, patch, patch)

    def forward(self, x: Tensor, patch: int) -> Tensor:
        """(B, H, W, C) to (B, H / p, W / p, D)."""
        kernel = self.proj.weight
        if patch != self.patch:
            kernel = resize_kernel(kernel, patch)
        y = functional.conv2d(x.permute(0, 3, 1, 2), kernel, self.proj.bias, stride=patch)
        return y.permute(0, 2, 3, 1)


# --- the transformer ------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head attention with projections of its own for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, visible: Tensor, memory: Tensor | None = None) -> Tensor:
        """x (B, n, D) asks `memory` (B, m, D), or itself; visible (B, m): which are keys."""
        memory = x if memory is None else memory
        q, k, v = (self._heads(self.q(x)), self._heads(self.k(memory)), self._heads(self.v(memory)))
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None])
        return self.proj(y.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        return x.reshape(b, n, self.heads, d // self.heads).transpose(1, 2)


class EncoderBlock(Block):
    """A block whose branches are skipped by some samples in training (stochastic depth)."""

    def __init__(self, config: Config) -> None:
        width = config.embedding_size
        super().__init__(width, Attention(width, config.num_heads), config.mlp_ratio)
        self.drop_path = config.drop_path

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """x (B, N, D), visible (B, N) bool: which tokens are keys."""
        x = x + self._dropped(self.attn(self.norm1(x), visible))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, branch: Tensor) -> Tensor:
        if not self.training or not self.drop_path:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop_path
        return branch * kept / (1 - self.drop_path)


def initialise(module: nn.Module) -> None:
    """Linears start Xavier-uniform with bias 0; all else as torch has it (for `Module.apply`)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


class Encoder(Encodings):
    """Section 3 of the paper: projections, encodings, blocks over visible tokens, norm."""

    def __init__(self, config: Config = OFFICIAL["nano"]) -> None:
        width, patch = config.embedding_size, config.max_patch_size
        super().__init__(width, config.max_sequence_length)
        self.config = config
        self.space_time_embed = nn.ModuleDict(
            {n: PatchEmbed(len(c), width, patch) for n, c in SPACE_TIME.items()}
        )
        self.space_embed = nn.ModuleDict(
            {n: PatchEmbed(len(c), width, patch) for n, c in SPACE.items()}
        )
        self.time_embed = nn.ModuleDict({n: nn.Linear(len(c), width) for n, c in TIME.items()})
        self.static_embed = nn.ModuleDict({n: nn.Linear(len(c), width) for n, c in STATIC.items()})
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.apply(initialise)

    def project_space_time(self, s_t: Tensor, patch: int) -> Tensor:
        """(B, H, W, T, 13) to tokens without encodings (B, h, w, T, 7, D)."""
        b, height, width, steps, _ = s_t.shape
        frames = s_t.permute(0, 3, 1, 2, 4).reshape(b * steps, height, width, -1)
        tokens = torch.stack(
            [self.space_time_embed[n](_columns(frames, c), patch) for n, c in SPACE_TIME.items()], 3
        )
        return tokens.reshape(b, steps, *tokens.shape[1:]).permute(0, 2, 3, 1, 4, 5)

    def project(self, s_t: Tensor, sp: Tensor, t: Tensor, st: Tensor, patch: int) -> Tokens:
        """Values to tokens without encodings."""
        return Tokens(
            self.project_space_time(s_t, patch),
            torch.stack([self.space_embed[n](_columns(sp, c), patch) for n, c in SPACE.items()], 3),
            torch.stack([self.time_embed[n](_columns(t, c)) for n, c in TIME.items()], 2),
            torch.stack([self.static_embed[n](_columns(st, c)) for n, c in STATIC.items()], 1),
        )

    def transform(
        self, encoded: Tensor, visible: Tensor, projected: Tensor, exits: Tensor | None = None
    ) -> Tensor:
        """The blocks over the visible tokens; masked ones come out as 0, nothing is normed.

        Args:
            encoded: (B, N, D) tokens with encodings.
            visible: (B, N) bool.
            projected: (B, N, D) tokens without encodings: what leaves before the first block.
            exits: (N,) int64, after how many blocks each token leaves; None = after all.
        """
        place, real = chosen_first(visible)
        x = take(encoded, place)
        if exits is None:
            for block in self.blocks:
                x = block(x, real)
            out = x
        else:
            depth = exits.expand(len(x), -1).gather(1, place)[:, :, None]
            out = take(projected, place)
            for number, block in enumerate(self.blocks[: int(exits.max())], start=1):
                x = block(x, real)
                out = torch.where(depth == number, x, out)
        return put(out * real[:, :, None], place, encoded)

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
        exits: Mapping[str, int] | None = None,
        norm: bool = True,
    ) -> tuple[Tokens, Tokens]:
        """Normed tokens, and which of them were visible.

        Args:
            s_t: (B, H, W, T, 13), and
            sp: (B, H, W, 16), t: (B, T, 6), st: (B, 18), all normalised.
            masks: by pixel and group, without D: s_t (B, H, W, T, 7) and so on; 0 = visible.
            months: (B, T) int64, January = 0.
            patch: side of a patch in pixels.
            resolution_m: size of a pixel.
            exits: after how many blocks the tokens of each channel group leave; 0 = as projected,
                without encodings. None = after all blocks.
            norm: apply the final norm, which is the same for all exits.

        Returns:
            Tokens; masked ones equal the norm's bias. And bool masks of their shapes without D.
        """
        projected = self.project(s_t, sp, t, st, patch)
        encoded = self.encode(projected, months, resolution_m * patch / 10)
        masks = masks.at_patches(patch)
        visible = masks.mask_sequence() == 0
        depths = None if exits is None else _exits(exits, masks)
        x = self.transform(encoded.sequence(), visible, projected.sequence(), depths)
        return masks.shaped(self.norm(x) if norm else x), masks.shaped(visible)


def _columns(x: Tensor, of: tuple[int, ...]) -> Tensor:
    return x[..., of[0] : of[-1] + 1]


def _exits(exits: Mapping[str, int], masks: Tokens) -> Tensor:
    """(N,): the depth of each token of the sequence, by its channel group."""
    names = iter(GROUP_NAMES)
    depths = []
    for kind in masks.kinds():
        of_groups = [exits[next(names)] for _ in range(kind.shape[-1])]
        depths.append(torch.tensor(of_groups).repeat(math.prod(kind.shape[1:-1])))
    return torch.cat(depths).to(masks.st.device)


# --- features -------------------------------------------------------------------------------------


def average(tokens: Tokens, visible: Tokens) -> Tensor:
    """The mean of all visible tokens of a sample: (B, D)."""
    share = visible.mask_sequence().float()[:, :, None]
    return (tokens.sequence() * share).sum(dim=1) / share.sum(dim=1)


def average_per_patch(tokens: Tokens, visible: Tokens) -> Tensor:
    """The mean of each patch's visible tokens and all that have no place: (B, h w, D)."""
    cells = tokens.sp.shape[1] * tokens.sp.shape[2]
    local = [kind.flatten(3, -2).flatten(1, 2) for kind in (tokens.s_t, tokens.sp)]
    share = [kind.flatten(3).flatten(1, 2) for kind in (visible.s_t, visible.sp)]
    for kind, seen in ((tokens.t, visible.t), (tokens.st, visible.st)):
        local.append(kind.flatten(1, -2)[:, None].expand(-1, cells, -1, -1))
        share.append(seen.flatten(1)[:, None].expand(-1, cells, -1))
    weight = torch.cat(share, dim=2).float()[..., None]
    return (torch.cat(local, dim=2) * weight).sum(dim=2) / weight.sum(dim=2)


def load(folder: str | Path) -> Encoder:
    """The encoder of an official folder (config.json, encoder.pt), strictly, for evaluation."""
    config = json.loads((Path(folder) / "config.json").read_text())["model"]["encoder"]
    encoder = Encoder(configure(config))
    weights = torch.load(Path(folder) / "encoder.pt", map_location="cpu", weights_only=True)
    # Some official files name the module that was wrapped for distributed training.
    encoder.load_state_dict({k.replace(".backbone", ""): v for k, v in weights.items()})
    return encoder.eval()


def configure(settings: Mapping[str, object]) -> Config:
    """The configuration in the encoder's part of an official config.json."""
    return Config(**{k: v for k, v in settings.items() if k in Config.__dataclass_fields__})
