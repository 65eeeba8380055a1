"""Galileo's masks for pretraining (section 3.2): by date, by patch, at random.

Masks hold 0 = the encoder sees it, 1 = ignored, 2 = to be predicted, by patch and channel group.
What a sample lacks is never seen nor predicted. The official data lack nothing; with less than the
17 channel groups the draw runs over those that there are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .decoder import IGNORED, PREDICTED, SEEN
from .tokens import Tokens

ENCODE_RATIO, DECODE_RATIO = 0.1, 0.5
_GROUPS_SEEN = (2, 6)  # least and most channel groups that may be seen under structured masks

Strategy = Callable[[Tokens, torch.Generator], Tokens]


def _shuffled(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)


def _drawn(count: int, generator: torch.Generator) -> Tensor:
    """(count,): a tenth, at least one, is seen, half is to be predicted, the rest is ignored."""
    seen = max(int(count * ENCODE_RATIO), 1)
    predicted = min(max(int(count * DECODE_RATIO), 1), count - seen)
    state = torch.full((count,), IGNORED)
    order = _shuffled(count, generator)
    state[order[:seen]] = SEEN
    state[order[seen : seen + predicted]] = PREDICTED
    return state


def _group_roles(there: Tensor, generator: torch.Generator) -> Tensor:
    """(17,): 2 to 6 of the channel groups may be seen, some of the others are to be predicted."""
    groups = torch.nonzero(there)[:, 0]
    groups = groups[_shuffled(len(groups), generator)]
    least, most = _GROUPS_SEEN
    seen = int(torch.randint(least, most + 1, (), generator=generator))
    seen = max(min(seen, len(groups) - 1), 1)
    others = groups[seen:]
    roles = torch.full((len(there),), IGNORED)
    roles[groups[:seen]] = SEEN
    if len(others):
        chosen = torch.zeros(len(others), dtype=torch.bool)
        while not chosen.any():  # every subset that is not empty is equally likely
            chosen = torch.rand(len(others), generator=generator) < 0.5
        roles[others[chosen]] = PREDICTED
    return roles


def _meet(roles: Tensor, state: Tensor) -> Tensor:
    """Seen or predicted where the channel group and the date or patch both are."""
    same = torch.where(roles == state, roles, torch.full_like(roles, IGNORED))
    return same.expand(torch.broadcast_shapes(roles.shape, state.shape))


def _structured(available: Tokens, generator: torch.Generator, axis: str) -> Tokens:
    b, rows, columns, steps, _ = available.s_t.shape
    there = torch.cat([kind.flatten(0, -2).any(dim=0) for kind in available.kinds()])
    roles = _group_roles(there, generator).split([kind.shape[-1] for kind in available.kinds()])
    masks = Tokens(*(r.expand(kind.shape).clone() for r, kind in
                     zip(roles, available.kinds(), strict=True)))  # fmt: skip
    for sample in range(b):
        if axis == "time":
            state = _drawn(steps, generator)[:, None]
            masks.s_t[sample] = _meet(roles[0], state)
            masks.t[sample] = _meet(roles[2], state)
        else:
            state = _drawn(rows * columns, generator).reshape(rows, columns, 1)
            masks.s_t[sample] = _meet(roles[0], state[:, :, None])
            masks.sp[sample] = _meet(roles[1], state)
    return masks


def at_random(available: Tokens, generator: torch.Generator) -> Tokens:
    """Of all tokens that a sample has a tenth is seen and half is to be predicted."""
    there = available.mask_sequence()
    state = torch.full(there.shape, IGNORED)
    for sample, mask in enumerate(there):
        if mask.any():
            state[sample, mask] = _drawn(int(mask.sum()), generator)
    return available.shaped(state)


def draw(strategy: Strategy, available: Tokens, generator: torch.Generator) -> Tokens:
    """Masks by a strategy, at random for samples where it leaves nothing to see or to predict.

    Args:
        strategy: `by_time`, `by_space` or `at_random`.
        available: bool masks on the CPU: what each sample has.
        generator: of the draw, on the CPU.
    """
    there = available.mask_sequence()
    state = strategy(available, generator).mask_sequence()
    state = torch.where(there, state, IGNORED)
    poor = ~((state == SEEN).any(dim=1) & (state == PREDICTED).any(dim=1))
    if poor.any():
        instead = at_random(available, generator).mask_sequence()
        state = torch.where(poor[:, None], instead, state)
    return available.shaped(state)


by_time: Strategy = partial(_structured, axis="time")  # space and static groups as a whole
by_space: Strategy = partial(_structured, axis="space")  # time and static groups as a whole
