"""Which encoder a checkpoint holds: every system is asked, and what the nearest one lacks is told.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..anysat.adapter import SETUPS
from ..cards import Card
from ..galileo.variants import VARIANTS
from ..training.export import Exportable

#: Folder of `models/` to the system's name, in the order in which they are asked.
SYSTEMS = {
    "tessera": "TESSERA", "galileo": "Galileo", "presto": "Presto", "anysat": "AnySat",
    "maestro": "MAESTRO", "satdino": "SatDINO", "timo": "TiMo", "skysense_v2": "SkySense V2",
    "skysense": "SkySense and SkySense++",
}  # fmt: skip
_FAR = re.compile(r"^no .* checkpoint|not SkySense V2")  # what a file of another system is told
_WORDS = 4  # that wrappers may have put before a tensor's name, and none
_SHOWN = 3  # tensors that are named of a file that nobody knows


@dataclass(frozen=True)
class Recognised:
    """The weights of one encoder.

    Attributes:
        system: its folder of `models/`.
        config: of its network.
        state: its tensors, for strict loading.
        variants: ways in which it can be used here, the usual one first.
    """

    system: str
    config: Any
    state: dict[str, Tensor]
    variants: tuple[str, ...]

    def card(self, variant: str = "") -> Card:
        """The card of a use of these weights."""
        config, words = self._use(variant)
        return _module(self.system, "checkpoint").card_of(config, *words)

    def exportable(self, variant: str = "") -> Exportable:
        """The network with these weights, made ready for ONNX."""
        config, words = self._use(variant)
        network: nn.Module = _build(self.system, config)
        tensors = {name: tensor.float() if tensor.is_floating_point() else tensor
                   for name, tensor in self.state.items()}  # fmt: skip
        network.load_state_dict(tensors, strict=True)
        network = network.eval().requires_grad_(False)
        words = () if self.system == "tessera" else words  # its rules are the adapter's alone
        return _module(self.system, "export").exportable(network, config, *words)

    def require(self, variant: str) -> None:
        """Raise a ValueError unless the weights can be used so."""
        if variant and variant not in self.variants:
            raise ValueError(
                f"{SYSTEMS[self.system]} cannot be used as '{variant}'. Choose one of "
                f"{', '.join(filter(None, self.variants)) or 'no variant'}."
            )

    def _use(self, variant: str) -> tuple[Any, tuple[Any, ...]]:
        """Configuration and further arguments of a variant."""
        self.require(variant)
        variant = variant or self.variants[0]
        if self.system == "skysense":
            return replace(self.config, use=variant), ()
        if self.system == "maestro":
            return self.config, (tuple(variant.split("+")),)
        return self.config, (variant,) if variant else ()


def recognise(content: Mapping[str, Any], name: str) -> Recognised:
    """Say which encoder a file holds.

    Args:
        content: of the file.
        name: of the file, for sentences.

    Raises:
        ValueError: no encoder is known with such tensors, or what a known one lacks.
    """
    content = _by_name(content)
    near: list[str] = []
    for candidate in (content, *_unwrapped(content)):
        for system in SYSTEMS:
            try:
                config, state = _module(system, "checkpoint").recognise(candidate)
            except ValueError as failure:
                if not _FAR.search(str(failure)):
                    near.append(str(failure))
                continue
            _check_values(name, state)
            return Recognised(system, config, state, _variants(system, config))
    if near:
        raise ValueError(f"{name}: {near[0].rstrip('.')}. Download it again, or choose another "
                         "official file of this encoder.")  # fmt: skip
    tensors = _named_tensors(content)
    found = f"{len(tensors)} tensors ({', '.join(tensors[:_SHOWN])} ...)" if tensors else "none"
    raise ValueError(
        f"{name} holds weights of no encoder that Earthprint knows: of its tensors, {found}. Known "
        f"are {', '.join(SYSTEMS.values())}."
    )


def _unwrapped(content: Mapping[str, Any]) -> Iterator[dict[str, Tensor]]:
    """The tensors of a file under every nesting and without the words that wrappers put in front.

    Training programs differ in both (`state_dict`, `ema`, `model.`, `backbone.`, `net.`); a system
    knows those of its authors only. The nesting with most tensors comes first.
    """
    groups = sorted(_nested(content), key=len, reverse=True)
    for tensors in groups:
        for _ in range(_WORDS):
            firsts = Counter(name.partition(".")[0] for name in tensors if "." in name)
            word, times = max(firsts.items(), key=lambda item: item[1], default=("", 0))
            yield tensors
            if 2 * times < len(tensors) or not times:
                break
            start = f"{word}."
            tensors = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def _nested(content: Mapping[str, Any]) -> Iterator[dict[str, Tensor]]:
    """The mappings that hold tensors, at any depth."""
    if tensors := {n: t for n, t in content.items() if isinstance(t, Tensor)}:
        yield tensors
    for value in content.values():
        if isinstance(value, Mapping):
            yield from _nested(value)


def _check_values(name: str, state: Mapping[str, Tensor]) -> None:
    """Raise a ValueError if a tensor holds something that is no finite number."""
    for key, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name}: the tensor {key} holds values that are no finite numbers. "
                             "The file is damaged, or its training failed; choose another.")


def join(files: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The content of several files as one; only SkySense's official weights come in parts."""
    return _module("skysense", "checkpoint").join(files)


