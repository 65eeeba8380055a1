"""The job `forecast`: what it looks at, that no window shows, and what it says of its errors."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.models.mmvsf.adapter import BANDS
from earthprint.models.mmvsf.baselines import persistence_and_line

NAMES = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12", "SCL")
DATES = ("20230405", "20230420", "20230510", "20230601", "20230618", "20230705", "20230726",
         "20230812", "20230901", "20230920")  # fmt: skip
SHAPE = (70, 90)


def scene(folder, date, values):
    """A Sentinel-2 file: (11, rows, cols) reflectance x 10000 + 1000 and scene classes."""
    path = folder / f"S2A_MSIL2A_{date}T105031_N0400_R051_T31UFS.tif"
    with rasterio.open(path, "w", driver="GTiff", width=values.shape[2], height=values.shape[1],
                       count=11, dtype="uint16", nodata=0, crs="EPSG:32631",
                       transform=Affine(10, 0, 5e5, 0, -10, 5.6e6)) as out:
        out.write(values.astype(np.uint16))
        for band, name in enumerate(NAMES, 1):
            out.set_band_description(band, name)
    return path


def world(folder, dates=DATES, shape=SHAPE, still=False):
    """Fields that green up and fade; one corner is never clear."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    field = rng.random((shape[0] // 10 + 1, shape[1] // 10 + 1)).repeat(10, 0).repeat(10, 1)
    field = field[: shape[0], : shape[1]]
    base = np.array([600, 800, 900, 1300, 2000, 2300, 2400, 2500, 2200, 1600.0])
    slope = np.array([-200, -150, -500, 0, 1200, 1800, 2000, 2000, -600, -800.0])
    for i, date in enumerate(dates):
        green = 0.3 if still else np.sin(np.pi * (i + 1) / (len(dates) + 1))
        values = base[:, None, None] + slope[:, None, None] * green * field
        classes = np.full((1, *shape), 4.0)
        classes[0, :12, :12] = 9
        scene(folder, date, np.concatenate([values + 1000, classes]))
    return folder


def weather(path, first="2023-03-01", last="2023-11-01"):
    days = np.arange(first, last, dtype="datetime64[D]")
    turn = 2 * np.pi * ((days - days.astype("datetime64[Y]")).astype(int) - 105) / 365
    rows = ["date,temperature (degC),dewpoint (degC),rain (mm),radiation (MJ/m2),wind_speed (m/s)"]
    rows += [f"{d},{12 + 9 * np.sin(t):.2f},{8 + 8 * np.sin(t):.2f},2,{15 + 9 * np.sin(t):.2f},3"
             for d, t in zip(days, turn, strict=True)]
    path.write_text("\n".join(rows) + "\n")
    return path


def forecast(scenes, table, output, context=None, **params):
    job = {"input": [str(scenes)], "weather": str(table), "date": "2023-09-10",
           "output": str(output), **params}
    return jobs.run("forecast", job, context or JobContext())


def image(path):
    with rasterio.open(path) as file:
        return file.read()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forecast")
    return world(folder / "scenes"), weather(folder / "w.csv"), folder


@pytest.fixture(scope="module")
def made(place):
    scenes, table, folder = place
    lines = []
    answer = forecast(scenes, table, folder / "f.tif",
                      JobContext(on_log=lambda _, text: lines.append(text)),
                      report=str(folder / "r.html"))
    return answer, folder / "f.tif", "\n".join(lines)


def test_the_scene_of_a_day(made):
    answer, path, _ = made
    assert answer["season"] == ["2023-09-10"] * 2 and answer["ahead"] == 9
    with rasterio.open(path) as file:
        assert file.descriptions == BANDS and file.shape == SHAPE and file.crs.to_epsg() == 32631
        assert file.tags()["EARTHPRINT_FORECAST"] == "2023-09-10"
        assert file.tags()["EARTHPRINT_NETWORK"].startswith("mmvsf-forecast@")
        values = file.read()
    assert np.isnan(values[:, :12, :12]).all()  # never seen
    clear = np.ones(SHAPE, bool)
    clear[:12, :12] = False
    assert np.isfinite(values[:, clear]).all()
    assert values[:, clear].min() >= 0 and values[:, clear].max() < 0.7


def test_errors_on_held_back_dates_are_said_and_returned(made):
    answer, _, log = made
    rows, total = answer["held_back"], answer["errors"]
    assert 3 <= len(rows) <= 6
    assert all(r["days"] >= 9 and r["pixels"] > 1000 for r in rows)
    assert [r["date"] for r in rows] == sorted(r["date"] for r in rows)
    pooled = sum(r["pixels"] * r["persistence"] ** 2 for r in rows) / total["pixels"]
    assert total["persistence"] == pytest.approx(np.sqrt(pooled))
    assert f"{total['forecast']:.4f}" in log and rows[0]["date"] in log


