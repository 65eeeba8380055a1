"""GeoParquet with a patch a row (Clay, Major TOM, Earth Genome): a raster of the patches' grid.

Only the places are held in memory; vectors are read by row groups when a window needs them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform

from ..errors import UserError
from ..rasters.grid import Grid, Window
from .source import Origin, Source, year_in

FORMAT = "patches"
ENDINGS = (".parquet", ".geoparquet", ".gpq")

_VECTORS, _DAYS = ("embedding", "embeddings"), ("timestamp", "datetime", "date")
_OFF = 0.05  # of a cell: how far a patch may lie from its place on the grid
_EMPTY = 100  # cells a patch: more, and it is no grid
_BIG = 32_000_000  # numbers of one batch of vectors


class PatchSource(Source):
    """The patches of one file and one year as pixels.

    Args:
        path: of the file.
        rows: which rows of the table belong to the year.
        xy: (n, 2) centres of those rows in `crs`.
        crs: of the centres.
        column: that holds the vectors.
        dims, origin: see `Source`.
    """

    def __init__(self, path: Path, rows: np.ndarray, xy: np.ndarray, crs: CRS, column: str,
                 dims: int, origin: Origin) -> None:
        grid, cells = _lattice(path.name, xy, crs)
        super().__init__(path.name, grid, dims, origin)
        self._path, self._rows, self._cells, self._column = path, rows, cells, column

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """See `Source.read`."""
        vectors = np.zeros((window.rows, window.cols, self.dims), np.float32)
        valid = np.zeros((window.rows, window.cols), bool)
        row, col = self._cells[:, 0] - window.row, self._cells[:, 1] - window.col
        inside = (row >= 0) & (row < window.rows) & (col >= 0) & (col < window.cols)
        wanted, row, col = self._rows[inside], row[inside], col[inside]
        try:
            with pq.ParquetFile(self._path) as file:
                first = 0
                for group in range(file.num_row_groups):
                    last = first + file.metadata.row_group(group).num_rows
                    here = (wanted >= first) & (wanted < last)
                    if here.any():
                        found, there = self._vectors(file, group, wanted[here] - first)
                        vectors[row[here], col[here]] = found
                        valid[row[here], col[here]] = there
                    first = last
        except (pa.ArrowException, OSError) as failure:
            raise UserError(f"{self._path} is damaged ({failure}). Get it again.") from failure
        return vectors, valid

    def _vectors(self, file: pq.ParquetFile, group: int, rows: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray]:
        """(n, dims) float32 of rows of a row group, and (n,) whether they are finite."""
        out, first = np.full((len(rows), self.dims), np.nan, np.float32), 0
        for batch in file.iter_batches(max(_BIG // self.dims, 1), row_groups=[group],
                                       columns=[self._column]):
            here = (rows >= first) & (rows < first + len(batch))
            part = batch.column(0).take(pa.array(rows[here] - first))
            for place, value in zip(np.flatnonzero(here), part, strict=True):
                if value.is_valid:
                    vector = np.asarray(value.values, np.float32)
                    if len(vector) != self.dims:
                        raise UserError(f"{self._path.name} has vectors of {self.dims} and "
                                        f"{len(vector)} numbers. Get it again.")
                    out[place] = vector
            first += len(batch)
        valid = np.isfinite(out).all(1)
        return np.where(valid[:, None], out, 0), valid


def open_patches(path: Path, year: int | None) -> list[Source] | None:
    """The patches of a file, a source a year that it names; None where it has no embeddings.

    Args:
        path: of the file.
        year: take this one only; None for all.

    Raises:
        UserError: damaged, or patches off a regular grid.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            column = next((name for name in _VECTORS if name in names), None)
            if column is None:
                return None
            if not file.metadata.num_rows:
                raise UserError(f"{path.name} has no rows. Choose another file.")
            dims = _dims(file, column, path.name)
            day = next((name for name in _DAYS if name in names), None)
            wanted = [n for n in ("geometry", "centre_lon", "centre_lat", day) if n in names]
            table = file.read(wanted)
            stated = json.loads((file.schema_arrow.metadata or {}).get(b"geo", b"{}"))
    except (pa.ArrowException, OSError, ValueError) as failure:
        raise UserError(f"{path} cannot be read as GeoParquet ({failure}). Get it again or choose "
                        "another.") from failure
    xy, crs = _centres(table, stated, path.name)
    years = _years(table, day, len(xy))
    fallback = year_in(path)
    years[years == 0] = fallback or 0
    encoder, sentence = _product(path, names, dims)
    sources: list[Source] = []
    for found in np.unique(years).tolist():
        if year is None or found in (0, year):
            rows = np.flatnonzero(years == found)
            sources.append(PatchSource(path, rows, xy[rows], crs, column, dims,
                                       Origin(encoder, found or None, sentence)))
    return sources


def _dims(file: pq.ParquetFile, column: str, name: str) -> int:
    for batch in file.iter_batches(64, columns=[column]):
        for value in batch.column(0):
            if value.is_valid and hasattr(value, "values") and len(value.values):
                return len(value.values)
    raise UserError(f"Column {column} of {name} holds no lists of numbers. Choose a file of patch "
                    "embeddings.")


