"""Galileo's tokens: their order, how masked ones are taken out, and what is added to them.

Sizes in shapes: B samples, h x w patches, T dates, N tokens, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..blocks import month_table
from .products import SPACE, SPACE_TIME, STATIC, TIME


@dataclass(frozen=True)
class Tokens:
    """Tokens, or their masks, by kind.

    Attributes:
        s_t: (B, h, w, T, 7, D).
        sp: (B, h, w, 3, D).
        t: (B, T, 3, D).
        st: (B, 4, D).
    """

    s_t: Tensor
    sp: Tensor
    t: Tensor
    st: Tensor

    def kinds(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four, in the order of the sequence."""
        return self.s_t, self.sp, self.t, self.st

    def sequence(self) -> Tensor:
        """All tokens (B, N, D)."""
        return torch.cat([kind.flatten(1, -2) for kind in self.kinds()], dim=1)

    def mask_sequence(self) -> Tensor:
        """All masks (B, N)."""
        return torch.cat([kind.flatten(1) for kind in self.kinds()], dim=1)

    def shaped(self, sequence: Tensor) -> Tokens:
        """A sequence (B, N) or (B, N, D) by kind; these are masks and give the shapes."""
        parts = sequence.split([math.prod(kind.shape[1:]) for kind in self.kinds()], dim=1)
        return Tokens(
            *(
                part.reshape(*kind.shape, *sequence.shape[2:])
                for part, kind in zip(parts, self.kinds(), strict=True)
            )
        )

    def at_patches(self, patch: int) -> Tokens:
        """Masks by pixel to masks by patch: the first pixel of a patch speaks for it."""
        return Tokens(self.s_t[:, ::patch, ::patch], self.sp[:, ::patch, ::patch], self.t, self.st)


def chosen_first(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Where the chosen of N tokens are, and which rows of the shorter samples are filled up.

    Args:
        chosen: (B, N) bool.

    Returns:
        place (B, n) int64 with n the longest row, in the order of the sequence, and real (B, n).
    """
    n = chosen.shape[1]
    order = ((~chosen).long() * n + torch.arange(n, device=chosen.device)).argsort(dim=1)
    place = order[:, : chosen.sum(dim=1).max()]  # a tensor, so that tracing keeps it free
    return place, chosen.gather(1, place)


def take(x: Tensor, place: Tensor) -> Tensor:
    """The tokens of x (B, N, D) at `place` (B, n): (B, n, D)."""
    return x.gather(1, place[:, :, None].expand(-1, -1, x.shape[2]))


def put(x: Tensor, place: Tensor, like: Tensor) -> Tensor:
    """The tokens x (B, n, D) back to `place` among zeros like `like` (B, N, D)."""
    return torch.zeros_like(like).scatter(1, place[:, :, None].expand(-1, -1, like.shape[2]), x)


# --- encodings ------------------------------------------------------------------------------------


def sinusoid(width: int, position: Tensor) -> Tensor:
    """(..., width): sines, then cosines. The exponent i / (2 width) is the original's own."""
    index = torch.arange(width // 2, dtype=torch.float64, device=position.device)
    angle = position[..., None].double() * 10000 ** (-index / (2 * width))
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()


def space_code(width: int, rows: int, columns: int, ground: float, device: torch.device) -> Tensor:
    """(rows, columns, width): half for the column, which comes first, half for the row.

    Args:
        width: of the code.
        rows, columns: of the grid of patches.
        ground: side of a patch in units of 10 m.
        device: of the result.
    """
    across = sinusoid(width // 2, torch.arange(columns, device=device) * ground)
    down = sinusoid(width // 2, torch.arange(rows, device=device) * ground)
    return torch.cat(
        [across[None].expand(rows, -1, -1), down[:, None].expand(-1, columns, -1)], dim=2
    )


class Encodings(nn.Module):
    """What encoder and decoder add to tokens: quarters for channel, date, month and place."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        quarter = width // 4
        self.s_t_channel_embed = nn.Parameter(torch.zeros(len(SPACE_TIME), quarter))
        self.sp_channel_embed = nn.Parameter(torch.zeros(len(SPACE), quarter))
        self.t_channel_embed = nn.Parameter(torch.zeros(len(TIME), quarter))
        self.st_channel_embed = nn.Parameter(torch.zeros(len(STATIC), quarter))
        self.pos_embed = nn.Parameter(sinusoid(quarter, torch.arange(length)), False)
        self.month_embed = nn.Embedding.from_pretrained(month_table(quarter), freeze=True)

    def encode_space_time(self, s_t: Tensor, months: Tensor, ground: float) -> Tensor:
        """(B, h, w, T, 7, D) with encodings; months (B, T), January = 0."""
        quarter = self.pos_embed.shape[1]
        shape = s_t.shape[:-1]
        space = space_code(quarter, shape[1], shape[2], ground, s_t.device)
        added = (
            self.s_t_channel_embed.expand(*shape, -1),
            self.times(months)[:, None, None, :, None].expand(*shape, -1),
            space[None, :, :, None, None].expand(*shape, -1),
        )
        return s_t + torch.cat(added, dim=-1)

    def times(self, months: Tensor) -> Tensor:
        """(B, T, D / 2): position in the series, and month."""
        b, steps = months.shape
        position = self.pos_embed[:steps].expand(b, -1, -1)
        return torch.cat([position, self.month_embed(months)], dim=2)

    def encode(self, tokens: Tokens, months: Tensor, ground: float) -> Tokens:
        """All kinds with their encodings; what has no date or place gets zeros there."""
        quarter = self.pos_embed.shape[1]
        device = tokens.sp.device
        space = space_code(quarter, *tokens.sp.shape[1:3], ground, device)[None, :, :, None]
        time = self.times(months)[:, :, None]

        def added(x: Tensor, channel: Tensor, when: Tensor | None, where: Tensor | None) -> Tensor:
            none = x.new_zeros(())
            parts = (
                channel.expand(*x.shape[:-1], -1),
                (none if when is None else when).expand(*x.shape[:-1], 2 * quarter),
                (none if where is None else where).expand(*x.shape[:-1], quarter),
            )
            return x + torch.cat(parts, dim=-1)

        return Tokens(
            self.encode_space_time(tokens.s_t, months, ground),
            added(tokens.sp, self.sp_channel_embed, None, space),
            added(tokens.t, self.t_channel_embed, time, None),
            added(tokens.st, self.st_channel_embed, None, None),
        )
