"""Change by bands, classes, forest and series: known answers, real data, honest refusals."""

import json
import os
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine
from sklearn.metrics import cohen_kappa_score

from earthprint.engine import jobs
from earthprint.engine.change.breaks import find_breaks
from earthprint.engine.change.decision import Decision, automatic_cut
from earthprint.engine.change.forest import ForestHead, season_features
from earthprint.engine.change.mapping import NO_DATE
from earthprint.engine.change.normalisation import normalise
from earthprint.engine.change.series import SeriesDetector, decimal_year
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.rasters.grid import Window

BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")
FOREST = (0.02, 0.04, 0.025, 0.30, 0.13, 0.06)  # reflectance of a closed canopy
SOIL = (0.08, 0.11, 0.15, 0.24, 0.32, 0.26)
LOST = np.s_[20:40, 10:40]  # 600 pixels, 6 ha of 10 m


def scene(folder, name, cleared, *, size=64, gain=1.0, offset=0.0, noise=0.004, seed=0, step=10.0,
          dtype="uint16", cloud=None, bands=BANDS):
    """A Sentinel-2-like file of forest with a soil strip, and a clearing if `cleared`."""
    rng = np.random.default_rng(seed)
    soil = np.zeros((size, size), bool)
    soil[:8] = True
    if cleared:
        soil[LOST] = True
    ground = np.where(soil, np.array(SOIL)[:, None, None], np.array(FOREST)[:, None, None])
    texture = 1 + 0.15 * np.random.default_rng(99).normal(size=(size, size))
    values = ground * texture + rng.normal(0, noise, ground.shape)
    if cloud is not None:
        values[:, cloud] = 0.0
    stored = np.clip(np.rint(1e4 * (gain * values + offset)), 0, 65535)
    path = folder / name
    with rasterio.open(path, "w", driver="GTiff", width=size, height=size, count=len(bands),
                       dtype=dtype, crs=CRS.from_epsg(32631), nodata=0,
                       transform=Affine(step, 0, 5e5, 0, -step, 5.6e6)) as dataset:
        dataset.write(stored.astype(dtype))
        for k, band in enumerate(bands, 1):
            dataset.set_band_description(k, band)
    return str(path)


def detect(tmp_path, before, after=None, **params):
    said = []
    given = {"before": before if isinstance(before, list) else [before],
             "output": str(tmp_path / "change.tif"), **params}
    if after:
        given["after"] = after if isinstance(after, list) else [after]
    result = jobs.run("change_detection", given,
                      JobContext(on_log=lambda _, text: said.append(text)))
    with rasterio.open(result["output"]) as dataset:
        return result, dataset.read(1), said


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def test_bands_find_a_clearing_under_another_gain(tmp_path, source):
    before = scene(source, "S2_20200601.tif", False)
    after = scene(source, "S2_20210601.tif", True, gain=1.3, offset=0.02, seed=1)
    report = tmp_path / "r.html"
    result, change, said = detect(
        tmp_path, before, after, polygons=str(tmp_path / "p.gpkg"), report=str(report),
        distance=str(tmp_path / "d.tif"), confidence=str(tmp_path / "c.tif"), command="again: so")
    truth = np.zeros(change.shape, bool)
    truth[LOST] = True
    assert result["method"] == "bands" and (change[truth] == 1).mean() > 0.97
    # the mean of 3 x 3 pixels reaches one pixel beyond an edge
    assert (change[~truth] == 1).sum() <= 100
    info, _, _, columns = pyogrio.raw.read(tmp_path / "p.gpkg")
    fields = dict(zip(info["fields"], columns, strict=True))
    assert fields["area_ha"][0] == pytest.approx(result["changed_ha"], abs=1e-4)
    assert fields["change"][0] == "changed" and fields["confidence"][0] > 90
    page = report.read_text(encoding="utf-8")
    assert "again: so" in page and "<script" not in page and "http" not in page.split("</style>")[1]
    with rasterio.open(tmp_path / "d.tif") as dataset:
        assert dataset.read(1)[30, 25] > 1 and dataset.nodata == -1
    assert any("IR-MAD" in line for line in page.splitlines())


