"""Dated scenes in: names and metadata, one small file, windows. Start at `stack.py`."""
