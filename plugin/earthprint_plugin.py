"""The plugin as QGIS sees it: registers the provider, fills the menu, leaves nothing behind."""

from __future__ import annotations

from qgis.core import Qgis, QgsApplication, QgsSettings
from qgis.PyQt.QtWidgets import QAction, QMessageBox, QPushButton

from ..engine import environment
from ..engine.client import close_shared_client
from ..processing_provider.identity import icon, metadata
from ..processing_provider.provider import EarthprintProvider
from ..processing_provider.translation import tr
from .demo import DemoProject
from .documents import DocumentsDialog
from .labels.labelling import Labelling
from .models.dialog import ModelsDialog
from .search.search import SimilaritySearch
from .setup_dialog import SetUpDialog

MENU = "Earthprint"
WELCOMED = "earthprint/welcomed"


class EarthprintPlugin:
    """Made by `classFactory`.

    Args:
        iface: QGIS's window, None in `qgis_process`.
    """

    def __init__(self, iface) -> None:
        self._iface = iface
        self._provider = None
        self._actions = []
        self._dialogs = {}
        self._search = None
        self._parts = ()  # what has an action of its own
        self._welcome = None

    def initProcessing(self) -> None:
        """Register the provider; all that `qgis_process` calls."""
        if self._provider is None:
            self._provider = EarthprintProvider()
            QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:
        """Register the provider, add Plugins > Earthprint, the search's and the labels' button."""
        self.initProcessing()
        self._search = SimilaritySearch(self._iface)
        self._parts = (
            self._search, Labelling(self._iface), DemoProject(self._iface, self._search)
        )
        for part in self._parts:
            self._iface.addPluginToMenu(MENU, part.action)
        for name, text, slot in (
            ("models", tr("Models…"), self.show_models),
            ("setup", tr("Set Up Environment…"), self.set_up),
            ("documentation", tr("Documentation"), self.show_documentation),
            ("about", tr("About Earthprint…"), self.show_about),
        ):
            action = QAction(icon("earthprint"), text, self._iface.mainWindow())
            action.setObjectName(f"earthprint_{name}")
            action.triggered.connect(slot)
            self._iface.addPluginToMenu(MENU, action)
            self._actions.append(action)
        self._greet()

    def unload(self) -> None:
        """Take everything back: parts, menu, dialogs, provider, engine."""
        for part in self._parts:
            self._iface.removePluginMenu(MENU, part.action)
            part.discard()
        self._search, self._parts = None, ()
        for dialog in self._dialogs.values():
            dialog.discard()
        self._dialogs.clear()
        for action in self._actions:
            self._iface.removePluginMenu(MENU, action)
            action.deleteLater()
        self._actions.clear()
        if self._welcome is not None:
            self._iface.messageBar().popWidget(self._welcome)
            self._welcome = None
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
        close_shared_client()

    def set_up(self) -> None:
        """Show the dialog that makes the engine's environment."""
        self._show("setup", SetUpDialog)

    def show_models(self) -> None:
        """Show the encoders and heads, and the ways to more of them."""
        self._show("models", ModelsDialog)

    def show_documentation(self) -> None:
        """Show the documents that come with the plugin."""
        self._show("documents", DocumentsDialog)

    def show_about(self) -> None:
        """Say what this is, which version, under which licence."""
        about = metadata()
        box = QMessageBox(self._iface.mainWindow())
        box.setWindowTitle(tr("About Earthprint"))
        box.setIconPixmap(icon("earthprint").pixmap(64, 64))
        box.setText(
            "<h3>Earthprint {}</h3><p>{}.</p><p>{}</p><p><a href='{}'>{}</a></p>".format(
                about["version"],
                about["description"],
                tr("Works on this computer only: no account, no uploads. Licence: {}.").format(
                    about["license"]
                ),
                about["homepage"],
                about["homepage"],
            )
        )
        box.exec()
        box.deleteLater()

    def _show(self, name, kind) -> None:
        if name not in self._dialogs:
            self._dialogs[name] = kind(self._iface.mainWindow())
        dialog = self._dialogs[name]
        dialog.show()
        dialog.raise_()
        dialog.activateWindow()

    def _greet(self) -> None:
        """One line in the message bar, once per profile, while the engine is not set up."""
        settings = QgsSettings()
        if settings.value(WELCOMED, False, type=bool) or environment.problem() is None:
            return
        settings.setValue(WELCOMED, True)
        bar = self._iface.messageBar()
        self._welcome = bar.createMessage(
            MENU,
            tr(
                "Works on this computer only: no account, no uploads. Set it up once "
                "(300 MB to download)."
            ),
        )
        button = QPushButton(tr("Set Up…"), self._welcome)
        button.clicked.connect(self.set_up)
        self._welcome.layout().addWidget(button)
        bar.pushWidget(self._welcome, Qgis.MessageLevel.Info)
