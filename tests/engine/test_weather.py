"""Daily weather out of tables and grids: columns, units, hours, gaps, and what is refused."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.stacks.reading import StackReader
from earthprint.engine.stacks.stack import Stack, build_stack
from earthprint.engine.stacks.weather import (
    check_reach,
    read_weather,
    saturation_pressure,
    units_in,
)
from earthprint.models.cube import WEATHER

DAYS = np.arange("2023-03-01", "2023-11-01", dtype="datetime64[D]")
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12", "SCL")
PLACE = (3.05, 50.52, 3.08, 50.55)  # of the scenes of `scene`


def scene(folder, date, shape=(40, 50)):
    """A Sentinel-2 file with ten bands, all of it clear."""
    path = folder / f"S2A_MSIL2A_{date}T105031_N0400_R051_T31UFS.tif"
    values = np.random.default_rng(int(date)).integers(1200, 5000, (11, *shape)).astype(np.uint16)
    values[10] = 4
    with rasterio.open(path, "w", driver="GTiff", width=shape[1], height=shape[0], count=11,
                       dtype="uint16", nodata=0, crs="EPSG:32631",
                       transform=Affine(10, 0, 5e5, 0, -10, 5.6e6)) as out:
        out.write(values)
        for band, name in enumerate(BANDS, 1):
            out.set_band_description(band, name)
    return path


def season(days=DAYS):
    """A year's course in the units of encoders, temperature and dew point, rain, sun, wind."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * (np.arange(len(days)) + 60 - 105) / 365
    temperature = 12 + 9 * np.sin(angle) + rng.normal(0, 2, len(days))
    rain = np.where(rng.random(len(days)) < 0.4, rng.exponential(5, len(days)), 0)
    return {
        "temperature": temperature, "dewpoint": temperature - 4, "precipitation": rain,
        "radiation": 14 + 8 * np.sin(angle) + rng.random(len(days)),
        "wind": 2 + 3 * rng.random(len(days)),
    }  # fmt: skip


def truth(course):
    deficit = saturation_pressure(course["temperature"]) - saturation_pressure(course["dewpoint"])
    given = {**course, "vapour_pressure_deficit": deficit}
    return np.stack([given[name] for name in WEATHER], axis=1)


