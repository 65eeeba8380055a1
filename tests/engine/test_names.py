"""Dates, products, bands, tiles, orbits and baselines from names."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthprint.engine.stacks import names
from earthprint.engine.stacks.sensors import PRODUCTS, in_order, layout, resolve

SAFE = "S2A_MSIL2A_20240615T105031_N0510_R051_T31UFS_20240615T170000.SAFE"
GRD = "S1A_IW_GRDH_1SDV_20240604T173213_20240604T173238_054174_0696A5_ABCD"

# path, product, date, what resolve() makes of the band, other fields
CASES = [
    (f"{SAFE}/GRANULE/L2A_T31UFS_A046/IMG_DATA/R10m/T31UFS_20240615T105031_B04_10m.jp2",
     "sentinel-2", "2024-06-15", "red", {"tile": "31UFS", "baseline": 510, "track": 51}),
    (f"{SAFE}/GRANULE/L2A_T31UFS_A046/IMG_DATA/R20m/T31UFS_20240615T105031_SCL_20m.jp2",
     "sentinel-2", "2024-06-15", "scl", {"time": "105031"}),
    ("S2B_MSIL1C_20170105T013442_N0204_R031_T53NMJ_20170105T013443.tif",
     "sentinel-2", "2017-01-05", None, {"baseline": 204, "tile": "53NMJ"}),
    ("S2A_31UFS_20240615_0_L2A/B04.tif", "sentinel-2", "2024-06-15", "red", {"tile": "31UFS"}),
    ("S2A_31UFS_20240615_0_L2A/scl.tif", "sentinel-2", "2024-06-15", "scl", {}),
    ("S2A_31UFS_20240615_0_L2A/rededge2.tif", "sentinel-2", "2024-06-15", "rededge075", {}),
    ("S2A_T31UFS_20240615T105031_0_L2A/B8A.tif", "sentinel-2", "2024-06-15", "nir08", {}),
    ("T31UFS_20240615T105031_B8A_20m.tif", "sentinel-2", "2024-06-15", "nir08",
     {"tile": "31UFS", "time": "105031"}),
    ("S2B_MSIL2A_20180502T093039_43_14_10m.tif", "sentinel-2", "2018-05-02", None, {}),
    ("SENTINEL2A_20180815-105655-123_L2A_T31TCJ_C_V1-8_FRE_B4.tif", "theia", "2018-08-15", "red",
     {"tile": "31TCJ", "time": "105655"}),
    ("SENTINEL2A_20180815-105655-123_L2A_T31TCJ_C_V1-8_CLM_R1.tif", "theia", "2018-08-15",
     "theia-clm", {}),
    ("SENTINEL2A_20180815-105655-123_L2A_T31TCJ_C_V1-8_MG2_R1.tif", "theia", "2018-08-15",
     "theia-mg2", {}),
    (f"{GRD}_rtc/vv.tif", "sentinel-1", "2024-06-04", "vv", {"track": 27, "time": "173213"}),
    (f"{GRD}.SAFE/measurement/s1a-iw-grd-vh-20240604t173213-20240604t173238-054174-0696a5-002.tiff",
     "sentinel-1", "2024-06-04", "vh", {"track": 27}),
    ("OPERA_L2_RTC-S1_T069-147169-IW1_20240604T173213Z_20240605T010101Z_S1A_30_v1.0_VV.tif",
     "sentinel-1", "2024-06-04", "vv", {"track": 69}),
    ("LC08_L2SP_199024_20240615_20240620_02_T1_SR_B4.TIF", "landsat-oli-c2", "2024-06-15", "red",
     {"tile": "199024"}),
    ("LC09_L2SP_199024_20240615_20240620_02_T1_QA_PIXEL.TIF", "landsat-oli-c2", "2024-06-15",
     "landsat-qa", {}),
    ("LC08_L2SP_199024_20240615_20240620_02_T1_ST_B10.TIF", "landsat-oli-c2", "2024-06-15",
     "lwir11", {}),
    ("LE07_L2SP_022049_19991118_20200918_02_T1_SR_B4.TIF", "landsat-tm-c2", "1999-11-18", "nir08",
     {}),
    ("LT05_L1TP_224063_19880814_20200917_02_T1_B5.TIF", "landsat-tm", "1988-08-14", "swir16", {}),
    ("LT52240631988227CUB02_B4.TIF", "landsat-tm", "1988-08-14", "nir08", {"tile": "224063"}),
    ("LE70220491999322EDC01_stack.tif", "landsat-tm", "1999-11-18", None, {"tile": "022049"}),
    ("HLS.S30.T31UFS.2024123T105031.v2.0.B8A.tif", "hls-s30", "2024-05-02", "nir08",
     {"tile": "31UFS"}),
    ("HLS.L30.T31UFS.2024123T105031.v2.0.B05.tif", "hls-l30", "2024-05-02", "nir08", {}),
    ("HLS.L30.T31UFS.2024123T105031.v2.0.Fmask.tif", "hls-l30", "2024-05-02", "fmask", {}),
    ("MOD13Q1.A2018257.h13v11.006.2018282_250m_16_days_NDVI.tif", "modis", "2018-09-14", "ndvi",
     {}),
    ("MOD09A1.A2018257.h13v11.061.2018282_sur_refl_b02.tif", "modis", "2018-09-14", "nir", {}),
    ("MYD09GA_2018257_sur_refl_b06.tif", "modis", "2018-09-14", "swir16", {}),
    ("CBERS_4_AWFI_20200101_157_123_L4_BAND13.tif", "cbers", "2020-01-01", "blue", {}),
    ("CBERS-4_AWFI_B16_2017-12-19.tif", "cbers", "2017-12-19", "nir", {}),
    ("CB4-16D_V2_007004_20200101_BAND15.tif", "cbers", "2020-01-01", "red", {}),
    ("CB4-16D_V2_007004_20200101_CMASK.tif", "cbers", "2020-01-01", "cmask", {}),
    ("CB4_64_16D_STK_v001_021027_2018-08-29_2018-09-13_B13.tif", "cbers", "2018-09-05", "blue",
     {"span": ("2018-08-29", "2018-09-13")}),
    ("20240615_105031_12_2414_3B_AnalyticMS_SR.tif", "planet", "2024-06-15", None, {}),
    ("m_4709963_se_14_1_20100629.tif", "aerial", "2010-06-29", None, {}),
    ("naip_20150926.tif", "aerial", "2015-09-26", None, {}),
    ("s1-grd-sigma0-desc-weekly_2024-03-04_2024-03-10_VV-VH_last.tif", "sentinel-1", "2024-03-07",
     "vh", {"orbit": "descending"}),
    ("s1a_31TCJ_vv_DES_007_20200108t060000.tif", "sentinel-1", "2020-01-08", "vv",
     {"orbit": "descending", "track": 7, "time": "060000"}),
    ("S1A_IW_GRDH_1SDV_20240304T173241_A161_T31UFS.tif", "sentinel-1", "2024-03-04", None,
     {"orbit": "ascending", "track": 161}),
    ("asc/S1_20240604.tif", "sentinel-1", "2024-06-04", None, {"orbit": "ascending"}),
    ("s2_20m/20180603T110035.tif", "sentinel-2", "2018-06-03", None, {"time": "110035"}),
    ("l8_10m/20180606T104459.tif", "landsat-oli", "2018-06-06", None, {}),
    ("2024-06-15/B04.tif", "", "2024-06-15", None, {}),
    ("field_2024_06_15_red.tif", "", "2024-06-15", "red", {}),
]

DATES = [
    ("x_2024-06-15", "2024-06-15", False), ("x_20240615", "2024-06-15", False),
    ("x_2024_06_15", "2024-06-15", False), ("x.2024.06.15", "2024-06-15", False),
    ("x_2024123", "2024-05-02", False), ("2024-123", "2024-05-02", False),
    ("x_2024-06", "2024-06-15", True), ("landsat_1985", "1985-07-01", True),
    ("20240615T105031_B05", "2024-06-15", False), ("20240615_105031", "2024-06-15", False),
    ("2024-03-04_2024-03-10", "2024-03-07", False), ("20240304_20240310", "2024-03-07", False),
    ("2015-07-11T10:00:08", "2015-07-11", False),
    ("scene_b", "", False), ("tile_2048", "", False), ("Spain_7370579", "", False),
    ("x_20241345", "", False), ("x_20230229", "", False), ("B8A", "", False),
    ("x_2023366", "", False),
]


@pytest.mark.parametrize(("path", "product", "date", "band", "more"), CASES,
                         ids=[c[0][-40:] for c in CASES])
def test_conventions(path, product, date, band, more):
    named = names.parse(path)
    assert (named.product, named.date) == (product, date)
    known = resolve(product or "optical", named.band) if named.band else None
    assert (known[1] if known else None) == band
    assert {key: getattr(named, key) for key in more} == more


@pytest.mark.parametrize(("text", "day", "vague"), DATES)
def test_dates(text, day, vague):
    found = names.find_date(text)
    assert (found.date, found.vague) == (day, vague)


@given(st.dates(dt.date(1972, 1, 1), dt.date(2049, 12, 31)),
       st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%Y_%m_%d", "%Y%j", "%Y-%j", "%Y%m%dT101112"]),
       st.sampled_from(["{}", "s2_{}", "field_a_{}_B04", "x.{}.v2"]))
def test_every_day_is_found_in_every_way_of_writing(day, form, place):
    assert names.find_date(place.format(day.strftime(form))).date == day.isoformat()


@given(st.text(max_size=60))
def test_any_text_is_parsed_without_an_error(text):
    found = names.parse(text.replace("\x00", "") or "x")
    assert not found.date or dt.date.fromisoformat(found.date)


def test_folders_far_above_do_not_date_or_name_a_file():
    assert names.parse("/home/msi/2024-01-15 landsat/a/b/field.tif") == names.Named(band="field")
    assert names.parse("/x/2024-06-15/s2/field.tif").date == "2024-06-15"


@pytest.mark.parametrize(("product", "token", "expected"), [
    ("sentinel-2", "B08", ("data", "nir")), ("sentinel-2", "B8A", ("data", "nir08")),
    ("sentinel-2", "b5", ("data", "rededge071")), ("sentinel-2", "SCL", ("mask", "scl")),
    ("sentinel-2", "S2-L2A-B02", ("data", "blue")), ("landsat-tm", "band 4 reflectance",
                                                     ("data", "nir08")),
    ("landsat-oli", "pixel_qa", ("mask", "pixel-qa")), ("cbers", "B13_blue", ("data", "blue")),
    ("sentinel-1", "VV_dB", ("data", "vv")), ("sentinel-1", "S1-SIGMA0-VH", ("data", "vh")),
    ("modis", "sur_refl_b01", ("data", "red")), ("optical", "swir1", ("data", "swir16")),
    ("optical", "scene_b", None), ("optical", "AGERA5-TMEAN", None),
])
def test_band_names(product, token, expected):
    assert resolve(product, token) == expected


def test_bands_come_in_wavelength_order():
    assert in_order({"swir16", "nir", "vh", "blue", "own", "vv", "red"}) == (
        "blue", "red", "nir", "swir16", "vv", "vh", "own")
    assert len(layout("sentinel-2", 12)) == 12
    assert all(product.sensor for product in PRODUCTS.values())
