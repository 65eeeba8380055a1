"""The page that an analyst hands over: sections, charts, the picture. Start at `report.py`."""
