"""Small pictures for reports: inline SVG in the colours of the page, with a text for readers
who do not see them.

The classes used here (`ink`, `soft`, `line`, `accent`, `warm`) are styled by the page, so that
charts follow its light and dark colours. All functions return one <svg> element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

import numpy as np

FOLD_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9",
               "#d55e00", "#882255", "#999933", "#332288", "#44aa99")


@dataclass(frozen=True)
class Interval:
    """One row of `intervals`: a mean, its folds, and how to draw it ("best", "plain", "open")."""

    name: str
    mean: float
    spread: float
    points: tuple[float, ...]
    style: str = "plain"


@dataclass(frozen=True)
class Day:
    """One observation day of a sensor; `valid` is the share of usable pixels, 0..1."""

    sensor: str
    day: date
    valid: float


def sensor_name(sensor: str) -> str:
    """A sensor as people write it."""
    return sensor.upper() if sensor in ("modis", "cbers") else sensor.capitalize()


def svg(width: float, height: float, alt: str, parts: Sequence[str], kind: str = "chart") -> str:
    """An <svg> of a size in px that shrinks with the page; `alt` is read aloud."""
    return (f'<svg class="{kind}" role="img" aria-label="{escape(alt, quote=True)}" '
            f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">'
            + "".join(parts) + "</svg>")


def text(x: float, y: float, words: str, kind: str = "ink", anchor: str = "start") -> str:
    """A text element at its baseline."""
    return (f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
            f"{escape(words)}</text>")


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "line") -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def bar(share: float, color: str, width: int = 220) -> str:
    """A horizontal bar of a share 0..1, for table cells."""
    length = max(min(share, 1.0) * width, 1.0 if share > 0 else 0.0)
    return svg(width, 12, f"{100 * share:.0f} %", [
        f'<rect x="0" y="1" width="{width}" height="10" rx="2" class="track"/>',
        f'<rect x="0.5" y="1.5" width="{length:.1f}" height="9" rx="2" fill="{color}" '
        'class="filled"/>'], "bar")


def intervals(rows: Sequence[Interval], label: str, alt: str, width: float = 570) -> str:
    """Means with whiskers of one standard deviation, and the single folds as small dots."""
    left, right, step, top = 172.0, 108.0, 34.0, 8.0
    seen = [v for r in rows for v in (*r.points, r.mean - r.spread, r.mean + r.spread)
            if not np.isnan(v)]
    low = max(np.floor(min(seen, default=0.0) * 10 - 0.2) / 10, 0.0)
    high = min(np.ceil(max(seen, default=1.0) * 10 + 0.2) / 10, 1.0)
    height = top + step * len(rows) + 40

    def x(value: float) -> float:
        return left + (value - low) / max(high - low, 0.1) * (width - left - right)

    parts = []
    tick = 0.1 if high - low > 0.35 else 0.05
    for value in np.arange(low, high + 1e-9, tick):
        parts += [line(x(value), top, x(value), height - 34, "line"),
                  text(x(value), height - 20, f"{value:.2f}".rstrip("0").ljust(3, "0"),
                       "soft", "middle")]
    parts.append(text(x((low + high) / 2), height - 4, label, "soft", "middle"))
    for i, row in enumerate(rows):
        y = top + step * (i + 0.5)
        kind = {"best": "accent", "open": "warm"}.get(row.style, "ink")
        parts.append(text(left - 14, y + 4, row.name,
                          "strong" if row.style == "best" else "ink", "end"))
        parts += [f'<circle cx="{x(p):.1f}" cy="{y:.1f}" r="2.4" class="dot {kind}"/>'
                  for p in row.points if not np.isnan(p)]
        parts += [line(x(max(row.mean - row.spread, low)), y,
                       x(min(row.mean + row.spread, high)), y, f"whisker {kind}"),
                  f'<circle cx="{x(row.mean):.1f}" cy="{y:.1f}" r="5.5" class="mark {kind} '
                  f'{"hollow" if row.style == "open" else ""}"/>',
                  text(width - right + 16, y + 4, f"{row.mean:.2f} ± {row.spread:.2f}",
                       "strong" if row.style == "best" else "ink")]
    return svg(width, height, alt, parts)


def blocks(places: np.ndarray, side: float, fold: np.ndarray, alt: str,
           width: float = 290) -> str:
    """Blocks of ground in the colour of their fold.

    Args:
        places: (b, 2) left and bottom corner in metres.
        side: of a block in metres.
        fold: (b,) fold of each block.
        alt: text in place of the picture.
        width: px.
    """
    low, high = places.min(0), places.max(0) + side
    scale = min((width - 4) / (high - low)[0], 250 / (high - low)[1])
    height = (high - low)[1] * scale + 34
    span = (high - low)[0] * scale
    shift = (width - span) / 2
    size = side * scale
    parts = [
        f'<rect x="{shift + (p[0] - low[0]) * scale + 0.6:.1f}" '
        f'y="{(high[1] - p[1]) * scale - size + 0.6:.1f}" width="{max(size - 1.2, 1):.1f}" '
        f'height="{max(size - 1.2, 1):.1f}" rx="1.5" '
        f'fill="{FOLD_COLORS[f % len(FOLD_COLORS)]}"/>'
        for p, f in zip(places, fold, strict=True)]
    count = int(fold.max()) + 1
    pitch = min(width / (count + 2), 44)
    start = (width - pitch * (count + 0.9)) / 2
    parts.append(text(start, height - 8, "fold", "soft"))
    for f in range(count):
        x = start + pitch * (f + 0.9)
        parts += [f'<rect x="{x:.1f}" y="{height - 18:.1f}" width="11" height="11" rx="2" '
                  f'fill="{FOLD_COLORS[f % len(FOLD_COLORS)]}"/>',
                  text(x + 15, height - 8, str(f + 1), "soft")]
    return svg(width, height, alt, parts)


def reliability(
    before: tuple[np.ndarray, np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray, np.ndarray], alt: str, width: float = 380,
) -> str:
    """Accuracy against stated confidence, before and after calibration.

    Args:
        before, after: samples, mean confidence and accuracy of each bin.
        alt: text in place of the picture.
        width: px.
    """
    left, top, size = 46.0, 10.0, width - 64
    base = top + size

    def place(confidence: float, share: float) -> tuple[float, float]:
        return left + confidence * size, base - share * size

    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        x, y = place(value, value)
        parts += [line(left, y, left + size, y), line(x, top, x, base),
                  text(left - 8, y + 4, f"{100 * value:.0f}", "soft", "end"),
                  text(x, base + 18, f"{100 * value:.0f}", "soft", "middle")]
    count = after[0]
    for b, n in enumerate(count):
        if n:
            h = n / count.max() * size * 0.22
            parts.append(f'<rect x="{left + b / len(count) * size + 1:.1f}" y="{base - h:.1f}" '
                         f'width="{size / len(count) - 2:.1f}" height="{h:.1f}" class="ghost"/>')
    parts.append(line(left, base, left + size, top, "dashed"))
    for bins, kind in ((before, "warm"), (after, "accent")):
        enough = bins[0] > 0
        points = [place(c, a) for c, a in zip(bins[1][enough], bins[2][enough], strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" class="curve {kind}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" class="mark {kind}"/>'
                  for x, y in points]
    parts += [text(left + size / 2, base + 36, "stated probability (%)", "soft", "middle"),
              f'<g transform="translate(11 {top + size / 2:.0f}) rotate(-90)">'
              + text(0, 0, "of these right (%)", "soft", "middle") + "</g>",
              line(left + 12, top + 14, left + 34, top + 14, "curve warm"),
              text(left + 40, top + 18, "before"),
              line(left + 12, top + 34, left + 34, top + 34, "curve accent"),
              text(left + 40, top + 38, "after calibration")]
    return svg(width, base + 44, alt, parts)


def timeline(days: Sequence[Day], alt: str, width: float = 896) -> str:
    """One lane a sensor: a bar a day, as high as the share of usable pixels."""
    sensors = list(dict.fromkeys(d.sensor for d in days))
    first, last = min(d.day for d in days), max(d.day for d in days)
    span = max((last - first).days, 1)
    left, lane, gap = 112.0, 56.0, 14.0
    height = len(sensors) * (lane + gap) + 30
    room = width - left - 12

    def x(day: date) -> float:
        return left + 6 + (day - first).days / span * (room - 12)

    parts = []
    bottom = len(sensors) * (lane + gap) - gap + 4
    months = [date(y, m, 1) for y in range(first.year, last.year + 1) for m in range(1, 13)]
    months = [m for m in months if first <= m <= last]
    every = max(1, round(len(months) / 14))
    for month in months[::every]:
        parts += [line(x(month), 0, x(month), bottom),
                  text(x(month) + 3, bottom + 16,
                       month.strftime("%b" if month.month > 1 else "%b %Y"), "soft")]
    if not months:
        parts += [text(x(first), bottom + 16, first.isoformat(), "soft")]
    thick = float(np.clip(room / max(len({d.day for d in days}), 1) * 0.5, 1.5, 7))
    for i, sensor in enumerate(sensors):
        base = i * (lane + gap) + lane
        parts += [text(left - 12, base - lane / 2 + 4, sensor_name(sensor), "ink", "end"),
                  line(left, base, width - 12, base, "axis")]
        for d in days:
            if d.sensor == sensor:
                h = max(d.valid * (lane - 8), 1.5)
                kind = "accent" if d.valid >= 0.1 else "warm"
                parts.append(
                    f'<rect x="{x(d.day) - thick / 2:.1f}" y="{base - h:.1f}" '
                    f'width="{thick:.1f}" height="{h:.1f}" rx="1" class="fillin {kind}">'
                    f"<title>{d.day.isoformat()}: {100 * d.valid:.0f} %</title></rect>")
    return svg(width, height, alt, parts)
