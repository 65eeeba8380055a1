"""Other people's embeddings: formats with known values, mosaics, seams, and what is refused."""

import json
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import rasterio.shutil
import shapely
from rasterio.crs import CRS
from rasterio.warp import transform

from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.imports.geotiff import decode_alphaearth
from earthprint.engine.imports.recognition import FORMATS, open_sources
from earthprint.engine.imports.tessera import snapped, tessera_origin, tile_grid
from earthprint.engine.jobs import run
from earthprint.engine.rasters.embeddings import ATTRIBUTION_TAG, CENTER_TAG, EmbeddingsFile

UTM = CRS.from_epsg(32631)


@pytest.fixture
def samples(shared):
    return shared / "golden" / "tessera" / "format_samples"


@pytest.fixture
def expected(samples):
    """The tensors of expected.safetensors: a length, a header in JSON, raw values."""
    raw = (samples / "expected.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    return {name: np.frombuffer(data[slice(*about["data_offsets"])], np.float32).reshape(
        about["shape"]) for name, about in header.items() if name != "__metadata__"}


def opened(*inputs, kind="auto", year=None):
    return open_sources([str(i) for i in inputs], kind, year, lambda text: None, lambda: None)


def read(source):
    """All vectors of a source, NaN where there is none."""
    vectors, valid = source.read(source.grid.full)
    source.close()
    return np.where(valid[..., None], vectors, np.nan)


def imported(inputs, output, warnings=None, **params):
    log = [] if warnings is None else warnings
    context = JobContext(on_log=lambda level, text: log.append(text) if level == "warning" else 0)
    return run("import_embeddings", {"input": [str(i) for i in inputs], "output": str(output),
                                     **params}, context)


def stored(path):
    """(rows, cols, dims) vectors of an embeddings file, NaN where there is none, and the file."""
    with EmbeddingsFile(path) as file:
        vectors, valid = file.vectors(file.grid.full)
        return np.where(valid[..., None], vectors, np.nan), file


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def numbers(shape, dims, seed=0):
    return np.random.default_rng(seed).normal(0.2, 1, (*shape, dims)).astype(np.float32)


def geotiff(path, vectors, left=5e5, top=5.8e6, crs=UTM, size=10.0, nodata=None, up=1,
            names=None, tags=None):
    """A float raster of (rows, cols, dims); `up` -1 stores it south-up."""
    rows, cols, dims = vectors.shape
    affine = rasterio.Affine(size, 0, left, 0, -size * up, top if up > 0 else top - rows * size)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", width=cols, height=rows, count=dims, crs=crs,
                       dtype=vectors.dtype, transform=affine, nodata=nodata) as out:
        out.write(np.moveaxis(vectors[::up], -1, 0))
        out.update_tags(**(tags or {}))
        for band, name in enumerate(names or (), 1):
            out.set_band_description(band, name)
    return path


