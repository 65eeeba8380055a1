"""Pictures of the plugin in a real QGIS window, for people to look at.

    python3 tools/screenshots.py [FOLDER] [PROJECT.qgz]
    python3 tools/screenshots.py search     # the similarity search, into docs/images
    python3 tools/screenshots.py labels     # labelling in the middle of a round, into docs/images

Starts QGIS on a virtual display (Xvfb, with openbox where installed), in a profile of its own, and
saves PNGs: the toolbox, the dialogs, and the project, by default the demo's. Needs only QGIS's
Python; inside QGIS the same file runs as the script of `--code`. The search is also filmed; the
engine's Python makes the film, as it has Pillow.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZE = (1600, 900)
LONGEST_S = 120
FILM_WIDTH, FILM_COLOURS = 640, 80
PROFILE = """[PythonPlugins]
earthprint=true
processing=true
[qgis]
checkVersion=false
[migration]
fileVersion=2
settings=true
"""


def start(here: Path, folder: Path, project: Path | None, part: str = "") -> int:
    """Run QGIS on a virtual display; QGIS's exit status, 124 when it did not come to an end."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="earthprint-") as place:
        profile = Path(place) / "profiles" / "default" / "QGIS" / "QGIS3.ini"
        profile.parent.mkdir(parents=True)
        profile.write_text(PROFILE, encoding="utf-8")
        variables = {
            **os.environ,
            "QGIS_PLUGINPATH": str(here.parent.parent / "build" / "plugins"),
            "QGIS_CUSTOM_CONFIG_PATH": place,
            "XDG_RUNTIME_DIR": place,
            "EARTHPRINT_PICTURES": str(folder.resolve()),
            "EARTHPRINT_PROJECT": str(project.resolve()) if project else "",
            "EARTHPRINT_PART": part,
        }
        variables.pop("QT_QPA_PLATFORM", None)
        qgis = subprocess.Popen(
            ["xvfb-run", "-a", "-s", f"-screen 0 {SIZE[0]}x{SIZE[1]}x24 -nolisten tcp",
             "qgis", "--nologo", "--noversioncheck", "--code", str(here)],
            env=variables, start_new_session=True,
        )
        try:
            return qgis.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(qgis.pid, signal.SIGKILL)
            qgis.wait()
            return 124


