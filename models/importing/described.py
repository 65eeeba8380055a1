"""Any ONNX network of images as an encoder: what it wants is said by metadata or by the user.

Metadata keys are those that Deepness documents: model_type, class_names, resolution (centimetres a
pixel), tile_size or tiles_size, standardization_mean, standardization_std. Scaling, the order of
axes and unit length become part of the graph. A segmentation network gives the probabilities of
its classes as embedding, with unit length, from which a head tells them again.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from ..cards import EXTERNAL, Card, SensorBands, replacing, weights_beside, write_card
from ..generic.adapter import INPUT

KINDS = ("encoder", "segmentation")
_TYPES = {"segmentor": "segmentation", "recognition": "encoder"}
_BANDS = {1: ("red",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "nir")}
_PICTURES = ("aerial", "optical")
_WINDOW = 256  # where neither graph nor description says
_OPSET = 11  # the oldest that the added nodes are valid in
_PREFIX = "earthprint_"


@dataclass(frozen=True)
class Description:
    """What the file or the user says about a network.

    Attributes:
        kind: one of `KINDS`.
        sensors: that the network may read; the first one that a stack has is taken.
        bands: in the network's order; () for red, green, blue (and nir) where that many go in.
        scale: by which values (pictures and reflectance 0..1, dB, K) are multiplied first.
        mean, std: then subtracted and divided by, a number for each band, or ().
        ground_size_m: of a pixel.
        window: side of a window in pixels; 0 where the graph says.
        classes: names by number, of a segmentation.
        licence: of the weights.
    """

    kind: str = "encoder"
    sensors: tuple[str, ...] = _PICTURES
    bands: tuple[str, ...] = ()
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    ground_size_m: float = 0.3
    window: int = 0
    classes: tuple[str, ...] = ()
    licence: str = "unknown"


@dataclass(frozen=True)
class Shape:
    """What a run of the network showed: bands in, window, patch, dimensions, form of the output.

    `form` is "map" (1, d, h, w), "tokens" (1, g g, d), "class+tokens" (1, 1 + g g, d) or "vector"
    (1, d). `activation` is what makes probabilities of a segmentation: "", "Sigmoid", "Softmax".
    """

    bands: int
    window: int
    patch: int
    dimensions: int
    form: str
    activation: str = ""


def described(metadata: Mapping[str, str], given: Description | None = None,
              **words: object) -> Description:
    """What the metadata of a file say, and over it what the user says.

    Args:
        metadata: of the ONNX file.
        given: defaults.
        words: fields of `Description` that the user gave.

    Raises:
        ValueError: a kind of network that makes neither embeddings nor classes of pixels.
    """
    found: dict[str, object] = {}
    if "model_type" in metadata:
        kind = str(_value(metadata["model_type"])).lower()
        if kind not in _TYPES and "kind" not in words:
            raise ValueError(f"its model_type is {kind}; only Segmentor and Recognition, or an "
                             "encoder, can be used here")
        found["kind"] = _TYPES.get(kind, "encoder")
    names = metadata.get("class_names") or metadata.get("names")
    if names:
        found["classes"] = _names(_value(names))
    if "resolution" in metadata:
        found["ground_size_m"] = float(_value(metadata["resolution"])) / 100
    if size := metadata.get("tile_size") or metadata.get("tiles_size"):
        found["window"] = int(_value(size))
    for key, field in (("standardization_mean", "mean"), ("standardization_std", "std")):
        if key in metadata:
            found[field] = tuple(float(v) for v in _value(metadata[key]))
    return replace(given or Description(), **{**found, **words})


def _value(text: str) -> object:
    """A value of metadata: JSON, or a Python literal as older writers used."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text


