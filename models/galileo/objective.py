"""Galileo's pretraining: predict hidden tokens' latents, told apart within a sample (section 3).

Each batch gives four views, each a crop with a patch size and a number of dates of its own. Two
have structured masks (dates, patches) and deep targets, which differ by product: the global loss.
Two have random masks and the bare linear projections as targets: the local loss. Targets come from
a slow copy of the encoder that sees everything.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import masking
from .decoder import PREDICTED, Decoder, DecoderConfig
from .network import Config, Encoder
from .products import GROUP_NAMES
from .tokens import Tokens, chosen_first, take

TEMPERATURE = 0.1
MOMENTUM = (0.996, 1.0)  # of the slow copy, from the start to the end of training
SHAPES = ((4, 12), (5, 6), (6, 4), (7, 3), (9, 3), (12, 3))  # patches a side, dates
_HALF = ("NDVI", "ERA5", "TC", "SRTM")
_PROJECTED = ("DW", "WC", "LS", "DW_static", "WC_static")


def exit_depths(depth: int) -> dict[str, int]:
    """Blocks behind the global targets: sensors all, indices and weather half, maps none."""
    return {
        name: 0 if name in _PROJECTED else depth // 2 if name in _HALF else depth
        for name in GROUP_NAMES
    }


def patch_disc(
    predictions: Tensor, targets: Tensor, hidden: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """Each prediction must find its own target among those of the same sample (equation 1).

    Args:
        predictions, targets: (B, N, D).
        hidden: (B, N) bool: the tokens that were to be predicted.
        temperature: tau.

    Returns:
        2 tau times the mean cross-entropy of a sample's tokens, mean over the samples that have
        any.
    """
    place, real = chosen_first(hidden)
    p = functional.normalize(take(predictions, place), dim=2)
    z = functional.normalize(take(targets, place), dim=2)
    logits = (p @ z.transpose(1, 2) / temperature).masked_fill(~real[:, None], -torch.inf)
    right = logits.log_softmax(dim=2).diagonal(dim1=1, dim2=2)
    count = real.sum(dim=1)
    sums = -torch.where(real, right, 0.0).sum(dim=1)
    return (2 * temperature * sums / count.clamp_min(1)).sum() / (count > 0).sum().clamp_min(1)


@dataclass(frozen=True)
class View:
    """Inputs of one step: normalised values, what of them is there, months, and the patch."""

    s_t: Tensor
    sp: Tensor
    t: Tensor
    st: Tensor
    masks: Tokens  # by pixel; 0 = there
    months: Tensor
    patch: int

    def values(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `Encoder.forward` takes them."""
        return self.s_t, self.sp, self.t, self.st


def view_of(inputs: Mapping[str, Tensor]) -> View:
    """What the adapter yields as a view of patch 1; products that are not given are masked."""
    s_t = inputs["s_t"]
    b, height, width, steps, _ = s_t.shape
    shapes = {"sp": ((b, height, width), 16, 3), "t": ((b, steps), 6, 3), "st": ((b,), 18, 4)}
    given = {
        kind: (
            inputs.get(kind, s_t.new_zeros(*shape, bands)),
            inputs.get(f"{kind}_mask", s_t.new_ones(*shape, groups)),
        )
        for kind, (shape, bands, groups) in shapes.items()
    }
    masks = Tokens(inputs["s_t_mask"], *(mask for _, mask in given.values()))
    return View(s_t, *(values for values, _ in given.values()), masks, inputs["months"], 1)


