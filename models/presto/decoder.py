"""Presto's decoder: the masked values from the visible tokens (section 3). Pretraining only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..blocks import Block, month_table
from .network import (
    DYNAMIC_WORLD_CLASSES,
    GROUPS,
    Attention,
    Config,
    Visible,
    encodings,
    initialise,
    position_table,
)


class Decoder(nn.Module):
    """Self-attention over all tokens, the masked ones filled with one learned token.

    Args:
        config: sizes.
        channels: the encoder's own channel embeddings; official files store them twice.
    """

    def __init__(self, config: Config, channels: nn.Embedding) -> None:
        super().__init__()
        width, heads = config.decoder_embedding_size, config.decoder_num_heads
        month = (width - config.channel_width) // 2
        position = width - config.channel_width - month
        self.decoder_embed = nn.Linear(config.encoder_embedding_size, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.decoder_blocks = nn.ModuleList(
            Block(width, Attention(width, heads), config.mlp_ratio)
            for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.eo_decoder_pred = nn.ModuleDict(
            {name: nn.Linear(width, len(columns)) for name, columns in GROUPS.items()}
        )
        self.dw_decoder_pred = nn.Linear(width, DYNAMIC_WORLD_CLASSES)
        self.channel_embeddings = channels
        self.month_embed = nn.Embedding.from_pretrained(month_table(month), freeze=True)
        self.pos_embed = nn.Parameter(position_table(config.max_sequence_length, position), False)
        self.apply(initialise)

    def forward(self, seen: Visible, month: Tensor) -> tuple[Tensor, Tensor]:
        """Values of all bands, and logits of the Dynamic World classes.

        Args:
            seen: the encoder's visible tokens, normed.
            month: (B, T) int64, January = 0.

        Returns:
            (B, T, 17), terrain repeated in every step, and (B, T, 9).
        """
        steps = month.shape[1]
        x = torch.where(seen.real[:, :, None], self.decoder_embed(seen.tokens), self.mask_token)
        full = self.mask_token.expand(*seen.order.shape, -1)
        x = full.scatter(1, seen.place.expand(-1, -1, x.shape[2]), x)
        x = x + encodings(
            self.month_embed(month), self.channel_embeddings.weight, self.pos_embed[:, :steps]
        )
        everywhere = torch.ones_like(seen.order, dtype=torch.bool)
        for block in self.decoder_blocks:
            x = block(x, everywhere)
        x = self.decoder_norm(x)[:, 1:]  # the location is not predicted
        lengths = [1 if name == "SRTM" else steps for name in GROUPS]
        *parts, dynamic_world = x.split([*lengths, steps], dim=1)
        values = [
            self.eo_decoder_pred[name](part).expand(-1, steps, -1)
            for name, part in zip(GROUPS, parts, strict=True)
        ]
        return torch.cat(values, dim=2), self.dw_decoder_pred(dynamic_world)
