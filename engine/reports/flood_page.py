"""The report on a flood: what was flooded, by which thresholds, where the detectors agree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from html import escape
from pathlib import Path

import numpy as np

from ..flood.classical import thresholds
from ..flood.mapping import FLOOD, LEGEND, PERMANENT, UNFIT, UNSEEN, UNSEEN_BEFORE, Ground, Mapped
from ..flood.pair import FloodPair, describe
from ..flood.survey import Stats, Survey
from ..flood.thresholds import kittler_illingworth
from . import charts
from .observations import sensor_rows
from .report import (
    Report,
    Section,
    areas_section,
    hectares,
    map_section,
    method_section,
    number,
    table,
)

_SOURCES = {"tiles": "tiles with two classes: median of {}", "scene": "Otsu on the whole scene",
            "cap": "fixed: no two classes", "other": "as on the other date"}
_MOST_ZONES = 40
_CURVE = 140  # points of a histogram's curve


@dataclass(frozen=True)
class FloodPage:
    """All that the page tells.

    Attributes:
        path: of the map.
        pair: the images.
        survey: thresholds and histograms.
        mapped: areas and patches.
        ground: other layers.
        method: "both", "thresholds" or "embeddings".
        card: of the learned detector, None without it.
        entries: of the section on the method.
        warnings: of the run.
        command: that runs it again.
    """

    path: Path
    pair: FloodPair
    survey: Survey
    mapped: Mapped
    ground: Ground
    method: str
    card: dict | None
    entries: dict[str, str]
    warnings: tuple[str, ...]
    command: str

    def write(self, path: Path) -> None:
        """Write the page."""
        crs = self.pair.grid.crs
        code = crs.to_epsg() if crs else None
        place = f"EPSG:{code}" if code else "own coordinate system" if crs else "no CRS"
        days = str(self.pair.dates[1]) or "without a date"
        Report(
            f"Flood map, {days}", self._tiles(), self.warnings,
            (map_section(self.path, LEGEND, self.mapped.all_areas, place), self._areas(),
             self._zones(), self._thresholds(), self._trust(), self._data(),
             method_section(self.entries, self.command)), date.today(),
        ).write(path)

    def _ha(self, *values: int) -> float:
        return sum(a.hectares for a in self.mapped.all_areas.classes if a.value in values)

    def _tiles(self) -> tuple[tuple[str, str], ...]:
        patches = self.mapped.patches.hectares
        tiles = [(f"{hectares(self._ha(FLOOD))} <small>ha</small>", "flooded"),
                 (f"{hectares(self._ha(PERMANENT))} <small>ha</small>", "permanent water"),
                 (f"{hectares(self.mapped.areas.unanswered)} <small>ha</small>",
                  "left out or not seen"),
                 (number(len(patches)), "flooded areas")]
        return tuple(tiles)

    def _areas(self) -> Section:
        section = areas_section(self.mapped.areas)
        patches = self.mapped.patches.hectares
        rows = [("Steep or high ground", hectares(self._ha(UNFIT))),
                ("Not seen before the flood", hectares(self._ha(UNSEEN_BEFORE))),
                ("Not seen during the flood", hectares(self._ha(UNSEEN)))]
        html = section.html
        if len(patches):
            html += (f"<p>The largest of {number(len(patches))} flooded areas has "
                     f"{hectares(float(patches[0]))} ha; the ten largest hold "
                     f"{100 * patches[:10].sum() / patches.sum():.0f} % of the flood.</p>")
        if self.mapped.areas.unanswered:
            html += "<h3>Without an answer</h3>" + table(("Why", "ha"), rows, numeric=(1,))
        return Section("Areas", html)

    def _zones(self) -> Section:
        zones = self.ground.zones
        if zones is None:
            return Section("Zones", "")
        flood, permanent, dry, other = (zones.hectares(v) for v in (
            (FLOOD,), (PERMANENT,), (0,), (UNFIT, UNSEEN_BEFORE, UNSEEN)))
        order = np.argsort(-flood, kind="stable")[:_MOST_ZONES]
        land = np.maximum(flood + dry, 1e-9)
        color = LEGEND.classes[FLOOD].color
        rows = [(escape(zones.names[k]), hectares(float(flood[k])),
                 f"{100 * flood[k] / land[k]:.1f}", hectares(float(permanent[k])),
                 hectares(float(other[k])), charts.bar(float(flood[k] / land[k]), color, 200))
                for k in order]
        more = (f'<p class="soft">{len(flood) - len(order)} zones with less flood are not shown.'
                "</p>" if len(flood) > len(order) else "")
        head = ("Zone", "Flood, ha", "% of seen land", "Permanent, ha", "No answer, ha", "")
        return Section("Zones", table(head, rows, numeric=(1, 2, 3, 4)) + more)

    def _thresholds(self) -> Section:
        parts = []
        for channel, used in thresholds(self.survey).items():
            both = self.survey.stats[channel]
            unit = " dB" if channel in ("vv", "vh") else ""
            name = describe((channel,))
            rows = []
            for when, cut, stats in zip(("before", "during"), used, both, strict=True):
                kittler = kittler_illingworth(stats.counts, stats.edges) \
                    if stats.counts.sum() else None
                source = stats.source if cut == stats.threshold else "other"
                rows.append((when, f"{cut:.2f}{unit}",
                             escape(_SOURCES[source].format(len(stats.tiles))),
                             f"{stats.cut.quality:.2f}" if stats.cut else "n/a",
                             f"{stats.clearest:.1f}",
                             f"{kittler.threshold:.2f}{unit}" if kittler else "n/a"))
            picture = histogram(both, used, name, unit)
            head = ("Date", "Threshold", "From", "eta", "Ashman D", "Kittler-Illingworth")
            parts.append(f"<h3>{name}</h3><figure>{picture}</figure>"
                         + table(head, rows, numeric=(1, 3, 4, 5)))
        note = ('<p class="soft" style="margin-top:10px">Histograms of 3 x 3 medians. Thresholds '
                "are Otsu's; two classes need an Ashman D above 2 between two fitted Gaussians, "
                "and a tenth of the pixels in the smaller one. D is that of the clearest tile, eta "
                "that of the whole scene; Kittler-Illingworth's threshold is shown to compare.</p>"
                )
        return Section("Thresholds", "".join(parts) + note if parts else "")

    def _trust(self) -> Section:
        words = []
        agreement = self.mapped.agreement
        if not np.isnan(agreement):
            words.append(f"<p>Of all that either detector calls flood, both call "
                         f"<b>{100 * agreement:.0f} %</b> so (before small areas were left out). "
                         "Where they differ their weighted mean decides; the layer Disagreement "
                         "shows the places.</p>")
        if self.card is not None:
            results = self.card.get("results", {})
            said = "; ".join(f"{escape(k)} {v}" for k, v in results.items())
            words.append("<p>The learned detector was trained on "
                         f"{escape(self.card['training'][0]['set'])}"
                         + (f"; on held-back events: {said}" if said else "")
                         + ". How right this map is was not measured: visit points drawn at "
                         "random in each class.</p>")
        words.append("<p>Water under trees and between houses brightens radar and is missed; wind "
                     "roughens open water; thin cloud without a mask hides water from optical "
                     "images.</p>")
        return Section("Trust", "".join(words))

    def _data(self) -> Section:
        rows = []
        for when, stack in (("before", self.pair.before), ("during", self.pair.during)):
            for r in sensor_rows(stack):
                rows.append((when, escape(charts.sensor_name(r["sensor"])),
                             f'<span class="whole">{escape(r["dates"])}</span>',
                             escape(r["bands"])))
        left = [*self.pair.before.left_out, *self.pair.during.left_out]
        html = table(("When", "Sensor", "Dates", "Bands"), rows)
        if left:
            html += "<h3>Left out</h3>" + table(("File", "Why"), [
                (escape(name), escape(why)) for name, why in left])
        return Section("Data", html)


def histogram(both: tuple[Stats, Stats], cuts: tuple[float, float], name: str, unit: str,
              width: float = 896) -> str:
    """Histograms before and during a flood with their thresholds, as one <svg>."""
    left, top, height, base = 46.0, 12.0, 190.0, 150.0
    edges = both[0].edges
    shares = [_coarse(s.counts) for s in both]
    seen = np.flatnonzero(np.sum(shares, 0) > 1e-4)
    if not len(seen):
        return ""
    first, last = int(seen[0]), int(seen[-1]) + 1
    step = (edges[1] - edges[0]) * max(1, (len(edges) - 1) // _CURVE)
    low, high = edges[0] + first * step, edges[0] + last * step
    most = max(float(s.max()) for s in shares)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - 20)

    parts = [charts.line(left, base, width - 20, base, "axis")]
    pitch = next(p for p in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if (high - low) / p <= 14)
    for value in np.arange(np.ceil(low / pitch) * pitch, high + 1e-9, pitch):
        words = f"{value:g}" if pitch >= 1 else f"{round(value, 2) + 0:.2f}"  # + 0: no "-0.00"
        parts += [charts.line(x(value), base, x(value), base + 4, "axis"),
                  charts.text(x(value), base + 20, words, "soft", "middle")]
    parts.append(charts.text((left + width - 20) / 2, height - 2, f"{name}{unit and ' (dB)'}",
                             "soft", "middle"))
    for row, (share, cut, kind, words) in enumerate(zip(
            shares, cuts, ("warm", "accent"), ("before", "during"), strict=True)):
        points = " ".join(
            f"{x(edges[0] + (k + 0.5) * step):.1f},{base - share[k] / most * (base - top):.1f}"
            for k in range(first, last))
        at = x(min(max(cut, low), high))
        place, anchor = (at - 6, "end") if row == 0 else (at + 6, "start")
        parts += [f'<polyline points="{points}" class="curve {kind}"/>',
                  charts.line(at, top + 14 * row, at, base, f"curve {kind}"),
                  charts.text(place, top + 10 + 14 * row,
                              f"{words} {cut:.2f}{unit}", "ink", anchor)]
    legend = f"Histogram of {name} before and during the flood with the thresholds"
    return charts.svg(width, height, legend, parts)


def _coarse(counts: np.ndarray) -> np.ndarray:
    """Shares of every few bins, so that a curve has about a hundred."""
    count = max(1, len(counts) // _CURVE)
    joined = counts[:len(counts) // count * count].reshape(-1, count).sum(1)
    return joined / max(joined.sum(), 1)
