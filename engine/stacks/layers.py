"""What one raster file holds: its bands with names, dates, grids and a few sampled values.

GeoTIFF, JPEG 2000, VRT and whatever else GDAL reads; CF NetCDF through GDAL's own driver, band by
band, so that windows can be read later without loading a variable.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow

from ..errors import UserError
from ..rasters.grid import Grid
from .names import Named, day_of, find_date, parse, strip_date
from .sensors import NO_SCENE

_SAMPLE = 256  # pixels a side of what is looked at to tell units
_CELLS = 8_000_000  # values that a sample may hold over all bands
_DATE_TAGS = ("acquisition", "acquisition_date", "date_acquired", "date", "datetime",
              "sensing_time", "product_start_time", "year", "tifftag_datetime")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True)
class Stats:
    """A look at stored values, without nodata.

    Attributes:
        low, median, high: percentiles 1, 50, 99; of integers without a nodata value those
            other than 0.
        minimum, maximum: of the sample.
        codes: distinct values where there are few, else empty.
    """

    low: float
    median: float
    high: float
    minimum: float
    maximum: float
    codes: frozenset[int]


@dataclass(frozen=True)
class Layer:
    """One band of one file, before it is known what sensor it belongs to.

    Attributes:
        path, band: where it is, as in `Asset`.
        file: the file on disk, or a path within a ZIP archive.
        named: what its path, its description and its tags tell.
        token: what names the band; empty where nothing does.
        step: index of the time step where the description counts steps, else -1.
        steps: number of steps in the file.
        grid, dtype: of the file.
        scale, offset, nodata: as the file states them (1, 0, None where it does not).
        unit: as the file states it.
        color: GDAL's colour interpretation.
        count: bands in the file.
        stats: a look at the values; None where every value is missing.
        tags: the file's metadata, keys lower case.
    """

    path: str
    band: int
    file: PurePath
    named: Named
    token: str
    step: int
    steps: int
    grid: Grid
    dtype: str
    scale: float
    offset: float
    nodata: float | None
    unit: str
    color: str
    count: int
    stats: Stats | None
    tags: dict[str, str]


def layers_of(file: PurePath) -> tuple[list[Layer], str]:
    """The bands of a raster file, and a note on what was left out.

    Raises:
        UserError: the file cannot be opened or read as a raster.
    """
    if NO_SCENE.search(file.stem.lower()):
        return [], "no scene by its name"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(str(file)) as dataset:
                if dataset.count == 0 and dataset.subdatasets:
                    return _parts(file, dataset.subdatasets)
                return _bands(file, str(file), dataset)
    except RasterioError as error:
        raise UserError(
            f"`{file.name}` cannot be read as a raster; it may be cut short. "
            "Copy it again or leave it out."
        ) from error


def _parts(file: PurePath, names: list[str]) -> tuple[list[Layer], str]:
    """The bands of all variables of a container such as NetCDF."""
    layers, notes = [], []
    for name in names:
        variable = name.rsplit(":", 1)[-1]
        if NO_SCENE.search(variable.lower()):
            notes.append(variable)
            continue
        driver = name.split(":", 1)[0].upper()
        path = f'{driver}:"{file}":{variable}'
        with rasterio.open(path) as dataset:
            layers += _bands(file, path, dataset)[0]
    return layers, f"no scenes: {', '.join(notes)}" if notes else ""


def _bands(file: PurePath, path: str, dataset: rasterio.DatasetReader) -> tuple[list[Layer], str]:
    """The bands of one open dataset."""
    tags = {k.lower(): v for k, v in dataset.tags().items()}
    why = _no_scene(dataset, tags)
    if why:
        return [], why
    named = _with_tags(parse(file), tags)
    times, tokens = _axes(dataset, path)
    if not any(tokens):
        tokens = [d or "" for d in dataset.descriptions]
    steps, tokens = _steps(tokens)
    nodata = _nodata(dataset)
    stats = _sample(dataset, nodata)
    grid = Grid.of(dataset)
    layers = []
    for i in range(dataset.count):
        mine, token = named, tokens[i]
        found = times[i] if times else find_date(token)
        if found.date and not found.vague:
            mine = replace(named, date=found.date, span=None, time=found.time, vague=False)
            token = token if times else strip_date(token)
        if NO_SCENE.search(token.lower()):
            continue
        layers.append(Layer(
            path, i + 1, file, mine, token, steps[i], max(steps) + 1, grid, dataset.dtypes[i],
            dataset.scales[i], dataset.offsets[i], nodata[i], dataset.units[i] or "",
            dataset.colorinterp[i].name, dataset.count, stats[i], tags,
        ))
    return layers, "" if layers else "no bands of a scene"


def _no_scene(dataset: rasterio.DatasetReader, tags: dict[str, str]) -> str:
    """Why an open dataset is no scene; empty where it may be one."""
    if dataset.crs is None and dataset.gcps[0]:
        return "not placed on the ground yet: use a terrain-corrected product"
    if dataset.crs is None and dataset.transform.is_identity:
        return "has no place on the ground: give it coordinates first"
    if "earthprint_encoder" in tags:
        return "embeddings, no scene"
    if dataset.dtypes[0].startswith("complex"):
        return "complex radar: use a detected, terrain-corrected product"
    if dataset.count == 1 and dataset.colorinterp[0].name == "palette":
        return "classes with colours, no scene"
    return ""


def _with_tags(named: Named, tags: dict[str, str]) -> Named:
    """Adds the date from metadata where the name has none or only a vague one."""
    if named.date and not named.vague:
        return named
    for key in _DATE_TAGS:
        value = tags.get(key, "")
        found = find_date(value.replace(":", "-", 2) if key == "tifftag_datetime" else value)
        if found.date and not (named.date and found.vague):
            return replace(named, date=found.date, time=found.time, vague=found.vague)
    return named


def _axes(dataset: rasterio.DatasetReader, path: str) -> tuple[list[Named], list[str]]:
    """Dates and band names along the extra axes of a NetCDF variable; empty lists elsewhere."""
    tags = dataset.tags()
    axes = [a for a in tags.get("NETCDF_DIM_EXTRA", "{}").strip("{}").split(",") if a]
    variable = path.rsplit(":", 1)[-1] if path.upper().startswith("NETCDF:") else ""
    if dataset.driver != "netCDF":
        return [], []
    times: list[Named] = []
    tokens = [variable] * dataset.count
    sizes = [int(re.findall(r"\d+", tags[f"NETCDF_DIM_{a}_DEF"])[0]) for a in axes]
    for axis, name in enumerate(axes):
        values = tags.get(f"NETCDF_DIM_{name}_VALUES", "").strip("{}").split(",")
        index = np.unravel_index(np.arange(dataset.count), sizes)[axis]
        units = tags.get(f"{name}#units", "")
        if " since " in units:
            days = [_since(float(v), units) for v in values]
            times = [Named(date=days[i]) for i in index]
        elif len(values) == sizes[axis]:
            tokens = [values[i].strip() for i in index]
    return times, tokens


def _since(value: float, units: str) -> str:
    """ISO day of a CF time such as 11262 "days since 1990-01-01"; empty where it has no day."""
    step, _, origin = units.partition(" since ")
    seconds = _SECONDS.get(step.strip().lower().rstrip("s"))
    start = day_of(origin.strip()[:10])
    if seconds is None or not start:
        return ""
    clock = re.search(r"[T ](\d\d):(\d\d)", origin)
    begin = dt.datetime.fromisoformat(start)
    if clock:
        begin += dt.timedelta(hours=int(clock[1]), minutes=int(clock[2]))
    return (begin + dt.timedelta(seconds=value * seconds)).date().isoformat()


def _steps(tokens: list[str]) -> tuple[list[int], list[str]]:
    """Time steps of band names such as `B2`, `B2_1`, `B2_2` (Earth Engine exports)."""
    bases = [re.match(r"^(.*[A-Za-z].*?)_(\d{1,3})$", t) for t in tokens]
    plain = {t for t, m in zip(tokens, bases, strict=True) if t and not m}
    counted = [m for m in bases if m and m[1] in plain]
    if not counted:
        return [-1] * len(tokens), tokens
    names = {m[1] for m in counted}
    steps, stripped = [], []
    for token, match in zip(tokens, bases, strict=True):
        in_series = match is not None and match[1] in names
        steps.append(int(match[2]) if in_series else 0 if token in names else -1)
        stripped.append(match[1] if in_series else token)
    return steps, stripped


def _nodata(dataset: rasterio.DatasetReader) -> list[float | None]:
    """Stored nodata of each band.

    GDAL takes the signed default fill of NetCDF for unsigned shorts (32769 instead of 65535).
    """
    values = [None if v is not None and np.isnan(v) else v for v in dataset.nodatavals]
    if dataset.driver == "netCDF" and dataset.dtypes[0] == "uint16":
        return [65535.0 if v == 32769 else v for v in values]
    return values


def _sample(dataset: rasterio.DatasetReader, nodata: list[float | None]) -> list[Stats | None]:
    """Statistics of a small part of each band; all bands in one read where it is cheap."""
    rows, cols = dataset.shape
    side = int(min(_SAMPLE, max(32, (_CELLS / dataset.count) ** 0.5)))
    if max(rows, cols) <= 2 * side or dataset.overviews(1):
        shape = (dataset.count, min(rows, side), min(cols, side))
        values = dataset.read(out_shape=shape).reshape(dataset.count, -1)
    else:
        side //= 3
        windows = [RasterWindow(int((cols - side) * x), int((rows - side) * y), min(side, cols),
                                min(side, rows)) for y in (0.1, 0.5, 0.9) for x in (0.1, 0.5, 0.9)]
        values = np.concatenate(
            [dataset.read(window=w).reshape(dataset.count, -1) for w in windows], axis=1)
    return [_stats(band, missing) for band, missing in zip(values, nodata, strict=True)]


def _stats(values: np.ndarray, nodata: float | None) -> Stats | None:
    """Statistics of the values that are not missing; None where none is left."""
    kept = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    kept = kept if nodata is None else kept[kept != nodata]
    if not kept.size:
        return None
    integers = values.dtype.kind in "iu"
    # without a nodata value, 0 is where nothing was recorded
    present = kept[kept != 0] if integers and nodata is None and kept.any() else kept
    low, median, high = np.percentile(present, (1, 50, 99))
    few = np.unique(kept) if integers else np.empty(0)
    codes = frozenset(int(v) for v in few) if 0 < few.size <= 16 else frozenset()
    return Stats(float(low), float(median), float(high), float(kept.min()), float(kept.max()),
                 codes)
