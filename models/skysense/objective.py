"""SkySense's pretraining: multi-granularity contrast, geo-context prototypes (CVPR 2024, 3.2-3.3).

A student and its moving average, the teacher, see the same place; only positive pairs. Features of
every sensor and the fused ones must agree at each pixel and date, for each object (a Sinkhorn
cluster of pixels) and for the whole image; features of different sensors are aligned.

The paper's text was not at hand and its code is not published. Our reading: L_CL is DINO's loss
with a head for each kind of feature, which are standardised over the batch before it; the teacher
sees the whole window, the student noisy crops of it, with fewer and jittered dates; the teacher's
assignment of pixels to clusters serves both, so that clusters correspond; L_align is InfoNCE
between the sensors at the same positions; alpha and beta are 1.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .adapter import PIXELS
from .network import Features, SkySense

# --- pure functions -------------------------------------------------------------------------------


def sinkhorn(scores: Tensor, sharpness: float = 20.0, steps: int = 3) -> Tensor:
    """Soft assignment of pixels to centres in which every centre gets the same share.

    Args:
        scores: (..., P, M) similarities.
        sharpness: 1 / epsilon of the entropic transport.
        steps: of normalising columns and rows.

    Returns:
        (..., P, M); each pixel's row sums to 1.
    """
    scaled = sharpness * scores
    q = (scaled - scaled.amax(dim=(-2, -1), keepdim=True)).exp()
    for _ in range(steps):
        q = q / q.sum(dim=-2, keepdim=True).clamp(min=1e-12)
        q = q / q.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    return q


def distillation(student: Tensor, teacher: Tensor, center: Tensor, weight: Tensor,
                 student_temperature: float = 0.1, teacher_temperature: float = 0.04) -> Tensor:
    """DINO's cross-entropy between two sets of logits, L_CL of the paper.

    Args:
        student, teacher: (..., K); no gradient goes to the teacher.
        center: (K,), subtracted from the teacher's logits.
        weight: (...), of each pair; 0 where there is nothing to compare.
        student_temperature, teacher_temperature: of the softmaxes.
    """
    target = ((teacher.detach() - center) / teacher_temperature).softmax(dim=-1)
    error = -(target * (student / student_temperature).log_softmax(dim=-1)).sum(dim=-1)
    weight = weight.to(error.dtype)
    return (error * weight).sum() / weight.sum().clamp(min=1)


def alignment(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE in both directions between rows (B, d) that belong together."""
    a, b = (functional.normalize(x, dim=-1) for x in (a, b))
    logits = a @ b.T / temperature
    same = torch.arange(len(a), device=a.device)
    return (functional.cross_entropy(logits, same) + functional.cross_entropy(logits.T, same)) / 2


def standardised(x: Tensor, seen: Tensor) -> Tensor:
    """Features (..., P, C) with mean 0 and deviation 1 of each channel over all that is seen.

    What all places of a young network share is most of a feature; without this the targets would
    be nearly the same everywhere. `seen` is (..., P).
    """
    weight = seen[..., None].to(x.dtype)
    dims = tuple(range(x.ndim - 1))
    count = weight.sum().clamp(min=1)
    mean = (x * weight).sum(dim=dims) / count
    spread = ((x - mean).square() * weight).sum(dim=dims) / count
    return (x - mean) * (spread + 1e-5).rsqrt()


# --- modules --------------------------------------------------------------------------------------


