"""Stacks: dated scenes of any sensors on one reference grid, as a small file beside the rasters."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid
from . import stac
from .assembly import Selection, assemble, reference_grid
from .masks import RULES
from .scenes import Asset, Scene, file_behind
from .sensors import TITLES, in_order
from .weather import units_in, weather_at

__all__ = ["Asset", "Scene", "Stack", "build_stack", "open_input", "with_weather"]

SENSORS = tuple(TITLES)
#: What `Stack.sensors` calls the weather.
WEATHER = "weather"


@dataclass(frozen=True)
class Stack:
    """Scenes in the order of their dates, and the grid that all are brought to.

    Attributes:
        grid: the reference grid.
        scenes: ascending by date, then sensor.
        path: the file it was read from or written to.
        left_out: (file name, reason) of what was given and is no part of it.
        weather: table or grid of daily weather, see `weather.read_weather`.
        weather_units: (variable, unit) that the weather's file does not state itself.
    """

    grid: Grid
    scenes: tuple[Scene, ...]
    path: Path | None = None
    left_out: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    weather: Path | None = None
    weather_units: tuple[tuple[str, str], ...] = ()

    def sensors(self) -> dict[str, tuple[str, ...]]:
        """Each sensor's data bands of all scenes together, in wavelength order.

        Weather counts as a sensor without bands, since no scene has it.
        """
        bands: dict[str, set[str]] = {}
        for scene in self.scenes:
            bands.setdefault(scene.sensor, set()).update(scene.bands)
        found = {sensor: in_order(names) for sensor, names in sorted(bands.items())}
        return {**found, WEATHER: ()} if self.weather else found

    def season(self) -> list[str]:
        """[first, last] ISO day; empty without dates."""
        days = sorted(s.date for s in self.scenes if s.date)
        return [days[0], days[-1]] if days else []

    def between(self, start: str | None, end: str | None) -> Stack:
        """The scenes from `start` to `end` (ISO days, both included); undated ones stay."""
        kept = tuple(s for s in self.scenes if s.date is None or (
            (start is None or s.date >= start) and (end is None or s.date <= end)))
        return replace(self, scenes=kept)

    def table(self) -> list[dict[str, str]]:
        """What was understood, one row a scene, then what was left out."""
        rows = [_row(scene) for scene in self.scenes]
        empty = dict.fromkeys(("date", "sensor", "bands", "scale and offset", "mask"), "")
        return rows + [{**empty, "file": name, "note": why} for name, why in self.left_out]

    def summary(self) -> str:
        """One line for the log: dates, sensors, what was left out."""
        dates = sorted({s.date for s in self.scenes if s.date})
        days = f"{len(dates)} dates {dates[0]}..{dates[-1]}" if len(dates) > 1 else (
            f"1 date {dates[0]}" if dates else "no date")
        files = len({name for name, _ in self.left_out})
        out = f"; left out, all or in part: {files} file{'s' if files > 1 else ''}" if files else ""
        names = ", ".join(TITLES.get(s, "weather") for s in self.sensors())
        return f"Stack: {days}, {names}{out}"

    def grid_summary(self) -> str:
        """One line for the log: the offset of Sentinel-2, the grid."""
        optical = [s for s in self.scenes if s.sensor == "sentinel-2"]
        moved = sum(any(a.offset == -0.1 for a in s.data) for s in optical)
        offset = f"Offset -1000 applied to {moved} of {len(optical)} scenes. " if optical else ""
        crs = self.grid.crs
        epsg = crs.to_epsg() if crs else None
        name = f"EPSG:{epsg}" if epsg else "of its own" if crs else "without a CRS"
        size = f"{self.grid.pixel_size:.6g} {'°' if crs and crs.is_geographic else 'm'}"
        return f"{offset}Grid {name}, {size}, {self.grid.shape[1]} x {self.grid.shape[0]}"

    def save(self, path: Path | str) -> Stack:
        """Write the stack as a STAC ItemCollection; nothing is left behind on failure.

        Returns:
            The stack with its path.
        """
        path = Path(path)
        document = {
            "type": "FeatureCollection", "stac_version": "1.0.0",
            "features": [stac.item(s, i, path.resolve().parent)
                         for i, s in enumerate(self.scenes)],
            "earthprint:grid": stac.grid_member(self.grid),
            "earthprint:left_out": [list(pair) for pair in self.left_out],
        }
        if self.weather:
            document["earthprint:weather"] = {
                "href": stac.href(str(self.weather), path.resolve().parent),
                "units": dict(self.weather_units)}
        partial = path.with_name(f".{path.name}.part")
        try:
            partial.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise UserError(f"{path} cannot be written: {error.strerror}. "
                            "Choose another folder.") from error
        return replace(self, path=path)

    @classmethod
    def load(cls, path: Path | str) -> Stack:
        """Read a stack that `save` wrote.

        Raises:
            UserError: the file is missing or is no stack.
        """
        path = Path(path)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            folder = path.resolve().parent
            scenes = tuple(stac.scene(f, folder) for f in document["features"])
            grid = stac.grid_of(document["earthprint:grid"])
            left_out = tuple(tuple(pair) for pair in document.get("earthprint:left_out", ()))
            given = document.get("earthprint:weather")
            weather = Path(os.path.normpath(folder / given["href"])) if given else None
            units = tuple(sorted(given["units"].items())) if given else ()
        except OSError as error:
            raise UserError(f"{path} cannot be opened: {error.strerror}. "
                            "Check the path.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"`{path.name}` is not a stack. Make one with Build stack.") from error
        return cls(grid, scenes, path, left_out, weather, units)


def _row(scene: Scene) -> dict[str, str]:
    """One row of the table."""
    scales = {f"{a.scale:.6g}, {a.offset:.6g}" + (f" ({a.unit} to dB)" if a.unit in (
        "power", "amplitude") else "") for a in scene.data}
    files = list(dict.fromkeys(Path(file_behind(a.path)).name for a in scene.assets))
    return {
        "date": scene.date or "", "sensor": scene.sensor, "bands": " ".join(scene.bands),
        "scale and offset": "; ".join(sorted(scales)),
        "mask": ", ".join(dict.fromkeys(RULES[a.mask].title for a in scene.masks)),
        "file": files[0] + (f" and {len(files) - 1} more" if len(files) > 1 else ""),
        "note": scene.note,
    }


def build_stack(
    sources: Iterable[Path | str], *, sensor: str = "auto", dates: Iterable[str] = (),
    mask: str = "auto", grid: str = "finest", bands: Iterable[str] = (),
    weather: Path | str | None = None, weather_units: Mapping[str, str] | str | None = None,
    context: JobContext | None = None,
) -> Stack:
    """Build a stack from rasters, folders (with their subfolders), SAFE products and NetCDF.

    Args:
        sources: files and folders.
        sensor: "auto", or the sensor of all files where names do not tell.
        dates: ISO days, one for each file without a date (or one for each file), in the order
            of the files; they win over what names say.
        mask: "auto", "none", or the kind of every mask (a key of `masks.RULES`).
        grid: "finest", or the path of the raster whose pixels all others are fitted to.
        bands: names for files with just as many bands, where files do not tell or are wrong.
        weather, weather_units: as `with_weather`.
        context: for progress and log.

    Raises:
        UserError: nothing usable, dates missing, no common area, display values, unreadable file.
    """
    context = context or JobContext()
    if sensor != "auto" and sensor not in SENSORS:
        raise UserError(f"Sensor `{sensor}` is unknown. Choose auto or one of "
                        f"{', '.join(SENSORS)}.")
    if mask not in ("auto", "none", *RULES):
        raise UserError(f"Cloud mask `{mask}` is unknown. Choose auto, none or one of "
                        f"{', '.join(RULES)}.")
    choice = Selection(sensor, tuple(dates), mask, tuple(bands))
    scenes, left_out = assemble([Path(os.path.abspath(s)) for s in sources], choice, context)
    reference = reference_grid(scenes, grid)
    stack = Stack(reference, tuple(scenes), None, tuple(left_out))
    if weather:
        stack = with_weather(stack, weather, weather_units, context)
    context.log(stack.summary())
    context.log(stack.grid_summary())
    if not reference.crs_wkt:
        context.warn("The rasters have no coordinate system: hectares and distances take their "
                     "units for metres. Assign one to have them right.")
    return stack


def with_weather(stack: Stack, path: Path | str, units: Mapping[str, str] | str | None,
                 context: JobContext) -> Stack:
    """The stack with a weather table, which is read once to see that it is understood.

    Args:
        stack: without or with other weather.
        path: CSV, NetCDF or a folder of NetCDF files.
        units: variable to unit where the file does not say, also as `temperature=K, wind=m/s`.
        context: for the log.

    Raises:
        UserError: as `weather.read_weather`.
    """
    path, pairs = Path(os.path.abspath(path)), units_in(units)
    found = weather_at(path, stack.grid, pairs, context)
    season = stack.season()
    first, last = found.dates[[0, -1]].astype(str)
    if season and (first > season[0] or last < season[1]):
        context.warn(f"`{path.name}` has weather from {first} to {last}, the rasters reach from "
                     f"{season[0]} to {season[1]}.")
    return replace(stack, weather=path, weather_units=pairs)


def open_input(paths: Iterable[Path | str], context: JobContext | None = None) -> Stack:
    """The stack in a `.stack.json`, or one built silently from rasters and folders.

    Raises:
        UserError: as `Stack.load` and `build_stack`.
    """
    paths = [Path(p) for p in paths]
    if len(paths) == 1 and paths[0].suffix == ".json":
        return Stack.load(paths[0])
    if any(p.suffix == ".json" for p in paths):
        name = next(p.name for p in paths if p.suffix == ".json")
        raise UserError(f"`{name}` is a stack; give it alone, or only rasters.")
    return build_stack(paths, context=context)
