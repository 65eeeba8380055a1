"""Land cover maps of real scenes: by the ready-made head, and learned from labels."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.heads.head import Head
from earthprint.engine.rasters.legend import Legend
from earthprint.engine.reports.report import hectares
from earthprint.engine.tasks.apply_head import BUNDLED
from earthprint.engine.tasks.land_cover_segmentation import HEAD, worldcover

JOB = "land_cover_segmentation"
FOREST, OUT = (356840, 4834180, 357340, 4834680), "cover.tif"  # 50 x 50 pixels of Bouconne
RECORDS = {r["value"]: r for r in json.loads(
    (BUNDLED.parent / "legends" / "worldcover.json").read_text("utf-8"))["classes"]}


def box(left, bottom, right, top):
    return [left, bottom, right, top, "EPSG:32631"]


@pytest.fixture(scope="module")
def scenes(shared):
    return sorted(map(str, (shared / "data/sentinel2-bouconne-2018-stack").glob("*.tif")))


@pytest.fixture(scope="module")
def season(scenes, tmp_path_factory):
    """One run with every output: parameters, result, what was said."""
    folder, said = tmp_path_factory.mktemp("season"), []
    params = {"input": scenes, "output": str(folder / OUT), "extent": box(*FOREST),
              "unknown": True, "min_area_ha": 0, "threads": 1,
              **{name: str(folder / f"{name}.tif")
                 for name in ("confidence", "unlike", "reason", "embeddings")},
              "report": str(folder / "report.html")}
    result = jobs.run(JOB, params, JobContext(on_log=lambda *line: said.append(line)))
    return params, result, said


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_the_card_says_what_the_head_is():
    head = Head.open(BUNDLED / f"{HEAD}.head.onnx")
    card = head.card
    assert head.path.stat().st_size < 700_000
    assert [(c.name, c.color) for c in card.legend.classes] == [
        (RECORDS[v]["name"], RECORDS[v]["color"]) for v in card.legend.values]
    assert all(s["licence"] and s["samples"] for s in card.source["sets"])
    assert card.source["region"] and card.source["season"] and card.source["limits"]
    assert 0.4 < card.validation["macro_f1"] < 1 and card.temperature > 0
    assert card.validation["inputs"]["one Sentinel-2 date"]["overall"] < card.validation["overall"]
    assert card.validation["ece_after"] <= card.validation["ece_before"]


def test_a_season_becomes_a_map_with_names_and_colours(season):
    params, result, _ = season
    with rasterio.open(params["output"]) as dataset:
        values, table = dataset.read(1), dataset.colormap(1)
        assert dataset.nodata == 255 and dataset.shape == (50, 50)
        assert dataset.overviews(1) or max(dataset.shape) < 256
    assert set(np.unique(values)) <= {10, 20, 30, 40, 50, 60, 80, 254, 255}
    for value in (10, 40, 80):
        assert "#{:02x}{:02x}{:02x}".format(*table[value][:3]) == RECORDS[value]["color"]
    assert "Tree cover" in Path(params["output"]).with_suffix(".qml").read_text("utf-8")
    assert result["season"] == ["2018-04-29", "2018-11-15"]
    assert sum(a["hectares"] for a in result["areas"]) == pytest.approx(25, rel=0.02)
    assert result["head"].endswith("land_cover.head.onnx")
    for name in ("confidence", "unlike", "reason"):
        assert read(params[name]).shape == (50, 50)


def test_the_wood_of_bouconne_and_its_pond(scenes, tmp_path):
    made = jobs.run(JOB, {"input": scenes, "output": str(tmp_path / OUT)}, JobContext())
    found = {a["name"]: a["share"] for a in made["areas"]}
    assert found["Tree cover"] > 0.5 and found["Cropland"] + found["Built-up"] < 0.1
    pond = np.zeros((246, 227), bool)
    pond[220:228, 96:112] = True
    values = read(tmp_path / OUT)
    assert (values[pond] == 80).mean() > 0.5 and (values[~pond] == 80).mean() < 0.02


def test_the_report_tells_what_the_head_is_worth(season):
    params, _, said = season
    page = Path(params["report"]).read_text("utf-8")
    for text in ("Land cover map", "Tree cover", "Accuracy where it was trained", "CC BY 4.0",
                 "How right it is here was not measured", "land_cover_segmentation"):
        assert text in page
    assert "<script" not in page and any(t.startswith("Land cover map: ") for _, t in said)


def test_one_date_is_enough(scenes, tmp_path):
    made = jobs.run(JOB, {"input": scenes[2:3], "output": str(tmp_path / OUT), "smooth": False,
                          "extent": box(*FOREST)}, JobContext())
    assert sum(a["pixels"] for a in made["areas"]) == 2500
    assert made["season"] == ["2018-07-08", "2018-07-08"]


def test_a_shifted_extent_gives_the_same_pixels(scenes, tmp_path):
    left, bottom, right, top = FOREST
    maps = []
    for name, shift in (("a", 0), ("b", 130)):
        made = jobs.run(JOB, {"input": scenes, "output": str(tmp_path / f"{name}.tif"),
                              "smooth": False, "threads": 1,
                              "extent": box(left + shift, bottom + shift, right + shift,
                                            top + shift)}, JobContext())
        maps.append(read(made["output"]))
    assert (maps[0][:37, 13:] == maps[1][13:, :37]).all()


def write_rgb(source, path, names=("blue", "green", "red"), bands=(1, 2, 3)):
    with rasterio.open(source) as dataset:
        data, profile = dataset.read(list(bands)), {**dataset.profile, "count": len(bands)}
    with rasterio.open(path, "w", **profile) as out:
        out.write(data)
        out.descriptions = names


def test_missing_bands_are_refused_with_their_names(scenes, tmp_path):
    path = tmp_path / "S2_20180708.tif"
    write_rgb(scenes[2], path)
    with pytest.raises(UserError, match="red and near infrared.*blue, green, red.*give Labels"):
        jobs.run(JOB, {"input": [str(path)], "output": str(tmp_path / OUT)}, JobContext())
    assert list(tmp_path.iterdir()) == [path]


def write_made_up(path, names, mean=3000, dtype="uint16"):
    """A small raster of one date whose name and bands tell its sensor."""
    values = np.random.default_rng(1).normal(mean, mean / 10,
                                             (len(names), 32, 32)).astype(dtype)
    with rasterio.open(path, "w", driver="GTiff", width=32, height=32, count=len(names),
                       dtype=dtype, crs="EPSG:32631", nodata=0,
                       transform=rasterio.transform.from_origin(356840, 4834680, 10, 10)) as out:
        out.write(values)
        out.descriptions = names
    return str(path)


COLOURS = ("blue", "green", "red", "nir")


@pytest.mark.parametrize(("name", "kind"), [("naip_20200831.tif", "Aerial"),
                                            ("landsat8_20200831.tif", "Optical")])
def test_a_sensor_that_the_head_never_saw_is_refused(tmp_path, name, kind):
    image = write_made_up(tmp_path / name, COLOURS, 120, "uint8")
    with pytest.raises(UserError, match=rf"trained on Sentinel-2, Landsat, Sentinel-1 .*{kind}.*"
                                        "Give Labels"):
        jobs.run(JOB, {"input": [image], "output": str(tmp_path / OUT)}, JobContext())
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("names", [["scene_20200831.tif"],
                                   ["naip_20200831.tif", "S2A_20200831.tif"]])
def test_a_sensor_that_may_be_known_comes_with_a_warning(tmp_path, names):
    said = []
    images = [write_made_up(tmp_path / name, COLOURS, *((120, "uint8") if "naip" in name else ()))
              for name in names]
    jobs.run(JOB, {"input": images, "output": str(tmp_path / OUT)},
             JobContext(on_log=lambda *line: said.append(line)))
    assert any(level == "warning" and "Sentinel-1 and never on" in text for level, text in said)


def test_unknown_ground_is_no_mapped_land(tmp_path):
    image = write_made_up(tmp_path / "S2A_20200831.tif", COLOURS, 9000)
    report = tmp_path / "r.html"
    result = jobs.run(JOB, {"input": [image], "head": "crops_flanders", "unknown": True,
                            "output": str(tmp_path / OUT), "report": str(report)}, JobContext())
    share = (read(tmp_path / OUT) == 254).mean()
    known = sum(a["hectares"] for a in result["areas"] if a["name"] != "Unknown")
    page = report.read_text("utf-8")
    areas = page.split("</span>Areas</h2>")[1].split("</section>")[0]
    assert share > 0.3 and "Unknown" not in areas
    assert f"{hectares(known)} <small>ha</small>" in page
    assert f"({100 * share:.1f} %) have no" in areas


def points_of(polygons, path):
    """The middle of each polygon as a point."""
    found = json.loads(polygons.read_text("utf-8"))
    for feature in found["features"]:
        outline = np.array(feature["geometry"]["coordinates"][0])
        feature["geometry"] = {"type": "Point", "coordinates": outline[:-1].mean(0).tolist()}
    path.write_text(json.dumps(found))
    return str(path)


def test_labels_of_ones_own_and_their_head(shared, tmp_path):
    folder = shared / "data/landsat-scenes/landsat5-amazon-1988"
    common = {"input": [str(folder)], "threads": 1}
    made = jobs.run(JOB, {
        **common, "labels": points_of(folder / "training_polygons.geojson", tmp_path / "p.geojson"),
        "field": "class", "features": "bands", "model": "logistic", "folds": 3,
        "output": str(tmp_path / OUT), "report": str(tmp_path / "r.html"),
        "head_output": str(tmp_path / "own.head.onnx")}, JobContext())
    assert made["scores"]["overall"] > 0.7
    colours = {a["name"]: a["color"] for a in made["areas"]}
    assert colours["forest"] == RECORDS[10]["color"] and colours["water"] == RECORDS[80]["color"]
    again = jobs.run(JOB, {**common, "head": made["head"], "output": str(tmp_path / "b.tif")},
                     JobContext())
    assert (read(made["output"]) == read(again["output"])).all()
    assert "</span>Accuracy</h2>" in (tmp_path / "r.html").read_text("utf-8")


def test_numbers_of_worldcover_get_its_names():
    assert worldcover(Legend.of_numbers([10, 80])).names == ("Tree cover", "Permanent water bodies")
    assert worldcover(Legend.of_numbers([2, 80])).names == ("2", "80")


def test_words_keep_their_spelling_and_get_the_colours():
    found = worldcover(Legend.of_names(["Forest", "mixed forest", "Wasser", "vineyard"]))
    assert found.names == ("Forest", "mixed forest", "Wasser", "vineyard")
    assert found.colors[0] == RECORDS[10]["color"] and found.colors[2] == RECORDS[80]["color"]
    assert len(set(found.colors)) == 4


def test_wrong_requests_are_refused(scenes, tmp_path):
    base = {"input": scenes[:1], "output": str(tmp_path / OUT)}
    for more, sentence in (
            ({"labels": "x.gpkg", "field": "a", "head": "land_cover"}, "either labels"),
            ({"labels": "x.gpkg"}, "labels x.gpkg were not found"),
            ({"ready_head": "moon"}, "no ready-made head moon"),
            ({"encoder": "tessera-student"}, "needs the encoder fast")):
        with pytest.raises(UserError, match=sentence):
            jobs.run(JOB, {**base, **more}, JobContext())
    assert not list(tmp_path.iterdir())


def test_cancelling_leaves_nothing(scenes, tmp_path):
    seen = []
    context = JobContext(is_cancelled=lambda: bool(seen),
                         on_progress=lambda f, t: t.startswith("Mapping") and seen.append(t))
    with pytest.raises(Cancelled):
        jobs.run(JOB, {"input": scenes, "output": str(tmp_path / OUT), "memory_mb": 3,
                       "extent": box(*FOREST), "embeddings": str(tmp_path / "e.tif"),
                       "report": str(tmp_path / "r.html")}, context)
    assert not [p for p in tmp_path.iterdir() if p.name != "e.tif"]
