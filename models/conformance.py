"""Compare the networks with golden vectors: python -m earthprint.models.conformance FOLDER...

A FOLDER is one case, the folder of a system, or the root of several; a case is a folder with
config.json, inputs.safetensors, outputs.safetensors and weights.safetensors (or a config that names
a checkpoint under EARTHPRINT_SHARED, or no weights at all). The nearest folder above a case that
has the name of a system, or else `system` in its config, says which module runs it:
`models/<system>/conformance.py` with

    run_case(case: Case) -> dict[str, Answer]      an answer for every name in case.outputs
    full_size(name: str, wanted: Shapes) -> Shapes  tensors of an official size, on the meta device

`keys_<name>.json` beside the cases lists names and shapes of the tensors of a full-size network.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors

Shapes = dict[str, tuple[int, ...]]
REPOSITORY = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """The folder of reference material: EARTHPRINT_SHARED, by default `../shared`."""
    return Path(os.environ.get("EARTHPRINT_SHARED", REPOSITORY.parent / "shared"))


# --- what a runner gets and gives -----------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One golden case, read from its folder."""

    name: str
    config: dict[str, Any]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]  # the reference's; a runner may look up shapes, not values
    weights: dict[str, Any]  # of weights.safetensors or of the checkpoint; empty without


@dataclass(frozen=True)
class Answer:
    """A computed output, and how near it must be: |x - y| <= absolute + relative * |y|.

    `absolute` may be an array, where single values have leave to differ. NaN equals NaN.
    """

    values: np.ndarray
    absolute: float | np.ndarray = 0.0
    relative: float = 0.0


def load_case(folder: Path) -> Case:
    """Read a case.

    Raises:
        ValueError: if its named checkpoint is absent or not the expected file.
    """
    config = json.loads((folder / "config.json").read_text())
    weights: dict[str, Any] = {}
    if (folder / "weights.safetensors").is_file():
        weights = load_tensors(folder / "weights.safetensors")
    elif "checkpoint" in config:
        weights = load_checkpoint(config["checkpoint"], config.get("checkpoint_sha256"))
    return Case(
        name=folder.name,
        config=config,
        inputs=_arrays(folder / "inputs.safetensors"),
        outputs=_arrays(folder / "outputs.safetensors"),
        weights=weights,
    )


def load_checkpoint(name: str, sha256: str | None = None) -> dict[str, Any]:
    """Read a checkpoint named relative to the shared folder, without arbitrary unpickling.

    Raises:
        ValueError: if it is absent, or not the file with the given hash.
    """
    path = shared_folder() / name
    if not path.is_file():
        raise ValueError(f"checkpoint {name} not found in {shared_folder()}; set EARTHPRINT_SHARED")
    if sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ValueError(f"checkpoint {name} in {shared_folder()} is not the file of this case")
    return torch.load(path, map_location="cpu", weights_only=True)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    return load_file(path) if path.is_file() else {}


# --- comparison -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """How far a computed tensor is from the reference."""

    name: str
    absolute: float
    relative: float  # of the reference's largest absolute value
    fault: str  # empty if it is near enough


def compare(name: str, answer: Answer | None, reference: np.ndarray) -> Difference:
    """Compare one tensor by value; a single number may be a scalar or of shape (1,)."""
    if answer is None:
        return Difference(name, np.inf, np.inf, "not computed")
    values = np.asarray(answer.values)
    if values.size == reference.size == 1:
        values = values.reshape(reference.shape)
    if values.shape != reference.shape:
        fault = f"shape {values.shape} instead of {reference.shape}"
        return Difference(name, np.inf, np.inf, fault)
    got, want = values.astype(np.float64), reference.astype(np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(got - want))
    apart = np.where(np.isnan(apart), np.inf, apart)
    scale = np.abs(want[np.isfinite(want)]).max(initial=0.0)
    largest = float(apart.max(initial=0.0))
    relative = largest / scale if scale > 0 else largest
    with np.errstate(invalid="ignore"):
        far = apart > answer.absolute + answer.relative * np.where(same, 0.0, np.abs(want))
    fault = f"{int(far.sum())} of {far.size} values differ" if far.any() else ""
    return Difference(name, largest, relative, fault)