def tile(folder, name, vectors, year=2024, metadata=None):
    """A GeoTessera tile of (rows, cols, 128) at its own place, without a landmask."""
    place = folder / "global_0.1_degree_representation" / str(year) / name
    place.mkdir(parents=True, exist_ok=True)
    scales = (np.abs(vectors).max(-1) / 127).astype(np.float32)
    np.save(place / f"{name}.npy", np.rint(vectors / scales[..., None]).astype(np.int8))
    np.save(place / f"{name}_scales.npy", scales)
    if metadata:
        (folder / "tessera_metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    return place / f"{name}.npy"


# --- published formats, by their samples ------------------------------------------------------

def test_grids_of_tile_names(samples):
    for name, known in json.loads((samples / "tile_grids.json").read_text()).items():
        grid = tile_grid(*map(float, name.split("_")))
        assert grid.crs.to_epsg() == known["epsg"]
        assert grid.shape == (known["height"], known["width"])
        assert grid.transform[2] == pytest.approx(known["origin_e"], abs=1e-3)
        assert grid.transform[5] == pytest.approx(known["origin_n"], abs=1e-3)
        left, top = snapped(grid).transform[2], snapped(grid).transform[5]
        assert left % 10 == 0 and top % 10 == 0
        assert 0 <= known["origin_e"] - left < 10 and 0 <= top - known["origin_n"] < 10
        assert snapped(snapped(grid)) == snapped(grid)


def test_geotessera_numpy(samples, expected, tmp_path):
    (source,) = opened(samples / "npy")
    vectors, known = read(source), expected["npy_first8"]
    water = np.isnan(known[..., 0])
    empty = (known == 0).all(-1)
    assert np.isnan(vectors[water | empty]).all() and water.sum() == 3 and empty.sum() == 2
    rest = ~(water | empty)
    np.testing.assert_allclose(vectors[rest][:, :8], known[rest], rtol=1e-6)
    np.testing.assert_allclose(vectors[5, 6], expected["npy_pixel_5_6"], rtol=1e-6)
    assert source.origin.encoder == "tessera@1.1#cambridge" and source.origin.year == 2024

    made = imported([samples / "npy"], tmp_path / "e.tif")
    ours, file = stored(tmp_path / "e.tif")
    assert made["pixels"] == rest.sum() and (np.isnan(ours[..., 0]) == ~rest).all()
    assert np.abs(ours[rest] - unit(vectors[rest])).max() <= 0.5001 * file.scale
    assert np.abs(ours[5, 6] - unit(expected["npy_pixel_5_6"])).max() <= 0.5001 * file.scale
    assert file.encoder == "tessera@1.1#cambridge"
    assert file.dates == ("2024-01-01", "2024-12-31") == tuple(made["season"])
    assert file.grid.transform == (10, 0, 300930, 0, -10, 5776130)  # on the 10 m grid again


def test_geotessera_geotiff(samples, expected):
    (source,) = opened(samples / "geotiff")
    vectors, known = read(source), expected["npy_first8"]
    np.testing.assert_allclose(vectors[2:], known[2:], rtol=1e-6)
    assert np.isnan(vectors[0, :3]).all()
    assert source.grid.transform == (10, 0, 300930, 0, -10, 5776130)
    assert source.origin.encoder.startswith("tessera@1.1#cambridge-")  # a choice of dimensions


def test_alphaearth_lies_the_same_either_way_up(samples, expected, tmp_path):
    files = {}
    for name in ("bottom_up", "top_down"):
        (source,) = opened(samples / "aef" / f"{name}.tiff")
        vectors = read(source)[::-1 if name == "bottom_up" else 1]
        np.testing.assert_allclose(np.moveaxis(vectors[..., :8], -1, 0),
                                   expected["aef_top_down_first8"], rtol=1e-5)
        np.testing.assert_allclose(vectors[0, 0], expected["aef_pixel_0_0"], rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), expected["aef_norms"],
                                   rtol=1e-5)
        imported([samples / "aef" / f"{name}.tiff"], tmp_path / f"{name}.tif", year=2024)
        files[name], file = stored(tmp_path / f"{name}.tif")
        assert file.grid.transform == (10, 0, 500000, 0, -10, 5800000)
    np.testing.assert_array_equal(files["bottom_up"], files["top_down"])
    known = unit(expected["aef_pixel_0_0"])
    assert np.abs(files["top_down"][0, 0] - known).max() <= 0.5001 * file.scale
    with rasterio.open(tmp_path / "top_down.tif") as dataset:
        assert "Google DeepMind" in dataset.tags()[ATTRIBUTION_TAG]


def test_zarr_with_years_as_a_dimension(samples, expected, tmp_path):
    store = samples / "zarr_geoemb.zarr"
    with pytest.raises(UserError, match="2024, 2025"):
        opened(store)
    (source,) = opened(store, year=2024)
    np.testing.assert_allclose(read(source)[..., :4], expected["zarr_geoemb_2024_first4"],
                               rtol=1e-6)
    assert source.origin.encoder == "tessera@2.0#unknown" and source.grid.shape == (32, 32)
    imported([store], tmp_path / "e.tif", year=2025)
    ours, file = stored(tmp_path / "e.tif")
    known = unit(expected["zarr_geoemb_2025_pixel_1_2"])
    assert np.abs(ours[1, 2] - known).max() <= 0.5001 * file.scale
    assert file.grid.transform == (10, 0, 500000, 0, -10, 160)


def test_zarr_with_a_store_a_year(samples, expected):
    (source,) = opened(samples / "zarr_convention_v1_2024.zarr")
    vectors, known = read(source), expected["zarr_v1_first4"]
    zero = (known == 0).all(-1)  # a scale of 0: no direction, so no embedding
    np.testing.assert_allclose(vectors[~zero][:, :4], known[~zero], rtol=1e-6)
    assert np.isnan(vectors[zero]).all()
    assert source.origin.year == 2024 and source.origin.encoder == "tessera@1.0#vultr"
    assert source.grid.crs.to_epsg() == 32630


