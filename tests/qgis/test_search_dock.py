"""The search dock with real mouse and key events, its files and forms, and its looks."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from osgeo import gdal, ogr
from qgis.core import (
    Qgis,
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.gui import (
    QgsCollapsibleGroupBox,
    QgsGui,
    QgsMapCanvas,
    QgsProcessingAlgorithmDialogBase,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QPoint, Qt, QTranslator, pyqtSignal
from qgis.PyQt.QtGui import QFont, QKeySequence, QPixmap
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QAction,
    QApplication,
    QComboBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QMainWindow,
    QPlainTextEdit,
    QPushButton,
    QScrollArea,
    QTextEdit,
    QWidget,
)

from earthprint.plugin.search.dock import SearchDock
from earthprint.plugin.search.example_files import temporary
from earthprint.plugin.search.layers import encoder_of
from earthprint.plugin.search.session import (
    BUSY,
    COUNTEREXAMPLE,
    ERROR,
    EXAMPLE,
    SHARE,
    Match,
    SearchSession,
)
from earthprint.plugin.search.storage import KEY, SCOPE

gdal.UseExceptions()
ogr.UseExceptions()

LEFT = Qt.MouseButton.LeftButton
KEYS = Qt.Key
NONE, SHIFT = Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier
ANSWER = {
    "kind": "cosine", "low": 0.05, "high": 0.93,
    "thresholds": [[50, 0.05], [10, 0.4], [1, 0.71], [0.1, 0.93]],
    "hectares": [412.6 + 2 * (191 - index) for index in range(256)],
}


class Map(QObject):
    """The search on the map as the dock sees it; remembers where it was sent."""

    tool_changed = pyqtSignal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.tool_active = False
        self.flown: list[tuple[float, float]] = []
        self.retries = 0

    def activate_tool(self) -> None:
        self.tool_active = True
        self.tool_changed.emit(True)

    def leave_tool(self) -> None:
        self.tool_active = False
        self.tool_changed.emit(False)

    def fly_to(self, x: float, y: float) -> None:
        self.flown.append((x, y))

    def retry(self) -> None:
        self.retries += 1


@pytest.fixture
def layer(project, made):
    embeddings = QgsRasterLayer(made["embeddings"], "Demo season 2024")
    project.addMapLayer(embeddings)
    return embeddings


@pytest.fixture
def window(qtbot):
    made = QMainWindow()
    made.setCentralWidget(QWidget())
    made.resize(700, 1000)
    made.show()
    QApplication.setActiveWindow(made)
    yield made
    made.close()
    sip.delete(made)


@pytest.fixture
def session(project):
    return SearchSession()


@pytest.fixture
def search(qgis_app):
    return Map()


@pytest.fixture
def dock(plugin, session, search, window):
    return open_dock(session, search, window)


def open_dock(session, search, window, width=340) -> SearchDock:
    made = SearchDock(session, search, window)
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, made)
    made.setFixedWidth(width)
    QApplication.processEvents()
    return made


@pytest.fixture
def places(layer):
    """Four places on the embeddings."""
    middle = layer.extent().center()
    return [(middle.x() + dx, middle.y() + dy) for dx, dy in ((0, 0), (60, 0), (0, 90), (-90, 30))]


@pytest.fixture
def kept(dock, session, places):
    """The dock with two examples and two counterexamples."""
    for place, kind in zip(places, (EXAMPLE, EXAMPLE, COUNTEREXAMPLE, COUNTEREXAMPLE)):
        session.add(kind, *place)
    return dock


@pytest.fixture
def matches(session, layer):
    box, dice = layer.extent(), random.Random(4)
    return [
        Match(dice.uniform(box.xMinimum(), box.xMaximum()),
              dice.uniform(box.yMinimum(), box.yMaximum()), 0.95 - rank / 200, 99.99 - rank / 50)
        for rank in range(100)
    ]


@pytest.fixture(scope="module")
def picture(made, tmp_path_factory) -> str:
    """A base layer over the embeddings: red everywhere."""
    source = gdal.Open(made["embeddings"])
    path = str(tmp_path_factory.mktemp("base") / "red.tif")
    file = gdal.GetDriverByName("GTiff").Create(path, source.RasterXSize, source.RasterYSize, 3)
    file.SetGeoTransform(source.GetGeoTransform())
    file.SetProjection(source.GetProjection())
    file.GetRasterBand(1).Fill(200)
    file.FlushCache()
    return path


@pytest.fixture
def base(project, picture):
    red = QgsRasterLayer(picture, "Red")
    project.addMapLayer(red)
    return red


def click(widget, spot=None) -> None:
    QTest.mouseClick(widget, LEFT, NONE, spot or widget.rect().center())


def until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        QApplication.processEvents()
        time.sleep(0.005)


def form() -> QgsProcessingAlgorithmDialogBase:
    """The algorithm's dialog that is open."""
    (found,) = (
        widget for widget in QApplication.topLevelWidgets()
        if isinstance(widget, QgsProcessingAlgorithmDialogBase) and widget.isVisible()
    )
    return found


def run(dialog) -> dict:
    """Press Run and wait for the end; the results."""
    ended = []
    dialog.algorithmFinished.connect(lambda good, results: ended.append((good, results)))
    dialog.runAlgorithm()
    until(lambda: ended, 180)
    QApplication.processEvents()
    if not sip.isdeleted(dialog):
        dialog.close()
    assert ended[0][0]
    return ended[0][1]


def log_of(dialog) -> str:
    """What the algorithm has said."""
    return "".join(text.toPlainText() for text in dialog.findChildren(QTextEdit))


