import struct

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.crs import CRS
from rasterio.warp import transform

from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.heads import samples
from earthprint.engine.heads.labels import read_labels
from earthprint.engine.rasters.grid import Grid

UTM = CRS.from_epsg(32631).to_wkt()
GRID = Grid(UTM, (10, 0, 500000, 0, -10, 5600000), (100, 120))


def ring(points):
    return struct.pack("<I", len(points)) + np.asarray(points, float).tobytes()


def polygon(*rings):
    return struct.pack("<BII", 1, 3, len(rings)) + b"".join(ring(r) for r in rings)


def box(row, col, rows, cols):
    """A polygon that covers just these pixels of GRID."""
    x, y = 500000 + 10 * col, 5600000 - 10 * row
    return polygon([(x, y), (x + 10 * cols, y), (x + 10 * cols, y - 10 * rows),
                    (x, y - 10 * rows), (x, y)])


def point(row, col):
    return struct.pack("<BIdd", 1, 1, 500005 + 10 * col, 5599995 - 10 * row)


def write(path, geometry, values, kind="Polygon", crs="EPSG:32631", field="crop", **more):
    values = np.array(values, object if isinstance(values[0], (str, type(None))) else None)
    pyogrio.raw.write(path, np.array(geometry, object), [values], [field], geometry_type=kind,
                      crs=crs, driver="GPKG", **more)
    return path


def quiet():
    said = []
    return said, JobContext(on_log=lambda level, text: said.append((level, text)))


def test_polygons_give_the_pixels_whose_centre_they_hold(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(0, 0, 2, 3), box(10, 10, 4, 4), box(20, 0, 1, 1),
                                       box(30, 0, 1, 2)], ["maize", "rye", "maize", "rye"])
    said, context = quiet()
    labels = read_labels(path, "crop", GRID, context)
    assert len(labels) == 6 + 16 + 1 + 2
    first = labels.groups == 0
    assert set(zip(labels.rows[first], labels.cols[first], strict=True)) == {
        (r, c) for r in range(2) for c in range(3)}
    assert labels.legend.names == ("maize", "rye")
    assert [c["samples"] for c in labels.counts()] == [7, 18]
    assert [c["groups"] for c in labels.counts()] == [2, 2]
    assert ("info", "Labels: 25 samples, 4 parcels, 2 classes") in said
    assert any(level == "warning" and "accuracy uncertain" in text for level, text in said)


def test_big_parcels_do_not_dominate_and_choice_is_stable(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(0, 0, 50, 50), box(60, 0, 5, 5), box(0, 60, 3, 3),
                                       box(60, 60, 3, 3)], ["a", "b", "a", "b"])
    _, context = quiet()
    one, two = (read_labels(path, "crop", GRID, context, most=40) for _ in range(2))
    assert np.bincount(one.groups).max() == 40
    assert np.array_equal(one.rows, two.rows)
    assert np.ptp(one.rows[one.groups == 0]) > 40


def test_a_tiny_polygon_still_gives_its_pixel(tmp_path):
    tiny = polygon([(500011, 5599998), (500012, 5599998), (500012, 5599997), (500011, 5599998)])
    path = write(tmp_path / "a.gpkg", [tiny, box(5, 5, 1, 1), box(9, 9, 1, 1), box(20, 20, 1, 1)],
                 ["a", "a", "b", "b"])
    labels = read_labels(path, "crop", GRID, quiet()[1])
    assert (labels.rows[0], labels.cols[0]) == (0, 1)


def test_points_in_degrees_fall_on_the_same_pixels(tmp_path):
    rows, cols = np.array([3, 40, 77, 99]), np.array([5, 60, 2, 119])
    lon, lat = transform(CRS.from_epsg(32631), CRS.from_epsg(4326), 500005 + 10.0 * cols,
                         5599995 - 10.0 * rows)
    wkb = [struct.pack("<BIdd", 1, 1, x, y) for x, y in zip(lon, lat, strict=True)]
    path = write(tmp_path / "p.gpkg", wkb, np.array([7, 8, 7, 8]), "Point", "EPSG:4326")
    labels = read_labels(path, "crop", GRID, quiet()[1])
    assert labels.rows.tolist() == rows.tolist() and labels.cols.tolist() == cols.tolist()
    assert labels.legend.values == (7, 8) and not labels.polygons


@pytest.mark.parametrize("affine", [
    (10, 0, 500000, 0, 10, 5599000),  # south up
    (6, 8, 499500, 8, -6, 5599500),  # rotated
])
def test_unusual_grids_hold_the_same_ground(tmp_path, affine):
    grid = Grid(UTM, affine, (100, 100))
    path = write(tmp_path / "a.gpkg", [box(20, 20, 10, 10), box(50, 50, 10, 10),
                                       box(20, 50, 10, 10), box(50, 20, 10, 10)], list("abab"))
    labels = read_labels(path, "crop", grid, quiet()[1])
    x, y = grid.affine @ (labels.cols + 0.5, labels.rows + 0.5)
    mine = labels.groups == 0
    assert np.all((x[mine] > 500200) & (x[mine] < 500300))
    assert np.all((y[mine] < 5599800) & (y[mine] > 5599700))
    assert abs(mine.sum() - 100) <= 8


