"""Official weights beside what a network needs: the checks and sentences of all systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

NAMED = 6  # tensors listed in an error before the rest is only counted


def compare(
    system: str, state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """Compare a state dict with what a network needs.

    Raises:
        ValueError: naming the tensors that are missing, unknown or of the wrong shape.
    """
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    faults = {
        "missing": [name for name in wanted if name not in given],
        "unknown": [name for name in given if name not in wanted],
        "wrong shape": [
            f"{name} {given[name]} instead of {shape}"
            for name, shape in wanted.items()
            if name in given and given[name] != shape
        ],
    }
    if any(faults.values()):
        said = "; ".join(f"{what} {listed(names)}" for what, names in faults.items() if names)
        raise ValueError(f"not complete weights of {system}: {said}")


def with_axes(system: str, state: Mapping[str, Tensor], name: str, axes: int) -> Tensor:
    """A tensor with so many axes; a ValueError says that it is missing or has others."""
    if name not in state:
        raise ValueError(f"not complete weights of {system}: missing {name}")
    if state[name].ndim != axes:
        raise ValueError(f"wrong shape in weights of {system}: {name} {tuple(state[name].shape)}")
    return state[name]


def listed(names: Sequence[str]) -> str:
    """The first names with commas, the rest counted."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
