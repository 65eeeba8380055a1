"""The loss curve of a training: rows of means over some steps, as a table and as a picture."""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from pathlib import Path

_FIXED = ("step", "minutes", "rate", "loss")
_WIDE, _HIGH, _EDGE = 640, 320, 48  # of the picture, in its units
_COLOURS = ("#1b6ca8", "#d1495b", "#3d8361", "#8e6c8a", "#c98a1b", "#5b5b5b")


class Curve:
    """Rows of a curve, and the steps that do not fill a row yet."""

    def __init__(self, rows: list[dict[str, float]] | None = None) -> None:
        self.rows = list(rows or [])
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0

    @property
    def open(self) -> bool:
        """Whether there are steps that no row holds."""
        return self._count > 0

    def add(self, parts: dict[str, float]) -> None:
        """Count a step."""
        for name, value in parts.items():
            self._sums[name] += value
        self._count += 1

    def close(self, step: int, minutes: float, rate: float) -> None:
        """Make a row of the steps since the last one."""
        means = {name: total / self._count for name, total in self._sums.items()}
        self.rows.append({"step": step, "minutes": minutes, "rate": rate, **means})
        self._sums.clear()
        self._count = 0

    def ends(self, share: float = 0.05) -> tuple[float, float]:
        """Mean loss of the first and of the last rows, that share of all each."""
        if not self.rows:
            return float("nan"), float("nan")
        count = max(int(len(self.rows) * share), 1)
        losses = [row["loss"] for row in self.rows]
        return sum(losses[:count]) / count, sum(losses[-count:]) / count

    def names(self) -> list[str]:
        """Parts of the loss, in the order of their coming."""
        return list(dict.fromkeys(n for row in self.rows for n in row if n not in _FIXED))

    def write(self, folder: Path, title: str) -> None:
        """Write `curve.csv` and `curve.svg`, each replaced whole."""
        table = io.StringIO()
        writer = csv.DictWriter(table, [*_FIXED, *self.names()], lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in self.rows)
        for name, text in (("curve.csv", table.getvalue()), ("curve.svg", self.picture(title))):
            part = folder / f"{name}.part"
            part.write_text(text, "utf-8")
            os.replace(part, folder / name)

    def picture(self, title: str) -> str:
        """The loss and its parts over the steps as SVG."""
        series = {name: [(row["step"], row[name]) for row in self.rows if name in row]
                  for name in ("loss", *self.names())}
        points = [p for line in series.values() for p in line] or [(1, 0.0)]
        last, low = max(x for x, _ in points), min(0.0, min(y for _, y in points))
        span = max(y for _, y in points) - low or 1.0

        def at(x: float, y: float) -> str:
            return (f"{_EDGE + (_WIDE - 2 * _EDGE) * x / last:.1f},"
                    f"{_HIGH - _EDGE - (_HIGH - 2 * _EDGE) * (y - low) / span:.1f}")

        lines = [f'<polyline fill="none" stroke="{_COLOURS[i % len(_COLOURS)]}" stroke-width='
                 f'"{1.8 if name == "loss" else 1}" points="{" ".join(at(*p) for p in line)}"/>'
                 f'<text x="{_EDGE + 110 * i}" y="{_HIGH - 8}" fill='
                 f'"{_COLOURS[i % len(_COLOURS)]}">{name}</text>'
                 for i, (name, line) in enumerate(series.items())]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_HIGH}" '
            'font-family="sans-serif" font-size="12">'
            f'<rect width="{_WIDE}" height="{_HIGH}" fill="white"/>'
            f'<text x="{_EDGE}" y="24">{title}, {last:.0f} steps</text>'
            f'<text x="4" y="{_EDGE}">{low + span:.3g}</text>'
            f'<text x="4" y="{_HIGH - _EDGE}">{low:.3g}</text>{"".join(lines)}</svg>\n')
