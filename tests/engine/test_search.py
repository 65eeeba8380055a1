"""Similarity search: exact ranking, thinning, queries, files of all kinds, real water and maize."""

import time

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import transform

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.rasters.embeddings import (
    CENTER_TAG,
    DATES_TAG,
    ENCODER_TAG,
    EmbeddingsWriter,
    quantise,
)
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.rasters.vector import VectorFile
from earthprint.engine.search import kernel, matches
from earthprint.engine.search import query as queries
from earthprint.engine.search.archive import Archive, pixel_metres
from earthprint.engine.search.kernel import Coding, exact, nearest, scan
from earthprint.engine.search.matches import Outlines
from earthprint.engine.tasks import similarity_search

UTM = CRS.from_epsg(32631).to_wkt()
NORTH_UP = (10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6)
SCALE = 0.5 / 127


def brute(codes, directions, coding):
    """Cosines in plain float64, row by row; 0 for zero vectors."""
    out = np.empty(len(codes))
    for i, row in enumerate(codes):
        vector = coding.scale * (row.astype(float) - 128) - coding.centre
        length = np.sqrt(vector @ vector)
        out[i] = max(d @ vector for d in directions) / length if length else 0.0
    return out


def random_codes(n, dims, seed=0):
    """Random codes with everything that is awkward among them."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(1, 256, (n, dims)).astype(np.uint8)
    codes[n // 5 : n // 4] = 0  # no embedding
    codes[n // 3 : n // 3 + 3] = 128  # the zero vector
    codes[n - n // 8 :] = codes[: n // 8]  # duplicates
    return codes


def smooth_codes(rows, cols, dims=16, seed=0):
    """Codes of unit vectors in patches, as embeddings of fields are."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(-(-rows // 8), -(-cols // 8), dims)).repeat(8, 0).repeat(8, 1)
    vectors = (coarse[:rows, :cols] + 0.3 * rng.normal(size=(rows, cols, dims))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return quantise(vectors.reshape(-1, dims), SCALE).reshape(rows, cols, dims)


def write(path, codes, transform=NORTH_UP, wkt=UTM, encoder="fast@1.0#abcd", **tags):
    grid = Grid(wkt, transform, codes.shape[:2])
    tags = {ENCODER_TAG: encoder, DATES_TAG: "2024-05-01,2024-06-01", **tags}
    with EmbeddingsWriter(path, grid, codes.shape[2], SCALE, tags) as out:
        for block in grid.blocks(256, 512):
            out.write(block.row, block.col, codes[block.slices])
    return str(path)


def centre_of(row, col, matrix=NORTH_UP):
    return rasterio.Affine(*matrix) @ (col + 0.5, row + 0.5)


def search(path, context=None, **params):
    return jobs.run("similarity_search", {"input": path, **params}, context or JobContext())


def places(result, matrix=NORTH_UP):
    """(row, col) of the matches."""
    spots = [~rasterio.Affine(*matrix) @ (m["x"], m["y"]) for m in result["found"]]
    return [(int(r), int(c)) for c, r in spots]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 9000), dims=st.sampled_from([1, 2, 16, 31, 64, 128, 300]),
       k=st.integers(1, 200), seed=st.integers(0, 99), directions=st.integers(1, 3),
       off=st.sampled_from([0.0, 0.05]), threads=st.integers(1, 3))
def test_the_best_are_those_of_brute_force(n, dims, k, seed, directions, off, threads):
    codes, rng = random_codes(n, dims, seed), np.random.default_rng(seed)
    coding = Coding(SCALE, off * rng.normal(size=dims))
    query = rng.normal(size=(directions, dims))
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    expected, valid = brute(codes, query, coding), codes[:, 0] != 0
    found = scan(codes, query, coding)
    assert (np.isnan(found.values) == ~valid).all()
    assert (np.abs(found.values - expected)[valid] <= found.margin).all()
    rows, similar = nearest(codes, query, coding, k, threads)
    same = exact(codes, query, coding)
    assert np.abs(same - expected)[valid].max(initial=0) < 1e-12
    order = np.lexsort((np.arange(n), -same))
    assert rows.tolist() == order[valid[order]][:k].tolist()
    assert (similar == same[rows]).all()


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 6000), dims=st.sampled_from([3, 16, 48, 128]), seed=st.integers(0, 99),
       length=st.sampled_from([1e-9, 0.02, 0.5, 3.0, 1e4]), kept=st.booleans())
