"""Points and rings out of well-known binary (ISO and OGC flavours), without other libraries."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

_POINT, _LINE, _POLYGON, _COLLECTIONS = 1, 2, 3, (4, 5, 6, 7)


@dataclass(frozen=True)
class Shape:
    """One polygon (outer ring first, then holes) or some points.

    Attributes:
        polygon: False for points.
        rings: (n, 2) float64 arrays of x, y; one array of points where not a polygon.
    """

    polygon: bool
    rings: tuple[np.ndarray, ...]


def shapes_of(wkb: bytes) -> list[Shape]:
    """The points and polygons of a geometry and of its parts; z and m are dropped.

    Empty parts and rings of fewer than three points are left out.

    Raises:
        ValueError: lines, curves or damaged bytes.
    """
    try:
        return _read(memoryview(wkb), 0)[0]
    except struct.error as error:
        raise ValueError("damaged geometry") from error


def interior_point(shape: Shape) -> np.ndarray:
    """(2,) point inside a polygon: the middle of its longest stretch at half its height."""
    points = shape.rings[0]
    y = (points[:, 1].min() + points[:, 1].max()) / 2
    crossings = []
    for ring in shape.rings:
        (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
        over = (y0 <= y) != (y1 <= y)
        crossings.append(x0[over] + (y - y0[over]) * (x1 - x0)[over] / (y1 - y0)[over])
    xs = np.sort(np.concatenate(crossings))
    if len(xs) < 2:
        return points.mean(0)
    pairs = xs[: len(xs) // 2 * 2].reshape(-1, 2)
    return np.array([pairs[np.argmax(pairs[:, 1] - pairs[:, 0])].mean(), y])


def _read(data: memoryview, at: int) -> tuple[list[Shape], int]:
    """Shapes of the geometry that starts at a byte, and where it ends."""
    order = "<" if data[at:at + 1] == b"\x01" else ">"
    code = struct.unpack_from(f"{order}I", data, at + 1)[0]
    at += 5
    if code & 0x20000000:  # an identifier of the reference system follows
        at += 4
    dims = 2 + bool(code & 0x80000000) + bool(code & 0x40000000)
    kind = code & 0x0FFFFFFF
    dims, kind = max(dims, (2, 3, 3, 4)[kind // 1000 % 4]), kind % 1000
    if kind == _POINT:
        xy, at = _coordinates(data, at, 1, dims, order)
        return ([Shape(False, (xy,))] if np.isfinite(xy).all() else []), at
    if kind not in (_POLYGON, *_COLLECTIONS):
        raise ValueError(f"geometry type {kind} is neither point nor polygon")
    count = struct.unpack_from(f"{order}I", data, at)[0]
    at += 4
    shapes: list[Shape] = []
    if kind == _POLYGON:
        rings = []
        for _ in range(count):
            size = struct.unpack_from(f"{order}I", data, at)[0]
            xy, at = _coordinates(data, at + 4, size, dims, order)
            rings.append(xy)
        if rings and len(rings[0]) >= 3:
            shapes.append(Shape(True, tuple(r for r in rings if len(r) >= 3)))
        return shapes, at
    for _ in range(count):
        parts, at = _read(data, at)
        shapes += parts
    return shapes, at


def _coordinates(
    data: memoryview, at: int, count: int, dims: int, order: str
) -> tuple[np.ndarray, int]:
    size = 8 * dims * count
    if at + size > len(data):
        raise ValueError("damaged geometry")
    flat = np.frombuffer(data[at:at + size], dtype=f"{order}f8").reshape(count, dims)
    return flat[:, :2].astype(np.float64), at + size
