"""Official TESSERA weights: from a file's content to a configuration and a clean state dict.

The releases nest their tensors differently, and only some say what they hold:
  v2 student   {"model": tensors, "args": settings}
  v2 teacher   {"encoder_state_dict": tensors, "arch": settings}
  v1.0, v1.1   {"model_state" or "model_state_dict": tensors, "config": settings (v1.1, optional)}
  conversions  the tensors themselves
Sizes are read from the tensors; only the number of heads leaves no trace in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..cards import Card, SensorBands, TrainingSet
from ..weights import compare
from .export import used_dimensions
from .network import (
    MATRYOSHKA,
    OFFICIAL,
    BackboneConfig,
    TesseraConfig,
    build,
    shapes,
)
from .observations import S1_BANDS, S2_BANDS

__all__ = ["KNOWN", "build", "card_of", "check", "configure", "recognise", "variants_of"]

KNOWN = {
    "bc9929e3643dfab2744c2ce14e7c14f698703a94e9562e4e0982f9d6540b0691":
        "TESSERA v2 nano, student_nano.pt of Hugging Face geotessera/TESSERA-V-2.0-2B-N",
    "92619d4ffc2936895f145fdcf710140b58c23c860e02f01873828b10c6958d95":
        "TESSERA v2 small, student_small.pt of Hugging Face geotessera/TESSERA-V-2.0-2B-S",
    "3823be7db9d9cfc93f3c2a47c7699be82821ab4e1117d4d2befdb746941ee96e":
        "TESSERA v2 medium, student_medium.pt of Hugging Face geotessera/TESSERA-V-2.0-2B-M",
    "b5f20239dbb1849c01a3e407b095aafe39b0bf764300206af78cb9b85f9ec1e1":
        "TESSERA v2 large, student_large.pt of Hugging Face geotessera/TESSERA-V-2.0-2B-L",
    "bfca890a9956485edf9d6be61375fde4cd0b4cb4b47db79596f0523a289aa555":
        "TESSERA v2 teacher, tessera_v2_2B_teacher.pt of Hugging Face "
        "geotessera/TESSERA-V-2.0-2B-Teacher",
}  # fmt: skip

NESTINGS = (  # key of the tensors, key of the settings
    ("encoder_state_dict", "arch"),
    ("model", "args"),
    ("model_state", "config"),
    ("model_state_dict", "config"),
)
TRAINING_ONLY = ("projector.", "segmented_matryoshka_projector.")


def configure(variant: str, settings: Mapping[str, Any]) -> TesseraConfig:
    """The configuration that the authors' own settings describe.

    Args:
        variant: one of `network.VARIANTS`.
        settings: the `args`, `arch` or `config` of a checkpoint.

    Raises:
        ValueError: naming the setting that is missing or cannot be served.
    """
    if settings.get("split_s1_modalities"):
        raise ValueError("TESSERA v1.1 with split_s1_modalities has no published network to build")
    try:
        return _configure(variant, settings)
    except KeyError as missing:
        raise ValueError(f"the settings of TESSERA {variant} lack {missing}") from None


def _configure(variant: str, settings: Mapping[str, Any]) -> TesseraConfig:
    latent = int(settings["latent_dim"])
    width = int(settings.get("d_model", 4 * latent))
    if variant == "v1.1":
        s2, s1 = (
            BackboneConfig(
                width,
                layers=int(settings[f"{sensor}_num_layers"]),
                heads=int(settings[f"{sensor}_num_heads"]),
                feedforward=int(settings[f"{sensor}_dim_feedforward"]),
            )
            for sensor in ("s2", "s1")
        )
        dimensions = int(settings.get("representation_dim", latent))
    else:
        s2 = s1 = BackboneConfig(
            width,
            layers=int(settings["num_layers" if variant[:2] == "v2" else "num_encoder_layers"]),
            heads=int(settings["nhead"]),
            feedforward=int(settings["dim_feedforward"]),
        )
        dimensions = int(settings["repr_dim"]) if variant[:2] == "v2" else latent
    return TesseraConfig(
        variant,
        dimensions,
        s2=s2,
        s1=s1,
        fusion=settings.get("fusion_method", "concat") if variant[:2] == "v1" else "concat",
        qk_norm=variant == "v2_student" and bool(settings.get("enable_qk_norm", False)),
        final_norm=bool(settings.get("final_layernorm", True)),
        prefixes=_prefixes(settings, dimensions) if variant == "v2_student" else (),
    )


def _prefixes(settings: Mapping[str, Any], dimensions: int) -> tuple[int, ...]:
    """`matryoshka_dims`, "16,32,64,128" or a list of numbers; the official ones where it lacks."""
    given = settings.get("matryoshka_dims")
    if given is None:
        return tuple(k for k in MATRYOSHKA if k <= dimensions)
    return tuple(int(k) for k in (given.split(",") if isinstance(given, str) else given))


def recognise(
    checkpoint: Mapping[str, Any], heads: int | None = None
) -> tuple[TesseraConfig, dict[str, Tensor]]:
    """Say which TESSERA a checkpoint holds and return its encoder's tensors under their own names.

    Args:
        checkpoint: the content of an official file, read without arbitrary unpickling
            (`torch.load(..., weights_only=True)` or safetensors).
        heads: attention heads, where the file does not say and they are not the official ones.

    Returns:
        The configuration, and a state dict that `network.build(configuration)` loads strictly:
        wrapper prefixes stripped, the training's projector dropped.

    Raises:
        ValueError: if it is no TESSERA, or naming the tensors that are missing, unknown or of the
            wrong shape.
    """
    tensors, settings = _unwrap(checkpoint)
    state = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    state = {n: t for n, t in state.items() if not n.startswith(TRAINING_ONLY)}
    variant = _variant(state)
    config = _measure(variant, state, settings, heads)
    check(state, config)
    return config, state


def check(state: Mapping[str, Tensor], config: TesseraConfig) -> None:
    """Compare a state dict with what a configuration needs.

    Raises:
        ValueError: naming the tensors that are missing, unknown or of the wrong shape.
    """
    compare(f"TESSERA {config.variant}", state, shapes(config))



def _unwrap(checkpoint: Mapping[str, Any]) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
    tensors, settings = checkpoint, {}
    for key, beside in NESTINGS:
        if isinstance(checkpoint.get(key), Mapping):
            tensors, settings = checkpoint[key], checkpoint.get(beside) or {}
            break
    if tensors and all(isinstance(value, Tensor) for value in tensors.values()):
        return tensors, settings
    raise ValueError(
        "no TESSERA checkpoint: it holds neither tensors nor one of the entries "
        + ", ".join(key for key, _ in NESTINGS)
    )


def _variant(state: Mapping[str, Tensor]) -> str:
    def has(*beginnings: str) -> bool:
        return any(name.startswith(beginnings) for name in state)

    pool = "s2_backbone.attn_pool."
    if not has(pool):
        raise ValueError(f"no TESSERA checkpoint: none of its tensors is called {pool}*")
    if has(f"{pool}temporal_context.gru_cell."):
        return "v1.1" if has("dim_reducer.1.", "dim_reducer.4.") else "v1.0_qat"
    if has(f"{pool}temporal_context."):
        return "v1.0_early"
    return "v2_teacher" if has("fusion_") else "v2_student"


def _measure(
    variant: str, state: Mapping[str, Tensor], settings: Mapping[str, Any], heads: int | None
) -> TesseraConfig:
    """Read the sizes off the tensors, and what they do not show from the settings."""
    layers, stack = {}, "transformer_encoder.layers."
    qk_norm = any(n.startswith("s2_backbone.transformer_encoder.0.") for n in state)
    if qk_norm:
        stack = "transformer_encoder."
    for sensor in ("s2", "s1"):
        pattern = re.compile(rf"{sensor}_backbone\.{re.escape(stack)}(\d+)\.")
        layers[sensor] = 1 + max((int(m[1]) for n in state if (m := pattern.match(n))), default=0)
    if variant != "v1.1":  # in all others both have as many, so a lost layer shows
        layers["s2"] = layers["s1"] = max(layers.values())

    def backbone(sensor: str) -> BackboneConfig:
        prefix = f"{sensor}_backbone."
        width = _size(state, f"{prefix}embedding.2.weight", 0)
        count = heads or settings.get("nhead") or settings.get(f"{sensor}_num_heads")
        if variant == "v2_teacher" or qk_norm:
            count = width // _size(state, f"{prefix}{stack}0.q_norm.weight", 0)
        stated = settings.get("num_layers") or settings.get(f"{sensor}_num_layers")
        return BackboneConfig(
            width,
            layers=int(stated or layers[sensor]),
            heads=int(count or (8 if variant == "v1.0_early" else 4)),
            feedforward=_size(state, f"{prefix}{stack}0.linear1.weight", 0),
        )

    s2, s1 = backbone("s2"), backbone("s1")
    linear = variant in ("v1.0_early", "v1.0_qat")
    dimensions = _size(state, f"dim_reducer.{0 if linear else 4}.weight", 0)
    fused = _size(state, "dim_reducer.0.weight", 1)
    return TesseraConfig(
        variant,
        dimensions,
        s2=s2,
        s1=s1,
        fusion="sum" if fused == s2.width else "concat",
        qk_norm=qk_norm,
        final_norm=bool(settings.get("final_layernorm", True)),
        prefixes=_prefixes(settings, dimensions) if variant == "v2_student" else (),
    )


def _size(state: Mapping[str, Tensor], name: str, axis: int) -> int:
    if name not in state:
        raise ValueError(f"not complete weights of TESSERA: missing {name}")
    if state[name].ndim <= axis:
        raise ValueError(f"wrong shape in weights of TESSERA: {name} {tuple(state[name].shape)}")
    return state[name].shape[axis]


# --- the card -------------------------------------------------------------------------------------

_WEIGHTS = {  # of the network to the sets of rules that the adapter knows, the usual one first
    "v1.0_early": ("v1.0-early",), "v1.0_qat": ("v1.0-qat",), "v1.1": ("v1.1-mpc", "v1.1-aws"),
    "v2_student": ("v2-student",), "v2_teacher": ("v2-teacher",),
}  # fmt: skip
_RULES = {
    "v1.0": "40 observations of each sensor, drawn as at random, the same for all pixels with as "
    "many valid ones; repeated where there are fewer.",
    "v1.1": "All valid observations of a calendar year, filled up to 8, 16 ... 256 by repeating "
    "some; thinned evenly beyond.",
}


def variants_of(config: TesseraConfig) -> tuple[str, ...]:
    """What the adapter may do for these weights: v1.1 was published for two sources of scenes."""
    return _WEIGHTS[config.variant]


def card_of(config: TesseraConfig, variant: str = "") -> Card:
    """The card of an encoder with official weights of this configuration.

    Args:
        config: of the weights.
        variant: one of `variants_of`; "" for the usual one.
    """
    variant = variant or variants_of(config)[0]
    first = config.variant.startswith("v1.0")
    sizes = {
        (c.variant, c.s2.width): name.removeprefix("v2_student_") for name, c in OFFICIAL.items()
        if c.variant == "v2_student"
    }  # fmt: skip
    size = sizes.get((config.variant, config.s2.width), "")
    name = f"tessera-{variant}" + (f"-{size}" if size else "")
    most = 40 if first else 0
    used = used_dimensions(config)
    needs = "Needed; all ten bands." if first else "All ten bands or none of the sensor."
    return Card(
        name=name.replace("v2-student-", "v2-"),
        version="1.0",
        system="tessera",
        paper="Feng et al., TESSERA, CVPR 2026, arXiv 2506.20380; v2: arXiv 2607.03949.",
        licence_code="MIT",
        licence_weights="CC0-1.0",
        sensors=(
            SensorBands("sentinel-2", S2_BANDS, "reflectance 0..1", not first, needs, most),
            SensorBands("sentinel-1", S1_BANDS, "dB", config.variant != "v1.0_early",
                        "Both or none of the sensor. Scenes of unknown orbit count as ascending.",
                        most),
        ),
        observations=_RULES.get(variant[:4], _RULES["v1.1"]),
        unit="pixel",
        patch=1,
        ground_size_m=10.0,
        dimensions=used,
        prefixes=tuple(k for k in config.prefixes if k < used),
        normalisation="Sentinel-2 as digital numbers, Sentinel-1 as code (2 dB + 50) 200, both "
        f"standardised by the constants of {variant}. Output: "
        + ("the first 128 of 192 numbers, as the authors store them."
           if used < config.dimensions else "the whole vector."),
        missing_input="Masked dates are left out and others repeated; there is no mask in the "
        "network. A sensor without any valid date is "
        + ("zeros or, where all its dates are masked, those." if first else "a row of zeros."),
        training_data=(
            TrainingSet("Sentinel-1 and Sentinel-2 pixel time series, worldwide, 2017-2024",
                        "Copernicus Sentinel data", "arXiv 2506.20380"),
        ),
        results=(),
        limits=(
            "A time series model of one pixel: no texture, no shape; from one date it knows "
            "little.",
            "Vectors computed here need not match downloaded ones: scenes, masks and versions "
            "differ. Never mix versions.",
            "v1.1 has weights for scenes of Microsoft's archive (mpc) and of Amazon's (aws), which "
            "the file itself does not tell." if variant.startswith("v1.1") else
            "Made for the level-2A scenes of Microsoft's archive (mpc).",
            "Heavy without a graphics card; the bundled tessera-student is made for that.",
        ),
        variant=variant,
    )  # fmt: skip
