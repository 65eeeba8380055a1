"""Labels from a raster of classes: what is drawn, what it is called, and the head that it gives."""

import re
import struct
import tracemalloc

import numpy as np
import pyogrio
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import transform
from rasterio.windows import Window
from scipy.ndimage import label

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.heads.crossval import blocked_folds
from earthprint.engine.heads.head import Head
from earthprint.engine.heads.inputs import Inputs
from earthprint.engine.heads.label_raster import draw, is_raster
from earthprint.engine.heads.labels import read_labels
from earthprint.engine.rasters.connected import connected
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.rasters.legend import Legend, LegendClass
from earthprint.engine.rasters.raster import RasterWriter

UTM = CRS.from_epsg(32631)
NORTH_UP = (10, 0, 500000, 0, -10, 5600000)
GRID = Grid(UTM.to_wkt(), NORTH_UP, (96, 96))
FIELDS = np.random.default_rng(0).permutation(np.arange(144) % 3).reshape(12, 12)
TRUTH = np.kron(FIELDS, np.ones((8, 8), int))  # 0..2, fields of 8 x 8 pixels


def write(path, values, *, nodata=None, crs=UTM, affine=NORTH_UP, table=None, **more):
    values = np.asarray(values)
    bands = values if values.ndim == 3 else values[None]
    with rasterio.open(path, "w", driver="GTiff", width=bands.shape[2], height=bands.shape[1],
                       count=len(bands), dtype=bands.dtype, nodata=nodata, crs=crs,
                       transform=rasterio.Affine(*affine), **more) as out:
        out.write(bands)
        if table:
            out.write_colormap(1, table)
    return path


def read(path, grid=GRID, field=None, **options):
    said = []
    context = JobContext(on_log=lambda level, text: said.append(text))
    return read_labels(path, field, grid, context, **options), said


def squares(dtype="uint8"):
    """TRUTH as 1..3, with paths of two pixels without a label between the fields."""
    values = (TRUTH + 1).astype(dtype)
    values[np.arange(96) % 8 < 2] = 0
    values[:, np.arange(96) % 8 < 2] = 0
    return values


def test_every_labelled_pixel_is_a_sample_and_every_field_a_patch(tmp_path):
    values = squares()
    labels, said = read(write(tmp_path / "a.tif", values, nodata=0))
    places = set(zip(labels.rows.tolist(), labels.cols.tolist(), strict=True))
    for k in range(3):  # 48 fields of 36 pixels: more than 1000 a class
        mine = labels.classes == k
        assert mine.sum() == 1000 and (values[labels.rows, labels.cols][mine] == k + 1).all()
    assert len(places) == 3000 and labels.pixels == (1728, 1728, 1728)
    assert labels.noun == "patch" and labels.legend.names == ("class 1", "class 2", "class 3")
    assert len(np.unique(labels.groups)) == 144
    field = labels.rows // 8 * 12 + labels.cols // 8
    assert len(np.unique(np.stack([labels.groups, field], 1), axis=0)) == 144  # one to one
    assert labels.weights.sum() == pytest.approx(3 * 1728)
    assert "Labels: 3000 samples of 5184 labelled pixels, 144 patches, 3 classes" in said


