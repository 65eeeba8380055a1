"""The report on change: what changed, how much, when, by which threshold, how sure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from html import escape
from pathlib import Path

import numpy as np

from ..change.classes import ClassDetector
from ..change.decision import Detector
from ..change.deforestation import DeforestationDetector, SeasonPair
from ..change.mapping import Mapped
from ..change.scenes import Side
from ..change.series import Dater, SeriesDetector
from ..change.vectors import VectorDetector
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

_MOST_PATCHES = 15
_BINS = 120
_SIDES = ("before", "after")


@dataclass(frozen=True)
class ChangePage:
    """All that the page tells.

    Attributes:
        path: of the map.
        preset, method: see the job `change_detection`.
        detector: what decided.
        dater: of the dates, None without.
        mapped: areas, patches, years.
        sides: before and after, or one series.
        least: smallest area (ha).
        entries: of the section on the method.
        warnings: of the run.
        command: that runs it again.
    """

    path: Path
    preset: str
    method: str
    detector: Detector
    dater: Dater | None
    mapped: Mapped
    sides: tuple[Side, ...]
    least: float
    entries: dict[str, str]
    warnings: tuple[str, ...]
    command: str

    @property
    def _forest(self) -> bool:
        return self.preset == "deforestation"

    def write(self, path: Path) -> None:
        """Write the page."""
        crs = self.detector.grid.crs
        code = crs.to_epsg() if crs else None
        place = f"EPSG:{code}" if code else "own coordinate system" if crs else "no CRS"
        days = [d for side in self.sides for d in side.season()]
        span = f", {min(days)} to {max(days)}" if days else ""
        Report(
            ("Deforestation" if self._forest else "Change") + span, self._tiles(), self.warnings,
            (map_section(self.path, self.mapped.legend, self.mapped.areas, place),
             areas_section(self.mapped.areas), self._when(), self._patches(), self._threshold(),
             self._trust(), self._data(), method_section(self.entries, self.command)),
            date.today()).write(path)

    def _tiles(self) -> tuple[tuple[str, str], ...]:
        patches, areas = self.mapped.patches.hectares, self.mapped.areas
        changed = float(patches.sum())
        share = 100 * changed / areas.total if areas.total else 0.0
        word = "deforested" if self._forest else "changed"
        found = [(f"{hectares(changed)} <small>ha</small>", word),
                 (f"{share:.1f} <small>%</small>", "of the area with an answer"),
                 (number(len(patches)), f"areas of {self.least:g} ha or more")]
        if self.mapped.years[1].sum():
            dated = float(self.mapped.years[1].sum())
            found.append((f"{100 * dated / (dated + self.mapped.undated):.0f} <small>%</small>",
                          "of the change has a date"))
        else:
            found.append((f"{hectares(areas.unanswered)} <small>ha</small>", "without an answer"))
        return tuple(found)

    def _when(self) -> Section:
        if self.dater is None:
            return Section("When", "")
        years, areas = self.mapped.years
        if not len(years):
            return Section("When", f"<p>No change could be dated from {escape(self.dater.title)}."
                           "</p>")
        most = float(areas.max())
        rows = [(str(y), hectares(float(a)), charts.bar(float(a) / most, "#21918c", 320))
                for y, a in zip(years, areas, strict=True)]
        rows.append(("no date", hectares(self.mapped.undated),
                     charts.bar(min(self.mapped.undated / most, 1.0), "#bdbdbd", 320)))
        note = (f'<p class="soft" style="margin-top:10px">From {escape(self.dater.title)}: one '
                "break of the level a pixel, season taken off where the series spans 18 months. "
                f"A date needs {self.dater.least_clear} clear observations before and after it and "
                "a step of at least "
                f"{self.dater.least_step:g}; it lies between the last clear observation before and "
                "the first one after (bands 2 and 3 of the layer Date of change).</p>")
        return Section("When", table(("Year", "ha", ""), rows, numeric=(1,)) + note)

    def _patches(self) -> Section:
        patches = self.mapped.patches
        if not len(patches.hectares):
            return Section("Areas of change", "")
        fields = self.mapped.facts.columns(self.mapped.legend, self.dater is not None)
        head = ["No.", "ha", "Confidence, %", "Change"]
        dated = self.dater is not None and any(fields["last_clear"])
        if dated:
            head += ["Changed between", "Dated, %"]
        rows = []
        for k in range(min(len(patches.hectares), _MOST_PATCHES)):
            row = [str(k + 1), hectares(float(patches.hectares[k])),
                   f"{fields['confidence'][k]:.0f}", escape(str(fields["change"][k]))]
            if dated:
                first, last = fields["last_clear"][k], fields["first_clear"][k]
                span = f'<span class="whole">{first} to {last}</span>' if first else "no date"
                row += [span, f"{fields['dated'][k]:.0f}"]
            rows.append(tuple(row))
        total = float(patches.hectares.sum())
        rest = len(patches.hectares) - len(rows)
        more = f" {number(rest)} smaller ones are in the map only." if rest > 0 else ""
        words = (f"<p>The ten largest of {number(len(patches.hectares))} hold "
                 f"{100 * patches.hectares[:10].sum() / total:.0f} % of the change.{more}</p>")
        return Section("Areas of change", words + table(tuple(head), rows, numeric=(0, 1, 2)))

    def _threshold(self) -> Section:
        sample = getattr(self.detector, "sample", None)
        if sample is None or not len(sample):
            return Section("Threshold", "")
        cut = self.detector.decision.cut
        picture = histogram(sample, cut, self.detector.strength)
        words = ""
        if isinstance(self.detector, VectorDetector):
            rows = [(escape(g.title), f"{c:.1f}", f"{100 * s.unchanged:.0f}",
                     ", ".join(f"{r:.2f}" for r in s.correlations))
                    for g, s, c in zip(self.detector.groups, self.detector.scales,
                                       self.detector.cuts, strict=True)]
            words = table(("Bands", "Threshold", "Weight of unchanged, %",
                           "Canonical correlations"), rows, numeric=(1, 2)) + (
                '<p class="soft" style="margin-top:10px">Strength is the length of the difference '
                "of both dates in units of what unchanged ground differs by, over the threshold. "
                "Otsu's cut of all lengths, but at least three robust deviations above their "
                "median. It finds what stands out from the rest of the scene; where most of a "
                "scene has changed, give a threshold.</p>")
        return Section("Threshold", f"<figure>{picture}</figure>{words}")

    def _trust(self) -> Section:
        words = []
        pair = getattr(self.detector, "pair", None)
        if isinstance(pair, SeasonPair) and pair.looked:
            words.append(f"<p>{100 * pair.strange / pair.looked:.0f} % of the pixels after the "
                         "change are unlike what the forest head was trained on "
                         f"({escape(pair.region)}).</p>")
        if isinstance(self.detector, ClassDetector):
            words.append("<p>Both maps' errors add up: of two maps that are 90 % right, up to a "
                         "fifth of all pixels differ by error alone. Judge rare transitions with "
                         "care.</p>")
        elif isinstance(self.detector, (DeforestationDetector, SeriesDetector)):
            words.append("<p>Confidence is the product of the detector's own probabilities; it "
                         "was not checked against visited places here.</p>")
        else:
            words.append("<p>Confidence says how far beyond the threshold a pixel lies, as a "
                         "probability of two log-normal classes; it was not checked against "
                         "visited places.</p>")
        words.append("<p>Clouds and shadows that no mask hides, floods, snow, another harvest date "
                     "and shifted images count as change too. For an area with an interval, draw "
                     "points in each class with Sampling design, visit them, and run Assess "
                     "accuracy.</p>")
        return Section("Trust", "".join(words))

    def _data(self) -> Section:
        rows, left = [], []
        for k, side in enumerate(self.sides):
            when = _SIDES[k] if len(self.sides) > 1 else "series"
            if side.embeddings is not None:
                days = side.season()
                rows.append((when, f"embeddings {escape(side.embeddings.name)}",
                             " to ".join(days), ""))
            if side.stack is None:
                continue
            left += side.stack.left_out
            rows += [(when, escape(charts.sensor_name(r["sensor"])),
                      f'<span class="whole">{escape(r["dates"])}</span>', escape(r["bands"]))
                     for r in sensor_rows(side.stack)]
        html = table(("When", "Sensor", "Dates", "Bands"), rows)
        if left:
            html += "<h3>Left out</h3>" + table(("File", "Why"), [
                (escape(name), escape(why)) for name, why in left])
        return Section("Data", html)


def histogram(sample: np.ndarray, cut: float, name: str, width: float = 896) -> str:
    """Histogram of strengths with the threshold, as one <svg>."""
    left, top, height, base = 46.0, 12.0, 190.0, 150.0
    high = max(float(np.percentile(sample, 99.5)), 1.5 * cut, 1e-6)
    counts, edges = np.histogram(np.clip(sample, 0, high), _BINS, (0, high))
    heights = np.sqrt(counts / max(counts.max(), 1))  # of the root, or a rare change is no line

    def x(value: float) -> float:
        return left + value / high * (width - left - 20)

    parts = [charts.line(left, base, width - 20, base, "axis")]
    pitch = next((p for p in (1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20,
                              50, 100) if high / p <= 14), high / 10)
    for value in np.arange(0, high + 1e-9, pitch):
        parts += [charts.line(x(value), base, x(value), base + 4, "axis"),
                  charts.text(x(value), base + 20, f"{value:g}", "soft", "middle")]
    points = " ".join(f"{x((a + b) / 2):.1f},{base - h * (base - top):.1f}"
                      for a, b, h in zip(edges[:-1], edges[1:], heights, strict=True))
    parts += [f'<polyline points="{points}" class="curve accent"/>',
              charts.line(x(cut), top, x(cut), base, "curve warm"),
              charts.text(x(cut) + 6, top + 10, f"threshold {cut:.3g}", "ink"),
              charts.text((left + width - 20) / 2, height - 2,
                          f"{escape(name)}; height: square root of the share", "soft", "middle")]
    return charts.svg(width, height, f"Histogram of {name} with the threshold", parts)
