"""TESSERA as Zarr v3, a group a UTM zone, from a folder or an address.

Two layouts are published: years as a dimension (`geoemb:` convention) and a store a year
(`tessera:` convention). Axes go by their names, never by their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from obstore.exceptions import BaseError
from obstore.store import HTTPStore
from rasterio.crs import CRS
from rasterio.errors import CRSError
from zarr.storage import ObjectStore

from ..errors import UserError
from ..rasters.grid import Grid, Window
from .source import Origin, Source, year_in
from .tessera import dequantise, tessera_origin, usable

FORMAT = "tessera-zarr"

_ROWS, _COLS = ("y", "northing"), ("x", "easting")
_FAILURES = (BaseError, OSError, ValueError, KeyError, RuntimeError, TypeError)


def is_address(text: str) -> bool:
    """Whether a text is the address of a store on the web."""
    return text.startswith(("https://", "http://"))


def open_store(place: str) -> list[Source]:
    """All zones and years of a store, or of one zone's group, each a source.

    Args:
        place: folder or https address.

    Raises:
        UserError: unreachable, damaged, or another layout.
    """
    try:
        group = zarr.open_group(_store(place), mode="r", zarr_format=3)
    except _FAILURES as failure:
        raise UserError(f"{place} cannot be opened as a Zarr v3 store "
                        f"({_short(failure)}). Check the address or folder.") from failure
    try:
        sources = [source for zone in _zones(group, place)
                   for source in _years(zone, dict(group.attrs), place)]
    except _FAILURES as failure:
        raise UserError(f"{place} is damaged or of an unknown layout ({_short(failure)}). Check "
                        "that it holds TESSERA embeddings.") from failure
    if not sources:
        raise UserError(f"{place} holds no zone with embeddings and scales. Choose the store of a "
                        "TESSERA release.")
    return sources


class ZoneSource(Source):
    """One year of one zone.

    Args:
        name: for sentences.
        embeddings, scales: arrays with named axes.
        step: index of the year where there is an axis of time.
        grid, origin: see `Source`.
    """

    def __init__(self, name: str, embeddings: zarr.Array, scales: zarr.Array, step: int,
                 grid: Grid, origin: Origin) -> None:
        axes = embeddings.metadata.dimension_names
        super().__init__(name, grid, embeddings.shape[axes.index("band")], origin)
        self._embeddings, self._scales, self._step = embeddings, scales, step

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """See `Source.read`."""
        try:
            scales = self._part(self._scales, window)
            if not usable(scales).any():  # nothing there: the vectors need not be fetched
                return (np.zeros((*scales.shape, self.dims), np.float32),
                        np.zeros(scales.shape, bool))
            codes = self._part(self._embeddings, window)
        except _FAILURES as failure:
            raise UserError(f"{self.name} cannot be read at row {window.row}, column {window.col} "
                            f"({_short(failure)}). Try again, or get it again.") from failure
        return dequantise(codes, scales)

    def _part(self, array: zarr.Array, window: Window) -> np.ndarray:
        """A window with its axes in the order rows, columns, band."""
        rows, cols = window.slices
        axes = array.metadata.dimension_names
        choice = {"time": self._step, "band": slice(None)}
        part = array[tuple(rows if a in _ROWS else cols if a in _COLS else choice[a]
                           for a in axes)]
        order = {**dict.fromkeys(_ROWS, 0), **dict.fromkeys(_COLS, 1), "band": 2}
        left = [axis for axis in axes if axis != "time"]
        return np.ascontiguousarray(np.transpose(part, np.argsort([order[a] for a in left])))


def _store(place: str) -> Any:
    if not is_address(place):
        return place
    options = {"timeout": "60s", "connect_timeout": "15s"}
    if place.startswith("http://"):
        options["allow_http"] = "true"
    patience = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}
    return ObjectStore(HTTPStore.from_url(place.rstrip("/"), client_options=options,
                                          retry_config=patience), read_only=True)


def _zones(group: zarr.Group, place: str) -> Iterator[zarr.Group]:
    """The group itself when it is a zone, else the zones in it."""
    if "embeddings" in group:
        yield group
        return
    if is_address(place) and group.metadata.consolidated_metadata is None:
        raise UserError(f"{place} has no consolidated metadata, so its zones cannot be listed over "
                        "the web. Give the address of one zone, such as .../utm31.")
    for _, member in sorted(group.groups()):
        if "embeddings" in member and "scales" in member:
            yield member


def _years(zone: zarr.Group, root: dict[str, Any], place: str) -> Iterator[ZoneSource]:
    about = {**root, **dict(zone.attrs)}
    embeddings, scales = zone["embeddings"], zone["scales"]
    title = f"{place.rstrip('/').rsplit('/', 1)[-1]}/{zone.basename}".rstrip("/")
    axes = embeddings.metadata.dimension_names
    if not axes or "band" not in axes or embeddings.dtype != np.int8:
        raise UserError(f"{title} has no named axes or no int8 vectors, which both published "
                        "layouts have. Choose the store of a TESSERA release.")
    rows, cols = (next(embeddings.shape[i] for i, a in enumerate(axes) if a in names)
                  for names in (_ROWS, _COLS))
    try:
        wkt = CRS.from_user_input(about["proj:code"]).to_wkt()
    except CRSError as failure:
        raise UserError(f"{title} has an unknown CRS {about['proj:code']}. Get it again."
                        ) from failure
    grid = Grid(wkt, tuple(float(v) for v in about["spatial:transform"]), (rows, cols))
    version = str(about.get("tessera:model_version") or about.get("tessera:dataset_version")
                  or about.get("geoemb:model") or "")
    single = about.get("tessera:year") or year_in(Path(place))
    years = zone["time"][:].tolist() if "time" in axes else [single]
    for step, year in enumerate(years):
        origin = tessera_origin(version, "", place, int(year) if year else None)
        name = f"{title} {year}" if year else title
        yield ZoneSource(name, embeddings, scales, step, grid, origin)


def _short(failure: Exception) -> str:
    """The first line of what a library says."""
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0][:200]
