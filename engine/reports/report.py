"""Reports: one HTML page that stands alone, built of sections. No script, no network."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template

import numpy as np

from ..heads.labels import Labels
from ..rasters.areas import Areas
from ..rasters.legend import Legend
from . import charts
from .charts import Day
from .corrected_areas import CorrectedArea
from .picture import map_picture

_TEMPLATE = Path(__file__).with_name("report_template.html")
_LIBRARIES = ("numpy", "rasterio", "scikit-learn", "onnxruntime")


@dataclass(frozen=True)
class Section:
    """A numbered part of a report: title and HTML."""

    title: str
    html: str


@dataclass(frozen=True)
class Report:
    """A page.

    Attributes:
        title: what is reported, with the name of the input.
        tiles: (figure, what it is) of the headline.
        warnings: what the reader must not miss.
        sections: in their order; empty ones are left out.
        day: of the run.
    """

    title: str
    tiles: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
    day: date

    def html(self) -> str:
        """The whole page."""
        alerts = ""
        if self.warnings:
            items = "".join(f"<li>{escape(w)}</li>" for w in dict.fromkeys(self.warnings))
            alerts = f'<div class="alerts"><b>Please note</b><ul>{items}</ul></div>'
        sections = [s for s in self.sections if s.html]
        body = "".join(
            f'<section><h2><span class="number">{i}</span>{escape(s.title)}</h2>{s.html}</section>'
            for i, s in enumerate(sections, 1))
        tiles = "".join(f'<div class="tile"><b>{figure}</b><span>{escape(what)}</span></div>'
                        for figure, what in self.tiles)
        foot = escape(self.title).replace("\\", "").replace("\n", " ")
        return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
            title=escape(self.title), day=self.day.isoformat(), tiles=tiles, alerts=alerts,
            sections=body, foot=foot)

    def write(self, path: Path) -> None:
        """Write the page under a temporary name and rename it."""
        path = Path(path)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_text(self.html(), encoding="utf-8")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def number(value: float, digits: int = 0) -> str:
    """A number with thin spaces between thousands; "n/a" for NaN."""
    if np.isnan(value):
        return "n/a"
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def hectares(value: float) -> str:
    """Hectares with as many digits as help: 0.35, 12.4, 11 718."""
    return number(value, 0 if value >= 100 else 1 if value >= 10 else 2)


def chip(color: str) -> str:
    """A small square in a class's colour."""
    return f'<span class="chip" style="background:{escape(color, quote=True)}"></span>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = (),
          foot: Sequence[str] = ()) -> str:
    """An HTML table; the first cell of a row is its heading, cells hold ready HTML."""
    def cells(values: Sequence[str], tag: str) -> str:
        first = "th scope='row'" if tag == "td" else tag
        return "".join(
            f"<{first if i == 0 else tag}{' class=n' if i in numeric else ''}>{value}"
            f"</{'th' if i == 0 else tag}>" for i, value in enumerate(values))
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    end = f"<tfoot><tr>{cells(foot, 'td')}</tr></tfoot>" if foot else ""
    return (f'<div class="scroll"><table><thead><tr>{cells(head, "th")}</tr></thead>'
            f"<tbody>{body}</tbody>{end}</table></div>")


def map_section(path: Path, legend: Legend, areas: Areas, crs: str) -> Section:
    """The picture of a class raster with the classes that occur in it."""
    present = [c for c in areas.classes if c.pixels]
    names = ", ".join(f"{c.name} {100 * c.share:.0f} %" for c in present)
    items = "".join(f"<li>{chip(c.color)}{escape(c.name)}</li>" for c in present)
    picture = map_picture(path, legend, f"Map of {names}")
    return Section("Map", f'<figure>{picture}<ul class="legend">{items}</ul>'
                          f"<figcaption>{escape(Path(path).name)}, {escape(crs)}. Places without "
                          "an answer are left blank.</figcaption></figure>")


