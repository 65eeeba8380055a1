"""Stacks of real data: what is understood, against what the data's own notes say."""

import numpy as np
import pytest
import rasterio

from earthprint.engine.errors import UserError
from earthprint.engine.stacks.reading import StackReader
from earthprint.engine.stacks.stack import Stack, build_stack, open_input

TEN = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08",
       "swir16", "swir22")
L1C = ("coastal", *TEN[:8], "nir09", "cirrus", "swir16", "swir22")


def read(stack, sensor):
    with StackReader(stack, sensors=(sensor,)) as reader:
        return reader.read(stack.grid.full).series[sensor]


def median(series, band):
    values = series.values[:, series.bands.index(band)]
    return float(np.nanmedian(values[series.valid]))


@pytest.fixture(scope="module")
def data(shared):
    return shared / "data"


class TestWorldCereal:
    @pytest.fixture(scope="class")
    def polders(self, data, tmp_path_factory):
        stack = build_stack([data / "crop-worldcereal-patches" / "belgium-2018-polders"])
        path = tmp_path_factory.mktemp("stack") / "polders.stack.json"
        stack.save(path)
        return Stack.load(path)

    def test_one_file_a_date_in_three_folders(self, polders):
        assert polders.sensors() == {
            "landsat": ("blue", "green", "red", "nir08", "swir16", "swir22"),
            "sentinel-1": ("vv", "vh"), "sentinel-2": TEN}
        count = {s: sum(x.sensor == s for x in polders.scenes) for s in polders.sensors()}
        assert count == {"landsat": 26, "sentinel-1": 159, "sentinel-2": 118}
        assert polders.grid.shape == (64, 64) and polders.grid.crs.to_epsg() == 32631
        assert [name for name, _ in polders.left_out] == ["labels_LC_CT_10m.tif"]

    def test_values_are_those_of_the_files(self, polders, data):
        series = read(polders, "sentinel-2")
        folder = data / "crop-worldcereal-patches" / "belgium-2018-polders"
        t = int(np.flatnonzero(series.dates == np.datetime64("2018-06-10"))[0])
        with rasterio.open(folder / "s2_10m" / "20180610T105026.tif") as dataset:
            np.testing.assert_allclose(series.values[t, 2], dataset.read(3) / 1e4, rtol=1e-6)
        with rasterio.open(folder / "s2_20m" / "20180610T105026.tif") as dataset:
            scl = dataset.read(7).repeat(2, 0).repeat(2, 1)
            swir = dataset.read(4)
        assert not series.valid[t][np.isin(scl, (0, 1, 3, 8, 9, 10, 11))].any()
        four = series.values[t, 8].reshape(32, 2, 32, 2).mean((1, 3))
        assert np.corrcoef(four.ravel(), swir.ravel())[0, 1] > 0.98
        radar = read(polders, "sentinel-1")
        assert median(radar, "vv") == pytest.approx(-8.6, abs=0.1)
        assert median(radar, "vh") == pytest.approx(-16.3, abs=0.1)
        assert set(radar.orbits) == {"ascending"} and radar.valid.all()

    def test_stacks_of_a_thousand_bands(self, data):
        stack = build_stack([data / "crop-worldcereal-patches" / "belgium-2019-north"])
        count = {s: sum(x.sensor == s for x in stack.scenes) for s in stack.sensors()}
        assert count["landsat"] == 23 and count["sentinel-1"] == 157
        assert stack.sensors()["sentinel-2"] == ("rededge071", "rededge075", "rededge078",
                                                 "nir08", "swir16", "swir22")
        series = read(stack, "sentinel-2")
        assert 0.15 < median(series, "nir08") < 0.4 and 0.3 < series.valid.mean() < 0.7

    def test_netcdf_with_a_time_axis(self, data):
        stack = build_stack([data / "worldcereal-cube-netcdf"])
        assert stack.grid.transform == (10.0, 0.0, 664000.0, 0.0, -10.0, 5612120.0)
        days = sorted({s.date for s in stack.scenes})
        assert days[0] == "2020-11-01" and days[-1] == "2021-10-01" and len(days) == 12
        radar, optical = read(stack, "sentinel-1"), read(stack, "sentinel-2")
        assert -13 < median(radar, "vv") < -7 and -20 < median(radar, "vh") < -14
        assert 0.2 < median(optical, "nir") < 0.4
        netcdf = pytest.importorskip("netCDF4")
        file = data / "worldcereal-cube-netcdf" / "worldcereal_preprocessed_inputs.nc"
        with netcdf.Dataset(file) as dataset:
            dataset.set_auto_mask(False)
            raw = dataset["S2-L2A-B04"][5].astype("uint16")
        have = raw != 65535
        np.testing.assert_allclose(optical.values[5, optical.bands.index("red")][have],
                                   raw[have] / 1e4, rtol=1e-6)
        assert not optical.valid[5][~have].any()


