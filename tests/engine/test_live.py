"""The live search: pictures equal to brute force in any grid, sentences, a real engine process."""

import contextlib
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.shutil import copy
from rasterio.warp import transform

from earthprint.engine.client import EngineCancelled, EngineClient, EngineError
from earthprint.engine.errors import UserError
from earthprint.engine.rasters.embeddings import (
    CENTER_TAG,
    DATES_TAG,
    ENCODER_TAG,
    EmbeddingsWriter,
    quantise,
)
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.search import query as queries
from earthprint.engine.search import view as views
from earthprint.engine.search.live import SHARES, LiveSearch
from earthprint.engine.search.placement import moved, place

UTM, DEGREES, MERCATOR = "EPSG:32631", "EPSG:4326", "EPSG:3857"
NORTH_UP = (10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6)
SCALE = 0.5 / 127


def smooth_codes(rows, cols, dims=16, seed=0):
    """Codes of unit vectors in patches, with nodata and zero vectors."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(-(-rows // 8), -(-cols // 8), dims)).repeat(8, 0).repeat(8, 1)
    vectors = (coarse[:rows, :cols] + 0.3 * rng.normal(size=(rows, cols, dims))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    codes = quantise(vectors.reshape(-1, dims), SCALE).reshape(rows, cols, dims)
    codes[rows // 4 : rows // 3, cols // 4 : cols // 2] = 0
    codes[rows // 2 : rows // 2 + 2, : cols // 3] = 128
    return codes


def write(path, codes, matrix=NORTH_UP, crs=UTM, encoder="fast@1.0#abcd", **tags):
    grid = Grid(CRS.from_user_input(crs).to_wkt(), matrix, codes.shape[:2])
    tags = {ENCODER_TAG: encoder, DATES_TAG: "2024-05-01,2024-06-01", **tags}
    with EmbeddingsWriter(path, grid, codes.shape[2], SCALE, tags) as out:
        for block in grid.blocks(256, 512):
            out.write(block.row, block.col, codes[block.slices])
    return str(path)


class Client:
    """A live search in this process, asked as over the border."""

    def __init__(self, *paths):
        self.search = LiveSearch()
        self.opened = self.search.answer("live/open", {"input": list(paths), "threads": 2})
        self.session = self.opened["session"]

    def look(self, crs, matrix, shape):
        self.grid = {"crs": crs, "transform": list(matrix), "shape": list(shape)}
        self.view = self.search.answer("live/view", {"session": self.session, "grid": self.grid})
        return self.view

    def query(self, **params):
        answer = self.search.answer("live/query", {
            "session": self.session, "view": self.view["view"], **params})
        pictures = np.fromfile(self.view["file"], np.uint8).reshape(2, *self.view["shape"])
        return answer, pictures[answer["slot"]]

    def close(self):
        self.search.close()


@pytest.fixture
def live():
    """Opens live searches and closes them."""
    opened = []

    def make(*paths):
        opened.append(Client(*paths))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


def level_codes(path, level):
    """(rows, cols, d) codes of an overview as GDAL reads them, with its transform."""
    with rasterio.open(path, **({"overview_level": level - 1} if level else {})) as dataset:
        return np.moveaxis(dataset.read(), 0, -1)


def pixel_at(grid, path, x, y):
    """Fractional columns and rows of a file under the picture's places."""
    with rasterio.open(path) as dataset:
        xs, ys = transform(grid["crs"], dataset.crs, x.ravel(), y.ravel())
        return (np.reshape(v, x.shape) for v in ~dataset.transform @ (np.array(xs), np.array(ys)))


def expected_bytes(grid, path, direction, low, high, level=0, shift=(0.0, 0.0), centre=0.0):
    """The picture in plain float64, with all places moved by some pixels of the level."""
    codes = level_codes(path, level)
    down, across = np.meshgrid(*(np.arange(n) + 0.5 for n in grid["shape"]), indexing="ij")
    col, row = pixel_at(grid, path, *(rasterio.Affine(*grid["transform"]) @ (across, down)))
    col, row = col + shift[0] * 2**level, row + shift[1] * 2**level
    with rasterio.open(path) as dataset:
        inside = (col >= 0) & (row >= 0) & (col < dataset.width) & (row < dataset.height)
    col, row = col / 2**level, row / 2**level
    picked = codes[np.where(inside, row, 0).astype(int), np.where(inside, col, 0).astype(int)]
    vectors = SCALE * (picked.astype(float) - 128) - centre
    lengths = np.linalg.norm(vectors, axis=-1)
    cosine = vectors @ direction / np.where(lengths > 0, lengths, 1)
    found = 1 + np.rint(254 * np.clip((cosine - low) / (high - low), 0, 1)).astype(int)
    return np.where(inside & (picked[..., 0] != 0), found, 0)


