"""TESSERA v1.0 QAT and v1.1 for ONNX with any number of observations.

Their hand-written GRU is a Python loop, which tracing would unroll for one length. ONNX's own GRU
computes the same with its reset gate before the matrix and the update gate mirrored:
(1 - z) h + z n = z' h + (1 - z') n with z' = 1 - z = sigmoid(-a) where z = sigmoid(a).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .network import GRUCell, GRUCellPooling, Tessera


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


def exportable(network: Tessera) -> Tessera:
    """A copy in evaluation mode that `torch.onnx.export(..., dynamo=False)` keeps free of T."""
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, GRUCellPooling):
            cells = module.temporal_context
            cells["gru_cell"] = ExportableGRUCell(cells["gru_cell"])
    return network
