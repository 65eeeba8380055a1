"""Golden cases of TESSERA: every output of the reference, computed by this package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ..conformance import Answer, Case, Shapes
from . import adapter, observations
from .checkpoint import check, configure
from .network import OFFICIAL, Backbone, Tessera, build, shapes
from .objective import (
    MIX,
    REDUNDANCY,
    Projector,
    barlow_twins,
    mix,
    mix_loss,
)

EMBEDDING = 2e-5  # absolute, also of everything inside the network
LOSS = 1e-4  # relative
SCALE = EMBEDDING / 127
FLOAT = 1e-6  # relative, for the same arithmetic in float32
TILE_RASTERS = {"bands": 10, "masks": 1, "sar_ascending": 2, "sar_descending": 2}  # and bands
TIE = 1e-4  # codes may differ by one where embedding / scale is so near a half


def run_case(case: Case) -> dict[str, Answer]:
    """Compute the outputs of a case, by its variant."""
    if not case.weights:
        return _preprocessing(case)
    variant = case.config["variant"]
    return (_v1_0 if variant.startswith("v1.0") else _tile)(case, variant)


def full_size(name: str, wanted: Shapes) -> Shapes:
    """Tensors of an official network; with the projector, if the list has one."""
    official = name.removesuffix("_encoder")
    if official not in OFFICIAL:
        raise ValueError(f"no official TESSERA is called '{official}'")
    config = OFFICIAL[official]
    given = shapes(config)
    if "projector.net.0.weight" in wanted:
        sizes = wanted["projector.net.0.weight"][0], wanted["projector.net.15.weight"][0]
        with torch.device("meta"):
            state = Projector(config.dimensions, *sizes).state_dict()
        given |= {f"projector.{name}": tuple(t.shape) for name, t in state.items()}
    return given


# --- networks -------------------------------------------------------------------------------------


def _network(case: Case, variant: str) -> Tessera:
    config = configure(variant, case.config)
    state = {n: t for n, t in case.weights.items() if not n.startswith("projector.")}
    check(state, config)
    network = build(config).eval()
    network.load_state_dict(state, strict=True)
    return network


def _part(network: Tessera, name: str) -> nn.Module:
    """The module that a golden name means, e.g. `s2_backbone.layer0`."""
    owner, _, leaf = name.rpartition(".")
    module = network.get_submodule(owner)
    if isinstance(module, Backbone):
        if leaf == "pooled":
            return module.attn_pool
        if leaf == "transformer_out":
            return module.transformer_encoder
        if layer := re.fullmatch(r"layer(\d+)", leaf):
            stack = module.transformer_encoder
            return getattr(stack, "layers", stack)[int(layer[1])]
    return network.get_submodule(name)


@torch.no_grad()
def _forward(
    network: Tessera, s2: np.ndarray, s1: np.ndarray, parts: Iterable[str] = ()
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The embedding, and the outputs of the named parts on the way."""
    seen: dict[str, np.ndarray] = {}

    def keep(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        seen[name] = output.numpy()

    hooks = [_part(network, n).register_forward_hook(partial(keep, n)) for n in parts]
    embedding = network(torch.from_numpy(s2), torch.from_numpy(s1)).numpy()
    for hook in hooks:
        hook.remove()
    return embedding, seen


def _codes(
    quantise: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], embedding: np.ndarray
) -> tuple[Answer, Answer]:
    """Codes and scales; a code may differ by one where rounding is undecided."""
    codes, scale = quantise(embedding)
    fraction = np.abs(embedding / scale[..., None]) % 1
    undecided = np.abs(fraction - 0.5) < TIE
    return Answer(codes, absolute=undecided.astype(float)), Answer(scale, SCALE, FLOAT)


# --- v1.0: views, losses and intermediates --------------------------------------------------------


