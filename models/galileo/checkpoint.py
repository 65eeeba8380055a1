"""Official Galileo weights: from a file's content to a configuration and a clean state dict.

`encoder.pt` (or `target_encoder.pt`, its slow copy) of a size is a flat dictionary; some files have
an extra `.backbone` inside names. Sizes are read from the tensors; only the number of heads leaves
no trace in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..cards import Card, TrainingSet
from ..presto.checkpoint import depth, encoder_part, sensor_bands, size, unwrap
from ..weights import compare
from .network import OFFICIAL, Config, Encoder
from .variants import VARIANTS

KNOWN = {
    "eab6acacf527886a508a555bc24efe4b4a2cf91b162e84cd1c4a1807e942180c":
        "Galileo nano, encoder.pt of GitHub nasaharvest/galileo",
    "16387a78152e26b3af4df2309967282b43ed84047963e1c90f7229c8fda38e85":
        "Galileo nano, target_encoder.pt of GitHub nasaharvest/galileo (the slow copy)",
    "5fb59610542aca180094a162460cb57e4198943a9f63d7e12ab7bbe314f57e46":
        "Galileo nano, decoder.pt (pretraining only)",
    "6ec7cc8cdd091aa3461885e1ecd9a7652620b0d208fbac11a4f8b5e6654e07be":
        "Galileo nano, second_decoder.pt (pretraining only)",
}  # fmt: skip
_WRAPPERS = (".backbone", "module.", "_orig_mod.")
_MARK = "space_time_embed.S1.proj.weight"
_HEADS = {config.embedding_size: config.num_heads for config in OFFICIAL.values()}
_RESULTS = {
    "nano": "Togo 73.5, Brazil 76.4, Kenya 84.5, BreizhCrops 67.3",
    "tiny": "Togo 74.7, Brazil 97.2, Kenya 85.4, BreizhCrops 69.0",
    "base": "Togo 74.8, Brazil 99.3, Kenya 84.2, BreizhCrops 73.0",
}


def recognise(
    content: Mapping[str, Any], heads: int | None = None
) -> tuple[Config, dict[str, Tensor]]:
    """Say which Galileo a checkpoint holds and return its encoder's tensors.

    Args:
        content: of a file, read without arbitrary unpickling.
        heads: attention heads, where the width is not that of an official size.

    Returns:
        The configuration, and a state dict that `Encoder(configuration)` loads strictly.

    Raises:
        ValueError: if it is no Galileo encoder, or naming the tensors that are missing, unknown or
            of the wrong shape.
    """
    tensors = unwrap(content, _WRAPPERS)
    state = encoder_part(tensors, _MARK)
    if _MARK not in state:
        if "encoder_to_decoder_embed.weight" in tensors and "s_t_channel_embed" in tensors:
            raise ValueError(
                "no Galileo encoder: this is its predictor, which only the pretraining needs; "
                "choose encoder.pt of the same folder"
            )
        raise ValueError(f"no Galileo checkpoint: none of its tensors is called {_MARK}")
    config = _measure(state, heads)
    with torch.device("meta"):
        wanted = {name: tuple(t.shape) for name, t in Encoder(config).state_dict().items()}
    compare("Galileo", state, wanted)
    return config, state


def build(config: Config) -> Encoder:
    """The encoder with random weights, in evaluation mode."""
    return Encoder(config).eval()


def _measure(state: Mapping[str, Tensor], heads: int | None) -> Config:
    width = size("Galileo", state, "norm.weight", 0)
    heads = heads or _HEADS.get(width)
    if heads is None:
        raise ValueError(
            f"no official Galileo has vectors of {width} numbers (but {', '.join(map(str, _HEADS))}"
            "), and the file does not say how many attention heads it has"
        )
    return Config(
        embedding_size=width,
        depth=depth(state),
        num_heads=heads,
        mlp_ratio=size("Galileo", state, "blocks.0.mlp.fc1.weight", 0) / width,
        max_sequence_length=size("Galileo", state, "pos_embed", 0),
        max_patch_size=size("Galileo", state, _MARK, 3),
    )


def card_of(config: Config, variant: str = "pixel") -> Card:
    """The card of an encoder with official weights of this size, as one of `variants.VARIANTS`."""
    shape = VARIANTS[variant]
    official = {of.embedding_size: name for name, of in OFFICIAL.items()}
    name = official.get(config.embedding_size, str(config.embedding_size))
    most = min(config.max_sequence_length, shape.most)
    pixel = variant == "pixel"
    published = (
        f"F1 x 100 of whole series with weather, terrain and location: {_RESULTS[name]} "
        "(the paper's Galileo-" + name + "; not measured here).",
    ) if name in _RESULTS else ()  # fmt: skip
    speed = (
        "A transformer over 7 tokens a month and pixel: some hundred pixels a second on one core "
        "with nano, fewer with the larger sizes."
        if pixel
        else "Patches of 80 m: it shows fields and settlements, not their edges."
    )
    return Card(
        name=f"galileo-{name}" if pixel else f"galileo-{name}-patch{shape.patch}",
        version="1.0",
        system="galileo",
        paper="Tseng, Fuller, Reil, Herzog, Beukema, Bastani, Green, Shelhamer, Kerner, Rolnick, "
        "Galileo: Learning Global and Local Features of Many Remote Sensing Modalities, ICML 2025, "
        "arXiv 2502.09356.",
        licence_code="MIT",
        licence_weights="MIT" if name == "nano" else "unknown (probably MIT)",
        sensors=sensor_bands(most),
        observations=f"The mean of each calendar month, in the order of time; up to {most} months, "
        "of a longer stack those in a row with most scenes. The weights were trained on 3 to 12; "
        "one month works.",
        unit="pixel" if pixel else "patch",
        patch=shape.patch,
        ground_size_m=10.0,
        dimensions=config.embedding_size,
        prefixes=(),
        normalisation="Mean - 2 std .. mean + 2 std of the pretraining data becomes 0..1, NDVI as "
        "it is. Output: the mean of the visible tokens of a "
        + ("pixel." if pixel else
           "patch, less what its place in the window alone adds (measured on noise)."),
        missing_input="Tokens of missing months, bands and sensors are left out, as in the paper; "
        "so are weather, terrain, maps, night lights, population and location."
        + ("" if pixel else " A patch counts in a month if half of its pixels are clear."),
        training_data=(
            TrainingSet(
                "Galileo's pretraining tiles: 127,155 places worldwide, 2022-2023; Sentinel-1, "
                "Sentinel-2 L1C, ERA5-Land, TerraClimate, VIIRS, SRTM, Dynamic World, WorldCereal, "
                "LandScan",
                "not stated by the authors; of the products: free with attribution",
                "Google Earth Engine, arXiv 2502.09356",
            ),
        ),
        results=published,
        limits=(
            "Trained on top-of-atmosphere reflectance (L1C); how much surface reflectance (L2A) "
            "costs is not known. The authors evaluate on both.",
            "Sentinel-1 and Sentinel-2 only; other sensors are refused.",
            "The paper's composites (the clearest scene of 30 days, the median radar scene) are "
            "made otherwise than these means of all clear scenes.",
            speed,
        ),
        window=shape.window,
        margin=shape.margin,
        variant=variant,
    )  # fmt: skip