def assert_picture(picture, grid, path, direction, answer, level=0, slack=0.0, centre=0.0):
    """Equal to brute force within a step of the ramp, at a place within `slack` pixels."""
    right = np.zeros(picture.shape, bool)
    moves = [(x, y) for x in (-slack, 0, slack) for y in (-slack, 0, slack)]
    for shift in moves if slack else [(0.0, 0.0)]:
        expected = expected_bytes(grid, path, direction, answer["low"], answer["high"], level,
                                  shift, centre)
        right |= ((expected == 0) == (picture == 0)) & (np.abs(expected - picture) <= 1)
    assert right.all(), f"{(~right).sum()} of {right.size} pixels"


def unit_at(codes, row, col, centre=0.0):
    vector = SCALE * (codes[row, col].astype(float) - 128) - centre
    return vector / np.linalg.norm(vector)


def at(row, col, matrix=NORTH_UP, crs=UTM):
    x, y = rasterio.Affine(*matrix) @ (col + 0.5, row + 0.5)
    return {"x": x, "y": y, "crs": crs}


def hover(place_):
    return [place_["x"], place_["y"], place_["crs"]]


#: Raster's CRS and matrix; canvas's CRS, its matrix as (pixel size, degrees of rotation) around
#: the raster's middle, and its shape.
GRIDS = {
    "same": (UTM, NORTH_UP, UTM, (10.0, 0.0), (200, 230)),
    "centres on edges": (UTM, NORTH_UP, UTM, (10.0, 0.0), (161, 65)),
    "zoomed in": (UTM, NORTH_UP, UTM, (1.3, 0.0), (150, 170)),
    "zoomed out": (UTM, NORTH_UP, UTM, (17.0, 0.0), (230, 260)),
    "rotated canvas": (UTM, NORTH_UP, UTM, (9.0, 33.0), (210, 190)),
    "canvas in Mercator": (UTM, NORTH_UP, MERCATOR, (14.0, 0.0), (220, 240)),
    "rotated canvas in Mercator": (UTM, NORTH_UP, MERCATOR, (14.0, -71.0), (220, 240)),
    "canvas in degrees": (UTM, NORTH_UP, DEGREES, (1e-4, 0.0), (240, 210)),
    "south-up raster": (UTM, (10.0, 0.0, 5e5, 0.0, 10.0, 5.5e6), MERCATOR, (14.0, 0.0), (90, 80)),
    "rotated raster": (UTM, (8.0, 6.0, 5e5, 6.0, -8.0, 5.6e6), UTM, (10.0, 12.0), (190, 200)),
    "raster in degrees": (DEGREES, (1e-4, 0.0, 3.0, 0.0, -1e-4, 60.0), "EPSG:32631", (7.0, 0.0),
                          (200, 180)),
    "polar": ("EPSG:3413", (25e3, 0.0, -24e5, 0.0, -25e3, 26e5), DEGREES, (0.5, 0.0),
              (40, 760)),
}


def canvas(raster_crs, matrix, size, crs, pixel, angle, shape):
    """The transform of a canvas around the middle of a raster."""
    x, y = rasterio.Affine(*matrix) @ (size[1] / 2, size[0] / 2)
    (x,), (y,) = transform(raster_crs, crs, [x], [y])
    if raster_crs == "EPSG:3413":
        x, y = 0.0, 80.0  # the pole is the upper edge of such a map
    made = (rasterio.Affine.translation(x, y) @ rasterio.Affine.rotation(angle)
            @ rasterio.Affine.scale(pixel, -pixel)
            @ rasterio.Affine.translation(-shape[1] / 2, -shape[0] / 2))
    return tuple(made)[:6]


