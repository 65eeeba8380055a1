"""Pixels of a grid that lie under the points or in the polygons of a vector file."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyogrio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform, transform_bounds

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid

LOG = logging.getLogger(__name__)

MOST_PER_PARCEL = 200
"""Pixels taken from one polygon at most, so that big parcels do not dominate."""

MOST_FEATURES = 100_000
"""Points or polygons that are kept in memory; more are drawn from while they stream by."""

_SEED = 271828  # of the draw; no number that a file's own places may have been drawn with
_BATCH = 2048  # features placed at a time
_WANTED = 3000  # samples that are plenty: with many parcels each gives fewer


@dataclass(frozen=True)
class Field:
    """One field of a vector file, near a grid.

    Attributes:
        path, layer, name: where it stands.
        crs: of the geometry; None means the grid's.
        geometry: (n,) WKB.
        values: (n,) as the file holds them; numbers are floats where some are missing.
        outside: features that are too far from the grid to be read.
    """

    path: Path
    layer: str
    name: str
    crs: CRS | None
    geometry: np.ndarray
    values: np.ndarray
    outside: int


@dataclass(frozen=True)
class Samples:
    """Pixels with the number that their feature has.

    Attributes:
        rows, cols: (n,) int64, pixels of the grid.
        values: (n,) the numbers.
        groups: (n,) int64, number of the feature, 0, 1, ...
        outside: features that touch no pixel of the grid.
        polygons: whether the features are polygons.
    """

    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray
    groups: np.ndarray
    outside: int
    polygons: bool


def read_field(path: Path, name: str, grid: Grid, context: JobContext,
               layer: str | None = None) -> Field:
    """The features near a grid with one of their fields, read as a stream.

    Of more than `MOST_FEATURES`, so many are drawn evenly, those with a shape and a value first;
    the others never stay in memory.

    Raises:
        UserError: no such file, layer or field; no features; none near the grid.
    """
    layer, info = _layer_with(path, name, layer)
    crs = _crs_of(info, grid, path, context)
    bbox = grid.bounds if crs is None else grid.bounds_in(crs)
    if info["geometry_type"] is None:
        raise UserError(f"{path.name} has no geometry. Choose points or polygons.")
    kept = _Draw(MOST_FEATURES)
    with pyogrio.raw.open_arrow(path, layer=layer, columns=[name],
                                bbox=bbox) as (meta, stream):
        shape = meta["geometry_name"] or "wkb_geometry"
        for batch in pa.RecordBatchReader.from_stream(stream):
            context.progress(min(kept.seen / max(info["features"], 1), 1), "Reading labels")
            kept.add(batch[shape].to_numpy(zero_copy_only=False), _plain(batch[name]))
    geometry, values = kept.taken()
    if kept.known > MOST_FEATURES:
        context.log(f"{MOST_FEATURES} of {kept.known} features of {path.name} are used, drawn "
                    "evenly")
    field = Field(path, layer, name, crs, geometry, values, max(info["features"] - kept.seen, 0))
    if not kept.seen and info["features"] != 0:
        raise outside_error(field, grid)
    return field


def pick(field: Field, chosen: Sequence[int], numbers: np.ndarray, grid: Grid,
         context: JobContext, most: int = MOST_PER_PARCEL) -> Samples:
    """The pixels of some features, each with the number of its feature.

    At most `most` pixels of a polygon are taken, evenly and always the same; a polygon without a
    pixel centre gives the pixel under its inner point. Pixels with two different numbers are left
    out.

    Args:
        field: the features.
        chosen: indices of those to use.
        numbers: (len(chosen),) what their pixels shall carry.
        grid: where the pixels lie.
        context: progress, warnings, cancellation.
        most: pixels of a polygon.

    Raises:
        UserError: no feature touches the grid.
    """
    chosen, numbers = np.asarray(chosen), np.asarray(numbers)
    picker = _Picker(grid, field.crs, min(most, max(4, _WANTED // len(chosen))))
    for start in range(0, len(chosen), _BATCH):
        part = slice(start, start + _BATCH)
        context.progress(start / len(chosen), "Placing labels")
        shapes = shapely.from_wkb(field.geometry[chosen[part]], on_invalid="ignore")
        picker.add(shapes, numbers[part], context.check)
    if picker.unreadable:
        context.warn(f"Left out {picker.unreadable} of {len(chosen)} features of "
                     f"{field.path.name}: neither point nor polygon, or empty.")
    if not picker.taken:
        raise outside_error(field, grid)
    return picker.samples(field.outside, context)


def joined(first: Samples, second: Samples) -> Samples:
    """Both, their groups numbered on; where they share a pixel, the second counts."""
    def places(samples: Samples) -> np.ndarray:
        return samples.rows * 2**32 + samples.cols

    alone = ~np.isin(places(first), places(second))
    groups = np.concatenate([first.groups[alone], second.groups + first.groups.max() + 1])
    return Samples(
        np.append(first.rows[alone], second.rows), np.append(first.cols[alone], second.cols),
        np.append(first.values[alone], second.values),
        np.unique(groups, return_inverse=True)[1], first.outside + second.outside,
        first.polygons)


class _Draw:
    """Keeps at most `most` of the features that stream by, each with the same chance.

    Those without a shape or a value are kept only where there is room beside the others.
    """

    def __init__(self, most: int) -> None:
        self._most, self._rng = most, np.random.default_rng(_SEED)
        self._geometry = [np.zeros(0, object)]
        self._values: list[np.ndarray] = []
        self._lots = np.zeros(0)
        self.seen = self.known = 0

    def add(self, geometry: np.ndarray, values: np.ndarray) -> None:
        """Offer features: (n,) WKB or None, (n,) values."""
        self.seen += len(values)
        known = np.array([g is not None and v is not None and v == v  # NaN is no value
                          for g, v in zip(geometry, values, strict=True)], bool)
        self.known += int(known.sum())
        lots = np.append(self._lots, self._rng.random(len(known)) + ~known)
        self._geometry.append(geometry)
        self._values.append(values)
        if len(lots) > self._most:
            first = np.sort(np.argpartition(lots, self._most)[:self._most])
            geometry, values = self.taken()
            self._geometry, self._values, lots = [geometry[first]], [values[first]], lots[first]
        self._lots = lots

    def taken(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) WKB and (n,) values, in the order of the file."""
        values = np.concatenate(self._values) if self._values else np.zeros(0, object)
        return np.concatenate(self._geometry), values


