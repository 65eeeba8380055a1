"""A map beside a raster of classes: every pixel counted, on any grid, matched by name or value."""

import csv
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import transform, transform_bounds
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
)

from earthprint.engine.accuracy import overlay
from earthprint.engine.accuracy.classmap import NONE, ClassMap
from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.rasters.legend import Legend, LegendClass
from earthprint.engine.rasters.raster import RasterWriter
from earthprint.engine.tasks.assess_accuracy import run

NORTH_UP = (10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6)
COVER = Legend((LegendClass(0, "water", "#1f4e79"), LegendClass(1, "wheat & rye", "#a57000"),
                LegendClass(2, "forest", "#006400")))
SIDE = 90


def patches(seed, classes=3, side=SIDE, size=6):
    """(side, side) uint8 classes in squares."""
    coarse = np.random.default_rng(seed).integers(0, classes, (side // size + 1,) * 2)
    return np.kron(coarse, np.ones((size, size), int))[:side, :side].astype(np.uint8)


def mapped(path, values, legend=COVER, affine=NORTH_UP, crs="EPSG:32631"):
    """A map of classes as the engine writes it, 255 for none."""
    grid = Grid(CRS.from_string(crs).to_wkt(), affine, values.shape)
    with RasterWriter(path, grid, "uint8", 255, legend=legend) as out:
        out.write(grid.full, values.astype(np.uint8))
    return path


def plain(path, values, affine=NORTH_UP, crs="EPSG:32631", nodata=None):
    """A raster of anybody: bands, no legend."""
    bands = values if values.ndim == 3 else values[None]
    with rasterio.open(path, "w", driver="GTiff", height=bands.shape[1], width=bands.shape[2],
                       count=len(bands), dtype=bands.dtype, crs=crs, transform=Affine(*affine),
                       nodata=nodata) as out:
        out.write(bands)
    return path


def compared(folder, path, reference, **params):
    """The job's answer and its warnings."""
    said = []
    context = JobContext(on_log=lambda level, text: said.append((level, text)), folder=folder)
    result = run({"map": str(path), "reference": str(reference), **params}, context)
    return result, [text for level, text in said if level == "warning"]


def looked_up(path, reference):
    """(rows, cols) value of the reference under each centre by the book; NaN beyond it."""
    with rasterio.open(path) as ours, rasterio.open(reference) as theirs:
        col, row = np.meshgrid(np.arange(ours.width) + 0.5, np.arange(ours.height) + 0.5)
        x, y = ours.transform @ (col, row)
        if ours.crs != theirs.crs:
            x, y = (np.asarray(v) for v in transform(ours.crs, theirs.crs, x.ravel(), y.ravel()))
        col, row = (np.floor(v + 1e-6).astype(int).reshape(ours.shape)
                    for v in ~theirs.transform @ (x, y))
        inside = (col >= 0) & (row >= 0) & (col < theirs.width) & (row < theirs.height)
        values = theirs.read(1)[np.where(inside, row, 0), np.where(inside, col, 0)]
        return np.where(inside, values, np.nan)


# -- figures


def test_figures_are_those_of_scikit_learn(tmp_path):
    """All pixels, weighted by their size on the ellipsoid; nodata of either is left out."""
    ours, truth = patches(1), patches(2)
    truth = np.where(np.random.default_rng(3).random(ours.shape) < 0.7, ours, truth)
    ours[:, :7], truth[80:] = 255, 9
    path = mapped(tmp_path / "map.tif", ours)
    reference = plain(tmp_path / "truth.tif", truth, nodata=9)
    result, warnings = compared(tmp_path, path, reference, table=str(tmp_path / "t.csv"))
    with rasterio.open(path) as file:
        area = np.repeat(Grid.of(file).row_areas_m2()[:, None], SIDE, 1) / 1e4
    seen = (ours < 255) & (truth != 9)
    true, made, weight = truth[seen], ours[seen], area[seen]
    given = {"sample_weight": weight}
    overall = accuracy_score(true, made, **given)
    assert result["overall"] == {"value": pytest.approx(100 * overall), "half": None}
    assert result["units"] == seen.sum() and result["strata"] == []
    for key, score in (("users", precision_score), ("producers", recall_score), ("f1", f1_score)):
        wanted = 100 * score(true, made, average=None, **given)
        assert [c[key]["value"] for c in result["classes"]] == pytest.approx(wanted.tolist())
        assert all(c[key]["half"] is None for c in result["classes"])
    rows = list(csv.DictReader((tmp_path / "t.csv").open(encoding="utf-8")))
    matrix = [[float(r[f"reference {n} ha"]) for n in COVER.names] for r in rows[:-1]]
    np.testing.assert_allclose(matrix, confusion_matrix(true, made, **given).T, rtol=1e-9)
    assert [float(r["iou"]) for r in rows[:-1]] == pytest.approx(
        jaccard_score(true, made, average=None, **given).tolist())
    assert [r["class"] for r in rows] == [*COVER.names, "all"]
    assert float(rows[-1]["mapped_ha"]) == pytest.approx(weight.sum())
    ground = result["ground"]
    assert ground["map_ha"] == pytest.approx(area[ours < 255].sum(), abs=1e-3)
    assert ground["compared_ha"] == pytest.approx(weight.sum(), abs=1e-3)
    assert ground["beyond_ha"] == 0 and not ground["whole"]
    assert len(warnings) == 1 and "11.1 % of the map's area" in warnings[0]


def test_a_census_has_no_interval_and_no_warning(tmp_path):
    path = mapped(tmp_path / "map.tif", patches(1))
    reference = mapped(tmp_path / "truth.tif", patches(2))
    report = tmp_path / "r.html"
    result, warnings = compared(tmp_path, path, reference, report=str(report), command="again")
    page = report.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(page)
    words = " ".join(" ".join(checker.words).split())
    assert not checker.open and not warnings and result["ground"]["whole"]
    for part in ("census", "no sampling error", "wheat & rye", "User's accuracy",
                 "Matrix of the area (ha)", "by the names of both legends", "again",
                 f"{result['overall']['value']:.1f} %"):
        assert part in words, part
    assert "±" not in words and "95 %" not in words
    assert not list(tmp_path.glob(".*"))


class Checker(HTMLParser):
    """Keeps the words; tags that are not closed in order are an error."""

    ALONE = {"meta", "br", "rect", "line", "circle", "image", "path"}

    def __init__(self):
        super().__init__()
        self.open, self.words = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.ALONE:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


# -- where pixels lie

GRIDS = st.tuples(
    st.sampled_from(["EPSG:32631", "EPSG:3035", "EPSG:4326", "EPSG:3857", "EPSG:32630"]),
    st.floats(0.2, 5), st.floats(0, 360), st.floats(-300, 300), st.floats(-300, 300))


@settings(max_examples=40, deadline=None)
@given(GRIDS)
def test_each_centre_gets_the_pixel_that_it_lies_in(tmp_path_factory, grid):
    """Any CRS, pixel size and turn, with places computed in between."""
    crs, scale, angle, right, up = grid
    folder = tmp_path_factory.mktemp("grid")
    ours = mapped(folder / "map.tif", patches(1, side=70))
    x, y = (v[0] for v in transform("EPSG:32631", crs, [500350 + right], [5599650 + up]))
    pixel = 10 * scale * (1e-5 if crs == "EPSG:4326" else 1)
    affine = (Affine.translation(x, y) @ Affine.rotation(angle)
              @ Affine.scale(pixel, -pixel * 1.1) @ Affine.translation(-30, -40))
    values = np.arange(4800, dtype=np.uint16).reshape(80, 60)
    theirs = plain(folder / "truth.tif", values, tuple(affine)[:6], crs)
    with ClassMap(ours) as source, ClassMap(theirs) as reference:
        lookup = overlay._Lookup(source.grid, reference, JobContext())
        found = np.concatenate([lookup.values(w) for w in source.grid.blocks(33, 70)])
    wanted = looked_up(ours, theirs)
    np.testing.assert_array_equal(found, np.where(np.isnan(wanted), overlay.OUTSIDE, wanted))


def test_far_apart_pixels_are_read_in_parts(tmp_path, monkeypatch):
    path = mapped(tmp_path / "map.tif", patches(1))
    fine = plain(tmp_path / "fine.tif", patches(4, side=SIDE * 5), (2, 0, 5e5, 0, -2, 5.6e6))
    whole, _ = compared(tmp_path, path, fine)
    read = []
    values = ClassMap.values
    monkeypatch.setattr(ClassMap, "values",
                        lambda self, window: read.append(window.size) or values(self, window))
    monkeypatch.setattr(overlay, "_MOST_READ", 900)
    assert compared(tmp_path, path, fine)[0] == whole
    assert max(n for n in read if n != SIDE * SIDE) <= 900 and len(read) > 200


def test_beyond_the_reference_is_counted_apart(tmp_path):
    path = mapped(tmp_path / "map.tif", patches(1))
    truth = patches(1)[:60, :30]
    truth[:6] = 7
    report = tmp_path / "r.html"
    result, warnings = compared(tmp_path, path, plain(tmp_path / "t.tif", truth, nodata=7),
                                report=str(report))
    ground = result["ground"]
    assert result["overall"]["value"] == 100 and result["units"] == 54 * 30
    share = ground["compared_ha"] / ground["map_ha"]
    assert share == pytest.approx(54 * 30 / SIDE**2, rel=1e-4)
    assert ground["unlabelled_ha"] / ground["beyond_ha"] == pytest.approx(
        6 * 30 / (SIDE**2 - 60 * 30), rel=1e-4)
    assert "80.0 % of the map's area" in warnings[0]
    page = report.read_text(encoding="utf-8")
    assert "nothing of the rest" in page and "Beyond the edges" in page and "census" not in page


# -- which classes are the same


def test_names_count_where_both_have_them(tmp_path):
    """The same classes under other numbers and in capitals."""
    ours = patches(1)
    path = mapped(tmp_path / "map.tif", ours)
    other = Legend((LegendClass(0, "Forest", "#111111"), LegendClass(1, "WATER", "#222222"),
                    LegendClass(2, "Wheat & Rye", "#333333")))
    reference = mapped(tmp_path / "t.tif", np.array([1, 2, 0])[ours], other)
    result, warnings = compared(tmp_path, path, reference)
    assert result["overall"]["value"] == 100 and not warnings
    assert [c["name"] for c in result["classes"]] == list(COVER.names)
    by_value, _ = compared(tmp_path, path, plain(tmp_path / "n.tif", np.array([1, 2, 0])[ours]
                                                 .astype(np.uint8), nodata=99))
    assert by_value["overall"]["value"] == 0


def test_what_only_one_of_them_knows_is_said_and_wrong(tmp_path):
    ours, truth = patches(1), patches(1)
    truth[truth == 2] = 5
    path = mapped(tmp_path / "map.tif", ours)
    legend = Legend((*COVER.classes[:2], LegendClass(5, "orchard", "#777777")))
    result, warnings = compared(tmp_path, path, mapped(tmp_path / "t.tif", truth, legend))
    assert [c["name"] for c in result["classes"]] == [*COVER.names, "orchard"]
    assert "orchard of t.tif is not on the map" in warnings[0]
    assert "forest of map.tif is not in t.tif" in warnings[1]
    forest, orchard = result["classes"][2:]
    assert forest["users"]["value"] == 0 and forest["producers"]["value"] is None
    assert orchard["producers"]["value"] == 0 and orchard["value"] is None
    assert result["overall"]["value"] == pytest.approx(100 * (ours < 2).mean(), abs=1e-2)


def test_nothing_in_common_is_a_sentence(tmp_path):
    path = mapped(tmp_path / "map.tif", patches(1))
    legend = Legend((LegendClass(0, "Wasser", "#1f4e79"), LegendClass(1, "Wald", "#006400")))
    named = mapped(tmp_path / "named.tif", patches(2, 2), legend)
    with pytest.raises(UserError, match=r"No class of named.tif \(Wasser, Wald\)"):
        compared(tmp_path, path, named)
    numbers = plain(tmp_path / "numbers.tif", patches(2) + 30)
    with pytest.raises(UserError, match=r"No value of numbers.tif \(30, 31, 32\)"):
        compared(tmp_path, path, numbers)


def test_values_without_a_name_in_a_legend_are_left_out(tmp_path):
    truth = patches(1)
    truth[:9] = 77
    result, warnings = compared(tmp_path, mapped(tmp_path / "map.tif", patches(1)),
                                mapped(tmp_path / "t.tif", truth))
    assert "Value 77 has no class in the legend of t.tif" in warnings[0]
    assert result["overall"]["value"] == 100 and result["units"] == 81 * SIDE


@pytest.mark.parametrize(("values", "nodata", "units"), [
    ((0, 1, 2), None, "some"),  # 0 of an unsaid nodata
    ((0, 1, 2), 200, "all"),  # another one is declared
    ((0, 1, 1), None, "all"),  # a mask
])
def test_zero_without_a_declared_nodata(tmp_path, values, nodata, units):
    ours = patches(1)
    truth = np.array(values, np.uint8)[ours]
    result, _ = compared(tmp_path, mapped(tmp_path / "map.tif", ours),
                         plain(tmp_path / "t.tif", truth, nodata=nodata))
    assert result["units"] == (SIDE**2 if units == "all" else (truth > 0).sum())


def test_a_band_and_values_that_are_no_class(tmp_path):
    ours = patches(1)
    truth = np.where(patches(5) == 0, -9999, ours.astype(np.int16))
    truth[:5] = 99
    path = mapped(tmp_path / "map.tif", ours)
    reference = plain(tmp_path / "t.tif", np.stack([truth * 0 + 1, truth]))
    result, warnings = compared(tmp_path, path, reference, band=2, ignored="-9999, 99")
    kept = ~np.isin(truth, [-9999, 99])
    # no nodata is declared and three values are left, so 0 is none, though the map has such
    assert any("If it is water" in text for text in warnings)
    assert result["units"] == (kept & (truth > 0)).sum() and result["overall"]["value"] == 100
    assert result == compared(tmp_path, path, reference, band=2, ignored=[-9999, 99])[0]
    for params, said in (({"band": 3}, "no band 3"), ({"band": 2}, "-9999"),
                         ({"band": 2, "ignored": "x"}, "whole numbers")):
        with pytest.raises(UserError, match=said):
            compared(tmp_path, path, reference, **params)


# -- what cannot be


def test_sentences_and_nothing_left_behind(tmp_path):
    path = mapped(tmp_path / "map.tif", patches(1))
    far = mapped(tmp_path / "far.tif", patches(1), affine=(10, 0, 7e5, 0, -10, 5.2e6))
    empty = plain(tmp_path / "empty.tif", patches(1) * 0 + 3, nodata=3)
    slope = plain(tmp_path / "slope.tif", patches(1) / 7)
    heights = plain(tmp_path / "heights.tif", np.arange(SIDE**2, dtype=np.uint16)
                    .reshape(SIDE, SIDE) % 200 + 1)
    wanted = {"report": str(tmp_path / "r.html"), "table": str(tmp_path / "t.csv")}
    for reference, params, said in (
        (far, {}, "have no common area"), (empty, {}, "nodata there"), (slope, {}, "decimals"),
        (heights, {}, "looks like measurements"), (path, {}, "the same file"),
        (far, {"strata": str(path)}, "Leave them empty"),
        (tmp_path / "none.tif", {}, "not found"),
    ):
        with pytest.raises(UserError, match=said):
            compared(tmp_path, path, reference, **wanted, **params)
    assert not list(tmp_path.glob("*.html")) + list(tmp_path.glob("*.csv"))


def test_features_still_need_their_field(tmp_path):
    path = mapped(tmp_path / "map.tif", patches(1))
    points = tmp_path / "points.geojson"
    points.write_text('{"type": "FeatureCollection", "features": [{"type": "Feature", '
                      '"properties": {"c": "water"}, "geometry": {"type": "Point", '
                      '"coordinates": [3.0, 50.5]}}]}')
    with pytest.raises(UserError, match="Choose the field"):
        compared(tmp_path, path, points)


def test_it_can_be_stopped(tmp_path):
    path = mapped(tmp_path / "map.tif", patches(1))
    reference = plain(tmp_path / "t.tif", patches(2), nodata=9)
    context = replace(JobContext(), is_cancelled=lambda: True, folder=tmp_path)
    with pytest.raises(Cancelled):
        run({"map": str(path), "reference": str(reference), "table": str(tmp_path / "t.csv")},
            context)
    assert not (tmp_path / "t.csv").exists()


# -- real rasters


def test_water_against_a_hand_drawn_mask(shared, tmp_path):
    """Sen1Floods11's chip of Spain: MNDWI above 0 has the IoU that its catalogue tells."""
    stem = shared / "data" / "flood-sen1floods11-spain" / "Spain_7370579_"
    with rasterio.open(f"{stem}S2Hand.tif") as file:
        green, swir = file.read(3).astype(float), file.read(12).astype(float)
        affine, crs = tuple(file.transform)[:6], file.crs.to_string()
    water = ((green - swir) / np.maximum(green + swir, 1) > 0).astype(np.uint8)
    water[(green <= 0) | (swir <= 0)] = 255
    legend = Legend((LegendClass(0, "land", "#c9b37e"), LegendClass(1, "water", "#1f6fb2")))
    path = mapped(tmp_path / "water.tif", water, legend, affine, crs)
    result, _ = compared(tmp_path, path, f"{stem}LabelHand.tif", table=str(tmp_path / "t.csv"))
    with rasterio.open(f"{stem}LabelHand.tif") as file:
        truth = file.read(1)
    seen = (truth >= 0) & (water < 255)
    assert result["units"] == seen.sum()
    rows = list(csv.DictReader((tmp_path / "t.csv").open(encoding="utf-8")))
    assert float(rows[1]["iou"]) == pytest.approx(0.612, abs=6e-4)
    assert result["classes"][1]["f1"]["value"] == pytest.approx(
        100 * f1_score(truth[seen], water[seen]), abs=0.01)  # rows differ in size by 0.06 %


def test_crops_of_the_polders_on_another_grid(shared, tmp_path):
    """The second band of the labels under a map of 15 m pixels in the grid of Europe."""
    labels = shared / "data" / "crop-worldcereal-patches" / "belgium-2018-polders" / \
        "labels_LC_CT_10m.tif"
    with rasterio.open(labels) as file:
        x, _, _, y = transform_bounds(file.crs, "EPSG:3035", *file.bounds)
        path = plain(tmp_path / "map.tif", np.where(patches(1, 2, 50, 7), 1200, 9120)
                     .astype(np.uint16), (15, 0, x, 0, -15, y), "EPSG:3035")
        crops = plain(tmp_path / "crops.tif", file.read(2), tuple(file.transform)[:6], file.crs)
    result, warnings = compared(tmp_path, path, labels, band=2)
    true = looked_up(path, crops)
    with rasterio.open(path) as file:
        made = file.read(1)
    seen = true > 0
    matrix = confusion_matrix(true[seen], made[seen], labels=[1200, 9120, 2130, 5100, 7900])
    assert result["units"] == seen.sum() > 800
    assert [c["name"] for c in result["classes"]] == ["1200", "9120", "2130", "5100", "7900"]
    users = np.diag(matrix)[:2] / matrix.sum(0)[:2]
    assert [c["users"]["value"] for c in result["classes"][:2]] == pytest.approx(
        (100 * users).tolist(), rel=1e-6)
    assert "2130, 5100, 7900 of labels_LC_CT_10m.tif are not on the map" in warnings[0]


def test_the_stand_in_for_no_value_is_no_value(tmp_path):
    top = plain(tmp_path / "top.tif", np.full((4, 4), NONE - 1, np.uint16))
    with ClassMap(top) as source:
        assert (source.values(source.grid.full) == 65535).all()
