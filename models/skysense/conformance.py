"""Golden cases of SkySense and SkySense++: every output of the reference, computed here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..conformance import Answer, Case, Shapes
from . import plusplus
from .completion import (
    SENSORS,
    Completion,
    CompletionConfig,
    completion_loss,
    divergence,
)
from .decoder import DecoderConfig
from .fusion import LARGE, Fusion, FusionConfig, UpHead, sequence
from .labels import LabelConfig, LabelledSwin, LabelledViT
from .masked_semantics import balanced_loss, masked_loss
from .network import Config, SkySense
from .plusplus import PlusConfig, SkySensePlusPlus, cells, sentinel_labels
from .sentinel import LARGE_S1, LARGE_S2, ViT, ViTConfig
from .swin import HUGE, SwinConfig, SwinV2

EXACT = 1e-4  # absolute, also of everything inside the networks
LABELLED_HR = 5e-4  # norms over 8 channels amplify rounding
LOGITS, ROUNDED_LOGITS = 2e-4, 5e-3
LOSS = 1e-4  # relative
_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
_STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def run_case(case: Case) -> dict[str, Answer]:
    """Compute the outputs of a case, by what its configuration holds."""
    given = {name: torch.from_numpy(array) for name, array in case.inputs.items()}
    options = case.config.get("constructor", {})
    if "fusion" in case.config:
        run = _fusion
    elif "backbone_hr" in options:
        run = _pipeline
    elif "n_codebook" in options:
        run = _completion
    elif "arch" in options:
        run = _labelled_swin if "vocabulary_size" in options else _swin
    else:
        run = _labelled_vit if "vocabulary_size" in options else _vit
    with torch.no_grad():
        return run(case, given)


def full_size(name: str, wanted: Shapes) -> Shapes:
    """Tensors of an official part, with the buffers that are rebuilt on loading."""
    parts: dict[str, Callable[[], nn.Module]] = {
        "hr_swinv2_huge": lambda: SwinV2(HUGE),
        "s2_vit_large": lambda: ViT(LARGE_S2),
        "s1_vit_large": lambda: ViT(LARGE_S1),
        "uphead": lambda: UpHead(LARGE_S2.width, LARGE.inputs),
        "fusion": lambda: Fusion(LARGE),
        "pretrain_full": lambda: SkySensePlusPlus(plusplus.OFFICIAL["skysensepp"]),
    }
    if name not in parts:
        raise ValueError(f"no official part of SkySense is called '{name}'")
    with torch.device("meta"):
        part = parts[name]()
    tensors = {**part.state_dict(), **dict(part.named_buffers())}
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


# --- configurations -------------------------------------------------------------------------------


def _four(value: int | list[int]) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) else (value,) * 4


def swin_config(options: Mapping[str, Any]) -> SwinConfig:
    """The configuration that a constructor of the reference describes."""
    arch = options["arch"]
    return SwinConfig(
        channels=options.get("in_channels", 3),
        width=arch["embed_dims"],
        depths=tuple(arch["depths"]),
        heads=tuple(arch["num_heads"]),
        windows=_four(options.get("window_size", 8)),
        pretrained_windows=_four(options.get("pretrained_window_sizes", 0)),
        extra_norm=arch["extra_norm_every_n_blocks"],
        outputs=tuple(sorted(options.get("out_indices", (3,)))),
        pad_small_map=options.get("pad_small_map", False),
        patch=options.get("patch_size", 4),
    )


def vit_config(options: Mapping[str, Any], rows: int) -> ViTConfig:
    """The same of a Sentinel branch; the rows of its position table are those of its weights."""
    outputs, layers = options.get("out_indices", -1), options["num_layers"]
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return ViTConfig(
        channels=options["in_channels"],
        width=options["embed_dims"],
        layers=layers,
        heads=options["num_heads"],
        ratio=options.get("mlp_ratio", 4),
        patch=options.get("patch_size", 4),
        rows=rows,
        class_token=options.get("with_cls_token", True),
        patch_bias=options.get("patch_bias", True),
        final_norm=options.get("final_norm", False),
        eps=(options.get("norm_cfg") or {}).get("eps", 1e-5),
        interpolation=options.get("interpolate_mode", "bicubic"),
        outputs=tuple(sorted(i % layers for i in outputs)),
    )


def fusion_config(options: Mapping[str, Any]) -> FusionConfig:
    """The same of the fusion transformer."""
    return FusionConfig(
        options["input_dims"],
        options["embed_dims"],
        options["num_layers"],
        options["num_heads"],
        options.get("mlp_ratio", 4),
        (options.get("norm_cfg") or {}).get("eps", 1e-5),
    )


def _loaded(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    module.load_state_dict(weights, strict=True)
    return module.eval()


def _recorded(module: nn.Module, names: Iterable[str], run: Callable[[], Any]) -> tuple[Any, dict]:
    """The result of `run`, and the output of each named submodule on the way (the first of it)."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, part: nn.Module, inputs: object, output: Any) -> None:
        seen[name] = output[0] if isinstance(output, tuple) else output

    hooks = [module.get_submodule(n).register_forward_hook(partial(keep, n)) for n in set(names)]
    try:
        return run(), seen
    finally:
        for hook in hooks:
            hook.remove()


