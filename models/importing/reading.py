"""Files of weights to tensors and plain values, without ever running code that they hold.

PyTorch's own restricted unpickler reads pickles. Of the classes that official files are known to
hold beside weights, the attributes are taken as plain data; any other class or function is refused.
"""

from __future__ import annotations

import hashlib
import pickle  # nosec B403: only the class of its errors
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_CODE = re.compile(r"GLOBAL|not allowed|unsupported class|allowlist", re.IGNORECASE)


class Plain(dict):
    """What an object held: its attributes, whatever its class was."""

    def __init__(self, *_arguments: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Take the attributes; a state that is no mapping is dropped."""
        if isinstance(state, Mapping):
            self.update(state)


#: Containers of settings in official files: DINO's and TiMo's arguments, MAESTRO's masking.
_CONTAINERS = [(Plain, "argparse.Namespace"), (Plain, "maestro.conf.mask.MaskConfig")]


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a file of weights: a mapping of tensors, or of such mappings and settings.

    Args:
        path: .pt, .pth, .ckpt, .bin or .safetensors; the content decides, not the suffix.

    Raises:
        ValueError: it is no file of weights, is damaged, or holds code.
    """
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"{path.name} is empty. Download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{path.name} is only a pointer of Git LFS, not the weights. Download the file itself."
        )
    if start[8:9] == b"{" and not start.startswith(_ZIP):
        return _safetensors(path)
    if not start.startswith((_ZIP, _PICKLE)):
        raise ValueError(
            f"{path.name} is no file of weights. Choose the official "
            f"{', '.join(SUFFIXES[:-1])} file."
        )
    return _pickled(path, mapped=start.startswith(_ZIP))


def sha256(path: Path) -> str:
    """The hash of a file as it lies on the disk, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as failure:
        raise _damaged(path) from failure


def _pickled(path: Path, mapped: bool) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(_CONTAINERS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as failure:
        if _CODE.search(str(failure)):
            raise ValueError(
                f"{path.name} holds code besides weights and was not opened. Get a safetensors "
                "file."
            ) from failure
        raise _damaged(path) from failure
    except MemoryError:
        raise
    except Exception as failure:  # torch says in many ways that a file is cut short
        raise _damaged(path) from failure
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path.name} holds a {type(content).__name__}, no named tensors. Choose the file of "
            "weights."
        )
    return dict(content)


def _damaged(path: Path) -> ValueError:
    return ValueError(
        f"{path.name} is damaged or was cut short and cannot be read. Download it again."
    )
