"""The synthetic season against what is known of real ones, and the files that carry it.

Limits are those that real fields keep (Belgian and Canadian crops, Sentinel-1/2, 2018-2019),
widened where one small landscape may stray by chance.
"""

import hashlib
import json

import numpy as np
import pyogrio
import pytest
import rasterio
from scipy.ndimage import minimum_filter

from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.simulation.atmosphere import draw_cover
from earthprint.engine.simulation.landscape import FIELD, WATER
from earthprint.engine.simulation.optics import surface as reflectance
from earthprint.engine.simulation.phenology import canopy_on
from earthprint.engine.simulation.radar import soil_backscatter, speckle
from earthprint.engine.simulation.recipe import load_recipe
from earthprint.engine.simulation.season import Acquisition, draw_season
from earthprint.engine.tasks.simulate_season import run

RECIPE = load_recipe()
BANDS = RECIPE.optics.bands


@pytest.fixture(scope="module", params=[RECIPE.seed, 5, 7])
def season(request):
    return draw_season(RECIPE, 384, request.param)


@pytest.fixture(scope="module")
def fields(season):
    return FieldMeans(season)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "season"
    return run({"output": str(folder), "size": 128, "seed": 7}, JobContext()), folder


class FieldMeans:
    """Means and spreads over the inner pixels of units."""

    def __init__(self, season):
        unit = season.land.unit
        self.season, self.n = season, len(season.land.cover)
        edge = minimum_filter(unit, 5) != -minimum_filter(-unit, 5)
        self.inner = ~edge
        self.units = unit[self.inner]
        self.count = np.bincount(self.units, minlength=self.n)
        self.big = self.count >= 25

    def mean(self, image):
        total = np.bincount(self.units, weights=image[self.inner], minlength=self.n)
        return total / np.maximum(self.count, 1)

    def spread(self, image):
        return np.sqrt(np.maximum(self.mean(image**2) - self.mean(image) ** 2, 0))

    def of(self, name):
        return self.big & (self.season.fields.kind == self.season.classes.names.index(name))


def clear_day(season, day):
    """Reflectance of a cloudless date, (bands, rows, cols)."""
    scene = season.see(Acquisition("sentinel-2", day, 0.0, "")).digital[:-1]
    return (scene.astype(float) - 1000) / 10000


def ndvi_of(bands):
    red, nir = bands[BANDS.index("B04")], bands[BANDS.index("B08")]
    return (nir - red) / (nir + red)


def radar_mean(season, days):
    """Linear sigma0 over some dates, (VV and VH, rows, cols)."""
    return np.mean([10 ** (season.sound(Acquisition("sentinel-1", day, 0, "")) / 10)
                    for day in days], axis=0)


def decibel(values):
    return 10 * np.log10(np.maximum(values, 1e-6))


def test_dense_wheat_in_may(season, fields):
    seen, surface = [], []
    for day in (122, 127, 132, 137, 142, 147):
        canopy = canopy_on(day, RECIPE, season.classes, season.fields)
        dense = fields.of("winter wheat") & (canopy.lai > 3) & (canopy.brown < 0.1)
        bands = dict(reflectance(RECIPE, season.classes, season.land, season.fields, canopy,
                                 wetness=0.3, rain_index=5.0))
        clean = np.stack([bands[name] for name in BANDS])
        surface.append(np.median(fields.mean(ndvi_of(clean))[dense]))
        seen.append(np.median(fields.mean(ndvi_of(clear_day(season, day)))[dense]))
    assert 0.80 <= min(surface) <= max(surface) <= 0.90
    assert 0.77 <= np.median(seen) <= 0.90  # what is left of haze moves a date by some 0.03


def test_bare_soil(season, fields):
    canopy = canopy_on(132, RECIPE, season.classes, season.fields)
    ndvi = fields.mean(ndvi_of(clear_day(season, 132)))
    bare = fields.big & (season.land.cover == FIELD) & (canopy.lai < 0.05) & (canopy.straw < 0.05)
    assert bare.sum() >= 20
    assert np.mean((ndvi[bare] > 0.12) & (ndvi[bare] < 0.22)) > 0.95


def test_soil_line(season, fields):
    bands, canopy = clear_day(season, 132), canopy_on(132, RECIPE, season.classes, season.fields)
    bare = fields.inner & ((season.land.cover == FIELD) & (canopy.lai < 0.05))[season.land.unit]
    slope, _ = np.polyfit(bands[BANDS.index("B04")][bare], bands[BANDS.index("B08")][bare], 1)
    assert 1.1 <= slope <= 1.4


