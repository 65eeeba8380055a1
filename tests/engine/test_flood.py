"""Floods: known answers of the formulas, the job from rasters to areas, and what it refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from scipy.stats import norm

from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.flood.features import OPTICAL_SIZE, RADAR_SIZE, radar_features
from earthprint.engine.flood.ground import Terrain, slope
from earthprint.engine.flood.learned import BUNDLED, FloodHead
from earthprint.engine.flood.mapping import (
    DRY,
    FLOOD,
    PERMANENT,
    UNFIT,
    UNSEEN,
    UNSEEN_BEFORE,
    Detectors,
)
from earthprint.engine.flood.scene import box, calm, index
from earthprint.engine.flood.survey import survey
from earthprint.engine.flood.thresholds import (
    kittler_illingworth,
    least_error,
    otsu,
    two_classes,
)
from earthprint.engine.rasters.grid import Grid, Window
from earthprint.engine.tasks.flood_detection import run

SIZE = 160
LAKE, NEW = (slice(10, 60), slice(10, 60)), (slice(80, 140), slice(30, 130))


def mixture(shares=(0.3, 0.7)):
    edges = np.round(np.arange(-35, 5.05, 0.1), 10)
    low, high = np.diff(norm.cdf(edges, -20, 1.5)), np.diff(norm.cdf(edges, -10, 2))
    return shares[0] * low + shares[1] * high, edges


def test_otsu_of_the_known_mixture():
    cut = otsu(*mixture())
    assert cut.threshold == pytest.approx(-14.9)
    assert (cut.low, cut.high) == pytest.approx((-19.929, -9.961), abs=5e-4)
    assert cut.quality == pytest.approx(0.8604, abs=5e-5)


def test_kittler_illingworth_of_the_known_mixture():
    cut = kittler_illingworth(*mixture())
    assert cut.threshold == pytest.approx(-15.9)
    assert least_error(*mixture()) == pytest.approx(3.42864, abs=5e-6)
    assert cut.low_share == pytest.approx(0.30017, abs=5e-6)
    assert (cut.low, cut.high) == pytest.approx((-20.0012, -9.9970), abs=5e-5)
    assert (cut.low_sd, cut.high_sd) == pytest.approx((1.4937, 1.9937), abs=5e-5)
    assert cut.distance == pytest.approx(5.6569, abs=0.03)  # of the halves, not of the Gaussians


def test_two_gaussians_are_two_classes():
    distance, two = two_classes(*mixture())
    assert distance == pytest.approx(5.6569, abs=2e-3) and two


def test_one_class_is_not_two():
    """Otsu's halves of a single Gaussian have a D of 2.65 and would pass for two classes."""
    edges = np.linspace(-35, 5, 401)
    exact = np.diff(norm.cdf(edges, -10, 2))
    assert otsu(exact, edges).distance == pytest.approx(2.648, abs=1e-3)
    assert not two_classes(exact, edges)[1]
    for seed in range(5):
        drawn = np.histogram(np.random.default_rng(seed).normal(-10, 2, 16384), edges)[0]
        assert not two_classes(drawn, edges)[1]
    assert not two_classes(*mixture((0.02, 0.98)))[1]  # too little water to tell
    assert two_classes(np.eye(400)[7], edges) == (0.0, False)


def test_slope_of_a_plane():
    rows, cols = np.mgrid[:6, :7]
    found = slope(0.1 * cols + 0.1 * rows, np.ones(6), np.ones(6))
    assert found == pytest.approx(8.049467, abs=1e-5)


def test_speckle_is_calmed_the_same_in_decibel_and_power():
    values = np.random.default_rng(0).normal(-12, 3, (20, 20)).astype(np.float32)
    values[4, 4] = np.nan
    power = 10 * np.log10(calm(10 ** (values / 10)))
    assert np.isnan(calm(values)[4, 4])
    far = np.ones(values.shape, bool)
    far[3:6, 3:6] = False  # a gap is filled by a mean, which is another one in power
    assert calm(values)[far] == pytest.approx(power[far], abs=1e-4)


def test_a_missing_neighbour_lends_nothing():
    values = np.array([[1, np.nan, 3]], np.float32)
    found = box(values, 3)
    assert np.isnan(found[0, 1]) and found[0, 0] == pytest.approx(1) and found[0, 2] == 3
    assert np.isnan(index(np.float32([0.0]), np.float32([0.0]))[0])


# -- the job ------------------------------------------------------------------------------------


