"""Checkpoints to encoders: every system goes round, nothing else gets in, no code ever runs."""

import argparse
import collections
import datetime
import hashlib
import json
import pickle
import sys
import types
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import rasterio  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from earthprint.engine import jobs  # noqa: E402
from earthprint.engine.context import JobContext  # noqa: E402
from earthprint.engine.errors import UserError  # noqa: E402
from earthprint.engine.rasters.embeddings import EmbeddingsFile  # noqa: E402
from earthprint.engine.rasters.grid import Window  # noqa: E402
from earthprint.models import cards, catalogue  # noqa: E402
from earthprint.models.anysat import network as anysat_network  # noqa: E402
from earthprint.models.anysat.projectors import SENSORS as ANYSAT_SENSORS  # noqa: E402
from earthprint.models.anysat.projectors import SeriesSensor  # noqa: E402
from earthprint.models.cube import Cube, Series  # noqa: E402
from earthprint.models.galileo import network as galileo_network  # noqa: E402
from earthprint.models.importing import described, reading, recognition  # noqa: E402
from earthprint.models.importing.conversion import convert  # noqa: E402
from earthprint.models.maestro import network as maestro_network  # noqa: E402
from earthprint.models.maestro.layout import LAYOUTS  # noqa: E402
from earthprint.models.presto import network as presto_network  # noqa: E402
from earthprint.models.satdino import network as satdino_network  # noqa: E402
from earthprint.models.skysense import checkpoint as skysense_checkpoint  # noqa: E402
from earthprint.models.skysense.fusion import FusionConfig  # noqa: E402
from earthprint.models.skysense.labels import LabelConfig  # noqa: E402
from earthprint.models.skysense.network import Config as SkySenseConfig  # noqa: E402
from earthprint.models.skysense.plusplus import PlusConfig  # noqa: E402
from earthprint.models.skysense.sentinel import ViTConfig  # noqa: E402
from earthprint.models.skysense_v2 import network as skysense_v2_network  # noqa: E402
from earthprint.models.tessera import network as tessera_network  # noqa: E402
from earthprint.models.timo import network as timo_network  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
TESSERA = tessera_network.BackboneConfig(32, 1, 4, 48)


def weights(network, seed=0):
    """Tensors of a network, all random, so that no zero hides anything."""
    torch.manual_seed(seed)
    state = OrderedDict(
        (name, 0.1 * torch.randn(t.shape) if t.is_floating_point() else t)
        for name, t in network.state_dict().items()
    )
    return OrderedDict((n, t.abs() if n.endswith("running_var") else t) for n, t in state.items())


def tessera(variant, settings):
    config = tessera_network.TesseraConfig(variant, 64 if variant != "v1.1" else 192, TESSERA,
                                           TESSERA)  # fmt: skip
    return weights(tessera_network.build(config)), settings


def anysat_tensors():
    sensors = {
        name: replace(s, heads=4, key_width=6, widths=(16, 16, 32, 64, 32), dropout=0.0)
        for name, s in ANYSAT_SENSORS.items() if isinstance(s, SeriesSensor)
    }  # fmt: skip
    config = anysat_network.Config(32, 1, 4, 1, 4, sensors)
    return {"state_dict": weights(anysat_network.build(config))}


def maestro_file():
    config = replace(maestro_network.SIZES["tiny"], layout=LAYOUTS["pastis_hd"])
    state = weights(maestro_network.build(config))
    return {"state_dict": {f"model.{n}": t for n, t in state.items()},
            "hyper_parameters": {"mask": foreign("maestro.conf.mask", "MaskConfig"),
                                 "fusion_mode": "group"}}  # fmt: skip


def foreign(module, name):
    """An object of a class that only its authors' code has."""
    kind = type(name, (), {"__module__": module, "__qualname__": name})
    for i, _ in enumerate(parts := module.split("."), 1):
        sys.modules[".".join(parts[:i])] = types.ModuleType(".".join(parts[:i]))
    setattr(sys.modules[module], name, kind)
    thing = kind()
    thing.__dict__.update(ratio=0.75, kinds=["a", "b"])
    return thing


