"""Galileo for ONNX: Sentinel-1, -2 and NDVI in, a feature for each patch out.

Products that the adapter always masks are left out of the graph, which changes nothing: masked
tokens take no part in the attention. Masked tokens of the others are dropped when it runs.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..training.export import Exportable
from .network import Config, Encoder, PatchEmbed, resize_kernel
from .variants import VARIANTS


def at_patch(encoder: Encoder, patch: int) -> Encoder:
    """A copy in evaluation mode whose kernels have the size of the patch."""
    encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
    encoder.config = replace(encoder.config, max_patch_size=patch)
    for module in encoder.modules():
        if isinstance(module, PatchEmbed):
            module.proj.weight = nn.Parameter(resize_kernel(module.proj.weight, patch), False)
            module.patch = patch
    return encoder


class PatchFeatures(nn.Module):
    """The mean of each patch's visible tokens (for a pixel: of all its tokens)."""

    def __init__(self, encoder: Encoder, patch: int, resolution_m: float = 10) -> None:
        super().__init__()
        self.encoder = at_patch(encoder, patch)
        self.patch, self.ground = patch, resolution_m * patch / 10

    def forward(self, s_t: Tensor, s_t_mask: Tensor, months: Tensor) -> Tensor:
        """s_t (n, H, W, T, 13), mask (n, H, W, T, 7), months (n, T) to (n h w, D), not normalised.

        A patch without a visible token gets 0.
        """
        projected = self.encoder.project_space_time(s_t, self.patch)
        encoded = self.encoder.encode_space_time(projected, months, self.ground)
        visible = s_t_mask[:, :: self.patch, :: self.patch] == 0
        x = self.encoder.transform(
            encoded.flatten(1, -2), visible.flatten(1), projected.flatten(1, -2)
        )
        x = self.encoder.norm(x).reshape(encoded.shape).flatten(3, 4)  # (n, h, w, T 7, D)
        share = visible.flatten(3)[..., None].to(x.dtype)
        return ((x * share).sum(dim=3) / share.sum(dim=3).clamp_min(1)).flatten(0, 2)


class LevelFeatures(nn.Module):
    """The same without what a patch's place in the window adds, whatever lies there.

    The code of the place leaves a fixed pattern in the features, with nano stronger than the
    differences between places: it would be a lattice in every raster. The pattern is measured on
    windows of noise with the spread of the pretraining data.
    """

    def __init__(self, features: PatchFeatures, window: int, windows: int = 16) -> None:
        super().__init__()
        self.features = features.eval()
        cells = (window // features.patch) ** 2
        generator = torch.Generator().manual_seed(0)
        mask, months = torch.zeros(1, window, window, 12, 7), torch.arange(12)[None]
        total = 0.0
        with torch.no_grad():
            for _ in range(windows):
                # mean and spread that the scaling gives the pretraining data
                noise = 0.5 + 0.25 * torch.randn(1, window, window, 12, 13, generator=generator)
                total = total + self.features(noise, mask, months) / windows
        self.register_buffer("pattern", (total - total.mean(dim=0)).reshape(1, cells, -1))

    def forward(self, s_t: Tensor, s_t_mask: Tensor, months: Tensor) -> Tensor:
        """As `PatchFeatures`."""
        x = self.features(s_t, s_t_mask, months)
        return (x.reshape(-1, *self.pattern.shape[1:]) - self.pattern).flatten(0, 1)


def exportable(network: Encoder, config: Config, variant: str = "pixel") -> Exportable:
    """The encoder as one of `variants.VARIANTS` (of any number of dates up to the card's most)."""
    shape = VARIANTS[variant]
    steps = min(shape.most, config.max_sequence_length)
    module: nn.Module = PatchFeatures(network, shape.patch)
    first = "pixels"
    if variant == "patch":
        module, first = LevelFeatures(module, shape.window), "windows"
    sizes = ((3, steps), (1, 1), (2, max(steps // 2, 1)))
    return Exportable(
        module.eval(),
        {
            "s_t": {0: first, 3: "steps"},
            "s_t_mask": {0: first, 3: "steps"},
            "months": {0: first, 1: "steps"},
        },
        tuple(_example(count, shape.window, shape.patch, length) for count, length in sizes),
    )


def _example(count: int, side: int, patch: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random inputs, a third of the tokens masked, the first one of each patch never."""
    generator = torch.Generator().manual_seed(steps)
    s_t = torch.rand(count, side, side, steps, 13, generator=generator)
    cells = side // patch
    masked = torch.rand(count, cells, cells, steps, 7, generator=generator) < 1 / 3
    masked[:, :, :, 0, 0] = False
    masked = masked.repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)
    months = torch.randint(12, (count, steps), generator=generator)
    return s_t, masked.float(), months
