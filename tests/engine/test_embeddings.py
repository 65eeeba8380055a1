"""The embeddings format: codes, overviews, layout, damage."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.crs import CRS

from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.rasters.embeddings import (
    DATES_TAG,
    ENCODER_TAG,
    EmbeddingsFile,
    EmbeddingsWriter,
    dequantise,
    quantise,
)
from earthprint.engine.rasters.grid import Grid, Window

UTM = CRS.from_epsg(32631).to_wkt()
SCALE = 0.5 / 127


def unit(shape, dims, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(*shape, dims)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def codes_of(vectors):
    return quantise(vectors.reshape(-1, vectors.shape[-1]), SCALE).reshape(vectors.shape)


def write(path, codes, transform=(10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6), wkt=UTM):
    grid = Grid(wkt, transform, codes.shape[:2])
    tags = {ENCODER_TAG: "fast@1.0#abcd", DATES_TAG: "2024-05-01,2024-06-01"}
    with EmbeddingsWriter(path, grid, codes.shape[2], SCALE, tags) as out:
        for block in grid.blocks(256, 512):
            out.write(block.row, block.col, codes[block.slices])
    return path


@settings(deadline=None)
@given(arrays(np.float32, (3, 8), elements=st.floats(-1, 1, width=32)))
def test_codes_are_within_half_a_step_or_clipped(vectors):
    codes = quantise(vectors, SCALE)
    assert codes.min() >= 1
    inside = np.abs(vectors) <= 127 * SCALE
    error = np.abs(dequantise(codes, SCALE) - vectors)
    assert (error[inside] <= SCALE / 2 + 1e-6).all()
    assert (codes[vectors > 128 * SCALE] == 255).all()
    assert (codes[vectors < -128 * SCALE] == 1).all()


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 600), cols=st.integers(1, 600), dims=st.sampled_from([1, 3, 16]))
def test_what_was_written_is_read_by_us_and_by_gdal(tmp_path_factory, rows, cols, dims):
    codes = np.random.default_rng(rows).integers(1, 256, (rows, cols, dims)).astype(np.uint8)
    codes[: rows // 2, : cols // 3] = 0
    path = write(tmp_path_factory.mktemp("e") / "e.tif", codes)
    window = Window(rows // 3, cols // 4, rows - rows // 3, cols - cols // 4)
    with EmbeddingsFile(path) as file:
        assert (file.codes(file.grid.full) == codes).all()
        assert (file.codes(window) == codes[window.slices]).all()
    with rasterio.open(path) as dataset:
        assert (np.moveaxis(dataset.read(), 0, -1) == codes).all()


def test_the_file_says_what_it_is(tmp_path):
    path = write(tmp_path / "e.tif", codes_of(unit((300, 520), 64)))
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.profile["interleave"] == "pixel" and dataset.nodata == 0
        assert dataset.overviews(1) == [2, 4]
        assert dataset.scales[5] == SCALE and dataset.offsets[5] == -128 * SCALE
        assert dataset.crs.to_epsg() == 32631 and dataset.transform.c == 5e5
    content = path.read_bytes()
    assert int.from_bytes(content[8:16], "little") % 2 == 0  # the first directory, as TIFF asks for
    with EmbeddingsFile(path) as file:
        assert file.encoder == "fast@1.0#abcd" and file.dates == ("2024-05-01", "2024-06-01")
        vectors, valid = file.vectors(Window(0, 0, 300, 520))
    assert valid.all()
    assert np.median(np.abs(np.linalg.norm(vectors, axis=-1) - 1)) < 0.002


def test_overviews_are_means_of_the_valid_vectors_normalised_again(tmp_path):
    vectors = unit((400, 400), 16)
    codes = codes_of(vectors)
    codes[100:103, 200:205] = 0
    path = write(tmp_path / "e.tif", codes)
    with rasterio.open(path, overview_level=0) as half:
        got = np.moveaxis(half.read(), 0, -1)
    exact = dequantise(codes, SCALE) * (codes[..., :1] != 0)
    mean = exact.reshape(200, 2, 200, 2, 16).sum((1, 3))
    norm = np.linalg.norm(mean, axis=-1, keepdims=True)
    assert (got[50, 100:102] == 0).all()
    some = norm[..., 0] > 0
    expected = mean[some] / norm[some]
    inside = np.abs(expected) < 126 * SCALE
    assert np.abs(dequantise(got[some], SCALE) - expected)[inside].max() <= SCALE / 2 + 1e-6


@pytest.mark.parametrize("transform", [(10.0, 0.0, 5e5, 0.0, 10.0, 5e6),
                                       (7.0, 3.0, 5e5, 3.0, -7.0, 5e6)])
def test_south_up_and_rotated_grids_survive(tmp_path, transform):
    path = write(tmp_path / "e.tif", codes_of(unit((20, 30), 4)), transform)
    with EmbeddingsFile(path) as file:
        assert file.grid.transform == pytest.approx(transform)


def test_pixels_without_data_take_no_space(tmp_path):
    empty = write(tmp_path / "e.tif", np.zeros((2000, 2000, 16), np.uint8))
    assert empty.stat().st_size < 20000
    with EmbeddingsFile(empty) as file:
        assert not file.codes(Window(1500, 10, 20, 20)).any()


def test_a_copy_in_another_layout_is_read_all_the_same(tmp_path):
    codes = codes_of(unit((40, 50), 8))
    path = write(tmp_path / "e.tif", codes)
    other = tmp_path / "other.tif"
    rasterio.shutil.copy(path, other, driver="GTiff", interleave="band", compress="deflate")
    with EmbeddingsFile(other) as file:
        assert (file.codes(Window(3, 5, 20, 30)) == codes[3:23, 5:35]).all()


def test_stopping_leaves_nothing(tmp_path):
    grid = Grid(UTM, (10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6), (300, 300))
    with pytest.raises(Cancelled), EmbeddingsWriter(
            tmp_path / "e.tif", grid, 4, SCALE, {ENCODER_TAG: "x"}) as out:
        out.write(0, 0, codes_of(unit((256, 256), 4)))
        raise Cancelled
    assert not list(tmp_path.iterdir())


def test_a_damaged_or_foreign_file_is_a_sentence(tmp_path):
    path = write(tmp_path / "e.tif", codes_of(unit((600, 600), 16)))
    raw = bytearray(path.read_bytes())
    raw[-5000:-2000] = bytes(3000)
    path.write_bytes(raw)
    with EmbeddingsFile(path) as file, pytest.raises(UserError, match="damaged at tile 9 of 9"):
        file.codes(file.grid.full)
    with rasterio.open(tmp_path / "dem.tif", "w", driver="GTiff", width=2, height=2, count=1,
                       dtype="uint8", transform=rasterio.Affine(1, 0, 0, 0, -1, 0)):
        pass
    with pytest.raises(UserError, match="not embeddings"):
        EmbeddingsFile(tmp_path / "dem.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(UserError, match="cannot be opened"):
        EmbeddingsFile(tmp_path / "text.tif")