class Ranges(SimpleHTTPRequestHandler):
    """A web server that gives parts of files, as those that hold Zarr stores do."""

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data, wanted = path.read_bytes(), self.headers.get("Range", "")
        first, last, status = 0, len(data) - 1, 200
        if wanted:
            start, end = wanted.removeprefix("bytes=").split("-")
            status = 206
            first = int(start) if start else len(data) - int(end)
            last = min(int(end), last) if start and end else last
        self.send_response(status)
        self.send_header("Content-Length", str(last + 1 - first))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def log_message(self, *_):
        pass


@pytest.fixture
def served(samples):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(samples)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_zarr_from_an_address(served, expected, tmp_path):
    (source,) = opened(f"{served}/zarr_geoemb.zarr", year=2024)
    np.testing.assert_allclose(read(source)[..., :4], expected["zarr_geoemb_2024_first4"],
                               rtol=1e-6)
    extent = [500100.0, 0.0, 500200.0, 100.0, "EPSG:32631"]
    imported([f"{served}/zarr_geoemb.zarr"], tmp_path / "e.tif", year=2025, extent=extent)
    ours, file = stored(tmp_path / "e.tif")
    assert file.grid.shape == (10, 10) and file.grid.transform[2] == 500100
    (zone,) = opened(f"{served}/zarr_geoemb.zarr/utm31", year=2024)
    np.testing.assert_array_equal(read(zone), read(source))
    with pytest.raises(UserError, match="cannot be opened as a Zarr v3 store"):
        opened(f"{served}/nothing.zarr")


def test_an_address_stands_beside_files_or_alone(served, tmp_path):
    more = {"year": 2025, "extent": [500100.0, 0.0, 500200.0, 100.0, "EPSG:32631"]}
    imported([f"{served}/zarr_geoemb.zarr"], tmp_path / "a.tif", **more)
    imported([], tmp_path / "b.tif", address=f" {served}/zarr_geoemb.zarr ", **more)
    np.testing.assert_array_equal(stored(tmp_path / "a.tif")[0], stored(tmp_path / "b.tif")[0])
    with pytest.raises(UserError, match="Give embeddings files or the address"):
        imported([], tmp_path / "c.tif")


# --- other rasters and patches ----------------------------------------------------------------

def test_alphaearth_codes_are_signed_squares():
    codes = np.arange(-127, 128, dtype=np.int8).reshape(1, 15, 17)
    vectors, valid = decode_alphaearth(codes)
    assert valid.all() and not decode_alphaearth(np.full((1, 1, 1), -128, np.int8))[1].any()
    back = np.rint(np.sign(vectors) * np.sqrt(np.abs(vectors)) * 127.5)
    np.testing.assert_array_equal(back, codes)
    assert vectors.max() == pytest.approx((127 / 127.5) ** 2) == -vectors.min()


@pytest.mark.parametrize("up", [1, -1])
def test_any_float_raster(tmp_path, up):
    vectors = numbers((40, 50), 12)
    vectors[3, 4] = -9999
    vectors[5, 6, 2] = np.nan
    vectors[7, 8] = 0
    warnings = []
    path = geotiff(tmp_path / "some_2023.tif", vectors, nodata=-9999, up=up)
    made = imported([path], tmp_path / "e.tif", warnings)
    ours, file = stored(tmp_path / "e.tif")
    rest = np.ones((40, 50), bool)
    rest[[3, 5, 7], [4, 6, 8]] = False
    assert (np.isfinite(ours[..., 0]) == rest).all() and made["pixels"] == rest.sum()
    assert np.abs(ours[rest] - unit(vectors[rest])).max() <= 0.5001 * file.scale
    assert made["season"] == ["2023-01-01", "2023-12-31"]
    assert any("which encoder" in text for text in warnings)
    assert not list(tmp_path.glob(".*"))


