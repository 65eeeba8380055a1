"""A small SkySense for Sentinel-2 and Sentinel-1: both branches and their fusion at each pixel."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..cards import Card
from ..training.export import Exportable
from ..training.pretrain import Recipe
from .card import card_of
from .export import Fused
from .fusion import FusionConfig
from .network import Config, SkySense
from .objective import MultiGranularityContrast, Settings
from .sentinel import ViTConfig

WINDOW = 16
_POSITIONS = (WINDOW // 4) ** 2


def _branch(channels: int) -> ViTConfig:
    return ViTConfig(channels, 96, layers=2, heads=4, ratio=2, rows=_POSITIONS, outputs=(1,))


CONFIG = Config(
    "s2+s1", s2=_branch(10), s1=_branch(2),
    fusion=FusionConfig(48, 64, layers=2, heads=4, ratio=2), dates=True,
)  # fmt: skip
RECIPE = Recipe(windows=4, rate=1e-3, dates=(4, 4), pool=1200, together=True)


def objective() -> MultiGranularityContrast:
    """Contrast of pixels, objects and images, and alignment of the sensors.

    Few windows can be told apart by their dates and places alone, without a look at the ground: so
    days are shifted, more dates are dropped, and position tables stay at zero. The up-heads have
    weights of their own for each of a patch's 16 pixels: they begin alike, and crops that do not
    begin with a patch keep a lattice of patches out of the features.
    """
    encoder = SkySense(CONFIG)
    for branch, head in ((encoder.backbone_s2, encoder.head_s2),
                         (encoder.backbone_s1, encoder.head_s1)):
        nn.init.zeros_(branch.pos_embed.requires_grad_(False))
        for tensor in head.decoder[0].parameters():
            tensor.data = tensor.data[::16].repeat_interleave(16, dim=0)
    settings = Settings(outputs=256, hidden=64, clusters=8, momentum=0.99, noise=0.05,
                        drop_dates=0.5, jitter_days=15, shifted=True)
    return MultiGranularityContrast(encoder, settings)


def card() -> Card:
    """What the encoder is; training data, hash and code scale come at export."""
    own = card_of(CONFIG)
    return replace(
        own,
        name="skysense-small",
        licence_weights="GPL-3.0-or-later",
        window=WINDOW, margin=2,
        sensors=tuple(replace(s, most=8) for s in own.sensors),
        observations="Up to 8 dates of each sensor; of more, the clearest of each eighth of the "
        "series. One date works.",
        training_data=(), results=(),
        limits=(
            "Not the authors' weights: their architecture and objective at a small size. What "
            "it has seen is little, see the training data.",
            "No high-resolution branch, no geo-context prototypes.",
        ),
    )  # fmt: skip


def exportable(encoder: SkySense) -> Exportable:
    """The encoder for windows of the card's size."""
    module = Fused(encoder).eval()
    axes = {name: {0: "windows"} for name in module.names}
    for sensor in ("s2", "s1"):
        axes[sensor][2] = axes[f"{sensor}_seen"][1] = f"dates_{sensor}"
    axes["s2_day"][1] = "dates_s2"
    return Exportable(module, axes, tuple(_example(*n) for n in ((1, 4, 3), (2, 1, 1), (1, 5, 2))))


def _example(windows: int, s2_dates: int, s1_dates: int) -> tuple[Tensor, ...]:
    """Random inputs."""
    draw, side = torch.Generator().manual_seed(s2_dates), (WINDOW, WINDOW)
    return (
        torch.randn(windows, 10, s2_dates, *side, generator=draw),
        torch.randn(windows, 2, s1_dates, *side, generator=draw),
        torch.rand(windows, s2_dates, *side, generator=draw) < 0.7,
        torch.rand(windows, s1_dates, *side, generator=draw) < 0.7,
        torch.randint(0, 365, (windows, s2_dates), generator=draw),
    )
