"""From files to stacks: grouping, scales, offsets, dates, errors, the STAC file."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pystac
import pytest
import rasterio
import rasterio.control
from affine import Affine

from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.stacks.stack import Stack, build_stack, open_input
from earthprint.engine.tasks.build_stack import run

UTM = Affine(10, 0, 500000, 0, -10, 5600000)
SAFE = "S2A_MSIL2A_{day}T105031_N{baseline}_R051_T31UFS_{day}T170000.SAFE"


def write(path, values, *, names=(), transform=UTM, crs="EPSG:32631", nodata=None, tags=None,
          driver="GTiff", **options):
    """A raster of (bands, rows, cols) values with band descriptions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    with rasterio.open(path, "w", driver=driver, count=len(values), height=values.shape[1],
                       width=values.shape[2], dtype=values.dtype, crs=crs, transform=transform,
                       nodata=nodata, **options) as dataset:
        dataset.write(values)
        for i, name in enumerate(names):
            dataset.set_band_description(i + 1, name)
        dataset.update_tags(**(tags or {}))
    return path


def reflectance(bands=4, size=16, low=300, high=4000, dtype="uint16", seed=0):
    """Stored values like surface reflectance x 10000."""
    rng = np.random.default_rng(seed)
    return rng.integers(low, high, (bands, size, size)).astype(dtype)


def s2(path, **options):
    values = options.pop("values", None)
    values = reflectance() if values is None else values
    return write(path, values, names=("B02", "B03", "B04", "B08"), **options)


def safe(folder, day, baseline, low=1100):
    """A SAFE product with four bands of 10 m, two of 20 m and its scene classification."""
    root = folder / SAFE.format(day=day, baseline=baseline) / "GRANULE" / "L2A_T31UFS" / "IMG_DATA"
    options = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
    coarse = UTM @ Affine.scale(2)
    for i, band in enumerate(("B02", "B03", "B04", "B08")):
        write(root / "R10m" / f"T31UFS_{day}T105031_{band}_10m.jp2",
              reflectance(1, 64, low, seed=i), **options)
        write(root / "R20m" / f"T31UFS_{day}T105031_{band}_20m.jp2", reflectance(1, 32, low),
              transform=coarse, **options)
    for band in ("B05", "B11"):
        write(root / "R20m" / f"T31UFS_{day}T105031_{band}_20m.jp2", reflectance(1, 32, low),
              transform=coarse, **options)
    write(root / "R20m" / f"T31UFS_{day}T105031_SCL_20m.jp2",
          np.full((1, 32, 32), 4, np.uint8), transform=coarse, **options)
    write(root / "R10m" / f"T31UFS_{day}T105031_TCI_10m.jp2",
          np.full((3, 64, 64), 90, np.uint8), **options)
    write(root.parent / "QI_DATA" / "MSK_CLDPRB_20m.jp2", np.zeros((1, 32, 32), np.uint8),
          transform=coarse, **options)
    return folder


def test_dated_files_become_scenes_in_the_order_of_time(tmp_path):
    s2(tmp_path / "s2_2024-06-15.tif")
    s2(tmp_path / "deep" / "s2_20240401.tif")
    (tmp_path / "labels.csv").write_text("a,b")
    write(tmp_path / "dem.tif", reflectance(1))
    stack = build_stack([tmp_path])
    assert [s.date for s in stack.scenes] == ["2024-04-01", "2024-06-15"]
    assert stack.sensors() == {"sentinel-2": ("blue", "green", "red", "nir")}
    assert stack.grid.shape == (16, 16)
    assert ("dem.tif", "no scene by its name") in stack.left_out
    assert [row["date"] for row in stack.table()] == ["2024-04-01", "2024-06-15", ""]
    assert [s.date for s in stack.between("2024-05-01", None).scenes] == ["2024-06-15"]


