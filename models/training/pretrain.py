"""One training loop for all systems: windows in, an objective's steps, an encoder's file out.

A system takes part through `models/<system>/small.py`: `CONFIG`, `RECIPE`, `objective()`, `card()`
and `exportable(encoder)`. Windows come from a callable, so that nothing here knows of files, and go
through the system's own adapter, so that training and inference cannot differ.

A training lives in a folder: `state.pt` (replaced whole, from which it goes on after a kill) and
the loss curve as `curve.csv` and `curve.svg`. Step n draws everything from [seed, n], so a training
that was cut short ends in the weights that it would have had.
"""

from __future__ import annotations

import copy
import importlib
import logging
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..cards import Card, TrainingSet
from .batches import Pool, Rolled, Windows, collated, drawn
from .curve import Curve
from .export import Exportable, finish
from .halves import halve, rounded
from .places import Level, place_pattern

LOG = logging.getLogger(__name__)

_ROOM = Path(__file__).resolve().parent.parent
_EVERY = 10  # steps of one row of the curve
_SAVE_SECONDS = 20.0
_LEAST_RATE = 0.01  # of the highest learning rate, at the end
_MEASURED = 100  # windows on which centre and code scale are measured
_ROLLED = 4  # windows for the pattern of places, each moved to all of them


@dataclass(frozen=True)
class Recipe:
    """How a system is trained.

    Attributes:
        steps: of the optimiser at most.
        windows: of one step.
        rate: highest learning rate of AdamW.
        warmup: share of the training in which the rate rises; then it falls along a cosine.
        weight_decay: of matrices; vectors (biases, norms, tokens) have none.
        dates: fewest and most dates of each sensor that a window keeps; drawn for each step.
        clip: norm to which gradients are cut.
        pool: windows that are cut once and kept; a step draws from those of equal shapes. 0 cuts
            new ones for each step, which takes longer than a small network's step.
        together: the windows of a step are of one place. For contrasts, which else are won by
            telling places apart instead of what stands on them.
    """

    steps: int = 20_000
    windows: int = 8
    rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.05
    dates: tuple[int, int] = (4, 12)
    clip: float = 1.0
    pool: int = 0
    together: bool = False

    def rate_at(self, progress: float) -> float:
        """The learning rate at a progress of 0..1."""
        if progress < self.warmup:
            return self.rate * max(progress / self.warmup, _LEAST_RATE)
        fall = (progress - self.warmup) / max(1 - self.warmup, 1e-9)
        return self.rate * (_LEAST_RATE + (1 - _LEAST_RATE) * (1 + math.cos(math.pi * fall)) / 2)


class Small(Protocol):
    """What `models/<system>/small.py` offers."""

    CONFIG: object
    RECIPE: Recipe

    def objective(self) -> nn.Module:
        """A new objective with random weights; its `encoder` is what is kept."""

    def card(self) -> Card:
        """The card without training data, hash and code scale."""

    def exportable(self, encoder: nn.Module) -> Exportable:
        """The encoder as raw features for the adapter's inputs."""


@dataclass(frozen=True)
class Trained:
    """A training as far as it came: objective, steps done, minutes spent, loss curve."""

    objective: nn.Module
    steps: int
    minutes: float
    curve: Curve

    @property
    def said(self) -> str:
        """What a card says about it."""
        first, last = self.curve.ends()
        return (f"{self.steps} steps in {self.minutes:.0f} minutes; the training's loss went from "
                f"{first:.3g} to {last:.3g}.")


def small(system: str) -> Small:
    """The small configuration of a system.

    Raises:
        ValueError: there is none.
    """
    name = f"{__package__.rsplit('.', 1)[0]}.{system}.small"
    if system not in systems():
        raise ValueError(f"There is no small configuration of '{system}'. Choose one of "
                         f"{', '.join(systems())}.")
    return importlib.import_module(name)


def systems() -> list[str]:
    """Systems with a small configuration."""
    return sorted(path.parent.name for path in _ROOM.glob("*/small.py"))


# --- training -------------------------------------------------------------------------------------


def start(system: Small, seed: int) -> nn.Module:
    """The objective with the random weights of a seed."""
    torch.manual_seed(seed)
    return system.objective()


