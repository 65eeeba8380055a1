"""Job `pretrain`: a small encoder of a system learns from rasters without labels."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...models.cards import Card, TrainingSet
from ...models.catalogue import adapter_of
from ...models.cube import Cube, Series
from ..context import JobContext
from ..encoding.patches import window as part_of
from ..errors import UserError
from ..rasters.grid import Window
from ..stacks.reading import StackReader
from ..stacks.stack import Stack, open_input
from .import_checkpoint import destination

#: Ending of the folder beside an encoder in which its training is kept.
TRAINING = ".training"
_OWN_PIXELS = 64  # side of a training window of a pixel encoder


@dataclass(frozen=True)
class Source:
    """A stack to learn from.

    Attributes:
        stack: its scenes.
        described: what the encoder's card says about it.
        weight: how often it is drawn, among all sources.
        region: only these pixels; None for all.
        stand_ins: band that the stack lacks to the one that is shown in its place.
    """

    stack: Stack
    described: TrainingSet
    weight: float = 1.0
    region: Window | None = None
    stand_ins: dict[str, str] = field(default_factory=dict)

    def sensors(self, card: Card) -> dict[str, tuple[str, ...]]:
        """Of the sensors that an encoder takes, the bands that are here or stood in for."""
        own, wanted = self.stack.sensors(), {s.sensor for s in card.sensors}
        return {
            sensor: (*bands, *(new for new, old in self.stand_ins.items()
                               if old in bands and new not in bands))
            for sensor, bands in own.items() if sensor in wanted
        }


class Windows:
    """Draws windows of sources: any place, turned and mirrored, all dates.

    Sources that fit into the memory budget are read once and kept; of the others each window is
    read when it is drawn.
    """

    def __init__(self, sources: Sequence[Source], card: Card, memory_mb: float) -> None:
        """Open the sources that the encoder can read.

        Args:
            sources: stacks.
            card: of the encoder: its sensors, bands and window.
            memory_mb: for what is kept.

        Raises:
            UserError: no source has what the encoder needs.
        """
        adapter = adapter_of(card)
        lacking = {s.described.name: adapter.missing(s.sensors(card)) for s in sources}
        self.sources = [s for s in sources if not lacking[s.described.name]]
        if not self.sources:
            name, lines = next(iter(lacking.items()))
            raise UserError(f"{name}: {' '.join(lines)}")
        self.left_out = {name: lines for name, lines in lacking.items() if lines}
        weights = np.array([s.weight for s in self.sources], float)
        self._chances = weights / weights.sum()
        self._side = card.window if card.unit == "patch" else _OWN_PIXELS
        self._bands = {s.sensor: s.bands for s in card.sensors}
        self._readers = [self._reader(source) for source in self.sources]
        self._kept: list[Cube | None] = [None] * len(self.sources)
        budget = memory_mb * 1e6
        for i, source in sorted(enumerate(self.sources), key=lambda s: self._bytes(s[1])):
            budget -= self._bytes(source)
            if budget < 0:
                break
            self._kept[i] = self._read(i, _region(source))

    def __enter__(self) -> Windows:
        return self

    def __exit__(self, *error: object) -> None:
        for reader in self._readers:
            reader.close()

    def __call__(self, rng: np.random.Generator) -> Cube:
        """The next window."""
        return self._of(int(rng.choice(len(self.sources), p=self._chances)), rng)

    @property
    def places(self) -> list[tuple[float, Callable[[np.random.Generator], Cube]]]:
        """The chance and the windows of each source."""
        return [(float(chance), partial(self._of, i)) for i, chance in enumerate(self._chances)]

    def _of(self, i: int, rng: np.random.Generator) -> Cube:
        region, kept = _region(self.sources[i]), self._kept[i]
        row, col = (int(rng.integers(max(length - self._side, 0) + 1))
                    for length in (region.rows, region.cols))
        if kept is None:
            rows, cols = min(self._side, region.rows), min(self._side, region.cols)
            kept, row, col = self._read(
                i, Window(region.row + row, region.col + col, rows, cols)), 0, 0
        return _turned(part_of(kept, row, col, self._side), int(rng.integers(4)),
                       bool(rng.integers(2)))

    def _reader(self, source: Source) -> StackReader:
        bands = {sensor: (*names, *(old for new, old in source.stand_ins.items() if new in names))
                 for sensor, names in self._bands.items()}
        return StackReader(source.stack, sensors=tuple(bands), bands=bands)

    def _bytes(self, source: Source) -> float:
        region = _region(source)
        per_pixel = StackReader.bytes_per_pixel(source.stack, tuple(self._bands), self._bands)
        return per_pixel * region.rows * region.cols

    def _read(self, i: int, window: Window) -> Cube:
        cube = self._readers[i].read(window)
        stand_ins = self.sources[i].stand_ins
        return replace(cube, series={
            name: _standing_in(series, stand_ins) for name, series in cube.series.items()})


def _region(source: Source) -> Window:
    return source.region or source.stack.grid.full


def _standing_in(series: Series, stand_ins: dict[str, str]) -> Series:
    """The series with copies of bands under the names of those that it lacks."""
    new = [b for b, old in stand_ins.items() if b not in series.bands and old in series.bands]
    if not new:
        return series
    order = [series.bands.index(stand_ins[b]) for b in new]
    values = np.concatenate([series.values, series.values[:, order]], axis=1)
    return replace(series, bands=(*series.bands, *new), values=values)


def _turned(cube: Cube, turns: int, mirrored: bool) -> Cube:
    """A square cube turned by quarters and mirrored."""

    def placed(x: np.ndarray) -> np.ndarray:
        x = np.rot90(x, turns, axes=(-2, -1))
        return np.ascontiguousarray(x[..., ::-1] if mirrored else x)

    return replace(cube, series={
        name: replace(s, values=placed(s.values), valid=placed(s.valid))
        for name, s in cube.series.items()})


# --- the job --------------------------------------------------------------------------------------


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Train and write an encoder, or go on with a training that was stopped.

    Args:
        params: input (paths: each stack and each folder is a place to learn from, single rasters
            are one together), system; minutes, steps, seed, name (of the encoder, default
            my-<system>), output (default: <name>.onnx in the folder of models), overwrite (a model
            of that name), folder (of the training: it goes on there; by default beside the output).
        context: surroundings; `memory_mb` bounds what is kept of the rasters.

    Returns:
        output, curve (paths), steps, minutes, first and last loss, the encoder's identity.

    Raises:
        UserError: no PyTorch, an unknown system, a name that is taken, nothing that the system
            can read.
    """
    pretrain = training()
    output = destination(f"my-{params['system']}", params)
    minutes, steps = params.get("minutes"), params.get("steps")
    try:
        system = pretrain.small(str(params["system"]))
        recipe = replace(system.RECIPE, steps=int(steps)) if steps else system.RECIPE
        sources = [_user_source(paths, context) for paths in _places(params["input"])]
        folder = Path(params.get("folder") or output.with_suffix(TRAINING))
        context.log(f"The training is kept in {folder}; the same run goes on from there")
        with Windows(sources, system.card(), context.memory_mb / 2) as windows:
            for name, lines in windows.left_out.items():
                context.warn(f"{name} was left out. {' '.join(lines)}")
            trained = pretrain.train(
                system, windows, folder, seed=int(params.get("seed") or 0),
                minutes=float(minutes) if minutes else None, recipe=recipe,
                device=context.device, watch=_with_time_left(context.part(0, 0.95)))
            context.progress(0.95, "Writing the encoder")
            sets = [s.described for s in windows.sources]
            card = pretrain.export(system, trained.objective.encoder, windows, sets, output,
                                   results=[trained.said])
    except ValueError as failure:
        raise UserError(str(failure)) from failure
    first, last = trained.curve.ends()
    context.log(f"{card.identity}: {trained.steps} steps in {trained.minutes:.1f} min, loss "
                f"{first:.3g} to {last:.3g}")
    return {"output": str(output), "curve": str(folder / "curve.csv"), "steps": trained.steps,
            "minutes": trained.minutes, "first_loss": first, "last_loss": last,
            "encoder": card.identity}