def test_without_a_change_bands_find_next_to_nothing(tmp_path, source):
    before = scene(source, "S2_20200601.tif", False)
    after = scene(source, "S2_20210601.tif", False, gain=0.8, offset=0.01, seed=1)
    result, change, _ = detect(tmp_path, before, after)
    assert (change == 1).mean() < 0.005 and result["changed_ha"] < 0.2


def test_windows_do_not_show(tmp_path, source):
    """Small windows give the same map as one large window."""
    before, after = (scene(source, f"S2_202{k}0601.tif", k == 1, seed=k, size=96)
                     for k in (0, 1))
    _, whole, _ = detect(tmp_path, before, after)
    jobs.run("change_detection", {"before": [before], "after": [after], "memory_mb": 1,
                                  "output": str(tmp_path / "small.tif")}, JobContext())
    with rasterio.open(tmp_path / "small.tif") as dataset:
        assert (dataset.read(1) == whole).all()


def test_a_coarser_date_decides_the_grid_and_clouds_have_no_answer(tmp_path, source):
    cloud = np.zeros((64, 64), bool)
    cloud[40:, 40:] = True
    before = scene(source, "S2_20200601.tif", False, cloud=cloud)
    coarse = scene(source, "S2_20210601.tif", False, size=32, step=20.0, seed=1)
    _, change, _ = detect(tmp_path, before, coarse)
    assert change.shape == (32, 32) and (change[21:, 21:] == 255).all()
    assert (change[:19, :19] != 255).all()


def test_two_sensors_are_compared_by_band_names(tmp_path, source):
    before = scene(source, "LT05_L2SP_226064_20200601_20200601_02_T1_SR.tif", False,
                   bands=("blue", "green", "red", "nir08", "swir16", "swir22"))
    after = scene(source, "S2A_20210601.tif", True, gain=1.1, seed=1)
    _, change, said = detect(tmp_path, before, after)
    assert (change[LOST] == 1).mean() > 0.95
    assert any("Landsat and Sentinel-2" in line for line in said)


def test_deforestation_is_forest_lost_and_nothing_else(tmp_path, source):
    before = scene(source, "S2_20200601.tif", False)
    after = scene(source, "S2_20210601.tif", True, seed=1)
    result, change, _ = detect(tmp_path, before, after, preset="deforestation",
                               polygons=str(tmp_path / "p.gpkg"))
    truth = np.zeros(change.shape, bool)
    truth[LOST] = True
    assert (change[truth] == 1).mean() > 0.95 and (change[:7] == 0).all()
    assert (change[42:] == 2).mean() > 0.99 and result["changed_ha"] == pytest.approx(6, rel=0.05)
    names = {a["name"] for a in result["areas"]}
    assert names == {"no forest before", "deforested", "forest"}
    _, grown, _ = detect(tmp_path, after, scene(source, "S2_20220601.tif", False, seed=2),
                         preset="deforestation")
    assert not (grown == 1).any()


def series(folder, years=3, at=40, clear=0.7, seed=0):
    """Sixty cloudy dates; the clearing from date number `at`. Paths, and the days."""
    rng = np.random.default_rng(seed)
    days = [date(2019, 1, 5) + timedelta(days=int(k * 365 * years / 60)) for k in range(60)]
    paths = []
    for k, day in enumerate(days):
        cloud = np.kron(rng.random((8, 8)) > clear, np.ones((8, 8), bool))
        paths.append(scene(folder, f"S2_{day:%Y%m%d}.tif", k >= at, seed=k, cloud=cloud,
                           gain=1 + 0.05 * np.sin(2 * np.pi * k / 20)))
    return paths, days


