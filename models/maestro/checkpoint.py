"""Official MAESTRO weights: from a file's content to a configuration and the encoder's tensors.

Lightning checkpoints hold {"state_dict": {"model.<tensor>", "ema_model.<tensor>"},
"hyper_parameters": settings}; the authors use `model.` for features. Decoder, mask tokens and heads
are left out. The layout shows in the names and shapes of the patch embeddings, except for the side
of images and the position grid, which are those of the official layout of these names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..cards import Card, SensorBands, TrainingSet
from ..weights import compare, listed, with_axes
from .adapter import Setup, setup_of
from .layout import EXTRAS, LAYOUTS, Input, Layout
from .network import SIZES, Config, shapes

TRAINING_ONLY = ("embed_to_rec.", "mask_token.", "enc_to_dec.", "decoder.", "heads.")
_MARK = re.compile(r"^(.*?)patch_embed\.([^.]+)\.patchify_bands\.(\d+)\.conv\.weight$")
_HEAD_WIDTH = 64  # of all official sizes
_NAMES = {192: "tiny", 384: "small", 768: "base", 1024: "large"}
_DATA = {
    "flair": ("FLAIR-HUB", TrainingSet("FLAIR-HUB (aerial, elevation, S2, S1)", "NOASSERTION",
                                       "https://huggingface.co/datasets/IGNF/FLAIR-HUB")),
    "s2_naip": ("S2-NAIP-urban", TrainingSet("S2-NAIP-urban (NAIP, S2, S1)", "NOASSERTION",
                                             "arXiv 2412.14123")),
    "treesatai_ts": ("TreeSatAI-TS", TrainingSet("TreeSatAI-TS (aerial, S2, S1)", "CC-BY-4.0",
                                                 "arXiv 2404.08351")),
    "pastis_hd": ("PASTIS-HD", TrainingSet("PASTIS-HD (SPOT, S2, S1)", "NOASSERTION",
                                           "arXiv 2404.08351")),
}  # fmt: skip


def recognise(content: Mapping[str, Any]) -> tuple[Config, dict[str, Tensor]]:
    """Say which MAESTRO a checkpoint holds and return its encoder's tensors.

    Args:
        content: of a file, read without arbitrary code.

    Returns:
        The configuration, and a state dict that `network.build(configuration)` loads strictly.

    Raises:
        ValueError: if it is no MAESTRO, or naming the tensors that are missing, unknown or of the
            wrong shape.
    """
    whole = _tensors(content)
    settings = content.get("hyper_parameters")
    config = _measure(whole, settings if isinstance(settings, Mapping) else {})
    state = {n: t for n, t in whole.items() if not n.startswith(TRAINING_ONLY)}
    compare("MAESTRO", state, shapes(config))
    return config, state


def layout_name(layout: Layout) -> str:
    """The official layout that a checkpoint's inputs belong to.

    Raises:
        ValueError: if there is none.
    """
    for name, official in LAYOUTS.items():
        if official.window_m == layout.window_m:
            return name
    raise ValueError(f"No official layout of MAESTRO has windows of {layout.window_m:g} m.")


def card_of(config: Config, inputs: Sequence[str] = ()) -> Card:
    """The card of an encoder that takes some of the inputs of its weights.

    Args:
        config: of the weights.
        inputs: names; by default the series of Sentinel-2 and Sentinel-1.

    Raises:
        ValueError: for an input that the layout lacks or a cube cannot hold.
    """
    name = layout_name(config.layout)
    chosen = tuple(config.layout.only(inputs or config.layout.series).inputs)
    variant = f"{name}:{'+'.join(chosen)}"
    setup = setup_of(variant)
    size = _NAMES.get(config.width, str(config.width))
    suffix = "" if chosen == config.layout.series else "-" + "-".join(chosen)
    return Card(
        name=f"maestro-{name.replace('_', '-')}-{size}{suffix.replace('_', '-')}",
        version="1.0",
        system="maestro",
        paper="Labatie et al., MAESTRO: Masked AutoEncoders for Multimodal, Multitemporal, and "
        "Multispectral Earth Observation Data, WACV 2026, arXiv 2508.10894.",
        licence_code="Apache-2.0",
        licence_weights="NOASSERTION",
        sensors=_sensors(setup),
        observations="; ".join(f"{n}: {setup.layout.inputs[n].dates} dates at most"
                               for n in chosen) + ". The clearest of equal runs of dates.",
        unit="patch",
        patch=setup.window // setup.grid,
        ground_size_m=setup.layout.window_m / setup.window,
        dimensions=config.width,
        prefixes=(),
        normalisation="Values are divided by the data set's own numbers; no mean, no deviation. "
        "Output: mean of the features of all inputs and dates at a place.",
        missing_input="Gaps are filled from other dates; tokens that are mostly filled, and inputs "
        "that are absent, are hidden from all attention.",
        training_data=(_DATA[name][1],),
        results=(
            "Published, fine-tuned, pretrained on FLAIR-HUB: TreeSatAI-TS 79.6 weighted F1, "
            "PASTIS-HD 68.0 mIoU; on S2-NAIP-urban: 78.8 and 67.4.",
        ),
        limits=(
            "The licence of the weights is not stated where we could read it.",
            "The authors fine-tune and publish no figures for frozen features.",
            f"Windows of {setup.layout.window_m:g} m; each is normed as a whole, so an embedding "
            "depends on all of its window.",
            "The order of Sentinel-2's bands is read off other data sets of the authors.",
            "No elevation, no Landsat: a stack does not hold them as the weights know them.",
        ),
        window=setup.window,
        margin=max(1, setup.grid // 8) if setup.grid > 4 else 0,
        variant=variant,
    )  # fmt: skip


def _sensors(setup: Setup) -> tuple[SensorBands, ...]:
    """One entry a sensor of a stack, with the bands and dates of all inputs that read it."""
    found: dict[str, SensorBands] = {}
    several = len({setup.layout.inputs[n].source.sensor for n in setup.inputs}) > 1
    for name in setup.inputs:
        given = setup.layout.inputs[name]
        sensor = given.source.sensor
        before = found.get(sensor)
        found[sensor] = SensorBands(
            sensor,
            tuple(dict.fromkeys((before.bands if before else ()) + given.source.bands)),
            {"sentinel-1": "dB", "aerial": "0..1"}.get(sensor, "reflectance 0..1"),
            several,
            "All its bands, or the input is left out." if several else "All its bands.",
            most=given.dates + (before.most if before and given.dates > 1 else 0),
        )
    return tuple(found.values())


# --- recognition ----------------------------------------------------------------------------------


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """All tensors of the network, without the wrapper's prefix and the averaged copy."""
    nested = content.get("state_dict")
    tensors = nested if isinstance(nested, Mapping) else content
    prefixes = [m[1] for name in tensors if (m := _MARK.match(str(name)))]
    if not prefixes:
        raise ValueError(
            "no MAESTRO checkpoint: none of its tensors is called patch_embed.<input>."
            "patchify_bands.<group>.conv.weight"
        )
    prefix = next((p for p in prefixes if not p.startswith("ema_")), prefixes[0])
    found = {
        str(n).removeprefix(prefix): t for n, t in tensors.items()
        if str(n).startswith(prefix) and (prefix or not str(n).startswith("ema_model."))
    }  # fmt: skip
    if strange := [name for name, tensor in found.items() if not isinstance(tensor, Tensor)]:
        raise ValueError(f"no MAESTRO checkpoint: {listed(strange)} is no tensor")
    return found