def hectares(params, marked):
    """Of marked pixels of the map, on the ellipsoid."""
    with rasterio.open(params["output"]) as file:
        grid = Grid(file.crs.to_wkt(), tuple(file.transform)[:6], file.shape)
    return float(marked.sum(1) @ grid.row_areas_m2()) / 1e4


def scene(new=NEW, lake=LAKE, seed=0, size=SIZE):
    """Backscatter in dB before and during, (2, 2: VV VH, rows, cols), and the truth."""
    rng = np.random.default_rng(seed)
    water = np.zeros((2, size, size), bool)
    for part in [lake] if lake else []:
        water[:, part[0], part[1]] = True
    if new:
        water[1][new] = True
    vv = np.where(water, -19.0, -9.0) + rng.normal(0, 1.2, water.shape)
    vh = np.where(water, -26.0, -16.0) + rng.normal(0, 1.2, water.shape)
    return np.stack([vv, vh], 1).astype(np.float32), water


def write(path, bands, names, nodata=None, crs="EPSG:32633", origin=(500000, 5100000), step=10):
    with rasterio.open(
        path, "w", driver="GTiff", width=bands.shape[2], height=bands.shape[1],
        count=len(bands), dtype=bands.dtype, crs=crs, nodata=nodata,
        transform=from_origin(*origin, step, step)) as file:
        file.write(bands)
        for k, name in enumerate(names, 1):
            file.set_band_description(k, name)
    return str(path)


def radar(folder, values, names=("VV", "VH"), track="A044", days=("2024-06-01", "2024-06-13")):
    return [write(folder / f"S1_{day}_{track}.tif", v, names)
            for day, v in zip(days, values, strict=True)]


def optical(folder, water, days=("2024-06-02", "2024-06-14"), missing=None):
    """Sentinel-2 B3, B8, B11 in reflectance x 10000; `missing` pixels of the second are 0."""
    paths = []
    for k, day in enumerate(days):
        rng = np.random.default_rng(k)
        bands = np.stack([np.where(water[k], a, b) for a, b in (
            (900, 800), (300, 3000), (150, 2000))])
        bands = (bands * rng.normal(1, 0.05, bands.shape)).astype(np.uint16)
        if missing is not None and k == 1:
            bands[:, missing] = 0
        paths.append(write(folder / f"S2A_{day}.tif", bands, ("B3", "B8", "B11"), nodata=0))
    return paths


def mapped(params):
    with rasterio.open(params["output"]) as file:
        return file.read(1)


@pytest.fixture
def images(tmp_path):
    values, water = scene()
    before, after = radar(tmp_path, values)
    return {"before": [before], "after": [after], "output": str(tmp_path / "flood.tif")}, water


def share(classes, truth):
    """IoU of flood."""
    found = classes == FLOOD
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.parametrize(("method", "least"), [("thresholds", 0.97), ("embeddings", 0.8),
                                               ("both", 0.9)])
def test_flood_and_permanent_water(images, tmp_path, method, least):
    params, water = images
    params |= {"method": method, "polygons": str(tmp_path / "areas.gpkg"),
               "confidence": str(tmp_path / "sure.tif"), "report": str(tmp_path / "report.html")}
    result = run(params, JobContext(folder=tmp_path))
    classes, new = mapped(params), water[1] & ~water[0]
    assert share(classes, new) > least
    lake = classes[14:56, 14:56]
    assert (lake == PERMANENT).mean() > 0.97
    assert result["flood_ha"] == pytest.approx(hectares(params, classes == FLOOD))
    meta, _, raw, fields = pyogrio.raw.read(params["polygons"])
    areas = dict(zip(meta["fields"], fields, strict=True))["area_ha"]
    assert areas.sum() == pytest.approx(result["flood_ha"]) and (np.diff(areas) <= 0).all()
    assert shapely.area(shapely.from_wkb(raw)).sum() / 1e4 == pytest.approx(
        (classes == FLOOD).sum() * 0.01)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Histogram of VV" in page and "hectares" not in page.split("<title>")[1][:80]
    assert result["season"] == ["2024-06-13", "2024-06-13"]
    with rasterio.open(params["confidence"]) as file:
        sure = file.read(1)
    assert sure[classes <= FLOOD].min() >= 0 and sure[100, 80] > 60
    style = (tmp_path / "flood.qml").read_text(encoding="utf-8")
    assert 'color="#ece7dc" alpha="0"' in style and 'color="#00b7eb" alpha="255"' in style


