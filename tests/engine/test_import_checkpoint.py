"""Models in the user's folder: listed, removed, added; and what is said where PyTorch lacks."""

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import rasterio
from onnx import TensorProto, helper, numpy_helper
from rasterio.transform import from_origin

from earthprint.engine import environment, jobs
from earthprint.engine.context import JobContext
from earthprint.engine.encoding.encoder import Encoder
from earthprint.engine.errors import UserError
from earthprint.engine.tasks import import_checkpoint
from earthprint.models import catalogue
from earthprint.models.cards import read_card, weights_beside

ROOT = Path(__file__).resolve().parent.parent.parent
CLASSES = ("dark", "red", "green", "blue")


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHPRINT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def context(tmp_path):
    (tmp_path / "work").mkdir()
    return JobContext(folder=tmp_path / "work", threads=1)


@pytest.fixture
def segmentation(tmp_path):
    """A network that calls a pixel by its strongest colour, or dark."""
    weight = np.zeros((4, 3, 1, 1), np.float32)
    weight[1:, :, 0, 0] = 20 * np.eye(3)
    bias = np.array([4, 0, 0, 0], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "w", "b"], ["logits"]),
         helper.make_node("Softmax", ["logits"], ["out"], axis=1)], "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4, 64, 64])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    names = {str(i): name for i, name in enumerate(CLASSES)}
    helper.set_model_props(model, {"model_type": '"Segmentor"', "class_names": json.dumps(names),
                                   "resolution": "50"})  # fmt: skip
    path = tmp_path / "colours.onnx"
    onnx.save(model, str(path))
    return path


def picture(path, colours):
    """An aerial picture of (rows, cols) indices into black and three pure colours."""
    palette = np.array([[10, 10, 10], [250, 10, 10], [10, 250, 10], [10, 10, 250]], np.uint8)
    bands = palette[colours].transpose(2, 0, 1)
    with rasterio.open(path, "w", driver="GTiff", height=bands.shape[1], width=bands.shape[2],
                       count=3, dtype="uint8", crs="EPSG:32631",
                       transform=from_origin(500_000, 5_000_000, 0.5, 0.5)) as file:
        file.write(bands)
        file.descriptions = ("red", "green", "blue")
    return path


def test_without_pytorch_a_sentence_says_how_to_add_it(tmp_path, context, models, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name, *more: None if name == "torch" else found(name, *more))
    with pytest.raises(UserError, match="needs PyTorch.*Set Up Environment.*tick Import official"):
        jobs.run("import_checkpoint", {"file": str(tmp_path / "x.pt")}, context)
    assert not models.exists()


def test_weights_beyond_the_memory_are_refused_before_it_runs_out(monkeypatch):
    check = import_checkpoint._check_memory
    monkeypatch.setattr(import_checkpoint, "computer_memory", lambda: 8e9)
    check("galileo-base", 0.35e9)
    with pytest.raises(UserError, match=r"skysense-hr takes about 10 GB .* has 8 GB.*larger one"):
        check("skysense-hr", 2.62e9)
    monkeypatch.setattr(import_checkpoint, "computer_memory", lambda: None)
    check("skysense-hr", 2.62e9)


def test_the_extra_pins_what_the_training_pins():
    def pins(name):
        return set(re.findall(r"^\w+==\S+", (ROOT / "requirements" / name).read_text(), re.M))

    assert pins("import.txt") <= pins("train.txt") and len(pins("import.txt")) == 2


def test_the_extra_has_a_stamp_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHPRINT_ENV", str(tmp_path))
    (tmp_path / "engine").mkdir()
    assert not environment.can_import()
    installed, said = [], []
    monkeypatch.setattr(environment, "problem", lambda: None)
    monkeypatch.setattr(environment, "_command", lambda words, *more: installed.append(words[-1]))
    environment.create(lambda fraction, text: said.append(fraction), with_import=True)
    assert installed == [str(environment.IMPORT_REQUIREMENTS)] and environment.can_import()
    assert said[0] == 0.0 and said[-1] == 1.0
    environment.create(with_import=True)
    assert len(installed) == 1
    (tmp_path / "engine" / environment.IMPORT_STAMP).write_text("of another version")
    assert not environment.can_import()


def test_the_folder_of_models(tmp_path, monkeypatch):
    monkeypatch.delenv("EARTHPRINT_MODELS", raising=False)
    monkeypatch.setenv("EARTHPRINT_ENV", str(tmp_path))
    assert environment.models_folder() == tmp_path / "models"
    assert environment.clean_variables()["EARTHPRINT_MODELS"] == str(tmp_path / "models")
    monkeypatch.setenv("EARTHPRINT_MODELS", str(tmp_path / "other"))
    assert environment.models_folder() == tmp_path / "other"


