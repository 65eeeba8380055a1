"""Train MM-VSF on the dense Belgian patch, and measure its forecasts on time and ground held back.

Learnt from: pixel columns 0-39 of belgium-2018-polders until 15 August 2018, a year of dates, with
the daily AgERA5 weather of the place. Held back: all dates after that, and the columns from 44 on.
The other patches of that set lack four of the ten bands, all further sets lack daily weather.

    python -m earthprint.models.training.forecast FOLDER [--minutes 20] [--export]
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image, ImageDraw
from torch import nn

from ..cards import TrainingSet, write_card
from ..cube import Cube, Series, Weather
from ..fast.adapter import BANDS as SLOTS
from ..mmvsf import adapter, export, small
from ..mmvsf.adapter import BANDS, SENSOR, SPAN
from ..mmvsf.baselines import persistence_and_line
from . import datasets, pretrain

LOG = logging.getLogger(__name__)

PATCH = "belgium-2018-polders"
SIDE = 64  # pixels of the patch
LEARNT = 40  # columns; a gap of one patch parts them from those that are held back
JUDGED = 44
END = np.datetime64("2018-08-16")  # the first day that is held back
SET = TrainingSet(
    "WorldCereal patch belgium-2018-polders: Sentinel-2 and AgERA5, columns 0-39, August 2017 to "
    "August 2018",
    "MIT; contains modified Copernicus Sentinel data and modified Copernicus Climate Change "
    "Service information",
    "GitHub WorldCereal/worldcereal-classification",
)
HORIZONS = ((1, 10), (11, 30), (31, 60), (61, 100))  # days
_TOLERANCE = 1e-4  # between torch and ONNX Runtime
_SHOWN = 0.3  # share of a date's pixels that must be clear to be judged by it
_SHORTEST = 30  # days of images in a window


@dataclass(frozen=True)
class Scores:
    """Root mean squared errors of reflectance over all bands, by horizon and kind of forecast.

    Attributes:
        horizon: first and last day.
        dates: that were forecast.
        pixels: compared.
        rmse: of "forecast", "persistence", "interpolation", "climatology"...
    """

    horizon: tuple[int, int]
    dates: int
    pixels: int
    rmse: dict[str, float]


def patch() -> Cube:
    """The whole patch, 64 x 64 pixels of 10 m, every date of Sentinel-2, and its weather."""
    scenes = datasets.read_patch(PATCH, fine=True)[SENSOR]
    order = [SLOTS.index(band) for band in BANDS]
    values = scenes.values[:, order].reshape(len(scenes.dates), len(BANDS), SIDE, SIDE)
    series = Series(SENSOR, BANDS, scenes.dates, values, np.isfinite(values).all(axis=1),
                    ("",) * len(scenes.dates))
    return Cube((SIDE, SIDE), {SENSOR: series}, _weather())


def _weather() -> Weather:
    """Daily AgERA5 of the patch: K, mm, J/m2, hPa, m/s as stored, in the units of encoders."""
    path = datasets.shared() / "data" / "crop-worldcereal-patches" / PATCH / "agera5_daily.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in rows])

    celsius = column("temperature_mean") - 273.15
    # saturation vapour pressure: FAO Irrigation and Drainage Paper 56, equation 11
    saturated = 0.6108 * np.exp(17.27 * celsius / (celsius + 237.3))
    deficit = np.maximum(saturated - column("vapour_pressure") / 10, 0)
    values = np.stack([celsius, column("precipitation_flux"), column("solar_radiation_flux") / 1e6,
                       deficit, column("wind_speed")], axis=1)
    return Weather(np.array([row["date"] for row in rows], "datetime64[D]"),
                   values.astype(np.float32))


def part(cube: Cube, row: int, col: int, side: int) -> Cube:
    """A square of a cube."""
    def cut(series: Series) -> Series:
        return replace(series, values=series.values[..., row : row + side, col : col + side],
                       valid=series.valid[..., row : row + side, col : col + side])

    return Cube((side, side), {n: cut(s) for n, s in cube.series.items()}, cube.weather)


class Windows:
    """Draws what is learnt from: a square, 240 days of weather, and dates of a part of them."""

    def __init__(self, cube: Cube) -> None:
        self._cube, self._side = cube, small.card().window
        self._first = cube.weather.dates[0]

    def __call__(self, rng: np.random.Generator) -> Cube:
        """A window, turned and mirrored."""
        row, col = rng.integers(SIDE - self._side + 1), rng.integers(LEARNT - self._side + 1)
        cube = part(self._cube, int(row), int(col), self._side)
        start = self._first + rng.integers((END - self._first - SPAN).astype(int) + 1)
        days = cube.weather.dates
        when = (days >= start) & (days < start + SPAN)
        # rather short than long: most forecasts are of the next weeks
        length = _SHORTEST + int((SPAN.astype(int) + 1 - _SHORTEST) * rng.random() ** 2)
        begin = start + rng.integers(SPAN.astype(int) - length + 1)
        series = cube.series[SENSOR]
        kept = (series.dates >= begin) & (series.dates < begin + length)
        kept &= series.valid.mean(axis=(1, 2)) > 0
        turn, mirror = int(rng.integers(4)), bool(rng.integers(2))

        def moved(array: np.ndarray) -> np.ndarray:
            array = np.rot90(array[kept], turn, axes=(-2, -1))
            return np.ascontiguousarray(array[..., ::-1] if mirror else array)

        series = replace(series, dates=series.dates[kept], values=moved(series.values),
                         valid=moved(series.valid), orbits=("",) * int(kept.sum()))
        return Cube(cube.shape, {SENSOR: series},
                    Weather(days[when], cube.weather.values[when]))


# --- how good it is -------------------------------------------------------------------------------


def cases(dates: np.ndarray, share: np.ndarray, horizon: tuple[int, int]
          ) -> Iterator[tuple[np.datetime64, np.datetime64]]:
    """(target, last day that may be looked at) of every held-back date with such a horizon.

    Args:
        dates: (T,) of the series.
        share: (T,) clear share of each.
        horizon: days between the last usable date and the target, both ends included.
    """
    usable = dates[share > _SHOWN]
    for target in usable[usable >= END]:
        ahead = (target - usable).astype(int)
        fitting = usable[(ahead >= horizon[0]) & (ahead <= horizon[1])]
        if len(fitting):
            yield target, fitting[-1]


def judge(network: nn.Module, cube: Cube, columns: slice, *, blind: bool = False) -> list[Scores]:
    """Errors on the dates that are held back, a row for each of `HORIZONS`.

    Args:
        network: MM-VSF.
        cube: the patch.
        columns: of it that are judged.
        blind: give mean weather instead of the true one.
    """
    model, side = export.Forecast(network).eval(), small.card().window
    if blind:
        mean = np.broadcast_to(adapter.WEATHER_MEAN, cube.weather.values.shape)
        cube = replace(cube, weather=Weather(cube.weather.dates, mean))
    dates, values, seen = adapter.observations(cube)
    rows = []
    for horizon in HORIZONS:
        sums: dict[str, float] = {}
        pixels, targets = 0, set()
        for target, last in cases(dates, seen.mean(axis=(1, 2)), horizon):
            known = persistence_and_line(dates, values, seen, last, target)
            known["forecast"] = _forecast(model, cube, last, target, side)
            compared = seen[np.flatnonzero(dates == target)[0]].copy()
            for guess in known.values():
                compared &= np.isfinite(guess).all(axis=0)
            compared[:, : columns.start] = compared[:, columns.stop :] = False
            truth = values[np.flatnonzero(dates == target)[0]][:, compared]
            pixels, targets = pixels + int(compared.sum()), targets | {target}
            for name, guess in known.items():
                error = float(np.square(guess[:, compared] - truth).mean(axis=0).sum())
                sums[name] = sums.get(name, 0.0) + error
        rows.append(Scores(horizon, len(targets), pixels,
                           {n: float(np.sqrt(s / max(pixels, 1))) for n, s in sums.items()}))
    return rows


@torch.inference_mode()
def _forecast(model: nn.Module, cube: Cube, last: np.datetime64, target: np.datetime64, side: int
              ) -> np.ndarray:
    """The patch (10, H, W) on a day, windows blended; NaN where nothing was seen before."""
    series = cube.series[SENSOR]
    early = series.dates <= last
    series = replace(series, dates=series.dates[early], values=series.values[early],
                     valid=series.valid[early], orbits=("",) * int(early.sum()))
    cube = replace(cube, series={SENSOR: series})
    total = np.zeros((len(BANDS), *cube.shape), np.float32)
    weights = np.zeros(cube.shape, np.float32)
    for row in adapter.starts(SIDE, side):
        for col in adapter.starts(SIDE, side):
            given = adapter.forecast_inputs(part(cube, row, col, side), target, adapter.MOST)
            if given is not None:
                image = model(*(torch.from_numpy(x) for x in given.values()))[0].numpy()
                place = ..., slice(row, row + side), slice(col, col + side)
                weight = adapter.weights(side) * given["seen"][0].any(axis=0)
                total[place] += weight * adapter.reflectance(image)
                weights[place] += weight
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1), np.nan)


def picture(network: nn.Module, cube: Cube, target: np.datetime64, path: Path) -> None:
    """A row for each of `HORIZONS`: last clear scene, forecast and truth in near infrared, red,
    green; the part left of the white line was learnt from, on earlier dates."""
    model = export.Forecast(network).eval()
    dates, values, seen = adapter.observations(cube)
    bands = [BANDS.index(b) for b in ("nir", "red", "green")]
    truth = values[np.flatnonzero(dates == target)[0]]
    low, high = np.nanpercentile(truth[bands], (1, 99), axis=(1, 2))

    def drawn(image: np.ndarray) -> np.ndarray:
        shades = (image[bands] - low[:, None, None]) / (high - low)[:, None, None]
        shades = np.nan_to_num(np.clip(shades, 0, 1), nan=1.0)
        shades[:, :, LEARNT] = 1
        return (255 * shades).astype(np.uint8).transpose(1, 2, 0)

    scale, gap, head = 5, 12, 22
    found = [(last, target) for horizon in HORIZONS[1:] for t, last in cases(
        dates, seen.mean(axis=(1, 2)), horizon) if t == target]
    side = SIDE * scale
    sheet = Image.new("RGB", (3 * side + 4 * gap, len(found) * (side + head) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (last, _) in enumerate(found):
        known = persistence_and_line(dates, values, seen, last, target)
        images = {
            f"last clear scene, {last}": known["persistence"],
            f"forecast, {(target - last).astype(int)} days ahead": _forecast(
                model, cube, last, target, small.card().window),
            f"true scene, {target}": truth,
        }
        for col, (name, image) in enumerate(images.items()):
            x, y = gap + col * (side + gap), row * (side + head)
            pen.text((x, y + 6), name, fill="black", font_size=14)
            sheet.paste(Image.fromarray(drawn(image)).resize((side, side), 0), (x, y + head))
    sheet.save(path, optimize=True)


# --- the command ----------------------------------------------------------------------------------


def main() -> None:
    """Train, measure, and export where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the training; it goes on where it stopped")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--export", action="store_true", help="replace the bundled files")
    parser.add_argument("--picture", type=Path, help="of forecasts of 26 September 2018")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cube = patch()
    trained = pretrain.train(small, Windows(cube), given.folder, minutes=given.minutes)
    network = trained.objective.encoder.eval()
    held_back = slice(JUDGED, SIDE)
    scores = {
        "ground learnt from": judge(network, cube, slice(0, LEARNT)),
        "ground held back": judge(network, cube, held_back),
        "ground held back, mean weather": judge(network, cube, held_back, blind=True),
    }
    for name, rows in scores.items():
        for row in rows:
            figures = ", ".join(f"{n} {v:.4f}" for n, v in sorted(row.rmse.items()))
            LOG.info("%s, %d to %d days, %d dates, %d pixels: %s", name, *row.horizon,
                     row.dates, row.pixels, figures)
    (given.folder / "scores.json").write_text(json.dumps(
        {name: [vars(row) for row in rows] for name, rows in scores.items()}, indent=1))
    if given.picture:
        picture(network, cube, np.datetime64("2018-09-26"), given.picture)
    if given.export:
        write(network, Windows(cube), scores)


