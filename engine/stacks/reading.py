"""Windows of a stack as cubes: read, brought to the reference grid, scaled, masked."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from ...models.cube import Cube, Series, Weather
from ..errors import UserError
from ..rasters.grid import Grid, Window
from . import masks
from .assembly import lattice_shift
from .resampling import Placement, place, resample
from .scenes import Asset, Scene, file_behind
from .sensors import in_order
from .stack import WEATHER, Stack
from .weather import check_reach, weather_at

_OPEN = 120  # datasets held open; the others are opened for each window
_IMPOSSIBLE = 3.0  # reflectance: more comes of negative numbers read as unsigned


@dataclass(frozen=True)
class _Plan:
    """What to read of one sensor: its bands, and the scenes that share each date and orbit."""

    bands: tuple[str, ...]
    keys: tuple[tuple[str, str], ...]
    scenes: tuple[tuple[Scene, ...], ...]


@dataclass(frozen=True)
class Sight:
    """What the scenes of one sensor hold of each pixel of a window, over all dates.

    Each is (H, W) bool and holds wherever the next one does.

    Attributes:
        inside: a scene covers the pixel.
        some: on some date a band has a value there.
        whole: on some date all bands of the scene have one.
        clear: on some date they have and no mask speaks against it.
    """

    inside: np.ndarray
    some: np.ndarray
    whole: np.ndarray
    clear: np.ndarray


class StackReader:
    """Reads windows of a stack. One reader a thread; close it, or use it in a with-block.

    A pixel of a scene is valid where every band that is read and that the scene has is present
    and finite, and no mask speaks against it. A sensor's series has the union of its scenes'
    bands; a scene that lacks one is NaN there. Scenes of one sensor, day and orbit are laid over
    each other, and the first valid one wins.
    """

    def __init__(
        self, stack: Stack, memory_mb: float = 500, sensors: tuple[str, ...] | None = None,
        bands: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Prepare reading; nothing is opened yet.

        Args:
            stack: what to read.
            memory_mb: budget for one window, see `windows`.
            sensors: only these; None for all.
            bands: sensor to the bands to read; a sensor that is not named is read whole, weather
                only where it is named with its variables or nothing is chosen.

        Raises:
            UserError: weather that is asked for by name does not cover the stack's season.
        """
        self.grid = stack.grid
        self._weather = _weather(stack, sensors, bands)
        self._per_pixel = self.bytes_per_pixel(stack, sensors, bands)
        self._memory = memory_mb * 1e6
        self._plans = _plans(stack, sensors, bands or {})
        self._shared = _shared(self._plans)
        self._open: dict[str, rasterio.DatasetReader] = {}
        self._window_cache: dict[tuple[str, str], dict[int, np.ndarray]] = {}
        self._places: dict[Grid, tuple[int, int] | Placement | None] = {}

    def __enter__(self) -> StackReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for dataset in self._open.values():
            dataset.close()
        self._open.clear()

    @staticmethod
    def bytes_per_pixel(
        stack: Stack, sensors: tuple[str, ...] | None = None,
        bands: dict[str, tuple[str, ...]] | None = None,
    ) -> int:
        """Memory that one pixel of a window needs while it is read, at its peak."""
        plans = _plans(stack, sensors, bands or {})
        cube = sum(len(p.keys) * (4 * len(p.bands) + 1) for p in plans.values())
        shared = sum(4 * len(numbers) for files in _shared(plans).values()
                     for numbers in files.values())
        widest = max((len(p.bands) for p in plans.values()), default=0)
        return cube + shared + 12 * widest

    def windows(self, region: Window | None = None) -> Iterator[Window]:
        """Windows that cover a region of the grid (None: all) and fit into the memory budget."""
        region = region or self.grid.full
        side = int(min(math.sqrt(max(self._memory / max(self._per_pixel, 1), 1)), 1024))
        step = 256 if side >= 256 else 64 if side >= 64 else 1
        side = max(side // step * step, 1)
        for part in self.grid.part(region).blocks(side, side):
            yield Window(region.row + part.row, region.col + part.col, part.rows, part.cols)

    def read(self, window: Window) -> Cube:
        """The cube of a window.

        Raises:
            UserError: a file is missing, damaged or cut short.
        """
        target = self.grid.part(window)
        try:
            series = {sensor: self._series(sensor, plan, target)
                      for sensor, plan in self._plans.items()}
        finally:
            self._window_cache.clear()
            self._places.clear()
        return Cube((window.rows, window.cols), series, self._weather)

    def _series(self, sensor: str, plan: _Plan, target: Grid) -> Series:
        """All observations of one sensor."""
        values = np.full((len(plan.keys), len(plan.bands), *target.shape), np.nan, np.float32)
        valid = np.zeros((len(plan.keys), *target.shape), bool)
        for t, scenes in enumerate(plan.scenes):
            for scene in scenes:
                self._lay(scene, plan.bands, target, values[t], valid[t])
        dates = np.array([date or "NaT" for date, _ in plan.keys], "datetime64[D]")
        return Series(sensor, plan.bands, dates, values, valid, tuple(o for _, o in plan.keys))

    def _lay(self, scene: Scene, bands: tuple[str, ...], target: Grid, values: np.ndarray,
             valid: np.ndarray) -> None:
        """Read one scene and put its valid pixels where none is yet."""
        wanted = self._wanted(scene, bands, target)
        if valid.all() or not wanted:
            return
        first = not valid.any()
        layer = values if first else np.full(values.shape, np.nan, np.float32)
        good = self._fill(wanted, bands, target, layer).all(0)
        for mask in scene.masks:
            good &= masks.valid(mask.mask, self._stored(mask.path, [mask], target)[0])
        if not first:
            take = good & ~valid
            values[:, take] = layer[:, take]
        valid |= good

    def _wanted(self, scene: Scene, bands: tuple[str, ...], target: Grid) -> list[Asset]:
        """The bands of a scene that are read; none where the scene lies elsewhere."""
        wanted = [a for a in scene.data if a.name in bands]
        return wanted if any(self._place(a.grid, target) is not None for a in wanted) else []

    def _fill(self, wanted: list[Asset], bands: tuple[str, ...], target: Grid,
              layer: np.ndarray) -> np.ndarray:
        """Read bands of a scene into their rows of a layer; (wanted, H, W) where they have one."""
        for path, assets in _by_path(wanted).items():
            stored = self._stored(path, assets, target)
            for asset, band in zip(assets, stored, strict=True):
                layer[bands.index(asset.name)] = physical(band, asset)
        return np.isfinite(layer[[bands.index(a.name) for a in wanted]])

    def sight(self, window: Window) -> dict[str, Sight]:
        """Why pixels of a window can or cannot be used, for each sensor; no values are kept.

        Raises:
            UserError: as `read`.
        """
        target = self.grid.part(window)
        try:
            return {sensor: self._sight(plan, target) for sensor, plan in self._plans.items()}
        finally:
            self._window_cache.clear()
            self._places.clear()

    def _sight(self, plan: _Plan, target: Grid) -> Sight:
        """What all scenes of one sensor hold."""
        seen = Sight(*(np.zeros(target.shape, bool) for _ in range(4)))
        layer = np.empty((len(plan.bands), *target.shape), np.float32)
        for scene in (s for scenes in plan.scenes for s in scenes):
            wanted = self._wanted(scene, plan.bands, target)
            if seen.clear.all() or not wanted:
                continue
            for grid in {asset.grid for asset in wanted}:
                seen.inside[:] |= self._inside(grid, target)
            present = self._fill(wanted, plan.bands, target, layer)
            whole, clear = present.all(0), present.all(0)
            for mask in scene.masks:
                codes = self._stored(mask.path, [mask], target)[0]
                whole &= ~masks.filled(mask.mask, codes)
                clear &= masks.valid(mask.mask, codes)
            seen.some[:] |= present.any(0)
            seen.whole[:] |= whole
            seen.clear[:] |= clear
        return seen

    def _inside(self, source: Grid, target: Grid) -> np.ndarray:
        """(H, W) bool: which pixels of a target lie within a source."""
        where = self._place(source, target)
        covered = np.zeros(target.shape, bool)
        if isinstance(where, Placement):
            ones = np.ones((1, where.window.rows, where.window.cols), np.float32)
            return np.isfinite(resample(ones, where, nearest=True)[0])
        if where is not None:
            window, (row, col) = _clip(where, target.shape, source.shape)
            covered[row:row + window.rows, col:col + window.cols] = True
        return covered

    def _stored(self, path: str, assets: list[Asset], target: Grid) -> list[np.ndarray]:
        """Bands of one file as stored, float32 on the target grid, NaN where missing.

        A file that serves several scenes is read once a window, all its bands in one go.
        """
        role = assets[0].role
        if path not in self._shared[role]:
            return list(self._fetch(path, {a.band: a for a in assets}, target))
        key = path, role
        if key not in self._window_cache:
            numbers = self._shared[role][path]
            self._window_cache[key] = dict(
                zip(numbers, self._fetch(path, numbers, target), strict=True))
        return [self._window_cache[key][a.band] for a in assets]

    def _fetch(self, path: str, numbers: dict[int, Asset], target: Grid) -> np.ndarray:
        """Bands of one file on the target grid in one read."""
        asset = next(iter(numbers.values()))
        where = self._place(asset.grid, target)
        if where is None:
            return np.full((len(numbers), *target.shape), np.nan, np.float32)
        if isinstance(where, Placement):
            return resample(self._window(path, numbers, where.window), where,
                            nearest=asset.role == "mask")
        window, (row, col) = _clip(where, target.shape, asset.grid.shape)
        values = self._window(path, numbers, window)
        if values.shape[1:] == target.shape:
            return values
        out = np.full((len(numbers), *target.shape), np.nan, np.float32)
        out[:, row:row + window.rows, col:col + window.cols] = values
        return out

    def _place(self, source: Grid, target: Grid) -> tuple[int, int] | Placement | None:
        """Where the target lies in a source: a shift of whole pixels, a placement, or nowhere."""
        if source not in self._places:
            shift = lattice_shift(target, source)
            if shift is None:
                self._places[source] = place(target, source)
            else:
                inside = _clip(shift, target.shape, source.shape)
                self._places[source] = shift if inside else None
        return self._places[source]

    def _window(self, path: str, numbers: dict[int, Asset], window: Window) -> np.ndarray:
        """Stored values of a window of one file as float32 with NaN for nodata; one read."""
        try:
            dataset = self._dataset(path)
            try:
                stored = dataset.read(
                    list(numbers),
                    window=RasterWindow(window.col, window.row, window.cols, window.rows))
            finally:
                if path not in self._open:
                    dataset.close()
        except (RasterioError, IndexError) as error:
            raise _unreadable(path) from error
        values = stored.astype(np.float32)
        for band, raw, asset in zip(values, stored, numbers.values(), strict=True):
            if asset.nodata is not None:
                band[raw == asset.nodata] = np.nan
        return values

    def _dataset(self, path: str) -> rasterio.DatasetReader:
        """An open file; only so many stay open."""
        if path in self._open:
            return self._open[path]
        dataset = rasterio.open(path)
        if len(self._open) < _OPEN:
            self._open[path] = dataset
        return dataset


def physical(stored: np.ndarray, asset: Asset) -> np.ndarray:
    """Stored values in physical units (reflectance, dB, kelvin); NaN where there are none."""
    values = stored * np.float32(asset.scale) + np.float32(asset.offset)
    if asset.unit in ("power", "amplitude"):
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log10(values) * np.float32(10 if asset.unit == "power" else 20)
        values[~np.isfinite(values)] = np.nan
    elif asset.unit == "reflectance":
        values[np.abs(values) > _IMPOSSIBLE] = np.nan
    return values


def _unreadable(path: str) -> UserError:
    """The sentence for a file that cannot be read."""
    file = Path(file_behind(path))
    if not file.exists():
        return UserError(f"`{file.name}` is not in {file.parent} any more. Put it back or build "
                         "the stack again.")
    return UserError(f"`{file.name}` is damaged or cut short. Copy it again and build the stack "
                     "again.")


def _plans(stack: Stack, sensors: tuple[str, ...] | None,
           bands: dict[str, tuple[str, ...]]) -> dict[str, _Plan]:
    """For each sensor its bands and the scenes of each date and orbit."""
    groups: dict[str, dict[tuple[str, str], list[Scene]]] = defaultdict(lambda: defaultdict(list))
    for scene in stack.scenes:
        if sensors is None or scene.sensor in sensors:
            groups[scene.sensor][scene.date or "", scene.orbit].append(scene)
    plans = {}
    for sensor, dates in sorted(groups.items()):
        union = in_order({b for scenes in dates.values() for s in scenes for b in s.bands})
        kept = tuple(b for b in union if sensor not in bands or b in bands[sensor])
        keys = tuple(sorted(dates))
        plans[sensor] = _Plan(kept, keys, tuple(tuple(dates[k]) for k in keys))
    return plans


def _weather(stack: Stack, sensors: tuple[str, ...] | None,
             bands: dict[str, tuple[str, ...]] | None) -> Weather | None:
    """The stack's weather where it has one and the reader is asked for it."""
    if stack.weather is None or (sensors is not None and WEATHER not in sensors):
        return None
    named = bands is not None and bool(bands.get(WEATHER))
    if bands is not None and not named:
        return None
    found = weather_at(stack.weather, stack.grid, stack.weather_units)
    if named and stack.season():
        check_reach(found, stack.weather.name, *stack.season())
    return found


def _shared(plans: dict[str, _Plan]) -> dict[str, dict[str, dict[int, Asset]]]:
    """Role to the files that several scenes use, with all bands that are wanted of them."""
    users: dict[str, dict[str, set[int]]] = {"data": defaultdict(set), "mask": defaultdict(set)}
    bands: dict[str, dict[str, dict[int, Asset]]] = {
        "data": defaultdict(dict), "mask": defaultdict(dict)}
    for plan in plans.values():
        for scene in (s for scenes in plan.scenes for s in scenes):
            for asset in scene.assets:
                if asset.role == "mask" or asset.name in plan.bands:
                    users[asset.role][asset.path].add(id(scene))
                    bands[asset.role][asset.path][asset.band] = asset
    return {role: {path: dict(sorted(numbers.items())) for path, numbers in files.items()
                   if len(users[role][path]) > 1} for role, files in bands.items()}


def _by_path(assets: list[Asset]) -> dict[str, list[Asset]]:
    """Assets by file, so that each is read once."""
    files: dict[str, list[Asset]] = defaultdict(list)
    for asset in assets:
        files[asset.path].append(asset)
    return files


def _clip(shift: tuple[int, int], shape: tuple[int, int], limit: tuple[int, int]
          ) -> tuple[Window, tuple[int, int]] | None:
    """The part of a window at `shift` that lies within `limit`, and its place in the window."""
    row, col = max(shift[0], 0), max(shift[1], 0)
    rows = min(shift[0] + shape[0], limit[0]) - row
    cols = min(shift[1] + shape[1], limit[1]) - col
    if rows <= 0 or cols <= 0:
        return None
    return Window(row, col, rows, cols), (row - shift[0], col - shift[1])