# --- finding and running --------------------------------------------------------------------------


def find(folder: Path) -> Iterator[Path]:
    """Case folders and key lists at or below a folder (or a key list itself), in order of name.

    Raises:
        ValueError: if there are none.
    """
    if folder.is_file() and folder.match("keys_*.json"):
        yield folder
        return
    outputs = (config.with_name("outputs.safetensors") for config in folder.rglob("config.json"))
    cases = [path.parent for path in outputs if path.is_file()]
    found = sorted([*cases, *folder.rglob("keys_*.json")])
    if not found:
        raise ValueError(f"no golden case (config.json with outputs.safetensors) in {folder}")
    yield from found


def runner_of(path: Path) -> tuple[str, ModuleType | None]:
    """System of a case or key list, and its module; None if the system has no runner."""
    systems = [parent.name for parent in path.resolve().parents]
    if path.is_dir():
        systems.append(str(json.loads((path / "config.json").read_text()).get("system", "")))
    for system in systems:
        module = f"earthprint.models.{system}.conformance"
        if system.isidentifier() and _exists(module):
            return system, importlib.import_module(module)
    return systems[0], None


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package is absent
        return False


def check_case(path: Path, runner: ModuleType) -> tuple[bool, str]:
    """Run a case: whether it passes, and what to report."""
    case = load_case(path)
    answers = runner.run_case(case)
    differences = [compare(n, answers.get(n), case.outputs[n]) for n in sorted(case.outputs)]
    worst = max(differences, key=lambda d: d.absolute)
    relative = max(d.relative for d in differences)
    faults = [f"{d.name}: {d.fault}" for d in differences if d.fault]
    report = f"{len(differences)} tensors, abs {worst.absolute:.1e}, rel {relative:.1e}"
    return not faults, "; ".join([report, *faults])


def check_keys(path: Path, runner: ModuleType) -> tuple[bool, str]:
    """Compare a key list with the network of that size: whether it passes, and what to report."""
    content = json.loads(path.read_text())
    wanted = {name: tuple(shape) for name, shape in content.get("keys", content).items()}
    given = runner.full_size(path.stem.removeprefix("keys_"), wanted)
    faults = [f"missing {n}" for n in wanted if n not in given]
    faults += [f"unknown {n}" for n in given if n not in wanted]
    faults += [
        f"{n} {given[n]} instead of {wanted[n]}"
        for n in wanted
        if n in given and given[n] != wanted[n]
    ]
    return not faults, "; ".join([f"{len(wanted)} tensors by name and shape", *faults[:6]])


def check(path: Path) -> tuple[bool, str]:
    """Check a case or a key list: whether it passes, and one line about it."""
    system, runner = runner_of(path)
    name = f"{system}/{path.stem if path.is_file() else path.name}"
    start = time.perf_counter()
    if runner is None:
        return False, f"FAIL  {name}  no runner yet for '{system}'"
    try:
        passed, report = (check_keys if path.is_file() else check_case)(path, runner)
    except Exception as error:  # one broken case must not hide the others
        passed, report = False, f"{type(error).__name__}: {' '.join(str(error).split())}"
    seconds = time.perf_counter() - start
    return passed, f"{'pass' if passed else 'FAIL'}  {name}  {report}  ({seconds:.1f} s)"


def main(arguments: list[str] | None = None) -> int:
    """Check everything in the given folders: 0 if all pass, 1 if one fails, 2 if none is found."""
    parser = argparse.ArgumentParser(
        prog="python -m earthprint.models.conformance",
        description="Compare the networks with golden vectors.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    failed = total = 0
    for folder in parser.parse_args(arguments).folders:
        try:
            paths = list(find(folder))
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        for path in paths:
            passed, line = check(path)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            total += 1
            failed += not passed
    sys.stdout.write(f"{total - failed} of {total} pass\n")
    return 1 if failed else 0


if __name__ == "__main__":
    # The runners import this module by its name: run that one, not a second copy of it.
    from .conformance import main as run

    sys.exit(run())
