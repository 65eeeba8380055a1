"""From stored numbers to reflectance, dB and kelvin: what a scene's bands need, and why.

Names and metadata decide where they can; a sample of the values decides the rest. Every decision
that was not plain is told in words, for the table.
"""

from __future__ import annotations

import re

from ..errors import UserError
from . import landsat_mtl
from .bands import Band
from .scenes import Asset
from .sensors import PRODUCTS, RADAR, THERMAL

_OFFSET_SINCE = "2022-01-25"  # Sentinel-2 processing baseline 04.00
_WORLDCEREAL = 10 ** (-83 / 20)  # dB = 20 log10(DN) - 83
_DARK = 800  # stored; with the offset of 1000 still in, even water stays above
_FILLS = (-32768.0, -28672.0, -10000.0, -9999.0, -3000.0)  # usual where a file states no nodata
_BRIGHT = 5.0  # reflectance of thick cloud stays below; stored integers lie far above


def calibrate(
    bands: list[Band], date: str, taken_off: bool = False
) -> tuple[list[Asset], list[str]]:
    """Assets of one scene, with scale, offset, nodata and unit; notes in words.

    Args:
        bands: data bands of one sensor and day.
        date: ISO day or empty.
        taken_off: see `offset_taken_off`; for Sentinel-2 scenes that do not tell themselves.

    Raises:
        UserError: a Sentinel-2 file holds display values.
    """
    if bands[0].sensor == "sentinel-1":
        return _radar(bands)
    _refuse_display(bands)
    notes: list[str] = []
    offset = 0.0
    if bands[0].sensor == "sentinel-2":
        offset = _sentinel2_offset(bands, date, taken_off, notes)
    collection2 = _looks_like_collection2(bands)
    if collection2:
        notes.append("values look like Landsat Collection 2: scale 2.75e-5, offset -0.2")
    assets = []
    for band in bands:
        found = _optical(band, bands, offset, collection2)
        if isinstance(found, str):
            notes.append(found)
            continue
        if found[2] == "display":
            notes.append("display values (0..255) brought to 0..1, not reflectance")
        assets.append(_asset(band, found[0], found[1], found[2].replace("display", "reflectance")))
    return assets, list(dict.fromkeys(notes))


def _asset(band: Band, scale: float, offset: float, unit: str) -> Asset:
    """The asset of a data band; integers without a nodata value get their product's."""
    layer = band.layer
    nodata = layer.nodata
    stored_integers = not layer.dtype.startswith("float") or scale != 1.0
    if nodata is None and stored_integers and unit in ("reflectance", "kelvin"):
        lowest = layer.stats.minimum if layer.stats else None
        nodata = lowest if lowest in _FILLS else PRODUCTS[band.product].nodata
    return Asset(layer.path, layer.band, band.name, scale, offset, nodata, "data", "", unit,
                 layer.grid)


def mask_asset(band: Band) -> Asset:
    """The asset of a mask.

    Its own codes say what is missing; only Fmask codes differ between cubes (0 is clear or none),
    so there the file's nodata counts.
    """
    layer = band.layer
    nodata = layer.nodata if band.name in ("cmask", "cfmask") else None
    return Asset(layer.path, layer.band, band.name, 1.0, 0.0, nodata, "mask", band.name, "",
                 layer.grid)


def _refuse_display(bands: list[Band]) -> None:
    """Stops at Sentinel-2 pictures: 0..255 after a stretch is not reflectance."""
    if bands[0].sensor != "sentinel-2":
        return
    highest = max((b.layer.stats.maximum for b in bands if b.layer.stats), default=0.0)
    for band in bands:
        if band.layer.dtype == "uint8" or highest == 255.0:
            raise UserError(f"`{band.layer.file.name}` holds display values (0..255), not "
                            "reflectance. Use the original product.")


def offset_taken_off(scenes: list[list[Band]]) -> bool:
    """Whether Sentinel-2 scenes since 2022 show that their offset was taken off already.

    One dark scene speaks for all whose names and tags say nothing, because files of one stack
    come from one source; a cloudy scene cannot tell.
    """
    lows = [b.layer.stats.low for scene in scenes for b in scene
            if b.product == "sentinel-2" and b.layer.stats and _told_offset(scene) is None
            and scene[0].layer.named.date >= _OFFSET_SINCE]
    return bool(lows) and min(lows) < _DARK


def _told_offset(scene: list[Band]) -> float | None:
    """The offset in reflectance as product, path, name or tags tell it; None where they do not."""
    first = scene[0]
    fractions = first.layer.dtype.startswith("float") and _high(scene) <= _BRIGHT
    harmonized = any("harmoni" in b.layer.path.lower() for b in scene)
    if first.product != "sentinel-2" or fractions or harmonized or any(_stated(b) for b in scene):
        return 0.0
    baseline = max(b.layer.named.baseline for b in scene) or _baseline_tag(first)
    if baseline:
        return -0.1 if baseline >= 400 else 0.0
    tag = next((v for k, v in first.layer.tags.items() if "add_offset" in k), "")
    return float(tag) / 10000 if re.fullmatch(r"-?\d+(\.0*)?", tag) else None


