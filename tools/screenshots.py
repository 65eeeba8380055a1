"""Pictures of the plugin in a real QGIS window, for people to look at.

    python3 tools/screenshots.py [FOLDER] [PROJECT.qgz]

Starts QGIS on a virtual display (Xvfb, with openbox where installed), in a profile of its own, and
saves PNGs: the toolbox, the dialogs, and the project, by default the demo's. Needs only QGIS's
Python; inside QGIS the same file runs as the script of `--code`.
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
PROFILE = """[PythonPlugins]
earthprint=true
processing=true
[qgis]
checkVersion=false
[migration]
fileVersion=2
settings=true
"""


def start(here: Path, folder: Path, project: Path | None) -> int:
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

    def run(self) -> None:
        """Take all pictures, then leave without asking."""
        try:
            self._iface.mainWindow().showMaximized()
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
        if self._window_manager is not None:
            self._window_manager.terminate()
            self._window_manager.wait()
        sys.stderr.flush()
        os._exit(status)


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
    sys.exit(
        start(
            here,
            words[0] if words else here.parent.parent / "out" / "screenshots",
            words[1] if len(words) > 1 else demo if demo.exists() else None,
        )
    )