@pytest.mark.parametrize("name", GRIDS)
def test_pictures_equal_brute_force(live, tmp_path, name):
    raster_crs, matrix, crs, (pixel, angle), shape = GRIDS[name]
    codes = smooth_codes(210, 190)
    path = write(tmp_path / "e.tif", codes, matrix, raster_crs)
    client = live(path)
    view = client.look(crs, canvas(raster_crs, matrix, (210, 190), crs, pixel, angle, shape), shape)
    assert view["shape"] == list(shape) and 0.02 < view["valid"] <= 1
    assert os.path.getsize(view["file"]) == 2 * shape[0] * shape[1]
    example = at(100, 120, matrix, raster_crs)
    answer, picture = client.query(examples=[example])
    assert answer["kind"] == "cosine" and answer["lost"] == []
    # of the larger of the two pixels: at the pole those of the canvas are two of the raster
    slack = 1e-6 if raster_crs == crs else 0.2 if name == "polar" else 0.1
    assert_picture(picture, client.grid, path, unit_at(codes, 100, 120), answer, slack=slack)
    assert view["valid"] == pytest.approx((picture > 0).mean())


@settings(max_examples=40, deadline=None)
@given(x=st.floats(-179, 179), y=st.floats(-75, 75), zoom=st.floats(-1, 2.5),
       angle=st.floats(-180, 180), crs=st.sampled_from([DEGREES, MERCATOR, "EPSG:3035",
                                                        "EPSG:8857"]))
def test_placements_are_right_to_a_tenth_of_a_pixel(x, y, zoom, angle, crs):
    """A UTM tile anywhere on earth, in maps of all kinds, from close up to far away."""
    zone = f"EPSG:{326 if y >= 0 else 327}{int((x + 180) // 6) + 1:02d}"
    (east,), (north,) = transform(DEGREES, zone, [x], [y])
    raster = Grid(CRS.from_user_input(zone).to_wkt(), (10, 0, east, 0, -10, north), (600, 700))
    east, north = moved(CRS.from_user_input(DEGREES), CRS.from_user_input(crs), [x], [y])
    pixel = 10 * 10**zoom / (111_000 if crs == DEGREES else 1)
    if not np.isfinite(east).all():
        return  # not on that map
    made = (rasterio.Affine.translation(east[0], north[0]) @ rasterio.Affine.rotation(angle)
            @ rasterio.Affine.scale(pixel, -pixel) @ rasterio.Affine.translation(-80, -60))
    picture = Grid(CRS.from_user_input(crs).to_wkt(), tuple(made)[:6], (120, 160))
    down, across = np.meshgrid(np.arange(120) + 0.5, np.arange(160) + 0.5, indexing="ij")
    true_x, true_y = moved(picture.crs, raster.crs, *(made @ (across, down)))
    col, row = ~raster.affine @ (true_x, true_y)
    found = place(picture, raster)
    # of the larger of the two pixels, and a little more, since only middles of cells are looked at
    size = max(1.0, *(np.abs(np.diff(v, axis=k)[50:70, 70:90]).max() for v in (col, row)
                      for k in (0, 1)))
    slack = 0.2 * size
    inside = (col > slack) & (row > slack) & (col < 700 - slack) & (row < 600 - slack)
    if found is None:
        assert not inside.any()
        return
    pixels, nothing = found.pixels(0), np.zeros(picture.shape, np.int32)
    target = np.full((found.window.rows, found.window.cols), -9, np.int32)
    found.locate(0, pixels, nothing, target, np.zeros((pixels.rows, pixels.cols), bool))
    whole = np.full(picture.shape, -1, np.int32)
    whole[found.window.slices] = target
    assert (whole[inside] >= 0).all()
    got_row, got_col = np.divmod(whole[whole >= 0], max(pixels.cols, 1))
    for got, true in ((got_row + pixels.row, row), (got_col + pixels.col, col)):
        assert np.abs(got + 0.5 - true[whole >= 0]).max(initial=0) < 0.5 + slack