def test_power_and_decibel_give_the_same_map(images, tmp_path):
    params, _ = images
    run(params, JobContext(folder=tmp_path))
    expected = mapped(params)
    values, _ = scene()
    linear = tmp_path / "linear"
    linear.mkdir()
    before, after = radar(linear, (10 ** (values / 10)).astype(np.float32))
    params |= {"before": [before], "after": [after]}
    run(params, JobContext(folder=tmp_path))
    assert (mapped(params) != expected).mean() < 1e-3


@pytest.mark.parametrize("bands", [("VV",), ("VH",)])
def test_one_polarisation_is_enough(tmp_path, bands):
    values, water = scene()
    k = ("VV", "VH").index(bands[0])
    before, after = radar(tmp_path, values[:, k:k + 1], bands)
    params = {"before": [before], "after": [after], "output": str(tmp_path / "flood.tif")}
    run(params, JobContext(folder=tmp_path))
    assert share(mapped(params), water[1] & ~water[0]) > 0.9


def test_optical_alone_and_both(tmp_path):
    values, water = scene()
    r, o = radar(tmp_path, values), optical(tmp_path, water)
    new = water[1] & ~water[0]
    for name, before, after in (("o", [o[0]], [o[1]]), ("both", [r[0], o[0]], [r[1], o[1]])):
        params = {"before": before, "after": after, "output": str(tmp_path / f"{name}.tif")}
        run(params, JobContext(folder=tmp_path))
        assert share(mapped(params), new) > 0.93


def test_a_missing_sensor_is_masked_not_zero(tmp_path):
    """Where clouds hide the optical image, radar alone decides as if it were alone."""
    values, water = scene()
    cloud = np.zeros((SIZE, SIZE), bool)
    cloud[:, 80:] = True
    r, o = radar(tmp_path, values), optical(tmp_path, water, missing=cloud)
    alone = {"before": [r[0]], "after": [r[1]], "output": str(tmp_path / "alone.tif")}
    joined = {"before": [r[0], o[0]], "after": [r[1], o[1]], "output": str(tmp_path / "both.tif")}
    for params in (alone, joined):
        run({**params, "min_area_ha": 0}, JobContext(folder=tmp_path))
    assert (mapped(joined)[:, 84:] == mapped(alone)[:, 84:]).all()


def test_what_the_head_is_given_for_a_missing_sensor_changes_nothing():
    head = FloodHead.open()
    rng = np.random.default_rng(0)
    table = rng.normal(size=(50, RADAR_SIZE)).astype(np.float32)
    other = np.full((50, OPTICAL_SIZE), np.nan, np.float32)
    alone = head.probabilities(table, None)
    assert np.array_equal(alone, head.probabilities(table, other))
    other[::2] = 0.1
    mixed = head.probabilities(table, other)
    assert np.array_equal(alone[1::2], mixed[1::2]) and not np.allclose(alone[::2], mixed[::2])
    assert np.isnan(head.probabilities(np.full_like(table, np.nan), None)).all()


def test_the_head_says_what_it_is():
    card = FloodHead.open().card
    assert card["training"][0]["licence"] == "none stated" and card["results"]
    assert BUNDLED.stat().st_size < 300_000


def test_features_do_not_depend_on_scale_or_offset():
    values, _ = scene(size=96)

    class Held:
        grid = Grid("", (10, 0, 0, 0, -10, 0), (96, 96))
        channels = ("vv",)

        def __init__(self, array):
            self.array = array

        def read(self, window):
            rows, cols = window.slices
            return {"vv": self.array[:, rows, cols]}

    everything = slice(None), slice(None)
    tables = []
    for factor, shift in ((1.0, 0.0), (0.5, -3.0)):
        array = values[:, 0] * np.float32(factor) + np.float32(shift)
        tables.append(radar_features(survey(Held(array), JobContext()), "vv", array, everything))
    assert np.abs(tables[0] - tables[1]).mean() < 0.05


def test_windows_leave_no_seam(images, tmp_path, monkeypatch):
    params, _ = images
    params["min_area_ha"] = 0
    run(params, JobContext(folder=tmp_path))
    whole = mapped(params)
    monkeypatch.setattr("earthprint.engine.flood.mapping._ROWS", 48)
    monkeypatch.setattr("earthprint.engine.flood.mapping._COLS", 64)
    run(params, JobContext(folder=tmp_path))
    assert (mapped(params) != whole).mean() < 5e-4


