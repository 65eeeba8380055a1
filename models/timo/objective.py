"""TiMo's pretraining: images with most of their units blanked, whose pixels are to be restored.

Masked modelling as in Hiera (Ryali et al. 2023): units of 32 x 32 pixels of all dates are masked
together, the four stages see the visible ones alone, with full attention, and convolutions stay
inside a unit. The authors fix three dates and 224 pixels; here both are free.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .network import Attention, Block, Config, Timo, time_and_space_code

UNIT = 32  # pixels on a side of what is masked together
MASKED = 0.75
NORMALISATIONS = ("none", "batch", "unit")


class MaskedTimo(Timo):
    """The encoder with full attention in all stages, and the decoder of pretraining."""

    def __init__(self, config: Config, width: int = 512, depth: int = 8, heads: int = 16) -> None:
        """`width`, `depth`, `heads` of the decoder."""
        if set(config.attention) != {"full"}:
            raise ValueError("TiMo is pretrained with full attention in all stages")
        super().__init__(config)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_embed = nn.Linear(config.widths[-1], width)
        self.decoder_blocks = nn.ModuleList(
            Block(config, width, Attention(width, heads, config.qkv_bias), config.mlp_ratios[-1])
            for _ in range(depth)
        )
        self.decoder_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.decoder_pred = nn.Linear(width, config.bands * UNIT**2)
        for part in (self.decoder_embed, self.decoder_blocks, self.decoder_pred):
            part.apply(_initialise_linear)

    def encode_visible(self, series: Tensor, keep: Tensor) -> Tensor:
        """Features of the visible units.

        Args:
            series: (B, T, C, H, W), H and W multiples of 32.
            keep: (B, U) bool, equally many in each series; U = T (H/32) (W/32), date by date and
                row by row.

        Returns:
            (B, V, D), visible units in order.
        """
        b, dates, _, height, width = series.shape
        grid = (b, dates, height // UNIT, width // UNIT)
        seen = keep.reshape(grid).repeat_interleave(UNIT, 2).repeat_interleave(UNIT, 3)
        x, (rows, columns) = self.embed(0, (series * seen[:, :, None]).flatten(0, 1))
        x = x.unflatten(0, (b, dates)) + self.positions(dates, rows, columns).to(x.device)
        side = rows // grid[2]  # tokens on a side of a unit
        x = x.reshape(*grid[:3], side, grid[3], side, -1).transpose(3, 4).flatten(4, 5)
        x = x.flatten(1, 3)[keep]  # (B V, side side, D)
        for stage in range(len(self.config.widths)):
            if stage:
                maps = x.transpose(1, 2).unflatten(2, (side, side))
                x, (side, _) = self.embed(stage, maps)
            whole = x.reshape(b, 1, -1, x.shape[-1])
            x = self.attend(stage, whole).reshape(x.shape)
        return x.reshape(b, -1, x.shape[-1])

    def decode(self, latent: Tensor, keep: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Pixels of all units from the features of the visible ones.

        Args:
            latent: (B, V, D).
            keep: (B, U) bool.
            grid: dates, rows and columns of units.

        Returns:
            (B, U, C 32 32), in the order band, row, column.
        """
        x = self.mask_token.expand(*keep.shape, -1).clone()
        x[keep] = self.decoder_embed(latent).flatten(0, 1)
        x = x + time_and_space_code(*grid, x.shape[-1]).flatten(0, 1).to(x.device)
        x = x[:, None]  # as if of one date
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x[:, 0]))


def _initialise_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


# --- masks and loss -------------------------------------------------------------------------------


def choose(noise: Tensor, masked: float = MASKED) -> Tensor:
    """The units with the least noise stay visible: (B, U) to (B, U) bool."""
    units = noise.shape[1]
    order = noise.argsort(dim=1)[:, : int(units * (1 - masked))]
    return torch.zeros_like(noise, dtype=torch.bool).scatter_(1, order, True)


def units_of(series: Tensor) -> Tensor:
    """(B, T, C, H, W) to units (B, U, C 32 32), in the order band, row, column."""
    x = series.unflatten(3, (-1, UNIT)).unflatten(5, (-1, UNIT))  # B, T, C, rows, 32, columns, 32
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)


def targets(masked: Tensor, normalise: str = "none") -> Tensor:
    """What is to be restored, from the pixels (n, C 32 32) of the masked units.

    Args:
        masked: pixels.
        normalise: "none"; "batch" takes one mean and variance for all masked pixels, which is what
            the authors' `norm_pix_loss` does; "unit" those of each unit, which it is named after.
    """
    if normalise == "none":
        return masked
    if normalise not in NORMALISATIONS:
        raise ValueError(f"targets are normalised by {', '.join(NORMALISATIONS)}, not {normalise}")
    axes = (0, 1) if normalise == "batch" else (1,)
    mean = masked.mean(dim=axes, keepdim=True)
    return (masked - mean) / (masked.var(dim=axes, keepdim=True) + 1e-6).sqrt()


class MaskedModelling(nn.Module):
    """Mean squared error of the masked units' pixels."""

    def __init__(
        self, encoder: MaskedTimo, masked: float = MASKED, normalise: str = "none"
    ) -> None:
        """Masks a share `masked` of the units; `normalise` as in `targets`."""
        super().__init__()
        self.encoder = encoder
        self._masked, self._normalise = masked, normalise

    def forward(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of a step.

        Args:
            inputs: `series` (B, T, C, H, W) as the adapter makes it.
            generator: of the masks, on any device.

        Returns:
            `loss`.
        """
        series = inputs["series"]
        b, dates, _, height, width = series.shape
        grid = (dates, height // UNIT, width // UNIT)
        shape = (b, grid[0] * grid[1] * grid[2])
        noise = torch.rand(shape, generator=generator, device=generator.device).to(series.device)
        keep = choose(noise, self._masked)
        restored = self.encoder.decode(self.encoder.encode_visible(series, keep), keep, grid)
        wanted = targets(units_of(series)[~keep], self._normalise)
        return {"loss": (restored[~keep] - wanted).square().mean()}

    def update(self, progress: float) -> None:
        """Nothing follows a step: there is no teacher and no schedule."""
