"""The card of an encoder: what it is, takes, gives and cannot do; it travels in the ONNX file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

METADATA_KEY = "earthprint_card"
#: Bytes of weights that one ONNX file holds; its format ends at 2 GB.
EXTERNAL = 1_800_000_000
_PART = "part-"  # folders of models that are being written
_DAY_S = 86_400


@dataclass(frozen=True)
class SensorBands:
    """Bands of one sensor that an encoder takes.

    Attributes:
        sensor: as in `Series.sensor`.
        bands: STAC common names, in the encoder's order.
        unit: "reflectance 0..1", "dB", "K".
        optional: the encoder also works without this sensor.
        note: which bands may be absent and what happens then.
        most: observations of a pixel that are used at most; 0 for all.
    """

    sensor: str
    bands: tuple[str, ...]
    unit: str
    optional: bool
    note: str
    most: int = 0


@dataclass(frozen=True)
class TrainingSet:
    """A data set that the weights have seen: its name, licence and source."""

    name: str
    licence: str
    source: str


@dataclass(frozen=True)
class Card:
    """All that a user or a program must know about an encoder.

    Attributes:
        name: short name, also the file's: "fast".
        version: of the weights, "1.0".
        system: the folder of `models/` that holds the adapter.
        paper: reference, or what it follows.
        licence_code, licence_weights: SPDX names.
        sensors: what goes in.
        observations: how many, over what time.
        unit: "pixel" or "patch": what one embedding stands for.
        patch: side of the patch in pixels; 1 for a pixel.
        ground_size_m: pixel size that the encoder is meant for, in metres.
        dimensions: length of an embedding.
        prefixes: shorter lengths of which the first components work by themselves.
        normalisation: what is done to values on the way in and to vectors on the way out.
        missing_input: what missing dates, bands and sensors do.
        training_data: every data set seen in training.
        results: measured figures, a sentence each.
        limits: what it cannot do, a sentence each.
        weights_sha256: of the graph's constants; set by `write_card`.
        code_scale: s of the 8-bit codes of embeddings files, v = s (code - 128); chosen at export
            so that clipping touches less than 0.01 % of the components.
        window: side of a network's window in pixels, a multiple of patch; 1 for a pixel encoder.
        margin: patches at each side of a window that see too little around them and are dropped.
        variant: what the adapter must know beside the system: statistics, a layout; "" for none.
        source: of an imported encoder: which file, its hash, when, and terms that were accepted.
    """

    name: str
    version: str
    system: str
    paper: str
    licence_code: str
    licence_weights: str
    sensors: tuple[SensorBands, ...]
    observations: str
    unit: str
    patch: int
    ground_size_m: float
    dimensions: int
    prefixes: tuple[int, ...]
    normalisation: str
    missing_input: str
    training_data: tuple[TrainingSet, ...]
    results: tuple[str, ...]
    limits: tuple[str, ...]
    weights_sha256: str = ""
    code_scale: float = 1 / 127
    window: int = 1
    margin: int = 0
    variant: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse a card that programs could not rely on."""
        if self.unit not in ("pixel", "patch"):
            raise ValueError(f"Card of {self.name}: unit is {self.unit!r}, not 'pixel' or 'patch'.")
        if self.patch < 1 or self.dimensions < 1:
            raise ValueError(f"Card of {self.name}: patch and dimensions must be 1 or more.")
        if self.window % self.patch or self.window <= 2 * self.margin * self.patch:
            raise ValueError(
                f"Card of {self.name}: a window of {self.window} pixels does not hold whole "
                f"patches of {self.patch} inside a margin of {self.margin}."
            )
        if any(not 0 < p < self.dimensions for p in self.prefixes):
            raise ValueError(
                f"Card of {self.name}: prefixes {self.prefixes} must be shorter than the "
                f"{self.dimensions} dimensions."
            )

    @property
    def identity(self) -> str:
        """`name@version#` and eight digits of the hash: equal for equal embeddings only."""
        return f"{self.name}@{self.version}#{self.weights_sha256[:8]}"

    def to_json(self) -> str:
        """The card as indented JSON with keys in the order of the fields."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """A card from JSON; a ValueError says what is missing or unknown."""
        try:
            fields: dict[str, Any] = json.loads(text)
            sensors = tuple(
                SensorBands(**{**s, "bands": tuple(s["bands"])}) for s in fields.pop("sensors")
            )
            sets = tuple(TrainingSet(**s) for s in fields.pop("training_data"))
            for name in ("prefixes", "results", "limits"):
                fields[name] = tuple(fields[name])
            return cls(sensors=sensors, training_data=sets, **fields)
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"This is not an encoder's card: {error}.") from error

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: str | Path) -> Card:
        """The card in a model's metadata, as `get_modelmeta().custom_metadata_map` gives them."""
        if METADATA_KEY not in metadata:
            raise ValueError(
                f"{path} carries no '{METADATA_KEY}', so it is not an Earthprint encoder: export "
                "it with models/training/export.py or import the original checkpoint."
            )
        return cls.from_json(metadata[METADATA_KEY])


def read_card(path: str | Path) -> Card:
    """The card inside an ONNX file; a ValueError says why there is none."""
    import onnx  # slow to import, and who has a session open has the metadata already
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ValueError(f"{path} cannot be read as an ONNX file: {error}.") from error
    return Card.from_metadata({p.key: p.value for p in model.metadata_props}, path)


def weights_beside(path: str | Path) -> Path:
    """Where the weights of an ONNX file lie that are too large for it."""
    return Path(f"{path}.data")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write a model to, which takes the place of `path` where all went well.

    Weights beside it go along. What a killed process left in the folder a day ago is removed.
    """
    for left in path.parent.glob(f"{_PART}*"):
        if time.time() - left.stat().st_mtime > _DAY_S:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PART, dir=path.parent) as folder:
        part = Path(folder) / path.name
        yield part
        if weights_beside(part).exists():
            shutil.copymode(part, weights_beside(part))  # ONNX lets only the owner read it
            os.replace(weights_beside(part), weights_beside(path))
        else:
            weights_beside(path).unlink(missing_ok=True)
        os.replace(part, path)


def write_card(path: str | Path, card: Card) -> Card:
    """Put the card into an ONNX file, in one step, and return it with the weights' hash.

    Weights of more than `EXTERNAL` bytes are put into one file beside it.
    """
    import onnx

    model = onnx.load(str(path))
    digest, size = hashlib.sha256(), 0
    for tensor in sorted(model.graph.initializer, key=lambda t: t.name):
        content = onnx.numpy_helper.to_array(tensor).tobytes()
        digest.update(content)
        size += len(content)
    card = replace(card, weights_sha256=digest.hexdigest())
    kept = {p.key: p.value for p in model.metadata_props if p.key != METADATA_KEY}
    onnx.helper.set_model_props(model, {**kept, METADATA_KEY: card.to_json()})
    part = Path(f"{path}.part")
    if size > EXTERNAL:
        beside = weights_beside(path)
        beside.unlink(missing_ok=True)  # ONNX appends to a file that is there
        onnx.save(model, str(part), save_as_external_data=True, location=beside.name)
    else:
        onnx.save(model, str(part))
    os.replace(part, path)
    return card
