"""Places of known class for a test of a map: points or parcels of a vector file on its grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid

_PIXELS = 4096  # of a parcel that are looked at, evenly spread over it
_LATTICE = 4_000_000  # cells of the lattice that a parcel is drawn on


@dataclass(frozen=True)
class Reference:
    """Units of known class and the pixels of the map that they cover.

    Attributes:
        names: (n,) true class of each unit as text; whole numbers without decimals.
        unit, rows, cols: (m,) pixels, and which unit each belongs to, in ascending order.
        unvisited: features without a class.
        outside: visited features that touch no pixel of the grid.
        unreadable: visited features that are neither point nor polygon.
        parcels: how many units are polygons.
        columns: further columns of the file by name, (n,) values of the units.
        everywhere: the same of all features, visited or not.
        source: name of the file.
    """

    names: np.ndarray
    unit: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    unvisited: int
    outside: int
    unreadable: int
    parcels: int
    columns: dict[str, np.ndarray]
    everywhere: dict[str, np.ndarray]
    source: str

    def __len__(self) -> int:
        return len(self.names)


def read_reference(path: Path, field: str, grid: Grid, context: JobContext, *,
                   layer: str | None = None, more: tuple[str, ...] = ()) -> Reference:
    """Read the units and find their pixels.

    A point covers the pixel under it; a polygon those whose centre lies inside, or the one under
    its inner point where there is none. Of large polygons an even part of the pixels is taken.

    Args:
        path: vector file that GDAL reads, in any CRS.
        field: text or number field with the true class; empty where nobody has been yet.
        grid: of the map.
        context: warnings, cancellation.
        layer: of the file; default: the first that has all fields.
        more: further columns to read.

    Raises:
        UserError: no such file, layer or field; no unit with a class on the grid.
    """
    path = Path(path)
    layer, info = _layer_with(path, (field, *more), layer)
    found, _, shapes, values = pyogrio.raw.read(path, layer=layer, columns=[field, *more],
                                                force_2d=True)
    columns = dict(zip((str(f) for f in found["fields"]), values, strict=True))
    names = _names(columns[field], field)
    visited = np.array([n is not None for n in names], bool)
    if not visited.any():
        raise UserError(f"No feature of {path.name} has a class in field {field}. Visit the "
                        "points and fill it in, or choose another field.")
    placer = _Placer(grid, _crs_of(info, grid, path, context))
    kept, parts = [], []
    for count, i in enumerate(np.flatnonzero(visited)):
        if count % 64 == 0:
            context.check()
        pixels = placer.pixels(shapes[i])
        if pixels is not None and len(pixels):
            kept.append(i)
            parts.append(pixels)
    outside = int(visited.sum()) - len(kept) - placer.unreadable
    if not kept:
        raise UserError(f"{path.name} has no point or polygon of known class on the map. Check "
                        "its CRS.")
    flat = np.concatenate(parts)
    return Reference(
        np.array([names[i] for i in kept], object),
        np.repeat(np.arange(len(kept)), [len(p) for p in parts]), *np.divmod(flat, grid.shape[1]),
        int((~visited).sum()), outside, placer.unreadable, placer.parcels,
        {n: columns[n][kept] for n in more}, {n: columns[n] for n in more}, path.name)


class _Placer:
    """Finds the pixels under features."""

    def __init__(self, grid: Grid, crs: CRS | None) -> None:
        self._grid, self._inverse = grid, ~grid.affine
        self._crs = (crs, grid.crs) if crs is not None and crs != grid.crs else None
        self.unreadable = self.parcels = 0

    def pixels(self, wkb: bytes | None) -> np.ndarray | None:
        """Flat indices of the pixels of a feature; None for one that is no point or polygon."""
        shape = None if wkb is None else shapely.from_wkb(wkb, on_invalid="ignore")
        parts = list(_parts(shape))
        if not parts:
            self.unreadable += 1
            return None
        found = np.unique(np.concatenate([self._under(self._placed(p)) for p in parts]))
        self.parcels += bool(len(found)) and parts[0].geom_type == "Polygon"
        if len(found) > _PIXELS:
            found = found[((np.arange(_PIXELS) + 0.5) * len(found) / _PIXELS).astype(int)]
        return found

    def _placed(self, shape: shapely.Geometry) -> shapely.Geometry:
        """A shape in columns and rows of the grid."""
        def to_pixels(xy: np.ndarray) -> np.ndarray:
            x, y = xy.T
            if self._crs is not None:
                x, y = (np.asarray(v) for v in transform(*self._crs, x, y))
            return np.column_stack(self._inverse @ (x, y))

        return shapely.transform(shape, to_pixels)

    def _under(self, shape: shapely.Geometry) -> np.ndarray:
        corners = shapely.get_coordinates(shape)
        if not np.isfinite(corners).all():
            return np.zeros(0, np.int64)
        if shape.geom_type == "Point":
            return self._flat(np.floor(corners).astype(np.int64))
        rows, cols = self._grid.shape
        left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(corners.max(0)), (cols, rows)).astype(int)
        if right <= left or bottom <= top:
            return np.zeros(0, np.int64)
        step = math.ceil(math.sqrt((right - left) * (bottom - top) / _LATTICE))
        # a cell's centre is the centre of every step-th pixel
        lattice = Affine(step, 0, left + 0.5 - step / 2, 0, step, top + 0.5 - step / 2)
        inside = rasterize([(shape, 1)], dtype="uint8", transform=lattice,
                           out_shape=(-(-(bottom - top) // step), -(-(right - left) // step)))
        down, across = np.nonzero(inside)
        if not len(down):
            inner = shapely.point_on_surface(shapely.make_valid(shape))
            return self._flat(np.floor(shapely.get_coordinates(inner)).astype(np.int64))
        return self._flat(np.column_stack([left + across * step, top + down * step]))

    def _flat(self, places: np.ndarray) -> np.ndarray:
        """Flat indices of those (n, 2) columns and rows that lie on the grid."""
        rows, cols = self._grid.shape
        col, row = places.T
        inside = (col >= 0) & (row >= 0) & (col < cols) & (row < rows)
        return row[inside] * cols + col[inside]


def _parts(shape: shapely.Geometry | None) -> Iterator[shapely.Geometry]:
    """The points and polygons of a geometry."""
    for part in () if shape is None else shapely.get_parts(shape):
        if shapely.get_type_id(part) >= shapely.GeometryType.MULTIPOINT:
            yield from _parts(part)
        elif part.geom_type in ("Point", "Polygon") and not part.is_empty:
            yield part


def _layer_with(path: Path, fields: tuple[str, ...], layer: str | None) -> tuple[str, dict]:
    """The layer to read and what is known of it."""
    if not path.exists():
        raise UserError(f"{path.name} was not found in {path.parent}. Choose the file again.")
    try:
        layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
        if layer is not None and layer not in layers:
            raise UserError(f"{path.name} has no layer {layer}. Choose one of "
                            f"{', '.join(layers)}.")
        infos = {name: pyogrio.read_info(path, layer=name)
                 for name in ([layer] if layer is not None else layers)}
    except pyogrio.errors.DataSourceError as error:
        raise UserError(f"{path.name} cannot be read as points or polygons ({error}). Export it "
                        "as GeoPackage.") from error
    for name, info in infos.items():
        if set(fields) <= set(info["fields"]):
            if info["geometry_type"] is None:
                raise UserError(f"{path.name} has no geometry. Choose points or polygons.")
            return name, info
    known = dict.fromkeys(f for info in infos.values() for f in info["fields"])
    lacking = next((f for f in fields if f not in known), fields[0])
    raise UserError(f"{path.name} has no field {lacking}. Choose one of "
                    f"{', '.join(known) or 'none'}.")


def _crs_of(info: dict, grid: Grid, path: Path, context: JobContext) -> CRS | None:
    """The CRS of the features; None means that it is the grid's."""
    if info["crs"] and grid.crs is not None:
        return CRS.from_user_input(info["crs"])
    if bool(info["crs"]) != (grid.crs is not None):
        lacking = "The map has" if info["crs"] else f"{path.name} has"
        context.warn(f"{lacking} no CRS; map and reference are taken to share it.")
    return None


def _names(values: np.ndarray, field: str) -> list[str | None]:
    """Class of each feature as text; None where it is empty."""
    if values.dtype.kind in "OUS":
        texts = [None if v is None or v != v else str(v).strip() for v in values]
        return [t or None for t in texts]
    if values.dtype.kind not in "biuf":
        raise UserError(f"Field {field} holds dates. Choose a text or number field.")
    return [None if math.isnan(v) else f"{v:.0f}" if float(v).is_integer() else f"{v:g}"
            for v in values.astype(float)]
