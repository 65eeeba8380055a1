"""The sections of a report on a map beside a reference raster: counted, without intervals."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import rasterio

from ..accuracy.agreement import RIGHT, WRONG, Agreement
from ..rasters.grid import Grid
from ..rasters.legend import Legend, LegendClass
from . import charts
from .error_matrix import error_matrix
from .picture import map_picture
from .report import Section, chip, hectares, number, table

_SHADES = Legend((LegendClass(RIGHT, "the same class in both", "#bcd9ce"),
                  LegendClass(WRONG, "different classes", "#c8641c")))


@dataclass(frozen=True)
class Compared:
    """A comparison: names of the two files with their coordinate systems, and what was found."""

    map_name: str
    map_crs: str
    reference: str
    reference_crs: str
    found: Agreement


def agreement_sections(compared: Compared, folder: Path) -> tuple[Section, ...]:
    """Where both agree, areas in both, accuracy, and what ground that is about.

    Args:
        compared: the comparison.
        folder: for a temporary raster.
    """
    return (_where(compared, folder), _accuracy(compared.found), _areas(compared.found),
            _ground(compared))


def scope(compared: Compared) -> str:
    """What the figures are about, in one sentence or two."""
    ground = compared.found.ground
    if ground.whole:
        return (f"All {hectares(ground.mapped)} ha of the map were compared with the reference. "
                "That is a census: there is no sampling error, and no interval is needed.")
    return (f"{hectares(ground.compared)} ha were compared, all that has a class in both: "
            f"{ground.covered} % of the map's {hectares(ground.mapped)} ha. For that part the "
            "figures are exact and have no sampling error; they say nothing of the rest, which was "
            "not left out at random.")


def _where(compared: Compared, folder: Path) -> Section:
    found = compared.found
    path = Path(folder) / "agreement.tif"
    grid: Grid = found.sketch
    with rasterio.open(path, "w", driver="GTiff", width=grid.shape[1], height=grid.shape[0],
                       count=1, dtype="uint8", crs=grid.crs, transform=grid.affine) as file:
        file.write(found.picture, 1)
    picture = map_picture(path, _SHADES, "Where map and reference have the same class: "
                                         f"{100 * found.overall:.1f} % of what was compared")
    items = "".join(f"<li>{chip(c.color)}{escape(c.name)}</li>" for c in _SHADES.classes)
    return Section("Map and reference", (
        f'<figure>{picture}<ul class="legend">{items}</ul><figcaption>'
        f"{escape(compared.map_name)}, {escape(compared.map_crs)}. Left blank: no class in one of "
        "the two. Errors in bands along borders of classes tell of a shift or of pixels of another "
        "size; errors that fill whole patches tell of classes.</figcaption></figure>"))


def _accuracy(found: Agreement) -> Section:
    intro = (f"<p><b>{100 * found.overall:.1f} %</b> of the compared area has the same class in "
             "both. The reference is taken for true: its own errors count as the map's.</p>")
    matrix = error_matrix(found.names, found.colors, found.hectares, hectares)
    shares = error_matrix(found.names, found.colors,
                          100 * found.hectares / found.hectares.sum(), lambda v: f"{v:.2f}")
    rows = [(_name(found, k), *(_share(v[k]) for v in (found.users, found.producers, found.f1,
                                                       found.iou)))
            for k in range(len(found.names))]
    body = table(("Class", "User's accuracy (%)", "Producer's accuracy (%)", "F1 (%)", "IoU (%)"),
                 rows, numeric=(1, 2, 3, 4))
    note = ("<p class='soft' style='margin-top:8px'>n/a: nothing is mapped so, or nothing is so "
            "in the reference, and the ratio is 0/0.</p>"
            if np.isnan([found.users, found.producers]).any() else "")
    return Section("Accuracy", (
        f"{intro}<h3>Matrix of the area (ha)</h3><p class='soft'>Rows: mapped as; columns: class "
        f"of the reference. Shade: share of the reference's class.</p>{matrix}<h3>Matrix of the "
        f"area (%)</h3>{shares}<h3>Classes</h3><p class='soft'>User's accuracy (precision): of the "
        "area mapped so, how much is. Producer's accuracy (recall): of the area that is so, how "
        f"much is mapped. All by area.</p>{body}{note}"))


def _areas(found: Agreement) -> Section:
    rows = [(_name(found, k), hectares(m), hectares(t), _signed(m - t),
             _sign(m - t) + f"{abs(100 * (m / t - 1)):.1f}" if t > 0 else "n/a")
            for k, (m, t) in enumerate(zip(found.mapped, found.true, strict=True))]
    total = hectares(found.ground.compared)
    body = table(("Class", "Map (ha)", "Reference (ha)", "Difference (ha)", "%"), rows,
                 numeric=(1, 2, 3, 4), foot=("All classes", total, total, "", ""))
    alt = "Areas in hectares, reference and map: " + "; ".join(
        f"{name} {t:.1f}, {m:.1f}" for name, m, t in
        zip(found.names, found.mapped, found.true, strict=True))
    return Section("Areas", (
        "<p>Of the compared area alone. Too much here and too little there may cancel out, so "
        f"areas that agree tell less than accuracy.</p><figure>{_chart(found, alt)}<figcaption>"
        f"Bar and figure: reference; triangle: map.</figcaption></figure>{body}"))


def _chart(found: Agreement, alt: str, width: float = 896) -> str:
    """A bar a class for the reference, and a triangle at what the map says."""
    left, right, step = 230.0, 110.0, 34.0
    reach = float(max(found.true.max(), found.mapped.max()))

    def x(amount: float) -> float:
        return left + amount / reach * (width - left - right)

    parts = []
    for k, (name, mapped, true) in enumerate(zip(found.names, found.mapped, found.true,
                                                 strict=True)):
        y = step * (k + 0.5)
        parts += [
            charts.text(left - 14, y + 4, name if len(name) <= 24 else f"{name[:23]}…", "ink",
                        "end"),
            f'<rect x="{left:.1f}" y="{y - 9:.1f}" width="{max(x(true) - left, 1):.1f}" '
            f'height="18" rx="2" fill="{found.colors[k]}" class="filled"/>',
            f'<path d="M{x(mapped):.1f} {y + 8:.1f}l4 7h-8Z" class="mark ink"/>',
            charts.text(x(max(true, mapped)) + 10, y + 4, f"{hectares(true)} ha", "ink")]
    return charts.svg(width, step * len(found.names) + 6, alt, parts)


def _ground(compared: Compared) -> Section:
    found, ground = compared.found, compared.found.ground
    rows = [("The reference has no class there", ground.unlabelled),
            ("Beyond the edges of the reference", ground.beyond)]
    body = table(("Of the map's area", "ha", "%"), [
        ("Compared", hectares(ground.compared), ground.covered),
        *((what, hectares(area), _percent(area / ground.mapped)) for what, area in rows
          if area > 0)], numeric=(1, 2),
        foot=("All classes of the map", hectares(ground.mapped), "100"))
    unmapped = (f" {hectares(ground.unmapped)} ha have a class in the reference and none on the "
                "map." if ground.unmapped > 0 else "")
    pairs = table(("Class", "Map's value", "Reference's value", "Pixels, map",
                   "Pixels, reference"), [
        (_name(found, k), _value(found.values[k]), _value(found.true_values[k]),
         number(found.pixels[k].sum()), number(found.pixels[:, k].sum()))
        for k in range(len(found.names))], numeric=(1, 2, 3, 4))
    return Section("Ground", (
        f"<p>{escape(scope(compared))}{escape(unmapped)}</p>{body}<h3>Classes</h3><p class='soft'>"
        f"Matched {escape(found.matched)}. Pixels are those of the map that were compared.</p>"
        f"{pairs}"))


def _name(found: Agreement, k: int) -> str:
    return chip(found.colors[k]) + escape(found.names[k])


def _value(value: int | None) -> str:
    return "none" if value is None else f"{value}"


def _share(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{100 * value:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share >= 1e-3 else f"{100 * share:.1g}"


def _signed(area: float) -> str:
    """Hectares with their sign."""
    return _sign(area) + hectares(abs(area))


def _sign(value: float) -> str:
    return "+" if value > 0 else "−" if value < 0 else ""