def test_fields_are_uneven_inside(season, fields):
    bands, canopy = clear_day(season, 152), canopy_on(152, RECIPE, season.classes, season.fields)
    green = fields.big & (season.land.cover == FIELD) & (canopy.lai > 1)
    assert 0.03 <= np.median(fields.spread(ndvi_of(bands))[green]) <= 0.08
    nir = bands[BANDS.index("B08")]
    assert 0.04 <= np.median(fields.spread(nir)[green] / fields.mean(nir)[green]) <= 0.13


def test_wheat_darkens_and_maize_brightens_the_radar(season, fields):
    months = {"feb": (35, 47, 55), "may": (124, 136, 148), "jun": (156, 166, 178),
              "aug": (216, 228, 240)}
    vv, vh = {}, {}
    for month, days in months.items():
        vv[month], vh[month] = (decibel(fields.mean(p)) for p in radar_mean(season, days))
    wheat, maize = fields.of("winter wheat"), fields.of("maize")
    lowest = min(np.median(vv[m][wheat]) for m in ("may", "jun"))
    assert 3.5 <= np.median(vv["feb"][wheat]) - lowest <= 6.5
    assert 3.0 <= np.median(vh["aug"][maize]) - np.median(vh["may"][maize]) <= 7.0


def test_calm_water_is_darker_than_land(season):
    calm = int(np.argmin(season.weather.wind[120:240])) + 121
    vv, vh = season.sound(Acquisition("sentinel-1", calm, 0, ""))
    water = (season.land.cover == WATER)[season.land.unit]
    inner = minimum_filter(water, 5)
    assert np.median(vv[inner]) < -18
    assert np.median(vh[inner]) < -24
    assert np.median(vv[~water]) > -12.5


def test_speckle_is_that_of_a_ground_range_product():
    image = speckle((512, 512), RECIPE.radar, np.random.default_rng(0))
    assert image.mean() == pytest.approx(1, abs=0.01)
    assert 4.0 <= image.mean() ** 2 / image.var() <= 4.8
    lag = [np.corrcoef(image[:, :-k].ravel(), image[:, k:].ravel())[0, 1] for k in (1, 2)]
    assert 0.55 <= lag[0] <= 0.70
    assert lag[1] < 0.2


@pytest.mark.parametrize(("moisture", "vv", "vh"), [
    (10, -11.4, -21.5), (20, -10.3, -20.1), (40, -8.3, -17.2)])
def test_bare_soil_backscatter(moisture, vv, vh):
    rough = np.array(1.2)
    found = [decibel(soil_backscatter(RECIPE.radar, p, 38, moisture, rough)) for p in ("VV", "VH")]
    assert found == pytest.approx([vv, vh], abs=0.5)


def test_skies_are_as_clear_as_over_belgium_in_2018():
    clouds, rng = RECIPE.clouds, np.random.default_rng(1)
    measured = (0.56, 0.81, 0.65, 0.27, 0.56, 0.68, 0.78, 0.47, 0.37, 0.48, 0.36, 0.22)
    for month, clear in enumerate(measured, 1):
        cover = [draw_cover(clouds, month, rng) for _ in range(3000)]
        assert 1 - np.mean(cover) == pytest.approx(clear, abs=0.1)


def test_the_mask_errs_as_masks_do(season):
    missed, false = [], []
    for acquisition in season.optical:
        scene = season.see(acquisition)
        scl, cloud = scene.digital[-1], scene.sky.cloud > 0.3
        called = np.isin(scl, (8, 9))
        open_sky = ~cloud & (scene.sky.cirrus < 0.005)
        if cloud.mean() > 0.05:
            missed.append((cloud & ~called).sum() / cloud.sum())
        if open_sky.mean() > 0.05:
            false.append((open_sky & called).sum() / open_sky.sum())
    assert 0.04 <= np.mean(missed) <= 0.10
    assert 0.01 <= np.mean(false) <= 0.05


def test_crops_follow_their_shares(season):
    land, fields = season.land, season.fields
    high = (land.cover == FIELD) & ~land.meadow
    wheat = season.classes.names.index("winter wheat")
    share = np.mean(fields.kind[high] == wheat)
    others = [np.mean(fields.kind[high] == k) for k in range(9)]
    assert share == max(others)
    assert min(others) > 0.02
    assert set(np.unique(season.truth)) == set(range(1, len(RECIPE.truth) + 1))