class PatchDisc(nn.Module):
    """Encoder, its slow copy and the two predictors (global, local), under the official names.

    Args:
        config, decoder: sizes.
        patches: sides of a patch in pixels that views draw from.
        resolution_m: size of a pixel.
        exits: depth of each channel group's global target; None = as in the paper.
        shapes: patches a side and dates that views draw from.
    """

    def __init__(
        self,
        config: Config,
        decoder: DecoderConfig,
        patches: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8),
        resolution_m: float = 10,
        exits: Mapping[str, int] | None = None,
        shapes: tuple[tuple[int, int], ...] = SHAPES,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False).eval()
        self.decoder = Decoder(decoder)
        self.second_decoder = Decoder(decoder)
        self.patches, self.resolution_m, self.shapes = patches, resolution_m, shapes
        self.exits = exit_depths(config.depth) if exits is None else exits

    def train(self, mode: bool = True) -> PatchDisc:
        """Training mode for all but the slow copy."""
        super().train(mode)
        self.target_encoder.eval()
        return self

    def forward(
        self, inputs: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss of a batch: mean of two global and two local views.

        Args:
            inputs: what the adapter yields, s_t (B, H, W, T, 13), s_t_mask (B, H, W, T, 7),
                months (B, T); and, where there are more products, sp, t, st and their masks.
            generator: on the CPU, of crops and masks.

        Returns:
            loss, and its parts global and local.
        """
        given = view_of(inputs)
        losses = []
        for strategy in (masking.by_time, masking.by_space, masking.at_random, masking.at_random):
            view = self.view(given, generator)
            available = _on(view.masks.at_patches(view.patch), "cpu", lambda mask: mask == 0)
            masks = masking.draw(strategy, available, generator)
            masks = _on(masks, view.s_t.device, torch.Tensor.float)
            losses.append(self.loss(view, _by_pixel(masks, view.patch), len(losses) >= 2))
        deep, local = torch.stack(losses[:2]).mean(), torch.stack(losses[2:]).mean()
        return {"loss": (deep + local) / 2, "global": deep, "local": local}

    def view(self, given: View, generator: torch.Generator) -> View:
        """A crop, turned or mirrored at random, as large as the window allows."""
        side, steps = min(given.s_t.shape[1:3]), given.s_t.shape[3]

        def pick(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        fitting = [p for p in self.patches if p <= side]
        patch = fitting[pick(len(fitting))]
        cells, dates = self.shapes[pick(len(self.shapes))]
        pixels, dates = min(cells, side // patch) * patch, min(dates, steps)
        row, column = (pick(n - pixels + 1) for n in given.s_t.shape[1:3])
        first, turns, mirrored = pick(steps - dates + 1), pick(4), pick(2)

        def placed(x: Tensor) -> Tensor:
            x = x[:, row : row + pixels, column : column + pixels].rot90(turns, (1, 2))
            return x.flip(1) if mirrored else x

        def dated(x: Tensor) -> Tensor:
            return x[:, first : first + dates]

        def both(x: Tensor) -> Tensor:
            return placed(x)[:, :, :, first : first + dates]

        masks = given.masks
        s_t, sp = (_whole(mask, patch) for mask in (both(masks.s_t), placed(masks.sp)))
        return View(
            both(given.s_t), placed(given.sp), dated(given.t), given.st,
            Tokens(s_t, sp, dated(masks.t), masks.st), dated(given.months), patch,
        )  # fmt: skip

    def loss(self, view: View, masks: Tokens, local: bool) -> Tensor:
        """PatchDisc of one view under given masks (by pixel, 0, 1, 2)."""
        predictions, _ = self.predict(view, masks, local)
        targets = self.targets(view, local)
        hidden = masks.at_patches(view.patch).mask_sequence() == PREDICTED
        return patch_disc(predictions.sequence(), targets.sequence(), hidden)

    def predict(self, view: View, masks: Tokens, local: bool) -> tuple[Tokens, Tokens]:
        """Predictions at mask 2, and the encoder's tokens that they are made from."""
        decoder = self.second_decoder if local else self.decoder
        place = (view.months, view.patch, self.resolution_m)
        tokens, _ = self.encoder(*view.values(), masks, *place)
        return decoder(tokens, masks, *place), tokens

    @torch.no_grad()
    def targets(self, view: View, local: bool) -> Tokens:
        """Latents of all that is there: projections (local) or states at their depths (global)."""
        depths = dict.fromkeys(GROUP_NAMES, 0) if local else self.exits
        place = (view.months, view.patch, self.resolution_m)
        return self.target_encoder(*view.values(), view.masks, *place, depths)[0]

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """Move the slow copy after an optimiser step; progress 0..1 of the training."""
        first, last = MOMENTUM
        momentum = first + (last - first) * progress
        pairs = zip(self.target_encoder.parameters(), self.encoder.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1 - momentum)


def _on(tokens: Tokens, device: torch.device | str, change: Callable[[Tensor], Tensor]) -> Tokens:
    return Tokens(*(change(kind).to(device) for kind in tokens.kinds()))


def _whole(mask: Tensor, patch: int) -> Tensor:
    """A mask by pixel (B, H, W, ...): a patch of which a pixel is masked is masked as a whole."""
    cells = mask.shape[1] // patch
    blocks = mask.unflatten(1, (cells, patch)).unflatten(3, (cells, patch))
    return _widened(blocks.amax(dim=(2, 4)), patch)


def _widened(mask: Tensor, patch: int) -> Tensor:
    """A mask by patch as one by pixel."""
    return mask.repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)


def _by_pixel(masks: Tokens, patch: int) -> Tokens:
    return Tokens(_widened(masks.s_t, patch), _widened(masks.sp, patch), masks.t, masks.st)
