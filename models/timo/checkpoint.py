"""TiMo's weights: from a file's content to a configuration and a clean state dict.

No weights are published. Files of the authors' training code are {"model": tensors, "optimizer",
"epoch", "scaler", "args"}; the tensors are those of pretraining (with a decoder), of a classifier
(with a gate in every block), or of segmentation (the encoder behind `encoder.`), possibly behind
`module.`. Which one it is decides which kind of attention the stages had.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..cards import Card, SensorBands, TrainingSet
from ..satdino.adapter import WHITE
from ..weights import compare, listed
from .adapter import LAYOUTS, PATCH, Layout
from .network import OFFICIAL, Config, build, shapes

NESTINGS = ("model", "state_dict")
TRAINING_ONLY = ("mask_token", "decoder_", "decoder.", "semseghead.", "head.")
WINDOW = 128
STAGE = 3  # whose maps are the embedding: the finest that has patches of 16 pixels
_FIRST = "patch_embed1.conv.0.weight"


def recognise(
    content: Mapping[str, Any], heads: tuple[int, ...] | None = None
) -> tuple[Config, dict[str, Tensor]]:
    """Say which TiMo a checkpoint holds and return its encoder's tensors.

    Args:
        content: of a file, read without arbitrary unpickling.
        heads: attention heads of each stage, for sizes that are not the authors'.

    Returns:
        The configuration, and a state dict that `build(configuration)` loads strictly.

    Raises:
        ValueError: if it is no TiMo, or naming the tensors that are missing, unknown or of the
            wrong shape.
    """
    state = _encoder(content)
    config = _measure(state, heads)
    with torch.device("meta"):
        wanted = shapes(build(config))
    compare("TiMo", state, wanted)
    return config, state


def layout_for(config: Config) -> str:
    """The layout of the inputs that such weights were trained with.

    Raises:
        ValueError: no data set of the paper has so many bands.
    """
    if config.bands == 3:
        return "millionst" if set(config.attention) == {"full"} else "sen12-flood"
    for name, layout in LAYOUTS.items():
        if len(layout.bands) == config.bands:
            return name
    known = sorted({len(layout.bands) for layout in LAYOUTS.values()})
    raise ValueError(
        f"TiMo with {config.bands} bands: which they are is not known; known are inputs of "
        f"{', '.join(map(str, known))} bands"
    )


def card_of(config: Config) -> Card:
    """The card of an encoder of this size and input."""
    sizes = {official.widths: name for name, official in OFFICIAL.items()}
    size = sizes.get(config.widths, "-".join(map(str, config.widths)))
    variant = layout_for(config)
    layout = LAYOUTS[variant]
    pretrained = set(config.attention) == {"full"}
    scaling = {
        "rendered": f"Reflectance rendered from 0..{WHITE['sentinel-2']} to pictures in 0..1.",
        "reflectance": "Reflectance as it is.",
        "range": "Each band of each image from its least to its largest value to 0..1.",
    }[layout.scaling]
    limits = [
        "How good its frozen features are nobody has published: the authors fine-tune all of it.",
        "Which stage makes the embedding is this program's choice: the third, its mean over time.",
        "The order of the dates counts, their distance does not.",
        f"Windows of {WINDOW} pixels; each sees only itself.",
        "The authors' code states no licence, and they have published no weights.",
    ]
    if pretrained:
        limits.append("All stages attend fully, as in pretraining: the early stages are slow.")
    if layout.scaling == "range":
        limits.append("Values are scaled by window: windows may differ where they meet.")
    return Card(
        name=f"timo-{size}-{variant}",
        version="1.0",
        system="timo",
        paper="Qin et al., TiMo: Spatiotemporal Foundation Model for Satellite Image Time Series, "
        "arXiv 2505.08723, 2025.",
        licence_code="NOASSERTION",
        licence_weights="NOASSERTION",
        sensors=tuple(_sensor(name, layout) for name in layout.sensors),
        observations=f"1 to {layout.most} dates; of more, the clearest of each part of the series.",
        unit="patch",
        patch=PATCH,
        ground_size_m=10.0,
        dimensions=config.widths[STAGE - 1],
        prefixes=(),
        normalisation=f"{scaling} Input of {layout.source}. Output: the map of stage {STAGE} after "
        "its norm, mean over the dates.",
        missing_input="Dates without data are left out; gaps are filled with the pixel's value of "
        "the nearest date, pixels never seen are 0, and patches without any have no embedding."
        if layout.scaling != "range"
        else "Dates without data are left out; gaps are -1, patches without any data have no "
        "embedding.",
        training_data=_training_data(layout, pretrained),
        results=(),
        limits=tuple(limits),
        window=WINDOW,
        margin=1,
        variant=variant,
    )


def _training_data(layout: Layout, pretrained: bool) -> tuple[TrainingSet, ...]:
    """What the authors' recipe for such weights says; nobody has published any."""
    million = TrainingSet(
        "MillionST (100,000 places, 10 dates of Sentinel-2 each), by the authors' recipe",
        "not released; contains modified Copernicus Sentinel data",
        "arXiv 2505.08723",
    )
    tuned = TrainingSet(f"{layout.source}, by the authors' recipe", "NOASSERTION", layout.source)
    return (million,) if pretrained else (million, tuned)