def test_center_and_scale_are_measured(tmp_path):
    vectors = numbers((300, 310), 32)
    vectors[:, :, 3] += 4
    made = imported([geotiff(tmp_path / "a.tif", vectors)], tmp_path / "e.tif")
    with rasterio.open(tmp_path / "e.tif") as dataset:
        center = np.array(dataset.tags()[CENTER_TAG].split(","), float)
    mean = unit(vectors).reshape(-1, 32).mean(0)
    assert center.shape == (32,) and np.abs(center - mean).max() < 0.02
    assert made["clipped"] < 1e-4
    _, file = stored(tmp_path / "e.tif")
    largest = np.abs(unit(vectors)).max()
    assert largest / 127 / 1.2 < file.scale <= 1 / 127


def patches(path, xy, vectors, crs=None, days=None, column="embedding", **columns):
    """A GeoParquet file of points; degrees unless a CRS is given."""
    geo = {"version": "1.1.0", "primary_column": "geometry",
           "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Point"],
                                    **({"crs": crs.to_dict(projjson=True)} if crs else {})}}}
    table = pa.table({
        "geometry": shapely.to_wkb(shapely.points(xy)),
        column: [v.tolist() for v in vectors],
        **({"date": days} if days else {}), **columns})
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path,
                   row_group_size=7)
    return path


def utm_centres(rows, cols, step=320.0):
    y, x = np.mgrid[0:rows, 0:cols]
    return np.stack([500160 + x.ravel() * step, 5800160 - y.ravel() * step], 1)


def test_patches_on_a_grid(tmp_path):
    vectors = numbers((5, 6), 384)
    xy = np.stack(transform(UTM, CRS.from_epsg(4326), *utm_centres(5, 6).T), 1)
    order = np.random.default_rng(1).permutation(30)[:-1]  # one patch is missing
    path = patches(tmp_path / "31UDT_2024.parquet", xy[order], vectors.reshape(30, -1)[order])
    made = imported([path], tmp_path / "e.tif")
    ours, file = stored(tmp_path / "e.tif")
    assert made["pixels"] == 29 and file.grid.shape == (5, 6)
    assert file.grid.crs == UTM and file.grid.transform[0] == pytest.approx(320, abs=0.1)
    assert file.grid.transform[2] == pytest.approx(500000, abs=0.5)
    there = np.isfinite(ours[..., 0])
    assert there.sum() == 29
    assert np.abs(ours[there] - unit(vectors[there])).max() <= 0.5001 * file.scale


def test_patches_of_one_year(tmp_path):
    xy, vectors = utm_centres(3, 4), numbers((12,), 16)
    path = patches(tmp_path / "clay_v1.5.gpq", np.tile(xy, (2, 1)),
                   np.concatenate([vectors, -vectors]), UTM, ["2023-06-01"] * 12 +
                   ["2024-06-03"] * 12, "embeddings")
    with pytest.raises(UserError, match="2023, 2024"):
        opened(path)
    made = imported([path], tmp_path / "e.tif", year=2024)
    ours, file = stored(tmp_path / "e.tif")
    assert np.abs(ours.reshape(12, -1) + unit(vectors)).max() <= 0.5001 * file.scale
    assert made["encoder"] == "clay@1.5#16"


def test_patches_off_a_grid_are_refused(tmp_path):
    xy = np.random.default_rng(0).uniform(0, 10, (40, 2))
    with pytest.raises(UserError, match="do not lie on one regular grid"):
        opened(patches(tmp_path / "a.parquet", xy, numbers((40,), 8)))
    same = np.concatenate([utm_centres(2, 3), utm_centres(2, 3)])
    with pytest.raises(UserError, match="several patches of one year at one place"):
        opened(patches(tmp_path / "b.parquet", same, numbers((12,), 8), UTM))


# --- mosaics ----------------------------------------------------------------------------------

def test_tiles_become_one_mosaic_and_seams_are_measured(tmp_path):
    vectors = numbers((30, 60), 16)
    names = [f"d{i}" for i in range(16)]
    geotiff(tmp_path / "in" / "a.tif", vectors[:, :40], names=names)
    geotiff(tmp_path / "in" / "b.tif", vectors[:, 30:], left=5e5 + 300, names=names)
    warnings = []
    made = imported([tmp_path / "in"], tmp_path / "e.tif", warnings)
    ours, file = stored(tmp_path / "e.tif")
    assert file.grid.shape == (30, 60) and made["pixels"] == 1800
    assert np.abs(ours - unit(vectors)).max() <= 0.5001 * file.scale
    (seam,) = made["seams"]
    assert seam["pixels"] == 300 and abs(seam["distance"]) < 1e-6
    assert not any("differ" in text for text in warnings)

    geotiff(tmp_path / "in" / "b.tif", numbers((30, 30), 16, 5), left=5e5 + 300, names=names)
    made = imported([tmp_path / "in"], tmp_path / "e.tif", warnings)
    ours, file = stored(tmp_path / "e.tif")
    assert made["seams"][0]["distance"] > 0.5
    assert any("a.tif and b.tif differ where they overlap" in text for text in warnings)
    assert np.abs(ours[:, :40] - unit(vectors[:, :40])).max() <= 0.5001 * file.scale


