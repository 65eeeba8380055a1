"""Translation of whole sentences that the analyst reads."""

from qgis.PyQt.QtCore import QCoreApplication


def tr(text: str) -> str:
    """The text in QGIS's language; placeholders are filled in after the translation."""
    return QCoreApplication.translate("Earthprint", text)
