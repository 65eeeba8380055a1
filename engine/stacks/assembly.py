"""From files to scenes: find rasters, join the bands of a sensor and day, choose the grid."""

from __future__ import annotations

import datetime as dt
import os
import zipfile
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath

import rasterio
from rasterio.errors import RasterioError

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid
from .bands import Band, name_bands
from .calibration import calibrate, mask_asset, offset_taken_off
from .layers import Layer, layers_of
from .names import day_of
from .scenes import Asset, Scene, file_behind, lonlat_bounds, metres
from .sensors import in_order

RASTERS = {".tif", ".tiff", ".jp2", ".vrt", ".img", ".nc", ".nc4", ".png", ".jpg", ".ers", ".bil",
           ".bsq", ".dat", ".hdf", ".h5"}
_FOLDER_RASTERS = RASTERS - {".png", ".jpg", ".dat", ".hdf", ".h5"}
_BESIDE = {".gpkg", ".shp", ".shx", ".dbf", ".prj", ".cpg", ".geojson", ".json", ".csv", ".xml",
           ".txt", ".qml", ".md", ".kml", ".gml", ".fgb", ".parquet", ".html", ".pdf", ".ovr",
           ".tfw", ".onnx"}
_PRODUCT_FILES = ("MTD_MSI", "manifest.safe")  # what people click in a SAFE
_SAFE_IMAGES = ("IMG_DATA", "measurement")


@dataclass(frozen=True)
class Selection:
    """What the user said beside the files: sensor, dates, mask and band names."""

    sensor: str
    dates: tuple[str, ...]
    mask: str
    bands: tuple[str, ...]


def discover(sources: list[Path]) -> tuple[list[PurePath], list[tuple[str, str]]]:
    """Raster files in files, folders and ZIP archives, and what was not looked at.

    Raises:
        UserError: a source does not exist, or an archive cannot be opened.
    """
    files: list[PurePath] = []
    ignored: list[tuple[str, str]] = []
    for source in sources:
        source = source.parent if source.name.startswith(_PRODUCT_FILES) else source
        if source.is_dir():
            inside = sorted(p for p in source.rglob("*") if os.path.isfile(p))
            files += [p for p in inside if _wanted(p, source.parent)]
            for archive in (p for p in inside if p.suffix.lower() == ".zip"):
                files += _in_archive(archive)
        elif not source.exists():
            raise UserError(f"{source} does not exist. Check the path.")
        elif source.suffix.lower() == ".zip":
            files += _in_archive(source)
        elif source.suffix.lower() in _BESIDE:
            ignored.append((source.name, "not a raster"))
        else:
            files.append(source)
    return list(dict.fromkeys(files)), ignored


def _wanted(path: PurePath, base: PurePath) -> bool:
    """Whether a file in a folder is a raster to look at; of a SAFE only its images."""
    if path.suffix.lower() not in _FOLDER_RASTERS:
        return False
    if any(part.startswith(".") for part in path.relative_to(base).parts):
        return False
    safe = any(part.upper().endswith(".SAFE") for part in path.parts)
    return not safe or any(image in path.parts for image in _SAFE_IMAGES)


def _in_archive(archive: Path) -> list[PurePath]:
    """The rasters in a ZIP archive, as paths that GDAL reads without unpacking."""
    try:
        with zipfile.ZipFile(archive) as content:
            names = sorted(content.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"`{archive.name}` cannot be opened as a ZIP archive. Copy it again or "
                        "leave it out.") from error
    base = PurePosixPath(f"/vsizip/{{{archive.as_posix()}}}")
    return [base / name for name in names if _wanted(base / name, base)]