@pytest.mark.parametrize("foreign", [False, True])
def test_far_views_read_overviews(live, tmp_path, monkeypatch, foreign):
    codes = smooth_codes(1200, 1100, 8)
    path = write(tmp_path / "e.tif", codes)
    client = live(path)
    monkeypatch.setattr(views, "MOST", 30_000)
    view = client.look(UTM, (40.0, 0.0, 5e5, 0.0, -40.0, 5.6e6), (310, 300))
    assert view["embeddings"] <= 30_000 and view["pixel_m"] == pytest.approx(80, rel=0.01)
    answer, picture = client.query(examples=[at(700, 50)])
    assert_picture(picture, client.grid, path, unit_at(codes, 700, 50), answer, level=3, slack=1e-6)
    far = client.look(UTM, (500.0, 0.0, 4.9e5, 0.0, -500.0, 5.61e6), (60, 60))
    assert far["embeddings"] <= 60 * 60 and far["pixel_m"] > 150  # beyond the last overview
    assert 0.05 < far["valid"] < 0.2
    if foreign:
        plain = str(tmp_path / "plain.tif")
        copy(path, plain, driver="GTiff")
        other = live(plain)
        assert other.look(UTM, (40.0, 0.0, 5e5, 0.0, -40.0, 5.6e6), (310, 300))["embeddings"] > 0
        answer, theirs = other.query(examples=[at(700, 50)])
        assert answer["kind"] == "cosine"
        other.look(UTM, NORTH_UP, (150, 140))
        client.look(UTM, NORTH_UP, (150, 140))
        assert (other.query(examples=[at(700, 50)])[1]
                == client.query(examples=[at(700, 50)])[1]).all()


def test_numbers_of_an_answer(live, tmp_path):
    codes = smooth_codes(120, 130)
    path = write(tmp_path / "e.tif", codes)
    client = live(path)
    assert client.opened["encoder"] == "fast@1.0#abcd" and client.opened["dims"] == 16
    assert client.opened["bounds"] == [5e5, 5.6e6 - 1200, 5e5 + 1300, 5.6e6]
    assert client.opened["dates"] == ["2024-05-01", "2024-06-01"]
    assert client.opened["pixels"] == 120 * 130
    client.look(UTM, NORTH_UP, (120, 130))
    answer, picture = client.query(examples=[at(10, 20)])
    everything = codes.reshape(-1, 16)
    everything = everything[everything[:, 0] != 0]
    vectors = everything.astype(float) - 128
    lengths = np.linalg.norm(vectors, axis=1)
    alike = vectors @ unit_at(codes, 10, 20) / np.where(lengths > 0, lengths, 1)
    # the background is all of so small a raster
    assert answer["low"] == pytest.approx(np.quantile(alike, 0.5), abs=1e-4)
    assert answer["high"] == pytest.approx(np.quantile(alike, 0.999), abs=1e-4)
    shares, cosines = zip(*answer["thresholds"], strict=True)
    assert shares == SHARES and {50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1} <= set(shares)
    assert list(cosines) == sorted(cosines)
    assert cosines == pytest.approx(np.quantile(alike, 1 - np.array(shares) / 100), abs=1e-4)
    counts = np.bincount(picture.ravel(), minlength=256)
    hectares = np.cumsum(counts[::-1])[::-1] / 100  # 10 m pixels at the central meridian
    assert answer["hectares"] == pytest.approx(hectares * 1.0008, rel=2e-4, abs=1e-3)
    assert len(answer["hectares"]) == 256 and answer["ms"] > 0


def test_hectares_hold_in_mercator(live, tmp_path):
    """At 50 degrees north a square metre of the map is 0.41 of the ground."""
    path = write(tmp_path / "e.tif", smooth_codes(200, 200))
    client, areas = live(path), []
    for crs, pixel in ((UTM, 10.0), (MERCATOR, 8.0), (DEGREES, 1e-4)):
        client.look(crs, canvas(UTM, NORTH_UP, (200, 200), crs, pixel, 20.0, (500, 600)),
                    (500, 600))
        areas.append(client.query(examples=[at(10, 20)])[0]["hectares"][1])
    assert areas == pytest.approx([areas[0]] * 3, rel=0.01)


def test_a_centred_archive(live, tmp_path):
    codes, centre = smooth_codes(80, 90), 0.1 * np.random.default_rng(3).normal(size=16)
    path = write(tmp_path / "e.tif", codes, **{CENTER_TAG: ",".join(map(str, centre))})
    client = live(path)
    client.look(UTM, NORTH_UP, (80, 90))
    answer, picture = client.query(examples=[at(10, 20)])
    assert_picture(picture, client.grid, path, unit_at(codes, 10, 20, centre), answer,
                   slack=1e-6, centre=centre)