def test_tiles_of_two_zones_take_the_nearest_vectors(tmp_path):
    vectors = np.zeros((80, 80, 4), np.float32)
    vectors[..., 0], vectors[40:, :, 1] = 1, 1
    (x,), (y,) = transform(UTM, CRS.from_epsg(32632), [5e5 + 400], [5.8e6 - 400])
    geotiff(tmp_path / "in" / "a.tif", vectors)
    geotiff(tmp_path / "in" / "b.tif", vectors[:60, :60], x - 400, y + 400, CRS.from_epsg(32632))
    made = imported([tmp_path / "in"], tmp_path / "e.tif")
    ours, file = stored(tmp_path / "e.tif")
    assert file.grid.crs == UTM and made["seams"][0]["pixels"] > 1000
    there = ours[np.isfinite(ours[..., 0])]
    first, second = unit(np.array([[1, 0, 0, 0], [1, 1, 0, 0]], np.float32))
    off = np.minimum(np.abs(there - first).max(1), np.abs(there - second).max(1))
    assert off.max() <= 0.5001 * file.scale  # either vector, never one between

    imported([tmp_path / "in" / "a.tif"], tmp_path / "d.tif", crs="EPSG:4326")
    ours, file = stored(tmp_path / "d.tif")
    assert file.grid.crs.to_epsg() == 4326
    assert 0.8 < np.isfinite(ours[..., 0]).mean() <= 1


def test_rotated_rasters_lend_the_pixel_under_each_centre(tmp_path):
    vectors = numbers((40, 40), 5)
    path = geotiff(tmp_path / "a.tif", vectors)
    turned = rasterio.Affine.translation(5e5, 5.8e6) @ rasterio.Affine.rotation(
        30) @ rasterio.Affine.scale(10, -10)
    with rasterio.open(path, "r+") as dataset:
        dataset.transform = turned
    imported([path], tmp_path / "e.tif")
    ours, file = stored(tmp_path / "e.tif")
    rows, cols = np.nonzero(np.isfinite(ours[..., 0]))
    assert 0.95 < len(rows) / 1600 < 1.05
    u, v = ~turned @ (file.grid.affine @ (cols + 0.5, rows + 0.5))
    known = unit(vectors)[np.floor(v).astype(int), np.floor(u).astype(int)]
    assert np.abs(ours[rows, cols] - known).max() <= 0.5001 * file.scale


def test_an_area_in_degrees_is_cut_out(tmp_path):
    vectors = numbers((100, 120), 5)
    (west, east), (south, north) = transform(UTM, CRS.from_epsg(4326), [500205, 500395],
                                             [5799605, 5799795])
    imported([geotiff(tmp_path / "a.tif", vectors)], tmp_path / "e.tif",
             extent=[west, south, east, north, "EPSG:4326"])
    ours, file = stored(tmp_path / "e.tif")
    assert file.grid.transform[2] == 500200 and file.grid.transform[5] == 5799800
    assert file.grid.shape == (20, 20)
    assert np.abs(ours - unit(vectors)[20:40, 20:40]).max() <= 0.5001 * file.scale


def test_northern_zones_reach_south_of_the_equator(tmp_path):
    """TESSERA's stores number southern pixels with negative northings of the northern zone."""
    vectors = numbers((30, 30), 6)
    geotiff(tmp_path / "in" / "north.tif", vectors[:20], top=-500.0)
    geotiff(tmp_path / "in" / "south.tif", vectors[10:], top=1e7 - 600, crs=CRS.from_epsg(32731))
    made = imported([tmp_path / "in"], tmp_path / "e.tif", crs="EPSG:32731")
    ours, file = stored(tmp_path / "e.tif")
    assert file.grid.shape == (30, 30) and file.grid.transform[5] == pytest.approx(1e7 - 500)
    assert np.abs(ours - unit(vectors)).max() <= 0.5001 * file.scale
    assert made["seams"][0]["pixels"] == 300 and abs(made["seams"][0]["distance"]) < 1e-6