def areas_section(areas: Areas, corrected: Mapping[int, CorrectedArea] | None = None,
                  why: Mapping[str, float] | None = None) -> Section:
    """Hectares of each class with bars.

    Args:
        areas: counted in the map.
        corrected: value of a class to its area corrected by held-back labels.
        why: reason for empty pixels to its share (0..1) of the raster.
    """
    largest = max((c.share for c in areas.classes), default=0) or 1
    wide = 320 if corrected is None else 150
    head = ["Class", "ha", "%", ""]
    rows = [[chip(c.color) + escape(c.name), hectares(c.hectares), f"{100 * c.share:.1f}",
             charts.bar(c.share / largest, c.color, wide)] for c in areas.classes]
    foot = ["All classes", hectares(areas.total), "100.0" if areas.total else "0.0", ""]
    if corrected is not None:
        head += ["ha, corrected", "95 % interval"]
        foot += ["", ""]
        for row, c in zip(rows, areas.classes, strict=True):
            found = corrected.get(c.value)
            row += [hectares(found.hectares), f"{hectares(found.low)} to {hectares(found.high)}"
                    ] if found else ["", ""]
    body = table(head, rows, numeric=(1, 2, 4, 5), foot=foot)
    note = ("Pixel count with the true size of each pixel. "
            f"{hectares(areas.unanswered)} ha ({100 * areas.unanswered_share:.1f} %) have no "
            "answer. A map's errors bias such counts. ")
    if corrected is not None:
        note += ("Corrected: with the errors that were found on held-back labels; interval: 1000 "
                 "draws of whole blocks. Labels that somebody chose are no random sample, so this "
                 "shows size and direction of the bias and is not design-based. ")
    note += ("For areas with intervals that stand, visit points drawn at random in each class: "
             "Sampling design, then Assess accuracy.")
    return Section("Areas", f'{body}<p class="soft" style="margin-top:10px">{note}</p>'
                            + _reasons(why or {}))


def _reasons(why: Mapping[str, float]) -> str:
    """Why pixels are empty, in shares of the raster."""
    if not why:
        return ""
    rows = [(escape(name), f"{100 * share:.1f}") for name, share in why.items()]
    return "<h3>Without an answer</h3>" + table(("Why", "% of the area"), rows, numeric=(1,))


def data_section(days: Sequence[Day], rows: Sequence[Mapping[str, str]],
                 left_out: Sequence[tuple[str, str]]) -> Section:
    """The dates of the input with their usable share, and what was left out.

    Args:
        days: observations for the timeline.
        rows: one a sensor: sensor, dates, bands.
        left_out: (file, reason).
    """
    parts = []
    if days:
        alt = f"{len(days)} observations with the share of usable pixels"
        parts.append(f"<figure>{charts.timeline(days, alt)}<figcaption>Height of a bar: share of "
                     "pixels that are neither cloud, shadow nor missing, from a sample of windows; "
                     "orange: under 10 %.</figcaption></figure>")
    if rows:
        parts.append(table(("Sensor", "Dates", "Bands"), [
            (escape(charts.sensor_name(r["sensor"])),
             f'<span class="whole">{escape(r["dates"])}</span>', escape(r["bands"]))
            for r in rows]))
    if left_out:
        parts.append("<h3>Left out</h3>" + table(("File", "Why"), [
            (escape(name), escape(why)) for name, why in left_out]))
    return Section("Data", "".join(parts))


def labels_section(labels: Labels) -> Section:
    """Samples and parcels of each class."""
    counts = labels.counts()
    most = max(c["samples"] for c in counts)
    colors = dict(zip(labels.legend.values, labels.legend.colors, strict=True))
    rows = [(chip(colors[c["value"]]) + escape(c["name"]), number(c["groups"]),
             number(c["samples"]), charts.bar(c["samples"] / most, colors[c["value"]], 320))
            for c in counts]
    groups = sum(c["groups"] for c in counts)
    body = table(("Class", labels.heading, "Pixels used", ""), rows,
                 numeric=(1, 2), foot=("All classes", number(groups), number(len(labels)), ""))
    outside = (f" {labels.outside} {labels.nouns} lie outside the rasters and were ignored."
               if labels.outside else "")
    drawn = (f" Drawn from {number(sum(labels.pixels))} labelled pixels, evenly over classes and "
             "ground: precision and overall accuracy are those of such a draw, in which rare "
             "classes weigh as much as common ones." if labels.pixels else "")
    return Section("Labels", f'{body}<p class="soft" style="margin-top:10px">From '
                             f"{escape(labels.source)}.{outside}{drawn}</p>")


def method_section(entries: Mapping[str, str], command: str) -> Section:
    """What ran, with what, and how to run it again."""
    versions = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    entries = {**entries, "Engine": f"Python {platform.python_version()}, {versions}"}
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in entries.items() if v)
    again = f"<h3>Run it again</h3><pre>{escape(command)}</pre>" if command else ""
    return Section("Method", f"<dl>{items}</dl>{again}")