def row_of(listed, row, column=1) -> QPoint:
    return listed.visualItemRect(listed.topLevelItem(row)).center() if column == 1 else (
        listed.visualRect(listed.model().index(row, column)).center())


# Which embeddings


def test_the_topmost_visible_embeddings_are_searched(project, made, dock, session):
    assert session.layer is None and dock.chooser.need.isVisible()
    assert dock.chooser.need.text() == "No embeddings here yet."
    assert not dock.tool.isEnabled() and "first" in dock.tool.toolTip()
    hidden, above, below = (QgsRasterLayer(made["embeddings"], name) for name in "abc")
    for one in (hidden, above, below):
        project.addMapLayer(one, False)
        project.layerTreeRoot().addLayer(one)
    project.layerTreeRoot().findLayer(hidden.id()).setItemVisibilityChecked(False)
    QApplication.processEvents()
    assert session.layer is above
    assert dock.chooser.box.currentText() == "b - 128 d, 10 m"
    assert not dock.chooser.need.isVisible() and dock.tool.isEnabled()
    QTest.keyClick(dock.chooser.box, KEYS.Key_Down)
    assert dock.chooser.box.currentText().startswith("c ") and session.layer is below
    project.removeMapLayer(below.id())
    QApplication.processEvents()
    assert session.layer is above
    project.removeMapLayers([above.id(), hidden.id()])
    QApplication.processEvents()
    assert session.layer is None and dock.chooser.need.isVisible()


def test_rasters_are_encoded_first(
    project, dock, session, scenes, iface, layer, registry
):
    """A season's group is encoded by its own form; the new embeddings are searched then."""
    group = project.layerTreeRoot().addGroup("season")
    rasters = [QgsRasterLayer(path, Path(path).stem) for path in scenes[:6]]
    for raster in rasters:
        project.addMapLayer(raster, False)
        group.addLayer(raster)
    QApplication.processEvents()
    assert session.layer is layer
    box = dock.chooser.box
    box.setCurrentIndex(box.findData(rasters[2].id()))
    box.activated.emit(box.currentIndex())
    assert session.layer is None
    assert dock.chooser.need.text() == "These rasters need embeddings first."
    click(dock.chooser.encode)
    dialog = form()
    assert dialog.algorithm().id() == "earthprint:encode"
    assert sorted(dialog.createProcessingParameters()["INPUT"]) == sorted(scenes[:6])
    run(dialog)
    until(lambda: session.layer is not None)
    assert session.layer is not layer and encoder_of(session.layer)
    assert box.currentData() == session.layer.id()


def test_import_and_plus_open_their_forms(project, dock, iface, base):
    click(dock.chooser.imports)
    dialog = form()
    assert dialog.algorithm().id() == "earthprint:importembeddings"
    dialog.close()
    click(dock.chooser.more)
    dialog = form()
    assert dialog.algorithm().id() == "earthprint:encode"
    assert dialog.createProcessingParameters()["INPUT"] == [base.source()]
    dialog.close()


# Examples, undo, redo


