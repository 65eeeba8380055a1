"""Backbones that see an image together with its label map (SkySense++, semantic enhancement).

Each label is a word of a vocabulary without meaning; a patch's label token is the weighted sum of
the words of its 16 pixels, or the mask token where the label is hidden. Label tokens stand to the
right of the image's; after some stages (layers) both halves are averaged and go on as one.

Without labels all are hidden, which is how an image whose labels are sought enters the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sentinel import ViT, ViTConfig
from .swin import Size, SwinConfig, SwinV2
from .transformer import SelfAttention

_ROWS = 1024  # queries of the extra attention at one time


@dataclass(frozen=True)
class LabelConfig:
    """What label tokens add to a backbone."""

    words: int  # highest label; 0 is "no label"
    merge: int  # stages or layers after which the halves are averaged; 0: before all of them
    attention: tuple[int, ...] = ()  # widths of the extra attention after stages 0, 1, 2 of a Swin
    attention_heads: int = 16


class LabelTokens(nn.Module):
    """The part of a backbone that makes label tokens; its parameters are the backbone's own."""

    def add_labels(self, words: int, width: int, patch: int) -> None:
        """Create the parameters; called from the constructor of the backbone."""
        self.label_patch = patch
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.vocabulary_token = nn.Parameter(torch.empty(words + 1, width))
        self.vocabulary_weight = nn.Parameter(torch.zeros(1, patch**2))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        nn.init.trunc_normal_(self.vocabulary_token, std=0.02)

    def label_tokens(self, labels: Tensor) -> Tensor:
        """Labels (N, H, W) int to (N, L, D); the weights go over a patch's pixels row by row."""
        patch = self.label_patch
        labels = functional.pad(labels, (0, -labels.shape[2] % patch, 0, -labels.shape[1] % patch))
        weights = self.vocabulary_weight.softmax(dim=-1)[0]
        total = 0.0
        for pixel, weight in enumerate(weights):
            row, col = divmod(pixel, patch)
            words = labels[:, row::patch, col::patch].flatten(1).long()
            total = total + weight * self.vocabulary_token[words]
        return total

    def beside(self, x: Tensor, labels: Tensor | None, mask: Tensor | None) -> Tensor:
        """The label tokens that go with the image tokens (N, L, D).

        Args:
            labels: (N, H, W) on the image's pixels; None hides all.
            mask: (N, h, w) on the tokens, 1 hides the label.
        """
        if labels is None:
            return self.mask_token.expand(x.shape[0], x.shape[1], -1)
        e = self.label_tokens(labels)
        if mask is None:
            return e
        hidden = mask.flatten(1)[..., None].to(e.dtype)
        return e * (1 - hidden) + self.mask_token * hidden


def side_by_side(x: Tensor, e: Tensor, size: Size) -> tuple[Tensor, Size]:
    """Image and label tokens (N, h w, D) as one map of (h, 2w)."""
    h, w = size
    x, e = (part.reshape(-1, h, w, part.shape[-1]) for part in (x, e))
    return torch.cat((x, e), dim=2).flatten(1, 2), (h, 2 * w)


def average_halves(x: Tensor, size: Size) -> tuple[Tensor, Size]:
    """The reverse: (N, h 2w, D) to the mean of its left and right half."""
    h, w = size[0], size[1] // 2
    left, right = x.reshape(-1, h, size[1], x.shape[-1]).split(w, dim=2)
    return ((left + right) / 2).flatten(1, 2), (h, w)


class GlobalAttention(nn.Module):
    """proj_out(u + attention(u)), u = proj_in(x), over all tokens of a map; without a norm."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(width, inner)
        self.attn = nn.ModuleDict({"attn": SelfAttention(inner, heads, rows=_ROWS)})
        self.proj_out = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) to what is added to it."""
        u = self.proj_in(x)
        return self.proj_out(u + self.attn["attn"](u))


class LabelledSwin(SwinV2, LabelTokens):
    """The high-resolution branch of SkySense++."""

    def __init__(self, config: SwinConfig, labels: LabelConfig) -> None:
        super().__init__(config)
        self.labels = labels
        self.add_labels(labels.words, config.width, config.patch)
        for i, inner in enumerate(labels.attention):
            attention = GlobalAttention(config.widths[i], inner, labels.attention_heads)
            self.add_module(f"attn{i + 1}", attention)
        if labels.attention:
            self.norm_attn = nn.LayerNorm(config.widths[2])

    def forward(
        self, image: Tensor, labels: Tensor | None = None, mask: Tensor | None = None
    ) -> dict[int, Tensor]:
        """(N, channels, H, W) to {stage: (N, C, h, w)}; stages before the merging are 2w wide."""
        x, size = self.patch_embed(image)
        e = self.beside(x, labels, mask)
        if self.labels.merge:
            x, size = side_by_side(x, e, size)
        else:
            x = (x + e) / 2
        maps = {}
        for i, stage in enumerate(self.stages):
            x, size = stage(x, size)
            if i == self.labels.merge - 1:
                x, size = average_halves(x, size)
            if i < len(self.labels.attention):
                x = x + getattr(self, f"attn{i + 1}")(x)
                x = self.norm_attn(x) if i == 2 else x
            if i in self.config.outputs:
                maps[i] = self.output(i, x, size)
        return maps


class LabelledViT(ViT, LabelTokens):
    """A Sentinel branch of SkySense++; image and label tokens share one stretched position table.

    Its weights hold a class token that nothing uses.
    """

    def __init__(self, config: ViTConfig, labels: LabelConfig) -> None:
        super().__init__(config)
        self.labels = labels
        self.add_labels(labels.words, config.width, config.patch)

    def embed_pair(
        self, image: Tensor, labels: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Size]:
        """The tokens that enter the first layer, and the size of their map."""
        x, size = self.patch_embed(image)
        e = self.beside(x, labels, mask)
        if self.labels.merge:
            x, size = side_by_side(x, e, size)
        else:
            x = (x + e) / 2
        return x + self.positions(size), size

    def forward(
        self, image: Tensor, labels: Tensor | None = None, mask: Tensor | None = None
    ) -> dict[int, Tensor]:
        """(N, channels, H, W) to {layer: (N, D, h, w)}."""
        x, size = self.embed_pair(image, labels, mask)
        maps = {}
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == self.labels.merge - 1:
                x, size = average_halves(x, size)
            if i in self.config.outputs:
                out = self.finish(i, x)
                maps[i] = out.transpose(1, 2).reshape(-1, out.shape[-1], *size)
        return maps
