"""Golden cases of TiMo: every output of the reference, computed by this package."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..conformance import Answer, Case, Shapes
from .network import ATTENTIONS, OFFICIAL, Config, Timo, shapes
from .objective import MASKED, MaskedTimo, choose, targets, units_of
from .segmentation import POOLS, TimoSegmentation

FLOAT = 2e-5  # absolute
ROUNDING = 1e-6  # relative, which counts where values are far from 1
LEFT_OVER = 1000  # classes of the head that the authors' networks keep without use
INSIDE = {"psp_bottleneck": "decoder.bottleneck", "fpn_bottleneck": "decoder.fpn_bottleneck"}


def run_case(case: Case) -> dict[str, Answer]:
    """Compute the outputs of a case, by what its weights are of."""
    if "mask_token" in case.weights:
        return _pretraining(case)
    if "semseghead.1.weight" in case.weights:
        return _segmentation(case)
    return _encoder(case)


def full_size(name: str, wanted: Shapes) -> Shapes:
    """Tensors of an official network: base_segmentation_encoder, large_mae_pretrain, ..."""
    size, _, task = name.partition("_")
    if size not in OFFICIAL:
        raise ValueError(f"no official TiMo is called '{size}'")
    config = OFFICIAL[size].__dict__
    bands = re.search(r"(\d+)ch", task)
    config = {**config, "bands": int(bands[1]) if bands else 3}
    classes = re.search(r"(\d+)classes", task)
    classes = int(classes[1]) if classes else LEFT_OVER
    with torch.device("meta"):
        if task.startswith("classification"):
            return shapes(Timo(Config(**{**config, "classes": classes, "gates_everywhere": True})))
        config["classes"] = LEFT_OVER
        if task.startswith("mae"):
            return shapes(MaskedTimo(Config(**{**config, "attention": ("full",) * 4})))
        if "framework" in task:
            return shapes(TimoSegmentation(Config(**config), classes))
        return shapes(Timo(Config(**config)))


# --- networks -------------------------------------------------------------------------------------


def _config(given: dict[str, Any], weights: dict[str, Tensor], prefix: str = "") -> Config:
    """The configuration that a case describes; what it does not say is read off its weights."""
    positions = {"ts": "time and space", "s": "space"}
    kinds = tuple(ATTENTIONS[kind] for kind in given.get("local", (0, 0, 0, 0)))
    gated = {int(m[1]) for n in weights if (m := re.search(r"block(\d)\..+cheap_operation", n))}
    head = weights.get(f"{prefix}head.weight")
    scale = float(given.get("layerscale_value", 1e-4)) if given.get("use_layerscale") else 0.0
    return Config(
        widths=tuple(given["embed_dims"]),
        heads=tuple(given["sa_num_heads"]),
        depths=tuple(given["depths"]),
        attention=kinds,
        bands=int(given["in_chans"]),
        positions=positions.get(str(given.get("use_pos")), "none"),
        mlp_ratios=tuple(given.get("mlp_ratios", (4, 4, 4, 4))),
        qkv_bias=bool(given.get("qkv_bias", True)),
        stem_kernel=int(given.get("head_conv", 7)),
        layer_scale=scale,
        gates_everywhere=any(kinds[stage - 1] != "differential" for stage in gated),
        classes=0 if head is None else len(head),
        norm_eps=float(given.get("layernorm_eps", 1e-6)),
        embed_norm_eps=float(given.get("stem_and_downsample_layernorm_eps", 1e-5)),
    )


def _watch(network: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """What the named submodules give, filled while the network runs."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: object, output: Any) -> None:
        seen[name] = output[0] if isinstance(output, tuple) else output

    for name in names:
        inside = INSIDE.get(name, name)
        if not inside.startswith("decoder") and hasattr(network, "encoder"):
            inside = f"encoder.{inside}"
        network.get_submodule(inside).register_forward_hook(partial(keep, name))
    return seen


def _middles(case: Case) -> list[str]:
    """Names of submodules whose output the case holds."""
    inside = (n.removeprefix("mid/") for n in case.outputs if n.startswith("mid/"))
    return [name for name in inside if not re.search(r"_first\d+$", name)]