def table(path, columns, days=DAYS, mark=",", above="", missing=""):
    lines = [above + mark.join(["date", *columns])]
    for i, day in enumerate(days):
        cells = [missing if np.isnan(v[i]) else f"{v[i]:.6g}" for v in columns.values()]
        cells = [c.replace(".", ",") for c in cells] if mark == ";" else cells
        lines.append(mark.join([str(day), *cells]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def plain(course):
    return {"temperature": course["temperature"], "dewpoint": course["dewpoint"],
            "rain": course["precipitation"], "radiation": course["radiation"],
            "wind_speed": course["wind"]}


def said(path, bounds=None, units=None):
    lines = []
    context = JobContext(on_log=lambda _, text: lines.append(text))
    weather = read_weather(path, bounds, units, context)
    return weather, "\n".join(lines)


# --- columns and units ----------------------------------------------------------------------------


@pytest.mark.parametrize("names, units", [
    (("Temperature_Air_2m_Mean_24h", "Dew_Point_Temperature_2m_Mean", "Precipitation_Flux",
      "Solar_Radiation_Flux", "Wind_Speed_10m_Mean"), ("K", "K", "mm", "J", "m/s")),
    (("t2m", "d2m", "tp", "ssrd", "si10"), ("K", "K", "m", "J", "m/s")),
    (("temperature_2m_mean (°C)", "dew_point_2m_mean (°C)", "precipitation_sum (mm)",
      "shortwave_radiation_sum (MJ/m²)", "wind_speed_10m_mean (km/h)"),
     ("C", "C", "mm", "MJ", "km/h")),
    (("T2M", "T2MDEW", "PRECTOTCORR", "ALLSKY_SFC_SW_DWN", "WS10M"), ("C", "C", "mm", "MJ", "m/s")),
    (("tmean", "tdew", "rain_m", "srad_w_m2", "wind"), ("C", "C", "m", "MJ", "m/s")),
])  # fmt: skip
def test_columns_of_many_sources(tmp_path, names, units):
    course = season()
    factors = {"K": (1, 273.15), "C": (1, 0), "mm": (1, 0), "m": (1e-3, 0), "MJ": (1, 0),
               "J": (1e6, 0), "m/s": (1, 0), "km/h": (3.6, 0)}  # fmt: skip
    columns = {}
    for name, unit, values in zip(names, units, course.values(), strict=True):
        factor, offset = factors[unit]
        columns[name.replace("srad_w_m2", "srad")] = factor * values + offset
    weather, _ = said(table(tmp_path / "w.csv", columns))
    assert weather.dates[0] == DAYS[0] and len(weather.dates) == len(DAYS)
    assert np.abs(weather.values - truth(course)).max() < 0.02


def test_a_preamble_semicolons_and_decimal_commas(tmp_path):
    course = season()
    above = "latitude;longitude\n50,5;3,1\n\n"
    weather, log = said(table(tmp_path / "w.csv", plain(course), mark=";", above=above))
    assert np.abs(weather.values - truth(course)).max() < 0.01
    assert "mean temperature is `temperature` in degC, guessed from its range" in log


def test_vapour_pressure_and_humidity_give_the_same_deficit(tmp_path):
    course = season()
    actual = saturation_pressure(course["dewpoint"])
    others = {k: v for k, v in plain(course).items() if k != "dewpoint"}
    for extra in (
        {"vapour_pressure": 10 * actual},
        {"relative_humidity": 100 * actual / saturation_pressure(course["temperature"])},
        {"vpd": 10 * (saturation_pressure(course["temperature"]) - actual)},
        {"vpd_kPa": saturation_pressure(course["temperature"]) - actual},
    ):
        weather, _ = said(table(tmp_path / "w.csv", {**others, **extra}))
        assert np.abs(weather.values - truth(course)).max() < 0.01, extra.keys()


def test_the_saturation_pressure_is_that_of_its_source():
    # FAO Irrigation and Drainage Paper 56, annex 2, table 2.3
    assert saturation_pressure(np.array([1.0, 15.0, 24.5, 40.0])) == pytest.approx(
        [0.657, 1.705, 3.075, 7.376], abs=6e-4)


@pytest.mark.parametrize("column, factor, wanted", [
    ("rain", 0.004, "mm or m"), ("radiation", 0.4, "MJ/m2 or kWh/m2"),
    ("wind_speed", 2.7, "m/s or km/h"), ("temperature", 40.0, "fits no known unit"),
])
def test_ambiguous_units_are_refused_and_can_be_given(tmp_path, column, factor, wanted):
    course = season()
    columns = plain(course)
    columns[column] = factor * columns[column]
    path = table(tmp_path / "w.csv", columns)
    with pytest.raises(UserError, match=wanted):
        read_weather(path)
    if column == "rain":
        weather = read_weather(path, units={"precipitation": "m"})
        assert weather.values[:, 1] == pytest.approx(4 * course["precipitation"], rel=1e-4)
        renamed = {("rain [mm]" if k == "rain" else k): v for k, v in columns.items()}
        weather = read_weather(table(tmp_path / "w.csv", renamed))
        assert weather.values[:, 1] == pytest.approx(0.004 * course["precipitation"], rel=1e-4)


@pytest.mark.parametrize("old, new, factor, offset, sentence", [
    ("temperature", "temperature (degC)", 1, 273.15, "no weather; they look like K"),
    ("temperature", "temperature (K)", 1, 0, "no weather; they look like degC"),
    ("rain", "rain (m)", 1, 0, "no weather; they look like mm"),
    ("radiation", "radiation (MJ/m2)", 1e6, 0, "no weather; they look like J/m2"),
    ("radiation", "radiation (J/m2)", 1, 0, "no weather; they look like MJ/m2"),
    ("dewpoint", "dewpoint (degC)", 1, 15, "the air would hold more water than it can"),
])  # fmt: skip
def test_stated_units_in_which_values_are_no_weather_are_refused(
        tmp_path, old, new, factor, offset, sentence):
    columns = {(new if k == old else k): (factor * v + offset if k == old else v)
               for k, v in plain(season()).items()}  # fmt: skip
    with pytest.raises(UserError, match=sentence):
        read_weather(table(tmp_path / "w.csv", columns))


def test_units_of_other_countries(tmp_path):
    course = season()
    columns = {"t2m (°F)": 1.8 * course["temperature"] + 32,
               "dew_point (F)": 1.8 * course["dewpoint"] + 32,
               "rain (inch)": course["precipitation"] / 25.4, "radiation": course["radiation"],
               "wind_speed (mph)": course["wind"] / 0.44704}  # fmt: skip
    weather, _ = said(table(tmp_path / "w.csv", columns))
    assert np.abs(weather.values - truth(course)).max() < 0.01


@pytest.mark.parametrize("parts", [("YEAR", "MO", "DY"), ("year", "doy")])
def test_dates_in_several_columns(tmp_path, parts):
    course = season()
    path = table(tmp_path / "w.csv", {**plain(course), "wind_speed": course["wind"]})
    lines = path.read_text().splitlines()
    written = [",".join([*parts, *lines[0].split(",")[1:]])]
    for line in lines[1:]:
        day, rest = line.split(",", 1)
        year, month, date = day.split("-")
        number = (np.datetime64(day) - np.datetime64(f"{year}-01-01")).astype(int) + 1
        cells = (year, month.lstrip("0"), date.lstrip("0")) if len(parts) == 3 else (year, number)
        written.append(",".join([*map(str, cells), rest]))
    written[40] = written[40].rsplit(",", 1)[0] + ",-999.0"
    path.write_text("\n".join(written))
    weather, log = said(path)
    assert weather.dates[0] == DAYS[0] and weather.dates[-1] == DAYS[-1]
    assert np.abs(weather.values[:, :4] - truth(course)[:, :4]).max() < 0.01
    assert "short gaps filled" in log


def test_a_unit_that_is_none_is_refused(tmp_path):
    path = table(tmp_path / "w.csv", plain(season()))
    with pytest.raises(UserError, match="'furlong' is no unit of wind speed"):
        read_weather(path, units={"wind_speed": "furlong"})
    with pytest.raises(UserError, match="given for rian, which is no variable"):
        read_weather(path, units={"rian": "mm"})
    with pytest.raises(UserError, match="Write them as temperature=K"):
        units_in("in kelvin")
    assert units_in("wind=m/s, temperature=K") == (("temperature", "K"), ("wind", "m/s"))


@pytest.mark.parametrize("lost, sentence", [
    ("wind_speed", "`w.csv` has no wind speed"), ("dewpoint", "no vapour-pressure deficit, or dew"),
    ("rain", "no precipitation"),
])
def test_missing_columns_are_named(tmp_path, lost, sentence):
    columns = {k: v for k, v in plain(season()).items() if k != lost}
    with pytest.raises(UserError, match=sentence):
        read_weather(table(tmp_path / "w.csv", columns))


def test_highest_values_stand_for_no_mean_but_lowest_and_highest_give_the_middle(tmp_path):
    course = season()
    columns = plain(course)
    columns["wind_speed_10m_max"] = 3 * columns["wind_speed"]
    t = columns.pop("temperature")
    path = table(tmp_path / "w.csv", {"temperature_2m_max": t + 5, "temperature_2m_min": t - 5,
                                      **columns})
    weather, log = said(path)
    assert np.abs(weather.values - truth(course)).max() < 0.01
    assert "middle of the lowest and the highest" in log


@pytest.mark.parametrize("text, sentence", [
    ("a,b\n1,2\n", "no column of dates"),
    ("date,temperature\n2023-03-01,mild\n", "'mild', not a number"),
    ("date,temperature\nyesterday,3\n", "'yesterday' is not a date"),
    ("date,temperature\n2023-03-01,3\n2023-03-01,3\n", "has 2023-03-01 twice"),
    ("date,colour\n2023-03-01,3\n", "no weather that is understood"),
    ("date,temperature\n", "no weather that is understood"),
])
def test_other_tables_are_refused(tmp_path, text, sentence):
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_weather(tmp_path / "w.csv")


# --- gaps and reach -------------------------------------------------------------------------------


def test_short_gaps_are_filled_and_said_long_ones_refused(tmp_path):
    course = season()
    whole = {k: v.copy() for k, v in plain(course).items()}
    whole["temperature"][10:12] = np.nan
    keep = np.arange(len(DAYS)) != 50  # a row that is not there
    path = table(tmp_path / "w.csv", {k: v[keep] for k, v in whole.items()}, DAYS[keep])
    weather, log = said(path)
    assert len(weather.dates) == len(DAYS) and np.isfinite(weather.values).all()
    expected = np.interp([1, 2], [0, 3], course["temperature"][[9, 12]])
    assert weather.values[10:12, 0] == pytest.approx(expected, abs=1e-3)
    assert "short gaps filled" in log and "2023-03-11" in log and "2023-04-20" in log
    whole["wind_speed"][100:103] = np.nan
    with pytest.raises(UserError, match="lacks wind speed from 2023-06-09 to 2023-06-11"):
        read_weather(table(tmp_path / "w.csv", whole))


def test_weather_must_reach_far_enough(tmp_path):
    weather = read_weather(table(tmp_path / "era5.csv", plain(season())))
    check_reach(weather, "era5.csv", "2023-03-01", "2023-10-31")
    with pytest.raises(UserError, match="`era5.csv` ends on 2023-10-31, 14 days too early. Extend"):
        check_reach(weather, "era5.csv", "2023-05-01", "2023-11-14")
    with pytest.raises(UserError, match="2023-10-31, 1 day too early"):
        check_reach(weather, "era5.csv", "2023-05-01", "2023-11-01")
    with pytest.raises(UserError, match="begins on 2023-03-01, 59 days too late"):
        check_reach(weather, "era5.csv", "2023-01-01", "2023-11-14")


# --- NetCDF ---------------------------------------------------------------------------------------


def grid_file(path, variables, times, since, lat, lon, time="time"):
    """A CF file: variable to (units, (T,) values); every cell has them plus its number / 1000."""
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset(path, "w") as file:
        for name, values, unit in ((time, times, since), ("latitude", lat, "degrees_north"),
                                   ("longitude", lon, "degrees_east")):
            file.createDimension(name, len(values))
            axis = file.createVariable(name, "f8", (name,))
            axis.units, axis[:] = unit, values
            if name == time:
                axis.standard_name = "time"
        cells = np.arange(len(lat) * len(lon)).reshape(len(lat), len(lon)) / 1000
        for name, (unit, values) in variables.items():
            data = file.createVariable(name, "f4", (time, "latitude", "longitude"),
                                       fill_value=-9999.0)
            data.units = unit
            data[:] = values[:, None, None] * (1 + cells)
    return path


def agera5(course):
    return {
        "Temperature_Air_2m_Mean_24h": ("K", course["temperature"] + 273.15),
        "Dew_Point_Temperature_2m_Mean": ("K", course["dewpoint"] + 273.15),
        "Precipitation_Flux": ("mm d-1", course["precipitation"]),
        "Solar_Radiation_Flux": ("J m-2 d-1", course["radiation"] * 1e6),
        "Wind_Speed_10m_Mean": ("m s-1", course["wind"]),
    }


@pytest.mark.parametrize("lat, lon", [
    ([50.53], [3.06]), ([50.6, 50.5], [3.06]), ([50.5, 50.6], [3.0, 3.1]),
    ([50.53], [363.06, 363.3]),
])
def test_daily_netcdf_of_any_shape_takes_the_nearest_cell(tmp_path, lat, lon):
    course = season()
    days = (DAYS - np.datetime64("1900-01-01")).astype(int)
    path = grid_file(tmp_path / "w.nc", agera5(course), days, "days since 1900-01-01", lat, lon)
    weather, log = said(path, PLACE)
    near = np.abs(np.array(lat) - 50.535).argmin() * len(lon) + np.abs(
        np.array(lon) % 360 - 3.065).argmin()
    rain = weather.values[:, 1] / np.where(course["precipitation"] > 0, course["precipitation"], 1)
    assert rain[course["precipitation"] > 0] == pytest.approx(1 + near / 1000, abs=2e-4)
    assert "guessed" not in log


def test_cells_inside_the_rasters_are_averaged_and_far_ones_refused(tmp_path):
    course = season()
    days = (DAYS - np.datetime64("1900-01-01")).astype(int)
    path = grid_file(tmp_path / "w.nc", agera5(course), days, "days since 1900-01-01 00:00:00",
                     [50.6, 50.5, 50.4], [3.0, 3.1])
    weather = read_weather(path, (2.95, 50.45, 3.15, 50.65))  # four cells: 0, 1, 2, 3
    wet = course["precipitation"] > 0
    assert weather.values[wet, 1] / course["precipitation"][wet] == pytest.approx(1.0015, abs=1e-4)
    with pytest.raises(UserError, match="does not cover the rasters"):
        read_weather(path, (9.0, 50.45, 9.1, 50.65))
    with pytest.raises(UserError, match="more than one place"):
        read_weather(path)


def hourly(course, land=False):
    """ERA5's variables by the hour: a day's rain in its last three hours, the sun at noon."""
    count = 50 * 24
    hour = np.arange(count) % 24
    day = np.arange(count) // 24
    wave = 4 * np.sin(2 * np.pi * (hour - 9) / 24)
    rain = np.where(hour >= 21, course["precipitation"][day] / 3, 0)
    sun = np.maximum(np.sin(np.pi * (hour - 6) / 12), 0)
    sun = sun / sun[:24].sum() * course["radiation"][day]
    if land:
        rain = np.concatenate([np.cumsum(r) for r in rain.reshape(-1, 24)])
        sun = np.concatenate([np.cumsum(s) for s in sun.reshape(-1, 24)])
    end = np.arange(count) + 1  # sums and means stand at the end of their hour
    return end, {
        "t2m": ("K", course["temperature"][day] + wave + 273.15),
        "d2m": ("K", course["dewpoint"][day] + 273.15),
        "tp": ("m", rain / 1000), "ssrd": ("J m**-2", sun * 1e6),
        "u10": ("m s**-1", course["wind"][day] * np.cos(hour)),
        "v10": ("m s**-1", course["wind"][day] * np.sin(hour)),
    }  # fmt: skip


@pytest.mark.parametrize("land", [False, True], ids=["era5", "era5-land"])
def test_hours_become_days(tmp_path, land):
    course = season()
    end, variables = hourly(course, land)
    path = grid_file(tmp_path / "era5.nc", variables, 3600 * end, f"seconds since {DAYS[0]}",
                     [50.5], [3.0], time="valid_time")
    weather = read_weather(path, PLACE)
    # the first hour of the first day is missing, which is not enough to lose the day
    assert weather.dates[0] == DAYS[0] and weather.dates[-1] == DAYS[49]
    wanted = truth(course)[:50]
    assert np.abs(weather.values[:, 1:3] - wanted[:, 1:3]).max() < 0.01  # sums are exact
    # instants at the end of an hour: a day's mean is one hour late
    assert np.abs(weather.values[:, 0] - wanted[:, 0]).max() < 0.6
    assert np.abs(weather.values[:, 4] - wanted[:, 4]).max() < 0.2


def test_a_folder_of_files_is_one_table(tmp_path):
    course = season()
    days = (DAYS - np.datetime64("1900-01-01")).astype(int)
    folder = tmp_path / "agera5"
    folder.mkdir()
    for i, (name, (unit, values)) in enumerate(agera5(course).items()):
        for half in (slice(0, 100), slice(100, None)):
            grid_file(folder / f"{i}_{half.start}.nc", {name: (unit, values[half])}, days[half],
                      "days since 1900-01-01", [50.5], [3.0])
    weather = read_weather(folder, PLACE)
    assert np.abs(weather.values - truth(course)).max() < 0.01


def test_what_is_no_netcdf_is_refused(tmp_path):
    (tmp_path / "w.nc").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="cannot be read as NetCDF"):
        read_weather(tmp_path / "w.nc", PLACE)
    with pytest.raises(UserError, match="it is not there"):
        read_weather(tmp_path / "none.csv")


# --- in a stack -----------------------------------------------------------------------------------


@pytest.fixture
def rasters(tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    for date in ("20230315", "20230701"):
        scene(folder, date)
    return folder


def test_a_stack_keeps_its_weather_and_readers_give_it(rasters, tmp_path):
    path = table(tmp_path / "w.csv", plain(season()))
    output = tmp_path / "a.stack.json"
    jobs.run("build_stack", {"sources": [str(rasters)], "output": str(output), "weather": str(path),
                             "weather_units": "wind=m/s"}, JobContext())
    document = json.loads(output.read_text())
    assert document["earthprint:weather"] == {"href": "w.csv", "units": {"wind": "m/s"}}
    stack = Stack.load(output)
    assert stack.weather == path and stack.sensors()["weather"] == ()
    assert "weather" in stack.summary()
    with StackReader(stack) as reader:
        cube = reader.read(stack.grid.full)
    assert len(cube.weather.dates) == len(DAYS) and set(cube.series) == {"sentinel-2"}
    with StackReader(stack, bands={"sentinel-2": ("red",)}) as reader:
        assert reader.read(stack.grid.full).weather is None
    assert Stack.load(output).between("2023-06-01", None).weather == path


def test_other_jobs_do_not_stumble_over_weather(rasters, tmp_path):
    path = table(tmp_path / "w.csv", plain(season()))
    embeddings = tmp_path / "a.tif"
    jobs.run("encode", {"input": [str(rasters)], "output": str(embeddings), "encoder": "fast",
                        "weather": str(path)}, JobContext())
    assert embeddings.is_file()
    stack = build_stack([rasters], weather=path)
    from earthprint.engine.heads.features import _series_of
    from earthprint.engine.reports.observations import sensor_rows, usable_days

    assert [s.sensor for s in _series_of(stack)] == ["sentinel-2"]
    assert len(usable_days(stack, JobContext())) == 2
    assert sensor_rows(stack)[0]["sensor"] == "sentinel-2"


def test_an_encoder_that_needs_weather_is_refused_without_enough(rasters, tmp_path):
    from earthprint.models.catalogue import bundled

    if "mmvsf-small" not in bundled():
        pytest.skip("mmvsf-small is not bundled")
    job = {"input": [str(rasters)], "output": str(tmp_path / "a.tif"), "encoder": "mmvsf-small"}
    with pytest.raises(UserError, match="Daily weather, needed by mmvsf"):
        jobs.run("encode", job, JobContext())
    short = {k: v[:60] for k, v in plain(season()).items()}
    job["weather"] = str(table(tmp_path / "w.csv", short, DAYS[:60]))
    with pytest.raises(UserError, match="ends on 2023-04-29, 63 days too early"):
        jobs.run("encode", job, JobContext())
    job["weather"] = str(table(tmp_path / "w.csv", plain(season())))
    assert jobs.run("encode", job, JobContext())["pixels"] == 10 * 13


def test_weather_of_the_real_patch(shared):
    folder = shared / "data/crop-worldcereal-patches/belgium-2018-polders"
    grid = Grid(CRS.from_epsg(32631).to_wkt(), (10, 0, 501360, 0, -10, 5629680), (64, 64))
    weather = read_weather(folder / "agera5_daily.csv")
    assert grid.shape == (64, 64) and len(weather.dates) == 487
    warm, rain, sun, deficit, wind = weather.values.mean(axis=0)
    assert 11 < warm < 13 and 1.5 < rain < 2.5 and 10 < sun < 12 and 0.3 < deficit < 0.45
    assert 3 < wind < 5
