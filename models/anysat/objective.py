"""AnySat's pretraining: joint-embedding prediction, and a contrast between sensors (Astruc et al.,
CVPR 2025, section 3.3; I-JEPA, Assran et al., CVPR 2023).

A teacher, the moving average of the encoder, sees all of a window. The encoder sees half of the
dates of each series, patches outside some target blocks, and not every sensor of each; a small
predictor must give the teacher's vectors of the target blocks. The contrast asks that two sensors'
vectors of a patch are nearer to each other than to those of other patches.

Shapes: B windows, P = n x n patches, V visible ones, K of a target block, M sensors, D width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import MODIS, AnySat, Block, Patches, Places
from .projectors import ImageSensor
from .spatial import buckets, initialise, positions

BLOCKS = 4  # target blocks of a window
TARGET_AREA = (0.2, 0.8)  # of a target block, as a share of the window
CONTEXT_AREA = (0.85, 1.0)  # of the visible block, before the targets are cut out
ASPECT = (0.75, 1.5)  # height over width of a target block
KEPT = 0.5  # share of the dates, and of the tokens beyond one a patch, that the encoder sees
TEMPERATURE = 0.1  # of the contrast
MOMENTUM = (0.996, 1.0)  # of the teacher, at the start and at the end


# --- what is hidden -------------------------------------------------------------------------------


def _block_size(side: int, area: tuple[float, float], aspect: tuple[float, float], draw: float
                ) -> tuple[int, int]:
    """Height and width of a block; one draw sets the area and the aspect. Less than the window."""
    cells = int(side * side * (area[0] + draw * (area[1] - area[0])))
    ratio = aspect[0] + draw * (aspect[1] - aspect[0])
    sizes = round(math.sqrt(cells * ratio)), round(math.sqrt(cells / ratio))
    height, width = (min(max(size, 1), max(side - 1, 1)) for size in sizes)
    return height, width


def _block(side: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(n, n) bool: a block of this size anywhere in the window."""
    corner = [int(torch.randint(side - s + 1, (), generator=generator)) for s in size]
    inside = torch.zeros(side, side, dtype=torch.bool)
    inside[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]] = True
    return inside


