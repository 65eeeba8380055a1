"""READY_HEAD: the heads that come with Earthprint, chosen by name."""

from __future__ import annotations

from typing import Any

from .identity import ROOT
from .parameters import Parameter, choice
from .translation import tr

NONE = "none"
_SUFFIX = ".head.onnx"


def ready_heads(task: str) -> list[str]:
    """Names of the bundled heads of a task, such as `crops`; the engine knows them by these."""
    found = sorted((ROOT / "resources" / "heads").glob(f"{task}*{_SUFFIX}"))
    return [path.name[: -len(_SUFFIX)] for path in found]


def ready_head(task: str, text: str) -> Parameter:
    """READY_HEAD: none, or one of a task's heads."""
    return choice("READY_HEAD", tr("Ready-made head"), (NONE, *ready_heads(task)), text,
                  default=NONE)


def chosen(parameters: dict[str, Any]) -> bool:
    """Whether a ready-made head was chosen."""
    return parameters.get("READY_HEAD") not in (None, "", NONE)