def _v1_0(case: Case, variant: str) -> dict[str, Answer]:
    given = case.inputs
    network = _network(case, variant)
    inside = [n for n in case.outputs if n.startswith(("s2_backbone.", "s1_backbone."))]
    embedding, parts = _forward(network, given["s2"], given["s1"], inside)
    answers = {name: Answer(values, EMBEDDING) for name, values in parts.items()}
    answers["repr"] = Answer(embedding, EMBEDDING)
    answers["repr_int8"], answers["repr_scale"] = _codes(adapter.quantise_v1, embedding)
    if any(name.startswith("projector.") for name in case.weights):
        answers |= _objective(case, network)
    return answers


def _projector(weights: dict[str, Tensor]) -> Projector:
    prefix = "projector."
    state = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
    # The golden files store scalars with shape (1,).
    state = {n: t.reshape(()) if n.endswith("num_batches_tracked") else t for n, t in state.items()}
    hidden, dimensions = state["net.0.weight"].shape
    projector = Projector(dimensions, hidden, output=len(state["net.15.weight"])).eval()
    projector.load_state_dict(state, strict=True)
    return projector


@torch.no_grad()
def _objective(case: Case, network: Tessera) -> dict[str, Answer]:
    """Projector outputs of both views, and the losses of the step."""
    given = {name: torch.from_numpy(values) for name, values in case.inputs.items()}
    projector = _projector(case.weights)
    za = projector(network(given["s2"], given["s1"]))
    if "s2_view2" not in given:
        return {"projector": Answer(za.numpy(), EMBEDDING, FLOAT)}
    embedding = network(given["s2_view2"], given["s1_view2"])
    zb = projector(embedding)
    redundancy = case.config.get("barlow_lambda", REDUNDANCY)
    barlow = barlow_twins(za, zb, redundancy)
    answers = {
        "repr_view2": Answer(embedding.numpy(), EMBEDDING),
        "projector": Answer(za.numpy(), EMBEDDING, FLOAT),
        "projector_view2": Answer(zb.numpy(), EMBEDDING, FLOAT),
        "barlow_total": Answer(barlow.total.numpy(), relative=LOSS),
        "barlow_on_diag": Answer(barlow.on_diagonal.numpy(), relative=LOSS),
        "barlow_off_diag": Answer(barlow.off_diagonal.numpy(), relative=LOSS),
    }
    if "mix_perm" in given:
        order, alpha = given["mix_perm"], given["mix_alpha"]
        mixed = [mix(given[s], given[f"{s}_view2"], order, alpha) for s in ("s2", "s1")]
        weight = case.config.get("mixup_lambda", MIX)
        loss = mix_loss(za, zb, projector(network(*mixed)), order, alpha, redundancy, weight)
        answers["mix_loss"] = Answer(loss.numpy(), relative=LOSS)
    return answers


# --- v1.1 and v2: a tile from end to end ----------------------------------------------------------


