"""What the toolbox shows, and that the plugin comes and goes without a trace."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from qgis.core import QgsApplication, QgsProcessingParameterDefinition

from earthprint.engine import client as border
from earthprint.engine import environment

ROOT = Path(__file__).resolve().parent.parent.parent

#: Public for ever: models, scripts and command lines hold these names. Append, never change.
FROZEN = {
    "buildstack": "LAYERS FOLDER SENSOR DATES MASK GRID WEATHER WEATHER_UNITS DEVICE MEMORY OUTPUT",
    "encode": "INPUT ENCODER EXTENT START END UPSAMPLE WEATHER WEATHER_UNITS DEVICE MEMORY OUTPUT",
    "trainhead": "INPUT LABELS FIELD ENCODER CUTOFF_DATE LABEL_RASTER LABEL_BAND LABEL_IGNORE "
    "MORE_LABELS FEATURES MODEL FOLDS BLOCK TARGET UNIT SEED DEVICE MEMORY OUTPUT REPORT",
    "suggestsamples": "INPUT HEAD LABELS FIELD MORE_LABELS COUNT MIN_DISTANCE EXTENT SEED DEVICE "
    "MEMORY OUTPUT",
    "applyhead": "INPUT HEAD ENCODER CUTOFF_DATE WEATHER WEATHER_UNITS SMOOTH MIN_AREA UNKNOWN "
    "EXTENT DEVICE MEMORY OUTPUT CONFIDENCE UNLIKE REASON",
    "cropclassification": "INPUT LABELS FIELD READY_HEAD HEAD ENCODER CUTOFF_DATE WEATHER "
    "WEATHER_UNITS LABEL_RASTER LABEL_BAND LABEL_IGNORE MORE_LABELS FEATURES MODEL FOLDS BLOCK "
    "SMOOTH MIN_AREA UNKNOWN EXTENT SEED DEVICE MEMORY OUTPUT CONFIDENCE UNLIKE REASON REPORT "
    "EMBEDDINGS HEAD_OUTPUT",
    "landcoversegmentation": "INPUT LABELS FIELD READY_HEAD HEAD ENCODER CUTOFF_DATE LABEL_RASTER "
    "LABEL_BAND LABEL_IGNORE MORE_LABELS FEATURES MODEL FOLDS BLOCK SMOOTH MIN_AREA UNKNOWN EXTENT "
    "SEED DEVICE MEMORY OUTPUT CONFIDENCE UNLIKE REASON REPORT EMBEDDINGS HEAD_OUTPUT",
    "clusterembeddings": "INPUT ENCODER CLUSTERS EXTENT SEED DEVICE MEMORY OUTPUT",
    "visualizeembeddings": "INPUT ENCODER BASIS EXTENT SEED DEVICE MEMORY OUTPUT BASIS_OUTPUT",
    "similaritysearch": "INPUT POINT EXAMPLES COUNTEREXAMPLES K MIN_DISTANCE THRESHOLD MIN_AREA "
    "EXTENT DEVICE MEMORY SIMILARITY MATCHES POLYGONS",
    "importembeddings": "INPUT ADDRESS FORMAT YEAR CRS EXTENT DEVICE MEMORY OUTPUT",
    "importcheckpoint": "FILE NAME ACCEPT_LICENCE CALIBRATE VARIANT PARTS OVERWRITE DEVICE MEMORY "
    "OUTPUT",
    "importmodel": "FILE NAME KIND SENSOR BANDS GROUND_SIZE SCALE MEAN STD WINDOW CLASSES LICENCE "
    "OVERWRITE DEVICE MEMORY OUTPUT",
    "pretrain": "INPUT SYSTEM NAME MINUTES STEPS SEED OVERWRITE DEVICE MEMORY OUTPUT",
    "doctor": "DEVICE MEMORY REPORT",
    "changedetection": "BEFORE AFTER PRESET METHOD HEAD ENCODER THRESHOLD MIN_AREA MIN_CLEAR "
    "EXTENT DEVICE MEMORY OUTPUT POLYGONS DATE DISTANCE CONFIDENCE REPORT",
    "samplingdesign": "MAP TARGET_ERROR MIN_PER_CLASS EXPECTED SHOW_CLASS SEED DEVICE MEMORY "
    "OUTPUT",
    "assessaccuracy": "MAP REFERENCE FIELD REFERENCE_RASTER STRATA STRATA_FIELD REFERENCE_BAND "
    "REFERENCE_IGNORE DEVICE MEMORY REPORT TABLE",
    "forecast": "INPUT WEATHER DATE WEATHER_UNITS EXTENT DEVICE MEMORY OUTPUT REPORT",
    "flooddetection": "BEFORE AFTER METHOD PERMANENT_WATER DEM ZONES MAX_SLOPE MAX_HEIGHT MIN_AREA "
    "EXTENT DEVICE MEMORY OUTPUT POLYGONS CONFIDENCE DISAGREEMENT ZONE_AREAS REPORT",
}


@pytest.fixture(params=sorted(FROZEN))
def algorithm(request, registry):
    return registry.algorithmById(f"earthprint:{request.param}")


def test_ids_are_frozen(registry):
    found = {a.name() for a in registry.providerById("earthprint").algorithms()}
    assert found == set(FROZEN)


def test_parameter_names_are_frozen(algorithm):
    names = [d.name() for d in algorithm.parameterDefinitions()]
    assert names == FROZEN[algorithm.name()].split()


def test_every_parameter_has_help(algorithm):
    for definition in algorithm.parameterDefinitions():
        assert len(definition.help()) > 15, definition.name()
        label = definition.description()
        assert label[0].isupper() and not label.endswith(":") and "optional" not in label


def test_algorithm_explains_itself(algorithm):
    assert algorithm.shortDescription().endswith(".")
    for word in ("Needs", "Gives", "Limits", "./run process"):
        assert word in algorithm.shortHelpString()
    assert len(algorithm.tags()) > 4
    assert algorithm.group() in (
        "Preparation", "Embeddings", "Mapping", "Accuracy", "Models and set-up",
    )
    assert Path(algorithm.svgIconPath()).is_file()


def test_the_basic_form_is_short(algorithm):
    advanced = QgsProcessingParameterDefinition.Flag.FlagAdvanced
    basic = [
        d for d in algorithm.parameterDefinitions()
        if not d.isDestination() and not d.flags() & advanced
    ]
    assert len(basic) <= 6


def test_what_analysts_type_is_found(registry):
    words = " ".join(
        tag for a in registry.providerById("earthprint").algorithms() for tag in a.tags()
    )
    for word in ("maize", "parcel", "SAR", "k-means", "random forest"):
        assert word in words


def test_every_parameter_is_a_key_of_the_job(algorithm):
    from earthprint.processing_provider.values import KEYS

    engine = border.EngineClient()
    try:
        known = set(engine.run("describe", {})[algorithm.JOB]["parameters"])
    finally:
        engine.close()
    keys = {KEYS.get(d.name(), d.name().lower()) for d in algorithm.parameterDefinitions()}
    assert keys <= known


def test_gui_comes_and_goes(plugin, window, monkeypatch):
    """Twice, on top of a registered provider of its own kind, which must not be disturbed."""
    from earthprint import classFactory

    monkeypatch.setattr(
        "earthprint.plugin.earthprint_plugin.EarthprintPlugin.initProcessing", lambda self: None
    )
    for _ in range(2):
        second = classFactory(window)
        second.initGui()
        assert [a.text() for a in window.menu.actions()] == [
            "Similarity Search", "Label Places", "Open Demo Project", "Models…",
            "Set Up Environment…", "Documentation", "About Earthprint…",
        ]
        assert len(window.bar.actions()) == window.registered == 2
        second.set_up()
        second.show_documentation()
        second.unload()
        assert not window.menu.actions() and not window.bar.actions() and not window.registered
    assert QgsApplication.processingRegistry().providerById("earthprint") is not None


def test_unload_ends_the_engine(plugin):
    from earthprint import classFactory

    engine = border.shared_client()
    engine.run("describe", {})
    process = Path(f"/proc/{engine.pid}")
    assert process.exists()
    classFactory(None).unload()
    assert not process.exists() and border._shared is None


CYCLE = """
import sys
sys.path[:0] = [{plugins!r}]
sys.path.append("/usr/share/qgis/python/plugins")
from qgis.core import QgsApplication
application = QgsApplication([], True)
application.initQgis()
import qgis.utils
qgis.utils.plugin_paths.append({plugins!r})
qgis.utils.updateAvailablePlugins()
registry = application.processingRegistry()
before = len(registry.providers())
for turn in range(3):
    assert qgis.utils.loadPlugin("earthprint")
    assert qgis.utils.startProcessingPlugin("earthprint")
    algorithms = len(registry.providerById("earthprint").algorithms())
    from earthprint.engine.client import shared_client
    shared_client().run("describe", dict())
    engine = shared_client().pid
    assert qgis.utils.unloadPlugin("earthprint")
    left = [m for name, m in sys.modules.items() if name.startswith("earthprint.")]
    assert all(m.__file__.endswith("__init__.py") for m in left)  # QGIS forgets to drop these
    print(algorithms, len(registry.providers()) - before, engine is not None)