def test_the_margin_holds_for_any_centre(n, dims, seed, length, kept):
    """Also for vectors that lie on the centre, or so near that their length is nearly lost."""
    codes, rng = random_codes(n, dims, seed), np.random.default_rng(seed)
    direction = rng.normal(size=(2, dims))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    middle = codes[n // 2].astype(float) - 128
    coding = Coding(SCALE, length * SCALE * middle / max(np.linalg.norm(SCALE * middle), SCALE))
    codes[n - 1] = codes[n // 2]
    codes[n // 2, 1] += codes[n // 2, 1] not in (0, 255)
    inverse = kernel.inverse_lengths(codes, coding) if kept else None
    found, valid = scan(codes, direction, coding, inverse), codes[:, 0] != 0
    same = exact(codes, direction, coding)
    assert (np.isnan(found.values) == ~valid).all()
    assert (np.abs(found.values - same)[valid] <= found.margin).all()
    rows, _ = nearest(codes, direction, coding, 10, 1, inverse)
    order = np.lexsort((np.arange(n), -same))
    assert rows.tolist() == order[valid[order]][:10].tolist()


def test_a_vector_at_the_centre_does_not_widen_the_margin():
    codes = np.random.default_rng(0).integers(100, 156, (9000, 64)).astype(np.uint8)
    direction = np.full((1, 64), 1 / 8)
    coding = Coding(SCALE, SCALE * (codes[5000] - 128.0))
    assert scan(codes, direction, coding).margin < 1e-3


@pytest.mark.parametrize("threads", [1, 3])
def test_the_best_of_many_pieces(monkeypatch, threads):
    monkeypatch.setattr(kernel, "_PIECE", kernel.BLOCK)
    codes, coding = random_codes(50_000, 16), Coding(SCALE, np.zeros(16))
    direction = np.full((1, 16), 0.25)
    similar = np.where(codes[:, 0] != 0, exact(codes, direction, coding), -9)
    for k in (1, 300, 6000):
        rows, found = nearest(codes, direction, coding, k, threads)
        assert rows.tolist() == np.lexsort((np.arange(50_000), -similar))[:k].tolist()
        assert (found == similar[rows]).all()


def test_the_margin_is_small():
    query = np.random.default_rng(0).normal(size=(1, 128))
    query /= np.linalg.norm(query)
    found = scan(random_codes(5000, 128), query, Coding(SCALE, np.zeros(128)))
    assert found.margin < 1e-4


@pytest.mark.parametrize("special", ["nodata", "zero", "equal"])
def test_degenerate_vectors(special):
    codes = np.full((5000, 64), {"nodata": 0, "zero": 128, "equal": 200}[special], np.uint8)
    direction, coding = np.full((1, 64), 1 / 8), Coding(SCALE, np.zeros(64))
    rows, similar = nearest(codes, direction, coding, 3)
    assert rows.tolist() == ([] if special == "nodata" else [0, 1, 2])
    assert similar == pytest.approx([0.0 if special == "zero" else 1.0] * len(rows))


def greedy(codes, vector, valid, k, least):
    """Thinning in plain words: best first, drop what is too close (in pixels)."""
    similar = exact(codes.reshape(-1, codes.shape[2]), vector[None],
                    Coding(SCALE, np.zeros(codes.shape[2])))
    kept = []
    for i in np.lexsort((np.arange(len(similar)), -similar)):
        row, col = divmod(int(i), codes.shape[1])
        if valid[row, col] and all((row - r) ** 2 + (col - c) ** 2 >= least**2 for r, c in kept):
            kept.append((row, col))
        if len(kept) == k:
            break
    return kept


def unit_at(codes, row, col):
    vector = codes[row, col].astype(float) - 128
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("shape", [(300, 530), (1, 1), (257, 255), (3, 700)])
@pytest.mark.parametrize("pixels", [0, 3, 10])
def test_matches_are_exact_and_far_apart(tmp_path, shape, pixels):
    codes = smooth_codes(*shape)
    if shape[0] > 200:
        codes[20:60, 40:90] = 0
    path = write(tmp_path / "e.tif", codes)
    row, col = shape[0] // 2, shape[1] // 2
    found = search(path, point=[*centre_of(row, col), UTM], k=30, min_distance_m=10 * pixels)
    expected = greedy(codes, unit_at(codes, row, col), codes[..., 0] != 0, 30, pixels)
    assert places(found) == expected
    assert found["found"][0]["cosine"] == pytest.approx(1, abs=1e-9)
    assert [m["rank"] for m in found["found"]] == list(range(1, len(expected) + 1))


def test_many_passes_find_the_same(tmp_path, monkeypatch):
    codes = smooth_codes(200, 200)
    path = write(tmp_path / "e.tif", codes)
    point = [*centre_of(50, 60), UTM]
    once = search(path, point=point, k=40, min_distance_m=120)
    monkeypatch.setattr(similarity_search, "_MOST_HELD", 70)
    raster = tmp_path / "s.tif"
    assert search(path, point=point, k=40, min_distance_m=120,
                  similarity=str(raster))["found"] == once["found"]
    assert raster.exists()


@pytest.mark.parametrize("matrix", [
    (10.0, 0.0, 5e5, 0.0, 10.0, 5.5e6),  # south-up
    (8.0, 6.0, 5e5, 6.0, -8.0, 5.6e6),  # rotated
])
def test_rotated_and_south_up(tmp_path, matrix):
    codes = smooth_codes(100, 90)
    path = write(tmp_path / "e.tif", codes, matrix)
    found = search(path, point=[*centre_of(30, 40, matrix), UTM], k=20, min_distance_m=50,
                   similarity=str(tmp_path / "s.tif"), polygons=str(tmp_path / "p.gpkg"))
    assert places(found, matrix) == greedy(codes, unit_at(codes, 30, 40), codes[..., 0] != 0, 20, 5)
    with rasterio.open(tmp_path / "s.tif") as dataset:
        assert tuple(dataset.transform)[:6] == pytest.approx(matrix)


def test_distances_in_degrees_are_metres(tmp_path):
    """At 60 degrees north a degree of longitude is half as long as one of latitude."""
    codes = np.full((200, 200, 8), 200, np.uint8)
    matrix = (1e-3, 0.0, 10.0, 0.0, -1e-3, 60.1)
    path = write(tmp_path / "e.tif", codes, matrix, CRS.from_epsg(4326).to_wkt())
    found = search(path, point=[*centre_of(100, 100, matrix), "EPSG:4326"], k=1000,
                   min_distance_m=1000)
    spots = places(found, matrix)
    assert spots[0] == (0, 0)
    first_row = [c for r, c in spots if r == 0]
    assert first_row[1] - first_row[0] == 18  # 55.8 m a column at 60.1 degrees
    xy = np.array([(m["x"], m["y"]) for m in found["found"]])
    metres = np.array(transform("EPSG:4326", "EPSG:3035", *xy.T)).T
    gaps = np.linalg.norm(metres[:, None] - metres[None], axis=2)[~np.eye(len(xy), dtype=bool)]
    assert gaps.min() > 990
    assert pixel_metres(Grid(CRS.from_epsg(4326).to_wkt(), matrix, (200, 200))) == pytest.approx(
        np.sqrt(111.4 * 55.7), rel=0.01)


def test_the_raster_holds_plain_cosines(tmp_path):
    codes = smooth_codes(300, 280)
    codes[:30] = 0
    path = write(tmp_path / "e.tif", codes)
    search(path, point=[*centre_of(200, 100), UTM], similarity=str(tmp_path / "s.tif"))
    with rasterio.open(tmp_path / "s.tif") as dataset:
        assert (dataset.dtypes[0], dataset.nodata, dataset.scales[0]) == ("int16", -32768, 1e-4)
        got = dataset.read(1)
    expected = exact(codes.reshape(-1, 16), unit_at(codes, 200, 100)[None],
                     Coding(SCALE, np.zeros(16))).reshape(300, 280)
    assert (got[:30] == -32768).all()
    assert np.abs(got[30:] * 1e-4 - expected[30:]).max() < 1e-4
    assert "singlebandpseudocolor" in (tmp_path / "s.qml").read_text()
    extent = [5e5 + 400, 5.6e6 - 2500, 5e5 + 900, 5.6e6 - 1000, UTM]
    search(path, point=[*centre_of(200, 100), UTM], similarity=str(tmp_path / "part.tif"),
           extent=extent)
    with rasterio.open(tmp_path / "part.tif") as dataset:
        assert dataset.bounds == pytest.approx(extent[:4])
        assert (dataset.read(1) == got[100:250, 40:90]).all()


def test_matches_and_areas_are_vectors(tmp_path):
    codes = np.full((60, 80, 16), 128, np.uint8)
    codes[..., 0] = 250  # background
    codes[10:20, 10:30, :2] = 128, 250  # two areas of another kind
    codes[40:45, 50:60, :2] = 128, 250
    codes[0, 0] = 0
    path = write(tmp_path / "e.tif", codes)
    found = search(path, point=[*centre_of(15, 15), UTM], k=5, min_distance_m=50, threshold=0.9,
                   matches=str(tmp_path / "m.gpkg"), polygons=str(tmp_path / "a.geojson"))
    assert found["areas"] == 2 and found["threshold"] == 0.9
    meta, _, geometry, columns = pyogrio.raw.read(tmp_path / "m.gpkg")
    table = dict(zip(meta["fields"], columns, strict=True))
    assert list(table) == ["rank", "cosine", "percentile", "x", "y", "source"]
    points = shapely.from_wkb(geometry)
    assert (shapely.get_x(points) == table["x"]).all() and set(table["source"]) == {"e.tif"}
    assert table["cosine"] == pytest.approx(np.ones(5))
    assert CRS.from_user_input(meta["crs"]).to_epsg() == 32631
    meta, _, geometry, columns = pyogrio.raw.read(tmp_path / "a.geojson")
    table = dict(zip(meta["fields"], columns, strict=True))
    assert table["area_ha"] == pytest.approx(np.array([2.0, 0.5]) / 0.9996**2, rel=1e-5)
    assert table["cosine"].tolist() == [1, 1]
    outlines = shapely.from_wkb(geometry)
    assert shapely.is_valid(outlines).all()
    assert outlines[0].bounds == (500100, 5599800, 500300, 5599900)
    found = search(path, point=[*centre_of(15, 15), UTM], threshold=0.9, min_area_ha=1,
                   polygons=str(tmp_path / "large.geojson"))
    assert found["areas"] == 1


def outlines(folder, codes, matrix, check=lambda: None):
    """(geometries, area_ha, cosine) of all codes of 5000 or more."""
    grid = Grid(UTM, matrix, codes.shape)
    collected = Outlines(grid, 0.5, folder)
    for block in grid.blocks(7, codes.shape[1]):
        collected.add(block, codes[block.slices])
    with VectorFile(folder / "a.gpkg") as file:
        collected.write(file, 0, check)
    _, _, geometry, columns = pyogrio.raw.read(folder / "a.gpkg")
    return shapely.from_wkb(geometry), *columns


@pytest.mark.parametrize("matrix", [NORTH_UP, (8.0, 6.0, 5e5, 6.0, -8.0, 5.6e6)])
def test_areas_join_over_strips(tmp_path, monkeypatch, matrix):
    codes = np.random.default_rng(5).choice(
        np.array([1000, 9000], np.int16), (40, 50), p=[0.45, 0.55])
    codes[:, 20] = 9000  # one area over all strips
    once = outlines(tmp_path, codes, matrix)
    monkeypatch.setattr(matches, "_STRIP", 150)
    many = outlines(tmp_path, codes, matrix)
    assert shapely.is_valid(many[0]).all() and len(many[0]) == len(once[0]) > 20
    assert all(shapely.equals_exact(shapely.normalize(a), shapely.normalize(b), 1e-6)
               or a.symmetric_difference(b).area < 1e-3
               for a, b in zip(once[0], many[0], strict=True))
    assert many[1] == pytest.approx(once[1], rel=1e-9) and (many[2] == once[2]).all()
    assert shapely.area(many[0]) / 1e4 == pytest.approx(many[1], rel=1e-3)


def test_outlining_can_be_stopped_at_each_step(tmp_path, monkeypatch):
    monkeypatch.setattr(matches, "_STRIP", 150)
    codes = np.full((40, 50), 9000, np.int16)
    asked = []
    outlines(tmp_path, codes, NORTH_UP, lambda: asked.append(1))
    for last in range(1, len(asked) + 1):
        left = iter([False] * (last - 1) + [True])

        def stop(left=left):
            if next(left):
                raise Cancelled

        (tmp_path / "a.gpkg").unlink(missing_ok=True)
        with pytest.raises(Cancelled):
            outlines(tmp_path, codes, NORTH_UP, stop)
        assert not list(tmp_path.glob("*.gpkg"))
    assert len(asked) > 20


def test_no_area_reaches_the_threshold(tmp_path):
    assert len(outlines(tmp_path, np.zeros((30, 30), np.int16), NORTH_UP)[0]) == 0


def test_percentile_is_the_share_less_alike(tmp_path):
    codes = np.full((100, 100, 4), 128, np.uint8)
    codes[..., 0] = 250
    codes[:25] = 128, 250, 128, 128
    path = write(tmp_path / "e.tif", codes)
    found = search(path, point=[*centre_of(3, 3), UTM], k=1)
    assert found["found"][0]["percentile"] == 75
    assert found["threshold"] == pytest.approx(1)


def test_tiles_are_one_search(tmp_path):
    codes = smooth_codes(300, 400)
    whole = write(tmp_path / "whole.tif", codes)
    right = (10.0, 0.0, 5e5 + 1500, 0.0, -10.0, 5.6e6)
    tiles = [write(tmp_path / "a.tif", codes[:, :180]),
             write(tmp_path / "b.tif", codes[:, 150:], right)]
    more = {"point": [*centre_of(100, 300), UTM], "k": 50, "min_distance_m": 70}
    one = search(whole, **more, similarity=str(tmp_path / "one.tif"))
    many = search(tiles, **more, similarity=str(tmp_path / "many.tif"))
    assert places(many) == places(one)
    assert {m["source"] for m in many["found"]} == {"a.tif", "b.tif"}
    with rasterio.open(tmp_path / "one.tif") as a, rasterio.open(tmp_path / "many.tif") as b:
        assert (a.read() == b.read()).all() and a.transform == b.transform


def test_tiles_of_two_zones_give_matches_and_a_sentence(tmp_path):
    codes = smooth_codes(60, 60)
    other = CRS.from_epsg(32632).to_wkt()
    tiles = [write(tmp_path / "a.tif", codes), write(tmp_path / "b.tif", codes, wkt=other)]
    more = {"point": [*centre_of(10, 10), UTM], "k": 4, "min_distance_m": 500}
    found = search(tiles, **more)["found"]
    assert [m["source"] for m in found[:2]] == ["a.tif", "b.tif"]
    x, y = transform(other, UTM, *([v] for v in centre_of(10, 10)))
    assert (found[1]["x"], found[1]["y"]) == pytest.approx((x[0], y[0]))
    with pytest.raises(UserError, match="do not lie on one grid"):
        search(tiles, **more, similarity=str(tmp_path / "s.tif"))


def test_blocks_cover_each_pixel_once(tmp_path):
    codes = smooth_codes(400, 700, 4)
    extent = [5e5 + 130, 5.6e6 - 3900, 5e5 + 6870, 5.6e6 - 70, UTM]
    archive = Archive.open([write(tmp_path / "e.tif", codes)], extent)
    seen = np.zeros((400, 700), int)
    for _, parts in archive.blocks(2**16):
        for part in parts:
            seen[part.window.slices] += 1
            assert part.window.row % 256 == 0 or part.window.row == 7
    assert seen[7:390, 13:687].all() and seen.max() == 1 and seen.sum() == 383 * 674


def test_a_centre_is_subtracted(tmp_path):
    rng = np.random.default_rng(3)
    centre = rng.normal(size=16) * 0.2
    codes = smooth_codes(50, 50)
    text = ",".join(repr(float(c)) for c in centre)
    path = write(tmp_path / "e.tif", codes, **{CENTER_TAG: text})
    found = search(path, point=[*centre_of(9, 9), UTM], k=8, min_distance_m=0)
    coding = Coding(SCALE, centre)
    vectors = coding.units(codes.reshape(-1, 16))
    expected = np.sort(vectors @ vectors[9 * 50 + 9])[::-1][:8]
    assert [m["cosine"] for m in found["found"]] == pytest.approx(expected, abs=1e-12)
    bad = write(tmp_path / "bad.tif", codes, **{CENTER_TAG: "1,2"})
    with pytest.raises(UserError, match="does not hold 16 numbers"):
        search(bad, point=[*centre_of(9, 9), UTM])


def layer(path, shapes, crs="EPSG:4326"):
    shapes = [shapely.transform(s, lambda xy: np.column_stack(transform(UTM, crs, *xy.T)))
              for s in shapes]
    pyogrio.raw.write(path, shapely.to_wkb(np.array(shapes, object)), [], [],
                      geometry_type="Unknown", crs=crs, driver="GPKG")
    return str(path)


def two_kinds():
    """Kinds A, B and C in thirds; A and B are different, and C lies between A and B."""
    rng = np.random.default_rng(1)
    kinds = rng.normal(size=(2, 16))
    kinds = np.vstack([kinds, kinds.sum(0)])
    vectors = (kinds.repeat(40, 0)[:, None] + 0.2 * rng.normal(size=(120, 60, 16)))
    vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return quantise(vectors.reshape(-1, 16), SCALE).reshape(120, 60, 16)


def test_examples_of_two_kinds_and_counterexamples(tmp_path):
    path = write(tmp_path / "e.tif", two_kinds())
    points = [shapely.Point(*centre_of(r, c)) for r in (5, 20, 45, 70) for c in (10, 30, 50)]
    box = shapely.box(5e5 + 100, 5.6e6 - 300, 5e5 + 200, 5.6e6 - 200)
    examples = layer(tmp_path / "x.gpkg", [*points, box])
    both = search(path, examples=examples, k=200, min_distance_m=0)
    assert both["query"] == "prototypes"
    assert np.mean([row < 80 for row, _ in places(both)]) > 0.9
    counter = layer(tmp_path / "c.gpkg", [shapely.Point(*centre_of(100, c)) for c in (10, 40)])
    first = layer(tmp_path / "a.gpkg", points[:6])
    better = search(path, examples=first, counterexamples=counter, k=1000, min_distance_m=0)
    assert better["query"] == "linear head"
    assert np.mean([row < 40 for row, _ in places(better)]) > 0.99
    assert better["found"][0]["percentile"] > 99


def test_more_prototypes_only_where_they_separate():
    rng = np.random.default_rng(0)
    kinds = np.linalg.qr(rng.normal(size=(32, 32)))[0]
    background = kinds[rng.integers(0, 32, 3000)] + 0.15 * rng.normal(size=(3000, 32))
    background /= np.linalg.norm(background, axis=1, keepdims=True)

    def around(kind, n):
        return (kinds[kind] + 0.15 * rng.normal(size=(n, 32))) / 1.3

    one = queries.learn(around(0, 12), np.zeros((0, 32)), background)
    four = queries.learn(np.vstack([around(k, 6) for k in range(4)]), np.zeros((0, 32)), background)
    assert len(one.directions) == 1 and len(four.directions) > 1


def test_a_head_is_fitted_in_no_time():
    rng = np.random.default_rng(0)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (
        rng.normal(size=(n, 128)) for n in (200, 200, 20_000))]
    seconds = []
    for _ in range(5):  # the machine may be busy with something else
        start = time.perf_counter()
        queries.learn(*unit)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1


def test_sentences(tmp_path):
    codes = smooth_codes(40, 40)
    codes[:10] = 0
    path = write(tmp_path / "e.tif", codes)
    good = [*centre_of(20, 20), UTM]
    for more, sentence in (
        ({}, "Give a place or examples."),
        ({"point": [0, 0, UTM]}, "No embeddings at 0, 0 .cloud or outside.. Choose another"),
        ({"point": [*centre_of(5, 5), UTM]}, "No embeddings at"),
        ({"point": good, "k": 0}, "Number of matches is 0; choose 1 or more"),
        ({"point": good, "min_distance_m": -1}, "Minimum distance is -1"),
        ({"point": good, "threshold": 2}, "Smallest cosine is 2; choose -1 to 1"),
        ({"point": good, "matches": str(tmp_path / "m.xyz")}, "No vector format ends with .xyz"),
        ({"point": good, "matches": str(tmp_path / "no" / "m.gpkg")}, "does not exist"),
        ({"point": good, "extent": [0, 0, 1, 1, UTM]}, "no common area"),
        ({"examples": str(tmp_path / "x.gpkg")}, "x.gpkg were not found"),
        ({"examples": path}, "cannot be read as points or polygons|has no points"),
        ({"examples": layer(tmp_path / "far.gpkg", [shapely.Point(0, 0)])},
         "No embeddings at the 1 features of far.gpkg"),
    ):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(UserError, match=sentence):
            search(path, **more)
        assert sorted(p for p in tmp_path.iterdir() if p.name != "far.gpkg") == [
            p for p in before if p.name != "far.gpkg"]


def test_files_that_cannot_be_searched(tmp_path):
    codes = smooth_codes(600, 600)
    path = write(tmp_path / "e.tif", codes)
    other = write(tmp_path / "o.tif", codes[:50, :50], encoder="tessera@2.0#ffff")
    point = [*centre_of(5, 5), UTM]
    with pytest.raises(UserError, match="o.tif was encoded with tessera@2.0#ffff, e.tif with fast"):
        search([path, other], point=point)
    with rasterio.open(tmp_path / "dem.tif", "w", driver="GTiff", width=2, height=2, count=1,
                       dtype="uint8", transform=rasterio.Affine(1, 0, 0, 0, -1, 0)):
        pass
    with pytest.raises(UserError, match="dem.tif is not embeddings"):
        search(str(tmp_path / "dem.tif"), point=point)
    empty = write(tmp_path / "empty.tif", np.zeros((40, 40, 4), np.uint8))
    with pytest.raises(UserError, match="No embeddings at"):
        search(empty, point=point)
    raw = (tmp_path / "e.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(raw[:-200_000])
    with pytest.raises(UserError, match="cut.tif is damaged at tile . of 9"):
        search(str(tmp_path / "cut.tif"), point=point, similarity=str(tmp_path / "s.tif"),
               matches=str(tmp_path / "m.gpkg"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "cut.tif", "dem.tif", "e.tif", "empty.tif", "o.tif"]


@pytest.mark.parametrize("moment", [0.05, 0.3, 0.8, 0.97])
def test_cancelling_leaves_nothing(tmp_path, moment):
    path = write(tmp_path / "e.tif", smooth_codes(700, 700, 8))
    reached = []

    def progress(fraction, _text):
        reached.append(fraction)

    context = JobContext(on_progress=progress, memory_mb=30, threads=1,
                         is_cancelled=lambda: bool(reached) and max(reached) >= min(moment, 0.89))
    with pytest.raises(Cancelled):
        search(path, context, point=[*centre_of(5, 5), UTM], similarity=str(tmp_path / "s.tif"),
               matches=str(tmp_path / "m.gpkg"), polygons=str(tmp_path / "p.gpkg"))
    assert [p.name for p in tmp_path.iterdir()] == ["e.tif"]


#: Folder below the data, its rasters, its labels (file, band), a class and how often a match of a
#: single click on it must be right at the least. Labels 0 and 255 are unknown.
REAL = {
    "maize": ("crop-worldcereal-patches/belgium-2018-polders", ("s2_10m", "s2_20m", "s1_vv_vh_20m"),
              ("labels_LC_CT_10m.tif", 2), 1200, 0.7),  # share 0.56
    "grassland": ("landcover-slovenia-s2-patch", ("S2_L1C_*.tif",), ("landcover.tif", 1), 3, 0.3),
}  # share of grassland 0.13


@pytest.mark.parametrize("kind", REAL)
def test_real_places_from_single_clicks(shared, tmp_path, kind):
    """Precision at 100 of the job, over clicks on a class, beyond 150 m of each click."""
    name, rasters, (labels, band), wanted, least = REAL[kind]
    folder, made = shared / "data" / name, str(tmp_path / "e.tif")
    jobs.run("encode", {"input": [str(p) for r in rasters for p in sorted(folder.glob(r))],
                        "output": made}, JobContext())
    with rasterio.open(folder / labels) as dataset, rasterio.open(made) as embeddings:
        classes, crs, inverse = dataset.read(band), dataset.crs, ~dataset.transform
        target = embeddings.crs
        rows, cols = np.nonzero(classes == wanted)
        pick = np.random.default_rng(0).choice(len(rows), 10, replace=False)
        clicks = np.column_stack(dataset.xy(rows[pick], cols[pick]))
    shares = []
    for x, y in clicks:
        found = search(made, point=[x, y, crs.to_wkt()], k=3000, min_distance_m=0)["found"]
        at = np.array(transform(target, crs, *np.array([(m["x"], m["y"]) for m in found]).T))
        far = np.hypot(*(at - [[x], [y]])) > 150
        col, row = np.floor(inverse @ tuple(at[:, far])).astype(int)
        inside = (row >= 0) & (col >= 0) & (row < classes.shape[0]) & (col < classes.shape[1])
        seen = classes[row[inside], col[inside]]
        shares.append((seen[(seen > 0) & (seen != 255)][:100] == wanted).mean())
    assert np.mean(shares) > least, np.mean(shares)
