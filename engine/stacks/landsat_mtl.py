"""Landsat's MTL text file: the factors that turn Level-1 counts into reflectance at the top of
the atmosphere.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from pathlib import Path, PurePath

_ESUN = {
    "LANDSAT_4": {1: 1983.0, 2: 1795.0, 3: 1539.0, 4: 1028.0, 5: 219.8, 7: 83.49},
    "LANDSAT_5": {1: 1983.0, 2: 1796.0, 3: 1536.0, 4: 1031.0, 5: 220.0, 7: 83.44},
    "LANDSAT_7": {1: 1997.0, 2: 1812.0, 3: 1533.0, 4: 1039.0, 5: 230.8, 7: 84.90},
}
"""Mean solar irradiance outside the atmosphere, W/(m2 µm): Chander, Markham and Helder 2009,
tables 3 and 4 (for files older than Collection 1, which give radiance only)."""


def beside(file: PurePath) -> dict[str, str] | None:
    """The MTL file of a band's file as key to value; None where there is none."""
    scene = re.sub(r"_(?:SR_|ST_)?B(?:AND)?\d+\w*$", "", file.stem, flags=re.IGNORECASE)
    for name in (f"{scene}_MTL.txt", f"{scene}_MTL.TXT"):
        path = Path(file).with_name(name)
        if path.is_file():
            text = path.read_text(encoding="latin-1")
            pairs = re.findall(r"^\s*(\w+)\s*=\s*\"?([^\"\r\n\x00]+?)\"?\s*$", text, re.MULTILINE)
            return dict(pairs)
    return None


def reflectance(mtl: dict[str, str], band: int) -> tuple[float, float] | None:
    """(scale, offset) of a band's counts to reflectance at the top of the atmosphere.

    Landsat 8 Data Users Handbook, section 5.2: (M Q + A) / sin(sun elevation). Without M and A:
    pi L d² / (ESUN sin(sun elevation)), Chander et al. 2009, equation 2.
    """
    if "SUN_ELEVATION" not in mtl:
        return None
    sun = math.sin(math.radians(float(mtl["SUN_ELEVATION"])))
    factors = [mtl.get(f"REFLECTANCE_{part}_BAND_{band}") for part in ("MULT", "ADD")]
    if all(factors):
        return float(factors[0]) / sun, float(factors[1]) / sun
    irradiance = _ESUN.get(mtl.get("SPACECRAFT_ID", ""), {}).get(band)
    factors = [mtl.get(f"RADIANCE_{part}_BAND_{band}") for part in ("MULT", "ADD")]
    if irradiance is None or not all(factors):
        return None
    day_of_year = dt.date.fromisoformat(mtl["DATE_ACQUIRED"]).timetuple().tm_yday
    distance = 1 - 0.01672 * math.cos(math.radians(0.9856 * (day_of_year - 4)))
    factor = math.pi * distance**2 / (irradiance * sun)
    return float(factors[0]) * factor, float(factors[1]) * factor