def _measure(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Config:
    """Read the sizes off the tensors, and what they do not show from the settings."""
    layout = _layout(state)
    width = state[next(n for n in state if _MARK.match(n))].shape[0]
    readers = list(dict.fromkeys(n.split(".")[1] for n in state if n.startswith("encoder.")))
    if not readers:
        raise ValueError("not complete weights of MAESTRO: missing encoder.*")
    layout, fusion = _fusion(layout, readers, settings.get("fusion_mode"))
    shared = _count(state, "encoder_inter.")
    depths = [_count(state, f"encoder.{reader}.") for reader in readers]
    official = [c for c in SIZES.values() if c.width == width]
    depth = official[0].depth if official else max(depths) + shared  # so that a lost layer shows
    block = f"encoder.{readers[0]}.layers.0"
    inner = with_axes("MAESTRO", state, f"{block}.0.to_qkv.weight", 2).shape[0] // 3
    head_width = _HEAD_WIDTH if inner % _HEAD_WIDTH == 0 else inner
    hidden = with_axes("MAESTRO", state, f"{block}.1.net.1.weight", 2).shape[0]
    return Config(
        width, depth, inner // head_width, hidden // width,
        decoder_depth=official[0].decoder_depth if official else 1,
        head_width=head_width, layout=layout, fusion=fusion, shared_depth=shared,
        date_factor=float(settings.get("use_date_enc", True)),
    )  # fmt: skip


def _layout(state: Mapping[str, Tensor]) -> Layout:
    """The official layout with these patch embeddings."""
    kernels: dict[str, list[Tensor]] = {}
    for name, tensor in state.items():
        if match := _MARK.match(name):
            if tensor.ndim != 4:
                raise ValueError(
                    f"wrong shape in weights of MAESTRO: {name} {tuple(tensor.shape)}"
                )
            kernels.setdefault(match[2], []).append(tensor)
    for name, official in LAYOUTS.items():
        inputs = {**official.inputs, **EXTRAS.get(name, {})}
        if kernels.keys() <= inputs.keys() and all(
            _fits(inputs[embed], found) for embed, found in kernels.items()
        ):
            kept = {
                embed: replace(given, bands=tuple(k.shape[1] for k in kernels[embed]))
                for embed, given in inputs.items() if embed in kernels
            }  # fmt: skip
            return replace(official, inputs=kept, reference="", targets={})
    raise ValueError(
        "weights of MAESTRO for inputs that are no official layout's: "
        + ", ".join(f"{e} (patch {k[0].shape[-1]})" for e, k in kernels.items())
    )


def _fits(given: Input, kernels: Sequence[Tensor]) -> bool:
    return all(k.shape[-1] == given.patch for k in kernels) and sum(
        k.shape[1] for k in kernels
    ) == sum(given.bands)


def _fusion(layout: Layout, readers: Sequence[str], stated: Any) -> tuple[Layout, str]:
    """The fusion mode that fits the encoders' names; older files call the group s1 "sen1"."""
    groups = {given.group for given in layout.inputs.values()}
    if "sen1" in readers and "sen1" not in groups:
        layout = replace(layout, inputs={
            name: replace(given, group="sen1") if given.group == "s1" else given
            for name, given in layout.inputs.items()
        })  # fmt: skip
        groups = {given.group for given in layout.inputs.values()}
    fitting = {
        "group": groups, "mod": set(layout.inputs), "monotemp": set(layout.inputs),
        "shared": {"shared"},
    }  # fmt: skip
    if stated in fitting and fitting[stated] == set(readers):
        return layout, str(stated)
    for mode, names in fitting.items():
        if names == set(readers):
            return layout, mode
    raise ValueError(
        f"not complete weights of MAESTRO: encoders {', '.join(readers)} do not fit the inputs "
        f"{', '.join(layout.inputs)}"
    )


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    pattern = re.compile(re.escape(prefix) + r"layers\.(\d+)\.")
    return 1 + max((int(m[1]) for n in state if (m := pattern.match(n))), default=-1)