def test_safe_folders_join_resolutions_and_apply_the_offset_of_their_baseline(tmp_path):
    safe(tmp_path, "20240615", "0510")
    safe(tmp_path, "20210615", "0300", low=300)
    old, new = build_stack([tmp_path]).scenes
    assert new.bands == ("blue", "green", "red", "rededge071", "nir", "swir16")
    sizes = {a.name: a.grid.pixel_size for a in new.assets}
    assert sizes["red"] == 10 and sizes["swir16"] == 20
    assert {a.offset for a in new.data} == {-0.1} and {a.offset for a in old.data} == {0.0}
    assert "processing baseline 05.10" in new.note
    assert [m.mask for m in new.masks] == ["scl"] and new.track == 51 and new.tile == "31UFS"


def test_a_zipped_safe_reads_like_the_folder(tmp_path):
    folder = safe(tmp_path / "unpacked", "20240615", "0510")
    with zipfile.ZipFile(tmp_path / "product.zip", "w") as archive:
        for file in folder.rglob("*.jp2"):
            archive.write(file, file.relative_to(folder).as_posix())
    zipped = build_stack([tmp_path / "product.zip"])
    assert zipped.scenes[0].bands == build_stack([folder]).scenes[0].bands
    saved = zipped.save(tmp_path / "zip.stack.json")
    assert Stack.load(saved.path).scenes == saved.scenes


@pytest.mark.parametrize(("name", "low", "tags", "offset"), [
    ("s2_2024-06-15.tif", 1050, {}, -0.1),        # after January 2022 and nothing dark
    ("s2_2024-06-15.tif", 200, {}, 0.0),          # dark values: the offset was taken off
    ("s2_2021-06-15.tif", 1050, {}, 0.0),         # before
    ("S2_SR_HARMONIZED_2024-06-15.tif", 1050, {}, 0.0),
    ("s2_2021-06-15.tif", 1050, {"PROCESSING_BASELINE": "05.00"}, -0.1),
    ("s2_2024-06-15.tif", 1050, {"BOA_ADD_OFFSET": "0"}, 0.0),
    ("S2B_MSIL2A_20230615T105031_N0300_R051_T31UFS_20230615T170000.tif", 1050, {}, 0.0),
])
def test_sentinel2_offset(tmp_path, name, low, tags, offset):
    s2(tmp_path / name, values=reflectance(low=low), tags=tags)
    scene = build_stack([tmp_path / name]).scenes[0]
    assert {a.offset for a in scene.data} == {offset}
    assert {a.scale for a in scene.data} == {1e-4}


def test_a_cloudy_date_follows_the_dark_dates_of_its_stack(tmp_path):
    s2(tmp_path / "s2_2024-06-15.tif", values=reflectance(low=200))
    s2(tmp_path / "s2_2024-06-25.tif", values=reflectance(low=5000, high=9000))
    scenes = build_stack([tmp_path]).scenes
    assert {a.offset for s in scenes for a in s.data} == {0.0}
    alone = build_stack([tmp_path / "s2_2024-06-25.tif"]).scenes[0]
    assert {a.offset for a in alone.data} == {-0.1}


def test_empty_borders_do_not_count_as_dark(tmp_path):
    values = reflectance(low=1050)
    values[:, :8] = 0
    s2(tmp_path / "s2_2024-06-15.tif", values=values)
    assert {a.offset for a in build_stack([tmp_path]).scenes[0].data} == {-0.1}


def test_reflectance_as_fractions_and_scale_in_the_file_are_kept(tmp_path):
    s2(tmp_path / "s2_2024-06-15.tif", values=(reflectance() / 10000).astype("float32"))
    path = s2(tmp_path / "s2_2024-06-25.tif")
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (2e-4,) * 4, (-0.05,) * 4
    fractions, stated = build_stack([tmp_path]).scenes
    assert {(a.scale, a.offset, a.nodata) for a in fractions.data} == {(1.0, 0.0, None)}
    assert {(a.scale, a.offset) for a in stated.data} == {(2e-4, -0.05)}