def test_the_date_of_a_clearing_lies_between_two_clear_days(tmp_path, source):
    paths, days = series(source)
    result, change, _ = detect(
        tmp_path, paths, preset="deforestation", date=str(tmp_path / "date.tif"),
        polygons=str(tmp_path / "p.gpkg"), report=str(tmp_path / "r.html"))
    assert result["method"] == "series" and (change[LOST] == 1).mean() > 0.95
    assert (change[41:] == 2).mean() > 0.95 and not (change[41:] == 1).any()
    with rasterio.open(tmp_path / "date.tif") as dataset:
        year, last, first, sure = dataset.read()
        assert dataset.nodata == NO_DATE and "decimal year" in dataset.descriptions[0]
    dated = year != NO_DATE
    assert dated[LOST].mean() > 0.95 and not dated[change != 1].any()
    true = (days[40] - date(1970, 1, 1)).days
    right = (last[dated] < true) & (first[dated] >= true)
    assert right.mean() > 0.95
    middle = decimal_year((last[dated] + first[dated]) / 2.0)
    assert np.allclose(year[dated], middle) and (sure[dated] > 50).mean() > 0.9
    assert result["years"].keys() <= {"2020", "2021"} and result["undated_ha"] < 0.4
    info, _, _, columns = pyogrio.raw.read(tmp_path / "p.gpkg")
    fields = dict(zip(info["fields"], columns, strict=True))
    assert fields["last_clear"][0] < str(days[40]) <= fields["first_clear"][0]


def test_before_and_after_are_dated_from_all_their_scenes(tmp_path, source):
    paths, days = series(source)
    result, change, said = detect(tmp_path, paths[:30], paths[30:], preset="deforestation",
                                  date=str(tmp_path / "date.tif"))
    assert result["method"] == "head" and (change[LOST] == 1).mean() > 0.9
    with rasterio.open(tmp_path / "date.tif") as dataset:
        first = dataset.read(3)
    true = (days[40] - date(1970, 1, 1)).days
    assert np.median(np.abs(first[first != NO_DATE] - true)) <= 20
    assert any(line.startswith("Dates: NBR of Sentinel-2, 60 dates") for line in said)


def test_no_break_no_date(tmp_path, source):
    paths, _ = series(source, at=99)
    result, change, _ = detect(tmp_path, paths, date=str(tmp_path / "date.tif"))
    assert (change == 1).mean() < 0.01 and result["patches"] <= 2


def test_too_few_dates_are_no_series(tmp_path, source):
    paths, _ = series(source)
    with pytest.raises(UserError, match="has 5 dates; 8 are needed, 4 clear ones"):
        detect(tmp_path, paths[:5])
    result, _, said = detect(tmp_path, paths[38:40], paths[40:42], date=str(tmp_path / "date.tif"))
    assert any("No date can be told: 4 dates" in line for line in said)
    with rasterio.open(tmp_path / "date.tif") as dataset:
        assert (dataset.read(1) == NO_DATE).all()
    assert result["years"] == {}


@pytest.mark.parametrize("season", [0.0, 0.15])
def test_breaks_of_known_series(season):
    rng = np.random.default_rng(1)
    dates, n = 90, 400
    days = np.datetime64("2016-01-01") + np.sort(rng.choice(3 * 365, dates, replace=False))
    t = (days - days[0]).astype(float)
    at = rng.integers(20, 70, n)
    clean = 0.8 + season * np.cos(2 * np.pi * t / 365.25)[:, None] + np.zeros(n)
    values = clean + rng.normal(0, 0.04, clean.shape)
    cut = values - 0.35 * (np.arange(dates)[:, None] >= at)
    for array in (values, cut):
        array[rng.random(array.shape) < 0.04] = 0.1  # clouds that no mask hides
        array[rng.random(array.shape) < 0.3] = np.nan
    found = find_breaks(days, cut.astype(np.float32))
    sure = (found.probability >= 0.9) & (found.after > 0)
    inside = (found.before < at) & (found.after >= at)
    errors = np.abs(t[found.after] - t[at])[sure]
    assert sure.mean() > 0.97 and inside[sure].mean() > 0.8
    assert np.median(errors) <= 12 and np.median(found.step[sure]) == pytest.approx(-0.35, abs=0.03)
    still = find_breaks(days, values.astype(np.float32), least_step=0.1)
    assert ((still.probability >= 0.9) & (still.after > 0)).mean() < 0.01
    rising = find_breaks(days, cut.astype(np.float32), direction=1, least_step=0.1)
    assert ((rising.probability >= 0.9) & (rising.after > 0)).mean() < 0.05


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), least=st.integers(2, 8), gaps=st.floats(0, 0.9))
def test_a_date_has_clear_days_on_both_sides(seed, least, gaps):
    rng = np.random.default_rng(seed)
    days = np.datetime64("2018-01-01") + np.cumsum(rng.integers(1, 30, 30))
    values = rng.normal(0, 0.1, (30, 40)) + (np.arange(30)[:, None] > rng.integers(0, 30, 40))
    values[rng.random(values.shape) < gaps] = np.nan
    found = find_breaks(days, values.astype(np.float32), least)
    clear = np.isfinite(values)
    for p in np.flatnonzero(found.after > 0):
        assert clear[found.after[p], p] and clear[found.before[p], p]
        assert not clear[found.before[p] + 1:found.after[p], p].any()
        assert clear[:found.after[p], p].sum() >= least <= clear[found.after[p]:, p].sum()
    assert np.isnan(found.probability[clear.sum(0) < 2 * least]).all()


