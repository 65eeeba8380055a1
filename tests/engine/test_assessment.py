"""A map against places of known class: the papers' numbers, intervals that hold, and files."""

import csv
from html.parser import HTMLParser

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from earthprint.engine import jobs
from earthprint.engine.accuracy import design
from earthprint.engine.accuracy.estimators import Sample, Strata, assess
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.rasters.legend import Legend, LegendClass
from earthprint.engine.rasters.raster import RasterWriter

UTM = CRS.from_epsg(32631).to_wkt()
HECTARE = 100 * 0.9996**2  # in pixels of 10 m at the zone's central meridian
NORTH_UP = (10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6)


def of_matrix(matrix):
    """The sample that a matrix of counts is made of; strata are its rows."""
    matrix = np.asarray(matrix)
    rows, cols = np.nonzero(matrix)
    times = matrix[rows, cols]
    rows, cols = np.repeat(rows, times), np.repeat(cols, times)
    return Sample(rows, np.eye(len(matrix))[rows], cols)


def strata_of(pixels):
    pixels = np.asarray(pixels)
    return Strata(pixels, pixels / pixels.sum())


# -- the papers' numbers

PAPER = of_matrix([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PAPER_PIXELS = [200_000, 150_000, 3_200_000, 6_450_000]


def test_olofsson_2014():
    """Tables 8 and 9 and section 5.2 of the paper, to the printed digits."""
    r = assess(PAPER, strata_of(PAPER_PIXELS), finite=False)

    def figures(estimate, digits):
        return np.round(estimate.value, digits).tolist(), np.round(estimate.half, digits).tolist()

    assert figures(r.overall, 4) == (0.9465, 0.0185)
    assert figures(r.users, 3) == ([0.88, 0.733, 0.927, 0.963], [0.074, 0.101, 0.04, 0.021])
    assert figures(r.producers, 4) == ([0.7487, 0.8472, 0.9345, 0.9616],
                                       [0.2133, 0.2544, 0.0343, 0.0184])
    np.testing.assert_allclose(r.area.value, [0.02350862, 0.01298462, 0.31752214, 0.64598462],
                               atol=5e-9)
    np.testing.assert_allclose(r.area.error, [0.00349072, 0.00212915, 0.00879242, 0.00922996],
                               atol=5e-9)
    hectares = sum(PAPER_PIXELS) * 0.09
    np.testing.assert_allclose(hectares * r.area.value,
                               [21157.76, 11686.15, 285769.93, 581386.15], atol=5e-3)
    np.testing.assert_allclose(hectares * r.area.half,
                               [6157.63, 3755.83, 15509.84, 16281.66], atol=5e-3)
    assert r.counts.sum() == 640 and r.shares.sum() == pytest.approx(1)


def test_stehman_2014():
    """The numerical example of the paper: strata that are not the map's classes."""
    def index(text):
        return np.array(["ABCD".index(letter) for letter in text])

    mapped = index("AAAAAAABBB" "ABBBBBBBBB" "BBCCCCCCBB" "DDDDDDDDDD")
    true = index("AAAAACBABC" "ABBBBBAABB" "CCCCCDDBBA" "DDDDDDDCCB")
    sample = Sample(np.repeat(range(4), 10), np.eye(4)[mapped], true)
    r = assess(sample, strata_of([40_000, 30_000, 20_000, 10_000]), finite=True)
    assert (round(float(r.overall.value), 2), round(float(r.overall.error), 5)) == (0.63, 0.08464)
    for estimate, values, errors in (
        (r.area, [0.35, 0.34, 0.2, 0.11], [0.0822, 0.0759, 0.0643, 0.0307]),
        (r.users, [0.7419, 0.5745, 0.5, 0.7], [0.1645, 0.1248, 0.2151, 0.1527]),
        (r.producers, [0.6571, 0.7941, 0.3, 0.6364], [0.1477, 0.1165, 0.1504, 0.1623]),
    ):
        assert np.round(estimate.value, 4).tolist() == values
        assert np.round(estimate.error, 4).tolist() == errors
    assert r.shares[1, 2] == pytest.approx(0.08)


def test_plain_counts_where_all_places_weigh_the_same():
    """With strata as large as their samples the matrix of counts says it all."""
    matrix = np.array([[50, 3, 2], [5, 40, 5], [0, 2, 43]])
    r = assess(of_matrix(matrix), strata_of(1000 * matrix.sum(1)), finite=False)
    assert float(r.overall.value) == pytest.approx(0.886667, abs=5e-7)
    np.testing.assert_allclose(r.users.value, [0.909091, 0.8, 0.955556], atol=5e-7)
    np.testing.assert_allclose(r.producers.value, [0.909091, 0.888889, 0.86], atol=5e-7)
    np.testing.assert_allclose(r.f1.value, [0.909091, 0.842105, 0.905263], atol=5e-7)
    np.testing.assert_allclose(r.iou.value, [0.833333, 0.727273, 0.826923], atol=5e-7)


# -- what holds always

SAMPLES = st.integers(2, 5).flatmap(lambda c: st.lists(
    st.lists(st.integers(0, 30), min_size=c, max_size=c).filter(lambda r: sum(r) > 1),
    min_size=c, max_size=c))


@given(SAMPLES, st.data())
def test_sums_and_bounds(matrix, data):
    pixels = data.draw(st.lists(st.integers(1000, 10**7), min_size=len(matrix),
                                max_size=len(matrix)))
    r = assess(of_matrix(matrix), strata_of(pixels), finite=False)
    np.testing.assert_allclose(r.counts, matrix)
    assert r.area.value.sum() == pytest.approx(1)
    assert np.trace(r.shares) == pytest.approx(float(r.overall.value))
    np.testing.assert_allclose(r.shares.sum(0), r.area.value)
    np.testing.assert_allclose(r.shares.sum(1), np.array(pixels) / sum(pixels))
    for e in (r.users, r.producers, r.f1, r.iou):
        known = ~np.isnan(e.value)
        assert (e.value[known] >= 0).all() and (e.value[known] <= 1 + 1e-12).all()
        assert (e.error[known] >= 0).all()
    never = np.array(matrix).sum(0) == 0
    assert np.isnan(r.producers.value[never]).all()
    smaller = assess(of_matrix(matrix), strata_of(pixels), finite=True)
    assert (smaller.area.error <= r.area.error + 1e-15).all()


def test_one_point_cannot_tell_an_error():
    r = assess(of_matrix([[1, 0], [3, 20]]), strata_of([10, 90]), finite=False)
    assert np.isnan(r.overall.error) and np.isnan(r.users.error[0])
    assert r.users.error[1] > 0 and float(r.overall.value) == pytest.approx(0.1 + 0.9 * 20 / 23)


def test_a_stratum_without_a_point_is_refused():
    with pytest.raises(ValueError, match="no unit"):
        assess(of_matrix([[4, 1], [0, 0]]), strata_of([10, 90]), finite=False)


def landscape(rng, rows=300, cols=400):
    """(map, truth): three classes, each confused with the others at its own rate."""
    truth = np.full((rows, cols), 2)
    truth[:, : cols // 3] = 1
    truth[: rows // 3, cols // 2 :] = 0
    mapped = truth.copy()
    for k, rate in enumerate((0.25, 0.15, 0.1)):
        wrong = (truth == k) & (rng.random(truth.shape) < rate)
        mapped[wrong] = (k + rng.integers(1, 3, wrong.sum())) % 3
    return mapped, truth


def coverage(mapped, truth, strata, finite, repeats=1500, points=240):
    """Share of samples whose intervals hold what is true of the whole map, per figure."""
    whole = np.stack([np.bincount(truth[mapped == k], minlength=3) for k in range(3)])
    right, total = np.diag(whole), whole.sum()
    exact = {"overall": right.sum() / total, "area": whole.sum(0) / total,
             "users": right / whole.sum(1), "producers": right / whole.sum(0),
             "f1": 2 * right / (whole.sum(0) + whole.sum(1))}
    pixels = np.bincount(strata.ravel())
    order = np.argsort(strata.ravel(), kind="stable")
    starts = np.concatenate([[0], np.cumsum(pixels)])
    sizes = design.allocate(pixels, pixels / total, 3 * points, points // 2)
    inside = {name: np.zeros(np.shape(value)) for name, value in exact.items()}
    size = strata_of(pixels)
    for seed in range(repeats):
        drawn = np.concatenate([order[s + r] for s, r in zip(
            starts, design.ranks(pixels, sizes, seed), strict=False)])
        sample = Sample(strata.ravel()[drawn], np.eye(3)[mapped.ravel()[drawn]],
                        truth.ravel()[drawn])
        result = assess(sample, size, finite=finite)
        for name, value in exact.items():
            estimate = getattr(result, name)
            inside[name] += np.abs(estimate.value - value) <= estimate.half
    return np.concatenate([np.ravel(v / repeats) for v in inside.values()])


def test_intervals_hold_as_often_as_they_say():
    """1500 samples of a simulated map: each of 13 figures lies inside 93 to 97 % of the time."""
    mapped, truth = landscape(np.random.default_rng(3))
    shares = coverage(mapped, truth, mapped, finite=False)
    assert len(shares) == 13 and (shares > 0.93).all() and (shares < 0.97).all(), shares


def test_intervals_hold_with_other_strata():
    """The same with strata of an older map, which a third of the area has left."""
    rng = np.random.default_rng(4)
    mapped, truth = landscape(rng)
    older = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 3, truth.shape), truth)
    shares = coverage(mapped, truth, older, finite=True)
    assert (shares > 0.93).all() and (shares < 0.97).all(), shares


# -- files

LEGEND = Legend((LegendClass(0, "water", "#1f4e79"), LegendClass(1, "wheat & rye", "#a57000"),
                 LegendClass(2, "forest", "#006400")))


class Checker(HTMLParser):
    """Raises on tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.words = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "br", "rect", "line", "circle", "image", "path", "polyline"}:
            self.open.append(tag)
        assert not any(k in ("src", "onclick") for k, _ in attrs)

    def handle_endtag(self, tag):
        if tag not in {"meta", "br", "rect", "line", "circle", "image", "path", "polyline"}:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def write_map(path, values, wkt=UTM, transform=NORTH_UP, legend=LEGEND):
    grid = Grid(wkt, transform, values.shape)
    with RasterWriter(path, grid, "uint8", 255, legend=legend) as out:
        out.write(grid.full, values.astype(np.uint8))
    return path


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A map, its truth, and points of Sampling design that were visited."""
    folder = tmp_path_factory.mktemp("case")
    mapped, truth = landscape(np.random.default_rng(3))
    mapped[:, -20:] = 255
    path = write_map(folder / "cover.tif", mapped)
    points = folder / "points.gpkg"
    jobs.run("sampling_design", {"map": str(path), "output": str(points), "target_error": 2},
             JobContext())
    visited = folder / "visited.gpkg"
    visit(points, visited, path, [LEGEND.names[k] for k in truth.ravel()])
    return {"map": path, "mapped": mapped, "truth": truth, "points": visited, "empty": points}


def visit(points, output, raster, classes, keep=None):
    """Fill in the reference from the truth, flat and as names."""
    info = pyogrio.read_info(points)
    _, _, shapes, columns = pyogrio.raw.read(points)
    data = dict(zip(info["fields"], columns, strict=True))
    xy = shapely.get_coordinates(shapely.from_wkb(shapes))
    with rasterio.open(raster) as file:
        cols, rows = np.floor(np.column_stack(~file.transform @ xy.T)).astype(int).T
        width = file.width
    data["reference"] = np.array([classes[r * width + c] for r, c in zip(rows, cols, strict=True)],
                                 object)
    if keep is not None:
        data["reference"][~keep(len(rows))] = None
    pyogrio.raw.write(output, shapes, list(data.values()), list(data), geometry_type="Point",
                      crs=info["crs"], layer="points")


def assessed(case, **params):
    said = []
    context = JobContext(on_log=lambda level, text: said.append((level, text)))
    given = {"map": str(case["map"]), "reference": str(case["points"]), "field": "reference",
             **params}
    return jobs.run("assess_accuracy", given, context), [t for k, t in said if k == "warning"]


def test_from_points_to_figures(case):
    result, warnings = assessed(case)
    known = case["mapped"] < 255
    right = (case["mapped"] == case["truth"])[known].mean() * 100
    overall = result["overall"]
    assert abs(overall["value"] - right) < 1.6 * overall["half"] and 2 < overall["half"] < 6
    total = known.sum() / HECTARE
    assert sum(c["area_ha"]["value"] for c in result["classes"]) == pytest.approx(total, rel=1e-5)
    assert sum(c["mapped_ha"] for c in result["classes"]) == pytest.approx(total, rel=1e-5)
    for c in result["classes"]:
        true = (case["truth"][known] == c["value"]).sum() / 100
        assert abs(c["area_ha"]["value"] - true) < 1.6 * c["area_ha"]["half"]
    assert not warnings


def test_report_and_table(case, tmp_path):
    report, table = tmp_path / "r.html", tmp_path / "t.csv"
    result, _ = assessed(case, report=str(report), table=str(table), command="./run process x")
    page = report.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(page)
    assert not checker.open and "http" not in page.replace("http://www.w3.org", "")
    words = " ".join(checker.words)
    for part in ("Olofsson et al. 2014", "wheat & rye", "User's accuracy", "95 % interval",
                 "./run process x", "Matrix of the area"):
        assert part in words, part
    assert f"{result['overall']['value']:.1f}" in words
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [r["class"] for r in rows] == [*LEGEND.names, "all"]
    assert sum(float(r["area_ha"]) for r in rows[:-1]) == pytest.approx(float(rows[-1]["area_ha"]))
    first = result["classes"][0]
    assert float(rows[0]["users_accuracy"]) * 100 == pytest.approx(first["users"]["value"])
    matrix = np.array([[float(r[f"reference {n}"]) for n in LEGEND.names] for r in rows[:-1]])
    assert matrix.sum() == result["units"]
    assert not list(tmp_path.glob(".*"))


def test_unvisited_points_are_counted(case, tmp_path):
    half = tmp_path / "half.gpkg"
    visit(case["empty"], half, case["map"], [LEGEND.names[k] for k in case["truth"].ravel()],
          keep=lambda n: np.arange(n) % 2 == 0)
    result, warnings = assessed({**case, "points": half})
    total = pyogrio.read_info(half)["features"]
    assert result["units"] == (total + 1) // 2
    assert f"{total // 2} without a class" in " ".join(warnings)
    with pytest.raises(UserError, match="Visit the points"):
        assessed({**case, "points": case["empty"]})


def write_points(path, places, classes, crs=UTM, kind="Point", name="cover"):
    pyogrio.raw.write(path, shapely.to_wkb(np.array(places, object)),
                      [np.array(classes, object)], [name], geometry_type=kind, crs=crs)
    return path


def at(row, col):
    return shapely.Point(5e5 + 10 * (col + 0.5), 5.6e6 - 10 * (row + 0.5))


def test_outside_nodata_unknown_classes_and_doubles_are_said(case, tmp_path):
    rng = np.random.default_rng(1)
    spots = [(int(r), int(c)) for r, c in zip(rng.integers(0, 300, 60), rng.integers(0, 380, 60),
                                              strict=True)]
    places = [at(*s) for s in spots] + [at(5, 390), at(-50, 3), at(*spots[0])]
    classes = [LEGEND.names[case["truth"][s]].upper() for s in spots] + ["forest"] * 3
    classes[4] = "bog"
    path = write_points(tmp_path / "p.gpkg", places, classes)
    result, warnings = assessed({**case, "points": path}, field="cover")
    text = " ".join(warnings)
    assert "1 outside the map; 1 where the map has no class" in text
    assert "bog" in text and "count again: 1" in text
    assert result["units"] == 61
    bog = result["classes"][-1]
    assert bog["name"] == "bog" and bog["mapped_ha"] == 0 and bog["value"] is None
    assert bog["users"]["value"] is None and bog["producers"]["value"] == 0


def test_a_class_without_points_is_said_and_left_out(case, tmp_path):
    spots = [(r, c) for r in range(2, 298, 9) for c in range(2, 378, 17)
             if case["mapped"][r, c] != 0]
    path = write_points(tmp_path / "p.gpkg", [at(*s) for s in spots],
                        [str(case["truth"][s]) for s in spots])  # by value, as text
    report = tmp_path / "r.html"
    result, warnings = assessed({**case, "points": path}, field="cover", report=str(report))
    water = (case["mapped"] == 0).sum() / HECTARE
    assert "No unit lies in class water" in " ".join(warnings)
    total = sum(c["area_ha"]["value"] for c in result["classes"])
    assert total == pytest.approx((case["mapped"] < 255).sum() / HECTARE - water, rel=1e-5)
    assert result["classes"][0]["users"]["value"] is None
    assert "n/a: no place" in report.read_text(encoding="utf-8")


def test_numbers_and_another_crs(case, tmp_path):
    """Values as a number field, points in degrees: the same figures."""
    from rasterio.warp import transform

    _, _, shapes, columns = pyogrio.raw.read(case["points"])
    xy = shapely.get_coordinates(shapely.from_wkb(shapes))
    lon, lat = transform(UTM, CRS.from_epsg(4326), *xy.T)
    values = np.array([LEGEND.names.index(n) for n in columns[1]])
    path = tmp_path / "p.geojson"
    pyogrio.raw.write(path, shapely.to_wkb(shapely.points(lon, lat)), [values], ["v"],
                      geometry_type="Point", crs="EPSG:4326")
    ours, theirs = assessed(case)[0], assessed({**case, "points": path}, field="v")[0]
    assert ours["overall"] == theirs["overall"] and ours["classes"] == theirs["classes"]


def test_strata_from_a_raster_of_another_grid(case, tmp_path):
    """The older map has coarser pixels and reaches beyond the newer one."""
    older = np.full((60, 100), 9)
    older[:, :40] = 4
    legend = Legend((LegendClass(4, "west", "#111111"), LegendClass(9, "east", "#222222")))
    path = write_map(tmp_path / "old.tif", older, legend=legend,
                     transform=(50.0, 0.0, 5e5, 0.0, -50.0, 5.6e6))
    report = tmp_path / "r.html"
    result, warnings = assessed(case, strata=str(path), report=str(report))
    assert "Stehman 2014" in report.read_text(encoding="utf-8") and not warnings
    assert result["strata"] == [
        {"name": "west", "pixels": 300 * 200, "units": result["strata"][0]["units"]},
        {"name": "east", "pixels": 300 * 180, "units": result["strata"][1]["units"]}]
    # only a part of the map has a stratum: said, and not extrapolated to
    part = write_map(tmp_path / "part.tif", np.full((300, 100), 4), legend=legend)
    result, warnings = assessed(case, strata=str(part))
    assert "without a stratum" in " ".join(warnings) and "no stratum" in " ".join(warnings)
    assert sum(c["area_ha"]["value"] for c in result["classes"]) == pytest.approx(
        30000 / HECTARE, rel=1e-5)


def test_strata_without_nodata_end_at_their_edge(case, tmp_path):
    """In degrees, 0 is a stratum; what lies beyond the raster has none."""
    path = tmp_path / "strata.tif"
    with rasterio.open(path, "w", driver="GTiff", width=40, height=40, count=1, dtype="uint8",
                       crs="EPSG:4326", transform=rasterio.Affine(
                           0.001, 0, 3.0, 0, -0.001, 50.56)) as out:
        out.write(np.zeros((40, 40), np.uint8), 1)
    result, warnings = assessed(case, strata=str(path))
    assert [s["name"] for s in result["strata"]] == ["0"]
    pixels = result["strata"][0]["pixels"]
    assert 0.4 < pixels / (case["mapped"] < 255).sum() < 0.9
    assert "no stratum" in " ".join(warnings)


def test_strata_from_the_points_themselves(case, tmp_path):
    """A map that was edited after the points were drawn; the strata are those of the drawing."""
    edited = case["mapped"].copy()
    edited[:150][edited[:150] == 1] = 2
    path = write_map(tmp_path / "edited.tif", edited)
    by_field, _ = assessed({**case, "map": path}, strata_field="class")
    by_raster, _ = assessed({**case, "map": path}, strata=str(case["map"]))
    assert by_field["overall"] == by_raster["overall"]
    assert [c["area_ha"] for c in by_field["classes"]] == [
        c["area_ha"] for c in by_raster["classes"]]
    # Stehman's estimators on the map's own classes are Olofsson's, but for the finite population
    same, _ = assessed(case, strata_field="class")
    own, _ = assessed(case)
    assert same["overall"]["value"] == pytest.approx(own["overall"]["value"], abs=1e-6)
    assert same["overall"]["half"] == pytest.approx(own["overall"]["half"], rel=0.01)


def test_a_field_without_sizes_is_refused(case, tmp_path):
    path = write_points(tmp_path / "p.gpkg", [at(3, 3), at(9, 9)], ["forest", "water"])
    with pytest.raises(UserError, match="no field stratum_px"):
        assessed({**case, "points": path}, field="cover", strata_field="cover")
    with pytest.raises(UserError, match="not both"):
        assessed(case, strata=str(case["map"]), strata_field="class")


def test_parcels_count_by_their_share(tmp_path):
    """Parcels of 4 x 4 pixels: mapped shares make the matrix; a sliver takes its inner pixel."""
    mapped = np.full((40, 40), 1)
    mapped[:, 20:] = 2
    path = write_map(tmp_path / "m.tif", mapped)

    def box(row, col, rows, cols):
        x, y = 5e5 + 10 * col, 5.6e6 - 10 * row
        return shapely.box(x, y - 10 * rows, x + 10 * cols, y)

    places = [box(0, 0, 4, 4), box(8, 17, 4, 4), box(8, 30, 4, 4), box(20, 30.1, 0.2, 0.2)]
    write_points(tmp_path / "p.gpkg", places, ["wheat & rye", "wheat & rye", "forest", "forest"],
                 kind="Polygon")
    report = tmp_path / "r.html"
    result, _ = assessed({"map": path, "points": tmp_path / "p.gpkg"}, field="cover",
                       report=str(report))
    assert result["units"] == 4
    names = [c["name"] for c in result["classes"]]
    assert names == ["wheat & rye", "forest"]
    # stratum wheat: units 0 and 1 (three quarters wheat); half of the area each
    assert result["overall"]["value"] == pytest.approx(100 * (0.5 * (1 + 0.75) / 2 + 0.5))
    assert "a polygon is one unit" in report.read_text(encoding="utf-8")


def test_a_huge_parcel_is_looked_at_in_part(tmp_path, monkeypatch):
    from earthprint.engine.accuracy import reference

    monkeypatch.setattr(reference, "_LATTICE", 500)
    monkeypatch.setattr(reference, "_PIXELS", 100)
    grid = Grid(UTM, NORTH_UP, (400, 400))
    x, y = 5e5, 5.6e6
    write_points(tmp_path / "p.gpkg", [shapely.box(x, y - 4000, x + 2000, y)], ["a"],
                 kind="Polygon")
    found = reference.read_reference(tmp_path / "p.gpkg", "cover", grid, JobContext())
    assert 50 <= len(found.rows) <= 100
    assert found.cols.max() < 200 and found.rows.max() > 300 and np.ptp(found.cols) > 150


@pytest.mark.parametrize(("places", "classes", "words"), [
    ([at(0, 0)], ["lake"], "is one of cover.tif"),
    ([at(-900, 0)], ["forest"], "Check its CRS"),
    ([at(5, 390)], ["forest"], "where cover.tif has a class"),
    ([shapely.LineString([(5e5, 5.5995e6), (5.001e5, 5.5996e6)])], ["forest"], "no point"),
])
def test_user_errors(case, tmp_path, places, classes, words):
    path = write_points(tmp_path / "p.gpkg", places, classes, kind="Unknown")
    report = tmp_path / "r.html"
    with pytest.raises(UserError, match=words):
        assessed({**case, "points": path}, field="cover", report=str(report))
    assert not report.exists()


def test_the_field_must_exist(case):
    with pytest.raises(UserError, match="has no field crop"):
        assessed(case, field="crop")


def test_hectares_are_those_of_the_ellipsoid(tmp_path):
    values = np.ones((60, 60))
    path = write_map(tmp_path / "m.tif", values, wkt=CRS.from_epsg(4326).to_wkt(),
                     transform=(1 / 12000, 0.0, 5.0, 0.0, -1 / 12000, 45 + 60 / 12000))
    places = [shapely.Point(5 + (c + 0.5) / 12000, 45 + (r + 0.5) / 12000)
              for r, c in ((3, 4), (30, 40), (50, 9))]
    write_points(tmp_path / "p.gpkg", places, ["wheat & rye"] * 3, crs="EPSG:4326")
    result, _ = assessed({"map": path, "points": tmp_path / "p.gpkg"}, field="cover")
    assert result["classes"][0]["area_ha"]["value"] == pytest.approx(3600 * 60.85e-4, rel=1e-3)