def _answer(values: Tensor, like: np.ndarray, tolerance: float = EXACT) -> Answer:
    """Tokens (N, L, D) of which a case keeps only the first."""
    return Answer(values[:, : like.shape[1]].numpy(), tolerance)


# --- the high-resolution branch -------------------------------------------------------------------

_INSIDE = (
    (re.compile(r"patch_embed_tokens"), "patch_embed"),
    (re.compile(r"stage(\d+)_block(\d+)_tokens"), "stages.{0}.blocks.{1}"),
    (re.compile(r"stage(\d+)_block(\d+)_attn_out"), "stages.{0}.blocks.{1}.attn"),
    (re.compile(r"stage(\d+)_downsample_tokens"), "stages.{0}.downsample"),
    (re.compile(r"stage(\d+)_tokens(?:_first\d+)?"), "stages.{0}"),
    (re.compile(r"(attn\d+)_out(?:_first\d+)?"), "{0}"),
)


def _inside(names: Iterable[str]) -> dict[str, str]:
    """Output name to the submodule that gives it."""
    found = {}
    for name in names:
        for pattern, module in _INSIDE:
            if match := pattern.fullmatch(name):
                found[name] = module.format(*match.groups())
    return found


def _of_swin(case: Case, swin: SwinV2, run: Callable[[], dict[int, Tensor]],
             tolerance: float) -> dict[str, Answer]:
    inside = _inside(case.outputs)
    maps, seen = _recorded(swin, inside.values(), run)
    answers = {f"out_stage{i}": Answer(x.numpy(), tolerance) for i, x in maps.items()}
    for name, module in inside.items():
        answers[name] = _answer(seen[module], case.outputs[name], tolerance)
    return answers


def _swin(case: Case, given: dict[str, Tensor]) -> dict[str, Answer]:
    swin = _loaded(SwinV2(swin_config(case.config["constructor"])), case.weights)
    return _of_swin(case, swin, lambda: swin(given["img"].float()), EXACT)


def _labelled_swin(case: Case, given: dict[str, Tensor]) -> dict[str, Answer]:
    options, extra = case.config["constructor"], case.config.get("extra_attention") or {}
    labels = LabelConfig(
        options["vocabulary_size"],
        options["merge_stage"],
        tuple(extra.get("proj_dims", ())),
        extra.get("num_heads", 16),
    )
    swin = _loaded(LabelledSwin(swin_config(options), labels), case.weights)
    image, anno, mask = given["img"].float(), given["anno"], given.get("mask")
    answers = _of_swin(case, swin, lambda: swin(image, anno, mask), LABELLED_HR)
    if "label_tokens" in case.outputs:
        tokens = swin.label_tokens(anno)
        answers["label_tokens"] = _answer(tokens, case.outputs["label_tokens"], LABELLED_HR)
    return answers


# --- the Sentinel branches ------------------------------------------------------------------------


def _vit(case: Case, given: dict[str, Tensor]) -> dict[str, Answer]:
    config = vit_config(case.config["constructor"], case.weights["pos_embed"].shape[1])
    vit = _loaded(ViT(config), case.weights)
    skip, answers = int(config.class_token), {}
    for name, image in given.items():
        answers[f"{name}.tokens_after_pos"] = Answer(vit.embed(image)[0].numpy(), EXACT)
        every = [f"layers.{i}" for i in range(config.layers)]
        found, seen = _recorded(vit, every, partial(vit.layer_outputs, image))
        for i in range(config.layers):
            answers[f"{name}.tokens_after_layer{i}"] = Answer(seen[f"layers.{i}"].numpy(), EXACT)
        for i, (x, size) in found.items():
            feature = x[:, skip:].transpose(1, 2).reshape(len(x), -1, *size)
            answers[f"{name}.feat_layer{i}"] = Answer(feature.numpy(), EXACT)
            answers[f"{name}.cls_layer{i}"] = Answer(x[:, 0].numpy(), EXACT)
    return answers