def skysense_tensors(use):
    vit = {"rows": 257, "outputs": (1,), "eps": 1e-6}
    s2, s1 = (ViTConfig(bands, 64, 2, 1, **vit) for bands in (10, 2))
    config = SkySenseConfig(use, s2=s2, s1=s1, fusion=FusionConfig(64, 64, 1, 1), dates=True)
    return weights(skysense_checkpoint.build(config))


def skysense_plus_tensors():
    vit = {"rows": 16, "outputs": (3,), "eps": 1e-6}
    config = PlusConfig(
        "s2", s2=ViTConfig(10, 64, 4, 1, **vit), s1=ViTConfig(2, 64, 4, 1, **vit),
        fusion=FusionConfig(64, 64, 1, 1), vit_labels=LabelConfig(6, 4),
    )  # fmt: skip
    return weights(skysense_checkpoint.build(config))


def timo_tensors():
    config = timo_network.Config((16, 16, 32, 32), (2, 2, 2, 4), (1, 1, 2, 1),
                                 gates_everywhere=True, classes=2)  # fmt: skip
    return weights(timo_network.build(config))


#: Name of a case to the content of a file, the system and the variant that are expected first.
CASES = {
    "tessera v2": (lambda: dict(zip(("model", "args"), tessera("v2_student", {"nhead": 4}),
                                    strict=True)), "tessera", "v2-student"),
    "tessera v1.1": (lambda: {"model_state": tessera("v1.1", {})[0]}, "tessera", "v1.1-mpc"),
    "tessera v1.0": (lambda: {"model_state": tessera("v1.0_qat", {})[0]}, "tessera", "v1.0-qat"),
    "tessera teacher": (lambda: {"encoder_state_dict": tessera("v2_teacher", {})[0]}, "tessera",
                        "v2-teacher"),
    "galileo": (lambda: weights(galileo_network.Encoder(galileo_network.OFFICIAL["nano"])),
                "galileo", "pixel"),
    "presto": (lambda: weights(presto_network.Encoder(presto_network.OFFICIAL["presto"])),
               "presto", ""),
    "anysat": (anysat_tensors, "anysat", "s2+s1"),
    "maestro": (maestro_file, "maestro", "s2+s1_asc+s1_des"),
    "satdino": (lambda: {
        "teacher": weights(satdino_network.build(satdino_network.Config(8, 64, 1, 1, image=32))),
        "linear_head": {"linear.weight": torch.zeros(63, 64)},
        "args": argparse.Namespace(arch="vit", scales=(0.25, 1.0))}, "satdino", ""),
    "skysense": (lambda: {"model": skysense_tensors("s2+s1")}, "skysense", "s2+s1"),
    "skysense++": (skysense_plus_tensors, "skysense", "s2"),
    "timo": (lambda: {"model": timo_tensors(), "epoch": 3,
                      "args": argparse.Namespace(lr=1e-4)}, "timo", ""),
    "skysense v2": (lambda: weights(skysense_v2_network.build(
        skysense_v2_network.Config("s2", 32, (1, 1, 2, 1), 8, 4))), "skysense_v2", ""),
}  # fmt: skip