def test_large_mosaics_are_read_by_parts(tmp_path):
    vectors = numbers((600, 530), 8)
    vectors[:300, :270] = np.nan
    path = geotiff(tmp_path / "a.tif", vectors)
    imported([path], tmp_path / "whole.tif")
    imported([path], tmp_path / "parts.tif", memory_mb=1)
    whole, parts = stored(tmp_path / "whole.tif"), stored(tmp_path / "parts.tif")
    assert whole[1].scale == parts[1].scale
    np.testing.assert_array_equal(whole[0], parts[0])
    assert (np.isnan(whole[0][..., 0]) == np.isnan(vectors[..., 0])).all()


def test_tiles_without_landmask_and_a_scale_that_cannot_be(tmp_path):
    grid = tile_grid(0.15, 52.05)
    vectors = np.broadcast_to(numbers((1, 1), 128), (*grid.shape, 128)).copy()
    path = tile(tmp_path, "grid_0.15_52.05", vectors, metadata={"dataset_version": "1.0"})
    scales = path.with_name("grid_0.15_52.05_scales.npy")
    wrong = np.load(scales)
    wrong[0, :3] = 3e38, np.inf, -1
    np.save(scales, wrong)
    (source,) = opened(tmp_path)
    _, valid = source.read(source.grid.full)
    assert source.grid == snapped(grid) and source.origin.encoder == "tessera@1.0#vultr"
    assert (~valid).sum() == 3 and not valid[0, :3].any()


@pytest.mark.parametrize(("version", "variant", "path", "encoder"), [
    ("v1", "", "x.zarr", "tessera@1.0#vultr"),
    ("", "", "npy/v1.1-cam/2024/grid", "tessera@1.1#cambridge"),
    ("2.0", "", "zarr/v2-2B-L~beta1/", "tessera@2.0#2B-L~beta1"),
    ("tessera 1.1", "", "https://x/zarr/v1.1-dclimate", "tessera@1.1#dclimate"),
    ("", "", "somewhere", "tessera@unknown#unknown"),
])
def test_encoders_are_named_by_version_and_variant(version, variant, path, encoder):
    assert tessera_origin(version, variant, path, 2024).encoder == encoder


# --- what is refused --------------------------------------------------------------------------

def test_versions_are_never_mixed(tmp_path):
    vectors, names = numbers((20, 20), 128), [f"Tessera_Band_{i}" for i in range(128)]
    for folder, version in (("a", "1.0"), ("b", "1.1")):
        geotiff(tmp_path / folder / "t_2024.tif", vectors, names=names,
                tags={"TESSERA_DATASET_VERSION": version, "TESSERA_DATASET_VARIANT": "cambridge"})
    with pytest.raises(UserError, match=r"1\.0#cambridge.*1\.1#cambridge.*cannot be compared"):
        imported([tmp_path / "a", tmp_path / "b"], tmp_path / "e.tif")
    assert not (tmp_path / "e.tif").exists()


def test_years_are_never_mixed(tmp_path):
    for year in (2023, 2024):
        geotiff(tmp_path / "in" / f"t_{year}.tif", numbers((20, 20), 8, year))
    with pytest.raises(UserError, match="holds the years 2023, 2024. Choose one"):
        imported([tmp_path / "in"], tmp_path / "e.tif")
    with pytest.raises(UserError, match="holds 2023, 2024, not 2020"):
        imported([tmp_path / "in"], tmp_path / "e.tif", year=2020)
    imported([tmp_path / "in"], tmp_path / "e.tif", year=2023)
    ours, file = stored(tmp_path / "e.tif")
    assert np.abs(ours - unit(numbers((20, 20), 8, 2023))).max() <= 0.5001 * file.scale