def train(
    system: Small, windows: Windows, folder: Path, *, seed: int = 0, minutes: float | None = None,
    recipe: Recipe | None = None, device: str = "cpu",
    watch: Callable[[float, str], None] | None = None,
) -> Trained:
    """Train, or go on where the training in `folder` stopped.

    Args:
        system: what is trained.
        windows: gives the training data.
        folder: of this training; made where it does not exist.
        seed: of weights, windows and masks.
        minutes: time budget over all calls; the training ends by whichever of this and the
            recipe's steps comes first, and the schedule knows. More minutes than before go on.
        recipe: instead of the system's own.
        device: "cpu", "cuda", or "auto" for a GPU if there is one.
        watch: called with progress 0..1 and a line after each step; may raise to stop.

    Raises:
        ValueError: the folder holds another training, the windows show nothing, or the loss is not
            a number.
    """
    recipe, card = recipe or system.RECIPE, system.card()
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    objective = start(system, seed).to(device).train()
    optimiser = torch.optim.AdamW(_groups(objective, recipe), lr=recipe.rate)
    settings = {**asdict(recipe), "seed": seed, "config": repr(system.CONFIG)}
    for newer in ("pool", "together"):  # trainings without one may be older than it
        if not settings[newer]:
            del settings[newer]
    run = _Run(folder, card.name, settings, objective, optimiser)
    step, spent, curve = run.load(device)
    begun, saved = time.monotonic() - 60 * spent, time.monotonic()
    pool = (Pool(windows, card, recipe.pool, recipe.dates, seed, recipe.together)
            if recipe.pool else None)

    def progress() -> float:
        timed = spent / minutes if minutes else 0.0
        return min(max(step / recipe.steps, timed), 1.0)

    while progress() < 1:
        parts = _step(objective, optimiser, windows, card, recipe, progress(),
                      np.random.default_rng([seed, step]), device, pool)
        step, spent = step + 1, (time.monotonic() - begun) / 60
        objective.update(progress())
        curve.add(parts)
        if step % _EVERY == 0:
            curve.close(step, spent, recipe.rate_at(progress()))
            if time.monotonic() - saved > _SAVE_SECONDS:
                run.save(step, spent, curve)
                saved = time.monotonic()
        if watch:
            try:
                watch(progress(), f"step {step}, {spent:.1f} min, loss {parts['loss']:.4g}")
            except Exception:  # told to stop: nothing of what was learnt is lost
                run.save(step, spent, curve)
                raise
    if curve.open:
        curve.close(step, spent, recipe.rate_at(1.0))
    run.save(step, spent, curve)
    LOG.info("%s: %d steps in %.1f min, loss %.4g to %.4g", card.name, step, spent, *curve.ends())
    return Trained(objective.cpu().eval(), step, spent, curve)


def load(system: Small, folder: Path) -> Trained:
    """The training in a folder as far as it came, without its optimiser.

    Raises:
        ValueError: there is none.
    """
    content = _read(folder / "state.pt")
    if content is None:
        raise ValueError(f"There is no training in {folder}.")
    objective = system.objective()
    objective.load_state_dict(content["objective"])
    curve = Curve(content["curve"])
    return Trained(objective.eval(), content["step"], content["minutes"], curve)