def test_the_picture_has_the_stacks_stretch_and_the_report_the_table(made):
    answer, path, _ = made
    style = path.with_suffix(".qml").read_text()
    assert 'redBand="3" greenBand="2" blueBand="1"' in style and "maxValue" in style
    page = (path.parent / "r.html").read_text(encoding="utf-8")
    assert answer["held_back"][0]["date"] in page and "data:image/png" in page
    assert "mmvsf-forecast@" in page


def test_nothing_after_the_day_is_looked_at(made, place, tmp_path):
    _, path, _ = made
    _, table, _ = place
    other = world(tmp_path / "scenes")
    scene(other, DATES[-1], np.full((11, *SHAPE), 4.0) * 900)
    forecast(other, table, tmp_path / "f.tif")
    assert np.array_equal(image(path), image(tmp_path / "f.tif"), equal_nan=True)


def test_windows_leave_no_seams_and_blocks_do_not_matter(made, place, tmp_path):
    _, path, _ = made
    scenes, table, _ = place
    forecast(scenes, table, tmp_path / "small.tif", memory_mb=3)
    whole = image(path)
    assert np.nanmax(np.abs(whole - image(tmp_path / "small.tif"))) < 1e-5
    # 30 x 40 pixels in the middle, whatever their place among the windows
    box = [500200, 5.6e6 - 600, 500600, 5.6e6 - 300, "EPSG:32631"]
    forecast(scenes, table, tmp_path / "part.tif", extent=box)
    assert np.nanmax(np.abs(whole[:, 30:60, 20:60] - image(tmp_path / "part.tif"))) < 1e-5


def test_a_raster_smaller_than_a_window(place, tmp_path):
    scenes = world(tmp_path / "scenes", shape=(20, 25))
    answer = forecast(scenes, place[1], tmp_path / "f.tif")
    assert image(tmp_path / "f.tif").shape == (10, 20, 25) and answer["errors"]


def test_where_nothing_changes_the_last_value_wins_and_that_is_said(place, tmp_path):
    lines = []
    context = JobContext(on_log=lambda level, text: lines.append((level, text)))
    scenes = world(tmp_path / "scenes", still=True)
    answer = forecast(scenes, place[1], tmp_path / "f.tif", context)
    assert answer["errors"]["persistence"] < 1e-6 and answer["errors"]["interpolation"] < 1e-6
    assert any(level == "warning" and "Do not rely" in text for level, text in lines)


@pytest.mark.parametrize("change, sentence", [
    ({"date": "2023-13-01"}, "2023-13-01 is not a date"),
    ({"date": "2023-11-20"}, "`w.csv` ends on 2023-10-31, 20 days too early. Extend it."),
    ({"date": "2023-04-01"}, "No Sentinel-2 scene lies in the 240 days before 2023-04-01"),
    ({"date": "2025-04-01"}, "they reach from 2023-04-05 to 2023-09-20"),
    ({"weather": None}, "Daily weather, needed by mmvsf, not there"),
])
def test_what_cannot_be_forecast_is_refused(place, tmp_path, change, sentence):
    scenes, table, _ = place
    with pytest.raises(UserError, match=sentence):
        forecast(scenes, table, tmp_path / "f.tif", **change)
    assert not list(tmp_path.iterdir())


def test_weather_that_begins_too_late_is_refused(place, tmp_path):
    table = weather(tmp_path / "late.csv", first="2023-04-15")
    with pytest.raises(UserError, match="begins on 2023-04-15, 10 days too late"):
        forecast(place[0], table, tmp_path / "f.tif")


def test_one_scene_is_enough_but_its_error_is_unknown(place, tmp_path):
    scenes = world(tmp_path / "scenes", dates=DATES[:1])
    answer = forecast(scenes, place[1], tmp_path / "f.tif", date="2023-05-01")
    assert answer["errors"] is None and np.isfinite(image(tmp_path / "f.tif")).any()


def test_persistence_and_the_line():
    dates = np.array(["2023-05-01", "2023-05-11", "2023-05-31"], "datetime64[D]")
    values = np.array([1.0, 2.0, 6.0])[:, None, None, None] * np.ones((3, 2, 1, 3))
    seen = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)[:, None]
    day = np.datetime64("2023-05-16")
    found = persistence_and_line(dates, values, seen, np.datetime64("2023-05-12"), day)
    assert found["persistence"][0, 0].tolist() == [2, 1, 2]
    line = found["interpolation"][0, 0]
    assert line[:2] == pytest.approx([3, 1 + 5 * 15 / 30]) and np.isnan(line[2])


def test_real_polders(shared, tmp_path):
    folder = shared / "data/crop-worldcereal-patches/belgium-2018-polders"
    job = {"folder": str(folder), "weather": str(folder / "agera5_daily.csv"),
           "output": str(tmp_path / "p.stack.json")}
    jobs.run("build_stack", job, JobContext())
    answer = jobs.run("forecast", {"input": [job["output"]], "date": "2018-09-26",
                                   "output": str(tmp_path / "f.tif")}, JobContext())
    values = image(tmp_path / "f.tif")
    assert values.shape == (10, 64, 64) and np.isfinite(values).mean() > 0.98
    assert 0.01 < answer["errors"]["forecast"] < 0.08
