"""Galileo's predictor: the latent targets of hidden tokens from the visible ones (section 3.2).

Cross-attention only: a token that is to be predicted asks the visible tokens, never another
prediction. Used in pretraining and thrown away afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..blocks import Block
from .network import Attention, initialise
from .tokens import Encodings, Tokens, chosen_first, put, take

SEEN, IGNORED, PREDICTED = 0, 1, 2  # values of masks


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a predictor, named as in the official config.json."""

    encoder_embedding_size: int = 128
    decoder_embedding_size: int = 128
    depth: int = 2
    num_heads: int = 8
    mlp_ratio: float = 4
    max_sequence_length: int = 24


OFFICIAL_DECODERS = {
    "nano": DecoderConfig(128, 128, depth=2, num_heads=8),
    "tiny": DecoderConfig(192, 192, depth=4, num_heads=3),
    "base": DecoderConfig(768, 768, depth=4, num_heads=12),
}


def configure(settings: Mapping[str, object]) -> DecoderConfig:
    """The configuration in the decoder's part of an official config.json."""
    known = DecoderConfig.__dataclass_fields__
    return DecoderConfig(**{k: v for k, v in settings.items() if k in known})


class CrossBlock(Block):
    """Queries are normed; keys and values come from the memory as it is, the same in all blocks."""

    def __init__(self, config: DecoderConfig) -> None:
        width = config.decoder_embedding_size
        super().__init__(width, Attention(width, config.num_heads), config.mlp_ratio)

    def forward(self, x: Tensor, visible: Tensor, memory: Tensor) -> Tensor:
        """x (B, n, D) asks memory (B, m, D), of which visible (B, m) are keys."""
        x = x + self.attn(self.norm1(x), visible, memory)
        return x + self.mlp(self.norm2(x))


class Decoder(Encodings):
    """Tokens of the encoder to predictions, in the encoder's width."""

    def __init__(self, config: DecoderConfig = OFFICIAL_DECODERS["nano"]) -> None:
        given, width = config.encoder_embedding_size, config.decoder_embedding_size
        super().__init__(width, config.max_sequence_length)
        self.input_norm = nn.LayerNorm(given)
        self.encoder_to_decoder_embed = nn.Linear(given, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(CrossBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.to_output_embed = nn.Linear(width, given)
        self.apply(initialise)

    def forward(
        self, tokens: Tokens, masks: Tokens, months: Tensor, patch: int, resolution_m: float = 10
    ) -> Tokens:
        """Predictions of the tokens whose mask is 2; 0 at all others.

        Args:
            tokens: normed, from the encoder under the same masks.
            masks: by pixel and group: 0 = memory, 1 = takes no part, 2 = to be predicted.
            months: (B, T) int64, January = 0.
            patch: side of a patch in pixels.
            resolution_m: size of a pixel.
        """
        masks = masks.at_patches(patch)
        state = masks.mask_sequence()
        x = self.encoder_to_decoder_embed(self.input_norm(tokens.sequence()))
        x = torch.where((state == PREDICTED)[:, :, None], self.mask_token, x)
        x = self.encode(masks.shaped(x), months, resolution_m * patch / 10).sequence()
        kept, visible = chosen_first(state == SEEN)
        place, real = chosen_first(state == PREDICTED)
        memory, x = take(x, kept), take(x, place)
        for block in self.blocks:
            x = block(x, visible, memory)
        x = self.to_output_embed(self.norm(x)) * real[:, :, None]
        return masks.shaped(put(x, place, tokens.sequence()))
