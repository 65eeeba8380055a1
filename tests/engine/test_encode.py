"""The job `encode` on small stacks: same numbers whatever the windows, and clean refusals."""

import errno
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.rasters.embeddings import EmbeddingsFile

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12", "SCL")
DATES = ("20230315", "20230520", "20230701", "20230925")


def scene(folder, date, shape=(300, 280), cloud=0.2, seed=0, values=None):
    rng = np.random.default_rng([seed, int(date)])
    data = rng.integers(200, 4000, (11, *shape)).astype(np.uint16) if values is None else values
    data[10] = np.where(rng.random(shape) < cloud, 9, 4)
    path = folder / f"S2A_MSIL2A_{date}T105031_N0400_R051_T31UFS.tif"
    with rasterio.open(path, "w", driver="GTiff", width=shape[1], height=shape[0], count=11,
                       dtype="uint16", nodata=0, crs="EPSG:32631", tiled=True, blockxsize=128,
                       blockysize=128, transform=Affine(10, 0, 5e5, 0, -10, 5.6e6)) as out:
        out.write(data)
        for band, name in enumerate(BANDS, 1):
            out.set_band_description(band, name)
    return path


@pytest.fixture(scope="module")
def season(tmp_path_factory):
    folder = tmp_path_factory.mktemp("season")
    for date in DATES:
        scene(folder, date)
    return folder


def encode(season, output, context=None, **params):
    context = context or JobContext()
    return jobs.run("encode", {"input": [str(season)], "output": str(output), **params}, context)


def all_codes(path):
    with EmbeddingsFile(path) as file:
        return file.codes(file.grid.full), file


def test_the_same_numbers_with_any_budget_and_any_threads(season, tmp_path):
    first = encode(season, tmp_path / "a.tif", memory_mb=2000, threads=2)
    encode(season, tmp_path / "b.tif", memory_mb=5, threads=1)
    a, file = all_codes(tmp_path / "a.tif")
    b, _ = all_codes(tmp_path / "b.tif")
    assert file.encoder.startswith("fast@") and file.dates[0] == "2023-03-15"
    assert first["pixels"] == (a[..., 0] != 0).sum() > 0.99 * a[..., 0].size
    # products of float32 matrices may differ in the last digit with the size of a batch
    assert np.abs(a.astype(int) - b).max() <= 1 and (a != b).mean() < 1e-3


def test_two_runs_give_the_same_bytes(season, tmp_path):
    for name in "ab":
        encode(season, tmp_path / f"{name}.tif")
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_an_extent_in_any_crs_is_snapped_outwards_and_gives_the_same_pixels(season, tmp_path):
    encode(season, tmp_path / "all.tif")
    encode(season, tmp_path / "part.tif", extent=[500403, 5598503, 501297, 5599297, "EPSG:32631"])
    whole, _ = all_codes(tmp_path / "all.tif")
    part, file = all_codes(tmp_path / "part.tif")
    assert file.grid.transform[2] == 500400 and file.grid.transform[5] == 5599300
    assert part.shape[:2] == (80, 90)
    assert np.abs(part.astype(int) - whole[70:150, 40:130]).max() <= 1
    encode(season, tmp_path / "degrees.tif", extent=[3.0, 50.53, 3.01, 50.54, "EPSG:4326"])
    with pytest.raises(UserError, match="no common area"):
        encode(season, tmp_path / "none.tif", extent=[0, 0, 1, 1, "EPSG:4326"])


def test_pixels_without_a_clear_date_are_nodata(tmp_path):
    values = np.full((11, 40, 50), 1500, np.uint16)
    values[:, :10] = 0
    for date in DATES:
        scene(tmp_path, date, (40, 50), cloud=0, values=values.copy())
    encode(tmp_path, tmp_path / "e.tif")
    codes, _ = all_codes(tmp_path / "e.tif")
    assert not codes[:10].any() and (codes[10:, :, 0] != 0).all()


def test_refusals_are_sentences_and_leave_nothing(season, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match="There is no encoder snail"):
        encode(season, out / "e.tif", encoder="snail")
    with pytest.raises(UserError, match="No scene lies between"):
        encode(season, out / "e.tif", start="2019-01-01", end="2019-12-31")
    with pytest.raises(UserError, match="not a date"):
        encode(season, out / "e.tif", start="spring")
    cloudy = tmp_path / "cloudy"
    cloudy.mkdir()
    for date in DATES:
        scene(cloudy, date, (60, 60), cloud=1.1)
    with pytest.raises(UserError, match="All 4 dates of .* are masked"):
        encode(cloudy, out / "e.tif")
    with pytest.raises(UserError, match="does not exist"):
        encode(season, out / "deeper" / "e.tif")
    assert not list(out.iterdir())


