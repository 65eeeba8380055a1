"""MAESTRO's pretraining: pixels of masked tokens, normalised patch by patch and by groups of
correlated bands, are reconstructed from the tokens that are left (Labatie et al., WACV 2026,
section 3; He et al., "Masked Autoencoders", CVPR 2022).

Shapes: B windows, T dates, G token groups, E = G T entries, L = g x g places, N tokens of a
sequence, K masked ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .heads import unfold
from .layout import Input
from .network import Config, Encoder, Fusion, Transformer, dates_of, position_code

LOSSES = ("l1_norm", "l2_norm", "l1", "l2")


@dataclass(frozen=True)
class Masking:
    """How much is hidden.

    Attributes:
        ratio: of the tokens of a sequence.
        sensor: probability that a whole input is hidden, in a group of several.
        date: of a date of an input with several.
        place: of a place, on all dates.
    """

    ratio: float = 0.75
    sensor: float = 0.25
    date: float = 0.25
    place: float = 0.25


MASKING = Masking()
"""The official one."""


# --- what is hidden -------------------------------------------------------------------------------


def draw_masks(
    fusion: Fusion,
    entries: Mapping[str, int],
    windows: int,
    masking: Masking,
    generator: torch.Generator,
    visible: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Masks of the sequences (B, N) bool, True = masked, the same number in every row.

    Whole inputs, dates and places come first and random tokens fill up; where every image is a
    sequence of its own, all is random. Tokens that do not exist come before all others.

    Args:
        entries: E of each input.
        visible: sequence to (B, N) bool, which tokens exist.
    """
    structure = fusion.join(_structure(fusion, entries, windows, masking, generator))
    masks = {}
    for name, first in structure.items():
        noise = torch.rand(first.shape, generator=generator) - first.float()
        if visible is not None:
            noise -= 2 * (~visible[name]).float().cpu()
        order = noise.argsort(dim=1)[:, : round(masking.ratio * noise.shape[1])]
        masks[name] = torch.zeros(first.shape, dtype=torch.bool).scatter(1, order, True)
    return masks


