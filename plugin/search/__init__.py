"""Similarity search on the map: the live heat map, the tool, and the dock beside them."""
