"""TESSERA for ONNX with any number of observations.

The hand-written GRU of v1.0 QAT and v1.1 is a Python loop, which tracing would unroll for one
length. ONNX's own GRU computes the same with its reset gate before the matrix and the update gate
mirrored:
(1 - z) h + z n = z' h + (1 - z') n with z' = 1 - z = sigmoid(-a) where z = sigmoid(a).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..training.export import Exportable
from .network import GRUCell, GRUCellPooling, Tessera, TesseraConfig


class _OnnxGRU(torch.autograd.Function):
    """The operator GRU of ONNX, inference only; gates in its order z, r, h."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, matrices: Tensor, recurrences: Tensor, biases: Tensor
    ) -> Tensor:
        """x (T, B, d), matrices and recurrences (1, 3d, d), biases (1, 6d) to (T, 1, B, d)."""
        wz, wr, wh = (x @ w.T for w in matrices[0].chunk(3))
        rz, rr, rh = (r.T for r in recurrences[0].chunk(3))
        bz, br, bh, *_ = biases[0].chunk(6)
        state = torch.zeros_like(x[0])
        states = []
        for t in range(len(x)):
            z = torch.sigmoid(wz[t] + state @ rz + bz)
            r = torch.sigmoid(wr[t] + state @ rr + br)
            new = torch.tanh(wh[t] + (r * state) @ rh + bh)
            state = z * state + (1 - z) * new
            states.append(state)
        return torch.stack(states).unsqueeze(1)

    @staticmethod
    def symbolic(g: Any, x: Any, matrices: Any, recurrences: Any, biases: Any) -> Any:
        """The node that the exporter writes."""
        width = recurrences.type().sizes()[-1]
        node = g.op("GRU", x, matrices, recurrences, biases, hidden_size_i=width)
        return node.setType(x.type().with_sizes([None, 1, None, width]))


class ExportableGRUCell(nn.Module):
    """A `GRUCell` as one operator of ONNX."""

    def __init__(self, cell: GRUCell):
        super().__init__()
        matrices = torch.cat([-cell.W_iz.weight, cell.W_ir.weight, cell.W_ih.weight])
        recurrences = torch.cat([-cell.W_hz.weight, cell.W_hr.weight, cell.W_hh.weight])
        biases = torch.cat([-cell.b_z, cell.b_r, cell.b_h])
        self.register_buffer("matrices", matrices.detach()[None])
        self.register_buffer("recurrences", recurrences.detach()[None])
        self.register_buffer("biases", torch.cat([biases, torch.zeros_like(biases)]).detach()[None])

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to the states (B, T, d)."""
        states = _OnnxGRU.apply(x.transpose(0, 1), self.matrices, self.recurrences, self.biases)
        return states.squeeze(1).transpose(0, 1)


def onnx_ready(network: Tessera) -> Tessera:
    """A copy in evaluation mode that `torch.onnx.export(..., dynamo=False)` keeps free of T."""
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, GRUCellPooling):
            cells = module.temporal_context
            cells["gru_cell"] = ExportableGRUCell(cells["gru_cell"])
    return network


class Features(nn.Module):
    """The embedding as far as the authors use it: of v1.1 the first 128 of 192 numbers."""

    def __init__(self, network: Tessera, used: int):
        super().__init__()
        self.network = onnx_ready(network)
        self.used = used

    def forward(self, s2: Tensor, s1: Tensor) -> Tensor:
        """s2 (n, T2, 11) and s1 (n, T1, 3) to (n, used)."""
        return self.network(s2, s1)[:, : self.used]


def used_dimensions(config: TesseraConfig) -> int:
    """How many numbers of an embedding the authors use."""
    return min(config.dimensions, 128) if config.variant == "v1.1" else config.dimensions


def exportable(network: Tessera, config: TesseraConfig) -> Exportable:
    """The network with the adapter's inputs, any number of pixels and of observations."""
    generator = torch.Generator().manual_seed(0)

    def sequence(n: int, length: int, bands: int) -> Tensor:
        days = torch.randint(1, 367, (n, length, 1), generator=generator)
        return torch.cat([torch.randn(n, length, bands, generator=generator), days], dim=-1)

    sizes = ((3, 16, 24), (1, 1, 8), (5, 24, 1), (2, 40, 40), (2, 64, 128))
    return Exportable(
        Features(network, used_dimensions(config)).eval(),
        {"s2": {0: "pixels", 1: "s2_dates"}, "s1": {0: "pixels", 1: "s1_dates"}},
        tuple((sequence(n, t2, 10), sequence(n, t1, 2)) for n, t2, t1 in sizes),
    )