def test_hover_is_what_a_click_would_give(live, tmp_path):
    path = write(tmp_path / "e.tif", smooth_codes(100, 100))
    client = live(path)
    client.look(UTM, NORTH_UP, (100, 100))
    a, b, against = at(80, 30), at(90, 70), at(5, 5)
    for kept, kind in (({}, "cosine"), ({"examples": [a]}, "prototypes"),
                       ({"examples": [a], "counterexamples": [against]}, "linear head"),
                       ({"counterexamples": [against]}, "linear head")):
        shown, picture = client.query(hover=hover(b), **kept)
        assert shown["kind"] == kind and shown["hover_valid"]
        clicked, same = client.query(**{**kept, "examples": [*kept.get("examples", []), b]})
        assert (picture == same).all() and not clicked["hover_valid"]
        assert shown["slot"] != clicked["slot"]
        assert shown["thresholds"] == clicked["thresholds"]
    (x,), (y,) = transform(UTM, MERCATOR, [b["x"]], [b["y"]])
    assert (client.query(hover=[x, y, MERCATOR])[1] == client.query(hover=hover(b))[1]).all()


def test_pointers_that_show_nothing(live, tmp_path):
    path = write(tmp_path / "e.tif", smooth_codes(120, 120))
    client = live(path)
    client.look(UTM, NORTH_UP, (120, 140))
    for pointer in (None, hover(at(35, 40)), hover(at(61, 3)), hover(at(10, 130)), [0, 0, UTM],
                    [0.0, 0.0, DEGREES], [1e9, 1e9, MERCATOR]):
        answer, picture = client.query(hover=pointer)
        assert answer["kind"] == "none" and not answer["hover_valid"] and not picture.any()
        assert len(answer["hectares"]) == 256 and answer["matches"] == []
        assert client.query(counterexamples=[at(3, 3)], hover=pointer)[0]["kind"] == "none"
        kept, picture = client.query(examples=[at(3, 3)], hover=pointer)
        assert kept["kind"] == "cosine" and not kept["hover_valid"] and picture.any()


def test_examples_are_read_in_full_and_told_when_lost(live, tmp_path):
    codes = smooth_codes(120, 120)
    path = write(tmp_path / "e.tif", codes)
    client = live(path)
    client.look(UTM, NORTH_UP, (60, 120))
    lost = [at(35, 40), {"x": 0, "y": 0, "crs": UTM}]
    answer, _ = client.query(examples=[lost[0], at(3, 3), lost[1]], counterexamples=lost)
    assert answer["lost"] == [0, 2] and answer["lost_counterexamples"] == [0, 1]
    assert answer["kind"] == "cosine"
    assert client.query(examples=lost)[0]["kind"] == "none"
    box = {"box": [5e5 + 100, 5.6e6 - 1200, 5e5 + 300, 5.6e6 - 1000], "crs": UTM}
    answer, picture = client.query(examples=[box])
    part = (codes[100:120, 10:30].reshape(-1, 16).astype(float) - 128)
    mean = (part / np.linalg.norm(part, axis=1, keepdims=True)).mean(0)
    assert_picture(picture, client.grid, path, mean / np.linalg.norm(mean), answer,
                   slack=1e-6)
    (x, _), (y, _) = transform(UTM, MERCATOR, [5e5 + 35, 0], [5.6e6 - 35, 0])
    assert (client.query(examples=[{"x": x, "y": y, "crs": MERCATOR}])[1]
            == client.query(examples=[at(3, 3)])[1]).all()


def test_the_learner_is_the_job_s(tmp_path):
    rng = np.random.default_rng(0)
    background, examples, against = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (
        rng.normal(size=(n, 32)) + 0.3 for n in (9000, 12, 5)))
    learner = queries.Learner(background)
    none = np.zeros((0, 32))
    for shown, others in ((examples[:1], none), (examples, none), (examples, against),
                          (examples[:1], against[:1])):
        for pointer in (None, examples[-1]):
            together = shown if pointer is None else np.concatenate([shown, pointer[None]])
            expected = queries.learn(together, others, background)
            got = learner.learn(shown, others, pointer)
            assert got.kind == expected.kind
            if len(got.directions) == len(expected.directions):
                assert got.directions == pytest.approx(expected.directions, abs=1e-9)
            else:  # the number of prototypes is chosen without the pointer
                assert pointer is not None and len(shown) > 3
    alone = learner.learn(none, against, examples[0])
    assert alone.directions == pytest.approx(queries.learn(examples[:1], against,
                                                           background).directions, abs=1e-9)