def test_display_values_are_refused_for_sentinel2_and_taken_for_aerial(tmp_path):
    s2(tmp_path / "S2_0701_2024-07-01.tif", values=reflectance(low=0, high=256, dtype="uint8"))
    with pytest.raises(UserError, match=r"`S2_0701_2024-07-01.tif` holds display values \(0..255"):
        build_stack([tmp_path])
    write(tmp_path / "naip_20200831.tif", reflectance(4, low=0, high=255, dtype="uint8"),
          names=("red", "green", "blue", "nir"))
    scene = build_stack([tmp_path / "naip_20200831.tif"]).scenes[0]
    assert scene.sensor == "aerial" and scene.data[0].scale == pytest.approx(1 / 255)


def test_landsat_collection2_by_name_and_by_values(tmp_path):
    stem = "LC08_L2SP_199024_20240615_20240620_02_T1"
    for band, low in (("SR_B4", 8000), ("SR_B5", 9000), ("ST_B10", 40000)):
        write(tmp_path / f"{stem}_{band}.TIF", reflectance(1, low=low, high=low + 5000))
    write(tmp_path / f"{stem}_QA_PIXEL.TIF", np.full((1, 16, 16), 21824, np.uint16))
    scene = build_stack([tmp_path]).scenes[0]
    assert scene.bands == ("red", "nir08", "lwir11")
    assert {a.name: (a.scale, a.offset, a.nodata) for a in scene.data}["red"] == (2.75e-5, -0.2, 0)
    assert scene.data[-1].unit == "kelvin" and scene.masks[0].mask == "landsat-qa"
    anonymous = write(tmp_path / "x" / "landsat8_2024-06-15.tif",
                      reflectance(2, low=8000, high=20000), names=("red", "nir"))
    found = build_stack([anonymous]).scenes[0]
    assert found.data[0].scale == 2.75e-5 and "Collection 2" in found.note


@pytest.mark.parametrize(("values", "dtype", "unit"), [
    ((-20, -5), "float32", "db"), ((0.001, 0.4), "float32", "power"),
    ((900, 6000), "uint16", "amplitude"),
])
def test_radar_unit(tmp_path, values, dtype, unit):
    rng = np.random.default_rng(0)
    write(tmp_path / "s1_2024-06-15.tif", rng.uniform(*values, (2, 16, 16)).astype(dtype),
          names=("VV", "VH"))
    assert {a.unit for a in build_stack([tmp_path]).scenes[0].data} == {unit}


def test_tiles_of_one_day_stay_apart_and_widen_the_grid(tmp_path):
    for col, tile in ((0, "31UFS"), (16, "31UGS")):
        s2(tmp_path / f"T{tile}_20240615T105031.tif", transform=UTM @ Affine.translation(col, 0))
    stack = build_stack([tmp_path])
    assert [s.tile for s in stack.scenes] == ["31UFS", "31UGS"]
    assert stack.grid.shape == (16, 32)


def test_reference_grid_can_be_chosen(tmp_path):
    s2(tmp_path / "s2_2024-06-15.tif")
    coarse = write(tmp_path / "dem.tif", reflectance(1, 8), transform=UTM @ Affine.scale(2))
    stack = build_stack([tmp_path], grid=str(coarse))
    assert stack.grid.shape == (8, 8) and stack.grid.pixel_size == 20
    far = write(tmp_path / "far" / "dem.tif", reflectance(1, 8),
                transform=UTM @ Affine.translation(900, 0))
    with pytest.raises(UserError, match="`dem.tif` and `s2_2024-06-15.tif` have no common area"):
        build_stack([tmp_path], grid=str(far))