def _names(value: object) -> tuple[str, ...]:
    """Class names in the order of their numbers."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        numbers = sorted(value, key=int)
        if [int(n) for n in numbers] != list(range(len(numbers))):
            raise ValueError("its class_names do not number the classes 0, 1, 2 ...")
        value = [value[n] for n in numbers]
    if not isinstance(value, list):
        raise ValueError("its class_names are neither a list nor a mapping of numbers to names")
    return tuple(str(name) for name in value)


class Described:
    """An ONNX network with its description, tried once.

    Attributes:
        description: with bands and classes filled in.
        shape: what goes in and out.
    """

    def __init__(self, path: Path, description: Description) -> None:
        """Open and try a network.

        Raises:
            ValueError: what cannot work, in words that follow the file's name.
        """
        self._model = _load(path)
        session = _session(path)
        self._input, self._output, bands, window = _signature(session, description)
        description = replace(description, bands=description.bands or _usual_bands(bands),
                              window=window)
        _check_description(description, bands)
        self.shape = _try(session, description, bands)
        if description.kind == "segmentation":
            description = replace(description, classes=_classes(description, self.shape))
        self.description = description

    @property
    def dimensions(self) -> int:
        """Of the embedding; a single class has its opposite beside it."""
        return max(self.shape.dimensions, 2)

    def write(self, path: Path, card: Card, mean: np.ndarray | None = None) -> Card:
        """Write the encoder and return its card with the hash.

        Args:
            path: of the ONNX file, replaced at the end only.
            card: of the encoder.
            mean: (d,) subtracted from the features before they get unit length.
        """
        with replacing(path) as part:
            save(self._wrapped(mean), part)
            return write_card(part, card)

    def card(self, name: str, source: str) -> Card:
        """The card of the encoder."""
        said, shape = self.description, self.shape
        segmentation = said.kind == "segmentation"
        grid = shape.window // shape.patch
        margin = grid // 8 if segmentation else (max(1, grid // 14) if grid >= 4 else 0)
        return Card(
            name=name, version="1.0", system="generic",
            paper="Not stated: a network of others, described by its file and its user.",
            licence_code="unknown", licence_weights=said.licence,
            sensors=tuple(
                SensorBands(sensor, said.bands, _unit(sensor), len(said.sensors) > 1,
                            "All bands, in this order.") for sensor in said.sensors),
            observations="One image: of several dates the median of each pixel.",
            unit="patch", patch=shape.patch, ground_size_m=said.ground_size_m,
            dimensions=self.dimensions, prefixes=(),
            normalisation=f"Values times {said.scale:g}"
            + (f", minus {_list(said.mean)}" if said.mean else "")
            + (f", divided by {_list(said.std)}" if said.std else "")
            + ". Output: " + (
                f"probabilities of {', '.join(said.classes)}"
                + (f" ({shape.activation.lower()} added)" if shape.activation else "")
                + ", as a unit vector." if segmentation else "features as a unit vector."),
            missing_input="Pixels without data are 0 before scaling; patches without any data have "
            "no embedding.",
            training_data=(), results=(),
            limits=("What it was trained on and how good it is, its file does not say.",),
            window=shape.window, margin=margin, source=source,
        )  # fmt: skip

    def _wrapped(self, mean: np.ndarray | None) -> onnx.ModelProto:
        """The network between scaling and unit length."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph, said, shape = model.graph, self.description, self.shape
        own = _Nodes(graph)
        before = [own.node("Mul", INPUT, own.constant(_column([said.scale], 1)))]
        if said.mean:
            before.append(own.node("Sub", before[-1].output[0],
                                   own.constant(_column(said.mean, shape.bands))))
        if said.std:
            before.append(own.node("Div", before[-1].output[0],
                                   own.constant(_column(said.std, shape.bands))))
        before[-1].output[0] = self._input
        last, after = self._output, []

        def add(kind: str, *more: str, **attributes: object) -> None:
            nonlocal last
            after.append(own.node(kind, last, *more, **attributes))
            last = after[-1].output[0]

        if shape.activation == "Softmax":
            add("Transpose", perm=[0, 2, 3, 1])
            add("Softmax", axis=-1)
        elif shape.form == "map":
            if shape.activation:
                add("Sigmoid")
            if said.kind == "segmentation" and shape.dimensions == 1:
                value = last
                after.append(own.node("Sub", own.constant(np.ones((1, 1, 1, 1), np.float32)),
                                      value))
                last = after[-1].output[0]
                add("Concat", value, axis=1)
            add("Transpose", perm=[0, 2, 3, 1])
        elif shape.form == "class+tokens":
            add("Slice", *(own.constant(np.array([n], np.int64)) for n in (1, 2**31 - 1, 1)))
        add("Reshape", own.constant(np.array([-1, self.dimensions], np.int64)))
        if mean is not None:
            add("Sub", own.constant(np.asarray(mean, np.float32)[None]))
        add("LpNormalization", axis=-1, p=2)
        after[-1].output[0] = "embedding"
        nodes = [*before, *graph.node, *after]
        del graph.node[:], graph.input[:], graph.output[:]
        graph.node.extend(nodes)
        graph.input.append(helper.make_tensor_value_info(
            INPUT, TensorProto.FLOAT, [1, shape.bands, shape.window, shape.window]))
        graph.output.append(helper.make_tensor_value_info(
            "embedding", TensorProto.FLOAT, ["patches", self.dimensions]))
        del graph.value_info[:]  # shapes of a free batch that no longer hold
        return model


