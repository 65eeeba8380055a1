"""Which band is which: product band names to STAC common names, with scale, nodata and masks.

Tables only. Sources: Sentinel-2 MSI user handbook and product specification, Landsat
Collection 2 format documents, HLS v2.0 user guide, MODIS MOD09/MOD13 user guides, INPE's CBERS
camera tables, STAC common band names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

WAVELENGTHS = {
    "coastal": 443, "blue": 490, "green": 560, "yellow": 610, "red": 665,
    "rededge071": 704, "rededge075": 740, "rededge078": 783, "pan": 600,
    "nir": 842, "nir08": 865, "nir09": 945, "swir12": 1240, "cirrus": 1375,
    "swir16": 1610, "swir22": 2190, "lwir": 11000, "lwir11": 10900, "lwir12": 12000,
}
"""Common name to central wavelength (nm): the order of a sensor's bands."""

TITLES = {
    "sentinel-2": "Sentinel-2", "sentinel-1": "Sentinel-1", "landsat": "Landsat",
    "modis": "MODIS", "cbers": "CBERS", "aerial": "Aerial", "optical": "Optical",
}
"""Sensor to its name for people."""

RADAR = ("vv", "vh", "hh", "hv")
THERMAL = ("lwir", "lwir11", "lwir12")


@dataclass(frozen=True)
class Product:
    """How one family of products names and stores its bands.

    Attributes:
        sensor: the sensor of the stack's scenes.
        bands: the product's band name (lower case, no leading zeros) to common name.
        masks: the product's name of a mask to its kind in `earthprint.engine.stacks.masks`.
        scale, offset: stored integer to reflectance, where neither file nor values say otherwise.
        nodata: stored value of missing pixels, where the file does not say.
        special: band to (scale, offset, unit) where it differs, such as temperature.
    """

    sensor: str
    bands: dict[str, str]
    masks: dict[str, str] = field(default_factory=dict)
    scale: float = 1e-4
    offset: float = 0.0
    nodata: float | None = None
    special: dict[str, tuple[float, float, str]] = field(default_factory=dict)


_MSI = {
    "b1": "coastal", "b2": "blue", "b3": "green", "b4": "red", "b5": "rededge071",
    "b6": "rededge075", "b7": "rededge078", "b8": "nir", "b8a": "nir08", "b9": "nir09",
    "b10": "cirrus", "b11": "swir16", "b12": "swir22",
    # names that cloud catalogues give
    "rededge1": "rededge071", "rededge2": "rededge075", "rededge3": "rededge078",
    "nir2": "nir08",
}
_MSI_MASKS = {"scl": "scl", "clm": "cloud"}
_OLI = {
    "b1": "coastal", "b2": "blue", "b3": "green", "b4": "red", "b5": "nir08", "b6": "swir16",
    "b7": "swir22", "b8": "pan", "b9": "cirrus", "b10": "lwir11", "b11": "lwir12",
    "nir": "nir08",
}
_TM = {
    "b1": "blue", "b2": "green", "b3": "red", "b4": "nir08", "b5": "swir16", "b6": "lwir",
    "b7": "swir22", "nir": "nir08",
}
_LANDSAT_MASKS = {"qa_pixel": "landsat-qa", "pixel_qa": "pixel-qa", "fmask": "cfmask",
                  "cfmask": "cfmask"}
_C2 = {"lwir": (0.00341802, 149.0, "kelvin"), "lwir11": (0.00341802, 149.0, "kelvin")}

PRODUCTS = {
    "sentinel-2": Product("sentinel-2", _MSI, _MSI_MASKS, nodata=0),
    "theia": Product("sentinel-2", _MSI, {"clm": "theia-clm", "mg2": "theia-mg2"},
                     nodata=-10000),
    "hls-s30": Product("sentinel-2", _MSI, {"fmask": "fmask"}, nodata=-9999),
    "hls-l30": Product("landsat", {**_OLI, "b9": "cirrus"}, {"fmask": "fmask"}, nodata=-9999,
                       special={"lwir11": (0.01, 273.15, "kelvin"),
                                "lwir12": (0.01, 273.15, "kelvin")}),
    "landsat-oli": Product("landsat", _OLI, _LANDSAT_MASKS, nodata=0),
    "landsat-tm": Product("landsat", _TM, _LANDSAT_MASKS, nodata=0),
    "landsat-oli-c2": Product("landsat", _OLI, _LANDSAT_MASKS, 2.75e-5, -0.2, 0, _C2),
    "landsat-tm-c2": Product("landsat", _TM, _LANDSAT_MASKS, 2.75e-5, -0.2, 0, _C2),
    "modis": Product("modis", {
        "b1": "red", "b2": "nir", "b3": "blue", "b4": "green", "b5": "swir12", "b6": "swir16",
        "b7": "swir22", "mir": "swir22"}, nodata=-28672),
    "cbers": Product("cbers", {
        "b13": "blue", "b14": "green", "b15": "red", "b16": "nir",
        "b5": "blue", "b6": "green", "b7": "red", "b8": "nir",
        "b0": "pan", "b1": "blue", "b2": "green", "b3": "red", "b4": "nir"},
        {"cmask": "cmask", "fmask": "cmask"}, nodata=-9999),
    "sentinel-1": Product("sentinel-1", {name: name for name in RADAR}),
    "aerial": Product("aerial", {
        "r": "red", "g": "green", "b": "blue", "n": "nir", "b1": "red", "b2": "green",
        "b3": "blue", "b4": "nir"}),
    "planet": Product("optical", {"b1": "blue", "b2": "green", "b3": "red", "b4": "nir"},
                      {"udm": "planet-udm"}, nodata=0),
    "optical": Product("optical", {}),
}
"""Product family to its tables."""