def test_cbers_in_its_own_crs_with_cloud_masks(data):
    folder = data / "cbers4-awfi-bahia-stack"
    stack = open_input(sorted(folder.glob("*.tif")))
    assert len(stack.scenes) == 24 and stack.sensors() == {"cbers": ("blue", "green", "red",
                                                                     "nir")}
    assert stack.grid.crs.to_epsg() == 10857
    masked = [s.date for s in stack.scenes if s.masks]
    assert masked == ["2017-11-17", "2018-02-02", "2018-04-07"]
    assert 0.15 < median(read(stack, "cbers"), "nir") < 0.4
    cloudy = read(build_stack([folder / "cloudy-scene"]), "cbers")
    assert cloudy.valid[list(cloudy.dates).index(np.datetime64("2017-12-03"))].mean() < 0.2
    with pytest.raises(UserError, match="have no common area"):
        build_stack([folder])  # three places


def test_bouconne_has_its_odd_band_order(data):
    stack = build_stack([data / "sentinel2-bouconne-2018-stack"])
    assert stack.sensors() == {"sentinel-2": TEN} and len(stack.scenes) == 7
    assert {a.name: a.band for a in stack.scenes[0].data}["nir"] == 4
    series = read(stack, "sentinel-2")
    means = {b: median(series, b) for b in ("rededge071", "rededge075", "rededge078", "nir")}
    assert list(means.values()) == sorted(means.values())


def test_landsat5_counts_become_reflectance_by_the_mtl_file(data):
    folder = data / "landsat-scenes" / "landsat5-amazon-1988"
    stack = build_stack([folder])
    (scene,) = stack.scenes
    assert (scene.date, scene.tile) == ("1988-08-14", "224063")
    scale, offset = next((a.scale, a.offset) for a in scene.data if a.name == "red")
    # by hand: d = 1.0128 AU, ESUN 1536 W/(m2 um), sun 49.756 degrees, L = 1.044 Q - 2.21398
    factor = np.pi * 1.0128**2 / (1536 * np.sin(np.radians(49.75588889)))
    assert scale == pytest.approx(1.044 * factor, rel=1e-3)
    assert offset == pytest.approx(-2.21398 * factor, rel=1e-3)
    assert 0.15 < median(read(stack, "landsat"), "nir08") < 0.4


def test_landsat7_stacks_with_masks(data):
    stack = build_stack([data / "landsat-scenes" / "landsat7-mexico-guatemala"])
    assert [s.date for s in stack.scenes] == ["1999-11-18", "2002-04-16"]
    assert all(s.masks[0].mask == "cfmask" for s in stack.scenes)
    series = read(stack, "landsat")
    assert series.valid[0].all() and 0.5 < series.valid[1].mean() < 0.95
    assert 0.2 < median(series, "nir08") < 0.4


@pytest.mark.parametrize(("name", "dates", "first"), [
    ("togo-98_2019-02-06_2020-02-01.tif", 12, "2019-02-21"),
    ("honduras_min_lat=14.9517_min_lon=-86.2507_2017-01-01_2018-12-31.tif", 24, "2017-01-16"),
])
def test_earth_engine_exports_with_counted_months(data, name, dates, first):
    stack = build_stack([data / "gee-export-stacks" / name])
    assert stack.sensors() == {"sentinel-1": ("vv", "vh"), "sentinel-2": L1C}
    days = sorted({s.date for s in stack.scenes})
    assert len(days) == dates and days[0] == first
    assert 0.2 < median(read(stack, "sentinel-2"), "nir") < 0.4
    assert -15 < median(read(stack, "sentinel-1"), "vv") < -8


