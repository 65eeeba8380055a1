"""SkySense++: SkySense that has learnt to fill in label maps (Nature Machine Intelligence 2025).

Images enter with their partly hidden labels (`labels.py`), features of absent sensors are completed
(`completion.py`), all are fused as in SkySense, and a decoder names every pixel with one of 64
anonymous words (`decoder.py`). In pretraining and one-shot use, the image is a canvas: an example
above a query whose labels are hidden.

One date a sensor. Absent sensors enter as zeros before normalisation, with their flag False.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .adapter import PIXELS
from .completion import SENSORS, Completed, Completion, CompletionConfig
from .decoder import DecoderConfig, UPerNet
from .fusion import DAYS, LARGE, Fusion, UpHead, sequence
from .labels import LabelConfig, LabelledSwin, LabelledViT
from .network import LAST, Config
from .sentinel import ViTConfig
from .swin import HUGE


@dataclass(frozen=True)
class PlusConfig(Config):
    """The parts of a SkySense++ that are there, and what it is used for."""

    hr_labels: LabelConfig | None = None
    vit_labels: LabelConfig | None = None
    completion: CompletionConfig | None = None
    decoder: DecoderConfig | None = None

    def __post_init__(self) -> None:
        """Refuse a use for which parts lack."""
        super().__post_init__()
        if self.use == "s2+s1" and self.completion is None:
            raise ValueError("these SkySense++ weights cannot be used as 's2+s1': they lack the "
                             "completion, which stands in for the picture")


_HR_LABELS = LabelConfig(64, merge=2, attention=(256, 512, 1024))
_VIT_LABELS = LabelConfig(64, merge=4)
_LAYERS = (5, 11, 17, 23)
_S2 = ViTConfig(10, 1024, 24, 16, rows=16, eps=1e-6, outputs=_LAYERS)
_S1 = ViTConfig(2, 1024, 24, 16, rows=16, eps=1e-6, outputs=_LAYERS)
OFFICIAL = {
    "skysensepp-hr": PlusConfig("hr", hr=HUGE, hr_labels=_HR_LABELS),
    "skysensepp-s2": PlusConfig("s2", s2=_S2, vit_labels=_VIT_LABELS),
    "skysensepp-s1": PlusConfig("s1", s1=_S1, vit_labels=_VIT_LABELS),
    "skysensepp": PlusConfig(
        "hr+s2+s1", HUGE, _S2, _S1, LARGE, dates=False, hr_labels=_HR_LABELS,
        vit_labels=_VIT_LABELS, completion=CompletionConfig(),
        decoder=DecoderConfig((704, 704, 1408, 2816, 1024), 65),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Features:
    """What a forward pass makes before the decoder.

    Attributes:
        maps: stages of the HR branch, normed.
        own: sensor to its feature (N, C, h, w) before completion.
        completed: after it; None for a network without.
        tokens: (N h w, 3, C), the input of the fusion.
        fused: (N, D, h, w).
    """

    maps: dict[int, Tensor]
    own: dict[str, Tensor]
    completed: Completed | None
    tokens: Tensor
    fused: Tensor


def cells(mask: Tensor, each: int) -> Tensor:
    """Mask (N, h, w) with every cell repeated `each` times in both directions."""
    return mask.repeat_interleave(each, dim=1).repeat_interleave(each, dim=2)


class SkySensePlusPlus(nn.Module):
    """The parts of a configuration and their assembly."""

    def __init__(self, config: PlusConfig) -> None:
        super().__init__()
        self.config = config
        if config.hr:
            self.backbone_hr = LabelledSwin(config.hr, config.hr_labels)
        for sensor in ("s2", "s1"):
            branch = getattr(config, sensor)
            if branch:
                self.add_module(f"backbone_{sensor}", LabelledViT(branch, config.vit_labels))
                if config.fusion:
                    head = UpHead(branch.width, config.fusion.inputs)
                    self.add_module(f"head_{sensor}", head)
        if config.fusion:
            self.fusion = Fusion(config.fusion)
            if config.dates:
                self.ctpe = nn.Parameter(torch.empty(1, DAYS, config.fusion.inputs))
                nn.init.trunc_normal_(self.ctpe, std=0.02)
        if config.decoder:
            self.head_rec_hr = UPerNet(config.decoder)
        if config.completion:
            self.modality_vae = Completion(config.completion)

    def sentinel(self, sensor: str, x: Tensor, labels: Tensor | None = None,
                 mask: Tensor | None = None) -> Tensor:
        """One date (N, bands, h, w), normalised, of a sensor at the fusion's width, (N, C, h, w).

        Args:
            sensor: "s2" or "s1".
            x: the image.
            labels: (N, h, w), mask: (N, h / 4, w / 4); see `labels.LabelTokens.beside`.
        """
        maps = self.get_submodule(f"backbone_{sensor}")(x, labels, mask)
        return self.get_submodule(f"head_{sensor}")(maps[max(maps)])

    def high_resolution(self, hr: Tensor, labels: Tensor | None = None,
                        mask: Tensor | None = None) -> dict[int, Tensor]:
        """HR image (N, 3, H, W), normalised, to its stages; the mask is on Sentinel's tokens."""
        return self.backbone_hr(hr, labels, None if mask is None else cells(mask, PIXELS))

    def fuse(self, own: dict[str, Tensor], present: Tensor, maps: dict[int, Tensor],
             days: tuple[Tensor, Tensor] | None = None) -> Features:
        """Complete and fuse the features of one date of each sensor.

        Args:
            own: "hr", "s2", "s1" to (N, C, h, w), anything where the sensor is absent.
            present: (N, 3) bool in the order of `completion.SENSORS`.
            maps: of the HR branch, handed through.
            days: day of year, 1 January = 0, of Sentinel-2 in the upper and lower half of the
                canvas, each (N,); for networks with a date table.
        """
        completed = self.modality_vae(own, present) if self.config.completion else None
        features = dict(completed.features if completed else own)
        if self.config.dates and days is not None:
            rows = features["s2"].shape[2]
            halves = [self.ctpe[0][d.clamp(0, DAYS - 1)][:, :, None, None] for d in days]
            below = torch.arange(rows, device=present.device)[:, None] >= rows // 2
            features["s2"] = features["s2"] + torch.where(below, halves[1], halves[0])
        tokens = sequence([features[sensor][:, None] for sensor in SENSORS])
        h, w = (int(side) for side in features["hr"].shape[-2:])
        fused = self.fusion(tokens)[:, 0]
        fused = fused.reshape(-1, h, w, self.config.fusion.width).permute(0, 3, 1, 2)
        return Features(maps, own, completed, tokens, fused)

    def decode(self, features: Features, size: tuple[int, int], rounded: bool = False) -> Tensor:
        """Logits (N, words + 1, *size) of an HR image of that size.

        Stage 0 is as wide as image and labels together where these merge later: its halves are
        stacked as channels. `rounded` as in `decoder.UPerNet`.
        """
        finest = features.maps[0]
        if self.config.hr_labels.merge > 1:
            finest = torch.cat(finest.chunk(2, dim=3), dim=1)
        fine = [finest, *(features.maps[i] for i in range(1, LAST + 1))]
        logits = self.head_rec_hr([*fine, features.fused], rounded)
        return functional.interpolate(logits, size, mode="bilinear", align_corners=True)

    def forward(
        self,
        images: dict[str, Tensor],
        present: Tensor,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        days: tuple[Tensor, Tensor] | None = None,
    ) -> Features:
        """The features of a canvas (or of an image without labels).

        Args:
            images: "hr" (N, 3, 32 h, 32 w), "s2" (N, 10, h, w), "s1" (N, 2, h, w), normalised.
            present: (N, 3) bool in the order of `completion.SENSORS`.
            labels: (N, 32 h, 32 w) int on the HR pixels, 0 for none; None hides all.
            mask: (N, h / 4, w / 4), 1 where labels are hidden.
            days: as in `fuse`.
        """
        maps = self.high_resolution(images["hr"], labels, mask)
        own = {"hr": maps[LAST]}
        for sensor in ("s2", "s1"):
            coarse = None if labels is None else sentinel_labels(labels)
            own[sensor] = self.sentinel(sensor, images[sensor], coarse, mask)
        return self.fuse(own, present, maps, days)


def sentinel_labels(labels: Tensor) -> Tensor:
    """Labels on the HR pixels to one HR pixel's label for each Sentinel pixel."""
    start = PIXELS // 2 - 1
    return labels[:, start::PIXELS, start::PIXELS]
