"""AnySat's encoder (Astruc et al., "AnySat: One Earth Observation Model for Many Resolutions,
Scales, and Modalities", CVPR 2025, arXiv 2412.14123), with the official weights' names.

Projectors (section 3.1, `projectors.py`) turn every sensor into sub-patch tokens; one spatial
encoder (`spatial.py`), shared by all sensors, gives each patch of each sensor a vector; the
combiner mixes the patch vectors of all sensors and returns one vector a patch and one a window.

Shapes: B windows, P = n x n patches, S sub-patches of a patch, M sensors without MODIS, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Mlp
from .projectors import SENSORS, ImageProjector, ImageSensor, Sensor, SeriesProjector, row_by_row
from .spatial import RelativePosition, SpatialEncoder, buckets, positions

MODIS = "modis"  # one token for the window; it leads the sequence and has no position


@dataclass(frozen=True)
class Config:
    """Sizes of an AnySat.

    Attributes:
        width: D.
        depth: blocks of the combiner before the fusion block.
        heads: of the combiner.
        spatial_depth, spatial_heads: of the spatial encoder.
        sensors: name to what its projector takes.
        mlp_ratio: hidden width of the MLPs over D.
        across_heads: attention of the combiner as the released training code runs it, over the
            heads of each token and not over tokens; the released inference code does not.
    """

    width: int
    depth: int
    heads: int
    spatial_depth: int
    spatial_heads: int
    sensors: Mapping[str, Sensor] = field(default_factory=lambda: dict(SENSORS))
    mlp_ratio: float = 4.0
    across_heads: bool = False


OFFICIAL = {
    "tiny": Config(256, 2, 4, 2, 4),
    "small": Config(512, 4, 8, 4, 8),
    "base": Config(768, 6, 12, 6, 12),
}
"""The sizes of the release; only base has published weights."""


# --- combiner -------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Self-attention over tokens, or over the heads of each token."""

    def __init__(self, width: int, heads: int, across_heads: bool) -> None:
        super().__init__()
        self.heads = heads
        self.across_heads = across_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """x (B, N, D); visible (B, N) bool: which tokens are keys, None for all."""
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.across_heads:
            q, k, v = (part.transpose(1, 2) for part in (q, k, v))
            mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        else:
            keys = None if visible is None else visible[:, None, None]
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.proj(mixed.transpose(1, 2).reshape(b, n, d))


class Block(nn.Module):
    """Attention and MLP, each on the normed input and added to it."""

    def __init__(
        self, width: int, heads: int, ratio: float, across_heads: bool = False, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads, across_heads)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, ratio)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """x (B, N, D); visible (B, N) bool or None."""
        x = x + self.attn(self.norm1(x), visible)
        return x + self.mlp(self.norm2(x))


@dataclass(frozen=True)
class Places:
    """Where the rows of the fusion block's result lie.

    Attributes:
        codes: (B or 1, leading + Q, D) positions of the queries.
        pairs: (B or 1, leading + Q, leading + Q) buckets.
        leading: tokens before the patches: the window's, and MODIS's where there is one.
        sensors: M, how often the patches repeat in the sequence.
    """

    codes: Tensor
    pairs: Tensor
    leading: int
    sensors: int


class FusionAttention(nn.Module):
    """Attention of one learned query at every place to the tokens of all sensors."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_learned = nn.Parameter(torch.zeros(1, 1, width))
        self.wk = nn.Linear(width, width)
        self.wv = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.rpe_k = RelativePosition(width // heads)

    def forward(self, x: Tensor, places: Places, visible: Tensor | None) -> Tensor:
        """x (B, leading + M P, D) to (B, 1 + P, D)."""
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.q_learned + places.codes, self.wk(x), self.wv(x))
        )
        near = self.rpe_k(q, places.pairs)  # from the query before its scaling
        lead, grid = near[..., : places.leading], near[..., places.leading :]
        near = torch.cat([lead, grid.repeat(1, 1, 1, places.sensors)], dim=3)
        logits = (q @ k.transpose(2, 3)) * q.shape[-1] ** -0.5 + near
        if visible is not None:
            logits = logits.masked_fill(~visible[:, None, None], -math.inf)
        z = (logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        return self.proj(torch.cat([z[:, :1], z[:, places.leading :]], dim=1))


class FusionBlock(nn.Module):
    """The last block: a vector a place, not added to anything before it."""

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, 1e-6)
        self.attn = FusionAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, 1e-6)
        self.mlp = Mlp(width, ratio)

    def forward(self, x: Tensor, places: Places, visible: Tensor | None = None) -> Tensor:
        """x (B, leading + M P, D) to (B, 1 + P, D)."""
        x = self.attn(self.norm1(x), places, visible)
        return x + self.mlp(self.norm2(x))


# --- the whole ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patches:
    """One sensor's vectors: of patches (B, P, D), of their sub-patches (B, P, S, D)."""

    whole: Tensor
    parts: Tensor