def _sensor(name: str, layout: Layout) -> SensorBands:
    return SensorBands(
        name,
        layout.bands,
        "dB" if name == "sentinel-1" else "reflectance 0..1",
        optional=len(layout.sensors) > 1,
        note="All bands are needed; of several sensors that have them the one named first is used.",
        most=layout.most,
    )


# --- recognition ----------------------------------------------------------------------------------


def _encoder(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The encoder's tensors under their own names."""
    nested = [content[key] for key in NESTINGS if isinstance(content.get(key), Mapping)]
    for tensors in (*nested, content):
        found = [name for name in tensors if f".{name}".endswith(f".{_FIRST}")]
        if found and any("block4." in name for name in tensors):
            break
    else:
        raise ValueError(
            f"no TiMo checkpoint: its tensors are not called {_FIRST}, block4.* and so on"
        )
    prefix = found[0].removesuffix(_FIRST)
    inside = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    state = {n: t for n, t in inside.items() if not n.startswith(TRAINING_ONLY)}
    if strange := [name for name, tensor in state.items() if not isinstance(tensor, Tensor)]:
        raise ValueError(f"no TiMo checkpoint: {listed(strange)} is no tensor")
    return state


def _measure(state: Mapping[str, Tensor], heads: tuple[int, ...] | None) -> Config:
    """Read the sizes off the tensors."""
    widths = tuple(_size(state, f"norm{i}.weight", 0) for i in range(1, 5))
    official = next((c for c in OFFICIAL.values() if c.widths == widths), None)
    depths = official.depths if official else tuple(_depth(state, i) for i in range(1, 5))
    gates = [any(f"block{i}." in n and "cheap_operation" in n for n in state) for i in range(1, 5)]
    late = "full", "full"  # the early stages of all but pretraining have gates
    kinds = ("differential", "differential", *late) if any(gates) else ("full", "full", *late)
    if heads is None:
        heads = official.heads if official else _heads(state, widths, gates)
    return Config(
        widths=widths,
        heads=heads,
        depths=depths,
        attention=kinds,
        bands=_size(state, _FIRST, 1),
        mlp_ratios=tuple(
            _size(state, f"block{i}.0.mlp.fc1.weight", 0) / width
            for i, width in enumerate(widths, start=1)
        ),
        qkv_bias="block1.0.attn.q.bias" in state,
        stem_kernel=_size(state, _FIRST, 2),
        layer_scale=1e-4 if "block1.0.gamma_1" in state else 0.0,
        gates_everywhere=all(gates),
    )


def _heads(
    state: Mapping[str, Tensor], widths: tuple[int, ...], gates: list[bool]
) -> tuple[int, ...]:
    """Attention heads where every stage has a gate, whose row is as wide as a head."""
    if not all(gates):
        raise ValueError(
            f"weights of TiMo with widths {widths}: the number of attention heads is unknown"
        )
    names = [f"block{i}.0.attn.cheap_operation.0.weight" for i in range(1, 5)]
    sizes = [_size(state, name, 1) for name in names]
    for name, size, width in zip(names, sizes, widths, strict=True):
        if width % size:
            raise ValueError(
                f"wrong shape in weights of TiMo: {name} {tuple(state[name].shape)} does not "
                f"divide a width of {width}"
            )
    return tuple(width // size for width, size in zip(widths, sizes, strict=True))


def _depth(state: Mapping[str, Tensor], stage: int) -> int:
    pattern = re.compile(rf"block{stage}\.(\d+)\.")
    return 1 + max((int(m[1]) for n in state if (m := pattern.match(n))), default=0)


def _size(state: Mapping[str, Tensor], name: str, axis: int) -> int:
    if name not in state:
        raise ValueError(f"not complete weights of TiMo: missing {name}")
    if state[name].ndim <= axis or state[name].shape[axis] < 1:
        raise ValueError(f"wrong shape in weights of TiMo: {name} {tuple(state[name].shape)}")
    return state[name].shape[axis]