def _answers(case: Case, given: dict[str, Tensor]) -> dict[str, Answer]:
    """Answers with dates and tokens on one axis or two, as the reference has them."""
    answers = {}
    for name, values in given.items():
        wanted = case.outputs.get(name)
        if wanted is not None and wanted.size == values.numel():
            values = values.reshape(wanted.shape)
        answers[name] = Answer(values.numpy(), FLOAT, ROUNDING)
    return answers


@torch.no_grad()
def _encoder(case: Case) -> dict[str, Answer]:
    """Maps of the stages, and scores where there is a head."""
    network = Timo(_config(case.config, case.weights)).eval()
    network.load_state_dict(case.weights, strict=True)
    series = torch.from_numpy(case.inputs["x"])
    seen = _watch(network, _middles(case))
    found = {f"stage{i}": x for i, x in enumerate(network(series), start=1)}
    found |= {f"mid/{name}": x for name, x in seen.items()}
    if network.config.classes:
        found["logits_per_frame"], found["logits_sequence"] = network.classify(series)
    return _answers(case, found)


@torch.no_grad()
def _segmentation(case: Case) -> dict[str, Answer]:
    """Scores of pixels, thinned out as the case has them."""
    network = TimoSegmentation(
        _config(case.config, case.weights, "encoder."),
        classes=len(case.weights["semseghead.1.weight"]),
        channels=int(case.config.get("upernet_channels", 0)),
        pools=tuple(case.config.get("pool_scales", POOLS)),
    ).eval()
    network.load_state_dict(case.weights, strict=True)
    series = torch.from_numpy(case.inputs["x"])
    seen = _watch(network, _middles(case))
    found = {f"stage{i}": x for i, x in enumerate(network.encoder(series), start=1)}
    together, each = network(series), network.each_date(series)
    found |= {f"mid/{name}": x for name, x in seen.items()}
    for name, values in (("logits_max_over_time", together), ("logits_per_frame", each)):
        wanted = case.outputs.get(name)
        step = 1 if wanted is None else values.shape[-1] // wanted.shape[-1]
        found[name] = values[..., ::step, ::step]
    return _answers(case, found)


# --- pretraining ----------------------------------------------------------------------------------


def _series(case: Case) -> Tensor:
    """The images of a case: as they are, or 8-bit ones with every pixel repeated."""
    if "x" in case.inputs:
        return torch.from_numpy(case.inputs["x"])
    small = torch.from_numpy(case.inputs["x_small_u8"].astype(np.float32)) / 255
    times = int(case.config["image_size"]) // small.shape[-1]
    return small.repeat_interleave(times, dim=3).repeat_interleave(times, dim=4)


@torch.no_grad()
def _pretraining(case: Case) -> dict[str, Answer]:
    """Mask, features, restored pixels and the loss, with the noise of the case."""
    given = case.config
    network = MaskedTimo(
        _config(given, case.weights),
        int(given["decoder_embed_dim"]),
        int(given["decoder_depth"]),
        int(given["decoder_heads"]),
    ).eval()
    network.load_state_dict(case.weights, strict=True)
    norms = [f"norm{i}" for i in range(1, 5)]
    seen = _watch(network, {*_middles(case), *norms})
    series = _series(case)
    keep = choose(torch.from_numpy(case.inputs["noise"]), float(given.get("mask_ratio", MASKED)))
    latent = network.encode_visible(series, keep)
    dates, rows = series.shape[1], series.shape[3] // 32
    restored = network.decode(latent, keep, (dates, rows, keep.shape[1] // dates // rows))
    normalise = "batch" if given.get("norm_pix_loss") else "none"
    predicted, label = restored[~keep], targets(units_of(series)[~keep], normalise)
    found = {
        "keep_mask": keep.to(torch.uint8),
        "visible_units": torch.tensor(latent.shape[1]),
        "latent": latent,
        "loss": (predicted - label).square().mean(),
        "pred_mean_abs": predicted.abs().mean(),
    }
    found |= {f"mid/{name}": x for name, x in seen.items()}
    for name in case.outputs:
        if match := re.fullmatch(r"(pred|label)_masked_first(\d+)", name):
            found[name] = (predicted if match[1] == "pred" else label)[: int(match[2])]
        elif match := re.fullmatch(r"mid/stage(\d)_tokens_first(\d+)", name):
            found[name] = seen[f"norm{match[1]}"].flatten(1, 2)[:, : int(match[2])]
    return _answers(case, found)
