"""Where pixels lie, and rasters out: maps, embeddings, areas. Start at `grid.py`."""
