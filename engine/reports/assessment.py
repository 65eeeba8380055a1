"""The sections of a report on a test of a map: what was found at places drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import Affine

from ..accuracy.classmap import Census
from ..accuracy.estimators import Assessment, Estimate
from ..accuracy.strata import Stratification
from ..rasters.areas import Areas, ClassArea
from ..rasters.legend import NODATA, Legend, LegendClass
from . import charts
from .error_matrix import error_matrix
from .report import Section, chip, hectares, map_section, number, table

_MOST = 1400  # pixels of the longer side of the picture


@dataclass(frozen=True)
class Tested:
    """A test of a map.

    Attributes:
        map_name, crs: of the map.
        names, colors: (c,) classes, the map's first, then those that only the reference knows.
        values: of the map's classes.
        mapped: (c,) hectares by counting pixels.
        strata: that have units.
        result: the estimates.
        units: how many were used.
        parcels: how many of the features are polygons.
        reference: name of the file.
        census: of the map.
    """

    map_name: str
    crs: str
    names: tuple[str, ...]
    colors: tuple[str, ...]
    values: tuple[int, ...]
    mapped: np.ndarray
    strata: Stratification
    result: Assessment
    units: int
    parcels: int
    reference: str
    census: Census

    @property
    def hectares(self) -> float:
        """Area that the figures are about."""
        return float(self.strata.hectares.sum())

    @property
    def noun(self) -> str:
        """What the units are called."""
        return "parcels" if self.parcels else "points"


def picture_section(path: Path, tested: Tested, folder: Path) -> Section:
    """The map itself, thinned out to the size of the page.

    Args:
        path: of the map, of any values.
        tested: the test.
        folder: for a temporary raster.
    """
    census = tested.census
    legend = Legend(tuple(LegendClass(k, c.name, c.color) for k, c in enumerate(census.classes)))
    small = Path(folder) / path.with_suffix(".tif").name
    with rasterio.open(path) as source:
        shrink = max(1.0, max(source.shape) / _MOST)
        shape = tuple(max(1, round(n / shrink)) for n in source.shape)
        values = source.read(1, out_shape=shape, resampling=Resampling.nearest, masked=True)
        scale = Affine.scale(source.width / shape[1], source.height / shape[0])
        whole = np.nan_to_num(values.filled(0)).astype(np.int64)
        index = np.where(np.ma.getmaskarray(values), -1, census.index[whole])
        with rasterio.open(small, "w", driver="GTiff", width=shape[1], height=shape[0], count=1,
                           dtype="uint8", crs=source.crs, transform=source.transform @ scale
                           ) as out:
            out.write(np.where(index < 0, NODATA, index).astype(np.uint8), 1)
    areas = Areas(tuple(
        ClassArea(k, c.name, c.color, c.pixels, c.hectares, c.hectares / census.hectares)
        for k, c in enumerate(census.classes)), census.hectares_nameless)
    return map_section(small, legend, areas, tested.crs)


def assessment_sections(tested: Tested) -> tuple[Section, ...]:
    """Areas, accuracy and the places that were visited."""
    return _areas(tested), _accuracy(tested), _places(tested)


def _areas(tested: Tested) -> Section:
    area, total = tested.result.area, tested.hectares
    rows = [(_name(tested, k), hectares(tested.mapped[k]), hectares(total * area.value[k]),
             _half(total * area.half[k], total * area.value[k]), f"{100 * area.value[k]:.1f}")
            for k in range(len(tested.names))]
    body = table(("Class", "Counted pixels (ha)", "Estimate (ha)", "95 % interval", "%"), rows,
                 numeric=(1, 2, 3, 4),
                 foot=("All classes", hectares(tested.mapped.sum()), hectares(total), "", "100.0"))
    words = ("What the map confuses, counted pixels confuse too. The estimate corrects for it by "
             f"the {tested.noun} that were visited; use it, with its interval, for figures.")
    alt = "Areas in hectares: " + "; ".join(
        f"{name} {total * v:.1f} ± {total * h:.1f}, counted {m:.1f}" for name, v, h, m in
        zip(tested.names, area.value, area.half, tested.mapped, strict=True))
    picture = _area_chart(tested, alt)
    return Section("Areas", f"<p>{words}</p><figure>{picture}<figcaption>Bar: estimate; line: 95 % "
                            f"interval; triangle: counted pixels.</figcaption></figure>{body}")


def _area_chart(tested: Tested, alt: str, width: float = 896) -> str:
    """A bar a class with its interval, and a triangle at what the map itself would say."""
    total, area = tested.hectares, tested.result.area
    value, half = total * area.value, np.nan_to_num(total * area.half)
    left, right, step = 190.0, 150.0, 34.0
    reach = float(max((value + half).max(), tested.mapped.max())) or 1.0

    def x(amount: float) -> float:
        return left + max(amount, 0.0) / reach * (width - left - right)

    parts = []
    for k, name in enumerate(tested.names):
        y = step * (k + 0.5)
        parts += [
            charts.text(left - 14, y + 4, _short(name), "ink", "end"),
            f'<rect x="{left:.1f}" y="{y - 9:.1f}" width="{max(x(value[k]) - left, 1):.1f}" '
            f'height="18" rx="2" fill="{tested.colors[k]}" class="filled"/>',
            # the line lies on bars of any colour, so it has a border
            f'<rect x="{x(value[k] - half[k]):.1f}" y="{y - 2.5:.1f}" height="5" rx="2.5" '
            f'width="{max(x(value[k] + half[k]) - x(value[k] - half[k]), 1):.1f}" class="plate"/>',
            charts.line(x(value[k] - half[k]) + 1, y, x(value[k] + half[k]) - 1, y, "ruler"),
            f'<path d="M{x(tested.mapped[k]):.1f} {y + 8:.1f}l4 7h-8Z" class="mark ink"/>',
            charts.text(x(max(value[k] + half[k], tested.mapped[k])) + 10, y + 4,
                        " ".join([hectares(value[k]), _half(total * area.half[k], value[k]), "ha"]),
                        "ink")]
    return charts.svg(width, step * len(tested.names) + 6, alt, parts)


def _accuracy(tested: Tested) -> Section:
    r = tested.result
    known = np.isfinite(r.overall.half)
    interval = f" ± {100 * r.overall.half:.1f}" if known else ""
    plain = np.trace(r.counts) / r.counts.sum()
    intro = (f"<p><b>{100 * r.overall.value:.1f}{interval} %</b> of the area is mapped right (95 % "
             f"interval), as {tested.units} {tested.noun} show. Each stands for the area of its "
             f"stratum; without that, {100 * plain:.1f} % would agree.</p>")
    return Section("Accuracy", intro + _matrices(tested) + _classes(tested))


def _matrices(tested: Tested) -> str:
    r = tested.result
    digits = 0 if np.allclose(r.counts, np.rint(r.counts)) else 1
    units = error_matrix(tested.names, tested.colors, r.counts, lambda v: number(v, digits))
    shares = error_matrix(tested.names, tested.colors, 100 * r.shares, lambda v: f"{v:.2f}")
    return (f"<h3>Matrix of {tested.noun}</h3><p class='soft'>Rows: mapped as; columns: true "
            f"class. Shade: share of the true class.</p>{units}<h3>Matrix of the area (%)</h3>"
            "<p class='soft'>The same, each weighted by the area of its stratum; the sums below "
            f"are the true areas.</p>{shares}")


def _classes(tested: Tested) -> str:
    r = tested.result
    rows = [(_name(tested, k), *(_accuracy_of(e, k) for e in (r.users, r.producers, r.f1, r.iou)),
             number(r.counts[k].sum()), number(r.counts[:, k].sum()))
            for k in range(len(tested.names))]
    body = table(("Class", "User's accuracy (%)", "Producer's accuracy (%)", "F1 (%)", "IoU (%)",
                  "Mapped so", "True"), rows, numeric=(1, 2, 3, 4, 5, 6))
    notes = []
    if any(np.isnan(e.value).any() for e in (r.users, r.producers, r.f1, r.iou)):
        notes.append("n/a: no place is mapped so, or none is so, and the ratio is 0/0.")
    sure = [f"{escape(n)} up to {300 / c:.0f} %" for n, c, u in
            zip(tested.names, r.counts.sum(1), r.users.value, strict=True) if u == 1 and c >= 3]
    if sure:
        notes.append("± 0.0 where all places agree is no certainty: about three in the number of "
                     f"places may still be wrong (95 % confidence: {', '.join(sure)}).")
    return ("<h3>Classes</h3><p class='soft'>User's accuracy (precision): of the area mapped so, "
            "how much is. Producer's accuracy (recall): of the area that is so, how much is "
            f"mapped. ±: 95 % interval. The last two columns count {tested.noun}.</p>" + body
            + "".join(f"<p class='soft' style='margin-top:8px'>{n}</p>" for n in notes))


def _places(tested: Tested) -> Section:
    s = tested.strata
    rows = [(escape(name), hectares(h), f"{100 * h / tested.hectares:.1f}", number(n),
             number(h / n, 2 if h / n < 10 else 0))
            for name, h, n in zip(s.names, s.hectares, s.units, strict=True)]
    body = table(("Stratum", "ha", "%", tested.noun.capitalize(), "ha each stands for"), rows,
                 numeric=(1, 2, 3, 4),
                 foot=("All strata", hectares(tested.hectares), "100.0", number(tested.units), ""))
    return Section("Places", f"{body}<p class='soft' style='margin-top:10px'>From "
                             f"{escape(tested.reference)}; strata: {escape(s.origin)}.</p>")


def _name(tested: Tested, k: int) -> str:
    return chip(tested.colors[k]) + escape(tested.names[k])


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"


def _half(half: float, value: float) -> str:
    """Half of an interval in hectares, with the digits of its estimate."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"± {number(half, digits)}"


def _accuracy_of(estimate: Estimate, k: int) -> str:
    value, half = 100 * estimate.value[k], 100 * estimate.half[k]
    if np.isnan(value):
        return "n/a"
    return f"{value:.1f} ± {half:.1f}" if np.isfinite(half) else f"{value:.1f}"
