"""Samples of known class on a grid, from points or polygons of a vector file."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform, transform_bounds

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid
from ..rasters.legend import Legend

LOG = logging.getLogger(__name__)

MOST_PER_PARCEL = 200
"""Pixels taken from one polygon at most, so that big parcels do not dominate."""

_WANTED = 3000  # samples that are plenty: with many parcels each gives fewer
_FEW = 10  # parcels of a class below which its accuracy is uncertain


@dataclass(frozen=True)
class Labels:
    """Samples on a grid.

    Attributes:
        rows, cols: (n,) int64, pixels of the grid.
        classes: (n,) int64, index into the legend.
        groups: (n,) int64, number of the polygon or point a sample belongs to, 0, 1, ...
        legend: the classes.
        outside: features of the file that touch no pixel of the grid.
        polygons: whether the features are polygons.
        source: name of the file.
    """

    rows: np.ndarray
    cols: np.ndarray
    classes: np.ndarray
    groups: np.ndarray
    legend: Legend
    outside: int
    polygons: bool
    source: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def noun(self) -> str:
        """What a group is called."""
        return "parcel" if self.polygons else "sample"

    def group_classes(self) -> np.ndarray:
        """(groups,) class index of each group."""
        result = np.zeros(int(self.groups.max()) + 1, np.int64)
        result[self.groups] = self.classes
        return result

    def counts(self) -> list[dict[str, object]]:
        """Samples and groups of each class, for cards and reports."""
        samples = np.bincount(self.classes, minlength=len(self.legend))
        groups = np.bincount(self.group_classes(), minlength=len(self.legend))
        return [{"value": c.value, "name": c.name, "samples": int(s), "groups": int(g)}
                for c, s, g in zip(self.legend.classes, samples, groups, strict=True)]

    def keep(self, chosen: np.ndarray) -> Labels:
        """The samples of a boolean mask (n,); groups numbered anew, the legend unchanged."""
        groups = np.unique(self.groups[chosen], return_inverse=True)[1]
        return replace(self, rows=self.rows[chosen], cols=self.cols[chosen],
                       classes=self.classes[chosen], groups=groups)

    def without_empty_classes(self) -> Labels:
        """With a legend of the classes that have samples."""
        present = np.unique(self.classes)
        legend = Legend(tuple(self.legend.classes[k] for k in present))
        return replace(self, classes=np.searchsorted(present, self.classes), legend=legend)

    def require_two_each(self, field: str) -> None:
        """Raise a `UserError` unless there are two classes with two groups each."""
        present = [c for c in self.counts() if c["groups"]]
        if len(present) < 2:
            name = present[0]["name"] if present else "none"
            raise UserError(f"Field {field} has one class ({name}). Label a second.")
        for c in present:
            if c["groups"] < 2:
                raise UserError(f"Class {c['name']} has 1 {self.noun}; 2 are needed. "
                                "Add one or merge it.")


def read_labels(
    path: Path,
    field: str,
    grid: Grid,
    context: JobContext,
    *,
    layer: str | None = None,
    most: int = MOST_PER_PARCEL,
) -> Labels:
    """Samples of the pixels whose centre lies in a polygon, or under a point.

    Only features near the grid are read. At most `most` pixels of a polygon are taken, evenly
    and always the same; a polygon without a pixel centre gives the pixel under its inner point.
    Pixels with two different classes are left out.

    Args:
        path: vector file that GDAL reads, in any CRS.
        field: text or number field with the class; empty values are ignored.
        grid: where the samples shall lie.
        context: log, warnings, cancellation.
        layer: layer of the file; default: the first one that has the field.
        most: pixels a polygon.

    Raises:
        UserError: no such file, layer or field; no features; labels outside the grid; fewer
            than two classes or than two features a class.
    """
    layer, info = _layer_with(path, field, layer)
    crs = _crs_of(info, grid, path, context)
    bbox = grid.bounds if crs is None else grid.bounds_in(crs)
    geometry, values, outside = _read(path, layer, field, info, bbox)
    if not len(geometry) and info["features"] != 0:
        _raise_outside(path, layer, grid, crs)
    names = _known(values)
    keep = [i for i, name in enumerate(names) if name is not None and geometry[i] is not None]
    if not keep:
        raise UserError(f"No feature of {path.name} has a class in field {field}. "
                        "Fill it in or choose another field.")
    # A whole field of whole numbers may be read as floats; both spell the same class.
    distinct = sorted({names[i] for i in keep})
    legend = (Legend.of_numbers(distinct) if not isinstance(distinct[0], str)
              else Legend.of_names(distinct))
    index = {name: k for k, name in enumerate(distinct)}
    picker = _Picker(grid, crs, min(most, max(4, _WANTED // len(keep))))
    for count, i in enumerate(keep):
        if count % 64 == 0:
            context.check()
        picker.add(geometry[i], index[names[i]])
    if picker.unreadable:
        context.warn(f"Left out {picker.unreadable} of {len(keep)} features of {path.name}: "
                     "neither point nor polygon, or empty.")
    if not picker.taken:
        _raise_outside(path, layer, grid, crs)
    labels = picker.labels(legend, outside + picker.outside, path.name, context)
    labels = labels.without_empty_classes()
    labels.require_two_each(field)
    _report(labels, context)
    return labels


class _Picker:
    """Collects pixels of one geometry after the other."""

    def __init__(self, grid: Grid, crs: CRS | None, most: int) -> None:
        self._grid, self._most = grid, most
        self._crs = (crs, grid.crs) if crs is not None and crs != grid.crs else None
        self._inverse = ~grid.affine
        self.taken: list[tuple[np.ndarray, int]] = []
        self.outside = self.unreadable = self.areal = 0

    def add(self, wkb: bytes, class_index: int) -> None:
        parts = list(_parts(shapely.from_wkb(wkb, on_invalid="ignore")))
        if not parts:
            self.unreadable += 1
            return
        pixels = np.unique(np.concatenate([self._pixels(self._place(p)) for p in parts]))
        self.areal += parts[0].geom_type == "Polygon"
        if not len(pixels):
            self.outside += 1
            return
        if len(pixels) > self._most:
            pixels = pixels[((np.arange(self._most) + 0.5) * len(pixels) / self._most).astype(int)]
        self.taken.append((pixels, class_index))

    def _place(self, shape: shapely.Geometry) -> shapely.Geometry:
        """The shape in columns and rows of the grid."""
        def to_pixels(xy: np.ndarray) -> np.ndarray:
            x, y = xy.T
            if self._crs is not None:
                x, y = (np.asarray(v) for v in transform(*self._crs, x, y))
            return np.column_stack(self._inverse @ (x, y))

        return shapely.transform(shape, to_pixels)

    def _pixels(self, shape: shapely.Geometry) -> np.ndarray:
        """Flat indices of the pixels of a placed point or polygon."""
        points = shapely.get_coordinates(shape)
        if not np.isfinite(points).all():
            return np.zeros(0, np.int64)
        if shape.geom_type == "Point":
            return self._under(points)
        height, width = self._grid.shape
        c0, r0 = np.maximum(np.floor(points.min(0)), 0).astype(int)
        c1, r1 = np.minimum(np.ceil(points.max(0)), (width, height)).astype(int)
        if c1 <= c0 or r1 <= r0:
            return np.zeros(0, np.int64)
        inside = rasterize([(shape, 1)], out_shape=(r1 - r0, c1 - c0), dtype="uint8",
                           transform=Affine.translation(c0, r0))
        rows, cols = np.nonzero(inside)
        if not len(rows):
            inner = shapely.point_on_surface(shapely.make_valid(shape))
            return self._under(shapely.get_coordinates(inner))
        return (rows + r0) * width + cols + c0

    def _under(self, points: np.ndarray) -> np.ndarray:
        height, width = self._grid.shape
        col, row = np.floor(points).astype(np.int64).T
        inside = (col >= 0) & (row >= 0) & (col < width) & (row < height)
        return row[inside] * width + col[inside]

    def labels(self, legend: Legend, outside: int, source: str, context: JobContext) -> Labels:
        """All samples without doubles; a pixel with two classes is left out."""
        flat = np.concatenate([p for p, _ in self.taken])
        sizes = [len(p) for p, _ in self.taken]
        classes = np.repeat([c for _, c in self.taken], sizes).astype(np.int64)
        groups = np.repeat(np.arange(len(sizes)), sizes)
        pixels, first, where = np.unique(flat, return_index=True, return_inverse=True)
        doubtful = np.zeros(len(pixels), bool)
        np.logical_or.at(doubtful, where, classes != classes[first][where])
        if doubtful.any():
            context.warn(f"{int(doubtful.sum())} pixels have labels of two classes and were "
                         "left out.")
        chosen = np.sort(first[~doubtful])
        rows, cols = np.divmod(flat[chosen], self._grid.shape[1])
        renumbered = np.unique(groups[chosen], return_inverse=True)[1]
        return Labels(rows, cols, classes[chosen], renumbered, legend, outside,
                      self.areal > 0, source)


def _parts(shape: shapely.Geometry | None) -> Iterator[shapely.Geometry]:
    """The points and polygons of a geometry; lines, curves and empty parts are left out."""
    for part in () if shape is None else shapely.get_parts(shape):
        if shapely.get_type_id(part) >= shapely.GeometryType.MULTIPOINT:
            yield from _parts(part)
        elif part.geom_type in ("Point", "Polygon") and not part.is_empty:
            yield part


def _layer_with(path: Path, field: str, layer: str | None) -> tuple[str, dict]:
    """The layer to read and what is known of it."""
    if not path.exists():
        raise UserError(f"The labels {path.name} were not found in {path.parent}. "
                        "Choose the file again.")
    try:
        layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
        if layer is not None and layer not in layers:
            raise UserError(f"{path.name} has no layer {layer}. Choose one of "
                            f"{', '.join(layers)}.")
        infos = {name: pyogrio.read_info(path, layer=name, force_feature_count=True)
                 for name in ([layer] if layer is not None else layers)}
    except pyogrio.errors.DataSourceError as error:
        raise UserError(f"{path.name} cannot be read as points or polygons ({error}). "
                        "Export it as GeoPackage.") from error
    for name, info in infos.items():
        if field in info["fields"]:
            if info["features"] == 0:
                raise UserError(f"{path.name} has no features. Draw some or choose another file.")
            return name, info
    fields = ", ".join(dict.fromkeys(f for info in infos.values() for f in info["fields"]))
    raise UserError(f"{path.name} has no field {field}. Choose one of {fields or 'none'}.")


def _crs_of(info: dict, grid: Grid, path: Path, context: JobContext) -> CRS | None:
    """The CRS of the labels; None means that it is the grid's."""
    if info["crs"] and grid.crs is not None:
        return CRS.from_user_input(info["crs"])
    if bool(info["crs"]) != (grid.crs is not None):
        lacking = "The rasters have" if info["crs"] else f"{path.name} has"
        context.warn(f"{lacking} no CRS; the labels are taken to share it.")
    return None