def test_odd_files_are_sentences(tmp_path):
    small = tmp_path / "small.tif"
    geotiff(small, numbers((8, 8), 1))
    with pytest.raises(UserError, match="not recognised as embeddings"):
        opened(small)
    with pytest.raises(UserError, match="does not exist"):
        opened(tmp_path / "nothing")
    with pytest.raises(UserError, match="No embeddings were found"):
        opened(tmp_path)
    with pytest.raises(UserError, match="no coordinate reference system"):
        opened(geotiff(tmp_path / "bare.tif", numbers((8, 8), 3), crs=None))
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(UserError, match="cannot be opened as a raster"):
        opened(tmp_path / "text.tif")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UserError, match="cannot be read as GeoParquet"):
        opened(tmp_path / "text.parquet")
    pq.write_table(pa.table({"lon": [1.0]}), tmp_path / "manifest.parquet")
    with pytest.raises(UserError, match="not recognised as embeddings"):
        opened(tmp_path / "manifest.parquet")
    with pytest.raises(UserError, match="no format shapefile"):
        opened(small, kind="shapefile")
    good = geotiff(tmp_path / "good.tif", numbers((8, 8), 3))
    with pytest.raises(UserError, match="not recognised as embeddings of the format alphaearth"):
        opened(good, kind="alphaearth")
    assert len(opened(good, kind="geotiff")) == 1
    with pytest.raises(UserError, match="no common area"):
        imported([good], tmp_path / "e.tif", extent=[0, 0, 1000, 1000, "EPSG:32631"])
    with pytest.raises(UserError, match="would overwrite good.tif, which Input reads"):
        imported([good], good)
    with pytest.raises(UserError, match="CRS EPSG:1 is not understood"):
        imported([good], tmp_path / "e.tif", crs="EPSG:1")
    empty = geotiff(tmp_path / "empty.tif", np.full((8, 8, 3), np.nan, np.float32))
    with pytest.raises(UserError, match="no valid pixel"):
        imported([empty], tmp_path / "e.tif")
    fine = geotiff(tmp_path / "fine.tif", numbers((8, 8), 3), size=1.0)
    with pytest.raises(UserError, match=r"A pixel of fine\.tif covers 0\.01 pixels"):
        imported([good, fine], tmp_path / "e.tif")
    assert not (tmp_path / "e.tif").exists()


def test_truncated_tiles_are_sentences(tmp_path):
    grid = tile_grid(0.15, 52.05)
    path = tile(tmp_path, "grid_0.15_52.05", np.ones((*grid.shape, 128), np.float32))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="incomplete or not a NumPy file"):
        opened(path)
    np.save(path, np.ones((10, 10, 128), np.int8))
    with pytest.raises(UserError, match="does not belong to"):
        opened(path)
    np.save(path.with_name("grid_0.15_52.05_scales.npy"), np.ones((10, 10), np.float32))
    with pytest.raises(UserError, match=r"10 x 10 pixels, its\s+landmask or name gives 1139 x 729"):
        opened(path)
    path.with_name("grid_0.15_52.05_scales.npy").unlink()
    with pytest.raises(UserError, match="beside it"):
        opened(path)


def test_a_truncated_raster_is_a_sentence_and_leaves_nothing(tmp_path):
    (tmp_path / "out").mkdir()
    path = geotiff(tmp_path / "a.tif", numbers((300, 300), 8))
    cog = tmp_path / "cog.tif"
    rasterio.shutil.copy(path, cog, driver="COG")
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(UserError, match="cannot be opened as a raster"):
        opened(path)
    cog.write_bytes(cog.read_bytes()[:-100_000])
    with pytest.raises(UserError, match="damaged or incomplete"):
        imported([cog], tmp_path / "out" / "e.tif")
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_store_is_a_sentence(samples, tmp_path):
    store = tmp_path / "broken.zarr"
    shutil.copytree(samples / "zarr_geoemb.zarr", store)
    shard = store / "utm31" / "embeddings" / "c" / "0" / "0" / "0" / "0"
    shard.chmod(0o644)
    raw = bytearray(shard.read_bytes())
    raw[: len(raw) // 2] = bytes(len(raw) // 2)
    shard.write_bytes(raw)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="cannot be read at row 0"):
        imported([store], tmp_path / "out" / "e.tif", year=2024)
    assert not list((tmp_path / "out").iterdir())
    meta = store / "zarr.json"
    meta.chmod(0o644)
    meta.write_text("{")
    with pytest.raises(UserError, match="cannot be opened as a Zarr v3 store"):
        opened(store)