@pytest.mark.parametrize("pixels", [0, 4, None])
def test_matches_are_the_best_of_the_view_far_apart(live, tmp_path, pixels):
    codes = smooth_codes(150, 160)
    path = write(tmp_path / "e.tif", codes)
    client = live(path)
    matrix = (10.0, 0.0, 5e5 + 200, 0.0, -10.0, 5.6e6 - 300)
    client.look(UTM, matrix, (100, 120))
    more = {} if pixels is None else {"min_distance_m": 10.0 * pixels}
    answer, _ = client.query(examples=[at(60, 70)], rank=25, **more)
    shown = codes[30:130, 20:140]
    vectors = shown.astype(float) - 128
    lengths = np.linalg.norm(vectors, axis=-1)
    similar = np.where(shown[..., 0] != 0, vectors @ unit_at(codes, 60, 70)
                       / np.where(lengths > 0, lengths, 1), -9).ravel()
    least, kept = 10 if pixels is None else pixels, []
    for i in np.argsort(-similar, kind="stable"):
        row, col = divmod(int(i), 120)
        if similar[i] > -9 and all((row - r) ** 2 + (col - c) ** 2 >= least**2 for r, c in kept):
            kept.append((row, col))
        if len(kept) == 25:
            break
    found = [(~rasterio.Affine(*matrix)) @ (m["x"], m["y"]) for m in answer["matches"]]
    assert [(int(r), int(c)) for c, r in found] == kept
    assert [m["cosine"] for m in answer["matches"]] == pytest.approx(
        [similar[r * 120 + c] for r, c in kept])
    percentiles = [m["percentile"] for m in answer["matches"]]
    assert percentiles == sorted(percentiles, reverse=True) and percentiles[0] > 99.9


@pytest.mark.parametrize("second", [
    (UTM, (10.0, 0.0, 5e5 + 500, 0.0, -10.0, 5.6e6)),  # on one lattice
    (UTM, (10.0, 0.0, 5e5 + 503, 0.0, -10.0, 5.6e6 + 4)),  # shifted by half a pixel
    ("EPSG:32632", (10.0, 0.0, 74_500, 0.0, -10.0, 5_615_500)),  # another zone
])
def test_of_overlapping_tiles_the_first_with_data_counts(live, tmp_path, second):
    crs, matrix = second
    one, two = smooth_codes(150, 100, seed=1), smooth_codes(150, 100, seed=2)
    paths = [write(tmp_path / "1.tif", one), write(tmp_path / "2.tif", two, matrix, crs)]
    client = live(*paths)
    client.look(MERCATOR, canvas(UTM, NORTH_UP, (150, 150), MERCATOR, 12.0, 5.0, (260, 300)),
                (260, 300))
    answer, picture = client.query(examples=[at(100, 20)])
    direction, right = unit_at(one, 100, 20), np.zeros(picture.shape, bool)
    seen = []
    for shift in ((0, 0), (-0.1, -0.1), (-0.1, 0.1), (0.1, -0.1), (0.1, 0.1), (0, 0.1), (0.1, 0),
                  (0, -0.1), (-0.1, 0)):
        layers = [expected_bytes(client.grid, p, direction, answer["low"], answer["high"],
                                 shift=shift) for p in paths]
        seen.append(layers)
    for first, _ in seen:
        for _, behind in seen:
            expected = np.where(first > 0, first, behind)
            right |= ((expected == 0) == (picture == 0)) & (np.abs(expected - picture) <= 1)
    assert right.all(), (~right).sum()
    assert ((seen[0][0] == 0) & (picture > 0)).sum() > 500  # the second tile is seen too
    best = client.query(examples=[at(100, 20)], rank=1)[0]["matches"][0]
    assert (best["x"], best["y"]) == pytest.approx((at(100, 20)["x"], at(100, 20)["y"]))