def _labelled_vit(case: Case, given: dict[str, Tensor]) -> dict[str, Answer]:
    options = case.config["constructor"]
    config = vit_config(options, case.weights["pos_embed"].shape[1])
    labels = LabelConfig(options["vocabulary_size"], options["merge_stage"])
    vit = _loaded(LabelledViT(config, labels), case.weights)
    image, anno, mask = given["img"], given["anno"], given.get("mask")
    every = [f"layers.{i}" for i in range(config.layers)]
    maps, seen = _recorded(vit, every, lambda: vit(image, anno, mask))
    answers = {f"feat_layer{i}": Answer(x.numpy(), EXACT) for i, x in maps.items()}
    for i, name in enumerate(every):
        answers[f"tokens_after_layer{i}"] = Answer(seen[name].numpy(), EXACT)
    answers["tokens_after_pos"] = Answer(vit.embed_pair(image, anno, mask)[0].numpy(), EXACT)
    answers["label_tokens"] = Answer(vit.label_tokens(anno).numpy(), EXACT)
    return answers


# --- fusion ---------------------------------------------------------------------------------------


def _fusion(case: Case, given: dict[str, Tensor]) -> dict[str, Answer]:
    options, weights = case.config, case.weights
    branches = {}
    for sensor in ("s2", "s1"):
        if f"backbone_{sensor}.pos_embed" in weights:
            settings = {**options["vit"], "in_channels": options["vit"][f"{sensor}_in_channels"]}
            rows = weights[f"backbone_{sensor}.pos_embed"].shape[1]
            branches[sensor] = vit_config(settings, rows)
    use = "s2+s1" if len(branches) == 2 else next(iter(branches))
    config = Config(use, fusion=fusion_config(options["fusion"]), dates="ctpe" in weights,
                    **branches)
    model = _loaded(SkySense(config), weights)
    answers, features = {}, {}
    if "hr_feat" in given:
        features["hr"] = given["hr_feat"][:, None]
    for sensor in branches:
        if sensor not in given:
            continue
        vit = model.branch(sensor, given[sensor])
        features[sensor] = model.raised(sensor, given[sensor])
        answers[f"{sensor}_vit_feat"] = Answer(vit.flatten(0, 1).numpy(), EXACT)
        answers[f"{sensor}_up_feat"] = Answer(features[sensor].flatten(0, 1).numpy(), EXACT)
        if sensor == "s2" and "s2_doy_index" in given and options.get("use_ctpe", True):
            features[sensor] = model.dated(features[sensor], given["s2_doy_index"])
    tokens = sequence([features[s] for s in SENSORS if s in features])
    every = [f"layers.{i}" for i in range(config.fusion.layers)]
    out, seen = _recorded(model.fusion, every, lambda: model.fusion(tokens))
    h, w = next(iter(features.values())).shape[-2:]
    fused = model.fuse(features)
    answers["fusion_input_tokens_pos0"] = Answer(tokens[0].numpy(), EXACT)
    answers["all_tokens_no_cls_pos0"] = Answer(out[0, 1:].numpy(), EXACT)
    answers["fused"] = Answer(fused.numpy(), EXACT)
    for i, name in enumerate(every):
        answers[f"block{i}_pos0"] = Answer(seen[name][0].numpy(), EXACT)
    return answers


# --- SkySense++ -----------------------------------------------------------------------------------


def _completion_config(options: Mapping[str, Any]) -> CompletionConfig:
    shape = options.get("input_shape") or options["input_shape_hr"]
    temperature = options.get("temp", 0.9)
    return CompletionConfig(
        shape[0], options["conv_dim"], options["z_dim"], options["n_codebook"], temperature
    )


def _completion(case: Case, given: dict[str, Tensor]) -> dict[str, Answer]:
    model = _loaded(Completion(_completion_config(case.config["constructor"])), case.weights)
    features = {s: given[f"feat_{s}"] for s in SENSORS}
    present = given["modality_info"].bool()
    done = model(features, present)
    answers = {
        "loss_quant": Answer(divergence(done.logits, present).numpy(), relative=LOSS),
        "loss_total": Answer(completion_loss(done, features, present).numpy(), relative=LOSS),
    }
    found = {}
    for s in SENSORS:
        found[f"{s}_out"], found[f"logits_{s}"] = done.features[s], done.logits[s]
        found[f"g_{s}"], found[f"soft_one_hot_{s}"] = done.generated[s], done.mixtures[s]
    for name, values in found.items():
        if name in case.outputs:  # some keep the first samples only
            answers[name] = Answer(values[: len(case.outputs[name])].numpy(), EXACT)
    return answers


