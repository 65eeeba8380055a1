"""Train `tessera-student`: `python -m earthprint.models.training.tessera_student`.

TESSERA's objective on the unlabelled pool (two random choices of a pixel's observations, mix-up,
prefixes), together with imitation of what Presto and Galileo nano make of the whole year. Each
stage goes on where it stopped: the varied pixels with their targets, the training, the export.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..cards import Card
from ..fast.adapter import BANDS
from ..fast.network import soft_axes
from ..fast.objective import imitation
from ..tessera.network import Tessera, build
from ..tessera.objective import Objective, View
from ..tessera.observations import S1_BANDS, S2_BANDS, STATISTICS, code_decibel, pad
from ..tessera.student import CONFIG, LENGTHS, Student
from ..timegrid import STEPS
from . import pool, probe, tasks, teachers
from .export import code_scale, export

LOG = logging.getLogger(__name__)
AXES = {"s2": {0: "pixels", 1: "s2_dates"}, "s1": {0: "pixels", 1: "s1_dates"}}
CARD = Path(__file__).resolve().parent.parent / "tessera" / "card.json"
_CHUNK = 5000
_TARGET = 64  # principal axes of each target
_PROJECTOR = 128
_BATCH = 512
_EVERY = 100  # steps between checkpoints
_NOISE = (0.035, 0.1)  # of a standardised Sentinel-2 and Sentinel-1 value
_CHOICES = {  # length to the indices for each count of observations; a count of 0 is not used
    length: np.stack([pad(max(count, 1), length) for count in range(STEPS + 1)])
    for length in LENGTHS
}
STAND_INS = {"nir08": "nir", "nir": "nir08"}  # where a source of the pool lacks one of them


# --- pixels as TESSERA takes them -----------------------------------------------------------------


@dataclass(frozen=True)
class Years:
    """What was observed of n pixels at 24 half-months, standardised for the v2 students.

    Attributes:
        s2, s1: (n, 24, 11) and (n, 24, 3) float32, the day of year last; zeros where not observed.
        s2_valid, s1_valid: (n, 24) bool.
    """

    s2: np.ndarray
    s1: np.ndarray
    s2_valid: np.ndarray
    s1_valid: np.ndarray

    def part(self, index: np.ndarray) -> Years:
        """Some of the pixels."""
        return Years(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def years(rows: np.ndarray, rng: np.random.Generator | None = None) -> Years:
    """Half-monthly means (n, 24, 13) in the order of `fast.adapter.BANDS`, NaN where missing.

    Without `rng` an observation is dated in the middle of its half-month, else at random in it.
    A band that a source lacks is its training mean.
    """
    statistics = STATISTICS["v2-student"]
    days = (365 * np.arange(STEPS) / STEPS + 1).astype(np.int64)
    jitter = rng.integers(0, 15, rows.shape[:2]) if rng else np.full(rows.shape[:2], 7)
    day = (days + jitter).astype(np.float32)[..., None]

    bands = {band: rows[:, :, BANDS.index(band)] for band in S2_BANDS}
    for band, other in STAND_INS.items():
        own, instead = (rows[:, :, BANDS.index(name)] for name in (band, other))
        bands[band] = np.where(np.isnan(own), instead, own)
    dn = np.stack(list(bands.values()), axis=-1) * 10000
    optical = (dn - np.float32(statistics.s2_mean)) / np.float32(statistics.s2_std)
    s2_valid = np.isfinite(optical).any(axis=-1)

    decibel = np.stack([rows[:, :, BANDS.index(band)] for band in S1_BANDS], axis=-1)
    code = code_decibel(decibel)
    radar = (code - np.float32(statistics.ascending_mean)) / np.float32(statistics.ascending_std)
    s1_valid = (code != 0).any(axis=-1)

    def sequence(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        whole = np.concatenate([np.nan_to_num(values), day], axis=-1)
        return np.where(valid[..., None], whole, 0).astype(np.float32)

    return Years(sequence(optical, s2_valid), sequence(radar, s1_valid), s2_valid, s1_valid)


def select(values: np.ndarray, kept: np.ndarray, length: int) -> np.ndarray:
    """Sequences (n, length, C + 1) of the kept (n, 24) observations, by the rule of v2."""
    count = kept.sum(axis=1)
    kept_first = np.argsort(~kept, axis=1, kind="stable")
    chosen = np.take_along_axis(kept_first, _CHOICES[length][count], axis=1)
    sequence = np.take_along_axis(values, chosen[..., None], axis=1)
    return np.where((count > 0)[:, None, None], sequence, 0).astype(np.float32)


def view(given: Years, lengths: tuple[int, int], rng: np.random.Generator) -> View:
    """A random choice of observations: dates, a part of the year or a sensor may be missing.

    Args:
        given: n pixels.
        lengths: of the Sentinel-2 and of the Sentinel-1 sequences.
        rng: each call is another choice.
    """
    n = len(given.s2)
    season = np.where(rng.random(n) < 0.15, rng.integers(6, STEPS, n), STEPS)[:, None]
    begin = rng.integers(0, STEPS, n)[:, None]
    inside = (np.arange(STEPS) - begin) % STEPS < season
    lost = rng.random(n)
    valid = (given.s2_valid & (lost >= 0.12)[:, None], given.s1_valid & (lost <= 0.85)[:, None])
    nothing = ~(valid[0].any(axis=1) | valid[1].any(axis=1))
    parts = []
    for values, ok, full, length, noise in zip(
        (given.s2, given.s1), valid, (given.s2_valid, given.s1_valid), lengths, _NOISE, strict=True
    ):
        ok = np.where(nothing[:, None], full, ok)
        ok = np.where((ok & inside).any(axis=1)[:, None], ok & inside, ok)
        most = rng.integers(length // 4, 3 * length // 2, (n, 1)).clip(max=length)
        order = np.argsort(np.where(ok, rng.random(ok.shape), 2.0), axis=1)
        kept = ok & (np.argsort(order, axis=1) < most)
        sequence = select(values, kept, length)
        blur = rng.normal(0, noise, sequence[..., :-1].shape)
        sequence[..., :-1] += np.where(sequence[..., -1:] > 0, blur, 0).astype(np.float32)
        parts.append(torch.from_numpy(sequence))
    return parts[0], parts[1]


def whole(given: Years) -> View:
    """The longest sequences of all observations."""
    s2 = select(given.s2, given.s2_valid, LENGTHS[-1])
    s1 = select(given.s1, given.s1_valid, LENGTHS[-1])
    return torch.from_numpy(s2), torch.from_numpy(s1)


# --- training -------------------------------------------------------------------------------------


def make_pixels(out: Path, rows: int, seed: int) -> None:
    """Varied pixels of the pool in files of 5,000, with their targets."""
    files = [out / f"years-{seed}-{c}.npz" for c in range(-(-rows // _CHUNK))]
    todo = [c for c, file in enumerate(files) if not file.exists()]
    if not todo:
        return
    series, source = pool.build(seed)
    tutors = {"presto": teachers.presto(), "galileo": teachers.galileo()}
    for chunk in todo:
        start = time.monotonic()
        rng = np.random.default_rng([seed, chunk, 2])
        a, b = (pool.draw(source, _CHUNK, rng) for _ in range(2))
        varied = pool.vary(series[a], series[b], rng)
        targets = {name: tutor(*teachers.month_means(varied)) for name, tutor in tutors.items()}
        targets["series"] = pool.network_input(varied)[:, :, : len(BANDS)].reshape(_CHUNK, -1)
        half = {name: target.astype(np.float16) for name, target in targets.items()}
        part = files[chunk].with_suffix(".part.npz")
        np.savez(part, **half, **vars(years(varied, rng)))
        os.replace(part, files[chunk])
        LOG.info("pixels %d: %.0f s", chunk, time.monotonic() - start)


def load_pixels(out: Path, rows: int, seed: int) -> tuple[Years, dict[str, Tensor]]:
    """All pixels that TESSERA can see, and targets (n, 64) centred and on soft axes."""
    parts = []
    for chunk in range(-(-rows // _CHUNK)):
        with np.load(out / f"years-{seed}-{chunk}.npz") as file:
            parts.append({name: file[name] for name in file.files})
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    seen = joined["s2_valid"].any(axis=1) | joined["s1_valid"].any(axis=1)
    targets = {}
    for name in ("presto", "galileo", "series"):
        features = torch.from_numpy(joined.pop(name)[seen]).float()
        mean, axes = soft_axes(features)
        targets[name] = (features - mean) @ axes[:_TARGET].T
    return Years(**{name: array[seen] for name, array in joined.items()}), targets


class Heads(nn.Module):
    """A linear head for each target and prefix, as the v2 students are distilled."""

    def __init__(self, targets: tuple[str, ...]):
        super().__init__()
        self.heads = nn.ModuleDict({
            name: nn.ModuleList(nn.Linear(k, _TARGET) for k in CONFIG.prefixes) for name in targets
        })  # fmt: skip

    def forward(self, embedding: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean loss over the prefixes of embeddings (m, 128) for each target (m, 64)."""
        return {
            name: torch.stack([
                imitation(head(embedding[:, :k]), targets[name])
                for k, head in zip(CONFIG.prefixes, heads, strict=True)
            ]).mean()
            for name, heads in self.heads.items()
        }  # fmt: skip