sys.stdout.flush()
import os
children = os.popen("ps --ppid %d -o args=" % os.getpid()).read()
print("engines left:", children.count("launch.py"))
"""


def test_qgis_loads_unloads_and_reloads():
    done = subprocess.run(
        [sys.executable, "-c", CYCLE.format(plugins=str(ROOT / "build" / "plugins"))],
        capture_output=True, text=True, check=False, timeout=120,
    )
    lines = done.stdout.splitlines()
    assert lines == [f"{len(FROZEN)} 0 True"] * 3 + ["engines left: 0"], done.stderr


VOCABULARY = """
import json
from earthprint.engine.heads import decoder
from earthprint.engine.heads.classifiers import MODELS
from earthprint.engine.stacks.masks import RULES
from earthprint.engine.stacks.stack import SENSORS
from earthprint.engine.environment import models_folder
from earthprint.models.catalogue import bundled
print(json.dumps([list(RULES), list(SENSORS), [*MODELS, decoder.MODEL],
                  list(bundled([models_folder()]))]))
"""


def test_words_are_the_engines_words():
    """The form repeats the engine's words, because it must not import the engine."""
    from earthprint.processing_provider import parameters

    done = subprocess.run(
        [str(environment.find_python()), "-c", VOCABULARY],
        capture_output=True, text=True, check=True,
        env={**environment.clean_variables(), "PYTHONPATH": str(ROOT / "build" / "plugins")},
    )
    masks, sensors, models, encoders = json.loads(done.stdout)
    assert list(parameters.MASKS) == ["automatic", "none", *masks]
    assert sorted(parameters.SENSORS) == sorted(["automatic", *sensors])
    assert list(parameters.MODELS) == ["automatic", *models]
    assert parameters.encoders() == encoders