def test_a_segmentation_of_others_maps_by_apply_head(segmentation, models, context, tmp_path):
    done = jobs.run("import_model", {"file": str(segmentation), "licence": "MIT"}, context)
    assert Path(done["output"]) == models / "colours.onnx"
    assert done["card"]["licence_weights"] == "MIT" and done["card"]["ground_size_m"] == 0.5
    truth = np.random.default_rng(0).integers(0, 4, (150, 130))
    raster = picture(tmp_path / "aerial.tif", truth)
    output = tmp_path / "map.tif"
    mapped = jobs.run("apply_head", {"input": [str(raster)], "head": done["head"], "smooth": False,
                                     "output": str(output)}, context)  # fmt: skip
    with rasterio.open(output) as file:
        np.testing.assert_array_equal(file.read(1), truth)
    assert {a["name"] for a in mapped["areas"]} == set(CLASSES)


def test_a_name_that_is_taken_is_refused_unless_told(segmentation, models, context):
    given = {"file": str(segmentation), "name": "mine"}
    jobs.run("import_model", given, context)
    before = {path.name: path.read_bytes() for path in models.iterdir()}
    with pytest.raises(UserError, match="mine.onnx in .* already. .*tick Replace"):
        jobs.run("import_model", {**given, "licence": "MIT"}, context)
    assert {path.name: path.read_bytes() for path in models.iterdir()} == before
    (models / "mine.onnx").unlink()  # its head alone is worth a question too
    with pytest.raises(UserError, match="mine.head.onnx in .* already"):
        jobs.run("import_model", given, context)
    done = jobs.run("import_model", {**given, "licence": "MIT", "overwrite": True}, context)
    assert read_card(done["output"]).licence_weights == "MIT"
    assert not list(models.glob(".*"))


def test_models_are_listed_and_removed(segmentation, models, context):
    done = jobs.run("import_model", {"file": str(segmentation), "name": "mine"}, context)
    listed = jobs.run("list_models", {}, context)
    assert listed["folder"] == str(models)
    by_kind = {(m["name"], m["kind"]): m for m in listed["models"]}
    assert by_kind["fast", "encoder"]["bundled"] and by_kind["fast", "encoder"]["card"]["paper"]
    mine = by_kind["mine", "encoder"]
    assert not mine["bundled"] and mine["card"] == done["card"] and not mine["problem"]
    assert by_kind["mine", "head"]["card"]["encoder"] == Encoder.open("mine").card.identity
    with pytest.raises(UserError, match="an encoder and a head"):
        jobs.run("remove_model", {"name": "mine"}, context)
    with pytest.raises(UserError, match="comes with Earthprint"):
        jobs.run("remove_model", {"name": "fast"}, context)
    with pytest.raises(UserError, match="no model theirs"):
        jobs.run("remove_model", {"name": "theirs"}, context)
    weights_beside(mine["path"]).write_bytes(b"weights")
    jobs.run("remove_model", {"name": "mine", "kind": "encoder"}, context)
    jobs.run("remove_model", {"name": "mine"}, context)
    assert not list(models.iterdir())


def test_a_broken_file_is_listed_with_its_problem(models, context):
    models.mkdir()
    (models / "broken.onnx").write_bytes(b"no model")
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [])), str(models / "bare.onnx"))
    found = {m["name"]: m for m in jobs.run("list_models", {}, context)["models"]}
    assert "cannot be read" in found["broken"]["problem"] and "no card" in found["bare"]["problem"]
    assert found["broken"]["card"] == {}


def test_an_encoder_of_ours_is_taken_over_as_it_is(models, context, tmp_path):
    theirs = tmp_path / "theirs.onnx"
    theirs.write_bytes(catalogue.bundled()["fast"].read_bytes())
    with pytest.raises(UserError, match="comes with Earthprint"):
        jobs.run("import_model", {"file": str(theirs)}, context)
    done = jobs.run("import_model", {"file": str(theirs), "name": "theirs"}, context)
    assert read_card(done["output"]) == replace(read_card(theirs), name="theirs")
    assert Encoder.open("theirs").card.identity.startswith("theirs@1.0#")


def test_a_network_that_cannot_work_leaves_nothing(segmentation, models, context):
    with pytest.raises(UserError, match=r"^colours\.onnx: it takes 3 bands, and 2 are given"):
        jobs.run("import_model", {"file": str(segmentation), "bands": "red green"}, context)
    with pytest.raises(UserError, match="no numbers"):
        jobs.run("import_model", {"file": str(segmentation), "mean": "a b c"}, context)
    with pytest.raises(UserError, match="was not found"):
        jobs.run("import_model", {"file": str(segmentation) + "x"}, context)
    assert not models.exists() or not list(models.iterdir())


def test_windows_are_spread_over_the_raster():
    starts = import_checkpoint._spread(1000, 8)
    assert len(starts) == 4 and starts[0] > 100 and starts[-1] < 900
    assert import_checkpoint._spread(5, 8) == [0]