def losses(
    network: Tessera,
    objective: Objective,
    heads: Heads,
    given: Years,
    targets: dict[str, Tensor],
    twins: float,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """The parts of the loss of a batch of pixels and their `total`."""
    lengths = tuple(rng.choice(LENGTHS, 2, p=(0.3, 0.7)).tolist())
    first, second = (view(given, lengths, rng) for _ in range(2))
    embeddings = []

    def encode(s2: Tensor, s1: Tensor) -> Tensor:
        embeddings.append(network(s2, s1))
        return embeddings[-1]

    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    tessera = objective(encode, first, second, generator)
    both = torch.cat(embeddings[:2])  # the third is of the mixed views
    parts = heads(both, {name: target.repeat(2, 1) for name, target in targets.items()})
    total = sum(parts.values()) + twins * tessera.total / _PROJECTOR
    parts |= {"barlow": tessera.barlow / _PROJECTOR, "mix": tessera.mix / _PROJECTOR}
    return {**parts, "total": total}


def train(out: Path, rows: int, steps: int, seed: int, twins: float) -> Tessera:
    """The network after `steps` steps of AdamW."""
    torch.manual_seed(seed)
    given, targets = load_pixels(out, rows, seed)
    network, heads = build(CONFIG), Heads(tuple(targets))
    network.dim_reducer[3].p = 0.0  # dropout: so small a network does not learn by heart
    objective = Objective(CONFIG.prefixes, _PROJECTOR, _PROJECTOR)
    parameters = [p for module in (network, objective, heads) for p in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 3e-3, total_steps=steps, pct_start=0.15
    )
    state = {"network": network, "objective": objective, "heads": heads, "optimiser": optimiser,
             "schedule": schedule}  # fmt: skip
    path, begun = out / f"train-{seed}.pt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        begun = saved.pop("step")
        for name, part in state.items():
            part.load_state_dict(saved[name])
    start = time.monotonic()
    for step in range(begun, steps):
        rng = np.random.default_rng([seed, step])
        index = rng.integers(0, len(given.s2), _BATCH)
        some = {name: target[torch.from_numpy(index)] for name, target in targets.items()}
        parts = losses(network, objective, heads, given.part(index), some, twins, rng)
        optimiser.zero_grad()
        parts["total"].backward()
        nn.utils.clip_grad_norm_(parameters, 2.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % _EVERY == 0 or step + 1 == steps:
            saved = {name: part.state_dict() for name, part in state.items()}
            part = path.with_suffix(".part")
            torch.save({**saved, "step": step + 1}, part)
            os.replace(part, path)
            figures = ", ".join(f"{name} {float(p.detach()):.3f}" for name, p in parts.items())
            LOG.info("step %d, %.0f s: %s", step + 1, time.monotonic() - start, figures)
    return network.eval()


# --- the encoder ----------------------------------------------------------------------------------


def in_batches(encoder: nn.Module, inputs: View) -> Tensor:
    """Outputs (n, 128) for any number of pixels."""
    parts = zip(*(part.split(2048) for part in inputs), strict=True)
    with torch.inference_mode():
        return torch.cat([encoder(s2, s1) for s2, s1 in parts])


def finish(network: Tessera, given: Years, seed: int) -> Student:
    """The encoder to ship: output axes from whole years and from random choices of them."""
    network.eval()
    rng = np.random.default_rng(seed)
    some = given.part(rng.permutation(len(given.s2))[:20_000])
    views = (whole(some), view(some, (LENGTHS[-1], LENGTHS[-1]), rng))
    features = torch.cat([in_batches(network, inputs) for inputs in views])
    return Student(network, *soft_axes(features)).eval()


def examples(given: Years) -> list[tuple[Tensor, Tensor]]:
    """Inputs for the check of an export: the pool at every length, one row and many."""
    some, rng = given.part(np.arange(min(1000, len(given.s2)))), np.random.default_rng(0)
    made = [whole(some), whole(some.part(np.arange(1)))]
    for length in LENGTHS:
        s2, s1 = view(some, (length, length), rng)
        made += [(s2, s1), (s2, torch.zeros(len(s2), 1, 3)), (torch.zeros(len(s1), 1, 11), s1)]
    return made


# --- what it is worth -----------------------------------------------------------------------------


def described(student: Student, name: str) -> probe.Features:
    """The student on the probe's pixels, stand-ins for lacking bands as in training.

    The engine's adapter would refuse most of these sets for want of a band. Sets without red edge,
    which are not of Sentinel-2, are left out.
    """

    def of(task: tasks.Task) -> np.ndarray | None:
        if np.isnan(task.rows[:, :, BANDS.index("rededge071")]).all():
            return None
        return in_batches(student, whole(years(task.rows))).numpy()

    return probe.Features(name, of, equal_axes=False)


def compare(student: Student, given: Years, seed: int, table: Path) -> None:
    """Write a table of the student, random starts of the same network and the plain series."""
    kinds = [probe.Features("series", probe.of_series, ("RF", "LR", "kNN"))]
    for start in (seed + 1, seed + 2):
        torch.manual_seed(start)
        random = finish(build(CONFIG), given, seed)
        kinds.append(described(random, f"random start {start}"))
    kinds.append(described(student, "tessera-student"))
    for scores in probe.probe(kinds, 0):
        table.write_text(probe.table(scores, "Macro-F1 in %, all training labels"), "utf-8")


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/training/tessera"))
    parser.add_argument("--encoder", type=Path, help="ONNX file to write; none: in --out")
    parser.add_argument("--rows", type=int, default=40_000, help="varied pixels")
    parser.add_argument("--steps", type=int, default=1_400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--twins", type=float, default=1.0, help="weight of TESSERA's objective")
    parser.add_argument("--probe", type=Path, help="a table to write, also of random starts")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    given.out.mkdir(parents=True, exist_ok=True)
    make_pixels(given.out, given.rows, given.seed)
    network = train(given.out, given.rows, given.steps, given.seed, given.twins)
    pixels, _ = load_pixels(given.out, given.rows, given.seed)
    student = finish(network, pixels, given.seed)
    card = Card.from_json(CARD.read_text("utf-8"))
    scale = code_scale(in_batches(student, whole(pixels)))
    card = replace(card, weights_sha256="", code_scale=scale)
    target = given.encoder or given.out / "tessera-student.onnx"
    card = export(student, card, target, AXES, examples(pixels))
    if target.resolve().parent == CARD.parent:
        CARD.write_text(card.to_json() + "\n", "utf-8")
    if given.probe:
        compare(student, pixels, given.seed, given.probe)


if __name__ == "__main__":
    main()