def test_dates_bands_and_sensor_can_be_said(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.tif", reflectance(10))
    stack = build_stack(
        [tmp_path], sensor="sentinel-2", dates=["2018-04-29", "20180513"],
        bands=["B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12"])
    assert [s.date for s in stack.scenes] == ["2018-04-29", "2018-05-13"]
    assert {a.name: a.band for a in stack.scenes[0].data}["nir"] == 4
    with pytest.raises(UserError, match="Dates has 1 days for 2 files"):
        build_stack([tmp_path], sensor="sentinel-2", dates=["2018-04-29"])


def test_a_missing_coordinate_system_is_said(tmp_path):
    path = s2(tmp_path / "S2A_20240601.tif", crs=None)
    said = []
    build_stack([path], context=JobContext(on_log=lambda level, text: said.append((level, text))))
    assert any(level == "warning" and "no coordinate system" in text for level, text in said)


def test_one_raster_without_a_date_is_a_stack_of_one(tmp_path):
    path = s2(tmp_path / "field.tif")
    stack = build_stack([path])
    assert [s.date for s in stack.scenes] == [None]
    assert Stack.load(stack.save(tmp_path / "one.stack.json").path).scenes[0].date is None


def test_steps_of_an_export_are_dated_within_its_span(tmp_path):
    names = [f"B{b}" for b in (2, 3, 4, 8)] + [f"B{b}_{k}" for k in (1, 2) for b in (2, 3, 4, 8)]
    write(tmp_path / "farm_2019-01-01_2019-04-01.tif", reflectance(12), names=names)
    stack = build_stack([tmp_path])
    assert [s.date for s in stack.scenes] == ["2019-01-16", "2019-02-15", "2019-03-17"]
    assert [s.data[0].band for s in stack.scenes] == [1, 5, 9]


class TestErrors:
    def test_no_date(self, tmp_path):
        s2(tmp_path / "s2_2024-06-15.tif")
        s2(tmp_path / "scene_b.tif")
        s2(tmp_path / "scene_c.tif")
        with pytest.raises(UserError) as error:
            build_stack([tmp_path])
        assert str(error.value) == ("No date in `scene_b.tif` and 1 more. Put it in the name "
                                    "(2024-06-15) or in Dates.")

    def test_no_common_area(self, tmp_path):
        s2(tmp_path / "a_2024-06-15.tif")
        s2(tmp_path / "b_2024-06-25.tif", transform=UTM @ Affine.translation(500, 0))
        with pytest.raises(UserError) as error:
            build_stack([tmp_path])
        assert str(error.value) == ("`a_2024-06-15.tif` and `b_2024-06-25.tif` have no common "
                                    "area. Remove one.")

    def test_no_common_area_in_another_crs(self, tmp_path):
        s2(tmp_path / "a_2024-06-15.tif")
        s2(tmp_path / "b_2024-06-25.tif", crs="EPSG:4326",
           transform=Affine(1e-4, 0, 12.0, 0, -1e-4, 41.0))
        with pytest.raises(UserError, match="have no common area"):
            build_stack([tmp_path])

    def test_not_a_raster(self, tmp_path):
        (tmp_path / "fake_2024-06-15.tif").write_text("no raster")
        with pytest.raises(UserError, match="`fake_2024-06-15.tif` cannot be read as a raster"):
            build_stack([tmp_path / "fake_2024-06-15.tif"])

    @pytest.mark.parametrize("content", [{}, {"notes.txt": "x"}, {"parcels.geojson": "{}"}])
    def test_nothing_usable(self, tmp_path, content):
        for name, text in content.items():
            (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="holds no raster scenes"):
            build_stack([tmp_path])

    def test_a_missing_source(self, tmp_path):
        with pytest.raises(UserError, match="does not exist"):
            build_stack([tmp_path / "nowhere"])

    def test_a_raster_without_a_place(self, tmp_path):
        path = s2(tmp_path / "s2_2024-06-15.tif", crs=None, transform=Affine.identity())
        with pytest.raises(UserError, match="no raster scenes"):
            build_stack([path])

    @pytest.mark.parametrize("text", ["", "[]", '{"features": []}', '{"a": 1}'])
    def test_a_file_that_is_no_stack(self, tmp_path, text):
        path = tmp_path / "x.stack.json"
        path.write_text(text)
        with pytest.raises(UserError, match="`x.stack.json` is not a stack"):
            Stack.load(path)

    def test_radar_that_is_not_placed_on_the_ground(self, tmp_path):
        points = [rasterio.control.GroundControlPoint(r, c, 3 + c / 1e3, 50 - r / 1e3)
                  for r, c in ((0, 0), (0, 16), (16, 0), (16, 16))]
        name = "s1a-iw-grd-vv-20240604t173213-20240604t173238-054174-0696a5-001.tiff"
        path = write(tmp_path / name, reflectance(1), crs="EPSG:4326", transform=None, gcps=points)
        with pytest.raises(UserError, match="terrain-corrected"):
            build_stack([path])

    def test_nothing_but_bands_of_unknown_unit(self, tmp_path):
        write(tmp_path / "landsat8_2024-06-15.tif", reflectance(1), names=("B10",))
        with pytest.raises(UserError, match="no raster scenes .*lwir11 left out"):
            build_stack([tmp_path])

    def test_unknown_choices(self, tmp_path):
        with pytest.raises(UserError, match="Sensor `spot`"):
            build_stack([tmp_path], sensor="spot")
        with pytest.raises(UserError, match="Cloud mask `sky`"):
            build_stack([tmp_path], mask="sky")


def test_masks_can_be_named_or_ignored(tmp_path):
    s2(tmp_path / "s2_2024-06-15.tif")
    write(tmp_path / "mask_2024-06-15.tif", np.ones((1, 16, 16), np.uint8))
    assert build_stack([tmp_path]).scenes[0].masks == ()
    assert build_stack([tmp_path], mask="valid").scenes[0].masks[0].mask == "valid"
    write(tmp_path / "cloud_mask_2024-06-15.tif", np.ones((1, 16, 16), np.uint8))
    assert build_stack([tmp_path]).scenes[0].masks[0].mask == "cloud"
    assert build_stack([tmp_path], mask="none").scenes[0].masks == ()


def test_brazil_data_cube_masks_serve_bands_and_index(tmp_path):
    cmask = np.full((1, 16, 16), 127, np.uint8)
    for name, values, nodata in (("BAND16", reflectance(1), None), ("NDVI", reflectance(1), None),
                                 ("CMASK", cmask, 0)):
        write(tmp_path / f"CB4-16D_V2_007004_20200101_{name}.tif", values.astype(
            "uint8" if name == "CMASK" else "int16"), nodata=nodata)
    scenes = build_stack([tmp_path]).scenes
    assert [(s.sensor, s.bands) for s in scenes] == [("cbers", ("nir",)), ("optical", ("ndvi",))]
    assert all((s.masks[0].mask, s.masks[0].nodata) == ("cmask", 0) for s in scenes)


def test_planet_scene_with_its_usable_data_mask(tmp_path):
    stem = "20240615_105031_12_2414_3B"
    write(tmp_path / f"{stem}_AnalyticMS_SR.tif", reflectance(4))
    write(tmp_path / f"{stem}_udm2.tif", reflectance(8, low=0, high=2, dtype="uint8"))
    (scene,) = build_stack([tmp_path]).scenes
    assert scene.bands == ("blue", "green", "red", "nir") and scene.data[0].scale == 1e-4
    assert [(m.mask, m.band) for m in scene.masks] == [("valid", 1)]


def test_bands_without_names_are_numbered_and_the_table_says_so(tmp_path):
    write(tmp_path / "scene_2024-06-15.tif", reflectance(3))
    row = build_stack([tmp_path]).table()[0]
    assert row["bands"] == "band1 band2 band3" and "give them in Bands" in row["note"]


def test_the_saved_stack_is_valid_stac_with_relative_paths(tmp_path, monkeypatch):
    safe(tmp_path / "data", "20240615", "0510")
    write(tmp_path / "data" / "s1_20240616.tif",
          np.random.default_rng(0).uniform(-20, -5, (2, 64, 64)).astype("float32"),
          names=("VV", "VH"), nodata=np.nan)
    stack = build_stack([tmp_path / "data"]).save(tmp_path / "season.stack.json")
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("no network, please"))
    document = json.loads(stack.path.read_text())
    collection = pystac.ItemCollection.from_dict(document)
    for item in collection:
        assert item.validate()
    hrefs = [a["href"] for f in document["features"] for a in f["assets"].values()]
    assert all(h.startswith("data/") for h in hrefs)
    assert document["earthprint:grid"]["shape"] == [64, 64]
    red = next(b for f in document["features"] for a in f["assets"].values()
               for b in zip(a["eo:bands"], a["raster:bands"], strict=True)
               if b[0]["name"] == "red")
    assert red == ({"name": "red", "common_name": "red"},
                   {"scale": 1e-4, "offset": -0.1, "nodata": 0})