def assemble(
    sources: list[Path], choice: Selection, context: JobContext
) -> tuple[list[Scene], list[tuple[str, str]]]:
    """Scenes in the order of dates, and (file name, reason) of what was left out.

    Raises:
        UserError: see `earthprint.engine.stacks.stack.build_stack`.
    """
    files, left_out = discover(sources)
    layers: list[Layer] = []
    for i, file in enumerate(files):
        context.progress(i / len(files), f"Looking at {file.name}")
        found, note = layers_of(file)
        layers += found
        if note:
            left_out.append((file.name, note))
    layers = _with_dates(layers, choice.dates)
    bands, notes = name_bands(layers, choice.sensor, choice.bands, choice.mask)
    bands = [_with_orbit(b) for b in bands]
    groups = _group([b for b in bands if b.role == "data"])
    if not groups:
        raise _nothing(sources, left_out)
    _need_dates(groups)
    masks = [] if choice.mask == "none" else [b for b in bands if b.role == "mask"]
    used: set[str] = set()
    taken_off = offset_taken_off(groups)
    scenes = [_scene(g, masks, notes, used, taken_off) for g in groups]
    scenes = [s for s in scenes if s is not None]
    left_out += [(m.layer.file.name, "mask without a scene of its day")
                 for m in masks if m.layer.path not in used]
    in_scenes = {a.path for s in scenes for a in s.assets}
    left_out += [(Path(file_behind(p)).name, note) for p, note in notes.items()
                 if p not in in_scenes]
    if not scenes:
        raise _nothing(sources, left_out)
    scenes.sort(key=lambda s: (s.date or "", s.sensor, s.orbit))
    return scenes, sorted(set(left_out))


def _nothing(sources: list[Path], left_out: list[tuple[str, str]]) -> UserError:
    """The sentence for input without a single scene."""
    names = ", ".join(f"`{s.name}`" for s in sources[:3])
    why = f" (`{left_out[0][0]}`: {left_out[0][1]})" if left_out else ""
    return UserError(f"{names} holds no raster scenes{why}. Choose GeoTIFF, JPEG 2000 or NetCDF "
                     "rasters that have a place on the ground.")


def _with_dates(layers: list[Layer], dates: tuple[str, ...]) -> list[Layer]:
    """Layers with the dates that the user gave, and with those that time steps have."""
    layers = [_step_date(layer) for layer in layers]
    if not dates:
        return layers
    days = [day_of(d) for d in dates]
    if not all(days):
        wrong = next(d for d, day in zip(dates, days, strict=True) if not day)
        raise UserError(f"`{wrong}` in Dates is no day. Write it as 2024-06-15.")
    files = list(dict.fromkeys(layer.file for layer in layers))
    undated = list(dict.fromkeys(layer.file for layer in layers if not layer.named.date))
    targets = undated if len(undated) == len(days) else files
    if len(targets) != len(days):
        raise UserError(f"Dates has {len(days)} days for {len(undated)} files without a date "
                        f"({len(files)} in all). Give one for each.")
    day_by_file = dict(zip(targets, days, strict=True))
    return [replace(layer, named=replace(layer.named, date=day_by_file[layer.file], vague=False))
            if layer.file in day_by_file else layer for layer in layers]


def _step_date(layer: Layer) -> Layer:
    """The middle of a layer's time step, where the file's name holds the whole span."""
    if layer.step < 0 or not layer.named.span:
        return layer
    first, last = (dt.date.fromisoformat(d) for d in layer.named.span)
    day = first + (last - first) * ((layer.step + 0.5) / layer.steps)
    return replace(layer, named=replace(layer.named, date=day.isoformat()))


def _with_orbit(band: Band) -> Band:
    """Sentinel-1's direction from the local time of day: it passes at about 6 and 18 h."""
    named = band.layer.named
    if band.sensor != "sentinel-1" or named.orbit or len(named.time) < 4:
        return band
    box = _lonlat(band.layer.grid)
    if box is None or max(abs(box[1]), abs(box[3])) > 65:
        return band
    local = (int(named.time[:2]) + int(named.time[2:4]) / 60 + (box[0] + box[2]) / 30) % 24
    orbit = "ascending" if local >= 12 else "descending"
    return replace(band, layer=replace(band.layer, named=replace(named, orbit=orbit)))


@lru_cache(maxsize=256)
def _lonlat(grid: Grid) -> tuple[float, float, float, float] | None:
    """Bounds in degrees, remembered."""
    return lonlat_bounds(grid)


