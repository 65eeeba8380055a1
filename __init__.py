"""Earthprint, a QGIS plugin: satellite seasons become embeddings, embeddings become maps.

QGIS imports this file; the engine's process imports it too, so nothing is imported up here.
"""


def classFactory(iface):
    """Give QGIS the plugin; `iface` is None in `qgis_process`."""
    from .plugin.earthprint_plugin import EarthprintPlugin

    return EarthprintPlugin(iface)
