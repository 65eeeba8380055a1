"""Golden cases of AnySat: every output of the reference, computed by this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..conformance import Answer, Case, Shapes
from .network import MODIS, OFFICIAL, AnySat, Config, build, shapes
from .objective import CrossSensorJepa, Hidden, Predictor
from .projectors import SENSORS, ImageSensor, Sensor, SeriesSensor

TOLERANCE = 2e-5  # absolute


def run_case(case: Case) -> dict[str, Answer]:
    """Compute the outputs of a case: of the released encoder, or of a pretraining step."""
    given = _tensors(case)
    answers = _pretraining(case, given) if "args" in case.config else _release(case, given)
    return {name: Answer(values.numpy(), TOLERANCE) for name, values in answers.items()}


def full_size(name: str, wanted: Shapes) -> Shapes:
    """Tensors of an official size."""
    if name not in OFFICIAL:
        raise ValueError(f"no official AnySat is called '{name}'")
    return shapes(OFFICIAL[name])


def _tensors(case: Case) -> dict[str, Tensor]:
    """The inputs as float32; integers are decoded as the configuration says, "int8 / 8.0"."""
    decode = case.config.get("input_decode", {})
    given = {}
    for name, values in case.inputs.items():
        if name in decode:
            values = values.astype(np.float32) / float(decode[name].split("/")[1])
        given[name] = torch.from_numpy(values.astype(np.float32)
                                       if values.dtype == np.float16 else values)
    return given


def _sensors(projectors: Mapping[str, Mapping[str, Any]], ground: Mapping[str, float],
             reduce: Mapping[str, int]) -> dict[str, Sensor]:
    """Sensors as the arguments of the reference's projectors describe them.

    MODIS is cut by 12 without being told: the reference sets that in its code.
    """
    found: dict[str, Sensor] = {}
    for name, given in projectors.items():
        ground_m = float(ground.get(name, SENSORS[name].ground_m if name in SENSORS else 10))
        usual = SENSORS[MODIS].reduce if name == MODIS else 1
        if "T" in given:
            found[name] = SeriesSensor(
                given["in_channels"], ground_m, given["T"], bool(given.get("in_norm", True)),
                int(reduce.get(name, given.get("reduce_scale", usual))), given["n_head"],
                given["d_k"], tuple(given["mlp_in"]), float(given.get("dropout", 0.2)),
            )  # fmt: skip
        else:
            found[name] = ImageSensor(
                given["in_chans"], ground_m, float(given.get("resolution", 0.2)),
                given["patch_size"], tuple(given["mlp"]),
            )  # fmt: skip
    return found


def _load(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    module.load_state_dict({n: t.float() for n, t in weights.items()}, strict=True)
    return module.eval()


# --- the released encoder -------------------------------------------------------------------------


@torch.no_grad()
def _release(case: Case, given: dict[str, Tensor]) -> dict[str, Tensor]:
    network = _load(AnySat(_release_config(case.config["module_args"])), case.weights)
    order = case.config.get("modality_order") or [n for n in given if n in network.config.sensors]
    inputs = {
        key: given[key] for s in order for key in (s, f"{s}_dates", f"{s}_mask") if key in given
    }
    answers: dict[str, Tensor] = {}
    for run in case.config["runs"]:
        key, scale, output = run["output_key"], int(run["scale"]), run["output"]
        shown = run.get("output_modality", "")
        inside = _watch(network, order) if key == case.config.get("intermediates_of_run") else None
        answers[key] = network(inputs, scale, output, shown)
        if inside is not None:
            answers |= inside()
        if f"flashlayout_{key}" in case.outputs:
            flash = AnySat(replace(network.config, across_heads=True))
            _load(flash, network.state_dict())
            answers[f"flashlayout_{key}"] = flash(inputs, scale, output, shown)
    return answers


def _release_config(args: Mapping[str, Any]) -> Config:
    spatial = args["spatial_encoder"]
    return Config(
        args["embed_dim"], args["depth"], args["num_heads"], spatial["depth"],
        spatial["num_heads"], _sensors(args["projectors"], spatial.get("input_res", {}), {}),
        args.get("mlp_ratio", 4.0), bool(args.get("flash_attn", False)),
    )  # fmt: skip


def _watch(network: AnySat, order: list[str]):
    """Record what the golden cases call `mid_*`; the result reads it and stops recording."""
    seen: dict[str, Tensor] = {}
    hooks = []

    def output(name: str):
        def keep(module: nn.Module, inputs: object, result: Tensor) -> None:
            seen[name] = result
        return keep

    def given(name: str):
        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name] = inputs[0]
        return keep

    calls = iter(order)

    def spatial(module: nn.Module, inputs: object, result: tuple[Tensor, Tensor]) -> None:
        sensor = next(calls)
        seen[f"mid_spatial_cls_{sensor}"], seen[f"mid_spatial_subpatches_{sensor}"] = result

    for sensor in order:
        projector = network.get_submodule(f"projector_{sensor}")
        hooks.append(projector.register_forward_hook(output(f"mid_tokens_projector_{sensor}")))
    hooks.append(network.spatial_encoder.register_forward_hook(spatial))
    hooks.append(network.blocks[0].register_forward_pre_hook(given("mid_sequence_before_blocks")))
    hooks.append(
        network.blocks[-1].register_forward_pre_hook(given("mid_sequence_before_fusion_block"))
    )

    def stop() -> dict[str, Tensor]:
        for hook in hooks:
            hook.remove()
        return seen

    return stop


# --- a pretraining step ---------------------------------------------------------------------------


@torch.no_grad()
def _pretraining(case: Case, given: dict[str, Tensor]) -> dict[str, Tensor]:
    args = case.config["args"]
    sensors = _sensors(
        case.config["projector_args"], case.config.get("input_res", {}), args.get("reduce") or {}
    )
    config = Config(
        args["dim"], args["depth"], args["heads"], args["sdepth"], args["heads"],
        {name: sensors[name] for name in args["mods"]},
    )  # fmt: skip
    scale = int(case.config["scale"])
    objective = CrossSensorJepa(
        build(config), (scale,), Predictor(config.width, args["pdepth"], args["pheads"]),
        released=True,
    )  # fmt: skip
    _load(objective, {n.removeprefix("model."): t for n, t in case.weights.items()})
    inputs = {
        key: given[key]
        for s in args["mods"] for key in (s, f"{s}_dates", f"{s}_mask") if key in given
    }  # fmt: skip
    blocks = sorted(n for n in given if n.startswith("mask_pred_"))
    step = objective.step(inputs, scale, Hidden(
        {s: given[f"date_keep_{s}"] for s in args["mods"] if f"date_keep_{s}" in given},
        given["mask_enc"], [given[n] for n in blocks], given["token_keep"],
    ))  # fmt: skip
    weights = case.config.get("losses", {})
    prediction = step.prediction * float(weights.get("mse", 1))
    return {
        "target_encoder_output": step.teacher,
        "targets": step.targets,
        "predicted_tokens": step.predicted,
        "visible_sequence_after_modality_drop": step.visible,
        "mse_loss": step.prediction,
        "contrastive_loss": step.contrast,
        "loss": prediction + step.contrast * float(weights.get("mil-nce", 1)),
        **{f"tokens_{name}": tokens for name, tokens in step.tokens.items()},
    }
