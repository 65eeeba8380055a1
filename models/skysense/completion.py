"""Modality completion of SkySense++: features of an absent sensor from those of the others.

Every sensor has a small auto-encoder with a codebook. An absent sensor's code logits are the sum,
not the mean, of the present others' (the weights depend on it), and its feature is what its own
decoder makes of them. Features of present sensors pass unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

SENSORS = ("hr", "s2", "s1")  # the order of the flags


@dataclass(frozen=True)
class CompletionConfig:
    """Sizes of the three auto-encoders."""

    channels: int = 2816  # of the features
    width: int = 256
    code_width: int = 256
    codes: int = 8192
    temperature: float = 0.9


@dataclass(frozen=True)
class Completed:
    """What the completion makes of the features of all sensors.

    Attributes:
        features: sensor to (N, C, h, w): its own where it is present, else the completed one.
        generated: sensor to (N, C, h, w): what its decoder gave, present or not.
        logits: sensor to (N, codes, h / 4, w / 4) of its own feature.
        mixtures: sensor to the mixture of codes that its decoder took.
    """

    features: dict[str, Tensor]
    generated: dict[str, Tensor]
    logits: dict[str, Tensor]
    mixtures: dict[str, Tensor]


def _pair(width: int) -> nn.Sequential:
    layers = [nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU())


class CodeAutoEncoder(nn.Module):
    """Features to logits over codes, a mixture of codes to features; a quarter of the size."""

    def __init__(self, config: CompletionConfig) -> None:
        super().__init__()
        width = config.width
        self.sharpness = 10 * config.temperature
        self.conv1 = nn.Conv2d(config.channels, width, 5, padding=2)
        self.enc_block1, self.enc_block2 = _pair(width), _pair(width)
        self.logit_conv = nn.Conv2d(width, config.codes, 1)
        self.codebook = nn.Embedding(config.codes, config.code_width)
        self.conv2 = nn.Conv2d(config.code_width, width, 3, padding=1)
        self.dec_block1, self.dec_block2 = _pair(width), _pair(width)
        self.rec_conv = nn.Conv2d(width, config.channels, 3, padding=1)
        for i in range(1, 5):
            gain = nn.Parameter(torch.full((1, width, 1, 1), 1e-3))
            self.register_parameter(f"gamma_{i}", gain)

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, codes, h / 4, w / 4)."""
        x = functional.leaky_relu(self.conv1(x))
        x = functional.avg_pool2d(x + self.gamma_1 * self.enc_block1(x), 2)
        x = functional.avg_pool2d(x + self.gamma_2 * self.enc_block2(x), 2)
        return self.logit_conv(x)

    def mixture(self, logits: Tensor) -> Tensor:
        """Soft choice of codes, (N, codes, h, w)."""
        return (self.sharpness * logits).softmax(dim=1)

    def decode(self, mixture: Tensor) -> Tensor:
        """(N, codes, h, w) to (N, C, 4h, 4w)."""
        z = (mixture.permute(0, 2, 3, 1) @ self.codebook.weight).permute(0, 3, 1, 2)
        x = functional.leaky_relu(self.conv2(z))
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = x + self.gamma_3 * self.dec_block1(x)
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.rec_conv(x + self.gamma_4 * self.dec_block2(x))


class Completion(nn.Module):
    """The three auto-encoders and the rule that joins them."""

    def __init__(self, config: CompletionConfig) -> None:
        super().__init__()
        for sensor in SENSORS:
            self.add_module(f"vae_{sensor}", CodeAutoEncoder(config))

    def coder(self, sensor: str) -> CodeAutoEncoder:
        """The auto-encoder of a sensor."""
        return self.get_submodule(f"vae_{sensor}")

    def forward(self, features: dict[str, Tensor], present: Tensor) -> Completed:
        """Complete the features.

        Args:
            features: sensor to (N, C, h, w), anything where it is absent; h and w divide by 4.
            present: (N, 3) bool in the order of `SENSORS`.
        """
        there = {s: present[:, i, None, None, None] for i, s in enumerate(SENSORS)}
        logits = {s: self.coder(s).encode(features[s]) for s in SENSORS}
        given = {s: torch.where(there[s], x, torch.zeros_like(x)) for s, x in logits.items()}
        out, generated, mixtures = {}, {}, {}
        for s in SENSORS:
            others = sum(given[o] for o in SENSORS if o != s)
            mixtures[s] = self.coder(s).mixture(torch.where(there[s], logits[s], others))
            generated[s] = self.coder(s).decode(mixtures[s])
            out[s] = torch.where(there[s], features[s], generated[s])
        return Completed(out, generated, logits, mixtures)


def divergence(logits: dict[str, Tensor], present: Tensor) -> Tensor:
    """Symmetric KL between the code distributions of sensors that are both present, over 6."""
    logs = [logits[s].log_softmax(dim=1) for s in SENSORS]
    flags = present.to(logs[0].dtype)
    total = 0.0
    for i, j in combinations(range(len(SENSORS)), 2):
        both = (logs[i].exp() - logs[j].exp()) * (logs[i] - logs[j])
        total = total + (flags[:, i] * flags[:, j] * both.flatten(1).sum(dim=1)).mean()
    return total / 6


def reconstruction(generated: dict[str, Tensor], features: dict[str, Tensor],
                   present: Tensor) -> Tensor:
    """Mean over sensors of the mean squared error of what is present."""
    total = 0.0
    for i, s in enumerate(SENSORS):
        error = (generated[s] - features[s]).square().flatten(1).mean(dim=1)
        flags = present[:, i].to(error.dtype)
        total = total + (flags * error).sum() / (flags.sum() + 1e-6)
    return total / len(SENSORS)


def completion_loss(done: Completed, features: dict[str, Tensor], present: Tensor) -> Tensor:
    """Reconstruction and divergence, each of weight 1."""
    return reconstruction(done.generated, features, present) + divergence(done.logits, present)