class _Nodes:
    """New nodes and constants of a graph, with names that are nobody else's."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph, self._count = graph, 0

    def _name(self) -> str:
        self._count += 1
        return f"{_PREFIX}{self._count}"

    def constant(self, value: np.ndarray) -> str:
        """Add a constant; its name."""
        name = self._name()
        self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> onnx.NodeProto:
        """A node with one output."""
        return helper.make_node(kind, list(inputs), [self._name()], **attributes)


def _column(values: tuple[float, ...] | list[float], bands: int) -> np.ndarray:
    """(1, bands or 1, 1, 1) float32."""
    return np.asarray(values, np.float32).reshape(1, bands, 1, 1)


# --- what the file is -----------------------------------------------------------------------------


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file.

    Raises:
        ValueError: it cannot be read as one.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError) as failure:
        raise ValueError("it cannot be read as an ONNX file") from failure
    return {p.key: p.value for p in model.metadata_props}


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path))
    except (OSError, DecodeError, onnx.checker.ValidationError) as failure:
        raise ValueError("it, or the weights beside it, cannot be read") from failure
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if version < _OPSET:
        raise ValueError(f"it is of ONNX opset {version}; export it with {_OPSET} or later")
    return model


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as failure:  # onnxruntime has a class of its own for every refusal
        raise ValueError(f"ONNX Runtime refuses it ({str(failure).splitlines()[0]})") from failure


def _signature(session: onnxruntime.InferenceSession, said: Description
               ) -> tuple[str, str, int, int]:
    """Names of input and output, number of bands, side of the window."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}); only "
                         "networks of one image can be used")
    (given,) = inputs
    if given.type != "tensor(float)":
        raise ValueError(f"its input is a {given.type}; export it with float32")
    if len(given.shape) != 4:
        raise ValueError(f"its input has the shape {_shape(given.shape)}, not that of an image "
                         "(1, bands, rows, columns)")
    count, bands, rows, cols = (n if isinstance(n, int) and n > 0 else 0 for n in given.shape)
    if cols and cols <= 16 and not 0 < bands <= 16:
        raise ValueError(f"its input {_shape(given.shape)} has the bands last; export it with "
                         "(1, bands, rows, columns)")
    if count > 1 or (rows and cols and rows != cols):
        raise ValueError(f"its input has the shape {_shape(given.shape)}; only single square "
                         "images can be used")
    bands = bands or len(said.bands)
    if not bands:
        raise ValueError("its number of bands is not fixed. Give the bands")
    return (given.name, session.get_outputs()[0].name, bands,
            rows or cols or said.window or _WINDOW)


def _usual_bands(count: int) -> tuple[str, ...]:
    if count not in _BANDS:
        raise ValueError(f"it takes {count} bands. Give their names in its order")
    return _BANDS[count]


def _check_description(said: Description, bands: int) -> None:
    if said.kind not in KINDS:
        raise ValueError(f"its kind is {said.kind!r}. Choose one of {', '.join(KINDS)}")
    if len(said.bands) != bands:
        raise ValueError(f"it takes {bands} bands, and {len(said.bands)} are given "
                         f"({', '.join(said.bands)})")
    for name, values in (("means", said.mean), ("deviations", said.std)):
        if values and len(values) != bands:
            raise ValueError(f"it takes {bands} bands, and {len(values)} {name} are given")
    if any(v == 0 for v in said.std) or not said.scale or not said.ground_size_m > 0:
        raise ValueError("scale, deviations and ground size must not be 0")


