"""Features of the official teachers, Presto and Galileo nano, for monthly series of pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..fast.adapter import SLOTS
from ..galileo import adapter as galileo_adapter
from ..galileo import network as galileo_network
from ..presto import adapter as presto_adapter
from ..presto import network as presto_network
from . import datasets

Teacher = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (n, T, 13), (n, T) to (n, 128)
_BATCH = 128


def _in_batches(run: Callable[[np.ndarray, np.ndarray], torch.Tensor]) -> Teacher:
    """Pixels with equally many tokens go together, which spares most of the padding."""

    def features(values: np.ndarray, month: np.ndarray) -> np.ndarray:
        visible = np.isfinite(values[:, :, [slots[0] for slots in SLOTS]]).sum(axis=(1, 2))
        order = np.argsort(visible, kind="stable")
        out = np.empty((len(values), 128), np.float32)
        with torch.inference_mode():
            for rows in np.array_split(order, max(1, len(order) // _BATCH)):
                out[rows] = run(values[rows], month[rows]).float().numpy()
        return out

    return features


def _tensors(inputs: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Arrays as tensors."""
    return {name: torch.from_numpy(array) for name, array in inputs.items()}


def presto(encoder: presto_network.Encoder | None = None) -> Teacher:
    """Presto without weather and with a fixed location; `encoder` replaces the official one."""
    path = datasets.shared() / "checkpoints" / "presto" / "default_model.pt"
    encoder = encoder or presto_network.load(path)

    def run(values: np.ndarray, month: np.ndarray) -> torch.Tensor:
        return encoder(**_tensors(presto_adapter.inputs(values, month)))

    return _in_batches(run)


def random_presto(seed: int) -> Teacher:
    """Presto's architecture with a random start: the control of every comparison."""
    torch.manual_seed(seed)
    encoder = presto_network.Encoder()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)
            torch.nn.init.zeros_(module.bias)
    return presto(encoder.eval())


def galileo() -> Teacher:
    """Galileo nano without weather, maps and location."""
    encoder = galileo_network.load(datasets.shared() / "checkpoints" / "galileo" / "nano")

    def run(values: np.ndarray, month: np.ndarray) -> torch.Tensor:
        given = _tensors(galileo_adapter.inputs(values, month))
        masks = galileo_network.Tokens(
            given["s_t_mask"], given["sp_mask"], given["t_mask"], given["st_mask"]
        )
        tokens, visible = encoder(
            given["s_t"], given["sp"], given["t"], given["st"], masks, given["months"]
        )
        return galileo_network.average(tokens, visible)

    return _in_batches(run)


def month_means(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half-monthly rows (n, 24, 13) as calendar months (n, 12, 13), and the months (n, 12)."""
    halves = rows.reshape(len(rows), 12, 2, -1)
    seen = np.isfinite(halves).sum(axis=2)
    with np.errstate(invalid="ignore"):
        means = np.where(seen > 0, np.nansum(halves, axis=2) / np.where(seen > 0, seen, 1), np.nan)
    return means.astype(np.float32), np.tile(np.arange(12), (len(rows), 1))
