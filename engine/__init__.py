"""Rasters in, embeddings, maps and reports out; in its own process, without QGIS or Qt.

Start at `jobs.py` (what can be asked for), then `tasks/` (one file a job). QGIS's process imports
`client.py`, `protocol.py` and `environment.py` only.
"""
