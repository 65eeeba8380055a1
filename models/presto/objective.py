"""Presto's pretraining: a masked autoencoder with structured masks (section 3 of the paper).

Three quarters of a pixel's tokens are hidden by one of four strategies: whole channel groups,
random months, consecutive months, random tokens. What a pixel lacks is neither seen nor asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .decoder import Decoder
from .network import DYNAMIC_WORLD_MISSING, GROUPS, Config, Encoder, Visible, each_month

MASK_RATIO = 0.75
DYNAMIC_WORLD_WEIGHT = 2.0
STRATEGIES = ("group_bands", "random_timesteps", "chunk_timesteps", "random_combinations")
_SERIES = tuple(name for name in GROUPS if name != "SRTM")  # groups with a token a step


# --- masks ----------------------------------------------------------------------------------------


def draw(
    there: Tensor, terrain: bool, strategy: str, generator: torch.Generator
) -> tuple[Tensor, bool]:
    """Hide three quarters of one pixel's tokens.

    Args:
        there: (T, 9) bool on the CPU: which of its tokens a pixel has: the eight groups with a
            token a step, then Dynamic World.
        terrain: it also has terrain, one token.
        strategy: one of STRATEGIES.
        generator: of the draw, on the CPU.

    Returns:
        (T, 9) bool, hidden; and whether terrain is.
    """
    steps, groups = there.shape
    count = int((int(there.sum()) + terrain) * MASK_RATIO)
    hide_terrain = terrain and count > 0 and _chance(generator) < MASK_RATIO
    count -= hide_terrain
    hidden = torch.zeros_like(there)
    if strategy == "group_bands":
        whole = [(slice(None), int(g)) for g in torch.randperm(groups, generator=generator)]
    elif strategy == "random_timesteps":
        whole = [(int(t), slice(None)) for t in torch.randperm(steps, generator=generator)]
    elif strategy == "chunk_timesteps":
        length = min(count // groups, steps)
        first = int(torch.randint(steps - length + 1, (), generator=generator))
        whole = [(t, slice(None)) for t in range(first, first + length)]
    else:
        whole = []
    for part in whole:
        if int(there[part].sum()) > count:
            break
        hidden[part] = there[part]
        count -= int(there[part].sum())
    rest = torch.nonzero((there & ~hidden).flatten())[:, 0]
    chosen = rest[torch.randperm(len(rest), generator=generator)[:count]]
    hidden.view(-1)[chosen] = True
    return hidden, hide_terrain


def _chance(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def by_band(hidden: Tensor, terrain: Tensor) -> Tensor:
    """Masks of groups (B, T, 8) and of terrain (B,) as masks of bands (B, T, 17)."""
    columns = {name: hidden[:, :, i] for i, name in enumerate(_SERIES)}
    columns["SRTM"] = terrain[:, None].expand(-1, hidden.shape[1])
    return torch.stack([columns[n] for n, bands in GROUPS.items() for _ in bands], dim=2)


# --- loss -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReconstructionLoss:
    """The loss of a step with its parts."""

    total: Tensor
    values: Tensor  # mean squared error
    classes: Tensor  # cross-entropy
    weight: Tensor  # of the cross-entropy


def reconstruction_loss(
    values: Tensor,
    logits: Tensor,
    true_values: Tensor,
    true_classes: Tensor,
    hidden: Tensor,
    hidden_classes: Tensor,
    share: float = DYNAMIC_WORLD_WEIGHT,
) -> ReconstructionLoss:
    """Mean squared error of hidden values plus the weighted cross-entropy of hidden classes.

    Args:
        values, true_values: (B, T, 17).
        logits: (B, T, 9).
        true_classes: (B, T) int64.
        hidden: (B, T, 17) bool; terrain counts in the first step only.
        hidden_classes: (B, T) bool.
        share: the weight is `share` times hidden classes over hidden values, at most 1.
    """
    terrain = list(GROUPS["SRTM"])
    hidden = hidden.clone()
    hidden[:, 1:, terrain] = False
    n_values, n_classes = hidden.sum(), hidden_classes.sum()
    error = (values - true_values)[hidden].square().sum() / n_values.clamp_min(1)
    entropy = functional.cross_entropy(
        logits[hidden_classes], true_classes[hidden_classes], reduction="sum"
    ) / n_classes.clamp_min(1)
    weight = (share * n_classes / n_values.clamp_min(1)).clamp_max(1.0)
    return ReconstructionLoss(error + weight * entropy, error, entropy, weight)


class MaskedReconstruction(nn.Module):
    """Encoder and decoder, under the names of the official file."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, self.encoder.channel_embed)

    def forward(
        self, inputs: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            inputs: what the adapter yields: x (B, T, 17), dynamic_world (B, T), latlons (B, 2),
                mask (B, T, 17), month (B, T).
            generator: of the masks, on the CPU.

        Returns:
            loss, and its parts values (mean squared error) and classes (cross-entropy).
        """
        x, classes = inputs["x"], inputs["dynamic_world"]
        hidden, hidden_classes = self.masks(inputs["mask"], classes, generator)
        values, logits = self.reconstruct(
            x.masked_fill(hidden, 0),
            classes.masked_fill(hidden_classes, DYNAMIC_WORLD_MISSING),
            inputs["latlons"],
            ((inputs["mask"] > 0) | hidden).float(),
            inputs["month"],
        )
        loss = reconstruction_loss(values, logits, x, classes, hidden, hidden_classes)
        return {"loss": loss.total, "values": loss.values, "classes": loss.classes}

    def masks(
        self, missing: Tensor, classes: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Bands (B, T, 17) and classes (B, T) to hide, each pixel by a strategy of its own."""
        groups = torch.stack(
            [(missing[:, :, list(GROUPS[name])] == 0).all(dim=2) for name in _SERIES]
            + [classes != DYNAMIC_WORLD_MISSING], dim=2
        ).cpu()  # fmt: skip
        terrain = (missing[:, 0, list(GROUPS["SRTM"])] == 0).all(dim=1).cpu()
        hidden = torch.zeros_like(groups)
        hidden_terrain = torch.zeros_like(terrain)
        kinds = torch.randint(len(STRATEGIES), (len(groups),), generator=generator)
        for i, kind in enumerate(kinds):
            hidden[i], hidden_terrain[i] = draw(
                groups[i], bool(terrain[i]), STRATEGIES[kind], generator
            )
        bands = by_band(hidden[:, :, : len(_SERIES)], hidden_terrain)
        return bands.to(missing.device), hidden[:, :, -1].to(missing.device)

    def reconstruct(
        self, x: Tensor, dynamic_world: Tensor, latlons: Tensor, mask: Tensor, month: Tensor | int
    ) -> tuple[Tensor, Tensor]:
        """All values (B, T, 17) and class logits (B, T, 9) from what is visible."""
        seen = self.encoder.visible(x, dynamic_world, latlons, mask, month)
        normed = Visible(self.encoder.norm(seen.tokens), seen.real, seen.order)
        return self.decoder(normed, each_month(month, x))

    def update(self, progress: float) -> None:
        """Nothing here moves with the training."""
