"""Which sensor and which band each layer is, from names first and from its company last."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from .landsat_mtl import beside
from .layers import Layer
from .masks import RULES
from .sensors import PRODUCTS, RADAR, layout, resolve

_IN_NAME = re.compile(r"(?<![A-Za-z0-9])(B\d{1,2}A?|VV|VH|HH|HV)(?![A-Za-z0-9])", re.IGNORECASE)
_FMASK_CODES = frozenset((0, 1, 2, 3, 4, 255))
_INDICES = ("ndvi", "evi")  # made from bands: never beside them, or dates would lack the bands
_COLORS = ("red", "green", "blue")


@dataclass(frozen=True)
class Band:
    """A layer that is known.

    Attributes:
        layer: where it is.
        product: key of `earthprint.engine.stacks.sensors.PRODUCTS`; empty for a mask of any sensor.
        role: "data" or "mask".
        name: common name of a data band, kind of a mask.
    """

    layer: Layer
    product: str
    role: str
    name: str

    @property
    def sensor(self) -> str:
        """The sensor; empty for a mask that may belong to any."""
        return PRODUCTS[self.product].sensor if self.product else ""


def name_bands(
    layers: list[Layer], sensor: str = "auto", bands: tuple[str, ...] = (), mask: str = "auto"
) -> tuple[list[Band], dict[str, str]]:
    """Sensor, role and name of every layer that is part of a scene.

    Args:
        layers: bands of any number of files.
        sensor: "auto", or the sensor of all layers.
        bands: names for files that have just as many bands; they win over what files say.
        mask: "auto", or the kind of every mask (a key of `earthprint.engine.stacks.masks.RULES`).

    Returns:
        The bands that are known, and for each path a note on what was left out.
    """
    folders: dict[object, list[Layer]] = defaultdict(list)
    files: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        folders[layer.file.parent].append(layer)
        files[layer.path].append(layer)
    guesses = {folder: _guess(group) for folder, group in folders.items()}
    found: list[Band] = []
    notes: dict[str, str] = {}
    for path, group in files.items():
        product = group[0].named.product or _guess(group) or guesses[group[0].file.parent]
        if sensor != "auto" and PRODUCTS[product or "optical"].sensor != sensor:
            product = _of_sensor(sensor)
        mine, unknown = [], []
        for layer, token in zip(group, _tokens(group, product, bands), strict=True):
            band = _identify(layer, token, product, mask)
            if band is None:
                unknown.append(token or f"band {layer.band}")
            else:
                mine.append(band)
        found += mine
        if any(band.name == f"band{band.layer.band}" for band in mine):
            notes[path] = "bands have no names: give them in Bands"
        if unknown:
            names = sorted(set(unknown))
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            notes[path] = f"not used: {', '.join(names[:4])}{more}"
    return found, notes


def _of_sensor(sensor: str) -> str:
    """The plainest product of a sensor."""
    return {"landsat": "landsat-oli"}.get(sensor, sensor)


def _guess(group: list[Layer]) -> str:
    """The product that band names point at, where no name tells; empty where they do not."""
    if any(layer.named.product for layer in group):
        return ""
    tokens = " ".join(f"{layer.token} {layer.named.band}" for layer in group).lower()
    names = {re.sub(r"^b0", "b", t) for t in re.split(r"[^a-z0-9]+", tokens)}
    if names & {"b13", "b14", "b15", "b16"}:
        return "cbers"
    if names & {"pixel_qa"} or "qa_pixel" in tokens or "pixel_qa" in tokens:
        return "landsat-oli"
    if "sur_refl" in tokens:
        return "modis"
    if names & {"b8a", "scl"} or {"b8", "b11"} <= names or {"b2", "b3", "b4", "b8"} <= names:
        return "sentinel-2"
    if names & set(RADAR) and not names & {"b2", "b3", "b4", "red"}:
        return "sentinel-1"
    bytes_only = all(layer.dtype == "uint8" for layer in group)
    if bytes_only and (group[0].color == "red" or {"red", "green"} <= names):
        return "aerial"
    return ""


def _tokens(group: list[Layer], product: str, bands: tuple[str, ...]) -> list[str]:
    """What names each band of one file; empty strings where nothing does."""
    if bands and len(bands) == len(group):
        return list(bands)
    if any(layer.token for layer in group):
        return [layer.token for layer in group]
    text = group[0].named.band
    if len(group) == 1 or len({layer.named.date for layer in group}) > 1:
        return [text] * len(group)
    if product == "planet" and text.lower() == "udm":
        return ["clear" if len(group) > 1 else "udm", *[""] * (len(group) - 1)]
    for names in (_IN_NAME.findall(text), layout(product, len(group))):
        if len(names) == len(group):
            return list(names)
    if tuple(layer.color for layer in group[:3]) == _COLORS:
        return [*_COLORS, *("nir" if _is_image(layer) else "alpha" for layer in group[3:4]),
                *[""] * (len(group) - 4)]
    return [""] * len(group)


def _is_image(layer: Layer) -> bool:
    """Whether a fourth band is near infrared: an alpha band holds one or two values."""
    return layer.stats is not None and not layer.stats.codes


def _identify(layer: Layer, token: str, product: str, mask: str) -> Band | None:
    """One band; None when it is not part of a scene."""
    table = product or "optical"
    if table.startswith("landsat") and layer.dtype == "uint8" and beside(layer.file) is None:
        table = product = "optical"  # a picture of Landsat: no counts, no reflectance
    known = resolve(table, token) if token else None
    if layer.token and known in (("mask", "cloud"), ("mask", "valid")):
        # the file's name may know better what codes it holds, as CMASK does
        by_name = resolve(table, layer.named.band)
        known = by_name if by_name and by_name[0] == "mask" else known
    if known and known[1] in _INDICES and table != "modis":
        table = product = "optical"
    if mask in RULES and (known and known[0] == "mask" or not known and "mask" in token.lower()):
        return Band(layer, product, "mask", mask)
    if known and known[0] == "data" and known[1] in RADAR:
        return Band(layer, "sentinel-1", *known)
    if table == "sentinel-1":
        return None
    if known:
        anyone = known[1] in ("cloud", "valid")  # a plain mask serves every optical sensor
        return Band(layer, ("" if anyone else product) if known[0] == "mask" else table, *known)
    if table.startswith("landsat"):
        codes = layer.stats.codes if layer.stats else frozenset()
        masks = layer.count > 1 and codes and codes <= _FMASK_CODES
        return Band(layer, product, "mask", "cfmask") if masks else None
    if product or layer.steps > 1 or "mask" in token.lower():
        return None
    own = re.sub(r"[^a-z0-9]+", "_", layer.token.lower()).strip("_")
    return Band(layer, table, "data", own or f"band{layer.band}")
