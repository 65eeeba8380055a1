"""Tiling never shows: every bundled encoder, other windows, threads and extents."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import seams  # noqa: E402

AIM = 0.5  # % of pixels


@pytest.fixture(scope="module")
def rasters(shared):
    """Slovenia without two of its dates, which is quick to encode, and Belgium with weather."""
    folder = shared / "data"
    stack, labels = seams.slovenia(folder)
    clear = [s for s in stack.scenes if s.date not in ("2015-07-31", "2015-08-20")]
    return {"slovenia": (replace(stack, scenes=tuple(clear)), labels),
            "belgium": seams.belgium(folder)}


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
    assert study(rasters, encoder, tmp_path).cut() == 0


def test_the_decoder_shows_no_seams(rasters, tmp_path):
    maps = study(rasters, "fast", tmp_path, "convolutional", "both")
    assert maps.margin >= 4 and maps.other_windows() == 0
    assert maps.other_extent(1 + maps.margin)[1] == 0