def training() -> Any:
    """The module with the training loop; it needs PyTorch, which the engine itself does not."""
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "Training an encoder needs PyTorch, which the engine lacks. Choose Plugins > "
            "Earthprint > Set Up Environment…, tick Import official weights and press Install.")
    return importlib.import_module("earthprint.models.training.pretrain")


def _places(given: Sequence[str]) -> list[list[Path]]:
    """Paths that belong together: each stack or folder alone, all single rasters as one."""
    paths = [Path(p) for p in given]
    single = [p for p in paths if not p.is_dir() and p.suffix.lower() != ".json"]
    return [[p] for p in paths if p not in single] + ([single] if single else [])


def _user_source(paths: list[Path], context: JobContext) -> Source:
    first = paths[0] if len(paths) == 1 else paths[0].resolve().parent
    described = TrainingSet(first.stem.removesuffix(".stack"), "that of the user's rasters",
                            first.name)
    return Source(open_input(paths, context), described)


def _with_time_left(context: JobContext) -> Callable[[float, str], None]:
    """A watch that adds the time left to each line, from the pace of this call."""
    begun: list[tuple[float, float]] = []

    def watch(fraction: float, text: str) -> None:
        now = time.monotonic()
        if not begun:
            begun.append((fraction, now))
        done, spent = fraction - begun[0][0], now - begun[0][1]
        left = f", {_duration(spent * (1 - fraction) / done)} left" if done > 0 else ""
        context.progress(fraction, f"Training {100 * fraction:.0f} %, {text}{left}")

    return watch


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