class _Tile:
    """A golden tile, encoded pixel group by pixel group."""

    def __init__(self, case: Case, variant: str):
        config, given = case.config, case.inputs
        if variant == "v1.1":
            statistics = observations.STATISTICS[f"v1.1-{config.get('data_source', 'mpc')}"]
            bins = config.get("num_obs_checkpoints", observations.BINS)
            bins = tuple(sorted({int(b) for b in bins if int(b) > 0}))
            self.selection = observations.Selection(bins, observations.resample, none=bins[0])
        else:
            statistics = observations.STATISTICS[variant.replace("_", "-")]
            self.selection = observations.V2
        self.shape = next(a.shape[1:3] for n, a in given.items() if n in TILE_RASTERS)
        up, down = "sar_ascending", "sar_descending"
        absent = (up,) if config.get("disable_s1_ascending") else ()
        rasters = {n: self._flat(given, n, bands, absent) for n, bands in TILE_RASTERS.items()}
        days = {n: given.get(f"{n}_doy", np.zeros(0))[: len(rasters[n])] for n in (up, down)}
        self.s2 = observations.optical_frames(
            rasters["bands"], rasters["masks"][:, 0], given.get("doys", np.zeros(0)), statistics
        )
        self.s1 = observations.radar_frames(
            rasters[up], days[up], rasters[down], days[down], statistics
        )
        self.bins = np.stack([self.selection.bin(f.counts) for f in (self.s2, self.s1)], axis=-1)

    def _flat(
        self, given: dict[str, np.ndarray], name: str, bands: int, absent: tuple[str, ...]
    ) -> np.ndarray:
        """(T, H, W[, bands]) to (T, bands, N), without frames where the tile lacks it."""
        if name not in given or name in absent:
            return np.zeros((0, bands, self.shape[0] * self.shape[1]), np.int16)
        raster = given[name]
        pixels = self.shape[0] * self.shape[1]
        return np.moveaxis(raster.reshape(len(raster), pixels, bands), -1, 1)

    def sequences(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs of pixels of one group."""
        return tuple(
            observations.sequences(frames, pixels, int(length), self.selection)
            for frames, length in zip((self.s2, self.s1), self.bins[pixels[0]], strict=True)
        )

    def encode(self, network: Tessera, size: int) -> np.ndarray:
        """(N, dimensions), 0 for pixels that no batch holds."""
        embedding = np.zeros((len(self.bins), network.config.dimensions), np.float32)
        for batch in observations.rectangular(self.s2, self.s1, self.selection, size):
            embedding[batch.pixels], _ = _forward(network, batch.inputs["s2"], batch.inputs["s1"])
        return embedding

    def raster(self, values: np.ndarray) -> np.ndarray:
        """(N, ...) to (H, W, ...)."""
        return values.reshape(*self.shape, *values.shape[1:])


def _tile(case: Case, variant: str) -> dict[str, Answer]:
    network = _network(case, variant)
    tile = _Tile(case, variant)
    embedding = tile.raster(tile.encode(network, int(case.config.get("batch_pixels", 64))))
    answers = {
        "bins_s2_s1": Answer(tile.raster(tile.bins)),
        "empty_pixels": Answer(tile.raster((tile.bins == 0).all(axis=-1))),
        "embedding": Answer(embedding, EMBEDDING),
        "embedding_full": Answer(embedding, EMBEDDING),
    }
    saved = embedding[..., : case.config.get("save_embedding_dim", 128)]
    answers["embedding_int8"], answers["embedding_scales"] = _codes(adapter.quantise_v1, saved)
    answers["int8"], answers["scales"] = _codes(adapter.quantise_v2, embedding)
    for name in case.outputs:
        if prefix := re.fullmatch(r"int8_d(\d+)", name):
            codes = _codes(adapter.quantise_v2, embedding[..., : int(prefix[1])])
            answers[name], answers[f"scales_d{prefix[1]}"] = codes
    return answers | _of_pixels(case, network, tile) | _of_batch(case, network, tile)


def _of_pixels(case: Case, network: Tessera, tile: _Tile) -> dict[str, Answer]:
    """Outputs called `seq_s2_pixel7` or `s1_backbone.pooled.pixel7`."""
    answers = {}
    for name in case.outputs:
        if not (match := re.fullmatch(r"(?:seq_(s[12])_|(.+)\.)pixel(\d+)", name)):
            continue
        s2, s1 = tile.sequences(np.array([int(match[3])]))
        if match[1]:
            answers[name] = Answer((s2 if match[1] == "s2" else s1)[0], EMBEDDING)
        else:
            embedding, parts = _forward(network, s2, s1, {match[2]} - {"embedding"})
            answers[name] = Answer(parts.get(match[2], embedding), EMBEDDING)
    return answers


def _of_batch(case: Case, network: Tessera, tile: _Tile) -> dict[str, Answer]:
    """Outputs `batch_s2`, `batch_s1` and `batch.*`: some pixels of one group.

    The case does not say which: each is the pixel with sequences of this length that is nearest.
    """
    if "batch_s2" not in case.outputs:
        return {}
    want2, want1 = case.outputs["batch_s2"], case.outputs["batch_s1"]
    lengths = np.array([want2.shape[1], want1.shape[1]])
    group = np.flatnonzero((np.maximum(tile.bins, 1) == lengths).all(axis=-1))
    if not len(group):
        raise ValueError(f"no pixel has sequences of {lengths[0]} and {lengths[1]} observations")
    s2, s1 = tile.sequences(group)
    apart = sum(
        np.abs(want[:, None] - given).max(axis=(2, 3)) for want, given in ((want2, s2), (want1, s1))
    )
    nearest = apart.argmin(axis=1)
    s2, s1 = s2[nearest], s1[nearest]
    inside = [n.removeprefix("batch.") for n in case.outputs if n.startswith("batch.")]
    embedding, parts = _forward(network, s2, s1, set(inside) - {"embedding"})
    parts["embedding"] = embedding
    answers = {f"batch.{name}": Answer(values, EMBEDDING) for name, values in parts.items()}
    return answers | {"batch_s2": Answer(s2, EMBEDDING), "batch_s1": Answer(s1, EMBEDDING)}


# --- rules without weights ------------------------------------------------------------------------


def _preprocessing(case: Case) -> dict[str, Answer]:
    given = case.inputs
    answers = {}
    for name in case.outputs:
        if match := re.fullmatch(r"(v1_1_resample|v2_pad)_(\d+)_(\d+)", name):
            rule = observations.resample if match[1] == "v1_1_resample" else observations.pad
            answers[name] = Answer(rule(int(match[2]), int(match[3])))
        elif match := re.fullmatch(r"s2_(mpc|aws)_(before|after)", name):
            day = {"before": "2022-01-25", "after": "2022-01-26"}[match[2]]
            dates = np.full(len(given["s2_dn"]), np.datetime64(day))
            answers[name] = Answer(observations.harmonise(given["s2_dn"], dates, match[1]))
    if "s1_linear" in given:
        answers["s1_scaled"] = Answer(observations.code_power(given["s1_linear"]))
    if "bin_size_v2" in case.outputs:
        counts = np.arange(len(case.outputs["bin_size_v2"]))
        answers["bin_size_v2"] = Answer(observations.V2.bin(counts))
    if "embedding" in given:
        for version, quantise in (("v1", adapter.quantise_v1), ("v2", adapter.quantise_v2)):
            codes, scale = _codes(quantise, given["embedding"])
            answers[f"quant_{version}_int8"], answers[f"quant_{version}_scale"] = codes, scale
            back = adapter.dequantise(codes.values, scale.values)
            step = codes.absolute * scale.values[..., None]
            answers[f"dequant_{version}"] = Answer(back, step, FLOAT)
    if "sampler_s2_bands" in given:
        answers |= _sampler(given)
    return answers


def _sampler(given: dict[str, np.ndarray]) -> dict[str, Answer]:
    """The recorded draws of v1.0; bands (N, T, bands) of N pixels."""
    statistics = observations.STATISTICS["v1.0"]
    s2 = observations.optical_frames(
        given["sampler_s2_bands"].transpose(1, 2, 0),
        given["sampler_s2_masks"].T,
        given["sampler_s2_doys"],
        statistics,
    )
    s1 = observations.radar_frames(
        given["sampler_s1_asc"].transpose(1, 2, 0),
        given["sampler_s1_asc_doys"],
        given["sampler_s1_desc"].transpose(1, 2, 0),
        given["sampler_s1_desc_doys"],
        statistics,
    )
    return {
        f"v1_0_sample_{name}": Answer(
            frames.take(np.arange(len(chosen)), chosen), EMBEDDING, relative=FLOAT
        )
        for name, frames, chosen in (
            ("s2", s2, given["sampler_s2_chosen"]),
            ("s1", s1, given["sampler_s1_chosen"]),
        )
    }
