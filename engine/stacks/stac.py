"""Stacks as STAC 1.0: scenes to items, items to scenes.

One item a scene, one asset a file. `eo:bands` and `raster:bands` follow the bands that are used;
`earthprint:bands` says which bands of the file these are and what they are for. The extensions'
schemas are not listed in `stac_extensions`, so that items validate without a network.
"""

from __future__ import annotations

import datetime as dt
import os
from functools import lru_cache
from pathlib import Path, PurePath

from rasterio.crs import CRS

from ..rasters.grid import Grid
from .scenes import Asset, Scene, join_path, lonlat_bounds, split_path
from .sensors import WAVELENGTHS, in_order

_EO = {"rededge071": "rededge", "rededge075": "rededge", "rededge078": "rededge"}


def item(scene: Scene, number: int, folder: Path) -> dict:
    """A scene as a STAC item; paths relative to `folder` where they can be."""
    properties: dict = {"datetime": f"{scene.date}T00:00:00Z"} if scene.date else {
        "datetime": None, "start_datetime": "1970-01-01T00:00:00Z",
        "end_datetime": f"{dt.date.today().isoformat()}T00:00:00Z"}
    properties |= {"earthprint:sensor": scene.sensor, "earthprint:note": scene.note}
    if scene.orbit:
        properties["sat:orbit_state"] = scene.orbit
    if scene.track:
        properties["sat:relative_orbit"] = scene.track
    if scene.tile:
        properties["earthprint:tile"] = scene.tile
    box = lonlat_bounds(scene.grid)
    result = {
        "type": "Feature", "stac_version": "1.0.0", "stac_extensions": [],
        "id": f"{scene.sensor}_{scene.date or 'undated'}_{number:04d}",
        "geometry": None, "properties": properties, "links": [],
        "assets": _assets(scene, folder),
    }
    if box:
        w, s, e, n = box
        result["bbox"] = [w, s, e, n]
        result["geometry"] = {"type": "Polygon",
                              "coordinates": [[[w, s], [e, s], [e, n], [w, n], [w, s]]]}
    return result


def _assets(scene: Scene, folder: Path) -> dict[str, dict]:
    """The files of a scene as STAC assets."""
    paths = list(dict.fromkeys(a.path for a in scene.assets))
    result: dict[str, dict] = {}
    for path in paths:
        mine = [a for a in scene.assets if a.path == path]
        driver, file, part = split_path(path)
        key = PurePath(part).stem if driver == "zip" else "_".join(
            word for word in (PurePath(file).stem, part) if word)
        while key in result:
            key += "_"
        entry: dict = {"href": href(file, folder), "roles": sorted({a.role for a in mine})}
        if part:
            entry |= {"earthprint:driver": driver, "earthprint:part": part}
        entry["eo:bands"] = [_eo_band(a) for a in mine]
        entry["raster:bands"] = [_raster_band(a) for a in mine]
        entry["earthprint:bands"] = [
            {"index": a.band, "role": a.role, "mask": a.mask, "unit": a.unit} for a in mine]
        entry |= _projection(mine[0].grid)
        result[key] = entry
    return result


def _eo_band(asset: Asset) -> dict:
    """Name and, where STAC knows one, common name of a band."""
    common = _EO.get(asset.name, asset.name)
    known = asset.role == "data" and asset.name in WAVELENGTHS and asset.name != "swir12"
    return {"name": asset.name, **({"common_name": common} if known else {})}


def _raster_band(asset: Asset) -> dict:
    """Scale, offset and nodata of a band."""
    nodata = {} if asset.nodata is None else {"nodata": asset.nodata}
    return {"scale": asset.scale, "offset": asset.offset, **nodata}


def _projection(grid: Grid) -> dict:
    """A grid in the words of STAC's projection extension."""
    return {"proj:epsg": _epsg(grid.crs_wkt), "proj:wkt2": grid.crs_wkt or None,
            "proj:transform": list(grid.transform), "proj:shape": list(grid.shape)}


@lru_cache(maxsize=64)
def _epsg(wkt: str) -> int | None:
    """EPSG code of a CRS where it has one."""
    return CRS.from_wkt(wkt).to_epsg() if wkt else None


def href(file: str, folder: Path) -> str:
    """A path relative to a folder, with slashes; absolute where the drive is another."""
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:
        return Path(file).as_posix()


def grid_member(grid: Grid) -> dict:
    """The foreign member `earthprint:grid`."""
    return {"crs": grid.crs_wkt, "transform": list(grid.transform), "shape": list(grid.shape)}


def grid_of(member: dict) -> Grid:
    """The grid of a member `earthprint:grid`; its CRS is WKT or "EPSG:code"."""
    crs = member["crs"]
    wkt = CRS.from_user_input(crs).to_wkt() if crs and str(crs).upper().startswith("EPSG") else crs
    return Grid(wkt or "", tuple(float(v) for v in member["transform"])[:6],
                tuple(int(v) for v in member["shape"]))


def scene(feature: dict, folder: Path) -> Scene:
    """The scene of an item that `item` made."""
    properties = feature["properties"]
    assets: list[Asset] = []
    for entry in feature["assets"].values():
        assets += _read_asset(entry, folder)
    order = in_order({a.name for a in assets if a.role == "data"})
    assets.sort(key=lambda a: order.index(a.name) if a.role == "data" else len(order))
    stamp = properties.get("datetime")
    return Scene(
        properties["earthprint:sensor"], stamp[:10] if stamp else None,
        properties.get("sat:orbit_state", ""), tuple(assets),
        properties.get("earthprint:note", ""), properties.get("sat:relative_orbit", 0),
        properties.get("earthprint:tile", ""),
    )


def _read_asset(entry: dict, folder: Path) -> list[Asset]:
    """The bands of one STAC asset."""
    path = os.path.normpath(folder / entry["href"])
    if "earthprint:part" in entry:
        path = join_path(entry["earthprint:driver"], path, entry["earthprint:part"])
    crs = entry.get("proj:wkt2") or (f"EPSG:{entry['proj:epsg']}" if entry.get("proj:epsg") else "")
    grid = grid_of({"crs": crs, "transform": entry["proj:transform"], "shape": entry["proj:shape"]})
    return [
        Asset(path, own["index"], eo["name"], raster["scale"], raster["offset"],
              raster.get("nodata"), own["role"], own["mask"], own["unit"], grid)
        for own, eo, raster in zip(entry["earthprint:bands"], entry["eo:bands"],
                                   entry["raster:bands"], strict=True)
    ]