def _read(
    path: Path, layer: str, field: str, info: dict, bbox: tuple[float, float, float, float]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Geometries (WKB), values and the number of features outside the box."""
    if info["geometry_type"] is None:
        raise UserError(f"{path.name} has no geometry. Choose points or polygons.")
    _, _, geometry, columns = pyogrio.raw.read(
        path, layer=layer, columns=[field], bbox=bbox, force_2d=True)
    return geometry, columns[0], max(info["features"] - len(geometry), 0)


def _known(values: np.ndarray) -> list[str | float | None]:
    """Class of each feature as text or number; None where it is empty."""
    if values.dtype.kind in "OUS":
        texts = [None if v is None or v != v else str(v).strip() for v in values]
        return [t or None for t in texts]
    if values.dtype.kind not in "biuf":
        raise UserError("The class field holds dates. Choose a text or number field.")
    return [None if math.isnan(v) else float(v) for v in values.astype(float)]


def _report(labels: Labels, context: JobContext) -> None:
    groups = int(labels.groups.max()) + 1
    parcels = f", {groups} parcels" if labels.polygons else ""
    noun = labels.noun + ("" if labels.outside == 1 else "s")
    outside = f"; {labels.outside} {noun} outside, ignored" if labels.outside else ""
    context.log(f"Labels: {len(labels)} samples{parcels}, {len(labels.legend)} classes{outside}")
    few = [f"{c['name']} {c['groups']}" for c in labels.counts() if c["groups"] < _FEW]
    if few:
        context.warn(f"Few {labels.noun}s of {', '.join(few)}; accuracy uncertain.")


def _raise_outside(path: Path, layer: str, grid: Grid, crs: CRS | None) -> None:
    """Raise the sentence that says how far the labels lie from the grid."""
    info = pyogrio.read_info(path, layer=layer, force_total_bounds=True)
    name = info["crs"] or "unknown"
    distance = ""
    if info["total_bounds"] is not None and np.isfinite(info["total_bounds"]).all():
        try:
            bounds = info["total_bounds"]
            if crs is not None and crs != grid.crs:
                bounds = transform_bounds(crs, grid.crs, *bounds)
            distance = _apart(bounds, grid)
        except Exception as error:  # PROJ cannot always place bounds; the sentence stays useful
            LOG.info("bounds not placed: %s", error)
    raise UserError(f"{path.name} lies {distance}outside the rasters. Check its CRS "
                    f"({name if len(name) < 40 else 'user-defined'}).")


def _apart(bounds: tuple[float, float, float, float], grid: Grid) -> str:
    """Distance between two boxes as "12 km "; empty where they meet."""
    left, bottom, right, top = grid.bounds
    dx = max(left - bounds[2], bounds[0] - right, 0.0)
    dy = max(bottom - bounds[3], bounds[1] - top, 0.0)
    crs = grid.crs
    if crs is not None and crs.is_geographic:
        dx, dy = dx * 111320 * math.cos(math.radians((bottom + top) / 2)), dy * 110574
    elif crs is not None and crs.is_projected:
        dx, dy = dx * crs.linear_units_factor[1], dy * crs.linear_units_factor[1]
    metres = math.hypot(dx, dy)
    if metres <= 0 or not math.isfinite(metres):
        return ""
    return f"{metres / 1000:.0f} km " if metres >= 1000 else f"{metres:.0f} m "
