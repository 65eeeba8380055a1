"""Weights of bundled encoders as float16 numbers in the file, computed with as float32.

The network's numbers are rounded before it is exported and checked, so the smaller file computes
exactly the same; ONNX Runtime turns them back once, when it opens the file.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from ..cards import Card, write_card

_LEAST = 256  # numbers of a tensor for which it pays


def rounded(module: nn.Module) -> nn.Module:
    """The module with all larger tensors rounded to what float16 can hold, in place."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.dtype == torch.float32 and tensor.numel() >= _LEAST:
                tensor.copy_(tensor.half().float())
    return module


def halve(path: Path, card: Card) -> Card:
    """Store the file's tensors that float16 holds exactly as such; the card with the new hash."""
    model = onnx.load(str(path))
    graph, kept, casts = model.graph, [], []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= _LEAST:
            with np.errstate(over="ignore"):
                half = values.astype(np.float16)
            if np.array_equal(half.astype(np.float32), values):
                name = f"{tensor.name}.half"
                kept.append(onnx.numpy_helper.from_array(half, name))
                casts.append(onnx.helper.make_node(
                    "Cast", [name], [tensor.name], name=f"{name}.cast", to=onnx.TensorProto.FLOAT))
                continue
        kept.append(tensor)
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    part = path.with_suffix(".half.onnx")
    try:
        onnx.save(model, str(part))
        card = write_card(part, card)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return card
