"""The learned detector: a head on features of both dates, in one ONNX file.

Graph: "radar" (n, k), "optical" (n, m), "seen" (n, 2: radar, optical) -> "probability" (n,).
Each sensor has a small network of its own; where both were seen their log odds are joined. A
sensor that was not seen is masked inside the graph: what stands in its features changes nothing.

The log odds are averaged over a few pixels before they are cut, and those of VH are lowered: the
head has seen floods in VV alone, and knows from dry dates how much more VH of fields resembles one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..errors import UserError
from . import features
from .features import OPTICAL_SIZE, RADAR_SIZE
from .features import optical_features as optical
from .features import radar_features as radar
from .scene import OPTICAL, RADAR, around, box
from .survey import Survey

BUNDLED = Path(__file__).resolve().parents[2] / "resources" / "heads" / "flood.head.onnx"
CARD_KEY = "earthprint_card"
SMOOTH = 5
"""Side (pixels) of the squares over which log odds are averaged: what makes dry ground look flooded
is smaller than floods are."""

MARGIN = features.MARGIN + SMOOTH // 2
"""Pixels around a window that its answers depend on."""

_OPSET, _IR = 17, 8  # read by onnxruntime 1.19 and later
_TOLERANCE = 1e-4
_RUN = 16_384  # pixels that go through the graph at one time: its steps hold several tables


@dataclass(frozen=True)
class Network:
    """A network with one hidden layer for one sensor.

    Attributes:
        mean, scale: (k,) of the features; missing ones count as the mean.
        hidden, hidden_bias: (k, h) and (h,), followed by a ReLU.
        output, output_bias: (h,) and a number: the log odds of flood.
    """

    mean: np.ndarray
    scale: np.ndarray
    hidden: np.ndarray
    hidden_bias: np.ndarray
    output: np.ndarray
    output_bias: float

    def log_odds(self, features: np.ndarray) -> np.ndarray:
        """(n,) of (n, k) features."""
        standard = np.clip((features - self.mean) * self.scale, -4, 4)
        standard = np.where(np.isnan(features), 0, standard)
        layer = np.maximum(standard @ self.hidden + self.hidden_bias, 0)
        return layer @ self.output + self.output_bias


@dataclass(frozen=True)
class Fusion:
    """Log odds of both sensors = radar * r + optical * o + bias."""

    radar: float
    optical: float
    bias: float


class FloodHead:
    """An opened head.

    Attributes:
        card: what it is, what it was trained on, how right it was.
        cuts: probability from which it calls a pixel flood that radar, optical images or both saw:
            the best on held-back events of those that leave pairs without a flood dry.
    """

    def __init__(self, card: dict, session: onnxruntime.InferenceSession) -> None:
        self.card, self._session = card, session
        self.cuts: dict[str, float] = card["cuts"]

    @classmethod
    def open(cls, path: Path = BUNDLED, threads: int = 1) -> FloodHead:
        """Open a head.

        Raises:
            UserError: no such file, or no flood head.
        """
        path = Path(path)
        try:
            raw = path.read_bytes()
            session = _session(raw, threads)
            card = json.loads(session.get_modelmeta().custom_metadata_map[CARD_KEY])
            if card["kind"] != "flood head":
                raise ValueError("another kind of head")
            return cls(card, session)
        except OSError as failure:
            raise UserError(f"Flood head {path.name} cannot be read ({failure.strerror}). Install "
                            "the plugin again.") from failure
        except Exception as failure:  # onnxruntime's own kinds share no base class
            raise UserError(f"{path.name} is no flood head ({failure}). Install the plugin again."
                            ) from failure

    def probabilities(self, radar_table: np.ndarray | None, optical_table: np.ndarray | None
                      ) -> np.ndarray:
        """(n,) float32 of flood; NaN where neither sensor was seen.

        Args:
            radar_table: (n, RADAR_SIZE), rows with NaN where not seen; None without radar.
            optical_table: (n, OPTICAL_SIZE), likewise.
        """
        n = len(radar_table if radar_table is not None else optical_table)
        tables, seen = [], np.zeros((n, 2), np.float32)
        for k, (table, size) in enumerate(((radar_table, RADAR_SIZE),
                                           (optical_table, OPTICAL_SIZE))):
            if table is None:
                tables.append(np.full((n, size), np.nan, np.float32))
                continue
            tables.append(np.ascontiguousarray(table, np.float32))
            seen[:, k] = ~np.isnan(table).any(1)
        if not n:
            return np.zeros(0, np.float32)
        inputs = {"radar": tables[0], "optical": tables[1], "seen": seen}
        found = np.concatenate([
            self._session.run(["probability"], {k: v[i:i + _RUN] for k, v in inputs.items()})[0]
            for i in range(0, n, _RUN)])
        return np.where(seen.any(1), found, np.nan).astype(np.float32)

    def flood(self, survey: Survey, values: dict[str, np.ndarray], inner: tuple[slice, slice]
              ) -> np.ndarray:
        """(rows, cols) float32 probability of flood in the inner part of a window.

        It knows one radar channel; of two the probabilities' mean is taken.

        Args:
            survey: of the whole scene.
            values: channel to (2, rows, cols), `MARGIN` pixels wider than the inner part.
            inner: the part that is wanted.
        """
        wide, within = around(inner, SMOOTH // 2, next(iter(values.values())).shape)
        other = optical(values, wide) if all(c in values for c in OPTICAL) else None
        tables = [radar(survey, c, values[c], wide) for c in RADAR if c in values]
        shift = self.card["radar shift"][radar_set(values)] if tables else 0.0
        return np.mean([1 / (1 + np.exp(-self._log_odds(table, other, shift)[within]))
                        for table in tables or [None]], axis=0)

    def with_thresholds(self, learned: np.ndarray, classical: np.ndarray, trust: float, seen: str
                        ) -> tuple[np.ndarray, float]:
        """Probability of flood by this head's and the classical detector's, and its own cut.

        Args:
            learned: probabilities of this head.
            classical: of the classical detector, not nearer to 0 and 1 than they deserve.
            trust: in the classical detector, by how far apart the scene's classes are.
            seen: by what, a `radar_set`, "optical", or "both" sensors.
        """
        w = self.card["with thresholds"][seen]
        odds = (w["learned"] * logit(learned) + w["thresholds"] * trust * logit(classical)
                + w["bias"])
        return (1 / (1 + np.exp(-odds))).astype(np.float32), w["cut"]

    def _log_odds(self, radar_table: np.ndarray | None, optical_table: np.ndarray | None,
                  shift: float) -> np.ndarray:
        """(rows, cols) log odds, averaged over squares, the radar's lowered by a shift."""
        shape = (radar_table if radar_table is not None else optical_table).shape[:2]
        flat = [t.reshape(-1, t.shape[2]) if t is not None else None
                for t in (radar_table, optical_table)]
        odds = logit(self.probabilities(*flat))
        if shift:
            seen = [np.zeros(len(odds), bool) if t is None else ~np.isnan(t).any(1) for t in flat]
            weight = np.where(seen[1], self.card["joined"]["radar"], 1.0) * seen[0]
            odds = (odds - shift * weight).astype(np.float32)
        return box(odds.reshape(shape), SMOOTH)


