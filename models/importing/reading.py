"""Files of weights to tensors and plain values, without ever running code that they hold.

PyTorch's own restricted unpickler reads pickles. Of the classes that official files are known to
hold beside weights, the attributes are taken as plain data; any other class or function is refused.
"""

from __future__ import annotations

import hashlib
import pickle  # nosec B403: only the class of its errors
import re
import zipfile
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
_NEWER = re.compile(r"Unsupported operand")  # of pickle protocols that PyTorch does not read safely


class Plain(dict):
    """What an object held: its attributes, whatever its class was."""

    def __init__(self, *_arguments: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Take the attributes; a state that is no mapping is dropped."""
        if isinstance(state, Mapping):
            self.update(state)


def _empty(*_arguments: object) -> dict[Any, Any]:
    """A mapping to be filled, in place of one with a default."""
    return {}


#: Containers of settings in official files and in those of Lightning: DINO's and TiMo's arguments,
#: MAESTRO's masking, paths, OmegaConf's settings, NumPy's arrays. Weights are never among them.
_CONTAINERS = [(Plain, name) for name in (
    "argparse.Namespace", "maestro.conf.mask.MaskConfig",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.WindowsPath",
    "pathlib._local.PosixPath", "pathlib._local.WindowsPath",
    "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata", "omegaconf.nodes.AnyNode",
    "typing.Any", "builtins.dict", "builtins.list", "builtins.int", "builtins.str",
    "numpy.ndarray", "numpy.dtype", "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar", "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
)] + [(_empty, "collections.defaultdict")]  # fmt: skip


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
    if mapped:
        _check_sums(path)
    try:
        with torch.serialization.safe_globals(_CONTAINERS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as failure:
        if _CODE.search(str(failure)):
            raise ValueError(
                f"{path.name} holds code besides weights and was not opened. Get a safetensors "
                "file."
            ) from failure
        if _NEWER.search(str(failure)):
            raise ValueError(
                f"{path.name} is a pickle of a kind that cannot be read without running code, and "
                "was not opened. Get a safetensors file."
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


def _check_sums(path: Path) -> None:
    """Compare the parts of an archive with their check sums, which PyTorch does not do."""
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as failure:
        raise _damaged(path) from failure
    if wrong:
        raise _damaged(path)


def _damaged(path: Path) -> ValueError:
    return ValueError(
        f"{path.name} is damaged or was cut short and cannot be read. Download it again."
    )