def test_tiny_and_empty_views(live, tmp_path):
    codes = smooth_codes(300, 300, 4)
    codes[:256, :256] = 0
    client = live(write(tmp_path / "e.tif", codes))
    assert client.look(UTM, NORTH_UP, (200, 200))["valid"] == 0  # nothing but nodata
    answer, picture = client.query(examples=[at(280, 290)], rank=5)
    assert not picture.any() and answer["matches"] == [] and answer["kind"] == "cosine"
    assert client.look(MERCATOR, (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), (50, 60))["valid"] == 0
    assert client.query(examples=[at(280, 290)])[0]["hectares"][1] == 0
    x, y = (at(280, 290)[k] for k in "xy")
    assert client.look(UTM, (2.0, 0.0, x - 1, 0.0, -2.0, y + 1), (1, 1))["embeddings"] == 1
    answer, picture = client.query(examples=[at(280, 290)], rank=5)
    assert picture.tolist() == [[255]] and len(answer["matches"]) == 1
    one = live(write(tmp_path / "one.tif", np.full((1, 1, 4), 200, np.uint8)))
    assert one.look(UTM, (5.0, 0.0, 5e5 - 10, 0.0, -5.0, 5.6e6 + 10), (6, 6))["valid"] == 4 / 36
    answer, picture = one.query(hover=hover(at(0, 0)))
    assert answer["high"] > answer["low"]
    assert np.argwhere(picture).tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_sentences(live, tmp_path):
    path = write(tmp_path / "e.tif", smooth_codes(600, 600))
    client = live(path)
    client.look(UTM, NORTH_UP, (50, 60))
    old = client.view["view"]
    client.look(UTM, NORTH_UP, (50, 60))
    matrix, crs = list(NORTH_UP), CRS.from_user_input(UTM).to_wkt()
    grid = {"crs": crs, "transform": matrix, "shape": [50, 60]}
    for method, params, sentence in (
        ("live/dance", {}, "There is no request live/dance"),
        ("live/query", {"session": client.session}, "live/query needs the parameter view"),
        ("live/view", {"session": 99, "grid": grid}, "This live search is closed"),
        ("live/query", {"session": client.session, "view": old}, "replaced by a newer one"),
        ("live/view", {"session": client.session, "grid": {**grid, "shape": [0, 5]}}, "no area"),
        ("live/view", {"session": client.session, "grid": {**grid, "shape": [10**5, 10**5]}},
         "too large"),
        ("live/view", {"session": client.session, "grid": {**grid, "transform": [0] * 6}},
         "no area"),
        ("live/view", {"session": client.session, "grid": {**grid, "crs": "EPSG:0"}},
         "The coordinate reference system EPSG:0 is not known"),
        ("live/open", {"input": [str(tmp_path / "x.tif")]}, "x.tif cannot be opened"),
    ):
        with pytest.raises(UserError, match=sentence):
            client.search.answer(method, params)
    opposite = np.full((40, 40, 4), 200, np.uint8)
    opposite[20:] = 56  # all signs turned
    two = live(write(tmp_path / "opposite.tif", opposite))
    two.look(UTM, NORTH_UP, (40, 40))
    with pytest.raises(UserError, match="cancel each other out"):
        two.query(examples=[at(3, 3)], hover=hover(at(30, 3)))
    assert two.query(examples=[at(3, 3)])[0]["kind"] == "cosine"


def test_files_that_cannot_be_searched(live, tmp_path):
    codes = smooth_codes(600, 600)
    path = tmp_path / "e.tif"
    write(path, codes)
    with rasterio.open(tmp_path / "dem.tif", "w", driver="GTiff", width=2, height=2, count=1,
                       dtype="uint8", transform=rasterio.Affine(1, 0, 0, 0, -1, 0)):
        pass
    with pytest.raises(UserError, match="dem.tif is not embeddings"):
        live(str(tmp_path / "dem.tif"))
    with pytest.raises(UserError, match="holds no embeddings in this area .all nodata"):
        live(write(tmp_path / "empty.tif", np.zeros((40, 40, 4), np.uint8)))
    raw = path.read_bytes()
    (tmp_path / "cut.tif").write_bytes(raw[:-200_000])
    with pytest.raises(UserError, match="cut.tif is damaged at tile . of 9"):
        live(str(tmp_path / "cut.tif"))
    client = live(str(path))  # damaged while it is open
    path.write_bytes(raw[:-200_000])
    with pytest.raises(UserError, match="e.tif is damaged at tile . of 9"):
        client.look(UTM, NORTH_UP, (600, 600))
    path.write_bytes(raw)
    assert client.look(UTM, NORTH_UP, (600, 600))["valid"] > 0.5
    path.unlink()
    with pytest.raises(UserError, match="e.tif cannot be opened .No such file"):
        client.look(UTM, NORTH_UP, (600, 600))


def test_files_go_with_their_view_and_session(live, tmp_path):
    client = live(write(tmp_path / "e.tif", smooth_codes(60, 60)))
    first = client.look(UTM, NORTH_UP, (50, 60))["file"]
    second = client.look(UTM, NORTH_UP, (50, 60))["file"]
    assert not os.path.exists(first) and os.path.exists(second)
    client.search.answer("live/close", {"session": client.session})
    assert not os.path.exists(second)
    with pytest.raises(UserError, match="closed"):
        client.query(examples=[at(3, 3)])
    client.search.answer("live/close", {"session": client.session})
    folder = os.path.dirname(os.path.dirname(second))
    client.close()
    assert not os.path.exists(folder)


