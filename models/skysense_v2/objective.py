"""SkySense V2's pretraining: SkySense's contrast, query-based semantic aggregation, text alignment.

Stated (through summaries): L = l1 L_MGCL + l2 L_ITA + l3 L_QSACL. m = 16 learnt queries aggregate
the features of each view by a cross-attention decoder layer; equal queries of a global and a local
view must agree, student against teacher. Per-pixel features are aligned with texts of OpenStreetMap
classes by cross-entropy, where labels are given.

Our reading: the weights are 1; the decoder layer is SkySense's pre-norm layer with queries in front
of attention; aggregation takes the fused feature, or a single sensor's mean over its dates; L_CL is
the loss of `skysense.objective`, and so is the rest of what is said there. A local view is a half
of the window.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..skysense.network import Features
from ..skysense.objective import (
    Head,
    MultiGranularityContrast,
    Settings,
    Views,
    distillation,
    standardised,
)
from ..skysense.transformer import FeedForward
from .network import SkySenseV2

QUERIES = 16
_TEMPERATURE = 0.07  # of the text alignment, CLIP's


def aggregation_loss(student_global: Tensor, student_local: Tensor, teacher_global: Tensor,
                     teacher_local: Tensor, center: Tensor) -> Tensor:
    """L_QSACL of logits (N, m, K) of the queries; only equal queries are paired.

    (1 / 2m) sum_i [L_CL(z_i^g, z_i^l') + L_CL(z_i^l, z_i^g')], primes for the teacher.
    """
    ones = student_global.new_ones(student_global.shape[:-1])
    crossed = (distillation(student_global, teacher_local, center, ones),
               distillation(student_local, teacher_global, center, ones))
    return (crossed[0] + crossed[1]) / 2


def text_loss(features: Tensor, texts: Tensor, labels: Tensor,
              temperature: float = _TEMPERATURE) -> Tensor:
    """L_ITA: cross-entropy of the texts' similarities at each labelled pixel.

    Args:
        features: (P, d).
        texts: (K, d), one for each class.
        labels: (P,) int, -1 where there is none.
        temperature: tau.
    """
    similar = functional.normalize(features, dim=-1) @ functional.normalize(texts, dim=-1).T
    known = labels >= 0
    if not known.any():
        return 0 * features.sum()
    return functional.cross_entropy(similar[known] / temperature, labels[known])


class QueryDecoder(nn.Module):
    """m learnt queries look at the features of a view."""

    def __init__(self, width: int, queries: int, heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(queries, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ffn = FeedForward(width, 4 * width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Features (N, P, d), seen (N, P) bool, to (N, m, d)."""
        seen = seen | ~seen.any(dim=1, keepdim=True)  # a view without data looks at all of it
        queries = self.queries.expand(len(x), -1, -1)
        x = self.norm1(x)
        z = queries + self.attn(queries, x, x, key_padding_mask=~seen, need_weights=False)[0]
        return z + self.ffn(self.norm2(z))


class QueryAggregation(MultiGranularityContrast):
    """The objective: `encoder` is trained, its teacher follows.

    Inputs are those of the adapter; for the text alignment also "texts" (K, d), features of class
    names, and "labels" (N, h, w) int on the grid of the features, -1 where there is none.
    """

    weights = {"queries": 1.0, "text": 1.0}

    def __init__(self, encoder: SkySenseV2, settings: Settings | None = None,
                 queries: int = QUERIES, heads: int = 1, text_width: int = 0) -> None:
        super().__init__(encoder, settings)
        width = encoder.config.dimensions
        self.decoder = QueryDecoder(width, queries, heads)
        self.query_head = Head(width, self.settings.hidden, self.settings.outputs)
        self.teacher_decoder = copy.deepcopy(self.decoder).requires_grad_(False)
        self.teacher_query_head = copy.deepcopy(self.query_head).requires_grad_(False)
        self.register_buffer("center_queries", torch.zeros(self.settings.outputs))
        self.to_text = nn.Linear(width, text_width) if text_width else None
        if self.settings.crops < 2:
            raise ValueError("query aggregation compares a global and a local view: use two crops")

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """Move the teacher after an optimiser step; progress goes from 0 to 1."""
        super().update(progress)
        momentum = self.momentum(progress)
        for teacher, student in ((self.teacher_decoder, self.decoder),
                                 (self.teacher_query_head, self.query_head)):
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.lerp_(new, 1 - momentum)

    def _across(self, views: Views, whole: Features, inputs: dict[str, Tensor],
                generator: torch.Generator) -> dict[str, Tensor]:
        (_, wide), (crop, near) = views[:2]
        with torch.no_grad():
            local = self.teacher(self._cut(inputs, crop))
            targets = [self.teacher_query_head(self.teacher_decoder(*pooled(view)))
                       for view in (whole, local)]
            mean = torch.stack(targets).mean(dim=(0, 1, 2))
            rest = self.settings.center_momentum if self.center_queries.any() else 0.0
            self.center_queries.lerp_(mean, 1 - rest)
        own = [self.query_head(self.decoder(*pooled(view))) for view in (wide, near)]
        found = super()._across(views, whole, inputs, generator)
        found["queries"] = aggregation_loss(own[0], own[1], targets[0], targets[1],
                                            self.center_queries)
        if self.to_text is not None and "texts" in inputs:
            features = self.to_text(pooled(wide)[0]).flatten(0, 1)
            found["text"] = text_loss(features, inputs["texts"], inputs["labels"].flatten())
        return found


def pooled(view: Features) -> tuple[Tensor, Tensor]:
    """The fused feature of a view, or the mean of its sensor's dates, standardised.

    Returns:
        (N, P, d) and seen (N, P).
    """
    seen = torch.stack([s.any(dim=1) for s in view.seen.values()]).any(dim=0)
    feature = view.fused
    if feature is None:
        (sensor,) = view.own
        weight = view.seen[sensor][:, :, None].to(view.own[sensor].dtype)
        feature = (view.own[sensor] * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    feature, seen = feature.flatten(2).transpose(1, 2), seen.flatten(1)
    return standardised(feature, seen), seen
