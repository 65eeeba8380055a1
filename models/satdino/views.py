"""The crops that SatDINO's teacher and student see of an image, made on its own device.

Section 3 of the paper: the scales of the local crops are cut into as many even intervals as there
are crops, and each draws from its own. Colours change as in DINO (Caron et al. 2021), in a fixed
order and with the hue turned in the plane of chroma.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .adapter import DEFAULT, STATISTICS

_RATIO = (3 / 4, 4 / 3)  # width over height of a crop
_GRAY = (0.299, 0.587, 0.114)
_BLUR = (0.1, 2.0)  # standard deviation in pixels
_REACH = 6  # pixels on each side that a blur looks at


@dataclass(frozen=True)
class Crops:
    """How many crops of which size, and the statistics in which images come and crops go.

    Attributes:
        globals, locals: crops of each kind.
        global_size, local_size: their sides in pixels.
        global_scale, local_scale: shares of the image's area.
        blur: chance of a blur for the global crops in turn, last of all for the local ones.
        solarise: chance, of the second global crop only.
        jitter: reach of brightness, contrast, saturation and hue (turns).
        gray: chance to lose the colours.
        statistics: a key of `adapter.STATISTICS`.
    """

    globals: int = 2
    locals: int = 10
    global_size: int = 224
    local_size: int = 96
    global_scale: tuple[float, float] = (0.25, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.25)
    blur: tuple[float, ...] = (1.0, 0.1, 0.5)
    solarise: float = 0.2
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    gray: float = 0.2
    statistics: str = DEFAULT

    def scale(self, crop: int) -> tuple[float, float]:
        """Shares of the area from which a crop draws: a local one has its own interval."""
        if crop < self.globals:
            return self.global_scale
        low, high = self.local_scale
        step = (high - low) / self.locals
        return low + (crop - self.globals) * step, low + (crop - self.globals + 1) * step


def crop_distance(ground: Tensor, height: Tensor, width: Tensor, size: int) -> Tensor:
    """Ground sample distance (metres) of h x w pixels that were resized to size x size."""
    return ground / ((size / height + size / width) / 2)


def make_crops(
    image: Tensor, ground: Tensor, crops: Crops, generator: torch.Generator
) -> tuple[list[Tensor], Tensor]:
    """Global crops, then local ones, and the ground sample distance of each.

    Args:
        image: (B, 3, H, W), standardised.
        ground: (B,) metres.
        crops: what is wanted.
        generator: on any device.

    Returns:
        Crops (B, 3, size, size), standardised, and their distances (crops, B) in metres.
    """
    mean, spread = image.new_tensor(STATISTICS[crops.statistics])[:, :, None, None]
    plain = image * spread + mean
    made, distances = [], []
    for i in range(crops.globals + crops.locals):
        is_global = i < crops.globals
        size = crops.global_size if is_global else crops.local_size
        crop, height, width = _cut(plain, crops.scale(i), size, generator)
        crop = _recolour(crop, crops, generator)
        crop = _blur(crop, crops.blur[min(i, len(crops.blur) - 2) if is_global else -1], generator)
        if i == 1 and is_global:
            solar = torch.where(crop < 0.5, crop, 1 - crop)
            crop = _sometimes(solar, crop, crops.solarise, generator)
        made.append((crop - mean) / spread)
        distances.append(crop_distance(ground, height, width, size))
    return made, torch.stack(distances)


def _uniform(like: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """A number for each image, (B,)."""
    drawn = torch.rand(len(like), generator=generator, device=generator.device)
    return low + (high - low) * drawn.to(like.device)


def _sometimes(new: Tensor, old: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """`new` for some of the images, `old` for the others."""
    chosen = _uniform(old, 0, 1, generator) < chance
    return torch.where(chosen[:, None, None, None], new, old)


def _cut(
    image: Tensor, scale: tuple[float, float], size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A random part of each image, resized bicubically and half the time mirrored.

    Returns:
        (B, 3, size, size) in 0..1, and height and width (B,) of the parts in pixels.
    """
    rows, columns = image.shape[2:]
    area = _uniform(image, *scale, generator) * rows * columns
    ratio = _uniform(image, math.log(_RATIO[0]), math.log(_RATIO[1]), generator).exp()
    height = (area / ratio).sqrt().round().clamp(1, rows)
    width = (area * ratio).sqrt().round().clamp(1, columns)
    top = (_uniform(image, 0, 1, generator) * (rows - height + 1)).floor()
    left = (_uniform(image, 0, 1, generator) * (columns - width + 1)).floor()
    mirror = 1 - 2 * (_uniform(image, 0, 1, generator) < 0.5).float()
    place = image.new_zeros(len(image), 2, 3)
    place[:, 0, 0] = mirror * width / columns
    place[:, 0, 2] = (2 * left + width) / columns - 1
    place[:, 1, 1] = height / rows
    place[:, 1, 2] = (2 * top + height) / rows - 1
    grid = functional.affine_grid(place, [len(image), 3, size, size], align_corners=False)
    part = functional.grid_sample(
        image, grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    return part.clamp(0, 1), height, width


def _gray(image: Tensor) -> Tensor:
    """Brightness (B, 1, H, W)."""
    return (image * image.new_tensor(_GRAY)[:, None, None]).sum(dim=1, keepdim=True)


def _recolour(image: Tensor, crops: Crops, generator: torch.Generator) -> Tensor:
    """Jitter of brightness, contrast, saturation and hue for 8 in 10, gray for some."""
    brightness, contrast, saturation, hue = crops.jitter

    def factor(reach: float) -> Tensor:
        return _uniform(image, 1 - reach, 1 + reach, generator)[:, None, None, None]

    x = (image * factor(brightness)).clamp(0, 1)
    x = x.lerp(_gray(x).mean(dim=(2, 3), keepdim=True), 1 - factor(contrast)).clamp(0, 1)
    x = x.lerp(_gray(x), 1 - factor(saturation)).clamp(0, 1)
    x = _turn_hue(x, 2 * math.pi * _uniform(image, -hue, hue, generator)).clamp(0, 1)
    x = _sometimes(x, image, 0.8, generator)
    return _sometimes(_gray(x).expand_as(x), x, crops.gray, generator)


def _turn_hue(image: Tensor, angle: Tensor) -> Tensor:
    """Colours turned by (B,) radians around gray, brightness kept."""
    to_chroma = image.new_tensor([_GRAY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
    turn = torch.zeros(len(image), 3, 3, device=image.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    matrix = to_chroma.inverse() @ turn @ to_chroma
    return torch.einsum("bij,bjhw->bihw", matrix, image)


def _blur(image: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """A Gaussian blur of random width for some of the images."""
    spread = _uniform(image, *_BLUR, generator)
    offset = torch.arange(-_REACH, _REACH + 1, device=image.device)
    kernel = (-(offset**2) / (2 * spread[:, None] ** 2)).exp()
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    x = functional.pad(image, [_REACH] * 4, mode="replicate").flatten(0, 1)[None]
    x = functional.conv2d(x, kernel[:, None, None, :], groups=len(kernel))
    x = functional.conv2d(x, kernel[:, None, :, None], groups=len(kernel))
    return _sometimes(x[0].unflatten(0, (len(image), 3)), image, chance, generator)
