"""Places that the user shows, as vectors: a point, or the points and polygons of a file."""

from __future__ import annotations

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
from .archive import Archive, Reader, Tile

_MOST_PIXELS = 400  # of a polygon, evenly over it
_MOST_FEATURES = 5_000


def at_point(point: list, archive: Archive, reader: Reader) -> np.ndarray:
    """(1, d) unit vector at [x, y, CRS].

    Raises:
        UserError: there is no embedding.
    """
    x, y, crs = point
    vector = vector_of(shapely.Point(x, y), crs or None, archive, reader)
    if vector is None:
        raise UserError(f"No embeddings at {x:.10g}, {y:.10g} (cloud or outside). Choose another "
                        "place.")
    return vector[None]


def of_layer(path: Path, layer: str | None, archive: Archive, reader: Reader, context: JobContext
             ) -> np.ndarray:
    """(n, d) unit vectors, one a feature: a polygon gives the mean of its pixels.

    Where several files hold a feature, the first of them that has embeddings there counts.

    Raises:
        UserError: no such file or layer, no points or polygons, none of them on embeddings.
    """
    shapes, crs = _features(path, layer)
    vectors = []
    for done, shape in enumerate(shapes):
        context.progress(done / len(shapes), "Reading examples")
        vectors.append(vector_of(shape, crs, archive, reader))
    found = [v for v in vectors if v is not None]
    if not found:
        raise UserError(f"No embeddings at the {len(shapes)} features of {path.name} (cloud or "
                        "outside). Choose other places or check its CRS.")
    if len(found) < len(vectors):
        context.warn(f"{len(vectors) - len(found)} of {len(vectors)} features of {path.name} have "
                     "no embeddings and were left out.")
    return np.array(found)


def _features(path: Path, layer: str | None) -> tuple[np.ndarray, str | None]:
    if not path.exists():
        raise UserError(f"The examples {path.name} were not found in {path.parent}. Choose the "
                        "file again.")
    try:
        meta, _, geometry, _ = pyogrio.raw.read(path, layer=layer, columns=[], force_2d=True,
                                                max_features=_MOST_FEATURES + 1)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as failure:
        raise UserError(f"{path.name} cannot be read as points or polygons ({failure}). Export "
                        "it as GeoPackage.") from failure
    if geometry is not None and len(geometry) > _MOST_FEATURES:
        raise UserError(f"{path.name} has more than {_MOST_FEATURES} features. Choose fewer "
                        "examples.")
    shapes = shapely.from_wkb([] if geometry is None else geometry)
    usable = np.array([s for s in shapes if s is not None and not s.is_empty
                       and shapely.get_dimensions(s) in (0, 2)], object)
    if not len(usable):
        raise UserError(f"{path.name} has no points or polygons. Draw some or choose another "
                        "file.")
    return usable, meta["crs"]


def vector_of(shape: shapely.Geometry, crs: str | None, archive: Archive, reader: Reader
            ) -> np.ndarray | None:
    """(d,) unit vector of a shape; None where no file has embeddings there."""
    for tile in archive.everything:
        rows, cols = _pixels(shape, crs, tile)
        if not len(rows):
            continue
        codes = reader.at(tile, rows, cols)
        units = tile.coding.units(codes[codes[:, 0] != 0])
        length = np.linalg.norm(units.sum(0))
        if length > 0:
            return units.sum(0) / length
    return None


def _pixels(shape: shapely.Geometry, crs: str | None, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels under points, or with their centre in polygons."""
    theirs = CRS.from_user_input(crs) if crs and tile.grid.crs is not None else None
    inverse = ~tile.grid.affine

    def to_pixels(xy: np.ndarray) -> np.ndarray:
        x, y = xy.T
        if theirs is not None and theirs != tile.grid.crs:
            x, y = (np.asarray(v) for v in transform(theirs, tile.grid.crs, x, y))
        return np.column_stack(inverse @ (x, y))

    placed = shapely.transform(shape, to_pixels)
    points = shapely.get_coordinates(placed)
    nothing = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if not np.isfinite(points).all():
        return nothing
    height, width = tile.grid.shape
    if shapely.get_dimensions(placed) == 2:
        c0, r0 = np.maximum(np.floor(points.min(0)), 0).astype(int)
        c1, r1 = np.minimum(np.ceil(points.max(0)), (width, height)).astype(int)
        if c1 <= c0 or r1 <= r0:
            return nothing
        rows, cols = np.nonzero(rasterize([placed], out_shape=(r1 - r0, c1 - c0), dtype="uint8",
                                          transform=Affine.translation(c0, r0)))
        if len(rows):
            some = np.unique(np.linspace(0, len(rows) - 1, _MOST_PIXELS).round().astype(int))
            return rows[some] + r0, cols[some] + c0
        points = shapely.get_coordinates(shapely.point_on_surface(shapely.make_valid(placed)))
    cols, rows = np.floor(points).astype(np.int64).T
    inside = (cols >= 0) & (rows >= 0) & (cols < width) & (rows < height)
    return rows[inside], cols[inside]
