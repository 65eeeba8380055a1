"""A head says which sensors it learnt from, and a map of other ones is told so."""

import json

import numpy as np
import onnx
import pytest
import rasterio
from rasterio.transform import from_origin

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.heads.head import Head
from earthprint.engine.heads.headfile import CARD_KEY, HeadFile
from earthprint.engine.heads.inputs import Inputs
from earthprint.engine.heads.layout import FeatureLayout, SensorSeries
from earthprint.engine.heads.number_head import NumberHead
from earthprint.engine.heads.sensors import Sensors, bands_read
from earthprint.engine.rasters.embeddings import EmbeddingsFile
from earthprint.engine.stacks.stack import open_input

SIDE, FIELD = 48, 6
CROPS = np.kron(np.random.default_rng(0).integers(1, 3, (SIDE // FIELD,) * 2),
                np.ones((FIELD, FIELD), int))
VISIBLE = ("blue", "green", "red", "nir")
S2, LANDSAT, MODIS, RADAR = (
    "S2A_{}.tif", "LC08_L2SP_198030_{}_20200911_02_T1.tif", "MOD09GA_{}.tif", "S1A_IW_GRDH_{}.tif")


def write(folder, name, bands=VISIBLE, days=("20200602", "20200831")):
    """Two dates on which the crops differ, of the sensor that the name tells; paths."""
    rng, paths = np.random.default_rng(1), []
    for day in days:
        path = folder / name.format(day)
        radar = bands[0] == "vv"
        low, high = (-14, -9) if radar else (1200, 3000)
        values = np.where(CROPS == 1, low, high) + rng.normal(
            0, 1 if radar else 150, (len(bands), SIDE, SIDE))
        kind = "float32" if radar else "uint16"
        with rasterio.open(path, "w", driver="GTiff", width=SIDE, height=SIDE, count=len(bands),
                           dtype=kind, nodata=0, crs="EPSG:32631",
                           transform=from_origin(356840, 4834680, 10, 10)) as out:
            out.write(values.astype(kind))
            out.descriptions = bands
        paths.append(str(path))
    return paths


def trained(folder, images, output, **params):
    """A head of embeddings, from a raster of classes."""
    labels = folder / "labels.tif"
    with rasterio.open(labels, "w", driver="GTiff", width=SIDE, height=SIDE, count=1,
                       dtype="uint8", nodata=0, crs="EPSG:32631",
                       transform=from_origin(356840, 4834680, 10, 10)) as out:
        out.write(CROPS.astype(np.uint8), 1)
    jobs.run("train_head", {"input": images, "labels": str(labels), "features": "embeddings",
                            "model": "logistic", "output": str(output), "threads": 1, **params},
             JobContext())
    return output


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Heads that learnt from Sentinel-2 alone, and from Sentinel-2 and Sentinel-1 together."""
    folder = tmp_path_factory.mktemp("heads")
    optical, radar = write(folder, S2), write(folder, RADAR, ("vv", "vh"))
    return (trained(folder, optical, folder / "one.head.onnx"),
            trained(folder, optical + radar, folder / "two.head.onnx"))


def warned(head, images, folder):
    """The warnings of a map by a head."""
    said = []
    jobs.run("apply_head", {"input": images, "head": str(head), "threads": 1,
                            "output": str(folder / "map.tif")},
             JobContext(on_log=lambda *line: said.append(line)))
    return [text for level, text in said if level == "warning" and "was trained on" in text]


def test_a_trained_head_names_its_sensors(heads):
    one, two = (Head.open(path).card.source for path in heads)
    assert one["sensors"] == ["sentinel-2"] and one["bands"] == {"sentinel-2": list(VISIBLE)}
    assert two["sensors"] == ["sentinel-1", "sentinel-2"]
    assert two["bands"]["sentinel-1"] == ["vv", "vh"]
    assert Sensors.of_card(two).record() == {k: two[k] for k in ("sensors", "bands")}


def test_the_same_sensors_need_no_word(heads, tmp_path):
    assert warned(heads[0], write(tmp_path, S2, days=("20210603",)), tmp_path) == []


@pytest.mark.parametrize(("name", "title"), [(LANDSAT, "Landsat"), (MODIS, "MODIS")])
def test_no_sensor_in_common_is_told(heads, tmp_path, name, title):
    said, = warned(heads[0], write(tmp_path, name), tmp_path)
    assert said.startswith(f"one.head.onnx was trained on Sentinel-2 and never on {title}, all")
    assert "Labels of your own" in said and (tmp_path / "map.tif").exists()


def test_a_sensor_more_and_a_sensor_less_are_told(heads, tmp_path):
    optical, radar = write(tmp_path, S2), write(tmp_path, RADAR, ("vv", "vh"))
    more, = warned(heads[0], optical + radar, tmp_path)
    assert "never on Sentinel-1: do not trust" in more
    less, = warned(heads[1], optical, tmp_path)
    assert "has Sentinel-2 and lacks Sentinel-1: " in less and "Add what is missing" in less


def test_bands_less_are_told(heads, tmp_path):
    said, = warned(heads[0], write(tmp_path, S2, ("red", "nir")), tmp_path)
    assert "has Sentinel-2 and lacks blue, green of Sentinel-2: " in said


def test_heads_of_older_versions_open_and_say_nothing(heads, tmp_path):
    old = tmp_path / "old.head.onnx"
    model = onnx.load(heads[0])
    entry, = (p for p in model.metadata_props if p.key == CARD_KEY)
    card = json.loads(entry.value)
    del card["source"]["sensors"], card["source"]["bands"]
    entry.value = json.dumps(card)
    onnx.save(model, old)
    assert Sensors.of_card(Head.open(old).card.source) is None
    assert warned(old, write(tmp_path, MODIS), tmp_path) == []


def test_bundled_heads_refuse_foreign_sensors_in_every_task(tmp_path):
    images = write(tmp_path, MODIS)
    for job in ("apply_head", "land_cover_segmentation"):
        with pytest.raises(UserError, match="trained on Sentinel-2, Landsat, Sentinel-1 and "
                                            "cannot map MODIS images. Give Labels"):
            jobs.run(job, {"input": images, "head": "land_cover",
                           "output": str(tmp_path / "map.tif")}, JobContext())
    assert not (tmp_path / "map.tif").exists()


def test_a_bundled_head_of_any_of_its_sensors_misses_none(tmp_path):
    assert warned("land_cover", write(tmp_path, S2), tmp_path) == []


def test_heads_of_numbers_name_their_sensors(tmp_path):
    points = {"type": "FeatureCollection", "crs": {"type": "name", "properties": {
        "name": "urn:ogc:def:crs:EPSG::32631"}}, "features": [
            {"type": "Feature", "properties": {"t": float(CROPS[r, c]) + r / 100},
             "geometry": {"type": "Point", "coordinates": [356845 + 10 * c, 4834675 - 10 * r]}}
            for r in range(2, SIDE, 6) for c in range(2, SIDE, 6)]}
    labels, head = tmp_path / "points.geojson", tmp_path / "t.head.onnx"
    labels.write_text(json.dumps(points))
    jobs.run("train_head", {"input": write(tmp_path, S2), "labels": str(labels), "field": "t",
                            "features": "bands", "model": "ridge", "output": str(head)},
             JobContext())
    card = NumberHead.of(HeadFile.open(head)).card
    assert card.source["bands"] == {"sentinel-2": list(VISIBLE)}


def test_what_is_read_is_what_counts(tmp_path):
    stack = open_input(write(tmp_path, S2) + write(tmp_path, RADAR, ("vv", "vh")), JobContext())
    red = FeatureLayout("bands", series=(SensorSeries("sentinel-2", ("red",), 24),))
    assert bands_read(stack, red) == {"sentinel-2": ("red",)}
    embedded = FeatureLayout("embeddings", "fast@1.0#ab", 128)
    assert bands_read(stack, embedded) == {"sentinel-1": ("vv", "vh"), "sentinel-2": VISIBLE}
    assert bands_read(stack, FeatureLayout("embeddings", "nobody@1.0#ab", 8)) is None
    assert Inputs(stack, None, None, None, "").bands_read(red) == {"sentinel-2": ("red",)}


def test_embeddings_say_what_they_were_made_of(heads, tmp_path):
    made = tmp_path / "modis.tif"
    jobs.run("encode", {"input": write(tmp_path, MODIS), "encoder": "fast", "output": str(made)},
             JobContext())
    with EmbeddingsFile(made) as file:
        assert file.sensors == {"modis": VISIBLE}
    said, = warned(heads[0], [str(made)], tmp_path)
    assert "was trained on Sentinel-2 and never on MODIS" in said
    with rasterio.open(made, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.update_tags(EARTHPRINT_SENSORS="")
    assert warned(heads[0], [str(made)], tmp_path) == []