def _plus_config(options: Mapping[str, Any], weights: Mapping[str, Tensor]) -> PlusConfig:
    hr, head = options["backbone_hr"], options["rec_head_hr"]
    vits = {
        s: vit_config(options[f"backbone_{s}"], weights[f"backbone_{s}.pos_embed"].shape[1])
        for s in ("s2", "s1")
    }
    widths = [
        weights[f"backbone_hr.attn{i}.proj_in.weight"].shape[0]
        for i in (1, 2, 3)
        if f"backbone_hr.attn{i}.proj_in.weight" in weights
    ]
    heads = (options.get("extra_attention") or {}).get("num_heads", 16)
    vae = options["modality_vae"] if options.get("use_modal_vae", True) else None
    vit = options["backbone_s2"]
    return PlusConfig(
        "hr+s2+s1",
        hr=swin_config(hr),
        hr_labels=LabelConfig(hr["vocabulary_size"], hr["merge_stage"], tuple(widths), heads),
        vit_labels=LabelConfig(vit["vocabulary_size"], vit["merge_stage"]),
        fusion=fusion_config(options["necks"]),
        dates="ctpe" in weights,
        completion=_completion_config(vae) if vae else None,
        decoder=DecoderConfig(
            tuple(head["in_channels"]), head["num_classes"], head["channels"],
            tuple(head["pool_scales"]), head.get("dropout_ratio", 0.1),
        ),
        **vits,
    )  # fmt: skip


def _pipeline(case: Case, given: dict[str, Tensor]) -> dict[str, Answer]:
    model = _loaded(SkySensePlusPlus(_plus_config(case.config["constructor"], case.weights)),
                    case.weights)
    hr = (given["hr_rgb_u8"].float() / 255 - _MEAN) / _STD
    labels, mask, present = given["anno"].long(), given["anno_mask"], given["flags"].bool()
    images = {"hr": hr, "s2": given["s2"][:, :, 0], "s1": given["s1"][:, :, 0]}
    days = None
    if model.config.dates:
        days = tuple(given[name].reshape(len(hr), -1)[:, 0] for name in ("s2_ct", "s2_ct2"))
    features = model(images, present, labels, mask, days)
    size = tuple(hr.shape[2:])
    logits, rounded = (model.decode(features, size, flag) for flag in (False, True))
    hidden = cells(mask, size[0] // mask.shape[1])
    classes = features.fused.permute(0, 2, 3, 1).flatten(0, 2)
    losses = {
        "loss_rec_balanced_all": balanced_loss(logits, labels),
        "loss_rec_masked_only": masked_loss(logits, labels, hidden),
    }
    if features.completed:
        losses["loss_modality"] = completion_loss(features.completed, features.own, present)
    answers = {name: Answer(loss.numpy(), relative=LOSS) for name, loss in losses.items()}
    answers["anno_s2"] = answers["anno_s1"] = Answer(sentinel_labels(labels).numpy())
    for name in case.outputs:
        if stage := re.fullmatch(r"hr_stage(\d)", name):
            answers[name] = Answer(features.maps[int(stage[1])].numpy(), EXACT)
        elif first := re.fullmatch(r"fusion_(input|cls)_first(\d+)", name):
            values = features.tokens if first[1] == "input" else classes
            answers[name] = Answer(values[: int(first[2])].numpy(), EXACT)
        elif step := re.fullmatch(r"logits_(bf16ppm_)?div(\d+)", name):
            values, tolerance = (rounded, ROUNDED_LOGITS) if step[1] else (logits, LOGITS)
            each = int(step[2])
            answers[name] = Answer(values[:, :, ::each, ::each].numpy(), tolerance)
    for sensor in ("s2", "s1"):
        answers[f"{sensor}_up_feat"] = Answer(features.own[sensor].numpy(), EXACT)
    best = logits.topk(2, dim=1).values
    undecided = (best[:, 0] - best[:, 1] < 2 * LOGITS).numpy()
    answers["argmax"] = Answer(logits.argmax(dim=1).numpy(), undecided * float(logits.shape[1]))
    return answers