def known_file(digest: str) -> str:
    """What the file with this SHA-256 is; "" if it is not one that was published."""
    for system in SYSTEMS:
        if what := getattr(_module(system, "checkpoint"), "KNOWN", {}).get(digest):
            return what
    return ""


def hinted(found: Recognised, path: Path) -> str:
    """The variant that a file's name hints at where its content does not tell, else ""."""
    aws = "v1.1-aws"  # TESSERA v1.1 for scenes of Amazon's archive
    return aws if aws in found.variants and "aws" in path.stem.lower() else ""


def _variants(system: str, config: Any) -> tuple[str, ...]:
    module = _module(system, "checkpoint")
    if system == "tessera":
        return module.variants_of(config)
    if system == "galileo":
        return tuple(VARIANTS)
    if system == "anysat":
        return tuple(n for n, s in SETUPS.items() if set(s.feeds) <= config.sensors.keys())
    if system == "skysense":
        return tuple(dict.fromkeys((config.use, *module.uses(config))))
    if system == "maestro":
        return _inputs(module, config)
    return ("",)


def _inputs(module: ModuleType, config: Any) -> tuple[str, ...]:
    """The inputs of a MAESTRO that a cube can hold: its series together, and each by itself."""
    found = []
    for names in (config.layout.series, *((name,) for name in config.layout.inputs)):
        try:
            module.card_of(config, names)
        except ValueError:
            continue
        found.append("+".join(names))
    return tuple(dict.fromkeys(filter(None, found)))


def _build(system: str, config: Any) -> nn.Module:
    checkpoint = _module(system, "checkpoint")
    home = checkpoint if hasattr(checkpoint, "build") else _module(system, "network")
    return home.build(config)


def _module(system: str, part: str) -> ModuleType:
    return importlib.import_module(f"..{system}.{part}", __package__)


def _by_name(content: Mapping[Any, Any]) -> dict[str, Any]:
    """The entries that have names, also those of the mappings inside."""
    return {
        key: _by_name(value) if isinstance(value, Mapping) else value
        for key, value in content.items() if isinstance(key, str)
    }  # fmt: skip


def _named_tensors(content: Mapping[str, Any]) -> list[str]:
    """Names of the tensors of a file, one level down where they are nested."""
    levels = [content, *(v for v in content.values() if isinstance(v, Mapping))]
    return next(
        (names for level in levels if (names := [str(n) for n, t in level.items()
                                                 if isinstance(t, Tensor)])), []
    )  # fmt: skip
