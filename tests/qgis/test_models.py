"""The forms that bring encoders from elsewhere, and the lists that then offer them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import processing
import pytest
from qgis.core import QgsProcessingException

from earthprint.engine import environment
from earthprint.engine.client import close_shared_client
from earthprint.processing_provider import parameters

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder of models of its own, which an engine learns of when it starts."""
    close_shared_client()
    monkeypatch.setenv("EARTHPRINT_MODELS", str(tmp_path / "models"))
    yield tmp_path / "models"
    close_shared_client()


@pytest.fixture
def no_torch():
    python = str(environment.find_python())
    if subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode:
        return
    pytest.skip("the engine's environment has PyTorch")


def test_an_encoder_of_ones_own_is_offered_at_once(plugin, registry, models, log):
    assert "mine" not in parameters.encoders()
    made = processing.run(
        "earthprint:importmodel",
        {"FILE": str(ROOT / "models" / "fast" / "fast.onnx"), "NAME": "mine"}, feedback=log,
    )
    assert made["OUTPUT"] == str(models / "mine.onnx")
    (again,) = [line for line in log.lines if line.startswith("Again: ")]
    assert again.startswith("Again: ./run process importmodel FILE=") and "NAME=mine" in again
    assert "mine" in parameters.encoders()
    form = registry.createAlgorithmById("earthprint:encode")
    assert "mine" in form.parameterDefinition("ENCODER").options()


def test_what_is_no_network_is_refused_in_words(plugin, models, tmp_path):
    path = tmp_path / "notes.onnx"
    path.write_text("no network")
    with pytest.raises(QgsProcessingException, match=r"notes\.onnx: it cannot be read as an ONNX"):
        processing.run("earthprint:importmodel", {"FILE": str(path)})


def test_weights_need_pytorch_and_the_form_says_how(plugin, models, no_torch, tmp_path):
    path = tmp_path / "galileo.pt"
    path.write_bytes(b"PK")
    with pytest.raises(QgsProcessingException, match="tick Import official weights"):
        processing.run("earthprint:importcheckpoint", {"FILE": str(path)})


def test_the_terms_are_not_accepted_by_default(registry):
    form = registry.algorithmById("earthprint:importcheckpoint")
    assert form.parameterDefinition("ACCEPT_LICENCE").defaultValue() is False
    assert "the card keeps them with the date" in form.parameterDefinition("ACCEPT_LICENCE").help()