def _groups(objective: nn.Module, recipe: Recipe) -> list[dict]:
    """Parameters with and without weight decay."""
    learning = [p for p in objective.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _step(objective: nn.Module, optimiser: torch.optim.Optimizer, windows: Windows, card: Card,
          recipe: Recipe, progress: float, rng: np.random.Generator, device: str,
          pool: Pool | None = None) -> dict[str, float]:
    """One step of the optimiser: the parts of the loss, means over the windows."""
    torch.manual_seed(int(rng.integers(2**62)))  # of dropped branches
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    if pool is not None:
        given = pool(recipe.windows, rng)
    else:
        dates = int(rng.integers(recipe.dates[0], recipe.dates[1] + 1))
        stream = drawn(windows, card, dates, rng)
        given = [next(stream)[1] for _ in range(recipe.windows)]
    for group in optimiser.param_groups:
        group["lr"] = recipe.rate_at(progress)
    optimiser.zero_grad()
    total: dict[str, float] = defaultdict(float)
    for count, inputs in collated(given, device):
        share = count / len(given)
        parts = objective(inputs, generator)
        (share * parts["loss"]).backward()
        for name, value in parts.items():
            total[name] += share * float(value.detach())
    if not math.isfinite(total["loss"]):
        raise ValueError(f"The loss of {card.name} is not a number any more: train it anew with a "
                         "lower rate.")
    learning = [p for group in optimiser.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(learning, recipe.clip)
    optimiser.step()
    return dict(total)


class _Run:
    """The files of a training."""

    def __init__(self, folder: Path, name: str, settings: dict, objective: nn.Module,
                 optimiser: torch.optim.Optimizer) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._identity = folder, {"name": name, **settings}
        self._objective, self._optimiser = objective, optimiser

    def load(self, device: str) -> tuple[int, float, Curve]:
        """Steps done, minutes spent and the curve; nothing of each in a new folder."""
        content = _read(self._folder / "state.pt", device)
        if content is None:
            return 0, 0.0, Curve()
        if content["identity"] != self._identity:
            raise ValueError(f"{self._folder} holds another training (of {content['identity']}): "
                             "choose another folder or remove it.")
        self._objective.load_state_dict(content["objective"])
        self._optimiser.load_state_dict(content["optimiser"])
        LOG.info("%s goes on at step %d", self._identity["name"], content["step"])
        return content["step"], content["minutes"], Curve(content["curve"])

    def save(self, step: int, minutes: float, curve: Curve) -> None:
        """Replace the state as a whole, then the curve's files."""
        part = self._folder / "state.part"
        torch.save({
            "identity": self._identity, "step": step, "minutes": minutes, "curve": curve.rows,
            "objective": self._objective.state_dict(), "optimiser": self._optimiser.state_dict(),
        }, part)  # fmt: skip
        os.replace(part, self._folder / "state.pt")
        curve.write(self._folder, self._identity["name"])


def _read(path: Path, device: str = "cpu") -> dict | None:
    if not path.is_file():
        return None
    return torch.load(path, map_location=device, weights_only=True)


# --- the encoder's file ---------------------------------------------------------------------------


def export(system: Small, encoder: nn.Module, windows: Windows, sets: Sequence[TrainingSet],
           path: Path, *, seed: int = 0, recipe: Recipe | None = None,
           results: Sequence[str] = ()) -> Card:
    """Write an encoder, centred on windows of the training data, named like its file.

    Its weights are float16 numbers in the file, see `halves.py`.

    Args:
        system: whose encoder it is.
        encoder: of its objective, trained or not.
        windows: gives the training data.
        sets: that the weights have seen.
        path: of the ONNX file; with bundled ones the card also goes beside it, as `card.json`.
        seed: of the windows.
        recipe: says how many dates the windows have.
        results: sentences for the card, such as `Trained.said`.

    Raises:
        ValueError: the exported graph computes something else than torch.
    """
    given, mean, vectors = ready(system, encoder, windows, seed=seed, recipe=recipe)
    card = replace(
        system.card(), name=path.stem, training_data=tuple(sets), results=tuple(results))
    card = halve(path, finish(given, mean, card, path, vectors))
    if path.resolve().parent.parent == _ROOM:
        part = path.with_name("card.json.part")
        part.write_text(card.to_json() + "\n", "utf-8")
        os.replace(part, path.with_name("card.json"))
    return card


def ready(system: Small, encoder: nn.Module, windows: Windows, *, seed: int = 0,
          recipe: Recipe | None = None) -> tuple[Exportable, Tensor, Tensor]:
    """What the file computes before its last subtraction and norm.

    Returns:
        The encoder with rounded weights, without what places in the window add; its mean feature
        on windows of the training data; unit vectors of those.
    """
    recipe, card = recipe or system.RECIPE, system.card()
    given = system.exportable(copy.deepcopy(encoder).cpu().eval())
    rounded(given.module)
    features, seen = measured(given.module, windows, card, recipe.dates[1], seed)
    mean = features[seen].mean(dim=0)
    if card.unit == "patch":
        rolled = Rolled(windows, card.window, card.patch)
        pattern = place_pattern(*measured(
            given.module, rolled, card, recipe.dates[1], seed, _ROLLED * rolled.turns))
        given = replace(given, module=Level(given.module, pattern).eval())
        features = features - pattern
    return given, mean, nn.functional.normalize(features[seen] - mean, dim=1)


def measured(module: nn.Module, windows: Windows, card: Card, dates: int, seed: int,
             count: int | None = None) -> tuple[Tensor, Tensor]:
    """Features (windows, P, d) of `count` windows, and which of their rows show anything."""
    stream = drawn(windows, card, dates, np.random.default_rng([seed, 2**31]))
    features, seen = [], []
    with torch.no_grad():  # networks may keep tables, which must not become inference tensors
        for _ in range(count or _MEASURED):
            pixels, inputs = next(stream)
            features.append(module(*(torch.from_numpy(x) for x in inputs.values())))
            seen.append(torch.from_numpy(pixels >= 0))
    if card.unit == "pixel":  # as if of one window
        return torch.cat(features)[None], torch.cat(seen)[None]
    return torch.stack(features), torch.stack(seen)