def block_masks(
    windows: int, side: int, generator: torch.Generator
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Draw the visible patches and the target blocks of each window.

    The sizes of blocks are the same in the whole batch. A target that would leave nothing of
    the visible block may overlap it.

    Returns:
        Indices of visible patches (B, V), and of each target block (B, K), ascending.
    """
    draws = torch.rand(2, generator=generator).tolist()
    target_size = _block_size(side, TARGET_AREA, ASPECT, draws[0])
    context_size = _block_size(side, CONTEXT_AREA, (1.0, 1.0), draws[1])
    contexts, targets = [], []
    for _ in range(windows):
        blocks = [_block(side, target_size, generator) for _ in range(BLOCKS)]
        context = _block(side, context_size, generator)
        left = context
        for block in blocks:
            left = left & ~block if (left & ~block).any() else left
        contexts.append(left.flatten().nonzero()[:, 0])
        targets.append([block.flatten().nonzero()[:, 0] for block in blocks])
    fewest = min(len(context) for context in contexts)
    return (
        torch.stack([context[:fewest] for context in contexts]),
        tuple(torch.stack(block) for block in zip(*targets, strict=True)),
    )


def kept_dates(windows: int, dates: int, generator: torch.Generator) -> Tensor:
    """(B, T') indices of half of the dates of each window, at least one, in random order."""
    order = torch.rand(windows, dates, generator=generator).argsort(dim=1)
    return order[:, : max(1, int(dates * KEPT))]


def kept_tokens(windows: int, sensors: int, patches: int, generator: torch.Generator) -> Tensor:
    """(B, M V) bool, sensor by sensor: one sensor of each patch, and half of the other tokens."""
    one = torch.randint(sensors, (windows, 1, patches), generator=generator)
    kept = (one == torch.arange(sensors)[:, None]).flatten(1)
    noise = torch.rand(windows, sensors * patches, generator=generator).masked_fill(kept, 2.0)
    more = noise.argsort(dim=1)[:, : int(patches * (sensors - 1) * KEPT)]
    return kept.scatter(1, more, torch.ones_like(more, dtype=torch.bool))


@dataclass(frozen=True)
class Hidden:
    """The draws of one step.

    Attributes:
        dates: sensor to (B, T') indices of dates that the encoder sees.
        context: (B, V) visible patches.
        targets: (B, K) patches of each target block.
        tokens: (B, M V) bool, False where the masked token stands in.
    """

    dates: Mapping[str, Tensor]
    context: Tensor
    targets: Sequence[Tensor]
    tokens: Tensor


# --- losses ---------------------------------------------------------------------------------------


def contrast(
    tokens: Sequence[Tensor], valid: Sequence[Tensor] | None = None, released: bool = False
) -> Tensor:
    """MIL-NCE between sensors: the same patch in another sensor against all patches elsewhere.

    Pairs of one sensor in one window do not count; one sensor alone has no contrast.

    Args:
        tokens: (B, P, D) of each sensor.
        valid: (B, P) bool of each sensor, patches that take part; the mean is over all the same.
        released: as the released code, order the valid patches by window and not by sensor, and
            push patches apart that have no other sensor to be near to.
    """
    sensors, (windows, patches, _) = len(tokens), tokens[0].shape
    if sensors == 1:
        return tokens[0].new_zeros(())
    features = functional.normalize(torch.stack(tokens).flatten(0, 2), dim=1, eps=1e-8)
    logits = features @ features.T / TEMPERATURE
    group = torch.arange(sensors * windows, device=logits.device).repeat_interleave(patches)
    logits = logits.masked_fill(group[:, None] == group, -math.inf)
    chosen = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    if valid is not None:
        chosen = torch.stack(list(valid), dim=1 if released else 0).flatten().to(logits.device)
        logits = logits.masked_fill(~(chosen[:, None] & chosen), -math.inf)
    same = torch.arange(windows * patches, device=logits.device)
    others = (same + windows * patches * torch.arange(sensors, device=logits.device)[:, None]).T
    positive = logits.gather(1, others.repeat(sensors, 1))  # the patch itself is -inf
    paired = torch.isfinite(positive).any(dim=1)
    rows = chosen & torch.isfinite(logits).any(dim=1) if released else paired
    everywhere = logits[rows].logsumexp(dim=1).sum()
    return (everywhere - positive[paired].logsumexp(dim=1).sum()) / len(logits)


def prediction_targets(
    rows: Tensor, blocks: Sequence[Tensor], standardise: bool = False
) -> Tensor:
    """The teacher's vectors (B, 1 + P, D), normed, of the target blocks: (4 B, K, D).

    `standardise`: each channel has mean 0 and deviation 1 over the batch.
    """
    patches = functional.layer_norm(rows[:, 1:], rows.shape[-1:])
    if standardise:
        spread, mean = torch.std_mean(patches, dim=(0, 1), keepdim=True)
        patches = (patches - mean) / (spread + 1e-5)
    return torch.cat([take(patches, block) for block in blocks])


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows (B, K) of x (B or 1, N, D): (B, K, D)."""
    x = x.expand(len(index), -1, -1)
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


class Predictor(nn.Module):
    """From visible patches to the vectors of hidden ones."""

    def __init__(self, width: int, depth: int = 4, heads: int = 16, across_heads: bool = False):
        super().__init__()
        self.predictor_embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.predictor_blocks = nn.ModuleList(
            Block(width, heads, 4.0, across_heads, eps=1e-5) for _ in range(depth)
        )
        self.predictor_norm = nn.LayerNorm(width)
        self.predictor_proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        initialise(self, self.predictor_blocks)

    def forward(
        self, x: Tensor, context: Tensor, blocks: Sequence[Tensor], side: int, scale: int
    ) -> Tensor:
        """Visible vectors (B, V, D) to predicted ones (4 B, K, D), block by block.

        Positions are looked up one row too early, so that patch m has the code of m - 1, for what
        is visible and what is not alike: trained weights depend on it.
        """
        code = positions(x.shape[2], side, float(scale)).to(x.device)[None]
        x = self.predictor_embed(x) + take(code, context)
        hidden = torch.cat([self.mask_token + take(code, block) for block in blocks])
        x = torch.cat([self.cls_token.expand(len(hidden), -1, -1),
                       x.repeat(len(blocks), 1, 1), hidden], dim=1)  # fmt: skip
        for block in self.predictor_blocks:
            x = block(x)
        return self.predictor_proj(self.predictor_norm(x[:, 1 + context.shape[1] :]))


# --- a step ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What one step computes.

    Attributes:
        teacher: (B, 1 + P, D).
        targets, predicted: (4 B, K, D).
        tokens: each sensor's patch vectors (B, P, D) before positions, without MODIS.
        visible: (B, M V, D) what the encoder's combiner is given, without MODIS.
        prediction, contrast: the two losses.
    """

    teacher: Tensor
    targets: Tensor
    predicted: Tensor
    tokens: dict[str, Tensor]
    visible: Tensor
    prediction: Tensor
    contrast: Tensor

    @property
    def loss(self) -> Tensor:
        """What is minimised."""
        return self.prediction + self.contrast


class CrossSensorJepa(nn.Module):
    """JEPA with cross-sensor contrast.

    Args:
        encoder: is trained and kept.
        scales: sides of a patch in cells of 10 m; each step draws one.
        predictor: from visible to hidden patches; by default of the encoder's width.
        released: repeat what the released training code does by mistake: without MODIS the first
            patch of the first sensor is lost and indices shift; with MODIS the fusion's positions
            shift by one; the contrast takes wrong patches for valid; nothing is hidden for want
            of data.
        standardise: targets, see `prediction_targets`. A young teacher gives nearly the same
            vector everywhere, which is predicted at once and teaches nothing.
        momentum: of the teacher, at the start and at the end.
    """

    def __init__(
        self, encoder: AnySat, scales: Sequence[int], predictor: Predictor | None = None,
        released: bool = False, standardise: bool = False,
        momentum: tuple[float, float] = MOMENTUM,
    ) -> None:  # fmt: skip
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        self.target_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.predictor = predictor or Predictor(
            config.width, heads=min(16, config.heads), across_heads=config.across_heads
        )
        self.masked_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.scales = tuple(scales)
        self.released, self.standardise, self.momentum = released, standardise, momentum

    def draw(
        self, inputs: Mapping[str, Tensor], scale: int, generator: torch.Generator
    ) -> Hidden:
        """What the encoder shall not see of these inputs in patches of this scale."""
        names = self.encoder.sensors_of(inputs)
        windows = len(inputs[names[0]])
        side = self._side(inputs, scale)
        dates = {
            name: kept_dates(windows, inputs[name].shape[1], generator).to(inputs[name].device)
            for name in names
            if f"{name}_dates" in inputs
        }
        context, targets = block_masks(windows, side, generator)
        sensors = len([name for name in names if name != MODIS])
        tokens = kept_tokens(windows, sensors, context.shape[1], generator)
        device = inputs[names[0]].device
        return Hidden(dates, context.to(device), [t.to(device) for t in targets],
                      tokens.to(device))  # fmt: skip

    def _side(self, inputs: Mapping[str, Tensor], scale: int) -> int:
        """Patches along the side of the windows."""
        for name in self.encoder.sensors_of(inputs):
            if name != MODIS:
                sensor, pixels = self.encoder.config.sensors[name], inputs[name].shape[-1]
                if isinstance(sensor, ImageSensor):
                    return pixels // (sensor.kernel * sensor.parts * scale)
                return pixels // max(1, scale // sensor.reduce)
        raise ValueError("AnySat needs a sensor beside MODIS, whose pixel holds all patches")

    def step(self, inputs: Mapping[str, Tensor], scale: int, hidden: Hidden) -> Step:
        """Both losses with patches of this scale and these things hidden."""
        with torch.no_grad():
            found = self.target_encoder.embed(inputs, scale)
            seen = None if self.released else self.target_encoder.observed(inputs, found)
            teacher = self.target_encoder.rows(found, scale, seen)
            targets = prediction_targets(teacher, hidden.targets, self.standardise)
        thinned = thin(inputs, hidden.dates)
        found = self.encoder.embed(thinned, scale)
        seen = self.encoder.observed(thinned, found)
        visible, side = self._visible(found, scale, hidden)
        context = self._context(found, visible, side, scale, hidden.context, seen)
        predicted = self.predictor(context[:, 1:], hidden.context, hidden.targets, side, scale)
        tokens = {name: patch.whole for name, patch in found.items() if name != MODIS}
        return Step(
            teacher, targets, predicted, tokens, visible,
            functional.smooth_l1_loss(predicted, targets),
            contrast(
                list(tokens.values()), seen and [seen[name] for name in tokens], self.released
            ),
        )  # fmt: skip

    def _visible(
        self, found: Mapping[str, Patches], scale: int, hidden: Hidden
    ) -> tuple[Tensor, int]:
        """Tokens of the visible patches, dropped ones replaced, and the side of the grid."""
        tokens, side = self.encoder.sequence(found, scale)
        modis = MODIS in found
        if modis or self.released:
            tokens = tokens[:, 1:]
        sensors = len(found) - modis
        each = tokens.shape[1] // sensors
        index = torch.cat([hidden.context + i * each for i in range(sensors)], dim=1)
        kept = hidden.tokens[:, :, None].bool()
        return torch.where(kept, take(tokens, index), self.masked_token), side

    def _context(
        self, found: Mapping[str, Patches], visible: Tensor, side: int, scale: int,
        context: Tensor, seen: Mapping[str, Tensor] | None,
    ) -> Tensor:  # fmt: skip
        """The combiner's vectors of the visible patches (B, 1 + V, D)."""
        modis = MODIS in found
        known = None
        if seen is not None and not self.released:
            lead = [seen[MODIS]] if modis else []
            grids = [s.gather(1, context) for name, s in seen.items() if name != MODIS]
            known = torch.cat(lead + grids, dim=1)
        leading = 1 + modis
        code = positions(visible.shape[2], side, float(scale), leading).to(visible.device)
        grid = code[1:] if self.released else code[leading:]
        codes = torch.cat([code[None, :leading].expand(len(visible), -1, -1),
                           take(grid[None], context)], dim=1)  # fmt: skip
        rows = functional.pad(context + leading, (leading, 0))
        rows[:, :leading] = torch.arange(leading, device=rows.device)
        pairs = buckets(side, leading).to(visible.device)[rows[:, :, None], rows[:, None]]
        places = Places(codes, pairs, leading, len(found) - modis)
        if modis:
            visible = torch.cat([found[MODIS].whole, visible], dim=1)
        return self.encoder.combine(visible, places, known)

    def forward(
        self, inputs: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss of a batch and its parts.

        Args:
            inputs: the adapter's, see `AnySat.embed`.
            generator: on the CPU, of all that is drawn except dropout.
        """
        scale = self.scales[int(torch.randint(len(self.scales), (), generator=generator))]
        step = self.step(inputs, scale, self.draw(inputs, scale, generator))
        return {"loss": step.loss, "prediction": step.prediction, "contrast": step.contrast}

    def train(self, mode: bool = True) -> CrossSensorJepa:
        """Training mode for all but the teacher, whose targets shall not flicker."""
        super().train(mode)
        self.target_encoder.eval()
        return self

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """Move the teacher; progress of the training is 0 to 1."""
        first, last = self.momentum
        momentum = first + progress * (last - first)
        pairs = zip(self.target_encoder.parameters(), self.encoder.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1 - momentum)


def thin(inputs: Mapping[str, Tensor], dates: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs with these dates (B, T') of each series only."""
    out = dict(inputs)
    for name, index in dates.items():
        rows = torch.arange(len(index), device=index.device)[:, None]
        for key in (name, f"{name}_dates", f"{name}_mask"):
            if key in out:
                out[key] = out[key][rows, index]
    return out
