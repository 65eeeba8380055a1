"""From files, folders and addresses to sources: formats are recognised from the files, or named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import UserError
from . import geotiff, patches, tessera, tessera_zarr
from .source import Source

#: Words for the formats; "auto" recognises them.
FORMATS = (tessera.FORMAT, geotiff.TESSERA, tessera_zarr.FORMAT, geotiff.ALPHAEARTH,
           patches.FORMAT, geotiff.NUMBERS)

_RASTERS = (".tif", ".tiff", ".vrt")


def open_sources(inputs: Sequence[str], kind: str, year: int | None,
                 warn: Callable[[str], None], check: Callable[[], None]) -> list[Source]:
    """All sources of one year in files, folders (with all that they hold) and addresses.

    Args:
        inputs: paths or https addresses.
        kind: "auto" or one of `FORMATS`.
        year: to take; None where there is only one.
        warn: told about files in folders that hold no embeddings.
        check: called for each file; may raise to stop.

    Raises:
        UserError: nothing found, a file that is not what it should be, several years.
    """
    if kind not in ("auto", *FORMATS):
        raise UserError(f"There is no format {kind}. Choose auto or one of {', '.join(FORMATS)}.")
    sources, left_out = [], []
    for place, chosen in _files(inputs):
        check()
        found = _open(place, kind, year)
        if found is None and chosen:
            raise UserError(
                f"{place} is not recognised as embeddings"
                f"{'' if kind == 'auto' else f' of the format {kind}'}. Formats: a raster of two "
                "or more float bands, AlphaEarth, GeoTessera (npy, GeoTIFF, Zarr v3), GeoParquet "
                "with a column embedding. Embeddings files of Earthprint need no import.")
        sources += found or []
        left_out += [] if found is not None else [Path(place).name]
    if left_out:
        warn(f"{len(left_out)} files are no embeddings and were left out: "
             f"{', '.join(left_out[:5])}{' ...' if len(left_out) > 5 else ''}.")
    if not sources:
        raise UserError("No embeddings were found in the input. Choose other files or folders.")
    return _of_year(sources, year)


def _files(inputs: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Places that may hold embeddings, and whether the user named just this one."""
    for given in inputs:
        if tessera_zarr.is_address(given):
            yield given, True
            continue
        path = Path(given)
        if not path.exists():
            raise UserError(f"{given} does not exist. Choose another file or folder.")
        if path.is_file() or (path / "zarr.json").is_file():
            yield str(path), True
            continue
        for folder, below, names in os.walk(path):
            below.sort()
            if "zarr.json" in names:
                below.clear()
                yield folder, False
                continue
            for name in sorted(names):
                file = Path(folder, name)
                if not name.startswith(".") and _may_hold(file):
                    yield str(file), False


def _may_hold(file: Path) -> bool:
    ending = file.suffix.lower()
    if ending == ".npy":
        return file.with_name(f"{file.stem}_scales.npy").is_file() or tessera.is_tile(file)
    return ending in patches.ENDINGS or (ending in _RASTERS and not tessera.is_tile(file))


def _open(place: str, kind: str, year: int | None) -> list[Source] | None:
    """Sources of one place; None where it holds none of the format."""
    path = Path(place)
    if tessera_zarr.is_address(place) or path.is_dir():
        return tessera_zarr.open_store(place) if kind in ("auto", tessera_zarr.FORMAT) else None
    ending = path.suffix.lower()
    if ending == ".npy":
        return [tessera.TileSource(path)] if kind in ("auto", tessera.FORMAT) else None
    if ending in patches.ENDINGS:
        return patches.open_patches(path, year) if kind in ("auto", patches.FORMAT) else None
    opened = geotiff.open_raster(path)
    if opened is None or kind not in ("auto", opened[0]):
        return None
    return [opened[1]]


def _of_year(sources: list[Source], year: int | None) -> list[Source]:
    years = sorted({s.origin.year for s in sources if s.origin.year})
    if year is None:
        if len(years) > 1:
            raise UserError(f"The input holds the years {', '.join(map(str, years))}. Choose one "
                            "with Year.")
        return sources
    chosen = [s for s in sources if s.origin.year in (None, year)]
    if not chosen:
        raise UserError(f"The input holds {', '.join(map(str, years))}, not {year}. Choose another "
                        "year.")
    return chosen
