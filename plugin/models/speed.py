"""How fast an encoder is on this computer, measured with the jobs that everybody uses."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qgis.core import QgsSettings
from qgis.PyQt.QtCore import QLocale

from ...engine.client import EngineError
from ...processing_provider.translation import tr
from ..work import Run
from .model import Model

_SETTING = "earthprint/speeds"
#: Side of the simulated season, pixels of 10 m, and the seed that makes it.
_SIDE, _SEED = 192, 1
#: The measured part grows from this side until it takes so much longer than the smallest, or
#: until even the smallest takes so long that starting no longer counts.
_FIRST_SIDE, _LONGER_S, _LONG_S = 8, 2.0, 5.0


@dataclass(frozen=True)
class Speed:
    """One measurement.

    Attributes:
        rate: embeddings a second.
        unit: "pixel" or "patch".
        dates: scenes of the simulated season.
        day: ISO day of the measurement.
    """

    rate: float
    unit: str
    dates: int
    day: str

    def short(self) -> str:
        """For the list, beside the unit."""
        return tr("{}/s").format(self._number())

    def sentence(self) -> str:
        """With what it was measured on."""
        text = (
            tr("{} patches a second, measured on {} with {} simulated scenes of Sentinel-1 and "
               "Sentinel-2.")
            if self.unit == "patch"
            else tr("{} pixels a second, measured on {} with {} simulated scenes of Sentinel-1 and "
                    "Sentinel-2.")
        )
        return text.format(self._number(), self.day, self.dates)

    def _number(self) -> str:
        return QLocale().toString(float(f"{self.rate:.2g}"), "f", 0 if self.rate >= 9.5 else 1)


def remembered() -> dict[str, Speed]:
    """What was measured in this profile, by the models' identity."""
    try:
        kept = json.loads(QgsSettings().value(_SETTING, "{}", type=str))
        return {identity: Speed(**fields) for identity, fields in kept.items()}
    except (AttributeError, TypeError, ValueError):
        return {}


def remember(model: Model, speed: Speed) -> None:
    """Keep a measurement in the profile."""
    kept = {**remembered(), model.identity: speed}
    text = json.dumps({identity: asdict(one) for identity, one in kept.items()})
    QgsSettings().setValue(_SETTING, text)


def measure(run: Run, model: Model, folder: Path) -> Speed:
    """Encode growing parts of a simulated season; what starting takes is left out.

    Args:
        run: runs jobs of the engine.
        model: an encoder.
        folder: where the season is made, or lies from the last time.

    Raises:
        EngineError: the season lacks what the encoder needs, or whatever else the engine finds.
    """
    stack, grid = _season(run, folder)

    def encode(side: int) -> tuple[int, float]:
        done = run("encode", _encode(model, stack, grid, side, folder))
        if not done["pixels"]:
            raise EngineError(
                tr("{} gave no embedding for the simulated season.").format(model.name)
            )
        return done["pixels"], done["seconds"]

    side = _FIRST_SIDE
    encode(side)  # the first time loads and compiles
    least, started = number, seconds = encode(side)
    while seconds < _LONG_S and seconds - started < _LONGER_S and side < _SIDE:
        side = min(2 * side, _SIDE)
        number, seconds = encode(side)
    if number > least and seconds > 1.5 * started:
        number, seconds = number - least, seconds - started
    scenes = len(json.loads(stack.read_text(encoding="utf-8"))["features"])
    unit = str(model.card.get("unit", "pixel"))
    return Speed(number / seconds, unit, scenes, time.strftime("%Y-%m-%d"))


def _season(run: Run, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The stack and its grid; made once."""
    stack = folder / "speed.stack.json"
    if not stack.exists():
        season = str(folder / "season")
        run("simulate_season", {"output": season, "size": _SIDE, "seed": _SEED})
        run("build_stack", {"folder": str(folder / "season" / "scenes"), "output": str(stack)})
    return stack, json.loads(stack.read_text(encoding="utf-8"))["earthprint:grid"]


def _encode(model: Model, stack: Path, grid: dict[str, Any], side: int, folder: Path
            ) -> dict[str, Any]:
    a, _, left, _, e, top = grid["transform"][:6]
    box = [left, top + e * side, left + a * side, top, grid["crs"]]
    return {"input": [str(stack)], "encoder": model.path, "extent": box,
            "output": str(folder / "speed.tif")}
