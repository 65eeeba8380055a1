"""Tiling never shows: every bundled encoder, other windows, threads, extents and rasters."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import seams  # noqa: E402

from earthprint.engine.context import JobContext  # noqa: E402
from earthprint.engine.encoding.encoder import Encoder  # noqa: E402
from earthprint.engine.encoding.pipeline import encode_stack  # noqa: E402
from earthprint.engine.rasters.embeddings import EmbeddingsFile  # noqa: E402
from earthprint.engine.rasters.grid import Window  # noqa: E402

AIM = 0.5  # % of pixels
PATCHES = tuple(e for e in seams.ENCODERS if e not in ("fast", "tessera-student"))


@pytest.fixture(scope="module")
def rasters(shared):
    """Slovenia without two of its dates, which is quick to encode, and Belgium with weather and
    every other date."""
    folder = shared / "data"
    stack, labels = seams.slovenia(folder)
    clear = [s for s in stack.scenes if s.date not in ("2015-07-31", "2015-08-20")]
    fields, crops = seams.belgium(folder)
    optical = [s for s in fields.scenes if s.sensor == "sentinel-2"]
    return {"slovenia": (replace(stack, scenes=tuple(clear)), labels),
            "belgium": (replace(fields, scenes=tuple(optical[::2])), crops)}


def study(rasters, encoder, folder, *more):
    stack, labels = rasters["belgium" if encoder == "mmvsf-small" else "slovenia"]
    return seams.Study(stack, labels, encoder, folder, *more)


@pytest.mark.parametrize("encoder", seams.ENCODERS)
def test_neither_memory_nor_extent_shows_in_the_map(rasters, tmp_path, encoder):
    maps = study(rasters, encoder, tmp_path)
    assert len(np.unique(maps.first)) > 2  # the map has something to lose
    pixels = encoder in ("fast", "tessera-student")
    assert maps.other_windows() <= (0 if pixels else AIM)
    extent, within = maps.other_extent()
    assert extent <= AIM and within <= (0 if pixels else AIM)


@pytest.mark.parametrize("encoder", ["fast", "tessera-student"])
def test_a_raster_that_starts_elsewhere_gives_the_same_pixels(rasters, tmp_path, encoder):
    assert study(rasters, encoder, tmp_path).cut() == (0, 0)


@pytest.fixture(scope="module")
def bouconne(shared):
    """Two dates of the larger raster, with weather."""
    stack, labels = seams.bouconne(shared / "data", True)
    return replace(stack, scenes=stack.scenes[1:3]), labels


def part(stack, row, col, rows, cols):
    return replace(stack, grid=stack.grid.part(Window(row, col, rows, cols)))


@pytest.mark.parametrize("encoder", PATCHES)
def test_a_raster_that_starts_elsewhere_gives_the_same_map_away_from_its_edge(
        bouconne, tmp_path, encoder):
    stack, labels = bouconne
    side = 2 * Encoder.open(encoder).card.window + 40
    place = Window(7, 2, side, side)
    maps = seams.Study(part(stack, 7, 2, side, side), labels[place.slices], encoder, tmp_path)
    assert len(np.unique(maps.first)) > 2
    assert maps.cut()[1] <= AIM


@pytest.mark.parametrize("encoder", PATCHES)
def test_tiles_of_a_mosaic_have_the_same_embeddings_away_from_their_edges(
        bouconne, tmp_path, encoder):
    stack, _ = bouconne
    edge = Encoder.open(encoder).card.window
    side = 2 * edge + 33
    codes = []
    for tile in (part(stack, 0, 0, side, side), part(stack, 13, 21, side, side)):
        path = tmp_path / f"{len(codes)}.tif"
        encode_stack(tile, encoder, path, JobContext(threads=2, folder=tmp_path, device="cpu"),
                     upsampled=True)
        with EmbeddingsFile(path) as file:
            assert file.grid == tile.grid
            codes.append(file.codes(file.grid.full).astype(int))
    one = codes[0][13 + edge : side - edge, 21 + edge : side - edge]
    other = codes[1][edge : side - edge - 13, edge : side - edge - 21]
    assert one.shape == (20, 12, codes[0].shape[2]) and one[..., 0].all()
    assert np.abs(one - other).max() <= 1


def test_the_decoder_shows_no_seams(rasters, tmp_path):
    maps = study(rasters, "fast", tmp_path, "convolutional", "both")
    assert maps.margin >= 4 and maps.other_windows() == 0
    assert maps.other_extent(1 + maps.margin)[1] == 0
