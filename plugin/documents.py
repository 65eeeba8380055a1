"""The documents that come with the plugin, readable without network."""

from __future__ import annotations

from qgis.PyQt.QtCore import QUrl
from qgis.PyQt.QtWidgets import QDialog, QDialogButtonBox, QTextBrowser, QVBoxLayout

from ..processing_provider.identity import ROOT, icon
from ..processing_provider.translation import tr


class DocumentsDialog(QDialog):
    """Shows README.md; links lead to the pages in docs/ and, outside, to the browser."""

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("Earthprint Documentation"))
        self.setWindowIcon(icon("earthprint"))
        self.resize(760, 560)
        self._pages = QTextBrowser(self)
        self._pages.setOpenExternalLinks(True)
        self._pages.setSource(QUrl.fromLocalFile(str(ROOT / "README.md")))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        back = buttons.addButton(tr("Back"), QDialogButtonBox.ButtonRole.ActionRole)
        back.setEnabled(False)
        back.clicked.connect(self._pages.backward)
        self._pages.backwardAvailable.connect(back.setEnabled)
        buttons.rejected.connect(self.close)
        layout = QVBoxLayout(self)
        layout.addWidget(self._pages)
        layout.addWidget(buttons)

    def discard(self) -> None:
        """Close for good, when the plugin is unloaded."""
        self.close()
        self.deleteLater()