def film(folder: Path, target: Path) -> None:
    """Join frames called NUMBER_MILLISECONDS.png to an animated GIF with one palette."""
    from PIL import Image

    paths = sorted(folder.glob("*.png"))
    frames = [Image.open(path).convert("RGB") for path in paths]
    strip = Image.new("RGB", (frames[0].width, 8 * frames[0].height))
    for place in range(8):  # colours of the whole film
        strip.paste(frames[place * (len(frames) - 1) // 7], (0, place * frames[0].height))
    palette = strip.quantize(  # the octree keeps rare bright colours
        FILM_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    )
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [int(path.stem.split("_")[1]) for path in paths]
    frames[0].save(target, save_all=True, append_images=frames[1:], duration=times, loop=0)


def search(here: Path, folder: Path, project: Path) -> int:
    """The similarity search on the demo: search.png and search.gif in a folder."""
    sys.path.insert(0, str(here.parent.parent / "build" / "plugins"))
    from earthprint.engine import environment

    with tempfile.TemporaryDirectory(prefix="earthprint-") as frames:
        os.environ["EARTHPRINT_FRAMES"] = frames
        status = start(here, folder, project, "search")
        if status == 0:
            status = subprocess.run(
                [str(environment.find_python()), str(here), "film", frames,
                 str(folder / "search.gif")], check=False,
            ).returncode
    return status


class Session:
    """Runs inside QGIS: opens one thing after the other and takes a picture of each."""

    def __init__(self, iface: object, folder: Path, project: str) -> None:
        self._iface, self._folder, self._project = iface, folder, project
        self._window_manager = None
        if shutil.which("openbox"):
            self._window_manager = subprocess.Popen(
                ["openbox"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def wait(self, seconds: float) -> None:
        """Let QGIS work."""
        from qgis.PyQt.QtWidgets import QApplication

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.02)

    def save(self, name: str) -> None:
        """A picture of the whole screen."""
        from qgis.PyQt.QtWidgets import QApplication

        self.wait(1.0)
        QApplication.primaryScreen().grabWindow(0).save(str(self._folder / f"{name}.png"))

    def toolbox(self) -> None:
        """The provider's group, opened; then what a search for maize finds."""
        from qgis.PyQt.QtCore import Qt
        from qgis.PyQt.QtWidgets import QDockWidget, QLineEdit, QTreeView

        window = self._iface.mainWindow()
        dock = window.findChild(QDockWidget, "ProcessingToolbox")
        dock.show()
        dock.raise_()
        window.resizeDocks([dock], [420], Qt.Orientation.Horizontal)
        self.wait(1.0)
        tree, search = dock.findChild(QTreeView), dock.findChild(QLineEdit)
        model = tree.model()
        for row in range(model.rowCount()):
            index = model.index(row, 0)
            if index.data() == "Earthprint":
                tree.setExpanded(index, True)
                for child in range(model.rowCount(index)):
                    tree.setExpanded(model.index(child, 0, index), True)
                tree.scrollTo(index, QTreeView.ScrollHint.PositionAtTop)
        self.save("toolbox")
        search.setText("maize")
        self.save("toolbox_search")
        search.clear()
        dock.hide()

    def dialog(self, name: str) -> None:
        """An algorithm's dialog, basic and with the advanced part open."""
        import processing
        from qgis.PyQt.QtWidgets import QGroupBox

        dialog = processing.createAlgorithmDialog(f"earthprint:{name}")
        dialog.show()
        dialog.move(200, 60)
        self.save(f"dialog_{name}")
        dialog.findChild(QGroupBox, "grpAdvanced").setProperty("collapsed", False)
        dialog.resize(dialog.width(), SIZE[1] - 120)
        self.save(f"dialog_{name}_advanced")
        dialog.close()

    def plugin_dialogs(self) -> None:
        """Set-up, documents and About, opened from the menu."""
        from qgis.PyQt.QtCore import QTimer
        from qgis.PyQt.QtWidgets import QAction, QApplication

        for name in ("setup", "documentation"):
            self._iface.mainWindow().findChild(QAction, f"earthprint_{name}").trigger()
            self.save(name)
            QApplication.activeWindow().close()
            self.wait(0.3)

        def look() -> None:
            self.save("about")
            QApplication.activeModalWidget().close()

        QTimer.singleShot(500, look)
        self._iface.mainWindow().findChild(QAction, "earthprint_about").trigger()

    def map(self) -> None:
        """The project, with its layers in view."""
        if not self._project or not Path(self._project).exists():
            return
        from qgis.PyQt.QtCore import Qt
        from qgis.PyQt.QtWidgets import QDockWidget

        window = self._iface.mainWindow()
        window.findChild(QDockWidget, "Browser").hide()
        window.resizeDocks(
            [window.findChild(QDockWidget, "Layers")], [320], Qt.Orientation.Horizontal
        )
        self._iface.addProject(self._project)
        self.wait(2.0)
        self._iface.mapCanvas().zoomToFullExtent()
        self.wait(3.0)
        self.save("map")

    def search(self) -> None:
        """Hover, keep two fields of sugar beet, reject one of potatoes, look at the matches."""
        from qgis.core import QgsProject
        from qgis.PyQt.QtCore import QObject, Qt
        from qgis.PyQt.QtWidgets import QAction, QDockWidget

        window = self._iface.mainWindow()
        window.findChild(QDockWidget, "Browser").hide()
        self._iface.addProject(self._project)
        self.wait(2.0)
        project = QgsProject.instance()
        (labels,) = project.mapLayersByName("Labelled samples")
        for node in project.layerTreeRoot().findLayers():
            node.setItemVisibilityChecked(node.name().startswith("Sentinel-2"))
            node.setExpanded(False)
        window.findChild(QAction, "earthprint_search").trigger()
        window.resizeDocks(
            [window.findChild(QDockWidget, "Layers"),
             window.findChild(QDockWidget, "earthprint_search_dock")],
            [230, 330], Qt.Orientation.Horizontal,
        )
        self.wait(1.0)
        self._iface.mapCanvas().zoomToFullExtent()
        search = window.findChild(QObject, "earthprint_similarity_search")
        actor = Actor(self, search)
        actor.wait_for(lambda: search.link.ready)
        places = {}
        for feature in labels.getFeatures():
            middle = feature.geometry().pointOnSurface().asPoint()
            places.setdefault(feature["crop"], []).append(actor.spot(middle))
        beet, potato = places["sugar beet"], places["potato"]
        actor.hover(places["water"][0], film=False)  # loads what the engine needs
        actor.click(beet[0], film=False)
        actor.click(potato[0], reject=True, film=False)
        search.session.clear()
        search.session.undo_stack.clear()
        actor.hover(places["water"][0])
        for crop, steps in (("rapeseed", 5), ("winter wheat", 5), ("sugar beet", 5)):
            actor.glide(places[crop][0], steps)
            actor.frame(700)
        actor.click(beet[0])
        actor.glide(beet[1], 3)
        actor.click(beet[1])
        actor.glide(potato[0], 3)
        actor.click(potato[0], reject=True)
        actor.leave()
        self.wait(2.0)  # thumbnails
        actor.frame(1500)
        self.save("search")
        search.session.set_show("matches")
        search.session.set_share(5.0)
        actor.frame(2500)

    def labels(self) -> None:
        """Map the demo's crops, have places suggested, label some of them."""
        import processing
        from qgis.core import QgsProject
        from qgis.PyQt.QtCore import QObject, Qt
        from qgis.PyQt.QtWidgets import QAction, QDockWidget

        window, project = self._iface.mainWindow(), QgsProject.instance()
        window.findChild(QDockWidget, "Browser").hide()
        self._iface.addProject(self._project)
        self.wait(2.0)
        for node in project.layerTreeRoot().findLayers():
            node.setItemVisibilityChecked(node.name().startswith("Sentinel-2"))
            node.setExpanded(False)
        demo = Path(self._project).parent
        processing.runAndLoadResults("earthprint:cropclassification", {
            "INPUT": [str(demo / "embeddings.tif")], "LABELS": str(demo / "labels.gpkg"),
            "FIELD": "crop", "OUTPUT": "TEMPORARY_OUTPUT",
        })
        window.findChild(QAction, "earthprint_labels").trigger()
        window.resizeDocks(
            [window.findChild(QDockWidget, "Layers"),
             window.findChild(QDockWidget, "earthprint_labels_dock")],
            [260, 340], Qt.Orientation.Horizontal,
        )
        labelling = window.findChild(QObject, "earthprint_labelling")
        dock = labelling.dock
        dock.suggest.click()
        for _ in range(600):
            self.wait(0.1)
            if labelling.places is not None:
                break
        for _ in range(6):  # as if the map were right
            predicted = labelling.places.feature(labelling.index)["predicted"]
            names = [button.accessibleName() for button in dock.classes]
            dock.classes[names.index(predicted)].click()
            self.wait(0.2)
        dock.hide_map.click()
        self.wait(2.0)
        self.save("labels")
        dock.map_again.click()
        for _ in range(600):
            self.wait(0.1)
            if dock.report.isVisible() or not dock.stop.isVisible():
                break
        self._iface.mapCanvas().zoomToFullExtent()
        self.wait(2.0)
        if os.environ.get("EARTHPRINT_LOOK"):  # for the eyes of whoever changes the dock
            self.save("labels_after")

    def run(self) -> None:
        """Take all pictures, or those of one part, then leave without asking."""
        try:
            self._iface.mainWindow().showMaximized()
            part = os.environ.get("EARTHPRINT_PART")
            if part:
                {"search": self.search, "labels": self.labels}[part]()
                self.leave(0)
            self.toolbox()
            for name in ("cropclassification", "buildstack"):
                self.dialog(name)
            self.plugin_dialogs()
            self.map()
            status = 0
        except Exception:  # the window must close whatever happened
            import traceback

            sys.stderr.write(traceback.format_exc())
            status = 1
        self.leave(status)

    def leave(self, status: int) -> None:
        """End QGIS with an exit status, without a question about the project."""
        if self._window_manager is not None:
            self._window_manager.terminate()
            self._window_manager.wait()
        sys.stderr.flush()
        os._exit(status)


class Actor:
    """Moves the mouse over the map as a person would, and films it.

    Args:
        session: gives QGIS time.
        search: the plugin's search.
    """

    def __init__(self, session: Session, search: object) -> None:
        self._session, self._search = session, search
        self._folder = Path(os.environ["EARTHPRINT_FRAMES"])
        self._frames = 0
        self._at = (0, 0)

    def wait_for(self, condition: object) -> None:
        """Let QGIS work until something is so, half a minute at most."""
        end = time.monotonic() + 30
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError("The search did not answer in time.")
            self._session.wait(0.02)

    def spot(self, point: object) -> tuple[int, int]:
        """Pixel of the canvas of a place in the project's coordinates."""
        at = self._search.link.canvas.getCoordinateTransform().transform(point)
        return round(at.x()), round(at.y())

    def _send(self, kind: str, button: str = "NoButton", held: str = "NoModifier") -> None:
        from qgis.PyQt.QtCore import QEvent, QPoint, Qt
        from qgis.PyQt.QtGui import QMouseEvent
        from qgis.PyQt.QtWidgets import QApplication

        port, spot = self._search.link.canvas.viewport(), QPoint(*self._at)
        key = getattr(Qt.MouseButton, button)
        QApplication.sendEvent(port, QMouseEvent(
            getattr(QEvent.Type, kind), spot, port.mapToGlobal(spot), key,
            key if kind == "MouseButtonPress" else Qt.MouseButton.NoButton,
            getattr(Qt.KeyboardModifier, held),
        ))

    def _settle(self) -> None:
        self.wait_for(lambda: not self._search.link.busy)
        self._session.wait(0.1)

    def hover(self, spot: tuple[int, int], film: bool = True) -> None:
        """Move to a place."""
        self._at = spot
        self._send("MouseMove")
        self._settle()
        if film:
            self.frame(90)

    def glide(self, spot: tuple[int, int], steps: int) -> None:
        """Move to a place step by step."""
        (x, y), (right, down) = self._at, spot
        for step in range(1, steps + 1):
            part = step / steps
            self.hover((round(x + part * (right - x)), round(y + part * (down - y))))

    def click(self, spot: tuple[int, int], reject: bool = False, film: bool = True) -> None:
        """Keep a place, or reject it."""
        held = "ControlModifier" if reject else "NoModifier"
        self.hover(spot, film=False)
        self._send("MouseButtonPress", "LeftButton", held)
        self._send("MouseButtonRelease", "LeftButton", held)
        self._settle()
        if film:
            self._session.wait(1.0)  # thumbnails
            self.frame(1200)

    def leave(self) -> None:
        """Move off the map."""
        from qgis.PyQt.QtCore import QEvent
        from qgis.PyQt.QtWidgets import QApplication

        QApplication.sendEvent(self._search.link.canvas.viewport(), QEvent(QEvent.Type.Leave))
        self._at = (-100, -100)
        self._settle()

    def frame(self, milliseconds: int) -> None:
        """A picture of canvas and dock, with the cursor."""
        from qgis.PyQt.QtCore import QPoint, Qt
        from qgis.PyQt.QtGui import QColor, QPainter, QPen
        from qgis.PyQt.QtWidgets import QApplication

        self._session.wait(0.05)
        canvas, dock = self._search.link.canvas, self._search.dock
        left = canvas.getCoordinateTransform().transform(
            self._search.session.layer.extent().xMinimum(), 0.0
        ).x()
        left = max(0, round(left) - 16)  # no film of the margin
        corner = canvas.mapToGlobal(QPoint(left, 0))
        right = dock.mapToGlobal(QPoint(dock.width(), 0)).x()
        picture = QApplication.primaryScreen().grabWindow(
            0, corner.x(), corner.y(), right - corner.x(), canvas.height()
        )
        painter = QPainter(picture)
        x, y = self._at[0] - left, self._at[1]
        for colour, width in (("black", 5), ("white", 2)):
            painter.setPen(QPen(QColor(colour), width))
            painter.drawLine(x - 12, y, x + 12, y)
            painter.drawLine(x, y - 12, x, y + 12)
        painter.end()
        picture.scaledToWidth(FILM_WIDTH, Qt.TransformationMode.SmoothTransformation).save(
            str(self._folder / f"{self._frames:03}_{milliseconds}.png")
        )
        self._frames += 1


if "EARTHPRINT_PICTURES" in os.environ:
    from qgis.PyQt.QtCore import QTimer
    from qgis.utils import iface

    session = Session(
        iface, Path(os.environ["EARTHPRINT_PICTURES"]), os.environ["EARTHPRINT_PROJECT"]
    )
    QTimer.singleShot(1500, session.run)
elif __name__ == "__main__":
    here = Path(__file__).resolve()
    words = [Path(word) for word in sys.argv[1:]]
    demo = here.parent.parent / "out" / "demo" / "project.qgz"
    if sys.argv[1:2] == ["film"]:
        sys.exit(film(*words[1:]))
    if sys.argv[1:] == ["search"]:
        sys.exit(search(here, here.parent.parent / "docs" / "images", demo))
    if sys.argv[1:] == ["labels"]:
        sys.exit(start(here, here.parent.parent / "docs" / "images", demo, "labels"))
    sys.exit(
        start(
            here,
            words[0] if words else here.parent.parent / "out" / "screenshots",
            words[1] if len(words) > 1 else demo if demo.exists() else None,
        )
    )
