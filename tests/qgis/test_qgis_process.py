"""Every algorithm through `qgis_process`, in a clean profile, as scripts use it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("by_qgis_process")


def test_list_and_help(qgis_process):
    status, text = qgis_process("list")
    assert status == 0 and "earthprint:cropclassification\tCrop classification" in text
    status, text = qgis_process("help", "earthprint:encode")
    assert status == 0 and "ENCODER: Encoder" in text and re.search(r"- \d+: fast\b", text)


def test_from_scenes_to_maps(qgis_process, season, scenes, folder):
    """Stack, embeddings, head, map, groups: the output of each is the input of the next."""
    stack, embeddings = folder / "season.stack.json", folder / "embeddings.tif"
    head, labels = folder / "crops.head.onnx", season / "labels.gpkg"
    runs = (
        ("buildstack", [f"LAYERS={path}" for path in scenes], stack),
        ("encode", [f"INPUT={stack}", "ENCODER=fast"], embeddings),
        ("trainhead", [f"INPUT={embeddings}", f"LABELS={labels}", "FIELD=crop",
                       "MODEL=logistic"], head),
        ("applyhead", [f"INPUT={embeddings}", f"HEAD={head}"], folder / "map.tif"),
        ("clusterembeddings", [f"INPUT={embeddings}", "CLUSTERS=4"], folder / "groups.tif"),
        ("cropclassification", [f"INPUT={stack}", f"LABELS={labels}", "FIELD=crop",
                                "MODEL=logistic", f"REPORT={folder / 'report.html'}"],
         folder / "crops.tif"),
    )
    for name, words, output in runs:
        status, text = qgis_process(
            "run", f"earthprint:{name}", "--", *words, f"OUTPUT={output}"
        )
        assert status == 0, text
        assert output.is_file(), text
        assert f"Again: ./run process {name} " in text
    assert (folder / "report.html").is_file()


def test_graphical_model(qgis_process, season, scenes, folder):
    mapped = folder / "model.tif"
    status, text = qgis_process(
        "run", str(ROOT / "resources" / "models" / "crop_map.model3"), "--",
        *[f"INPUT={path}" for path in scenes], f"LABELS={season / 'labels.gpkg'}", "FIELD=crop",
        f"encode:Embeddings={folder / 'kept.tif'}", f"classify:Crop map={mapped}",
    )
    assert status == 0 and mapped.is_file(), text


def test_without_engine(qgis_process, scenes, tmp_path):
    status, text = qgis_process(
        "run", "earthprint:encode", "--", f"INPUT={scenes[0]}", f"OUTPUT={tmp_path / 'e.tif'}",
        EARTHPRINT_ENV=str(tmp_path),
    )
    assert status != 0 and "The engine is not set up." in text and "Traceback" not in text


def test_a_wrong_file_is_a_sentence(qgis_process, season, tmp_path):
    status, text = qgis_process(
        "run", "earthprint:clusterembeddings", "--", f"INPUT={season / 'labels.gpkg'}",
        f"OUTPUT={tmp_path / 'g.tif'}",
    )
    assert status != 0 and "labels.gpkg" in text and "Traceback" not in text
