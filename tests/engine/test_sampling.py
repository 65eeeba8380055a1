"""The sample for a test of a map: how many points, which, and a layer that does not tell."""

from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from scipy.stats import chisquare

from earthprint.engine import jobs
from earthprint.engine.accuracy import design
from earthprint.engine.accuracy.classmap import ClassMap
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.rasters.class_names import names_of
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.rasters.legend import Legend, LegendClass
from earthprint.engine.rasters.raster import RasterWriter

UTM = CRS.from_epsg(32631).to_wkt()
NORTH_UP = (10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6)
LEGEND = Legend((LegendClass(0, "water", "#1f4e79"), LegendClass(3, "wheat & rye", "#a57000"),
                 LegendClass(7, "forest", "#006400")))


def write_map(path, values, legend=LEGEND, wkt=UTM, transform=NORTH_UP):
    """A class map as the engine writes it."""
    grid = Grid(wkt, transform, values.shape)
    with RasterWriter(path, grid, "uint8", 255, legend=legend) as out:
        out.write(grid.full, values.astype(np.uint8))
    return path


def landscape(rows=300, cols=400):
    """80 % forest, wheat in a corner, a strip of water, some nodata."""
    values = np.full((rows, cols), 7)
    values[: rows // 3, : cols // 3] = 3
    values[-10:] = 0
    values[:, -20:] = 255
    return values


@pytest.fixture
def classmap(tmp_path):
    return write_map(tmp_path / "cover.tif", landscape())


def drawn(path, output, **params):
    said = []
    context = JobContext(on_log=lambda level, text: said.append((level, text)))
    result = jobs.run("sampling_design", {"map": str(path), "output": str(output), **params},
                      context)
    return result, said


# -- how many

def test_the_papers_example():
    """Olofsson et al. 2014, section 5.1: 641 points, 75 for each rare class."""
    shares, guesses = np.array([0.02, 0.015, 0.32, 0.645]), np.array([0.7, 0.6, 0.9, 0.95])
    assert design.sample_size(shares, guesses, 0.01) == 641
    pixels = np.array([200_000, 150_000, 3_200_000, 6_450_000])
    assert design.allocate(pixels, shares, 641, 75).tolist() == [75, 75, 163, 328]
    assert design.allocate(pixels, shares, 641, 50).tolist()[:2] == [50, 50]


def test_expected_error_of_simple_sampling():
    assert design.expected_error(np.ones(1), np.array([0.5]), np.array([100])) == 0.05


STRATA = st.lists(st.integers(1, 10**7), min_size=1, max_size=12)


@given(STRATA, st.integers(1, 5000), st.integers(1, 300))
def test_allocation(pixels, total, least):
    pixels = np.array(pixels)
    shares = pixels / pixels.sum()
    counts = design.allocate(pixels, shares, total, least)
    low = np.minimum(pixels, least)
    assert counts.sum() == min(max(total, low.sum()), pixels.sum())
    assert (counts >= low).all() and (counts <= pixels).all()
    free = (counts > low) & (counts < pixels)
    if free.any():  # what is neither least nor all is in proportion, to a point
        level = counts[free].sum() / shares[free].sum()
        assert np.abs(counts[free] - level * shares[free]).max() <= len(pixels)


@given(STRATA, st.floats(0.002, 0.2))
def test_the_sample_reaches_its_target_at_best_allocation(pixels, target):
    shares = np.array(pixels) / sum(pixels)
    guesses = np.linspace(0.5, 0.95, len(pixels))
    spread = np.sqrt(guesses * (1 - guesses))
    total = design.sample_size(shares, guesses, target)
    best = total * shares * spread / (shares @ spread)
    assert design.expected_error(shares, guesses, best) <= target * (1 + 1e-9)


# -- which

def blocks(index, rows, cols):
    grid = Grid("", (1, 0, 0, 0, 1, 0), index.shape)
    return ((w, index[w.slices]) for w in grid.blocks(rows, cols))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 15), st.integers(1, 15),
       st.integers(0, 10**6))
def test_places_are_of_their_stratum_and_never_twice(rows, cols, high, wide, seed):
    rng = np.random.default_rng(seed)
    index = rng.integers(-1, 3, (rows, cols))
    pixels = np.bincount(index.ravel() + 1, minlength=4)[1:]
    counts = rng.integers(0, pixels + 1)
    chosen = design.ranks(pixels, counts, seed)
    strata, r, c = design.places(blocks(index, high, wide), chosen)
    assert np.bincount(strata, minlength=3).tolist() == counts.tolist()
    assert (index[r, c] == strata).all()
    assert len(set(zip(r.tolist(), c.tolist(), strict=True))) == len(r)


