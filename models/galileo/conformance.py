"""Golden cases of Galileo: every output of the reference, computed by this package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..blocks import month_table
from ..conformance import Answer, Case, Shapes, load_checkpoint
from . import decoder, network, products
from .decoder import OFFICIAL_DECODERS, PREDICTED, Decoder
from .network import OFFICIAL, Encoder, PatchEmbed, average, average_per_patch
from .objective import PatchDisc, View, patch_disc
from .tokens import Tokens, sinusoid, space_code

TOLERANCE = 1e-4  # absolute, on tokens, features and losses
SCALED = 1e-6  # relative, of values that are only scaled
KINDS = ("s_t", "sp", "t", "st")


def run_case(case: Case) -> dict[str, Answer]:
    """Compute the outputs of a case, by what it holds."""
    given, names = case.inputs, case.outputs
    if "view0_s_t_mask" in given:
        runner = _pretraining_step
    elif "mask_s_t_m" in given:
        runner = _global_prediction
    elif "s_t_m" in given:
        runner = _series
    elif "s2" in given or "s1" in given:
        runner = _single_image
    elif any(name.startswith(("pinv_", "kernel_", "y_base")) for name in names):
        runner = _patch_embedding
    elif any(name.endswith("_pretraining") for name in names):
        runner = _normalisation
    else:
        runner = _encodings
    with torch.no_grad():
        return runner(case)


def full_size(name: str, wanted: Shapes) -> Shapes:
    """Tensors of an official encoder, or of its predictor: `base`, `base_decoder`."""
    size = name.removesuffix("_decoder")
    if size not in OFFICIAL:
        raise ValueError(f"no official Galileo is called '{size}'")
    with torch.device("meta"):
        if name.endswith("_decoder"):
            module = Decoder(OFFICIAL_DECODERS[size])
        else:
            module = Encoder(OFFICIAL[size])
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


# --- what all cases share -------------------------------------------------------------------------


def _part(weights: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The tensors of one module, without its prefix; all, if none has a prefix."""
    part = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    return part or dict(weights)


def _settings(case: Case, part: str) -> dict[str, Any]:
    """The constructor arguments of the encoder or the decoder."""
    constructor = case.config["constructor"]
    return constructor.get(part, constructor)


def _encoder(case: Case) -> Encoder:
    encoder = Encoder(network.configure(_settings(case, "encoder")))
    encoder.load_state_dict(_part(case.weights, "encoder."), strict=True)
    return encoder.eval()


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _masks(given: Mapping[str, Tensor], pattern: str) -> Tokens:
    return Tokens(*(given[pattern.format(kind)] for kind in KINDS))