def test_draws_come_from_everywhere_and_are_the_same_again(tmp_path):
    values = np.ones((600, 800), "uint8")
    values[:, 400:] = 2
    values[100:104, 100:104] = 3  # rare: all of it
    values[500:504, 700:704] = 3
    grid = Grid(UTM.to_wkt(), NORTH_UP, (600, 800))
    path = write(tmp_path / "a.tif", values, nodata=0)
    first, second = read(path, grid)[0], read(path, grid)[0]
    assert np.array_equal(first.rows, second.rows) and np.array_equal(first.cols, second.cols)
    assert np.bincount(first.classes).tolist() == [1000, 1000, 32]
    for k in range(2):
        mine = first.classes == k
        cells = np.bincount(first.rows[mine] // 100 * 4 + first.cols[mine] % 400 // 100)
        assert len(cells) == 24 and cells.min() > 25 and cells.max() < 60  # 41.7 on average
    folds = blocked_folds(grid, first.rows, first.cols, first.classes, first.groups, JobContext())
    assert folds.count == 5 and len(folds.places) > 10  # half of the raster is no single parcel
    edges = folds.fold[None] != folds.fold[:, None]
    near = (np.abs(first.rows[:, None] - first.rows) < 3) & (
        np.abs(first.cols[:, None] - first.cols) < 3)
    assert edges[near].mean() < 0.2  # neighbours are held back together


def test_another_crs_and_pixel_size_put_centres_where_they_lie(tmp_path):
    lon, lat = transform(UTM, CRS.from_epsg(4326), [500000.0], [5600000.0])
    step = 0.0003
    affine = (step, 0, lon[0] - 40 * step, 0, -step, lat[0] + 40 * step)
    rows, cols = np.indices((120, 140))
    x, y = transform(CRS.from_epsg(4326), UTM, (affine[2] + step * (cols + 0.5)).ravel(),
                     (affine[5] - step * (rows + 0.5)).ravel())
    row = np.floor((5600000 - np.array(y)) / 10).astype(int)
    col = np.floor((np.array(x) - 500000) / 10).astype(int)
    inside = (row >= 0) & (row < 96) & (col >= 0) & (col < 96)
    values = np.full(rows.shape, 7, "int16")
    values.ravel()[inside] = TRUTH[row[inside], col[inside]] + 1
    labels, _ = read(write(tmp_path / "a.tif", values, nodata=-1, crs=CRS.from_epsg(4326),
                           affine=affine))
    assert labels.legend.values == (1, 2, 3)  # 7 lies outside
    assert np.array_equal(TRUTH[labels.rows, labels.cols], labels.classes)
    assert len(labels) == inside.sum()


def test_coarser_and_finer_rasters(tmp_path):
    coarse = squares()[::2, ::2] * 0 + TRUTH[::2, ::2].astype("uint8") + 1
    labels, _ = read(write(tmp_path / "c.tif", coarse, nodata=0,
                           affine=(20, 0, 500000, 0, -20, 5600000)))
    assert len(labels) == 48 * 48 and np.array_equal(TRUTH[labels.rows, labels.cols],
                                                     labels.classes)
    fine = np.kron(TRUTH + 1, np.ones((4, 4))).astype("uint8")
    labels, _ = read(write(tmp_path / "f.tif", fine, nodata=0,
                           affine=(2.5, 0, 500000, 0, -2.5, 5600000)))
    assert np.array_equal(TRUTH[labels.rows, labels.cols], labels.classes)
    assert len(set(zip(labels.rows, labels.cols, strict=True))) == len(labels)


@pytest.mark.parametrize(("values", "nodata", "classes", "words"), [
    ([0, 1, 2], None, (1, 2), "declares no|no nodata is declared"),
    ([0, 1], None, (0, 1), "one other value"),  # a mask
    ([0, 1, 2], 255, (0, 1, 2), "another nodata is declared"),
    ([0, 1, 2], 0, (1, 2), ""),
    ([0, 1, 2], 2, (0, 1), "another nodata"),
])
def test_what_counts_as_not_labelled(tmp_path, values, nodata, classes, words):
    path = write(tmp_path / "a.tif", np.array(values, "uint8")[TRUTH % len(values)],
                 nodata=nodata)
    labels, said = read(path)
    assert labels.legend.values == classes
    assert re.search(words, " ".join(said))


def test_further_values_may_be_no_class(tmp_path):
    path = write(tmp_path / "a.tif", np.array([0, 5, 9], "uint8")[TRUTH], nodata=255)
    assert read(path, ignored=[0])[0].legend.values == (5, 9)
    with pytest.raises(UserError, match=r"are given as 0, x. Write whole numbers"):
        jobs.run("train_head", {"input": [str(path)], "labels": str(path), "ignored": "0, x",
                                "output": str(tmp_path / "a.head.onnx")}, JobContext())


def test_a_legend_may_say_that_0_is_a_class_and_that_others_are_none(tmp_path):
    path = write(tmp_path / "a.tif", np.array([0, 2, 9], "uint8")[TRUTH])
    aux = tmp_path / "a.tif.aux.xml"
    names = ["Water", "Clouds", "Trees", *[""] * 6, "Unclassified"]

    def say(names):
        categories = "".join(f"<Category>{n}</Category>" for n in names)
        aux.write_text(f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{categories}'
                       "</CategoryNames></PAMRasterBand></PAMDataset>")

    say(names)
    assert read(path)[0].legend.names == ("Water", "Trees")
    say(["Background", "Clouds", "Trees", *[""] * 6, "Ice"])
    assert read(path)[0].legend.names == ("Trees", "Ice")


def test_names_and_colours_come_with_the_raster(tmp_path):
    legend = Legend((LegendClass(1, "maize & co", "#112233"), LegendClass(2, "rye", "#445566"),
                     LegendClass(3, "oats", "#778899")))
    with RasterWriter(tmp_path / "own.tif", GRID, "uint8", 255, legend=legend) as out:
        out.write(GRID.full, (TRUTH + 1).astype("uint8"))
    assert read(tmp_path / "own.tif")[0].legend == legend
    table = {1: (255, 0, 0, 255), 2: (0, 255, 0, 255), 3: (0, 0, 255, 255)}
    labels, _ = read(write(tmp_path / "t.tif", squares(), nodata=0, table=table))
    assert labels.legend.names == ("class 1", "class 2", "class 3")
    assert labels.legend.colors == ("#ff0000", "#00ff00", "#0000ff")
    write(tmp_path / "v.tif", squares(), nodata=0)
    pyogrio.raw.write(tmp_path / "v.dbf", None, [np.array([1, 2, 3]), np.array(
        ["Corn", "Soybeans", "Rice"], object)], ["VALUE", "CLASS_NAME"], geometry_type=None,
        driver="ESRI Shapefile")
    (tmp_path / "v.dbf").rename(tmp_path / "v.tif.vat.dbf")
    assert read(tmp_path / "v.tif")[0].legend.names == ("Corn", "Soybeans", "Rice")


def test_large_and_negative_numbers_are_numbered_anew(tmp_path):
    codes = np.array([1200, -5, 2_000_000_000], "int32")
    labels, _ = read(write(tmp_path / "a.tif", codes[TRUTH], nodata=0))
    assert labels.legend.values == (1, 2, 3)
    assert labels.legend.names == ("class -5", "class 1200", "class 2000000000")
    assert np.array_equal(np.sort(codes)[labels.classes], codes[TRUTH[labels.rows, labels.cols]])


def test_bands(tmp_path):
    both = np.stack([squares() * 0 + 4, squares()])
    path = write(tmp_path / "a.tif", both, nodata=0)
    labels, said = read(path, band=2)
    assert len(labels.legend) == 3 and "Band 2 of 2 of a.tif is read" in said
    with pytest.raises(UserError, match=r"a.tif has no band 3. Choose one of 1 to 2\."):
        read(path, band=3)


def test_sentences(tmp_path):
    with pytest.raises(UserError, match=r"Band 1 of d.tif holds decimals \(float32\), no classes"):
        read(write(tmp_path / "d.tif", squares("float32")))
    with pytest.raises(UserError, match="more than 254 classes within the rasters. Group them"):
        read(write(tmp_path / "m.tif", np.arange(96 * 96, dtype="int32").reshape(96, 96)))
    with pytest.raises(UserError, match=r"o.tif has one class \(class 3\) within the rasters"):
        read(write(tmp_path / "o.tif", squares() // 3 * 3, nodata=0))
    with pytest.raises(UserError, match=r"f.tif lies 99 km outside the rasters. Check its CRS "
                                        r"\(EPSG:32631\)"):
        read(write(tmp_path / "f.tif", squares(), affine=(10, 0, 600000, 0, -10, 5600000)))
    with pytest.raises(UserError, match="e.tif has no labelled pixel within the rasters"):
        read(write(tmp_path / "e.tif", squares() * 0, nodata=0))
    two = np.zeros((96, 96), "uint8")
    two[3:6, 3:6], two[50:52, 50:52] = 1, 2
    with pytest.raises(UserError, match="fewer than two classes with two patches each"):
        read(write(tmp_path / "t.tif", two, nodata=0))
    with pytest.raises(UserError, match="No class field was given"):
        read(parcels(tmp_path / "p.gpkg"))


def test_a_class_of_one_patch_is_left_out(tmp_path):
    values = squares()
    values[60:62, 60:62] = 9
    labels, said = read(write(tmp_path / "a.tif", values, nodata=0))
    assert labels.legend.values == (1, 2, 3) and labels.pixels[0] <= 1728
    assert "Left out: class 9, with a single patch within the rasters." in said


def test_more_labels_correct_and_extend_a_raster(tmp_path):
    path = write(tmp_path / "a.tif", squares(), nodata=0)
    wrong = TRUTH[11, 11]  # this field is known to be something else
    points = [(11, 11), (12, 12), (0, 0), (1, 0)]
    wkb = [struct.pack("<BIdd", 1, 1, 500005 + 10 * c, 5599995 - 10 * r) for r, c in points]
    other = f"class {(wrong + 1) % 3 + 1}"
    more = tmp_path / "m.gpkg"
    pyogrio.raw.write(more, np.array(wkb, object),
                      [np.array([other, other, "orchard", "orchard"], object)], ["class"],
                      geometry_type="Point", crs="EPSG:32631", driver="GPKG")
    labels, said = read(path, more=(more, None))
    assert labels.legend.names == ("class 1", "class 2", "class 3", "orchard")
    assert labels.legend.values == (1, 2, 3, 4)
    at = {(r, c): k for r, c, k in zip(labels.rows, labels.cols, labels.classes, strict=True)}
    assert at[11, 11] == at[12, 12] == (wrong + 1) % 3 and at[0, 0] == 3
    assert "4 samples of m.gpkg added" in said


def parcels(path):
    """The fields of `squares` as polygons."""
    shapes, names = [], []
    for k in range(144):
        x, y = 500000 + 10 * (k % 12 * 8 + 2), 5600000 - 10 * (k // 12 * 8 + 2)
        ring = np.array([[x, y], [x + 60, y], [x + 60, y - 60], [x, y - 60], [x, y]], float)
        shapes.append(struct.pack("<BIII", 1, 3, 1, 5) + ring.tobytes())
        names.append(f"class {FIELDS.flat[k] + 1}")
    pyogrio.raw.write(path, np.array(shapes, object), [np.array(names, object)], ["crop"],
                      geometry_type="Polygon", crs="EPSG:32631", driver="GPKG")
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """One date of four bands in which the classes overlap."""
    rng = np.random.default_rng(3)
    middle = np.array([[900, 1000, 800, 2500], [1000, 1100, 1000, 3000], [1100, 1000, 1200, 2000]])
    # what differs from field to field matters more than noise of pixels
    shift = np.kron(rng.normal(0, 120, (4, 12, 12)), np.ones((1, 8, 8)))
    data = middle.T[:, TRUTH] + shift + rng.normal(0, 100, (4, 96, 96))
    path = tmp_path_factory.mktemp("scene") / "sentinel2.tif"
    write(path, data.astype("uint16"), nodata=0)
    with rasterio.open(path, "r+") as out:
        for band, name in enumerate(("B02", "B03", "B04", "B08"), 1):
            out.set_band_description(band, name)
    return path


def test_a_raster_gives_the_head_of_the_same_parcels(tmp_path, scene):
    """The same ground as polygons and as a raster: the same blocks, scores and answers."""
    results, heads = {}, {}
    for kind, labels in (("polygons", parcels(tmp_path / "p.gpkg")),
                         ("raster", write(tmp_path / "r.tif", squares(), nodata=0))):
        head = tmp_path / f"{kind}.head.onnx"
        results[kind] = jobs.run(
            "train_head", {"input": [str(scene)], "labels": str(labels), "output": str(head),
                           "field": "crop" if kind == "polygons" else None, "features": "bands",
                           "model": "logistic", "folds": 3, "threads": 1}, JobContext())
        heads[kind] = Head.open(head)
    one, two = (results[k]["scores"] for k in ("polygons", "raster"))
    assert one["block_m"] == two["block_m"] and one["blocks"] == two["blocks"]
    assert 0.6 < two["macro_f1"] < 0.97
    assert two["macro_f1"] == pytest.approx(one["macro_f1"], abs=0.02)
    rows, cols = np.divmod(np.arange(96 * 96), 96)
    with Inputs.open([str(scene)], None, None, JobContext()).source() as source:
        table, _ = source.at(rows, cols, heads["raster"].card.layout, JobContext())
    answers = [heads[k].probabilities(table).argmax(1) for k in heads]
    assert (answers[0] == answers[1]).mean() > 0.97
    card = heads["raster"].card
    assert card.legend.names == heads["polygons"].card.legend.names
    assert [s["groups"] for s in card.samples] == [48, 48, 48]
    # a raster of labels covers all ground, which is no reason not to suggest places there
    places = tmp_path / "places.gpkg"
    found = jobs.run("suggest_samples", {
        "input": [str(scene)], "head": str(tmp_path / "raster.head.onnx"), "count": 5,
        "labels": str(tmp_path / "r.tif"), "output": str(places)}, JobContext())
    assert found["points"] == 5 and "class" in pyogrio.read_info(places)["fields"]


def test_a_map_is_made_of_a_raster_of_labels(tmp_path, scene):
    """Land cover from WorldCover's numbers gets its names; the report tells of the draw."""
    labels = write(tmp_path / "wc.tif", np.array([7, 10, 40, 80], "uint8")[squares()])
    report = tmp_path / "r.html"
    result = jobs.run(
        "land_cover_segmentation",
        {"input": [str(scene)], "labels": str(labels), "ignored": "7", "features": "bands",
         "model": "logistic", "folds": 3, "output": str(tmp_path / "cover.tif"),
         "report": str(report), "threads": 1},
        JobContext())
    assert {a["name"] for a in result["areas"]} == {"Tree cover", "Cropland",
                                                    "Permanent water bodies"}
    text = report.read_text("utf-8")
    assert "5 184 labelled pixels" in text.replace("\u202f", " ").replace("\u00a0", " ")
    assert "small patches are never cut" in text and "Patches" in text


def test_a_class_that_clouds_leave_with_one_patch_is_left_out(tmp_path, scene):
    with rasterio.open(scene) as dataset:
        data, names = dataset.read(), dataset.descriptions
    data[:, :10, :10] = 0  # nodata
    clouded = write(tmp_path / scene.name, data, nodata=0)
    with rasterio.open(clouded, "r+") as out:
        out.descriptions = names
    values = squares()
    values[2:5, 2:5] = values[60:63, 60:63] = 9
    head, said = tmp_path / "a.head.onnx", []
    jobs.run("train_head", {
        "input": [str(clouded)], "labels": str(write(tmp_path / "r.tif", values, nodata=0)),
        "output": str(head), "features": "bands", "model": "logistic", "folds": 3},
        JobContext(on_log=lambda level, text: said.append(text)))
    assert Head.open(head).card.legend.values == (1, 2, 3)
    assert "Left out: class 9, with a single patch within the rasters." in said


def test_numbers_are_not_learned_from_a_raster(tmp_path, scene):
    path = write(tmp_path / "a.tif", squares(), nodata=0)
    with pytest.raises(UserError, match="A raster of labels holds classes"):
        jobs.run("train_head", {"input": [str(scene)], "labels": str(path), "target": "numbers",
                                "output": str(tmp_path / "a.head.onnx")}, JobContext())


def test_what_is_a_raster(tmp_path):
    assert is_raster(write(tmp_path / "a.tif", squares()))
    assert not is_raster(parcels(tmp_path / "p.gpkg"))
    with pytest.raises(UserError, match="The labels no.tif were not found in"):
        is_raster(tmp_path / "no.tif")
    (tmp_path / "x.tif").write_text("no")
    with pytest.raises(UserError, match="x.tif cannot be read as points or polygons, nor as a"):
        is_raster(tmp_path / "x.tif")


def test_a_large_sparse_raster_is_read_in_bounded_memory_and_can_be_stopped(tmp_path):
    side = 6000
    path, grid = tmp_path / "big.tif", Grid(UTM.to_wkt(), NORTH_UP, (side, side))
    rng = np.random.default_rng(0)
    with rasterio.open(path, "w", driver="GTiff", width=side, height=side, count=1, dtype="uint8",
                       nodata=0, crs=UTM, transform=rasterio.Affine(*NORTH_UP), tiled=True,
                       sparse_ok=True, compress="deflate") as out:
        for row, col in rng.integers(0, side // 256, (60, 2)) * 256:
            out.write(rng.integers(1, 5, (256, 256)).astype("uint8"), 1,
                      window=Window(int(col), int(row), 256, 256))
    read_labels(path, None, Grid(UTM.to_wkt(), NORTH_UP, (512, 512)), JobContext())  # compiles
    tracemalloc.start()
    labels, _ = read(path, grid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # the raster itself has 36 MB, with mask and patches 216 MB
    assert np.bincount(labels.classes).tolist() == [1000] * 4
    assert sum(labels.pixels) > 3_000_000
    with pytest.raises(Cancelled):
        read_labels(path, None, grid, JobContext(is_cancelled=lambda: True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30))
def test_patches_are_those_of_each_value_alone(seed, rows, cols):
    rng = np.random.default_rng(seed)
    values, valid = rng.integers(0, 3, (rows, cols)), rng.random((rows, cols)) < 0.9
    numbers, sides = connected(values, valid)
    assert (numbers > 0).tolist() == valid.tolist() and len(sides) == numbers.max() + 1
    total = 0
    for k in range(3):
        found, count = label(valid & (values == k))
        mine = np.unique(np.stack([found, numbers], 2)[found > 0], axis=0)
        assert len(mine) == count == len(np.unique(mine[:, 1]))
        for one, other in mine:
            at = np.argwhere(found == one)
            assert sides[other] == np.ptp(at, axis=0).max() + 1
        total += count
    assert total == numbers.max()


def test_few_are_wanted_of_each_class(tmp_path):
    drawn = draw(write(tmp_path / "a.tif", squares(), nodata=0), 1, GRID, JobContext(), most=30)
    assert np.bincount(drawn.samples.values).tolist() == [0, 30, 30, 30]
    assert drawn.pixels == {1: 1728, 2: 1728, 3: 1728}
