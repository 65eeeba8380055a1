"""Windows of patches over a raster, and the way back to pixels."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.encoding.encoder import Encoder
from earthprint.engine.encoding.patches import Lattice, spans, window
from earthprint.engine.encoding.upsampling import upsample
from earthprint.engine.rasters.embeddings import (
    ENCODER_TAG,
    EmbeddingsFile,
    EmbeddingsWriter,
    dequantise,
    quantise,
)
from earthprint.engine.rasters.grid import Grid, Window
from earthprint.models.cube import Cube, Series

ENCODER = "maestro-small"
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
GRID = Grid("", (10, 0, 0, 0, -10, 0), (70, 50))


@given(st.integers(1, 400), st.integers(1, 40), st.integers(0, 8), st.integers(-99, 99))
def test_every_patch_is_taken_once_and_never_from_a_margin(count, size, margin, origin):
    size += 2 * margin
    cut = spans(count, size, margin, origin)
    taken = [patch for span in cut for patch in range(span.first, span.stop)]
    assert taken == list(range(count))
    for span in cut:
        assert span.start <= span.first and span.stop <= span.start + size
        if count > size:
            assert span.start >= 0 and span.start + size <= count  # nothing made up beyond
        assert span.first - span.start >= margin or span.first == 0
        assert span.start + size - span.stop >= margin or span.stop == count


@given(st.integers(1, 400), st.integers(1, 40), st.integers(0, 8), st.integers(-99, 99))
def test_windows_go_over_into_each_other(count, size, margin, origin):
    size += 2 * margin
    total, cut = np.zeros(count, int), spans(count, size, margin, origin)
    for span in cut:
        weights = span.weights(count, size, margin)
        assert (weights >= 0).all() and (np.abs(np.diff(weights)) <= max(2 * margin, 1)).all()
        inside = weights[: count - span.start]
        total[span.start : span.start + size] += inside
        own = inside[span.first - span.start : span.stop - span.start]
        assert (own > 0).all()
    far = all(b.first - a.first >= 2 * margin for a, b in zip(cut[1:], cut[2:], strict=False))
    assert (total == 2 * margin + 1).all() if far else (total > 0).all()


@given(st.integers(1, 12), st.integers(0, 4), st.integers(-99, 99), st.integers(0, 60),
       st.integers(0, 60))
def test_axes_that_start_elsewhere_take_patches_from_the_same_windows(size, margin, origin, less,
                                                                      later):
    size += 2 * margin
    count = 3 * size + less

    def windows(count, origin):
        return {span_patch + origin: span.start + origin for span in spans(
            count, size, margin, origin) for span_patch in range(span.first, span.stop)}

    one, other = windows(count, origin), windows(count, origin + later)
    for patch in range(origin + later + size, origin + count - size):
        assert one[patch] == other[patch]


@pytest.mark.parametrize(("transform", "first", "before"), [
    ((10, 0, 0, 0, -10, 0), (0, 0), (0, 0)),
    ((1, 0, 0, 0, 1, 0), (0, 0), (0, 0)),  # no georeference
    ((10, 0, 130, 0, -10, 60), (-2, 3), (2, 1)),
    ((10, 0, 130, 0, 10, 60), (1, 3), (2, 1)),  # south-up
    ((0, 10, 130, 10, 0, 60), (3, 1), (1, 2)),  # rotated
    ((30, 0, 285, 0, -30, 105), (-1, 2), (0, 1)),  # half a pixel beside
])
def test_patches_are_counted_from_the_origin_of_the_coordinates(transform, first, before):
    grid = Grid("", transform, (9, 11))
    found = Lattice.of(grid, 4)
    assert (found.first, found.before) == (first, before)
    assert found.grid.shape == (-(-(before[0] + 9) // 4), -(-(before[1] + 11) // 4))
    corner = found.grid.affine @ (0, 0)
    assert corner == pytest.approx(grid.affine @ (-before[1], -before[0]))
    assert found.pixels(found.grid.full) == grid.full
    row, col = (4 - n for n in before)
    assert found.pixels(Window(1, 1, 1, 1)) == Window(row, col, 4, 4)


@given(st.integers(-999, 999), st.integers(-999, 999), st.sampled_from([0, 0.25, 0.5, 0.4]),
       st.integers(1, 16), st.sampled_from([30.0, 9.99479222007154, 1 / 3600]))
def test_rasters_of_the_same_pixels_have_the_same_patches(row, col, beside, patch, size):
    whole = Grid("", (size, 0, size * (5e4 + beside), 0, -size, size * (5e5 - beside)), (90, 80))
    part = whole.part(Window(row, col, 30, 20))
    one, other = Lattice.of(whole, patch), Lattice.of(part, patch)
    for ours, theirs, shift, first, second in zip(
            one.first, other.first, (row, col), one.before, other.before, strict=True):
        assert ours * patch + first + shift == theirs * patch + second


def test_a_window_beyond_the_edge_is_invalid_there():
    values = np.arange(2 * 3 * 5 * 6, dtype=np.float32).reshape(2, 3, 5, 6)
    dates = np.array(["2024-01-01", "2024-02-01"], "datetime64[D]")
    series = Series("sentinel-2", ("red", "nir", "green"), dates, values,
                    np.ones((2, 5, 6), bool), ("", ""))
    cut = window(Cube((5, 6), {"sentinel-2": series}), 3, 4, 4)
    found = cut.series["sentinel-2"]
    assert cut.shape == (4, 4) and found.values.shape == (2, 3, 4, 4)
    assert np.array_equal(found.values[:, :, :2, :2], values[:, :, 3:, 4:])
    assert found.valid.sum() == 2 * 2 * 2 and np.isnan(found.values[:, :, 2:]).all()


def test_a_window_before_the_first_pixel_is_invalid_there():
    values = np.arange(5 * 6, dtype=np.float32).reshape(1, 1, 5, 6)
    series = Series("sentinel-2", ("red",), np.array(["2024-01-01"], "datetime64[D]"), values,
                    np.ones((1, 5, 6), bool), ("",))
    found = window(Cube((5, 6), {"sentinel-2": series}), -3, -1, 4).series["sentinel-2"]
    assert np.array_equal(found.values[0, 0, 3:, 1:], values[0, 0, :1, :3])
    assert found.values.shape == (1, 1, 4, 4) and found.valid.sum() == 3


@pytest.mark.parametrize("patch", [2, 4, 8])
def test_upsampling_is_bilinear_between_the_middles_of_patches(tmp_path, patch):
    coarse = GRID.coarser(patch)
    angle = np.add.outer(np.arange(coarse.shape[0]) * 0.02, np.arange(coarse.shape[1]) * 0.03)
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    codes = quantise(vectors.reshape(-1, 2).astype(np.float32), 1 / 127).reshape(vectors.shape)
    codes[1, 2] = 0
    tags = {ENCODER_TAG: "x@1#0"}
    with EmbeddingsWriter(tmp_path / "p.tif", coarse, 2, 1 / 127, tags) as out:
        out.write(0, 0, codes)
    count = upsample(tmp_path / "p.tif", GRID, patch, tmp_path / "u.tif", tags, JobContext())
    with EmbeddingsFile(tmp_path / "u.tif") as file:
        assert file.grid == GRID
        fine = file.codes(GRID.full)
    row, col = (np.arange(n) for n in GRID.shape)
    gap = (row // patch == 1)[:, None] & (col // patch == 2)
    assert np.array_equal(fine[..., 0] == 0, gap) and count == (~gap).sum()
    place = [((np.arange(n) + 0.5) / patch - 0.5).clip(0, size - 1)
             for n, size in zip(GRID.shape, coarse.shape, strict=True)]
    wanted = np.add.outer(place[0] * 0.02, place[1] * 0.03)
    found = np.arctan2(*np.moveaxis(dequantise(fine, 1 / 127), -1, 0)[::-1])
    near = (abs(row[:, None] / patch - 1.5) < 1.6) & (abs(col / patch - 2.5) < 1.6)
    assert np.abs(found - wanted)[~near].max() < 0.02


@pytest.fixture(scope="module")
def season(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patches")
    rng = np.random.default_rng(0)
    for date in ("20230315", "20230701", "20230925"):
        place = rng.integers(400, 3000, (10, 17, 19)).repeat(8, 1).repeat(8, 2)
        with rasterio.open(folder / f"S2A_MSIL2A_{date}T105031_N0400_R051_T31UFS.tif", "w",
                           driver="GTiff", width=150, height=131, count=10, dtype="uint16",
                           nodata=0, crs="EPSG:32631",
                           transform=Affine(10, 0, 5e5, 0, -10, 5.6e6)) as out:
            scene = place[:, :131, :150].copy()
            scene[:, :40, :40] = 0
            out.write(scene.astype(np.uint16))
            for band, name in enumerate(BANDS, 1):
                out.set_band_description(band, name)
    return folder


def encode(season, output, **params):
    jobs.run("encode", {"input": [str(season)], "output": str(output), "encoder": ENCODER,
                        **params}, JobContext())
    with EmbeddingsFile(output) as file:
        return file.codes(file.grid.full), file.grid


def test_a_patch_encoder_gives_the_same_whatever_the_memory_and_the_extent(season, tmp_path):
    whole, grid = encode(season, tmp_path / "a.tif", memory_mb=2000, threads=2)
    card = Encoder.open(ENCODER).card
    assert grid.shape == (-(-131 // card.patch), -(-150 // card.patch))
    assert grid.transform[0] == 10 * card.patch and grid.transform[2] == 5e5
    gone = 40 // card.patch
    assert not whole[:gone, :gone].any() and (whole[gone + 1 :, gone + 1 :, 0] != 0).all()
    little, _ = encode(season, tmp_path / "b.tif", memory_mb=1, threads=1)
    assert np.abs(whole.astype(int) - little).max() <= 1
    part, there = encode(season, tmp_path / "c.tif",
                         extent=[500605, 5599005, 501195, 5599395, "EPSG:32631"])
    col, row = (round(v) for v in ~grid.affine @ (there.transform[2], there.transform[5]))
    own = whole[row : row + there.shape[0], col : col + there.shape[1]]
    assert np.abs(part.astype(int) - own).max() <= 1


def test_upsampling_starts_within_a_patch_where_the_raster_does(tmp_path):
    whole, tags = GRID.coarser(4), {ENCODER_TAG: "x@1#0"}
    angle = np.add.outer(np.arange(whole.shape[0]) * 0.02, np.arange(whole.shape[1]) * 0.03)
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(-1, 2)
    with EmbeddingsWriter(tmp_path / "p.tif", whole, 2, 1 / 127, tags) as out:
        out.write(0, 0, quantise(vectors.astype(np.float32), 1 / 127).reshape(*whole.shape, 2))
    fine = []
    for place in (GRID.full, Window(3, 6, 40, 30)):
        upsample(tmp_path / "p.tif", GRID.part(place), 4, tmp_path / "u.tif", tags, JobContext())
        with EmbeddingsFile(tmp_path / "u.tif") as file:
            fine.append(file.codes(file.grid.full))
    assert np.array_equal(fine[0][3:43, 6:36], fine[1])


def test_patches_can_come_back_to_the_pixels_of_the_rasters(season, tmp_path):
    fine, grid = encode(season, tmp_path / "a.tif", upsample=True)
    assert grid.shape == (131, 150) and grid.transform[0] == 10
    assert not fine[:36, :36].any() and (fine[48:, 48:, 0] != 0).all()
    assert [p.name for p in tmp_path.glob("*.tif")] == ["a.tif"]