def _centres(table: pa.Table, stated: dict[str, Any], name: str) -> tuple[np.ndarray, CRS]:
    """(n, 2) centres and their CRS: of the geometry, else of the columns centre_lon, centre_lat."""
    degrees = CRS.from_epsg(4326)
    if "centre_lon" in table.column_names and "centre_lat" in table.column_names:
        return np.stack([table[c].to_numpy().astype(float)
                         for c in ("centre_lon", "centre_lat")], 1), degrees
    if "geometry" not in table.column_names:
        raise UserError(f"{name} says nowhere where its patches lie (no column geometry, "
                        "centre_lon). Choose another file.")
    try:
        geometry = table["geometry"].to_numpy(zero_copy_only=False)
        shapes = shapely.centroid(shapely.from_wkb(geometry))
    except (shapely.errors.ShapelyError, TypeError) as failure:
        raise UserError(f"The geometry of {name} is not WKB ({failure}). Get it again."
                        ) from failure
    crs = stated.get("columns", {}).get("geometry", {}).get("crs")
    try:  # a GeoParquet file without a CRS is in degrees, says its specification
        known = CRS.from_user_input(json.dumps(crs)) if crs else degrees
    except CRSError as failure:
        raise UserError(f"The CRS of {name} is not understood ({failure}). Get it again."
                        ) from failure
    xy = np.stack([shapely.get_x(shapes), shapely.get_y(shapes)], 1)
    if not np.isfinite(xy).all():
        raise UserError(f"{name} has rows without a place. Get it again.")
    return xy, known


def _years(table: pa.Table, day: str | None, count: int) -> np.ndarray:
    """(n,) year of each row, 0 where there is none."""
    if day is None:
        return np.zeros(count, int)
    found = (re.search(r"(?<!\d)(20[1-4]\d)", str(value)) for value in table[day].to_pylist())
    return np.array([int(match[1]) if match else 0 for match in found])


def _product(path: Path, names: list[str], dims: int) -> tuple[str, str]:
    """Encoder and attribution, from the columns and the path, as far as they tell."""
    if "grid_cell" in names and "product_id" in names:
        core = next((p for p in path.parts if p.startswith("Core-")), "unknown")
        return f"major-tom@{core}#{dims}", "Major TOM Core embeddings, CC-BY-SA 4.0."
    if "clay" in str(path).lower() or {"index", "source_url"} <= set(names):
        version = re.search(r"v(\d+)[.-]?(\d*)", path.stem) or re.search(
            r"clay[-_]v(\d+)[.-]?(\d*)", str(path).lower())
        number = ".".join(filter(None, version.groups())) if version else "unknown"
        licence = ", ODC-BY" if number.startswith("0") else ""  # of later sets none is stated
        return f"clay@{number}#{dims}", f"Embeddings of the Clay Foundation Model{licence}."
    if "earthindex" in str(path).lower().replace("-", "").replace("_", ""):
        return f"earth-index@softcon#{dims}", "Earth Index embeddings, Earth Genome."
    return f"unknown@1#patches-{dims}", ""


def _lattice(name: str, xy: np.ndarray, crs: CRS) -> tuple[Grid, np.ndarray]:
    """The regular grid that centres lie on, and their (n, 2) cells; in their CRS or in UTM,
    whichever they fit better."""
    tries = [(crs, xy)]
    if crs.is_geographic:
        lon, lat = xy.mean(0)
        zone = min(max(int((lon + 180) // 6) + 1, 1), 60)
        utm = CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)
        tries.append((utm, np.stack(transform(crs, utm, *xy.T), 1)))
    fits = []
    for system, points in tries:
        across, up = (_axis(points[:, k]) for k in (0, 1))
        if across and up and (across.step or up.step):
            rows, cols = int(up.steps.max()) + 1, int(across.steps.max()) + 1
            if rows * cols <= _EMPTY * len(points):
                fits.append((max(across.off, up.off), system, across, up, rows, cols))
    if not fits:
        raise UserError(f"The patches of {name} do not lie on one regular grid (in their CRS or in "
                        "UTM), so they make no raster. Import the patches of one tile, or a "
                        "raster.")
    _, system, across, up, rows, cols = min(fits, key=lambda fit: fit[0])
    cells = np.stack([rows - 1 - up.steps, across.steps], 1)
    if len(np.unique(cells, axis=0)) < len(cells):
        raise UserError(f"{name} has several patches of one year at one place. Keep one date of "
                        "each and import again.")
    wide, high = across.step or up.step, up.step or across.step
    return Grid(system.to_wkt(), (wide, 0.0, across.first - wide / 2, 0.0, -high,
                                  up.first + (rows - 0.5) * high), (rows, cols)), cells


@dataclass(frozen=True)
class _Axis:
    """Centres at `first` + `steps` * `step`; step 0 where all are alike.

    `off` is how far the worst lies from its place, as a share of the step.
    """

    first: float
    step: float
    steps: np.ndarray
    off: float


def _axis(values: np.ndarray) -> _Axis | None:
    """The regular steps that values lie on; None where they do not."""
    gaps = np.diff(np.sort(values))
    widest = gaps.max(initial=0.0)
    if widest <= 1e-9 * max(abs(values).max(), 1.0):
        return _Axis(float(values[0]), 0.0, np.zeros(len(values), int), 0.0)
    step, first = gaps[gaps > 0.01 * widest].min(), values.min()
    for _ in range(3):  # the step is refined by all centres
        steps = np.round((values - first) / step)
        step, first = np.polyfit(steps, values, 1)
        if step <= 0:
            return None
    off = float(np.abs(values - first - steps * step).max() / step)
    lowest = steps.min()
    return _Axis(float(first + lowest * step), float(step), (steps - lowest).astype(int),
                 off) if off <= _OFF else None
