"""What SatDINO learns: what its own slow copy says of other crops, and how large a pixel is.

Self-distillation of Caron et al. 2021 (DINO) with the paper's two additions: local crops whose
scales are spread evenly (`views.py`), and a linear head that regresses each crop's ground sample
distance from the register.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import SatDino
from .views import Crops, make_crops

STUDENT_TEMPERATURE = 0.1
CENTER_MOMENTUM = 0.9
GSD_WEIGHT = 0.1
DROP_PATH = 0.1
EPOCHS = 200  # of the paper; schedules below are shares of them
WARM_EPOCHS = 30
HEAD_FROZEN_EPOCHS = 1


# --- schedules and losses -------------------------------------------------------------------------


def teacher_temperature(
    epoch: int, start: float = 0.04, end: float = 0.07, warm: int = WARM_EPOCHS
) -> float:
    """Rises in `warm` even steps, the first at epoch 0, and stays."""
    return start + (end - start) * min(epoch / max(warm - 1, 1), 1.0)


def teacher_momentum(progress: float, start: float = 0.996) -> float:
    """Share of the teacher that is kept at a step: rises to 1 along a cosine, progress 0..1."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


def distillation(
    student: Tensor,
    teacher: Tensor,
    center: Tensor,
    temperature: float,
    batch: int,
    student_temperature: float = STUDENT_TEMPERATURE,
) -> Tensor:
    """Cross-entropy of the student's view of a crop with the teacher's of another; the mean.

    Args:
        student: (crops * batch, K) scores, all images of the first crop first, global crops first.
        teacher: (global crops * batch, K).
        center: (1, K), taken off the teacher's scores.
        temperature: of the teacher.
        batch: images.
        student_temperature: of the student.

    Returns:
        The mean over all pairs of different crops, ().
    """
    log_p = (student / student_temperature).log_softmax(dim=-1).unflatten(0, (-1, batch))
    q = ((teacher - center) / temperature).softmax(dim=-1).detach().unflatten(0, (-1, batch))
    pairs = -torch.einsum("abk,cbk->ac", q, log_p) / batch  # teacher's crop, student's crop
    others = 1 - torch.eye(*pairs.shape, device=pairs.device)
    return (pairs * others).sum() / others.sum()


def entropy(teacher: Tensor, center: Tensor, temperature: float) -> Tensor:
    """Of the teacher's answers (n, K), the mean in nats: the least that `distillation` can be.

    It rises while the center catches up, and the loss with it; what the student has still to learn
    is the difference of the two.
    """
    log_q = ((teacher - center) / temperature).log_softmax(dim=-1)
    return -(log_q.exp() * log_q).sum(dim=-1).mean()


def moved_center(center: Tensor, teacher: Tensor, momentum: float = CENTER_MOMENTUM) -> Tensor:
    """The center (1, K) after the teacher's scores (n, K) of a step."""
    return momentum * center + (1 - momentum) * teacher.mean(dim=0, keepdim=True)


# --- heads ----------------------------------------------------------------------------------------


class PrototypeLayer(nn.Module):
    """Scores of K prototypes: a linear map whose rows are g v / |v|."""

    def __init__(self, width: int, prototypes: int, learn_norm: bool) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(prototypes, 1), requires_grad=learn_norm)
        self.weight_v = nn.Parameter(torch.empty(prototypes, width))
        nn.init.kaiming_uniform_(self.weight_v, a=math.sqrt(5))

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """(n, width) to (n, K); `frozen` keeps the prototypes from learning."""
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=1, keepdim=True)
        return x @ (weight.detach() if frozen else weight).T


class ProjectionHead(nn.Module):
    """DINO's head: an MLP to a unit vector, then scores of many prototypes."""

    def __init__(
        self,
        width: int,
        prototypes: int = 65536,
        hidden: int = 2048,
        bottleneck: int = 256,
        layers: int = 3,
        learn_norm: bool = False,
    ) -> None:
        """`layers`: linear maps before the prototypes; `learn_norm`: their lengths are learnt."""
        super().__init__()
        sizes = [width, *[hidden] * (layers - 1), bottleneck]
        parts: list[nn.Module] = []
        for given, wanted in zip(sizes, sizes[1:], strict=False):
            parts += [nn.Linear(given, wanted), nn.GELU()]
        self.mlp = nn.Sequential(*parts[:-1])
        self.last_layer = PrototypeLayer(bottleneck, prototypes, learn_norm)
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """(n, D) to (n, K)."""
        return self.last_layer(functional.normalize(self.mlp(x), dim=-1), frozen)