def test_spain_chip_without_dates_is_one_scene_a_sensor(data):
    stack = build_stack([data / "flood-sen1floods11-spain"])
    assert [(s.sensor, s.date) for s in stack.scenes] == [("sentinel-1", None),
                                                          ("sentinel-2", None)]
    assert [name for name, _ in stack.left_out] == ["Spain_7370579_LabelHand.tif"]
    radar = read(stack, "sentinel-1")
    assert np.isnat(radar.dates).all()
    with rasterio.open(data / "flood-sen1floods11-spain" / "Spain_7370579_S1Hand.tif") as dataset:
        assert (radar.valid[0] == np.isfinite(dataset.read()).all(0)).all()
    assert stack.sensors()["sentinel-2"] == L1C


def test_slovenia_takes_masks_from_a_dated_stack(data):
    stack = build_stack([data / "landcover-slovenia-s2-patch"])
    series = read(stack, "sentinel-2")
    assert series.values.shape == (5, 13, 101, 100)
    with rasterio.open(data / "landcover-slovenia-s2-patch" / "cloud_mask_68_dates.tif") as clouds:
        for t, day in enumerate(series.dates.astype(str)):
            cloud = clouds.read(clouds.descriptions.index(day) + 1) == 1
            assert (series.valid[t] == ~cloud).all()
    assert read(stack, "optical").bands == ("ndvi",)
    assert {"dem.tif", "landcover.tif"} <= {name for name, _ in stack.left_out}


def test_bigearthnet_joins_three_resolutions_and_knows_places_apart(data):
    folder = data / "landcover-bigearthnet-sample"
    stack = build_stack(sorted(folder.glob("S2B_MSIL2A_20170924T93020_69_24_*m.tif")))
    (scene,) = stack.scenes
    assert (scene.date, len(scene.bands), stack.grid.shape) == ("2017-09-24", 12, (120, 120))
    with pytest.raises(UserError, match="have no common area"):
        build_stack([folder])


def test_flanders_weeks_linear_radar_of_both_directions(data):
    stack = build_stack([data / "s1-s2-flanders-weekly-2024"])
    radar = read(stack, "sentinel-1")
    assert radar.orbits == ("ascending", "descending") * 2
    assert [str(d) for d in radar.dates] == ["2024-03-07"] * 2 + ["2024-03-14"] * 2
    assert -14 < median(radar, "vv") < -8
    optical = read(stack, "sentinel-2")
    assert optical.values.shape == (1, 6, 52, 52) and 0.04 < median(optical, "red") < 0.08


def test_aerial_images_and_pictures_of_landsat(data):
    naip = build_stack([data / "aerial-naip-multiyear"])
    assert naip.sensors() == {"aerial": ("blue", "green", "red", "nir")}
    assert [s.date for s in naip.scenes] == ["2010-06-29", "2015-09-26", "2020-08-31"]
    pucallpa = build_stack([data / "landsat-pucallpa-rgbn-timeseries"])
    assert pucallpa.sensors() == {"optical": ("green", "red", "nir", "swir16")}
    assert "not reflectance" in pucallpa.scenes[0].note
    trees = data / "trees-treesatai-patches"
    with pytest.raises(UserError, match="No date in `Abies_alba"):
        build_stack([trees])
    one = build_stack([trees / "Abies_alba_1_1005_WEFL_NLF.tif"],
                      bands=("nir", "red", "green", "blue"))
    assert {a.name: a.band for a in one.scenes[0].data}["nir"] == 1


def test_modis_series_of_one_band_a_file(data):
    stack = build_stack([data / "crop-matogrosso-modis" / "cube"])
    assert stack.sensors() == {"modis": ("blue", "red", "nir", "swir22", "evi", "ndvi")}
    assert len(stack.scenes) == 137 and stack.scenes[0].date == "2007-09-14"
    series = read(stack, "modis")
    assert 0.3 < median(series, "ndvi") < 0.8 and 0.2 < median(series, "nir") < 0.4
