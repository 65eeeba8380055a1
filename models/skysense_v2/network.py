"""SkySense V2: one backbone for high-resolution pictures, Sentinel-2 and Sentinel-1.

No code and no weights of it are public, and only its abstract could be read; all else comes from
summaries of arXiv 2507.13812 by others.

Stated there: a tokenizer a sensor (4 x 4 pixels to 352 channels); stages 1-2 of Swin V2 blocks with
windows of 8, stages 3-4 of plain transformer blocks with global attention; widths double from stage
to stage; heads 32 wide, MLP ratio 4; adaptive patch merging (APM) that halves the map of pictures
and keeps that of Sentinel "with averaged weights"; 4 prompt tokens a sensor in stages 3 and 4, in
front, dropped after the stage; optionally 8 experts in the last 6 blocks (`experts.py`).

Follows from the stated parameters: 2, 2, 18, 2 blocks.

Our reading: APM's weight is [W0 W1 W2 W3] for the four neighbours, keeping uses their mean (their
sum is a switch); norms as in SkySense: after the tokenizer, after APM's linear layer, after each
branch of a Swin block, before those of a plain one, and at the output of each stage; 2-D sines and
cosines are added where global attention starts, since it would not know places otherwise; in the
fusion, taken from SkySense with its date table, Sentinel maps are resized to the picture's grid, or
fused at their own 4 pixels where there is none. About 6.7 M stated backbone parameters, 9.9 M of
the prompts and 41 M of the fusion are not accounted for by this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..skysense.fusion import DAYS, Fusion, FusionConfig, sequence
from ..skysense.network import Features
from ..skysense.swin import Block, PatchEmbedding, ShiftedWindows, Size
from ..skysense.transformer import FeedForward, SelfAttention
from .experts import Experts

USES = ("hr", "s2", "s1", "s2+s1", "hr+s2+s1")
CHANNELS = {"hr": 3, "s2": 10, "s1": 2}
PATCH = 4
STAGES = 4
_GLOBAL = (2, 3)  # stages with global attention and prompts


@dataclass(frozen=True)
class Config:
    """Sizes of a SkySense V2 and what it is used for."""

    use: str = "s2+s1"
    width: int = 352
    blocks: tuple[int, ...] = (2, 2, 18, 2)
    head_width: int = 32
    window: int = 8
    ratio: int = 4  # of the MLPs of global blocks; those of blocks in windows have SkySense's 4
    prompts: int = 4  # of a sensor in each of stages 3 and 4
    experts: int = 0  # 0: dense
    expert_blocks: int = 6  # the last ones
    top: int = 1
    renormalise: bool = False
    keep: str = "mean"  # or "sum": how APM's weights act where the map is kept
    reduce: tuple[bool, ...] = (True, True, True)  # of pictures, before stages 2, 3, 4
    fusion: FusionConfig | None = None
    dates: bool = True
    places: bool = True  # codes of places before the global stages

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit."""
        if self.use not in USES:
            raise ValueError(f"SkySense V2 has no use '{self.use}', only {', '.join(USES)}")
        if "+" in self.use and self.fusion is None:
            raise ValueError(f"SkySense V2 needs its fusion for the use '{self.use}'")
        if self.fusion and self.fusion.inputs != self.widths[-1]:
            raise ValueError(f"the fusion of SkySense V2 takes {self.widths[-1]} channels, not "
                             f"{self.fusion.inputs}")
        if self.width % self.head_width:
            raise ValueError(f"heads of {self.head_width} do not divide a width of {self.width}")
        if self.keep not in ("mean", "sum"):
            raise ValueError(f"APM keeps a map by 'mean' or 'sum', not by '{self.keep}'")
        if self.experts and self.expert_blocks > sum(self.blocks[i] for i in _GLOBAL):
            raise ValueError("only the blocks of stages 3 and 4 can have experts")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the four stages."""
        return tuple(self.width * 2**stage for stage in range(STAGES))

    @property
    def dimensions(self) -> int:
        """Length of the feature of this use."""
        return self.fusion.width if "+" in self.use else self.widths[-1]

    @property
    def stride(self) -> int:
        """Picture pixels a side of what the last stage's map has one token for."""
        return PATCH * 2 ** sum(self.reduce)


_FUSION = FusionConfig(2816, 1024, 24, 16)
OFFICIAL = {
    "skysense-v2": Config(fusion=_FUSION),
    "skysense-v2-moe": Config(fusion=_FUSION, experts=8),
}


