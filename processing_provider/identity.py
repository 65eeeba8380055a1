"""Who we are: name, version and addresses from `metadata.txt`, icons that suit the palette."""

from __future__ import annotations

import configparser
from functools import lru_cache
from pathlib import Path

from qgis.PyQt.QtGui import QIcon, QPalette
from qgis.PyQt.QtWidgets import QApplication

ROOT = Path(__file__).resolve().parent.parent


@lru_cache(maxsize=1)
def metadata() -> dict[str, str]:
    """The entries of the plugin's `metadata.txt`, lower-case keys."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "metadata.txt", encoding="utf-8")
    return dict(parser["general"])


def icon_path(name: str) -> str:
    """The SVG `name` in the colours for light or dark windows, "" where there is none.

    The palette decides, because QGIS's theme stays "default" on a dark system.
    """
    dark = (
        isinstance(QApplication.instance(), QApplication)
        and QApplication.palette().color(QPalette.ColorRole.Window).lightness() < 128
    )
    path = ROOT / "resources" / "icons" / ("dark" if dark else "light") / f"{name}.svg"
    return str(path) if path.exists() else ""


def icon(name: str) -> QIcon:
    """The icon `name`, empty where there is none."""
    return QIcon(icon_path(name))
