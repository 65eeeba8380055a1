"""Official SkySense and SkySense++ weights: from a file's content to a configuration and tensors.

The releases are one file a part (`skysense_model_backbone_s2.pth` ...) or one for all; a file may
nest its tensors, put `module.` or `backbone.` before their names, call the HR branch `backbone_gep`
and store attention as `Wqkv`. Here all parts get the names of SkySense++'s combined file. Buffers
that are rebuilt, heads of pretraining and of tasks, and v1's mask token are left behind.

Several files of parts are put together by `join`, since the fusion is of no use by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..weights import compare
from .card import card_of
from .completion import CompletionConfig
from .decoder import DecoderConfig
from .fusion import LARGE, FusionConfig
from .labels import LabelConfig
from .network import USES, Config, SkySense
from .plusplus import PlusConfig, SkySensePlusPlus
from .sentinel import LARGE_S2, ViTConfig
from .swin import HUGE, SwinConfig

__all__ = ["build", "card_of", "family", "is_plus", "join", "recognise", "uses"]

NESTINGS = ("model", "state_dict")
_PARTS = ("backbone_hr", "backbone_s2", "backbone_s1", "head_s2", "head_s1", "fusion", "ctpe",
          "modality_vae", "head_rec_hr")  # fmt: skip
_LEFT_BEHIND = ("head_gep.", "head_hr.", "decode_head.", "auxiliary_head.")  # of other tasks
_REBUILT = ("relative_coords_table", "relative_position_index", "num_batches_tracked")
_HEAD_WIDTH = 64  # of the transformers in all official sizes; tensors do not show it
_HR_MERGE, _VIT_MERGE = 2, 4  # official merging of labels; tensors do not show it
_PLUS_EPS = 1e-6


def recognise(content: Mapping[str, Any]) -> tuple[Config, dict[str, Tensor]]:
    """Say which SkySense a checkpoint holds and return its tensors.

    Args:
        content: of a file, read without arbitrary unpickling, or what `join` gives.

    Returns:
        The configuration, used for what its parts allow (`uses` lists the alternatives), and a
        state dict that `build(configuration)` loads strictly.

    Raises:
        ValueError: if it is no SkySense, a part of no use by itself, or naming the tensors that are
            missing, unknown or of the wrong shape.
    """
    state = _renamed(content)
    plus = is_plus(state)
    if not plus:
        state = {n: t for n, t in state.items() if n != "backbone_hr.mask_token"}
    if not any(n.startswith("fusion.") for n in state):
        state.pop("ctpe", None)
    if not any(n.startswith("backbone_") for n in state):
        raise ValueError("these are an up-head or the fusion of SkySense, which need a branch's "
                         "features: import them together with the branches' files")
    config = (_measure_plus if plus else _measure)(state)
    _check(state, config)
    return config, state


def join(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """The content of several files of parts as one, for `recognise`.

    Args:
        files: name to content. An up-head's name must say its sensor: "s2" or "s1".

    Raises:
        ValueError: an up-head of an unknown sensor, or a part that two files hold.
    """
    joined: dict[str, Tensor] = {}
    for name, content in files.items():
        sensor = re.search(r"s[12]", name.lower())
        for key, tensor in _renamed(content, sensor[0] if sensor else None).items():
            if key in joined and key != "ctpe":  # which more than one official file holds
                raise ValueError(f"{name} holds a part of SkySense that another file holds too, "
                                 f"with {key}")
            joined[key] = tensor
    return joined


def build(config: Config) -> SkySense | SkySensePlusPlus:
    """The network of a configuration, with random weights."""
    return (SkySensePlusPlus if isinstance(config, PlusConfig) else SkySense)(config)


def uses(config: Config) -> tuple[str, ...]:
    """All uses that the parts of a configuration allow; `dataclasses.replace(..., use=...)`."""
    found = []
    for use in USES:
        try:
            replace(config, use=use)
        except ValueError:
            continue
        found.append(use)
    return tuple(found)


def is_plus(names: Mapping[str, Any]) -> bool:
    """Whether tensors of these names are of SkySense++."""
    marks = ("vocabulary_token", "modality_vae.", "head_rec_hr.")
    return any(mark in name for name in names for mark in marks)


def family(content: Mapping[str, Any]) -> str:
    """What a file of the SkySense family is, for those who must refuse it; "" if it is none."""
    names = [str(n) for key in NESTINGS if isinstance(content.get(key), Mapping)
             for n in content[key]] or [str(n) for n in content]
    joined = "\n".join(names)
    title = "SkySense++" if is_plus(dict.fromkeys(names)) else "SkySense"
    if re.search(r"modality_vae\.|head_rec_hr\.|backbone_(hr|gep|s2|s1)\.", joined):
        return f"several parts of {title}"
    if re.search(r"stages\.\d+\.blocks\.\d+\.attn\.w_msa\.", joined):
        return f"the high-resolution branch of {title}"
    if "porj_linear." in joined:
        return "the fusion of SkySense"
    if re.search(r"layers\.\d+\.ln1\.", joined):
        return f"a Sentinel branch of {title}"
    if "decoder.0.weight" in names:
        return "an up-head of SkySense"
    return ""


# --- names ----------------------------------------------------------------------------------------


def _renamed(content: Mapping[str, Any], sensor: str | None = None) -> dict[str, Tensor]:
    """The tensors under the names of the combined file, without those of no use."""
    nested = next((content[k] for k in NESTINGS if isinstance(content.get(k), Mapping)), content)
    tensors = {str(n): t for n, t in nested.items() if isinstance(t, Tensor)}
    tensors = {n.removeprefix("module.").replace(".Wqkv.", ".in_proj_"): t
               for n, t in tensors.items()}
    if not any(family({n: None}) for n in tensors):
        raise ValueError("no SkySense checkpoint: none of its tensors is called like one of its "
                         "branches, up-heads or its fusion")
    _refuse_relatives(tensors)
    tensors = {n: t for n, t in tensors.items()
               if not n.endswith(_REBUILT) and not n.startswith(_LEFT_BEHIND)}
    tensors = {n.replace("backbone_gep.", "backbone_hr.", 1): t for n, t in tensors.items()}
    if any(n.startswith(("backbone_hr.", "backbone_s2.", "backbone_s1.")) for n in tensors):
        return tensors
    tensors = {n.removeprefix("backbone."): t for n, t in tensors.items()}
    if all(n.split(".")[0] in _PARTS for n in tensors):
        return tensors
    part = _part(tensors, sensor)
    return {n if n == "ctpe" else f"{part}.{n}": t for n, t in tensors.items()}


def _part(tensors: Mapping[str, Tensor], sensor: str | None) -> str:
    """Which part a file of a single part holds."""
    if any(n.startswith("stages.") for n in tensors):
        return "backbone_hr"
    if "porj_linear.weight" in tensors:
        return "fusion"
    if "decoder.0.weight" in tensors:
        if sensor is None:
            raise ValueError("this is an up-head of SkySense, and its tensors do not say of which "
                             "sensor: name its file with s2 or s1")
        return f"head_{sensor}"
    kernel = _tensor(tensors, "patch_embed.projection.weight")
    return "backbone_s1" if kernel.shape[1] == 2 else "backbone_s2"


def _refuse_relatives(tensors: Mapping[str, Tensor]) -> None:
    """Stop at SkySense-O, whose last stage has windows of 16."""
    for name, tensor in tensors.items():
        if name.endswith("relative_coords_table") and tensor.shape[1] != 2 * HUGE.windows[0] - 1:
            raise ValueError("this is SkySense-O (windows of another size in its last stage), an "
                             "open-vocabulary model that is not supported: use SkySense's own "
                             "files")


# --- sizes ----------------------------------------------------------------------------------------


def _tensor(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"not complete weights of SkySense: missing {name}")
    return tensors[name]


def _inside(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def _count(names: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the highest number that the pattern finds."""
    return 1 + max((int(m[1]) for n in names if (m := re.match(pattern, n))), default=-1)