_ALIASES = {
    "nir1": "nir", "nearinfrared": "nir", "infrared": "nir", "rededge": "rededge071",
    "swir1": "swir16", "swir": "swir16", "swir2": "swir22", "swir3": "swir22",
    "pir": "nir", "mir": "swir16", "panchromatic": "pan", "ultrablue": "coastal",
    "coastalaerosol": "coastal",
    "ndvi": "ndvi", "evi": "evi",
}
_MASK_WORDS = {
    "scl": "scl", "fmask": "fmask", "cmask": "cmask", "cfmask": "cfmask", "cloud_mask": "cloud",
    "valid_mask": "valid", "data_mask": "valid",
    "cloudmask": "cloud", "cloud": "cloud", "clouds": "cloud", "validmask": "valid",
    "clear": "valid", "valid": "valid", "datamask": "valid",
}
_LAYOUTS = {
    ("sentinel-2", 13): ("b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b8a", "b9", "b10",
                         "b11", "b12"),
    ("sentinel-2", 12): ("b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b8a", "b9", "b11",
                         "b12"),
    ("sentinel-1", 2): ("vv", "vh"),
    ("planet", 4): ("b1", "b2", "b3", "b4"),
    ("planet", 8): ("coastal", "blue", "", "green", "yellow", "red", "rededge", "nir"),
    ("aerial", 3): ("b1", "b2", "b3"),
    ("aerial", 4): ("b1", "b2", "b3", "b4"),
    ("cbers", 4): ("b13", "b14", "b15", "b16"),
}

NO_SCENE = re.compile(
    r"label|land_?cover|land_?use|lulc|classif|ground_?truth|training|parcel|elevation|"
    r"(^|[^a-z])(dem|dtm|dsm|slope|aspect|lc|ct|doy|gt|aot|wvp|tci|pvi|visual|thumbnail|"
    r"preview|quicklook|overview|true_?color|temperature_?2m|tmean|precip|total_?precipitation|"
    r"cldprb|snwprb|msk|sza|saa|vza|vaa|vi_quality|qc|probability|rad_?sat|qa_?radsat|"
    r"qa_aerosol|atmos_opacity|st_qa|emis|emsd|trad|drad|urad|atran|cdist|incidence_angle|"
    r"localincidenceangle|number_of_looks|rtc_anf\w*)([^a-z0-9]|$)"
)
"""Names of files and bands that lie beside scenes and are none."""


def _normal(token: str) -> str:
    """`B08A`, `SR_B4`, `sur_refl_b01`, `band 1 reflectance` -> `b8a`, `b4`, `b1`, `b1`."""
    token = re.sub(r"^(sr|st|sur_refl|toa)_", "", token.strip().lower())
    match = re.match(r"^(?:b|band)[ _]?0*(\d{1,2}a?)(?![a-z0-9])", token)
    return f"b{match.group(1)}" if match else token


def resolve(product: str, token: str) -> tuple[str, str] | None:
    """What a band name means: ("data", common name), ("mask", kind), or None when unknown.

    Args:
        product: key of `PRODUCTS`.
        token: a band description or the part of a file name that names the band.
    """
    table = PRODUCTS[product]
    whole = token.strip().lower()
    squeezed = re.sub(r"[^a-z0-9]", "", whole)
    parts = [p for p in re.split(r"[^a-z0-9]+", whole) if p]
    pairs = ["_".join(pair) for pair in zip(parts, parts[1:], strict=False)]
    words = [p for p in reversed(parts) if len(p) > 1]  # a lone letter is too little to go by
    for name in (whole, _normal(whole), squeezed, *pairs, *words):
        known = _known(table, name) or _known(table, _normal(name))
        if known:
            return known
    return None


def _known(table: Product, name: str) -> tuple[str, str] | None:
    """What exactly this name means in a product, or in general."""
    if name in RADAR:
        return "data", name
    if name in table.masks:
        return "mask", table.masks[name]
    if name in table.bands:
        return "data", table.bands[name]
    if name in _LANDSAT_MASKS and name != "fmask":
        return "mask", _LANDSAT_MASKS[name]
    if name in _MASK_WORDS:
        return "mask", _MASK_WORDS[name]
    if name in _ALIASES:
        return "data", _ALIASES[name]
    return ("data", name) if name in WAVELENGTHS else None


def layout(product: str, count: int) -> tuple[str, ...]:
    """Band names of a file without any, where the product has one usual order; else empty."""
    return _LAYOUTS.get((product, count), ())


def in_order(bands: set[str]) -> tuple[str, ...]:
    """Bands by wavelength; radar as VV, VH, HH, HV; unknown names last, by name."""
    order = {name: (0, nm) for name, nm in WAVELENGTHS.items()}
    order |= {name: (1, i) for i, name in enumerate(RADAR)}
    return tuple(sorted(bands, key=lambda b: (*order.get(b, (2, 0)), b)))