def _group(bands: list[Band]) -> list[list[Band]]:
    """Bands that make up one scene: same sensor, day, orbit, tile and time, each name once."""
    days: dict[tuple, dict[str, list[Band]]] = defaultdict(lambda: defaultdict(list))
    for band in bands:
        named = band.layer.named
        days[band.sensor, named.date, named.orbit][band.layer.path].append(band)
    scenes: list[list[Band]] = []
    for files in days.values():
        here: list[list[Band]] = []
        for file in files.values():
            if not any(_join(scene, file) for scene in here):
                here.append(_unique(file))
        scenes += here
    return scenes


def _unique(file: list[Band]) -> list[Band]:
    """The first band of each name in a file."""
    return list({band.name: band for band in reversed(file)}.values())[::-1]


def _join(scene: list[Band], file: list[Band]) -> bool:
    """Add a file's bands to a scene where they belong to it; the finer of two bands wins."""
    a, b = scene[0].layer, file[0].layer
    for mine, theirs in ((a.named.tile, b.named.tile), (a.named.time, b.named.time)):
        if mine and theirs and mine != theirs:
            return False
    if not overlap(a.grid, b.grid):
        return False
    names = {band.name: i for i, band in enumerate(scene)}
    same = [band for band in file if band.name in names]
    sizes = {band.name: metres(scene[names[band.name]].layer.grid) for band in same}
    if any(0.75 < metres(band.layer.grid) / sizes[band.name] < 1.33 for band in same):
        return False
    for band in file:
        if band.name not in names:
            scene.append(band)
        elif metres(band.layer.grid) < sizes[band.name]:
            scene[names[band.name]] = band
    return True


def overlap(a: Grid, b: Grid) -> bool:
    """Whether two grids have a common area."""
    if a.crs_wkt == b.crs_wkt:
        first, second = a.bounds, b.bounds
    else:
        first, second = _lonlat(a), _lonlat(b)
        if first is None or second is None:
            return False
    return (first[0] < second[2] and second[0] < first[2]
            and first[1] < second[3] and second[1] < first[3])


def _need_dates(groups: list[list[Band]]) -> None:
    """Scenes without a date can only be alone: one a sensor, and no dated ones beside."""
    undated = list(dict.fromkeys(g[0].layer.file.name for g in groups
                                 if not g[0].layer.named.date))
    if not undated:
        return
    sensors = [g[0].sensor for g in groups]
    if len(sensors) == len(set(sensors)) and all(not g[0].layer.named.date for g in groups):
        return
    more = f" and {len(undated) - 1} more" if len(undated) > 1 else ""
    raise UserError(f"No date in `{undated[0]}`{more}. Put it in the name (2024-06-15) or in "
                    "Dates.")


def _scene(
    group: list[Band], masks: list[Band], notes: dict[str, str], used: set[str], taken_off: bool
) -> Scene | None:
    """One scene with its masks; None where no band can be used."""
    named = group[0].layer.named
    date = named.date
    assets, words = calibrate(group, date, taken_off)
    if not assets:
        first = group[0].layer
        notes[first.path] = "; ".join(words) or "no usable band"
        return None
    order = in_order({a.name for a in assets})
    assets.sort(key=lambda a: order.index(a.name))
    mine = _masks_of(group, masks)
    used.update(m.layer.path for m in mine)
    paths = dict.fromkeys(a.path for a in assets)
    words += [notes[p] for p in paths if p in notes]
    if named.vague and date:
        words.append("the date is a month or a year only")
    elif named.span and not any(b.layer.steps > 1 for b in group):
        words.append(f"{named.span[0]}..{named.span[1]}, dated by its middle")
    tracks = {b.layer.named.track for b in group} - {0}
    return Scene(
        group[0].sensor, date or None, named.orbit, (*assets, *(mask_asset(m) for m in mine)),
        "; ".join(dict.fromkeys(words)), tracks.pop() if len(tracks) == 1 else 0, named.tile,
    )


def _masks_of(group: list[Band], masks: list[Band]) -> list[Band]:
    """The masks of a scene: the finest of each kind of the same day, tile, time and place."""
    named, sensor = group[0].layer.named, group[0].sensor
    best: dict[str, Band] = {}
    for mask in masks:
        theirs = mask.layer.named
        # an index without a sensor shares the masks of the bands that it was made of
        fits = (theirs.date == named.date and sensor != "sentinel-1"
                and (mask.sensor in ("", sensor) or sensor == "optical")
                and (not theirs.tile or not named.tile or theirs.tile == named.tile)
                and (not theirs.time or not named.time or theirs.time == named.time)
                and overlap(mask.layer.grid, group[0].layer.grid))
        known = best.get(mask.name)
        if fits and (known is None or metres(mask.layer.grid) < metres(known.layer.grid)):
            best[mask.name] = mask
    return list(best.values())