def write(network: nn.Module, windows: pretrain.Windows, scores: dict[str, list[Scores]]) -> None:
    """Put the encoder and the network that forecasts, with their cards, beside their code.

    Raises:
        ValueError: an exported graph computes something else than torch.
    """
    folder = adapter.FORECASTING.parent.parent
    pretrain.export(small, network, windows, [SET], folder / "mmvsf-small.onnx")
    given = export.forecasting(network, network.config)
    card = replace(small.forecast_card(), training_data=(SET,), results=tuple(
        f"Dates held back, {name}, {low} to {high} days ahead: error (RMSE of reflectance) "
        f"{row.rmse['forecast']:.4f}; last clear value {row.rmse['persistence']:.4f}, "
        f"line to the next {row.rmse['interpolation']:.4f} ({row.dates} dates)."
        for name, rows in scores.items() for row in rows for low, high in [row.horizon]))
    adapter.FORECASTING.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=adapter.FORECASTING.parent) as place:
        path = Path(place) / adapter.FORECASTING.name
        torch.onnx.export(given.module, given.examples[0], str(path), dynamo=False,
                          opset_version=17, input_names=list(given.axes), output_names=["image"],
                          dynamic_axes={**given.axes, "image": {0: "windows"}})
        card = write_card(path, card)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for inputs in given.examples:
            (found,) = session.run(["image"], {
                n: x.numpy() for n, x in zip(given.axes, inputs, strict=True)})
            with torch.no_grad():
                wrong = float(np.abs(found - given.module(*inputs).numpy()).max())
            if wrong > _TOLERANCE:
                raise ValueError(f"{path.name} differs from torch by {wrong:.2g}.")
        os.replace(path, adapter.FORECASTING)
    adapter.FORECASTING.with_name("card.json").write_text(card.to_json() + "\n", "utf-8")
    LOG.info("%s: %.2f MB", adapter.FORECASTING, adapter.FORECASTING.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
