"""Numbers as the analyst reads them, in the words of QGIS's language."""

from __future__ import annotations

from qgis.PyQt.QtCore import QLocale

from ...processing_provider.translation import tr

_BLANK = "\u202f"  # narrow, and no line ends there


def decimal(number: float, places: int) -> str:
    """A number with thin gaps between thousands, which no language takes for a decimal point."""
    text = f"{number:,.{places}f}".replace(",", _BLANK)
    return text.replace(".", QLocale().decimalPoint())


def percent(share: float) -> str:
    """A share in percent, one decimal."""
    return tr("{} %").format(decimal(share, 1))


def percentile(share: float) -> str:
    """A percentile; 100 would say too much of a sample."""
    return tr("> {} %").format(decimal(99.9, 1)) if share > 99.9 else percent(share)


def place(x: float, y: float, degrees: bool) -> str:
    """A pair of coordinates, to the metre or its like in degrees."""
    places = 5 if degrees else 0
    comma = ";" if QLocale().decimalPoint() == "," and places else ","
    return f"{decimal(x, places)}{comma} {decimal(y, places)}"