class Remote:
    """A live search in a real engine."""

    def __init__(self):
        self.engine, self.answers = EngineClient(sys.executable), []

    def ask(self, method, **params):
        answered, answer = threading.Event(), []
        self.engine.post(method, params, lambda *got: (answer.extend(got), answered.set()))
        assert answered.wait(60)
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def start(self, path, shape=(300, 300)):
        self.session = self.ask("live/open", input=[path])["session"]
        grid = {"crs": UTM, "transform": list(NORTH_UP), "shape": list(shape)}
        self.view = self.ask("live/view", session=self.session, grid=grid)

    def query(self, **params):
        return self.ask("live/query", session=self.session, view=self.view["view"], **params)


@pytest.fixture
def remote():
    running = Remote()
    yield running
    running.engine.close()


def test_a_real_engine_answers_through_its_map(remote, tmp_path):
    codes = smooth_codes(300, 300)
    path = write(tmp_path / "e.tif", codes)
    remote.start(path)
    pictures = np.memmap(remote.view["file"], np.uint8, "r", shape=(2, 300, 300))
    for row, col in ((140, 20), (20, 150), (250, 250)):
        answer = remote.query(hover=hover(at(row, col)))
        grid = {"crs": UTM, "transform": NORTH_UP, "shape": (300, 300)}
        assert_picture(pictures[answer["slot"]], grid, path, unit_at(codes, row, col), answer,
                       slack=1e-6)
    with pytest.raises(EngineError, match=r"There is no request live/dance. Choose one of live/op"):
        remote.ask("live/dance")
    assert remote.ask("live/close", session=remote.session) == {}
    with pytest.raises(EngineError, match="This live search is closed"):
        remote.query()
    file = remote.view["file"]
    remote.engine.close()
    assert not os.path.exists(os.path.dirname(os.path.dirname(file)))


def test_queries_are_answered_in_order_while_a_job_runs(remote, tmp_path):
    remote.start(write(tmp_path / "e.tif", smooth_codes(300, 300)))
    finished, enough, answers, seconds = threading.Event(), threading.Event(), [], []

    def job():
        with contextlib.suppress(EngineCancelled):
            remote.engine.run("simulate_season", {"output": str(tmp_path / "season"), "size": 512},
                              is_cancelled=enough.is_set)
        finished.set()

    running = threading.Thread(target=job)
    running.start()
    time.sleep(0.3)
    while not finished.is_set() and len(seconds) < 30:
        start = time.monotonic()
        remote.query(hover=hover(at(250, 20)))
        seconds.append(time.monotonic() - start)
    assert len(seconds) == 30, "the queries waited for the job"
    done = threading.Event()
    for number in range(5):
        remote.engine.post("live/query", {"session": remote.session, "view": remote.view["view"],
                                          "examples": [at(10 * number, 3)]},
                           lambda answer, failure, number=number: (
                               answers.append(number), number == 4 and done.set()))
    assert done.wait(30) and answers == [0, 1, 2, 3, 4]
    assert not finished.is_set()
    enough.set()
    running.join()


def test_a_killed_engine_is_an_error_for_all_who_wait(remote, tmp_path):
    path = write(tmp_path / "e.tif", smooth_codes(300, 300))
    remote.start(path)
    failures, all_told = [], threading.Event()

    def done(answer, failure):
        failures.append((answer, failure))
        if len(failures) == 3:
            all_told.set()

    os.kill(remote.engine.pid, signal.SIGSTOP)
    for _ in range(3):
        remote.engine.post("live/query", {"session": remote.session, "view": 2}, done)
    time.sleep(0.2)
    assert not failures
    os.kill(remote.engine.pid, signal.SIGKILL)
    assert all_told.wait(20)
    assert all(answer is None and isinstance(failure, EngineError)
               and "stopped unexpectedly" in str(failure) for answer, failure in failures)
    with pytest.raises(EngineError, match="This live search is closed"):
        remote.query()  # of the next engine
    remote.start(path)
    assert remote.query(examples=[at(3, 3)])["kind"] == "cosine"
    assert len(failures) == 3
