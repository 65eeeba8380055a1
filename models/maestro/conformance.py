"""Golden cases of MAESTRO: every output of the reference, computed by this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..conformance import Answer, Case, Shapes
from .heads import build_heads
from .layout import LAYOUTS, Input, Layout, Target
from .network import SIZES, Config, Encoder, build
from .objective import LOSSES, Decoder, reconstruction, rows

TOLERANCE = 1e-5  # absolute
DECODER = ("embed_to_rec.", "mask_token.", "enc_to_dec.", "decoder.")


@torch.no_grad()
def run_case(case: Case) -> dict[str, Answer]:
    """Compute the outputs of a case: features, logits, reconstructed pixels and losses."""
    config = configure(case.config)
    given = {
        name: torch.from_numpy(values.astype(np.float32) if values.dtype == np.float16 else values)
        for name, values in case.inputs.items()
    }
    encoder, decoder, heads = _parts(config, case.weights)
    fusion = encoder.fusion
    rasters = encoder.rasters(given)
    tokens = encoder.embed(rasters)
    entries = {name: x.shape[1] for name, x in tokens.items()}
    answers = _named("patch_tokens", fusion.join(tokens))
    sequences = fusion.join(encoder.placed(tokens, given))
    answers |= _named("tokens_with_encodings", sequences)
    features = encoder.encode(sequences)
    answers |= _named("features", features)
    tokens = fusion.split(features, entries)
    answers |= _named("logits", {name: head(tokens) for name, head in heads.items()})
    if any(name.startswith("mask_") for name in given):
        masks = {name: given[f"mask_{name}"].bool() for name in sequences}
        order = {n: given[f"mask_order_{n}"] for n in sequences if f"mask_order_{n}" in given}
        encoded = encoder.encode({name: rows(x, ~masks[name]) for name, x in sequences.items()})
        pixels = decoder(encoded, masks, given, order or None)
        hidden = fusion.split(masks, entries)
        answers |= _named("pretrain_encoded", encoded) | _named("pixels", pixels)
        answers |= _named("loss", {
            kind: reconstruction(rasters, pixels, hidden, config.layout.inputs, kind)
            for kind in LOSSES
        })  # fmt: skip
    return {name: Answer(values.numpy(), TOLERANCE) for name, values in answers.items()}


def full_size(name: str, wanted: Shapes) -> Shapes:
    """Tensors of an official layout and size, "flair_medium"; heads if the list has them."""
    layout, _, size = name.rpartition("_")
    if layout not in LAYOUTS or size not in SIZES:
        raise ValueError(f"no official MAESTRO is called '{name}'")
    config = replace(SIZES[size], layout=LAYOUTS[layout])
    with torch.device("meta"):
        parts = [("", build(config)), ("", Decoder(config))]
        if any(tensor.startswith("heads.") for tensor in wanted):
            parts.append(("heads.", build_heads(config)))
    return {
        prefix + tensor: tuple(t.shape)
        for prefix, part in parts for tensor, t in part.state_dict().items()
    }  # fmt: skip


def configure(content: Mapping[str, Any]) -> Config:
    """The configuration that a case's constructor values describe."""
    layout = Layout(
        {name: _input(name, given) for name, given in content["inputs"].items()},
        float(content.get("crop_meters") or 0),
        int(content.get("grid_pos_enc") or 0),
        content.get("ref_input") or "",
        {
            name: Target(target["num_classes"],
                         target["resolution_meters"] if target["type"] == "segment" else None)
            for name, target in (content.get("targets") or {}).items()
        },
    )  # fmt: skip
    model = content["model"]
    return Config(
        width=model["embed_dim"], depth=model["depth"], heads=model["heads"],
        mlp_ratio=model["mlp_ratio"], decoder_depth=model["decoder_depth"],
        head_width=model["dim_head"], decoder_width=model["decoder_dim"],
        decoder_heads=model["decoder_heads"], decoder_head_width=model["decoder_dim_head"],
        decoder_mlp_ratio=model["decoder_mlp_ratio"], layout=layout,
        fusion=model["fusion_mode"], shared_depth=model["inter_depth"], head=model["type_head"],
        interpolation=model["interpolate"], position_factor=model["fac_abs_enc"],
        date_factor=model["fac_date_enc"], date_width=content.get("date_dim", 8),
    )  # fmt: skip


def _input(name: str, given: Mapping[str, Any]) -> Input:
    bands = given["bands"]
    return Input(
        given["image_size"], given["patch_size"],
        (bands,) if isinstance(bands, int) else tuple(len(group) for group in bands),
        given.get("group") or name, given.get("name_embed") or name,
        tuple(given.get("norm_bands") or ()), given.get("num_dates", 1),
        elevation=bool(given.get("rescale_elev")),
    )  # fmt: skip


def _parts(config: Config, weights: Mapping[str, Tensor]) -> tuple[Encoder, Decoder, nn.ModuleDict]:
    """Encoder, decoder and heads, each loaded strictly with its share of the tensors."""
    shares: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}, "heads": {}}
    for name, tensor in weights.items():
        owner = "decoder" if name.startswith(DECODER) else "encoder"
        owner = "heads" if name.startswith("heads.") else owner
        shares[owner][name.removeprefix("heads.")] = tensor.float()
    parts = (build(config), Decoder(config), build_heads(config))
    for part, share in zip(parts, shares.values(), strict=True):
        part.load_state_dict(share, strict=True)
        part.eval()
    return parts


def _named(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}_{name}": value for name, value in values.items()}