def _plain(values: pa.Array) -> np.ndarray:
    """A column as numbers or as text (objects); NaN or None where it is empty."""
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    return values.to_numpy(zero_copy_only=False)


class _Picker:
    """Collects pixels of one geometry after the other."""

    def __init__(self, grid: Grid, crs: CRS | None, most: int) -> None:
        self._grid, self._most = grid, most
        self._crs = (crs, grid.crs) if crs is not None and crs != grid.crs else None
        self._inverse = ~grid.affine
        self.taken: list[tuple[np.ndarray, float]] = []
        self.outside = self.unreadable = self.areal = 0

    def add(self, shapes: np.ndarray, values: np.ndarray, check: Callable[[], None]) -> None:
        """Take the pixels of shapes; points are placed together, which is much faster."""
        single = (shapely.get_type_id(shapes) == shapely.GeometryType.POINT) \
            & ~shapely.is_empty(shapes)
        columns = np.full((len(shapes), 2), np.nan)
        if single.any():
            columns[single] = self._to_pixels(shapely.get_coordinates(shapes[single]))
        for index, (shape, value) in enumerate(zip(shapes, values, strict=True)):
            if not single[index]:
                check()
                self._add(shape, value)
                continue
            pixel = self._under(columns[index:index + 1])
            if len(pixel):
                self.taken.append((pixel, value))
            else:
                self.outside += 1

    def _add(self, shape: shapely.Geometry | None, value: float) -> None:
        parts = list(_parts(shape))
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
        self.taken.append((pixels, value))

    def _place(self, shape: shapely.Geometry) -> shapely.Geometry:
        """The shape in columns and rows of the grid."""
        return shapely.transform(shape, self._to_pixels)

    def _to_pixels(self, xy: np.ndarray) -> np.ndarray:
        x, y = xy.T
        if self._crs is not None:
            x, y = (np.asarray(v) for v in transform(*self._crs, x, y))
        return np.column_stack(self._inverse @ (x, y))

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
        """Flat indices of the pixels under points; none where a point cannot be placed."""
        height, width = self._grid.shape
        points = points[np.isfinite(points).all(1)]
        col, row = np.floor(points).astype(np.int64).T
        inside = (col >= 0) & (row >= 0) & (col < width) & (row < height)
        return row[inside] * width + col[inside]

    def samples(self, outside: int, context: JobContext) -> Samples:
        """All pixels once; those with two different numbers are left out."""
        flat = np.concatenate([p for p, _ in self.taken])
        sizes = [len(p) for p, _ in self.taken]
        values = np.repeat([v for _, v in self.taken], sizes)
        groups = np.repeat(np.arange(len(sizes)), sizes)
        pixels, first, where = np.unique(flat, return_index=True, return_inverse=True)
        doubtful = np.zeros(len(pixels), bool)
        np.logical_or.at(doubtful, where, values != values[first][where])
        if doubtful.any():
            context.warn(f"{int(doubtful.sum())} pixels have two different labels and were "
                         "left out.")
        chosen = np.sort(first[~doubtful])
        rows, cols = np.divmod(flat[chosen], self._grid.shape[1])
        renumbered = np.unique(groups[chosen], return_inverse=True)[1]
        return Samples(rows, cols, values[chosen], renumbered, outside + self.outside,
                       self.areal > 0)


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


def outside_error(field: Field, grid: Grid) -> UserError:
    """The sentence that says how far the features lie from the grid."""
    info = pyogrio.read_info(field.path, layer=field.layer, force_total_bounds=True)
    name, bounds, distance = info["crs"] or "unknown", info["total_bounds"], ""
    if bounds is not None and np.isfinite(bounds).all():
        distance = distance_apart(bounds, field.crs, grid)
    return UserError(f"{field.path.name} lies {distance}outside the rasters. Check its CRS "
                     f"({name if len(name) < 40 else 'user-defined'}).")


def distance_apart(bounds: tuple[float, float, float, float], crs: CRS | None,
                   grid: Grid) -> str:
    """Distance of a box (left, bottom, right, top) from a grid as "12 km "; empty where they meet.

    Empty too where PROJ cannot place the box, so that a sentence around it stays useful.
    """
    try:
        if crs is not None and grid.crs is not None and crs != grid.crs:
            bounds = transform_bounds(crs, grid.crs, *bounds)
    except Exception as error:  # of several kinds
        LOG.info("bounds not placed: %s", error)
        return ""
    return _apart(bounds, grid)


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