def test_save_and_load_are_inverse_and_the_folder_can_move(tmp_path):
    s2(tmp_path / "old" / "s2_2024-06-15.tif")
    stack = build_stack([tmp_path / "old"]).save(tmp_path / "old" / "a.stack.json")
    assert replace(Stack.load(stack.path), path=None) == replace(stack, path=None)
    (tmp_path / "old").rename(tmp_path / "new")
    moved = Stack.load(tmp_path / "new" / "a.stack.json")
    assert moved.scenes[0].data[0].path == str(tmp_path / "new" / "s2_2024-06-15.tif")


def test_a_failed_save_leaves_nothing(tmp_path):
    stack = build_stack([s2(tmp_path / "s2_2024-06-15.tif")])
    with pytest.raises(UserError, match="cannot be written"):
        stack.save(tmp_path / "missing" / "a.stack.json")
    (tmp_path / "a.stack.json").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        stack.save(tmp_path / "a.stack.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.stack.json", "s2_2024-06-15.tif"]


def test_the_job_writes_the_stack_and_returns_the_table(tmp_path):
    s2(tmp_path / "in" / "s2_2024-06-15.tif")
    write(tmp_path / "in" / "labels.tif", reflectance(1))
    lines = []
    result = run({"folder": str(tmp_path / "in"), "output": str(tmp_path / "season.json")},
                 JobContext(on_log=lambda level, text: lines.append((level, text))))
    assert result["output"] == str(tmp_path / "season.json")
    assert [row["file"] for row in result["table"]] == ["s2_2024-06-15.tif", "labels.tif"]
    assert result["warnings"] == ["`labels.tif` left out: no scene by its name"]
    assert result["table"][0]["valid %"] == "100"
    assert any(level == "info" and text.startswith("Stack: 1 date") for level, text in lines)
    with pytest.raises(UserError, match="No rasters were given"):
        run({"output": str(tmp_path / "x.stack.json")}, JobContext())


def test_open_input_takes_a_stack_or_rasters(tmp_path):
    path = s2(tmp_path / "s2_2024-06-15.tif")
    built = open_input([path])
    saved = built.save(tmp_path / "a.stack.json")
    assert open_input([saved.path]).scenes == built.scenes
    with pytest.raises(UserError, match="give it alone"):
        open_input([saved.path, path])


def test_non_ascii_and_very_long_paths(tmp_path):
    folder = tmp_path / "données été 2024" / "野" / ("x" * 120) / ("y" * 120)
    path = s2(folder / "s2_2024-06-15.tif")
    assert len(str(path)) > 250
    stack = build_stack([tmp_path]).save(tmp_path / "é.stack.json")
    assert Stack.load(stack.path).scenes[0].data[0].path == str(path)