def test_a_truncated_scene_is_named_and_nothing_is_left(season, tmp_path):
    folder, out = tmp_path / "season", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    for date in DATES:
        scene(folder, date)
    cut = folder / f"S2A_MSIL2A_{DATES[2]}T105031_N0400_R051_T31UFS.tif"
    cut.write_bytes(cut.read_bytes()[:200000])
    with pytest.raises(UserError, match=DATES[2]):
        encode(folder, out / "e.tif")
    assert not list(out.iterdir())


def test_a_full_disk_is_refused_before_anything_is_computed(season, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(UserError, match=r"has 1\.0 MB free, 25\.8 MB are needed"):
        encode(season, tmp_path / "e.tif")
    assert not list(tmp_path.iterdir())


def test_cancel_leaves_nothing(season, tmp_path):
    said = []
    context = replace(JobContext(), on_progress=lambda f, text: said.append(text),
                      is_cancelled=lambda: any("Encoding" in text for text in said))
    with pytest.raises(Cancelled):
        encode(season, tmp_path / "e.tif", context)
    assert not list(tmp_path.iterdir())


def test_progress_tells_speed_and_time_left(season, tmp_path):
    said = []
    encode(season, tmp_path / "e.tif",
           replace(JobContext(), on_progress=lambda f, text: said.append((f, text))))
    assert said[-1][0] == pytest.approx(1)
    assert any("pixels/s" in text and "s left" in text for _, text in said)


def test_a_path_of_250_foreign_characters_goes_all_the_way(tmp_path):
    folder = tmp_path
    while len(str(folder)) < 240:
        folder = folder / "Äcker ñandú 農地 ☔ 2023"
    folder.mkdir(parents=True)
    for date in DATES:
        scene(folder, date, (40, 50))
    stack = folder / "säson.stack.json"
    jobs.run("build_stack", {"folder": str(folder), "output": str(stack)}, JobContext())
    target = folder / "einbettung.tif"
    assert len(str(target)) > 250
    encode(stack, target)
    codes, file = all_codes(target)
    assert codes.any() and len(file.dates) == len(DATES)


@pytest.mark.parametrize(("encoder", "level", "said"), [
    ("maestro-small", "warning", "Sentinel-2 of the stack lacks nir08. All its bands, or the input "
     "is left out."),
    ("fast", "info", "Sentinel-2 of the stack lacks nir08. Groups blue-green-red, "),
])
def test_a_sensor_that_lacks_bands_is_named(tmp_path, encoder, level, said):
    rng, said_now = np.random.default_rng(0), []
    for name, bands in {"S2A_MSIL2A_20230701T105031_N0400_R051_T31UFS.tif":
                        [b for b in BANDS if b not in ("B8A", "SCL")],
                        "S1A_IW_GRDH_1SDV_20230703T055011.tif": ["VV", "VH"]}.items():
        radar = len(bands) == 2
        with rasterio.open(tmp_path / name, "w", driver="GTiff", width=32, height=32,
                           count=len(bands), dtype="float32" if radar else "uint16", nodata=0,
                           crs="EPSG:32631", transform=Affine(10, 0, 5e5, 0, -10, 5.6e6)) as out:
            shape = (len(bands), 32, 32)
            out.write(rng.normal(-12, 2, shape).astype(np.float32) if radar
                      else rng.integers(1200, 4000, shape).astype(np.uint16))
            for band, description in enumerate(bands, 1):
                out.set_band_description(band, description)
    context = JobContext(on_log=lambda *line: said_now.append(line))
    jobs.run("encode", {"input": [str(tmp_path)], "output": str(tmp_path / "e.tif"),
                        "encoder": encoder}, context)  # fmt: skip
    assert any(line[0] == level and line[1].startswith(said) for line in said_now)


def test_a_single_path_may_be_given_as_it_is(season, tmp_path):
    encode(season, tmp_path / "a.tif")
    jobs.run("encode", {"input": str(season), "output": str(tmp_path / "b.tif")}, JobContext())
    assert np.array_equal(all_codes(tmp_path / "a.tif")[0], all_codes(tmp_path / "b.tif")[0])


@pytest.mark.parametrize(("number", "sentence"), [
    (errno.ENOSPC, "The disk is full"), (errno.EROFS, "is read-only"),
    (errno.EACCES, "no permission to open")])
def test_a_disk_that_gives_out_midway_is_a_sentence_and_leaves_nothing(
        season, tmp_path, monkeypatch, number, sentence):
    def give_out(self, level, row, col):
        raise OSError(number, "as the system says it", str(self.path))

    monkeypatch.setattr("earthprint.engine.rasters.cog.CogWriter._tile", give_out)
    with pytest.raises(UserError, match=sentence):
        encode(season, tmp_path / "e.tif")
    assert not list(tmp_path.iterdir())
