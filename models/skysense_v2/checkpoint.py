"""SkySense V2 has no official weights: own ones are recognised, its relatives' refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..cards import Card, SensorBands
from ..skysense.adapter import LAYOUTS
from ..skysense.checkpoint import family
from ..skysense.fusion import FusionConfig
from ..weights import compare
from .network import CHANNELS, PATCH, STAGES, Config, build

__all__ = ["build", "card_of", "recognise"]

NESTINGS = ("model", "state_dict")
_REBUILT = ("relative_coords_table", "relative_position_index")
_FUSION_HEAD = 64
_SENTINEL_WINDOW, _PICTURE_WINDOW = 64, 512
_UNITS = {"hr": "0..1", "s2": "reflectance 0..1", "s1": "dB"}


def recognise(content: Mapping[str, Any]) -> tuple[Config, dict[str, Tensor]]:
    """The configuration and tensors of a SkySense V2 of this program.

    Args:
        content: of a file, read without arbitrary unpickling.

    Raises:
        ValueError: if it is another SkySense, which is named, or no SkySense V2, or naming the
            tensors that are missing, unknown or of the wrong shape.
    """
    nested = next((content[k] for k in NESTINGS if isinstance(content.get(k), Mapping)), content)
    state = {str(n).removeprefix("module."): t for n, t in nested.items() if isinstance(t, Tensor)}
    if not any(n.startswith("tokenizer.") for n in state):
        if other := family(content):
            raise ValueError(f"this is {other}, not SkySense V2: choose SkySense as its system")
        raise ValueError("no SkySense V2 checkpoint: none of its tensors is called tokenizer.*. "
                         "The authors have published no weights; only those trained by this "
                         "program can be imported")
    state = {n: t for n, t in state.items() if not n.endswith(_REBUILT)}
    config = _measure(state)
    _check(state, config)
    return config, state


def _tensor(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise ValueError(f"not complete weights of SkySense V2: missing {name}")
    return state[name]


def _measure(state: Mapping[str, Tensor]) -> Config:
    """Read the sizes off the tensors."""
    width = len(_tensor(state, "tokenizer.hr.projection.weight"))
    found: list[set[int]] = [set() for _ in range(STAGES)]
    for name in state:
        if match := re.match(r"stages\.(\d)\.blocks\.(\d+)\.", name):
            found[int(match[1])].add(int(match[2]))
    blocks = tuple(max(numbers, default=-1) + 1 for numbers in found)
    heads = len(_tensor(state, "stages.0.blocks.0.attn.w_msa.logit_scale"))
    block = "stages.2.blocks.0."
    inside = "moe.experts.0." if f"{block}moe.gate.weight" in state else "ffn."
    hidden = len(_tensor(state, f"{block}{inside}layers.0.0.bias"))
    gates = {n.removesuffix(".gate.weight"): len(t) for n, t in state.items()
             if n.endswith(".moe.gate.weight")}
    fusion = None
    if "fusion.porj_linear.weight" in state:
        out, inputs = state["fusion.porj_linear.weight"].shape
        layers = 1 + max(int(m[1]) for n in state if (m := re.match(r"fusion\.layers\.(\d+)\.", n)))
        inner = len(_tensor(state, "fusion.layers.0.ffn.layers.0.0.bias"))
        fusion = FusionConfig(inputs, out, layers, max(out // _FUSION_HEAD, 1), inner / out)
    return Config(
        "s2+s1" if fusion else "s2", width, blocks, width // heads, ratio=hidden // (4 * width),
        prompts=len(_tensor(state, "prompt.s2.2")),
        experts=max(gates.values(), default=0),
        expert_blocks=len(gates) or Config.expert_blocks,
        fusion=fusion,
        dates="ctpe" in state if fusion else True,
    )  # fmt: skip


def _check(state: Mapping[str, Tensor], config: Config) -> None:
    with torch.device("meta"):
        wanted = {n: tuple(t.shape) for n, t in build(config).state_dict().items()}
    compare("SkySense V2", state, wanted)



def card_of(config: Config) -> Card:
    """The card of an encoder of this program; whoever trained it fills in data and results.

    Raises:
        ValueError: sensors cannot be fused at the picture's stride.
    """
    branches = config.use.split("+")
    picture = "hr" in branches
    if picture and len(branches) > 1 and config.stride != 32:
        raise ValueError("pictures are fused with Sentinel only at a stride of 32: leave `reduce` "
                         "as it is")
    window = _PICTURE_WINDOW if picture else _SENTINEL_WINDOW
    patch = config.stride if picture else PATCH
    return Card(
        name=f"skysense-v2-{config.use.replace('+', '-')}",
        version="1.0",
        system="skysense_v2",
        paper="After SkySense V2: A Unified Foundation Model for Multi-modal Remote Sensing, ICCV "
        "2025, arXiv 2507.13812; built from summaries of the paper, not the authors' weights.",
        licence_code="GPL-3.0-or-later",
        licence_weights="GPL-3.0-or-later",
        sensors=tuple(_entry(s, b, config) for b in branches for s in LAYOUTS[b].sensors),
        observations="Up to 20 dates of Sentinel-2 and 10 of Sentinel-1; of more, the clearest of "
        "each twentieth (tenth) of the series. One date works. One picture.",
        unit="patch",
        patch=patch,
        ground_size_m=0.3 if picture else 10.0,
        dimensions=config.dimensions,
        prefixes=(),
        normalisation="Each band standardised by SkySense++'s constants (our reading: V2 states "
        "none). Output: "
        + ("the class token of the fusion." if len(branches) > 1 else
           "the last stage, mean over the dates on which a patch is seen."),
        missing_input="Pixels without data are 0 before standardisation; dates and sensors without "
        "data are left out of the fusion. Scenes without a date count as of 1 July.",
        training_data=(),
        results=(),
        limits=(
            "The authors published no code and no weights. Stated in summaries of their paper: one "
            "backbone for three sensors, stages of windowed and global attention, adaptive patch "
            "merging, prompts, experts, the objectives. Our reading: norms, positions, how merging "
            "weights are averaged, the fusion, the normalisation of inputs.",
            "Parameters stated for backbone, prompts and fusion exceed those here by about 6.7, "
            "9.9 and 41 million at full size.",
            "Pictures are meant to be of 0.3 m, Sentinel of 10 m.",
        ),
        window=window,
        margin=window // patch // 8,
        variant=config.use,
    )


def _entry(sensor: str, branch: str, config: Config) -> SensorBands:
    layout = LAYOUTS[branch]
    return SensorBands(
        sensor, layout.bands[: CHANNELS[branch]], _UNITS[branch],
        optional=config.use != branch or len(layout.sensors) > 1,
        note="All these bands or none of the sensor."
        + (" One of aerial and optical is needed." if branch == "hr" else ""),
        most=layout.most,
    )  # fmt: skip
