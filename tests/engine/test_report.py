import re
from datetime import date
from html.parser import HTMLParser

import numpy as np
import pytest
import rasterio
from affine import Affine

from earthprint.engine.context import JobContext
from earthprint.engine.rasters.areas import areas_of
from earthprint.engine.rasters.legend import Legend
from earthprint.engine.reports import charts
from earthprint.engine.reports.charts import Day, Interval
from earthprint.engine.reports.picture import map_picture
from earthprint.engine.reports.report import (
    Report,
    Section,
    areas_section,
    data_section,
    hectares,
    map_section,
    method_section,
    number,
)

LEGEND = Legend.of_names(["maize", "rye <& co>"])
VOID = {"meta", "br", "rect", "line", "circle", "image", "path", "polyline"}


class Checker(HTMLParser):
    """Raises on tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.words = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(page):
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    return " ".join(checker.words)


@pytest.fixture
def crops(tmp_path):
    path = tmp_path / "crops.tif"
    values = np.full((60, 80), 1, np.uint8)
    values[:20], values[20:30] = 2, 255
    with rasterio.open(path, "w", driver="GTiff", width=80, height=60, count=1, dtype="uint8",
                       crs="EPSG:32631", transform=Affine(10, 0, 5e5, 0, -10, 5.6e6)) as out:
        out.write(values, 1)
    return path


def test_a_page_is_whole_and_names_are_escaped(crops, tmp_path):
    areas = areas_of(crops, LEGEND, JobContext())
    report = Report(
        "Crop map, <season>", (("48 ha", "mapped"),), ("rye <& co> has 2 parcels", ) * 2,
        (map_section(crops, LEGEND, areas, "EPSG:32631"), areas_section(areas),
         Section("Nothing", ""),
         data_section([Day("sentinel-2", date(2024, 3, 1), 0.7),
                       Day("sentinel-2", date(2024, 6, 1), 0.02)], [], [("a.tif", "no date")]),
         method_section({"Encoder": "fast@1", "Empty": ""}, "./run process x INPUT=a & b")),
        date(2024, 11, 21))
    report.write(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    words = read(page)
    assert "rye <& co> has 2 parcels" in words and words.count("has 2 parcels") == 1
    assert "Nothing" not in words and "Empty" not in words
    assert "INPUT=a & b" in words and "2024-11-21" in words and "no date" in words
    assert not re.search(r"<script|<link|src=|https?:", page)
    assert [p.name for p in tmp_path.glob("*.html")] == ["r.html"]


def test_areas_are_told_with_what_they_are(crops):
    html = areas_section(areas_of(crops, LEGEND, JobContext())).html
    words = read(html)
    assert "Pixel count" in words and "24.0" in words and "60.0" in words
    assert "8.01 ha (16.7 %) have no answer" in words  # 8.00 in the plane of UTM 31


def test_numbers_for_people():
    assert number(11718) == "11\u202f718" and number(float("nan")) == "n/a"
    assert [hectares(v) for v in (0.354, 12.44, 11718.2)] == ["0.35", "12.4", "11\u202f718"]


def test_the_picture_has_a_scale_and_shows_the_north(crops):
    picture = map_picture(crops, LEGEND, "map")
    bar = re.search(r">(\d+) (k?m)</text>", picture)
    assert bar and bar.group(2) == "m"
    assert "rotate(0.0)" in picture or "rotate(-0.0)" in picture


@pytest.mark.parametrize("affine,turn", [((10, 0, 5e5, 0, 10, 5.6e6), 180.0),
                                         ((0, -10, 5e5, -10, 0, 5.6e6), -90.0)])
def test_north_follows_the_grid(tmp_path, affine, turn):
    path = tmp_path / "t.tif"
    with rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8",
                       crs="EPSG:32631", transform=Affine(*affine)) as out:
        out.write(np.ones((8, 8), np.uint8), 1)
    angle = float(re.search(r"rotate\((-?[\d.]+)\)", map_picture(path, LEGEND, "m")).group(1))
    assert abs(angle) == pytest.approx(180.0) if turn == 180 else angle == pytest.approx(turn)


def test_charts_say_what_they_show_and_stay_inside():
    rows = [Interval("bands", 0.8, 0.05, (0.7, 0.8, float("nan")), "best"),
            Interval("random split", 0.99, 0.0, (0.99,), "open")]
    chart = charts.intervals(rows, "macro F1", "0.8 & more")
    read(chart)
    assert 'aria-label="0.8 &amp; more"' in chart and "nan" not in chart
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', chart).group(1))
    assert all(0 <= float(x) <= width for x in re.findall(r'c?x[12]?="(-?[\d.]+)"', chart))


def test_a_single_day_and_a_single_block_are_drawn():
    read(charts.timeline([Day("landsat", date(2024, 3, 1), 0.5)], "one"))
    picture = charts.blocks(np.zeros((1, 2)), 100.0, np.zeros(1, int), "one")
    read(picture)
    assert "nan" not in picture and "inf" not in picture


def test_bars_never_leave_their_track():
    assert 'width="100.0"' in charts.bar(3.0, "#000000", 100)
    assert 'width="0.0"' in charts.bar(0.0, "#000000", 100)


def test_reliability_copes_with_empty_bins():
    some = (np.array([0, 5]), np.array([np.nan, 0.9]), np.array([np.nan, 0.8]))
    chart = charts.reliability(some, some, "alt")
    read(chart)
    assert "nan" not in chart
    assert chart.count("<circle") == 2