def _structure(
    fusion: Fusion, entries: Mapping[str, int], windows: int, masking: Masking,
    generator: torch.Generator,
) -> dict[str, Tensor]:  # fmt: skip
    """Whole inputs, dates and places to hide, (B, E, L) bool; no sequence is hidden altogether."""
    inputs = fusion.layout.inputs
    if fusion.mode in ("shared", "monotemp"):
        return {n: torch.zeros(windows, e, inputs[n].grid ** 2, dtype=torch.bool)
                for n, e in entries.items()}  # fmt: skip

    def chance(*shape: int, probability: float) -> Tensor:
        return torch.rand(windows, *shape, generator=generator) < probability

    def draw() -> dict[str, Tensor]:
        found = {}
        for name, e in entries.items():
            groups, places = len(inputs[name].bands), inputs[name].grid ** 2
            mask = chance(1, places, probability=masking.place).expand(-1, e, -1)
            if any(n != name and fusion.sequence(n) == fusion.sequence(name) for n in entries):
                mask = mask | chance(1, 1, probability=masking.sensor)
            if e > groups:
                dates = chance(e // groups, 1, probability=masking.date)
                mask = mask | dates.repeat(1, groups, 1)
            found[name] = mask
        return found

    masks = draw()
    while True:
        full = {name: mask.all(dim=1) for name, mask in fusion.join(masks).items()}
        if not any(hidden.any() for hidden in full.values()):
            return masks
        again = draw()
        for name, mask in masks.items():
            row = full[fusion.sequence(name)][:, None, None]
            masks[name] = torch.where(row, again[name], mask)


def rows(x: Tensor, mask: Tensor) -> Tensor:
    """The rows of x (B, N, ...) where the mask (B, N) is set, as often in each b: (B, K, ...)."""
    return x[mask].unflatten(0, (len(x), -1))


# --- decoder --------------------------------------------------------------------------------------


class BandsFromTokens(nn.Module):
    """Tokens of one group to the pixels of its bands."""

    def __init__(self, width: int, bands: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.conv = nn.Conv2d(width, bands * patch**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, L, D) to (B, T, C, H, W)."""
        b, t, places, d = x.shape
        side = math.isqrt(places)
        x = self.conv(x.reshape(b * t, side, side, d).permute(0, 3, 1, 2))
        return unfold(x, self.patch).unflatten(0, (b, t))


class Pixelify(nn.Module):
    """Tokens of all groups of an input to its pixels."""

    def __init__(self, given: Input, width: int) -> None:
        super().__init__()
        self.pixelify_bands = nn.ModuleList(
            BandsFromTokens(width, bands, given.patch) for bands in given.bands
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, G T, L, D) to (B, T, C, H, W)."""
        parts = zip(self.pixelify_bands, x.chunk(len(self.pixelify_bands), dim=1), strict=True)
        return torch.cat([pixelify(part) for pixelify, part in parts], dim=2)


class Decoder(nn.Module):
    """From features of the tokens that were left to all pixels; thrown away afterwards."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.fusion = Fusion(config.layout, config.fusion)
        width = config.decoder_width
        self.embed_to_rec = nn.ModuleDict()
        for given in config.layout.inputs.values():
            if given.embedding not in self.embed_to_rec:
                self.embed_to_rec[given.embedding] = Pixelify(given, width)
        self.mask_token = nn.ParameterDict({
            name: nn.Parameter(torch.randn(1, len(given.bands), 1, 1, width))
            for name, given in config.layout.inputs.items()
        })  # fmt: skip
        narrow = config.width == width
        self.enc_to_dec = nn.ModuleDict({
            name: nn.Identity() if narrow else nn.Linear(config.width, width)
            for name in self.fusion.readers
        })  # fmt: skip
        hidden = config.width * config.decoder_mlp_ratio
        self.decoder = nn.ModuleDict({
            name: Transformer(width, config.decoder_depth, config.decoder_heads,
                              config.decoder_head_width, hidden)
            for name in self.fusion.readers
        })  # fmt: skip
        for name, given in config.layout.inputs.items():
            code = position_code(width, config.layout.position_grid, given.grid, config.date_width)
            self.register_buffer(f"position_{name}", code, persistent=False)

    def forward(
        self,
        encoded: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        order: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Pixels of each input (B, T, C, H, W).

        Args:
            encoded: sequence to the features of its visible tokens, ascending.
            masks: sequence to (B, N) bool, True = masked.
            inputs: as in `Encoder.forward`, for the dates.
            order: sequence to the places (B, K) that its mask tokens, ascending, are put at. The
                released code sorts in an unstable way and may put a mask token of one input at a
                place of another; without an order each stays where it belongs.
        """
        layout = self.config.layout
        counts = {name: inputs[f"{name}_dates"].shape[:2] for name in layout.inputs}
        blank = self.fusion.join({
            name: token.expand(counts[name][0], -1, counts[name][1], layout.inputs[name].grid ** 2,
                               -1).flatten(1, 2)
            for name, token in self.mask_token.items()
        })  # fmt: skip
        sequences = {}
        for name, mask in masks.items():
            x = self.enc_to_dec[self.fusion.reader(name)](encoded[name])
            whole = torch.zeros_like(blank[name], dtype=x.dtype)
            whole[~mask] = x.flatten(0, 1)
            hidden = rows(blank[name], mask).to(x.dtype)
            if order is None:
                whole[mask] = hidden.flatten(0, 1)
            else:
                places = order[name].long()[:, :, None].expand_as(hidden)
                whole = whole.scatter(1, places, hidden)
            sequences[name] = whole
        entries = {n: counts[n][1] * len(layout.inputs[n].bands) for n in layout.inputs}
        tokens = {
            name: x + self.get_buffer(f"position_{name}")
            + dates_of(inputs, name, self.config, self.config.decoder_width)
            for name, x in self.fusion.split(sequences, entries).items()
        }
        decoded = {
            name: self.decoder[self.fusion.reader(name)](x)
            for name, x in self.fusion.join(tokens).items()
        }
        return {
            name: self.embed_to_rec[layout.inputs[name].embedding](x)
            for name, x in self.fusion.split(decoded, entries).items()
        }


# --- loss -----------------------------------------------------------------------------------------


def _patches(x: Tensor, patch: int) -> Tensor:
    """(B, T, C, H, W) to (B, T, L, p p, C)."""
    b, t, c, h, w = x.shape
    x = x.reshape(b, t, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 1, 3, 5, 4, 6, 2).reshape(b, t, -1, patch * patch, c)


def normalised(patches: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Patches (..., p p, C) less their mean and over their deviation, by groups of bands."""
    parts = []
    for part in patches.split(groups, dim=-1):
        variance, mean = torch.var_mean(part, dim=(-2, -1), keepdim=True)  # the unbiased variance
        parts.append((part - mean) / (variance + 1e-6).sqrt())
    return torch.cat(parts, dim=-1)


def reconstruction(
    rasters: Mapping[str, Tensor],
    pixels: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    inputs: Mapping[str, Input],
    kind: str = "l1_norm",
) -> Tensor:
    """Mean error of masked pixels, inputs weighted by their number of dates and places.

    Args:
        rasters, pixels: of each input (B, T, C, H, W), given and reconstructed.
        masks: of each input (B, E, L) bool, the tokens that count.
        kind: "l1_norm" and "l2_norm" (targets normalised), "l1", "l2".
    """
    errors, weights = [], []
    for name, found in pixels.items():
        given = inputs[name]
        target, found = (_patches(x, given.patch) for x in (rasters[name], found))
        if kind.endswith("norm"):
            target = normalised(target, given.normalised or given.bands)
        error = (target - found).abs() if kind.startswith("l1") else (target - found).square()
        hidden = masks[name].unflatten(1, (len(given.bands), -1)).permute(0, 2, 3, 1)
        of_band = torch.repeat_interleave(
            hidden, torch.tensor(given.bands, device=hidden.device), dim=3
        )
        counted = of_band[:, :, :, None].expand_as(error)
        errors.append((error * counted).sum() / counted.sum().clamp(min=1))
        weights.append(target.shape[1] * given.grid**2)
    return sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights)


class MaskedAutoencoder(nn.Module):
    """Masked autoencoding with targets normalised by patches and groups of bands.

    Args:
        encoder: is trained and kept.
        masking: how much is hidden.
        kind: of the loss; the official one is "l1_norm".
    """

    def __init__(self, encoder: Encoder, masking: Masking = MASKING, kind: str = "l1_norm"):
        super().__init__()
        if kind not in LOSSES:
            raise ValueError(f"MAESTRO has no loss '{kind}': use {', '.join(LOSSES)}")
        self.encoder = encoder
        self.decoder = Decoder(encoder.config)
        self.masking = masking
        self.kind = kind

    def forward(
        self, inputs: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            inputs: the adapter's, see `Encoder.forward`; `<input>_visible` (B, T, L) bool says
                which tokens exist: the others are neither read nor reconstructed.
            generator: on the CPU, of the masks.
        """
        encoder, fusion = self.encoder, self.encoder.fusion
        rasters = encoder.rasters(inputs)
        tokens = encoder.placed(encoder.embed(rasters), inputs)
        known = known_tokens(inputs, encoder.config)
        sequences, exist = fusion.join(tokens), fusion.join(known)
        entries = {name: x.shape[1] for name, x in tokens.items()}
        windows = next(iter(tokens.values())).shape[0]
        masks = draw_masks(fusion, entries, windows, self.masking, generator, exist)
        masks = {name: mask.to(sequences[name].device) for name, mask in masks.items()}
        encoded = encoder.encode(
            {name: rows(x, ~masks[name]) for name, x in sequences.items()},
            {name: rows(x, ~masks[name]) for name, x in exist.items()},
        )
        pixels = self.decoder(encoded, masks, inputs)
        hidden = fusion.split({name: masks[name] & exist[name] for name in masks}, entries)
        return {"loss": reconstruction(rasters, pixels, hidden, encoder.config.layout.inputs,
                                       self.kind)}  # fmt: skip

    def update(self, progress: float) -> None:
        """Nothing follows the encoder."""


def known_tokens(inputs: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Each input's (B, E, L) bool of tokens that exist, from `<input>_visible` (B, T, L)."""
    found = {}
    for name, given in config.layout.inputs.items():
        seen = inputs.get(f"{name}_visible")
        if seen is None:
            seen = inputs[name].new_ones((*inputs[name].shape[:2], given.grid**2), dtype=torch.bool)
        found[name] = seen.repeat(1, len(given.bands), 1)
    return found