def cube(card, side, dates=4, seed=0):
    """Random observations of all that a card's encoder takes."""
    rng = np.random.default_rng(seed)
    days = np.datetime64("2023-04-01") + np.arange(dates) * 20
    series = {}
    for given in card.sensors:
        values = rng.uniform(0.02, 0.6, (dates, len(given.bands), side, side))
        if given.unit == "dB":
            values = rng.normal(-12, 3, values.shape)
        series[given.sensor] = Series(
            given.sensor, given.bands, days, values.astype(np.float32),
            np.ones((dates, side, side), bool), ("ascending", "descending") * (dates // 2),
        )  # fmt: skip
    return Cube((side, side), series)


def save(content, path):
    """Write a file; afterwards the authors' own classes are unknown, as on a user's machine."""
    torch.save(content, path)
    for module in [m for m in sys.modules if m.split(".")[0] in ("maestro", "omegaconf")]:
        del sys.modules[module]


def saved(name, folder):
    path = folder / f"{name.replace(' ', '_')}.pt"
    save(CASES[name][0](), path)
    return path


def quiet(fraction, text):
    """Nobody listens."""


def imported(path, folder, variant="", cubes=None):
    found = recognition.recognise(reading.read_weights(path), path.name)
    card = found.card(variant)
    side = 8 if card.unit == "pixel" else card.window
    cubes = [cube(card, side)] if cubes is None else cubes
    target = folder / f"{card.name}.onnx"
    return found, convert(found, variant, card, target, cubes, "random values", quiet), target


@pytest.mark.parametrize("name", CASES)
def test_every_system_goes_round(name, tmp_path):
    _, system, variant = CASES[name]
    path = saved(name, tmp_path)
    found, done, target = imported(path, tmp_path)
    assert found.system == system and found.variants[0] == variant
    assert done.difference <= 1e-4 and done.rows and done.inputs >= 3
    assert cards.read_card(target) == done.card
    assert "features of random values is subtracted" in done.card.normalisation
    side = 8 if done.card.unit == "pixel" else done.card.window
    session = onnxruntime.InferenceSession(target)
    for dates in (2, 6):
        given = cube(done.card, side, dates, seed=dates)
        for batch in catalogue.adapter_of(done.card).batches(given, 64, done.card):
            (vectors,) = session.run(["embedding"], batch.inputs)
            assert vectors.shape == (len(batch.pixels), done.card.dimensions)
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
            assert np.abs(vectors).max() / done.card.code_scale < 500


@pytest.mark.parametrize(("name", "variant"), [
    ("galileo", "patch"), ("skysense", "s2"), ("maestro", "s2"), ("tessera v1.1", "v1.1-aws"),
])  # fmt: skip
def test_weights_have_other_uses(name, variant, tmp_path):
    found, done, _ = imported(saved(name, tmp_path), tmp_path, variant)
    assert variant in found.variants and variant in done.card.variant
    with pytest.raises(ValueError, match=f"Choose one of {found.variants[0].split('+')[0]}"):
        found.require("nonsense")


def test_without_typical_input_nothing_is_centred(tmp_path):
    _, done, target = imported(saved("presto", tmp_path), tmp_path, cubes=[])
    assert done.rows == 0 and "No mean is subtracted" in done.card.normalisation
    assert target.exists()


def test_safetensors_and_half_precision(tmp_path):
    tensors = {n: t.half() if t.is_floating_point() else t for n, t in CASES["presto"][0]().items()}
    path = tmp_path / "presto.safetensors"
    save_file({n: t.contiguous() for n, t in tensors.items()}, path)
    found, done, _ = imported(path, tmp_path)
    assert found.system == "presto" and done.difference <= 1e-4


def test_large_weights_lie_beside(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "EXTERNAL", 1000)
    _, done, target = imported(saved("presto", tmp_path), tmp_path)
    assert cards.weights_beside(target).stat().st_size > 1_000_000
    assert target.stat().st_size < 1_000_000 and cards.read_card(target) == done.card
    assert onnxruntime.InferenceSession(target).get_outputs()[0].name == "embedding"
    monkeypatch.undo()
    imported(saved("presto", tmp_path), tmp_path)
    assert not cards.weights_beside(target).exists()


# --- files that must not get in -------------------------------------------------------------------


class Code:
    """Runs a command when it is unpickled by somebody careless."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_never_runs(tmp_path, zipped):
    mark, path = tmp_path / "executed", tmp_path / "galileo.pt"
    content = {"model": CASES["presto"][0](), "args": Code(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"^galileo\.pt holds code besides weights and was not "
                       r"opened\. Get a safetensors file\.$"):
        reading.read_weights(path)
    assert not mark.exists()


def test_a_whole_pickled_network_is_code(tmp_path):
    path = tmp_path / "network.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match="holds code besides weights"):
        reading.read_weights(path)


def test_plain_containers_become_plain_data(tmp_path):
    path = tmp_path / "lightning.ckpt"
    save({"state_dict": {"a": torch.ones(2)}, "args": argparse.Namespace(x=1, y=[2]),
          "mask": foreign("maestro.conf.mask", "MaskConfig")}, path)  # fmt: skip
    content = reading.read_weights(path)
    assert content["args"] == {"x": 1, "y": [2]}
    assert content["mask"] == {"ratio": 0.75, "kinds": ["a", "b"]}


def test_settings_of_lightning_are_no_code(tmp_path):
    path = tmp_path / "lightning.ckpt"
    settings = foreign("omegaconf.dictconfig", "DictConfig")
    settings.__dict__.update(_metadata=collections.defaultdict(dict, {"a": {}}))
    save({"state_dict": {"a": torch.ones(2)}, "hyper_parameters": {
        "folder": tmp_path, "mean": np.arange(3.0), "rate": np.float32(0.1), "dtype": torch.float32,
        "settings": settings}}, path)  # fmt: skip
    content = reading.read_weights(path)
    assert torch.equal(content["state_dict"]["a"], torch.ones(2))
    assert content["hyper_parameters"]["settings"]["_metadata"] == {"a": {}}


def test_a_pickle_that_pytorch_cannot_read_safely_is_not_called_damaged(tmp_path):
    path, mark = tmp_path / "weights.pt", tmp_path / "executed"
    path.write_bytes(pickle.dumps({"a": Code(mark)}, protocol=4))
    with pytest.raises(ValueError, match="cannot be read without running code"):
        reading.read_weights(path)
    assert not mark.exists()


@pytest.mark.parametrize("wrapped", [
    lambda state: {"state_dict": {f"model.{n}": t for n, t in state.items()}, "epoch": 3,
                   "hyper_parameters": {"lr": 1e-4}, "optimizer_states": [{"state": {}}]},
    lambda state: {f"module.model.backbone.{n}": t for n, t in state.items()},
    lambda state: {"state_dict": {**{f"net.{n}": t for n, t in state.items()},
                                  "head.weight": torch.zeros(2, 2)}},
    lambda state: {"epoch": 1, "weights": {"ema": dict(state), "other": {"a": torch.zeros(1)}}},
])  # fmt: skip
@pytest.mark.parametrize("name", ["galileo", "presto", "tessera v2", "skysense v2"])
def test_wrappers_of_any_training_program_are_taken_off(name, wrapped):
    content = CASES[name][0]()
    if "model" in content:
        content = content["model"]
    plain = recognition.recognise(CASES[name][0](), "file.pt")
    found = recognition.recognise(wrapped(content), "file.ckpt")
    assert found.system == CASES[name][1]
    assert found.config == plain.config or name == "tessera v2"  # whose settings lie beside
    assert found.state.keys() == plain.state.keys()
    assert all(torch.equal(found.state[n], t) for n, t in plain.state.items())


def test_values_that_are_no_numbers_are_refused():
    state = CASES["presto"][0]()
    state["norm.bias"] = torch.full_like(state["norm.bias"], torch.nan)
    with pytest.raises(ValueError, match=r"^a\.pt: the tensor norm\.bias holds values that are no "
                       r"finite numbers"):
        recognition.recognise(state, "a.pt")


def test_a_changed_byte_is_noticed(tmp_path):
    path = saved("presto", tmp_path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"presto\.pt is damaged .* Download it again\."):
        reading.read_weights(path)


@pytest.mark.parametrize(("content", "said"), [
    (b"", "is empty"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "pointer of Git LFS"),
    (b"<html><body>Sign in</body></html>", "no file of weights"),
    (b"\x80\x02", "damaged or was cut short"),
    (b"PK\x03\x04 not a zip", "damaged or was cut short"),
    (b"\x10\0\0\0\0\0\0\0{", "damaged or was cut short"),
])  # fmt: skip
def test_other_files_are_named_for_what_they_are(tmp_path, content, said):
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        reading.read_weights(path)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_file_is_told(tmp_path, kept):
    path = saved("presto", tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(kept * len(raw))])
    with pytest.raises(ValueError, match=r"presto\.pt is damaged .* Download it again\."):
        reading.read_weights(path)


def test_lost_tensors_and_other_sizes_are_named():
    state = CASES["presto"][0]()
    lost = {n: t for n, t in state.items() if n != "blocks.1.norm1.weight"}
    with pytest.raises(ValueError, match=r"x\.pt: .*Presto: missing blocks\.1\.norm1\.weight"):
        recognition.recognise(lost, "x.pt")
    odd = {**state, "norm.weight": torch.zeros(64)}
    with pytest.raises(ValueError, match="Presto: wrong shape"):
        recognition.recognise(odd, "x.pt")
    with pytest.raises(ValueError, match=r"no encoder that Earthprint knows.*1 tensors \(fc\.bias"):
        recognition.recognise({"model": {"fc.bias": torch.zeros(2)}}, "x.pt")
    for content in ({"a": 1}, {1: torch.zeros(2)}, {"model": {1: torch.zeros(2)}}, {}):
        with pytest.raises(ValueError, match="none"):
            recognition.recognise(content, "x.pt")


@pytest.mark.parametrize("name", CASES)
def test_a_lost_tensor_is_told_by_the_right_system(name):
    make, system, _ = CASES[name]
    content = recognition._by_name(make())
    tensors = next((v for v in content.values() if isinstance(v, dict) and len(v) > 5), content)
    lost = [n for n, t in tensors.items() if isinstance(t, torch.Tensor) and t.ndim == 1]
    del tensors[lost[len(lost) // 2]]
    with pytest.raises(ValueError) as caught:
        recognition.recognise(content, "x.pt")
    title = recognition.SYSTEMS[system].split(" and ")[0]
    assert title in str(caught.value) and "missing" in str(caught.value)


def test_known_files_are_named(shared, tmp_path):
    path = shared / "checkpoints" / "galileo" / "nano" / "encoder.pt"
    assert recognition.known_file(reading.sha256(path)).startswith("Galileo nano")
    other = tmp_path / "x"
    other.write_bytes(b"x")
    assert reading.sha256(other) == hashlib.sha256(b"x").hexdigest()
    assert recognition.known_file(reading.sha256(other)) == ""


# --- the job --------------------------------------------------------------------------------------


class Listener:
    """A context that remembers what was said."""

    def __init__(self, folder):
        self.said = []
        self.context = JobContext(on_log=lambda level, text: self.said.append((level, text)),
                                  folder=folder, threads=1)  # fmt: skip


@pytest.fixture
def models_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHPRINT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(scope="module")
def season(tmp_path_factory):
    folder = tmp_path_factory.mktemp("season")
    context = JobContext(folder=folder)
    jobs.run("simulate_season", {"output": str(folder / "s"), "size": 128}, context)
    return sorted(str(p) for p in (folder / "s" / "scenes").glob("*.tif"))


@pytest.mark.parametrize(("file", "name"), [
    ("galileo/nano/encoder.pt", "galileo-nano"), ("presto/default_model.pt", "presto"),
])  # fmt: skip
def test_real_weights_are_imported_and_encode(shared, season, models_folder, tmp_path, file, name):
    job = Listener(tmp_path)
    path = shared / "checkpoints" / file
    done = jobs.run("import_checkpoint", {"file": str(path), "calibrate": season}, job.context)
    assert done["name"] == name and done["output"] == str(models_folder / f"{name}.onnx")
    assert done["known"] and done["difference"] < 1e-4
    assert hashlib.sha256(path.read_bytes()).hexdigest() in done["card"]["source"]
    assert any("0 missing" in text for _, text in job.said)
    listed = jobs.run("list_models", {}, job.context)["models"]
    assert done["card"] in [m["card"] for m in listed if m["name"] == name]
    output = tmp_path / "embeddings.tif"
    with rasterio.open(season[0]) as scene:
        left, top = scene.transform * (32, 32)
        box = [left, top - 200, left + 200, top, scene.crs.to_wkt()]
    made = jobs.run("encode", {"input": season, "encoder": name, "output": str(output),
                               "extent": box}, job.context)  # fmt: skip
    assert made["pixels"] == 400
    with EmbeddingsFile(output) as file:
        assert file.encoder.startswith(f"{name}@1.0#")
        vectors, valid = file.vectors(Window(0, 0, 20, 20))
    assert valid.all()
    cosines = vectors.reshape(400, -1) @ vectors.reshape(400, -1).T
    assert cosines.mean() < 0.7 and cosines.min() < 0.3  # centred: not all alike


def test_the_decoder_of_a_release_is_named(shared, models_folder, tmp_path):
    path = shared / "checkpoints" / "galileo" / "nano" / "decoder.pt"
    with pytest.raises(UserError, match="Galileo nano, decoder.pt .* no encoder that can be used"):
        jobs.run("import_checkpoint", {"file": str(path)}, JobContext(folder=tmp_path))


def test_terms_must_be_accepted(models_folder, tmp_path):
    path = saved("skysense", tmp_path)
    params = {"file": str(path), "variant": "s2", "name": "mine"}
    with pytest.raises(UserError, match=r"non-commercial .* tick Accept the licence"):
        jobs.run("import_checkpoint", params, JobContext(folder=tmp_path))
    assert not list(tmp_path.rglob("*.onnx"))
    job = Listener(tmp_path)
    done = jobs.run("import_checkpoint", {**params, "accept_licence": True}, job.context)
    assert f"Terms accepted on {datetime.date.today().isoformat()}" in done["card"]["source"]
    assert done["name"] == done["card"]["name"] == "mine"
    assert "simulated season" in done["card"]["normalisation"]


@pytest.mark.parametrize("name", ["fast", "automatic", "a/b", "..", "-x"])
def test_names_that_cannot_be(models_folder, tmp_path, name):
    path = saved("presto", tmp_path)
    with pytest.raises(UserError, match="name of an encoder"):
        jobs.run("import_checkpoint", {"file": str(path), "name": name},
                 JobContext(folder=tmp_path))  # fmt: skip


# --- any ONNX network -----------------------------------------------------------------------------


def image_network(path, nodes, output, weight=None, shape=("b", 3, 32, 32), opset=13, **metadata):
    """An ONNX file from nodes that read "input" and the constant "w" and write "out"."""
    constants = [] if weight is None else [numpy_helper.from_array(weight, "w")]
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, output)], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v)
                                   for k, v in metadata.items()})  # fmt: skip
    onnx.save(model, str(path))
    return path


def convolution(channels, side=1, step=1):
    weight = np.random.default_rng(1).normal(size=(channels, 3, side, side)).astype(np.float32)
    return weight, helper.make_node("Conv", ["input", "w"], ["out"], strides=[step, step],
                                    kernel_shape=[side, side])  # fmt: skip


def opened(path, **words):
    said = described.described(described.metadata_of(path), **words)
    return described.Described(path, said)


def embed(path, image):
    return onnxruntime.InferenceSession(path).run(["embedding"], {"image": image})[0]


IMAGE = np.random.default_rng(2).random((1, 3, 32, 32), np.float32)


def test_a_feature_map_becomes_an_encoder_of_patches(tmp_path):
    weight, node = convolution(5, 8, 8)
    path = image_network(tmp_path / "map.onnx", [node], ["b", 5, 4, 4], weight)
    network = opened(path, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0), scale=10.0)
    card = network.write(tmp_path / "own.onnx", network.card("own", "here"))
    assert (card.unit, card.patch, card.window, card.dimensions) == ("patch", 8, 32, 5)
    given = (IMAGE * 10 - np.array([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1)) / np.array(
        [1.0, 2.0, 4.0]).reshape(1, 3, 1, 1)  # fmt: skip
    plain = onnxruntime.InferenceSession(path).run(None, {"input": given.astype(np.float32)})[0]
    rows = plain[0].reshape(5, -1).T
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(embed(tmp_path / "own.onnx", IMAGE), expected, atol=1e-5)


@pytest.mark.parametrize("extra", [0, 1])
def test_tokens_become_an_encoder_of_patches(tmp_path, extra):
    weight, node = convolution(5, 8, 8)
    node.output[0] = "map"
    flat = np.array([1, 5, 16], np.int64)
    nodes = [node, helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(flat)),
             helper.make_node("Reshape", ["map", "shape"], ["flat"]),
             helper.make_node("Transpose", ["flat"], ["tokens"], perm=[0, 2, 1]),
             helper.make_node("ReduceMean", ["tokens"], ["class"], axes=[1]),
             helper.make_node("Concat", ["class", "tokens"], ["both"], axis=1),
             helper.make_node("Identity", ["both" if extra else "tokens"], ["out"])]  # fmt: skip
    path = image_network(tmp_path / "vit.onnx", nodes, [1, 16 + extra, 5], weight, (1, 3, 32, 32))
    network = opened(path)
    assert network.shape.patch == 8
    network.write(tmp_path / "own.onnx", network.card("own", ""))
    rows = onnxruntime.InferenceSession(path).run(None, {"input": IMAGE})[0][0, extra:]
    np.testing.assert_allclose(embed(tmp_path / "own.onnx", IMAGE),
                               rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("classes", [4, 1])
@pytest.mark.parametrize("last", ["Softmax", "Sigmoid", None])
def test_a_segmentation_gives_probabilities(tmp_path, classes, last):
    weight, node = convolution(classes)
    nodes = [node]
    if last:
        node.output[0] = "logits"
        words = {"axis": 1} if last == "Softmax" else {}
        nodes.append(helper.make_node(last, ["logits"], ["out"], **words))
    else:
        weight *= 20  # nobody takes these for probabilities
    names = {str(i): f"kind {i}" for i in range(classes)}
    path = image_network(tmp_path / "seg.onnx", nodes, ["b", classes, 32, 32], weight,
                         model_type="Segmentor", class_names=names, resolution=50)  # fmt: skip
    network = opened(path)
    assert network.description.ground_size_m == 0.5
    assert network.shape.activation == ("" if last else "Softmax" if classes > 1 else "Sigmoid")
    assert len(network.description.classes) == max(classes, 2)
    network.write(tmp_path / "own.onnx", network.card("own", ""))
    raw = onnxruntime.InferenceSession(path).run(None, {"input": IMAGE})[0][0]
    raw = raw.reshape(classes, -1).T
    if not last:
        raw = 1 / (1 + np.exp(-raw)) if classes == 1 else np.exp(raw) / np.exp(raw).sum(1)[:, None]
    p = np.hstack([1 - raw, raw]) if classes == 1 else raw
    found = embed(tmp_path / "own.onnx", IMAGE)
    p = p / p.sum(1)[:, None]  # of classes that do not shut each other out
    np.testing.assert_allclose(found / found.sum(1)[:, None], p, atol=1e-5)


def test_what_cannot_work_is_refused_in_words(tmp_path):
    weight, node = convolution(5, 8, 8)

    def refused(message, *, words=None, **changes):
        given = {"nodes": [node], "output": ["b", 5, 4, 4], "weight": weight, **changes}
        path = image_network(tmp_path / "x.onnx", **given)
        with pytest.raises(ValueError, match=message):
            opened(path, **(words or {}))

    refused("model_type is detector", model_type="Detector")
    refused("opset 10", opset=10)
    refused("bands last", shape=("b", 64, 64, 3))
    refused("single square images", shape=("b", 3, 32, 64), output=["b", 5, 4, 8])
    refused("a segmentation gives", words={"kind": "segmentation"})
    refused("takes 3 bands, and 2 are given", words={"bands": ("red", "green")})
    refused("3 bands, and 1 means", words={"mean": (1.0,)})
    refused("must not be 0", words={"std": (1.0, 0.0, 1.0)})
    refused("do not number the classes", class_names={"1": "a", "2": "b"})
    refused("number of bands is not fixed", shape=("b", "c", 32, 32))
    wide = np.zeros((5, 12, 8, 8), np.float32)
    refused("takes 12 bands. Give their names", shape=("b", 12, 32, 32), weight=wide)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ValueError, match="cannot be read"):
        described.metadata_of(broken)
