"""Golden cases of Presto and WorldCereal's variant: every output, computed by this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..conformance import Answer, Case, Shapes
from . import scaling
from .network import DYNAMIC_WORLD_MISSING, OFFICIAL, Config, Encoder
from .objective import DYNAMIC_WORLD_WEIGHT, MaskedReconstruction, reconstruction_loss

TOLERANCE = 1e-4  # absolute, on tokens, features and losses
SCALED = 1e-6  # relative, of values that are only scaled
TIE = 1e-4  # codes may differ by one where feature / scale is so near a half
SIZES = {"default_model": "presto", "worldcereal_finetuned": "presto-worldcereal"}


def run_case(case: Case) -> dict[str, Answer]:
    """Compute the outputs of a case, by what it holds."""
    with torch.no_grad():
        if "values" in case.inputs:
            return _worldcereal(case)
        answers = _calls(case) if "calls" in case.config else _plain(case)
        return answers | (_reconstruction(case) if "y" in case.inputs else {})


def full_size(name: str, wanted: Shapes) -> Shapes:
    """Tensors of an official file: encoder and, where the list has one, decoder."""
    if name not in SIZES:
        raise ValueError(f"no official Presto is called '{name}'")
    with torch.device("meta"):
        state = MaskedReconstruction(OFFICIAL[SIZES[name]]).state_dict()
    given = {key: tuple(tensor.shape) for key, tensor in state.items()}
    if any(key.startswith("decoder.") for key in wanted):
        return given
    return {key: shape for key, shape in given.items() if key.startswith("encoder.")}


# --- what all cases share -------------------------------------------------------------------------


def _config(case: Case) -> Config:
    known = Config.__dataclass_fields__
    return Config(**{k: v for k, v in case.config["constructor"].items() if k in known})


def _encoder(case: Case) -> Encoder:
    prefix, encoder = "encoder.", Encoder(_config(case))
    state = {k.removeprefix(prefix): v for k, v in case.weights.items() if k.startswith(prefix)}
    encoder.load_state_dict(state, strict=True)
    return encoder.eval()


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _answer(values: Tensor) -> Answer:
    return Answer(values.numpy(), TOLERANCE)


# --- the encoder ----------------------------------------------------------------------------------


def _features(
    encoder: Encoder, given: Mapping[str, Tensor], mask: Tensor | None, month: Any
) -> dict[str, Answer]:
    """Pooled features, tokens, their order, and which rows only fill up."""
    place = (given["latlons"], mask, month)
    seen = encoder.visible(given["x"], given["dynamic_world"], *place)
    filled = ~seen.real
    tokens = (encoder.norm(seen.tokens) * seen.real[:, :, None]).numpy()
    # What fills up the rows of a batch has no meaning: the reference may hold anything there.
    free = np.where(filled.numpy()[:, :, None], np.inf, TOLERANCE)
    return {
        "embedding": _answer(encoder(given["x"], given["dynamic_world"], *place)),
        "tokens_normed": Answer(tokens, np.broadcast_to(free, tokens.shape)),
        "token_order": Answer(seen.order.numpy()),
        "token_mask": Answer(filled.numpy().astype(np.float32)),
    }


def _calls(case: Case) -> dict[str, Answer]:
    given, encoder, answers = _tensors(case.inputs), _encoder(case), {}
    for call in case.config["calls"]:
        month = given[call["month"]] if isinstance(call["month"], str) else call["month"]
        mask = given[call["mask"]] if call.get("mask") else None
        found = _features(encoder, given, mask, month)
        for name in call["outputs"]:
            answers[name] = found[max((n for n in found if name.startswith(n)), key=len)]
    return answers


def _plain(case: Case) -> dict[str, Answer]:
    """One call with the masked inputs, and one with everything where the case has it."""
    given, encoder = _tensors(case.inputs), _encoder(case)
    answers = _features(encoder, given, given.get("mask"), given["month"])
    if "x_unmasked" in given:
        whole = encoder(
            given["x_unmasked"], given["dynamic_world_unmasked"], given["latlons"],
            month=given["month"],
        )  # fmt: skip
        answers["embedding_unmasked"] = _answer(whole)
    return answers


# --- pretraining ----------------------------------------------------------------------------------


def _reconstruction(case: Case) -> dict[str, Answer]:
    given, step = _tensors(case.inputs), MaskedReconstruction(_config(case))
    step.load_state_dict(dict(case.weights), strict=True)
    step.eval()
    values, logits = step.reconstruct(
        given["x"], given["dynamic_world"], given["latlons"], given["mask"], given["month"]
    )
    loss = reconstruction_loss(
        values, logits, given["y"], given["y_dynamic_world"], given["mask"] > 0,
        given["dw_mask"] > 0, case.config.get("dynamic_world_loss_weight", DYNAMIC_WORLD_WEIGHT),
    )  # fmt: skip
    return {
        "reconstruction": _answer(values),
        "dynamic_world_logits": _answer(logits),
        "eo_loss": _answer(loss.values),
        "dw_loss": _answer(loss.classes),
        "total_loss": _answer(loss.total),
        "dw_weight": _answer(loss.weight),
    }


# --- WorldCereal ----------------------------------------------------------------------------------


def _worldcereal(case: Case) -> dict[str, Answer]:
    """From physical values and dates to global and monthly features and the raster's codes."""
    x, missing = scaling.of_worldcereal(
        case.inputs["values"], case.config.get("nodata", scaling.NO_DATA)
    )
    encoder = _encoder(case)
    months = torch.from_numpy(case.inputs["timestamps"][..., 1] - 1)
    given = (
        torch.from_numpy(x).masked_fill(torch.from_numpy(missing), 0),
        torch.full(x.shape[:2], DYNAMIC_WORLD_MISSING),
        torch.from_numpy(case.inputs["latlons"]),
        torch.from_numpy(missing).float(),
        months.expand(len(x), -1),
    )
    features = encoder(*given).numpy()
    codes, scale = scaling.quantise(features)
    fraction = np.abs(features / scale[:, None]) % 1
    undecided = np.abs(fraction - 0.5) < TIE
    return {
        "x_normalised": Answer(x, SCALED, SCALED),
        "mask_model": Answer(missing.astype(np.int64)),
        "embedding_global": Answer(features, TOLERANCE),
        "embedding_time": _answer(encoder.by_step(*given)),
        "quantised_uint8": Answer(codes, undecided.astype(float)),
        "quantisation_scale": Answer(scale, TOLERANCE / 127),
    }