class AdaptivePatchMerging(nn.Module):
    """Twice the channels; four neighbours become one token, or each token stays (section 3)."""

    def __init__(self, width: int, keep: str) -> None:
        super().__init__()
        self.keep = keep
        self.weight = nn.Parameter(torch.empty(2 * width, 4 * width))
        nn.init.trunc_normal_(self.weight, std=0.02)
        self.norm = nn.LayerNorm(2 * width)

    def linear(self, x: Tensor, size: Size, reduce: bool) -> tuple[Tensor, Size]:
        """(N, L, C) to (N, L or L / 4, 2C), before the norm; odd sides get zeros."""
        width = self.weight.shape[1] // 4
        if not reduce:
            weight = self.weight.view(2 * width, 4, width)
            weight = weight.mean(dim=1) if self.keep == "mean" else weight.sum(dim=1)
            return functional.linear(x, weight), size
        x = x.view(-1, *size, width)
        x = functional.pad(x, (0, 0, 0, size[1] % 2, 0, size[0] % 2))
        h, w = (size[0] + 1) // 2, (size[1] + 1) // 2
        x = x.view(-1, h, 2, w, 2, width).permute(0, 1, 3, 2, 4, 5).reshape(-1, h * w, 4 * width)
        return functional.linear(x, self.weight), (h, w)

    def forward(self, x: Tensor, size: Size, reduce: bool) -> tuple[Tensor, Size]:
        """(N, L, C) of a stage to the tokens that enter the next one."""
        x, size = self.linear(x, size, reduce)
        return self.norm(x), size


