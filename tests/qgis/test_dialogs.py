"""The dialogs open, hold what they should and fit on a small screen."""

from __future__ import annotations

from pathlib import Path

import processing
import pytest
from qgis.core import QgsProcessingContext, QgsSettings
from qgis.PyQt import sip
from qgis.PyQt.QtWidgets import QMessageBox, QPushButton

from earthprint.engine import environment
from earthprint.plugin import setup_dialog
from earthprint.plugin.documents import DocumentsDialog
from earthprint.plugin.setup_dialog import SetUpDialog
from earthprint.plugin.setup_task import SetUpTask

IDS = ("buildstack", "encode", "cropclassification", "clusterembeddings", "trainhead", "applyhead")


@pytest.mark.parametrize("name", IDS)
def test_algorithm_dialog(registry, iface, qtbot, name, scenes, season, tmp_path):
    """Opens with values given, as from the history, and hands the same values on."""
    algorithm = registry.algorithmById(f"earthprint:{name}")
    head = tmp_path / "a.head.onnx"
    head.touch()
    possible = {
        "LAYERS": scenes[:2], "INPUT": scenes[:2], "LABELS": str(season / "labels.gpkg"),
        "FIELD": "crop", "HEAD": str(head),
    }
    known = [d.name() for d in algorithm.parameterDefinitions()]
    given = {key: value for key, value in possible.items() if key in known}
    dialog = processing.createAlgorithmDialog(f"earthprint:{name}", given)
    qtbot.addWidget(dialog)
    dialog.show()
    assert dialog.windowTitle().endswith(algorithm.displayName())
    read = dialog.createProcessingParameters()
    assert {key: read[key] for key in given} == given
    dialog.close()


def test_set_up_says_what_it_takes(qgis_app, qtbot):
    dialog = SetUpDialog()
    qtbot.addWidget(dialog)
    dialog.show()
    assert "300 MB" in dialog._place.text() and str(environment.folder()) in dialog._place.text()
    assert dialog._state.text() == "The engine is ready."
    assert not dialog._start.isEnabled()
    assert dialog.height() <= 580 and dialog.width() <= 1000


def test_set_up_on_a_bare_machine(qgis_app, qtbot, no_engine, monkeypatch):
    """Failure is a sentence, the log can be read, and another try is possible."""

    def fail(on_progress, on_log, is_cancelled, with_import):
        on_progress(0.4, "Installing packages")
        on_log("Collecting numpy")
        raise environment.SetUpError("The set-up stopped: no network. Choose Repair.", "pip: no")

    monkeypatch.setattr(environment, "create", fail)
    dialog = SetUpDialog()
    qtbot.addWidget(dialog)
    dialog.show()
    assert dialog._start.text() == "Install" and dialog._start.isEnabled()
    dialog.start()
    qtbot.waitUntil(lambda: dialog._task is None, timeout=5000)
    assert dialog._state.text() == "The set-up stopped: no network. Choose Repair."
    assert dialog._log.toPlainText().splitlines() == ["Collecting numpy", "pip: no"]
    assert dialog._start.isEnabled()


def test_set_up_can_be_stopped(qgis_app, qtbot, no_engine, monkeypatch):
    def wait(on_progress, on_log, is_cancelled, with_import):
        on_progress(0.1, "Installing packages")
        while not is_cancelled():
            pass
        raise environment.SetUpCancelled

    monkeypatch.setattr(environment, "create", wait)
    dialog = SetUpDialog()
    qtbot.addWidget(dialog)
    dialog.show()
    dialog.start()
    qtbot.waitUntil(lambda: dialog._bar.value() == 10, timeout=5000)
    assert dialog._stop.isEnabled() and not dialog._start.isEnabled()
    dialog.stop()
    qtbot.waitUntil(lambda: dialog._task is None, timeout=5000)
    assert "Stopped." in dialog._state.text()


def test_unloading_while_setting_up(qgis_app, qtbot, no_engine, monkeypatch):
    begun, ended = [], []

    def wait(on_progress, on_log, is_cancelled, with_import):
        begun.append(True)
        while not is_cancelled():
            pass
        ended.append(True)
        raise environment.SetUpCancelled

    monkeypatch.setattr(environment, "create", wait)
    dialog = SetUpDialog()
    dialog.start()
    qtbot.waitUntil(lambda: bool(begun), timeout=5000)
    dialog.discard()
    qtbot.waitUntil(lambda: bool(ended), timeout=5000)