def test_undo_and_redo_are_exact_to_both_ends(dock, session, layer):
    dice, states, texts = random.Random(7), [()], []
    while len(states) < 121:
        before = session.examples
        index = dice.randrange(len(before)) if before else 0
        step = dice.choice(("add", "add", "box", "remove", "kind", "name", "clear"))
        if step == "add":
            session.add(dice.choice((EXAMPLE, COUNTEREXAMPLE)), dice.random(), dice.random())
        elif step == "box":
            session.add(EXAMPLE, 1.5, 2.5, (1.0, 2.0, 2.0, 3.0))
        elif step == "clear" and dice.random() < 0.2:
            session.clear()
        elif before and step == "remove":
            session.remove(index)
        elif before and step == "kind":
            session.change_kind(index)
        elif before and step == "name":
            session.rename(index, str(dice.random()))
        if session.examples != before:
            states.append(session.examples)
            texts.append(session.undo_stack.undoText())
            assert [e.number for e in session.examples] == list(
                range(1, len(session.examples) + 1))
    dock.tool.setFocus()
    for count, state in enumerate(reversed(states[:-1]), 1):
        assert session.undo_stack.undoText() == texts[-count]
        QTest.keyClick(dock.tool, KEYS.Key_Z, Qt.KeyboardModifier.ControlModifier)
        assert session.examples == state
    QTest.keyClick(dock.tool, KEYS.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert session.examples == () and not session.undo_stack.canUndo()
    for state in states[1:]:
        QTest.keySequence(dock.tool, QKeySequence(QKeySequence.StandardKey.Redo))
        assert session.examples == state
    assert not session.undo_stack.canRedo()


def test_undo_redo_and_clear_by_the_buttons(kept, session):
    undo, redo, clear = kept.history
    assert undo.toolTip() == "Undo Add Counterexample 4 (Ctrl+Z)"
    before = session.examples
    click(clear)
    assert session.examples == () and not clear.isEnabled()
    assert undo.toolTip() == "Undo Remove All Examples (Ctrl+Z)"
    click(undo)
    assert session.examples == before
    click(redo)
    assert session.examples == () and not redo.isEnabled()
    click(undo)
    QTest.keyClick(undo, KEYS.Key_Y, Qt.KeyboardModifier.ControlModifier)
    assert session.examples == ()


def test_two_hundred_steps_are_kept(session, layer):
    session.set_layer(layer)
    for step in range(230):
        session.add(EXAMPLE, step, 0)
    while session.undo_stack.canUndo():
        session.undo_stack.undo()
    assert len(session.examples) == 30


def test_the_list_of_examples(kept, session, search, places):
    panel = kept.examples
    listed = panel.list
    assert panel.title() == "Examples (2 + 2)" and listed.topLevelItemCount() == 4
    text = listed.topLevelItem(0).data(0, Qt.ItemDataRole.AccessibleTextRole)
    assert text.startswith("Example 1, ") and "\u202f" in text
    click(listed.viewport(), row_of(listed, 1))
    QTest.mouseDClick(listed.viewport(), LEFT, NONE, row_of(listed, 1))
    QTest.keyClick(listed, KEYS.Key_Return)
    assert search.flown == [places[1], places[1]]
    QTest.keyClick(listed, KEYS.Key_F2)
    editor = listed.viewport().findChild(QLineEdit)
    QTest.keyClicks(editor, "Maize")
    QTest.keyClick(editor, KEYS.Key_Return)
    until(lambda: session.examples[1].name == "Maize", 5)
    assert session.undo_stack.undoText() == "Rename Example 2"
    listed.setFocus()
    QTest.keyClick(listed, KEYS.Key_X)
    assert session.examples[1].kind == COUNTEREXAMPLE and panel.title() == "Examples (1 + 3)"
    QTest.keyClick(listed, KEYS.Key_Delete)
    assert [e.number for e in session.examples] == [1, 2, 3]
    assert listed.row() == 1
    button = listed.itemWidget(listed.topLevelItem(0), 3)
    assert button.accessibleName() == "Remove Example 1" and button.width() >= 24
    click(button)
    assert panel.title() == "Examples (0 + 2)"
    QTest.keyClick(listed, KEYS.Key_Delete)
    QTest.keyClick(listed, KEYS.Key_Delete)
    QTest.keyClick(listed, KEYS.Key_Delete)
    assert session.examples == () and panel.title() == "Examples" and listed.isHidden()


def test_degrees_are_written_with_their_decimals(project, dock, session, made, tmp_path):
    path = str(tmp_path / "degrees.tif")
    gdal.Warp(path, made["embeddings"], dstSRS="EPSG:4326", resampleAlg="near")
    project.addMapLayer(QgsRasterLayer(path, "degrees"))
    QApplication.processEvents()
    assert session.layer.crs() == QgsCoordinateReferenceSystem("EPSG:4326")
    session.add(EXAMPLE, 4.25, 50.875)
    assert dock.examples.list.topLevelItem(0).text(1) == "4.25000, 50.87500"


def test_what_a_click_keeps(dock, session, layer):
    assert dock.example.isChecked()
    click(dock.counterexample, QPoint(8, dock.counterexample.height() // 2))
    assert session.keeps == COUNTEREXAMPLE
    session.set_keeps(EXAMPLE)
    assert dock.example.isChecked() and not dock.counterexample.isChecked()


def test_the_tool_button_follows_the_tool(dock, search, layer):
    QApplication.processEvents()
    click(dock.tool)
    assert search.tool_active and dock.tool.isChecked()
    search.leave_tool()
    assert not dock.tool.isChecked()
    QTest.keyClick(dock.tool, KEYS.Key_Space)
    assert search.tool_active
    click(dock.tool)
    assert not search.tool_active and not dock.tool.isChecked()


# The project's file


def test_a_project_brings_its_examples_back(
    project, kept, session, search, layer, tmp_path, window
):
    session.add(EXAMPLE, 5.5, 6.5, (5.0, 6.0, 6.0, 7.0))
    session.rename(0, "Zuckerrübe ☘")
    session.set_share(2.5)
    session.set_opacity(0.35)
    session.set_show("both")
    examples = session.examples
    assert project.isDirty()
    path = str(tmp_path / "with examples.qgz")
    assert project.write(path) and not project.isDirty()
    project.clear()
    QApplication.processEvents()
    assert session.examples == () and session.layer is None
    assert (session.share, session.opacity, session.show) == (SHARE, 0.8, "heat")
    assert project.read(path)
    QApplication.processEvents()
    assert session.examples == examples and not session.undo_stack.canUndo()
    assert (session.share, session.opacity, session.show) == (2.5, 0.35, "both")
    assert not project.isDirty()
    # and in a dock that is opened later
    second = SearchSession()
    late = SearchDock(second, search, window)
    assert second.examples == examples and second.share == 2.5
    sip.delete(late)


def test_the_layer_that_was_searched_is_searched_again(project, dock, session, made, tmp_path):
    layers = [QgsRasterLayer(made["embeddings"], name) for name in ("a", "b")]
    project.addMapLayers(layers)
    QApplication.processEvents()
    box = dock.chooser.box
    other = next(one for one in layers if one is not session.layer)
    box.setCurrentIndex(box.findData(other.id()))
    box.activated.emit(box.currentIndex())
    session.add(EXAMPLE, 1, 2)
    name, path = session.layer.name(), str(tmp_path / "p.qgz")
    project.write(path)
    project.clear()
    project.read(path)
    QApplication.processEvents()
    assert session.layer.name() == name and len(session.examples) == 1


def test_a_layer_that_comes_back_brings_its_examples(project, kept, session, layer, made):
    examples = session.examples
    project.removeMapLayer(layer.id())
    assert session.layer is None and session.examples == ()
    QApplication.processEvents()
    back = QgsRasterLayer(made["embeddings"], "another name")
    project.addMapLayer(back)
    QApplication.processEvents()
    assert session.layer is back and session.examples == examples


def test_each_layer_has_its_own_examples(project, kept, session, layer, made, tmp_path):
    copy = str(tmp_path / "copy.tif")
    Path(copy).write_bytes(Path(made["embeddings"]).read_bytes())
    examples, other = session.examples, QgsRasterLayer(copy, "copy")
    project.addMapLayer(other)
    QApplication.processEvents()
    assert session.layer is layer  # what one works on stays
    session.set_layer(other)
    assert session.examples == ()
    session.add(EXAMPLE, 1, 2)
    session.set_layer(layer)
    assert session.examples == examples
    session.set_layer(other)
    assert len(session.examples) == 1


@pytest.mark.parametrize("text", [
    "{", "[]", '{"layers": 3}', '{"layers": [{"id": "x"}, 4, null], "share": "much"}',
    '{"layers": [{"source": "SOURCE", "examples": [{"kind": "example", "x": NaN, "y": 1}, 5, '
    '{"kind": "example", "x": 1, "y": 2, "box": [1, 2]}, {"kind": "no", "x": 1, "y": 2}, '
    '{"kind": "example", "x": 3, "y": 4}]}], "share": NaN, "show": ["x"]}',
])
def test_a_damaged_entry_is_no_error(project, dock, session, made, text):
    project.writeEntry(SCOPE, KEY, text.replace("SOURCE", made["embeddings"]))
    layer = QgsRasterLayer(made["embeddings"], "again")
    project.addMapLayer(layer)
    QApplication.processEvents()
    assert session.layer is layer and session.share == SHARE
    assert [(e.x, e.y) for e in session.examples] == ([(3, 4)] if "SOURCE" in text else [])
    session.add(EXAMPLE, 1, 2)
    assert project.readEntry(SCOPE, KEY)[0] != text


def test_a_file_that_was_encoded_anew(project, kept, session, made, tmp_path):
    """The same path and layer, but another encoder's work by now."""
    path = tmp_path / "embeddings.tif"
    path.write_bytes(Path(made["embeddings"]).read_bytes())
    layer = QgsRasterLayer(str(path), "mine")
    project.addMapLayer(layer)
    session.set_layer(layer)
    session.add(EXAMPLE, 1, 2)
    before, file = encoder_of(layer), str(tmp_path / "p.qgz")
    project.write(file)
    project.clear()
    encoded = gdal.Open(str(path), gdal.GA_Update)
    encoded.SetMetadataItem("EARTHPRINT_ENCODER", "galileo-nano@1#12ab")
    encoded = None
    project.read(file)
    QApplication.processEvents()
    assert encoder_of(session.layer) == "galileo-nano@1#12ab" and session.kept_on == before


def test_examples_of_another_encoder(project, kept, session, layer, made):
    text = project.readEntry(SCOPE, KEY)[0]
    encoder = encoder_of(layer)
    assert encoder in text
    project.removeMapLayer(layer.id())
    project.writeEntry(SCOPE, KEY, text.replace(encoder, "galileo-nano@1#12ab"))
    project.addMapLayer(QgsRasterLayer(made["embeddings"], "again"))
    QApplication.processEvents()
    assert session.kept_on == "galileo-nano@1#12ab"
    assert kept.status.sentence.text() == "Examples were kept on galileo-nano@1."
    assert not kept.result.search.isEnabled() and "Read Again" in kept.result.search.toolTip()
    session.rename(0, "still of the other")
    assert "galileo-nano@1#12ab" in project.readEntry(SCOPE, KEY)[0]
    click(kept.status.read_again)
    assert session.kept_on == "" and kept.status.read_again.isHidden()
    assert encoder in project.readEntry(SCOPE, KEY)[0] and kept.result.search.isEnabled()


# View


def test_the_view_restyles_by_key_and_mouse(dock, session, layer):
    view, styled = dock.view, []
    session.style_changed.connect(lambda: styled.append(True))
    assert view.reading.text().strip() == ""
    session.set_answer(ANSWER)
    assert view.reading.text() == "cosine 0.71, 412.6 ha"
    QTest.keyClick(view.show_box, KEYS.Key_Down)
    view.show_box.activated.emit(view.show_box.currentIndex())
    assert session.show == "matches"
    QTest.keyClick(view.live, KEYS.Key_Space)
    assert not session.live
    shares = [session.share]
    for _ in range(60):
        QTest.keyClick(view.threshold, KEYS.Key_Right)
        shares.append(session.share)
        assert view.share.value() == session.share
    assert shares == sorted(shares, reverse=True) and shares[-1] == 0.1
    for _ in range(80):
        QTest.keyClick(view.threshold, KEYS.Key_Left)
    assert session.share == 50 and view.reading.text().startswith("cosine 0.05, ")
    view.share.setFocus()
    view.share.selectAll()
    QTest.keyClicks(view.share, "10")
    QTest.keyClick(view.share, KEYS.Key_Return)
    assert session.share == 10 and view.reading.text().startswith("cosine 0.40")
    assert view.threshold.value() == pytest.approx(52, abs=1)
    QTest.keyClick(view.opacity, KEYS.Key_Left)
    assert session.opacity == 0.75 and view.percent.value() == 75
    session.set_share(1.0)
    assert view.share.value() == 1.0 and view.share.text() == "top 1.0 %"
    assert styled
    session.set_answer(None)
    assert view.reading.text().strip() == ""


def test_thresholds_lie_between_those_of_the_engine(session, layer):
    session.set_layer(layer)
    assert session.threshold_cosine() is None and session.hectares() is None
    session.set_answer(ANSWER)
    cosines = []
    for share in (0.1, 0.2, 0.5, 1, 3, 10, 30, 50):
        session.set_share(share)
        cosines.append(session.threshold_cosine())
    assert cosines == sorted(cosines, reverse=True)
    assert (cosines[0], cosines[3], cosines[-1]) == pytest.approx((0.93, 0.71, 0.05))
    session.set_share(10**0.5)  # halfway on the scale of logarithms
    assert session.threshold_cosine() == pytest.approx((0.71 + 0.4) / 2)
    session.set_share(1)
    assert session.threshold_index() == 1 + round(254 * (0.71 - 0.05) / 0.88)
    session.set_answer({**ANSWER, "high": 0.05})
    assert session.threshold_index() == 255


# Matches


def test_fly_through_the_matches_by_keys(kept, session, search, matches):
    panel = kept.matches
    assert panel.list.isHidden()
    session.set_matches(matches)
    listed = panel.list
    assert panel.title() == "Matches (best 100)" and listed.count() == 100
    assert listed.item(0).text() == "#1  0.95\n> 99.9 %"
    assert listed.item(10).text() == "#11  0.90\n99.8 %"
    assert listed.item(2).data(Qt.ItemDataRole.AccessibleTextRole) == "Match 3, cosine 0.94"
    listed.setFocus()
    for key in (KEYS.Key_Down, KEYS.Key_Down, KEYS.Key_Up, KEYS.Key_End, KEYS.Key_Down):
        QTest.keyClick(listed, key)
    assert search.flown == [(matches[row].x, matches[row].y) for row in (0, 1, 0, 99)]
    assert session.current == 99
    QTest.keyClick(listed, KEYS.Key_Return)
    QTest.keyClick(listed, KEYS.Key_Return, SHIFT)
    last = matches[99]
    assert [(e.kind, e.x, e.y) for e in session.examples[-2:]] == [
        (EXAMPLE, last.x, last.y), (COUNTEREXAMPLE, last.x, last.y)]
    session.set_current(5)  # from the map
    assert listed.currentRow() == 5 and len(search.flown) == 4
    session.set_matches([])
    assert listed.isHidden() and panel.title() == "Matches"


def test_a_click_on_a_match_flies(kept, session, search, matches):
    session.set_matches(matches)
    listed = kept.matches.list
    QApplication.processEvents()
    spot = listed.visualItemRect(listed.item(1)).center()
    click(listed.viewport(), spot)
    assert session.current == 1 and search.flown == [(matches[1].x, matches[1].y)]
    click(listed.viewport(), spot)  # again, after the map was moved
    assert len(search.flown) == 2
    session.set_current(-1)
    click(listed.viewport(), spot)
    assert len(search.flown) == 3 and session.current == 1


def test_thumbnails_show_the_base_layer(project, kept, session, base, matches):
    QApplication.processEvents()
    panel = kept.matches
    assert panel.base.currentLayer() is base  # the topmost visible one that is no embeddings
    node = project.layerTreeRoot().findLayer(base.id())
    for visible in (False, True):
        node.setItemVisibilityChecked(visible)
        QApplication.processEvents()
        assert panel.base.currentLayer() is (base if visible else None)
    drawn = []
    panel._pictures.drawn.connect(lambda row, image: drawn.append(row))
    session.set_matches(matches[:12])
    until(lambda: len(drawn) == 12)
    assert drawn == list(range(12))  # one after the other
    image = panel.list.item(0).icon().pixmap(48).toImage()
    assert image.pixelColor(24, 24).name() == "#c80000"
    began = time.monotonic()
    session.set_matches(matches[:12])  # the same places again come from memory
    assert len(drawn) == 24 and time.monotonic() - began < 1


def test_a_new_list_cancels_the_pictures_of_the_old_one(project, kept, session, base, matches):
    panel, drawn = kept.matches, []
    QApplication.processEvents()
    panel._pictures.drawn.connect(lambda row, image: drawn.append(row))
    session.set_matches(matches)
    until(lambda: len(drawn) >= 2)
    began = time.monotonic()
    session.set_matches(matches[90:93])
    assert time.monotonic() - began < 0.5
    before = len(drawn)
    until(lambda: len(drawn) == before + 3)
    for _ in range(20):
        QApplication.processEvents()
        time.sleep(0.01)
    assert drawn[before:] == [0, 1, 2]


def test_the_base_layer_goes_midway(project, kept, session, base, matches, picture):
    session.set_matches(matches)
    QApplication.processEvents()
    project.removeMapLayer(base.id())
    for _ in range(30):
        QApplication.processEvents()
        time.sleep(0.01)
    assert kept.matches.base.currentLayer() is None
    # one that the analyst chooses stays, whatever is put on top
    lower, upper = QgsRasterLayer(picture, "lower"), QgsRasterLayer(picture, "upper")
    project.addMapLayer(lower)
    QApplication.processEvents()
    box = kept.matches.base
    assert box.currentLayer() is lower
    box.activated.emit(box.currentIndex())
    project.addMapLayer(upper)
    QApplication.processEvents()
    assert box.currentLayer() is lower
    assert all(box.layer(row) is not session.layer for row in range(box.count()))


# Buttons


def test_dead_buttons_say_why(dock, session, layer, places):
    result = dock.result
    QApplication.processEvents()
    for button in (result.search, result.save, result.export):
        assert not button.isEnabled() and button.toolTip() == "Keep an example first."
    session.add(EXAMPLE, *places[0])
    assert all(b.isEnabled() for b in (result.search, result.save, result.export))
    reason = "Keep at least two examples and two counterexamples first."
    for kind, place in ((EXAMPLE, places[1]), (COUNTEREXAMPLE, places[2])):
        assert not result.train.isEnabled() and result.train.toolTip() == reason
        session.add(kind, *place)
    assert not result.train.isEnabled()
    session.add(COUNTEREXAMPLE, *places[3])
    assert result.train.isEnabled() and result.train.toolTip() != reason


def test_search_the_whole_raster(kept, session, layer, places, iface, project, base):
    """With exactly these examples and this threshold, through Processing, into its history."""
    session.set_answer(ANSWER)
    click(kept.result.search)
    dialog = form()
    assert dialog.algorithm().id() == "earthprint:similaritysearch"
    given = dialog.createProcessingParameters()
    assert given["INPUT"] == [layer.source()] and given["THRESHOLD"] == pytest.approx(0.71)
    for name, wanted in (("EXAMPLES", places[:2]), ("COUNTEREXAMPLES", places[2:])):
        points = QgsVectorLayer(given[name], name, "ogr")
        assert points.crs() == layer.crs()
        found = [feature.geometry().asPoint() for feature in points.getFeatures()]
        assert [(p.x(), p.y()) for p in found] == wanted
    results = run(dialog)
    layers = {one.name().split(" ")[0] for one in project.mapLayers().values()}
    assert {"Similarity", "Matches"} <= layers
    assert kept.matches.base.currentLayer() is base  # not the results
    assert len(session.matches) == 100 and session.matches[0].cosine > session.matches[99].cosine
    assert kept.status.sentence.text() == "The matches of the whole raster are listed."
    if Qgis.QGIS_VERSION_INT >= 32400:
        entry = QgsGui.historyProviderRegistry().queryEntries(providerId="processing")[-1].entry
        assert entry["algorithm_id"] == "earthprint:similaritysearch"
        assert entry["parameters"]["inputs"]["THRESHOLD"] == pytest.approx(0.71)
        assert entry["results"]["MATCHES"] == results["MATCHES"]


def test_export_polygons(kept, session, iface, project):
    session.set_answer({**ANSWER, "thresholds": [[1, 0.3]]})
    click(kept.result.export)
    dialog = form()
    results = run(dialog)
    assert sorted(name for name in results if results[name]) == ["POLYGONS"]
    areas = next(one for one in project.mapLayers().values() if one.name().startswith("Areas"))
    assert areas.featureCount() and "area_ha" in areas.fields().names()


def test_train_a_head_with_examples_as_classes(kept, session, layer, iface, tmp_path):
    dice = random.Random(3)
    box = layer.extent()
    for kind in (EXAMPLE, COUNTEREXAMPLE) * 8:
        session.add(kind, dice.uniform(box.xMinimum(), box.xMaximum()),
                    dice.uniform(box.yMinimum(), box.yMaximum()))
    click(kept.result.train)
    dialog = form()
    assert dialog.algorithm().id() == "earthprint:trainhead"
    given = dialog.createProcessingParameters()
    assert given["INPUT"] == [layer.source()] and given["FIELD"] == "kind"
    labels = QgsVectorLayer(given["LABELS"], "labels", "ogr")
    assert [f["kind"] for f in labels.getFeatures()] == [e.kind for e in session.examples]
    results = run(dialog)
    assert Path(results["OUTPUT"]).is_file()


def test_points_beside_boxes_stay_their_own_pixels(session, layer, places, plugin, tmp_path):
    """A box makes all of them polygons; what is found for the points does not change by that."""
    import processing

    session.set_layer(layer)
    for place in places:
        session.add(EXAMPLE, *place)
    x, y = places[0]
    session.add(EXAMPLE, x, y, (x - 30, y - 30, x + 30, y + 30))
    assert QgsVectorLayer(temporary(session.examples[:4], layer, "a"), "a", "ogr").geometryType() \
        != QgsVectorLayer(temporary(session.examples, layer, "b"), "b", "ogr").geometryType()
    shapes = QgsVectorLayer(temporary(session.examples, layer, "c"), "c", "ogr")
    only = shapes.clone()
    only.setSubsetString('"order" < 5')
    found = []
    for given in (temporary(session.examples[:4], layer, "d"), only):
        output = str(tmp_path / f"{len(found)}.gpkg")
        processing.run("earthprint:similaritysearch", {
            "INPUT": [layer.source()], "EXAMPLES": given, "K": 20, "SIMILARITY": None,
            "MATCHES": output})
        found.append([f.attributes()[1:] for f in QgsVectorLayer(output).getFeatures()])
    assert found[0] == found[1] and len(found[0]) == 20


def test_save_examples(kept, session, layer, places, project, tmp_path, monkeypatch):
    session.rename(2, "Wiese")
    path = tmp_path / "mine"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    click(kept.result.save)
    saved = next(one for one in project.mapLayers().values() if one.name() == "mine")
    assert [(f["kind"], f["name"] or "", f["order"]) for f in saved.getFeatures()] == [
        (e.kind, e.name, e.number) for e in session.examples]
    assert saved.crs() == layer.crs() and path.with_suffix(".gpkg").is_file()
    assert kept.status.sentence.text() == "Saved the examples in mine.gpkg."
    path = tmp_path / "no folder" / "mine.geojson"
    click(kept.result.save)
    assert kept.status.sentence.text() == (
        "mine.geojson cannot be written. Choose another folder.")
    assert session.status_kind == ERROR and session.details


def test_a_running_search_can_be_stopped(kept, session, iface):
    assert not kept.stop_search()
    click(kept.result.search)
    dialog = form()
    assert not kept.stop_search()  # the form is open, nothing runs
    dialog.runAlgorithm()
    assert kept.stop_search()
    until(lambda: not dialog.cancelButton().isEnabled() and "Stopped" in log_of(dialog))
    dialog.close()
    assert session.matches == []


# Status


def test_waiting_shows_a_bar_after_a_while(dock, session, layer):
    QApplication.processEvents()
    session.set_status("Opening the embeddings…", BUSY)
    assert dock.status.bar.isHidden()
    until(lambda: not dock.status.bar.isHidden(), 5)
    session.set_status("Ready.")
    assert dock.status.bar.isHidden() and dock.status.sentence.text() == "Ready."


def test_an_error_has_details_and_another_try(dock, session, search, layer):
    QApplication.processEvents()
    session.set_status("`emb.tif` is damaged.", ERROR, "line 1\nline 2")
    status = dock.status
    assert status.retry.isVisible() and status.details.isVisible()
    click(status.retry)
    assert search.retries == 1
    click(status.details)
    dialog = QApplication.activeWindow()
    assert "line 2" in dialog.findChild(QPlainTextEdit).toPlainText()
    click(next(b for b in dialog.findChildren(QPushButton) if b.text() == "Copy"))
    assert QApplication.clipboard().text() == "`emb.tif` is damaged.\n\nline 1\nline 2"
    dialog.close()
    session.set_status("Ready.")
    assert not status.retry.isVisible() and not status.details.isVisible()


def test_without_an_engine_the_set_up_is_offered(
    project, session, search, window, no_engine, monkeypatch, layer
):
    asked = []
    action = QAction(window)
    action.setObjectName("earthprint_setup")
    action.triggered.connect(lambda: asked.append(True))
    dock = open_dock(session, search, window)
    dock.status.look_at_engine()
    assert "Set Up Environment" in dock.status.sentence.text()
    click(dock.status.set_up)
    assert asked == [True]
    monkeypatch.undo()
    dock.status.look_at_engine()
    assert dock.status.set_up.isHidden() and search.retries == 1


# Looks and access


class Longer(QTranslator):
    """A language whose words are 40 % longer."""

    def translate(self, context, text, disambiguation=None, n=-1):
        if context != "Earthprint" or not text:
            return None
        return text + "~" * round(0.4 * len(text.replace("&", "")) + 0.5)


@pytest.fixture
def longer(qgis_app):
    words = Longer()
    QApplication.installTranslator(words)
    yield
    QApplication.removeTranslator(words)


def fill(session, layer, matches, places=((1, 2), (3, 4))) -> None:
    session.set_layer(layer)
    for place, kind in zip(places, (EXAMPLE, COUNTEREXAMPLE) * 2):
        session.add(kind, *place)
    session.rename(1, "Maize by the river")
    session.set_matches(matches)
    session.set_answer(ANSWER)
    session.set_status("`emb.tif` is damaged at tile 118 of 400. Encode it again.", ERROR, "x")


def cut(dock) -> list[str]:
    """Texts of labels and buttons that do not fit where they stand."""
    found = []
    for widget in dock.findChildren((QLabel, QAbstractButton)):
        if not widget.isVisible() or not widget.text() or widget.parent() is dock:
            continue
        wraps = isinstance(widget, QLabel) and widget.wordWrap()
        if not wraps and widget.width() < widget.minimumSizeHint().width():
            found.append(widget.text())
    for box in dock.findChildren(QComboBox):
        if box.isVisible() and box is dock.view.show_box:
            texts = [box.fontMetrics().horizontalAdvance(box.itemText(i))
                     for i in range(box.count())]
            if box.width() < max(texts) + 20:
                found.append(box.currentText())
    return found


@pytest.mark.parametrize(("points", "width"), [(8, 280), (10, 340), (12, 400)])
@pytest.mark.parametrize("height", [1000, 600])
def test_longer_texts_fit(
    longer, session, search, window, layer, places, matches, points, width, height
):
    font = QFont(QApplication.font())
    font.setPointSize(points)
    before = QApplication.font()
    QApplication.setFont(font)
    try:
        window.resize(width + 300, height)
        dock = open_dock(session, search, window, width)
        fill(session, layer, matches, places)
        for _ in range(5):
            QApplication.processEvents()
        area = dock.findChild(QScrollArea)
        assert dock.view.live.text().endswith("~~")
        assert area.widget().width() <= area.viewport().width()
        assert area.widget().minimumSizeHint().width() <= area.viewport().width()
        assert dock.minimumSizeHint().width() <= width
        assert cut(dock) == []
    finally:
        QApplication.setFont(before)


def controls(dock) -> list[QWidget]:
    """What can be worked with now."""
    return [
        widget for widget in dock.widget().findChildren(QWidget)
        if widget.isVisible() and widget.isEnabled()
        and widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        and not isinstance(widget, QgsCollapsibleGroupBox)
        and not isinstance(widget.parent(), (QComboBox, QAbstractSpinBox))
    ]


def test_every_control_is_reached_by_tab(kept, session, matches, base, layer):
    fill(session, layer, matches)
    QApplication.processEvents()
    wanted = set(map(id, controls(kept)))
    expected = [
        kept.chooser.box, kept.chooser.more, kept.tool, *kept.history[:1], kept.examples.list,
        kept.view.show_box, kept.view.live, kept.view.threshold, kept.view.share,
        kept.view.opacity, kept.view.percent, kept.matches.base, kept.matches.list,
        kept.result.search, kept.result.save, kept.result.export, kept.result.train,
        kept.status.retry, kept.status.details,
    ]
    for widget in expected:
        assert id(widget) in wanted, widget.accessibleName()
    reached, order = set(), []
    kept.chooser.box.setFocus()
    for _ in range(80):
        focused = QApplication.focusWidget()
        if focused is not None and id(focused) not in reached:
            reached.add(id(focused))
            order.append(focused)
        QTest.keyClick(focused, KEYS.Key_Tab)
    assert [w.accessibleName() for w in expected if id(w) not in reached] == []
    places = [order.index(widget) for widget in expected]
    assert places == sorted(places)  # from top to bottom


def test_names_mnemonics_and_buddies(kept, session, matches, base, layer):
    fill(session, layer, matches)
    QApplication.processEvents()
    for widget in controls(kept):
        assert widget.accessibleName(), widget
        assert widget.toolTip() or widget is kept.examples.list, widget.accessibleName()
    letters = []
    for widget in kept.findChildren((QLabel, QAbstractButton)):
        sequence = QKeySequence.mnemonic(widget.text())
        if not sequence.isEmpty():
            letters.append(sequence.toString())
    assert len(letters) == len(set(letters)) >= 17, sorted(letters)
    assert "Alt+E" in letters
    buddies = {label.buddy() for label in kept.findChildren(QLabel) if label.buddy()}
    assert {kept.chooser.box, kept.view.show_box, kept.view.threshold, kept.view.opacity,
            kept.matches.base} <= buddies


def test_targets_can_be_hit(kept):
    for button in (*kept.history, kept.chooser.more, kept.tool):
        assert min(button.width(), button.height()) >= 24


def test_it_can_be_painted_in_all_states(kept, session, matches, base):
    for state in ({}, ANSWER):
        session.set_answer(state or None)
        session.set_matches(matches if state else [])
        for direction in (Qt.LayoutDirection.RightToLeft, Qt.LayoutDirection.LeftToRight):
            kept.setLayoutDirection(direction)
            picture = QPixmap(kept.size())
            kept.render(picture)
            assert not picture.isNull()


def test_updates_leave_the_focus_where_it_is(kept, session, window, matches, base):
    canvas = window.centralWidget()
    canvas.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    canvas.setFocus()
    session.set_answer(ANSWER)
    session.set_matches(matches)
    session.set_current(3)
    session.add(EXAMPLE, 1, 2)
    session.remove(0)
    session.set_status("x", ERROR, "y")
    session.clear()
    QApplication.processEvents()
    assert QApplication.focusWidget() is canvas


def test_project_closed_midway(project, kept, session, base, matches):
    session.set_matches(matches)
    QApplication.processEvents()
    project.clear()
    for _ in range(20):
        QApplication.processEvents()
        time.sleep(0.01)
    assert session.layer is None and session.matches == []
    assert kept.chooser.box.count() == 0


def test_discard_leaves_nothing(project, session, search, window, layer, base, matches):
    dock = open_dock(session, search, window)
    fill(session, layer, matches)
    QApplication.processEvents()
    dock.discard()
    QgsApplication.sendPostedEvents(None, 52)  # deferred deletion
    assert sip.isdeleted(dock)
    session.add(EXAMPLE, 1, 2)
    session.set_matches(matches[:3])
    project.addMapLayer(QgsRasterLayer(layer.source(), "later"))
    for _ in range(10):
        QApplication.processEvents()
        time.sleep(0.01)
    assert QgsProject.instance().mapLayers()


# With the search on the map itself


class Qgis3:
    """QGIS's window as far as the search touches it."""

    def __init__(self, window, canvas) -> None:
        self._window, self._canvas, self._pan = window, canvas, QAction(window)

    def mainWindow(self):
        return self._window

    def mapCanvas(self):
        return self._canvas

    def mapCanvases(self):
        return [self._canvas]

    def actionPan(self):
        return self._pan

    def addTabifiedDockWidget(self, area, dock, _with, _raise):
        self._window.addDockWidget(area, dock)

    def removeDockWidget(self, dock):
        self._window.removeDockWidget(dock)

    def __getattr__(self, name):  # toolbar and shortcuts, which are not looked at here
        return lambda *_: True


@pytest.fixture
def live(plugin, window, layer, project):
    """The real search with its dock open, on a canvas that shows the embeddings."""
    from earthprint.plugin.search.search import SimilaritySearch

    project.setCrs(layer.crs())
    canvas = QgsMapCanvas(window)
    canvas.setFixedSize(300, 300)
    canvas.setDestinationCrs(layer.crs())
    window.setCentralWidget(canvas)
    canvas.setExtent(layer.extent())
    found = SimilaritySearch(Qgis3(window, canvas))
    found.action.trigger()
    until(lambda: found.link.ready)
    yield found
    found.discard()


def test_from_a_click_on_the_map_to_a_walk_through_the_matches(live, layer):
    dock, session = live.dock, live.session
    canvas = live.link.canvas
    assert session.layer is layer and dock.tool.isChecked()
    QTest.mouseMove(canvas.viewport(), QPoint(150, 150))
    click(canvas.viewport(), QPoint(150, 150))
    until(lambda: len(session.matches) > 3)
    listed = dock.matches.list
    assert listed.count() == len(session.matches) and session.matches[0].cosine > 0.9
    assert dock.view.reading.text().startswith("cosine ")
    assert dock.examples.title() == "Examples (1 + 0)"
    walked = list(session.matches)
    listed.setFocus()
    for rank in range(3):
        QTest.keyClick(listed, KEYS.Key_Down)
        middle = canvas.center()
        assert (middle.x(), middle.y()) == pytest.approx((walked[rank].x, walked[rank].y))
        until(lambda: live.link.ready)
        for _ in range(60):
            QApplication.processEvents()
            time.sleep(0.01)
        assert session.matches == walked and session.current == rank
    QTest.keyClick(listed, KEYS.Key_Return, SHIFT)
    assert session.examples[-1].kind == COUNTEREXAMPLE
    until(lambda: session.answer["kind"] == "linear head")
    click(dock.tool)
    assert not live.tool_active