def test_another_extent_gives_the_same_map(images, tmp_path):
    """The scene's statistics move with the extent; few pixels may change sides."""
    params, _ = images
    params["min_area_ha"] = 0
    run(params, JobContext(folder=tmp_path))
    whole = mapped(params)
    part = str(tmp_path / "part.tif")
    run({**params, "output": part, "extent": [500050, 5098450, 501570, 5099950, "EPSG:32633"]},
        JobContext(folder=tmp_path))
    cut = mapped({"output": part})
    assert cut.shape == (150, 152) and (cut != whole[5:155, 5:157]).mean() < 5e-3


def test_each_detector_has_a_cut_of_its_own():
    head = FloodHead.open()
    learned = np.linspace(0.01, 0.99, 50)
    assert all(0 < head.cuts[seen] < 1 for seen in ("radar", "optical", "both"))
    for seen in ("vv", "vh", "vv vh", "optical", "both"):
        joined, cut = head.with_thresholds(learned, np.full(50, 0.5), 2.0, seen)
        assert 0 < cut < 1 and (np.diff(joined) >= 0).all()
        surer, _ = head.with_thresholds(learned, np.full(50, 0.9), 2.0, seen)
        assert (surer >= joined).all() and (surer > joined).mean() > 0.9


def test_pixels_that_were_not_seen_say_why(images, tmp_path):
    params, _ = images
    for key, part in (("before", slice(0, 8)), ("after", slice(150, 160))):
        with rasterio.open(params[key][0], "r+") as file:
            values = file.read()
            values[:, part] = np.nan
            file.write(values)
    result = run(params, JobContext(folder=tmp_path))
    classes = mapped(params)
    assert (classes[:8] == UNSEEN_BEFORE).all() and (classes[150:] == UNSEEN).all()
    assert result["no_answer_ha"] == pytest.approx(
        hectares(params, np.isin(classes, (UNSEEN_BEFORE, UNSEEN))), abs=1e-4)
    assert np.isin(classes, (UNSEEN_BEFORE, UNSEEN)).sum() == 18 * SIZE