def _try(session: onnxruntime.InferenceSession, said: Description, bands: int) -> Shape:
    """Run the network on random values and see what comes out."""
    side = said.window
    image = np.random.default_rng(0).random((1, bands, side, side), np.float32)
    image = image * np.float32(said.scale)
    if said.mean:
        image = image - _column(said.mean, bands)
    if said.std:
        image = image / _column(said.std, bands)
    try:
        out = session.run([session.get_outputs()[0].name], {session.get_inputs()[0].name: image})[0]
    except Exception as failure:  # as above
        raise ValueError(f"it does not run on an image of {side} pixels a side "
                         f"({str(failure).splitlines()[0]})") from failure
    if out.dtype != np.float32:
        raise ValueError(f"its output is of {out.dtype}, no features and no probabilities of "
                         "float32")
    if not np.isfinite(out).all():
        raise ValueError("its output is not finite")
    find = _segmentation if said.kind == "segmentation" else _features
    return find(out, bands, side)


def _segmentation(out: np.ndarray, bands: int, side: int) -> Shape:
    if out.ndim != 4 or out.shape[0] != 1 or out.shape[2:] != (side, side):
        raise ValueError(f"its output has the shape {_shape(out.shape)}; a segmentation gives "
                         f"(1, classes, {side}, {side})")
    classes = out.shape[1]
    if classes > 254:
        raise ValueError(f"it has {classes} classes; at most 254 can be mapped")
    probable = out.min() >= -1e-4 and out.max() <= 1 + 1e-4
    activation = "" if probable else "Sigmoid" if classes == 1 else "Softmax"
    return Shape(bands, side, 1, classes, "map", activation)


def _features(out: np.ndarray, bands: int, side: int) -> Shape:
    if out.ndim == 4 and out.shape[2] == out.shape[3] and side % out.shape[2] == 0:
        form, dimensions, grid = "map", out.shape[1], out.shape[2]
    elif out.ndim == 3:
        tokens, dimensions = out.shape[1:]
        form = "tokens" if math.isqrt(tokens) ** 2 == tokens else "class+tokens"
        grid = math.isqrt(tokens - (form != "tokens"))
        if grid**2 != tokens - (form != "tokens") or not grid or side % grid:
            raise ValueError(f"its {tokens} tokens are no grid of square patches")
    elif out.ndim == 2:
        form, dimensions, grid = "vector", out.shape[1], 1
    else:
        raise ValueError(f"its output has the shape {_shape(out.shape)}; an encoder gives "
                         "(1, d, rows, columns), (1, tokens, d) or (1, d)")
    if dimensions < 2 or out.shape[0] != 1:
        raise ValueError(f"its output has the shape {_shape(out.shape)}: too few numbers to "
                         "compare places by")
    return Shape(bands, side, side // grid, dimensions, form)


def _classes(said: Description, shape: Shape) -> tuple[str, ...]:
    """Names of the classes; a single one has its opposite before it."""
    names = said.classes or tuple(f"class {i}" for i in range(shape.dimensions))
    if shape.dimensions == 1:
        return names if len(names) == 2 else ("other", *names)
    if len(names) != shape.dimensions:
        raise ValueError(f"it has {shape.dimensions} classes, and {len(names)} names are given")
    return names


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model, its weights beside it where one file cannot hold them."""
    size = sum(math.prod(t.dims) for t in model.graph.initializer) * 4
    if size > EXTERNAL:
        onnx.save(model, str(path), save_as_external_data=True,
                  location=weights_beside(path).name)  # fmt: skip
    else:
        onnx.save(model, str(path))


def _unit(sensor: str) -> str:
    if sensor == "sentinel-1":
        return "dB"
    return "0..1" if sensor in _PICTURES else "reflectance 0..1"


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _shape(shape: object) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"
