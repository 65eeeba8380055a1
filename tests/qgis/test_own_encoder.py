"""Self-test and Pretrain encoder, from the form to what the user holds in the end."""

from __future__ import annotations

import subprocess
from pathlib import Path

import processing
import pytest
from qgis.core import (
    Qgis,
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingException,
    QgsRasterLayer,
)

from earthprint.engine import client as border
from earthprint.engine import environment
from earthprint.processing_provider import parameters

TORCH = environment.folder().parent / "train" / "bin" / "python"


def has_torch(python) -> bool:
    return Path(python).exists() and not subprocess.run(
        [str(python), "-c", "import torch"], capture_output=True, check=False).returncode


def corner(path: str, side: int) -> str:
    """The upper left pixels of a raster as an extent of Processing."""
    layer = QgsRasterLayer(path)
    box, size = layer.extent(), side * layer.rasterUnitsPerPixelX()
    left, top = box.xMinimum(), box.yMaximum()
    return f"{left},{left + size},{top - size},{top} [{layer.crs().authid()}]"


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder of models of its own, and an engine that knows it."""
    monkeypatch.setenv("EARTHPRINT_MODELS", str(tmp_path / "models"))
    border.close_shared_client()
    yield tmp_path / "models"
    border.close_shared_client()


@pytest.fixture
def with_torch(models, monkeypatch):
    if not has_torch(TORCH):
        pytest.skip(f"no PyTorch in {TORCH.parent.parent}; ./run test makes that environment")
    # threads of PyTorch that wait for each other burn time where the machine does other things
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(border, "_shared", border.EngineClient(TORCH))
    return models


@pytest.fixture
def without_torch(models):
    if has_torch(environment.find_python()):
        pytest.skip("the engine has PyTorch here")
    return models


def test_self_test_gives_a_page_that_can_be_sent(plugin, tmp_path, log):
    page = tmp_path / "report.html"
    results = processing.run("earthprint:doctor", {"REPORT": str(page)}, feedback=log)
    assert results["REPORT"] == str(page)
    assert "All that was tried works." in log.text
    text = page.read_text(encoding="utf-8")
    for said in (f"QGIS: {Qgis.QGIS_VERSION}", "fast: works, ", "Live search: works", "numpy "):
        assert said in text
    assert f"QGIS: {Qgis.QGIS_VERSION}" in log.text
    assert str(Path.home()) + "/" not in text and str(tmp_path) not in text


def test_pretraining_without_pytorch_says_how_to_get_it(without_torch, plugin, scenes):
    with pytest.raises(QgsProcessingException, match="needs PyTorch.*Set Up Environment.*tick"):
        processing.run("earthprint:pretrain", {"INPUT": scenes[:2]})
    assert not without_torch.exists()


def test_an_encoder_of_ones_own_is_offered_kept_and_gone_on_with(
    with_torch, plugin, made, tmp_path, log
):
    given = {"INPUT": [made["stack"]], "NAME": "mine", "MINUTES": 0.1}
    results = processing.run("earthprint:pretrain", given, feedback=log)
    assert Path(results["OUTPUT"]) == with_torch / "mine.onnx"
    assert "Training" in log.text and "mine@" in log.text
    assert "Again: ./run process pretrain " in log.text and "NAME=mine" in log.text
    assert "mine" in parameters.encoders()
    embeddings = tmp_path / "embeddings.tif"
    processing.run("earthprint:encode", {
        "INPUT": [made["stack"]], "ENCODER": "mine", "OUTPUT": str(embeddings),
        "EXTENT": corner(made["embeddings"], 16)})
    assert embeddings.is_file()
    # the name is taken now; nothing is replaced unasked
    written = (with_torch / "mine.onnx").read_bytes()
    with pytest.raises(QgsProcessingException, match="mine.onnx.*already.*tick Replace"):
        processing.run("earthprint:pretrain", given)
    # more minutes go on where it stopped; who stops them is told how to go on again
    stopped = type(log)()
    stopped.progressChanged.connect(lambda percent: stopped.cancel() if percent > 0 else None)
    algorithm = QgsApplication.processingRegistry().createAlgorithmById("earthprint:pretrain")
    algorithm.run({**given, "MINUTES": 30, "OVERWRITE": True}, QgsProcessingContext(), stopped)
    assert "What was learnt is kept in" in stopped.text and "mine.training" in stopped.text
    assert (with_torch / "mine.onnx").read_bytes() == written
    assert (with_torch / "mine.training" / "state.pt").is_file()
    # the state goes with its encoder
    border.shared_client().run("remove_model", {"name": "mine"})
    assert not list(with_torch.iterdir())
