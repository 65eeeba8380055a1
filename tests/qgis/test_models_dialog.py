"""The Models dialog with real key and mouse events and a real engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from qgis.core import QgsApplication, QgsSettings
from qgis.PyQt.QtCore import QPoint, Qt
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import (
    QAbstractButton,
    QAction,
    QApplication,
    QMainWindow,
    QMessageBox,
    QPushButton,
)

from earthprint.engine import environment
from earthprint.engine.client import EngineClient
from earthprint.plugin.models import speed
from earthprint.plugin.models.card import page
from earthprint.plugin.models.dialog import ModelsDialog
from earthprint.plugin.models.model import ENCODER, HEAD, Model
from earthprint.plugin.models.model_list import NAME, SIZE, SPEED
from earthprint.processing_provider import parameters

ROOT = Path(__file__).resolve().parent.parent.parent
TRAIN = Path(os.environ.get("EARTHPRINT_ENV", ROOT / ".venv")) / "train" / "bin" / "python"
SHARED = Path(os.environ.get("EARTHPRINT_SHARED", ROOT.parent / "shared"))
GALILEO = SHARED / "checkpoints" / "galileo" / "nano" / "encoder.pt"
FAST = ROOT / "models" / "fast" / "fast.onnx"
ENGINE_MS = 60_000


class Warm(EngineClient):
    """An engine that stays for all tests of this file; a start takes seconds."""

    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """The folder of models that they know, and the engines by their Python."""
    made = {"folder": tmp_path_factory.mktemp("models")}
    yield made
    for engine in made.values():
        if isinstance(engine, Warm):
            engine.end()


@pytest.fixture
def folder(engines, monkeypatch) -> Path:
    """The user's folder of models, empty."""
    place = engines["folder"]
    for file in place.iterdir():
        file.unlink()
    monkeypatch.setenv("EARTHPRINT_MODELS", str(place))
    return place


@pytest.fixture
def dialog(plugin, folder, engines, qtbot, monkeypatch):
    """The dialog, open, with its list read."""
    python = environment.find_python()
    engine = engines.setdefault(python, Warm(python))
    monkeypatch.setattr("earthprint.plugin.models.dialog.EngineClient", lambda: engine)
    made = ModelsDialog()
    qtbot.addWidget(made)
    yield opened(made, qtbot)
    made.discard()


@pytest.fixture
def own_engine(plugin, folder, qtbot):
    """The same with an engine of its own."""
    made = ModelsDialog()
    qtbot.addWidget(made)
    yield opened(made, qtbot)
    made.discard()


def opened(dialog, qtbot):
    dialog.show()
    dialog.activateWindow()
    wait_for_list(dialog, qtbot)
    return dialog


def wait_for_list(dialog, qtbot):
    qtbot.waitUntil(
        lambda: dialog._question is None and not dialog._rest.isActive(), timeout=ENGINE_MS
    )


def lines(dialog) -> dict[str, object]:
    """The lines that are shown, by name."""
    return {line.text(NAME): line for line in dialog.list._lines() if not line.isHidden()}


def choose(dialog, name: str) -> None:
    dialog.list.tree.setCurrentItem(lines(dialog)[name])
    assert dialog.list.current.name == name


def click(button) -> None:
    assert button.isVisible() and button.isEnabled(), button.text()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def question(dialog, qtbot) -> QMessageBox:
    qtbot.waitUntil(lambda: bool(dialog.findChildren(QMessageBox, "earthprint_remove")))
    (box,) = dialog.findChildren(QMessageBox, "earthprint_remove")
    return box


