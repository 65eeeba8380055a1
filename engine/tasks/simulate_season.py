"""Job `simulate_season`: the demo's synthetic Sentinel-1/2 season with known truth."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ..context import JobContext
from ..errors import UserError
from ..simulation.files import (
    optical_record,
    radar_record,
    write_labels,
    write_optical,
    write_radar,
    write_record,
    write_truth,
)
from ..simulation.labels import draw_labels
from ..simulation.recipe import load_recipe, stream
from ..simulation.season import Season, draw_season

SMALLEST, LARGEST = 128, 4096
RECORD = "season.json"


def run(params: dict[str, object], context: JobContext) -> dict[str, object]:
    """Write scenes/*.tif, truth.tif, labels.gpkg and season.json into a folder.

    Args:
        params: output (folder; new, empty, or with an earlier season, which is replaced),
            size (pixels of 10 m a side, even, default of the recipe), seed (default of the recipe).
        context: progress, log, cancellation.

    Returns:
        folder, labels, truth: paths.

    Raises:
        UserError: a size or seed out of range, or a folder with other files.
        Cancelled: nothing was written.
    """
    recipe = load_recipe()
    size = _whole(params.get("size", recipe.size_px), "size", SMALLEST, LARGEST)
    seed = _whole(params.get("seed", recipe.seed), "seed", 0, 2**31 - 1)
    if size % 2:
        raise UserError(f"Size {size} is odd, but bands of 20 m need pairs of 10 m pixels. "
                        f"Choose {size + 1}.")
    output = Path(str(params["output"])).absolute()
    _require_free(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        context.progress(0.0, "Drawing the landscape")
        season = draw_season(recipe, size, seed)
        _write(part, season, context)
        _publish(part, output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {"folder": str(output), "labels": str(output / "labels.gpkg"),
            "truth": str(output / "truth.tif")}


def _write(folder: Path, season: Season, context: JobContext) -> None:
    """Write all files of a season."""
    scenes = folder / "scenes"
    scenes.mkdir()
    labels = draw_labels(season, stream(season.seed, "labels"))
    write_truth(folder / "truth.tif", season)
    write_labels(folder / "labels.gpkg", season, labels)
    taken = sorted(season.optical + season.radar, key=lambda a: a.day)
    records: dict[str, list[dict[str, object]]] = {"sentinel-2": [], "sentinel-1": []}
    for done, acquisition in enumerate(taken):
        context.progress(0.03 + 0.97 * done / len(taken),
                         f"Simulating date {done + 1} of {len(taken)}: {acquisition.name}")
        path = scenes / f"{acquisition.name}.tif"
        if acquisition.sensor == "sentinel-2":
            scene = season.see(acquisition)
            context.check()
            write_optical(path, season, scene)
            records["sentinel-2"].append(optical_record(season, acquisition, scene))
        else:
            sigma0 = season.sound(acquisition)
            context.check()
            write_radar(path, season, sigma0)
            records["sentinel-1"].append(radar_record(season, acquisition))
    write_record(folder / RECORD, season, labels, records["sentinel-2"], records["sentinel-1"])
    context.check()
    context.log(
        f"{season.recipe.name}, seed {season.seed}: {len(season.optical)} Sentinel-2 and "
        f"{len(season.radar)} Sentinel-1 dates of {season.truth.shape[1]} x "
        f"{season.truth.shape[0]} pixels, {len(labels)} labelled polygons.")


def _publish(part: Path, output: Path) -> None:
    """Move the finished files into their place; an earlier season makes way."""
    part.chmod(0o755)
    if not output.exists():
        part.rename(output)
        return
    for entry in sorted(part.iterdir()):
        target = output / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        entry.replace(target)


def _require_free(output: Path) -> None:
    """Refuse a folder in which something else lies."""
    if output.is_dir() and any(output.iterdir()) and not (output / RECORD).is_file():
        raise UserError(f"Folder {output} holds other files. Choose a new or an empty folder.")
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file. Choose a folder for the season.")


def _whole(value: object, name: str, least: int, most: int) -> int:
    """A whole number within limits."""
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise UserError(f"The {name} is {value}, but must be a whole number from {least} to "
                        f"{most}.")
    return number
