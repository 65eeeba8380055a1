"""Cards and the catalogue: what travels with an encoder, and what is refused."""

import json
import os
import time
from dataclasses import replace

import onnx
import pytest
from onnx import TensorProto, helper

from earthprint.models import catalogue
from earthprint.models.cards import (
    Card,
    SensorBands,
    TrainingSet,
    read_card,
    replacing,
    weights_beside,
    write_card,
)


def card(**changes):
    plain = Card(
        name="tiny", version="1.0", system="fast", paper="none", licence_code="MIT",
        licence_weights="MIT",
        sensors=(SensorBands("sentinel-1", ("vv", "vh"), "dB", True, ""),),
        observations="1 to 100", unit="pixel", patch=1, ground_size_m=10.0, dimensions=128,
        prefixes=(16, 32), normalisation="none", missing_input="zeros",
        training_data=(TrainingSet("Fields", "MIT", "somewhere"),), results=("none yet",),
        limits=("none known – é",),
    )  # fmt: skip
    return replace(plain, **changes)


def model(path, weight=1.0):
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 2])
    constant = helper.make_tensor("w", TensorProto.FLOAT, [2], [weight, 2.0])
    node = helper.make_node("Mul", ["x", "w"], ["embedding"])
    graph = helper.make_graph([node], "g", [given], [out], [constant])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


def test_json_round_trip():
    assert Card.from_json(card().to_json()) == card()


def test_written_into_a_model_and_read_back(tmp_path):
    path = model(tmp_path / "tiny.onnx")
    written = write_card(path, card())
    assert read_card(path) == written
    assert written.identity == f"tiny@1.0#{written.weights_sha256[:8]}"
    assert len(written.weights_sha256) == 64
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.onnx"]


def test_identity_follows_the_weights_alone(tmp_path):
    first = write_card(model(tmp_path / "a.onnx"), card())
    same = write_card(model(tmp_path / "b.onnx"), card(limits=("another",)))
    other = write_card(model(tmp_path / "c.onnx", weight=1.5), card())
    assert first.identity == same.identity != other.identity
    assert write_card(tmp_path / "a.onnx", first) == first


def test_a_model_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = model(tmp_path / "tiny.onnx")
    weights_beside(path).write_bytes(b"old")
    before = path.read_bytes()
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == before and weights_beside(path).read_bytes() == b"old"
    with replacing(path) as part:
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.onnx"]


def test_what_a_killed_import_left_goes_with_the_next_one(tmp_path):
    for name, days in (("part-old", 2), ("part-running", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(b"1")
        then = time.time() - days * 86_400
        os.utime(tmp_path / name, (then, then))
    with replacing(tmp_path / "tiny.onnx") as part:
        part.write_bytes(b"new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part-running", "tiny.onnx"]


def test_runtime_metadata_is_enough(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    path = model(tmp_path / "tiny.onnx")
    written = write_card(path, card())
    metadata = runtime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert Card.from_metadata(metadata, path) == written


def test_a_model_without_a_card_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not an Earthprint encoder"):
        read_card(model(tmp_path / "plain.onnx"))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "no.onnx"
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(ValueError):
        read_card(path)


@pytest.mark.parametrize(
    "spoil", [lambda f: f.pop("version"), lambda f: f.update(colour="red"),
              lambda f: f.update(unit="field"), lambda f: f.update(prefixes=[128]),
              lambda f: f.update(sensors=3)],
)  # fmt: skip
def test_spoiled_cards_are_refused(spoil):
    fields = json.loads(card().to_json())
    spoil(fields)
    with pytest.raises(ValueError):
        Card.from_json(json.dumps(fields))


def test_a_users_folder_adds_but_never_replaces(tmp_path):
    known = catalogue.bundled()
    model(tmp_path / "mine.onnx")
    model(tmp_path / "crops.head.onnx")
    for name in known:
        model(tmp_path / f"{name}.onnx")
    found = catalogue.bundled([tmp_path])
    assert found == {**known, "mine": tmp_path / "mine.onnx"}


def test_bundled_encoders_have_cards_and_adapters():
    for name, path in catalogue.bundled().items():
        found = read_card(path)
        assert found.name == name
        adapter = catalogue.adapter_of(found)
        assert adapter.missing({}) and callable(adapter.batches)


@pytest.mark.parametrize("system", ["unheard_of", "../fast", "os.path", "training", ""])
def test_unknown_systems_are_refused(system):
    with pytest.raises(ValueError, match="does not have"):
        catalogue.adapter_of(card(system=system))