def test_every_pixel_is_as_likely():
    """5000 samples of 6 of 48 pixels, through odd blocks: chi-square of the pixels' counts."""
    index = np.zeros((8, 8), np.int64)
    index[:, 6:] = -1
    hits = np.zeros(index.shape, int)
    for seed in range(5000):
        _, r, c = design.places(blocks(index, 3, 5),
                                design.ranks(np.array([48]), np.array([6]), seed))
        np.add.at(hits, (r, c), 1)
    assert not hits[:, 6:].any() and hits.sum() == 30_000
    # drawn without replacement, counts spread less than multinomial ones by (N - n) / (N - 1)
    assert chisquare(hits[:, :6].ravel()).pvalue > 0.01


def test_blocks_do_not_change_areas(tmp_path, classmap, monkeypatch):
    from earthprint.engine.accuracy import classmap as module

    with ClassMap(classmap) as source:
        whole = source.census(JobContext())
        monkeypatch.setattr(module, "_ROWS", 37)
        monkeypatch.setattr(module, "_COLS", 53)
        parts = source.census(JobContext())
        assert parts.pixels.tolist() == whole.pixels.tolist()
        np.testing.assert_allclose(parts.shares, whole.shares, rtol=1e-12)
        values = landscape()
        assert [c.value for c in whole.classes] == [0, 3, 7]
        assert [c.pixels for c in whole.classes] == [(values == v).sum() for v in (0, 3, 7)]
        assert whole.hectares == pytest.approx(
            (values < 255).sum() / (100 * 0.9996**2), rel=1e-5)
        rows, cols = np.indices(values.shape).reshape(2, -1)[:, ::97]
        assert (source.at(rows, cols, whole) == np.searchsorted([0, 3, 7, 255], values[rows, cols])
                * (values[rows, cols] < 255) - (values[rows, cols] == 255)).all()


# -- the layer

def test_points_to_visit(tmp_path, classmap):
    output = tmp_path / "points.gpkg"
    result, said = drawn(classmap, output, target_error=4, min_per_class=20, seed=5)
    info = pyogrio.read_info(output)
    assert list(info["fields"]) == ["id", "reference", "stratum", "class", "inclusion",
                                    "stratum_px"]
    _, _, shapes, columns = pyogrio.raw.read(output)
    data = dict(zip(info["fields"], columns, strict=True))
    assert len(shapes) == result["points"] == sum(c["points"] for c in result["classes"])
    assert all(v is None for v in data["reference"])
    assert data["id"].tolist() == list(range(1, len(shapes) + 1))
    assert np.abs(np.diff(data["stratum"])).astype(bool).mean() > 0.3  # in random order
    sizes = {c["value"]: c["points"] for c in result["classes"]}
    assert min(sizes.values()) >= 20
    values = landscape()
    for value, size in sizes.items():
        mine = data["stratum"] == value
        assert mine.sum() == size
        assert data["stratum_px"][mine].tolist() == [(values == value).sum()] * size
        np.testing.assert_allclose(data["inclusion"][mine], size / (values == value).sum())
    with rasterio.open(classmap) as file:
        xy = shapely.get_coordinates(shapely.from_wkb(shapes))
        found = [v[0] for v in file.sample(xy)]
        assert found == data["stratum"].tolist()
        inside = np.column_stack(~file.transform @ xy.T) % 1
    np.testing.assert_allclose(inside, 0.5, atol=1e-6)  # the centres of pixels
    assert any("eq. 13" in text for _, text in said)


def test_the_form_offers_the_classes_and_hides_the_map(tmp_path, classmap):
    drawn(classmap, tmp_path / "points.gpkg", min_per_class=5, target_error=10)
    root = ElementTree.parse(tmp_path / "points.qml").getroot()
    widgets = {f.get("name"): f.find("editWidget").get("type") for f in root.iter("field")
               if f.find("editWidget") is not None}
    assert widgets == {"fid": "Hidden", "id": "TextEdit", "reference": "ValueMap",
                       "stratum": "Hidden", "class": "Hidden", "inclusion": "Hidden",
                       "stratum_px": "Hidden"}
    answers = [o.get("value") for o in root.iter("Option")
               if o.get("value") in LEGEND.names]
    assert answers == list(LEGEND.names)
    columns = {c.get("name"): c.get("hidden") for c in root.iter("column")}
    assert columns["id"] == columns["reference"] == "0" and columns["class"] == "1"
    drawn(classmap, tmp_path / "shown.gpkg", min_per_class=5, target_error=10, show_class=True)
    assert (tmp_path / "shown.qml").read_text(encoding="utf-8").count("Hidden") == 1  # fid


def test_same_seed_same_points(tmp_path, classmap):
    shapes = [pyogrio.raw.read(tmp_path / f"{name}.gpkg")[2].tolist() for name, seed in
              (("a", 1), ("b", 1), ("c", 2))
              if drawn(classmap, tmp_path / f"{name}.gpkg", seed=seed, target_error=5)]
    assert shapes[0] == shapes[1] != shapes[2]