def test_empty_classes_odd_geometries_and_conflicts_are_left_out(tmp_path):
    line = struct.pack("<BII", 1, 2, 2) + np.array(
        [500100.0, 5599500, 500200, 5599600]).tobytes()
    path = write(tmp_path / "a.gpkg",
                 [box(0, 0, 2, 2), box(10, 0, 2, 2), box(20, 0, 2, 2), box(30, 0, 2, 2),
                  box(40, 0, 2, 2), line, box(10, 1, 2, 2), box(50, 0, 1, 1)],
                 ["a", "b", "a", "b", None, "a", "a", "  "], "Unknown")
    said, context = quiet()
    labels = read_labels(path, "crop", GRID, context)
    pixels = set(zip(labels.rows, labels.cols, strict=True))
    assert (40, 0) not in pixels and (50, 0) not in pixels
    assert (10, 0) in pixels and (10, 1) not in pixels
    texts = " ".join(text for _, text in said)
    assert "Left out 1 of 6 features" in texts and "2 pixels have two different labels" in texts


def test_multi_parts_heights_and_collections_are_understood(tmp_path):
    def square(col, row):
        x, y = 500000 + 10 * col, 5600000 - 10 * row
        return shapely.box(x, y - 20, x + 20, y)

    two = shapely.force_3d(shapely.MultiPolygon([square(0, 0), square(5, 0)]), 9.0)
    mixed = shapely.GeometryCollection([
        shapely.MultiPolygon([square(0, 5)]),
        shapely.LineString([(500300, 5599900), (500400, 5599900)])])
    shapes = [two, mixed, square(9, 9), square(20, 9)]
    path = write(tmp_path / "a.gpkg", [shapely.to_wkb(s) for s in shapes], ["a", "b", "a", "b"],
                 "Unknown")
    labels = read_labels(path, "crop", GRID, quiet()[1])
    assert (labels.groups == 0).sum() == 8 and (labels.groups == 1).sum() == 4


def test_a_tiny_ring_gives_a_pixel_that_it_covers(tmp_path):
    ring = shapely.box(500101, 5599801, 500104, 5599804).difference(
        shapely.box(500102, 5599802, 500103, 5599803))
    path = write(tmp_path / "a.gpkg", [shapely.to_wkb(ring), box(0, 0, 2, 2), box(5, 5, 2, 2),
                                       box(9, 9, 2, 2)], ["a", "b", "a", "b"])
    labels = read_labels(path, "crop", GRID, quiet()[1])
    assert (10, 19) in set(zip(labels.cols, labels.rows, strict=True))


def test_sentences_say_what_to_do(tmp_path):
    context = quiet()[1]
    path = write(tmp_path / "parcels.gpkg", [box(0, 0, 2, 2), box(9, 9, 2, 2)], ["wheat", "wheat"])
    with pytest.raises(UserError, match=r"Field crop has one class \(wheat\)\. Label a second\."):
        read_labels(path, "crop", GRID, context)
    with pytest.raises(UserError, match="has no field corp. Choose one of crop"):
        read_labels(path, "corp", GRID, context)
    far = Grid(UTM, (10, 0, 513200, 0, -10, 5600000), (100, 120))
    with pytest.raises(UserError, match=r"parcels.gpkg lies 13 km outside the rasters. "
                                        r"Check its CRS \(EPSG:32631\)"):
        read_labels(path, "crop", far, context)
    path = write(tmp_path / "b.gpkg", [box(0, 0, 2, 2), box(9, 9, 2, 2), box(30, 30, 1, 1)],
                 ["wheat", "wheat", "beet"])
    with pytest.raises(UserError, match="Class beet has 1 parcel; 2 are needed"):
        read_labels(path, "crop", GRID, context)
    with pytest.raises(UserError, match="has no layer x"):
        read_labels(path, "crop", GRID, context, layer="x")
    with pytest.raises(UserError, match="was not found|were not found"):
        read_labels(tmp_path / "no.gpkg", "crop", GRID, context)
    (tmp_path / "c.gpkg").write_text("no")
    with pytest.raises(UserError, match="cannot be read"):
        read_labels(tmp_path / "c.gpkg", "crop", GRID, context)
    empty = write(tmp_path / "d.gpkg", [box(0, 0, 2, 2), box(9, 9, 2, 2)], [None, None])
    with pytest.raises(UserError, match="No feature of d.gpkg has a class"):
        read_labels(empty, "crop", GRID, context)


def test_features_far_away_are_counted_not_read(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(0, 0, 2, 2), box(9, 9, 2, 2), box(20, 20, 1, 1),
                                       box(30, 30, 1, 1), box(5000, 0, 2, 2), box(6000, 0, 1, 1)],
                 list("ababab"))
    said, context = quiet()
    assert read_labels(path, "crop", GRID, context).outside == 2
    assert any("2 parcels outside, ignored" in text for _, text in said)


def test_large_label_sets_stream_and_are_drawn_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "MOST_FEATURES", 3000)
    rng = np.random.default_rng(0)
    n, path = 60_000, tmp_path / "many.gpkg"
    x, y = 500000 + 1200 * rng.random(n), 5600000 - 1000 * rng.random(n)
    names = np.where(x < 500600, "west", "east").astype(object)
    names[::3] = None  # not labelled yet: never in the way of those that are
    pyogrio.raw.write(path, shapely.to_wkb(shapely.points(x, y)), [names], ["crop"],
                      geometry_type="Point", crs="EPSG:32631", driver="GPKG")
    said, context = quiet()
    grid = Grid(UTM, (1, 0, 500000, 0, -1, 5600000), (1000, 1200))
    labels = read_labels(path, "crop", grid, context)
    assert any("3000 of 40000 features of many.gpkg are used" in text for _, text in said)
    assert len(labels) == pytest.approx(3000, abs=10) and labels.legend.names == ("east", "west")
    assert (labels.classes == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert np.array_equal(labels.classes == 1, labels.cols < 600)
    calls = iter(range(1000))
    with pytest.raises(Cancelled):
        read_labels(path, "crop", grid, JobContext(is_cancelled=lambda: next(calls) >= 1))