class Fields:
    """A series of fields: the left half grows another crop in the second year, of the right half
    the ground is sealed in it."""

    index, grid = "nbr", None

    def __init__(self, years_known):
        self.years_known = years_known

    def breaks(self, window):
        days = np.datetime64("2019-01-01") + np.arange(0, 730, 6)
        t = np.arange(0, 730, 6)
        season = 0.3 * np.sin(2 * np.pi * t / 365.2425)
        second = (t >= 365).astype(float)
        noise = np.random.default_rng(0).normal(0, 0.02, (len(t), window.size))
        step = np.where(np.arange(window.size) % window.cols < window.cols // 2, 0.2, -0.9)
        values = season[:, None] + second[:, None] * step + noise
        return find_breaks(days, values.astype(np.float32), least_step=0.1), days


@pytest.mark.parametrize(("years_known", "threshold", "found"), [
    (False, None, (0, 1)), (True, None, (1, 1)), (False, 0.9, (1, 1))])
def test_another_crop_in_a_short_series_is_no_change(years_known, threshold, found):
    window = Window(0, 0, 4, 8)
    detector = SeriesDetector(Fields(years_known), None, None, window, threshold)
    block = detector.block(window)
    assert (block.codes[:, :4].mean(), block.codes[:, 4:].mean()) == found
    told = block.certainty[block.codes == 0]
    assert (told < block.certainty[block.codes == 1].min()).all()


def test_the_swing_is_of_the_season_without_the_step():
    found, _ = Fields(False).breaks(Window(0, 0, 1, 8))
    # quartiles of a sine are at half of its height times the root of two
    assert found.swing == pytest.approx(0.7413 * 0.3 * 2**0.5, abs=0.03)


def test_other_places_cannot_be_compared(tmp_path, source):
    here = scene(source, "S2_20230601.tif", False)
    far = scene(source, "S2_20240601.tif", True)
    with rasterio.open(far, "r+") as dataset:
        dataset.transform = Affine(10, 0, 6e5, 0, -10, 5.6e6)
    with pytest.raises(UserError, match="have no common area"):
        detect(tmp_path, here, far)
    with rasterio.open(far, "r+") as dataset:
        dataset.crs = CRS()
    with pytest.raises(UserError, match="S2_20240601 has no coordinate system"):
        detect(tmp_path, here, far)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_normalisation_undoes_gain_and_offset():
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (4, 5000)) + rng.normal(0, 2, 5000)
    second = 3 * first + 7 + rng.normal(0, 0.1, first.shape)
    second[:, :500] += 10
    found = normalise(first, second, np.zeros(4, bool))
    moved = np.linalg.norm(found.differences(first, second), axis=0)
    assert moved[:500].min() > 2 * np.percentile(moved[500:], 99)
    assert np.allclose(found.second_spread / found.first_spread, 3, rtol=0.05)
    kept = normalise(first, second, np.ones(4, bool))
    assert (kept.first_spread == 1).all() and (kept.second_spread == 1).all()


def test_the_cut_never_lies_in_the_noise():
    rng = np.random.default_rng(0)
    noise = np.sqrt(rng.chisquare(6, 20_000))
    assert (noise > automatic_cut(noise)).mean() < 0.005
    mixed = np.concatenate([noise, rng.normal(15, 1, 3000)])
    cut = automatic_cut(mixed)
    assert 5 < cut < 12
    decision = Decision.of(mixed, cut)
    assert decision.certainty(np.array([cut])) == pytest.approx(0.5)
    assert (np.diff(decision.certainty(np.linspace(0.1, 30, 50))) >= 0).all()