def radar_set(channels: Iterable[str]) -> str:
    """Name in the card of the radar channels among some."""
    return " ".join(c for c in RADAR if c in channels)


def can_see(channels: tuple[str, ...]) -> bool:
    """Whether the learned detector has something to look at."""
    return any(c in channels for c in RADAR) or all(c in channels for c in OPTICAL)


def logit(probability: np.ndarray) -> np.ndarray:
    """Log odds of probabilities."""
    sure = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.log(sure / (1 - sure))


def write_head(path: Path, networks: tuple[Network, Network], fusion: Fusion, card: dict,
               check: tuple[np.ndarray, np.ndarray]) -> None:
    """Write a head under a temporary name, check it, and rename it.

    Args:
        path: of the finished file.
        networks: for radar and optical features.
        fusion: of their log odds.
        card: JSON values for the metadata.
        check: (n, k) and (n, m) features on which file and networks must agree to 1e-4.

    Raises:
        RuntimeError: they do not.
    """
    model = _model(networks, fusion)
    helper.set_model_props(model, {CARD_KEY: json.dumps(card, indent=1, ensure_ascii=False)})
    raw = model.SerializeToString()
    r, o = (net.log_odds(table) for net, table in zip(networks, check, strict=True))
    joined = fusion.radar * r + fusion.optical * o + fusion.bias
    session = _session(raw, 1)
    for seen, odds in (((1, 0), r), ((0, 1), o), ((1, 1), joined)):
        inputs = {"radar": check[0].astype(np.float32), "optical": check[1].astype(np.float32),
                  "seen": np.tile(np.array(seen, np.float32), (len(r), 1))}
        worst = np.abs(session.run(None, inputs)[0] - 1 / (1 + np.exp(-odds))).max()
        if worst > _TOLERANCE:
            raise RuntimeError(f"the written head differs from the trained one by {worst:.2g}")
    part = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.part")
    try:
        part.write_bytes(raw)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _model(networks: tuple[Network, Network], fusion: Fusion) -> onnx.ModelProto:
    nodes, constants = [], {}
    for name, net in zip(("radar", "optical"), networks, strict=True):
        nodes += [
            helper.make_node("IsNaN", [name], [f"{name}_absent"]),
            helper.make_node("Where", [f"{name}_absent", f"{name}_mean", name], [f"{name}_full"]),
            helper.make_node("Sub", [f"{name}_full", f"{name}_mean"], [f"{name}_centred"]),
            helper.make_node("Mul", [f"{name}_centred", f"{name}_scale"], [f"{name}_scaled"]),
            helper.make_node("Clip", [f"{name}_scaled", "least", "most"], [f"{name}_standard"]),
            helper.make_node("Gemm", [f"{name}_standard", f"{name}_w", f"{name}_b"],
                             [f"{name}_sum"]),
            helper.make_node("Relu", [f"{name}_sum"], [f"{name}_layer"]),
            helper.make_node("Gemm", [f"{name}_layer", f"{name}_v", f"{name}_c"],
                             [f"{name}_odds"]),
        ]
        constants |= {
            f"{name}_mean": net.mean, f"{name}_scale": net.scale, f"{name}_w": net.hidden,
            f"{name}_b": net.hidden_bias, f"{name}_v": net.output[:, None],
            f"{name}_c": np.array([net.output_bias])}
    nodes += [
        helper.make_node("Concat", ["radar_odds", "optical_odds"], ["odds"], axis=1),
        helper.make_node("MatMul", ["odds", "weights"], ["weighed"]),
        helper.make_node("Add", ["weighed", "bias"], ["joined"]),
        helper.make_node("Split", ["seen", "halves"], ["radar_seen", "optical_seen"], axis=1),
        helper.make_node("Greater", ["radar_seen", "half"], ["has_radar"]),
        helper.make_node("Greater", ["optical_seen", "half"], ["has_optical"]),
        helper.make_node("Where", ["has_optical", "joined", "radar_odds"], ["with_radar"]),
        helper.make_node("Where", ["has_radar", "with_radar", "optical_odds"], ["chosen"]),
        helper.make_node("Sigmoid", ["chosen"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["probability"]),
    ]
    constants |= {"weights": np.array([[fusion.radar], [fusion.optical]]),
                  "bias": np.array([fusion.bias]), "least": np.array(-4.0), "most": np.array(4.0),
                  "half": np.array(0.5)}
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), k)
               for k, v in constants.items()]
    tensors += [numpy_helper.from_array(np.array(v, np.int64), k)
                for k, v in (("halves", [1, 1]), ("axis", [1]))]
    inputs = (("radar", RADAR_SIZE), ("optical", OPTICAL_SIZE), ("seen", 2))
    model = helper.make_model(
        helper.make_graph(
            nodes, "flood",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", k]) for n, k in inputs],
            [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])], tensors),
        opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="earthprint")
    model.ir_version = _IR
    return model


def _session(raw: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(threads, 1)
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
