"""Official AnySat weights: from a file's content to a configuration and a clean state dict.

The release holds {"state_dict": the encoder's tensors}; training runs hold the student under
`model.encoder.` and the teacher, which the authors keep, under `target_encoder.`. All sizes show in
the tensors, the heads' number in the tables of relative positions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..cards import Card, SensorBands, TrainingSet
from ..weights import compare, listed, with_axes
from .adapter import DEFAULT, FEEDS, SETUPS
from .network import OFFICIAL, Config, shapes
from .projectors import SENSORS, ImageSensor, Sensor

_MARK = "spatial_encoder.cls_token"
_RELATIVE = "attn.rpe_k.lookup_table_weight"


def recognise(content: Mapping[str, Any]) -> tuple[Config, dict[str, Tensor]]:
    """Say which AnySat a checkpoint holds and return its encoder's tensors.

    Args:
        content: of a file, read without arbitrary unpickling.

    Returns:
        The configuration, and a state dict that `network.build(configuration)` loads strictly.

    Raises:
        ValueError: if it is no AnySat, or naming the tensors that are missing, unknown or of the
            wrong shape.
    """
    state = _encoder(content)
    config = _measure(state)
    compare("AnySat", state, shapes(config))
    return config, state


def card_of(config: Config, setup: str = DEFAULT) -> Card:
    """The card of an encoder with weights of this size, for one setup of sensors.

    Raises:
        ValueError: if the weights lack a sensor of the setup.
    """
    chosen = SETUPS[setup]
    if lacking := [name for name in chosen.feeds if name not in config.sensors]:
        raise ValueError(
            f"These weights of AnySat have no projector for {', '.join(lacking)}, which the setup "
            f"'{setup}' needs."
        )
    sizes = {(c.width, c.depth): name for name, c in OFFICIAL.items()}
    size = sizes.get((config.width, config.depth), str(config.width))
    suffix = "" if setup == DEFAULT else f"-{setup}"
    several = len(chosen.feeds) > 1
    return Card(
        name=f"anysat-{size}{suffix}",
        version="1.0",
        system="anysat",
        paper="Astruc et al., AnySat: One Earth Observation Model for Many Resolutions, Scales, "
        "and Modalities, CVPR 2025, arXiv 2412.14123.",
        licence_code="MIT",
        licence_weights="NOASSERTION",
        sensors=tuple(_sensor(name, several) for name in chosen.feeds),
        observations="One image." if FEEDS[chosen.feeds[0]].most == 1 else
        "Any dates of a year; of more than the most each run of dates gives its clearest.",
        unit="patch",
        patch=chosen.row,
        ground_size_m=chosen.pixel_m,
        dimensions=2 * config.width,
        prefixes=(),
        normalisation="Standardised by band with the authors' published statistics for Sentinel-2 "
        "and aerial images (TreeSatAI, clouds included), Sentinel-1 as linear power with ours. "
        f"Output: the vector of a patch of {chosen.scale * 10} m beside that of the sub-patch.",
        missing_input="Invalid values are replaced by a learned number; a sensor that is absent, "
        "or has seen nothing of a patch, is hidden from all attention.",
        training_data=tuple(TrainingSet(name, licence, source) for name, licence, source in (
            ("TreeSatAI-TS (aerial, S2, S1)", "CC-BY-4.0", "arXiv 2404.08351"),
            ("PASTIS-HD (SPOT, S2, S1)", "NOASSERTION", "arXiv 2404.08351"),
            ("FLAIR (aerial with elevation, S2)", "NOASSERTION", "IGN"),
            ("PLANTED (S2, S1, Landsat 7, ALOS, MODIS)", "NOASSERTION", "arXiv 2412.14123"),
            ("S2-NAIP-urban (NAIP, Landsat 8, S2, S1)", "NOASSERTION", "arXiv 2412.14123"),
        )),
        results=(
            "Published, fine-tuned: TreeSatAI-TS 75.1 weighted F1, PASTIS-HD 66.5 mIoU.",
        ),
        limits=(
            "The licence of the weights is not stated where we could read it.",
            "The authors standardise with the statistics of each data set and publish only those "
            "of a demonstration: other statistics may work better.",
            "Whether the published weights belong to attention over tokens, as here and in all "
            "published use, or to the training code's attention over heads is unknown.",
            "The authors leave clouds in; masked series are rarer in what it has learnt from.",
            "No place on Earth goes in. Two data sets are urban, most others European.",
            f"Windows of {chosen.window} pixels, patches of {chosen.scale * 10} m.",
        ),
        window=chosen.window,
        margin=chosen.margin,
        variant=setup,
    )  # fmt: skip


def _sensor(name: str, optional: bool) -> SensorBands:
    feed = FEEDS[name]
    unit = "dB" if feed.decibel else "0..1" if feed.most == 1 else "reflectance 0..1"
    return SensorBands(feed.sensor, feed.bands, unit, optional,
                       "All its bands, or the sensor is left out." if optional
                       else "All its bands.", most=feed.most)  # fmt: skip


# --- recognition ----------------------------------------------------------------------------------


def _encoder(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The encoder's tensors under their own names: the teacher's, if there is one."""
    nested = content.get("state_dict")
    tensors = nested if isinstance(nested, Mapping) else content
    prefixes = [str(n).removesuffix(_MARK) for n in tensors if str(n).endswith(_MARK)]
    if not prefixes:
        raise ValueError(
            f"no AnySat checkpoint: none of its tensors is called {_MARK}, the token that every "
            "AnySat has in its spatial encoder"
        )
    prefix = next((p for p in prefixes if p.endswith("target_encoder.")), prefixes[0])
    state = {n.removeprefix(prefix): t for n, t in tensors.items() if str(n).startswith(prefix)}
    if strange := [name for name, tensor in state.items() if not isinstance(tensor, Tensor)]:
        raise ValueError(f"no AnySat checkpoint: {listed(strange)} is no tensor")
    return state