class Branch(nn.Module):
    """Student or teacher: a backbone with its projection head."""

    def __init__(self, backbone: SatDino, head: ProjectionHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, crops: Sequence[Tensor], frozen: bool = False) -> tuple[Tensor, Tensor]:
        """Scores (crops * batch, K) and registers (crops * batch, D), crop after crop.

        Crops of one size go through the backbone together.
        """
        tokens = []
        start = 0
        for stop in range(1, len(crops) + 1):
            if stop == len(crops) or crops[stop].shape != crops[start].shape:
                whole = self.backbone(torch.cat(list(crops[start:stop])))
                tokens.append(whole[:, [0, -1]])
                start = stop
        ends = torch.cat(tokens)
        return self.head(ends[:, 0], frozen), ends[:, 1]


# --- objective ------------------------------------------------------------------------------------


class SelfDistillation(nn.Module):
    """DINO with a ground sample distance: student, teacher, center and the head of the distance.

    The encoder that is kept is the teacher's backbone. In the authors' training no optimiser holds
    the distance's head, so it stays as it was drawn and only the register learns (`learn_gsd`).
    """

    def __init__(
        self,
        encoder: SatDino,
        ground_size_m: float = 1.0,
        prototypes: int = 65536,
        hidden: int = 2048,
        bottleneck: int = 256,
        crops: Crops | None = None,
        learn_gsd: bool = False,
        drop_path: float = DROP_PATH,
        momentum: float = 0.996,
        temperatures: tuple[float, float] = (0.04, 0.07),
    ) -> None:
        """Start from an encoder.

        Args:
            encoder: where teacher and student start; it becomes the teacher.
            ground_size_m: of the images' pixels, where the inputs do not say.
            prototypes, hidden, bottleneck: sizes of the projection head.
            crops: sizes, number and statistics of the crops; the paper's by default.
            learn_gsd: the head of the distance learns too.
            drop_path: of the student.
            momentum: of the teacher at the start; less suits runs of a few thousand steps.
            temperatures: of the teacher, at first and when warm; less keeps it from saying nothing.
        """
        super().__init__()
        config = encoder.config
        head = ProjectionHead(config.width, prototypes, hidden, bottleneck)
        student = SatDino(config, drop_path)
        student.load_state_dict(encoder.state_dict())
        self.student = Branch(student, head)
        self.teacher = Branch(encoder, copy.deepcopy(head)).requires_grad_(False).eval()
        self.gsd_head = nn.Linear(config.width, 1).requires_grad_(learn_gsd)
        nn.init.trunc_normal_(self.gsd_head.weight, std=0.02)
        nn.init.zeros_(self.gsd_head.bias)
        self.register_buffer("center", torch.zeros(1, prototypes))
        self.register_buffer("next_center", torch.zeros(1, prototypes))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self._ground_size_m = ground_size_m
        self._momentum = momentum
        self._temperatures = temperatures
        self._crops = crops or Crops()

    @property
    def encoder(self) -> SatDino:
        """The network that is kept and exported."""
        return self.teacher.backbone

    def train(self, mode: bool = True) -> SelfDistillation:
        """Training mode for the student; the teacher always evaluates."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of a step and its parts.

        Args:
            inputs: `image` (B, 3, H, W) as the adapter makes it; where ground sizes differ also
                `ground_size` (B,) in metres.
            generator: of crops and colours, on any device.

        Returns:
            `loss`, and of it `distillation` and `ground_size` (squared metres, unweighted);
            `entropy` of the teacher's answers, the part of `distillation` that nobody can learn.
        """
        image = inputs["image"]
        ground = inputs.get("ground_size")
        if ground is None:
            ground = image.new_full((len(image),), self._ground_size_m)
        crops, distances = make_crops(image, ground, self._crops, generator)
        epoch = int(self.epoch)
        scores, registers = self.student(crops, frozen=epoch < HEAD_FROZEN_EPOCHS)
        with torch.no_grad():
            told, _ = self.teacher(crops[: self._crops.globals])
        temperature = teacher_temperature(epoch, *self._temperatures)
        apart = distillation(scores, told, self.center, temperature, len(image))
        guess = self.gsd_head(registers).squeeze(-1)
        error = functional.mse_loss(guess, distances.flatten())
        if self.training:
            self.next_center = moved_center(self.center, told)
        return {
            "loss": apart + GSD_WEIGHT * error,
            "distillation": apart.detach(),
            "entropy": entropy(told, self.center, temperature),
            "ground_size": error.detach(),
        }

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """After a step of the optimiser: the teacher follows, the center moves, time goes on.

        Args:
            progress: of the whole training, 0..1.
        """
        keep = teacher_momentum(progress, self._momentum)
        pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1 - keep)
        self.center.copy_(self.next_center)
        self.epoch.fill_(int(progress * EPOCHS))
