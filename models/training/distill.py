"""Train `fast`: `python -m earthprint.models.training.distill --out build/training`.

Three stages, each of which goes on where it stopped: the views of the pool with their teachers'
features (chunks), the training (a checkpoint every few hundred steps), the export.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cards import Card
from ..fast.adapter import BANDS, INPUT
from ..fast.network import CLIP, Encoder, Fast, soft_axes
from ..fast.objective import Objective
from . import pool, teachers
from .export import code_scale, export

LOG = logging.getLogger(__name__)
AXES = {INPUT: {0: "pixels"}}
CARD = Path(__file__).resolve().parent.parent / "fast" / "card.json"
_CHUNK = 5000
_TARGET = 64  # principal axes of each teacher
_EVERY = 250  # steps between checkpoints


def _save(path: Path, write: Callable[[Path], object]) -> None:
    """Call write(temporary name) and put the file in place."""
    part = path.with_name(f"part-{path.name}")
    write(part)
    os.replace(part, path)


def make_views(out: Path, rows: int, seed: int) -> None:
    """Two views of `rows` varied pixels of the pool, and what the teachers make of each."""
    todo = [c for c in range(-(-rows // _CHUNK)) if not (out / f"views-{seed}-{c}.npz").exists()]
    if not todo:
        return
    series, source = pool.build(seed)
    tutors = {"presto": teachers.presto(), "galileo": teachers.galileo()}
    for chunk in todo:
        start = time.monotonic()
        rng = np.random.default_rng([seed, chunk])
        a, b = (pool.draw(source, _CHUNK, rng) for _ in range(2))
        whole = pool.vary(series[a], series[b], rng)
        views = np.concatenate([pool.degrade(whole, rng), pool.degrade(whole, rng)])
        arrays = {name: tutor(*teachers.month_means(views)) for name, tutor in tutors.items()}
        arrays |= {"series": pool.network_input(whole)[:, :, : len(BANDS)].reshape(_CHUNK, -1)}
        arrays |= {"grid": pool.network_input(views)}
        half = {name: array.astype(np.float16) for name, array in arrays.items()}
        _save(out / f"views-{seed}-{chunk}.npz", lambda path, half=half: np.savez(path, **half))
        LOG.info("views %d: %.0f s", chunk, time.monotonic() - start)


def load_views(out: Path, rows: int, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """All views (2, n, 24, 20), and targets by teacher (2, n, d), centred, on soft axes."""
    chunks = []
    for chunk in range(-(-rows // _CHUNK)):
        with np.load(out / f"views-{seed}-{chunk}.npz") as file:
            chunks.append({k: torch.from_numpy(file[k]).float() for k in file.files})

    def joined(name: str) -> torch.Tensor:
        parts = [c[name] if name == "series" else c[name].unflatten(0, (2, -1)) for c in chunks]
        return torch.cat(parts, dim=0 if name == "series" else 1)

    targets = {}
    for name in ("presto", "galileo", "series"):
        features = joined(name)
        if name == "series":
            features = features.clamp(-CLIP, CLIP)
        mean, axes = soft_axes(features.flatten(0, -2))
        target = (features - mean) @ axes[:_TARGET].T
        targets[name] = target.expand(2, -1, -1) if name == "series" else target
    return joined("grid"), targets


def train(
    out: Path, rows: int, steps: int, seed: int, weights: dict[str, float], twins: float
) -> Fast:
    """The trunk after `steps` steps of AdamW with a cosine schedule."""
    torch.manual_seed(seed)
    grid, targets = load_views(out, rows, seed)
    trunk = Fast()
    objective = Objective(dict.fromkeys(weights, _TARGET), weights, twins)
    parameters = [*trunk.parameters(), *objective.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    state = {"trunk": trunk, "objective": objective, "optimiser": optimiser, "schedule": schedule}
    path, begun = out / f"train-{seed}.pt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        begun = saved.pop("step")
        for name, module in state.items():
            module.load_state_dict(saved[name])
    batch, start = 512, time.monotonic()
    for step in range(begun, steps):
        rng = torch.Generator().manual_seed(seed * 1_000_003 + step)
        index = torch.randint(0, grid.shape[1], (batch,), generator=rng)
        features = trunk(grid[:, index].flatten(0, 1))
        wanted = {name: targets[name][:, index].flatten(0, 1) for name in weights}
        parts = objective(features[:batch], features[batch:], wanted)
        optimiser.zero_grad()
        parts["total"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % _EVERY == 0 or step + 1 == steps:
            saved = {name: module.state_dict() for name, module in state.items()}
            _save(path, lambda p, s={**saved, "step": step + 1}: torch.save(s, p))
            figures = ", ".join(f"{name} {float(x.detach()):.3f}" for name, x in parts.items())
            LOG.info("step %d, %.0f s: %s", step + 1, time.monotonic() - start, figures)
    return trunk.eval()


def finish(trunk: Fast, grid: torch.Tensor) -> Encoder:
    """The encoder to ship: output axes from the features of the views (m, 24, 20)."""
    with torch.inference_mode():
        features = torch.cat([trunk(part) for part in grid.split(4096)])
    return Encoder(trunk, *soft_axes(features.clone())).eval()


def examples(real: Tensor) -> list[tuple[Tensor]]:
    """Inputs for the check of an export: real ones (n, 24, 20), noise, nothing; few and many."""
    noise = torch.randn(257, *real.shape[1:], generator=torch.Generator().manual_seed(0))
    return [(x,) for x in (noise, noise[:1], noise[:2], noise[:64], real, 0 * noise[:3])]


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/training"), help="working folder")
    parser.add_argument("--encoder", type=Path, help="ONNX file to write; none: in --out")
    parser.add_argument("--rows", type=int, default=60_000, help="varied pixels, two views each")
    parser.add_argument("--steps", type=int, default=2_500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--presto", type=float, default=1.0, help="weight in the loss")
    parser.add_argument("--galileo", type=float, default=1.0, help="weight in the loss")
    parser.add_argument("--series", type=float, default=1.0, help="weight in the loss")
    parser.add_argument("--twins", type=float, default=0.3, help="weight of Barlow Twins")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    given.out.mkdir(parents=True, exist_ok=True)
    make_views(given.out, given.rows, given.seed)
    weights = {name: getattr(given, name) for name in ("presto", "galileo", "series")}
    weights = {name: weight for name, weight in weights.items() if weight > 0}
    trunk = train(given.out, given.rows, given.steps, given.seed, weights, given.twins)
    grid, _ = load_views(given.out, given.rows, given.seed)
    sets = tuple(described for _, described in pool.SOURCES.values())
    encoder = finish(trunk, grid.flatten(0, 1))
    card = Card.from_json(CARD.read_text("utf-8"))
    with torch.inference_mode():
        vectors = torch.cat([encoder(part) for part in grid.flatten(0, 1).split(4096)])
    card = replace(card, training_data=sets, code_scale=code_scale(vectors))
    target = given.encoder or given.out / "fast.onnx"
    card = export(encoder, card, target, AXES, examples(grid[0, :1000]))
    if target.resolve().parent == CARD.parent:
        CARD.write_text(card.to_json() + "\n", "utf-8")


if __name__ == "__main__":
    main()