def test_forest_features_are_quantiles():
    values = np.stack([np.linspace(0, 1, 11)[:, None]] * 3).astype(np.float32)
    assert season_features(values)[0, :5] == pytest.approx([0.1, 0.25, 0.5, 0.75, 0.9])
    values[:, 1::2] = np.nan
    assert season_features(values)[0, 2] == pytest.approx(0.5)
    assert np.isnan(season_features(np.full((3, 4, 2), np.nan, np.float32))).all()
    head = ForestHead.open()
    assert np.isnan(head.forest(np.full((1, 15), np.nan, np.float32))).all()
    assert head.card["training"] and os.path.getsize(
        Path(__file__).parents[2] / "resources/heads/deforestation.head.onnx") < 700_000


def test_decimal_years():
    days = np.array([0, 18262, 18262 + 366, np.nan])  # 2020 has 366 days
    assert decimal_year(days)[:3] == pytest.approx([1970, 2020, 2021])
    assert np.isnan(decimal_year(days)[3])


@pytest.mark.parametrize(("more", "sentence"), [
    ({"method": "magic"}, "no method magic"),
    ({"method": "head"}, "needs Head"),
    ({"method": "bands", "preset": "deforestation"}, "does not know forest"),
    ({"method": "bands", "after": None}, "After is empty"),
    ({"method": "bands", "threshold": -1}, "not below 0"),
    ({"min_clear": 1}, "At least 2 clear"),
])
def test_wrong_requests_are_sentences(tmp_path, source, more, sentence):
    before = scene(source, "S2_20200601.tif", False)
    after = scene(source, "S2_20210601.tif", True, seed=1)
    given = {"after": after, **more}
    with pytest.raises(UserError, match=sentence):
        detect(tmp_path, before, given.pop("after"), report=str(tmp_path / "r.html"), **given)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_swapped_dates_and_other_seasons_are_told(tmp_path, source):
    before = scene(source, "S2_20200301.tif", False)
    after = scene(source, "S2_20210901.tif", True, seed=1)
    with pytest.raises(UserError, match="Swap them"):
        detect(tmp_path, after, before)
    _, _, said = detect(tmp_path, before, after)
    assert any("Before is of March, After of September" in line for line in said)


def test_nothing_in_common_is_a_sentence(tmp_path, source):
    before = scene(source, "S2_20200601.tif", False)
    radar = source / "S1_20210601.tif"
    with rasterio.open(radar, "w", driver="GTiff", width=64, height=64, count=1, dtype="float32",
                       crs=CRS.from_epsg(32631),
                       transform=Affine(10, 0, 5e5, 0, -10, 5.6e6)) as dataset:
        dataset.write(np.random.default_rng(0).normal(-12, 2, (1, 64, 64)).astype(np.float32))
        dataset.set_band_description(1, "VV")
    with pytest.raises(UserError, match="no band in common"):
        detect(tmp_path, before, str(radar))


def radar(folder, name, flooded, seed):
    """VV in dB of land with speckle; a lake grows if `flooded`."""
    rng = np.random.default_rng(seed)
    power = np.full((64, 64), 10 ** -0.9)
    power[:10] = 10 ** -1.8
    if flooded:
        power[LOST] = 10 ** -1.8
    path = folder / name
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=1, dtype="float32",
                       crs=CRS.from_epsg(32631),
                       transform=Affine(10, 0, 5e5, 0, -10, 5.6e6)) as dataset:
        speckle = rng.gamma(8, 1 / 8, power.shape)
        dataset.write((10 * np.log10(power * speckle))[None].astype(np.float32))
        dataset.set_band_description(1, "VV")
    return str(path)


def test_radar_is_compared_in_db_and_of_one_orbit(tmp_path, source):
    before = radar(source, "S1_20210601_A044.tif", False, 0)
    after = radar(source, "S1_20210613_A044.tif", True, 1)
    _, change, _ = detect(tmp_path, before, after)
    assert (change[LOST] == 1).mean() > 0.9 and (change[42:] == 1).mean() < 0.02
    assert (change[22:38, 12:38] == 1).all()
    other = radar(source, "S1_20210613_A110.tif", True, 1)
    with pytest.raises(UserError, match="orbit 44, those after of 110. Choose one orbit"):
        detect(tmp_path, before, other)