def test_files_are_what_an_analyst_would_download(written):
    result, folder = written
    scenes = sorted(p.name for p in (folder / "scenes").iterdir())
    record = json.loads((folder / "season.json").read_text())
    assert scenes == sorted(s["file"].split("/")[1] for s in
                            record["sentinel-1"] + record["sentinel-2"])
    with rasterio.open(folder / record["sentinel-2"][0]["file"]) as file:
        assert file.descriptions == (*BANDS, "SCL")
        assert file.dtypes[0] == "uint16"
        assert file.crs.to_epsg() == 32631
        assert file.shape == (128, 128)
        assert file.res == (10, 10)
        digital = file.read()
    coarse = digital[BANDS.index("B11")]
    assert np.array_equal(coarse[::2, ::2], coarse[1::2, 1::2])
    assert "_N0510_" in record["sentinel-2"][0]["file"]
    assert np.median(digital[0]) > 1000
    with rasterio.open(folder / record["sentinel-1"][0]["file"]) as file:
        assert file.descriptions == ("VV", "VH")
        sigma0 = file.read() * file.scales[0]
    assert -14 < np.median(sigma0[0]) < -8
    assert -22 < np.median(sigma0[1]) < -13
    assert result["truth"] == str(folder / "truth.tif")


def test_labels_agree_with_the_truth_and_leave_most_parcels_out(written):
    result, folder = written
    record = json.loads((folder / "season.json").read_text())
    names = {entry["value"]: entry["name"] for entry in record["legend"]}
    with rasterio.open(result["truth"]) as file:
        truth, left, top = file.read(1), file.bounds.left, file.bounds.top
        assert file.nodata == 0
    meta, _, shapes, (crops, parcels) = pyogrio.raw.read(result["labels"])
    assert meta["geometry_type"] == "Polygon"
    for shape, crop in zip(shapes, crops, strict=True):
        corners = np.frombuffer(shape, "<f8", offset=13).reshape(-1, 2)
        x, y = corners[:-1].mean(axis=0)
        assert names[truth[int((top - y) / 10), int((x - left) / 10)]] == crop
    labelled = [p for p in record["parcels"] if p["labelled"]]
    assert len(labelled) == np.count_nonzero(parcels >= 0) > 0
    assert len(labelled) < 0.4 * len(record["parcels"])


def test_one_seed_gives_one_season(written, tmp_path):
    def digests(folder):
        return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest()
                for p in folder.rglob("*") if p.is_file()}

    again, other = tmp_path / "again", tmp_path / "other"
    run({"output": str(again), "size": 128, "seed": 7}, JobContext())
    run({"output": str(other), "size": 128, "seed": 8}, JobContext())
    first = digests(written[1])
    assert digests(again) == first
    assert set(digests(other).values()).isdisjoint(
        v for k, v in first.items() if k.suffix == ".tif")


def test_a_season_is_replaced_but_nothing_else(written, tmp_path):
    folder = tmp_path / "season"
    run({"output": str(folder), "size": 128, "seed": 1}, JobContext())
    (folder / "notes.txt").write_text("mine")
    run({"output": str(folder), "size": 128, "seed": 2}, JobContext())
    assert json.loads((folder / "season.json").read_text())["seed"] == 2
    assert (folder / "notes.txt").read_text() == "mine"
    busy = tmp_path / "busy"
    busy.mkdir()
    (busy / "thesis.doc").touch()
    with pytest.raises(UserError, match="holds other files"):
        run({"output": str(busy), "size": 128}, JobContext())


def test_cancelled_leaves_nothing(tmp_path):
    seen = []
    context = JobContext(on_progress=lambda share, text: seen.append(text),
                         is_cancelled=lambda: len(seen) > 4)
    with pytest.raises(Cancelled):
        run({"output": str(tmp_path / "season"), "size": 128}, context)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("params", [
    {"size": 64}, {"size": 129}, {"size": "big"}, {"seed": -1}, {"seed": 1.5}])
def test_sizes_and_seeds_out_of_range(params, tmp_path):
    with pytest.raises(UserError):
        run({"output": str(tmp_path / "season"), **params}, JobContext())
    assert list(tmp_path.iterdir()) == []
