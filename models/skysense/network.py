"""SkySense as a whole: three branches, up-heads, dates, fusion (CVPR 2024, arXiv 2312.10115, 3).

The parts stand in `swin.py` (high-resolution branch), `sentinel.py` (Sentinel-2 and Sentinel-1) and
`fusion.py`; here they are put together under the names that official combined files use. Each file
may hold only some of the parts. SkySense++ is in `plusplus.py`.

Pixel sizes must fit: an HR pixel is 1/32 of a Sentinel pixel over the same footprint, so that HR
stage 3, of stride 32, meets the Sentinel maps pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .fusion import DAYS, LARGE, Fusion, FusionConfig, UpHead, sequence
from .sentinel import LARGE_S1, LARGE_S2, ViT, ViTConfig
from .swin import HUGE, SwinConfig, SwinV2

# What a network may be used for, by the sensors that it takes. Those with "+" are fused.
USES = ("hr", "s2", "s1", "s2+s1", "hr+s2+s1")
SENSORS = ("hr", "s2", "s1")  # the order of tokens in the fusion
LAST = 3  # stage of the HR branch that is fused


@dataclass(frozen=True)
class Config:
    """The parts of a SkySense that are there, and what it is used for."""

    use: str
    hr: SwinConfig | None = None
    s2: ViTConfig | None = None
    s1: ViTConfig | None = None
    fusion: FusionConfig | None = None
    dates: bool = False  # a date table, added to Sentinel-2

    def __post_init__(self) -> None:
        """Refuse a use for which parts lack, and parts that do not fit each other."""
        if self.use not in USES:
            raise ValueError(f"SkySense has no use '{self.use}', only {', '.join(USES)}")
        needed = [*self.use.split("+"), *(("fusion",) if "+" in self.use else ())]
        if lacking := [part for part in needed if getattr(self, part) is None]:
            raise ValueError(f"these SkySense weights cannot be used as '{self.use}': they lack "
                             f"{' and '.join(lacking)}")
        if self.hr and LAST not in self.hr.outputs:
            raise ValueError("the HR branch of SkySense must give its stage 3")
        if self.hr and self.fusion and self.fusion.inputs != self.hr.widths[LAST]:
            raise ValueError(f"the HR branch gives {self.hr.widths[LAST]} channels, the fusion "
                             f"takes {self.fusion.inputs}")

    @property
    def dimensions(self) -> int:
        """Length of the feature of this use."""
        if "+" in self.use:
            return self.fusion.width
        return self.hr.widths[LAST] if self.use == "hr" else getattr(self, self.use).width


OFFICIAL = {
    "skysense-hr": Config("hr", hr=HUGE),
    "skysense-s2": Config("s2", s2=LARGE_S2),
    "skysense-s1": Config("s1", s1=LARGE_S1),
    "skysense": Config("s2+s1", HUGE, LARGE_S2, LARGE_S1, LARGE, dates=True),
}


@dataclass(frozen=True)
class Features:
    """What a network makes of its inputs.

    Attributes:
        own: sensor to its feature (N, T, C, h, w), T = 1 for HR.
        seen: sensor to (N, T, h, w) bool: where there was something to see.
        fused: (N, D, h, w); None for the use of a single sensor.
    """

    own: dict[str, Tensor]
    seen: dict[str, Tensor]
    fused: Tensor | None


class SkySense(nn.Module):
    """The parts of a configuration and their assembly."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        if config.hr:
            self.backbone_hr = SwinV2(config.hr)
        for sensor in ("s2", "s1"):
            branch = getattr(config, sensor)
            if branch:
                self.add_module(f"backbone_{sensor}", ViT(branch))
                if config.fusion:
                    head = UpHead(branch.width, config.fusion.inputs)
                    self.add_module(f"head_{sensor}", head)
        if config.fusion:
            self.fusion = Fusion(config.fusion)
            if config.dates:
                self.ctpe = nn.Parameter(torch.empty(1, DAYS, config.fusion.inputs))
                nn.init.trunc_normal_(self.ctpe, std=0.02)

    def crops(self) -> tuple[int, int]:
        """Step and least side of a crop that the network takes: Sentinel pixels or HR patches."""
        sensors = self.config.use.split("+")
        step = max((getattr(self.config, s).patch for s in sensors if s != "hr"), default=1)
        hr = self.config.hr if "hr" in sensors else None
        least = 1 if hr is None or hr.pad_small_map else hr.windows[LAST]
        return step, -(-least // step) * step

    def high_resolution(self, hr: Tensor) -> Tensor:
        """(N, 3, 32 h, 32 w), normalised, to stage 3, (N, C, h, w)."""
        return self.backbone_hr(hr)[LAST]

    def branch(self, sensor: str, x: Tensor) -> Tensor:
        """Dates of a Sentinel sensor, each by itself: its last layer's maps.

        Args:
            sensor: "s2" or "s1".
            x: (N, bands, T, h, w), normalised.

        Returns:
            (N, T, D, h / 4, w / 4).
        """
        dates = x.shape[2]
        maps = self.get_submodule(f"backbone_{sensor}")(x.transpose(1, 2).flatten(0, 1))
        last = maps[max(maps)]
        return last.reshape(-1, dates, *last.shape[1:])

    def raised(self, sensor: str, x: Tensor) -> Tensor:
        """Dates of a Sentinel sensor at the width of the fusion, on its own pixels.

        Args:
            sensor, x: as in `branch`.

        Returns:
            (N, T, C, h, w), cut to the size of x where that was padded.
        """
        maps = self.branch(sensor, x)
        raised = self.get_submodule(f"head_{sensor}")(maps.flatten(0, 1))
        h, w = int(x.shape[3]), int(x.shape[4])
        return raised[..., :h, :w].reshape(-1, x.shape[2], self.config.fusion.inputs, h, w)

    def dated(self, s2: Tensor, day: Tensor) -> Tensor:
        """Sentinel-2's (N, T, C, h, w) with the vectors of its days (N, T), 1 January = 0."""
        if not self.config.dates:
            return s2
        return s2 + self.ctpe[0][day.clamp(0, DAYS - 1)][..., None, None]

    def fuse(self, features: dict[str, Tensor], seen: dict[str, Tensor] | None = None) -> Tensor:
        """Class-token map of the fusion.

        Args:
            features: "hr", "s2", "s1" to (N, T, C, h, w); any of them may be absent.
            seen: the same names to (N, T, h, w) bool, False where there is nothing to see.

        Returns:
            (N, D, h, w).
        """
        order = [sensor for sensor in SENSORS if sensor in features]
        tokens = sequence([features[sensor] for sensor in order])
        visible = None
        if seen is not None:
            visible = sequence([seen[sensor][:, :, None] for sensor in order])[..., 0]
        h, w = (int(side) for side in features[order[0]].shape[-2:])
        fused = self.fusion(tokens, visible)[:, 0]
        return fused.reshape(-1, h, w, self.config.fusion.width).permute(0, 3, 1, 2)

    def forward(self, inputs: dict[str, Tensor]) -> Features:
        """The features of the configuration's use.

        Args:
            inputs: what the adapter gives, for each sensor of the use: "hr" (N, 3, 32 h, 32 w) or
                "s2", "s1" (N, bands, T, h, w), normalised; "hr_seen" (N, 1, h, w) or "s2_seen",
                "s1_seen" (N, T, h, w) bool; "s2_day" (N, T) where Sentinel-2 is fused.
        """
        fused, own, seen = "+" in self.config.use, {}, {}
        for sensor in self.config.use.split("+"):
            seen[sensor] = inputs[f"{sensor}_seen"]
            if sensor == "hr":
                own[sensor] = self.high_resolution(inputs["hr"])[:, None]
            elif fused:
                own[sensor] = self.raised(sensor, inputs[sensor])
            else:
                own[sensor] = self.branch(sensor, inputs[sensor])
                seen[sensor] = functional.max_pool2d(seen[sensor].to(own[sensor].dtype),
                                                     getattr(self.config, sensor).patch) > 0
        if not fused:
            return Features(own, seen, None)
        tokens = dict(own)
        if "s2" in tokens:
            tokens["s2"] = self.dated(tokens["s2"], inputs["s2_day"])
        return Features(own, seen, self.fuse(tokens, seen))
