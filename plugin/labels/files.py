"""Where the files of a round go: labels outlive the session, maps lie beside the former one."""

from __future__ import annotations

import os
import re

from qgis.core import QgsApplication, QgsProcessingUtils, QgsProject, QgsRasterLayer


def for_places(there: QgsRasterLayer, project: QgsProject) -> str:
    """A new GeoPackage for the places of a map, never in a folder that goes when QGIS does.

    It lies beside the map, else beside the project's file, else in the profile.
    """
    source = there.source()
    if not _is_temporary(source) and os.access(os.path.dirname(source), os.W_OK):
        return free(f"{os.path.splitext(source)[0]}_places.gpkg")
    folder = project.absolutePath()
    if not folder or not os.access(folder, os.W_OK):
        folder = os.path.join(QgsApplication.qgisSettingsDirPath(), "earthprint", "labels")
        os.makedirs(folder, exist_ok=True)
    name = re.sub(r"[^\w-]+", "_", there.name()) or "map"
    return free(os.path.join(folder, f"{name}_places.gpkg"))


def for_next_map(source: str) -> str:
    """Beside a map the same name with the next number; temporary where the map is."""
    if _is_temporary(source):
        return QgsProcessingUtils.generateTempFilename("map.tif")
    return free(re.sub(r"(_\d{1,2})?(\.\w+)$", r"\2", source))


def spare_folder() -> str:
    """A new folder that goes when QGIS does."""
    return os.path.dirname(QgsProcessingUtils.generateTempFilename("map.head.onnx"))


def free(path: str) -> str:
    """The path itself, or with the first number that no file has."""
    stem, ending = os.path.splitext(path)
    number = 2
    while os.path.exists(path):
        path = f"{stem}_{number}{ending}"
        number += 1
    return path


def _is_temporary(path: str) -> bool:
    return os.path.abspath(path).startswith(os.path.abspath(QgsProcessingUtils.tempFolder()))