def _measure_swin(part: Mapping[str, Tensor]) -> SwinConfig:
    width, channels, patch, _ = _tensor(part, "patch_embed.projection.weight").shape
    outputs = tuple(i for i in range(4) if f"norm{i}.weight" in part) or (3,)
    if width == HUGE.width:  # a lost block must not look like a smaller size
        return replace(HUGE, channels=channels, outputs=outputs)
    depths = tuple(_count(part, rf"stages\.{i}\.blocks\.(\d+)\.") for i in range(4))
    heads = tuple(
        len(_tensor(part, f"stages.{i}.blocks.0.attn.w_msa.logit_scale")) for i in range(4)
    )
    extra = [int(m[1]) + 1 for n in part if (m := re.search(r"blocks\.(\d+)\.norm3\.", n))]
    return SwinConfig(channels, width, depths, heads, extra_norm=min(extra, default=0),
                      outputs=outputs, patch=patch)


def _measure_vit(part: Mapping[str, Tensor], plus: bool) -> ViTConfig:
    width, channels, patch, _ = _tensor(part, "patch_embed.projection.weight").shape
    rows = _tensor(part, "pos_embed").shape[1]
    hidden = _tensor(part, "layers.0.ffn.layers.0.0.weight").shape[0]
    official = width == LARGE_S2.width
    layers = LARGE_S2.layers if official else _count(part, r"layers\.(\d+)\.")
    return ViTConfig(
        channels, width, layers, max(width // _HEAD_WIDTH, 1), hidden / width, patch, rows,
        patch_bias="patch_embed.projection.bias" in part,
        final_norm="ln1.weight" in part,
        eps=_PLUS_EPS if plus or rows != LARGE_S2.rows else LARGE_S2.eps,
        outputs=(layers - 1,),
    )  # fmt: skip


def _measure_fusion(part: Mapping[str, Tensor]) -> FusionConfig:
    width, inputs = _tensor(part, "porj_linear.weight").shape
    hidden = _tensor(part, "layers.0.ffn.layers.0.0.weight").shape[0]
    layers = LARGE.layers if width == LARGE.width else _count(part, r"layers\.(\d+)\.")
    return FusionConfig(inputs, width, layers, max(width // _HEAD_WIDTH, 1), hidden / width)


def _measure_parts(state: Mapping[str, Tensor], plus: bool) -> dict[str, Any]:
    """Sizes of the parts that SkySense and SkySense++ share."""
    found: dict[str, Any] = {}
    if part := _inside(state, "backbone_hr"):
        found["hr"] = _measure_swin(part)
    for sensor in ("s2", "s1"):
        if part := _inside(state, f"backbone_{sensor}"):
            found[sensor] = _measure_vit(part, plus)
    if part := _inside(state, "fusion"):
        found["fusion"] = _measure_fusion(part)
        found["dates"] = "ctpe" in state
    return found


def _use(parts: Mapping[str, Any], order: tuple[str, ...]) -> str:
    for use in order:
        if all(part in parts for part in use.split("+")) and ("+" not in use or "fusion" in parts):
            return use
    raise ValueError("not complete weights of SkySense: missing all branches")


def _measure(state: Mapping[str, Tensor]) -> Config:
    parts = _measure_parts(state, plus=False)
    return Config(_use(parts, ("s2+s1", "s2", "s1", "hr")), **parts)


def _measure_plus(state: Mapping[str, Tensor]) -> PlusConfig:
    parts = _measure_parts(state, plus=True)
    for kind, merge, branches in (("hr_labels", _HR_MERGE, ("hr",)),
                                  ("vit_labels", _VIT_MERGE, ("s2", "s1"))):
        for branch in branches:
            if branch not in parts:
                continue
            part = _inside(state, f"backbone_{branch}")
            words = len(_tensor(part, "vocabulary_token")) - 1
            names = [f"attn{i}.proj_in.weight" for i in (1, 2, 3)]
            widths = tuple(len(part[n]) for n in names if n in part)
            parts[kind] = LabelConfig(words, merge, widths)
            break
    if part := _inside(state, "modality_vae"):
        codes, code_width = _tensor(part, "vae_hr.codebook.weight").shape
        width, channels = _tensor(part, "vae_hr.conv1.weight").shape[:2]
        parts["completion"] = CompletionConfig(channels, width, code_width, codes)
    if part := _inside(state, "head_rec_hr"):
        fine = [_tensor(part, f"lateral_convs.{i}.conv.weight").shape[1] for i in range(4)]
        channels, coarse = _tensor(part, "psp_modules.0.1.conv.weight").shape[:2]
        classes = len(_tensor(part, "conv_seg.weight"))
        parts["decoder"] = DecoderConfig((*fine, coarse), classes, channels)
    order = ("hr+s2+s1", "s2", "s1", "hr")
    return PlusConfig(_use(parts, order), **parts)


def _check(state: Mapping[str, Tensor], config: Config) -> None:
    """Compare a state dict with what a configuration needs."""
    with torch.device("meta"):
        wanted = {n: tuple(t.shape) for n, t in build(config).state_dict().items()
                  if not n.endswith(_REBUILT)}
    title = "SkySense++" if isinstance(config, PlusConfig) else "SkySense"
    compare(title, state, wanted)