@pytest.mark.parametrize("model", ["logistic", "convolutional"])
def test_a_head_tells_what_became_what(tmp_path, source, model):
    before = scene(source, "S2_20200601.tif", False)
    after = scene(source, "S2_20210601.tif", True, seed=1)
    points = tmp_path / "in" / "labels.geojson"
    features = [{"type": "Feature", "properties": {"cover": name}, "geometry": {
                    "type": "Point", "coordinates": [5e5 + 10 * c + 5, 5.6e6 - 10 * r - 5]}}
                for name, rows in (("forest", range(42, 62, 2)), ("bare", range(0, 8)))
                for r in rows for c in range(2, 62, 4)]
    points.write_text(json.dumps({
        "type": "FeatureCollection", "features": features,
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}}))
    head = tmp_path / "in" / "cover.head.onnx"
    jobs.run("train_head", {"input": [before], "labels": str(points), "field": "cover",
                            "output": str(head), "features": "bands", "model": model},
             JobContext())
    result, change, _ = detect(tmp_path, before, after, head=str(head))
    assert result["method"] == "head"
    names = {a["name"]: a["hectares"] for a in result["areas"]}
    assert names["forest → bare"] == pytest.approx(6, rel=0.1) and set(names) <= {
        "unchanged", "forest → bare", "bare → forest"}
    value = next(a["value"] for a in result["areas"] if a["name"] == "forest → bare")
    assert (change[LOST] == value).mean() > 0.95
    _, lost, _ = detect(tmp_path, before, after, head=str(head), preset="deforestation")
    assert (lost[LOST] == 1).mean() > 0.95 and (lost[:7] == 0).all()


def test_the_labelled_pair_of_digital_numbers(tmp_path, shared):
    folder = shared / "data" / "change-landsat-china" / "taizhou"
    _, change, _ = detect(tmp_path, str(folder / "landsat7_t1_2000.tif"),
                          str(folder / "landsat7_t2_2003.tif"), min_area_ha=0)
    with rasterio.open(folder / "labels_left_half.tif") as dataset:
        labels = dataset.read(1)
    found = change[:, :labels.shape[1]]
    kappa = cohen_kappa_score(labels[labels > 0] == 2, found[labels > 0] == 1)
    assert kappa > 0.95  # 0.904 by change vectors and Otsu
    with pytest.raises(UserError, match="display values .* forest cannot be told"):
        detect(tmp_path, str(folder / "landsat7_t1_2000.tif"),
               str(folder / "landsat7_t2_2003.tif"), preset="deforestation")


def test_lost_forest_of_mato_grosso_agrees_with_its_labels(tmp_path, shared):
    """No pixel is dated before the end of its forest labels, or after its first crop label."""
    import csv

    from rasterio.warp import transform

    folder = shared / "data" / "crop-matogrosso-modis" / "cube"
    _, change, _ = detect(tmp_path, [str(p) for p in sorted(folder.glob("*.tif"))],
                          preset="deforestation", min_area_ha=0, date=str(tmp_path / "date.tif"))
    with open(folder / "samples.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with rasterio.open(tmp_path / "date.tif") as dataset:
        first, last = dataset.read(3), dataset.read(2)
        xs, ys = transform("EPSG:4326", dataset.crs, [float(r["longitude"]) for r in rows],
                           [float(r["latitude"]) for r in rows])
        places = [dataset.index(x, y) for x, y in zip(xs, ys, strict=True)]
    wrong = forest = 0
    for row, place in zip(rows, places, strict=True):
        ended = (date.fromisoformat(row["to"]) - date(1970, 1, 1)).days
        began = (date.fromisoformat(row["from"]) - date(1970, 1, 1)).days
        if row["label"] == "Forest":
            forest += change[place] == 2
            wrong += change[place] == 1 and first[place] < ended
        elif change[place] == 1:
            wrong += last[place] > began
    assert wrong == 0 and forest == 138
