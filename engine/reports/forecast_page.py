"""The page about a forecast: the picture, and how wrong such forecasts were on days held back."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path

import rasterio
from PIL import Image
from rasterio.enums import Resampling

from ..rasters.truecolour import TrueColour
from .report import Report, Section, method_section, number, table

_MOST = 1000  # pixels of the longer side
_WIDTH = 640  # of the picture on the page


def forecast_page(path: Path, colours: TrueColour, day: str, ahead: int,
                  rows: Sequence[Mapping[str, object]], total: Mapping[str, object] | None,
                  warnings: Sequence[str], method: Mapping[str, str], command: str) -> Report:
    """The report on a forecast.

    Args:
        path: of the forecast.
        colours: of the picture.
        day: that was forecast.
        ahead: days from the last scene to it.
        rows: of the days held back: date, days, pixels, forecast, persistence, interpolation.
        total: the same over all of them; None where nothing could be held back.
        warnings: for the head of the page.
        method: what ran.
        command: that repeats it.
    """
    tiles = [(str(ahead), "days after the last scene")]
    if total:
        tiles += [(_error(total["forecast"]), "typical error of such a forecast here"),
                  (_error(total["persistence"]), "of the last clear value")]
    return Report(f"Forecast for {day}", tuple(tiles), tuple(warnings), (
        Section("Picture", _picture(path, colours)), Section("Error", _errors(rows, total)),
        method_section(method, command)), date.today())


def _error(value: object) -> str:
    return number(float(value), 4)


def _errors(rows: Sequence[Mapping[str, object]], total: Mapping[str, object] | None) -> str:
    if not total:
        return "<p>There were too few scenes to hold any back.</p>"
    kinds = ("forecast", "persistence", "interpolation")
    lines = [(escape(str(r["date"])), str(r["days"]), number(float(r["pixels"])),
              *(_error(r[k]) for k in kinds)) for r in rows]
    foot = ("All", "", number(float(total["pixels"])), *(_error(total[k]) for k in kinds))
    note = ("Root mean squared error of reflectance (0..1) over all bands, on clear pixels of "
            "scenes of this stack that the forecast was not shown. The line runs from the last "
            "clear value to the next one <em>after</em> the day, which no forecast can know.")
    return table(("Day", "Days ahead", "Pixels", "Forecast", "Last clear value", "Line"), lines,
                 numeric=(1, 2, 3, 4, 5), foot=foot) + f'<p class="soft">{note}</p>'


def _picture(path: Path, colours: TrueColour) -> str:
    with rasterio.open(path) as dataset:
        shrink = max(1.0, max(dataset.shape) / _MOST)
        shape = tuple(max(1, round(n / shrink)) for n in dataset.shape)
        pixels = dataset.read(list(colours.bands), out_shape=(3, *shape),
                              resampling=Resampling.average)
    buffer = io.BytesIO()
    Image.fromarray(colours.bytes_of(pixels)).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (f'<figure><img alt="Forecast in true colour" style="width:{_WIDTH}px;max-width:100%;'
            f'image-rendering:pixelated" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(path.name)}, red, green and blue. White: never clear before."
            "</figcaption></figure>")