def test_a_class_of_three_pixels_gives_three_points(tmp_path):
    values = np.full((50, 50), 7)
    values[0, :3] = 0
    result, _ = drawn(write_map(tmp_path / "m.tif", values), tmp_path / "p.gpkg", target_error=5)
    assert {c["name"]: c["points"] for c in result["classes"]}["water"] == 3


def test_expected_accuracies(tmp_path, classmap):
    from earthprint.engine.tasks.sampling_design import expected_accuracies

    with ClassMap(classmap) as source:
        census = source.census(JobContext())
    assert expected_accuracies("", census).tolist() == [0.7, 0.9, 0.9]
    assert expected_accuracies("85", census).tolist() == [0.85] * 3
    assert expected_accuracies("Forest=95, 0=60; 80 %", census).tolist() == [0.6, 0.8, 0.95]
    for wrong in ("lake=3", "forest=200", "forest=", "much"):
        with pytest.raises(UserError):
            expected_accuracies(wrong, census)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16"])
def test_other_peoples_maps(tmp_path, dtype):
    """Without a legend, in any whole numbers, with nodata of its own."""
    values = np.where(landscape() == 255, 0, landscape() * 100 + 11).astype(dtype)
    path = tmp_path / "corine.tif"
    with rasterio.open(path, "w", driver="GTiff", width=400, height=300, count=1, dtype=dtype,
                       nodata=0, crs=CRS.from_epsg(3035),
                       transform=rasterio.Affine(*NORTH_UP)) as out:
        out.write(values, 1)
    result, _ = drawn(path, tmp_path / "p.gpkg", target_error=5)
    assert [c["value"] for c in result["classes"]] == [11, 311, 711]
    assert [c["name"] for c in result["classes"]] == ["11", "311", "711"]


def test_values_outside_the_legend_are_said(tmp_path):
    values = landscape()
    values[:5] = 9
    result, said = drawn(write_map(tmp_path / "m.tif", values), tmp_path / "p.gpkg",
                         target_error=5)
    assert 9 not in [c["value"] for c in result["classes"]]
    assert any(level == "warning" and "value 9" in text for level, text in said)


def test_names_from_a_style_alone(tmp_path, classmap):
    (tmp_path / "cover.tif.aux.xml").unlink()
    names = names_of(classmap)
    assert names[3] == ("wheat & rye", "#a57000") and set(names) == {0, 3, 7}
    (tmp_path / "cover.qml").write_text("<qgis>", encoding="utf-8")  # broken: no names
    assert names_of(classmap) == {}


@pytest.mark.parametrize(("values", "words"), [
    (np.linspace(0, 1, 2500).reshape(50, 50).astype("float32"), "decimals"),
    (np.full((50, 50), -1, "int16"), "value -1"),
    (np.arange(2500).reshape(50, 50).astype("uint16"), "no map of classes"),
    (np.full((50, 50), 70000, "int32"), "value 70000"),
    ((np.arange(2500) % 140 + 660).reshape(50, 50).astype("int16"), "140 values without names"),
])
def test_no_map_of_classes(tmp_path, values, words):
    path, output = tmp_path / "m.tif", tmp_path / "p.gpkg"
    with rasterio.open(path, "w", driver="GTiff", width=50, height=50, count=1,
                       dtype=values.dtype, transform=rasterio.Affine(*NORTH_UP)) as out:
        out.write(values, 1)
    with pytest.raises(UserError, match=words):
        drawn(path, output)
    assert not list(tmp_path.glob("p*"))


@pytest.mark.parametrize("params", [{"target_error": 0}, {"min_per_class": -3}, {"expected": "x"},
                                    {"target_error": 0.01}])
def test_what_cannot_be_is_refused_and_leaves_nothing(tmp_path, classmap, params):
    big = write_map(tmp_path / "big.tif", np.kron(landscape(), np.ones((4, 4))))
    with pytest.raises(UserError):
        drawn(big, tmp_path / "p.gpkg", **params)
    assert not list(tmp_path.glob("*p.gpkg*")) and not list(tmp_path.glob("p.qml"))


def test_degrees_are_said(tmp_path):
    """A tenth of the globe in one map: pixels of other sizes, said; shares on the ellipsoid."""
    values = np.full((120, 20), 7)
    values[60:] = 3
    path = write_map(tmp_path / "m.tif", values, wkt=CRS.from_epsg(4326).to_wkt(),
                     transform=(0.5, 0.0, 0.0, 0.0, -0.5, 60.0))
    result, said = drawn(path, tmp_path / "p.gpkg", target_error=5)
    assert any("equal-area" in text for level, text in said if level == "warning")
    north, south = (next(c["hectares"] for c in result["classes"] if c["value"] == v)
                    for v in (7, 3))
    assert south / north == pytest.approx(
        (np.sin(np.radians(30))) / (np.sin(np.radians(60)) - np.sin(np.radians(30))), rel=0.01)


def test_the_job_is_in_the_table():
    line = jobs.describe()["sampling_design"]
    assert line["required"] == ["map", "output"]
