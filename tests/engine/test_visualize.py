"""Embeddings as colours: the basis, the same colours everywhere, what is no vector."""

import json

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.rasters.colours import ColourBasis
from earthprint.engine.rasters.embeddings import (
    DATES_TAG,
    ENCODER_TAG,
    EmbeddingsWriter,
    dequantise,
    quantise,
)
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.rasters.sampling import even_places

UTM, DEGREES = (CRS.from_epsg(code).to_wkt() for code in (32631, 4326))
NORTH_UP = (10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6)
SCALE = 0.5 / 127


def landscape(rows, cols, dims=16, seed=0):
    """Codes of a few covers in patches of eight pixels, with noise; the first row has no vector."""
    rng = np.random.default_rng(seed)
    covers = np.random.default_rng(1).normal(size=(6, dims))
    kind = rng.integers(0, 6, (-(-rows // 8), -(-cols // 8)))
    kind = np.kron(kind, np.ones((8, 8), int))[:rows, :cols]
    vectors = covers[kind] + rng.normal(0, 0.3, (rows, cols, dims))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    codes = quantise(vectors.reshape(-1, dims).astype(np.float32), SCALE).reshape(vectors.shape)
    if rows > 1:
        codes[0] = 0
    return codes


def write(path, codes, transform=NORTH_UP, wkt=UTM, encoder="fast@1.0#abcd"):
    grid = Grid(wkt, transform, codes.shape[:2])
    tags = {ENCODER_TAG: encoder, DATES_TAG: "2023-05-01,2023-06-01"}
    with EmbeddingsWriter(path, grid, codes.shape[2], SCALE, tags) as out:
        for block in grid.blocks(256, 256):
            out.write(block.row, block.col, codes[block.slices])
    return str(path)


def paint(context=None, **params):
    params["input"] = [params["input"]]
    result = jobs.run("visualize_embeddings", params, context or JobContext())
    with rasterio.open(result["output"]) as dataset:
        return result, dataset.read(), dataset.transform


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 700), cols=st.integers(1, 700), most=st.integers(1, 5000))
def test_a_sample_is_bounded_even_and_repeatable(rows, cols, most):
    places = even_places((rows, cols), most, 3)
    taken = [{(w.row + r, w.col + c) for r, c in zip(rs, cs, strict=True)}
             for w, rs, cs in places]
    assert len(set().union(*taken)) == sum(map(len, taken)) == min(most, rows * cols)
    for (window, rs, cs), _ in zip(places, taken, strict=True):
        assert abs(len(rs) - window.size * min(1, most / (rows * cols))) <= 1
        assert not len(rs) or (rs.max() < window.rows and cs.max() < window.cols)
    again = even_places((rows, cols), most, 3)
    assert all((a[1] == b[1]).all() for a, b in zip(places, again, strict=True))


def test_a_large_raster_is_read_in_a_few_places():
    places = even_places((50_000, 70_000), 40_000, 0)
    assert len(places) == 256 and sum(len(rows) for _, rows, _ in places) == 40_000
    assert len({window.row for window, _, _ in places}) > 100  # all over the raster


def test_the_basis_is_the_principal_components():
    rng = np.random.default_rng(0)
    true = np.linalg.qr(rng.normal(size=(8, 8)))[0][:, :3]
    sample = rng.normal(size=(20_000, 3)) * (3, 2, 1) @ true.T + 5
    basis = ColourBasis.fit("fast@1#a", sample)
    assert np.abs(np.abs(basis.axes @ true) - np.eye(3)).max() < 0.05
    assert (basis.axes[range(3), np.abs(basis.axes).argmax(1)] > 0).all()
    assert basis.explained == pytest.approx(1)
    # 2 and 98 % of a normal distribution are 2.054 standard deviations out
    assert np.allclose(basis.stretch, np.outer((3, 2, 1), (-2.054, 2.054)), rtol=0.06)
    assert np.allclose(basis.mean, 5, atol=0.1)


def test_colours_follow_the_stretch_and_black_is_no_nodata():
    basis = ColourBasis("fast@1#a", np.zeros(4), np.eye(3, 4), np.array([[-0.2, 0.2]] * 3), 1.0)
    codes = np.full((1, 4, 4), 128, np.uint8)
    codes[0, 0] = 0
    codes[0, 1, :3] = 1  # below the darkest
    codes[0, 2, :3] = 255
    colours = basis.colours(codes, SCALE)
    assert colours[:, 0].T.tolist() == [[0, 0, 0], [1, 1, 1], [255, 255, 255], [128, 128, 128]]
    x = dequantise(np.array([100]), SCALE)[0]
    codes[0, 3, 1] = 100
    assert basis.colours(codes, SCALE)[1, 0, 3] == round(1 + 254 * (x + 0.2) / 0.4)


def test_two_overlapping_extents_get_the_same_colours(tmp_path):
    file = write(tmp_path / "e.tif", landscape(301, 415))
    west = [500000, 5597300, 502615, 5599500, "EPSG:32631"]
    east = [501805, 5597000, 504150, 5599000, "EPSG:32631"]
    basis = str(tmp_path / "colours.json")
    _, first, place = paint(input=file, extent=west, basis_output=basis,
                            output=str(tmp_path / "west.tif"))
    result, second, other = paint(input=file, extent=east, basis=basis,
                                  output=str(tmp_path / "east.tif"))
    right, down = round((other.c - place.c) / 10), round((place.f - other.f) / 10)
    common = first[:, down:, right:]
    assert common.size > 30_000 and (common == second[:, :common.shape[1], :common.shape[2]]).all()
    assert result["basis_output"] is None and result["season"] == ["2023-05-01", "2023-06-01"]
    # without the basis the colours are others
    _, own, _ = paint(input=file, extent=east, output=str(tmp_path / "own.tif"))
    assert (own != second).mean() > 0.1


def test_another_year_of_the_same_encoder_keeps_its_colours(tmp_path):
    codes = landscape(64, 64)
    first = write(tmp_path / "a.tif", codes)
    second = write(tmp_path / "b.tif", np.roll(codes, 8, 1))
    basis = str(tmp_path / "colours.json")
    _, one, _ = paint(input=first, output=str(tmp_path / "1.tif"), basis_output=basis)
    _, two, _ = paint(input=second, output=str(tmp_path / "2.tif"), basis=basis)
    assert (np.roll(one, 8, 2) == two).all()


@pytest.mark.parametrize(("shape", "transform", "wkt"), [
    ((1, 1), NORTH_UP, UTM),
    ((257, 3), NORTH_UP, UTM),
    ((65, 270), (10.0, 0.0, 5e5, 0.0, 10.0, 5.6e6), UTM),  # south-up
    ((33, 47), (1e-4, 0.0, 5.0, 0.0, -1e-4, 50.0), DEGREES),
    ((40, 30), (8.0, 6.0, 5e5, 6.0, -8.0, 5.6e6), UTM),  # turned
    ((40, 30), NORTH_UP, ""),
])
def test_grids_of_all_kinds(tmp_path, shape, transform, wkt):
    codes = landscape(*shape)
    file = write(tmp_path / "e.tif", codes, transform, wkt)
    _, colours, place = paint(input=file, output=str(tmp_path / "c.tif"))
    assert colours.shape == (3, *shape) and tuple(place)[:6] == pytest.approx(transform)
    assert ((colours > 0) == (codes[..., 0] > 0)).all()
    with rasterio.open(tmp_path / "c.tif") as dataset:
        assert dataset.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert dataset.nodata == 0 and dataset.descriptions[0] == "Red: axis 1"
        assert ((dataset.dataset_mask() > 0) == (codes[..., 0] > 0)).all()
        assert ENCODER_TAG not in dataset.tags()  # colours are no embeddings


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_few_dimensions(tmp_path, dims):
    file = write(tmp_path / "e.tif", landscape(20, 20, dims))
    _, colours, _ = paint(input=file, output=str(tmp_path / "c.tif"))
    assert (colours[:, 1:] > 0).all()


def test_the_full_range_is_used_and_a_seed_repeats(tmp_path):
    file = write(tmp_path / "e.tif", landscape(300, 300))
    said = []
    context = JobContext(on_log=lambda _, text: said.append(text))
    _, colours, _ = paint(context, input=file, output=str(tmp_path / "1.tif"), seed=5)
    for band in colours[:, 1:]:
        low, high = np.percentile(band, (3, 97))
        assert low < 20 and high > 235
    assert any(text.startswith("Colours: three axes hold ") for text in said)
    paint(input=file, output=str(tmp_path / "2.tif"), seed=5)
    assert (tmp_path / "1.tif").read_bytes() == (tmp_path / "2.tif").read_bytes()


def test_wrong_requests_are_sentences(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    file = write(made / "e.tif", landscape(30, 30))
    other = write(made / "o.tif", landscape(30, 30), encoder="tessera@2.0#ffff")
    empty = write(made / "n.tif", np.zeros((30, 30, 16), np.uint8))
    basis = str(made / "basis.json")
    paint(input=file, output=str(made / "c.tif"), basis_output=basis)
    broken = json.loads((made / "basis.json").read_text(encoding="utf-8"))
    broken["axes"] = broken["axes"][:2]
    (made / "broken.json").write_text(json.dumps(broken), encoding="utf-8")
    (made / "text.json").write_text("[1, 2]", encoding="utf-8")
    output = str(tmp_path / "out.tif")
    for params, sentence in (
            ({"input": other, "basis": basis}, "is for embeddings of fast@1.0#abcd, o is of tess"),
            ({"input": empty}, "no pixel with an embedding"),
            ({"input": file, "basis": str(made / "broken.json")}, "broken.json is no colour basis"),
            ({"input": file, "basis": str(made / "text.json")}, "text.json is no colour basis"),
            ({"input": file, "basis": str(made / "none.json")}, "none.json cannot be read"),
            ({"input": file, "basis": file}, "e.tif is no colour basis"),
            ({"input": file, "basis_output": str(tmp_path / "no" / "b.json")}, "does not exist"),
    ):
        with pytest.raises(UserError, match=sentence):
            paint(output=output, **params)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("step", ["Finding", "Painting"])
def test_cancelling_leaves_nothing(tmp_path, step):
    (tmp_path / "in").mkdir()
    file = write(tmp_path / "in" / "e.tif", landscape(600, 300))
    seen = []
    context = JobContext(is_cancelled=lambda: bool(seen),
                         on_progress=lambda _, text: text.startswith(step) and seen.append(text))
    with pytest.raises(Cancelled):
        paint(context, input=file, output=str(tmp_path / "c.tif"),
              basis_output=str(tmp_path / "c.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