class Head(nn.Module):
    """Features to logits over learnt directions, as in DINO."""

    def __init__(self, width: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.directions = nn.Parameter(torch.randn(outputs, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., K), cosines."""
        directions = functional.normalize(self.directions, dim=-1)
        return functional.normalize(self.mlp(x), dim=-1) @ directions.T


class GeoContext(nn.Module):
    """Prototypes of each region of the earth, to which its features attend (section 3.3).

    The prototypes are a moving average of the features that Sinkhorn assigns to them; no gradient.
    """

    def __init__(self, regions: int, prototypes: int, width: int, momentum: float = 0.99) -> None:
        super().__init__()
        self.momentum = momentum
        start = functional.normalize(torch.randn(regions, prototypes, width), dim=-1)
        self.register_buffer("prototypes", start)

    def forward(self, features: Tensor, region: Tensor) -> Tensor:
        """(N, P, d) of places in regions (N,) to (N, P, 2d): themselves and their context."""
        prototypes = self.prototypes[region]
        weights = features @ prototypes.transpose(1, 2) / math.sqrt(features.shape[-1])
        return torch.cat((features, weights.softmax(dim=-1) @ prototypes), dim=-1)

    @torch.no_grad()
    def learn(self, features: Tensor, region: Tensor) -> None:
        """P_r <- m P_r + (1 - m) S^T F, with S^T's rows as means."""
        for place, index in zip(features, region.tolist(), strict=True):
            old = self.prototypes[index]
            cosine = functional.normalize(place, dim=-1) @ functional.normalize(old, dim=-1).T
            share = sinkhorn(cosine)
            new = share.T @ place / share.sum(dim=0)[:, None].clamp(min=1e-6)
            self.prototypes[index] = self.momentum * old + (1 - self.momentum) * new


@dataclass(frozen=True)
class Settings:
    """What the paper leaves to the one who trains."""

    outputs: int = 4096  # K, directions of a head
    hidden: int = 256
    clusters: int = 16  # objects of an image
    crops: int = 2  # of the student; the first one is the whole window
    momentum: float = 0.996  # of the teacher at the start; it ends at 1
    center_momentum: float = 0.9
    noise: float = 0.1  # of the student's gains, offsets and pixels, in standard deviations
    drop_dates: float = 0.3
    jitter_days: int = 5
    shifted: bool = False  # crops begin at any pixel, for features of pixels made from patches
    pairs: int = 256  # positions of a step that are aligned between sensors
    regions: int = 0  # with prototypes; 0: without geo-context
    prototypes: int = 100
    alpha: float = 1.0  # of the contrast
    beta: float = 1.0  # of the alignment


@dataclass(frozen=True)
class Crop:
    """A square of the window, in pixels of the coarsest input grid."""

    row: int
    col: int
    side: int

    def of(self, x: Tensor, scale: float = 1) -> Tensor:
        """The crop of (..., h, w) on a grid of `scale` times as many pixels a side."""
        row, col, side = (int(v * scale) for v in (self.row, self.col, self.side))
        return x[..., row : row + side, col : col + side]


Views = list[tuple[Crop, Features]]  # of the student


def _add(parts: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    for name, value in more.items():
        parts[name] = parts[name] + value if name in parts else value


class MultiGranularityContrast(nn.Module):
    """The objective: `encoder` is trained, its teacher follows."""

    #: Weights of the parts that `_across` adds, where they are not those of the settings.
    weights: dict[str, float] = {}

    def __init__(self, encoder: SkySense, settings: Settings | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.settings = s = settings or Settings()
        config = encoder.config
        self.sensors = tuple(config.use.split("+"))
        own = config.fusion.inputs if len(self.sensors) > 1 else config.dimensions
        widths = dict.fromkeys(self.sensors, own)
        if len(self.sensors) > 1:
            widths["fused"] = config.dimensions * (2 if s.regions else 1)
        self.heads = nn.ModuleDict({k: Head(d, s.hidden, s.outputs) for k, d in widths.items()})
        self.projections = nn.ModuleDict({k: nn.Linear(own, s.hidden) for k in self.sensors})
        if len(self.sensors) > 1 and s.regions:
            self.geo = GeoContext(s.regions, s.prototypes, config.dimensions)
        for kind in widths:
            self.register_buffer(f"center_{kind}", torch.zeros(s.outputs))
        self.teacher = copy.deepcopy(encoder).requires_grad_(False)
        self.teacher_heads = copy.deepcopy(self.heads).requires_grad_(False)

    def forward(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of a batch of windows.

        Args:
            inputs: what the adapter yields, with N windows; "region" (N,) where there are regions.
            generator: of crops, noise and dates.

        Returns:
            "loss" and its parts "pixel", "object", "image", "align".
        """
        if "hr" in self.sensors and "hr_seen" not in inputs:
            sides = (side // PIXELS for side in inputs["hr"].shape[-2:])
            seen = inputs["hr"].new_ones(len(inputs["hr"]), 1, *sides, dtype=torch.bool)
            inputs = {**inputs, "hr_seen": seen}
        with torch.no_grad():
            whole = self.teacher(inputs)
        views, parts = [], {}
        for i in range(self.settings.crops):
            crop = self._crop(inputs, i, generator)
            student = self.encoder(self._student_view(inputs, crop, generator))
            views.append((crop, student))
            _add(parts, self._contrast(student, whole, crop, inputs, generator))
        _add(parts, self._across(views, whole, inputs, generator))
        weights = {"align": self.settings.beta, **self.weights}
        loss = sum(weights.get(k, self.settings.alpha) * part for k, part in parts.items())
        return {"loss": loss, **parts}

    def _across(self, views: Views, whole: Features, inputs: dict[str, Tensor],
                generator: torch.Generator) -> dict[str, Tensor]:
        """Losses beside the contrast: the alignment of the sensors, summed over the views."""
        return {"align": sum(self._align(student, generator) for _, student in views)}

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """Move the teacher after an optimiser step; progress goes from 0 to 1."""
        momentum = self.momentum(progress)
        pairs = ((self.teacher, self.encoder), (self.teacher_heads, self.heads))
        for teacher, student in pairs:
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.lerp_(new, 1 - momentum)

    def momentum(self, progress: float) -> float:
        """Of the teacher: rises along a cosine to 1."""
        return 1 - (1 - self.settings.momentum) * (math.cos(math.pi * progress) + 1) / 2

    # --- views ------------------------------------------------------------------------------------

    def _crop(self, inputs: dict[str, Tensor], index: int, generator: torch.Generator) -> Crop:
        """The whole window first, then half windows on the grid of patches, or off it."""
        side, (step, least) = self._side(inputs), self.encoder.crops()
        half = max(side // 2 // step * step, least)
        if index == 0 or half >= side:
            return Crop(0, 0, side)
        step = 1 if self.settings.shifted else step
        places = (side - half) // step + 1
        device = generator.device
        row, col = torch.randint(places, (2,), generator=generator, device=device).tolist()
        return Crop(row * step, col * step, half)

    def _side(self, inputs: dict[str, Tensor]) -> int:
        """Side of the window in Sentinel pixels, or in HR patches where only HR is taken."""
        last = self.sensors[-1]
        return inputs[last].shape[-1] // (PIXELS if last == "hr" else 1)

    def _cut(self, inputs: dict[str, Tensor], crop: Crop) -> dict[str, Tensor]:
        """The inputs of a crop."""
        cut = {}
        for sensor in self.sensors:
            cut[sensor] = crop.of(inputs[sensor], PIXELS if sensor == "hr" else 1)
            cut[f"{sensor}_seen"] = crop.of(inputs[f"{sensor}_seen"])
        return cut | {name: inputs[name] for name in ("s2_day",) if name in inputs}

    def _student_view(self, inputs: dict[str, Tensor], crop: Crop,
                      generator: torch.Generator) -> dict[str, Tensor]:
        """Inputs of the crop with noise, fewer dates and shifted days."""
        view, s = self._cut(inputs, crop), self.settings

        def draw(like: Tensor, shape: tuple[int, ...]) -> Tensor:
            noise = torch.randn(shape, generator=generator, device=generator.device)
            return s.noise * noise.to(like.device, like.dtype)

        for sensor in self.sensors:
            x, seen = view[sensor], view[f"{sensor}_seen"]
            each = (*x.shape[:2], *(1,) * (x.ndim - 2))
            view[sensor] = x * (1 + draw(x, each)) + draw(x, each) + draw(x, tuple(x.shape))
            if sensor != "hr":
                kept = torch.rand(seen.shape[:2], generator=generator, device=generator.device)
                kept[:, 0] = 1.0  # one date stays
                kept = (kept > s.drop_dates).to(seen.device)
                view[f"{sensor}_seen"] = seen & kept[..., None, None]
        if "s2_day" in inputs:
            shift = torch.randint(-s.jitter_days, s.jitter_days + 1, inputs["s2_day"].shape,
                                  generator=generator, device=generator.device)
            view["s2_day"] = inputs["s2_day"] + shift.to(inputs["s2_day"].device)
        return view

    # --- losses -----------------------------------------------------------------------------------

    def _contrast(self, student: Features, whole: Features, crop: Crop, inputs: dict[str, Tensor],
                  generator: torch.Generator) -> dict[str, Tensor]:
        """L_FG of all sensors and of the fused features, by granularity."""
        total: dict[str, Tensor] = {}
        region = inputs.get("region")
        for kind in self.heads:
            if kind == "fused":
                f, t = student.fused[:, None], whole.fused[:, None]
                places = [x.any(dim=1) for x in student.seen.values()]
                seen = torch.stack(places).any(dim=0)[:, None]
            else:
                f, t, seen = student.own[kind], whole.own[kind], student.seen[kind]
            t = crop.of(t, t.shape[-1] / self._side(inputs))
            f, t = (x.permute(0, 1, 3, 4, 2).flatten(2, 3) for x in (f, t))  # (N, T, P, C)
            seen = seen.flatten(2)
            if kind == "fused" and self.settings.regions:
                region = torch.zeros(len(f), dtype=torch.long) if region is None else region
                f, t = (self.geo(x[:, 0], region)[:, None] for x in (f, t))
                self.geo.learn(t[:, 0, :, : t.shape[-1] // 2], region)
            _add(total, self._granularities(kind, f, t, seen, generator))
        return total

    def _granularities(self, kind: str, f: Tensor, t: Tensor, seen: Tensor,
                       generator: torch.Generator) -> dict[str, Tensor]:
        """Pixel, object and image loss of features (N, T, P, C) where seen (N, T, P)."""
        head, target = self.heads[kind], self.teacher_heads[kind]
        f, t = standardised(f, seen), standardised(t, seen)
        center = getattr(self, f"center_{kind}")
        with torch.no_grad():
            logits = target(t)
            mean = logits[seen].mean(dim=0) if seen.any() else center.clone()
            # a center that starts at 0 would move away under the student, and the loss would rise
            rest = self.settings.center_momentum if center.any() else 0.0
            center.lerp_(mean, 1 - rest)
        found = {"pixel": distillation(head(f), logits, center, seen)}
        weight = seen[..., None].to(f.dtype)
        objects = min(self.settings.clusters, f.shape[2])
        start = torch.randperm(f.shape[2], generator=generator, device=generator.device)[:objects]
        unit = functional.normalize(t, dim=-1)
        share = sinkhorn(unit @ unit[:, :, start.to(t.device)].transpose(2, 3)) * weight
        mass = share.sum(dim=2)[..., None]  # (N, T, M, 1)
        centers = [share.transpose(2, 3) @ x / mass.clamp(min=1e-6) for x in (f, t)]
        found["object"] = distillation(
            head(centers[0]), target(centers[1]), center, mass[..., 0] > 1e-3
        )
        count = weight.sum(dim=2)
        means = [(x * weight).sum(dim=2) / count.clamp(min=1) for x in (f, t)]
        found["image"] = distillation(head(means[0]), target(means[1]), center, count[..., 0] > 0)
        return found

    def _align(self, student: Features, generator: torch.Generator) -> Tensor:
        """InfoNCE between every two sensors, at positions that both have seen."""
        rows = {}
        for sensor in self.sensors:
            seen = student.seen[sensor][:, :, None].to(student.own[sensor].dtype)
            mean = (student.own[sensor] * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1)
            rows[sensor] = (mean.permute(0, 2, 3, 1).flatten(0, 2),
                            student.seen[sensor].any(dim=1).flatten())
        total = next(iter(rows.values()))[0].new_zeros(())
        for i, a in enumerate(self.sensors):
            for b in self.sensors[i + 1 :]:
                both = (rows[a][1] & rows[b][1]).nonzero()[:, 0]
                order = torch.randperm(len(both), generator=generator, device=generator.device)
                some = both[order[: self.settings.pairs].to(both.device)]
                if len(some) > 1:
                    total = total + alignment(*(self.projections[s](rows[s][0][some])
                                                for s in (a, b)))
        return total
