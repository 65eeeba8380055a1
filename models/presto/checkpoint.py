"""Official Presto weights: from a file's content to a configuration and a clean state dict.

The files are flat: `encoder.*`, with `decoder.*` in the original one and a `head.*` in some of
WorldCereal's; conversions may hold the encoder's tensors alone. Sizes are read from the tensors;
only the number of heads leaves no trace in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..cards import Card, SensorBands, TrainingSet
from ..weights import compare
from . import adapter
from .composites import BANDS
from .network import OFFICIAL, Config, Encoder

KNOWN = {
    "559c9d76f525bdf2dd3774da8b1e7f1510769b73baacac12e9e4d8d5c67fbe65":
        "Presto, default_model.pt of GitHub nasaharvest/presto",
    "5c11407d84b7f622e415796d13e9790eb6d7c2545510041a64abf60bd4f138fc":
        "Presto fine-tuned for WorldCereal, finetuned_presto_model.pt of GitHub "
        "WorldCereal/prometheo",
}  # fmt: skip
NESTINGS = ("model", "state_dict", "model_state_dict")
_WRAPPERS = ("module.", "_orig_mod.")
_MARK = "latlon_embed.weight"  # no other encoder has it


def recognise(
    content: Mapping[str, Any], heads: int | None = None
) -> tuple[Config, dict[str, Tensor]]:
    """Say which Presto a checkpoint holds and return its encoder's tensors.

    Args:
        content: of a file, read without arbitrary unpickling.
        heads: attention heads, where they are not the official eight.

    Returns:
        The configuration, and a state dict that `Encoder(configuration)` loads strictly.

    Raises:
        ValueError: if it is no Presto, or naming the tensors that are missing, unknown or of the
            wrong shape.
    """
    state = encoder_part(unwrap(content, _WRAPPERS), _MARK)
    if _MARK not in state or not any(name.startswith("eo_patch_embed.") for name in state):
        raise ValueError(
            f"no Presto checkpoint: none of its tensors is called encoder.{_MARK} beside "
            "encoder.eo_patch_embed.*"
        )
    config = _measure(state, heads or OFFICIAL["presto"].encoder_num_heads)
    with torch.device("meta"):
        wanted = {name: tuple(t.shape) for name, t in Encoder(config).state_dict().items()}
    compare("Presto", state, wanted)
    return config, state


def build(config: Config) -> Encoder:
    """The encoder with random weights, in evaluation mode."""
    return Encoder(config).eval()


def _measure(state: Mapping[str, Tensor], heads: int) -> Config:
    width = size("Presto", state, "norm.weight", 0)
    return Config(
        encoder_embedding_size=width,
        channel_embed_ratio=size("Presto", state, "channel_embed.weight", 1) / width,
        month_embed_ratio=size("Presto", state, "month_embed.weight", 1) / width,
        encoder_depth=depth(state),
        mlp_ratio=size("Presto", state, "blocks.0.mlp.fc1.weight", 0) / width,
        encoder_num_heads=heads,
        max_sequence_length=size("Presto", state, "pos_embed", 1),
    )


# --- what Galileo's files need too ----------------------------------------------------------------


def unwrap(content: Mapping[str, Any], wrappers: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of a file, nested or not, without what wrappers put into their names."""
    nested = (content[key] for key in NESTINGS if isinstance(content.get(key), Mapping))
    tensors = next(nested, content)
    state = {}
    for name, tensor in tensors.items():
        if isinstance(name, str) and isinstance(tensor, Tensor):
            for wrapper in wrappers:
                name = name.replace(wrapper, "")
            state[name] = tensor
    return state


def encoder_part(state: Mapping[str, Tensor], mark: str) -> dict[str, Tensor]:
    """The encoder's tensors under their own names, where they stand behind `encoder.`."""
    if mark in state:
        return dict(state)
    prefix = "encoder."
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def size(system: str, state: Mapping[str, Tensor], name: str, axis: int) -> int:
    """The length of a tensor along an axis; a ValueError names it if it is missing."""
    if name not in state:
        raise ValueError(f"not complete weights of {system}: missing {name}")
    if state[name].ndim <= axis:
        raise ValueError(f"wrong shape in weights of {system}: {name} {tuple(state[name].shape)}")
    return state[name].shape[axis]


def depth(state: Mapping[str, Tensor]) -> int:
    """One more than the largest number of a block."""
    found = (re.match(r"blocks\.(\d+)\.", name) for name in state)
    return 1 + max((int(match[1]) for match in found if match), default=0)



def sensor_bands(most: int) -> tuple[SensorBands, ...]:
    """What the composites of Presto and Galileo take; `most` months."""
    optical, radar = BANDS[2:-1], BANDS[:2]
    return (
        SensorBands(
            "sentinel-2", optical, "reflectance 0..1", optional=True,
            note="Groups blue-green-red, red edge, nir, nir08 and swir may each be absent; red and "
            "nir make NDVI.", most=most,
        ),
        SensorBands(
            "sentinel-1", radar, "dB", optional=True,
            note="Both polarisations; of two orbit directions the one with more scenes.", most=most,
        ),
    )  # fmt: skip


# --- the card -------------------------------------------------------------------------------------


def card_of(config: Config) -> Card:
    """The card of an encoder with official weights of this size."""
    worldcereal = config.max_sequence_length == OFFICIAL["presto-worldcereal"].max_sequence_length
    trained = (
        TrainingSet(
            "Presto's pretraining pixels: monthly Sentinel-1, Sentinel-2, ERA5, SRTM and Dynamic "
            "World of 2020-2021, worldwide",
            "not stated by the authors; of the products: free with attribution",
            "Google Earth Engine, arXiv 2304.14065",
        ),
    )
    tuned = TrainingSet("fine-tuning data of WorldCereal: not stated for this file", "unknown",
                        "GitHub WorldCereal/prometheo")  # fmt: skip
    published = (
        "CropHarvest, logistic regression on these features with weather and location, F1: Togo "
        "0.798, Brazil 0.891, Kenya 0.816 (the paper's; not measured here)."
    )
    most = min(config.max_sequence_length, adapter.MOST_MONTHS)
    return Card(
        name="presto-worldcereal" if worldcereal else "presto",
        version="1.0",
        system="presto",
        paper="Tseng, Cartuyvels, Zvonkov, Purohit, Rolnick, Kerner, Lightweight, Pre-trained "
        "Transformers for Remote Sensing Timeseries, arXiv 2304.14065.",
        licence_code="MIT",
        licence_weights="MIT",
        sensors=sensor_bands(most),
        observations=f"The mean of each calendar month, in the order of time; up to {most} months, "
        "of a longer stack those in a row with most scenes. The weights were trained on 12; one "
        "month works.",
        unit="pixel",
        patch=1,
        ground_size_m=10.0,
        dimensions=config.encoder_embedding_size,
        prefixes=(),
        normalisation="S1 (dB + 25) / 25, reflectance 0..1 and NDVI as they are. Output: the norm "
        "of the mean of the visible tokens, the location's included.",
        missing_input="Tokens of missing months, bands and sensors are left out, as in the paper; "
        "so are weather, terrain and Dynamic World. The location cannot be left out and is the "
        "same for all.",
        training_data=(*trained, tuned) if worldcereal else trained,
        results=() if worldcereal else (published,),
        limits=(
            "It sees a pixel's series only: no texture, no shape.",
            "Sentinel-1 and Sentinel-2 only; other sensors are refused.",
            "Trained with weather, terrain and the true location, which are not given here.",
            "The paper's composites are made otherwise than these means of all clear scenes.",
        ),
    )