def test_stopping_leaves_nothing(tmp_path):
    (tmp_path / "out").mkdir()
    path = geotiff(tmp_path / "a.tif", numbers((700, 700), 8))
    steps = []
    context = JobContext(on_progress=lambda share, text: steps.append(text),
                         is_cancelled=lambda: any("Importing" in text for text in steps))
    with pytest.raises(Cancelled):
        run("import_embeddings", {"input": [str(path)], "output": str(tmp_path / "out" / "e.tif")},
            context)
    assert any("Importing" in text for text in steps)
    assert not list((tmp_path / "out").iterdir())


def test_putting_the_file_in_order_can_be_stopped(tmp_path):
    """Overviews and the copy look at least once a tile, of which one takes milliseconds."""
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "e.tif"
    job = {"input": [str(geotiff(tmp_path / "a.tif", numbers((700, 700), 8)))],
           "output": str(output)}
    asked = []
    run("import_embeddings", job, JobContext(is_cancelled=lambda: asked.append(1)))
    output.unlink()
    overviews, copied = 2 * 2 + 1, 3 * 3 + 2 * 2 + 1
    for last in range(len(asked) - overviews - copied, len(asked)):
        answers = iter([False] * last + [True])
        with pytest.raises(Cancelled):
            run("import_embeddings", job, JobContext(is_cancelled=partial(next, answers)))
        assert not list((tmp_path / "out").iterdir())


# --- afterwards -------------------------------------------------------------------------------

def test_what_was_imported_can_be_grouped(tmp_path):
    vectors = numbers((64, 64), 16) * 0.1
    vectors[:, :32, 0] += 3
    vectors[:, 32:, 1] += 3
    imported([geotiff(tmp_path / "a_2024.tif", vectors)], tmp_path / "e.tif")
    made = run("cluster_embeddings", {"input": [str(tmp_path / "e.tif")], "clusters": 2,
                                      "output": str(tmp_path / "groups.tif")}, JobContext())
    with rasterio.open(made["output"]) as dataset:
        groups = dataset.read(1)
    assert len(np.unique(groups[:, :32])) == len(np.unique(groups[:, 32:])) == 1
    assert groups[0, 0] != groups[0, -1]
    assert list(made["season"]) == ["2024-01-01", "2024-12-31"]


@pytest.mark.parametrize(("place", "more"), [
    ("npy", {}), ("aef/bottom_up.tiff", {"year": 2024}), ("zarr_geoemb.zarr", {"year": 2025}),
])
def test_what_was_imported_can_be_searched(samples, tmp_path, place, more):
    """The best are those of float64 on the vectors as published, less the background's mean."""
    (source,) = opened(samples / place, **more)
    vectors = unit(read(source).astype(float))
    if "bottom_up" in place:
        vectors = vectors[::-1]
    made = imported([samples / place], tmp_path / "e.tif", **more)
    with EmbeddingsFile(tmp_path / "e.tif") as file:
        affine, wkt = file.grid.affine, file.grid.crs_wkt
    with rasterio.open(tmp_path / "e.tif") as dataset:
        centred = unit(vectors - np.array(dataset.tags()[CENTER_TAG].split(","), float))
    known = np.isfinite(centred[..., 0]) & (vectors**2).sum(-1).astype(bool)
    row, col = (int(v[0]) for v in np.nonzero(known))
    x, y = affine @ (col + 0.5, row + 0.5)
    found = run("similarity_search", {
        "input": [str(tmp_path / "e.tif")], "point": [x, y, wkt], "k": 20, "min_distance_m": 0,
        "matches": str(tmp_path / "m.gpkg"), "similarity": str(tmp_path / "s.tif")},
        JobContext())["found"]
    cosines = np.where(known, centred @ centred[row, col], -2)
    count = min(20, made["pixels"])
    assert len(found) == count and (found[0]["x"], found[0]["y"]) == (x, y)
    best = np.sort(cosines.ravel())[::-1][:count]
    assert [m["cosine"] for m in found] == pytest.approx(best, abs=0.02)
    for match in found:
        c, r = (int(v) for v in ~affine @ (match["x"], match["y"]))
        assert match["cosine"] == pytest.approx(cosines[r, c], abs=0.02)


def test_the_form_offers_the_formats_of_the_engine():
    """The form must not import the engine, so it repeats the words."""
    root = Path(__file__).resolve().parent.parent.parent
    form = root / "processing_provider" / "algorithms" / "import_embeddings.py"
    words = form.read_text(encoding="utf-8").split("FORMATS = (")[1].split(")")[0]
    assert re.findall(r'"([\w-]+)"', words) == list(FORMATS)