def test_set_up_offers_what_imports_weights(qgis_app, qtbot, monkeypatch, tmp_path):
    """An engine in order can still get PyTorch; once it is there nothing is left to do."""
    made = []

    def add(on_progress, on_log, is_cancelled, with_import):
        made.append(with_import)

    monkeypatch.setattr(environment, "create", add)
    monkeypatch.setattr(environment, "can_import", lambda: bool(made))
    dialog = SetUpDialog()
    qtbot.addWidget(dialog)
    dialog.show()
    assert "210 MB" in dialog._import.text() and not dialog._start.isEnabled()
    dialog._import.setChecked(True)
    assert dialog._start.isEnabled() and dialog._start.text() == "Install"
    assert "510 MB" in dialog._place.text() and "2.4 GB" in dialog._place.text()
    dialog.start()
    qtbot.waitUntil(lambda: dialog._task is None, timeout=5000)
    assert made == [True]
    assert dialog._import.isChecked() and not dialog._import.isEnabled()
    assert not dialog._start.isEnabled()


def test_set_up_without_space(qgis_app, qtbot, no_engine, monkeypatch):
    monkeypatch.setattr(setup_dialog, "free_gb", lambda: 0.3)
    dialog = SetUpDialog()
    qtbot.addWidget(dialog)
    assert not dialog._start.isEnabled() and "too small" in dialog._state.text()


def test_set_up_task_makes_a_real_environment_in_order(qgis_app, qtbot):
    """With the engine in order the task ends at once and says so."""
    task = SetUpTask()
    said = []
    task.ended.connect(lambda good, sentence: said.append((good, sentence)))
    task.finished(task.run())
    assert said == [(True, "The engine is ready. Find Earthprint in the Processing toolbox.")]


def test_the_engine_is_removed_when_asked(qgis_app, qtbot, no_engine, monkeypatch):
    place = environment.folder()
    (place / "lib").mkdir(parents=True)
    (place / "pyvenv.cfg").write_text("home = here")
    (place / "lib" / "big").write_bytes(bytes(200_000_000))
    (place.parent / "models").mkdir()
    answers = [QMessageBox.StandardButton.Cancel, QMessageBox.StandardButton.Yes]
    monkeypatch.setattr(QMessageBox, "question", lambda *_: answers.pop(0))
    dialog = SetUpDialog()
    qtbot.addWidget(dialog)
    dialog.show()
    dialog.removal.click()
    assert place.exists() and dialog._task is None
    dialog.removal.click()
    assert not dialog.removal.isEnabled()
    qtbot.waitUntil(lambda: dialog._task is None, timeout=10_000)
    assert dialog._state.text() == "The engine is removed; 0.2 GB are free again."
    assert [path.name for path in place.parent.iterdir()] == ["models"]
    assert dialog._start.text() == "Install" and not dialog.removal.isEnabled()


def test_what_is_no_environment_is_left_alone(no_engine):
    environment.folder().mkdir(parents=True)
    (environment.folder() / "thesis.txt").touch()
    with pytest.raises(environment.SetUpError, match="left alone"):
        environment.remove()
    assert (environment.folder() / "thesis.txt").exists()


def test_documents(qgis_app, qtbot):
    dialog = DocumentsDialog()
    qtbot.addWidget(dialog)
    assert "Earthprint" in dialog._pages.toPlainText()


def test_welcome_is_said_once(plugin, window, no_engine, monkeypatch):
    from earthprint import classFactory

    monkeypatch.setattr(
        "earthprint.plugin.earthprint_plugin.EarthprintPlugin.initProcessing", lambda self: None
    )
    QgsSettings().remove("earthprint/welcomed")
    welcomes = []
    for _ in range(2):
        second = classFactory(window)
        second.initGui()
        welcomes.append(second._welcome)
        second.unload()
    assert welcomes[0] is not None and welcomes[1] is None
    assert welcomes[0].findChild(QPushButton).text() == "Set Up…"


def test_batch(registry, iface, qtbot, made, tmp_path):
    """Two rows of the batch dialog write two files."""
    from processing.gui.BatchAlgorithmDialog import BatchAlgorithmDialog

    algorithm = registry.algorithmById("earthprint:clusterembeddings").create()
    dialog = BatchAlgorithmDialog(algorithm)
    panel = dialog.mainWidget()
    panel.addRow()
    columns = panel.parameter_to_column
    context = QgsProcessingContext()
    outputs = [str(tmp_path / f"groups_{row}.tif") for row in range(2)]
    for row, output in enumerate(outputs):
        panel.wrappers[row][columns["INPUT"]].setParameterValue([made["embeddings"]], context)
        panel.wrappers[row][columns["CLUSTERS"]].setParameterValue(3 + row, context)
        panel.tblParameters.cellWidget(row + 1, columns["OUTPUT"]).setValue(output)
    dialog.runAlgorithm()
    # 3.40 closes and deletes the dialog when all went well, 3.22 leaves it open
    qtbot.waitUntil(lambda: all(Path(output).is_file() for output in outputs), timeout=120000)
    qtbot.wait(1000)
    if not sip.isdeleted(dialog):
        dialog.close()