class AnySat(nn.Module):
    """Any sensors to a vector a patch, a vector a window, and vectors of sub-patches."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        for name, sensor in config.sensors.items():
            kind = ImageProjector if isinstance(sensor, ImageSensor) else SeriesProjector
            self.add_module(f"projector_{name}", kind(sensor, config.width))
        ratio = config.mlp_ratio
        self.spatial_encoder = SpatialEncoder(
            config.width, config.spatial_depth, config.spatial_heads, ratio
        )
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.blocks = nn.ModuleList(
            [Block(config.width, config.heads, ratio, config.across_heads)
             for _ in range(config.depth)]
            + [FusionBlock(config.width, config.heads, ratio)]
        )  # fmt: skip

    def sensors_of(self, inputs: Mapping[str, Tensor]) -> list[str]:
        """The sensors among inputs called `<sensor>`, `<sensor>_dates`, `<sensor>_mask`."""
        return [name for name in inputs if name in self.config.sensors]

    def embed(self, inputs: Mapping[str, Tensor], scale: int) -> dict[str, Patches]:
        """Projectors and spatial encoder: each sensor's patches by themselves.

        Args:
            inputs: `<sensor>` (B, T, C, H, W) or (B, C, H, W), standardised; `<sensor>_dates`
                (B, T) days; `<sensor>_mask` (B, T, 1, H, W) bool, True where valid, or absent.
            scale: side of a patch in cells of 10 m.
        """
        found = {}
        for name in self.sensors_of(inputs):
            sensor, x = self.config.sensors[name], inputs[name]
            projector = self.get_submodule(f"projector_{name}")
            if isinstance(sensor, ImageSensor):
                tokens = projector(x, scale)
            else:
                tokens = projector(x, inputs[f"{name}_dates"], scale, inputs.get(f"{name}_mask"))
            whole, parts = self.spatial_encoder(tokens, scale, sensor.ground_m)
            found[name] = Patches(
                whole.reshape(x.shape[0], -1, self.config.width),
                parts.reshape(x.shape[0], -1, *parts.shape[1:]),
            )
        return found

    def sequence(self, found: Mapping[str, Patches], scale: int) -> tuple[Tensor, int]:
        """Patch vectors with positions (B, [MODIS,] M P, D), and the side n of their grid."""
        grids = [patch.whole for name, patch in found.items() if name != MODIS]
        if not grids:
            raise ValueError("AnySat needs a sensor beside MODIS, whose pixel holds all patches")
        side = math.isqrt(grids[0].shape[1])
        code = positions(grids[0].shape[2], side, float(scale), 0).to(grids[0].device)
        lead = [found[MODIS].whole] if MODIS in found else []
        return torch.cat(lead + [grid + code for grid in grids], dim=1), side

    def observed(
        self, inputs: Mapping[str, Tensor], found: Mapping[str, Patches]
    ) -> dict[str, Tensor] | None:
        """Sensor to (B, P) bool: patches with a valid pixel on any date; None without masks."""
        if not any(f"{name}_mask" in inputs for name in found):
            return None
        seen = {}
        for name, patch in found.items():
            mask, every = inputs.get(f"{name}_mask"), patch.whole[:, :, 0]
            seen[name] = torch.ones_like(every, dtype=torch.bool)
            if mask is not None:
                seen[name] = patch_any(mask, math.isqrt(every.shape[1]))
        return seen

    def combine(self, tokens: Tensor, places: Places, visible: Tensor | None = None) -> Tensor:
        """The combiner: `sequence` (B, N, D) to (B, 1 + Q, D), the window's vector first.

        Args:
            tokens: [MODIS and] the patches of all sensors, all or the chosen ones.
            places: of the same patches.
            visible: (B, N) bool, which tokens exist; None for all.
        """
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if visible is not None:
            visible = functional.pad(visible, (1, 0), value=True)
        for block in self.blocks[:-1]:
            tokens = block(tokens, visible)
        return self.blocks[-1](tokens, places, visible)

    def places(self, side: int, scale: int, sensors: int, modis: bool, device: object) -> Places:
        """The places of all patches of a grid n x n."""
        leading = 1 + modis
        codes = positions(self.config.width, side, float(scale), leading).to(device)[None]
        return Places(codes, buckets(side, leading).to(device)[None], leading, sensors)

    def rows(
        self, found: Mapping[str, Patches], scale: int, visible: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """(B, 1 + P, D) from what `embed` found.

        Args:
            visible: sensor to (B, P) bool: its patches that were observed; None for all.
        """
        tokens, side = self.sequence(found, scale)
        modis = MODIS in found
        places = self.places(side, scale, len(found) - modis, modis, tokens.device)
        known = None
        if visible is not None:
            order = [MODIS] * modis + [name for name in found if name != MODIS]
            known = torch.cat([visible[name] for name in order], dim=1)
        return self.combine(tokens, places, known)

    def dense(self, rows: Tensor, parts: Tensor) -> Tensor:
        """Patch vectors beside those of their sub-patches: (B, n S', n S', 2D), S = S' x S'."""
        _, p, s, d = parts.shape
        side, inside = math.isqrt(p), math.isqrt(s)
        both = torch.cat([rows[:, 1:, None].expand(-1, -1, s, -1), parts], dim=3)
        both = both.reshape(-1, side, side, inside, inside, 2 * d).transpose(2, 3)
        return both.reshape(-1, side * inside, side * inside, 2 * d)

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        scale: int,
        output: str = "patch",
        dense_sensor: str = "",
        in_place: bool = False,
    ) -> Tensor:
        """Embeddings of windows.

        Args:
            inputs, scale: as in `embed`.
            output: "tile" (B, D), "patch" (B, n, n, D), "all" (B, 1 + n n, D) or "dense"
                (B, n S', n S', 2D).
            dense_sensor: whose sub-patches "dense" shows; by default the first sensor's.
            in_place: for "dense" of an image with several sub-patches in a cell and several cells
                in a patch: put them where they lie, and not where the release puts them.

        Raises:
            ValueError: for another output or a sensor that is not among the inputs.
        """
        found = self.embed(inputs, scale)
        rows = self.rows(found, scale)
        if output == "all":
            return rows
        if output == "tile":
            return rows[:, 0]
        if output == "patch":
            side = math.isqrt(rows.shape[1] - 1)
            return rows[:, 1:].unflatten(1, (side, side))
        name = dense_sensor or next(iter(found))
        if output != "dense" or name not in found:
            raise ValueError(f"AnySat has no output '{output}' of sensor '{name}'")
        parts, sensor = found[name].parts, self.config.sensors[name]
        if in_place and isinstance(sensor, ImageSensor):
            parts = row_by_row(parts, scale, sensor.parts)
        return self.dense(rows, parts)


def patch_any(mask: Tensor, side: int) -> Tensor:
    """(B, T, 1, H, W) bool to (B, n n): whether anything of a patch is set on any date."""
    seen = mask.flatten(1, 2).float().amax(dim=1)
    step = seen.shape[-1] // side
    seen = seen[:, : side * step, : side * step].reshape(-1, side, step, side, step)
    return seen.amax(dim=(2, 4)).flatten(1) > 0


def build(config: Config) -> AnySat:
    """The network of a configuration."""
    return AnySat(config)


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of its tensors, without memory for them."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in build(config).state_dict().items()}