@pytest.mark.parametrize("method", ["both", "thresholds", "embeddings"])
@pytest.mark.parametrize("case", ["empty", "halves", "elsewhere"])
def test_a_map_without_any_answer_is_refused(tmp_path, method, case):
    values, _ = scene()
    before, after = radar(tmp_path, values)
    with rasterio.open(after, "r+") as file:
        if case == "elsewhere":
            file.transform = from_origin(600000, 5100000, 10, 10)
        else:
            left = slice(0, SIZE if case == "empty" else SIZE // 2)
            file.write(np.where(np.arange(SIZE) < left.stop, np.nan, values[1]).astype("float32"))
    if case == "halves":
        with rasterio.open(before, "r+") as file:
            file.write(np.where(np.arange(SIZE) < SIZE // 2, values[0], np.nan).astype("float32"))
    out, folder = tmp_path / "out", tmp_path / "work"
    out.mkdir(), folder.mkdir()
    params = {"before": [before], "after": [after], "output": str(out / "flood.tif"),
              "polygons": str(out / "a.gpkg"), "report": str(out / "r.html"), "method": method}
    with pytest.raises(UserError, match="No pixel was seen both before and during the flood"):
        run(params, JobContext(folder=folder))
    assert not list(out.iterdir())


def test_permanent_water_from_polygons_and_from_a_raster(images, tmp_path):
    params, _ = images
    place = shapely.box(500000 + 300, 5100000 - 1000, 500000 + 900, 5100000 - 800)
    pyogrio.raw.write(tmp_path / "lake.gpkg", shapely.to_wkb(np.array([place])), [], [],
                      geometry_type="Polygon", crs="EPSG:32633")
    known = np.zeros((1, SIZE, SIZE), np.uint8)
    known[0, 80:100, 30:90] = 1
    raster = write(tmp_path / "lake.tif", known, ("water",))
    for water in (str(tmp_path / "lake.gpkg"), raster):
        run({**params, "permanent_water": water}, JobContext(folder=tmp_path))
        classes = mapped(params)
        assert (classes[80:100, 30:90] == PERMANENT).all()
        assert (classes[104:136, 40:120] == FLOOD).mean() > 0.95
        assert (classes[14:56, 14:56] == DRY).all()  # the layer says that it is no lake


def test_steep_and_high_ground_is_left_out(images, tmp_path):
    params, _ = images
    height = np.zeros((1, SIZE, SIZE), np.float32)
    height[0, :, 120:] = 3.0 * np.arange(SIZE - 120)  # 17 degrees
    params["dem"] = write(tmp_path / "dem.tif", height, ("height",))
    run(params, JobContext(folder=tmp_path))
    classes = mapped(params)
    assert (classes[:, 124:] == UNFIT).all() and not (classes[:, :118] == UNFIT).any()
    with rasterio.open(params["dem"]) as file:
        grid = Grid.of(file)
    terrain = Terrain(params["dem"], grid, 90, 15)
    high = terrain.unfit(Window(0, 0, 160, 160))
    terrain.close()
    assert not high[:, :125].any() and high[:, 127:].all()


def test_a_map_of_steep_ground_alone_is_refused(images, tmp_path):
    params, _ = images
    height = np.tile(np.float32(3.0) * np.arange(SIZE, dtype=np.float32), (1, SIZE, 1))
    params["dem"] = write(tmp_path / "dem.tif", height, ("height",))
    with pytest.raises(UserError, match="left out as steep or high. Raise Steepest ground"):
        run(params, JobContext(folder=tmp_path))
    assert not Path(params["output"]).exists()


def test_hectares_of_zones(images, tmp_path):
    params, _ = images
    left, top = 500000, 5100000
    halves = [shapely.box(left, top - 1600, left + 800, top),
              shapely.box(left + 800, top - 1600, left + 1600, top)]
    pyogrio.raw.write(tmp_path / "zones.gpkg", shapely.to_wkb(np.array(halves)),
                      [np.array(["west", "east"], object)], ["name"], geometry_type="Polygon",
                      crs="EPSG:32633")
    params |= {"zones": str(tmp_path / "zones.gpkg"), "zone_areas": str(tmp_path / "by.gpkg")}
    result = run(params, JobContext(folder=tmp_path))
    classes = mapped(params)
    rows = {row["name"]: row for row in result["zones"]}
    assert rows["west"]["flood_ha"] == pytest.approx(
        hectares(params, (classes == FLOOD) & (np.arange(SIZE) < 80)))
    assert sum(r["flood_ha"] for r in rows.values()) == pytest.approx(result["flood_ha"])
    meta, _, _, fields = pyogrio.raw.read(params["zone_areas"])
    assert list(dict(zip(meta["fields"], fields, strict=True))["name"]) == ["west", "east"]


def test_hectares_are_those_of_the_ellipsoid(tmp_path):
    values, _ = scene()
    paths = [write(tmp_path / f"S1_{day}_A044.tif", v, ("VV", "VH"), crs="EPSG:4326",
                   origin=(10, 60), step=1 / 12000)
             for day, v in zip(("2024-06-01", "2024-06-13"), values, strict=True)]
    result = run({"before": paths[:1], "after": paths[1:], "output": str(tmp_path / "f.tif")},
                 JobContext(folder=tmp_path))
    count = next(a["pixels"] for a in result["areas"] if a["value"] == FLOOD)
    assert result["flood_ha"] == pytest.approx(count * 43.18e-4, rel=2e-3)


def test_small_patches_become_dry(tmp_path):
    values, _ = scene(new=(slice(100, 105), slice(100, 105)))
    before, after = radar(tmp_path, values)
    params = {"before": [before], "after": [after], "output": str(tmp_path / "flood.tif"),
              "method": "thresholds"}
    assert run({**params, "min_area_ha": 0}, JobContext(folder=tmp_path))["flood_ha"] > 0.1
    assert run({**params, "min_area_ha": 0.5}, JobContext(folder=tmp_path))["flood_ha"] == 0


def test_a_flood_that_fills_the_image(tmp_path):
    everything = slice(0, SIZE), slice(0, SIZE)
    values, _ = scene(new=everything, lake=None)
    before, after = radar(tmp_path, values)
    params = {"before": [before], "after": [after], "output": str(tmp_path / "flood.tif")}
    said = []
    run(params, JobContext(folder=tmp_path, on_log=lambda level, text: said.append(text)))
    assert (mapped(params) == FLOOD).mean() > 0.99
    assert any("no separate water" in text for text in said)


def test_no_water_is_no_flood(tmp_path):
    values, _ = scene(new=None, lake=None)
    before, after = radar(tmp_path, values)
    params = {"before": [before], "after": [after], "output": str(tmp_path / "flood.tif")}
    run(params, JobContext(folder=tmp_path))
    assert (mapped(params) == DRY).mean() > 0.99
    output = tmp_path / "t.tif"
    with pytest.raises(UserError, match="shows no separate water .Ashman D .*Embeddings Only"):
        run({**params, "method": "thresholds", "output": str(output)}, JobContext(folder=tmp_path))
    assert not output.exists()


def test_dates_in_the_wrong_order(images, tmp_path):
    params, _ = images
    swapped = {**params, "before": params["after"], "after": params["before"]}
    with pytest.raises(UserError, match=r"Before \(2024-06-13\) is later than During .*Swap them"):
        run(swapped, JobContext(folder=tmp_path))


def test_two_orbits(images, tmp_path):
    params, _ = images
    values, _ = scene()
    after = write(tmp_path / "S1_2024-06-14_A110.tif", values[1], ("VV", "VH"))
    with pytest.raises(UserError, match="come from orbits 44 and 110. Choose one orbit."):
        run({**params, "after": [after]}, JobContext(folder=tmp_path))


def test_no_sensor_in_common(tmp_path):
    values, water = scene()
    r, o = radar(tmp_path, values), optical(tmp_path, water)
    with pytest.raises(UserError, match="no sensor in common that shows water"):
        run({"before": [r[0]], "after": [o[1]], "output": str(tmp_path / "f.tif")},
            JobContext(folder=tmp_path))


def test_fields_of_two_kinds_are_no_lake(tmp_path):
    """An image of dark and bright fields parts into two classes, and none of them is water."""
    values, _ = scene()
    fields = np.where(values < np.array([-14, -21])[:, None, None], values + 8, values)
    before, after = radar(tmp_path, fields)
    params = {"before": [before], "after": [after], "output": str(tmp_path / "flood.tif"),
              "method": "thresholds"}
    run(params, JobContext(folder=tmp_path))
    assert not (mapped(params) == PERMANENT).any()


def test_a_cancelled_run_leaves_nothing(images, tmp_path):
    params, _ = images
    out = tmp_path / "out"
    out.mkdir()
    steps = []
    context = JobContext(
        folder=tmp_path, on_progress=lambda f, text: steps.append(text),
        is_cancelled=lambda: any("Mapping" in s for s in steps))
    with pytest.raises(Cancelled):
        run({**params, "output": str(out / "flood.tif"), "polygons": str(out / "a.gpkg")}, context)
    assert not list(out.iterdir())


def test_disagreement_names_who_saw_it(images, tmp_path):
    params, _ = images
    params["disagreement"] = str(tmp_path / "odd.tif")
    result = run(params, JobContext(folder=tmp_path))
    with rasterio.open(params["disagreement"]) as file:
        odd = file.read(1)
    assert (odd[100:120, 60:100] == 1).mean() > 0.95 and 0.5 < result["agreement"] <= 1
    with pytest.raises(UserError, match="needs two detectors"):
        run({**params, "method": "thresholds"}, JobContext(folder=tmp_path))


def test_result_is_json(images, tmp_path):
    params, _ = images
    json.dumps(run(params, JobContext(folder=tmp_path)))


def test_the_bundled_head_on_real_floods(shared):
    """Radar alone on an event that it has not seen, beside Otsu on the same chips; a guard, the
    figures stand in docs/evaluation.md."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from flood_sets import ombria

    head, found = FloodHead.open(), np.zeros((2, 2))
    for chip in ombria(shared, "event-albania-2021"):
        part = chip.only("vv")
        look = survey(part, JobContext())
        learned = head.flood(look, part.values, (slice(None), slice(None))) > head.cuts["radar"]
        dark = box(part.values["vv"][1], 3) < look.stats["vv"][1].cut.threshold
        for k, flood in enumerate((learned, dark)):
            found[k] += (flood & chip.truth).sum(), (flood | chip.truth).sum()
    assert found[0, 0] / found[0, 1] > max(found[1, 0] / found[1, 1], 0.4)


@pytest.mark.parametrize("channels", [("vv",), ("vh",), ("vv", "vh")])
def test_a_dry_year_stays_dry(shared, channels):
    """Sentinel-1 over fields that the head has not seen; a guard, the figures stand in
    docs/evaluation.md."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from flood_sets import dry_pairs

    head, found = FloodHead.open(), []
    for chip in dry_pairs(shared)["Northern Belgium 2019, orbits mixed"]:
        part = chip.only(*channels)
        block = Detectors(survey(part, JobContext()), True, head).block(part, part.grid.full)
        found.append(block.flood > block.cut)
    assert np.mean(found) < 0.03