def _measure(state: Mapping[str, Tensor]) -> Config:
    """Read the sizes off the tensors."""
    width = with_axes("AnySat", state, "cls_token", 3).shape[2]
    spatial = _count(state, r"spatial_encoder\.predictor_blocks\.(\d+)\.")
    depth = _count(state, r"blocks\.(\d+)\.") - 1
    official = [c for c in OFFICIAL.values() if c.width == width]
    if official:  # so that a lost layer shows
        depth, spatial = official[0].depth, official[0].spatial_depth
    if depth < 0 or not spatial:
        raise ValueError("not complete weights of AnySat: there are no blocks")
    heads = [
        width // max(with_axes("AnySat", state, f"{block}.{_RELATIVE}", 3).shape[1], 1)
        for block in (f"blocks.{depth}", "spatial_encoder.predictor_blocks.0")
    ]
    hidden = with_axes(
        "AnySat", state, "spatial_encoder.predictor_blocks.0.mlp.fc1.weight", 2
    ).shape[0]
    names = [m[1] for n in state if (m := re.match(r"projector_([^.]+)\.", n))]
    sensors = {name: _measured(name, state, width) for name in dict.fromkeys(names)}
    return Config(width, depth, heads[0], spatial, heads[1], sensors, hidden / width)


def _measured(name: str, state: Mapping[str, Tensor], width: int) -> Sensor:
    """A sensor with the sizes of its projector."""
    if name not in SENSORS:
        raise ValueError(
            f"weights of AnySat with an unknown sensor '{name}': known are {', '.join(SENSORS)}"
        )
    sensor, prefix = SENSORS[name], f"projector_{name}."
    if isinstance(sensor, ImageSensor):
        return sensor
    query = with_axes("AnySat", state, f"{prefix}patch_embed.attention_heads.Q", 2)
    layers = [f"{prefix}patch_embed.inconv.{4 * i}.weight" for i in range(5)]
    widths = tuple(with_axes("AnySat", state, layer, 2).shape[0] for layer in layers)
    if width % query.shape[0] or any(w % 4 for w in widths):
        raise ValueError(f"wrong shape in weights of AnySat: {prefix}patch_embed.attention_heads.Q")
    return replace(sensor, heads=query.shape[0], key_width=query.shape[1], widths=widths)


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max((int(m[1]) for n in state if (m := re.match(pattern, n))), default=-1)