def reference_grid(scenes: list[Scene], choice: str) -> Grid:
    """The grid that all scenes are brought to: the lattice of one raster, wide enough for all
    rasters on the same lattice.

    Args:
        scenes: all scenes.
        choice: "finest", or the path of a raster (whose own extent is kept).

    Raises:
        UserError: scenes without a common area, or the chosen raster cannot be read.
    """
    if choice != "finest":
        grid = _grid_of_file(Path(choice))
        _check_overlap(Path(choice).name, [grid], scenes)
        return grid
    anchor = min((a for s in scenes for a in s.data), key=lambda a: round(metres(a.grid), 3))
    home = next(s for s in scenes if anchor in s.assets)
    same_day = [s.grid for s in scenes if _day(s) == _day(home)]
    _check_overlap(_name(anchor), same_day, scenes)
    return _union(anchor.grid, [a.grid for s in scenes for a in s.data])


def _day(scene: Scene) -> tuple[str, str | None, str]:
    """What scenes that are laid over each other have in common."""
    return scene.sensor, scene.date, scene.orbit


def _check_overlap(name: str, grids: list[Grid], scenes: list[Scene]) -> None:
    """Stops where all that a sensor saw on a day lies apart from the grids of the raster `name`."""
    days: dict[tuple, list[Scene]] = defaultdict(list)
    for scene in scenes:
        days[_day(scene)].append(scene)
    for group in days.values():
        if not any(overlap(scene.grid, grid) for scene in group for grid in grids):
            raise UserError(f"`{name}` and `{_name(group[0].data[0])}` have no common area. "
                            "Remove one.")


def _name(asset: Asset) -> str:
    """The file name of an asset."""
    return Path(file_behind(asset.path)).name


def _grid_of_file(path: Path) -> Grid:
    """The grid of any raster."""
    try:
        with rasterio.open(path) as dataset:
            return Grid.of(dataset)
    except RasterioError as error:
        raise UserError(f"`{path.name}` cannot be read as a raster. Choose another reference "
                        "grid.") from error


def _union(grid: Grid, others: list[Grid]) -> Grid:
    """A grid on the same lattice that covers all others of that lattice."""
    rows, cols = [0, grid.shape[0]], [0, grid.shape[1]]
    for other in set(others):
        shift = lattice_shift(other, grid)
        if shift is not None:
            rows += [shift[0], shift[0] + other.shape[0]]
            cols += [shift[1], shift[1] + other.shape[1]]
    origin = grid.affine @ (min(cols), min(rows))
    a, b, _, d, e, _ = grid.transform
    return Grid(grid.crs_wkt, (a, b, origin[0], d, e, origin[1]),
                (max(rows) - min(rows), max(cols) - min(cols)))


def lattice_shift(grid: Grid, reference: Grid) -> tuple[int, int] | None:
    """(row, column) of a grid's first pixel in another's; None where their pixels do not
    coincide (to a hundredth of a pixel over the whole grid).
    """
    if grid.crs_wkt != reference.crs_wkt and grid.crs != reference.crs:
        return None
    inverse = ~reference.affine
    col, row = inverse @ (grid.transform[2], grid.transform[5])
    end = inverse @ (grid.affine @ grid.shape[::-1])
    shift = round(row), round(col)
    expected = (shift[1] + grid.shape[1], shift[0] + grid.shape[0])
    off = max(abs(col - shift[1]), abs(row - shift[0]), abs(end[0] - expected[0]),
              abs(end[1] - expected[1]))
    a, b, _, d, e, _ = grid.transform
    ra, rb, _, rd, re_, _ = reference.transform
    size = reference.pixel_size
    turned = max(abs(a - ra), abs(b - rb), abs(d - rd), abs(e - re_)) > 0.01 * size
    return None if off > 0.01 or turned else shift
