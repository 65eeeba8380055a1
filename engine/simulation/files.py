"""A season as files, named and coded as the agencies and data services do it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
from rasterio.crs import CRS

from ..rasters.grid import Grid
from ..rasters.legend import Legend
from ..rasters.raster import RasterWriter
from .atmosphere import BARE, UNSURE, VEGETATION, WATER
from .fields import NEVER
from .labels import Label
from .landscape import FIELD
from .radar import POLARISATIONS
from .season import Acquisition, OpticalScene, Season, date_of

_RADAR_NODATA = -32768
# A fixed clock in the GeoPackage, so that one seed gives one file.
_CLOCK = "2024-01-01T00:00:00.000Z"


def grid_of(season: Season) -> Grid:
    """Where the season lies."""
    place = season.recipe.place
    transform = (place.pixel_m, 0.0, place.left_m, 0.0, -place.pixel_m, place.top_m)
    return Grid(CRS.from_epsg(place.epsg).to_wkt(), transform, season.land.unit.shape)


def write_optical(path: Path, season: Season, scene: OpticalScene) -> None:
    """A Sentinel-2 date: uint16 digital numbers of all bands and the scene classification."""
    names = [*season.recipe.optics.bands, "SCL"]
    with _create(path, season, len(names), "uint16", 0) as file:
        file.write(scene.digital)
        file.descriptions = names


def write_radar(path: Path, season: Season, sigma0: np.ndarray) -> None:
    """A Sentinel-1 date: sigma0 in dB as int16 with a scale, VV and VH."""
    step = season.recipe.radar.step_db
    with _create(path, season, len(sigma0), "int16", _RADAR_NODATA) as file:
        file.write(np.rint(sigma0 / step).astype(np.int16))
        file.descriptions = POLARISATIONS
        file.scales = (step,) * len(sigma0)
        file.units = ("dB",) * len(sigma0)


def write_truth(path: Path, season: Season) -> None:
    """The class of every pixel, with names and colours; 0 is nodata."""
    grid = grid_of(season)
    with RasterWriter(path, grid, "uint8", 0, legend=Legend.of_names(season.recipe.truth),
                      descriptions=["class"]) as file:
        file.write(grid.full, season.truth)


def write_labels(path: Path, season: Season, labels: list[Label]) -> None:
    """The labelled polygons, layer `labels`, fields `crop` and `parcel` (-1: not a parcel)."""
    grid = grid_of(season)
    shapes = np.array([_wkb(_on_map(label.ring, grid)) for label in labels], dtype=object)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _CLOCK})
    try:
        pyogrio.raw.write(
            path, shapes, [np.array([label.name for label in labels], dtype=object),
                           np.array([label.unit for label in labels], dtype=np.int32)],
            ["crop", "parcel"], layer="labels", driver="GPKG", geometry_type="Polygon",
            crs=f"EPSG:{season.recipe.place.epsg}",
            dataset_options={"VERSION": "1.2"})  # older GDALs warn of newer versions
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def optical_record(season: Season, taken: Acquisition, scene: OpticalScene) -> dict[str, object]:
    """The truth about a Sentinel-2 date."""
    scl = scene.digital[-1]
    return {
        "file": f"scenes/{taken.name}.tif", "date": date_of(season.recipe, taken.day).isoformat(),
        "cloud": round(float((scene.sky.cloud > 0.3).mean()), 4),
        "shadow": round(float((scene.sky.shadow > 0.3).mean()), 4),
        "mask_clear": round(float(np.isin(scl, (VEGETATION, BARE, WATER, UNSURE)).mean()), 4),
    }


def radar_record(season: Season, taken: Acquisition) -> dict[str, object]:
    """The truth about a Sentinel-1 date."""
    weather = season.weather
    return {
        "file": f"scenes/{taken.name}.tif", "date": date_of(season.recipe, taken.day).isoformat(),
        "soil_moisture_vol_pct": round(float(weather.moisture[taken.day - 1]), 1),
        "wind_m_s": round(float(weather.wind[taken.day - 1]), 1),
    }


def write_record(path: Path, season: Season, labels: list[Label], optical: list[dict],
                 radar: list[dict]) -> None:
    """What is known of the season beside the rasters: grid, legend, dates, skies, parcels."""
    grid = grid_of(season)
    record = {
        "name": season.recipe.name, "provenance": season.recipe.provenance, "seed": season.seed,
        "crs": f"EPSG:{season.recipe.place.epsg}", "transform": grid.transform,
        "shape": grid.shape, "legend": Legend.of_names(season.recipe.truth).records(),
        "sentinel-2": optical, "sentinel-1": radar,
        "passes": [{"date": date_of(season.recipe, p.day).isoformat(),
                    "cloud_drawn": round(p.cover, 3)} for p in season.sky_dates],
        "parcels": _parcels(season, labels, grid),
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _parcels(season: Season, labels: list[Label], grid: Grid) -> list[dict[str, object]]:
    """Every parcel: crop, hectares, middle, whether it is labelled, day of harvest."""
    land, fields = season.land, season.fields
    rows, cols = np.indices(land.unit.shape)
    middle = np.column_stack([np.bincount(land.unit.ravel(), weights=x.ravel()) / land.pixels
                              for x in (cols, rows)])
    middle = _on_map(middle + 0.5, grid)
    labelled = {label.unit for label in labels}
    hectares = grid.pixel_size**2 / 10_000
    records = []
    for u in np.flatnonzero(land.cover == FIELD):
        x, y = middle[u]
        harvest = fields.harvest[u]
        records.append({
            "parcel": int(u), "crop": season.classes.names[fields.kind[u]],
            "hectares": round(float(land.pixels[u]) * hectares, 2),
            "x": round(float(x)), "y": round(float(y)),
            "labelled": int(u) in labelled,
            "harvest": None if harvest > NEVER / 2
            else date_of(season.recipe, round(float(harvest))).isoformat(),
        })
    return records


def _create(path: Path, season: Season, bands: int, dtype: str,
            nodata: int) -> rasterio.io.DatasetWriter:
    """A compressed, tiled GeoTIFF on the season's grid, open for writing."""
    grid = grid_of(season)
    return rasterio.open(
        path, "w", driver="GTiff", count=bands, dtype=dtype, nodata=nodata,
        height=grid.shape[0], width=grid.shape[1], crs=grid.crs, transform=grid.affine,
        compress="DEFLATE", predictor=2, zlevel=9, tiled=True, blockxsize=256, blockysize=256,
        interleave="band")


def _on_map(places: np.ndarray, grid: Grid) -> np.ndarray:
    """Places (k, 2) as (column, row) in units of the map (x, y)."""
    a, b, c, d, e, f = grid.transform
    return places @ np.array([[a, d], [b, e]]) + [c, f]


def _wkb(ring: np.ndarray) -> bytes:
    """A polygon of one ring (k, 2) as little-endian WKB."""
    return struct.pack("<BIII", 1, 3, 1, len(ring)) + ring.astype("<f8").tobytes()
