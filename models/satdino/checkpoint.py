"""Official SatDINO weights: from a file's content to a configuration and a clean state dict.

The releases hold {"teacher": backbone, "linear_head": classifier}, training runs {"student",
"teacher", "optimizer", ...} with the backbone beside a projection head, full fine-tunes {"model"}
or {"state_dict"}, conversions the tensors themselves. What stands before the backbone's names
(`module.`, `backbone.`, a wrapper's) is found at the register, which no other transformer has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..cards import Card, SensorBands, TrainingSet
from ..weights import compare, listed, with_axes
from .adapter import BANDS, DEFAULT, WHITE
from .network import OFFICIAL, Config, shapes

NESTINGS = ("teacher", "model", "state_dict", "student")
TRAINING_ONLY = ("head.", "fc.", "linear.", "linear_head.", "gsd_head.")
_REGISTER = "gsd_register"
_HEAD_WIDTH = 64  # of all sizes in the authors' code


def recognise(
    content: Mapping[str, Any], heads: int | None = None
) -> tuple[Config, dict[str, Tensor]]:
    """Say which SatDINO a checkpoint holds and return its backbone's tensors.

    Args:
        content: of a file, read without arbitrary unpickling.
        heads: attention heads, where a head is not 64 wide; tensors do not show them.

    Returns:
        The configuration, and a state dict that `SatDino(configuration)` loads strictly.

    Raises:
        ValueError: if it is no SatDINO, or naming the tensors that are missing, unknown or of the
            wrong shape.
    """
    state = _backbone(content)
    config = _measure(state, heads)
    compare("SatDINO", state, shapes(config))
    return config, state


def card_of(config: Config) -> Card:
    """The card of an encoder with official weights of this size."""
    size = {384: "s", 768: "b"}.get(config.width, f"{config.width}-")
    name = f"satdino-{size}{config.patch}"
    grid = config.side
    return Card(
        name=name,
        version="1.0",
        system="satdino",
        paper="Straka and Gruber, SatDINO: A Deep Dive into Self-Supervised Pretraining for Remote "
        "Sensing, arXiv 2508.21402, 2025.",
        licence_code="Apache-2.0",
        licence_weights="Apache-2.0",
        sensors=tuple(_sensor(name) for name in WHITE),
        observations="One picture. Of several dates each pixel and band takes the median of its "
        "valid values.",
        unit="patch",
        patch=config.patch,
        ground_size_m=1.0,
        dimensions=config.width,
        prefixes=(),
        normalisation=f"Pictures in 0..1, reflectance rendered from 0..{WHITE['sentinel-2']} to "
        f"0..1; then standardised with the statistics of {DEFAULT}. Output: patch tokens after the "
        "last norm.",
        missing_input="Pixels without data are the mean colour; patches without any have no "
        "embedding. All three bands of one optical sensor are needed.",
        training_data=(
            TrainingSet(
                "fMoW-RGB, training part (about 413,000 image chips)",
                "fMoW Challenge Public License",
                "https://github.com/fMoW/dataset",
            ),
        ),
        results=(
            "Published for the class token, not for these patch tokens: 20 nearest neighbours on "
            "EuroSAT, mean of four scales, 86.0 (S/16) and 87.7 (S/8).",
        ),
        limits=(
            "Trained on pictures with pixels of 0.3 to 1.7 m; at 10 m it works outside of what it "
            "has seen.",
            "One date, three visible bands: no time, no infrared, no radar.",
            "How reflectance becomes a picture is this program's choice; the paper has no recipe. "
            "Sensors without a name are taken for pictures.",
            f"Windows of {config.image} pixels ({grid} x {grid} patches); each sees only itself.",
            "It cannot tell the ground size: the head that learnt it was never published.",
        ),
        window=config.image,
        margin=max(1, grid // 14),
        variant=DEFAULT,
    )


def _sensor(name: str) -> SensorBands:
    picture = WHITE[name] == 1
    return SensorBands(
        name,
        BANDS,
        "0..1" if picture else "reflectance 0..1",
        optional=True,
        note="All three bands of one sensor; of several sensors the one named first is used.",
    )


# --- recognition ----------------------------------------------------------------------------------


def _backbone(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The backbone's tensors under their own names."""
    nested = [content[key] for key in NESTINGS if isinstance(content.get(key), Mapping)]
    for tensors in (*nested, content):
        found = [name for name in tensors if re.fullmatch(rf"(.+\.)?{_REGISTER}", str(name))]
        if found:
            break
    else:
        raise ValueError(
            f"no SatDINO checkpoint: none of its tensors is called {_REGISTER}, as every SatDINO "
            "has one beside its class token"
        )
    prefix = found[0].removesuffix(_REGISTER)
    inside = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    state = {n: t for n, t in inside.items() if not n.startswith(TRAINING_ONLY)}
    if strange := [name for name, tensor in state.items() if not isinstance(tensor, Tensor)]:
        raise ValueError(f"no SatDINO checkpoint: {listed(strange)} is no tensor")
    return state


def _measure(state: Mapping[str, Tensor], heads: int | None) -> Config:
    """Read the sizes off the tensors."""
    table = with_axes("SatDINO", state, "pos_embed", 3)
    kernel = with_axes("SatDINO", state, "patch_embed.proj.weight", 4)
    width, bands, patch, _ = kernel.shape
    side = math.isqrt(max(table.shape[1] - 2, 0))
    if side < 1 or side**2 + 2 != table.shape[1]:
        raise ValueError(
            f"wrong shape in weights of SatDINO: pos_embed {tuple(table.shape)} is no square grid "
            "with a class token and a register"
        )
    numbers = [int(m[1]) for n in state if (m := re.match(r"blocks\.(\d+)\.", n))]
    official = [c for c in OFFICIAL.values() if (c.width, c.patch) == (width, patch)]
    depth = official[0].depth if official else 1 + max(numbers, default=0)
    hidden = with_axes("SatDINO", state, "blocks.0.mlp.fc1.weight", 2).shape[0]
    if heads is None and width % _HEAD_WIDTH:
        raise ValueError(
            f"weights of SatDINO with a width of {width}: the number of attention heads is unknown"
        )
    return Config(
        patch=patch,
        width=width,
        depth=depth,
        heads=heads or width // _HEAD_WIDTH,
        image=side * patch,
        mlp_ratio=hidden / width,
        bands=bands,
        qkv_bias="blocks.0.attn.qkv.bias" in state,
    )