def test_lists_what_every_form_offers(dialog):
    encoders = [m for m in dialog.list._models.values() if m.kind == ENCODER]
    assert {m.name for m in encoders} == set(parameters.encoders())
    assert all(m.bundled for m in encoders)
    fast = lines(dialog)["fast"]
    texts = [fast.text(column) for column in range(7)]
    assert texts[0] == "fast" and "S2" in texts[1] and texts[2] == "pixel" and texts[3] == "10"
    assert texts[4].endswith(" MB") and texts[6] == "GPL-3.0-or-later"
    heads = {m.name for m in dialog.list._models.values() if m.kind == HEAD}
    assert heads == {p.name[:-len(".head.onnx")] for p in (ROOT / "resources/heads").iterdir()}
    assert f"{len(encoders)} encoders and {len(heads)} heads." in dialog.sentence.text()
    assert not dialog.bar.isVisible() and not dialog.retry.isVisible()
    assert (dialog.width(), dialog.height()) == (900, 560)


def test_the_card_can_be_read_and_copied(dialog):
    choose(dialog, "fast")
    text = dialog.card.toPlainText()
    for words in ("fast 1.0", "Presto", "Sentinel-2 (reflectance 0..1)", "GPL-3.0-or-later",
                  "SHA-256", "comes with Earthprint and cannot be removed", str(FAST.name)):
        assert words in text
    dialog.card.setFocus()
    QTest.keyClick(dialog.card, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(dialog.card, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert "fast 1.0" in QApplication.clipboard().text()


def test_ready_made_heads_say_where_they_come_from(dialog):
    """Sets with licences, limits, region and seasons as rows; nothing of Python's own writing."""
    for name in ("crops_flanders", "land_cover", "deforestation", "flood"):
        choose(dialog, name)
        text = dialog.card.toPlainText()
        assert "samples; " in text or "image pairs; " in text
        assert "Limits" in text and "comes with Earthprint and cannot be removed" in text
        assert "{'" not in text and "['" not in text
        assert not dialog.removal.isEnabled() and not dialog.measure.isEnabled()
    choose(dialog, "crops_flanders")
    text = dialog.card.toPlainText()
    assert "2017-12-01 to 2018-11-30" in text and "34 places, longitude 2.6 to 5.6" in text


def test_cards_of_strangers_are_only_text():
    """What a file says cannot become markup."""
    model = Model("<b>x</b>", ENCODER, "x.onnx", False, 1, card={"paper": "<img src=a>"})
    assert "<img" not in page(model) and "&lt;img" in page(model)
    broken = Model("x", HEAD, "x.head.onnx", False, 1, problem="x.head.onnx cannot be read.")
    assert "cannot be read" in page(broken)


def test_filter_and_arrow_keys(dialog):
    before = lines(dialog)
    dialog.list.filter.setFocus()
    QTest.keyClicks(dialog.list.filter, "FAST gpl")
    assert set(lines(dialog)) == {"fast"} and dialog.list.current.name == "fast"
    QTest.keyClick(dialog.list.filter, Qt.Key.Key_Return)  # presses no button
    assert dialog.isVisible() and not dialog._dialogs
    dialog.list.filter.clear()
    assert set(lines(dialog)) == set(before)
    dialog.list.tree.setFocus()
    first = dialog.list.current.name
    QTest.keyClick(dialog.list.tree, Qt.Key.Key_Down)
    assert dialog.list.current is not None and dialog.list.current.name != first


def test_sizes_sort_as_numbers(dialog):
    dialog.list.tree.sortByColumn(SIZE, Qt.SortOrder.DescendingOrder)
    group = dialog.list.tree.topLevelItem(0)
    assert group.text(NAME) == "Encoders"  # groups stay where they are
    shown = [group.child(row).text(NAME) for row in range(group.childCount())]
    models = {m.name: m.size for m in dialog.list._models.values()}
    assert shown == sorted(shown, key=models.get, reverse=True)


def test_all_with_the_keyboard(dialog):
    """Tab reaches everything that can be used, each with a name and a mnemonic of its own."""
    choose(dialog, "fast")
    dialog.list.tree.setFocus()
    reached = set()
    for _ in range(20):
        reached.add(QApplication.focusWidget())
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    buttons = [b for b in dialog.findChildren(QPushButton) if b.isVisible() and b.isEnabled()]
    assert reached >= {*buttons, dialog.list.tree, dialog.card, dialog.list.filter}
    keys = [b.text()[b.text().index("&") + 1].lower() for b in dialog.findChildren(QPushButton)
            if "&" in b.text()]
    assert len(keys) == len(set(keys)) >= 9
    assert all(b.accessibleName() or b.text() for b in dialog.findChildren(QAbstractButton)
               if b.isVisible())
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible()


def test_what_comes_with_earthprint_stays(dialog, qtbot):
    choose(dialog, "fast")
    assert not dialog.removal.isEnabled()
    assert dialog.removal.toolTip() == "fast comes with Earthprint and cannot be removed."
    QTest.keyClick(dialog.list.tree, Qt.Key.Key_Delete)
    assert not dialog.findChildren(QMessageBox)


def test_a_file_in_the_folder_appears_and_is_removed_after_one_question(dialog, folder, qtbot):
    """Found by itself, in the toolbox too; Cancel keeps it, Remove deletes it."""
    forms = QgsApplication.processingRegistry().algorithmById

    def offered() -> list[str]:
        return forms("earthprint:encode").parameterDefinition("ENCODER").options()

    shutil.copyfile(FAST, folder / "mine.onnx")
    qtbot.waitUntil(lambda: "mine" in lines(dialog), timeout=ENGINE_MS)
    assert "mine" in offered()
    choose(dialog, "mine")
    click(dialog.removal)
    box = question(dialog, qtbot)
    assert box.text() == "Remove mine?" and "mine.onnx" in box.informativeText()
    assert box.defaultButton() is box.button(QMessageBox.StandardButton.Cancel)
    QTest.keyClick(box, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not dialog.findChildren(QMessageBox))
    assert (folder / "mine.onnx").exists()
    dialog.list.tree.setFocus()
    QTest.keyClick(dialog.list.tree, Qt.Key.Key_Delete)
    box = question(dialog, qtbot)
    click(next(b for b in box.buttons() if b.text() == "Remove"))
    qtbot.waitUntil(lambda: "mine" not in lines(dialog), timeout=ENGINE_MS)
    assert not (folder / "mine.onnx").exists() and "mine" not in offered()


def test_a_head_and_a_file_that_is_none(dialog, folder, qtbot, made):
    shutil.copyfile(made["head"], folder / "crops.head.onnx")
    (folder / "torn.onnx").write_bytes(b"not a network")
    qtbot.waitUntil(lambda: {"crops", "torn"} <= set(lines(dialog)), timeout=ENGINE_MS)
    choose(dialog, "crops")
    text = dialog.card.toPlainText()
    assert "macro F1" in text and "Classes" in text and "fast@" in text
    assert not dialog.measure.isEnabled() and dialog.removal.isEnabled()
    choose(dialog, "torn")
    assert "cannot be read" in dialog.card.toPlainText()
    assert not dialog.measure.isEnabled() and dialog.removal.isEnabled()


def test_speed_is_empty_until_measured_here(dialog, qtbot):
    """A real measurement, in the background, remembered in the profile."""
    QgsSettings().remove("earthprint/speeds")
    choose(dialog, "fast")
    line = lines(dialog)["fast"]
    assert line.text(SPEED) == "" and "Not measured" in line.toolTip(SPEED)
    click(dialog.measure)
    assert dialog.bar.isVisible() and dialog.stop.isVisible() and not dialog.measure.isEnabled()
    qtbot.waitUntil(lambda: dialog._work is None, timeout=2 * ENGINE_MS)
    assert line.text(SPEED).endswith("/s"), dialog.sentence.text()
    (measured,) = speed.remembered().values()
    assert measured.rate > 100 and measured.unit == "pixel" and measured.dates > 20
    assert "pixels a second, measured on" in dialog.card.toPlainText()
    assert not dialog.bar.isVisible() and dialog.measure.isEnabled()
    QgsSettings().remove("earthprint/speeds")


def test_measuring_can_be_stopped(dialog, qtbot):
    choose(dialog, "fast")
    click(dialog.measure)
    qtbot.wait(500)
    click(dialog.stop)
    qtbot.waitUntil(lambda: dialog._work is None, timeout=ENGINE_MS)
    assert dialog.sentence.text() == "Stopped." and dialog.measure.isEnabled()
    assert "fast" not in str(speed.remembered())


def test_unloading_while_measuring(own_engine, qtbot):
    """The plugin can go at any time; the engine goes with it."""
    choose(own_engine, "fast")
    click(own_engine.measure)
    qtbot.wait(500)
    client, season = own_engine._client, own_engine._season.name
    own_engine.discard()
    qtbot.waitUntil(lambda: client.pid is None and not os.path.exists(season), timeout=20_000)


def test_without_an_engine(plugin, folder, qtbot, no_engine, iface):
    """A sentence and the way to the set-up; nothing that cannot work can be pressed."""
    window, asked = QMainWindow(), []
    qtbot.addWidget(window)
    action = QAction("set up", window)
    action.setObjectName("earthprint_setup")
    action.triggered.connect(lambda: asked.append(True))
    dialog = ModelsDialog(window)
    dialog.show()
    assert dialog.sentence.text() == environment.NOT_SET_UP
    for button in (dialog.import_checkpoint, dialog.add_onnx, dialog.measure, dialog.removal):
        assert not button.isEnabled()
    assert dialog.open_folder.isEnabled()
    click(dialog.set_up)
    assert asked
    dialog.discard()


def test_a_dead_engine_is_replaced(dialog, qtbot):
    os.kill(dialog._client.pid, 9)
    qtbot.waitUntil(lambda: dialog._client.pid is None, timeout=5000)
    dialog.read()
    wait_for_list(dialog, qtbot)
    assert lines(dialog) and not dialog.retry.isVisible()


def test_a_failure_is_told(own_engine, qtbot, monkeypatch):
    """An engine that cannot start at all: the sentence, then Try Again."""
    dialog, real = own_engine, environment.find_python
    dialog._client.close()
    monkeypatch.setattr(environment, "find_python", lambda: Path("/nowhere/python"))
    dialog.read()
    wait_for_list(dialog, qtbot)
    assert "cannot be started" in dialog.sentence.text()
    monkeypatch.setattr(environment, "find_python", real)
    click(dialog.retry)
    wait_for_list(dialog, qtbot)
    assert "encoders and" in dialog.sentence.text() and not dialog.retry.isVisible()


def test_open_folder(dialog, folder, monkeypatch):
    shown = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: shown.append(url.toLocalFile()))
    click(dialog.open_folder)
    assert shown == [str(folder)]


def test_closing_lets_the_engine_go(own_engine, qtbot):
    dialog = own_engine
    assert dialog._client.pid is not None
    dialog._farewell.setInterval(100)
    dialog.close()
    qtbot.waitUntil(lambda: dialog._client.pid is None, timeout=10_000)
    opened(dialog, qtbot)
    assert lines(dialog)


# Import Checkpoint


@pytest.fixture
def importing(monkeypatch):
    """An engine with PyTorch: the environment for training stands in for the one of a user."""
    if not TRAIN.exists():
        pytest.skip("the environment with PyTorch is not installed (./run test makes it)")
    if not GALILEO.exists():
        pytest.skip("EARTHPRINT_SHARED has no checkpoints")
    monkeypatch.setattr(environment, "find_python", lambda: TRAIN)
    monkeypatch.setattr(environment, "can_import", lambda: True)


def checkpoint_page(dialog, path: Path | str, qtbot):
    click(dialog.import_checkpoint)
    page = dialog._dialogs["checkpoint"]
    page.file.lineEdit().setFocus()
    QTest.keyClicks(page.file.lineEdit(), str(path))
    qtbot.waitUntil(lambda: page._question is None, timeout=2 * ENGINE_MS)
    return page


def test_import_a_checkpoint(importing, dialog, folder, qtbot):
    """Galileo nano: recognised, imported, compared, listed, offered by the forms."""
    page = checkpoint_page(dialog, GALILEO, qtbot)
    assert "Galileo nano" in page.what.text() and "0 missing" in page.what.text()
    assert "Licence of the weights: MIT" in page.what.text() and not page.terms_group.isVisible()
    assert page.name.placeholderText() == "galileo-nano" and page.variant.isVisible()
    click(page.start)
    assert page.bar.isVisible() and page.stop.isVisible() and not page.page.isEnabled()
    qtbot.waitUntil(lambda: page._work is None, timeout=5 * ENGINE_MS)
    assert "galileo-nano is ready for all tools; largest difference" in page.sentence.text()
    wait_for_list(dialog, qtbot)
    assert dialog.list.current.name == "galileo-nano"
    assert (folder / "galileo-nano.onnx").exists()
    assert "galileo-nano" in parameters.encoders()
    assert "imported on" in dialog.card.toPlainText()
    page.close()


def test_another_use_of_the_same_weights(importing, dialog, qtbot):
    page = checkpoint_page(dialog, GALILEO, qtbot)
    uses = [page.variant.itemText(row) for row in range(page.variant.count())]
    other = next(row for row in range(1, len(uses)))
    page.variant.setFocus()
    QTest.keyClick(page.variant, Qt.Key.Key_Down)
    qtbot.waitUntil(lambda: page._question is None, timeout=2 * ENGINE_MS)
    assert page.variant.currentText() == uses[other]
    assert page.name.placeholderText() != "galileo-nano" and page.start.isEnabled()
    page.close()


def test_a_wrong_file_is_a_sentence(importing, dialog, folder, tmp_path, qtbot):
    torn = tmp_path / "torn.pt"
    torn.write_bytes(GALILEO.read_bytes()[:1000])
    page = checkpoint_page(dialog, torn, qtbot)
    assert "torn.pt is damaged or was cut short" in page.sentence.text()
    assert not page.start.isEnabled() and page.file.isEnabled()
    page.file.lineEdit().clear()
    QTest.keyClicks(page.file.lineEdit(), str(tmp_path / "nothing.pt"))
    assert "was not found" in page.sentence.text()
    assert not list(folder.iterdir())
    page.close()


def test_an_import_can_be_stopped(importing, dialog, folder, qtbot):
    page = checkpoint_page(dialog, GALILEO, qtbot)
    click(page.start)
    qtbot.waitUntil(lambda: page.bar.value() > 0, timeout=2 * ENGINE_MS)
    click(page.stop)
    qtbot.waitUntil(lambda: page._work is None, timeout=2 * ENGINE_MS)
    assert page.sentence.text() == "Stopped; nothing was written."
    assert not list(folder.iterdir()) and page.start.isEnabled()
    page.close()


def test_terms_are_shown_and_ticked_anew_for_each_file(importing, dialog, qtbot):
    """The look of a restricted file, as the engine gives it; no official one is in the shared data.
    """
    page = checkpoint_page(dialog, GALILEO, qtbot)
    page._show({**page._found, "terms": "For non-commercial use only."})
    assert page.terms_group.isVisible() and not page.accept_terms.isChecked()
    assert page.terms.toPlainText() == "For non-commercial use only."
    assert not page.start.isEnabled()
    QTest.mouseClick(page.accept_terms, Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    assert page.start.isEnabled() and page.job()[1]["accept_licence"] is True
    page.file.lineEdit().clear()
    assert not page.accept_terms.isChecked() and not page.terms_group.isVisible()
    assert not page.start.isEnabled()
    page.close()


def test_without_pytorch(dialog, monkeypatch):
    monkeypatch.setattr(environment, "can_import", lambda: False)
    click(dialog.import_checkpoint)
    page = dialog._dialogs["checkpoint"]
    assert "needs PyTorch" in page.sentence.text() and page.set_up.isVisible()
    assert not page.start.isEnabled() and not page.page.isEnabled()
    page.close()


# Add ONNX Model


def test_add_a_file_that_has_a_card(dialog, folder, tmp_path, qtbot):
    shutil.copyfile(FAST, tmp_path / "given.onnx")
    click(dialog.add_onnx)
    page = dialog._dialogs["onnx"]
    assert not page.start.isEnabled()
    QTest.keyClicks(page.file.lineEdit(), str(tmp_path / "given.onnx"))
    QTest.keyClicks(page._words["name"], "quick")
    click(page.start)
    qtbot.waitUntil(lambda: page._work is None, timeout=ENGINE_MS)
    wait_for_list(dialog, qtbot)
    assert (folder / "quick.onnx").exists(), page.sentence.text()
    assert "ready for all tools" in page.sentence.text()
    assert dialog.list.current.path == str(folder / "quick.onnx")


WATER = """
import sys
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

weights = np.zeros((2, 3, 1, 1), np.float32)
weights[0, 0], weights[1, 2] = 1, 1
node = helper.make_node("Conv", ["x", "w"], ["y"])
def give(name, bands):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, bands, 64, 64])
graph = helper.make_graph([node], "water", [give("x", 3)], [give("y", 2)],
                          [numpy_helper.from_array(weights, "w")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
helper.set_model_props(model, {"model_type": '"Segmentor"', "resolution": "100"})
onnx.save(model, sys.argv[1])
"""


def test_add_a_segmentation_model(dialog, folder, tmp_path, qtbot):
    """Half described by its metadata, half by the form: an encoder and a head come in."""
    file = tmp_path / "water.onnx"
    subprocess.run([str(environment.find_python()), "-c", WATER, str(file)], check=True)
    click(dialog.add_onnx)
    page = dialog._dialogs["onnx"]
    QTest.keyClicks(page.file.lineEdit(), str(file))
    page.sensor.setCurrentIndex(page.sensor.findData("sentinel-2"))
    for name, text in (("bands", "nir, red green"), ("scale", "10000"), ("classes", "dry, wet"),
                       ("licence", "MIT")):
        QTest.keyClicks(page._words[name], text)
    click(page.start)
    qtbot.waitUntil(lambda: page._work is None, timeout=ENGINE_MS)
    assert page.sentence.text() == "water and its head are ready; map with Apply head."
    wait_for_list(dialog, qtbot)
    model = dialog.list.current
    assert (model.name, model.kind, model.licence) == ("water", ENCODER, "MIT")
    assert model.sensors == "S2" and "nir red green" in dialog.card.toPlainText()
    head = next(m for m in dialog.list._models.values() if m.kind == HEAD and not m.bundled)
    assert [c["name"] for c in head.card["legend"]] == ["dry", "wet"]
    # the same name once more: refused, unless that is meant
    click(page.start)
    qtbot.waitUntil(lambda: page._work is None, timeout=ENGINE_MS)
    assert "already" in page.sentence.text() and "tick Replace" in page.sentence.text()
    page.replace.click()
    click(page.start)
    qtbot.waitUntil(lambda: page._work is None, timeout=ENGINE_MS)
    assert page.sentence.text() == "water and its head are ready; map with Apply head."
    assert not page.replace.isChecked()


def test_words_that_should_be_numbers(dialog, tmp_path):
    click(dialog.add_onnx)
    page = dialog._dialogs["onnx"]
    QTest.keyClicks(page.file.lineEdit(), str(FAST))
    assert page.start.isEnabled()
    QTest.keyClicks(page._words["mean"], "0.4 x")
    assert "0.4 x is no number. Write it like 0.485" in page.sentence.text()
    assert not page.start.isEnabled()
    page._words["mean"].clear()
    assert page.start.isEnabled() and page.sentence.text() == ""
    page.close()


def test_a_file_that_no_encoder_is(dialog, folder, tmp_path, qtbot):
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"nothing of the kind")
    click(dialog.add_onnx)
    page = dialog._dialogs["onnx"]
    QTest.keyClicks(page.file.lineEdit(), str(wrong))
    click(page.start)
    qtbot.waitUntil(lambda: page._work is None, timeout=ENGINE_MS)
    assert "wrong.onnx" in page.sentence.text() and page.page.isEnabled()
    assert not list(folder.iterdir())
    page.close()
