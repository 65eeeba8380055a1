"""No job may write over what it reads, or two outputs into one file."""

import json
import os

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.outputs import check_outputs
from earthprint.engine.rasters.raster import check_writable


def raster(path, **tags):
    with rasterio.open(path, "w", driver="GTiff", height=8, width=8, count=1, dtype="uint16",
                       crs="EPSG:32631", transform=from_origin(5e5, 5.6e6, 10, 10)) as out:
        out.write(np.arange(64, dtype=np.uint16).reshape(1, 8, 8))
        out.update_tags(**tags)
    return str(path)


def test_an_input_is_never_written_over(tmp_path):
    before, after = (raster(tmp_path / f"S2_2024060{k}.tif") for k in (1, 2))
    content = (tmp_path / "S2_20240602.tif").read_bytes()
    with pytest.raises(UserError, match=r"^Output would overwrite S2_20240602\.tif, which After"):
        jobs.run("change_detection", {"before": [before], "after": [after], "output": after},
                 JobContext(folder=tmp_path))
    assert (tmp_path / "S2_20240602.tif").read_bytes() == content


def test_another_name_for_the_same_file_is_seen(tmp_path):
    path = raster(tmp_path / "a.tif")
    os.symlink(path, tmp_path / "b.tif")
    with pytest.raises(UserError, match="Zone areas would overwrite a.tif, which Map reads"):
        check_outputs({"map": path, "zone_areas": str(tmp_path / "b.tif")})


def test_rasters_of_a_stack_or_a_folder_are_inputs_too(tmp_path):
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    path = raster(scenes / "a.tif")
    ours = raster(scenes / "map.tif", EARTHPRINT_METHOD="bands")
    stack = tmp_path / "s.stack.json"
    stack.write_text(json.dumps({"features": [{"assets": {"red": {"href": "scenes/a.tif"}}}]}))
    for given in (str(stack), str(scenes)):
        with pytest.raises(UserError, match="would overwrite a.tif, which Input reads"):
            check_outputs({"input": [given], "output": path})
        check_outputs({"input": [given], "output": str(scenes / "new.tif")})
        check_outputs({"input": [given], "output": ours})  # a map may be made again


def test_two_outputs_need_two_names(tmp_path):
    path = str(tmp_path / "m.tif")
    with pytest.raises(UserError, match=r"^Confidence and Output would both be written to m\.tif"):
        check_outputs({"input": [], "output": path, "confidence": path})


def test_words_and_missing_files_are_no_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_outputs({"input": ["gone.tif"], "field": "crop", "seed": 0, "output": "crop.tif",
                   "report": None})


def test_a_folder_is_no_file_to_write(tmp_path):
    with pytest.raises(UserError, match="is a folder, no file"):
        check_writable(tmp_path)