def _values(given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    return tuple(given[f"{kind}_x"] for kind in KINDS)


def _answer(values: Tensor) -> Answer:
    return Answer(values.numpy(), TOLERANCE)


def _kind(name: str, tokens: Tokens) -> Tensor:
    """The kind that an output's name means: the longest that it begins with."""
    found = max((k for k in KINDS if name == k or name.startswith(f"{k}_")), key=len, default="")
    if not found:
        raise ValueError(f"output '{name}' names none of the kinds {', '.join(KINDS)}")
    return getattr(tokens, found)


# --- the encoder ----------------------------------------------------------------------------------


def _series(case: Case) -> dict[str, Answer]:
    """Every call of the config; an output's note may say which timesteps it holds."""
    given, encoder, answers = _tensors(case.inputs), _encoder(case), {}
    for call in case.config["calls"]:
        masks, patch = _masks(given, "{}_m"), call["patch_size"]
        depth, norm = call.get("exit_after"), call.get("add_layernorm_on_exit", True)
        exits = call.get("token_exit_cfg")
        if depth is not None:
            exits = dict.fromkeys(products.GROUP_NAMES, depth)
        tokens, visible = encoder(
            *_values(given), masks, given["months"], patch, call.get("input_resolution_m", 10),
            exits, norm,
        )  # fmt: skip
        if depth == 0:
            tokens = _projections(encoder, encoder.project(*_values(given), patch), visible, norm)
        for output in call["outputs"]:
            name = output.split()[0]
            if name.startswith("pooled"):
                values = average(tokens, visible)
            elif name.startswith("per_patch_pooled"):
                values = average_per_patch(tokens, visible)
            else:
                values = _kind(name, tokens)
            answers[name] = _answer(_timesteps(output, name, values))
    return answers


def _projections(encoder: Encoder, projected: Tokens, visible: Tokens, norm: bool) -> Tokens:
    """Before the first block the reference hides no tokens, only groups that no sample shows."""
    shown = (
        tokens * seen.flatten(0, -2).any(dim=0)[:, None]
        for tokens, seen in zip(projected.kinds(), visible.kinds(), strict=True)
    )
    return Tokens(*(encoder.norm(tokens) if norm else tokens for tokens in shown))


def _timesteps(output: str, name: str, values: Tensor) -> Tensor:
    """What a note like `(timesteps 0, 3 only)` chooses; `(timestep 0 only)` leaves no axis."""
    chosen = re.search(r"timestep(s?) ([\d, ]+) only", output)
    if not chosen:
        return values
    axis = 3 if name.startswith("s_t") else 1
    steps = torch.tensor([int(step) for step in chosen[2].split(",")])
    values = values.index_select(axis, steps)
    return values if chosen[1] else values.squeeze(axis)


def _single_image(case: Case) -> dict[str, Answer]:
    """One date of Sentinel-2 (or -1) through the authors' evaluation wrapper."""
    encoder, answers = _encoder(case), {}
    given, bands, groups = (
        ("s2", slice(2, 12), slice(1, 6)) if "s2" in case.inputs
        else ("s1", slice(0, 2), slice(0, 1))
    )  # fmt: skip
    order = case.config["band_order_of_input"]
    columns = [order.index(band) for band in products.BANDS["s_t"][bands]]
    for call in case.config["calls"]:
        patch = call["patch_size"]
        image = torch.from_numpy(case.inputs[given])[..., columns]
        crop = case.config.get("crop_of_input_used", {}).get(str(patch))
        if crop:
            top, bottom, left, right = (int(n) for n in re.findall(r"\d+", crop))
            image = image[:, top : bottom + 1, left : right + 1]
        b, height, width, _ = image.shape
        s_t = image.new_zeros(b, height, width, 1, 13)
        s_t[:, :, :, 0, bands] = image
        hidden = torch.ones(7)
        hidden[groups] = 0
        masks = Tokens(
            hidden.expand(b, height, width, 1, 7), torch.ones(b, height, width, 3),
            torch.ones(b, 1, 3), torch.ones(b, 4),
        )  # fmt: skip
        tokens, visible = encoder(
            s_t, s_t.new_zeros(b, height, width, 16), s_t.new_zeros(b, 1, 6), s_t.new_zeros(b, 18),
            masks, torch.full((b, 1), case.config["month"]), patch,
            call.get("input_resolution_m", 10),
        )  # fmt: skip
        cells = tokens.s_t[..., groups, :].mean(dim=(3, 4)).flatten(1, 2)
        features = {"pooled": average(tokens, visible), "patch_features": cells}
        for name in call["outputs"]:
            answers[name] = _answer(features[name.removesuffix(f"_{call['name']}")])
    return answers


# --- pretraining ----------------------------------------------------------------------------------


def _check_loss(case: Case) -> float:
    """The temperature of a case's loss."""
    loss = case.config["loss"]
    if loss["type"] != "patch_disc" or not loss["mask_other_samples"] or loss["pred2unit"]:
        raise ValueError(f"the weights know only PatchDisc within a sample, not {loss}")
    return loss["tau"]


def _global_prediction(case: Case) -> dict[str, Answer]:
    """Targets and predictions of hidden tokens on real data, and their loss."""
    given, encoder, tau = _tensors(case.inputs), _encoder(case), _check_loss(case)
    predictor = Decoder(decoder.configure(_settings(case, "decoder")))
    weights = case.weights
    if "decoder_checkpoint" in case.config:
        expected = case.config.get("decoder_checkpoint_sha256")
        weights = load_checkpoint(case.config["decoder_checkpoint"], expected)
    predictor.load_state_dict(_part(weights, "decoder."), strict=True)
    predictor.eval()
    patch, ground = case.config["patch_size"], case.config.get("input_resolution_m", 10)
    place = (given["months"], patch, ground)
    masks = _masks(given, "mask_{}_m")
    tokens, _ = encoder(*_values(given), masks, *place)
    predictions = predictor(tokens, masks, *place)
    depths = case.config["token_exit_cfg"]
    targets, _ = encoder(*_values(given), _masks(given, "avail_{}_m"), *place, depths)
    state = masks.at_patches(patch)
    hidden = state.mask_sequence() == PREDICTED
    loss = patch_disc(predictions.sequence(), targets.sequence(), hidden, tau)
    only = re.search(r"space-time outputs hold only the groups (.+?) in this order",
                     case.config.get("note", ""))  # fmt: skip
    chosen = re.split(r",\s*(?:and\s+)?", only[1]) if only else list(products.SPACE_TIME)
    columns = [list(products.SPACE_TIME).index(name.strip()) for name in chosen]
    shown = {
        "encoder": tokens,
        "pred": predictions,
        "target": state.shaped(targets.sequence() * hidden[:, :, None]),
    }
    answers = {"loss": _answer(loss)}
    for name in case.outputs:
        prefix, _, kind = name.partition("_")
        if prefix in shown:
            values = _kind(kind, shown[prefix])
            answers[name] = _answer(values[..., columns, :] if kind == "s_t" else values)
    return answers


def _pretraining_step(case: Case) -> dict[str, Answer]:
    """The views of one step, under the masks that the reference drew."""
    given, tau = _tensors(case.inputs), _check_loss(case)
    patch, ground = case.config["patch_size"], case.config.get("input_resolution_m", 10)
    step = PatchDisc(
        network.configure(_settings(case, "encoder")),
        decoder.configure(_settings(case, "decoder")),
        resolution_m=ground,
        exits=case.config["token_exit_cfg"],
    )
    step.load_state_dict(dict(case.weights), strict=True)
    step.eval()
    all_there = Tokens(*(torch.zeros_like(given[f"view0_{kind}_mask"]) for kind in KINDS))
    view = View(*_values(given), all_there, given["months"], patch)
    answers = {}
    for call in case.config["calls"]:
        prefix, local = f"view{call['view']}_", call["decoder"] == "second_decoder"
        masks = _masks(given, f"{prefix}{{}}_mask")
        predictions, tokens = step.predict(view, masks, local)
        targets = step.targets(view, call["target"].startswith("exit_after=0"))
        hidden = masks.at_patches(patch).mask_sequence() == PREDICTED
        loss = patch_disc(predictions.sequence(), targets.sequence(), hidden, tau)
        answers[f"{prefix}loss"] = _answer(loss)
        shown = {"encoder": tokens, "pred": predictions, "target": targets}
        answers |= {
            f"{prefix}{what}_{kind}": _answer(getattr(of, kind))
            for what, of in shown.items()
            for kind in KINDS
        }
    return answers


# --- parts without weights ------------------------------------------------------------------------


def _patch_embedding(case: Case) -> dict[str, Answer]:
    given, answers = _tensors(case.inputs), {}
    for name in case.outputs:
        if match := re.fullmatch(r"pinv_base(\d+)_to_(\d+)", name):
            values = network.resize_matrix(int(match[1]), int(match[2]))
        elif match := re.fullmatch(r"kernel_base(\d+)_to_(\d+)", name):
            values = network.resize_kernel(given[f"weight_base{match[1]}"], int(match[2]))
        elif match := re.fullmatch(r"y_base(\d+)_p(\d+)", name):
            weight = given[f"weight_base{match[1]}"]
            embed = PatchEmbed(weight.shape[1], weight.shape[0], int(match[1]))
            state = {"proj.weight": weight, "proj.bias": given[f"bias_base{match[1]}"]}
            embed.load_state_dict(state, strict=True)
            values = embed(given[name.replace("y_", "x_", 1)], int(match[2]))
        else:
            continue
        answers[name] = _answer(values)
    return answers


def _encodings(case: Case) -> dict[str, Answer]:
    given, answers = _tensors(case.inputs), {}
    for name in case.outputs:
        if match := re.fullmatch(r"month_q(\d+)", name):
            values = month_table(int(match[1]))
        elif match := re.fullmatch(r"pos_time_q(\d+)", name):
            values = sinusoid(int(match[1]), given["positions"])
        elif match := re.fullmatch(r"space_q(\d+)_grid(\d+)_ratios.*", name):
            width, side = int(match[1]), int(match[2])
            values = torch.stack(
                [space_code(width, side, side, float(ratio), ratio.device).flatten(0, 1)
                 for ratio in given["ratios"]]
            )  # fmt: skip
        else:
            continue
        answers[name] = _answer(values)
    return answers


# What the repository's README helper does instead of the pretraining's scaling: shift, divisor.
# Kept to recognise embeddings that were made with it; all other bands as in pretraining.
_README = {
    "VV": (25, 25), "VH": (25, 25), **dict.fromkeys(products.BANDS["s_t"][2:12], (0, 10000)),
    "temperature_2m": (-272.15, 35), "total_precipitation_sum": (0, 0.03), "def": (0, 4548),
    "soil": (0, 8882), "aet": (0, 2000), "avg_rad": (0, 100), "elevation": (0, 2000),
    "slope": (0, 50), "b1": (92500, 92500),
}  # fmt: skip


def _normalisation(case: Case) -> dict[str, Answer]:
    answers = {}
    if "latlon" in case.inputs:
        answers["to_cartesian"] = Answer(products.cartesian(case.inputs["latlon"]), SCALED)
    for kind in KINDS:
        if f"{kind}_x_physical" not in case.inputs:
            continue
        values = case.inputs[f"{kind}_x_physical"]
        as_trained = products.normalise(kind, values)
        faulty = as_trained.copy()
        for column, band in enumerate(products.BANDS[kind]):
            if band in _README:
                shift, divisor = _README[band]
                faulty[..., column] = (values[..., column].astype(np.float64) - shift) / divisor
        answers[f"{kind}_x_pretraining"] = Answer(as_trained, SCALED, SCALED)
        answers[f"{kind}_x_readme_utility"] = Answer(faulty, SCALED, SCALED)
    return answers
