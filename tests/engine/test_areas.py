import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from earthprint.engine.context import JobContext
from earthprint.engine.rasters.areas import areas_of
from earthprint.engine.rasters.legend import Legend

LEGEND = Legend.of_names(["maize", "rye"])


def write(path, values, transform, crs):
    with rasterio.open(path, "w", driver="GTiff", width=values.shape[1], height=values.shape[0],
                       count=1, dtype="uint8", crs=crs, transform=transform, nodata=255) as out:
        out.write(values, 1)
    return path


def test_hectares_of_a_plane_grid(tmp_path):
    values = np.full((1100, 10), 255, np.uint8)
    values[:600] = 1
    values[600:1000, :5] = 2
    path = write(tmp_path / "a.tif", values, Affine(10, 0, 5e5, 0, -10, 5.6e6), "EPSG:32631")
    areas = areas_of(path, LEGEND, JobContext())
    assert [(c.name, c.pixels) for c in areas.classes] == [("maize", 6000), ("rye", 2000)]
    true = 1 / 0.9996**2  # of a plane hectare at the zone's central meridian
    assert [c.hectares for c in areas.classes] == pytest.approx([60 * true, 20 * true], rel=1e-6)
    assert (areas.total, areas.unanswered) == pytest.approx((80 * true, 30 * true), rel=1e-6)
    assert areas.classes[0].share == pytest.approx(0.75)
    assert areas.unanswered_share == pytest.approx(30 / 110)


def test_degrees_count_on_the_ellipsoid(tmp_path):
    step = 1 / 12000
    for bottom, metres in ((0, 85.4797), (30, 74.2759), (45, 60.8499), (60, 43.1722)):
        path = write(tmp_path / f"{bottom}.tif", np.full((1, 4), 1, np.uint8),
                     Affine(step, 0, 5, 0, -step, bottom + step), CRS.from_epsg(4326))
        areas = areas_of(path, LEGEND, JobContext())
        assert areas.total * 1e4 / 4 == pytest.approx(metres, abs=1e-4)


def test_a_map_without_answers_has_no_shares(tmp_path):
    path = write(tmp_path / "a.tif", np.full((4, 4), 255, np.uint8),
                 Affine(10, 0, 5e5, 0, -10, 5.6e6), "EPSG:32631")
    areas = areas_of(path, LEGEND, JobContext())
    assert areas.total == 0 and areas.classes[0].share == 0 and areas.unanswered_share == 1