def _sentinel2_offset(scene: list[Band], date: str, taken_off: bool, notes: list[str]) -> float:
    """The offset in reflectance: -0.1 since processing baseline 04.00, unless already applied."""
    told = _told_offset(scene)
    if told is not None:
        if told:
            baseline = max(b.layer.named.baseline for b in scene) or _baseline_tag(scene[0])
            why = f"processing baseline {baseline / 100:05.2f}" if baseline else "by its metadata"
            notes.append(f"offset {told * 10000:.0f} applied ({why})")
        return told
    if date < _OFFSET_SINCE:
        return 0.0
    if taken_off:
        notes.append(f"no offset: values below {_DARK} show that it was taken off already")
        return 0.0
    notes.append(f"offset -1000 applied (since {_OFFSET_SINCE}, no value below {_DARK})")
    return -0.1


def _baseline_tag(band: Band) -> int:
    """Processing baseline in the metadata (`05.10` -> 510), 0 where it is not told."""
    value = next((v for k, v in band.layer.tags.items() if "processing_baseline" in k), "")
    match = re.search(r"(\d\d)\.?(\d\d)", value)
    return int(match[1] + match[2]) if match else 0


def _stated(band: Band) -> bool:
    """Whether the file itself says scale or offset."""
    return band.layer.scale != 1.0 or band.layer.offset != 0.0


def _high(bands: list[Band]) -> float:
    """The brightest of a scene's bands, temperature aside."""
    return max((b.layer.stats.high for b in bands if b.layer.stats and b.name not in THERMAL),
               default=0.0)


def _looks_like_collection2(bands: list[Band]) -> bool:
    """Landsat Collection 2 without its name: reflectance 0 is stored as 7273."""
    if bands[0].product not in ("landsat-oli", "landsat-tm") or any(_stated(b) for b in bands):
        return False
    lows = [b.layer.stats.low for b in bands if b.layer.stats and b.name not in THERMAL]
    return bool(lows) and min(lows) > 6500 and bands[0].layer.dtype == "uint16"


def _optical(
    band: Band, scene: list[Band], offset: float, collection2: bool
) -> tuple[float, float, str] | str:
    """(scale, offset, unit) of an optical or thermal band, or why it cannot be used."""
    layer, product = band.layer, PRODUCTS[band.product]
    if collection2:
        product = PRODUCTS[band.product + "-c2"]
    if band.name in THERMAL and band.name not in product.special:
        return f"{band.name} left out: its unit is not told"
    if _stated(band):
        return layer.scale, layer.offset, "kelvin" if band.name in THERMAL else "reflectance"
    if band.name in product.special:
        return product.special[band.name]
    if layer.dtype.startswith("float") and _high(scene) <= _BRIGHT:
        return 1.0, 0.0, "reflectance"
    if "scale" in layer.tags and re.fullmatch(r"[\d.eE+-]+", layer.tags["scale"]):
        return float(layer.tags["scale"]), 0.0, "reflectance"
    level1 = _level1(band)
    if level1:
        return level1
    if layer.dtype == "uint8" or (product.sensor in ("aerial", "optical") and _high(scene) <= 255):
        return 1 / 255, 0.0, "display"
    return product.scale, product.offset + offset, "reflectance"


def _level1(band: Band) -> tuple[float, float, str] | str | None:
    """Landsat Level-1 counts by their MTL file; None where the band is not of that kind."""
    level1 = band.layer.dtype == "uint8" or "_L1" in band.layer.file.name.upper()
    if band.sensor != "landsat" or band.product.endswith("-c2") or not level1:
        return None
    number = re.search(r"B(?:AND)?0?(\d{1,2})", band.layer.named.band, re.IGNORECASE)
    mtl = landsat_mtl.beside(band.layer.file)
    if mtl is None or number is None:
        return None if band.layer.dtype == "uint8" else (
            f"{band.name} left out: counts without their MTL file")
    factors = landsat_mtl.reflectance(mtl, int(number[1]))
    return (*factors, "reflectance") if factors else f"{band.name} left out: no factor in its MTL"


def _radar(bands: list[Band]) -> tuple[list[Asset], list[str]]:
    """Radar bands: dB as stored, power, or digital numbers, told by unit, name and values."""
    stats = [b.layer.stats for b in bands if b.layer.stats]
    said = " ".join(f"{b.layer.token} {b.layer.unit} {b.layer.file.stem}" for b in bands).lower()
    median = min((s.median for s in stats), default=-1.0)
    integers = not bands[0].layer.dtype.startswith("float")
    notes: list[str] = []
    if median < 0 or re.search(r"(^|[^a-z])db([^a-z]|$)", said):
        scale, unit = bands[0].layer.scale, "db"
    elif integers:
        if bands[0].layer.dtype == "uint8":
            raise UserError(f"`{bands[0].layer.file.name}` holds display values (0..255), not "
                            "backscatter. Use the original product.")
        scale, unit = _WORLDCEREAL, "amplitude"
        notes.append("digital numbers: dB = 20 log10(DN) - 83")
    else:
        scale, unit = bands[0].layer.scale, "power"
        notes.append("linear power, turned into dB")
        if max(s.median for s in stats) > 5:
            notes.append("values are larger than backscatter usually is: check the product")
    offset = bands[0].layer.offset if unit == "db" else 0.0
    return [_asset(b, scale, offset, unit) for b in bands if b.name in RADAR], notes