class GlobalBlock(nn.Module):
    """Attention over all tokens, then a feed-forward network or experts, each on the normed."""

    def __init__(self, config: Config, width: int, experts: bool) -> None:
        super().__init__()
        hidden = config.ratio * width
        self.norm1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, width // config.head_width)
        self.norm2 = nn.LayerNorm(width)
        if experts:
            self.moe = Experts(width, hidden, config.experts, config.top, config.renormalise)
        else:
            self.ffn = FeedForward(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) to (N, L, C)."""
        x = x + self.attn(self.norm1(x))
        return x + (self.moe if hasattr(self, "moe") else self.ffn)(self.norm2(x))


class Stage(nn.Module):
    """The blocks of a stage, in windows or global."""

    def __init__(self, config: Config, stage: int) -> None:
        super().__init__()
        width = config.widths[stage]
        first = sum(config.blocks[:stage])
        dense = sum(config.blocks) - (config.expert_blocks if config.experts else 0)
        self.blocks = nn.ModuleList()
        for block in range(config.blocks[stage]):
            if stage in _GLOBAL:
                self.blocks.append(GlobalBlock(config, width, first + block >= dense))
                continue
            shift = config.window // 2 if block % 2 else 0
            attention = ShiftedWindows(width, width // config.head_width, config.window, 0, shift,
                                       pad_small_map=True)
            self.blocks.append(Block(attention, width, extra_norm=False))

    def forward(self, x: Tensor, size: Size, prompt: Tensor | None) -> Tensor:
        """(N, L, C) to (N, L, C); a prompt (P, C) goes through the blocks in front."""
        if prompt is None:
            for block in self.blocks:
                x = block(x, size)
            return x
        x = torch.cat((prompt.expand(x.shape[0], -1, -1), x), dim=1)
        for block in self.blocks:
            x = block(x)
        return x[:, prompt.shape[0] :]


def places(size: Size, width: int, device: torch.device) -> Tensor:
    """(h w, C): sines and cosines of row and column, a quarter of the channels each."""
    quarter = width // 4
    speed = torch.exp(torch.arange(quarter, device=device) * (-math.log(10000) / quarter))
    rows, cols = (torch.arange(side, device=device)[:, None] * speed for side in size)
    h, w = size
    rows = torch.cat((rows.sin(), rows.cos()), dim=1)[:, None].expand(h, w, -1)
    cols = torch.cat((cols.sin(), cols.cos()), dim=1)[None].expand(h, w, -1)
    table = torch.cat((rows, cols), dim=2).flatten(0, 1)
    return functional.pad(table, (0, width - 4 * quarter))


class SkySenseV2(nn.Module):
    """The backbone and, where the configuration has it, the fusion."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = nn.ModuleDict(
            {s: PatchEmbedding(c, config.width, PATCH) for s, c in CHANNELS.items()}
        )
        self.stages = nn.ModuleList(Stage(config, stage) for stage in range(STAGES))
        self.apm = nn.ModuleDict({
            str(i): AdaptivePatchMerging(config.widths[i - 1], config.keep)
            for i in range(1, STAGES)
        })  # fmt: skip
        self.norm = nn.ModuleList(nn.LayerNorm(width) for width in config.widths)
        self.prompt = nn.ModuleDict({
            sensor: nn.ParameterDict({
                str(i): nn.Parameter(0.02 * torch.randn(config.prompts, config.widths[i]))
                for i in _GLOBAL
            })
            for sensor in CHANNELS
        })  # fmt: skip
        if config.fusion:
            self.fusion = Fusion(config.fusion)
            if config.dates:
                self.ctpe = nn.Parameter(0.02 * torch.randn(1, DAYS, config.fusion.inputs))

    def maps(self, sensor: str, image: Tensor) -> dict[int, Tensor]:
        """Normed outputs of the stages.

        Args:
            sensor: "hr", "s2" or "s1".
            image: (N, bands, H, W), normalised.

        Returns:
            {stage: (N, C, h, w)}; strides 4, 8, 16, 32 of a picture, 4 everywhere of the others.
        """
        found = {}
        x, size = self.tokenizer[sensor](image)
        for i, stage in enumerate(self.stages):
            if i:
                reduce = sensor == "hr" and self.config.reduce[i - 1]
                x, size = self.apm[str(i)](x, size, reduce)
            prompt = None
            if i in _GLOBAL:
                prompt = self.prompt[sensor][str(i)]
                if i == _GLOBAL[0] and self.config.places:
                    x = x + places(size, x.shape[-1], x.device)
            x = stage(x, size, prompt)
            found[i] = self.norm[i](x).transpose(1, 2).reshape(-1, self.config.widths[i], *size)
        return found

    def feature(self, sensor: str, x: Tensor) -> Tensor:
        """Last stage of a picture (N, 3, H, W) or of the dates (N, bands, T, h, w), each by itself.

        Returns:
            (N, T, C, h', w'), T = 1 for a picture.
        """
        if sensor == "hr":
            return self.maps(sensor, x)[STAGES - 1][:, None]
        last = self.maps(sensor, x.transpose(1, 2).flatten(0, 1))[STAGES - 1]
        h, w = (int(side) for side in last.shape[-2:])
        return last.reshape(-1, x.shape[2], self.config.widths[-1], h, w)

    def crops(self) -> tuple[int, int]:
        """Step and least side of a crop that the network takes: Sentinel pixels or HR patches."""
        return (1, 1) if self.config.use == "hr" else (PATCH, PATCH)

    def forward(self, inputs: dict[str, Tensor]) -> Features:
        """The features of the configuration's use; inputs as of SkySense (`skysense.network`).

        Features and what is seen are on the picture's grid of tokens, where there is a picture,
        else on Sentinel's.
        """
        sensors = self.config.use.split("+")
        own = {s: self.feature(s, inputs[s]) for s in sensors}
        grid = tuple(int(side) for side in own[sensors[0]].shape[-2:])
        seen = {}
        for s in sensors:
            if tuple(int(side) for side in own[s].shape[-2:]) != grid:
                dates = own[s].shape[1]
                maps = functional.interpolate(own[s].flatten(0, 1), grid, mode="bilinear",
                                              align_corners=False)
                own[s] = maps.reshape(-1, dates, self.config.widths[-1], *grid)
            seen[s] = self._seen(inputs[f"{s}_seen"], grid)
        if len(sensors) == 1:
            return Features(own, seen, None)
        tokens = dict(own)
        if "s2" in tokens and self.config.dates:
            day = inputs["s2_day"].clamp(0, DAYS - 1)
            tokens["s2"] = tokens["s2"] + self.ctpe[0][day][..., None, None]
        visible = sequence([seen[s][:, :, None] for s in sensors])[..., 0]
        fused = self.fusion(sequence([tokens[s] for s in sensors]), visible)[:, 0]
        fused = fused.reshape(-1, *grid, self.config.fusion.width)
        return Features(own, seen, fused.permute(0, 3, 1, 2))

    def _seen(self, seen: Tensor, grid: Size) -> Tensor:
        """(N, T, h, w) bool on the grid of tokens: any pixel of a token; finer grids repeat it."""
        h, w = int(seen.shape[2]), int(seen.shape[3])
        if (h, w) == grid:
            return seen
        flags = seen.to(torch.float32)
        if h > grid[0]:
            return functional.max_pool2d(flags, (h // grid[0], w // grid[1])) > 0
        return functional.interpolate(flags, grid, mode="nearest") > 0


def build(config: Config) -> SkySenseV2:
    """The network of a configuration, with random weights."""
    return SkySenseV2(config)
